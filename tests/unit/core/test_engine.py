"""The engine's stories, against a kernel that refuses what the real one would refuse."""

from __future__ import annotations

import errno
from dataclasses import replace
from ipaddress import ip_address

from hypothesis import given, settings
from hypothesis import strategies as st

from ramfw.core.events import (
    Answer,
    LinksChanged,
    PolicyLoaded,
    PolicyRefused,
    Resolved,
    ServerReply,
    TableRead,
)
from ramfw.core.leases import GRACE, LONGEST_STALE
from ramfw.core.marks import FIRST_ENTRY_ID, LAST_ID
from ramfw.core.ruleset import ACCEPT, CgroupElement
from ramfw.errors import KernelError
from tests.unit.core.driver import SERVER, Driver
from tests.unit.core.policies import policy

HUB, GHCR = "hub.example", "ghcr.example"
A, B, C = "192.0.2.10", "192.0.2.11", "2001:db8::10"


def started(*hosts: str) -> Driver:
    driver = Driver()
    driver.start(policy("", *hosts))
    return driver


def test_nothing_is_programmed_before_all_facts_are_known() -> None:
    driver = Driver()
    driver.tell(TableRead(None))
    driver.reload(policy("", HUB))
    assert driver.kernel.committed == []
    driver.start(policy("", HUB))
    assert len(driver.kernel.committed) == 1


def test_an_answer_opens_its_addresses_for_the_entry_that_names_it() -> None:
    driver = started(HUB, GHCR)
    assert driver.asked == [GHCR, HUB]
    assert driver.open(A) is None
    driver.answers(HUB, A, C)
    assert driver.open(A) == 16
    assert driver.open(C) == 16
    assert driver.open(A, port=5000) is None
    assert driver.open(B) is None


def test_an_answer_for_a_name_that_nobody_permits_opens_nothing() -> None:
    driver = started(HUB)
    driver.answers(GHCR, B)
    assert driver.open(B) is None


def test_the_trusted_servers_stay_reachable_and_others_do_not() -> None:
    driver = started(HUB)
    assert driver.open(SERVER, 53, "udp") == 4
    assert driver.open(SERVER, 53) == 4
    assert driver.open(B, 53, "udp") is None


def test_a_grant_ends_with_its_lease_and_the_kernel_ends_it_alone() -> None:
    driver = started(HUB)
    driver.answers(HUB, A, ttl=60)
    assert driver.open(A) == 16
    committed = len(driver.kernel.committed)
    driver.now += 60 + GRACE + 1
    assert driver.open(A) is None
    assert len(driver.kernel.committed) == committed


def test_a_name_is_asked_again_before_its_ttl_ends() -> None:
    driver = started(HUB)
    driver.answers(HUB, A, ttl=100)
    driver.asked.clear()
    driver.sleep(60)
    assert driver.asked == []
    driver.sleep(20)
    assert driver.asked == [HUB]


def test_the_same_answer_again_prolongs_the_grant() -> None:
    driver = started(HUB)
    driver.answers(HUB, A, ttl=100)
    driver.sleep(75)
    driver.answers(HUB, A, ttl=100)
    assert driver.remaining(A) >= 100 + GRACE - 1


def test_a_registry_that_moves_keeps_its_old_addresses_until_their_leases_end() -> None:
    driver = started(HUB)
    driver.answers(HUB, A, ttl=60)
    driver.sleep(45)
    driver.answers(HUB, B, ttl=60)
    assert (driver.open(A), driver.open(B)) == (16, 16)
    driver.sleep(60)
    assert (driver.open(A), driver.open(B)) == (None, 16)


def test_the_last_good_answer_is_served_up_to_its_bound_and_no_further() -> None:
    driver = started(HUB)
    driver.answers(HUB, A, ttl=60)
    began = driver.now
    while driver.now - began < LONGEST_STALE - 60:
        driver.sleep(20)
        driver.answers(HUB)
        assert driver.open(A) == 16, driver.now - began
    while driver.now - began < LONGEST_STALE + 120:
        driver.sleep(20)
        driver.answers(HUB)
    assert driver.open(A) is None


