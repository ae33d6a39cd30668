"""Typed records: every kind of member, and records that are of no type."""
from __future__ import annotations

import ctypes
import gc
import sys

import numpy as np
import pytest

import pylbpf
import records
from records import EXIT, NUMBER, OPEN, TYPED, emit, number

pytestmark = pytest.mark.bpf

NATIVE = "<" if sys.byteorder == "little" else ">"
OTHER = ">" if sys.byteorder == "little" else "<"
EVERYTHING = np.dtype([
    ("i1", "i1"), ("u1", "u1"), ("i2", "i2"), ("u2", "u2"), ("flag", "?"), ("odd", NATIVE + "u2"), ("i4", "i4"), ("u4", "u4"),
    ("i8", "i8"), ("u8", "u8"), ("f4", "f4"), ("f8", "f8"), ("comm", "S16"), ("swapped", OTHER + "u4"), ("list", "u4", (3,)),
    ("inner", [("a", "u1"), ("b", "u8")]), ("bytes", "u1"), ("not a name", "u4"),
])


@pytest.fixture
def obj(bpf_object):
    with records.loaded(bpf_object("records")) as obj:
        yield obj


def sent(obj, value: np.ndarray) -> None:
    """One record with just these bytes, but for the first 8."""
    records.fill(obj, value.tobytes())
    assert emit(obj, first=int.from_bytes(value.tobytes()[:8], sys.byteorder), size=value.nbytes) == 1


def test_every_kind_of_member_is_what_numpy_says(obj):
    draw = np.random.default_rng(3)
    with obj.ring_buffer("events", type=EVERYTHING) as ring:
        for _ in range(50):
            value = np.frombuffer(draw.bytes(EVERYTHING.itemsize), EVERYTHING, 1).copy()
            value["flag"] = draw.integers(2)
            value["comm"] = b"name"[:draw.integers(5)]
            value["f4"], value["f8"] = draw.random(2)
            sent(obj, value)
            [record] = ring.records(timeout=0)
            assert isinstance(record, pylbpf.Record) and bytes(record) == value.tobytes() == memoryview(record).tobytes()
            assert len(record) == EVERYTHING.itemsize and record.dtype == EVERYTHING and "u4" in dir(record)
            for name in EVERYTHING.names:
                expected = value[0][name]
                assert np.array_equal(np.asarray(record[name]), expected), name
                if name not in ("bytes", "not a name"):
                    assert np.array_equal(np.asarray(getattr(record, name)), expected), name
            assert type(record.i4) is int and type(record.f8) is float and type(record.flag) is bool
            assert type(record.comm) is bytes


def test_records_are_values(obj):
    with obj.ring_buffer("events", type=OPEN) as ring:
        emit(obj, 2, size=32)
        one, two = ring.records(timeout=0)
        emit(obj, size=32)
        [again] = ring.records(timeout=0)
        assert one == again and hash(one) == hash(again) and one != two and one != bytes(one)
        assert repr(two) == "record(type=1, pid=0, number=0, comm=b'')"
        assert two.asdict() == {"type": 1, "pid": 0, "number": 0, "comm": b""}
        for wrong in (lambda: setattr(one, "pid", 3), lambda: setattr(one, "new", 3), lambda: one.missing):
            with pytest.raises((AttributeError, TypeError)):
                wrong()
        with pytest.raises(KeyError):
            one["missing"]
        with pytest.raises(TypeError):
            memoryview(one)[0] = 1


def test_records_outlive_everything(obj):
    ring = obj.ring_buffer("events", type=NUMBER)
    emit(obj, 2000)
    kept = list(ring.records(timeout=0))[::100]
    emit(obj, 3000, first=1 << 33)
    list(ring.records(timeout=0))
    ring.close()
    del ring
    gc.collect()
    assert [record.number for record in kept] == list(range(0, 2000, 100))


def test_records_cannot_be_made_or_mixed_up(obj):
    with pytest.raises(TypeError):
        pylbpf.Record()
    empty = pylbpf.Record.__new__(pylbpf.Record)
    assert bytes(empty) == b"" and len(empty) == 0
    for use in (lambda: empty.pid, lambda: empty["pid"], empty.asdict, lambda: repr(empty), lambda: empty.dtype):
        with pytest.raises((TypeError, AttributeError)):
            use()
    with pytest.raises(TypeError):
        type("Mine", (pylbpf.Record,), {})


