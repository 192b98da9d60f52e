"""L7 policies at work: what a real HAProxy answers to real requests."""

import datetime
import http.client
import ssl
import threading
import urllib.request
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from test_live import _serving


@pytest.fixture(scope="module")
def members():
    """Ports of two members, which answer with the name of their pool."""
    servers = []
    for name in ("p1", "p2"):

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            answer = name.encode()

            def do_GET(self):
                self.send_response(200)
                self.send_header("Content-Length", str(len(self.answer)))
                self.end_headers()
                self.wfile.write(self.answer)

            def log_message(self, *_):
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
    yield [s.server_address[1] for s in servers]
    for server in servers:
        server.shutdown()
        server.server_close()


def _tree(members, policies):
    pools = [
        {"id": name, "members": [{"address": "127.0.0.1", "protocol_port": port}]}
        for name, port in zip(("p1", "p2"), members, strict=True)
    ]
    return {"listeners": [{"id": "web", "default_pool_id": "p1", "policies": policies}], "pools": pools}


def _ask(front, path="/", headers=(), context=None):
    """Status, and the member's pool or the place that is redirected to."""
    if context:
        connection = http.client.HTTPSConnection("127.0.0.1", front, timeout=60, context=context)
    else:
        connection = http.client.HTTPConnection("127.0.0.1", front, timeout=60)
    with ExitStack() as stack:
        stack.callback(connection.close)
        connection.putrequest("GET", path, skip_host=any(k.lower() == "host" for k, _ in headers))
        for name, value in headers:
            connection.putheader(name, value)
        connection.endheaders()
        answer = connection.getresponse()
        body = answer.read().decode()
        return answer.status, body if answer.status == 200 else answer.getheader("Location")


ALL = [{"PATH": {"STARTS_WITH": "/"}}]


@pytest.mark.parametrize(
    ("policy", "path", "expect"),
    [
        ({"action": "REJECT"}, "/", (403, None)),
        ({"action": "REDIRECT_TO_POOL", "redirect_pool_id": "p2"}, "/", (200, "p2")),
        ({"action": "REDIRECT_TO_URL", "redirect_url": "https://new.example.com/x?y=1"}, "/a",
         (302, "https://new.example.com/x?y=1")),
        ({"action": "REDIRECT_PREFIX", "redirect_prefix": "https://new.example.com"}, "/a/b?c=d%20e",
         (302, "https://new.example.com/a/b?c=d%20e")),
    ],
)  # fmt: skip
def test_each_action(policy, path, expect, members, tmp_path):
    with _serving(_tree(members, [{**policy, "rules": ALL}]), tmp_path) as front:
        assert _ask(front, path) == expect


def test_each_code_of_a_redirect(members, tmp_path):
    policies = [
        {"action": action, **where, "redirect_http_code": code, "rules": [{"PATH": {"EQUAL_TO": f"/{action}/{code}"}}]}
        for code in (301, 302, 303, 307, 308)
        for action, where in (("REDIRECT_TO_URL", {"redirect_url": "http://x/"}),
                              ("REDIRECT_PREFIX", {"redirect_prefix": "http://x"}))
    ]  # fmt: skip
    with _serving(_tree(members, policies), tmp_path) as front:
        for code in (301, 302, 303, 307, 308):
            assert _ask(front, f"/REDIRECT_TO_URL/{code}") == (code, "http://x/")
            assert _ask(front, f"/REDIRECT_PREFIX/{code}") == (code, f"http://x/REDIRECT_PREFIX/{code}")


HOSTILE = "http://x/'\"$HOME${HOME}#\\%[env(HOME)]%%;{}|`%20\\n"


@pytest.mark.parametrize("action", ["REDIRECT_TO_URL", "REDIRECT_PREFIX"])
def test_a_location_is_what_was_given_to_the_letter(action, members, tmp_path):
    where = {"redirect_url": HOSTILE} if action == "REDIRECT_TO_URL" else {"redirect_prefix": HOSTILE}
    with _serving(_tree(members, [{"action": action, **where, "rules": ALL}]), tmp_path) as front:
        assert _ask(front) == (302, HOSTILE if action == "REDIRECT_TO_URL" else HOSTILE + "/")


def _h(value, name="X-K"):
    return ("/", [(name, value)])


def _c(value):
    return ("/", [("Cookie", value)])


def _host(value):
    return ("/", [("Host", value)])


