"""TLS for the local cloud: storage and model answer over HTTPS, as they do in Azure."""

import datetime as dt
import os
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import certifi
import trustme
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import load_pem_private_key

LIFETIME = dt.timedelta(days=365)
RENEW_BEFORE = dt.timedelta(days=30)
IDENTITIES = ("127.0.0.1", "localhost")


@dataclass(frozen=True, slots=True)
class Certificates:
    """A server certificate for this machine and the bundle that makes clients trust it, as PEM files.

    The authority's private key is never written: it signs this one certificate and is discarded. So no
    file on a disk can vouch for any other host.
    """

    certificate: Path
    """The server's chain."""
    key: Path
    """The server's private key, readable by its owner only."""
    authority: Path
    """The certificate that signed the server's."""
    bundle: Path
    """Certifi's authorities and ours, for REQUESTS_CA_BUNDLE and SSL_CERT_FILE: so a client reaches the local cloud and
    the Internet with the same setting."""

    @classmethod
    def load_or_create(cls, directory: Path) -> Self:
        """Return the certificates in `directory`; new ones if there are none or they expire within 30 days."""
        directory.mkdir(parents=True, exist_ok=True)
        certificates = cls(
            certificate=directory / "server.pem",
            key=directory / "server.key",
            authority=directory / "authority.pem",
            bundle=directory / "bundle.pem",
        )
        if not certificates._are_usable():
            certificates._create()
        # Written each time: certifi may have been upgraded since.
        _replace(certificates.bundle, Path(certifi.where()).read_bytes() + certificates.authority.read_bytes())
        return certificates

    def server_context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.certificate, self.key)
        return context

    def client_context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.bundle))

    def _are_usable(self) -> bool:
        try:
            server = x509.load_pem_x509_certificate(self.certificate.read_bytes())
            authority = x509.load_pem_x509_certificate(self.authority.read_bytes())
            key = load_pem_private_key(self.key.read_bytes(), password=None)
            server.verify_directly_issued_by(authority)
        except (OSError, ValueError, TypeError, InvalidSignature):
            return False
        now = dt.datetime.now(dt.UTC)
        return key.public_key() == server.public_key() and server.not_valid_after_utc - now > RENEW_BEFORE

    def _create(self) -> None:
        now = dt.datetime.now(dt.UTC)
        authority = trustme.CA(organization_name="Blobsight local cloud")
        server = authority.issue_cert(
            *IDENTITIES,
            # A clock that is a little behind, as in a container or a virtual machine, must accept it.
            not_before=now - dt.timedelta(days=1),
            not_after=now + LIFETIME,
            organization_name="Blobsight local cloud",
        )
        _replace(self.key, server.private_key_pem.bytes())
        _replace(self.certificate, b"".join(pem.bytes() for pem in server.cert_chain_pems))
        _replace(self.authority, authority.cert_pem.bytes())


def _replace(path: Path, content: bytes) -> None:
    """Write at once and for the owner only: another process may be reading the file, and one is a key."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    temporary.replace(path)
