"""The one message that a refused person is shown, whichever way it reaches them.

Pure. It says what was refused, who refused it, what is permitted and where to ask, from one
template of the policy; the words are the same in a certificate, a registry's error and a page.
"""

from __future__ import annotations

import string
import unicodedata

from ramfw.core.policy import EntryKind, Policy

PLACEHOLDERS = ("host", "organization", "allowed", "contact")
DEFAULT_PORT = 443
"""The port of a registry that its name leaves out."""
LONGEST_TEMPLATE = 400
"""Characters of a template."""
LONGEST_ALLOWED = 200
"""Characters of the list of what is permitted; what no longer fits is counted."""
LONGEST_MESSAGE = 900
"""Characters of a whole message: a server name, the organization and the contact are bounded."""


def template_problem(template: str) -> str | None:
    """What is wrong with a template of the policy; None if nothing is."""
    if not template.strip():
        return "the message is empty: people would not learn why they are refused"
    if not template.isprintable():
        return "must be one line without control characters: people are shown it"
    if len(template) > LONGEST_TEMPLATE:
        return f"has {len(template)} characters; {LONGEST_TEMPLATE} are permitted"
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError:
        return "a brace by itself; write `{{` or `}}` for a brace"
    for _, name, form, conversion in parts:
        if name is None:
            continue
        if name not in PLACEHOLDERS or form or conversion:
            known = ", ".join(f"{{{word}}}" for word in PLACEHOLDERS)
            return f"`{{{name}}}` cannot be filled in; what can are {known}"
    if "host" not in {name for _, name, _, _ in parts}:
        return "does not name what was refused: write `{host}` where it belongs"
    return None


def as_registry(host: str, port: int) -> str:
    """What a proxy was asked for, as an image's name begins: a port only if it must be written."""
    if port == DEFAULT_PORT:
        return host
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def refusal_message(policy: Policy | None, host: str) -> str:
    """The message for a refused host, which must be a canonical name or an address.

    `policy` is None where none can be read: then it says no more than that.
    """
    if policy is None:
        return f"Access to {host} has been restricted by your administrators."
    words = {
        "host": host,
        "organization": policy.organization.name,
        "allowed": allowed(policy),
        "contact": policy.organization.contact,
    }
    template = policy.explainer.message or _default(policy)
    return template.format(**words)[:LONGEST_MESSAGE]


def _default(policy: Policy) -> str:
    template = "Access to {host} has been restricted by your administrators"
    if policy.organization.name:
        template += " ({organization})"
    template += ". Allowed: {allowed}."
    return template + (" See {contact}" if policy.organization.contact else "")


def allowed(policy: Policy) -> str:
    """The registries and hosts of a policy, as people call them; the first ones of many."""
    kinds = (EntryKind.REGISTRY, EntryKind.HOST)
    labels = list(dict.fromkeys(e.label for e in policy.entries if e.kind in kinds))
    shown = ""
    for position, label in enumerate(labels):
        more = f", {label}" if shown else label
        if len(shown) + len(more) > LONGEST_ALLOWED:
            return f"{shown} and {len(labels) - position} more"
        shown += more
    return shown or "none"


def ascii_only(message: str) -> str:
    """The message in ASCII, for where nothing else fits (certificates, HTTP's status line)."""
    parts = unicodedata.normalize("NFKD", message)
    plain = "".join(c for c in parts if not unicodedata.combining(c))
    return "".join(c if " " <= c <= "~" else "?" for c in plain)