RULES = [  # rule, requests it matches, requests it does not
    ({"HOST_NAME": {"EQUAL_TO": "www.example.com"}},
     [_host("www.example.com"), _host("WWW.Example.com"), _host("www.example.com:8080")],
     [_host("example.com"), _host("www.example.com.evil"), _host("xwww.example.com")]),
    ({"HOST_NAME": {"EQUAL_TO": "www.example.com:8080"}}, [_host("www.example.com:8080")], [_host("www.example.com")]),
    ({"HOST_NAME": {"STARTS_WITH": "WWW."}}, [_host("www.x")], [_host("x.www.")]),
    ({"HOST_NAME": {"ENDS_WITH": ".example.com"}}, [_host("a.EXAMPLE.com"), _host("a.example.com:81")], [_host("b")]),
    ({"HOST_NAME": {"CONTAINS": "amp"}}, [_host("eXAMPle.com")], [_host("am.p")]),
    ({"HOST_NAME": {"REGEX": r"^(a|b)\.example\.com$"}}, [_host("A.example.com"), _host("b.example.com:1")],
     [_host("c.example.com"), _host("aXexample.com")]),
    ({"PATH": {"EQUAL_TO": "/a"}}, [("/a", ()), ("/a?b=c", ())], [("/a/", ()), ("/A", ()), ("/x?/a", ())]),
    ({"PATH": {"STARTS_WITH": "/a"}}, [("/a/b", ()), ("/ab", ())], [("/b/a", ())]),
    ({"PATH": {"ENDS_WITH": "/a"}}, [("/b/a", ()), ("/a?x=y", ())], [("/a/b", ()), ("/b?x=/a", ())]),
    ({"PATH": {"CONTAINS": "b%20c"}}, [("/ab%20cd", ())], [("/abc", ()), ("/?b%20c", ())]),
    ({"PATH": {"REGEX": r"^/v[0-9]+/(x|y)$"}}, [("/v12/x", ()), ("/v1/y?q", ())], [("/va/x", ()), ("/v1/xy", ())]),
    ({"FILE_TYPE": {"EQUAL_TO": "jpg"}}, [("/a/b.jpg", ()), ("/b.tar.jpg?x=1", ())],
     [("/jpg", ()), ("/b.jpg/c", ()), ("/b.jpgx", ()), ("/b?x.jpg", ())]),
    ({"FILE_TYPE": {"EQUAL_TO": ".png"}}, [("/b.png", ())], [("/b.jpg", ())]),
    ({"FILE_TYPE": {"REGEX": r"\.(jpe?g|png)$"}}, [("/b.jpeg", ()), ("/b.png?x", ())], [("/b.gif", ())]),
    ({"HEADER": {"EQUAL_TO": "v"}, "key": "X-K"}, [_h("v"), _h("v", "x-k"), _h("u, v")],
     [_h("V"), _h("vv"), ("/", ()), _h("v", "X-L")]),
    ({"HEADER": {"EQUAL_TO": "a,b"}, "key": "X-K"}, [_h("a,b")], [_h("a"), _h("a, b")]),
    ({"HEADER": {"EQUAL_TO": '"with space"'}, "key": "X-K"}, [_h("with space"), _h('"with space"')], [_h("with")]),
    ({"HEADER": {"STARTS_WITH": "Mozilla/5"}, "key": "User-Agent"}, [_h("Mozilla/5.0 (a, b)", "User-Agent")],
     [_h("curl", "User-Agent")]),
    ({"HEADER": {"ENDS_WITH": "z"}, "key": "X-K"}, [_h("abz"), _h("z")], [_h("za")]),
    ({"HEADER": {"CONTAINS": "'{$HOME}#"}, "key": "X-K"}, [_h("a'{$HOME}#b")], [_h("a")]),
    ({"HEADER": {"REGEX": r"^a.*, b$"}, "key": "X-K"}, [_h("a x, b")], [_h("a x")]),
    ({"HEADER": {"EQUAL_TO": "-i"}, "key": "X-'`|~!#$%&*+.^_"}, [_h("-i", "X-'`|~!#$%&*+.^_")], [_h("-I")]),
    ({"COOKIE": {"EQUAL_TO": "v"}, "key": "k"}, [_c("k=v"), _c("a=b; k=v")], [_c("k=vv"), _c("K=v"), _c("a=v")]),
    ({"COOKIE": {"STARTS_WITH": "a"}, "key": "k"}, [_c("k=abc")], [_c("k=bca"), ("/", ())]),
    ({"COOKIE": {"ENDS_WITH": "c"}, "key": "k"}, [_c("k=abc")], [_c("k=bca")]),
    ({"COOKIE": {"CONTAINS": "b"}, "key": "k'`|"}, [_c("k'`|=abc")], [_c("k=abc"), _c("k'`|=ac")]),
    ({"COOKIE": {"REGEX": "^[0-9]+$"}, "key": "k"}, [_c("k=12")], [_c("k=1a")]),
    ({"SSL_CONN_HAS_CERT": {"EQUAL_TO": "True"}}, [], [("/", ())]),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "matching", "other"), RULES, ids=lambda v: str(v) if isinstance(v, dict) else "")
