"""Answers that are under way when their flow is forgotten: for some seconds they still reach their clients.

Each flow is copied to a zone of the kernel's connection tracking that holds nothing else, and the table leads there
what comes from the member's address and port to the very address and port that it is to answer to. There it is
translated as before. This is done while the flow is still there, so no answer meets neither of them.
"""

import heapq
import logging
import socket
from collections.abc import Iterable

from colonnade.agent import rules, ruleset
from colonnade.agent.refused import Refused
from colonnade.agent.tracking import Entry, Tracking

log = logging.getLogger(__name__)


def expect(flows: Iterable[Entry], tracking: Tracking, namespace: str) -> None:
    """Let answers of these flows through from now on, if they were heard lately. An error costs answers only, and is
    logged."""
    try:
        answers = [tracking.copy(f, ruleset.LATE_ZONE, ruleset.LATE_S) for f in _heard_lately(flows)]
        if answers:
            rules.load(ruleset.late(answers), namespace)
    except (OSError, Refused) as e:
        log.warning("%s: answers that are under way are lost: %s", namespace, e)


def _heard_lately(flows: Iterable[Entry]) -> list[Entry]:
    """Those of UDP that had a packet at most so long before another of their listener as answers are waited for; of too
    many the latest. SCTP sends again what was lost."""
    udp = [f for f in flows if f.proto == socket.IPPROTO_UDP]
    latest: dict[int, int] = {}
    for f in udp:
        latest[f.port] = max(f.left, latest.get(f.port, 0))
    lately = [f for f in udp if latest[f.port] - f.left <= ruleset.LATE_S]
    return heapq.nlargest(ruleset.MOST_LATE, lately, key=lambda f: f.left)
