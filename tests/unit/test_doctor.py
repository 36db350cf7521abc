"""The doctor on made-up machines, and once on the real kernel in a namespace of its own."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

from ramfw import doctor, wslconf
from ramfw.core.catalog import shipped
from ramfw.core.policy_parser import parse
from ramfw.core.ruleset import Ruleset
from ramfw.core.tablestate import TableState
from ramfw.core.turn_rules import Turning
from ramfw.core.watch_rules import WatchForm
from ramfw.doctor import engines, service
from ramfw.doctor.finding import MISSING, NOTE, OK, Finding
from ramfw.doctor.kernel import Checker
from ramfw.errors import MissingError
from tests.unit.fake_checker import Willing, Without

PURE = "31 23 0:28 / /sys/fs/cgroup rw,relatime - cgroup2 cgroup2 rw\n"
HYBRID = (
    "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n"
    "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
)
ELSEWHERE = "41 31 0:38 / /cgroup2 rw - cgroup2 cgroup2 rw\n"


class MadeUp:
    """A machine as files below a directory; root on Linux 6.18, cgroup v2, nothing running."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.write("proc/self/status", "Name:\tramfw\nCapEff:\t000001ffffffffff\n")
        self.write("proc/self/mountinfo", PURE)
        self.write("proc/sys/kernel/osrelease", "6.18.4-amd64\n")
        self.write("proc/version", "Linux version 6.18.4-amd64 (debian-kernel@lists.debian.org)")
        self.write("dev/net/tun", "")
        self.namespace("self", "net:[1]")
        self.policy = self.write("policy.toml", "version = 1\n")

    def write(self, path: str, text: str) -> Path:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def namespace(self, pid: str, name: str) -> None:
        link = self.root / "proc" / pid / "ns/net"
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(name)

    def process(self, pid: int, comm: str, cgroup: str, namespace: str = "net:[1]") -> None:
        self.write(f"proc/{pid}/comm", f"{comm}\n")
        self.write(f"proc/{pid}/cgroup", f"4:memory:/elsewhere\n0::{cgroup}\n")
        self.namespace(str(pid), namespace)

    def examine(self, checker: Checker | None = None) -> tuple[Finding, ...]:
        return doctor.examine(self.policy, self.root, lambda: checker or Willing())


@pytest.fixture
def machine(tmp_path: Path) -> MadeUp:
    return MadeUp(tmp_path)


def about(found: tuple[Finding, ...], words: str) -> Finding:
    """The one finding whose fact has these words."""
    (finding,) = (finding for finding in found if words in finding.fact)
    return finding


def missing(found: tuple[Finding, ...]) -> list[str]:
    return [finding.fact for finding in found if finding.state == MISSING]


def test_without_a_tun_device_nobody_is_told_why(machine: MadeUp) -> None:
    assert about(machine.examine(), "/dev/net/tun").state == OK
    (machine.root / "dev/net/tun").unlink()
    finding = about(machine.examine(), "/dev/net/tun")
    assert (finding.state, finding.mend.split(";")[0]) == (NOTE, "modprobe tun")


def test_a_good_machine_lacks_nothing(machine: MadeUp) -> None:
    found = machine.examine()
    assert missing(found) == []
    assert about(found, "as a whole").state == OK
    assert about(found, "no container engine").state == OK


@pytest.mark.parametrize(
    ("words", "what"),
    [
        ("ct mark set", "connection marks"),
        ("reject with tcp", "refusing with an answer"),
        ("icmpx", "refusing with an answer"),
        ("log prefix", "copies of refused connections"),
        ("limit rate", "copies of refused connections"),
        ("br-*", "interface patterns"),
        ("ipv4_addr", "IPv4"),
        ("ipv6_addr", "IPv6"),
        ("add counter", "counters"),
    ],
)
def test_what_the_kernel_lacks_is_named_with_what_follows(
    machine: MadeUp, words: str, what: str
) -> None:
    found = machine.examine(Without(words))
    finding = about(found, what)
    assert missing(found) == [finding.fact]
    assert "No such file or directory" in finding.fact
    assert "^" not in finding.fact
    assert finding.follows
    assert finding.mend


