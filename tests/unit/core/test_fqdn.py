"""Names come in many forms and leave in one; what is no name is refused with the right words."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ramfw.core import fqdn

LABEL = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?", fullmatch=True)
NAME = st.lists(LABEL, min_size=1, max_size=4).map(lambda labels: ".".join([*labels, "example"]))


@pytest.mark.parametrize(
    ("written", "form"),
    [
        ("ghcr.io", "ghcr.io"),
        ("GHCR.Io", "ghcr.io"),
        ("ghcr.io.", "ghcr.io"),
        ("nexus", "nexus"),
        ("r1---sn.example", "r1---sn.example"),
        ("123.example", "123.example"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("BÜCHER.example.", "xn--bcher-kva.example"),
        ("XN--BCHER-KVA.example", "xn--bcher-kva.example"),
        ("straße.example", "xn--strae-oqa.example"),
        ("ghcr。io", "ghcr.io"),
        ("\uff47\uff48\uff43\uff52.io", "ghcr.io"),
        ("a" * 63 + ".example", "a" * 63 + ".example"),
        (".".join(["a" * 49] * 5) + ".abc", ".".join(["a" * 49] * 5) + ".abc"),
    ],
)
def test_a_name_has_one_canonical_form(written: str, form: str) -> None:
    assert fqdn.canonical(written) == form


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("", "the name is empty"),
        (".", "empty label"),
        ("a..example", "empty label"),
        ("ghcr.io..", "empty label"),
        (".ghcr.io", "empty label"),
        ("https://ghcr.io/org/image", "write the host alone: `ghcr.io`"),
        ("https://user@ghcr.io/", "write the host alone: `ghcr.io`"),
        ("ghcr.io/org/image:tag", "write the host alone: `ghcr.io`"),
        ("https://ghcr.io:8443/x", "the port belongs in `ports = [8443]`"),
        ("https://192.0.2.1/", 'write `address = "192.0.2.1"`'),
        ("https://*.corp.example/", "write the host alone: `*.corp.example`"),
        ("https://", "this is a URL"),
        ("nexus.corp.example:8443", "the port belongs in `ports = [8443]`"),
        ("nexus.corp.example:", "a colon is not permitted"),
        ("nexus.corp.example:http", "a colon is not permitted"),
        ("192.0.2.1", 'write `address = "192.0.2.1"`'),
        ("192.0.2.1:5000", 'write `address = "192.0.2.1"` and `ports = [5000]`'),
        ("2001:db8::1", 'write `address = "2001:db8::1"`'),
        ("[2001:db8::1]", 'write `address = "2001:db8::1"`'),
        ("[2001:db8::1]:443", 'write `address = "2001:db8::1"` and `ports = [443]`'),
        ("192.0.2", "an address in an odd form"),
        ("0x7f.1", "an address in an odd form"),
        ("127.0.0.0x1", "an address in an odd form"),
        ("127.1.", "an address in an odd form"),
        ("\uff11\uff12\uff17.0.0.1", "an address in an odd form"),
        ("256.256.256.256", "an address in an odd form"),
        ("ghcr.io\0.evil.example", "a NUL character at position 8"),
        ("ghcr .io", "U+0020 at position 5"),
        ("ghcr.io\n", "U+000A at position 8"),
        ("gh\u00adcr.io", "U+00AD at position 3"),
        ("gh\u200dcr.io", "U+200D at position 3"),
        ("_dmarc.example", "an underscore"),
        ("ghcr_io.evil.example", "an underscore"),
        ("ghcr.io\uff3f.example", "`_` is not permitted"),
        ("ghcr.io\uff0fevil.example", "`/` is not permitted"),
        ("gh,cr.io", "`,` is not permitted"),
        ("-ghcr.io", "begins or ends with a hyphen"),
        ("ghcr-.io", "begins or ends with a hyphen"),
        ("*.ghcr.io", "write one exact name"),
        ("a" * 64 + ".example", "has 64 characters; DNS permits 63"),
        (".".join(["a" * 49] * 5) + ".abcd", "has 254 characters; DNS permits 253"),
        ("xn--ghcr-.io", "not a valid international name"),
        ("xn--a.example", "not a valid international name"),
        ("xn--zzzzzz99999.example", "not a valid international name"),
        ("é" * 70 + ".example", "not a valid international name"),
    ],
)
def test_what_is_no_name_is_refused_with_the_words_that_mend_it(written: str, words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        fqdn.canonical(written)


@given(st.text(max_size=300) | NAME)
def test_canonical_is_idempotent_and_plain(text: str) -> None:
    try:
        name = fqdn.canonical(text)
    except ValueError:
        return
    assert fqdn.canonical(name) == name
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-.")
    assert len(name) <= 253
    assert all(0 < len(label) <= 63 for label in name.split("."))


@pytest.mark.parametrize(
    ("written", "form"),
    [
        ("ghcr.io", "ghcr.io"),
        ("*.pkg.dev", "*.pkg.dev"),
        ("*.PKG.dev.", "*.pkg.dev"),
        ("*.data.mcr.microsoft.com", "*.data.mcr.microsoft.com"),
        ("*.bücher.example", "*.xn--bcher-kva.example"),
        ("*.corp.example", "*.corp.example"),
    ],
)
def test_a_wildcard_has_one_canonical_form(written: str, form: str) -> None:
    assert fqdn.canonical_pattern(written) == form


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("*", "`*` alone permits every name"),
        ("*.", "`*` alone permits every name"),
        ("*.com", "a whole top-level domain"),
        ("*.corp", "a whole top-level domain"),
        ("*.中国", "a whole top-level domain"),
        ("*.co.uk", "`co.uk` is a public suffix"),
        ("*.公司.cn", "is a public suffix"),
        ("*.anything.ck", "`anything.ck` is a public suffix"),
        ("*.blob.core.windows.net", "`blob.core.windows.net` is a public suffix"),
        ("*.github.io", "`github.io` is a public suffix"),
        ("*.cloudfront.net", "`cloudfront.net` is a public suffix"),
        ("*.amazonaws.com", "below which anyone can get a name"),
        ("*.core.windows.net", "also covers `blob.core.windows.net`"),
        ("foo*.corp.example", "a wildcard is a whole first label"),
        ("*foo.corp.example", "a wildcard is a whole first label"),
        ("a.*.corp.example", "a wildcard is a whole first label"),
        ("**.corp.example", "a wildcard is a whole first label"),
        ("*.*.corp.example", "only the first label"),
        ("*.corp.example:8443", "the port belongs in `ports = [8443]`"),
        ("https://*.corp.example/", "write the host alone: `*.corp.example`"),
        ("*.192.0.2.1", 'write `address = "192.0.2.1"`'),
        ("*.corp_example.com", "an underscore"),
        ("*\x1b[31m.example", "U+001B"),
        ("*." + ".".join(["a" * 49] * 5) + ".ab", "leaves no room"),
    ],
)
def test_a_wildcard_that_anyone_can_get_under_is_refused(written: str, words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        fqdn.canonical_pattern(written)


@pytest.mark.parametrize(
    ("pattern", "name", "covered"),
    [
        ("ghcr.io", "ghcr.io", True),
        ("ghcr.io", "a.ghcr.io", False),
        ("ghcr.io", "ghcr.io.evil.example", False),
        ("*.pkg.dev", "a.pkg.dev", True),
        ("*.pkg.dev", "a.b.pkg.dev", True),
        ("*.pkg.dev", "pkg.dev", False),
        ("*.pkg.dev", ".pkg.dev", False),
        ("*.pkg.dev", "notpkg.dev", False),
        ("*.pkg.dev", "pkg.dev.evil.example", False),
        ("*.pkg.dev", "apkg.dev", False),
    ],
)
def test_matching_is_anchored_at_both_ends(pattern: str, name: str, covered: bool) -> None:  # noqa: FBT001
    assert fqdn.matches(pattern, name) is covered


@given(suffix=NAME, name=NAME, prefix=LABEL)
def test_a_wildcard_never_matches_across_a_label(suffix: str, name: str, prefix: str) -> None:
    pattern = f"*.{suffix}"
    inside = name.split(".")[-len(suffix.split(".")) :] == suffix.split(".") and name != suffix
    assert fqdn.matches(pattern, name) is inside
    assert fqdn.matches(pattern, f"{prefix}.{suffix}")
    assert not fqdn.matches(pattern, f"{prefix}{suffix}")


def test_plain_names_load_neither_idna_nor_the_suffix_list() -> None:
    """The command line must answer at once; both are slow to load."""
    code = (
        "import sys; from ramfw.core import fqdn; fqdn.canonical('ghcr.io');"
        "print({'idna', 'publicsuffixlist'} & sys.modules.keys())"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"
