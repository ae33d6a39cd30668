"""Callbacks: with each record, with batches, and in C; budgets, and what an exception says."""
from __future__ import annotations

import ctypes
import errno
import os
import signal
import sys
import threading
import time

import numpy as np
import pytest

import pylbpf
from handling import steady
import records
from records import EXIT, NUMBER, OPEN, TYPED, emit, number

pytestmark = pytest.mark.bpf
SAMPLE = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)


@pytest.fixture
def obj(bpf_object):
    with records.loaded(bpf_object("records")) as obj:
        yield obj


def test_typed_callback(obj):
    got: list[int] = []
    with obj.ring_buffer("events", lambda record: got.append(record.number), type=NUMBER) as ring:
        emit(obj, 300)
        assert ring.poll(0) == 300 and got == list(range(300))


def test_callback_by_tag(obj):
    got: list[int] = []
    with obj.ring_buffer("events", lambda record: got.append(record.number), dispatch={0: OPEN, 1: EXIT}, tag="type") as ring:
        emit(obj, 30, mode=TYPED)
        assert ring.poll(0) == 30 and got == list(range(30))


@pytest.mark.parametrize("kind", [None, NUMBER, "tags"], ids=str)
def test_callback_with_batches(obj, kind):
    got: list[object] = []
    types = dict(dispatch={0: OPEN}, tag="type") if kind == "tags" else dict(type=kind)
    with obj.ring_buffer("events", got.append, batches=True, **types) as ring:
        emit(obj, 100, size=32 if kind == "tags" else 8)
        assert ring.poll(0, 30) == 30 and ring.consume() == 70 and ring.poll(0) == 0 and len(got) == 2
        if kind == "tags":
            assert got[0][0]["type"].tolist() == [0] and len(got[0][None]) == 29
        else:
            assert [number(record) for batch in got for record in batch] == list(range(100))


def test_budget_of_records_and_of_time(obj):
    def slow(record):
        time.sleep(0.002)

    with obj.ring_buffer("events", slow) as ring:
        emit(obj, 1000)
        assert ring.poll(0, 3) == 3 and ring.poll(0, max_records=2) == 2
        begin = time.monotonic()
        taken = ring.poll(None, max_time=0.03)
        assert 1 <= taken <= 15 and time.monotonic() - begin < 20
        assert 1 <= ring.consume(max_time=0.01) <= 5
        assert ring.consume(max_time=0) == 1        # one at least
        for wrong in (dict(max_time="1"), dict(max_time=float("nan")), dict(max_records=0), dict(max_records=1.5)):
            with pytest.raises((TypeError, ValueError)):
                ring.poll(0, **wrong)


def test_each_ring_has_its_turn(obj):
    got: list[int] = []
    with obj.ring_buffer("events", lambda record: got.append(0)) as ring:
        ring.add(obj.maps["others"], lambda record: got.append(1))
        emit(obj, 10)
        emit(obj, 10, ring=1)
        for _ in range(4):
            ring.poll(0, 3)
        assert 0 in got[:6] and 1 in got[:6]


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python >= 3.11: notes")
def test_exception_says_what_was_consumed(obj):
    def callback(record):
        if number(record) == 3:
            raise ZeroDivisionError

    with obj.ring_buffer("events", callback) as ring:
        emit(obj, 10)
        with pytest.raises(ZeroDivisionError) as raised:
            ring.poll(0)
        assert "record 4 that this call took from map 'events'" in raised.value.__notes__[0]
        assert ring.poll(0) == 6 and ring.stats().records == 10


def test_time_in_callbacks_is_counted(obj):
    with obj.ring_buffer("events", lambda record: time.sleep(0.01)) as ring:
        emit(obj, 3)
        ring.poll(0)
        assert 0.03 <= ring.stats().callback_seconds < 3


def test_fork_inside_a_callback(obj):
    """The child ends up outside of poll() at once, and takes nothing from its parent."""
    parent = os.getpid()
    got: list[int] = []

    def callback(record):
        got.append(number(record))
        if got == [0]:
            child = os.fork()
            if child:
                assert os.waitpid(child, 0)[1] == 0

    with obj.ring_buffer("events", callback) as ring:
        emit(obj, 5)
        try:
            ring.poll(0)
        except pylbpf.StateError:
            os._exit(int(os.getpid() == parent or got != [0]))
        except BaseException:
            os._exit(1)
        if os.getpid() != parent:
            os._exit(2)
        assert got == list(range(5))


# ---------------------------------------------------------------- in C


def test_native_callback_sees_each_record_in_place(obj):
    got: list[bytes] = []

    @SAMPLE
    def callback(context, data, size):
        got.append(ctypes.string_at(data, size))
        return context or 0

    with obj.ring_buffer("events", pylbpf.NativeCallback(callback)) as ring:
        emit(obj, 10_000)
        assert ring.poll(0) == 10_000 and [number(record) for record in got] == list(range(10_000))
        emit(obj, 10)
        assert ring.poll(0, 4) == 4 and ring.consume() == 6
    del callback


def test_native_callback_that_ends_the_call(obj):
    @SAMPLE
    def callback(context, data, size):
        return -errno.EXDEV if ctypes.c_uint64.from_address(data).value == 3 else 7

    with obj.ring_buffer("events", pylbpf.NativeCallback(callback)) as ring:
        emit(obj, 10)
        with pytest.raises(pylbpf.BpfError, match="call back for record 4 of map 'events'") as raised:
            ring.poll(0)
        assert raised.value.errno == errno.EXDEV and ring.poll(0) == 6


