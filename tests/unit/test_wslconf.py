"""ramfw's hook in /etc/wsl.conf: nothing is lost, and taking it out gives back what was there."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ramfw.wslconf import HOOK, has_hook, uses_systemd, with_hook, without_hook

TEXTS = {
    "no file": "",
    "no boot section": "[automount]\nenabled = true\n",
    "no newline at the end": "[automount]\nenabled = true",
    "a boot section": "[boot]\nsystemd=false\n\n[user]\ndefault=me\n",
    "a bare header": "[user]\ndefault=me\n[boot]",
    "a command": "[boot]\ncommand = service docker start\n",
    "in other case": "[Boot]\nCommand=service docker start # and more\n",
    "a quoted command": '[boot]\ncommand = "service docker start; echo \\"#\\""\n',
    "an empty command": "[boot]\ncommand=\n",
    "an empty quoted command": '[boot]\ncommand = ""\n',
    "a command that goes on": "[boot]\ncommand = service docker start; \\\n  service cron start\n",
    "Windows' line ends": "[boot]\r\ncommand=service docker start\r\n[user]\r\ndefault=me\r\n",
    "a command elsewhere": "[interop]\ncommand=x\n[boot]\nsystemd=0\n",
    "a commented command": "[boot]\n# command=service docker start\n",
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
def test_it_goes_in_once_and_comes_out_without_a_trace(text: str) -> None:
    hooked = with_hook(text)
    assert has_hook(hooked)
    assert hooked.count(HOOK) == 1
    assert with_hook(hooked) == hooked
    expected = text
    if text and not text.endswith("\n") and "command" not in text.lower():
        expected = text + "\n"  # a line cannot be added behind one that does not end
    assert without_hook(hooked) == expected
    assert not has_hook(text)
    assert without_hook(text) == text


def test_what_was_to_be_run_is_run_after_it() -> None:
    assert f"command = {HOOK}; service docker start\n" in with_hook(TEXTS["a command"])
    quoted = with_hook(TEXTS["a quoted command"])
    assert f'command = "{HOOK}; service docker start; echo \\"#\\""\n' in quoted
    assert f'command = "{HOOK}"\n' in with_hook(TEXTS["an empty quoted command"])


def test_every_other_line_stays_as_it_was() -> None:
    for text in TEXTS.values():
        kept = [line for line in text.splitlines() if not line.lower().startswith("command")]
        hooked = with_hook(text).splitlines()
        assert [line for line in hooked if line in kept][: len(kept)] == kept


def test_the_first_of_two_commands_counts() -> None:
    text = "[boot]\ncommand=one\ncommand=two\n"
    assert with_hook(text) == f"[boot]\ncommand={HOOK}; one\ncommand=two\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[boot]\nsystemd=true\n", True),
        ("[boot]\nsystemd = TRUE # yes\n", True),
        ('[boot]\nsystemd="true"\n', True),
        ("[boot]\nsystemd=false\n", False),
        ("[user]\nsystemd=true\n", False),
        ("[boot]\n#systemd=true\n", False),
        ("", False),
    ],
)
def test_whether_systemd_is_used(text: str, *, expected: bool) -> None:
    assert uses_systemd(text) is expected


LINES = st.sampled_from(
    ["[boot]", "[user]", "command=a", 'command = "b"', "systemd=true", "# c", "", "x = y \\", "  z"]
)


@given(st.lists(LINES))
def test_any_file_is_given_back(lines: list[str]) -> None:
    text = "".join(f"{line}\n" for line in lines)
    assert without_hook(with_hook(text)) == text
