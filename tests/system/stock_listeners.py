"""Rows about listeners, and about what they and pools speak TLS with."""

import base64

from stock_balancers import ordered
from stock_rows import Row, Step, World

from tests import pki

_CIPHERS = "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256"
_HEADERS = (
    "X-Forwarded-For", "X-Forwarded-Port", "X-Forwarded-Proto", "X-SSL-Client-Verify", "X-SSL-Client-Has-Cert",
    "X-SSL-Client-DN", "X-SSL-Client-CN", "X-SSL-Issuer", "X-SSL-Client-SHA1", "X-SSL-Client-Not-Before",
    "X-SSL-Client-Not-After",
)  # fmt: skip
LB = (Row("loadbalancer create --name lb --vip-subnet-id private-subnet --wait", keep="lb"),)


def secrets(world: World) -> None:
    """What listeners and pools speak TLS with, by the names $server, $sni, $ca, $crl."""
    ca = pki.authority()
    stored = {"server": ca.issue("www.test").p12(), "sni": ca.issue("sni.test").p12(), "ca": ca.pem, "crl": ca.revoke()}
    for name, payload in stored.items():
        text = base64.b64encode(payload).decode()
        typed = "--payload-content-type application/octet-stream --payload-content-encoding base64"
        _, out, _ = world.run(f"secret store --name {name} {typed} --payload {text}", form=True)
        world.names[name] = out["Secret href"]


def forget(world: World) -> None:
    """Remove them again: nothing uses them any more."""
    for name in ("server", "sni", "ca", "crl"):
        code, _, err = world.run(f"secret delete ${name}")
        assert code == 0, err


