"""Certificates and keys for both sides, read from files that may be replaced at any time.

Acceptable at the start, or the sidecar does not start. What is put there later and is not acceptable, for instance
because only one of two files has been replaced so far, changes nothing: what was read last stays in use.
"""

import dataclasses
import datetime
import importlib.resources
import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import grpc
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from sidecar.bundle.files import read_regular
from sidecar.config import ListenTls, UpstreamTls
from sidecar.errors import InputError

_LOGGER: Final = logging.getLogger("sidecar.proxy")

_CURVES: Final = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)

_USABLE: Final = "an unencrypted PEM key that gRPC can use: RSA, Ed25519, or ECDSA on P-256, P-384 or P-521"
"""With another kind gRPC fails without saying why."""

MAX_FILE_BYTES: Final = 4 << 20
"""Of one file; all authorities that a system usually trusts have some 200 KB."""

_Parsed = TypeVar("_Parsed")


@dataclasses.dataclass(frozen=True)
class Material:
    """PEM text as read at one moment: our key with its certificate, and the other side's authorities."""

    pair: tuple[bytes, bytes] | None
    authorities: bytes | None


@dataclasses.dataclass(frozen=True)
class CredentialPaths:
    """Where it is read from.

    Args:
        side: which of our connections these are for; a word for messages and a metric label.
        certificate, key: ours, PEM; the certificate's chain may follow it in the file.
        authorities: certificates that the other side's one must come from.
    """

    side: str
    certificate: Path | None
    key: Path | None
    authorities: Path | None


def listen_paths(tls: ListenTls) -> CredentialPaths:
    """For the connections of clients."""
    return CredentialPaths("listen", tls.certificate, tls.key, tls.client_ca)


def upstream_paths(tls: UpstreamTls) -> CredentialPaths:
    """For the connections to the upstream."""
    return CredentialPaths("upstream", tls.certificate, tls.key, tls.ca)


class Credentials:
    """The last acceptable contents of the files. May be used from any thread.

    Args:
        paths: the files.
        expires: is told the side and when our certificate ends, whenever that may have changed.
        failed: is told the side whenever new contents are not acceptable.

    Raises:
        InputError: a file cannot be read, holds something else, or the key is not the certificate's.
    """

    def __init__(
        self,
        paths: CredentialPaths,
        expires: Callable[[str, datetime.datetime], None],
        failed: Callable[[str], None],
    ) -> None:
        self._paths = paths
        self._expires = expires
        self._failed = failed
        self._lock = threading.Lock()
        self._seen = _read(paths)
        self._check(self._seen)
        self.current = self._seen
        self._complaint = ""
        self._told: Callable[[Material], None] = lambda _: None

    def tell(self, told: Callable[[Material], None]) -> None:
        """Have others told of new contents, by whatever thread finds them."""
        self._told = told

    def refresh(self) -> bool:
        """Look at the files again; whether ``current`` is another one now."""
        with self._lock:
            try:
                found = _read(self._paths)
                if found == self._seen and not self._complaint:
                    return False
                self._seen = found
                self._check(found)
            except InputError as error:
                self._complain(str(error))
                return False
            self._complaint = ""
            changed, self.current = found != self.current, found
            if changed:
                self._told(found)
        if changed:
            _LOGGER.info("new TLS files in use for %s", self._paths.side)
        return changed

    def _complain(self, complaint: str) -> None:
        """Once for each reason: clients choose how often we look."""
        if complaint != self._complaint:
            self._complaint = complaint
            self._failed(self._paths.side)
            _LOGGER.warning("%s; the ones read before stay in use", complaint)

    def _check(self, material: Material) -> None:
        until = _accepted(self._paths, material)
        if until is not None:
            self._expires(self._paths.side, until)
            if until <= datetime.datetime.now(datetime.UTC):
                _LOGGER.warning("our TLS certificate %s expired at %s; replace it", self._paths.certificate, until)


def server_credentials(credentials: Credentials) -> grpc.ServerCredentials:
    """For listening: each new connection gets what the files hold then. Clients need a certificate where authorities
    for theirs are named.
    """

    def fetch() -> grpc.ServerCertificateConfiguration | None:
        return _configuration(credentials.current) if credentials.refresh() else None

    first = _configuration(credentials.current)
    # grpcio takes None for "as before"; its stubs do not know.
    fetcher: Any = fetch
    return grpc.dynamic_ssl_server_credentials(first, fetcher, credentials.current.authorities is not None)


def _configuration(material: Material) -> grpc.ServerCertificateConfiguration:
    pairs = [] if material.pair is None else [material.pair]
    return grpc.ssl_server_certificate_configuration(pairs, material.authorities)


def channel_credentials(credentials: Credentials) -> grpc.ChannelCredentials:
    """For a channel to the upstream, as the files were when last looked at."""
    material = credentials.current
    key, certificate = material.pair or (None, None)
    return grpc.ssl_channel_credentials(material.authorities, key, certificate)


def default_authorities() -> bytes:
    """The certificates that gRPC knows, PEM; or those that its variable names."""
    named = os.environ.get("GRPC_DEFAULT_SSL_ROOTS_FILE_PATH")
    if named:
        return Path(named).read_bytes()
    return importlib.resources.files("grpc._cython").joinpath("_credentials", "roots.pem").read_bytes()


def _read(paths: CredentialPaths) -> Material:
    pair = None
    if paths.key is not None and paths.certificate is not None:
        pair = _content(paths, paths.key), _content(paths, paths.certificate)
    return Material(pair, None if paths.authorities is None else _content(paths, paths.authorities))


def _content(paths: CredentialPaths, path: Path) -> bytes:
    try:
        content, _ = read_regular(path, MAX_FILE_BYTES)
    except OSError as error:
        raise InputError(f"cannot read TLS file {path} for {paths.side}: {error.strerror}; correct its path") from error
    if len(content) > MAX_FILE_BYTES:
        raise InputError(f"TLS file {path} for {paths.side}: larger than {MAX_FILE_BYTES} bytes; name another file")
    return content


def _accepted(paths: CredentialPaths, material: Material) -> datetime.datetime | None:
    """When our certificate ends; None where we have none."""
    if material.authorities is not None:
        _parsed(x509.load_pem_x509_certificates, material.authorities, paths.authorities, "PEM certificates")
    if material.pair is None:
        return None
    key_pem, certificate_pem = material.pair
    certificate = _parsed(x509.load_pem_x509_certificates, certificate_pem, paths.certificate, "PEM certificates")[0]
    key = _parsed(_usable_key, key_pem, paths.key, _USABLE)
    if _parsed(lambda _: certificate.public_key(), certificate_pem, paths.certificate, _USABLE) != key.public_key():
        raise InputError(
            f"TLS key {paths.key} is not the key of the first certificate in {paths.certificate}; name the two files"
            " that belong together"
        )
    return certificate.not_valid_after_utc


def _usable_key(content: bytes) -> PrivateKeyTypes:
    key = load_pem_private_key(content, None)
    match key:
        case rsa.RSAPrivateKey() | ed25519.Ed25519PrivateKey():
            return key
        case ec.EllipticCurvePrivateKey() if isinstance(key.curve, _CURVES):
            return key
        case _:
            raise ValueError("it is of another kind")


def _parsed(parse: Callable[[bytes], _Parsed], content: bytes, path: Path | None, expected: str) -> _Parsed:
    try:
        return parse(content)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise InputError(f"TLS file {path} does not hold {expected}: {error}; name another file") from error
