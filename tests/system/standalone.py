"""A running stand-alone installation, as its user sees it: ./try, HTTP, the stock client, the kernel."""

import contextlib
import http.client
import json
import os
import secrets
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from stock_client import Client
from support import PATIENCE_S, eventually, free_port

from colonnade import supervisor

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = ("agent", "api", "worker", "health-manager", "housekeeping")
PARTS = ("loadbalancer", "listener", "pool", "member", "healthmonitor")
Json = dict[str, Any]
_BELONGS = (  # table, column, tables that have what it names
    ("tag", "object_id", "load_balancer listener pool member health_monitor"),
    ("listener_statistics", "listener_id", "listener"),
    ("member", "pool_id", "pool"),
    ("health_monitor", "pool_id", "pool"),
    ("listener", "default_pool_id", "pool"),
    ("local_address", "owner_id", "local_port local_floating_ip local_subnet"),
    ("local_port", "network_id", "local_network"),
    ("local_floating_ip", "port_id", "local_port"),
)


def run(*words: str, check: bool = True, **more: Any) -> "subprocess.CompletedProcess[str]":
    """A program, its output as text."""
    return subprocess.run(words, check=check, capture_output=True, text=True, **more)


@dataclass
class Reply:
    """What the API answered."""

    status: int
    body: Any
    headers: dict[str, str]


class Api:
    """Requests as one user of one project; without a token when ``user`` is None."""

    def __init__(self, port: int, user: str | None = None, password: str = "", project: str = "") -> None:
        self.port = port
        self.token: str | None = None
        if user is not None:
            who = {"name": user, "password": password, "domain": {"id": "default"}}
            scope = {"project": {"name": project or user, "domain": {"id": "default"}}}
            body = {"auth": {"identity": {"methods": ["password"], "password": {"user": who}}, "scope": scope}}
            reply = self.ask("POST", "/identity/v3/auth/tokens", body)
            assert reply.status == 201, reply
            self.token = reply.headers["x-subject-token"]

    def ask(self, method: str, path: str, body: Json | None = None) -> Reply:
        """One request. Paths that start with "lbaas/" are those of load balancing."""
        if path.startswith("lbaas/"):
            path = f"/load-balancer/v2/{path}"
        headers = {"Content-Type": "application/json", **({"X-Auth-Token": self.token} if self.token else {})}
        conn = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            conn.request(method, path, json.dumps(body) if body is not None else None, headers)
            answer = conn.getresponse()
            text = answer.read()
            return Reply(
                answer.status, json.loads(text) if text else None, {k.lower(): v for k, v in answer.getheaders()}
            )
        finally:
            conn.close()

    def get(self, path: str) -> Any:
        """The one thing, or the list, in a reply that must be 200."""
        return self._only(self.ask("GET", path), 200)

    def post(self, path: str, body: Json) -> Any:
        """The thing that was made."""
        return self._only(self.ask("POST", path, body), 201)

    def put(self, path: str, body: Json) -> None:
        """A change that must be taken."""
        reply = self.ask("PUT", path, body)
        assert reply.status in (200, 202), reply

    def delete(self, path: str) -> None:
        """A removal that must be taken; something that is gone already is fine."""
        reply = self.ask("DELETE", path)
        assert reply.status in (204, 404), reply

    def loadbalancer(self, lb_id: str) -> Any:
        """As shown."""
        return self.get(f"lbaas/loadbalancers/{lb_id}")

    def until_active(self, lb_id: str, seconds: float = PATIENCE_S) -> Any:
        """Wait for ACTIVE; answers the load balancer."""

        def active() -> Any:
            lb = self.loadbalancer(lb_id)
            return lb if lb["provisioning_status"] == "ACTIVE" else self._not(lb)

        return eventually(active, seconds)

    def until_gone(self, lb_id: str, seconds: float = PATIENCE_S) -> None:
        """Wait for 404."""
        eventually(lambda: self.ask("GET", f"lbaas/loadbalancers/{lb_id}").status == 404, seconds)

    def subnet(self, name: str = "private-subnet") -> str:
        """A subnet's id."""
        return str(self.get(f"/network/v2.0/subnets?name={name}")[0]["id"])

    def create(self, name: str, members: list[Json], monitor: Json | None = None, **pool: Any) -> Any:
        """A load balancer with an HTTP listener on port 80, a pool, its members and monitor, in one request."""
        parts: Json = {"name": f"{name}-pool", "protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN", "members": members}
        parts.update(pool)
        if monitor:
            parts["healthmonitor"] = monitor
        listener = {"name": f"{name}-listener", "protocol": "HTTP", "protocol_port": 80, "default_pool": parts}
        lb = {"name": name, "vip_subnet_id": self.subnet(), "listeners": [listener]}
        return self.post("lbaas/loadbalancers", {"loadbalancer": lb})

    @staticmethod
    def _only(reply: Reply, status: int) -> Any:
        assert reply.status == status, reply
        (value,) = (v for k, v in reply.body.items() if not k.endswith("_links"))
        return value

    @staticmethod
    def _not(lb: Json) -> Any:
        raise AssertionError(f"{lb['provisioning_status']}, reason: {lb.get('reason')}")


