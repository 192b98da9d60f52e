"""What the kernel balances, as rows for the program that answers Prometheus beside HAProxy's own statistics. Pure."""

from colonnade.agent.runtime import Statistics

FILE = "datagrams.csv"
_COLUMNS = "pxname,svname,status,scur,stot,bin,bout"


def rows(seen: Statistics) -> str:
    """CSV under the names that HAProxy has for the same columns. Ids and states hold neither commas nor quotes."""
    lines = [_COLUMNS]
    for listener, c in seen.listeners.items():
        numbers = (c.active_connections, c.total_connections, c.bytes_in, c.bytes_out)
        lines.append(",".join((listener, "FRONTEND", c.status, *map(str, numbers))))
    for pool, status in seen.pools.items():
        lines.append(f"{pool},BACKEND,{status},,,,")
        lines += [f"{pool},{m},{state.status},,,," for m, state in seen.members.get(pool, {}).items()]
    return "".join(f"{line}\n" for line in lines)
