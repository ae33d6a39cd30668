"""Borrowed records: in place, given back at once, and never a danger to who looks at them later."""
from __future__ import annotations

import contextlib
import gc
import os
import sys
import threading
import weakref

import numpy as np
import pytest

import pylbpf
import records
from records import CAPACITY, MIXED, NUMBER, OPEN, emit, held, number

pytestmark = pytest.mark.bpf


@pytest.fixture
def obj(bpf_object):
    with records.loaded(bpf_object("records")) as obj:
        yield obj


@pytest.fixture
def ring(obj):
    with obj.ring_buffer("events", type=NUMBER) as ring:
        yield ring


def test_array_lies_over_the_ring_and_cannot_be_written(obj, ring):
    emit(obj, 10)
    with ring.borrow(timeout=0) as batch:
        assert len(batch) == 10 and batch.array["number"].tolist() == list(range(10))
        assert batch.array.strides == (16,) and not batch.array.flags.writeable
        with pytest.raises((ValueError, BufferError)):
            np.frombuffer(batch, "u1")[0] = 1
        with pytest.raises(TypeError):
            batch[0][0] = 1
        assert ring.stats().records == 0 and ring.stats().waiting == 160
    assert ring.stats().records == 10 and ring.stats().waiting == 0


def test_batch_is_a_sequence_of_views(obj):
    with obj.ring_buffer("events") as ring:
        emit(obj, 50, mode=MIXED)
        with ring.borrow(30, timeout=0) as batch:
            assert len(batch) == 30 == len(list(batch))
            for at in (0, 29, -1, -30):
                assert number(batch[at]) == at % 30 and len(batch[at]) == records.size_of(at % 30)
            for at in (30, -31):
                with pytest.raises(IndexError):
                    batch[at]
            with pytest.raises(ValueError, match="no type"):
                batch.array
        assert [number(record) for record in ring.records(timeout=0)] == list(range(30, 50))


def test_what_is_asked_afterwards_is_a_value_error(obj, ring):
    emit(obj, 3)
    with ring.borrow(timeout=0) as batch:
        pass
    for use in (lambda: len(batch), lambda: batch[0], lambda: batch.array, lambda: list(batch), lambda: memoryview(batch),
                batch.__enter__):
        with pytest.raises(ValueError):
            use()
    batch.release()
    assert repr(batch) == "<Lease: released>"


