"""Rows about policies and rules."""

from stock_listeners import LB
from stock_rows import Row, Step

_COMPARISONS = ("REGEX", "EQUAL_TO", "CONTAINS", "ENDS_WITH", "STARTS_WITH")
_TYPES = {  # the type: what else a rule of it needs
    "FILE_TYPE": "--compare-type EQUAL_TO --value png",
    "PATH": "--compare-type EQUAL_TO --value /p",
    "HOST_NAME": "--compare-type EQUAL_TO --value www.test",
    "SSL_CONN_HAS_CERT": "--compare-type EQUAL_TO --value True",  # this and the next take no key, not one left either
    "SSL_VERIFY_RESULT": "--compare-type EQUAL_TO --value 0",
    "COOKIE": "--compare-type EQUAL_TO --key c --value v",
    "HEADER": "--compare-type EQUAL_TO --key X-K --value v",
    "SSL_DN_FIELD": "--compare-type EQUAL_TO --key CN --value v",
}
_WEB = (
    *LB,
    Row("loadbalancer listener create --name web --protocol HTTP --protocol-port 80 lb", keep="web"),
    Row("loadbalancer pool create --name pool --protocol HTTP --lb-algorithm ROUND_ROBIN --loadbalancer lb",
        keep="pool"),
)  # fmt: skip
_POLICY = "loadbalancer l7policy create web"

