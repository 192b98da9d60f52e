"""Rows about pools, their members and their monitors."""

from stock_balancers import ordered
from stock_listeners import LB
from stock_rows import Row, Step

_METHODS = ("GET", "POST", "DELETE", "PUT", "HEAD", "OPTIONS", "PATCH", "CONNECT", "TRACE")
_MONITORS = {"PING": "TCP", "TCP": "TCP", "HTTP": "HTTP", "HTTPS": "HTTPS", "TLS-HELLO": "HTTPS", "UDP-CONNECT": "UDP",
             "SCTP": "SCTP"}  # type: protocol of its pool  # fmt: skip
_POOL = "loadbalancer pool create --lb-algorithm ROUND_ROBIN --loadbalancer lb"


POOLS: list[Step] = [
    *LB,
    Row("loadbalancer listener create --name web --protocol HTTP --protocol-port 80 lb", keep="web"),
    Row(
        "loadbalancer pool create --name one --description d --protocol HTTP --listener web --lb-algorithm ROUND_ROBIN "
        "--session-persistence type=APP_COOKIE,cookie_name=sid --disable --tag red --tag blue --wait",
        "loadbalancer pool show one",
        {"description": "d", "protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN", "admin_state_up": False,
         "tags": ["blue", "red"], "provisioning_status": "ACTIVE", "operating_status": "OFFLINE"},
        keep="one",
    ),
    Row("loadbalancer pool show $one",
        shows=lambda w, out: (out["session_persistence"]["type"], out["session_persistence"]["cookie_name"])
        == ("APP_COOKIE", "sid") and out["listeners"] == [{"id": w.names["web"]}]),
    Row("loadbalancer listener show web", shows={"default_pool_id": "${one}"}),
    Row("loadbalancer pool create --name two --protocol TCP --loadbalancer lb --lb-algorithm SOURCE_IP --enable "
        "--no-tag",
        "loadbalancer pool show two",
        {"protocol": "TCP", "lb_algorithm": "SOURCE_IP", "admin_state_up": True}),
    *(Row(f"{_POOL} --name p-{p} --protocol {p} --wait", f"loadbalancer pool show p-{p}",
          {"protocol": p, "provisioning_status": "ACTIVE"})
      for p in ("HTTP", "TCP", "HTTPS", "PROXY", "PROXYV2", "UDP", "SCTP")),
    *(Row(f"loadbalancer pool create --name a-{a} --loadbalancer lb --protocol TCP --lb-algorithm {a}",
          f"loadbalancer pool show a-{a}", {"lb_algorithm": a})
      for a in ("LEAST_CONNECTIONS", "SOURCE_IP_PORT")),
    *(Row(f"loadbalancer pool delete p-{p}", f"loadbalancer pool show p-{p}", gone=True)
      for p in ("HTTP", "TCP", "HTTPS", "PROXY", "PROXYV2", "UDP", "SCTP")),
    *(Row(f"loadbalancer pool delete a-{a} --wait", f"loadbalancer pool show a-{a}", gone=True)
      for a in ("LEAST_CONNECTIONS", "SOURCE_IP_PORT")),
    # Lists
    Row("loadbalancer create --name other --vip-subnet-id private-subnet"),
    Row("loadbalancer pool create --name away --protocol HTTP --lb-algorithm ROUND_ROBIN --loadbalancer other "
        "--tag blue"),
    Row("loadbalancer pool list", shows=["one", "two", "away"]),
    Row("loadbalancer pool list --loadbalancer lb", shows=["one", "two"]),
    Row("loadbalancer pool list --tags red,blue", shows=["one"]),
    Row("loadbalancer pool list --any-tags red,blue", shows=["one", "away"]),
    Row("loadbalancer pool list --not-tags red,blue", shows=["two", "away"]),
    Row("loadbalancer pool list --not-any-tags red,blue", shows=["two"]),
    Row("loadbalancer pool list --sort-column name --sort-ascending", shows=ordered("away", "one", "two")),
    Row("loadbalancer pool list --sort-column name --sort-descending", shows=ordered("two", "one", "away")),
    # Changes
    Row("loadbalancer pool set one --name uno --description e --session-persistence type=HTTP_COOKIE "
        "--lb-algorithm LEAST_CONNECTIONS --enable --tag green --wait",
        "loadbalancer pool show uno",
        {"id": "${one}", "description": "e", "lb_algorithm": "LEAST_CONNECTIONS", "admin_state_up": True,
         "tags": ["blue", "green", "red"], "provisioning_status": "ACTIVE"}),
    Row("loadbalancer pool show uno", "loadbalancer pool show uno", {"operating_status": "ONLINE"}),
    Row("loadbalancer pool show uno", shows=lambda _, out: out["session_persistence"]["type"] == "HTTP_COOKIE"),
    *(Row(f"loadbalancer pool set two --lb-algorithm {a}", "loadbalancer pool show two", {"lb_algorithm": a})
      for a in ("ROUND_ROBIN", "SOURCE_IP", "SOURCE_IP_PORT")),
    Row("loadbalancer pool set uno --disable --no-tag --tag black", "loadbalancer pool show uno",
        {"admin_state_up": False, "tags": ["black"]}),
    Row("loadbalancer pool unset uno --tag black", "loadbalancer pool show uno", {"tags": []}),
    Row("loadbalancer pool set uno --tag a --tag b", "loadbalancer pool show uno", {"tags": ["a", "b"]}),
    Row("loadbalancer pool unset uno --name --description --session-persistence --all-tag --wait",
        "loadbalancer pool show $one",
        {"name": "", "description": "", "session_persistence": None, "tags": [], "provisioning_status": "ACTIVE"}),
    # Refusals
    Row("loadbalancer pool create --name x --protocol HTTP --lb-algorithm ROUND_ROBIN", says="required"),
    Row(f"{_POOL} --name x --protocol HTTP --session-persistence type=APP_COOKIE", says="(HTTP 400)"),
    Row("loadbalancer pool create --name x --protocol HTTP --lb-algorithm ROUND_ROBIN --listener nosuch",
        says="Unable to locate nosuch in listeners"),
    Row("loadbalancer pool show nosuch", says="Unable to locate nosuch in pools"),
]  # fmt: skip

