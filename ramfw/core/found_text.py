"""The registries that were found by asking, as text that outlives the daemon.

Pure. A machine's monotonic clock begins anew with it, so the text has the time of day; where that
clock was set back meanwhile, a registry counts as found just now.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from ipaddress import ip_address
from typing import Any

from ramfw.core.probe import Found, Place
from ramfw.core.registry_check import Evidence

MAX_PORT = 0xFFFF


def write(found: Iterable[Found], now: float, time_of_day: float) -> str:
    """What `read` takes; both times are of this moment, in seconds."""
    rows = [
        {
            "name": one.place.name,
            "address": str(ip_address(one.place.address)),
            "port": one.place.port,
            "evidence": one.evidence.name,
            "found_at": round(time_of_day - (now - one.when)),
            "everywhere": one.everywhere,
        }
        for one in found
    ]
    return json.dumps({"version": 1, "registries": rows}, indent=1) + "\n"


def read(text: str, now: float, time_of_day: float) -> tuple[Found, ...]:
    """The registries, with times on the clock of `now`. Raises ValueError."""
    try:
        kept = json.loads(text)
        if kept["version"] != 1:
            raise ValueError("another version")
        return tuple(_found(row, now, time_of_day) for row in kept["registries"])
    except (KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise ValueError(f"not what was written: {error}") from error


def _found(row: dict[str, Any], now: float, time_of_day: float) -> Found:
    name, port, everywhere = row["name"], row["port"], row["everywhere"]
    if not isinstance(name, str) or type(port) is not int or not 0 < port <= MAX_PORT:
        raise ValueError("not a place")
    if not isinstance(everywhere, bool) or (everywhere and not name):
        raise ValueError("neither everywhere nor not")
    place = Place(name, ip_address(row["address"]).packed, port)
    age = max(0.0, time_of_day - float(row["found_at"]))
    return Found(place, Evidence[row["evidence"]], now - age, everywhere)
