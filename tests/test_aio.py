"""Ring buffers in an event loop."""
from __future__ import annotations

import asyncio
import os
import threading
import time

import pytest

import pylbpf
import records
from records import NO_WAKEUP, NUMBER, emit, held, number

pytestmark = pytest.mark.bpf


@pytest.fixture
def obj(bpf_object):
    with records.loaded(bpf_object("records")) as obj:
        yield obj


@pytest.fixture
def ring(obj):
    with obj.ring_buffer("events", type=NUMBER) as ring:
        yield ring


async def beside(obj, *arguments, after=0.02, **options):
    await asyncio.sleep(after)
    emit(obj, *arguments, **options)


def test_async_for_gives_each_record_in_order(obj, ring):
    async def main():
        sender = asyncio.ensure_future(beside(obj, 1000))
        got = []
        async for record in ring:
            got.append(record.number)
            if len(got) == 1000:
                break
        await sender
        assert got == list(range(1000))

    asyncio.run(main())


def test_read_batch_async_waits_for_records(obj, ring):
    async def main():
        emit(obj, 3)
        assert len(await ring.read_batch_async()) == 3
        sender = asyncio.ensure_future(beside(obj, 5))
        taken = 0
        while taken < 5:
            taken += len(await ring.read_batch_async(2))
        await sender
        begin = time.monotonic()
        assert len(await ring.read_batch_async(timeout=0.05)) == 0
        assert 0.04 <= time.monotonic() - begin < 5
        assert len(await ring.read_batch_async(timeout=0)) == 0

    asyncio.run(main())


def test_records_without_wakeup_are_found_by_the_timer(obj, ring):
    async def main():
        for _ in range(10):
            sender = asyncio.ensure_future(beside(obj, 1, flags=NO_WAKEUP, after=0.003))
            begin = time.monotonic()
            assert len(await ring.read_batch_async(timeout=20)) == 1
            assert time.monotonic() - begin < 10
            await sender

    asyncio.run(main())


def test_busy_record_does_not_keep_the_loop_busy(obj, ring):
    async def main():
        turns = 0

        async def count():
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        reader = asyncio.ensure_future(ring.read_batch_async())
        with held(obj, number=5):
            begin = time.process_time()
            await asyncio.sleep(0.1)
            assert not reader.done()
        assert (await reader)["number"].tolist() == [5]
        return time.process_time() - begin

    asyncio.run(main())


def test_other_tasks_have_their_turn(obj, ring):
    async def main():
        emit(obj, 5000)
        turns = 0

        async def other():
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        task = asyncio.ensure_future(other())
        got = 0
        async for _ in ring:
            got += 1
            if got == 5000:
                break
        task.cancel()
        assert turns >= 10

    asyncio.run(main())


def test_cancelled_it_has_taken_nothing(obj, ring):
    async def main():
        for use in (ring.read_batch_async, lambda: ring.__aiter__().__anext__()):
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(use(), 0.02)
        emit(obj, 2)
        assert len(await ring.read_batch_async()) == 2

    before = len(os.listdir("/proc/self/fd"))
    asyncio.run(main())
    assert len(os.listdir("/proc/self/fd")) == before


def test_second_task_that_waits_is_a_state_error(obj, ring):
    async def main():
        first = asyncio.ensure_future(ring.read_batch_async())
        await asyncio.sleep(0)
        with pytest.raises(pylbpf.StateError, match="another task"):
            await ring.read_batch_async()
        emit(obj, 1)
        assert len(await first) == 1

    asyncio.run(main())


@pytest.mark.parametrize("where", ["loop", "thread", "object"])
def test_close_wakes_a_task_that_waits(obj, where):
    async def main():
        ring = obj.ring_buffer("events")
        for use in ((lambda: ring.read_batch_async()), (lambda: ring.__aiter__().__anext__())):
            ring = obj.ring_buffer("events")
            task = asyncio.ensure_future(use())
            await asyncio.sleep(0.01)
            if where == "thread":
                closer = threading.Thread(target=ring.close)
                closer.start()
                closer.join()
            else:
                ring.close()
            with pytest.raises(ValueError, match="closed"):
                await asyncio.wait_for(task, 10)
        if where == "object":
            ring = obj.ring_buffer("events")
            task = asyncio.ensure_future(ring.read_batch_async())
            await asyncio.sleep(0.01)
            obj.close()
            with pytest.raises(ValueError, match="closed"):
                await asyncio.wait_for(task, 10)

    asyncio.run(main())


def test_untyped_records_and_errors_come_through(obj):
    async def main():
        with obj.ring_buffer("events", type=NUMBER) as ring:
            emit(obj, 1, size=9)
            emit(obj, 1, first=1)
            with pytest.raises(pylbpf.RecordError):
                async for _ in ring:
                    pass
            assert (await ring.read_batch_async())["number"].tolist() == [1]
        with obj.ring_buffer("events") as ring:
            emit(obj, 2)
            async for record in ring:
                assert type(record) is bytes
                if number(record) == 1:
                    break

    asyncio.run(main())


def test_arguments_are_looked_at_before_it_waits(ring):
    for arguments, error, what in (({"timeout": "x"}, TypeError, "timeout must be seconds"), ({"max_records": 0}, ValueError, "1 or more"),
                                   ({"max_bytes": 1.5}, TypeError, "max_bytes must be a number")):
        with pytest.raises(error, match=what):
            ring.read_batch_async(**arguments)
    ring.close()
    with pytest.raises(ValueError, match="closed"):
        ring.read_batch_async()


def test_a_consumer_in_the_way_is_a_state_error(obj, ring):
    """Also for who began to wait before: nobody looks at the ring beside the one who reads."""
    async def main():
        waiting = asyncio.ensure_future(ring.read_batch_async())
        await asyncio.sleep(0.01)
        with ring.start() as consumer:
            with pytest.raises(pylbpf.StateError, match="a consumer is reading it"):
                await asyncio.wait_for(waiting, 10)
            emit(obj, 3)
            assert len(consumer.get(10)) == 3

    asyncio.run(main())


def test_uvloop(obj, ring):
    uvloop = pytest.importorskip("uvloop", reason="uvloop: not installed")

    async def main():
        sender = asyncio.ensure_future(beside(obj, 10))
        assert len(await ring.read_batch_async()) == 10
        await sender

    loop = uvloop.new_event_loop()
    try:
        loop.run_until_complete(main())
    finally:
        loop.close()
