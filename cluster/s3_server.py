"""The embedded S3: SeaweedFS on loopback, signed requests only, its inner ports closed by keys of their own.

Its gRPC ports would list, read and delete for anyone on the machine: they take only who has the certificate that is made at each start.
"""

from __future__ import annotations

import datetime
import ipaddress
import json
import sysconfig
from pathlib import Path

import grpc
import urllib3
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from minio import Minio

from cluster.settings import Settings
from cluster.supervision import Port, Program, write_private

WEED = Path(sysconfig.get_path("scripts")) / "weed"
# SeaweedFS makes so many volume files at a time for each bucket, and needs room for them whole: little, so that a small disk suffices.
VOLUME_MB, VOLUMES_AT_A_TIME = 256, 4
_CERTIFICATE_DAYS = 3650
_PORTS = ("s3", "master", "volume", "filer", "master_grpc", "volume_grpc", "filer_grpc", "s3_grpc")


def endpoint(settings: Settings) -> str:
    """URL of the embedded S3."""
    return f"http://127.0.0.1:{settings.s3_port}"


def ports(settings: Settings) -> dict[str, int]:
    """The server's ports by name."""
    return {name: settings.s3_port + offset for offset, name in enumerate(_PORTS)}


def build_program(settings: Settings, access_key: str, secret_key: str, jwt_key: str) -> Program:
    """The supervised server; ``jwt_key`` seeds the four keys that close the volume server and the filer."""
    port = ports(settings)
    config = settings.home / "config" / "s3"
    options = {
        "dir": settings.home / "s3",
        "ip": "127.0.0.1",
        "ip.bind": "127.0.0.1",
        "master.port": port["master"],
        "master.port.grpc": port["master_grpc"],
        # With one master nobody is waited for; the default lets a restarted server take 10 to 20 s to elect itself.
        "master.electionTimeout": "300ms",
        "master.heartbeatInterval": "100ms",
        "master.volumeSizeLimitMB": VOLUME_MB,
        "master.telemetry": "false",
        "volume.port": port["volume"],
        "volume.port.grpc": port["volume_grpc"],
        "volume.max": 0,
        "volume.preStopSeconds": 0,
        "filer.port": port["filer"],
        "filer.port.grpc": port["filer_grpc"],
        "filer.exposeDirectoryData": "false",
        "s3.port": port["s3"],
        "s3.port.grpc": port["s3_grpc"],
        "s3.port.iceberg": 0,
        "s3.port.lance": 0,
        "s3.iam": "false",
        "s3.config": config / "identities.json",
    }
    arguments = [f"-{name}={value}" for name, value in options.items()]
    return Program(
        name="s3",
        title="SeaweedFS S3",
        command=(str(WEED), f"-config_dir={config}", "-logtostderr", "server", "-filer", "-s3", *arguments),
        ports=tuple(Port(name, number) for name, number in port.items()),
        prepare=lambda: _prepare(settings, config, access_key, secret_key, jwt_key),
        provision=lambda: _make_bucket(settings, access_key, secret_key),
        ready=lambda: check(endpoint(settings), access_key, secret_key, settings.s3_region),
        # On SIGTERM volumes and filer are closed within 0.1 s; then it waits 10 s and more for its own streams to end.
        stop_wait_s=2,
    )


def connect(url: str, access_key: str | None, secret_key: str | None, region: str) -> Minio:
    """A client that tries once and waits two seconds; without keys its requests are anonymous."""
    parts = urllib3.util.parse_url(url)
    http = urllib3.PoolManager(timeout=2.0, retries=False)
    return Minio(parts.netloc or "", access_key, secret_key, secure=parts.scheme == "https", region=region, http_client=http)


def check(url: str, access_key: str, secret_key: str, region: str) -> None:
    """Raises: minio.error.S3Error or urllib3.exceptions.HTTPError unless a signed ListBuckets is answered."""
    connect(url, access_key, secret_key, region).list_buckets()


def ports_open_to_strangers(settings: Settings) -> list[str]:
    """The gRPC ports, by name, that answer who shows no certificate, with or without TLS."""
    certificate = (settings.home / "config" / "s3" / "grpc.crt").read_bytes()
    found, options = [], [("grpc.enable_http_proxy", 0)]
    for name in (name for name in _PORTS if name.endswith("_grpc")):
        address = f"localhost:{ports(settings)[name]}"
        with (
            grpc.insecure_channel(address, options) as plain,
            grpc.secure_channel(address, grpc.ssl_channel_credentials(certificate), options) as encrypted,
        ):
            if _answers(plain) or _answers(encrypted):
                found.append(name)
    return found


def _answers(channel: grpc.Channel) -> bool:
    try:
        channel.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=2)
    except grpc.RpcError as error:
        return error.code() is grpc.StatusCode.UNIMPLEMENTED
    return True


def _make_bucket(settings: Settings, access_key: str, secret_key: str) -> None:
    client = connect(endpoint(settings), access_key, secret_key, settings.s3_region)
    if not client.bucket_exists(settings.s3_bucket):
        client.make_bucket(settings.s3_bucket)


def _prepare(settings: Settings, config: Path, access_key: str, secret_key: str, jwt_key: str) -> None:
    (settings.home / "s3").mkdir(mode=0o700, exist_ok=True)
    credentials = [{"accessKey": access_key, "secretKey": secret_key}]
    identities = {"identities": [{"name": "aidos", "credentials": credentials, "actions": ["Admin", "Read", "Write", "List", "Tagging"]}]}
    write_private(config / "identities.json", json.dumps(identities))
    write_private(config / "master.toml", f"[master.volume_growth]\ncopy_1 = {VOLUMES_AT_A_TIME}\n")
    jwt = ("jwt.signing", "jwt.signing.read", "jwt.filer_signing", "jwt.filer_signing.read")
    security = [f'[{name}]\nkey = "{jwt_key}-{name}"\n' for name in jwt]
    key, certificate = config / "grpc.key", config / "grpc.crt"
    _write_certificate(key, certificate)
    security.append(f'[grpc]\nca = "{certificate}"\n')
    security += [f'[grpc.{name}]\ncert = "{certificate}"\nkey = "{key}"\n' for name in ("master", "volume", "filer", "s3", "client")]
    write_private(config / "security.toml", "".join(security))


def _write_certificate(key: Path, certificate: Path) -> None:
    """One certificate for both sides of SeaweedFS's own calls, signed by itself: no authority is kept that could sign another."""
    private, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "seaweedfs")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder(name, name, private.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=_CERTIFICATE_DAYS))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .sign(private, hashes.SHA256())
    )
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    write_private(key, private.private_bytes(encoding, form, serialization.NoEncryption()).decode())
    write_private(certificate, made.public_bytes(encoding).decode())
