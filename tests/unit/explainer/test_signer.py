"""The signer signs for refused names and for no other, whoever asks."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from ramfw.errors import MissingError
from ramfw.explainer.certificates import Identity
from ramfw.explainer.lately import PATIENCE
from ramfw.explainer.signer import BURST, Signer
from ramfw.explainer.signing import question
from tests.unit.core.catalogs import REGISTRY
from tests.unit.explainer.authority import make_authority, policy_with
from tests.unit.fake_daemon import fake_daemon

KEY = Identity().public_key
NOBODY = Path("/nonexistent/control.sock")
"""Where no daemon answers."""


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    path = tmp_path / "policy.toml"
    path.write_text(policy_with(*make_authority(tmp_path)))
    return path


@pytest.fixture
def signer(policy: Path) -> Signer:
    return Signer(policy, NOBODY)


def answer(signer: Signer, name: str, key: bytes = KEY) -> dict[str, str]:
    return asyncio.run(signer.answer(question(name, key)))


def test_a_refused_name_gets_a_certificate_for_an_hour_and_for_nothing_else(
    signer: Signer, tmp_path: Path
) -> None:
    chain = x509.load_pem_x509_certificates(answer(signer, "ghcr.io")["chain"].encode())
    leaf, ca = chain
    assert ca == x509.load_pem_x509_certificate((tmp_path / "ca.pem").read_bytes())
    leaf.verify_directly_issued_by(ca)
    now = datetime.now(UTC)
    assert leaf.not_valid_before_utc < now < leaf.not_valid_after_utc
    assert leaf.not_valid_after_utc - now <= timedelta(hours=1)
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["ghcr.io"]
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert (
        leaf.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        == KEY
    )


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("registry-1.docker.io", "the policy permits this name"),
        ("europe.pkg.dev", "the policy permits this name"),
        ("REGISTRY-1.docker.io", "canonical"),
        ("registry-1.docker.io.", "canonical"),
        ("*.docker.io", "canonical"),
        ("*", "canonical"),
        ("", "canonical"),
        ("ghcr.io\0.docker.io", "canonical"),
        ("203.0.113.20", "canonical"),
        ("a" * 70_000, "canonical"),
    ],
)
def test_a_permitted_name_and_what_is_no_name_gets_none(
    signer: Signer, name: str, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    logging.getLogger("ramfw").propagate = True
    assert why in answer(signer, name)["error"]
    assert "not signed for" in caplog.text
    assert "chain" in answer(signer, "ghcr.io")


def test_each_signature_is_logged(signer: Signer, caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("ramfw").propagate = True
    with caplog.at_level(logging.INFO, logger="ramfw"):
        answer(signer, "ghcr.io")
        answer(signer, "registry-1.docker.io")
    assert caplog.messages == [
        "signed for ghcr.io",
        "not signed for 'registry-1.docker.io': the policy permits this name",
    ]


def test_a_name_that_becomes_permitted_is_signed_for_no_longer(
    signer: Signer, policy: Path
) -> None:
    assert "chain" in answer(signer, "ghcr.io")
    good = policy.read_text()
    policy.write_text(good.replace("docker.io", "ghcr.io"))
    assert "permits" in answer(signer, "ghcr.io")["error"]
    policy.write_text("version = 1\n[[alow]]")
    assert "cannot be used" in answer(signer, "quay.io")["error"]
    policy.write_text(good)
    assert "chain" in answer(signer, "ghcr.io")


def test_in_audit_mode_nothing_is_refused_and_nothing_signed(tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    audit = '[enforcement]\nmode = "audit"\n'
    path.write_text(policy_with(*make_authority(tmp_path), more=audit))
    assert "audit mode" in answer(Signer(path, NOBODY), "ghcr.io")["error"]


OFF_BUT_REGISTRIES = """\
[scopes.engines]
mode = "off"
[scopes.containers]
mode = "registries"
[scopes.host]
mode = "registries"
"""


def signer_with(directory: Path, scopes: str) -> Signer:
    path = directory / "policy.toml"
    path.write_text(policy_with(*make_authority(directory), more=scopes))
    return Signer(path, NOBODY)


def test_where_only_registries_are_refused_only_registries_are_signed_for(tmp_path: Path) -> None:
    signer = signer_with(tmp_path, OFF_BUT_REGISTRIES)
    assert "chain" in answer(signer, "ghcr.io")
    assert "chain" in answer(signer, "123456789012.dkr.ecr.eu-west-1.amazonaws.com")
    for name in ("bank.example", "login.microsoftonline.com", "ghcr.io.example"):
        assert "no scope refuses this name" in answer(signer, name)["error"]


ALL_REFUSED = (
    OFF_BUT_REGISTRIES + 'unknown = "refuse"\n',
    OFF_BUT_REGISTRIES.replace('mode = "off"', 'mode = "strict"', 1),
)
"""Policies that refuse every name that they do not permit."""


@pytest.mark.parametrize("scopes", ALL_REFUSED)
def test_what_is_no_registrys_is_signed_for_only_if_the_daemon_refused_it_just_now(
    tmp_path: Path, scopes: str, caplog: pytest.LogCaptureFixture
) -> None:
    logging.getLogger("ramfw").propagate = True
    signer_with(tmp_path, scopes)
    for said, is_signed in (({"refused": True}, True), ({"refused": False}, False)):
        with fake_daemon(tmp_path / "control.sock", refused={"result": said}) as daemon:
            signer = Signer(tmp_path / "policy.toml", daemon.path)
            assert ("chain" in answer(signer, "bank.example")) is is_signed
            question = {"command": "refused", "arguments": {"name": "bank.example"}}
            assert daemon.asked == [question]
            # A permitted name, whatever the daemon says; and a registry without it.
            assert "permits" in answer(signer, "registry-1.docker.io")["error"]
            assert "chain" in answer(signer, "ghcr.io")
            assert daemon.asked == [question]
        daemon.path.unlink()
    assert "not signed for 'bank.example': it is no registry's, and the daemon" in caplog.text


@pytest.mark.parametrize(
    "said", [None, [], {}, {"refused": 1}, {"refused": "yes"}, {"refused": None}, "x" * 5000]
)
def test_another_word_than_a_plain_yes_is_none(tmp_path: Path, said: object) -> None:
    signer_with(tmp_path, ALL_REFUSED[1])
    with fake_daemon(tmp_path / "control.sock", refused={"result": said}) as daemon:
        signer = Signer(tmp_path / "policy.toml", daemon.path)
        assert "no connection to it just now" in answer(signer, "bank.example")["error"]


def test_without_a_daemon_registries_alone_are_signed_for_and_at_once(tmp_path: Path) -> None:
    signer = signer_with(tmp_path, ALL_REFUSED[1])
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "silent.sock"))
        silent.listen()
        stuck = Signer(tmp_path / "policy.toml", tmp_path / "silent.sock")
        for one in (signer, stuck):
            began = time.monotonic()
            assert "just now" in answer(one, "bank.example")["error"]
            assert "chain" in answer(one, "ghcr.io")
            assert time.monotonic() - began < 2 * PATIENCE + 1


def test_where_nothing_is_enforced_nothing_is_signed(tmp_path: Path) -> None:
    off = OFF_BUT_REGISTRIES.replace("registries", "off")
    assert "no scope refuses" in answer(signer_with(tmp_path, off), "ghcr.io")["error"]


def test_an_organizations_own_catalogue_tells_what_is_a_registry(tmp_path: Path) -> None:
    signer = signer_with(tmp_path, OFF_BUT_REGISTRIES)
    assert "no scope" in answer(signer, "registry.example")["error"]
    catalogue = tmp_path / "catalogue.toml"
    catalogue.write_text(REGISTRY)
    policy = tmp_path / "policy.toml"
    # The policy's own registry is not in that catalogue.
    text = policy.read_text().replace('registry = "docker.io"', 'host = "docker.io"')
    policy.write_text(f'{text}[catalog]\nfile = "{catalogue}"\n')
    assert "chain" in answer(signer, "registry.example")
    assert "no scope" in answer(signer, "ghcr.io")["error"]


def der(key: Any) -> bytes:  # noqa: ANN401
    spki: bytes = key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return spki


@pytest.mark.parametrize(
    "key",
    [b"", b"\x30\x00", der(ec.generate_private_key(ec.SECP384R1())), KEY[:-1]],
    ids=["none", "empty", "another curve", "cut short"],
)
def test_a_key_of_another_kind_is_refused(signer: Signer, key: bytes) -> None:
    assert "error" in answer(signer, "ghcr.io", key)


def test_an_rsa_key_is_refused_too(signer: Signer) -> None:
    key = der(rsa.generate_private_key(65537, 2048))
    assert answer(signer, "ghcr.io", key) == {"error": "not a key on the curve P-256"}


@pytest.mark.parametrize(
    "line",
    [
        *(b"\n", b"{}\n", b"[]\n", b"null\n", b"[" * 20_000, b"\xff\n"),
        *(b'{"name": 1, "key": ""}\n', b'{"name": "a", "key": 7}\n'),
        b'{"name": "ghcr.io", "key": "!!"}\n',
    ],
)
def test_what_is_no_question_gets_no_signature(signer: Signer, line: bytes) -> None:
    assert "error" in asyncio.run(signer.answer(line))


def test_signatures_are_given_out_slowly(signer: Signer) -> None:
    account = ".dkr.ecr.eu-west-1.amazonaws.com"
    answers = [answer(signer, f"{n:012}{account}") for n in range(int(BURST) + 40)]
    signed = sum("chain" in one for one in answers)
    assert BURST <= signed < BURST + 30
    assert answers[-1] == {"error": "too many signatures are asked for"}


def test_a_key_that_others_can_read_is_not_used(policy: Path, tmp_path: Path) -> None:
    (tmp_path / "ca.key").chmod(0o440)
    with pytest.raises(MissingError, match="chmod 400"):
        Signer(policy, NOBODY)


def test_a_key_that_the_signer_cannot_read_is_said_with_what_mends_it(
    policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root reads every file, so the kernel's refusal is made up here; the machines' is real."""
    opened = Path.open

    def refused(path: Path, *args: Any, **more: Any) -> Any:  # noqa: ANN401
        if path.name == "ca.key":
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, *args, **more)

    monkeypatch.setattr(Path, "open", refused)
    with pytest.raises(MissingError, match=f"chown [a-z-]+ {tmp_path / 'ca.key'}$"):
        Signer(policy, NOBODY)


def test_files_that_do_not_belong_together_are_not_used(policy: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    make_authority(other)
    (tmp_path / "ca.pem").write_bytes((other / "ca.pem").read_bytes())
    with pytest.raises(MissingError, match="not the key of"):
        Signer(policy, NOBODY)


def test_a_certificate_that_is_no_authoritys_is_not_used(tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    path.write_text(policy_with(*make_authority(tmp_path, is_ca=False)))
    with pytest.raises(MissingError, match="not a certificate authority's"):
        Signer(path, NOBODY)


def test_without_an_authority_there_is_no_signer(tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    path.write_text("version = 1\n")
    with pytest.raises(MissingError, match="names no authority"):
        Signer(path, NOBODY)
    with pytest.raises(MissingError, match="ramfw check"):
        Signer(tmp_path / "absent.toml", NOBODY)


def test_the_answer_is_one_line_of_json(signer: Signer) -> None:
    assert json.loads(json.dumps(answer(signer, "ghcr.io")))["chain"].count("BEGIN CERT") == 2