@pytest.mark.parametrize(
    ("turning", "words", "state"),
    [
        (Turning.ALL, "can be turned to the explainer", OK),
        (Turning.SOCKETS, "containers' refused connections cannot be turned", NOTE),
        (Turning.NONE, "refused connections cannot be turned", NOTE),
    ],
)
def test_which_refused_connections_can_be_explained_is_told(
    machine: MadeUp, turning: Turning, words: str, state: str
) -> None:
    checker = Willing()
    checker.turned = (turning, "" if state == OK else "no such expression")
    finding = about(machine.examine(checker), "to the explainer")
    assert words in finding.fact
    assert finding.state == state
    assert bool(finding.mend) == (state == NOTE)


@pytest.mark.parametrize(
    ("form", "words", "state", "follows"),
    [
        (WatchForm.NATIVE, "can be held until what they open is open (nft queue)", OK, ""),
        (WatchForm.XT, "can be held until what they open is open (xt NFQUEUE)", OK, ""),
        (WatchForm.COPY, "not held: no NFQUEUE here", NOTE, "a second longer"),
        (WatchForm.NONE, "cannot be watched: no NFQUEUE here", NOTE, "wildcards open nothing"),
    ],
)
def test_how_dns_answers_can_be_watched_is_told(
    machine: MadeUp, form: WatchForm, words: str, state: str, follows: str
) -> None:
    checker = Willing()
    checker.form = (form, "" if state == OK else "no NFQUEUE here")
    finding = about(machine.examine(checker), "DNS answers")
    assert words in finding.fact
    assert finding.state == state
    assert follows in finding.follows
    assert ("modprobe nft_queue" in finding.mend) is (state == NOTE)


@pytest.mark.parametrize(
    ("form", "words", "state"),
    [
        (WatchForm.NATIVE, "names can be read", OK),
        (WatchForm.XT, "names can be read", OK),
        (WatchForm.COPY, "names cannot be read in a connection's first bytes: no queue", NOTE),
        (WatchForm.NONE, "names cannot be read in a connection's first bytes: no queue", NOTE),
    ],
)
def test_whether_names_can_be_read_is_told(
    machine: MadeUp, form: WatchForm, words: str, state: str
) -> None:
    checker = Willing()
    checker.form = (form, "" if state == OK else "no queue")
    finding = about(machine.examine(checker), "first bytes")
    assert words in finding.fact
    assert finding.state == state
    assert ("addresses alone decide" in finding.follows) is (state == NOTE)


def test_rules_that_fail_only_together_are_told(machine: MadeUp) -> None:
    found = machine.examine(Without("judge_output"))
    assert missing(found) == [about(found, "as a whole").fact]


def test_a_kernel_without_nf_tables_is_asked_no_more(machine: MadeUp) -> None:
    checker = Without("add table")
    found = machine.examine(checker)
    assert missing(found) == [about(found, "no usable nf_tables").fact]
    assert len(checker.checked) == 1


def test_a_table_that_is_locked_is_no_sign_that_the_kernel_cannot(machine: MadeUp) -> None:
    """To all but its owner the kernel says that the operation is not permitted."""

    class Locked(Without):
        def read(self, *, with_grants: bool) -> TableState | None:  # noqa: ARG002
            return TableState(Ruleset((), (), frozenset()))

    checker = Locked("add table")
    found = machine.examine(checker)
    assert missing(found) == []
    assert about(found, "loaded and locked").state == OK
    assert len(checker.checked) == 1


def test_nothing_but_the_table_of_ramfw_is_ever_asked_about(machine: MadeUp) -> None:
    checker = Willing()
    machine.examine(checker)
    lines = [line for text in checker.checked for line in text.splitlines()]
    assert len(lines) > 20
    assert all("inet ramfw" in line and not line.startswith("delete") for line in lines)


