"""A namespace that plays WSL2: its interface, its DNS tunnel on lo, its own chains, no systemd.

What cannot be played is Windows; what its kernels lack (CONFIG_NFT_SOCKET from 6.6 on) is said to
lack, by a daemon whose kernel answers so.
"""

from __future__ import annotations

import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ramfw.control import request
from ramfw.wslconf import HOOK
from tests.lab.addresses import DNS, GHCR, HOST, HUB, ROUTER
from tests.lab.host import RAMFW, Host
from tests.lab.lab import Lab
from tests.lab.policies import DOCKER_IO, REGISTRIES, STRICT, policy
from tests.lab.space import Process, wait_until

TREE = Path(__file__).parents[2]
PYTHON = f"/run/tree/{Path(sys.executable).relative_to(TREE)}"
"""The same, where the daemon's own user can reach it too."""
TUNNEL = "10.255.255.254"
POLICY = policy(DOCKER_IO, host=STRICT)

WITHOUT_CGROUPS = """
import sys
from ramfw.program.nft import Nft
Nft.matches_cgroups = lambda _: False
from ramfw.cli import main
main()
"""

MIRRORED = """
table ip filter {
    chain WSLOUTPUT {
        type filter hook output priority 0; policy accept;
        counter meta mark set 0x1
    }
}
table ip nat {
    chain WSLPOSTROUTING {
        type nat hook postrouting priority srcnat - 1; policy accept;
        oifname "eth0" meta mark 0x1 counter comment "as WSL marked it"
        oifname "eth0" meta mark != 0x1 counter masquerade
    }
}
"""


@pytest.fixture
def wsl(fresh_lab: Lab) -> Iterator[Host]:
    """A distribution: eth0, the tunnel's address and server on lo, and resolv.conf naming it."""
    host = fresh_lab.host
    host.namespace.sh(
        f"""
        ip link set uplink down
        ip link set uplink name eth0
        ip link set eth0 up
        ip -6 addr replace {HOST.v6}/64 dev eth0 nodad
        ip route replace default via {ROUTER.v4}
        ip route replace default via {ROUTER.v6}
        ip addr add {TUNNEL}/32 dev lo
        """
    )
    tunnel = host.namespace.start(
        *("dnsmasq", "--keep-in-foreground", "--no-resolv", "--no-hosts", "--bind-interfaces"),
        *(f"--listen-address={TUNNEL}", f"--server={DNS.v4}", "--user=root", "--log-facility=-"),
        cgroup="init.scope",
    )
    tunnel.wait_for("started")
    host.set_servers(TUNNEL)
    yield host
    tunnel.stop()


def start(host: Host, code: str = WITHOUT_CGROUPS) -> Process:
    host.write_policy(POLICY)
    daemon = host.namespace.start(
        *("env", f"PYTHONPATH={TREE}", sys.executable, "-P", "-c", code, "run"), cgroup=RAMFW
    )
    daemon.wait_for("the policy is in force")
    request(host.control, "wait", {"seconds": 10})
    return daemon


def test_the_distribution_itself_is_filtered_where_engines_cannot_be_told(wsl: Host) -> None:
    assert wsl.curl(f"https://{GHCR.name}/v2/").ok, "the way is open without ramfw"

    start(wsl)

    assert wsl.curl(f"https://{GHCR.name}/v2/").refused
    assert wsl.curl(f"https://{HUB.name}/v2/").ok
    assert wsl.curl(f"http://{GHCR.v4}:5432/").ok, "a port that is no registry's"
    status = wsl.status()
    assert status["dns"]["servers"] == [TUNNEL]
    assert not status["by_cgroup"]
    assert any("CONFIG_NFT_SOCKET" in problem["what"] for problem in status["problems"])


def test_where_unknown_hosts_cannot_be_asked_it_is_said_with_what_follows(wsl: Host) -> None:
    start(wsl)
    assert not asking(wsl)
    assert wsl.reload(policy(DOCKER_IO, host=f'{REGISTRIES}\nunknown = "probe"')).ok

    ((what, follows),) = asking(wsl)

    assert what == "unknown hosts are not asked: this kernel cannot tell sockets by cgroup"
    assert "passes as any web site does" in follows


def asking(wsl: Host) -> list[tuple[str, str]]:
    """What status says of the asking of unknown hosts."""
    problems = wsl.status()["problems"]
    told = ((problem["what"], problem["follows"]) for problem in problems)
    return [one for one in told if "unknown hosts" in one[0]]


def test_an_answer_by_the_tunnel_opens_its_address_before_it_arrives(wsl: Host) -> None:
    start(wsl)
    wsl.set_hosts({})
    before = wsl.status()["watch"]["answers_learned"]
    assert wsl.curl(f"https://{HUB.name}/v2/").ok
    assert wsl.status()["watch"]["answers_learned"] > before


