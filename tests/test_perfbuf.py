"""Perf buffers: every record once, in order on its CPU, and what was lost counted; also with exceptions and at the wrap."""
from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import os
import select
import struct
import sys
import threading
import time

import pytest

import kernel
import pylbpf
import rings
from test_fork import in_child
from test_ringbuf import thread

pytestmark = pytest.mark.bpf

NAME, COUNT, SIZE, NUMBER, REFUSED = (struct.pack("=I", slot) for slot in range(5))
PAIR = [("number", "u8"), ("again", "u8")]
PAGE = os.sysconf("SC_PAGESIZE")


class Sender:
    """perfbuf.bpf.c at work: send() makes it send on the CPU where this thread is kept."""

    def __init__(self, path) -> None:
        self.obj = pylbpf.open(path)
        self.obj.load()
        self.config = self.obj.maps["config"]
        self.config.update(NAME, rings.own_name())
        self.size = 16
        self.obj.attach()

    def setting(self, slot: bytes) -> int:
        return struct.unpack("=Q", self.config.lookup(slot))[0]

    def send(self, count: int = 1, size: int | None = None) -> None:
        self.config.update(SIZE, struct.pack("=Q", self.size if size is None else size))
        while count > 0:
            self.config.update(COUNT, struct.pack("=Q", min(count, 256)))
            rings.send()
            count -= 256


@pytest.fixture
def sender(bpf_object):
    if reason := kernel.no_perf_event():
        pytest.skip(reason)
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    sender = Sender(bpf_object("perfbuf"))
    yield sender
    sender.obj.close()
    os.sched_setaffinity(0, allowed)


def numbers(records) -> list[int]:
    return [struct.unpack_from("=Q", record)[0] for record in records]


# ---------------------------------------------------------------- the four ways to read


def test_poll_calls_back_with_each_record_in_order(sender):
    got = []
    with sender.obj.perf_buffer("events", got.append) as buffer:
        assert buffer.poll(0) == buffer.consume() == 0
        sender.send(10)
        assert buffer.poll(1) == 10 and numbers(got) == list(range(10))
        assert all(type(record) is bytes and len(record) == 20 for record in got)    # 16, filled up
        sender.send(5)
        assert buffer.consume(2) == 2 and buffer.consume() == 3 and buffer.poll(0) == 0
    assert numbers(got) == list(range(15))


def test_iteration_and_its_timeout(sender):
    with sender.obj.perf_buffer("events") as buffer:
        sender.send(3)
        assert numbers(buffer.records(timeout=0)) == [0, 1, 2]
        begin = time.monotonic()
        assert list(buffer.records(timeout=0.05)) == [] and time.monotonic() - begin >= 0.05
        sender.send(4)
        records = iter(buffer)
        assert numbers([next(records), next(records)]) == [3, 4]
        assert numbers(buffer.records(timeout=0)) == [5, 6]
        with thread(lambda: (time.sleep(0.03), os.sched_setaffinity(0, {0}), sender.send())):
            assert numbers([next(records)]) == [7]


def test_batches(sender):
    numpy = pytest.importorskip("numpy")
    with sender.obj.perf_buffer("events", type=PAIR) as buffer:
        assert len(buffer.read_batch(timeout=0)) == 0
        sender.send(100)
        first = buffer.read_batch(max_records=30)
        assert first.dtype == numpy.dtype(PAIR) and first["number"].tolist() == list(range(30))
        second = buffer.read_batch(max_bytes=16 * 20 + 15)
        assert (second["again"] == numpy.arange(30, 50)).all()
        room = numpy.zeros(64, PAIR)
        third = buffer.read_batch(into=room)
        assert third.base is room and third["number"].tolist() == list(range(50, 100))
    with sender.obj.perf_buffer("events") as buffer:
        sender.send(3)
        batch = buffer.read_batch(timeout=1)
        assert isinstance(batch, pylbpf.RecordBatch) and len(batch) == 3 and numbers(batch) == [100, 101, 102]
        assert batch.offsets.tolist() == [0, 20, 40, 60]
        sender.send(3)
        assert len(buffer.read_batch(max_bytes=45)) == 2
        with pytest.raises(ValueError, match="still there"):
            buffer.read_batch(into=bytearray(10))
        assert numbers(buffer.read_batch(into=bytearray(100))) == [105]


