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
from test_perfbuf import PAIR, numbers
from test_perfbuf import sender as sender

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


def test_rings_take_turns(obj):
    with obj.ring_buffer("events", type=NUMBER) as ring:
        ring.add(obj.maps["others"], type=NUMBER)
        emit(obj, 4)
        emit(obj, 4, first=100, ring=1)
        got = []
        for _ in range(4):
            with ring.borrow(2, timeout=0) as batch:
                got.append(batch.array["number"].tolist())
        assert sorted(got) == [[0, 1], [2, 3], [100, 101], [102, 103]]
        assert (got[0][0] < 100) != (got[1][0] < 100)


# ---------------------------------------------------------------- of perf buffers


def turns(buffer, most=None):
    """What is borrowed until nothing waits."""
    while True:
        with buffer.borrow(most, timeout=0) as batch:
            if not len(batch):
                return
            yield batch


def test_perf_array_lies_over_the_buffer_and_cannot_be_written(sender):
    with sender.obj.perf_buffer("events", type=PAIR) as buffer:
        sender.send(10)
        with buffer.borrow(6, timeout=0) as batch:
            assert len(batch) == 6 and batch.array["number"].tolist() == list(range(6))
            assert batch.array.strides == (32,) and not batch.array.flags.writeable
            with pytest.raises((ValueError, BufferError)):
                np.frombuffer(batch, "u1")[0] = 1
            assert [bytes(view) for view in batch] == [number.to_bytes(8, sys.byteorder) * 2 for number in range(6)]
            assert buffer.stats().records == 0 and buffer.stats().waiting == 320
        assert buffer.stats().records == 6 and buffer.stats().bytes == 6 * 20 and buffer.stats().waiting == 128
        for use in (lambda: len(batch), lambda: batch[0], lambda: batch.array, lambda: list(batch), lambda: memoryview(batch),
                    batch.__enter__):
            with pytest.raises(ValueError):
                use()
        assert buffer.read_batch(timeout=0)["number"].tolist() == [6, 7, 8, 9]
    with pytest.raises(ValueError, match="closed"):
        buffer.borrow()


