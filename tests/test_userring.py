"""User ring buffers: what the program sees is what was submitted, whatever views, exceptions, threads and forks do."""
from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import signal
import struct
import threading
import time
from typing import NamedTuple

import pytest

import pylbpf
import rings
from test_fork import in_child
from test_ringbuf import thread

pytestmark = pytest.mark.bpf

FLAGS, RESULT = struct.pack("=I", 1), struct.pack("=I", 2)
NO_WAKEUP = 1


class Seen(NamedTuple):
    """One sample as the program saw it: its length, which one it was, its first bytes, its last."""

    length: int
    number: int
    first: bytes
    last: int


class Side:
    """Both ends of userring.bpf.c: `ring` sends, drain() makes the program take what is there."""

    def __init__(self, path) -> None:
        self.obj = pylbpf.open(path)
        self.obj.load()
        self.obj.maps["config"].update(rings.NAME, rings.own_name())
        self.obj.attach()
        self.ring = self.obj.user_ring_buffer("commands")
        self.echo = self.obj.ring_buffer("seen")

    def drain(self, flags: int = 0) -> list[Seen]:
        self.obj.maps["config"].update(FLAGS, struct.pack("=Q", flags))
        rings.send()
        return [Seen(*struct.unpack("=II16sB3x", record)) for record in self.echo.records(timeout=0)]

    def result(self) -> int:
        """What the last bpf_user_ringbuf_drain() returned."""
        return struct.unpack("=q", self.obj.maps["config"].lookup(RESULT))[0]


@pytest.fixture
def side(bpf_object):
    side = Side(bpf_object("userring"))
    yield side
    side.ring.close()
    side.obj.close()


def fill(ring: pylbpf.UserRingBuffer, length: int = 504) -> int:
    """Send until there is no room; return how many that were."""
    for count in range(1000):
        try:
            ring.send(bytes(length))
        except pylbpf.BpfError as error:
            assert error.errno == 28 and "no room" in str(error)
            return count
    raise AssertionError("the ring is never full")


# ---------------------------------------------------------------- samples


def test_program_sees_what_was_written(side):
    with side.ring.reserve(16) as data:
        assert type(data) is memoryview and data.nbytes == 16 and not data.readonly and data.format == "B"
        data[:] = b"0123456789abcdef"
        assert side.drain() == []       # not submitted yet
    assert side.drain() == [Seen(16, 0, b"0123456789abcdef", ord("f"))]
    assert side.result() == 1 and side.ring.sent == 1


def test_samples_are_zeroed_before_they_are_filled(side):
    for _ in range(10):
        side.ring.send(b"\xff" * 900)
        side.drain()
    with side.ring.reserve(900) as data:
        assert bytes(data) == bytes(900)


@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 15, 16, 17, 255, 2040, 4087, 4088])
def test_every_size_and_wrap_around(side, size):
    for number in range(5):
        data = bytes((number + at) % 251 for at in range(size))
        side.ring.send(data)
        whole = data[:16] if size >= 16 else data[:8] if size >= 8 else b""
        assert side.drain() == [Seen(size, number, whole.ljust(16, b"\0"), data[-1] if data else 0)]


def test_python_objects_are_no_sample(side):
    numpy = pytest.importorskip("numpy")
    for thing in (numpy.zeros(4, object), numpy.zeros(4, [("number", "u8"), ("thing", "O")])):
        with pytest.raises(TypeError, match="the sample has Python objects in it"):
            side.ring.send(thing)
        with pytest.raises(TypeError, match="records has Python objects in it"):
            side.ring.send_many(thing)
    assert side.ring.sent == 0
    side.ring.send(numpy.ones(2, [("O", "u8")]))
    assert side.ring.sent == 1 and side.drain()[0][0] == 16
    for plain in (                  # of which numpy does not say what they are
        numpy.zeros(3, "M8[s]"), numpy.zeros(1, numpy.dtype({"names": ["a", "b"], "formats": ["u8", "u4"], "offsets": [0, 0]}))):
        side.ring.send(plain)
        assert side.ring.send_many(plain) == len(plain) and side.drain()[0][0] == plain.nbytes
    with pytest.raises((ValueError, BufferError)):
        side.ring.send(numpy.zeros((3, 4), "M8[s]")[:, 1])