def test_without_the_binding_the_package_is_named(machine: MadeUp) -> None:
    def absent() -> Checker:
        raise MissingError("the binding is not installed: apt-get install python3-nftables")

    found = doctor.examine(machine.policy, machine.root, absent)
    assert about(found, "binding").state == MISSING
    assert about(found, "binding").mend == "apt-get install python3-nftables"


def test_without_the_capability_the_kernel_is_not_asked(machine: MadeUp) -> None:
    machine.write("proc/self/status", "CapEff:\t0000000000000000\n")
    checker = Willing()
    found = machine.examine(checker)
    assert missing(found) == ["this process has no CAP_NET_ADMIN"]
    assert about(found, "CAP_NET_ADMIN").mend == "sudo ramfw doctor"
    assert checker.checked == []


@pytest.mark.parametrize(
    ("mounts", "state", "words"),
    [
        (PURE, OK, "at /sys/fs/cgroup"),
        (HYBRID, OK, "beside version 1"),
        (ELSEWHERE, MISSING, "at /cgroup2"),
        ("", MISSING, "no cgroup v2"),
    ],
)
def test_where_cgroup_v2_is_mounted(machine: MadeUp, mounts: str, state: str, words: str) -> None:
    machine.write("proc/self/mountinfo", mounts)
    finding = about(machine.examine(), "cgroup v2")
    assert finding.state == state
    assert words in finding.fact
    assert state == OK or "mount " in finding.mend


@pytest.mark.parametrize(
    ("release", "notes"), [("6.18.4", 0), ("6.12.1-amd64", 1), ("6.1.0-18-amd64", 2)]
)
def test_what_an_older_kernel_does_otherwise(machine: MadeUp, release: str, notes: int) -> None:
    machine.write("proc/sys/kernel/osrelease", release)
    found = machine.examine()
    assert len([f for f in found if "before Linux" in f.fact and f.state == NOTE]) == notes


def test_an_engine_in_the_slice_one_in_its_service_and_one_that_nothing_covers(
    machine: MadeUp,
) -> None:
    machine.process(10, "dockerd", "/engines.slice/docker.service")
    machine.process(11, "containerd", "/system.slice/containerd.service")
    machine.process(12, "buildkitd", "/opt/builder")
    machine.process(13, "bash", "/user.slice")
    found = machine.examine()
    assert about(found, "dockerd").follows == "it is filtered from its first packet on"
    assert about(found, "containerd runs").state == OK
    uncovered = about(found, "buildkitd")
    assert uncovered.state == NOTE
    assert "not filtered" in uncovered.follows
    assert '"opt/builder"]' in uncovered.mend
    assert '"engines.slice"' in uncovered.mend
    assert not [finding for finding in found if "bash" in finding.fact]


def test_the_line_that_the_doctor_names_covers_the_engine(machine: MadeUp) -> None:
    machine.process(12, "buildkitd", "/opt/builder")
    line = about(machine.examine(), "buildkitd").mend.partition(": ")[2]
    text = f"version = 1\n[scopes.engines]\n{line}\n"
    policy, _ = parse(text, "", shipped())
    assert engines.is_covered("opt/builder", policy.engines.cgroups)
    machine.write("policy.toml", text)
    assert about(machine.examine(), "buildkitd").state == OK


def test_an_engine_at_the_root_of_the_cgroups_is_told_to_get_one(machine: MadeUp) -> None:
    machine.process(10, "dockerd", "/")
    assert about(machine.examine(), "dockerd").mend.endswith("--slice=engines.slice dockerd")


def test_an_engine_of_another_network_namespace_is_not_taken_for_a_filtered_one(
    machine: MadeUp,
) -> None:
    machine.process(10, "dockerd", "/engines.slice/docker.service", "net:[2]")
    finding = about(machine.examine(), "dockerd")
    assert finding.state == NOTE
    assert "another network namespace" in finding.fact


def test_a_process_that_ends_meanwhile_is_left_out(machine: MadeUp) -> None:
    machine.write("proc/10/comm", "dockerd\n")
    assert about(machine.examine(), "no container engine").state == OK


