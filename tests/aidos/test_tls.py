"""A platform behind TLS: its certificate is checked, by both clients, whenever the first such connection is made."""

from __future__ import annotations

import http.server
import json
import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from aidos.client import AsyncClient, Client
from aidos.errors import Unavailable
from aidos.http import transport

ADDRESS = "127.0.0.2"  # on this machine, and not one of the names that go past the environment


class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = json.dumps({"name": "aidos", "version": "1"}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def ahead_s() -> float:
    """How far this machine's clock is ahead of the one that the certificate was made by."""
    return 0.0


@pytest.fixture
def certificate(tmp_path: Path, ahead_s: float) -> Path:
    """Signed by nobody but itself, with its key in the same file; good for two hours."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "here")])
    now = datetime.now(UTC) - timedelta(seconds=ahead_s)
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address(ADDRESS))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path = tmp_path / "certificate.pem"
    path.write_bytes(pem + built.public_bytes(serialization.Encoding.PEM))
    return path


@pytest.fixture
def url(certificate: Path) -> Iterator[str]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with http.server.ThreadingHTTPServer((ADDRESS, 0), Answer) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        transport._late_tls.cache_clear()
        yield f"https://{ADDRESS}:{server.server_address[1]}"
        transport._late_tls.cache_clear()
        server.shutdown()
        thread.join()


class TestTls:
    def test_a_certificate_of_nobody_known_is_refused(self, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AIDOS_RETRY_BUDGET_S", "0")
        with Client(url, "key") as client, pytest.raises(Unavailable, match="certificate verify failed"):
            client.platform.version()

    def test_one_that_the_environment_trusts_is_taken(self, url: str, certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        with Client(url, "key") as client:
            assert client.platform.version().version == "1"

    @pytest.mark.parametrize(("ahead_s", "said"), [(7200.0, "has expired"), (-7200.0, "is not yet valid")])
    def test_a_clock_that_is_two_hours_wrong_is_named(
        self, url: str, certificate: Path, ahead_s: float, said: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        monkeypatch.setenv("AIDOS_RETRY_BUDGET_S", "0")
        with Client(url, "key") as client, pytest.raises(Unavailable, match=rf"certificate {said}.*is this machine's clock right"):
            client.platform.version()

    async def test_by_the_asynchronous_client_too(self, url: str, certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        async with AsyncClient(url, "key") as client:
            assert (await client.platform.version()).version == "1"