def test_typed_records_one_by_one_and_in_batches_to_callbacks(sender):
    class Pair(ctypes.Structure):
        _fields_ = [("number", ctypes.c_uint64), ("again", ctypes.c_uint64)]

    got = []
    for type, batches in ((Pair, False), ("pair", False), (PAIR, True)):
        with sender.obj.perf_buffer("events", got.append, type=type, batches=batches) as buffer:
            sender.send(2)
            assert buffer.poll(1) == 2
    assert [(one.number, one.again) for one in got[:4]] == [(0, 0), (1, 1), (2, 2), (3, 3)]
    assert got[4]["number"].tolist() == [4, 5] and len(got) == 5


def test_what_the_kernel_filled_up_is_cut_off_a_type(sender):
    numpy = pytest.importorskip("numpy")
    for size in (1, 2, 4, 5, 8, 11, 12, 13):
        with sender.obj.perf_buffer("events", type=numpy.dtype(f"V{size}")) as buffer:
            sender.send(2, size)
            assert [len(record) for record in buffer.records(timeout=0)] == [size, size]
            sender.send(2, size)
            assert buffer.read_batch().dtype.itemsize == size


def test_record_of_another_size_is_an_error_and_consumed(sender):
    with sender.obj.perf_buffer("events", print, type=PAIR) as buffer:
        for read in (buffer.consume, buffer.read_batch, lambda: next(buffer.records())):
            sender.send(1, 40)
            with pytest.raises(pylbpf.RecordError) as raised:
                read()
            assert len(raised.value.record) == 44
            assert len(buffer.read_batch(timeout=0)) == 0
    with sender.obj.perf_buffer("events", type=PAIR, tail=True) as buffer:
        sender.send(1, 40)
        assert [record.number for record in buffer.records(timeout=0)] == [3]


def test_dispatch_by_a_member(sender):
    types = {0: [("tag", "u4"), ("rest", "V1")], 1: [("tag", "u4"), ("more", "u4")]}
    with sender.obj.perf_buffer("events", dispatch=types, tag="tag") as buffer:
        sender.send(1, 5)
        sender.send(1, 8)
        sender.send(1, 5)
        batch = buffer.read_batch()
        assert len(batch[0]) == 1 and len(batch[1]) == 1 and batch[1]["more"].tolist() == [0] and len(batch[None]) == 1
        with pytest.raises(pylbpf.RecordError, match="tag=3"):
            sender.send(1, 24)
            next(buffer.records(timeout=0))
        assert list(buffer.records(timeout=0)) == []


@pytest.mark.parametrize("size", [0, 1, 7, 8, 100, 1000, 4095, 4096])
def test_every_size_and_the_wrap_around(sender, size):
    """In two pages all but the smallest wrap around more than once."""
    count = 0
    with sender.obj.perf_buffer("events", pages=2) as buffer:
        for _ in range(20):
            sender.send(1, size)
            for record in buffer.records(timeout=0):
                count += 1
                assert len(record) == (size + 4 + 7) // 8 * 8 - 4
                if size >= 16:
                    assert record[:8] == record[8:16] == struct.pack("=Q", count - 1)
                    assert not any(record[16:size])
        assert buffer.stats().lost == 0
    assert count == 20


def test_native_callback(sender):
    kind = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
    got = []

    @kind
    def callback(context, data, size):
        got.append(struct.unpack("=Q", ctypes.string_at(data, 8))[0])
        return -5 if len(got) == 3 else 0

    with sender.obj.perf_buffer("events", pylbpf.NativeCallback(callback)) as buffer:
        sender.send(6)
        with pytest.raises(pylbpf.BpfError, match="call back for record 3") as raised:
            buffer.poll(1)
        assert raised.value.errno == 5
        assert buffer.consume(1) == 1 and buffer.consume() == 2
    assert got == list(range(6))


