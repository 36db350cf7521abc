"""`[names] required`: where first bytes cannot be held, ramfw does not run with less.

Another program has the queue, as if the kernel had none.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ramfw.core.name_rules import FIRST_BYTES_QUEUE
from tests.lab.addresses import CDN_BAD, CDN_GOOD, GHCR
from tests.lab.host import Host
from tests.lab.internet import Internet
from tests.lab.policies import DOCKER_IO, STRICT, policy
from tests.lab.sender import PROGRAMS, PYTHON
from tests.lab.test_names import GOOD, at_good

REQUIRED = "[names]\nrequired = true\n"
POLICY = policy(DOCKER_IO, GOOD, host=STRICT)
STRICTER = policy(DOCKER_IO, GOOD, host=STRICT, more=REQUIRED)
CANNOT = "names cannot be checked here (first bytes of connections: another program listens)"
BAD, GOOD_URL = f"https://{CDN_BAD.name}/v2/", f"https://{CDN_GOOD.name}/v2/"
LACKS = 5
BAD_POLICY = 3
"""Exit codes."""


@contextmanager
def queue_taken(host: Host) -> Iterator[None]:
    program = (PYTHON, "-I", str(PROGRAMS / "hold_queue.py"), str(FIRST_BYTES_QUEUE))
    holder = host.namespace.start(*program, cgroup="system.slice/other.service")
    holder.wait_for("holding")
    try:
        yield
    finally:
        holder.stop()


def test_it_runs_where_names_are_read(host: Host) -> None:
    host.start_ramfw(STRICTER)
    assert host.curl(GOOD_URL).ok
    refused = host.curl(BAD, *at_good(CDN_BAD.name))
    assert "alert access denied" in refused.output


def test_it_does_not_start_where_they_are_not_and_changes_no_rule(
    host: Host, internet: Internet
) -> None:
    host.start_ramfw(STRICTER)
    host.kill_ramfw()
    rules = host.namespace.sh("nft --stateless --terse list table inet ramfw")
    with queue_taken(host):
        started = host.ramfw("run")
        assert started.code == LACKS, started
        assert f"[names] required: {CANNOT}: ramfw doctor" in started.output
        assert host.namespace.sh("nft --stateless --terse list table inet ramfw") == rules
        for refused in (host.curl(f"https://{GHCR.name}/v2/"), host.pull("ghcr.io/corp/app:1")):
            assert refused.refused, refused
        assert internet.packets(GHCR) == 0
        # Nor does it where there are no rules yet: it makes none.
        host.namespace.sh("nft delete table inet ramfw")
        assert host.ramfw("run").code == LACKS
        assert host.rules() == ""
    host.start_ramfw(STRICTER)
    assert host.curl(GOOD_URL).ok, "once the queue is free again"


def test_without_the_word_it_runs_by_address_alone_and_says_so(host: Host) -> None:
    with queue_taken(host):
        host.start_ramfw(POLICY)
        (said,) = [one for one in host.status()["problems"] if "names are not" in one["what"]]
        assert "required = true does not start so" in said["mend"]
        assert host.curl(BAD, *at_good(CDN_BAD.name)).ok, "the name is not read"
        assert host.curl(f"https://{GHCR.name}/v2/").refused


def test_a_policy_with_it_is_not_taken_and_the_one_before_goes_on(host: Host) -> None:
    with queue_taken(host):
        host.start_ramfw(POLICY)
        reloaded = host.reload(policy(DOCKER_IO, host=STRICT, more=REQUIRED))
        assert reloaded.code == BAD_POLICY
        assert f"names.required: {CANNOT}" in reloaded.output
        assert any(CANNOT in problem for problem in host.status()["policy_problems"])
        assert host.curl(GOOD_URL).ok
        assert host.reload(policy(DOCKER_IO, host=STRICT)).ok
        assert host.curl(GOOD_URL).refused
    host.kill_ramfw()
    host.start_ramfw(POLICY)
    assert host.reload(STRICTER).ok, "where names are read it is"
