"""The cluster's keys: its authorities, a certificate for each part, a kubeconfig for each client."""

import base64
import datetime
import ipaddress
import os
from dataclasses import dataclass
from pathlib import Path

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from . import layout

VALID = datetime.timedelta(days=3650)


@dataclass(frozen=True)
class Subject:
    """Whom a certificate is for: `name` is the user that the API server sees, `group` the user's group."""

    file: str
    name: str
    group: str = ""
    addresses: tuple[str, ...] = ()
    """Names and IP addresses that it serves as; without any it is a client's."""
    authority: str = "ca"


SUBJECTS = (
    Subject(
        "apiserver",
        "kube-apiserver",
        addresses=(
            layout.NODE_IP,
            layout.API_SERVICE_IP,
            "127.0.0.1",
            "localhost",
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            f"kubernetes.default.svc.{layout.DOMAIN}",
        ),
    ),
    Subject("apiserver-kubelet", "kube-apiserver-kubelet-client", "system:masters"),
    Subject("front-proxy", "front-proxy-client", authority="front-proxy-ca"),
    Subject("etcd", "etcd", addresses=("127.0.0.1", "localhost"), authority="etcd-ca"),
    Subject("apiserver-etcd", "kube-apiserver-etcd-client", authority="etcd-ca"),
    Subject("kubelet-server", f"system:node:{layout.NODE}", addresses=(layout.NODE_IP, layout.NODE)),
    Subject("kubelet", f"system:node:{layout.NODE}", "system:nodes"),
    Subject("controller-manager", "system:kube-controller-manager"),
    Subject("scheduler", "system:kube-scheduler"),
    Subject("kube-proxy", "system:kube-proxy", "system:node-proxier"),
    Subject("admin", "admin", "system:masters"),
)
AUTHORITIES = ("ca", "front-proxy-ca", "etcd-ca")
KUBECONFIGS = ("kubelet", "controller-manager", "scheduler", "kube-proxy", "admin")


def make() -> None:
    """Make what is missing. What is there is kept: running parts hold it."""
    layout.PKI.mkdir(parents=True, exist_ok=True)
    layout.PKI.chmod(0o700)
    for authority in AUTHORITIES:
        if not certificate(authority).exists():
            _make_authority(authority)
    for subject in SUBJECTS:
        if not certificate(subject.file).exists():
            _make_certificate(subject)
    if not key("service-accounts").exists():
        _make_service_account_keys()
    for client in KUBECONFIGS:
        _write(kubeconfig(client), yaml.safe_dump(_kubeconfig(client)).encode())


def certificate(name: str) -> Path:
    """Return where a certificate lies."""
    return layout.PKI / f"{name}.crt"


def key(name: str) -> Path:
    """Return where a private key lies."""
    return layout.PKI / f"{name}.key"


def kubeconfig(client: str) -> Path:
    """Return the kubeconfig of a client; `admin` is the user's."""
    return layout.KUBECONFIG if client == "admin" else layout.PKI / f"{client}.kubeconfig"


def _make_authority(name: str) -> None:
    private = ec.generate_private_key(ec.SECP256R1())
    usage = x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=True,
        crl_sign=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
    subject = _name(f"serving-estate-{name}", "")
    built = (
        _builder(subject, subject, private.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .sign(private, hashes.SHA256())
    )
    _keep(name, private, built)


def _make_certificate(subject: Subject) -> None:
    issuer = x509.load_pem_x509_certificate(certificate(subject.authority).read_bytes())
    signer = serialization.load_pem_private_key(key(subject.authority).read_bytes(), password=None)
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    private = ec.generate_private_key(ec.SECP256R1())
    usages = [ExtendedKeyUsageOID.CLIENT_AUTH]
    if subject.addresses:
        usages.append(ExtendedKeyUsageOID.SERVER_AUTH)
    builder = (
        _builder(_name(subject.name, subject.group), issuer.subject, private.public_key())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
    )
    if subject.addresses:
        names = [_address(address) for address in subject.addresses]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    _keep(subject.file, private, builder.sign(signer, hashes.SHA256()))


def _make_service_account_keys() -> None:
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    public = private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    _write(layout.PKI / "service-accounts.pub", public)
    _write(key("service-accounts"), _pem(private))


def _builder(
    subject: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))  # a clock that is set back does not lock us out
        .not_valid_after(now + VALID)
    )


def _name(name: str, group: str) -> x509.Name:
    parts = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group)] if group else []
    return x509.Name([*parts, x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _address(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)


def _pem(private: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    return private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _keep(name: str, private: ec.EllipticCurvePrivateKey, signed: x509.Certificate) -> None:
    _write(key(name), _pem(private))
    # Last: where it is there, so is the key.
    _write(certificate(name), signed.public_bytes(serialization.Encoding.PEM))


def _write(path: Path, content: bytes) -> None:
    """Write a file whole, for nobody else to read."""
    half = path.with_name(f".{path.name}.half")
    half.unlink(missing_ok=True)
    with os.fdopen(os.open(half, os.O_WRONLY | os.O_CREAT, 0o600), "wb") as file:
        file.write(content)
    half.replace(path)


def _kubeconfig(client: str) -> dict[str, object]:
    """Everything is inside, so that the file works wherever it is copied to on this host."""
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": "serving-estate",
                "cluster": {
                    "server": layout.SERVER,
                    "certificate-authority-data": _base64(certificate("ca")),
                },
            }
        ],
        "users": [
            {
                "name": client,
                "user": {
                    "client-certificate-data": _base64(certificate(client)),
                    "client-key-data": _base64(key(client)),
                },
            }
        ],
        "contexts": [
            {"name": "serving-estate", "context": {"cluster": "serving-estate", "user": client}},
        ],
        "current-context": "serving-estate",
    }


def _base64(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()