def test_each_type_and_comparison(rule, matching, other, members, tmp_path):
    """Also inverted: a second policy sends whatever the first does not match to another pool."""
    policies = [
        {"action": "REJECT", "rules": [rule]},
        {"action": "REDIRECT_TO_POOL", "redirect_pool_id": "p2", "rules": [{**rule, "invert": True}]},
    ]
    with _serving(_tree(members, policies), tmp_path) as front:
        for path, headers in matching:
            assert _ask(front, path, headers) == (403, None), (path, headers)
        for path, headers in other:
            assert _ask(front, path, headers) == (200, "p2"), (path, headers)


def test_all_rules_of_a_policy_must_match(members, tmp_path):
    rules = [{"PATH": {"STARTS_WITH": "/a"}}, {"HEADER": {"EQUAL_TO": "1"}, "key": "X-K"},
             {"COOKIE": {"EQUAL_TO": "1"}, "key": "k", "invert": True}]  # fmt: skip
    with _serving(_tree(members, [{"action": "REJECT", "rules": rules}]), tmp_path) as front:
        assert _ask(front, "/a", [("X-K", "1")]) == (403, None)
        assert _ask(front, "/a", [("X-K", "1"), ("Cookie", "k=1")]) == (200, "p1")
        assert _ask(front, "/a") == _ask(front, "/b", [("X-K", "1")]) == (200, "p1")


POLICIES = {
    "reject": ({"action": "REJECT"}, (403, None)),
    "url": ({"action": "REDIRECT_TO_URL", "redirect_url": "http://x/"}, (302, "http://x/")),
    "pool": ({"action": "REDIRECT_TO_POOL", "redirect_pool_id": "p2"}, (200, "p2")),
    "prefix": ({"action": "REDIRECT_PREFIX", "redirect_prefix": "http://y"}, (302, "http://y/")),
}


@pytest.mark.parametrize("first", POLICIES)
@pytest.mark.parametrize("second", POLICIES)
def test_the_first_policy_that_matches_decides(first, second, members, tmp_path):
    policies = [{**POLICIES[name][0], "rules": ALL} for name in (first, second)]
    not_here = [{"PATH": {"EQUAL_TO": "/not-here"}}]
    with _serving(_tree(members, [{"action": "REJECT", "rules": not_here}, *policies]), tmp_path) as front:
        assert _ask(front) == POLICIES[first][1]


def test_each_request_of_a_connection_is_decided_anew(members, tmp_path):
    policies = [{"action": "REDIRECT_TO_POOL", "redirect_pool_id": "p2", "rules": [{"PATH": {"EQUAL_TO": "/2"}}]}]
    with _serving(_tree(members, policies), tmp_path) as front, ExitStack() as stack:
        connection = http.client.HTTPConnection("127.0.0.1", front, timeout=60)
        stack.callback(connection.close)
        seen = []
        for path in ("/1", "/2", "/1", "/2"):
            connection.request("GET", path)
            seen.append(connection.getresponse().read())
        assert seen == [b"p1", b"p2", b"p1", b"p2"]


def test_each_pool_keeps_a_browser_by_a_cookie_of_its_own(members, tmp_path):
    pools = [
        {"id": name, "session_persistence": {"type": "HTTP_COOKIE"},
         "members": [{"address": "127.0.0.1", "protocol_port": port} for port in members]}
        for name in ("p1", "p2")
    ]  # fmt: skip
    policy = {"action": "REDIRECT_TO_POOL", "redirect_pool_id": "p2", "rules": [{"PATH": {"STARTS_WITH": "/two"}}]}
    tree = {"listeners": [{"id": "web", "default_pool_id": "p1", "policies": [policy]}], "pools": pools}
    with _serving(tree, tmp_path) as front:
        browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
        paths = ("/one", "/two", "/two", "/one") * 3
        seen = {(p, browser.open(f"http://127.0.0.1:{front}{p}").read()) for p in paths}
    assert len(seen) == 2


