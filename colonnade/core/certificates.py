"""Certificates, authorities and revocation lists as HAProxy reads them, from what a key manager holds; pure.

Whatever HAProxy would refuse is refused here with a sentence of its own, so that one bad secret never stops the other
listeners of its amphora.
"""

import dataclasses
import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_private_key,
    load_pem_private_key,
    pkcs7,
    pkcs12,
)  # fmt: skip

from colonnade.core import tls
from colonnade.core.tls import Role, Use
from colonnade.errors import Broken, Later
from colonnade.model import Listener, Material, Pool, Tree

_LEAST_RSA_BITS, _LEAST_EC_BITS = 2048, 224  # OpenSSL's security level 2, which distributions set
_WEAK_HASHES = frozenset({"md5", "sha1"})
_UNREADABLE = (ValueError, TypeError, UnsupportedAlgorithm)
_HELP = "Store a good one and give its reference, or replace the secret's payload."

Found = Material | Broken | Later


@dataclass(frozen=True, kw_only=True, slots=True)
class Readable:
    """A file for HAProxy. ``until`` is when it ends (for a revocation list: when the next one is due), naive UTC."""

    text: str = field(repr=False)
    until: datetime | None
    names: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Known:
    """What is known of one use of a reference: a digest of what it leads to, None when it cannot be read."""

    use: Use
    digest: str | None
    until: datetime | None
    problem: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Gathered:
    """What an amphora is given for TLS. ``keep`` are files that it goes on with as it has them."""

    tree: Tree  # without what cannot be served
    files: dict[str, str] = field(repr=False)
    keep: tuple[str, ...]
    problems: dict[str, str]  # listener or pool id -> what is wrong with its certificates
    waiting: tuple[str, ...]  # of what the key manager did not answer for, and is left out meanwhile


def gather(tree: Tree, found: Mapping[str, Found], has: Collection[str]) -> Gathered:
    """The files of all uses. What cannot be read stays as the amphora ``has`` it, or is left out of the tree."""
    files: dict[str, str] = {}
    keep: list[str] = []
    problems: dict[str, list[str]] = {}
    waiting: list[str] = []
    missing: list[Use] = []
    for use in tls.uses(tree):
        try:
            files[use.file] = read(use, tree, found).text
        except (Broken, Later) as e:
            if isinstance(e, Broken):
                problems.setdefault(use.owner, []).append(f"{e} {e.help}".strip())
            if use.file in has:
                keep.append(use.file)
            else:
                missing.append(use)
                waiting += [str(e)] if isinstance(e, Later) else []
    left = _without(tree, missing)
    needed = {use.file for use in tls.uses(left)}
    return Gathered(
        tree=left,
        files={name: text for name, text in files.items() if name in needed},
        keep=tuple(sorted(name for name in keep if name in needed)),
        problems={owner: " ".join(dict.fromkeys(sentences)) for owner, sentences in problems.items()},
        waiting=tuple(dict.fromkeys(waiting)),
    )


def known(tree: Tree, found: Mapping[str, Found]) -> list[Known]:
    """Of every use, what to remember."""
    told: list[Known] = []
    for use in tls.uses(tree):
        material = found.get(use.ref)
        mark = digest(material) if isinstance(material, Material) else None
        try:
            told.append(Known(use=use, digest=mark, until=read(use, tree, found).until, problem=None))
        except Broken as e:
            told.append(Known(use=use, digest=mark, until=None, problem=f"{e} {e.help}".strip()))
        except Later:
            told.append(Known(use=use, digest=None, until=None, problem=None))
    return told


def read(use: Use, tree: Tree, found: Mapping[str, Found]) -> Readable:
    """What the use's reference leads to. Raises Broken, or Later."""
    material = _material(use.ref, found)
    if use.role != "revocations":
        return interpret(material, use.role)
    authority = next(u for u in tls.uses(tree) if u.owner == use.owner and u.role == "authority")
    return revocations(material, _material(authority.ref, found))


def _material(ref: str, found: Mapping[str, Found]) -> Material:
    match found.get(ref):
        case Material() as material:
            return material
        case Broken() | Later() as e:
            raise e
    raise Later(f"{ref} has not been asked for yet.")


def interpret(material: Material, role: Role) -> Readable:
    """What the material is in this role, alone. Raises Broken."""
    if role == "certificate":
        return certificate(material)
    return authority(material) if role == "authority" else _listed(material)


