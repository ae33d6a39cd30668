"""The memory of ring buffers: every size, the end of the ring, discarded and busy records, fences."""
from __future__ import annotations

import contextlib
import os
import random
import threading
import time

import numpy as np
import pytest

import pylbpf
import records
from records import CAPACITY, MIXED, NUMBER, OPEN, TYPED, emit, held, number

pytestmark = pytest.mark.bpf


@pytest.fixture
def obj(bpf_object):
    with records.loaded(bpf_object("records")) as obj:
        yield obj


@pytest.mark.parametrize("size", [1, 7, 8, 9, 63, 64, 65, 4087, 4088, 4096, 65536, 131072 - 8, 131072])
def test_records_of_every_size(obj, size):
    data = bytes(i * 7 % 251 for i in range(size))
    records.fill(obj, data)
    with obj.ring_buffer("events") as ring:
        times = max(3 * CAPACITY // (size + 8), 3) if size > 60 else 100
        for at in range(times):
            assert emit(obj, size=size, first=at) == 1
            expected = at.to_bytes(8, "little") + data[8:] if size >= 8 else data
            how = at % 4
            if how == 0:
                [record] = ring.records(timeout=0)
            elif how == 1:
                [record] = ring.read_batch(timeout=0)
            elif how == 2:
                with ring.borrow(timeout=0) as batch:
                    [view] = batch
                    record = bytes(view)
                    del view
            else:
                record = ring.read_batch(timeout=0, into=bytearray(size))[0]
            assert record == expected


def test_the_largest_record_there_is(obj):
    with obj.ring_buffer("events") as ring:
        for _ in range(5):
            assert emit(obj, size=1 << 17) == 1
            assert emit(obj, size=1 << 17) == 0     # with its header it is more than what is left
            assert len(ring.read_batch(timeout=0)[0]) == 1 << 17


def test_all_ways_over_the_end_of_the_ring(obj):
    first = 0
    with obj.ring_buffer("events", type=np.dtype("S40")) as ring:
        for turn in range(60):
            sent = emit(obj, 1000, first=first, size=40)
            assert sent == 1000
            if turn % 3 == 0:
                with ring.borrow(timeout=0) as batch:
                    assert len(batch) == sent and [number(view) for view in batch] == list(range(first, first + sent))
            elif turn % 3 == 1:
                assert [number(record) for record in ring.records(timeout=0)] == list(range(first, first + sent))
            else:
                array = ring.read_batch(timeout=0)
                assert [number(record) for record in array] == list(range(first, first + sent))
            first += sent


@pytest.mark.parametrize("every", [1, 2, 5])
def test_discarded_records_are_not_there(obj, every):
    numbers = list(range(100))
    with obj.ring_buffer("events", type=NUMBER) as ring:
        emit(obj, 100, every=every)
        assert ring.read_batch(timeout=0)["number"].tolist() == numbers
        emit(obj, 100, every=every)
        assert [record.number for record in ring.records(timeout=0)] == numbers
        emit(obj, 100, every=every)
        found = []
        while True:
            with ring.borrow(timeout=0) as batch:
                if not len(batch):
                    break
                found += batch.array["number"].tolist()
        assert found == numbers
        stats = ring.stats()
        assert stats.discarded == 3 * len(range(0, 100, every)) and stats.records == 300 and stats.waiting == 0


def test_only_discarded_records(obj):
    with obj.ring_buffer("events", lambda record: None) as ring:
        with held(obj, discard=True):
            assert ring.poll(0.01) == 0
        assert ring.poll(0) == 0 and ring.read_batch(timeout=0.01).data.nbytes == 0
        assert ring.stats().discarded == 1 and ring.stats().waiting == 0


def test_busy_record_ends_a_batch_and_keeps_the_order(obj):
    with obj.ring_buffer("events", type=NUMBER) as ring:
        emit(obj, 2, first=0)
        with held(obj, number=2):
            emit(obj, 3, first=3)
            assert ring.read_batch(timeout=0)["number"].tolist() == [0, 1]
            assert len(ring.read_batch(timeout=0)) == 0 == len(list(ring.records(timeout=0)))
            with ring.borrow(timeout=0.005) as batch:
                assert len(batch) == 0 and batch.array.shape == (0,)
            assert ring.stats().waiting > 0
        assert ring.read_batch(timeout=1)["number"].tolist() == [2, 3, 4, 5]


def test_wait_ends_when_a_busy_record_is_submitted(obj):
    with obj.ring_buffer("events", type=NUMBER) as ring:
        with held(obj, number=7):
            timer = threading.Timer(0.05, lambda: obj.maps["release"].update(bytes(4), b"\1" + bytes(7)))
            timer.start()
            assert ring.read_batch(timeout=20)["number"].tolist() == [7]
            timer.join()


def consume_somehow(ring, draw, got):
    """One call of any kind; what it gave goes to `got`."""
    most = draw.choice([1, 2, 17, 1000, None])
    how = draw.randrange(5)
    if how == 0:
        batch = ring.read_batch(most, timeout=0.05)
        got += list(batch)
    elif how == 1:
        got += list(ring.read_batch(most, max_bytes=draw.choice([1000, 5000]), timeout=0.05))
    elif how == 2:
        with ring.borrow(most, timeout=0.05) as batch:
            got += [bytes(view) for view in batch]
    elif how == 3:
        for record in ring.records(timeout=0.001):
            got.append(record)
            if draw.random() < 0.01:
                break
    else:
        ring.poll(0.05, most)


def test_model_of_producer_and_consumer(obj):
    """Any mixture of calls gives the records of a producer at full speed, each once and in order, and never hangs."""
    total = 40_000
    draw = random.Random(5)
    got: list[bytes] = []
    failed = []

    def produce():
        first, retries = 0, random.Random(6)
        try:
            while first < total:
                count = min(retries.choice([1, 1, 3, 50]), total - first)
                first += emit(obj, count, first=first, mode=MIXED, every=retries.choice([0, 0, 2]),
                              flags=records.NO_WAKEUP if retries.random() < 0.3 and total - first > 100 else 0)
        except BaseException as error:
            failed.append(error)

    with obj.ring_buffer("events", got.append) as ring:
        producer = threading.Thread(target=produce)
        producer.start()
        seen = 0
        while len(got) < total and not failed:
            consume_somehow(ring, draw, got)
            for record in got[seen:]:
                assert number(record) == seen and len(record) == records.size_of(seen)
                seen += 1
        producer.join()
        assert not failed and seen == total and ring.stats().records == total


def test_wakeups_are_not_missed(obj):
    """One record at a time, each sent while the reader is about to sleep: with a wake-up lost it would sleep for ever."""
    with obj.ring_buffer("events", type=NUMBER) as ring:
        total = 3000

        def produce():
            for at in range(total):
                emit(obj, first=at)

        producer = threading.Thread(target=produce)
        producer.start()
        seen = 0
        while seen < total:
            batch = ring.read_batch(timeout=20)
            assert len(batch) and batch["number"].tolist() == list(range(seen, seen + len(batch)))
            seen += len(batch)
        producer.join()


def test_second_reader_of_a_map_is_no_danger(obj):
    """Two readers of one map take records from each other, and may see some twice, but nothing else."""
    stop = threading.Event()
    got: list[bytes] = []
    failed: list[BaseException] = []
    sent = 0

    def whole(record):
        return len(record) == records.size_of(number(record))

    def produce():
        nonlocal sent
        while not stop.is_set():
            sent += emit(obj, 50, first=sent, mode=MIXED)

    def consume(draw):
        try:
            with obj.ring_buffer("events", got.append) as ring:
                while not stop.is_set():
                    with contextlib.suppress(AssertionError, ValueError):       # some of what it sees may be torn
                        consume_somehow(ring, draw, got)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=produce), *(threading.Thread(target=consume, args=(random.Random(at),))
                                                   for at in range(2))]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 60
    stop.wait(0.5)
    while not (failed or any(map(whole, got))) and time.monotonic() < deadline:     # on a slow machine
        stop.wait(0.1)
    stop.set()
    for thread in threads:
        thread.join()
    assert failed == [] and sent
    assert any(map(whole, got))
    with obj.ring_buffer("events") as ring:        # whoever comes next is not disturbed
        while len(ring.read_batch(timeout=0)):     # the last to write where reading goes on may have been a ring's length behind
            pass
        emit(obj, 3, first=7)
        assert [number(record) for record in ring.records(timeout=0)] == [7, 8, 9]