# ---------------------------------------------------------------- lost, raw, paused


def test_lost_records_are_counted_and_told(sender):
    told, got = [], []
    with sender.obj.perf_buffer("events", got.append, lost=lambda cpu, count: told.append((cpu, count)), pages=1) as buffer:
        sender.send(256)
        kept = buffer.consume()
        assert kept == PAGE // 32 - 1 or kept == PAGE // 32
        sender.send(1)                  # only now can the kernel tell
        buffer.consume()
        assert told == [(0, 256 - kept)] and len(got) == kept + 1
        stats = buffer.stats()
        assert stats.lost == 256 - kept == stats.cpus[0].lost and stats.records == len(got) and stats.waiting == 0
        assert stats.capacity == PAGE * len(stats.cpus) and stats.cpus[0].cpu == 0
        assert stats.cpus[0].consumer == stats.cpus[0].producer > 0 and stats.callback_seconds > 0
        sender.send(300)
        buffer.read_batch()
        sender.send(1)
        assert len(buffer.read_batch()) == 1
        assert buffer.stats().lost > stats.lost and len(told) == 1


def test_raw_events_have_their_headers(sender):
    got = []
    with sender.obj.perf_buffer("events", got.append, raw=True, pages=1) as buffer:
        sender.send(200)
        buffer.consume()
        sender.send(1)
        assert 1 <= buffer.consume() <= 2
        assert {type(record) for record in got} == {pylbpf.PerfRecord}
        samples = [record for record in got if record.type == 9]
        lost = [record for record in got if record.type == 2]
        assert {record.cpu for record in got} == {0}
        assert numbers(record.data[4:] for record in samples) == list(range(len(samples)))
        assert len(lost) == 1 and struct.unpack_from("=QQ", lost[0].data)[1] == 201 - len(samples)
        assert "type=9" in repr(samples[0])
        sender.send(2)
        batch = buffer.read_batch()
        assert [struct.unpack_from("=IHH", event)[2] for event in batch] == [32, 32]
        with pytest.raises(TypeError, match="no type"):
            pylbpf.PerfBuffer(sender.obj.maps["events"], raw=True, type="u8")


def test_own_attributes(sender):
    """Another sample format: the time in front of what the program sent."""
    raw_and_time = 1 << 10 | 1 << 2
    attr = struct.pack("=IIQQQQQI", 1, 112, 10, 1, raw_and_time, 0, 0, 1).ljust(112, b"\0")
    before = time.monotonic_ns()
    with sender.obj.perf_buffer("events", attr=attr) as buffer:
        sender.send(2)
        times = [struct.unpack_from("=Q", record.data)[0] for record in buffer.records(timeout=0)]
        assert len(times) == 2 and times == sorted(times) and before
    for wrong, error in ((b"short", ValueError), (bytes(5000), ValueError), (3, TypeError)):
        with pytest.raises(error):
            sender.obj.perf_buffer("events", attr=wrong)
    backward = struct.pack("=IIQQQQQI", 1, 112, 10, 1, 1 << 10, 0, 1 << 27, 1).ljust(112, b"\0")
    with pytest.raises(ValueError, match="write_backward"):
        sender.obj.perf_buffer("events", attr=backward)


def test_cpus_and_keys(sender):
    with sender.obj.perf_buffer("events", cpus=[0]) as buffer:
        assert len(buffer.stats().cpus) == 1
        sender.send(1)
        assert len(list(buffer.records(timeout=0))) == 1
    if os.cpu_count() > 1:
        with sender.obj.perf_buffer("events", cpus=[0], keys=[1]) as buffer:    # the program looks at place 0
            sender.send(1)
            assert list(buffer.records(timeout=0)) == []
    for cpus, keys, error, words in (
            ([], None, ValueError, "empty"), ([0], [0, 1], ValueError, "as many different keys"),
            ([0, 0], None, ValueError, "different keys"), ([-1], None, ValueError, "negative"),
            ([100000], None, pylbpf.BpfError, "open perf buffer"), (["0"], None, TypeError, "."),
            ([1 << 40], None, OverflowError, ".")):
        with pytest.raises(error, match=words):
            sender.obj.perf_buffer("events", cpus=cpus, keys=keys)