def certificate(material: Material) -> Readable:
    """A certificate, its key, and the chain above it, as one PEM file."""
    key, leaf, chain = _usable(material)
    text = "".join(_pem(c) for c in (leaf, *chain)) + _key_pem(key)
    return Readable(text=text, until=_naive(leaf.not_valid_after_utc), names=_names(leaf))


def parts(material: Material) -> dict[str, Any]:
    """The same, each part for itself, by the names that octavia-lib gives them. Raises Broken."""
    key, leaf, chain = _usable(material)
    common = leaf.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    return {
        "id": hashlib.sha1(_pem(leaf).encode(), usedforsecurity=False).hexdigest(),
        "primary_cn": str(common[0].value) if common else None, "certificate": _pem(leaf), "private_key": _key_pem(key),
        "passphrase": None, "intermediates": [_pem(c) for c in chain],
    }  # fmt: skip


def _pem(one: x509.Certificate) -> str:
    return one.public_bytes(Encoding.PEM).decode()


def _key_pem(key: PrivateKeyTypes) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def _usable(material: Material) -> tuple[PrivateKeyTypes, x509.Certificate, list[x509.Certificate]]:
    """The key, its certificate, and the chain above it. Raises Broken."""
    payloads = material.payloads
    try:
        if "" in payloads:
            key, leaf, others = _bundle(payloads[""])
        else:
            key, leaf, others = _container(payloads)
        if key is None or leaf is None:
            missing = "private key" if key is None else "certificate"
            raise Broken(f"{material.ref} holds no {missing}.", _HELP)
        same = _public(key) == _public(leaf)
        _key_pem(key)
    except _UNREADABLE as e:
        raise Broken(
            f"{material.ref} is neither a PKCS12 bundle without a pass phrase nor PEM with a certificate and its key "
            f"({_brief(e)}).", _HELP,
        ) from None  # fmt: skip
    if not same:
        raise Broken(f"The private key in {material.ref} is not that of the certificate.", _HELP)
    chain = _chain(leaf, others)
    for one in (leaf, *chain):
        _strong(one, material.ref)
    return key, leaf, chain


def authority(material: Material) -> Readable:
    """One certificate, to check others against."""
    data = material.payloads.get("", material.payloads.get("certificate", b""))
    try:
        (found,) = x509.load_pem_x509_certificates(data)
    except _UNREADABLE as e:
        raise Broken(f"{material.ref} is not one X.509 certificate in PEM ({_brief(e)}).", _HELP) from None
    _strong(found, material.ref)
    text = found.public_bytes(Encoding.PEM).decode()
    return Readable(text=text, until=_naive(found.not_valid_after_utc), names=_names(found))


def revocations(material: Material, signer: Material) -> Readable:
    """A revocation list that the authority has signed."""
    listed, issuer = _listed(material), x509.load_pem_x509_certificate(authority(signer).text.encode())
    try:
        found = x509.load_pem_x509_crl(listed.text.encode())
        right = found.issuer == issuer.subject and found.is_signature_valid(issuer.public_key())  # type: ignore[arg-type]  # TypeError below
    except _UNREADABLE:
        right = False
    if not right:
        raise Broken(f"The revocation list {material.ref} is not signed by the authority {signer.ref}.", _HELP)
    return listed


def digest(material: Material) -> str:
    """Equal exactly when the payloads are."""
    parts = [f"{name}:{hashlib.sha256(data).hexdigest()}" for name, data in sorted(material.payloads.items())]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


_Key = PrivateKeyTypes
_Parts = tuple[_Key | None, x509.Certificate | None, list[x509.Certificate]]


def _bundle(data: bytes) -> _Parts:
    if b"-----BEGIN " in data:
        return _of_pem(data, None, data)
    try:
        key, leaf, others = pkcs12.load_key_and_certificates(data, None)
    except ValueError:
        key, leaf, others = pkcs12.load_key_and_certificates(data, b"")  # no pass phrase, said in another way
    return key, leaf, list(others)


def _container(payloads: Mapping[str, bytes]) -> _Parts:
    phrase = payloads.get("private_key_passphrase") or None
    key, leaf, others = _of_pem(payloads.get("certificate", b""), phrase, payloads.get("private_key", b""))
    return key, leaf, others + _intermediates(payloads.get("intermediates", b""))


def _of_pem(certificates: bytes, phrase: bytes | None, key: bytes) -> _Parts:
    found = _certificates(certificates)
    # DER has no armour to look for.
    load = load_pem_private_key if b"-----BEGIN " in key else load_der_private_key
    private = load(key, phrase) if key else None
    if private is None or not found:
        return private, found[0] if found else None, found[1:]
    leaf = next((c for c in found if _public(c) == _public(private)), found[0])
    return private, leaf, [c for c in found if c is not leaf]