@dataclass
class Standalone:
    """An installation with its state in ``state``, listening on ``port``."""

    state: Path
    port: int
    options: tuple[str, ...] = ("--demo", "--noauth")
    output: str = ""
    secrets: dict[str, str] = field(default_factory=dict)

    def start(self, *more: str) -> str:
        """./try; answers what it printed."""
        done = run(
            str(ROOT / "try"), "--state", str(self.state), "--port", str(self.port), *self.options, *more, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr + self.logs()
        self.output = done.stdout
        lines = (self.state / "secrets" / "passwords.env").read_text().splitlines()
        self.secrets = {k: v.strip("'\"") for k, _, v in (line.partition("=") for line in lines if "=" in line)}
        return self.output

    def stop(self, *more: str) -> None:
        """./try --stop."""
        done = run(str(ROOT / "try"), "--stop", "--state", str(self.state), *more, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    def logs(self) -> str:
        """The end of each log, for a failed assertion."""
        parts = sorted((self.state / "log").glob("*.log"))
        return "".join(f"\n== {p.name}\n{p.read_text(errors='replace')[-1500:]}" for p in parts)

    @property
    def tag(self) -> str:
        """What its namespaces carry in their names."""
        return self.setting("tag")

    def setting(self, name: str) -> str:
        """A value of the settings that ./try wrote."""
        lines = (self.state / "etc" / "colonnade.conf").read_text().splitlines()
        return next(line.partition(" = ")[2] for line in lines if line.startswith(f"{name} = "))

    @property
    def members(self) -> list[str]:
        """Addresses of the demo's web servers."""
        return (self.state / "demo.env").read_text().partition('"')[2].partition('"')[0].split()

    @property
    def host_address(self) -> str:
        """An address of this machine that amphorae reach: of the veth that leads to them."""
        (link,) = json.loads(run("ip", "-json", "-4", "address", "show", f"cln{self.setting('slot')}up").stdout)
        return str(link["addr_info"][0]["local"])

    def admin(self) -> Api:
        """As the user admin."""
        return Api(self.port, "admin", self.secrets["ADMIN_PASSWORD"], "admin")

    def demo_user(self) -> Api:
        """As the ordinary user demo, of a project of its own."""
        return Api(self.port, "demo", self.secrets["DEMO_PASSWORD"], "demo")

    def client(self, faster: int = 1) -> Client:
        """The stock client for many commands, as admin."""
        environment = {"PATH": "/usr/bin:/bin", "HOME": str(self.state / "home"), "OS_CLOUD": "colonnade",
                       "OS_CLIENT_CONFIG_FILE": str(self.state / "clouds.yaml")}  # fmt: skip
        return Client(environment, faster)

    def openstack(self, *words: str, cloud: str = "colonnade", check: bool = True) -> str:
        """The stock client; answers what it printed."""
        environment = {
            "PATH": os.environ["PATH"], "HOME": "/root", "OS_CLIENT_CONFIG_FILE": str(self.state / "clouds.yaml"),
            "OS_CLOUD": cloud,
        }  # fmt: skip
        done = run(str(self.state / "bin" / "openstack"), *words, check=False, env=environment)
        assert done.returncode == 0 or not check, f"{words}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    def pid(self, program: str) -> int:
        """The process that runs a program now."""
        return eventually(lambda: supervisor.running(self.state / "run" / f"{program}.pid"))

    def kill(self, program: str) -> None:
        """kill -9."""
        os.kill(self.pid(program), signal.SIGKILL)

    def amphorae_on_disk(self) -> dict[str, str]:
        """What the agent keeps: the number of each amphora on this host, and its id."""
        places = (self.state / "agent" / "amphorae").glob("*/place.json")
        return {str(json.loads(p.read_text())["number"]): p.parent.name for p in places}

    def traces(self) -> list[str]:
        """Everything on this machine that names this installation: processes, and what the kernel lists."""
        own = [self.setting(n).rpartition(".0.0/" if n == "private_cidr" else ".0/")[0] + "."
               for n in ("private_cidr", "public_cidr")]  # fmt: skip
        slot = self.setting("slot")
        marks = [f"cln-{self.tag}-", f"cln{slot}up", f"colonnade_{self.tag}", f"198.18.{slot}.", f"6f6c:{slot}::", *own]
        questions = (
            "ip netns", "ip -oneline link", "ip -oneline address", "ip route show table all", "ip rule",
            "ip -6 route show table all", "nft list ruleset",
        )  # fmt: skip
        lines = [line.strip() for q in questions for line in run(*q.split()).stdout.splitlines()]
        found = [line for line in lines if any(m in line for m in marks)]
        for proc in Path("/proc").glob("[0-9]*"):
            try:
                words = (proc / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                where = os.readlink(proc / "cwd")
            except OSError:
                continue
            mine = str(self.state) in words or f"/run/colonnade/{self.tag}/" in where + words
            if mine and int(proc.name) != os.getpid():
                found.append(f"process {proc.name}: {words}")
        return found

    def haproxies(self) -> dict[int, str]:
        """HAProxy processes of this installation: pid to amphora id."""
        root, known, found = f"/run/colonnade/{self.tag}/", self.amphorae_on_disk(), {}
        for proc in Path("/proc").glob("[0-9]*"):
            try:
                if (proc / "comm").read_text().strip() == "haproxy":
                    where = os.readlink(proc / "cwd")
                    if where.startswith(root) and supervisor.started(int(proc.name)):
                        number = where.removeprefix(root).partition("/")[0]
                        found[int(proc.name)] = known.get(number, f"nobody, number {number}")
            except OSError:
                continue
        return found

    def haproxy_of(self, lb_id: str) -> int:
        """The HAProxy process of a load balancer, once it is the only one: one that it replaces ends with its last
        connection."""
        amphorae = self.admin().get(f"/load-balancer/v2/octavia/amphorae?loadbalancer_id={lb_id}")

        def the_only() -> int:
            pids = [p for p, owner in self.haproxies().items() if owner in {a["id"] for a in amphorae}]
            assert len(pids) == 1, pids
            return pids[0]

        return eventually(the_only)

    def namespaces(self) -> set[str]:
        """Names of this installation's namespaces."""
        return {line.split()[0] for line in run("ip", "netns").stdout.splitlines() if f"cln-{self.tag}-" in line}

    def nothing_left_over(self) -> bool:
        """True, or an AssertionError that lists what is there."""
        left = self.left_over()
        assert left == [], left
        return True

    def left_over(self) -> list[str]:
        """What is on this machine beside what the API says; empty when all is well."""
        admin = self.admin()
        lbs = {lb["id"]: lb for lb in admin.get("lbaas/loadbalancers")}
        amphorae = {a["id"] for a in admin.get("/load-balancer/v2/octavia/amphorae") if a["status"] != "DELETED"}
        found = []
        spaces = {s for s in self.namespaces() if "-demo" not in s and not s.endswith("-fabric")}
        found += [f"namespace {s}" for s in spaces if not any(s.endswith(a[:13]) for a in amphorae)]
        found += [f"no namespace of {a}" for a in amphorae if not any(s.endswith(a[:13]) for s in spaces)]
        found += [f"process {p} of {owner}" for p, owner in self.haproxies().items() if owner not in amphorae]
        kept = self.amphorae_on_disk()
        found += [f"directory of {a}" for a in kept.values() if a not in amphorae]
        found += self._stray_files(kept)
        ports = admin.get("/network/v2.0/ports")
        for port in ports:
            named = port["name"].startswith("octavia-lb-")
            if named and port["device_id"] not in lbs.keys() | amphorae and not self._owned(port, lbs, amphorae):
                found.append(f"port {port['name']}")
        plugged = {p["id"] for p in ports if p["device_id"] in amphorae}
        found += self._stray_in_kernel(plugged, admin.get("/network/v2.0/floatingips"))
        found += self._stray_rows(set(lbs), amphorae)
        found += [f"load balancer {i} is {lb['provisioning_status']}: {lb.get('reason')}" for i, lb in lbs.items()
                  if lb["provisioning_status"] != "ACTIVE"]  # fmt: skip
        return found

    def _stray_files(self, kept: dict[str, str]) -> list[str]:
        """What is in /run beside a directory for each amphora, with one socket for each HAProxy that lives."""
        folders = [f for f in Path("/run/colonnade", self.tag).iterdir() if f.name != "lock"]
        found = [f"directory {f}" for f in folders if f.name not in kept]
        owners = list(self.haproxies().values())
        for folder in folders:
            number = owners.count(kept.get(folder.name, ""))
            sockets = len(list(folder.glob("own/s*")))
            found += [f"{sockets} sockets of {number} processes in {folder}"] if sockets != number else []
            found += [f"file {f}" for f in folder.glob("*.new")]
        return found

    def _stray_in_kernel(self, plugged: set[str], fips: list[Json]) -> list[str]:
        """Interfaces that are no amphora's, floating IPs that no port has, processes that nobody knows."""
        fabric = f"cln-{self.tag}-fabric"
        links = json.loads(run("ip", "-n", fabric, "-json", "link").stdout)
        there = {link["ifname"] for link in links if link["ifname"].startswith("p")}
        wanted = {"p" + port.replace("-", "")[:13] for port in plugged}
        found = [f"interface {name}" for name in there - wanted] + [f"no interface {name}" for name in wanted - there]
        held = {f["floating_ip_address"]: f["fixed_ip_address"] for f in fips if f["port_id"]}
        rules = run("ip", "netns", "exec", fabric, "nft", "-j", "list", "map", "inet", "colonnade", "floating4").stdout
        (made,) = (o["map"] for o in json.loads(rules)["nftables"] if "map" in o)
        translated = dict(made.get("elem", []))
        if translated != held:
            found.append(f"floating IPs {translated}, wanted {held}")
        first, known = 1000000 + int(self.setting("slot")) * 10000, self.haproxies()
        for proc in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(FileNotFoundError):
                uid, pid = proc.stat().st_uid, int(proc.name)
                if first <= uid < first + 9990 and pid not in known and supervisor.started(pid):
                    found.append(f"process {pid} of uid {uid}")
        return found

    @staticmethod
    def _owned(port: Json, lbs: Json, amphorae: set[str]) -> bool:
        return any(i in port["name"] for i in [*lbs, *amphorae])

    def _stray_rows(self, lbs: set[str], amphorae: set[str]) -> list[str]:
        import sqlite3

        db = sqlite3.connect(f"file:{self.state}/db/colonnade.sqlite?mode=ro", uri=True)
        found = []
        try:
            for table in (
                "listener",
                "pool",
                "member",
                "health_monitor",
                "l7policy",
                "l7rule",
                "amphora",
                "listener_statistics",
            ):
                rows = db.execute(f"SELECT loadbalancer_id FROM {table}")  # noqa: S608 - names are ours
                found += [f"row of {table} for {r[0]}" for r in rows if r[0] not in lbs]
            rows = db.execute("SELECT subject FROM work WHERE subject <> 'fabric'")
            found += [f"work for {r[0]}" for r in rows if r[0] not in lbs]
            rows = db.execute("SELECT amphora_id FROM listener_statistics WHERE amphora_id <> ''")
            found += [f"statistics of amphora {r[0]}" for r in rows if r[0] not in amphorae]
            for table, column, of in _BELONGS:
                known = " UNION ".join(f"SELECT id FROM {o}" for o in of.split())  # noqa: S608 - names are ours
                rows = db.execute(f"SELECT {column} FROM {table} WHERE {column} NOT IN ({known})")  # noqa: S608
                found += [f"row of {table} for {column} {r[0]}" for r in rows if r[0]]
        finally:
            db.close()
        return found


@contextmanager
def installation(*options: str) -> Iterator[Standalone]:
    """One that is stopped and purged afterwards."""
    made = Standalone(Path(f"/tmp/cln{secrets.token_hex(3)}"), free_port(), options)
    try:
        made.start()
        yield made
    finally:
        made.stop("--purge")
        shutil.rmtree(made.state, ignore_errors=True)


class _QuietServer(ThreadingHTTPServer):
    request_queue_size = 128  # the default of 5 drops connections when many are made at once

    def handle_error(self, request: object, client_address: object) -> None:
        """A health check that hangs up is no error."""


class WebServer:
    """A member under the test's control, on an address of this machine."""

    def __init__(self, address: str, name: str) -> None:
        self.name = name
        self.healthy = True
        self.requests = 0
        self.asked_slowly = threading.Event()  # set: /slow was asked for
        self.hold = threading.Event()  # cleared: answers to /slow wait for it
        web = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                checked = self.path.startswith("/healthcheck")
                if self.path.startswith("/slow"):
                    web.asked_slowly.set()
                    web.hold.wait(PATIENCE_S)
                if not checked:
                    web.requests += 1
                body = web.name.encode()
                self.send_response(200 if web.healthy or not checked else 503)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = _QuietServer((address, 0), Handler)
        self._server.daemon_threads = True
        self.address, self.port = address, self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def member(self, **more: Any) -> Json:
        """This server as a member."""
        return {"address": self.address, "protocol_port": self.port, **more}

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()


def fetch(address: str, path: str = "/", timeout: float = 10, port: int = 80) -> str | None:
    """The body behind http://address/, None when there is no good answer."""
    conn = http.client.HTTPConnection(address, port, timeout=timeout)
    try:
        conn.request("GET", path)
        reply = conn.getresponse()
        return reply.read().decode() if reply.status == 200 else None
    except (OSError, http.client.HTTPException):
        return None
    finally:
        conn.close()


def bodies(address: str, times: int = 10, port: int = 80) -> set[str | None]:
    """The different bodies of several requests."""
    return {fetch(address, port=port) for _ in range(times)}


@contextmanager
def traffic(address: str, every: float = 0.005) -> Iterator[list[float]]:
    """One request after another all the while; gathers the times of those that failed."""
    failed: list[float] = []
    stop = threading.Event()

    def go() -> None:
        while not stop.is_set():
            if fetch(address) is None:
                failed.append(time.monotonic())
            stop.wait(every)

    thread = threading.Thread(target=go)
    thread.start()
    try:
        yield failed
    finally:
        stop.set()
        thread.join()
