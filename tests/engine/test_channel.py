"""Samples between processes: everything arrives as it was sent, and read-only."""

from __future__ import annotations

import socket
import threading
from dataclasses import replace
from multiprocessing.connection import Connection

import numpy as np
import pytest

from synthaug.engine.channel import Channel
from synthaug.errors import Rejected
from synthaug.sample import Picture, Sample, Step
from tests import fakes


def pair() -> tuple[Channel, Channel]:
    ours, theirs = socket.socketpair()
    return Channel(Connection(ours.detach())), Channel(Connection(theirs.detach()))


def through(value: object) -> object:
    ours, theirs = pair()
    sender = threading.Thread(target=theirs.send, args=(value,))
    sender.start()
    received = ours.receive()
    sender.join()
    ours.close()
    theirs.close()
    return received


def sample(*, touched: bool) -> Sample:
    whole = fakes.FakeReader(width=300, height=200).read("fake/00003")
    picture = Picture(whole.image.pixels, source=bytes(range(256)) * 40)
    linear = Picture(np.asfortranarray(np.full((200, 300, 3), 0.5, np.float32)), "linear")
    step = Step("slot", "Stage", 0, {"a": 1})
    return replace(whole, image=linear if touched else picture, reference=picture, trail=(step,))


@pytest.mark.parametrize("touched", [False, True])
def test_a_sample_arrives_whole(touched: bool) -> None:
    sent = sample(touched=touched)
    if not touched:
        sent = replace(sent, image=sent.reference)
    got = through(sent)
    assert isinstance(got, Sample)
    assert (got.reference is got.image) is not touched
    for ours, theirs in ((got.image, sent.image), (got.reference, sent.reference)):
        assert (ours.space, ours.source) == (theirs.space, theirs.source)
        assert ours.pixels.dtype == theirs.pixels.dtype
        assert np.array_equal(ours.pixels, theirs.pixels)
        assert not ours.pixels.flags.writeable
    assert list(got.labels.passes) == list(sent.labels.passes)
    for name, array in sent.labels.passes.items():
        assert got.labels.passes[name].dtype == array.dtype
        assert np.array_equal(got.labels.passes[name], array, equal_nan=array.dtype.kind == "f")
        assert not got.labels.passes[name].flags.writeable
    assert replace(got.labels, passes={}) == replace(sent.labels, passes={})
    assert (got.id, got.group, got.split, got.trail) == (sent.id, sent.group, sent.split, sent.trail)


def test_a_rejection_arrives_with_its_reason() -> None:
    got = through(Rejected("decode", "broken", sample_id="x", slot="read"))
    assert isinstance(got, Rejected)
    assert (got.reason, got.sample_id, got.slot) == ("decode", "x", "read")


def test_a2_a_sender_that_dies_in_the_middle_is_noticed() -> None:
    ours, theirs = socket.socketpair()
    sender, receiver = Channel(Connection(theirs.detach())), Channel(Connection(ours.detach()))
    whole: list[bytes] = []
    done = threading.Thread(target=lambda: whole.append(_swallow(receiver)))
    done.start()
    sender._pipe.send(_hollow_only(sample(touched=False)))
    sender.close()
    done.join(timeout=10)
    assert whole == [b"EOFError"]


def _hollow_only(value: Sample) -> object:
    from synthaug.engine import channel

    return channel._taken_apart(value)[0]


def _swallow(receiver: Channel) -> bytes:
    try:
        receiver.receive()
    except EOFError:
        return b"EOFError"
    return b"nothing"
