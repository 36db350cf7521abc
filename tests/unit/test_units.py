"""The services' files: what strangers talk to has no right, and is where the filter turns to."""

from __future__ import annotations

from pathlib import Path

import pytest

from ramfw.core.turn_rules import EXPLAINER_PORT
from ramfw.explainer import SIGNER_SOCKET
from ramfw.prober import PROBER_SOCKET
from ramfw.program.tun import DEVICE

UNITS = Path(__file__).parents[2] / "systemd/system"


def settings(name: str) -> dict[str, str]:
    lines = (UNITS / name).read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line and line[0] != "#")


@pytest.mark.parametrize("name", ["explainer", "signer", "prober"])
def test_no_such_process_can_do_anything_but_answer(name: str) -> None:
    service = settings(f"ramfw-{name}.service")
    assert service["CapabilityBoundingSet"] == ""
    assert "AmbientCapabilities" not in service
    assert service["User"] == f"ramfw-{name}"
    assert service["NoNewPrivileges"] == "yes"
    # Connections are handed to it; it cannot open any.
    assert service["PrivateNetwork"] == "yes"
    assert service["RestrictAddressFamilies"] == "AF_UNIX"
    assert service["MemoryDenyWriteExecute"] == "yes"
    assert {"MemoryMax", "TasksMax", "LimitNOFILE"} <= service.keys()
    # One that hangs would keep people waiting.
    assert (service["WatchdogSec"], service["WatchdogSignal"]) == ("5", "SIGKILL")


def test_the_daemon_has_one_device_beside_the_harmless_ones() -> None:
    service = settings("ramfw.service")
    assert (service["PrivateDevices"], service["DevicePolicy"]) == ("yes", "closed")
    assert service["DeviceAllow"] == f"{DEVICE} rw"
    assert service["BindPaths"] == f"-{DEVICE}", "a machine without it is none that fails"
    assert service["CapabilityBoundingSet"] == "CAP_NET_ADMIN"


def test_the_explainers_socket_is_on_the_port_that_connections_are_turned_to() -> None:
    socket = settings("ramfw-explainer.socket")
    assert socket["ListenStream"] == str(EXPLAINER_PORT)
    assert EXPLAINER_PORT < 1024
    assert settings("ramfw-explainer.service")["Restart"] == "always"


def test_only_the_explainer_can_ask_the_signer() -> None:
    socket = settings("ramfw-signer.socket")
    assert socket["ListenStream"] == str(SIGNER_SOCKET)
    assert (socket["SocketUser"], socket["SocketMode"]) == ("ramfw-explainer", "0600")
    users = UNITS.parent / "sysusers.d/ramfw-explainer.conf"
    named = {line.split()[1] for line in users.read_text().splitlines() if line[:2] == "u "}
    assert named == {"ramfw-explainer", "ramfw-signer", "ramfw-prober"}


def test_only_the_daemon_can_ask_the_prober_which_leads_no_connection_elsewhere() -> None:
    socket = settings("ramfw-prober.socket")
    assert socket["ListenStream"] == str(PROBER_SOCKET)
    assert (socket["SocketUser"], socket["SocketMode"]) == (
        settings("ramfw.service")["User"],
        "0600",
    )
    unit = (UNITS / "ramfw-prober.service").read_text()
    assert "SystemCallFilter=~connect io_uring_setup\n" in unit