MEMBERS: list[Step] = [
    *LB,
    Row("loadbalancer listener create --name web --protocol HTTP --protocol-port 80 lb"),
    Row("loadbalancer pool create --name pool --protocol HTTP --lb-algorithm ROUND_ROBIN --listener web", keep="pool"),
    Row(
        "loadbalancer member create --name one --enable-backup --weight 5 --address ${net}.200 --subnet-id "
        "private-subnet --protocol-port 8080 --monitor-port 8081 --monitor-address ${net}.201 --disable --tag red "
        "--tag blue --wait pool",
        "loadbalancer member show pool one",
        {"backup": True, "weight": 5, "address": "${net}.200", "subnet_id": "${private_subnet}", "protocol_port": 8080,
         "monitor_port": 8081, "monitor_address": "${net}.201", "admin_state_up": False, "tags": ["blue", "red"],
         "provisioning_status": "ACTIVE", "vnic_type": "normal"},
        keep="one",
    ),
    Row("loadbalancer member show $pool $one", "loadbalancer member show $pool $one", {"operating_status": "OFFLINE"}),
    Row("loadbalancer member create --name two --disable-backup --address ${net}.202 --protocol-port 80 --enable "
        "--no-tag $pool",
        "loadbalancer member show $pool two",
        {"backup": False, "weight": 1, "subnet_id": None, "admin_state_up": True, "operating_status": "NO_MONITOR"}),
    Row("loadbalancer member create --name three --address ${net}.203 --protocol-port 80 --tag blue pool"),
    Row("loadbalancer member create --name four --address ${net}.204 --subnet-id private-subnet --protocol-port 80 "
        "--request-sriov pool", says="request_sriov needs a flavor with allow_member_sriov"),
    # Lists
    Row("loadbalancer member list pool", shows=["one", "two", "three"]),
    Row("loadbalancer member list pool --tags red,blue", shows=["one"]),
    Row("loadbalancer member list pool --any-tags red,blue", shows=["one", "three"]),
    Row("loadbalancer member list pool --not-tags red,blue", shows=["two", "three"]),
    Row("loadbalancer member list pool --not-any-tags red,blue", shows=["two"]),
    Row("loadbalancer member list pool --sort-column name --sort-ascending", shows=ordered("one", "three", "two")),
    Row("loadbalancer member list pool --sort-column name --sort-descending", shows=ordered("two", "three", "one")),
    # Changes
    Row("loadbalancer member set pool one --name uno --disable-backup --weight 0 --monitor-port 90 --monitor-address "
        "${net}.205 --enable --tag green --wait",
        "loadbalancer member show pool uno",
        {"id": "${one}", "backup": False, "weight": 0, "monitor_port": 90, "monitor_address": "${net}.205",
         "admin_state_up": True, "tags": ["blue", "green", "red"], "provisioning_status": "ACTIVE"}),
    Row("loadbalancer member show pool uno", "loadbalancer member show pool uno", {"operating_status": "DRAINING"}),
    Row("loadbalancer member set pool uno --enable-backup --disable --no-tag --tag black",
        "loadbalancer member show pool uno", {"backup": True, "admin_state_up": False, "tags": ["black"]}),
    Row("loadbalancer member unset pool uno --tag black", "loadbalancer member show pool uno", {"tags": []}),
    Row("loadbalancer member set pool uno --tag a --tag b", "loadbalancer member show pool uno", {"tags": ["a", "b"]}),
    Row("loadbalancer member unset pool uno --backup --monitor-address --monitor-port --name --weight --all-tag --wait",
        "loadbalancer member show pool $one",
        {"backup": False, "monitor_address": None, "monitor_port": None, "name": "", "weight": 1, "tags": [],
         "provisioning_status": "ACTIVE"}),
    # Refusals
    Row("loadbalancer member create --address ${net}.202 --protocol-port 80 pool", says="(HTTP 409)"),
    Row("loadbalancer member create --address nosuch --protocol-port 80 pool", says="(HTTP 400)"),
    Row("loadbalancer member create --address ${net}.9 --protocol-port 80 --weight 257 pool", says="weight"),
    Row("loadbalancer member show pool nosuch", says="Unable to locate nosuch in members"),
    Row("loadbalancer member delete pool two --wait", "loadbalancer member show pool two", gone=True),
    Row("loadbalancer member delete pool $one", "loadbalancer member show pool $one", gone=True),
]  # fmt: skip