def test_between_two_failures_the_last_good_answer_stays_open() -> None:
    driver = started(HUB)
    driver.answers(HUB, A, ttl=10)
    began = driver.now
    driver.asked.clear()
    while driver.now - began < LONGEST_STALE / 2:
        driver.sleep(0.5)
        assert driver.open(A) == 16, driver.now - began
        if driver.asked:
            driver.asked.clear()
            driver.sleep(4)  # the servers are asked twice, two seconds each
            driver.answers(HUB)


def test_names_that_were_resolved_together_are_opened_in_one_transaction() -> None:
    driver = started(HUB, GHCR)
    committed = len(driver.kernel.committed)
    for name, address, more in ((HUB, A, True), (GHCR, B, False)):
        answer = Answer(ip_address(address), 300, SERVER)
        event = Resolved(name, (answer,), (ServerReply(SERVER, "ok"),))
        driver.tell(event, more=more)
        assert (driver.open(address) is None) is more
    assert len(driver.kernel.committed) == committed + 1
    assert (driver.open(A), driver.open(B)) == (16, 17)


def test_an_address_that_serves_two_names_closes_when_the_last_lease_ends() -> None:
    driver = started(HUB, GHCR)
    driver.answers(HUB, A, ttl=60)
    driver.answers(GHCR, A, ttl=300)
    assert driver.open(A) == 16, "the first entry of the policy has the flow"
    driver.sleep(60 + GRACE + 2)
    assert driver.open(A) == 17
    driver.sleep(300)
    assert driver.open(A) is None


def test_a_revoked_entry_is_dead_in_one_transaction_and_its_id_is_not_used_again() -> None:
    driver = started(HUB, GHCR)
    driver.answers(HUB, A)
    driver.answers(GHCR, B)
    committed = len(driver.kernel.committed)
    driver.reload(policy("", GHCR), held={16})
    assert len(driver.kernel.committed) == committed + 1
    assert driver.open(A) is None
    assert driver.open(B) == 17
    assert 16 not in driver.live()
    driver.reload(policy("", GHCR, "new.example"), held={16})
    driver.answers("new.example", A)
    assert driver.open(A) == 18


def test_an_id_that_conntrack_let_go_of_is_given_again() -> None:
    driver = started(HUB, GHCR)
    driver.reload(policy("", GHCR))
    driver.reload(policy("", GHCR, "new.example"))
    driver.answers("new.example", A)
    assert driver.open(A) == 16


def test_an_entry_that_grows_keeps_its_flows_and_one_that_shrinks_does_not() -> None:
    one, two = (f'[[allow]]\nhost = "{HUB}"\nports = [{ports}]' for ports in ("443", "443, 8443"))
    driver = Driver()
    driver.start(policy(one))
    driver.answers(HUB, A)
    grown = policy(two)
    # The label is what a person calls the entry; it stays while a port is added.
    grown = replace(grown, entries=(replace(grown.entries[0], label=policy(one).entries[0].label),))
    driver.reload(grown)
    assert (driver.open(A), driver.open(A, 8443)) == (16, 16)
    driver.reload(policy(one))
    assert 16 not in driver.live()
    assert driver.open(A) == 17


def test_a_daemon_that_starts_again_adopts_ids_and_grants() -> None:
    driver = started(HUB, GHCR)
    driver.answers(GHCR, B, ttl=600)
    before = driver.live()
    driver.now += 20
    committed = len(driver.kernel.committed)
    driver.restart(policy("", HUB, GHCR))
    assert driver.live() == before
    assert driver.open(B) == 17
    written = {type(op).__name__ for t in driver.kernel.committed[committed:] for op in t}
    assert written <= {"AddGrant", "DeleteGrant"}, "the rules are as they were"
    assert driver.engine.in_force


