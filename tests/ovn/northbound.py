"""An OVN northbound database with nothing in it: as much of OVSDB's protocol (RFC 7047) as a client needs to start."""

import contextlib
import json
import socket
import threading
from pathlib import Path
from typing import Any

_MAP = {"type": {"key": "string", "value": "string", "min": 0, "max": "unlimited"}}
_SET = {"type": {"key": "string", "min": 0, "max": "unlimited"}}
_ROWS = {"type": {"key": "uuid", "min": 0, "max": "unlimited"}}
_TEXT = {"type": "string"}
_TABLES = {
    "NB_Global": {"nb_cfg": {"type": "integer"}},
    "Logical_Switch": {"name": _TEXT, "ports": _ROWS, "load_balancer": _ROWS, "external_ids": _MAP},
    "Logical_Router": {"name": _TEXT, "ports": _ROWS, "load_balancer": _ROWS, "external_ids": _MAP},
    "Logical_Switch_Port": {"name": _TEXT, "type": _TEXT, "options": _MAP, "external_ids": _MAP},
    "Logical_Router_Port": {"name": _TEXT, "networks": _SET, "external_ids": _MAP},
    "Load_Balancer": {
        "name": _TEXT, "vips": _MAP, "protocol": _SET, "external_ids": _MAP, "options": _MAP,
        "ip_port_mappings": _MAP, "selection_fields": _SET, "health_check": _ROWS,
    },
    "Load_Balancer_Health_Check": {"vip": _TEXT, "options": _MAP, "external_ids": _MAP},
    "Gateway_Chassis": {"name": _TEXT}, "NAT": {"external_ip": _TEXT}, "HA_Chassis_Group": {"name": _TEXT},
}  # fmt: skip
SCHEMA = {
    "name": "OVN_Northbound", "version": "7.0.0", "tables": {n: {"columns": c} for n, c in _TABLES.items()},
}  # fmt: skip


class Northbound:
    """Serves on a Unix socket until it is closed; then nobody can connect any more, and nobody stays connected."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.bind(str(path))
        self._socket.listen(16)
        self._peers: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._path.unlink(missing_ok=True)
        self._socket.close()
        for peer in self._peers:
            with contextlib.suppress(OSError):
                peer.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                peer = self._socket.accept()[0]
            except OSError:
                return
            self._peers.append(peer)
            threading.Thread(target=self._serve, args=(peer,), daemon=True).start()

    def _serve(self, peer: socket.socket) -> None:
        decoder, text = json.JSONDecoder(), ""
        with peer:
            while part := peer.recv(65536):
                text += part.decode()
                while text:
                    try:
                        message, end = decoder.raw_decode(text)
                    except ValueError:
                        break
                    text = text[end:].lstrip()
                    peer.sendall(json.dumps(self._answer(message)).encode())

    def _answer(self, message: Any) -> Any:
        result, error = None, None
        match message["method"], message["params"]:
            case "get_schema", ["OVN_Northbound", *_]:
                result = SCHEMA
            case "monitor", _:
                result = {}
            case "echo", words:
                result = words
            case "transact", [_, *operations]:
                result = [{"rows": []} for _ in operations]
            case _:
                error = "unknown method"
        return {"id": message["id"], "result": result, "error": error}
