"""resolv.conf as it is written by hand, by systemd-resolved, by WSL, and while it changes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from ipaddress import ip_address
from pathlib import Path

import pytest
from asyncinotify import Inotify
from hypothesis import given
from hypothesis import strategies as st

from ramfw.core.events import ServersChanged
from ramfw.observe import resolvconf
from ramfw.observe.resolvconf import follow, parse, read, watch

ONE, TWO = "nameserver 192.0.2.1\n", "nameserver 192.0.2.2\n"


@pytest.fixture(autouse=True)
def never_looks_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a change is noticed by inotify or not at all."""
    monkeypatch.setattr(resolvconf, "_LOOK_AGAIN", 3600)


@pytest.mark.parametrize(
    ("text", "servers", "problem"),
    [
        ("nameserver 192.0.2.1\nnameserver 2001:db8::53\n", ["192.0.2.1", "2001:db8::53"], ""),
        ("# a comment\n; another\nsearch example.com\noptions edns0\n" + ONE, ["192.0.2.1"], ""),
        ("nameserver\t 192.0.2.1  trailing words", ["192.0.2.1"], ""),
        (ONE + ONE, ["192.0.2.1"], ""),
        (
            "nameserver fe80::1%eth0\n" + ONE,
            ["192.0.2.1"],
            "line 1: nameserver fe80::1%eth0 is not used: it needs an interface",
        ),
        (
            "".join(f"nameserver 192.0.2.{n}\n" for n in range(1, 5)),
            ["192.0.2.1", "192.0.2.2", "192.0.2.3"],
            "line 4: nameserver 192.0.2.4 is not used: resolv.conf(5) counts 3",
        ),
        (" nameserver 192.0.2.9\nnameservers 192.0.2.9\n" + ONE, ["192.0.2.1"], ""),
        ("nameserver\n" + ONE, ["192.0.2.1"], "line 1: nameserver (nothing) is no address"),
        ("nameserver dns.example\n" + ONE, ["192.0.2.1"], "line 1: nameserver dns.example"),
        ("", [], "no usable nameserver line"),
    ],
)
def test_a_text_says_its_servers(text: str, servers: list[str], problem: str) -> None:
    parsed = parse(text)

    assert parsed.servers == tuple(map(ip_address, servers))
    assert problem in parsed.problem
    assert bool(problem) == bool(parsed.problem)


@given(st.text())
def test_any_text_has_at_most_three_servers(text: str) -> None:
    assert len(parse("nameserver " + text).servers) <= 3


def test_what_is_no_readable_file_is_said(tmp_path: Path) -> None:
    loop = tmp_path / "loop"
    loop.symlink_to(loop)

    assert read(tmp_path) == ServersChanged((), f"{tmp_path} is no file")
    assert "is missing" in read(tmp_path / "none").problem
    assert "Too many levels of symbolic links" in read(loop).problem


async def following(changes: AsyncGenerator[ServersChanged, None]) -> list[str]:
    async with asyncio.timeout(10):
        return [str(server) for server in (await anext(changes)).servers]


async def test_a_file_rewritten_and_one_replaced_are_noticed(tmp_path: Path) -> None:
    conf = tmp_path / "resolv.conf"
    conf.write_text(ONE)
    async with aclosing(watch(conf)) as changes:
        assert await following(changes) == ["192.0.2.1"]

        (tmp_path / "other").write_text("noise")
        conf.write_text(ONE + "options edns0\n")  # makes no difference to the servers
        conf.write_text(TWO)
        assert await following(changes) == ["192.0.2.2"]

        (tmp_path / "new").write_text(ONE + TWO)
        (tmp_path / "new").rename(conf)
        assert await following(changes) == ["192.0.2.1", "192.0.2.2"]

        conf.write_text(TWO)
        assert await following(changes) == ["192.0.2.2"]