def test_a_restart_with_another_policy_revokes_what_it_left_out() -> None:
    driver = started(HUB, GHCR)
    driver.answers(GHCR, B, ttl=600)
    driver.restart(policy("", HUB), held={17})
    assert driver.open(B) is None
    assert 17 not in driver.live()


def test_a_table_of_another_shape_is_replaced_whole_and_keeps_its_grants() -> None:
    driver = started(HUB)
    driver.answers(HUB, A, ttl=600)

    def other_hook(chains: dict[str, object]) -> None:
        chains["judge_output"] = replace(chains["judge_output"], hook=None)  # type: ignore[type-var]

    driver.kernel.tamper(other_hook)  # type: ignore[arg-type]
    driver.restart(policy("", HUB))
    assert driver.open(A) == 16


def test_a_refused_transaction_changes_nothing_and_is_tried_again_from_what_is_there() -> None:
    driver = started(HUB)
    driver.kernel.failures.append(KernelError(errno.ENOBUFS, "nft transaction"))
    driver.answers(HUB, A)
    assert driver.open(A) == 16
    assert driver.engine.health.rejections == 1
    assert any("No buffer space" in note for note in driver.notes)


def test_a_kernel_that_goes_on_refusing_is_asked_less_and_less_often() -> None:
    driver = started(HUB)
    driver.kernel.failures += [KernelError(errno.ENOBUFS, "nft transaction") for _ in range(6)]
    driver.answers(HUB, A, ttl=600)
    driver.sleep(1)
    left = len(driver.kernel.failures)
    assert left > 0
    driver.sleep(60)
    assert driver.kernel.failures == []
    assert driver.open(A) == 16


def test_a_flushed_table_is_put_back_when_the_kernel_tells() -> None:
    driver = started(HUB)
    driver.answers(HUB, A, ttl=600)
    driver.kernel.flush()
    driver.answers(HUB, A, B, ttl=900)
    assert (driver.open(A), driver.open(B)) == (16, 16)
    assert driver.engine.in_force


def test_an_accept_put_before_the_rules_is_seen_and_removed() -> None:
    driver = started(HUB)

    def accept_all(chains: dict[str, object]) -> None:
        chain = chains["guard_output"]
        chains["guard_output"] = replace(chain, rules=((ACCEPT,), *chain.rules))  # type: ignore[type-var,attr-defined]

    driver.kernel.tamper(accept_all)  # type: ignore[arg-type]
    driver.reload(policy("", HUB, GHCR))  # any change of rules reads them back
    state = driver.kernel.read(with_grants=False)
    assert state is not None
    guard = next(chain for chain in state.ruleset.chains if chain.name == "guard_output")
    assert (ACCEPT,) not in guard.rules
    assert driver.engine.health.mismatches == 1
    assert driver.engine.in_force


def test_a_refused_policy_changes_nothing() -> None:
    driver = started(HUB)
    driver.answers(HUB, A)
    committed = len(driver.kernel.committed)
    driver.tell(PolicyRefused(("policy.toml:3: allow[0].hots: unknown key",)))
    assert len(driver.kernel.committed) == committed
    assert driver.open(A) == 16
    assert "hots" in driver.engine.health.policy_problems[0]


def test_a_policy_for_which_too_few_ids_are_free_is_refused_and_the_one_before_goes_on() -> None:
    driver = started(HUB)
    driver.answers(HUB, A)
    nearly_all = frozenset(range(FIRST_ENTRY_ID, LAST_ID))
    driver.tell(PolicyLoaded(policy("", HUB, GHCR, "a.example"), nearly_all))
    assert driver.open(A) == 16
    (problem,) = driver.engine.health.policy_problems
    assert problem.startswith("2 entries are new, and 1 ids are free")
    assert driver.engine.in_force
    driver.tell(PolicyLoaded(policy("", HUB, GHCR), nearly_all))
    assert driver.engine.health.policy_problems == ()
    assert set(driver.engine.numbering.entries) == {16, LAST_ID}