MONITORS: list[Step] = [
    *LB,
    *(Row(f"{_POOL} --name p-{t} --protocol {p} --wait", keep=f"p_{t.replace('-', '_')}")
      for t, p in _MONITORS.items()),
    Row(
        "loadbalancer healthmonitor create --name one --delay 5 --domain-name www.test --expected-codes 200,202 "
        "--http-method GET --http-version 1.1 --timeout 4 --max-retries 3 --url-path /up --type HTTP "
        "--max-retries-down 2 --disable --tag red --tag blue --wait p-HTTP",
        "loadbalancer healthmonitor show one",
        {"delay": 5, "domain_name": "www.test", "expected_codes": "200,202", "http_method": "GET", "http_version": 1.1,
         "timeout": 4, "max_retries": 3, "url_path": "/up", "type": "HTTP", "max_retries_down": 2,
         "admin_state_up": False, "tags": ["blue", "red"], "provisioning_status": "ACTIVE",
         "operating_status": "OFFLINE"},
        keep="one",
    ),
    Row("loadbalancer pool show p-HTTP", shows={"healthmonitor_id": "${one}"}),
    Row("loadbalancer healthmonitor create --name two --delay 5 --timeout 4 --max-retries 3 --type TCP --enable "
        "--no-tag p-TCP",
        "loadbalancer healthmonitor show two",
        {"type": "TCP", "admin_state_up": True, "max_retries_down": 3, "operating_status": "ONLINE"}),
    Row("loadbalancer healthmonitor create --name three --delay 5 --timeout 4 --max-retries 3 --type PING --tag blue "
        "p-PING", "loadbalancer healthmonitor show three", {"type": "PING"}),
    # Lists
    Row("loadbalancer healthmonitor list", shows=["one", "two", "three"]),
    Row("loadbalancer healthmonitor list --tags red,blue", shows=["one"]),
    Row("loadbalancer healthmonitor list --any-tags red,blue", shows=["one", "three"]),
    Row("loadbalancer healthmonitor list --not-tags red,blue", shows=["two", "three"]),
    Row("loadbalancer healthmonitor list --not-any-tags red,blue", shows=["two"]),
    Row("loadbalancer healthmonitor list --sort-column name --sort-ascending", shows=ordered("one", "three", "two")),
    Row("loadbalancer healthmonitor list --sort-column name --sort-descending", shows=ordered("two", "three", "one")),
    *(Row(f"loadbalancer healthmonitor create --name t-{t} --delay 5 --timeout 4 --max-retries 3 --type {t} --wait "
          f"p-{t}", f"loadbalancer healthmonitor show t-{t}", {"type": t, "provisioning_status": "ACTIVE"})
      for t in ("HTTPS", "TLS-HELLO", "UDP-CONNECT", "SCTP")),
    # Changes
    Row(
        "loadbalancer healthmonitor set one --name uno --delay 6 --domain-name api.test --expected-codes 200-204 "
        "--http-method POST --http-version 1.1 --timeout 5 --max-retries 4 --max-retries-down 1 --url-path /well "
        "--enable --tag green --wait",
        "loadbalancer healthmonitor show uno",
        {"id": "${one}", "delay": 6, "domain_name": "api.test", "expected_codes": "200-204", "http_method": "POST",
         "http_version": 1.1, "timeout": 5, "max_retries": 4, "max_retries_down": 1, "url_path": "/well",
         "admin_state_up": True, "tags": ["blue", "green", "red"], "provisioning_status": "ACTIVE"},
    ),
    *(Row(f"loadbalancer healthmonitor set uno --http-method {m}", "loadbalancer healthmonitor show uno",
          {"http_method": m}) for m in _METHODS),
    Row("loadbalancer healthmonitor set uno --disable --no-tag --tag black", "loadbalancer healthmonitor show uno",
        {"admin_state_up": False, "tags": ["black"]}),
    Row("loadbalancer healthmonitor unset uno --tag black", "loadbalancer healthmonitor show uno", {"tags": []}),
    Row("loadbalancer healthmonitor set uno --tag a --tag b", "loadbalancer healthmonitor show uno",
        {"tags": ["a", "b"]}),
    Row("loadbalancer healthmonitor unset uno --domain-name", "loadbalancer healthmonitor show uno",
        {"domain_name": None, "http_version": 1.1}),
    Row(
        "loadbalancer healthmonitor unset uno --expected-codes --http-method --http-version --max-retries-down --name "
        "--url-path --all-tag --wait",
        "loadbalancer healthmonitor show $one",
        {"expected_codes": "200", "http_method": "GET", "http_version": None, "max_retries_down": 3, "name": "",
         "url_path": "/", "tags": [], "provisioning_status": "ACTIVE"},
    ),
    Row("loadbalancer healthmonitor delete $one --wait", "loadbalancer healthmonitor show $one", gone=True),
    *(Row(f"loadbalancer healthmonitor create --name m-{m} --delay 5 --timeout 4 --max-retries 3 --type HTTP "
          f"--http-method {m} --http-version 1.0 p-HTTP", f"loadbalancer healthmonitor show m-{m}", {"http_method": m})
      if not n % 2 else
      Row(f"loadbalancer healthmonitor delete m-{m} --wait", f"loadbalancer healthmonitor show m-{m}", gone=True)
      for m in _METHODS for n in (0, 1)),
    # Refusals
    Row("loadbalancer healthmonitor create --delay 5 --timeout 4 --max-retries 3 --type TCP p-TCP", says="(HTTP 409)"),
    Row("loadbalancer healthmonitor create --delay 5 --timeout 4 --max-retries 10 --type HTTP p-HTTP",
        says="invalid choice"),
    Row("loadbalancer healthmonitor create --delay 5 --timeout 4 --max-retries 3 --type TCP --url-path /x p-HTTP",
        says="(HTTP 400)"),
    Row("loadbalancer healthmonitor show nosuch", says="Unable to locate nosuch in healthmonitors"),
    Row("loadbalancer healthmonitor delete two", "loadbalancer healthmonitor show two", gone=True),
]  # fmt: skip
