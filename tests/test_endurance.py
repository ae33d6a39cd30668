"""Descriptors and memory stay what they are, however many records there are, in whatever way they are read or sent.

PYLBPF_TEST_RECORDS=10000000 takes longer.
"""
from __future__ import annotations

import asyncio
import ctypes
import gc
import os
import struct

import numpy as np
import pytest

import kernel
import pylbpf
import records
from records import EXIT, NUMBER, OPEN, TYPED, emit

pytestmark = pytest.mark.bpf
TOTAL = int(os.environ.get("PYLBPF_TEST_RECORDS", "60000"))
FEWER = TOTAL if "PYLBPF_TEST_RECORDS" in os.environ else TOTAL // 4     # in ways that are slow
BURST = 4000
PAGES = 400             # that a process may grow by


def resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1])


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.fixture
def obj(bpf_object):
    with records.loaded(bpf_object("records")) as obj:
        yield obj


def steady(use, total=TOTAL):
    """Call use() until it has handled so many records, a part of them to warm up."""
    done = 0
    while done < total // 4:
        done += use()
    gc.collect()
    fds, pages, seen = descriptors(), resident(), 0
    while done < total:
        done += use()
        seen = max(seen, descriptors())
    gc.collect()
    assert descriptors() == fds and seen <= fds + 8
    if "asan" not in os.environ.get("LD_PRELOAD", ""):      # which keeps what was freed for a while
        assert resident() - pages < PAGES, f"{resident() - pages} pages more after {done} records"


def with_iteration(ring):
    return sum(1 for _ in ring.records(timeout=0))


def with_batches(ring):
    into = np.empty(BURST // 2, NUMBER)
    return len(ring.read_batch(timeout=0, into=into)) + len(ring.read_batch(max_bytes=8 * BURST, timeout=0))


def with_borrow(ring):
    with ring.borrow(BURST // 2, timeout=0) as batch:
        total = len(batch) + 0 * int(batch.array["number"].sum())
    with ring.borrow(timeout=0) as batch:
        kept = batch.array
        total += len(batch)
    return total + 0 * int(kept["number"][-1])


def with_consumer(ring):
    total = 0
    with ring.start(block_records=500, blocks=2) as consumer:
        while total < BURST:
            total += len(consumer.get(20))
    return total


def with_asyncio(ring):
    async def main():
        total = len(await ring.read_batch_async(BURST // 2))
        async for _ in ring.records(timeout=0):
            total += 1
        return total + len(await ring.read_batch_async(timeout=0.0001))

    return asyncio.run(main())


@pytest.mark.parametrize("how", [with_iteration, with_batches, with_borrow, with_consumer, with_asyncio])
def test_typed_records(obj, how):
    with obj.ring_buffer("events", type=NUMBER) as ring:
        steady(lambda: how(ring) if emit(obj, BURST) == BURST else 0)
        assert ring.stats().waiting == 0


# The number of what a callback got last.
LAST = {
    "bytes": records.number,
    "typed": lambda record: records.number(bytes(record)),
    "tags": lambda record: record.number,
    "batches": lambda batch: records.number(batch[-1]),
}


@pytest.mark.parametrize("kind", ["bytes", "typed", "tags", "batches", "native"])
def test_callbacks(obj, kind):
    kept: list[object] = []

    def callback(record):
        kept[:] = [record]

    def use():
        kept.clear()
        assert emit(obj, BURST, size=32, mode=TYPED if kind == "tags" else 0) == ring.consume() == BURST
        if kind == "batches":
            assert len(kept[0]) == BURST
        assert kind == "native" or LAST[kind](kept[-1]) == BURST - 1
        return BURST

    options = {"typed": dict(type=OPEN), "tags": dict(dispatch={0: OPEN, 1: EXIT}, tag="type"), "batches": dict(batches=True)}
    native = pylbpf.NativeCallback(ctypes.CDLL(None).labs)
    with obj.ring_buffer("events", native if kind == "native" else callback, **options.get(kind, {})) as ring:
        steady(use)
        assert ring.stats().waiting == 0


def test_exceptions_of_callbacks(obj):
    def fail(record):
        raise LookupError

    with obj.ring_buffer("events", fail) as ring:
        def use():
            emit(obj, 100)
            for _ in range(100):
                with pytest.raises(LookupError):
                    ring.consume()
            return 100

        steady(use, TOTAL // 10)


def test_ring_buffers_that_are_opened_and_closed(obj):
    def use():
        emit(obj, 1000)
        with obj.ring_buffer(["events", "others"], type=NUMBER) as ring:
            return len(ring.read_batch(timeout=0))

    steady(use)


def with_loan_and_blocks(buffer):
    with buffer.borrow(1000, timeout=0) as batch:
        total, kept = len(batch), batch.array
    with buffer.start(block_records=500, blocks=2) as consumer:
        while total < 2048:
            total += len(consumer.get(20))
    return total + 0 * int(kept["number"][-1])


PERF = {
    "callback": lambda buffer: buffer.consume(),
    "iteration": with_iteration,
    "batches": lambda buffer: len(buffer.read_batch(1000, timeout=0)) + len(buffer.read_batch(timeout=0)),
    "blocks": with_loan_and_blocks,
    "asyncio": with_asyncio,
    "native": lambda buffer: buffer.consume(),
    "raw": lambda buffer: sum(record.type == 9 for record in buffer.records(timeout=0)),
}


@pytest.mark.parametrize("how", PERF)
def test_perf_buffers(bpf_object, how):
    if reason := kernel.no_perf_event():
        pytest.skip(reason)
    from test_perfbuf import PAIR, Sender

    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    sender = Sender(bpf_object("perfbuf"))
    kept: list[object] = []
    native = pylbpf.NativeCallback(ctypes.CDLL(None).labs)
    callback = native if how == "native" else lambda record: kept.__setitem__(slice(None), [record])
    options = dict(raw=True) if how == "raw" else dict(type=PAIR)
    try:
        with sender.obj.perf_buffer("events", callback, pages=64, **options) as buffer:
            sent = 0

            def use():
                nonlocal sent
                sender.send(2048)
                sent += 2048
                assert PERF[how](buffer) == 2048
                if how == "callback":
                    assert kept[0].number == sent - 1
                return 2048

            steady(use, FEWER)
            assert (buffer.stats().records, buffer.stats().lost) == (sent, 0)
    finally:
        sender.obj.close()
        os.sched_setaffinity(0, allowed)


@pytest.mark.parametrize("how", ["reserve", "send_many"])
def test_user_ring_buffers(bpf_object, how):
    from test_userring import Side

    side = Side(bpf_object("userring"))
    samples = np.zeros(100, NUMBER)

    def one_by_one():
        for at in range(50):
            with side.ring.reserve(8) as data:
                data[:8] = struct.pack("=Q", at)
            with side.ring.reserve(type=NUMBER) as record:
                record["number"] = at
        return 100

    def use():
        sent = one_by_one() if how == "reserve" else side.ring.send_many(samples)
        assert len(side.drain()) == sent == 100
        return sent

    try:
        steady(use, FEWER)
    finally:
        side.ring.close()
        side.obj.close()
