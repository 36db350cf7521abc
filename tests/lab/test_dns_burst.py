"""Many answers at once: each opens before its client connects, whatever else arrives among them."""

from __future__ import annotations

import re

from tests.lab.host import Host
from tests.lab.internet import Internet
from tests.lab.odd_dns import ODD, start_odd_dns
from tests.lab.policies import policy
from tests.lab.sender import PROGRAMS, PYTHON

CDN = policy('host = "*.cdn.example"\nports = [80]')
NAMES, OUTSTANDING = 2000, 64
BASE = 1000


def test_no_first_connection_fails_in_a_burst(host: Host, internet: Internet) -> None:
    start_odd_dns(internet, ODD)
    host.set_servers(ODD)
    host.start_ramfw(CDN)
    burst = (PYTHON, "-I", str(PROGRAMS / "burst.py"), ODD, str(NAMES), str(OUTSTANDING))

    done = host.as_engine(*burst, timeout=100)

    assert done.ok, done.output
    said = re.search(r"connected (\d+) failed (\d+) slowest (\S+) largest (\d+)", done.output)
    assert said, done.output
    assert (int(said[1]), int(said[2])) == (NAMES, 0)
    assert int(said[4]) > 64_000, "answers of 64 KiB were among them"
    opened = set(re.findall(r"2001:db8:f::(\w+) \. tcp \. 80 ", host.rules()))
    wanted = {f"{BASE + number:x}" for number in range(NAMES)}
    huge = {f"{BASE + NAMES + number:x}" for number in range(0, NAMES, 50)}
    assert opened == wanted | huge, "and what was malformed opened nothing"
    assert host.status()["watch"]["form"] in ("xt", "native")
    refused = host.curl(f"http://[2001:db8:f::{BASE - 1:x}]/", as_engine=True)
    assert refused.refused, "the filter is on"