POLICIES: list[Step] = [
    *_WEB,
    Row(
        "loadbalancer l7policy create --name one --description d --action REDIRECT_TO_POOL --redirect-pool pool "
        "--position 1 --disable --tag red --tag blue --wait web",
        "loadbalancer l7policy show one",
        {"description": "d", "action": "REDIRECT_TO_POOL", "redirect_pool_id": "${pool}", "position": 1,
         "admin_state_up": False, "tags": ["blue", "red"], "listener_id": "${web}", "provisioning_status": "ACTIVE",
         "operating_status": "OFFLINE"},
        keep="one",
    ),
    Row(f"{_POLICY} --name two --action REDIRECT_TO_URL --redirect-url https://x.test/ --enable --no-tag",
        "loadbalancer l7policy show two",
        {"redirect_url": "https://x.test/", "admin_state_up": True, "position": 2, "redirect_http_code": 302}),
    Row(f"{_POLICY} --name three --action REDIRECT_PREFIX --redirect-prefix https://y.test --tag blue",
        "loadbalancer l7policy show three", {"redirect_prefix": "https://y.test", "position": 3}),
    Row(f"{_POLICY} --name four --action REJECT", "loadbalancer l7policy show four", {"action": "REJECT"}),
    *(Row(f"{_POLICY} --name c{c} --action REDIRECT_TO_URL --redirect-url https://x.test/ --redirect-http-code {c}",
          f"loadbalancer l7policy show c{c}", {"redirect_http_code": c}) for c in (301, 302, 303, 307, 308)),
    *(Row(f"loadbalancer l7policy delete c{c}", f"loadbalancer l7policy show c{c}", gone=True)
      for c in (301, 302, 303, 307, 308)),
    # Lists
    Row("loadbalancer listener create --name other --protocol HTTP --protocol-port 81 lb"),
    Row("loadbalancer l7policy create other --name away --action REJECT"),
    Row("loadbalancer l7policy list", shows=["one", "two", "three", "four", "away"]),
    Row("loadbalancer l7policy list --listener web", shows=["one", "two", "three", "four"]),
    Row("loadbalancer l7policy list --tags red,blue", shows=["one"]),
    Row("loadbalancer l7policy list --any-tags red,blue", shows=["one", "three"]),
    Row("loadbalancer l7policy list --not-tags red,blue", shows=["two", "three", "four", "away"]),
    Row("loadbalancer l7policy list --not-any-tags red,blue", shows=["two", "four", "away"]),
    Row("loadbalancer l7policy list --listener web --sort-column position --sort-ascending",
        shows=lambda _, out: [r["name"] for r in out] == ["one", "two", "three", "four"]),
    Row("loadbalancer l7policy list --listener web --sort-column position --sort-descending",
        shows=lambda _, out: [r["name"] for r in out] == ["four", "three", "two", "one"]),
    # Changes
    Row("loadbalancer l7policy set one --name uno --description e --action REDIRECT_TO_POOL --redirect-pool pool "
        "--position 3 --enable --tag green --wait",
        "loadbalancer l7policy show uno",
        {"id": "${one}", "description": "e", "position": 3, "admin_state_up": True,
         "tags": ["blue", "green", "red"], "provisioning_status": "ACTIVE"}),
    Row("loadbalancer l7policy show two", shows={"position": 1}),
    Row("loadbalancer l7policy set two --action REDIRECT_TO_POOL --redirect-pool pool",
        "loadbalancer l7policy show two",
        {"action": "REDIRECT_TO_POOL", "redirect_pool_id": "${pool}", "redirect_url": None}),
    Row("loadbalancer l7policy set two --action REDIRECT_TO_URL --redirect-url https://z.test/",
        "loadbalancer l7policy show two",
        {"action": "REDIRECT_TO_URL", "redirect_url": "https://z.test/", "redirect_pool_id": None}),
    Row("loadbalancer l7policy set two --action REDIRECT_PREFIX --redirect-prefix https://z.test",
        "loadbalancer l7policy show two",
        {"action": "REDIRECT_PREFIX", "redirect_prefix": "https://z.test", "redirect_url": None}),
    Row("loadbalancer l7policy set two --action REJECT", "loadbalancer l7policy show two",
        {"action": "REJECT", "redirect_prefix": None}),
    Row("loadbalancer l7policy set two --redirect-url https://w.test/", "loadbalancer l7policy show two",
        {"action": "REDIRECT_TO_URL", "redirect_url": "https://w.test/"}),
    Row("loadbalancer l7policy set two --redirect-prefix https://w.test", "loadbalancer l7policy show two",
        {"action": "REDIRECT_PREFIX", "redirect_prefix": "https://w.test", "redirect_url": None}),
    *(Row(f"loadbalancer l7policy set three --redirect-http-code {c}", "loadbalancer l7policy show three",
          {"redirect_http_code": c}) for c in (301, 303, 307, 308)),
    Row("loadbalancer l7policy set uno --disable --no-tag --tag black", "loadbalancer l7policy show uno",
        {"admin_state_up": False, "tags": ["black"]}),
    Row("loadbalancer l7policy unset uno --tag black", "loadbalancer l7policy show uno", {"tags": []}),
    Row("loadbalancer l7policy set three --tag a --tag b"),
    Row("loadbalancer l7policy show three", shows={"tags": ["a", "b", "blue"]}, keep="three"),
    Row("loadbalancer l7policy unset three --description --name --redirect-http-code --all-tag --wait",
        "loadbalancer l7policy show $three",
        {"description": "", "name": "", "redirect_http_code": 302, "tags": [], "provisioning_status": "ACTIVE"}),
    # Refusals
    Row(f"{_POLICY} --name x --action REDIRECT_TO_URL", says="redirect-url"),
    Row(f"{_POLICY} --name x --action REDIRECT_TO_URL --redirect-url nourl", says="(HTTP 400)"),
    Row("loadbalancer l7policy create nosuch --action REJECT", says="Unable to locate nosuch in listeners"),
    Row("loadbalancer l7policy show nosuch", says="Unable to locate nosuch in l7policies"),
    Row("loadbalancer pool delete pool", says="in use by L7 policy"),
    Row("loadbalancer l7policy delete uno --wait", "loadbalancer l7policy show uno", gone=True),
]  # fmt: skip