def test_rules_look_at_what_the_client_sent(members, tmp_path):
    given = _tree(members, [{"action": "REJECT", "rules": [{"HEADER": {"REGEX": "."}, "key": "X-Forwarded-Port"}]}])
    given["listeners"][0]["insert_headers"] = {"X-Forwarded-Port": "true", "X-Forwarded-For": "true"}
    with _serving(given, tmp_path) as front:
        assert _ask(front) == (200, "p1")
        assert _ask(front, "/", [("X-Forwarded-Port", "1")]) == (403, None)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """A directory with server.pem, ca.pem, and clients' alice.pem (of the CA), mallory.pem (of none)."""
    place = tmp_path_factory.mktemp("certificates")
    ca_key = ec.generate_private_key(ec.SECP256R1())
    ca = _certificate("CA", ca_key, "CA", ca_key)
    (place / "ca.pem").write_bytes(ca.public_bytes(serialization.Encoding.PEM))
    for name, issuer_key in (("server", ca_key), ("Alice A", ca_key), ("Mallory", None)):
        key = ec.generate_private_key(ec.SECP256R1())
        made = _certificate(name, key, "CA" if issuer_key else name, issuer_key or key)
        kind = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        pem = made.public_bytes(serialization.Encoding.PEM) + key.private_bytes(*kind)
        (place / f"{name.split()[0].lower()}.pem").write_bytes(pem)
    return place


def _certificate(name, key, issuer, issuer_key):
    now = datetime.datetime.now(datetime.UTC)
    names = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, n)]) for n in (name, issuer)]
    builder = x509.CertificateBuilder().subject_name(names[0]).issuer_name(names[1]).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(days=1))
    builder = builder.not_valid_after(now + datetime.timedelta(days=1))
    builder = builder.add_extension(x509.BasicConstraints(ca=name == "CA", path_length=None), critical=True)
    return builder.sign(issuer_key, hashes.SHA256())


@pytest.mark.parametrize(
    ("rule", "matching"),
    [
        ({"SSL_CONN_HAS_CERT": {"EQUAL_TO": "true"}}, {"alice", "mallory"}),
        ({"SSL_VERIFY_RESULT": {"EQUAL_TO": "0"}}, {"alice", None}),
        ({"SSL_VERIFY_RESULT": {"EQUAL_TO": "18"}}, {"mallory"}),  # self-signed
        ({"SSL_DN_FIELD": {"EQUAL_TO": "Alice A"}, "key": "CN"}, {"alice"}),
        ({"SSL_DN_FIELD": {"STARTS_WITH": "Mall"}, "key": "CN"}, {"mallory"}),
        ({"SSL_DN_FIELD": {"ENDS_WITH": "ory"}, "key": "CN"}, {"mallory"}),
        ({"SSL_DN_FIELD": {"CONTAINS": "l"}, "key": "CN"}, {"alice", "mallory"}),
        ({"SSL_DN_FIELD": {"REGEX": "^A.*A$"}, "key": "CN"}, {"alice"}),
    ],
    ids=lambda v: str(v) if isinstance(v, dict) else "",
)
def test_rules_of_client_certificates(rule, matching, members, certificates, tmp_path):
    bind = f"ssl crt {certificates}/server.pem ca-file {certificates}/ca.pem verify optional crt-ignore-err all"
    policies = [
        {"action": "REJECT", "rules": [rule]},
        {"action": "REDIRECT_TO_POOL", "redirect_pool_id": "p2", "rules": [{**rule, "invert": True}]},
    ]
    with _serving(_tree(members, policies), tmp_path, f"{bind} ca-ignore-err all") as front:
        for client in ("alice", "mallory", None):
            context = ssl.create_default_context(cafile=str(certificates / "ca.pem"))
            context.check_hostname = False
            if client:
                context.load_cert_chain(certificates / f"{client}.pem")
            expect = (403, None) if client in matching else (200, "p2")
            assert _ask(front, context=context) == expect, client