def test_pause_and_resume(sender):
    with sender.obj.perf_buffer("events") as buffer:
        buffer.pause()
        sender.send(3)
        assert list(buffer.records(timeout=0)) == [] and sender.setting(REFUSED) == 3
        buffer.resume()
        sender.send(1)
        assert len(list(buffer.records(timeout=0))) == 1


def test_wakeups_can_be_rarer(sender):
    for options in (dict(wakeup_events=10), dict(watermark=32 * 10)):
        with sender.obj.perf_buffer("events", **options) as buffer:
            sender.send(5)
            assert select.select([buffer], [], [], 0)[0] == []
            sender.send(7)
            assert select.select([buffer], [], [], 5)[0] == [buffer]
            assert len(list(buffer.records(timeout=0))) == 12
            sender.send(1)
            assert len(buffer.read_batch(timeout=5)) == 1       # waits there, though nothing woke us


# ---------------------------------------------------------------- exceptions, re-entry, threads


def test_exception_of_a_callback_loses_and_repeats_nothing(sender):
    got = []

    def callback(record):
        got.append(record)
        if len(got) in (3, 4, 7):
            raise ZeroDivisionError

    with sender.obj.perf_buffer("events", callback) as buffer:
        sender.send(8)
        for k in (3, 4, 7):
            with pytest.raises(ZeroDivisionError):
                buffer.poll(0)
            assert len(got) == k
        assert buffer.consume() == 1
    assert numbers(got) == list(range(8))


def test_exception_of_the_lost_callback(sender):
    def lost(cpu, count):
        raise ZeroDivisionError(count)

    got = []
    with sender.obj.perf_buffer("events", got.append, lost=lost, pages=1) as buffer:
        sender.send(256)
        kept = buffer.consume()
        sender.send(1)
        with pytest.raises(ZeroDivisionError):
            buffer.consume()
        assert buffer.consume() == 1 and len(got) == kept + 1


def test_no_callback_says_so_and_loses_nothing(sender):
    with sender.obj.perf_buffer("events") as buffer:
        sender.send(2)
        with pytest.raises(TypeError, match="has no callback"):
            buffer.poll(0)
        assert numbers(buffer.records(timeout=0)) == [0, 1]


def test_reentry_is_a_state_error(sender):
    errors = []

    def callback(record):
        for use in (buffer.consume, lambda: buffer.poll(0), buffer.read_batch, lambda: next(iter(buffer)), buffer.close,
                    sender.obj.close):
            try:
                use()
            except pylbpf.StateError as error:
                errors.append(str(error))

    with sender.obj.perf_buffer("events", callback) as buffer:
        sender.send(3)
        assert buffer.consume() == 3
    assert len(errors) == 18 and all("from inside a callback" in error for error in errors)


def test_second_thread_gets_a_state_error_and_close_wakes_the_first(sender):
    buffer = sender.obj.perf_buffer("events", print)
    with thread(buffer.poll) as raised:
        until = time.monotonic() + 5
        while time.monotonic() < until:
            try:
                buffer.consume()
            except pylbpf.StateError as error:
                assert "another thread is reading it" in str(error)
                break
            time.sleep(0.001)
        time.sleep(0.02)
        buffer.close()
    assert [type(error) for error in raised] == [ValueError] and buffer.closed


def test_budgets_end_a_call_though_the_producer_keeps_up(sender):
    calls = []

    def more(record):
        calls.append(record)
        sender.send(2)

    with sender.obj.perf_buffer("events", more, pages=4) as buffer:
        sender.send(1)
        assert buffer.consume() == 1
        sender.send(1)
        assert buffer.poll(1, 2) == 2
        assert buffer.poll(1, max_time=0) >= 1
        for wrong in (0, -1, True, "1"):
            with pytest.raises((ValueError, TypeError)):
                buffer.consume(wrong)