def test_size_that_can_never_fit_is_a_value_error(side):
    assert side.ring.capacity == 4096
    for size in (-1, 4089, 1 << 31, (1 << 32) + 8):
        with pytest.raises(ValueError, match="a sample "):
            side.ring.reserve(size)
    with pytest.raises(ValueError, match="at most 4088 in a ring of 4096"):
        side.ring.send(bytes(4089))
    for wrong in (None, "8", 8.0):
        with pytest.raises(TypeError):
            side.ring.reserve(wrong)
    assert fill(side.ring, 4088) == 1


def test_longest_sample_is_what_the_kernel_can_show_to_a_program(side, bpf_object):
    """One byte more would stop the ring for ever."""
    from_kernel = (1 << 24) - 1
    side.obj.close()
    with pylbpf.open(bpf_object("userring")) as obj:
        obj.maps["commands"].max_entries = 1 << 25
        obj.load()
        obj.maps["config"].update(rings.NAME, rings.own_name())
        obj.attach()
        with obj.user_ring_buffer("commands") as ring:
            with pytest.raises(ValueError, match=f"at most {from_kernel} "):
                ring.reserve(from_kernel + 1)
            ring.send(bytes(from_kernel))
            rings.send()
            assert struct.unpack("=q", obj.maps["config"].lookup(RESULT)) == (1,)


def test_exception_discards(side):
    with pytest.raises(ZeroDivisionError):
        with side.ring.reserve(8) as data:
            data[:] = b"never se"
            raise ZeroDivisionError
    side.ring.send(b"seen    ")
    assert [seen.first[:8] for seen in side.drain()] == [b"seen    "]
    assert side.ring.sent == 1


def test_sample_that_is_dropped_is_discarded(side):
    sample = side.ring.reserve(8)
    side.ring.send(b"behind  ")
    assert side.drain() == []           # held back
    del sample
    assert [seen.first[:8] for seen in side.drain()] == [b"behind  "]


def test_submit_and_discard_by_hand_in_any_order(side):
    first, second, third = (side.ring.reserve(8) for _ in range(3))
    for sample, data in ((third, b"3" * 8), (second, b"2" * 8), (first, b"1" * 8)):
        memoryview(sample)[:] = data
    third.submit()
    second.discard()
    assert side.drain() == []
    first.submit()
    assert [seen.first[:1] for seen in side.drain()] == [b"1", b"3"]
    assert repr(first) == "<UserSample: 8 bytes, finished>" and first.size == 8


def test_sample_can_be_finished_once_and_not_used_afterwards(side):
    for how in ("submit", "discard"):
        sample = side.ring.reserve(8)
        getattr(sample, how)()
        for use in (sample.submit, sample.discard, sample.__enter__, lambda sample=sample: memoryview(sample)):
            with pytest.raises(ValueError, match="submitted or discarded already"):
                use()
    with side.ring.reserve(8) as data:
        data[0] = 1
    with pytest.raises(ValueError, match="released memoryview"):
        data[0] = 2
    with side.ring.reserve(8) as data, contextlib.suppress(ValueError):
        pass


def test_finished_inside_its_block(side):
    sample = side.ring.reserve(8)
    with sample as data:
        sample.submit()
        with pytest.raises(ValueError):
            data[0] = 1
    with contextlib.suppress(ZeroDivisionError), side.ring.reserve(8) as data:
        raise ZeroDivisionError
    assert len(side.drain()) == 1


# ---------------------------------------------------------------- views


def test_view_in_use_is_a_buffer_error_and_nothing_is_committed(side):
    sample = side.ring.reserve(8)
    view = memoryview(sample)[2:4]
    for finish in (sample.submit, sample.discard):
        with pytest.raises(BufferError, match="1 views of it are in use"):
            finish()
    view[:] = b"ok"
    assert side.drain() == []
    view.release()
    sample.submit()
    assert [seen.first[2:4] for seen in side.drain()] == [b"ok"]


def test_slice_that_outlives_its_block_is_a_buffer_error_and_then_discards(side):
    with pytest.raises(BufferError, match="cannot submit the sample"):
        with side.ring.reserve(8) as data:
            part = data[:4]
    part[:] = b"mine"           # still reserved: nobody else's memory
    with pytest.raises(ValueError):
        data[0] = 0
    side.ring.send(b"behind  ")
    assert side.drain() == []
    del part
    gc.collect()
    assert [seen.first[:8] for seen in side.drain()] == [b"behind  "]