def test_two_rings_one_after_the_other(obj):
    with obj.ring_buffer("events", type=NUMBER) as ring:
        ring.add(obj.maps["others"], type=NUMBER)
        for at in range(0, 4, 2):
            emit(obj, first=at)
            emit(obj, first=at + 1, ring=1)
        assert sorted(ring.read_batch(timeout=0)["number"].tolist()) == [0, 1, 2, 3]
        emit(obj, 10)
        emit(obj, 10, first=10, ring=1)
        found = []
        for _ in range(5):
            found += ring.read_batch(4, timeout=0)["number"].tolist()
        assert sorted(found) == list(range(20))
        assert [each.map for each in ring.stats().rings] == ["map 'events'", "map 'others'"]


def test_list_of_maps(obj):
    """All of them read as one, with the same types."""
    with obj.ring_buffer(["events", obj.maps["others"]], type="exit_event") as ring:
        emit(obj, 2, size=16)
        emit(obj, 3, size=16, ring=1)
        assert len(ring.read_batch(timeout=0)) == 5 and len(ring.stats().rings) == 2
    with obj.ring_buffer(["events", "others"], dispatch={0: "open_event", 1: "exit_event"}, tag="type") as ring:
        emit(obj, 6, mode=TYPED)
        batch = ring.read_batch(timeout=0)
        assert [len(batch[0]), len(batch[1])] == [4, 2]
        ring.add(obj.maps["others"], dispatch={0: "open_event"}, tag="type")
        with pytest.raises(ValueError, match="different types"):
            ring.read_batch(timeout=0)
    with pytest.raises(ValueError, match="no map"):
        obj.ring_buffer([])
    with pytest.raises(KeyError, match="did you mean 'others'"):
        obj.ring_buffer(["events", "other"])