@pytest.mark.parametrize("typed", [True, False])
@pytest.mark.parametrize("size", [16, 24, 40, 100, 1000, 4096])
def test_perf_records_at_the_wrap_around(sender, size, typed):
    """One in two pieces is a batch of its own; what is kept of them stays."""
    record = [("number", "u8"), ("again", "u8"), ("rest", f"V{size - 16}")]
    kept = []
    with sender.obj.perf_buffer("events", pages=2, type=record if typed else None) as buffer:
        for _ in range(40):
            sender.send(max(1, 3000 // size), size)
            for batch in turns(buffer):
                got = batch.array["number"].tolist() if typed else numbers(batch)
                assert all(len(view) == (size if typed else (size + 11) // 8 * 8 - 4) for view in batch)
                kept.append((got, batch[0], batch[-1]))
        assert buffer.stats().lost == 0 == buffer.stats().waiting
    seen = [each for got, *_ in kept for each in got]
    assert seen == list(range(len(seen))) and len(seen) == 40 * max(1, 3000 // size)
    for got, first, last in kept:
        assert numbers([first, last]) == [got[0], got[-1]]
    if size > 16:
        assert any(len(got) == 1 for got, *_ in kept)


def test_perf_views_that_live_longer_stay_as_they_were(sender):
    def mappings():
        with open("/proc/self/maps") as maps:
            return sum("perf_event" in line for line in maps)

    before, kept = mappings(), []
    with sender.obj.perf_buffer("events", type=PAIR, cpus=[0]) as buffer:
        for turn in range(30):
            sender.send(100)
            for batch in turns(buffer):
                kept.append((batch.array, batch.array["number"].tolist()))
            assert mappings() - before <= 2
        with buffer.borrow(timeout=0):
            pass
        for _ in range(30):
            sender.send(256)
            buffer.read_batch(timeout=0)
        assert all(array["number"].tolist() == numbers for array, numbers in kept)
    assert mappings() == before
    assert all(array["number"].tolist() == numbers for array, numbers in kept)


def test_perf_buffer_closed_inside_of_the_block(sender):
    with sender.obj.perf_buffer("events", type=PAIR) as buffer:
        sender.send(5)
        with buffer.borrow(timeout=0) as batch:
            array = batch.array
            for use in (buffer.consume, buffer.poll, buffer.borrow(timeout=0).__enter__, buffer.start):
                with pytest.raises(pylbpf.StateError, match="borrowed"):
                    use()
            buffer.close()
            assert array["number"].tolist() == list(range(5))
            with pytest.raises(ValueError):
                len(batch)
    del batch, buffer
    gc.collect()
    assert array["number"].tolist() == list(range(5))


@pytest.mark.parametrize("closed", [False, True])
def test_perf_object_closed_and_all_dropped(sender, closed):
    buffer = sender.obj.perf_buffer("events", type=PAIR)
    sender.send(5)
    lease = buffer.borrow(3, timeout=0).__enter__()
    array = lease.array
    if closed:
        sender.obj.close()
        assert buffer.closed
    there = weakref.ref(buffer)
    del buffer, lease
    assert array["number"].tolist() == [0, 1, 2]
    del array
    assert there() is None


def test_perf_batch_ends_at_other_records_and_lost_ones_are_counted(sender):
    with sender.obj.perf_buffer("events", type=PAIR, pages=1) as buffer:
        sender.send(2)
        sender.send(1, 40)
        sender.send(1)
        with buffer.borrow(timeout=0) as batch:
            assert batch.array["number"].tolist() == [0, 1]
        with pytest.raises(pylbpf.RecordError, match="a record has 44 bytes"):
            buffer.borrow(timeout=0).__enter__()
        with buffer.borrow(timeout=0) as batch:
            assert batch.array["number"].tolist() == [3]
        sender.send(256)
        total = sum(len(batch) for batch in turns(buffer))
        sender.send(1)          # only now can the kernel tell
        with buffer.borrow(timeout=0) as batch:
            assert len(batch) == 1
        assert buffer.stats().lost == 256 - total > 0 and buffer.stats().records == 4 + total + 1
        with buffer.borrow(timeout=0.01) as batch:
            assert len(batch) == 0 and list(batch) == [] and len(batch.array) == 0


def test_perf_loan_of_lost_ones_only_waits_as_any(sender):
    """They are in front of a record that is none yet: what told of them is taken, and the time is kept."""
    with sender.obj.perf_buffer("events", type=PAIR, pages=1) as buffer:
        sender.send(256)
        list(turns(buffer))
        sender.send(1, 40)
        with pytest.raises(pylbpf.RecordError):
            buffer.borrow(timeout=0).__enter__()
        lost = buffer.stats().lost
        assert lost > 0 and buffer.stats().waiting == 0
        with buffer.borrow(timeout=0.01) as batch:
            assert not len(batch)
        assert buffer.stats().lost == lost


def test_perf_raw_and_tagged_ones(sender):
    with sender.obj.perf_buffer("events", raw=True) as buffer:
        sender.send(3)
        with buffer.borrow(timeout=0) as batch:
            assert [len(view) for view in batch] == [32] * 3 and numbers(view[12:] for view in batch) == [0, 1, 2]
    types = {3: [("tag", "u4"), ("rest", "V1")]}
    with sender.obj.perf_buffer("events", dispatch=types, tag="tag") as buffer:
        sender.send(2, 5)
        with buffer.borrow(timeout=0) as batch:
            assert [len(view) for view in batch] == [5, 12]
            with pytest.raises(ValueError, match="no type"):
                batch.array


def test_perf_forked_child_consumes_nothing_and_sees_zeros(sender):
    with sender.obj.perf_buffer("events", type=PAIR) as buffer:
        sender.send(5)
        with buffer.borrow(2, timeout=0) as batch:
            kept = batch.array
        with buffer.borrow(timeout=0) as batch:
            array = batch.array
            child = os.fork()
            if not child:
                with contextlib.suppress(BaseException):
                    seen = array["number"].tolist(), kept["number"].tolist()
                    batch.release()
                    buffer.close()
                    os._exit(int(seen != ([0, 0, 0], [0, 1])))
                os._exit(2)
            assert os.waitpid(child, 0)[1] == 0
            assert buffer.stats().waiting == 96 and array["number"].tolist() == [2, 3, 4]
        assert buffer.stats().waiting == 0


def test_perf_loan_waits_when_the_block_is_entered_and_close_ends_that(sender):
    with sender.obj.perf_buffer("events", type=PAIR) as buffer:
        raised: list[BaseException] = []

        def wait():
            try:
                with buffer.borrow():
                    pass
            except BaseException as error:
                raised.append(error)

        waiting = threading.Thread(target=wait)
        waiting.start()
        while True:
            try:
                buffer.consume()
            except pylbpf.StateError:
                break
        buffer.close()
        waiting.join()
        assert [type(error) for error in raised] == [ValueError]
