"""How the kernel's answers to a packed batch are taken; the kernel itself is in tests/lab."""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Callable
from ipaddress import ip_network

import pytest

from ramfw.core.ruleset import ACCEPT, ACKNOWLEDGED, Count, Queue
from ramfw.core.transaction import AddGrant, AddRule, AddTable, DeleteGrant, GrantKey
from ramfw.errors import KernelError
from ramfw.program.batches import Batches, needs_hand, only_grants
from ramfw.wire import netlink

GRANT = AddGrant(GrantKey.of("permitted4", ip_network("192.0.2.1"), "tcp", 443), 16, 60)
RANGE = AddGrant(
    GrantKey.of("permitted_ranges4", ip_network("198.51.100.0/24"), "tcp", 443), 16, 60
)
HELD = AddRule("hold_answer", (Count("answers"), Queue(5353, is_native=False)))

Answers = Callable[[list[netlink.Message]], list[bytes]]


def answer(sequence: int, number: int = 0) -> bytes:
    """The kernel's word on one message, with the message's header behind it."""
    body = struct.pack("=i", -number) + struct.pack("=IHHII", 16, 0, 0, sequence, 0)
    return netlink.message(netlink.NLMSG_ERROR, 0, sequence, body)


class FakeSocket:
    """Answers each datagram as it is told to; each answer is a datagram of its own."""

    def __init__(self) -> None:
        self.answers: Answers = good
        self.waiting: list[bytes] = []
        self.sent: list[list[netlink.Message]] = []
        self.refuses_to_send: OSError | None = None
        self.forbids_force = False
        self.is_open = True

    def send(self, data: bytes) -> None:
        if self.refuses_to_send:
            raise self.refuses_to_send
        self.sent.append(list(netlink.messages(data)))
        self.waiting += self.answers(self.sent[-1])

    def recv_into(self, buffer: memoryview) -> int:
        assert len(buffer) >= 1 << 16
        if not self.waiting:
            raise BlockingIOError(errno.EAGAIN, "timed out")
        one = self.waiting.pop(0)
        buffer[: len(one)] = one
        return len(one)

    def bind(self, address: tuple[int, int]) -> None:
        assert address == (0, 0)

    def setsockopt(self, _: int, option: int, value: object) -> None:
        if option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            assert value == struct.pack("@ll", 5, 0)
        elif self.forbids_force:
            raise PermissionError(errno.EPERM, "not permitted")

    def close(self) -> None:
        self.is_open = False


def good(messages: list[netlink.Message]) -> list[bytes]:
    """Each that asks for an answer has one."""
    return [answer(m.sequence) for m in messages if m.flags & netlink.NLM_F_ACK]


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> FakeSocket:
    fake = FakeSocket()
    monkeypatch.setattr("ramfw.program.batches.socket.socket", lambda *_: fake)
    return fake


def test_a_batch_that_is_committed_is_one_datagram_and_no_error(kernel: FakeSocket) -> None:
    with Batches() as batches:
        batches.grant([GRANT, DeleteGrant(GRANT.key), RANGE])
        batches.grant([GRANT])
    first, second = kernel.sent
    assert len(first) > len(second) == 3
    assert min(m.sequence for m in second) > max(m.sequence for m in first)
    assert kernel.waiting == []
    assert not kernel.is_open


@pytest.mark.parametrize("which", [0, 1, 2, 3])
def test_an_error_of_any_message_is_raised(kernel: FakeSocket, which: int) -> None:
    """Message 0 begins the batch: its error stands for the whole, and comes alone."""

    def refuses(messages: list[netlink.Message]) -> list[bytes]:
        refused = answer(messages[which].sequence, errno.ENOENT)
        return [refused] if which == 0 else [refused, *good(messages)][: 1 + (which != 3)]

    kernel.answers = refuses
    batches = Batches()
    with pytest.raises(KernelError, match="grants: No such file or directory") as raised:
        batches.grant([GRANT, DeleteGrant(GRANT.key), RANGE])
    assert raised.value.errno == errno.ENOENT
    assert kernel.waiting == []


def test_the_first_of_several_errors_is_told_and_none_is_left_for_the_next_batch(
    kernel: FakeSocket,
) -> None:
    def refuses(messages: list[netlink.Message]) -> list[bytes]:
        first, *middle, last, _ = messages
        del first
        words = [answer(m.sequence, errno.EEXIST) for m in middle]
        return [*words, answer(last.sequence, errno.ENOENT)]

    kernel.answers = refuses
    batches = Batches()
    with pytest.raises(KernelError) as raised:
        batches.grant([GRANT, DeleteGrant(GRANT.key), RANGE])
    assert raised.value.errno == errno.EEXIST
    kernel.answers = good
    batches.grant([GRANT])