def test_context_of_a_native_callback(obj):
    class Counts(ctypes.Structure):
        _fields_ = [("records", ctypes.c_long), ("bytes", ctypes.c_long)]

    @SAMPLE
    def callback(context, data, size):
        counts = Counts.from_address(context)
        counts.records += 1
        counts.bytes += size
        return 0

    counts = Counts()
    for context in (counts, ctypes.addressof(counts), ctypes.pointer(counts), ctypes.c_void_p(ctypes.addressof(counts))):
        native = pylbpf.NativeCallback(callback, context)
        assert native.context is context and native.callback is callback
        with obj.ring_buffer("events", native) as ring:
            emit(obj, 5, size=12)
            ring.consume()
    assert (counts.records, counts.bytes) == (20, 240)


@pytest.mark.parametrize("wrong", [None, "name", 0, True, lambda context, data, size: 0], ids=steady)
def test_what_is_no_native_callback(wrong):
    with pytest.raises((TypeError, ValueError)):
        pylbpf.NativeCallback(wrong)


@pytest.mark.timeout(method="thread")
def test_ctrl_c_between_records_of_a_native_callback(obj):
    libc = ctypes.CDLL(None)

    def handler(*_):
        if ring.stats().records:
            signal.setitimer(signal.ITIMER_REAL, 0)
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, handler)
    try:
        with obj.ring_buffer("events", pylbpf.NativeCallback(libc.usleep, 10)) as ring:   # microseconds
            emit(obj, 16_000)
            signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)
            with pytest.raises(KeyboardInterrupt):
                ring.poll(0)
            assert 0 < ring.stats().records < 16_000
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


# ---------------------------------------------------------------- stats


def test_stats_by_map(obj):
    with obj.ring_buffer("events", lambda record: None) as ring:
        ring.add(obj.maps["others"], lambda record: None)
        emit(obj, 10, size=12)
        emit(obj, 5, size=1, ring=1)
        events, others = ring.stats().rings
        assert (events.map, events.capacity, events.waiting, events.records) == ("map 'events'", 256 * 1024, 240, 0)
        assert events.producer - events.consumer == 240 and others.waiting == 5 * 16
        assert ring.stats().waiting == 320 and ring.stats().capacity == 512 * 1024
        ring.poll(0)
        stats = ring.stats()
        assert (stats.records, stats.bytes, stats.waiting, stats.dropped) == (15, 125, 0, None)


COUNTED = """
#include <pylbpf/ringbuf.bpf.h>
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); } events SEC(".maps");
PYLBPF_COUNT_DROPS(events);
SEC("syscall") int reserve(void *ctx)
{
	__u64 *record = pylbpf_ringbuf_reserve(events, 56);

	if (record)
		bpf_ringbuf_submit(record, 0);
	return 0;
}
SEC("syscall") int output(void *ctx)
{
	char record[56] = {};

	pylbpf_ringbuf_output(events, record, sizeof(record), 0);
	return 0;
}
char _license[] SEC("license") = "GPL";
"""


def test_drops_that_the_program_counts(tmp_path):
    import objects

    source = tmp_path / "counted.bpf.c"
    source.write_text(COUNTED)
    built = objects.bpfcc.compile(source, tmp_path / "counted.bpf.o", include_dirs=[objects.ROOT / "include"])
    with pylbpf.open(built) as obj:
        obj.load()
        with obj.ring_buffer("events", type=np.dtype("S56")) as ring:
            for at in range(100):
                records.run(obj.programs["reserve" if at % 2 else "output"], b"")
            sent = len(ring.read_batch(timeout=0))
            assert 60 <= sent < 70 and ring.stats().dropped == 100 - sent


def test_stats_while_another_thread_reads(obj):
    with obj.ring_buffer("events", lambda record: time.sleep(0.001)) as ring:
        emit(obj, 100)
        reader = threading.Thread(target=ring.poll, args=(0,))
        reader.start()
        seen = []
        while reader.is_alive():
            seen.append(ring.stats().records)
            time.sleep(0.005)
        reader.join()
        assert seen == sorted(seen) and ring.stats().records == 100
    with pytest.raises(ValueError, match="closed"):
        ring.stats()


def test_map_that_counts_no_drops(obj):
    with pytest.raises(TypeError, match="drops must be a map"):
        pylbpf.RingBuffer(obj.maps["events"], drops=obj.maps["scratch"])
    with pytest.raises(TypeError, match="drops must be a map"):
        pylbpf.RingBuffer(obj.maps["events"], drops=3)


def test_fork_inside_a_callback_of_batches(obj):
    children = []

    def callback(batch):
        children.append(os.fork())
        if children[-1]:
            os.waitpid(children[-1], 0)

    with obj.ring_buffer("events", callback, batches=True) as ring:
        emit(obj, 5)
        try:
            ring.consume()
        except BaseException:
            if children[-1] == 0:
                os._exit(0)
            raise
        assert children[-1], "the child went on"


def test_handler_of_a_signal_that_forks(obj):
    """What waits then is the parent's."""
    children, got = [], []

    def handler(*_):
        children.append(os.fork())

    with obj.ring_buffer("events", got.append) as ring:
        before = signal.signal(signal.SIGALRM, handler)
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            try:
                ring.poll(0.3)
            except pylbpf.StateError:
                if children == [0]:
                    os._exit(7)
                raise
            if children == [0]:
                os._exit(8)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        assert os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1]) == 7


def test_a_tag_is_there_once(obj):
    class Other(int):
        __hash__ = int.__hash__

        def __eq__(self, other):
            return self is other

    with pytest.raises(ValueError, match="the tag 1 is there twice"):
        obj.ring_buffer("events", dispatch={Other(1): OPEN, Other(1): EXIT}, tag="type")
