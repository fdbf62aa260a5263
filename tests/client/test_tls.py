"""TLS: who is trusted, by which name, and what an error says."""

from __future__ import annotations

from typing import Any

import pytest

from mqlog.errors import KafkaConfigurationError, KafkaProtocolError, TlsError

from . import scripted_faults as faults
from .certificates import Certificates
from .native import client, failure, known
from .scripted import Api, Cluster


def settings(cluster: Cluster, certificates: Certificates, **more: Any) -> dict[str, Any]:
    return {
        "bootstrap_servers": cluster.bootstrap_servers,
        "security_protocol": "SSL",
        "ssl_cafile": certificates.file("ca.pem"),
        **more,
    }


def test_a_trusted_broker(certificates: Certificates) -> None:
    with Cluster(tls=certificates.server_context()) as cluster:
        native = client(**settings(cluster, certificates))
        assert known(native).brokers()
        native.close()


def test_answers_of_many_records_are_put_together(certificates: Certificates) -> None:
    with Cluster(tls=certificates.server_context()) as cluster:
        for number in range(3000):
            cluster.create(f"topic-{number:0100}")
        native = client(**settings(cluster, certificates))
        assert len(known(native).topics()) == 3000
        assert native.metrics()["bytes_in"] > 400_000
        native.close()


def test_a_client_certificate(certificates: Certificates) -> None:
    with Cluster(tls=certificates.server_context(ask_client=True)) as cluster:
        native = client(
            **settings(
                cluster,
                certificates,
                ssl_certfile=certificates.file("client.pem"),
                ssl_keyfile=certificates.file("client.key"),
            )
        )
        assert known(native).brokers()
        native.close()
        error = failure(**settings(cluster, certificates))
    assert isinstance(error, TlsError)
    assert "ssl_certfile" in str(error)


@pytest.mark.parametrize("authority", ["other-ca.pem", None])
def test_an_authority_that_is_not_trusted(
    certificates: Certificates, authority: str | None
) -> None:
    with Cluster(tls=certificates.server_context()) as cluster:
        given = certificates.file(authority) if authority else None
        error = failure(**settings(cluster, certificates, ssl_cafile=given))
    assert isinstance(error, TlsError)
    if authority is None and "this system has no" in str(error):
        return
    assert "authority that is not trusted" in str(error)
    assert "ssl_cafile" in (error.hint or "")


def test_a_certificate_of_another_host(certificates: Certificates) -> None:
    with Cluster(tls=certificates.server_context("stranger")) as cluster:
        error = failure(**settings(cluster, certificates))
        assert isinstance(error, TlsError)
        assert "is for kafka.example.net, not for 127.0.0.1" in str(error)
        assert "ssl_check_hostname" in (error.hint or "")
        native = client(**settings(cluster, certificates, ssl_check_hostname=False))
        assert known(native).brokers()
        native.close()


def test_without_host_names_the_authority_still_counts(certificates: Certificates) -> None:
    with Cluster(tls=certificates.server_context()) as cluster:
        wrong = certificates.file("other-ca.pem")
        error = failure(
            **settings(cluster, certificates, ssl_check_hostname=False, ssl_cafile=wrong)
        )
    assert "authority that is not trusted" in str(error)


def test_a_certificate_that_has_expired(certificates: Certificates) -> None:
    with Cluster(tls=certificates.server_context("expired")) as cluster:
        error = failure(**settings(cluster, certificates))
    assert isinstance(error, TlsError)
    assert "expired" in str(error)
    assert "clock" in (error.hint or "")


def test_tls_spoken_to_a_plaintext_port(certificates: Certificates) -> None:
    with Cluster() as cluster:
        error = failure(**settings(cluster, certificates))
    assert isinstance(error, TlsError)
    assert "security_protocol=PLAINTEXT" in str(error)


def test_tls_spoken_to_something_else(certificates: Certificates) -> None:
    with Cluster() as cluster:
        cluster.on_accept = lambda peer: peer.socket.sendall(b"SSH-2.0-something\r\n")
        error = failure(**settings(cluster, certificates))
    assert isinstance(error, TlsError)
    assert "not TLS" in str(error)


def test_plaintext_spoken_to_a_tls_port(certificates: Certificates) -> None:
    with Cluster(tls=certificates.server_context()) as cluster:
        error = failure(bootstrap_servers=cluster.bootstrap_servers)
    assert "TLS" in str(error)
    assert "security_protocol" in str(error)


def test_a_cut_in_the_middle_of_tls(certificates: Certificates) -> None:
    with Cluster(tls=certificates.server_context()) as cluster:
        cluster.on(Api.METADATA, faults.close())
        native = client(**settings(cluster, certificates))
        pending = native.refresh(None)
        with pytest.raises(Exception, match="closed"):
            pending.result()
        assert known(native).brokers()
        native.close()


def test_garbage_inside_tls(certificates: Certificates) -> None:
    with Cluster(tls=certificates.server_context()) as cluster:
        cluster.always(Api.API_VERSIONS, faults.raw(b"\xff" * 100))
        error = failure(**settings(cluster, certificates))
    assert isinstance(error, KafkaProtocolError)


@pytest.mark.parametrize(
    ("name", "file"), [("ssl_cafile", "ca.key"), ("ssl_keyfile", "client.pem")]
)
def test_files_that_hold_something_else(certificates: Certificates, name: str, file: str) -> None:
    given = {
        "ssl_cafile": certificates.file("ca.pem"),
        "ssl_certfile": certificates.file("client.pem"),
        "ssl_keyfile": certificates.file("client.key"),
        name: certificates.file(file),
    }
    with pytest.raises(KafkaConfigurationError, match="PEM") as raised:
        client(bootstrap_servers="127.0.0.1:1", security_protocol="SSL", **given)
    assert raised.value.setting == name