class Event(ctypes.Structure):
    _fields_ = [("number", ctypes.c_uint64), ("name", ctypes.c_char * 8)]


def test_types_as_users_give_them(obj):
    for kind, name in ((Event, "Event"), ("u8", None), ([("number", "u8"), ("name", "S8")], None)):
        size = 8 if kind == "u8" else 16
        with pylbpf.RingBuffer(obj.maps["events"], type=kind) as ring:
            emit(obj, 3, size=size)
            first, *_ = ring.records(timeout=0)
            if kind != "u8":
                assert first.number == 0
            assert name is None or repr(first).startswith(name)
            emit(obj, 3, size=size)
            assert ring.read_batch(timeout=0).dtype == np.dtype(kind)
    for wrong in (object, np.dtype("O"), "no such type", 3.5, np.dtype([]), np.dtype("V0")):
        with pytest.raises((TypeError, ValueError)):
            pylbpf.RingBuffer(obj.maps["events"], type=wrong)


@pytest.mark.parametrize("how", ["iterate", "call", "batch"])
def test_record_of_another_size_is_an_error_and_nothing_is_lost(obj, how):
    got: list[int] = []
    with obj.ring_buffer("events", lambda record: got.append(number(record)), type=OPEN) as ring:
        emit(obj, 2, size=32)
        emit(obj, 1, first=2, size=31)
        emit(obj, 2, first=3, size=32)
        errors = []
        while len(got) + len(errors) < 5:
            try:
                if how == "iterate":
                    for record in ring.records(timeout=0):
                        got.append(number(record))
                elif how == "call":
                    ring.consume()
                else:
                    got += map(number, ring.read_batch(timeout=0))
            except pylbpf.RecordError as error:
                errors.append(error)
        assert got == [0, 1, 3, 4]
        [error] = errors
        assert str(error) == "map 'events': a record has 31 bytes, and record 32" and number(error.record) == 2


def test_records_with_a_tail(obj):
    with obj.ring_buffer("events", type=NUMBER, tail=True) as ring:
        records.fill(obj, bytes(8) + b"tail of the record")
        emit(obj, 1, size=26)
        emit(obj, 1, first=1, size=8)
        emit(obj, 1, first=2, size=7)
        emit(obj, 1, first=3, size=12)
        one, two = (next(iter(ring)) for _ in range(2))
        assert (one.number, bytes(one)[8:], len(one)) == (0, b"tail of the record", 26)
        assert (two.number, bytes(two)[8:]) == (1, b"")
        with pytest.raises(pylbpf.RecordError, match="at least 8"):
            next(iter(ring))
        emit(obj, 1, first=4, size=26)
        batch = ring.read_batch(timeout=0)
        assert [record.number for record in batch] == [3, 4] == batch.array["number"].tolist()
        assert [bytes(record)[8:] for record in batch] == [b"tail", b"tail of the record"]


# ---------------------------------------------------------------- several types

DISPATCH = {0: OPEN, 1: EXIT}


def test_dispatch_by_tag(obj):
    with obj.ring_buffer("events", dispatch=DISPATCH, tag="type") as ring:
        emit(obj, 30, mode=TYPED)
        for at, record in enumerate(ring.records(timeout=0)):
            assert record.number == at and record.type == (at % 3 == 0)
            if record.type:
                assert record.code == -at and not hasattr(record, "comm")
            else:
                assert (record.pid, record.comm) == (2 * at, b"comm")
        emit(obj, 30, mode=TYPED)
        found = ring.read_batch(timeout=0)
        assert list(found) == [0, 1] and found[0].dtype == OPEN and found[1].dtype == EXIT
        assert found[1]["number"].tolist() == list(range(0, 30, 3)) and found[1]["code"].tolist() == list(range(0, -30, -3))
        assert found[0]["number"].tolist() == [at for at in range(30) if at % 3]
        assert {tag: len(array) for tag, array in ring.read_batch(timeout=0).items()} == {0: 0, 1: 0}
        with pytest.raises(TypeError, match="several types"):
            ring.read_batch(timeout=0, into=bytearray(100))


