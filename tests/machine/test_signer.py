"""The organization's authority on a whole machine: who signs for whom, under the services' rules.

The authority is made here and not the lab's, so what it has signed is told from a registry's own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.lab.addresses import CDN_BAD, GHCR, HUB, LOGS, NEXUS
from tests.lab.policies import DOCKER_IO, policy
from tests.lab.refused import about
from tests.lab.space import wait_until
from tests.machine.installation import PERMITTED, POLICY, pull
from tests.machine.machine import Machine

SIGNER, EXPLAINER_USER = "ramfw-signer.service", "ramfw-explainer"
ISSUER = "Example Corp refusals"
AUTHORITY = '[explainer]\nca = "/etc/ramfw/ca.pem"\nkey = "/etc/ramfw/ca.key"\n'
ORGANIZATION = policy(DOCKER_IO, more=AUTHORITY)
TRUSTED = "/etc/ssl/certs/ca-certificates.crt"
MAKE_AUTHORITY = f"""
cd /etc/ramfw
openssl req -x509 -nodes -days 30 -newkey ec -pkeyopt ec_paramgen_curve:P-256 \
    -subj '/CN={ISSUER}' -addext keyUsage=critical,keyCertSign \
    -keyout made.key -out ca.pem 2>&1
install --owner=ramfw-signer --group=root --mode=0400 made.key ca.key
rm made.key
chmod 0644 ca.pem
cat ca.pem >> {TRUSTED}
systemctl restart docker.service
"""
GET = """
import json, socket, ssl, sys
name, address = sys.argv[1:]
with socket.create_connection((address or name, 443), 5) as client:
    with ssl.create_default_context().wrap_socket(client, server_hostname=name) as session:
        shown = session.getpeercert()
        request = ("GET /v2/ HTTP/1.1", f"Host: {name}", "Connection: close", "", "")
        session.sendall("\\r\\n".join(request).encode())
        answer = b"".join(iter(lambda: session.recv(65536), b""))
head, _, body = answer.decode().partition("\\r\\n\\r\\n")
issuer = dict(pair for part in shown["issuer"] for pair in part)
names = [name for _, name in shown["subjectAltName"]]
print(json.dumps([issuer["commonName"], names, head.split()[1], json.loads(body)["errors"]]))
"""
ASK = """
import base64, json, socket, sys
with socket.socket(socket.AF_UNIX) as client:
    client.connect("/run/ramfw-signer.sock")
    client.sendall(json.dumps({"name": sys.argv[1], "key": sys.argv[2]}).encode() + b"\\n")
    print(client.makefile().readline(), end="")
"""
MAKE_KEY = (
    "openssl ecparam -name prime256v1 -genkey -noout"
    " | openssl ec -pubout -outform DER 2>/dev/null | base64 -w0"
)


def get(machine: Machine, name: str, address: str = "") -> Any:  # noqa: ANN401 - JSON
    """Who signed, for which names, the status and the errors, as a program of an engine sees it.

    The name is asked of the DNS, or the address is given. A text where it did not come to that.
    """
    done = machine.run(
        *("systemd-run", "--quiet", "--pipe", "--wait", "--collect", "--slice=engines.slice"),
        *("/usr/bin/python3", "-Ic", GET, name, address),
    )
    return json.loads(done.output) if done.ok else done.output


def ask(machine: Machine, user: str, name: str) -> str:
    """What the signer answers somebody; or what Python says where nobody answers."""
    key = machine.sh(MAKE_KEY)
    return machine.run(
        "runuser", "-u", user, "--", "/usr/bin/python3", "-Ic", ASK, name, key
    ).output


@pytest.fixture(scope="module")
def trusting(module_machine: Machine) -> Machine:
    """The module's machine, with an authority that its clients trust, engines too."""
    module_machine.sh(MAKE_AUTHORITY)
    return module_machine


@pytest.fixture
def signing(trusting: Machine, running: Machine) -> Iterator[Machine]:
    """The same with the authority in its policy, and nothing signed or kept yet."""
    assert trusting is running
    running.write(POLICY, ORGANIZATION)
    running.systemctl("reload", "ramfw.service")
    yield running
    running.systemctl("stop", SIGNER, "ramfw-explainer.service")