def test_views_that_live_longer_stay_as_they_were(obj, ring):
    kept = []
    first = 0
    for turn in range(40):
        sent = emit(obj, 1500, first=first)
        with ring.borrow(timeout=0) as batch:
            array, view = batch.array, batch[3]
        kept.append((first, array, view))
        first += sent
        if turn % 3 == 0:
            kept.pop(0)
    sent = emit(obj, CAPACITY // 16, first=1 << 40)
    for begin, array, view in kept:
        assert array["number"].tolist() == list(range(begin, begin + 1500)) and number(view) == begin + 3
    assert len(ring.read_batch(timeout=0)) == sent


def test_mappings_do_not_pile_up(obj):
    def mappings():
        with open("/proc/self/maps") as maps:
            return sum("bpf-map" in line for line in maps)

    array = None
    counts = set()
    before = mappings()     # libbpf has the variables mapped, from 1.2 on
    with obj.ring_buffer("events", type=NUMBER) as ring:
        for turn in range(200):
            emit(obj, 100)
            with ring.borrow(timeout=0) as batch:
                array = batch.array
            counts.add(mappings())
        assert max(counts) - before <= 2 + 2 * 66 and array is not None
        del array, batch
    assert mappings() == before


def test_views_outlive_ring_object_and_everything(obj):
    ring = obj.ring_buffer("events", type=NUMBER)
    emit(obj, 5)
    with ring.borrow(timeout=0) as batch:
        inside = batch.array
        obj.close()
        assert ring.closed
        with pytest.raises(ValueError):
            len(batch)
    del ring, batch
    gc.collect()
    assert inside["number"].tolist() == list(range(5))


def test_ring_closed_inside_of_the_block(obj, ring):
    emit(obj, 5)
    with ring.borrow(timeout=0) as batch:
        array = batch.array
        ring.close()
        assert array["number"].sum() == 10
    again = obj.ring_buffer("events", type=NUMBER)
    assert again.stats().waiting == 0       # they were consumed
    emit(obj, 1000)
    assert array["number"].tolist() == list(range(5))
    again.close()


def test_nothing_else_reads_meanwhile(obj, ring):
    emit(obj, 5)
    with ring.borrow(timeout=0):
        for use in (ring.consume, lambda: ring.poll(0), lambda: ring.read_batch(timeout=0), lambda: next(iter(ring)),
                    ring.borrow(timeout=0).__enter__, lambda: ring.add(obj.maps["others"])):
            with pytest.raises(pylbpf.StateError, match="borrowed"):
                use()
    assert len(ring.read_batch(timeout=0)) == 0


def test_an_exception_in_the_block_comes_out_and_the_records_are_consumed(obj, ring):
    emit(obj, 5)
    with pytest.raises(ZeroDivisionError):
        with ring.borrow(2, timeout=0) as batch:
            array = batch.array
            raise ZeroDivisionError
    assert array["number"].tolist() == [0, 1]
    assert ring.read_batch(timeout=0)["number"].tolist() == [2, 3, 4]


def test_batch_ends_where_records_are_discarded_or_have_another_size(obj, ring):
    emit(obj, 3)
    emit(obj, 1, size=9)
    emit(obj, 2, first=3)
    with ring.borrow(timeout=0) as batch:
        assert batch.array["number"].tolist() == [0, 1, 2]
    with pytest.raises(pylbpf.RecordError, match="a record has 9 bytes") as raised:
        with ring.borrow(timeout=0):
            pass
    assert len(raised.value.record) == 9
    with ring.borrow(timeout=0) as batch:
        assert batch.array["number"].tolist() == [3, 4]


@pytest.mark.parametrize("before", [0, 1, 15, 16, 63, 64, 65, 255, 256, 257, 1023, 1024, 1025, 1500, 1999])
def test_batch_ends_at_the_first_of_another_size_wherever_it_is(obj, ring, before):
    emit(obj, 1)
    ring.read_batch(timeout=0)
    emit(obj, before)
    emit(obj, 1, size=9)
    emit(obj, 2000 - before, first=before)
    for most, expected in ((700, min(700, before)), (None, before - min(700, before))):
        if expected:
            with ring.borrow(most, timeout=0) as batch:
                assert len(batch) == expected
                assert batch.array["number"].tolist() == list(range(before))[-expected if most is None else 0:][:expected]
    with pytest.raises(pylbpf.RecordError):
        ring.borrow(timeout=0).__enter__()
    assert ring.read_batch(timeout=0)["number"].tolist() == list(range(before, 2000))


def test_waits_when_the_block_is_entered(obj, ring):
    lease = ring.borrow(timeout=20)
    timer = threading.Timer(0.03, emit, (obj, 3))
    timer.start()
    with lease as batch:
        assert 1 <= len(batch) <= 3
    timer.join()
    ring.read_batch(timeout=0)
    with ring.borrow(timeout=0.01) as batch:
        assert len(batch) == 0 and list(batch) == [] and bytes(batch) == b""


def test_busy_record_is_not_lent(obj, ring):
    with held(obj, number=0):
        emit(obj, 3, first=1)
        with ring.borrow(timeout=0) as batch:
            assert len(batch) == 0
    with ring.borrow(timeout=1) as batch:
        assert batch.array["number"].tolist() == [0, 1, 2, 3]


def test_forked_child_consumes_nothing(obj, ring):
    emit(obj, 5)
    with contextlib.ExitStack() as stack:
        batch = stack.enter_context(ring.borrow(timeout=0))
        array = batch.array
        child = os.fork()
        if not child:
            with contextlib.suppress(BaseException):
                batch.release()
                os._exit(int(array["number"].sum() != 10))
            os._exit(2)
        assert os.waitpid(child, 0)[1] == 0
        assert ring.stats().waiting == 80 and len(batch) == 5
    assert ring.stats().waiting == 0


def test_another_thread_looks_while_the_block_ends(obj):
    """The copy that views get takes their place in one step."""
    with obj.ring_buffer("events", type=OPEN) as ring:
        stop = threading.Event()
        shown: list[tuple[int, np.ndarray]] = []
        wrong: list[object] = []

        def look():
            while not stop.is_set():
                for first, array in shown[-3:]:
                    if array["pid"].sum() != 0 or int(array["number"].max()) != 0:
                        wrong.append(array)

        looker = threading.Thread(target=look)
        looker.start()
        for turn in range(100):
            emit(obj, 2000, size=32)
            with ring.borrow(1000, timeout=0) as batch:
                shown.append((turn, batch.array[turn % 2:]))
            del shown[:-4]
            ring.read_batch(timeout=0)
        stop.set()
        looker.join()
        assert not wrong


def test_views_of_an_empty_loan_show_nothing_and_harm_nothing(obj):
    with obj.ring_buffer("events") as ring:
        for turn in range(6):
            emit(obj, 10000)
            ring.read_batch(timeout=0)
            with ring.borrow(timeout=0) as batch:
                view, array = memoryview(batch), np.frombuffer(batch, "u1")
            assert len(view) == 0 and len(array) == 0
        emit(obj, 3)
        assert len(ring.read_batch(timeout=0)) == 3


@pytest.mark.parametrize("how", ["alone", "with its ring"])
def test_dropped_in_the_middle_it_ends(obj, how):
    ring = obj.ring_buffer("events", type=NUMBER)
    emit(obj, 5)
    lease = ring.borrow(3, timeout=0).__enter__()
    array = lease.array
    there = weakref.ref(ring)
    del lease
    with pytest.raises(pylbpf.StateError, match="borrowed"):
        ring.consume()              # the array keeps it
    assert array["number"].tolist() == [0, 1, 2]
    if how == "alone":
        del array
        assert ring.read_batch(timeout=0)["number"].tolist() == [3, 4]
        ring.close()
    else:
        del ring, array
        assert there() is None
        with obj.ring_buffer("events", type=NUMBER) as ring:
            assert ring.read_batch(timeout=0)["number"].tolist() == [3, 4]


def test_lease_in_a_cycle_is_collected(obj):
    ring = obj.ring_buffer("events", type=NUMBER)
    kept: list[pylbpf.Lease] = []
    ring.add(obj.maps["others"], kept.append, type=NUMBER)
    emit(obj, 5)
    kept.append(ring.borrow(timeout=0).__enter__())
    there = weakref.ref(ring)
    del ring, kept
    gc.collect()
    assert there() is None


def test_arrays_of_dtypes_with_shapes(obj):
    with obj.ring_buffer("events", type=np.dtype("(2,)u4")) as ring:
        emit(obj, 300, first=1 << 32)
        expected = [[at, 1] for at in range(300)] if sys.byteorder == "little" else [[1, at] for at in range(300)]
        with ring.borrow(100, timeout=0) as batch:
            assert batch.array.shape == (100, 2) and batch.array.tolist() == expected[:100]
        assert ring.read_batch(timeout=0).tolist() == expected[100:]
