"""Certificates for refused names: self-made ones whose name is the message, and signed ones.

A Go client checks the dates first, then the name, then who signed: so it prints the name of a
certificate that nobody signed, and the name can be a whole sentence. Of an address that is not the
certificate's it prints no sentence. So there the address is right, and a second certificate, which
could be the signer's and may not sign, has the sentence as its name: Go prints that as a hint.
"""

from __future__ import annotations

import os
import pwd
import ssl
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ramfw.core.refusal_message import ascii_only

SigningKey = (
    ec.EllipticCurvePrivateKey
    | rsa.RSAPrivateKey
    | ed25519.Ed25519PrivateKey
    | ed448.Ed448PrivateKey
)

SELF_MADE_LIFE = timedelta(days=7)
"""A clock that is days off still sees it valid; nothing trusts it anyway."""
SIGNED_LIFE = timedelta(hours=1)
CLOCK_SKEW = timedelta(minutes=5)
SHORT = 64
"""The most characters of a common name (X.520, ub-common-name)."""


class Identity:
    """The explainer's own key, made for its life, and what it can show with it."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.public_key = self._key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    def self_made(self, message: str) -> bytes:
        """A certificate, in PEM, that is valid for the message as if it were a name."""
        words = ascii_only(message)
        name = _name(NameOID.COMMON_NAME, words[:SHORT])
        return self._signed(name, name, x509.SubjectAlternativeName([x509.DNSName(words)]))

    def self_made_for_address(self, message: str, address: IPv4Address | IPv6Address) -> bytes:
        """A chain, in PEM, that is valid for the address and seems signed by the message."""
        # X.520 bounds this too, but nobody checks it of an organization.
        sentence = _name(NameOID.ORGANIZATION_NAME, ascii_only(message))
        names = x509.SubjectAlternativeName([x509.IPAddress(address)])
        leaf = self._signed(_name(NameOID.COMMON_NAME, str(address)), sentence, names)
        may_not_sign = x509.BasicConstraints(ca=False, path_length=None)
        return leaf + self._signed(sentence, sentence, may_not_sign)

    def _signed(self, subject: x509.Name, issuer: x509.Name, says: x509.ExtensionType) -> bytes:
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(self._key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - SELF_MADE_LIFE)
            .not_valid_after(now + SELF_MADE_LIFE)
            .add_extension(says, critical=False)
        )
        signed = builder.sign(self._key, hashes.SHA256())
        return signed.public_bytes(serialization.Encoding.PEM)

    def context(self, chain: bytes) -> ssl.SSLContext:
        """A server's side of TLS with this key and a chain in PEM.

        Raises ssl.SSLError where the chain is not one for the key.
        """
        key = self._key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        context = server_context()
        # OpenSSL's binding loads from files only; this one exists in memory alone.
        descriptor = os.memfd_create("identity", os.MFD_CLOEXEC)
        with os.fdopen(descriptor, "wb") as file:
            file.write(key + chain)
            file.flush()
            context.load_cert_chain(f"/proc/self/fd/{descriptor}")
        return context


def _name(kind: x509.ObjectIdentifier, value: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(kind, value)])


def server_context() -> ssl.SSLContext:
    """A server's side of TLS, without anything that would keep a connection's memory."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION
    context.num_tickets = 0
    # Nothing here is a secret, and old clients are told too: busybox's wget takes only SHA-1.
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    context.set_alpn_protocols(["http/1.1"])
    return context


class Authority:
    """The organization's CA, as the signer holds it."""

    def __init__(self, certificate: Path, key: Path) -> None:
        """Raises OSError or ValueError where one of the files cannot be used."""
        self._chain = certificate.read_bytes()
        self._certificate = x509.load_pem_x509_certificate(self._chain)
        self._key = _private_key(key)
        if self._key.public_key() != self._certificate.public_key():
            raise ValueError(f"{key}: not the key of {certificate}")
        try:
            constraints = self._certificate.extensions.get_extension_for_class(
                x509.BasicConstraints
            )
        except x509.ExtensionNotFound:
            raise ValueError(f"{certificate}: not a certificate authority's") from None
        if not constraints.value.ca:
            raise ValueError(f"{certificate}: not a certificate authority's")

    def sign(self, name: str, public_key: bytes, now: datetime) -> bytes:
        """A chain in PEM that says, for an hour, that the key is the name's.

        Raises ValueError where the key is not one of the explainer's kind.
        """
        key = serialization.load_der_public_key(public_key)
        if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != "secp256r1":
            raise ValueError("not a key on the curve P-256")
        ends = min(now + SIGNED_LIFE, self._certificate.not_valid_after_utc)
        usage = x509.KeyUsage(
            digital_signature=True,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            key_cert_sign=False,
            crl_sign=False,
            encipher_only=False,
            decipher_only=False,
        )
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(self._certificate.subject)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - CLOCK_SKEW)
            .not_valid_after(ends)
            # Critical where the subject is empty (RFC 5280 section 4.2.1.6).
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=True)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(self._key_identifier(), critical=False)
        )
        own_hash = isinstance(self._key, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey)
        signed = builder.sign(self._key, None if own_hash else hashes.SHA256())
        return signed.public_bytes(serialization.Encoding.PEM) + self._chain

    def _key_identifier(self) -> x509.AuthorityKeyIdentifier:
        """What tells a client which of several CAs of one name it was."""
        try:
            own = self._certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
        except x509.ExtensionNotFound:
            return x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own.value)


def _private_key(path: Path) -> SigningKey:
    """The key in a file that nobody else can read."""
    try:
        opened = path.open("rb")
    except PermissionError:
        mend = f"chown {pwd.getpwuid(os.geteuid()).pw_name} {path}"
        raise ValueError(f"{path}: this user cannot read it: {mend}") from None
    with opened as file:
        status = os.fstat(file.fileno())
        if status.st_mode & 0o077 or status.st_uid not in (0, os.geteuid()):
            raise ValueError(f"{path}: others can read or change this key: chmod 400 {path}")
        content = file.read()
    try:
        key = serialization.load_pem_private_key(content, password=None)
    except TypeError:
        raise ValueError(f"{path}: the key needs a password; write it without one") from None
    if not isinstance(key, SigningKey):
        raise ValueError(f"{path}: only RSA, EC and EdDSA keys can sign here")  # noqa: TRY004
    return key
