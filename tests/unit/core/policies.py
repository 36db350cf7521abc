"""Policies for tests, from the text that an administrator would write."""

from __future__ import annotations

from ramfw.core.catalog import shipped
from ramfw.core.policy import Policy
from ramfw.core.policy_parser import parse

HOST = '[[allow]]\nhost = "{}"\n'


def policy(body: str = "", *hosts: str) -> Policy:
    """The policy of this text, with an entry for each host before it."""
    text = "version = 1\n" + "".join(HOST.format(host) for host in hosts) + body + "\n"
    return parse(text, "policy.toml", shipped())[0]
