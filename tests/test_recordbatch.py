"""Batches: limits, the caller's memory, and what becomes of records that do not fit."""
from __future__ import annotations

import array
import gc
import sys

import numpy as np
import pytest

import records
from records import MIXED, NUMBER, OPEN, emit, number, size_of

pytestmark = pytest.mark.bpf


@pytest.fixture
def obj(bpf_object):
    with records.loaded(bpf_object("records")) as obj:
        yield obj


def test_untyped_batch_is_a_sequence_with_buffers(obj):
    with obj.ring_buffer("events") as ring:
        emit(obj, 100, mode=MIXED)
        batch = ring.read_batch(timeout=0)
        assert len(batch) == 100 and [len(record) for record in batch] == list(map(size_of, range(100)))
        assert [number(batch[at]) for at in (0, 99, -1, -100)] == [0, 99, 99, 0]
        assert [number(record) for record in batch[10:20:3]] == [10, 13, 16, 19] and type(batch[0]) is bytes
        offsets = np.asarray(batch.offsets)
        assert offsets.dtype == "i4" and len(offsets) == 101 and np.diff(offsets).tolist() == list(map(size_of, range(100)))
        assert bytes(batch.data) == b"".join(batch) and bytes(batch.view(7)) == batch[7]
        for wrong in (100, -101):
            with pytest.raises(IndexError):
                batch[wrong]
        with pytest.raises(IndexError):
            batch.view(100)
        with pytest.raises(ValueError, match="no type"):
            batch.array
        assert repr(batch) == f"<RecordBatch: 100 records, {offsets[-1]} bytes>"


def test_batch_of_nothing(obj):
    with obj.ring_buffer("events") as ring:
        batch = ring.read_batch(timeout=0)
        assert len(batch) == 0 and list(batch) == [] and bytes(batch.data) == b"" and list(batch.offsets) == [0]
    with obj.ring_buffer("events", type=OPEN) as ring:
        array = ring.read_batch(timeout=0.001)
        assert array.shape == (0,) and array.dtype == OPEN


@pytest.mark.parametrize("kind", [None, NUMBER], ids=["untyped", "typed"])
def test_limits(obj, kind):
    with obj.ring_buffer("events", type=kind) as ring:
        emit(obj, 100)
        taken = [len(ring.read_batch(most, timeout=0)) for most in (1, 10, 50, 1000)]
        assert taken == [1, 10, 50, 39]
        emit(obj, 100)
        taken = [len(ring.read_batch(max_bytes=most, timeout=0)) for most in (8, 81, 800)]
        assert taken == [1, 10, 89]
        emit(obj, 1)
        with pytest.raises(ValueError, match="max_bytes is 7|8 bytes, and there is room for 7"):
            ring.read_batch(max_bytes=7, timeout=0)
        for wrong in (dict(max_records=0), dict(max_bytes=0), dict(max_records=-1), dict(max_records=1 << 70)):
            with pytest.raises((ValueError, OverflowError)):
                ring.read_batch(timeout=0, **wrong)
        for wrong in (dict(max_records="1"), dict(max_bytes=True), dict(into=b"bytes"), dict(into=3)):
            with pytest.raises((TypeError, BufferError, ValueError)):
                ring.read_batch(timeout=0, **wrong)
        assert len(ring.read_batch(timeout=0)) == 1


def test_small_records_behind_a_large_one(obj):
    with obj.ring_buffer("events") as ring:
        emit(obj, 1, size=100_000)
        emit(obj, 5000, first=1)
        batch = ring.read_batch(timeout=0)
        assert len(batch) == 5001 and number(batch[5000]) == 5000


def test_into_an_array_of_arrays(obj):
    with obj.ring_buffer("events", type="(4,)u8") as ring:
        emit(obj, 3, size=32)
        array = np.zeros((5, 4), "u8")
        part = ring.read_batch(timeout=0, into=array)
        assert part.shape == (3, 4) and np.shares_memory(part, array) and part.any(axis=1).sum() >= 2 and not array[3:].any()
        for wrong in (np.zeros(4, "u8"), np.zeros((5, 3), "u8"), np.zeros((5, 4), "u4"), np.zeros((), "u8")):
            with pytest.raises(TypeError, match="shape"):
                ring.read_batch(timeout=0, into=wrong)


def test_into_the_callers_array(obj):
    with obj.ring_buffer("events", type=OPEN) as ring:
        array = np.zeros(10, OPEN)
        emit(obj, 15, size=32)
        part = ring.read_batch(timeout=0, into=array)
        assert part is array and array["type"].tolist() == list(range(10))
        part = ring.read_batch(timeout=0, into=array)
        assert len(part) == 5 and part.base is array and array["type"].tolist() == [10, 11, 12, 13, 14, 5, 6, 7, 8, 9]
        emit(obj, 3, size=32)
        assert ring.read_batch(2, timeout=0, into=bytearray(70))["type"].tolist() == [0, 1]
        for wrong in (np.zeros(3, NUMBER), np.zeros((2, 2), OPEN), np.zeros(8, OPEN)[::2], np.zeros(0, OPEN), bytearray(31),
                      np.zeros(3, OPEN).view(np.recarray).tolist()):
            with pytest.raises((TypeError, ValueError, BufferError)):
                ring.read_batch(timeout=0, into=wrong)
        read_only = np.zeros(3, OPEN)
        read_only.flags.writeable = False
        with pytest.raises((ValueError, BufferError)):
            ring.read_batch(timeout=0, into=read_only)
        assert ring.read_batch(timeout=0)["type"].tolist() == [2]


