"""Figures of one run: medians, ratios and their spread, for people and as JSON."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any


@dataclass(frozen=True, slots=True)
class Measure:
    """One thing that is compared: the value of the run, and what it must keep to.

    A ratio is one of medians; `values` has that of each pair, where it could be told. `beside` are
    medians that explain the value, with their units, by what they are of.
    """

    row: str
    what: str
    value: float
    values: tuple[float, ...]
    bound: float
    at_least: bool = False
    unit: str = ""
    beside: dict[str, str] = field(default_factory=dict)

    @property
    def met(self) -> bool:
        return self.value >= self.bound if self.at_least else self.value <= self.bound

    def as_json(self) -> dict[str, Any]:
        return {
            "row": self.row,
            "what": self.what,
            "value": self.value,
            "least": min(self.values),
            "most": max(self.values),
            "unit": self.unit or "ratio",
            "bound": self.bound,
            "bound_is": "least" if self.at_least else "most",
            "met": self.met,
            "values": list(self.values),
            "beside": self.beside,
        }

    def lines(self) -> list[str]:
        """The measure for people."""
        sign = ">=" if self.at_least else "<="
        spread = f"{min(self.values):.2f}..{max(self.values):.2f}"
        unit = f" {self.unit}" if self.unit else ""
        state = "met" if self.met else "NOT MET"
        head = f"  {self.what}: {self.value:.2f}{unit} ({spread}; {sign} {self.bound:g}: {state})"
        return [head, *(f"      {what}: {figure}" for what, figure in self.beside.items())]


def differences(more: Sequence[float], less: Sequence[float]) -> list[float]:
    return [one - other for one, other in zip(more, less, strict=True)]


def ratio(ours: Sequence[float], peers: Sequence[float]) -> tuple[float, tuple[float, ...]]:
    """The ratio of the medians, and that of each pair whose second half is more than nothing."""
    if median(peers) <= 0:
        raise RuntimeError(f"the machine is too noisy to tell: {ours}, {peers}")
    pairs = zip(ours, peers, strict=True)
    each = tuple(one / other for one, other in pairs if other > 0)
    return median(ours) / median(peers), each


def machine() -> dict[str, str]:
    """What the figures were measured on, and with."""
    models = re.findall(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return {
        "cpu": models[0] if models else platform.machine(),
        "cores": str(os.cpu_count()),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "nft": _first_line("nft", "--version"),
        "dnsmasq": _first_line("dnsmasq", "--version"),
        "dnsperf": _version("dnsperf"),
        "openssl": _version("libssl3"),
        "iperf3": _version("iperf3"),
        "ramfw": _first_line("git", "describe", "--always", "--dirty"),
    }


def _first_line(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return (done.stdout.splitlines() or [""])[0]


def _version(package: str) -> str:
    return _first_line("dpkg-query", "--show", "--showformat=${Version}", package)
