"""kfp's own client and a server whose certificate it may not know."""

import ssl
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from pipelines import server
from pipelines.server import AwayError, PipelineError, Server
from tests.unit.pipelines.kubeflow import Kubeflow, serving


def self_signed(file: Path) -> Path:
    """A new certificate for 127.0.0.1, with its key behind it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kubeflow.example.org")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    form = serialization.PrivateFormat.PKCS8
    secret = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    file.write_bytes(made.public_bytes(serialization.Encoding.PEM) + secret)
    return file


@pytest.fixture
def tls(tmp_path: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(self_signed(tmp_path / "first.pem"))
    return context


@pytest.fixture
def connect(tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Server]]:
    for name in ("SSL_CERT_FILE", "KF_PIPELINES_UI_ENDPOINT", server.TOKEN_FILE):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(server, "PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(server, "AWAY_SECONDS", 1.0)
    with serving(Kubeflow(), tls) as kubeflow:
        yield lambda: Server(kubeflow.address, "facewright")


def test_a_certificate_that_nobody_vouches_for_is_told_as_such(
    connect: Callable[[], Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = r"certificate of https://\S+ is refused: self-signed certificate: \$SSL_CERT_FILE names"
    with pytest.raises(PipelineError, match=told) as error:
        connect()
    assert not isinstance(error.value, AwayError)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "first.pem"))
    assert connect().namespace == "facewright"


def test_a_certificate_that_becomes_another_is_not_waited_for(
    connect: Callable[[], Server],
    tls: ssl.SSLContext,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "first.pem"))
    one = connect()
    tls.load_cert_chain(self_signed(tmp_path / "second.pem"))
    with pytest.raises(PipelineError, match="is refused"):
        one.run("run-1")
    assert capsys.readouterr().err == ""
