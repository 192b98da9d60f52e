"""What is made of secrets: good ones become HAProxy's files, bad ones a sentence, and the rest goes on."""

from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa
from desired import tree

from colonnade.core import certificates, haproxy, tls
from colonnade.errors import Broken, Later
from colonnade.model import Material
from tests import pki

CA = pki.authority()
MIDDLE = CA.issue("Middle CA", ca=True)
LEAF = MIDDLE.issue("www.example.org", "www.example.org", "example.org")
OTHER = CA.issue("other.example.org")
DSA = pki.issue("www.example.org", by=CA, key=dsa.generate_private_key(1024)).bundle_pem  # noqa: S505 - what must be refused


def secret(payload: bytes, ref: str = "secrets/1", **parts: bytes) -> Material:
    return Material(ref=ref, project_id="p", payloads=parts or {"": payload})


GOOD = {
    "PKCS12": secret(LEAF.p12()),
    "PEM": secret(LEAF.bundle_pem),
    "PEM, the key first": secret(LEAF.key_pem + LEAF.pem + LEAF.chain_pem),
    "PEM, with the root": secret(LEAF.bundle_pem + CA.pem),
    "PEM, the chain before the leaf": secret(LEAF.chain_pem + LEAF.pem + LEAF.key_pem),
    "a container": secret(b"", certificate=LEAF.pem, private_key=LEAF.key_pem, intermediates=LEAF.chain_pem),
}
BAD = {
    "nothing": (secret(b""), "neither a PKCS12 bundle"),
    "rubbish": (secret(b"rubbish"), "neither a PKCS12 bundle"),
    "no key": (secret(LEAF.pem), "neither a PKCS12 bundle"),
    "no certificate": (secret(LEAF.key_pem), "neither a PKCS12 bundle"),
    "a pass phrase": (secret(LEAF.p12(b"secret")), "without a pass phrase"),
    "another's key": (secret(LEAF.pem + OTHER.key_pem), "not that of the certificate"),
    "a short key": (secret(CA.issue("short", bits=1024).bundle_pem), "RSA keys need 2048"),
    "a key for DSA": (secret(DSA), "Ed25519"),
    "an empty container": (secret(b"", certificate=b""), "neither|holds no"),
}


@pytest.mark.parametrize("material", GOOD.values(), ids=GOOD)
def test_a_certificate_is_one_file_with_its_chain_and_key(material):
    found = certificates.certificate(material)
    assert found.text == (LEAF.pem + LEAF.chain_pem + LEAF.key_pem).decode()
    assert found.names == ("www.example.org", "example.org")
    assert found.until == LEAF.certificate.not_valid_after_utc.replace(tzinfo=None)


@pytest.mark.parametrize(("material", "why"), BAD.values(), ids=BAD)
def test_a_bad_certificate_is_refused_with_a_sentence(material, why):
    with pytest.raises(Broken, match=why) as refused:
        certificates.certificate(material)
    assert "PRIVATE" not in str(refused.value)


def test_an_authority_is_one_certificate():
    assert certificates.authority(secret(CA.pem)).text.encode() == CA.pem
    for wrong in (CA.pem + OTHER.pem, b"", b"rubbish", CA.key_pem):
        with pytest.raises(Broken, match=r"not one X\.509 certificate"):
            certificates.authority(secret(wrong))
    with pytest.raises(Broken, match="RSA keys need 2048"):
        certificates.authority(secret(CA.issue("short", bits=1024).pem))


def test_a_revocation_list_is_signed_by_its_authority():
    listed = CA.revoke(OTHER)
    assert certificates.revocations(secret(listed), secret(CA.pem)).text.encode() == listed
    same_key = replace(CA, certificate=OTHER.certificate).revoke()
    for wrong in (pki.authority("Another").revoke(), pki.authority().revoke(), same_key):
        with pytest.raises(Broken, match="not signed by"):
            certificates.revocations(secret(wrong), secret(CA.pem))
    with pytest.raises(Broken, match="not a revocation list"):
        certificates.revocations(secret(b"rubbish"), secret(CA.pem))


def test_nothing_of_a_key_is_shown_by_repr():
    assert "PRIVATE" not in repr(secret(LEAF.bundle_pem)) + repr(certificates.certificate(secret(LEAF.bundle_pem)))