async def test_links_turned_and_their_targets_changed_are_noticed(tmp_path: Path) -> None:
    """As with systemd-resolved: a relative link into a directory that is a link itself."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "run-a").mkdir()
    (tmp_path / "run-b").mkdir()
    (tmp_path / "run").symlink_to("run-a")
    (tmp_path / "run-a" / "stub.conf").write_text(ONE)
    (tmp_path / "run-b" / "stub.conf").write_text(TWO)
    (tmp_path / "static.conf").write_text("nameserver 192.0.2.3\n")
    conf = tmp_path / "etc" / "resolv.conf"
    conf.symlink_to("../run/stub.conf")
    async with aclosing(watch(conf)) as changes:
        assert await following(changes) == ["192.0.2.1"]

        (tmp_path / "run-a" / "stub.conf").write_text(ONE + TWO)
        assert await following(changes) == ["192.0.2.1", "192.0.2.2"]

        (tmp_path / "turned").symlink_to("run-b")
        (tmp_path / "turned").rename(tmp_path / "run")
        assert await following(changes) == ["192.0.2.2"]

        (tmp_path / "run-b" / "stub.conf").write_text(ONE)
        assert await following(changes) == ["192.0.2.1"]

        conf.unlink()
        conf.symlink_to(tmp_path / "static.conf")
        assert await following(changes) == ["192.0.2.3"]


async def test_a_file_that_is_missing_and_then_back_is_noticed(tmp_path: Path) -> None:
    conf = tmp_path / "deep" / "er" / "resolv.conf"
    async with aclosing(watch(conf)) as changes:
        first = await anext(changes)
        assert first.servers == ()
        assert f"{conf} is missing" in first.problem

        conf.parent.mkdir(parents=True)
        conf.write_text(ONE)
        assert await following(changes) == ["192.0.2.1"]

        conf.unlink()
        assert await following(changes) == []

        conf.write_text(TWO)
        assert await following(changes) == ["192.0.2.2"]


async def test_a_file_in_the_place_of_a_directory_is_said(tmp_path: Path) -> None:
    (tmp_path / "etc").write_text("no directory")
    conf = tmp_path / "etc" / "resolv.conf"
    async with aclosing(watch(conf)) as changes:
        assert "Not a directory" in (await anext(changes)).problem

        (tmp_path / "etc").unlink()
        (tmp_path / "etc").mkdir()
        conf.write_text(ONE)
        assert await following(changes) == ["192.0.2.1"]


async def test_a_half_written_file_is_not_read(tmp_path: Path) -> None:
    """A writer that truncates first: nobody is told that there are no servers."""
    conf = tmp_path / "resolv.conf"
    conf.write_text(ONE)
    async with aclosing(watch(conf)) as changes:
        await following(changes)

        with conf.open("w") as file:
            await asyncio.sleep(0.01)
            file.write(TWO)
        assert await following(changes) == ["192.0.2.2"]


async def test_without_inotify_the_file_is_looked_at_and_it_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_more() -> Inotify:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(resolvconf, "watcher", no_more)
    monkeypatch.setattr(resolvconf, "_LOOK_AGAIN", 0.01)
    conf = tmp_path / "resolv.conf"
    conf.write_text(ONE)
    async with aclosing(watch(conf)) as changes:
        first = await anext(changes)
        assert "fs.inotify.max_user_instances" in first.problem

        conf.write_text(TWO)
        while await following(changes) != ["192.0.2.2"]:
            pass


async def both(changes: AsyncGenerator[ServersChanged, None]) -> tuple[list[str], list[str]]:
    async with asyncio.timeout(10):
        now = await anext(changes)
    return [str(a) for a in now.servers], [str(a) for a in now.upstream]


async def test_the_servers_behind_systemd_resolved_are_followed_while_its_stub_is_the_server(
    tmp_path: Path,
) -> None:
    conf, stub = tmp_path / "resolv.conf", tmp_path / "upstream.conf"
    conf.write_text("nameserver 127.0.0.53\n")
    stub.write_text(ONE)
    async with aclosing(follow(conf, stub)) as changes:
        assert await both(changes) == (["127.0.0.53"], ["192.0.2.1"])

        stub.write_text(TWO)
        assert await both(changes) == (["127.0.0.53"], ["192.0.2.2"])

        conf.write_text(ONE)
        assert await both(changes) == (["192.0.2.1"], [])

        stub.write_text(ONE + TWO)  # makes no difference now
        conf.write_text("nameserver 127.0.0.54\n")
        assert await both(changes) == (["127.0.0.54"], ["192.0.2.1", "192.0.2.2"])


async def test_a_server_that_is_taken_out_counts_for_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Programs read the file again some seconds later, and ask the old one until then."""
    conf = tmp_path / "resolv.conf"
    conf.write_text(ONE)
    async with aclosing(follow(conf, tmp_path / "none")) as changes:
        assert await trusted(changes) == (["192.0.2.1"], [])

        conf.write_text(TWO)
        assert await trusted(changes) == (["192.0.2.2"], ["192.0.2.1"])

        conf.write_text("")  # nothing new: what was there counts on meanwhile
        assert await trusted(changes) == ([], ["192.0.2.2", "192.0.2.1"])

        conf.write_text(ONE)  # and one that comes back is former no more
        assert await trusted(changes) == (["192.0.2.1"], ["192.0.2.2"])

        monkeypatch.setattr(resolvconf, "ASKED_STILL", 0.1)
        conf.write_text(TWO)
        assert await trusted(changes) == (["192.0.2.2"], ["192.0.2.1"])
        assert await trusted(changes) == (["192.0.2.2"], [])


async def trusted(changes: AsyncGenerator[ServersChanged, None]) -> tuple[list[str], list[str]]:
    async with asyncio.timeout(10):
        now = await anext(changes)
    assert now.trusted == (*now.servers, *now.former)
    return [str(a) for a in now.servers], [str(a) for a in now.former]


async def test_a_machine_without_systemd_resolved_has_no_servers_behind_its_own(
    tmp_path: Path,
) -> None:
    conf = tmp_path / "resolv.conf"
    conf.write_text(ONE)
    async with aclosing(follow(conf, tmp_path / "none")) as changes:
        async with asyncio.timeout(10):
            assert await anext(changes) == ServersChanged((ip_address("192.0.2.1"),))


async def test_a_stub_whose_upstream_is_not_known_yet_is_followed_until_it_is(
    tmp_path: Path,
) -> None:
    conf, stub = tmp_path / "resolv.conf", tmp_path / "upstream.conf"
    conf.write_text("nameserver 127.0.0.53\n")
    async with aclosing(follow(conf, stub)) as changes:
        assert await both(changes) == (["127.0.0.53"], [])
        stub.write_text(TWO)
        assert await both(changes) == (["127.0.0.53"], ["192.0.2.2"])