def test_mirrored_modes_mark_is_left_alone(wsl: Host) -> None:
    (wsl.directory / "mirrored.nft").write_text(MIRRORED)
    wsl.namespace.sh(f"nft -f {wsl.directory}/mirrored.nft")
    others = wsl.rules_of_others()
    start(wsl)
    assert wsl.curl(f"https://{HUB.name}/v2/").ok
    assert wsl.curl(f"https://{GHCR.name}/v2/").refused
    assert wsl.rules_of_others() == others
    marked, changed = re.findall(
        r"counter packets (\d+)", wsl.namespace.sh("nft list chain ip nat WSLPOSTROUTING")
    )
    assert int(marked) > 0, "connections leave by WSL's chain"
    assert int(changed) == 0, "and carry WSL's mark, and no other"


@pytest.fixture
def installed(wsl: Host) -> Iterator[Host]:
    """The files that the hook needs where `make install` puts them, over the machine's own."""
    wsl.namespace.sh(
        f"""
        mkdir /run/usr /run/usr-work /run/tree
        mount --bind {TREE} /run/tree
        mount -t overlay overlay -o lowerdir=/usr,upperdir=/run/usr,workdir=/run/usr-work /usr
        mkdir -p /usr/lib/ramfw
        cp {TREE}/install/boot {TREE}/install/keep-slice {TREE}/install/wsl-boot /usr/lib/ramfw
        cat >/usr/bin/ramfw <<'END'
#!/bin/sh
PYTHONPATH=/run/tree exec {PYTHON} -P -m ramfw "$@"
END
        chmod 755 /usr/bin/ramfw
        useradd --system --user-group --no-create-home --home-dir /var/lib/ramfw ramfw
        """
    )
    wsl.write_policy(POLICY)
    yield wsl
    wsl.namespace.run("ramfw", "wsl", "uninstall")


def daemon_pid(host: Host) -> int:
    return int(host.status()["pid"])


def test_the_hook_loads_the_rules_and_keeps_the_daemon_up(installed: Host) -> None:
    host = installed
    conf = host.namespace.root / "etc/wsl.conf"
    conf.write_text("[boot]\ncommand = echo also run >/run/also\n")
    host.namespace.sh("ramfw wsl install")
    command = conf.read_text().partition("= ")[2].strip()
    assert command.startswith(HOOK)

    host.namespace.sh(command, cgroup="init.scope")

    assert "guard_output" in host.rules(), "the rules are in when the command returns"
    assert (host.namespace.root / "run/also").read_text() == "also run\n"
    wait_until(lambda: host.ramfw("status", "--wait", "10").ok, 20, "the daemon is up")
    who = host.namespace.sh(f"grep -E '^(Uid|CapEff|CapBnd)' /proc/{daemon_pid(host)}/status")
    assert "\t0\t" not in who, "not root"
    assert who.count("0000000000001000") == 2, "CAP_NET_ADMIN and nothing else"
    assert host.curl(f"https://{GHCR.name}/v2/").refused
    assert host.curl(f"https://{HUB.name}/v2/").ok

    first = daemon_pid(host)
    host.namespace.sh(f"kill -{signal.SIGKILL.value} {first}")
    wait_until(
        lambda: host.ramfw("status").ok and daemon_pid(host) != first, 20, "another one runs"
    )

    host.namespace.sh("ramfw wsl uninstall")
    assert conf.read_text() == "[boot]\ncommand = echo also run >/run/also\n"
    wait_until(lambda: host.ramfw("status").code == 4, 20, "the daemon has ended")
    assert host.curl(f"https://{GHCR.name}/v2/").refused, "its rules stay until unload"


def test_the_last_good_rules_are_those_of_the_next_start(installed: Host) -> None:
    host = installed
    host.namespace.sh(HOOK, cgroup="init.scope")
    wait_until(lambda: host.ramfw("status", "--wait", "10").ok, 20, "the daemon is up")
    kept = host.namespace.root / "var/lib/ramfw/boot.nft"
    wait_until(kept.exists, 10, "the rules are kept")
    host.namespace.sh("ramfw wsl uninstall")
    wait_until(lambda: host.ramfw("status").code == 4, 20, "the daemon has ended")
    host.namespace.sh("ramfw unload")
    host.write_policy("version = ")

    host.namespace.sh(HOOK, cgroup="init.scope")

    wait_until(lambda: host.ramfw("status", "--wait", "10").ok, 20, "the last good policy holds")
    assert host.status()["policy_problems"]
    assert host.curl(f"https://{GHCR.name}/v2/").refused
    assert host.curl(f"https://{HUB.name}/v2/").ok
