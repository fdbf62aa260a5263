"""SASL: each mechanism, who is refused and why, sessions that end."""

from __future__ import annotations

from typing import Any

import pytest

from mqlog.errors import KafkaConnectionError, SaslAuthenticationFailedError

from . import scripted_faults as faults
from .certificates import Certificates
from .native import client, failure, known
from .scripted import Api, Cluster

USERS = {"alice": "alice-secret", "a,b=c": "comma"}
MECHANISMS = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]


def settings(cluster: Cluster, mechanism: str, **more: Any) -> dict[str, Any]:
    return {
        "bootstrap_servers": cluster.bootstrap_servers,
        "security_protocol": "SASL_PLAINTEXT",
        "sasl_mechanism": mechanism,
        "sasl_plain_username": "alice",
        "sasl_plain_password": "alice-secret",
        **more,
    }


@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize("user", list(USERS))
def test_a_user_with_the_right_password(mechanism: str, user: str) -> None:
    with Cluster(users=USERS) as cluster:
        who = {"sasl_plain_username": user, "sasl_plain_password": USERS[user]}
        native = client(**settings(cluster, mechanism, **who))
        assert known(native).brokers()
        native.close()


@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize("wrong", [{"sasl_plain_password": "no"}, {"sasl_plain_username": "eve"}])
def test_a_wrong_password(mechanism: str, wrong: dict[str, str]) -> None:
    with Cluster(nodes=3, users=USERS) as cluster:
        error = failure(**settings(cluster, mechanism, **wrong))
        assert len(cluster.requests(Api.SASL_HANDSHAKE)) == 1, "not tried at every broker"
    assert isinstance(error, SaslAuthenticationFailedError)
    assert not error.retriable
    assert "sasl_plain_password" in (error.hint or "")
    assert "Authentication failed" in str(error)
    assert "alice-secret" not in str(error)


def test_a_mechanism_that_is_not_offered() -> None:
    def refuse(response: Any) -> None:
        response.error_code = 33
        response.mechanisms = ["GSSAPI", "PLAIN"]

    with Cluster(users=USERS) as cluster:
        cluster.always(Api.SASL_HANDSHAKE, faults.edit(refuse))
        error = failure(**settings(cluster, "SCRAM-SHA-256"))
    assert isinstance(error, SaslAuthenticationFailedError)
    assert "does not offer SCRAM-SHA-256, but GSSAPI, PLAIN" in str(error)


def test_a_listener_without_sasl() -> None:
    def refuse(response: Any) -> None:
        response.error_code = 34

    with Cluster() as cluster:
        cluster.always(Api.SASL_HANDSHAKE, faults.edit(refuse, dry=True))
        error = failure(**settings(cluster, "PLAIN"))
    assert isinstance(error, SaslAuthenticationFailedError)
    assert "uses no SASL" in str(error)


def test_a_listener_with_sasl_that_is_not_told_who_we_are() -> None:
    with Cluster(users=USERS) as cluster:
        error = failure(bootstrap_servers=cluster.bootstrap_servers)
    assert isinstance(error, KafkaConnectionError)
    assert "SASL" in str(error)


def test_a_broker_that_does_not_know_the_password_itself() -> None:
    def forge(response: Any) -> None:
        if response.auth_bytes.startswith(b"v="):
            response.auth_bytes = b"v=" + b"A" * 43 + b"="

    with Cluster(users=USERS) as cluster:
        cluster.always(Api.SASL_AUTHENTICATE, faults.edit(forge))
        error = failure(**settings(cluster, "SCRAM-SHA-256"))
    assert isinstance(error, SaslAuthenticationFailedError)
    assert "server signature" in str(error)


def test_sasl_in_tls(certificates: Certificates) -> None:
    with Cluster(users=USERS, tls=certificates.server_context()) as cluster:
        secure = {
            "security_protocol": "SASL_SSL",
            "ssl_cafile": certificates.file("ca.pem"),
        }
        native = client(**settings(cluster, "SCRAM-SHA-512", **secure))
        assert known(native).brokers()
        native.close()


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256"])
def test_a_session_is_renewed_before_it_ends(mechanism: str) -> None:
    def limit(response: Any) -> None:
        response.session_lifetime_ms = 200

    with Cluster(users=USERS) as cluster:
        cluster.always(Api.SASL_AUTHENTICATE, faults.edit(limit))
        native = client(**settings(cluster, mechanism))
        known(native)

        def renewed() -> bool:
            # Requests go on meanwhile, on the same connection.
            assert known(native).brokers()
            return len(cluster.requests(Api.SASL_HANDSHAKE)) >= 3

        cluster.wait(renewed)
        assert cluster.nodes[0].accepted == 1
        native.close()


def test_a_session_that_is_not_renewed_is_opened_again() -> None:
    def limit(response: Any) -> None:
        response.session_lifetime_ms = 100

    with Cluster(users=USERS) as cluster:
        cluster.on(Api.SASL_AUTHENTICATE, faults.edit(limit))
        cluster.on(Api.SASL_HANDSHAKE, faults.error(33), nth=1)
        native = client(**settings(cluster, "PLAIN"))
        known(native)
        cluster.wait(lambda: len(cluster.requests(Api.SASL_HANDSHAKE)) == 2)
        cluster.wait(lambda: not native.bootstrap_connected())
        assert known(native).brokers()
        assert cluster.nodes[0].accepted == 2
        native.close()


def test_a_real_broker_refuses_a_wrong_password(access: dict[str, Any]) -> None:
    if "sasl_mechanism" not in access:
        pytest.skip("needs a broker with SASL: MQLOG_TEST_SECURITY")
    error = failure(**{**access, "sasl_plain_password": "wrong"})
    assert isinstance(error, SaslAuthenticationFailedError), error
    assert "sasl_plain_password" in (error.hint or "")