@pytest.mark.parametrize(
    ("cgroup", "pattern", "covered"),
    [
        ("system.slice/docker.service", "system.slice/docker.service", True),
        ("system.slice/docker.service/below", "system.slice/docker.service", True),
        ("system.slice/docker-ab12.scope", "system.slice/docker-*.scope", True),
        ("system.slice", "system.slice/docker.service", False),
        ("a/system.slice/docker.service", "system.slice/docker.service", False),
        ("user.slice/a/b", "user.slice/*b", False),
    ],
)
def test_a_pattern_covers_a_cgroup_and_all_below_it(
    cgroup: str,
    pattern: str,
    covered: bool,  # noqa: FBT001
) -> None:
    assert engines.is_covered(cgroup, [pattern]) is covered


def test_wsl_and_docker_desktop_are_told(machine: MadeUp) -> None:
    machine.write("proc/version", "Linux version 6.6.87.2-microsoft-standard-WSL2")
    (machine.root / "mnt/wsl/docker-desktop").mkdir(parents=True)
    found = machine.examine()
    assert about(found, "WSL2").state == NOTE
    assert "no filter here can see them" in about(found, "Docker Desktop").follows


@pytest.mark.parametrize(
    ("config", "is_desktop"),
    [
        ('{"currentContext": "desktop-linux"}', True),
        ('{"currentContext": "default"}', False),
        ('{"currentContext": 1}', False),
        ("[]", False),
        ("not json", False),
    ],
)
def test_a_docker_client_that_speaks_to_docker_desktop(
    machine: MadeUp,
    config: str,
    is_desktop: bool,  # noqa: FBT001
) -> None:
    machine.write("home/ann/.docker/config.json", config)
    found = [f for f in machine.examine() if "Docker Desktop" in f.fact]
    assert bool(found) is is_desktop


def test_a_service_that_flushes_all_rules_is_told(machine: MadeUp) -> None:
    wants = machine.root / "etc/systemd/system/sysinit.target.wants"
    wants.mkdir(parents=True)
    (wants / "nftables.service").symlink_to("/lib/systemd/system/nftables.service")
    assert "flushes every table" in about(machine.examine(), "nftables.service").follows


def test_a_policy_that_cannot_be_read_is_told_and_the_rest_is_examined(machine: MadeUp) -> None:
    machine.policy.unlink()
    found = machine.examine()
    assert "ramfw check" in about(found, "policy cannot be read").mend
    assert about(found, "no container engine").state == OK


def test_the_real_kernel_is_asked_and_nothing_is_left_in_it(tmp_path: Path) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text("version = 1\n")
    ramfw = f"{sys.executable} -m ramfw.cli"
    script = f"{ramfw} doctor --json --policy {policy}; /usr/sbin/nft list tables >&2"
    # A user and network namespace of its own: no root is needed, and nothing else is reached.
    done = subprocess.run(
        ["unshare", "-rn", "sh", "-c", script], capture_output=True, text=True, check=True
    )
    findings = {f["fact"]: f["state"] for f in json.loads(done.stdout)["findings"]}
    assert findings["nf_tables can be used in this network namespace"] == OK
    assert findings["the kernel takes the policy's rules as a whole (a dry run)"] == OK
    assert findings["matching by cgroup (socket cgroupv2): works"] == OK
    assert done.stderr == ""


# -- the service -------------------------------------------------------------------------------

UNITS = "usr/lib/systemd/system"
WSL = "Linux version 6.6.87.2-microsoft-standard-WSL2"


def installed(machine: MadeUp) -> None:
    machine.write(f"{UNITS}/ramfw.service", "")
    machine.write(f"{UNITS}/docker.service.d/ramfw.conf", "")
    machine.write(f"{UNITS}/user@.service.d/ramfw.conf", "")
    machine.write("var/lib/ramfw/boot.nft", "")
    for unit, where in service.WANTED.items():
        link = machine.root / where / unit
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(f"/{UNITS}/{unit}")


def test_a_machine_without_the_service_is_told_how_to_get_it(machine: MadeUp) -> None:
    finding = about(machine.examine(), "not a service")
    assert (finding.state, "make install" in finding.mend) == (NOTE, True)