def test_types_by_their_names_in_btf(obj):
    with obj.ring_buffer("events", type="open_event") as ring:
        emit(obj, 3, size=32)
        record = next(ring.records(timeout=0))
        assert repr(record) == "open_event(type=0, pid=0, number=0, comm=b'')"
        assert ring.read_batch(timeout=0).dtype.names == OPEN.names
    with obj.ring_buffer("events", dispatch={0: "open_event", 1: "exit_event"}, tag="type") as ring:
        emit(obj, 30, mode=TYPED)
        assert [repr(record).split("(")[0] for record in ring.records(timeout=0)] == ["exit_event", "open_event", "open_event"] * 10
        emit(obj, 30, mode=TYPED)
        assert [len(array) for array in ring.read_batch(timeout=0).values()] == [20, 10]
    for wrong in ("no_such_event", "emit"):
        with pytest.raises((KeyError, ValueError)):
            obj.ring_buffer("events", type=wrong)


def test_dispatch_of_what_is_unknown(obj):
    with obj.ring_buffer("events", dispatch={1: EXIT}, tag="type") as ring:
        emit(obj, 4, mode=TYPED)
        emit(obj, 1, size=3)
        got, errors = [], []
        while len(got) + len(errors) < 5:
            try:
                got += ring.records(timeout=0)
            except pylbpf.RecordError as error:
                errors.append(str(error))
        assert [error.split(": ")[1] for error in errors] == [
            "a record has type=0, and dispatch knows 1"] * 2 + ["a record has 3 bytes, too few for type"]
        emit(obj, 4, mode=TYPED)
        emit(obj, 1, size=3)
        found = ring.read_batch(timeout=0)
        assert found[1]["number"].tolist() == [0, 3] and [len(record) for record in found[None]] == [32, 32, 3]
    with obj.ring_buffer("events", dispatch={1: EXIT, None: None}, tag="type") as ring:
        emit(obj, 4, mode=TYPED)
        assert [type(record) for record in ring.records(timeout=0)] == [pylbpf.Record, bytes, bytes, pylbpf.Record]


def test_dispatch_that_makes_no_sense(obj):
    swapped = np.dtype([("type", OTHER + "u4")])
    elsewhere = np.dtype([("number", "u8"), ("type", "u4")])
    for dispatch, tag, error in (
        (DISPATCH, None, TypeError), (None, "type", TypeError), ({0: OPEN}, "missing", ValueError), ({}, "type", ValueError),
        ({0: OPEN, 1: elsewhere}, "type", ValueError), ({0: OPEN}, "comm", TypeError), ({0: swapped}, "type", TypeError),
        ({"0": OPEN}, "type", TypeError), ({None: OPEN, 1: OPEN}, "type", TypeError), ({0: None}, "type", ValueError),
        ({1 << 70: OPEN}, "type", OverflowError), (3, "type", (TypeError, AttributeError)),
    ):
        with pytest.raises(error):
            obj.ring_buffer("events", dispatch=dispatch, tag=tag)
    with pytest.raises(TypeError):
        obj.ring_buffer("events", type=OPEN, dispatch=DISPATCH, tag="type")


def test_numbers_by_name(obj):
    for name in ("u8", "__u64", "<i8"):
        with obj.ring_buffer("events", type=name) as ring:
            emit(obj, 3)
            assert ring.read_batch(timeout=0).tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match="nothing_like_it"):
        obj.ring_buffer("events", type="nothing_like_it")


def test_memory_of_records_that_nobody_kept_is_used_again(obj):
    """And of others it is not: whatever keeps them."""
    kept, hashes = {}, []

    def keep_some(record):
        hashes.append(hash(record))
        if number(record) % 3 == 0:
            kept[number(record)] = record
        elif number(record) % 3 == 1:
            kept[number(record)] = memoryview(record)

    for types in ({}, {"type": NUMBER}, {"dispatch": {0: NUMBER, None: None}, "tag": "number"}):
        kept.clear()
        hashes.clear()
        with obj.ring_buffer("events", keep_some, **types) as ring:
            emit(obj, 3000)
            assert ring.consume() == 3000
        assert len(kept) == 2000 and all(number(record) == at for at, record in kept.items())
        assert len(set(hashes)) > 2900