def test_array_on_a_sample_is_a_buffer_error(side):
    numpy = pytest.importorskip("numpy")
    with pytest.raises(BufferError):
        with side.ring.reserve(64) as data:
            array = numpy.frombuffer(data, "u8")
    array[:] = 7
    del array, data
    assert side.drain() == []
    with side.ring.reserve(64) as data:
        numpy.frombuffer(data, "u8")[:] = numpy.arange(8)
    assert [seen.last for seen in side.drain()] == [0]


def test_exception_with_a_view_in_use_discards_when_the_view_goes(side):
    sample = side.ring.reserve(8)
    with pytest.raises(ZeroDivisionError):
        with sample as data:
            part = data[:4]
            raise ZeroDivisionError
    side.ring.send(b"behind  ")
    assert side.drain() == [] and "reserved" in repr(sample)
    part.release()
    assert "finished" in repr(sample) and len(side.drain()) == 1


def test_records_of_a_type(side):
    numpy = pytest.importorskip("numpy")

    class Command(ctypes.Structure):
        _fields_ = [("kind", ctypes.c_uint32), ("pid", ctypes.c_uint32), ("when", ctypes.c_uint64)]

    for type in (Command, numpy.dtype(Command), [("kind", "u4"), ("pid", "u4"), ("when", "u8")]):
        with side.ring.reserve(type=type) as record:
            assert record.shape == () and record["when"] == 0
            record["kind"], record["pid"], record["when"] = 1, 2, 3
        assert [seen.first for seen in side.drain()] == [struct.pack("=IIQ", 1, 2, 3)]
        with pytest.raises(ValueError, match="read-only"):
            record["kind"] = 9
        assert record["pid"] == 2
    sample = side.ring.reserve(type=Command)
    with pytest.raises(BufferError, match="that of its array"):
        memoryview(sample)
    with sample as record:
        field = record["pid"]
    field[...] = 5              # its own memory, not the ring's
    assert [seen.first[4:8] for seen in side.drain()] == [bytes(4)]
    for wrong in (dict(type=object), dict(size=8, type="u8"), dict(), dict(type="no such thing")):
        with pytest.raises(TypeError):
            side.ring.reserve(**wrong)
    assert fill(side.ring) == 8  # nothing stays reserved


# ---------------------------------------------------------------- many


def test_send_many_sends_each_row(side):
    numpy = pytest.importorskip("numpy")
    records = numpy.zeros(50, [("a", "u4"), ("b", "u8")])
    records["a"] = range(50)
    assert side.ring.send_many(records) == 50
    seen = side.drain()
    assert [one.length for one in seen] == [12] * 50
    assert [struct.unpack("=I", one.first[:4])[0] for one in seen] == list(range(50))
    assert side.ring.send_many(numpy.arange(12, dtype="u2").reshape(3, 4)) == 3
    assert [one.first[:8] for one in side.drain()] == [struct.pack("=4H", *range(at, at + 4)) for at in (0, 4, 8)]
    assert side.ring.send_many(numpy.zeros((0, 3))) == 0
    assert side.ring.sent == 53


def test_send_many_cuts_bytes(side):
    assert side.ring.send_many(b"aaaabbbbcccc", size=4) == 3
    assert [seen.last for seen in side.drain()] == list(b"abc")
    for records, size, words in ((b"abc", None, "size="), (b"abc", 2, "cannot be cut"), (b"abc", 0, "cannot be cut"),
                                 (b"abc", -1, "1 byte or more"), (bytes(8192), 4096, "too long")):
        with pytest.raises(ValueError, match=words):
            side.ring.send_many(records, size=size)
    with pytest.raises(TypeError):
        side.ring.send_many([b"a", b"b"])
    assert side.drain() == []


def test_send_many_stops_when_the_ring_is_full(side):
    assert side.ring.send_many(bytes(16 * 1000), size=16) == 4096 // 24
    assert side.ring.send_many(bytes(16 * 1000), size=16, timeout=0.02) == 0
    assert len(side.drain()) == side.ring.sent == 4096 // 24


@pytest.mark.parametrize("flags", [0, NO_WAKEUP])
def test_send_many_waits_for_the_program(side, flags):
    seen = []

    def drain():
        while len(seen) < 1000:
            seen.extend(side.drain(flags))
            time.sleep(0.001)

    with thread(drain):
        data = b"".join(struct.pack("=QQ", number, number) for number in range(1000))
        assert side.ring.send_many(data, size=16, timeout=30) == 1000
    assert [struct.unpack("=QQ", one.first)[1] for one in seen] == list(range(1000))


