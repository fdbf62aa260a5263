"""The server's side of SASL: PLAIN, SCRAM-SHA-256 and SCRAM-SHA-512."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os

MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
ITERATIONS = 4096


class Refused(Exception):
    """The client is not who it says it is."""


class Sasl:
    """One conversation. `sign_wrongly`: the server does not know the password itself."""

    def __init__(
        self, mechanism: str, users: dict[str, str], *, sign_wrongly: bool = False
    ) -> None:
        self._mechanism = mechanism
        self._users = users
        self._sign_wrongly = sign_wrongly
        self._first: tuple[str, str, str, bytes] | None = None
        self.done = False

    def step(self, message: bytes) -> bytes:
        """The answer to what the client sent; Refused ends it."""
        if self._mechanism == "PLAIN":
            _, user, password = message.decode().split("\0")
            if self._users.get(user) != password:
                raise Refused("Authentication failed: Invalid username or password")
            self.done = True
            return b""
        return self._begin(message) if self._first is None else self._finish(message)

    @property
    def _hash(self) -> str:
        return "sha256" if self._mechanism.endswith("256") else "sha512"

    def _begin(self, message: bytes) -> bytes:
        text = message.decode()
        header, _, bare = text.partition(",,")
        if header not in ("n", "y"):
            raise Refused("channel binding is not offered")
        fields = dict(part.split("=", 1) for part in bare.split(","))
        user = fields["n"].replace("=2C", ",").replace("=3D", "=")
        nonce = fields["r"] + base64.b64encode(os.urandom(18)).decode()
        salt = hashlib.sha256(user.encode()).digest()[:16]
        answer = f"r={nonce},s={base64.b64encode(salt).decode()},i={ITERATIONS}"
        self._first = (user, bare, answer, salt)
        return answer.encode()

    def _finish(self, message: bytes) -> bytes:
        assert self._first is not None
        user, bare, answer, salt = self._first
        without_proof, _, proof = message.decode().rpartition(",p=")
        fields = dict(part.split("=", 1) for part in without_proof.split(","))
        if fields["r"] != answer[2 : answer.index(",s=")]:
            raise Refused("another nonce")
        # An unknown user takes the same way to the same words.
        password = self._users.get(user, "\0")
        salted = hashlib.pbkdf2_hmac(self._hash, password.encode(), salt, ITERATIONS)
        key = hmac.digest(salted, b"Client Key", self._hash)
        stored = hashlib.new(self._hash, key).digest()
        signed = f"{bare},{answer},{without_proof}".encode()
        signature = hmac.digest(stored, signed, self._hash)
        sent = base64.b64decode(proof)
        expected = bytes(a ^ b for a, b in zip(key, signature, strict=True))
        if user not in self._users or not hmac.compare_digest(sent, expected):
            raise Refused(
                f"Authentication failed during authentication due to invalid credentials with "
                f"SASL mechanism {self._mechanism}"
            )
        server_key = hmac.digest(salted, b"Server Key", self._hash)
        verifier = hmac.digest(server_key, signed, self._hash)
        if self._sign_wrongly:
            verifier = bytes(len(verifier))
        self.done = True
        return b"v=" + base64.b64encode(verifier)
