"""Certificates for the tests, made by openssl: an authority, servers, a client, and wrong ones."""

from __future__ import annotations

import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path

DAYS = "3650"


def _openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True, timeout=60)


@dataclass(frozen=True)
class Certificates:
    """PEM files in one folder: NAME.pem and NAME.key; `ca`, `other-ca` are authorities.

    `server` is for localhost and 127.0.0.1, `stranger` for another name, `expired` is out of date,
    `client` is a client's; all signed by `ca`.
    """

    folder: Path

    def file(self, name: str) -> str:
        """The path of a file, such as `ca.pem`."""
        return str(self.folder / name)

    def server_context(self, name: str = "server", *, ask_client: bool = False) -> ssl.SSLContext:
        """TLS of a server that shows this certificate; with `ask_client` it wants one of `ca`."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.file(f"{name}.pem"), self.file(f"{name}.key"))
        if ask_client:
            context.load_verify_locations(self.file("ca.pem"))
            context.verify_mode = ssl.CERT_REQUIRED
        return context


def make(folder: Path) -> Certificates:
    """Make them all; a second or less."""
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    for name in ("ca", "other-ca"):
        _openssl(
            folder,
            *("req", "-x509", *key, "-keyout", f"{name}.key", "-out", f"{name}.pem"),
            *("-days", DAYS, "-subj", f"/CN=mqlog test {name}"),
            *("-addext", "basicConstraints=critical,CA:TRUE"),
            *("-addext", "keyUsage=critical,keyCertSign,cRLSign"),
        )
    for name, alternative, usage, days in (
        ("server", "DNS:localhost,IP:127.0.0.1", "serverAuth", DAYS),
        ("stranger", "DNS:kafka.example.net", "serverAuth", DAYS),
        ("expired", "DNS:localhost,IP:127.0.0.1", "serverAuth", "-1"),
        ("client", "DNS:client", "clientAuth", DAYS),
    ):
        (folder / f"{name}.ext").write_text(
            f"subjectAltName={alternative}\nextendedKeyUsage={usage}\nbasicConstraints=CA:FALSE\n"
        )
        _openssl(
            folder,
            *("req", *key, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}"),
        )
        _openssl(
            folder,
            *("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key"),
            *("-CAcreateserial", "-out", f"{name}.pem", "-days", days),
            *("-extfile", f"{name}.ext"),
        )
    return Certificates(folder)