def test_waits_for_a_record(sender):
    with sender.obj.perf_buffer("events", lambda record: None) as buffer:
        with thread(lambda: (time.sleep(0.03), sender.send())):
            begin = time.monotonic()
            assert buffer.poll(20) == 1 and time.monotonic() - begin < 10
        for wrong, error in ((float("nan"), ValueError), ("1", TypeError)):
            with pytest.raises(error):
                buffer.poll(wrong)


def test_asyncio_by_descriptor(sender):
    import asyncio

    got = []

    async def main():
        loop = asyncio.get_running_loop()
        enough = loop.create_future()

        def read():
            buffer.consume()
            if len(got) == 20 and not enough.done():
                enough.set_result(None)

        loop.add_reader(buffer, read)
        for _ in range(4):
            sender.send(5)
            await asyncio.sleep(0.001)
        await asyncio.wait_for(enough, 10)
        loop.remove_reader(buffer)

    with sender.obj.perf_buffer("events", got.append) as buffer:
        asyncio.run(main())
    assert numbers(got) == list(range(20))


# ---------------------------------------------------------------- life and death


def test_event_loop(sender):
    async def main():
        task = asyncio.ensure_future(beside())
        got = []
        async for record in buffer:
            got.append(record.number)
            if len(got) == 300:
                break
        await task
        assert got == list(range(300))
        assert len(await buffer.read_batch_async(timeout=0.01)) == 0
        task = asyncio.ensure_future(beside())
        batch = await buffer.read_batch_async()
        assert batch["number"][0] == 300
        await task
        buffer.read_batch(timeout=0)
        waiting = asyncio.ensure_future(buffer.read_batch_async())
        await asyncio.sleep(0.01)
        buffer.close()
        with pytest.raises(ValueError, match="closed"):
            await waiting

    async def beside():
        await asyncio.sleep(0.01)
        sender.send(300)

    with sender.obj.perf_buffer("events", type=PAIR, pages=16) as buffer:
        asyncio.run(main())


@pytest.mark.timeout(method="thread")
def test_signals_are_handled_while_close_waits_for_a_callback(sender, alarm):
    inside, go_on = threading.Event(), threading.Event()

    def callback(record):
        inside.set()
        go_on.wait(20)

    def handler(*_):
        raise TimeoutError("enough")

    buffer = sender.obj.perf_buffer("events", callback)
    sender.send()
    with thread(buffer.poll, 5) as raised:
        inside.wait(10)
        alarm(handler, 0.03)
        with pytest.raises(TimeoutError, match="enough"):
            buffer.close()
        go_on.set()
        buffer.close()
    assert raised == [] and buffer.closed


def test_object_closed_first_closes_it(sender):
    buffer = sender.obj.perf_buffer("events", print)
    sender.obj.close()
    assert buffer.closed and repr(buffer) == "<PerfBuffer: closed>"
    for use in (buffer.poll, buffer.consume, buffer.records, buffer.read_batch, buffer.fileno, buffer.stats, buffer.pause,
                buffer.__enter__):
        with pytest.raises(ValueError, match="closed"):
            use()
    buffer.close()


def test_it_keeps_map_and_object(sender, bpf_object):
    got = []
    obj = pylbpf.open(bpf_object("perfbuf"))
    obj.load()
    config = obj.maps["config"]
    config.update(NAME, rings.own_name())
    config.update(COUNT, struct.pack("=Q", 1))
    config.update(SIZE, struct.pack("=Q", 16))
    links = obj.attach()
    buffer = obj.perf_buffer("events", got.append)
    del obj
    gc.collect()
    rings.send()
    assert buffer.poll(1) == 1 and numbers(got) == [0]
    links.close()
    buffer.close()


def test_closing_takes_it_out_of_the_map_and_no_other(sender):
    copy = os.dup(sender.obj.maps["events"].fd)
    first = pylbpf.PerfBuffer(copy, print, cpus=[0])
    os.close(copy)
    fd = first.fileno()
    assert os.readlink(f"/proc/self/fd/{fd}") == "anon_inode:[eventpoll]"
    first.close()
    sender.send(1)
    assert sender.setting(REFUSED) == 1     # there is none
    with sender.obj.perf_buffer("events") as second:
        sender.send(1)
        assert len(list(second.records(timeout=0))) == 1


