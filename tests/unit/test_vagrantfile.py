"""The Vagrantfile: Vagrant's own check of it, and what it runs in the machine that it makes.

A whole machine is not made here: that takes a hypervisor and a box from the internet. What it is
given is the script by which the machine tests are set up too, so what that does is shown there.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.machine.installation import PROVISION
from tests.machine.rack import PLACE

TREE = Path(__file__).parents[2]
VAGRANTFILE = TREE / "Vagrantfile"


def validated(vagrantfile: Path, scratch: Path) -> tuple[bool, str]:
    """Whether a Vagrantfile is right, and what was said of it.

    By `vagrant validate` where there is a vagrant (`make packages` installs it, so CI has one);
    else, for whoever runs the unit tests alone, by its shape.
    """
    if (vagrant := shutil.which("vagrant")) is None:
        return well_formed(vagrantfile.read_text())
    done = subprocess.run(
        # Which hypervisor there is tells nothing of the file.
        [vagrant, "validate", "--ignore-provider"],
        cwd=vagrantfile.parent,
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(scratch),
            "VAGRANT_HOME": str(scratch / "home"),
            "VAGRANT_DOTFILE_PATH": str(scratch / "dot"),
            "VAGRANT_CHECKPOINT_DISABLE": "1",
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode == 0, done.stdout + done.stderr


def well_formed(text: str) -> tuple[bool, str]:
    """The shape of this one, where nobody is here who could tell for certain."""
    code = "\n".join(line.split("#")[0].rstrip() for line in text.splitlines())
    block = re.fullmatch(
        r'\s*Vagrant\.configure\("2"\) do \|config\|\n(.*)\nend\n*', code, re.DOTALL
    )
    if block is None:
        return False, "not one block of settings"
    names = re.findall(r"^ {2}(\S+)", block[1], re.MULTILINE)
    strange = set(names) - {f"config.vm.{name}" for name in ("box", "synced_folder", "provision")}
    return not strange, f"no settings that this test knows: {strange}"


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    (tmp_path / "vagrant").mkdir()
    return tmp_path / "vagrant"


def test_the_vagrantfile_is_right(scratch: Path) -> None:
    right, said = validated(VAGRANTFILE, scratch)
    assert right, said


@pytest.mark.parametrize(
    ("written", "instead"),
    [
        pytest.param("config.vm.provision", "config.vm.provison", id="no such setting"),
        pytest.param("\nend\n", "\n", id="a block that does not end"),
    ],
)
def test_a_wrong_one_would_be_found(
    tmp_path: Path, scratch: Path, written: str, instead: str
) -> None:
    text = VAGRANTFILE.read_text()
    assert text.count(written) == 1
    wrong = tmp_path / "Vagrantfile"
    wrong.write_text(text.replace(written, instead))
    right, said = validated(wrong, scratch)
    assert not right, said


def test_its_machine_is_set_up_as_the_machine_tests_are() -> None:
    text = VAGRANTFILE.read_text()
    script = Path(PROVISION).relative_to(PLACE)
    assert (TREE / script).stat().st_mode & 0o111
    assert f'"shell", inline: "{PROVISION}"' in text
    assert f'synced_folder ".", "{PLACE}"' in text, "the tree is where tests have it"
