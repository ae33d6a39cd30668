"""Ring buffers in an event loop: asyncio's own, and uvloop's."""
from __future__ import annotations

import asyncio
import gc
import os
import threading
import time

import numpy as np
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


@pytest.fixture(scope="session", autouse=True)
def uvloop():
    """The module, or None. Its first loop leaves pipes behind for the whole process."""
    try:
        import uvloop
    except ImportError:
        return None
    loop = uvloop.new_event_loop()
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    return uvloop


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request, uvloop):
    """asyncio.run() in either loop."""
    if request.param == "uvloop" and uvloop is None:
        pytest.skip("uvloop: not installed")

    def run(main):
        loop = (asyncio if request.param == "asyncio" else uvloop).new_event_loop()
        try:
            return loop.run_until_complete(main)
        finally:
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()

    return run


async def beside(obj, *arguments, after=0.02, **options):
    await asyncio.sleep(after)
    emit(obj, *arguments, **options)


def test_async_for_gives_each_record_in_order(obj, ring, run):
    async def main():
        sender = asyncio.ensure_future(beside(obj, 1000))
        got = []
        async for record in ring:
            got.append(record.number)
            if len(got) == 1000:
                break
        await sender
        assert got == list(range(1000))

    run(main())


def test_read_batch_async_waits_for_records(obj, ring, run):
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

    run(main())


def test_records_without_wakeup_are_found_by_the_timer(obj, ring, run):
    async def main():
        for _ in range(10):
            sender = asyncio.ensure_future(beside(obj, 1, flags=NO_WAKEUP, after=0.003))
            begin = time.monotonic()
            assert len(await ring.read_batch_async(timeout=20)) == 1
            assert time.monotonic() - begin < 10
            await sender

    run(main())


def test_busy_record_does_not_keep_the_loop_busy(obj, ring, run):
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

    run(main())


def test_other_tasks_have_their_turn(obj, ring, run):
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

    run(main())


def test_cancelled_it_has_taken_nothing(obj, ring, run):
    async def main():
        for use in (ring.read_batch_async, lambda: ring.__aiter__().__anext__()):
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(use(), 0.02)
        emit(obj, 2)
        assert len(await ring.read_batch_async()) == 2

    before = len(os.listdir("/proc/self/fd"))
    run(main())
    assert len(os.listdir("/proc/self/fd")) == before


def test_second_task_that_waits_is_a_state_error(obj, ring, run):
    async def main():
        first = asyncio.ensure_future(ring.read_batch_async())
        await asyncio.sleep(0)
        with pytest.raises(pylbpf.StateError, match="another task"):
            await ring.read_batch_async()
        emit(obj, 1)
        assert len(await first) == 1

    run(main())


@pytest.mark.parametrize("where", ["loop", "thread", "object"])
def test_close_wakes_a_task_that_waits(obj, where, run):
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

    run(main())


def test_untyped_records_and_errors_come_through(obj, run):
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

    run(main())


def test_arguments_are_looked_at_before_it_waits(ring):
    for arguments, error, what in (({"timeout": "x"}, TypeError, "timeout must be seconds"), ({"max_records": 0}, ValueError, "1 or more"),
                                   ({"max_bytes": 1.5}, TypeError, "max_bytes must be a number")):
        with pytest.raises(error, match=what):
            ring.read_batch_async(**arguments)
    ring.close()
    with pytest.raises(ValueError, match="closed"):
        ring.read_batch_async()


def test_a_consumer_in_the_way_is_a_state_error(obj, ring, run):
    """Also for who began to wait before: nobody looks at the ring beside the one who reads."""
    async def main():
        waiting = asyncio.ensure_future(ring.read_batch_async())
        await asyncio.sleep(0.01)
        with ring.start() as consumer:
            with pytest.raises(pylbpf.StateError, match="a consumer is reading it"):
                await asyncio.wait_for(waiting, 10)
            emit(obj, 3)
            assert len(consumer.get(10)) == 3

    run(main())


def test_async_with_has_the_same_methods_to_be_awaited(obj, run):
    async def main():
        got = []
        async with obj.ring_buffer("events", got.append, type=NUMBER) as ring:
            assert isinstance(ring, pylbpf.AsyncReader) and "events" in repr(ring)
            sender = asyncio.ensure_future(beside(obj, 3))
            batch = await ring.read_batch(max_records=2, max_bytes=100, timeout=20)
            assert batch["number"].tolist() == [0, 1]
            assert (await ring.read_batch(into=np.zeros(1, NUMBER)))["number"].tolist() == [2]
            await sender
            assert len(await ring.read_batch(timeout=0.01)) == 0
            sender = asyncio.ensure_future(beside(obj, 3))
            assert await ring.poll(20, 2) == 2 and await ring.poll(max_time=1.0) == 1 and await ring.poll(0.01) == 0
            assert [record.number for record in got] == [0, 1, 2]
            await sender
            emit(obj, 2)
            async for record in ring:
                assert record.number == 0
                break
            assert [record.number async for record in ring.records(timeout=0)] == [1]
        assert ring.ring.closed
        with pytest.raises(ValueError, match="closed"):
            await ring.read_batch()
        with pytest.raises(ValueError, match="closed"):
            async with ring.ring:
                pass

    run(main())


def test_async_iteration_ends_at_the_timeout(obj, ring, run):
    async def main():
        emit(obj, 3)
        sender = asyncio.ensure_future(beside(obj, 2, first=3))
        begin = time.monotonic()
        assert [record.number async for record in ring.records(timeout=0.2)] == list(range(5))
        assert 0.19 < time.monotonic() - begin < 10
        await sender
        assert [record async for record in ring.records(timeout=0)] == []

    run(main())


def test_exception_of_a_callback_comes_out_of_the_task(obj, run):
    def fail(record):
        raise ZeroDivisionError

    async def main():
        async with obj.ring_buffer("events", fail) as ring:
            sender = asyncio.ensure_future(beside(obj, 2))
            with pytest.raises(ZeroDivisionError):
                await ring.poll()
            await sender
            assert len(await ring.read_batch()) == 1

    run(main())


def test_task_that_is_dropped_while_it_waits_gives_everything_back(obj, ring):
    loop = asyncio.new_event_loop()
    before = len(os.listdir("/proc/self/fd"))
    task = loop.create_task(ring.read_batch_async())
    loop.run_until_complete(asyncio.sleep(0.01))
    assert len(os.listdir("/proc/self/fd")) == before + 1
    loop.close()
    task._log_destroy_pending = False
    del task
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) < before        # the loop's own are closed too
    emit(obj, 1)
    asyncio.run(ring.read_batch_async())


def test_task_waits_again_from_where_it_was_woken(obj, ring, run):
    """It goes on inside the loop's callback: others have their turn all the same, and what it raises is its own."""
    async def main():
        turns = 0

        async def other():
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        async def read():
            for _ in range(50):
                assert len(await ring.read_batch_async()) == 1
            raise LookupError("of the task")

        task, beat = asyncio.ensure_future(read()), asyncio.ensure_future(other())
        for at in range(50):
            await asyncio.sleep(0.002)
            emit(obj, 1, first=at)
        with pytest.raises(LookupError, match="of the task"):
            await asyncio.wait_for(task, 10)
        beat.cancel()
        assert turns > 50

    run(main())