LISTENERS: list[Step] = [
    *LB,
    Row("loadbalancer pool create --name p1 --protocol HTTP --lb-algorithm ROUND_ROBIN --loadbalancer lb", keep="p1"),
    Row("loadbalancer pool create --name p2 --protocol HTTP --lb-algorithm ROUND_ROBIN --loadbalancer lb", keep="p2"),
    Row(
        "loadbalancer listener create --name web --description d --protocol HTTP --protocol-port 80 "
        "--connection-limit 100 --default-pool p1 --insert-headers X-Forwarded-For=true,X-Forwarded-Port=true "
        "--timeout-client-data 1000 --timeout-member-connect 2000 --timeout-member-data 3000 --timeout-tcp-inspect 4 "
        "--disable --allowed-cidr 192.0.2.0/24 --allowed-cidr ${net}.0/24 --tag red --tag blue --wait lb",
        "loadbalancer listener show web",
        {"name": "web", "description": "d", "protocol": "HTTP", "protocol_port": 80, "connection_limit": 100,
         "default_pool_id": "${p1}", "insert_headers": {"X-Forwarded-For": "true", "X-Forwarded-Port": "true"},
         "timeout_client_data": 1000, "timeout_member_connect": 2000, "timeout_member_data": 3000,
         "timeout_tcp_inspect": 4, "admin_state_up": False, "provisioning_status": "ACTIVE", "tags": ["blue", "red"],
         "operating_status": "OFFLINE", "client_authentication": "NONE",
         "allowed_cidrs": ["192.0.2.0/24", "${net}.0/24"]},
        keep="web",
    ),
    Row("loadbalancer listener show $web", shows={"name": "web"}),
    Row("loadbalancer listener create --name plain --protocol TCP --protocol-port 81 --enable --no-tag lb",
        "loadbalancer listener show plain", {"protocol": "TCP", "admin_state_up": True, "default_pool_id": None}),
    Row("loadbalancer listener create --name pass --protocol HTTPS --protocol-port 82 --tag blue lb",
        "loadbalancer listener show pass", {"protocol": "HTTPS", "provisioning_status": "ACTIVE"}),
    Row("loadbalancer listener create --name dgram --protocol UDP --protocol-port 80 --wait lb",
        "loadbalancer listener show dgram", {"protocol": "UDP", "provisioning_status": "ACTIVE"}),
    Row("loadbalancer listener create --name metrics --protocol PROMETHEUS --protocol-port 8080 --wait lb",
        "loadbalancer listener show metrics", {"protocol": "PROMETHEUS", "provisioning_status": "ACTIVE"}),
    Row("loadbalancer listener create --name sctp --protocol SCTP --protocol-port 83 --wait lb",
        "loadbalancer listener show sctp", {"protocol": "SCTP", "provisioning_status": "ACTIVE"}),
    Row("loadbalancer listener delete dgram", "loadbalancer listener show dgram", gone=True),
    Row("loadbalancer listener delete metrics", "loadbalancer listener show metrics", gone=True),
    Row("loadbalancer listener delete sctp", "loadbalancer listener show sctp", gone=True),
    # Lists
    Row("loadbalancer listener list", shows=["web", "plain", "pass"]),
    Row("loadbalancer listener list --name web", shows=["web"]),
    Row("loadbalancer listener list --loadbalancer lb", shows=["web", "plain", "pass"]),
    Row("loadbalancer listener list --enable", shows=["plain", "pass"]),
    Row("loadbalancer listener list --disable", shows=["web"]),
    Row("loadbalancer listener list --project admin", shows=["web", "plain", "pass"]),
    Row("loadbalancer listener list --project demo", shows=[]),
    Row("loadbalancer listener list --tags red,blue", shows=["web"]),
    Row("loadbalancer listener list --any-tags red,blue", shows=["web", "pass"]),
    Row("loadbalancer listener list --not-tags red,blue", shows=["plain", "pass"]),
    Row("loadbalancer listener list --not-any-tags red,blue", shows=["plain"]),
    Row("loadbalancer listener list --sort-column name --sort-ascending", shows=ordered("pass", "plain", "web")),
    Row("loadbalancer listener list --sort-column name --sort-descending", shows=ordered("web", "plain", "pass")),
    # Changes
    Row(
        "loadbalancer listener set web --name www --description e --connection-limit 200 --default-pool p2 "
        "--insert-headers X-Forwarded-Proto=true --timeout-client-data 1001 --timeout-member-connect 2001 "
        "--timeout-member-data 3001 --timeout-tcp-inspect 5 --enable --allowed-cidr ${net}.0/24 --tag green --wait",
        "loadbalancer listener show www",
        {"description": "e", "connection_limit": 200, "default_pool_id": "${p2}",
         "insert_headers": {"X-Forwarded-Proto": "true"}, "timeout_client_data": 1001, "timeout_member_connect": 2001,
         "timeout_member_data": 3001, "timeout_tcp_inspect": 5, "admin_state_up": True,
         "tags": ["blue", "green", "red"], "provisioning_status": "ACTIVE", "allowed_cidrs": ["${net}.0/24"]},
    ),
    Row("loadbalancer listener show www", "loadbalancer listener show www", {"operating_status": "ONLINE"}),
    Row("loadbalancer listener set www --disable --no-tag --tag black", "loadbalancer listener show www",
        {"admin_state_up": False, "tags": ["black"]}),
    Row("loadbalancer listener unset www --tag black", "loadbalancer listener show www", {"tags": []}),
    Row("loadbalancer listener set www --tag a --tag b", "loadbalancer listener show www", {"tags": ["a", "b"]}),
    Row(
        "loadbalancer listener unset www --name --description --connection-limit --default-pool --insert-headers "
        "--timeout-client-data --timeout-member-connect --timeout-member-data --timeout-tcp-inspect --allowed-cidrs "
        "--all-tag --wait",
        "loadbalancer listener show $web",
        {"name": "", "description": "", "connection_limit": -1, "default_pool_id": None, "insert_headers": {},
         "timeout_client_data": 50000, "timeout_member_connect": 5000, "timeout_member_data": 50000,
         "timeout_tcp_inspect": 0, "allowed_cidrs": None, "tags": [], "provisioning_status": "ACTIVE"},
    ),
    # Refusals
    Row("loadbalancer listener create --name x --protocol HTTP --protocol-port 80 lb", says="(HTTP 409)"),
    Row("loadbalancer listener create --name x --protocol HTTP --protocol-port 0 lb", says="protocol-port"),
    Row("loadbalancer listener create --name x --protocol HTTP --protocol-port 85 nosuch",
        says="Unable to locate nosuch in loadbalancers"),
    Row("loadbalancer listener create --name x --protocol HTTP --protocol-port 85 --insert-headers X-No=true lb",
        says="(HTTP 400)"),
    Row("loadbalancer listener delete pass --wait", "loadbalancer listener show pass", gone=True),
    Row("loadbalancer listener delete plain", "loadbalancer listener show plain", gone=True),
]  # fmt: skip