TREE = tree(
    {
        "listeners": [
            {"id": "good", "protocol": "TERMINATED_HTTPS", "protocol_port": 443, "default_tls_container_ref": "d",
             "sni_container_refs": ("s",), "default_pool_id": "p"},
            {"id": "plain", "protocol_port": 80, "default_pool_id": "p"},
        ],
        "pools": [{"id": "p", "tls_enabled": True, "ca_tls_container_ref": "ca", "members": [{"address": "10.0.0.1"}]}],
    }
)  # fmt: skip
ALL = {"d": secret(LEAF.p12()), "s": secret(OTHER.p12()), "ca": secret(CA.pem)}
SNI = tls.sni_file(TREE.listeners[0], "s")


def names(gathered):
    return sorted(x.id for x in gathered.tree.listeners)


def test_all_files_are_gathered():
    found = certificates.gather(TREE, ALL, ())
    assert (sorted(found.files), found.keep, found.problems) == (sorted(["good.pem", SNI, "p.ca"]), (), {})


def test_a_lost_secret_leaves_the_file_that_the_amphora_has():
    found = certificates.gather(TREE, {**ALL, "d": Broken("It is gone.")}, {"good.pem"})
    assert names(found) == ["good", "plain"]
    assert found.keep == ("good.pem",)
    assert found.problems == {"good": "It is gone."}


def test_a_new_amphora_serves_the_other_listeners():
    found = certificates.gather(TREE, {**ALL, "d": Broken("It is gone.", "Give another.")}, ())
    assert names(found) == ["plain"]
    assert sorted(found.files) == ["p.ca"]
    assert found.problems == {"good": "It is gone. Give another."}


def test_a_lost_sni_certificate_takes_only_its_own_names_away():
    found = certificates.gather(TREE, {**ALL, "s": Broken("It is gone.")}, ())
    assert found.tree.listeners[0].sni_container_refs == ()
    assert sorted(found.files) == ["good.pem", "p.ca"]


def test_members_get_nothing_without_what_checks_them():
    found = certificates.gather(TREE, {**ALL, "ca": Broken("It is gone.")}, ())
    files = haproxy.render(found.tree, ["10.0.0.10"], haproxy.Limits())
    assert "backend" not in files["haproxy.cfg"]


def test_a_silent_key_manager_is_waited_for_only_where_something_is_missing():
    away = {**ALL, "d": Later("The key manager does not answer.")}
    assert certificates.gather(TREE, away, {"good.pem"}).waiting == ()
    waits = certificates.gather(TREE, away, ())
    assert (waits.waiting, names(waits)) == (("The key manager does not answer.",), ["plain"])


def test_a_digest_follows_the_payloads_only():
    assert certificates.digest(secret(b"1", ref="a")) == certificates.digest(secret(b"1", ref="b"))
    assert certificates.digest(secret(b"1")) != certificates.digest(secret(b"2"))


@pytest.mark.parametrize(
    ("ciphers", "versions", "words"),
    [
        (None, None, "ssl-min-ver TLSv1.2 ssl-max-ver TLSv1.3"),
        ("A:TLS_AES_128_GCM_SHA256", ["TLSv1.2", "TLSv1.3"],
         "ciphers A ciphersuites TLS_AES_128_GCM_SHA256 ssl-min-ver TLSv1.2 ssl-max-ver TLSv1.3"),
        ("A:TLS_AES_128_GCM_SHA256", ["TLSv1.3"],
         "ciphersuites TLS_AES_128_GCM_SHA256 ssl-min-ver TLSv1.3 ssl-max-ver TLSv1.3"),
        ("A:TLS_AES_128_GCM_SHA256", ["TLSv1.2"], "ciphers A ssl-min-ver TLSv1.2 ssl-max-ver TLSv1.2"),
        ("TLS_AES_128_GCM_SHA256", ["TLSv1.2", "TLSv1.3"],
         "ciphersuites TLS_AES_128_GCM_SHA256 ssl-min-ver TLSv1.3 ssl-max-ver TLSv1.3"),
        ("A", ["TLSv1.3", "TLSv1.1"], "ciphers A ssl-min-ver TLSv1.1 ssl-max-ver TLSv1.3 no-tlsv12"),
    ],
)  # fmt: skip
def test_ciphers_and_versions(ciphers, versions, words):
    from colonnade.types import TlsVersion

    given = versions and [TlsVersion(v) for v in versions]
    assert " ".join(tls._strength(ciphers, given)) == words