def test_an_answer_that_comes_too_late_is_not_the_next_batch_s(kernel: FakeSocket) -> None:
    kernel.answers = lambda _: []
    batches = Batches()
    with pytest.raises(KernelError, match="the kernel did not answer"):
        batches.grant([GRANT])
    (late,) = kernel.sent
    kernel.waiting += [answer(m.sequence, errno.ENOMEM) for m in late]
    kernel.answers = good
    batches.grant([GRANT])
    assert kernel.waiting == []


def test_several_answers_in_one_datagram_are_all_read(kernel: FakeSocket) -> None:
    def refuses(messages: list[netlink.Message]) -> list[bytes]:
        words = [answer(messages[1].sequence, errno.EBUSY), *good(messages)]
        return [b"".join(words)]

    kernel.answers = refuses
    with pytest.raises(KernelError) as raised:
        Batches().grant([GRANT, RANGE])
    assert raised.value.errno == errno.EBUSY


def test_who_waits_is_told_when_the_kernel_has_decided_and_before_its_word_is_read(
    kernel: FakeSocket,
) -> None:
    seen: list[tuple[int, int]] = []

    def then() -> None:
        seen.append((len(kernel.sent), len(kernel.waiting)))

    batches = Batches()
    batches.grant([GRANT], then)
    kernel.answers = lambda messages: [answer(messages[0].sequence, errno.ENOENT)]
    with pytest.raises(KernelError):
        batches.grant([GRANT, RANGE], then)
    kernel.refuses_to_send = OSError(errno.ENOBUFS, "no")
    with pytest.raises(KernelError):
        batches.grant([GRANT], then)
    assert seen == [(1, 1), (2, 1), (2, 0)]


@pytest.mark.parametrize("number", [errno.EMSGSIZE, errno.ENOBUFS])
def test_a_batch_that_cannot_be_sent_is_an_error_of_the_kernel(
    kernel: FakeSocket, number: int
) -> None:
    kernel.refuses_to_send = OSError(number, "no")
    with pytest.raises(KernelError) as raised:
        Batches().grant([GRANT])
    assert raised.value.errno == number


def test_a_rule_with_the_xt_target_is_appended(kernel: FakeSocket) -> None:
    Batches().append([HELD])
    ((_, rule, _),) = kernel.sent
    assert rule.flags & netlink.NLM_F_APPEND


def test_what_nft_can_say_itself_is_not_packed(kernel: FakeSocket) -> None:
    del kernel
    with pytest.raises(ValueError, match="nft's grammar can say this"):
        Batches().append([AddRule("refusal", (ACCEPT,))])
    assert needs_hand(HELD)
    assert needs_hand(AddRule("acknowledged", (ACKNOWLEDGED,)))
    assert not needs_hand(AddRule("hold_answer", (Queue(5353, is_native=True),)))
    assert not needs_hand(AddTable())


def test_the_xt_target_is_asked_for(kernel: FakeSocket) -> None:
    kernel.answers = lambda messages: [netlink.message(0x0B00, 0, messages[0].sequence, b"")]
    Batches().ask_for_nfqueue()
    kernel.answers = lambda messages: [answer(messages[0].sequence, errno.ENOENT)]
    with pytest.raises(KernelError, match="xt NFQUEUE: No such file"):
        Batches().ask_for_nfqueue()
    kernel.answers = lambda _: []
    with pytest.raises(KernelError):
        Batches().ask_for_nfqueue()


def test_in_a_user_namespace_the_usual_buffer_has_to_do(kernel: FakeSocket) -> None:
    kernel.forbids_force = True
    Batches().grant([GRANT])


def test_a_kernel_without_nfnetlink_is_an_error_of_the_kernel(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object) -> socket.socket:
        raise OSError(errno.EPROTONOSUPPORT, "Protocol not supported")

    monkeypatch.setattr("ramfw.program.batches.socket.socket", refuse)
    with pytest.raises(KernelError, match="netlink socket"):
        Batches()


def test_only_a_transaction_of_grants_alone_goes_the_quick_way() -> None:
    assert only_grants((GRANT, DeleteGrant(GRANT.key))) == (GRANT, DeleteGrant(GRANT.key))
    assert only_grants((AddTable(), GRANT)) is None
    assert only_grants(()) == ()