TLS: list[Step] = [
    *LB,
    secrets,
    Row(
        "loadbalancer listener create --name tls --protocol TERMINATED_HTTPS --protocol-port 443 "
        "--default-tls-container-ref $server --sni-container-refs $sni $server --client-ca-tls-container-ref $ca "
        "--client-authentication OPTIONAL --client-crl-container-ref $crl --tls-version TLSv1.2 --tls-version TLSv1.3 "
        f"--tls-ciphers {_CIPHERS} --alpn-protocol h2 --alpn-protocol http/1.1 --hsts-max-age 300 "
        "--hsts-include-subdomains --hsts-preload --wait lb",
        "loadbalancer listener show tls",
        {"protocol": "TERMINATED_HTTPS", "default_tls_container_ref": "${server}",
         "client_ca_tls_container_ref": "${ca}", "client_authentication": "OPTIONAL",
         "client_crl_container_ref": "${crl}", "tls_versions": ["TLSv1.2", "TLSv1.3"], "tls_ciphers": _CIPHERS,
         "alpn_protocols": ["h2", "http/1.1"], "hsts_max_age": 300, "hsts_include_subdomains": True,
         "hsts_preload": True, "sni_container_refs": ["${sni}", "${server}"], "provisioning_status": "ACTIVE"},
    ),
    *(Row(f"loadbalancer listener create --name a{n} --protocol TERMINATED_HTTPS --protocol-port {n} "
          f"--default-tls-container-ref $server --client-ca-tls-container-ref $ca --client-authentication {how} lb",
          f"loadbalancer listener show a{n}", {"client_authentication": how})
      for n, how in ((444, "MANDATORY"), (445, "NONE"))),
    *(Row(f"loadbalancer listener set tls --insert-headers {h}=true", "loadbalancer listener show tls",
          {"insert_headers": {h: "true"}}) for h in _HEADERS),
    Row(
        "loadbalancer listener set tls --default-tls-container-ref $sni --sni-container-refs $server "
        "--client-ca-tls-container-ref $ca --client-authentication MANDATORY --client-crl-container-ref $crl "
        "--tls-version TLSv1.3 --tls-ciphers ECDHE-RSA-AES256-GCM-SHA384 --alpn-protocol http/1.1 --hsts-max-age 400 "
        "--wait",
        "loadbalancer listener show tls",
        {"default_tls_container_ref": "${sni}", "client_authentication": "MANDATORY", "tls_versions": ["TLSv1.3"],
         "tls_ciphers": "ECDHE-RSA-AES256-GCM-SHA384", "alpn_protocols": ["http/1.1"], "hsts_max_age": 400,
         "sni_container_refs": ["${server}"], "provisioning_status": "ACTIVE"},
    ),
    Row("loadbalancer listener unset tls --hsts-include-subdomains --hsts-preload", "loadbalancer listener show tls",
        {"hsts_max_age": 400, "hsts_include_subdomains": False, "hsts_preload": False}),
    Row("loadbalancer listener set tls --hsts-max-age 500 --hsts-include-subdomains --hsts-preload",
        "loadbalancer listener show tls",
        {"hsts_max_age": 500, "hsts_include_subdomains": True, "hsts_preload": True}),
    *(Row(f"loadbalancer listener set tls --client-authentication {how}", "loadbalancer listener show tls",
          {"client_authentication": how}) for how in ("NONE", "OPTIONAL")),
    Row("loadbalancer listener unset tls --client-crl-container-ref", "loadbalancer listener show tls",
        {"client_crl_container_ref": None}),
    Row(
        "loadbalancer listener unset tls --client-ca-tls-container-ref --client-authentication --sni-container-refs "
        "--tls-versions --tls-ciphers --alpn-protocols --hsts-max-age --hsts-include-subdomains --hsts-preload --wait",
        "loadbalancer listener show tls",
        {"client_ca_tls_container_ref": None, "client_authentication": "NONE", "sni_container_refs": [],
         "hsts_max_age": None, "hsts_preload": False, "provisioning_status": "ACTIVE"},
    ),
    Row("loadbalancer listener show tls",
        shows=lambda _, out: out["tls_versions"] == ["TLSv1.2", "TLSv1.3"] and len(out["tls_ciphers"]) > 100
        and out["alpn_protocols"] == ["h2", "http/1.1", "http/1.0"]),
    Row("loadbalancer listener set tls --sni-container-refs $server", "loadbalancer listener show tls",
        {"sni_container_refs": ["${server}"]}),
    Row("loadbalancer listener unset tls --default-tls-container-ref --wait", "loadbalancer listener show tls",
        {"default_tls_container_ref": None, "provisioning_status": "ACTIVE"}),
    Row("loadbalancer listener create --name x --protocol TERMINATED_HTTPS --protocol-port 446 lb", says="(HTTP 400)"),
    Row("loadbalancer listener create --name x --protocol TERMINATED_HTTPS --protocol-port 446 "
        "--default-tls-container-ref $ca lb", says="(HTTP 400)"),
    Row("loadbalancer listener create --name x --protocol TERMINATED_HTTPS --protocol-port 446 "
        "--default-tls-container-ref ${server}x lb", says="(HTTP 400)"),
    # Pools that speak TLS
    Row(
        "loadbalancer pool create --name p --protocol HTTP --lb-algorithm ROUND_ROBIN --loadbalancer lb "
        "--tls-container-ref $server --ca-tls-container-ref $ca --crl-container-ref $crl --enable-tls "
        f"--tls-ciphers {_CIPHERS} --tls-version TLSv1.2 --alpn-protocol h2 --alpn-protocol http/1.1 --wait",
        "loadbalancer pool show p",
        {"tls_container_ref": "${server}", "ca_tls_container_ref": "${ca}", "crl_container_ref": "${crl}",
         "tls_enabled": True, "tls_ciphers": _CIPHERS, "tls_versions": ["TLSv1.2"],
         "alpn_protocols": ["h2", "http/1.1"], "provisioning_status": "ACTIVE"},
    ),
    Row("loadbalancer pool create --name q --protocol HTTP --lb-algorithm ROUND_ROBIN --loadbalancer lb --disable-tls",
        "loadbalancer pool show q", {"tls_enabled": False}),
    Row(
        "loadbalancer pool set q --enable-tls --tls-container-ref $sni --ca-tls-container-ref $ca --crl-container-ref "
        "$crl --tls-ciphers ECDHE-RSA-AES256-GCM-SHA384 --tls-version TLSv1.3 --alpn-protocol http/1.1 --wait",
        "loadbalancer pool show q",
        {"tls_enabled": True, "tls_container_ref": "${sni}", "ca_tls_container_ref": "${ca}",
         "crl_container_ref": "${crl}", "tls_ciphers": "ECDHE-RSA-AES256-GCM-SHA384", "tls_versions": ["TLSv1.3"],
         "alpn_protocols": ["http/1.1"], "provisioning_status": "ACTIVE"},
    ),
    Row(
        "loadbalancer pool unset q --crl-container-ref --tls-container-ref --tls-versions --tls-ciphers "
        "--alpn-protocols --wait",
        "loadbalancer pool show q",
        {"crl_container_ref": None, "tls_container_ref": None, "ca_tls_container_ref": "${ca}", "tls_enabled": True,
         "provisioning_status": "ACTIVE"},
    ),
    Row("loadbalancer pool unset q --ca-tls-container-ref", "loadbalancer pool show q", {"ca_tls_container_ref": None}),
    Row("loadbalancer pool set q --disable-tls", "loadbalancer pool show q", {"tls_enabled": False}),
    Row("secret delete $server", says="consumers"),
    Row("loadbalancer delete lb --cascade --wait", "loadbalancer show lb", gone=True),
    forget,
]  # fmt: skip
