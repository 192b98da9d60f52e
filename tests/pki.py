"""A small public key infrastructure for tests: authorities, certificates, bundles, revocation lists."""

import functools
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    pkcs12,
)  # fmt: skip

NOW = datetime.now(UTC).replace(microsecond=0)


@dataclass(frozen=True)
class Issued:
    """A certificate with its key, and the authorities above it."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | dsa.DSAPrivateKey
    above: tuple[x509.Certificate, ...] = ()

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    @property
    def chain_pem(self) -> bytes:
        return b"".join(c.public_bytes(Encoding.PEM) for c in self.above)

    @property
    def bundle_pem(self) -> bytes:
        return self.pem + self.chain_pem + self.key_pem

    def p12(self, phrase: bytes | None = None) -> bytes:
        lock = BestAvailableEncryption(phrase) if phrase else NoEncryption()
        return pkcs12.serialize_key_and_certificates(b"x", self.key, self.certificate, list(self.above), lock)

    def issue(self, name: str, *names: str, days: float = 90, bits: int = 0, ca: bool = False) -> "Issued":
        """A certificate that this authority signs."""
        return issue(name, *names, by=self, days=days, bits=bits, ca=ca)

    def revoke(self, *issued: "Issued", days: int = 30) -> bytes:
        """A revocation list that this authority signs."""
        builder = x509.CertificateRevocationListBuilder().issuer_name(self.certificate.subject)
        builder = builder.last_update(NOW - timedelta(days=2)).next_update(NOW + timedelta(days=days))
        for one in issued:
            entry = x509.RevokedCertificateBuilder().serial_number(one.certificate.serial_number)
            builder = builder.add_revoked_certificate(entry.revocation_date(NOW - timedelta(hours=1)).build())
        return builder.sign(self.key, hashes.SHA256()).public_bytes(Encoding.PEM)


def issue(
    name: str, *names: str, by: Issued | None = None, days: float = 90, bits: int = 0, ca: bool = False,
    key: dsa.DSAPrivateKey | None = None,
) -> Issued:  # fmt: skip
    """A certificate: elliptic unless ``bits`` says RSA or ``key`` is given; signed by itself unless ``by`` signs it."""
    own = key or (_rsa(bits) if bits else ec.generate_private_key(ec.SECP256R1()))
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    builder = x509.CertificateBuilder().subject_name(subject).public_key(own.public_key())
    builder = builder.issuer_name(by.certificate.subject if by else subject)
    builder = builder.serial_number(x509.random_serial_number())
    begin = min(NOW - timedelta(days=1), NOW + timedelta(days=days) - timedelta(days=2))
    builder = builder.not_valid_before(begin).not_valid_after(NOW + timedelta(days=days))
    builder = builder.add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(n) for n in names]), critical=False)
    signed = builder.sign(by.key if by else own, hashes.SHA256())
    above = () if by is None else tuple(c for c in (by.certificate, *by.above) if c.subject != c.issuer)
    return Issued(signed, own, above)


def authority(name: str = "Test CA", **how: float) -> Issued:
    """An authority that trusts itself."""
    return issue(name, ca=True, days=how.get("days", 365))


@functools.cache
def _rsa(bits: int) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, bits)  # one of each size is enough: making them takes long