def test_a_whole_service_is_well(machine: MadeUp) -> None:
    installed(machine)
    found = machine.examine()
    assert about(found, "its units are enabled").state == OK
    assert about(found, "kept for the next boot").state == OK


@pytest.mark.parametrize(
    ("unit", "fact"),
    [("docker", "not put into engines.slice"), ("user@", "users' own service managers")],
)
def test_a_drop_in_that_is_missing_is_told(unit: str, fact: str, machine: MadeUp) -> None:
    installed(machine)
    assert not [finding for finding in machine.examine() if fact in finding.fact]
    (machine.root / f"{UNITS}/{unit}.service.d/ramfw.conf").unlink()
    finding = about(machine.examine(), fact)
    assert (finding.state, "make install" in finding.mend) == (NOTE, True)


@pytest.mark.parametrize("unit", service.WANTED)
def test_a_unit_that_is_not_enabled_is_named_with_its_command(machine: MadeUp, unit: str) -> None:
    installed(machine)
    (machine.root / service.WANTED[unit] / unit).unlink()
    finding = about(machine.examine(), f"{unit} is not enabled")
    assert (finding.state, finding.mend) == (NOTE, f"systemctl enable --now {unit}")


def test_what_a_boot_begins_with_is_said(machine: MadeUp) -> None:
    installed(machine)
    (machine.root / "var/lib/ramfw/boot.nft").unlink()
    assert about(machine.examine(), "no last good rules").state == NOTE


def test_an_engine_outside_the_slice_is_told_how_to_get_in(machine: MadeUp) -> None:
    installed(machine)
    machine.process(7, "dockerd", "/system.slice/docker.service")
    finding = about(machine.examine(), "dockerd runs")
    assert finding.state == OK
    assert finding.mend.startswith("systemctl restart docker.service")


def test_a_wsl_distribution_without_systemd_needs_the_hook(machine: MadeUp) -> None:
    installed(machine)
    machine.write("proc/version", WSL)
    finding = about(machine.examine(), "does not start ramfw")
    assert (finding.state, "ramfw wsl install" in finding.mend) == (NOTE, True)
    machine.write("etc/wsl.conf", wslconf.with_hook("[boot]\ncommand=service docker start\n"))
    assert about(machine.examine(), "the distribution starts ramfw").state == OK


def test_wsls_dns_tunnel_is_told(machine: MadeUp) -> None:
    machine.write("proc/version", WSL)
    machine.write("etc/resolv.conf", "nameserver 10.255.255.254\n")
    assert about(machine.examine(), "DNS tunnel").state == OK


def test_whether_the_table_can_be_locked_is_told(machine: MadeUp) -> None:
    assert about(machine.examine(), "can be locked").state == OK
    plain = Willing()
    plain.lockable = False
    finding = about(machine.examine(plain), "cannot be locked")
    assert (finding.state, "Debian 13" in finding.mend) == (NOTE, True)


@pytest.mark.parametrize(("mode", "state"), [("strict", NOTE), ("off", MISSING)])
def test_without_cgroup_matching_the_scope_host_must_do(
    machine: MadeUp, mode: str, state: str
) -> None:
    machine.write("policy.toml", f'version = 1\n[scopes.host]\nmode = "{mode}"\n')
    finding = about(machine.examine(Without("socket cgroupv2")), "matching by cgroup")
    assert finding.state == state
    assert "No such file or directory" in finding.fact


@pytest.mark.parametrize("path", sorted(Path(service.__file__).parent.glob("*.py")))
def test_whatever_is_not_well_is_told_with_what_follows_and_what_mends_it(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if not (isinstance(node, ast.Call) and ast.unparse(node.func) == "Finding"):
            continue
        told = [*node.args, *(keyword.value for keyword in node.keywords)]
        if ast.unparse(told[1]) in {"NOTE", "MISSING"}:
            assert len(told) == 4, f"{path.name}, line {node.lineno}"
            assert not [one for one in told if isinstance(one, ast.Constant) and not one.value]