def test_mistakes_leak_nothing(sender):
    events = sender.obj.maps["events"]
    before = sorted(os.listdir("/proc/self/fd"))
    for map, options, error in (
            (sender.config, {}, ValueError), (sender.config.fd, {}, pylbpf.BpfError), (-1, {}, pylbpf.BpfError),
            (1 << 20, {}, pylbpf.BpfError), (None, {}, TypeError), (events, dict(callback=5), TypeError),
            (events, dict(lost=5), TypeError), (events, dict(pages=3), ValueError), (events, dict(pages=0), ValueError),
            (events, dict(pages="8"), TypeError), (events, dict(pages=1 << 28), pylbpf.BpfError),
            (events, dict(wakeup_events=0), ValueError), (events, dict(type="u8", dispatch={}, tag="x"), TypeError),
            (events, dict(tag="x"), TypeError), (events, dict(type=object), TypeError)):
        with pytest.raises(error):
            pylbpf.PerfBuffer(map, **options)
    gc.collect()
    assert sorted(os.listdir("/proc/self/fd")) == before
    with sender.obj.perf_buffer("events") as buffer:
        with pytest.raises(pylbpf.StateError, match="open already"):
            buffer.__init__(events)
        assert "CPUs" in repr(buffer)
    with pytest.raises(TypeError):
        pylbpf.PerfRecord()
    empty = pylbpf.PerfBuffer.__new__(pylbpf.PerfBuffer)
    with pytest.raises(ValueError, match="closed"):
        empty.consume()


def test_child_may_only_drop_it_and_the_parent_notices_nothing(sender):
    got = []
    with sender.obj.perf_buffer("events", got.append) as buffer:
        sender.send(2)

        def child():
            for use in (buffer.consume, buffer.poll, buffer.stats, lambda: next(buffer.records()), buffer.pause):
                with pytest.raises(pylbpf.StateError, match="parent process"):
                    use()
            buffer.close()

        in_child(child)
        sender.send(2)
        assert buffer.poll(1) == 4
    assert numbers(got) == list(range(4))


def test_callback_that_forks_does_not_go_on_in_the_child(sender):
    children = []

    def callback(record):
        if not children:
            children.append(os.fork())

    with sender.obj.perf_buffer("events", callback) as buffer:
        sender.send(3)
        try:
            assert buffer.consume() == 3
        except pylbpf.StateError:
            os._exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1]) == 7


def test_many_threads_close(sender):
    for _ in range(10):
        buffer = sender.obj.perf_buffer("events")
        with contextlib.ExitStack() as stack:
            raised = [stack.enter_context(thread(buffer.close)) for _ in range(4)]
            assert raised == [[]] * 4 and buffer.closed


def test_map_without_an_object(requires_bpf, requires_perf_event):
    with pylbpf.Map.create(pylbpf.MapType.PERF_EVENT_ARRAY, key_size=4, value_size=4, max_entries=1) as map:
        with pylbpf.PerfBuffer(map) as buffer:
            map.close()
            assert list(buffer.records(timeout=0)) == [] and len(buffer.stats().cpus) == 1


# ---------------------------------------------------------------- drained by a thread


def taken(consumer, total):
    got = []
    while len(got) < total:
        array = consumer.get(20)
        assert array is not None
        got += array["number"].tolist()
    return got


def test_consumer_has_each_record_in_order(sender):
    with sender.obj.perf_buffer("events", type=PAIR, pages=64) as buffer:
        with buffer.start(block_records=100, blocks=4) as consumer:
            for _ in range(20):
                sender.send(256)
            assert taken(consumer, 5120) == list(range(5120)) and consumer.records == 5120
            for use in (buffer.consume, lambda: buffer.read_batch(timeout=0), buffer.start):
                with pytest.raises(pylbpf.StateError, match="a consumer is reading it"):
                    use()
        sender.send(3)
        assert len(buffer.read_batch()) == 3 and buffer.stats().records == 5123