def test_into_the_callers_buffer(obj):
    with obj.ring_buffer("events") as ring:
        memory = bytearray(1000)
        emit(obj, 10, mode=MIXED)
        taken = []
        while len(taken) < 10:
            batch = ring.read_batch(timeout=0, into=memory)
            assert len(batch) and bytes(memory[:len(batch.data)]) == bytes(batch.data)
            with pytest.raises(BufferError):
                memory.clear()
            taken += map(number, batch)
        assert taken == list(range(10))
        emit(obj, 1, size=1001)
        with pytest.raises(ValueError, match="has 1001 bytes, and there is room for 1000; it is still there"):
            ring.read_batch(timeout=0, into=memory)
        assert len(ring.read_batch(timeout=0)[0]) == 1001


class Treacherous:
    """A buffer that closes the ring buffer when it is asked for."""

    def __init__(self, ring):
        self.ring = ring

    def __len__(self):
        self.ring.close()
        return 100


def test_buffer_whose_code_closes_the_ring_buffer(obj):
    for kind in (None, NUMBER):
        ring = obj.ring_buffer("events", type=kind)
        emit(obj, 3)
        with pytest.raises(Exception):
            ring.read_batch(timeout=0, into=Treacherous(ring))
        ring.close()
        list(obj.ring_buffer("events").records(timeout=0))


def test_arrays_are_the_callers(obj):
    kept = []
    with obj.ring_buffer("events", type=NUMBER) as ring:
        for turn in range(50):
            emit(obj, 500, first=turn * 500)
            array = ring.read_batch(timeout=0)
            array["number"] += 1
            if turn % 2:
                kept.append((turn, array))
    del ring, array
    gc.collect()
    for turn, array in kept:
        assert array["number"].tolist() == list(range(turn * 500 + 1, turn * 500 + 501))


def test_memory_of_a_small_batch_is_small(obj):
    """A batch does not keep what the largest one needed."""
    with obj.ring_buffer("events") as ring:
        emit(obj, 1, size=1 << 17)
        ring.read_batch(timeout=0)
        emit(obj, 1)
        batch = ring.read_batch(timeout=0)
        assert memoryview(batch.data).nbytes == 8 and sys.getsizeof(batch) < 200


def test_rings_of_different_types(obj):
    with obj.ring_buffer("events", type=NUMBER) as ring:
        ring.add(obj.maps["others"], type=OPEN)
        with pytest.raises(ValueError, match="different types"):
            ring.read_batch(timeout=0)
        emit(obj, 1, ring=1, size=32)
        emit(obj, 1)
        assert sorted(len(record) for record in ring.records(timeout=0)) == [8, 32]


def test_memory_of_wider_items_has_room_for_all_its_bytes(obj):
    with obj.ring_buffer("events", type=NUMBER) as ring:
        emit(obj, 100)
        batch = ring.read_batch(into=array.array("Q", bytes(8 * 60)), timeout=0)
        assert batch["number"].tolist() == list(range(60))
        assert ring.read_batch(timeout=0)["number"].tolist() == list(range(60, 100))


def test_offsets_are_for_reading(obj):
    with obj.ring_buffer("events") as ring:
        emit(obj, 3)
        batch = ring.read_batch(timeout=0)
        assert batch.offsets.readonly and memoryview(batch.offsets.obj).readonly
        with pytest.raises(TypeError):
            batch.offsets[1] = 1 << 30
        assert repr(type(batch).__new__(type(batch))) == "<RecordBatch: 0 records, 0 bytes>"


def test_memory_under_an_array_ends_with_it(obj):
    with obj.ring_buffer("events", type=NUMBER) as ring:
        emit(obj, 5)
        array = ring.read_batch(timeout=0)
        assert memoryview(array.base).nbytes == array.nbytes


@pytest.mark.parametrize("type", [None, NUMBER])
def test_python_objects_are_not_written_over(obj, type):
    within = np.zeros(4, [("O", "u8"), ("thing", "O")])
    with obj.ring_buffer("events", type=type) as ring:
        emit(obj, 3)
        for into in (np.zeros(4, object), within, memoryview(np.zeros(4, object)), memoryview(within)):
            with pytest.raises((TypeError, BufferError, ValueError)):
                ring.read_batch(timeout=0, into=into)
        assert within["thing"].tolist() == [0] * 4
        into = np.zeros(4, [("O", "u8")])
        assert len(ring.read_batch(timeout=0, into=into.view(NUMBER) if type else into)) == 3
        assert into["O"].tolist() == [0, 1, 2, 0]


def test_array_whose_length_raises_is_let_go(obj):
    class Own(bytearray):
        dtype, ndim = NUMBER, 1

        def __len__(self):
            raise ZeroDivisionError

    into = Own(64)
    with obj.ring_buffer("events", type=NUMBER) as ring:
        emit(obj, 3)
        with pytest.raises(ZeroDivisionError):
            ring.read_batch(timeout=0, into=into)
        into.append(1)      # no buffer of it is left
        assert len(ring.read_batch(timeout=0)) == 3