def test_a_refused_name_has_a_right_certificate_and_a_registrys_error(signing: Machine) -> None:
    """A registry of the catalogue, and a host that is none but was refused just now."""
    internet = signing.rack.internet
    assert not signing.active(SIGNER)
    # It is started when it is asked; a client does not wait so long for it.
    assert "chain" in json.loads(ask(signing, EXPLAINER_USER, GHCR.name))
    for site in (GHCR, NEXUS):
        error = {"code": "DENIED", "message": about(site.name), "detail": {"host": site.name}}
        assert get(signing, site.name) == [ISSUER, [site.name], "403", [error]]
        assert f"signed for {site.name}" in signing.journal(SIGNER)
    refused = pull(signing, f"{LOGS.name}/corp/app:1")
    assert not refused.ok
    assert f"denied: {about(LOGS.name)}" in refused.output
    assert internet.packets(GHCR) == internet.packets(NEXUS) == internet.packets(LOGS) == 0
    # What is permitted has its own certificate, of the lab's authority, under the same rules.
    assert pull(signing, PERMITTED).ok
    issuer, _, status, errors = get(signing, HUB.name)
    assert (issuer, status, errors[0]["code"]) == ("ramfw lab ca", "401", "UNAUTHORIZED")
    assert internet.packets(HUB, 443) > 0


def test_nobody_has_a_signature_for_what_is_permitted_or_was_not_refused(signing: Machine) -> None:
    """The explainer's own user asks the signer itself, as if it were taken over."""
    assert "chain" in json.loads(ask(signing, EXPLAINER_USER, GHCR.name))
    assert "error" in json.loads(ask(signing, EXPLAINER_USER, NEXUS.name))
    assert get(signing, NEXUS.name)[2] == "403"
    assert "chain" in json.loads(ask(signing, EXPLAINER_USER, NEXUS.name))
    for name, why in (
        (HUB.name, "the policy permits this name"),
        (CDN_BAD.name, "it is no registry's, and the daemon has refused no connection to it"),
    ):
        assert why in json.loads(ask(signing, EXPLAINER_USER, name))["error"]
        assert f"not signed for '{name}': {why}" in signing.journal(SIGNER)
    # Who knows the explainer, and claims a name for an address that is refused, has none either.
    assert "self-signed certificate" in get(signing, CDN_BAD.name, GHCR.v4)
    # Without the daemon nobody says that a name was refused; the catalogue's need no such word.
    signing.systemctl("stop", "ramfw.service")
    assert "error" in json.loads(ask(signing, EXPLAINER_USER, NEXUS.name))
    assert "chain" in json.loads(ask(signing, EXPLAINER_USER, GHCR.name))
    for user in ("nobody", "ramfw", "ramfw-prober"):
        assert "PermissionError" in ask(signing, user, GHCR.name)
    signing.systemctl("start", "ramfw.service")


def test_the_signer_alone_reads_the_key_and_can_do_nothing_else(signing: Machine) -> None:
    assert "chain" in json.loads(ask(signing, EXPLAINER_USER, GHCR.name))
    read = ("head", "--bytes=5", "/etc/ramfw/ca.key")
    assert signing.run("runuser", "-u", "ramfw-signer", "--", *read).output == "-----"
    for user in ("ramfw-explainer", "ramfw-prober", "ramfw", "nobody"):
        assert not signing.run("runuser", "-u", user, "--", *read).ok, user
    pid = signing.main_pid(SIGNER)
    said = signing.sh(f"cat /proc/{pid}/status; ls -l /proc/{pid}/ns/net /proc/1/ns/net")
    facts = dict(line.split(":\t", 1) for line in said.splitlines() if ":\t" in line)
    for kind in ("CapEff", "CapPrm", "CapBnd", "CapAmb"):
        assert int(facts[kind], 16) == 0, kind
    assert set(facts["Uid"].split()) == {signing.sh("id -u ramfw-signer").strip()}
    assert facts["NoNewPrivs"] == "1"
    assert len(set(re.findall(r"net:\[(\d+)\]", said))) == 2, "a network of its own"


def test_a_key_that_the_signer_cannot_read_is_said_and_opens_nothing(signing: Machine) -> None:
    """Clients are told as without an authority until the owner is put right."""
    signing.sh("chown root /etc/ramfw/ca.key")
    assert "self-signed certificate" in get(signing, GHCR.name)
    mend = "chown ramfw-signer /etc/ramfw/ca.key"
    wait_until(lambda: mend in signing.journal(SIGNER), 10, "the signer says what mends it")
    refused = pull(signing, f"{GHCR.name}/corp/app:1")
    assert f"certificate is valid for {about(GHCR.name)}, not {GHCR.name}" in refused.output
    assert signing.rack.internet.packets(GHCR) == 0
    signing.sh(mend)
    wait_until(lambda: get(signing, GHCR.name)[0] == ISSUER, 20, "it is signed for again")
