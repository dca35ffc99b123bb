"""A certificate authority of a company's own, and certificates that are right or wrong in one way."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


class Authority:
    """A certificate authority of a company's own, and what it issues."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Company")])
        self.file = folder / "authority.pem"
        made = self._signed(
            self._name, self._key,
            x509.BasicConstraints(ca=True, path_length=None), days=(-1, 1),
        )  # fmt: skip
        self.file.write_bytes(made.public_bytes(serialization.Encoding.PEM))

    def _signed(
        self, name: x509.Name, key: ec.EllipticCurvePrivateKey, extension: x509.ExtensionType,
        *, days: tuple[int, int],
    ) -> x509.Certificate:  # fmt: skip
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + timedelta(days=days[0]))
            .not_valid_after(now + timedelta(days=days[1]))
            .add_extension(extension, critical=False)
            .sign(self._key, hashes.SHA256())
        )

    def server(self, *, name: str = "", days: tuple[int, int] = (-1, 1)) -> ssl.SSLContext:
        """A server's side of TLS, with a certificate for a name (127.0.0.1) and from one day to another."""
        key = ec.generate_private_key(ec.SECP256R1())
        place = x509.DNSName(name) if name else x509.IPAddress(IPv4Address("127.0.0.1"))
        made = self._signed(x509.Name([]), key, x509.SubjectAlternativeName([place]), days=days)
        file = self._folder / f"{name}{days[1]}.pem"
        file.write_bytes(
            made.public_bytes(serialization.Encoding.PEM)
            + key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )  # fmt: skip
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        return context