def test_names_of_types_need_an_object(obj):
    with pylbpf.RingBuffer(obj.maps["events"], type="open_event") as ring:
        ring.add(obj.maps["others"], type="exit_event")
    with pylbpf.RingBuffer(obj.maps["events"].fd, type="u8"):
        pass
    with pytest.raises(ValueError, match="'open_event'"):
        pylbpf.RingBuffer(obj.maps["events"].fd, type="open_event")


def test_numbers_of_numpy(obj):
    with obj.ring_buffer("events", type=NUMBER) as ring:
        emit(obj, 5)
        assert len(ring.read_batch(max_records=np.int64(2), max_bytes=np.uint8(8), timeout=np.float32(0.1))) == 1
        with ring.borrow(np.int32(2), timeout=np.int8(0)) as batch:
            assert len(batch) == 2


def test_memory_is_constant_over_many_records(obj):
    if "asan" in os.environ.get("LD_PRELOAD", ""):
        pytest.skip("malloc: the sanitizer keeps what was freed for a while")
    with obj.ring_buffer("events", type=OPEN) as ring:
        def use():
            for _ in range(60):
                emit(obj, 4000, size=32)
                for _ in range(10):
                    with ring.borrow(100, timeout=0) as batch:
                        batch.array["pid"].sum()
                    ring.read_batch(100, timeout=0)
                for record in ring.records(timeout=0):
                    record.pid

        def resident():
            with open("/proc/self/statm") as file:
                return int(file.read().split()[1])

        use()
        before = resident()
        for _ in range(3):
            use()
        assert resident() - before < 600    # pages, of 1 million records of 32 bytes


def test_not_a_ring_buffer(obj):
    with pytest.raises(ValueError, match="not a RINGBUF"):
        obj.ring_buffer("scratch")
    with pytest.raises(pylbpf.BpfError):
        pylbpf.RingBuffer(obj.maps["scratch"].fd)