def test_a_cgroup_made_again_is_added_under_its_new_id() -> None:
    driver = started(HUB)
    path = "system.slice/docker.service"
    driver.cgroups((path, 41))
    assert CgroupElement(path, 2, 41) in driver.kernel.elements("engines_2")
    driver.cgroups()
    driver.cgroups((path, 77))
    assert CgroupElement(path, 2, 77) in driver.kernel.elements("engines_2")


def test_an_uplink_that_fits_a_pattern_is_no_container_bridge() -> None:
    driver = started(HUB)
    driver.tell(LinksChanged(frozenset({"docker0"}), frozenset({"br-lan"}), frozenset()))
    assert driver.in_set("uplinks") == {"br-lan"}


def test_an_entry_for_one_scope_is_in_no_other_scope_s_map() -> None:
    driver = Driver()
    driver.start(policy('[[allow]]\naddress = "192.0.2.5"\nports = [5000]\nscopes = ["engines"]'))
    maps = {key.map for key in driver.kernel.grants() if key.port == 5000}
    assert maps == {"engines4"}


def test_static_addresses_are_renewed_before_they_expire() -> None:
    driver = Driver()
    driver.start(policy('[[allow]]\naddress = "192.0.2.5"\nports = [5000]'))
    for _ in range(30):
        driver.sleep(3600)
        assert driver.open("192.0.2.5", 5000) == 16


HOSTS = st.lists(st.sampled_from([f"h{i}.example" for i in range(5)]), unique=True)
ADDRESSES = st.lists(st.sampled_from([f"192.0.2.{i}" for i in range(1, 6)]), max_size=3)


@st.composite
def steps(draw: st.DrawFn) -> list[tuple[str, object]]:
    return draw(
        st.lists(
            st.one_of(
                st.tuples(st.just("reload"), HOSTS),
                st.tuples(st.just("answers"), st.tuples(st.integers(0, 4), ADDRESSES)),
                st.tuples(st.just("sleep"), st.floats(0, 90)),
                st.tuples(st.just("fail"), st.none()),
                st.tuples(st.just("restart"), st.none()),
                st.tuples(st.just("cgroup"), st.integers(1, 9)),
            ),
            max_size=25,
        )
    )


@given(steps())
@settings(max_examples=150)
def test_whatever_happens_only_permitted_names_are_open_and_the_kernel_agrees(  # noqa: C901
    story: list[tuple[str, object]],
) -> None:
    driver = started()
    current: list[str] = []
    answered: dict[str, dict[str, float]] = {}
    for what, with_ in story:
        match what, with_:
            case "reload", list(hosts):
                current = [str(host) for host in hosts]
                driver.reload(policy("", *current))
            case "answers", (int(number), list(addresses)):
                name = f"h{number}.example"
                driver.answers(name, *addresses, ttl=60)
                for address in addresses:
                    answered.setdefault(name, {})[address] = driver.now
            case "sleep", float(seconds):
                driver.sleep(seconds)
            case "fail", _:
                driver.kernel.failures.append(KernelError(errno.ENOMEM, "nft transaction"))
            case "restart", _:
                driver.restart(policy("", *current))
            case "cgroup", int(inode):
                driver.cgroups(("system.slice/docker.service", inode))
    driver.kernel.failures.clear()
    driver.sleep(120)
    assert driver.engine.in_force
    for name in current:
        for address in driver.engine.leases.of_name(name):
            assert driver.open(str(address)) is not None
    may_be_open = {a for name in current for a in answered.get(name, {})}
    for number in range(1, 6):
        address = f"192.0.2.{number}"
        if driver.open(address) is not None:
            assert address in may_be_open