def _certificates(data: bytes) -> list[x509.Certificate]:
    if not data:
        return []
    return x509.load_pem_x509_certificates(data) if b"-----BEGIN " in data else [x509.load_der_x509_certificate(data)]


def _intermediates(data: bytes) -> list[x509.Certificate]:
    if b"-----BEGIN PKCS7" in data:
        return pkcs7.load_pem_pkcs7_certificates(data)
    if data and b"-----BEGIN " not in data:
        try:
            return pkcs7.load_der_pkcs7_certificates(data)
        except ValueError:
            return _certificates(data)
    return _certificates(data)


def _listed(material: Material) -> Readable:
    try:
        found = x509.load_pem_x509_crl(material.payloads.get("", b""))
    except _UNREADABLE as e:
        raise Broken(f"{material.ref} is not a revocation list in PEM ({_brief(e)}).", _HELP) from None
    due = found.next_update_utc
    return Readable(text=found.public_bytes(Encoding.PEM).decode(), until=_naive(due) if due else None)


def _chain(leaf: x509.Certificate, others: list[x509.Certificate]) -> list[x509.Certificate]:
    """The certificates above the leaf, each after the one it signed, the root left out; then those that fit nowhere."""
    chain: list[x509.Certificate] = []
    left, below = [c for c in others if c != leaf], leaf
    while above := next((c for c in left if c.subject == below.issuer and c.subject != below.subject), None):
        left.remove(above)
        if above.subject == above.issuer:
            break
        chain.append(above)
        below = above
    return chain + [c for c in left if c.subject != c.issuer]


def _public(of: "_Key | x509.Certificate") -> bytes:
    return of.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _strong(one: x509.Certificate, ref: str) -> None:
    key = one.public_key()
    if isinstance(key, dsa.DSAPublicKey):
        raise Broken(f"A key in {ref} is one for DSA, which clients refuse; RSA, EC, Ed25519 and Ed448 serve.", _HELP)
    if isinstance(key, rsa.RSAPublicKey) and key.key_size < _LEAST_RSA_BITS:
        raise Broken(f"A key in {ref} has {key.key_size} bits; RSA keys need {_LEAST_RSA_BITS} or more.", _HELP)
    if isinstance(key, ec.EllipticCurvePublicKey) and key.key_size < _LEAST_EC_BITS:
        raise Broken(f"A key in {ref} has {key.key_size} bits; EC keys need {_LEAST_EC_BITS} or more.", _HELP)
    algorithm = one.signature_hash_algorithm
    if algorithm and algorithm.name in _WEAK_HASHES and one.subject != one.issuer:
        raise Broken(f"A certificate in {ref} is signed with {algorithm.name}, which clients refuse.", _HELP)


def _names(of: x509.Certificate) -> tuple[str, ...]:
    try:
        alternative = of.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        found = alternative.get_values_for_type(x509.DNSName)
    except (x509.ExtensionNotFound, ValueError):
        found = []
    common = [str(a.value) for a in of.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)]
    return tuple(dict.fromkeys([*found, *common]))


def _naive(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(tzinfo=None)


def _brief(e: Exception) -> str:
    """The first sentence of what a library says; nothing of the secret is in it."""
    return str(e).split("\n")[0].split(". ")[0][:100] or type(e).__name__


def _without(tree: Tree, missing: list[Use]) -> Tree:
    """The tree without those whose files are missing. A lost SNI certificate takes only its own names away."""
    lost: dict[str, set[str]] = {}
    for use in missing:
        lost.setdefault(use.owner, set()).add(use.file)
    if not lost:
        return tree
    listeners = (_reduced(x, lost[x.id]) if x.id in lost else x for x in tree.listeners)
    return dataclasses.replace(
        tree,
        listeners=tuple(x for x in listeners if x is not None),
        pools=tuple(_closed(p) if p.id in lost else p for p in tree.pools),
    )


def _reduced(listener: Listener, lost: set[str]) -> Listener | None:
    refs = tuple(r for r in listener.sni_container_refs if tls.sni_file(listener, r) not in lost)
    if lost & {f"{listener.id}.pem", f"{listener.id}.ca", f"{listener.id}.crl"}:
        return None
    left = dataclasses.replace(listener, sni_container_refs=refs)
    return left if tls.terminates(left) else None


def _closed(pool: Pool) -> Pool:
    """Nothing may be sent to its members without what checks them."""
    return dataclasses.replace(pool, admin_state_up=False, tls_enabled=False)