def test_array_with_gaps_is_refused(side):
    numpy = pytest.importorskip("numpy")
    with pytest.raises((BufferError, ValueError)):
        side.ring.send_many(numpy.zeros((4, 4))[:, ::2])
    assert side.drain() == []


# ---------------------------------------------------------------- waiting


def test_full_ring_is_an_error_at_once_or_after_the_timeout(side):
    assert fill(side.ring) == 8
    for timeout in (0, -1):
        with pytest.raises(pylbpf.BpfError, match="no room"):
            side.ring.reserve(504, timeout=timeout)
    begin = time.monotonic()
    with pytest.raises(TimeoutError, match="no room within 0.05 s"):
        side.ring.reserve(504, timeout=0.05)
    assert time.monotonic() - begin >= 0.05
    for wrong, kind in (("1", TypeError), (True, TypeError), (float("nan"), ValueError)):
        with pytest.raises(kind):
            side.ring.reserve(8, timeout=wrong)
    assert len(side.drain()) == 8


@pytest.mark.parametrize("flags", [0, NO_WAKEUP])
def test_reserve_waits_until_the_program_makes_room(side, flags):
    for timeout in (None, 30, float("inf")):
        fill(side.ring)
        with thread(lambda: (time.sleep(0.02), side.drain(flags))):
            with side.ring.reserve(2000, timeout=timeout) as data:
                data[0] = 1
        assert [seen.length for seen in side.drain()] == [2000]


def test_waiting_for_much_room_while_there_is_a_little_sleeps(side):
    """To poll(2) the map is writable as long as one byte is free."""
    fill(side.ring, 4000)
    before = time.process_time()
    with pytest.raises(TimeoutError):
        side.ring.reserve(2000, timeout=0.3)
    assert time.process_time() - before < 0.2


@pytest.mark.timeout(method="thread")
def test_signals_are_handled_while_waiting(side, alarm):
    ticks = []
    fill(side.ring)
    alarm(lambda *_: ticks.append(1), 0.01, 0.01)
    with pytest.raises(TimeoutError):
        side.ring.reserve(504, timeout=0.1)
    assert len(ticks) > 2

    def handler(*_):
        raise ZeroDivisionError

    alarm(handler, 0.03)
    with pytest.raises(ZeroDivisionError):
        side.ring.reserve(504, timeout=None)
    alarm(handler, 0.03)
    with pytest.raises(ZeroDivisionError):
        side.ring.send_many(bytes(504 * 100), size=504, timeout=None)
    assert side.ring.sent == 8 == len(side.drain())
    alarm(signal.SIG_IGN, 0)


def test_threads_take_turns(side):
    seen = []
    done = threading.Event()

    def drain():
        while not done.is_set():
            seen.extend(side.drain())

    def send(who):
        for number in range(100):
            if number % 3:
                side.ring.send(struct.pack("=QQ", who, number), timeout=30)
            elif number % 2:
                with side.ring.reserve(16, timeout=30) as data:
                    data[:] = struct.pack("=QQ", who, number)
            else:
                assert side.ring.send_many(struct.pack("=QQ", who, number), size=16, timeout=30) == 1

    with thread(drain) as raised:
        with contextlib.ExitStack() as stack:
            all_raised = [stack.enter_context(thread(send, who)) for who in range(3)]
        done.set()
    seen.extend(side.drain())
    assert raised == [] and all_raised == [[]] * 3
    pairs = [struct.unpack("=QQ", one.first) for one in seen]
    for who in range(3):
        assert [number for whose, number in pairs if whose == who] == list(range(100))


# ---------------------------------------------------------------- life and death


def test_close_wakes_a_thread_that_waits(side):
    fill(side.ring)
    for use in (lambda: side.ring.reserve(504, timeout=None), lambda: side.ring.send(bytes(504), timeout=60),
                lambda: side.ring.send_many(bytes(504), size=504, timeout=None)):
        with thread(use) as raised, thread(use) as also:
            time.sleep(0.03)
            side.ring.close()
        assert [type(error) for error in raised + also] == [ValueError] * 2
        side.ring = side.obj.user_ring_buffer("commands")


