"""The first bytes of every real client of the lab say to ramfw what they say to OpenSSL."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ramfw.core.opening import Hello
from ramfw.wire.tls_hello import read
from tests.lab.hellos import SAMPLED, SPEAKERS, Recorder, Speaker, recording
from tests.lab.lab import Lab
from tests.unit.wire.hello_sample import NAME_IN_LAB, OF_THE_LAB, openssl, recorded


@pytest.fixture(scope="module")
def recorder(module_lab: Lab) -> Iterator[Recorder]:
    with recording(module_lab) as made:
        yield made


@pytest.mark.parametrize("speaker", SPEAKERS, ids=lambda speaker: speaker.key)
def test_a_client_names_the_server_that_openssl_reads(speaker: Speaker, recorder: Recorder) -> None:
    stream = recorder.hear(speaker)

    found = read(stream)

    assert isinstance(found, Hello)
    assert (found.server_name, found.end) == (NAME_IN_LAB, len(stream))
    assert openssl().reads(stream) == (True, NAME_IN_LAB)


def test_the_samples_are_of_these_clients() -> None:
    assert {name for name in recorded() if name.startswith(OF_THE_LAB)} == {
        f"{OF_THE_LAB}{speaker.key}" for speaker in SAMPLED
    }