RULES: list[Step] = [
    *_WEB,
    Row(f"{_POLICY} --name policy --action REJECT", keep="policy"),
    Row("loadbalancer l7rule create --type HEADER --key X-K --compare-type EQUAL_TO --value v --invert --disable "
        "--tag red --tag blue --wait policy",
        keep="one"),
    Row("loadbalancer l7rule show policy $one",
        shows={"type": "HEADER", "key": "X-K", "compare_type": "EQUAL_TO", "value": "v", "invert": True,
               "admin_state_up": False, "tags": ["blue", "red"], "provisioning_status": "ACTIVE"}),
    Row("loadbalancer l7rule create --type PATH --compare-type REGEX --value ^/a --enable --no-tag $policy",
        keep="two"),
    Row("loadbalancer l7rule show $policy $two", shows={"invert": False, "admin_state_up": True, "key": None}),
    Row("loadbalancer l7rule show policy $two", "loadbalancer l7rule show policy $two", {"operating_status": "ONLINE"}),
    Row("loadbalancer l7rule create --type PATH --compare-type STARTS_WITH --value /c --tag blue policy", keep="three"),
    # Lists
    *(Row(f"loadbalancer l7rule list policy{more}",
          shows=lambda w, out, n=names: {r["id"] for r in out} == {w.names[v] for v in n.split()})
      for more, names in {"": "one two three", " --tags red,blue": "one", " --any-tags red,blue": "one three",
                          " --not-tags red,blue": "two three", " --not-any-tags red,blue": "two"}.items()),
    Row("loadbalancer l7rule list policy --sort-column value --sort-ascending",
        shows=lambda _, out: [r["value"] for r in out] == ["/c", "^/a", "v"]),
    Row("loadbalancer l7rule list policy --sort-column value --sort-descending",
        shows=lambda _, out: [r["value"] for r in out] == ["v", "^/a", "/c"]),
    # Every type and comparison
    *(Row(f"loadbalancer l7rule create --type {t} {more} policy", shows={"type": t})
      for t, more in _TYPES.items()),
    *(Row(f"loadbalancer l7rule create --type PATH --compare-type {c} --value /x policy", shows={"compare_type": c})
      for c in _COMPARISONS),
    *(Row(f"loadbalancer l7rule set policy $two --type {t} {more}", "loadbalancer l7rule show policy $two", {"type": t})
      for t, more in _TYPES.items()),
    Row("loadbalancer l7rule set policy $two --type PATH --value /x", "loadbalancer l7rule show policy $two",
        {"type": "PATH"}),
    *(Row(f"loadbalancer l7rule set policy $two --compare-type {c}", "loadbalancer l7rule show policy $two",
          {"compare_type": c}) for c in _COMPARISONS),
    # Changes
    Row("loadbalancer l7rule set policy $one --type COOKIE --key k --compare-type REGEX --value ^w$$ --invert --enable "
        "--tag green --wait",
        "loadbalancer l7rule show policy $one",
        {"type": "COOKIE", "key": "k", "compare_type": "REGEX", "value": "^w$$", "invert": True,
         "admin_state_up": True, "tags": ["blue", "green", "red"], "provisioning_status": "ACTIVE"}),
    Row("loadbalancer l7rule set policy $one --disable --no-tag --tag black", "loadbalancer l7rule show policy $one",
        {"admin_state_up": False, "tags": ["black"]}),
    Row("loadbalancer l7rule unset policy $one --tag black", "loadbalancer l7rule show policy $one", {"tags": []}),
    Row("loadbalancer l7rule set policy $one --type PATH --value /y --tag a"),
    Row("loadbalancer l7rule unset policy $one --invert --key --all-tag --wait",
        "loadbalancer l7rule show policy $one",
        {"invert": False, "key": None, "tags": [], "provisioning_status": "ACTIVE"}),
    # Refusals
    Row("loadbalancer l7rule create --type COOKIE --compare-type EQUAL_TO --value v policy", says="key"),
    Row("loadbalancer l7rule create --type PATH --compare-type REGEX --value ( policy", says="Error parsing L7Rule"),
    Row("loadbalancer l7rule show policy nosuch", says="Unable to locate nosuch in l7rules"),
    Row("loadbalancer l7rule delete policy nosuch", says="Unable to locate nosuch in l7rules"),
    Row("loadbalancer l7rule show nosuch $one", says="Unable to locate nosuch in l7policies"),
    Row("loadbalancer l7rule delete policy $two --wait", "loadbalancer l7rule show policy $two", gone=True),
    Row("loadbalancer l7rule delete policy $one", "loadbalancer l7rule show policy $one", gone=True),
]  # fmt: skip