def test_consumer_calls_a_target_and_counts_what_is_lost_or_does_not_fit(sender):
    got = []
    with sender.obj.perf_buffer("events", type=PAIR, pages=1) as buffer:
        sender.send(256)
        with buffer.start(got.append, block_records=16) as consumer:
            while consumer.records < PAGE // 32 - 1:
                time.sleep(0.001)
            sender.send(2)
            sender.send(1, 40)
            while consumer.misfits < 1:
                time.sleep(0.001)
        assert 0 < buffer.stats().lost < 256
        assert sum(map(len, got)) + buffer.stats().lost == 258


@pytest.mark.parametrize("what", ["buffer", "object", "nobody"])
def test_consumer_ends_with_its_buffer(sender, what):
    threads = len(os.listdir("/proc/self/task"))
    buffer = sender.obj.perf_buffer("events", type=PAIR)
    consumer = buffer.start(print)
    if what == "nobody":
        with pytest.warns(ResourceWarning, match="never stopped"):
            del buffer, consumer
            gc.collect()
    else:
        (buffer if what == "buffer" else sender.obj).close()
        assert not consumer.running and buffer.closed
    while len(os.listdir("/proc/self/task")) > threads:     # one that has been joined is there for a moment
        time.sleep(0.001)


def test_consumer_needs_one_type(sender):
    for options in (dict(), dict(raw=True), dict(type=PAIR, tail=True), dict(dispatch={0: PAIR}, tag="number")):
        with sender.obj.perf_buffer("events", **options) as buffer:
            with pytest.raises(TypeError, match="one type"):
                buffer.start()


# ---------------------------------------------------------------- what is said, and what is not


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python >= 3.11: notes")
@pytest.mark.parametrize("how", ["each", "batches", "native"])
def test_exception_says_what_was_consumed(sender, how):
    count = 0

    def fail(record):
        nonlocal count
        count += 1
        if count == 3 or how == "batches":
            raise LookupError
        return 0

    native = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)(
        lambda context, data, size: -5)
    callback = pylbpf.NativeCallback(native) if how == "native" else fail
    with sender.obj.perf_buffer("events", callback, batches=how == "batches") as buffer:
        sender.send(5)
        with pytest.raises((LookupError, pylbpf.BpfError)) as raised:
            buffer.poll(1)
        consumed = {"each": 3, "batches": 5, "native": 1}[how]
        assert f"record {consumed} that this call took from" in raised.value.__notes__[0]
        assert "perf" not in raised.value.__notes__[0] and buffer.stats().records == consumed


def test_ctrl_c_between_records_of_a_native_callback(sender, alarm):
    def interrupt(*_):
        raise KeyboardInterrupt

    slow = ctypes.CDLL(None).usleep         # microseconds, which are the context
    with sender.obj.perf_buffer("events", pylbpf.NativeCallback(ctypes.cast(slow, ctypes.c_void_p).value, 2000),
                                pages=64) as buffer:
        for _ in range(4):
            sender.send(256)
        alarm(interrupt, 0.05)
        with pytest.raises(KeyboardInterrupt):
            buffer.consume()
        assert 0 < buffer.stats().records < 500 and 0 < buffer.consume(10) == 10
        begin = time.monotonic()
        buffer.consume(max_time=0.05)
        assert time.monotonic() - begin < 1


def test_batches_of_a_producer_that_never_rests_are_no_error(sender):
    """What comes while one has looked and found nothing is for the next call: it is not too long for the room there is."""
    stop = threading.Event()

    def send():
        os.sched_setaffinity(threading.get_native_id(), {0})
        while not stop.is_set():
            sender.send(1)

    seen = []
    with sender.obj.perf_buffer("events", cpus=[0], pages=64) as buffer:
        producer = threading.Thread(target=send)
        producer.start()
        try:
            end = time.monotonic() + 1.0
            while time.monotonic() < end:
                seen += numbers(buffer.read_batch(timeout=0))
        finally:
            stop.set()
            producer.join()
        seen += numbers(buffer.read_batch(timeout=0))
        assert seen == list(range(len(seen))) and len(seen) == sender.setting(NUMBER) and buffer.stats().lost == 0
