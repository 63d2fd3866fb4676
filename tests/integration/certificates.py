"""A certificate authority for tests."""

import datetime
import ipaddress
import itertools
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_DAY = datetime.timedelta(days=1)
_NUMBERS = itertools.count(1)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


class Authority:
    """Signs certificates; ``pem`` is its own."""

    def __init__(self, name: str = "test authority") -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name(name)
        self.pem = self._sign(self._name, self._key.public_key(), x509.BasicConstraints(ca=True, path_length=None))

    def _sign(self, subject: x509.Name, key, *extensions, lasting=_DAY) -> bytes:
        now = datetime.datetime.now(datetime.UTC)
        builder = x509.CertificateBuilder(self._name, subject, key, x509.random_serial_number())
        builder = builder.not_valid_before(now - 2 * _DAY).not_valid_after(now + lasting)
        for extension in extensions:
            builder = builder.add_extension(extension, critical=False)
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def pair(self, name: str = "sidecar", lasting: datetime.timedelta = _DAY, key=None) -> tuple[bytes, bytes]:
        """A certificate for this machine, and its key."""
        key = key or ec.generate_private_key(ec.SECP256R1())
        names = [x509.DNSName("localhost"), x509.DNSName(name), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        certificate = self._sign(_name(name), key.public_key(), x509.SubjectAlternativeName(names), lasting=lasting)
        form = serialization.PrivateFormat.PKCS8
        return certificate, key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())


class Files:
    """A certificate, its key and authorities as files, which are replaced as a rotation does it."""

    def __init__(self, folder: Path, name: str, authority: Authority, peers: Authority | None = None) -> None:
        folder.mkdir(exist_ok=True)
        self.certificate, self.key = folder / f"{name}.crt", folder / f"{name}.key"
        self.ca = folder / f"{name}.ca"
        self.write(*authority.pair(name))
        self.ca.write_bytes((peers or authority).pem)

    def write(self, certificate: bytes, key: bytes) -> None:
        """Replace the pair, each file at once."""
        for path, content in ((self.certificate, certificate), (self.key, key)):
            fresh = path.with_suffix(f".{next(_NUMBERS)}")
            fresh.write_bytes(content)
            fresh.replace(path)
