"""What does one record cost, drained from a full ring buffer, and how soon is it there?

200,000 records of 64 bytes in a ring of 16 MiB, written by a BPF program before the clock starts; opening the ring buffer
is not timed. C counts the records, copies each, or sums up a field, as its libbpf gives them. ctypes has a callback that
counts, and one that makes bytes of the record. The number of records, their bytes and sums are checked.
"""
import asyncio
import collections
import ctypes
import select
import threading
import time
from itertools import islice
from time import thread_time_ns as now

import numpy as np
import objects
import peer_ctypes
import pylbpf
import pytest
from race import Row

RUNS = 200
EACH = 1000
N = RUNS * EACH
SIZE = 64
TOTAL = RUNS * EACH * (EACH - 1) // 2
EVENT = np.dtype([("number", "u8"), ("rest", "S56")])
SOURCE = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 1 << 24); } ring SEC(".maps");
SEC("syscall") int fill(void *ctx)
{
	__u64 record[8] = {};

	for (__u32 i = 0; i < 1000; i++) {
		record[0] = i;
		if (bpf_ringbuf_output(&ring, record, sizeof(record), BPF_RB_NO_WAKEUP))
			return 1;
	}
	return 0;
}
SEC("syscall") int one(void *ctx)
{
	__u64 record[8] = {};

	record[0] = bpf_ktime_get_ns();
	bpf_ringbuf_output(&ring, record, sizeof(record), 0);
	return 0;
}
__u64 dropped = 0;
SEC("syscall") int stream(void *ctx)
{
	__u64 record[8] = {};

	for (__u32 i = 0; i < 1000; i++)
		if (bpf_ringbuf_output(&ring, record, sizeof(record), 0))
			return i + 1;
	return 0;
}
char _license[] SEC("license") = "GPL";
"""
EXPECTED = [i.to_bytes(8, "little") + bytes(56) for i in range(EACH)] * RUNS


@pytest.fixture(scope="module")
def obj(bpf):
    with pylbpf.open(objects.build(SOURCE, "fill")) as obj:
        obj.load()
        yield obj


@pytest.fixture
def filled(obj, floor):
    """filled(drain): a contestant that drains a full ring."""
    fill = obj.programs["fill"].fd

    def make(drain):
        def run():
            floor.library.floor_run(fill, RUNS)
            return {"drain": drain()}

        return run

    return make


def with_callback(map, **types):
    got = []
    with pylbpf.RingBuffer(map, got.append, **types) as ring:
        start = now()
        ring.consume()
        took = now() - start
    assert len(got) == N and (types or got == EXPECTED)
    return took


def with_deque(map):
    """A callback that costs least: in C, and keeps nothing."""
    kept = collections.deque(maxlen=1)
    with pylbpf.RingBuffer(map, kept.append) as ring:
        start = now()
        ring.consume()
        took = now() - start
        assert ring.stats().records == N and kept[0] == EXPECTED[-1]
    return took


def called_by_python():
    """What it costs in Python to call a function with each of as many records."""
    seen = 0

    def count(record):
        nonlocal seen
        seen += 1

    start = now()
    for record in EXPECTED:
        count(record)
    return now() - start


def with_nothing(map):
    """A function written in Python that does nothing."""
    def ignore(record):
        pass

    with pylbpf.RingBuffer(map, ignore) as ring:
        start = now()
        ring.consume()
        took = now() - start
        assert ring.stats().records == N
    return took


def called_by_c():
    """The least that C pays in this Python to call the function that counts."""
    seen = 0

    def count(record):
        nonlocal seen
        seen += 1

    start = now()
    collections.deque(map(count, EXPECTED), maxlen=0)
    took = now() - start
    assert seen == N
    return took


def with_function(map):
    seen = 0

    def count(record):
        nonlocal seen
        seen += 1

    with pylbpf.RingBuffer(map, count) as ring:
        start = now()
        ring.consume()
        took = now() - start
    assert seen == N
    return took


def iterated(map, **types):
    with pylbpf.RingBuffer(map, **types) as ring:
        start = now()
        for record in islice(ring, N):
            pass
        took = now() - start
        assert ring.stats().records == N
    return took


def native(map, function, drained):
    drained.records = 0
    with pylbpf.RingBuffer(map, pylbpf.NativeCallback(function, drained)) as ring:
        start = now()
        ring.consume()
        took = now() - start
    assert drained.records == N
    return took


def batch(ring, into=None):
    start = now()
    array = ring.read_batch(timeout=0, into=into)
    took = now() - start
    assert len(array) == N and int(array["number"].sum()) == TOTAL
    return took


def untyped(ring):
    start = now()
    batch = ring.read_batch(timeout=0)
    took = now() - start
    assert len(batch) == N and batch[999] == EXPECTED[999]
    return took


def summed(ring):
    start = now()
    array = ring.read_batch(timeout=0)
    total = int(array["number"].sum())
    took = now() - start
    assert total == TOTAL
    return took


def borrowed(ring, most=None):
    total = left = 0
    start = now()
    while left < N:
        with ring.borrow(most, timeout=0) as batch:
            total += int(batch.array["number"].sum())
            left += len(batch)
    took = now() - start
    assert total == TOTAL
    return took


def ctypes_counting(fd):
    seen = 0

    def count(context, data, size):
        nonlocal seen
        seen += 1
        return 0

    took = peer_ctypes.drain(fd, count)
    assert seen == N
    return took


def ctypes_bytes(fd):
    got = []
    append, string_at = got.append, ctypes.string_at

    def copy(context, data, size):
        append(string_at(data, size))
        return 0

    took = peer_ctypes.drain(fd, copy)
    assert got == EXPECTED
    return took


def test_ring_buffer_copied(race, floor, obj, filled):
    ring = obj.maps["ring"]
    copy = ctypes.create_string_buffer(N * SIZE)
    into = np.zeros(N, EVENT)
    with pylbpf.RingBuffer(ring, type=EVENT) as typed, pylbpf.RingBuffer(ring) as plain:
        race(
            {
                "C copy": filled(lambda: floor.drain(ring.fd, N, SIZE, copy=copy)),
                "read_batch": filled(lambda: batch(typed)),
                "read_batch into": filled(lambda: batch(typed, into)),
                "read_batch untyped": filled(lambda: untyped(plain)),
            },
            [Row("copy", ["drain"], N, against="C copy", ratios={"read_batch": 1.1, "read_batch into": 1.1})],
            timed="read_batch",
        )


def test_ring_buffer_summed(race, floor, obj, filled):
    ring = obj.maps["ring"]
    with pylbpf.RingBuffer(ring, type=EVENT) as typed:
        race(
            {
                "C sum": filled(lambda: floor.drain(ring.fd, N, SIZE, total=TOTAL)),
                # So many that what the first look has brought into the cache of 512 KiB is still there for the sum.
                "borrow": filled(lambda: borrowed(typed, 4096)),
                "borrow, all at once": filled(lambda: borrowed(typed)),
                "read_batch": filled(lambda: summed(typed)),
            },
            [Row("sum of a field", ["drain"], N, against="C sum", ratios={"borrow": 1.0})],
            timed="borrow",
        )


def test_ring_buffer_one_by_one(race, floor, obj, filled):
    ring = obj.maps["ring"]
    copy = ctypes.create_string_buffer(N * SIZE)
    race(
        {
            "C copy": filled(lambda: floor.drain(ring.fd, N, SIZE, copy=copy)),
            "callback": filled(lambda: with_deque(ring)),
            "callback, all kept": filled(lambda: with_callback(ring)),
            "a function, called by Python": lambda: {"drain": called_by_python()},
            "a function, called by C": lambda: {"drain": called_by_c()},
            "callback, a function that does nothing": filled(lambda: with_nothing(ring)),
            "callback, a function": filled(lambda: with_function(ring)),
            "callback, typed": filled(lambda: with_callback(ring, type=EVENT)),
            "iteration": filled(lambda: iterated(ring)),
            "iteration, typed": filled(lambda: iterated(ring, type=EVENT)),
            "ctypes count": filled(lambda: ctypes_counting(ring.fd)),
            "ctypes bytes": filled(lambda: ctypes_bytes(ring.fd)),
        },
        [Row("one by one", ["drain"], N, against="C copy",
             ratios={"callback": 6, "callback, a function that does nothing": 6, "callback, a function": 6,
                     "iteration": 8, "iteration, typed": 8})],
        timed="callback",
    )


def test_ring_buffer_native_callback(race, floor, obj, filled):
    from floor import Drained

    ring = obj.maps["ring"]
    function = ctypes.cast(floor.library.floor_count_record, ctypes.c_void_p).value
    race(
        {
            "C count": filled(lambda: floor.drain(ring.fd, N, SIZE)),
            "native callback": filled(lambda: native(ring, function, Drained())),
        },
        [Row("count", ["drain"], N, against="C count", ratios={"native callback": 1.02})],
        timed="native callback",
    )


# ---------------------------------------------------------------- how soon

WAKES = 60


def one_by_one(floor, program, stop):
    while not stop.is_set():
        floor.library.floor_run(program, 1)
        time.sleep(0.001)


def waits_with_epoll(ring):
    late = []
    with select.epoll() as epoll:
        epoll.register(ring.fileno(), select.EPOLLIN)
        while len(late) < WAKES:
            epoll.poll()
            batch = ring.read_batch(timeout=0)
            woken = time.monotonic_ns()
            late += (woken - batch["number"]).tolist()
    return sorted(late)[len(late) // 2]


def waits_itself(ring):
    late = []
    while len(late) < WAKES:
        batch = ring.read_batch()
        woken = time.monotonic_ns()
        late += (woken - batch["number"]).tolist()
    return sorted(late)[len(late) // 2]


def waits_with_asyncio(ring):
    late = []

    async def main():
        while len(late) < WAKES:
            batch = await ring.read_batch_async()
            woken = time.monotonic_ns()
            late.extend((woken - batch["number"]).tolist())

    asyncio.run(main())
    return sorted(late)[len(late) // 2]


def test_ring_buffer_latency(race, floor, obj):
    """From the moment of the record to the array with it, the median of 60 that come one by one."""
    ring, program = obj.maps["ring"], obj.programs["one"].fd

    def woken(wait):
        def run():
            stop = threading.Event()
            with pylbpf.RingBuffer(ring, type=EVENT) as typed:
                sender = threading.Thread(target=one_by_one, args=(floor, program, stop))
                sender.start()
                try:
                    return {"late": wait(typed)}
                finally:
                    stop.set()
                    sender.join()
                    typed.read_batch(timeout=0)

        return run

    race(
        {"epoll": woken(waits_with_epoll), "read_batch": woken(waits_itself), "asyncio": woken(waits_with_asyncio)},
        [Row("late", ["late"], 1, unit="us", against="epoll", over="epoll", limits={"asyncio": 30}, clock="wall")],
        timed="asyncio",
    )