def test_closed_is_a_value_error(side):
    side.ring.close()
    side.ring.close()
    assert side.ring.closed and repr(side.ring) == "<UserRingBuffer: closed>"
    for use in (lambda: side.ring.reserve(8), lambda: side.ring.send(b""), lambda: side.ring.send_many(b"", size=1),
                side.ring.__enter__):
        with pytest.raises(ValueError, match="closed"):
            use()


def test_reserved_samples_are_in_the_way_of_closing(side):
    sample = side.ring.reserve(8)
    for close in (side.ring.close, side.obj.close, side.obj.detach_fds):
        with pytest.raises(BufferError, match="1 samples of it are not finished"):
            close()
    assert not side.ring.closed and not side.obj.closed and not side.obj.links[0].closed
    sample.submit()
    assert len(side.drain()) == 1
    side.obj.close()
    assert side.ring.closed


def test_exception_of_a_block_is_not_hidden_by_a_sample_in_the_way(side):
    with pytest.raises(ZeroDivisionError):
        with side.ring:
            sample = side.ring.reserve(8)
            raise ZeroDivisionError
    assert not side.ring.closed
    sample.discard()


def test_sample_keeps_ring_map_and_object(side):
    sample = side.ring.reserve(8)
    data = memoryview(sample)
    obj, echo = side.obj, side.echo
    side.ring = side.obj = side.echo = None
    links = obj.links
    del obj
    gc.collect()
    data[:] = b"survives"
    del data
    sample.submit()
    del sample
    gc.collect()
    rings.send()
    assert [record[8:16] for record in echo.records(timeout=0)] == [b"survives"]
    links.close()
    echo.close()
    side.ring = side.obj = contextlib.ExitStack()     # for the fixture to close


def test_ring_by_descriptor_and_by_map(side):
    fd = os.dup(side.obj.maps["commands"].fd)
    for map in (fd, side.obj.maps["commands"], open(os.dup(fd), "rb", buffering=0, closefd=True)):
        with pylbpf.UserRingBuffer(map) as ring:
            assert ring.capacity == 4096
            ring.send(b"hello   ")
        if not isinstance(map, (int, pylbpf.Map)):
            map.close()
    os.close(fd)
    assert len(side.drain()) == 3


def test_wrong_maps_leak_nothing(side):
    for map, error in ((side.obj.maps["seen"], ValueError), (side.obj.maps["seen"].fd, pylbpf.BpfError),
                       (-1, pylbpf.BpfError), (0, pylbpf.BpfError), (1 << 20, pylbpf.BpfError),
                       (None, TypeError), ("commands", TypeError)):
        with pytest.raises(error):
            pylbpf.UserRingBuffer(map)
    with pytest.raises(KeyError):
        side.obj.user_ring_buffer("nothing")
    with pytest.raises(pylbpf.StateError, match="open already"):
        side.ring.__init__(side.obj.maps["commands"])
    with pytest.raises(TypeError):
        pylbpf.UserSample()
    empty = pylbpf.UserRingBuffer.__new__(pylbpf.UserRingBuffer)
    with pytest.raises(ValueError, match="closed"):
        empty.send(b"")
    with pytest.raises(ValueError):
        pylbpf.UserSample.__new__(pylbpf.UserSample).submit()


def test_child_can_neither_send_nor_finish_what_the_parent_reserved(side):
    sample = side.ring.reserve(8)
    with side.ring.reserve(8) as data:
        def child():
            for use in (lambda: side.ring.send(b"x"), lambda: side.ring.reserve(8), sample.submit, sample.discard,
                        lambda: memoryview(sample), lambda: side.ring.send_many(b"x", size=1)):
                with pytest.raises(pylbpf.StateError, match="parent process"):
                    use()
            assert "parent" in repr(side.ring)
            data.release()
            side.ring.close()

        in_child(child)
        data[:] = b"second  "
    memoryview(sample)[:] = b"first   "
    sample.submit()
    assert [seen.first[:8] for seen in side.drain()] == [b"first   ", b"second  "]


def test_map_without_an_object(requires_bpf):
    with pylbpf.Map.create(pylbpf.MapType.USER_RINGBUF, max_entries=4096) as map:
        with pylbpf.UserRingBuffer(map) as ring:
            ring.send(b"x")
            map.close()
            ring.send(b"y")
            assert ring.sent == 2
    with pylbpf.Map.create(pylbpf.MapType.RINGBUF, max_entries=4096) as map:
        with pytest.raises(ValueError, match="not a USER_RINGBUF"):
            pylbpf.UserRingBuffer(map)
