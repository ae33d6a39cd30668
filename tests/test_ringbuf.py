"""Ring buffers: every record once and in order, whatever callbacks, threads, signals and timeouts do."""
from __future__ import annotations

import contextlib
import gc
import os
import select
import threading
import time

import pytest

import pylbpf
from handling import steady
import rings

pytestmark = pytest.mark.bpf


@pytest.fixture
def obj(bpf_object):
    with rings.loaded(bpf_object("rings")) as obj:
        obj.attach()
        yield obj


def send_even(obj, times: int = 1, flags: int = 0) -> None:
    """`times` records to the ring `even` alone, numbered 0, 2, 4, ..."""
    rings.configure(obj, flags=flags)
    for _ in range(times):
        number = rings.sent(obj)
        obj.maps["config"].update(rings.NUMBER, (number + number % 2).to_bytes(8, "little"))
        rings.send()


def numbers(records) -> list[int]:
    return [rings.number(record) for record in records]


@contextlib.contextmanager
def thread(function, *arguments):
    """Runs beside the block and has ended after it; what it raised is in the list."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            function(*arguments)
        except BaseException as error:
            raised.append(error)

    worker = threading.Thread(target=run)
    worker.start()
    try:
        yield raised
    finally:
        worker.join(20)
        assert not worker.is_alive()


# ---------------------------------------------------------------- callbacks and iteration


def test_poll_calls_back_with_each_record_in_order(obj):
    got = []
    with obj.ring_buffer("even", got.append) as ring:
        assert ring.poll(0) == ring.consume() == 0
        send_even(obj, 10)
        assert ring.poll(1) == 10
        assert numbers(got) == list(range(0, 20, 2)) and all(type(record) is bytes for record in got)
        send_even(obj, 5)
        assert ring.consume() == 5 and len(got) == 15
        assert ring.poll(0) == 0


def test_iteration_gives_records_and_ends_at_the_timeout(obj):
    with obj.ring_buffer("even") as ring:
        send_even(obj, 3)
        begin = time.monotonic()
        assert numbers(ring.records(timeout=0.05)) == [0, 2, 4]
        assert 0.04 < time.monotonic() - begin < 20
        assert list(ring.records(timeout=0)) == list(ring.records(timeout=-5)) == []


def test_iteration_with_no_time_gives_what_waits_as_poll_does(obj):
    with obj.ring_buffer("even") as ring:
        send_even(obj, 3)
        assert numbers(ring.records(timeout=0)) == [0, 2, 4]


def test_iteration_without_end_waits_for_the_next(obj):
    with obj.ring_buffer("even") as ring:
        send_even(obj, 2)
        records = iter(ring)
        assert numbers([next(records), next(records)]) == [0, 2]
        with thread(lambda: (time.sleep(0.05), send_even(obj))):
            assert rings.number(next(records)) == 4


def test_iteration_can_be_left_and_taken_up_again(obj):
    with obj.ring_buffer("even") as ring:
        send_even(obj, 5)
        for record in ring:
            assert rings.number(record) == 0
            break
        assert numbers(ring.records(timeout=0.01)) == [2, 4, 6, 8]


def test_iteration_and_callbacks_share_the_records(obj):
    got = []
    with obj.ring_buffer("even", got.append) as ring:
        send_even(obj, 4)
        first = next(iter(ring))
        assert ring.consume() == 3
        assert numbers([first, *got]) == [0, 2, 4, 6]


def test_poll_without_a_callback_says_so_and_loses_nothing(obj):
    with obj.ring_buffer("even") as ring:
        send_even(obj, 2)
        with pytest.raises(TypeError, match="has no callback"):
            ring.poll(0)
        assert numbers(ring.records(timeout=0.05)) == [0, 2]


def test_records_outlive_the_ring_buffer(obj):
    got = []
    with obj.ring_buffer("even", got.append) as ring:
        send_even(obj, 2)
        ring.consume()
    send_even(obj, 50)
    assert numbers(got) == [0, 2]


def test_consume_takes_1_or_more(obj):
    got = []
    with obj.ring_buffer("even", got.append) as ring:
        send_even(obj, 5)
        for wrong in (0, -1, -(1 << 70)):
            with pytest.raises((ValueError, OverflowError)):
                ring.consume(wrong)
        assert got == []
        assert ring.consume(2) == 2 and ring.consume(1) == 1 and ring.consume(100) == 2
        assert numbers(got) == [0, 2, 4, 6, 8]


def test_more_records_than_one_block(obj):
    got = []
    with obj.ring_buffer("even", got.append) as ring, obj.ring_buffer("odd") as other:
        rings.configure(obj, count=256)
        for _ in range(6):
            rings.send(10)
            assert ring.poll(0) == 10 * 128
        assert numbers(got) == list(range(0, 6 * 2560, 2))
        # What the ring had room for.
        assert numbers(other.records(timeout=0.3)) == list(range(1, 6 * 2560, 2))[:64 * 1024 // 24]


def test_consume_ends_though_the_producer_keeps_up(obj):
    """A callback that makes two records of each would go on for ever."""
    calls = []

    def more(record):
        calls.append(record)
        send_even(obj, 2)

    with obj.ring_buffer("even", more) as ring:
        send_even(obj)
        handled = ring.consume()
        assert handled == len(calls) <= 2 * 64 * 1024 // 24 + 4096
        assert ring.consume(1) == 1


# ---------------------------------------------------------------- exceptions and re-entry


@pytest.mark.parametrize("how", ["poll", "consume"])
def test_exception_in_the_kth_callback_loses_and_repeats_nothing(obj, how):
    got = []

    def callback(record):
        got.append(record)
        if len(got) in (3, 4, 7):
            raise ZeroDivisionError(len(got))

    with obj.ring_buffer("even", callback) as ring:
        call = ring.consume if how == "consume" else lambda: ring.poll(0)
        send_even(obj, 8)
        for k in (3, 4, 7):
            with pytest.raises(ZeroDivisionError) as raised:
                call()
            assert raised.value.args == (k,) and len(got) == k
        send_even(obj)
        assert call() + call() == 2
    assert numbers(got) == list(range(0, 18, 2))


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_any_exception_comes_out_of_a_callback(obj, kind):
    def callback(record):
        raise kind

    with obj.ring_buffer("even", callback) as ring:
        send_even(obj)
        with pytest.raises(kind):
            ring.poll(1)
        assert ring.poll(0) == 0


def test_results_of_callbacks_mean_nothing(obj):
    got = []
    with obj.ring_buffer("even", lambda record: got.append(record) or -1) as ring:
        send_even(obj, 3)
        assert ring.consume() == 3 and len(got) == 3


@pytest.mark.parametrize("again", ["poll", "consume", "next", "close", "add"])
def test_reentry_is_a_state_error_and_disturbs_nothing(obj, again):
    got, errors = [], []

    def callback(record):
        got.append(record)
        try:
            {"poll": lambda: ring.poll(0), "consume": ring.consume, "next": lambda: next(iter(ring)),
             "close": ring.close, "add": lambda: ring.add(obj.maps["odd"])}[again]()
        except pylbpf.StateError as error:
            errors.append(error)

    with obj.ring_buffer("even", callback) as ring:
        send_even(obj, 11)
        assert ring.consume() == 11
    assert numbers(got) == list(range(0, 22, 2))  # 11, and not 22
    assert len(errors) == 11 and all("from inside a callback" in str(error) for error in errors)


def test_object_close_from_inside_a_callback_changes_nothing(obj):
    def callback(record):
        obj.close()

    with obj.ring_buffer("even", callback) as ring:
        send_even(obj, 2)
        with pytest.raises(pylbpf.StateError, match="from inside a callback"):
            ring.consume()
        assert not obj.closed and not ring.closed
        assert [link.closed for link in obj.links] == [False]
        with pytest.raises(pylbpf.StateError):
            ring.consume()
        obj.close()
        assert ring.closed


def test_callbacks_may_use_the_object_and_other_rings(obj):
    got = []

    def callback(record):
        got.append((rings.sent(obj), other.consume(1)))

    with obj.ring_buffer("odd", lambda record: None) as other, obj.ring_buffer("even", callback) as ring:
        rings.configure(obj, count=4)
        rings.send()
        assert ring.consume() == 2
    assert got == [(4, 1), (4, 1)]


# ---------------------------------------------------------------- threads


def test_second_thread_gets_a_state_error(obj):
    inside, go_on = threading.Event(), threading.Event()

    def callback(record):
        inside.set()
        go_on.wait(10)

    with obj.ring_buffer("even", callback) as ring:
        send_even(obj)
        with thread(ring.poll, 5) as raised:
            inside.wait(10)
            for use in (ring.consume, lambda: ring.poll(0), lambda: next(iter(ring)),
                        lambda: ring.add(obj.maps["odd"])):
                with pytest.raises(pylbpf.StateError, match="another thread is reading it"):
                    use()
            go_on.set()
        assert raised == []
        send_even(obj)
        assert ring.consume() == 1


def test_close_wakes_a_thread_that_waits(obj):
    for use in (lambda ring: ring.poll(), lambda ring: next(iter(ring)), lambda ring: ring.poll(60)):
        ring = obj.ring_buffer("even", lambda record: None)
        begin = time.monotonic()
        with thread(use, ring) as raised:
            time.sleep(0.05)
            ring.close()
        assert [type(error) for error in raised] == [ValueError] and "closed" in str(raised[0])
        assert ring.closed and time.monotonic() - begin < 20


def test_object_close_wakes_a_thread_that_waits(bpf_object):
    obj = rings.loaded(bpf_object("rings"))
    ring = obj.ring_buffer("even")
    with thread(lambda: list(ring)) as raised:
        time.sleep(0.05)
        obj.close()
    assert [type(error) for error in raised] == [ValueError]
    assert ring.closed and obj.closed


def test_close_by_many_threads_at_once(obj):
    for _ in range(20):
        ring = obj.ring_buffer("even")
        with contextlib.ExitStack() as stack:
            all_raised = [stack.enter_context(thread(ring.close)) for _ in range(4)]
        assert all_raised == [[]] * 4 and ring.closed


@pytest.mark.timeout(method="thread")
def test_signals_are_handled_while_close_waits_for_a_callback(obj, alarm):
    inside, go_on = threading.Event(), threading.Event()

    def callback(record):
        inside.set()
        go_on.wait(20)

    def handler(*_):
        raise TimeoutError("enough")

    ring = obj.ring_buffer("even", callback)
    send_even(obj)
    with thread(ring.poll, 5) as raised:
        inside.wait(10)
        alarm(handler, 0.03)
        with pytest.raises(TimeoutError, match="enough"):
            ring.close()
        assert not ring.closed
        with pytest.raises(ValueError, match="closed"):
            ring.poll(0)
        go_on.set()
        ring.close()
    assert raised == [] and ring.closed


# ---------------------------------------------------------------- waiting


def test_timeout_is_kept(obj):
    with obj.ring_buffer("even", lambda record: None) as ring:
        for timeout in (0, 0.0005, 0.03, 0.2, -1):
            begin = time.monotonic()
            assert ring.poll(timeout) == 0
            assert max(timeout, 0) <= time.monotonic() - begin < max(timeout, 0) + 20


@pytest.mark.parametrize("timeout", [float("nan"), "1", b"1", object()], ids=steady)
def test_timeout_that_is_no_number(obj, timeout):
    with obj.ring_buffer("even", lambda record: None) as ring:
        begun = threading.Event()
        results = []

        def poll():
            begun.set()
            try:
                results.append(ring.poll(timeout))
            except (TypeError, ValueError) as error:
                results.append(type(error))

        worker = threading.Thread(target=poll)
        worker.start()
        worker.join(20)
        stuck = worker.is_alive()
        ring.close()
        worker.join()
        assert not stuck and results[0] in (TypeError, ValueError)


def test_infinite_timeout_is_for_ever(obj):
    with obj.ring_buffer("even", lambda record: None) as ring:
        with thread(lambda: (time.sleep(0.05), send_even(obj))):
            assert ring.poll(float("inf")) == 1


def test_poll_wakes_up_for_a_record(obj):
    with obj.ring_buffer("even", lambda record: None) as ring:
        with thread(lambda: (time.sleep(0.05), send_even(obj))):
            begin = time.monotonic()
            assert ring.poll(60) == 1
            assert time.monotonic() - begin < 20


def test_records_without_wakeup_do_not_wake_and_are_there_for_the_next_call(obj):
    got = []
    with obj.ring_buffer("even", got.append) as ring:
        send_even(obj, 3, flags=rings.NO_WAKEUP)
        assert ring.poll(5) == 3  # waited for before the call
        assert ring.poll(0) == 0
        with thread(lambda: (time.sleep(0.05), send_even(obj, flags=rings.NO_WAKEUP))):
            begin = time.monotonic()
            ring.poll(0.2)
            assert time.monotonic() - begin >= 0 and len(got) in (3, 4)
        ring.poll(0)
        assert numbers(got) == [0, 2, 4, 6]
        with thread(lambda: (time.sleep(0.05), send_even(obj, flags=rings.NO_WAKEUP),
                             send_even(obj, flags=rings.FORCE_WAKEUP))):
            begin = time.monotonic()
            while len(got) < 6 and time.monotonic() - begin < 5:
                ring.poll(5)
        assert numbers(got) == [0, 2, 4, 6, 8, 10]


def test_descriptor_can_be_waited_for(obj):
    with obj.ring_buffer("even", lambda record: None) as ring:
        assert select.select([ring], [], [], 0)[0] == []
        send_even(obj)
        assert select.select([ring], [], [], 5)[0] == [ring]
        assert not os.get_inheritable(ring.fileno())
        ring.consume()


@pytest.mark.timeout(method="thread")
def test_signals_run_their_handlers_and_the_rest_of_the_time_is_waited(obj, alarm):
    ticks = []
    with obj.ring_buffer("even", lambda record: None) as ring:
        alarm(lambda *_: ticks.append(time.monotonic()), 0.02, 0.02)
        begin = time.monotonic()
        assert ring.poll(0.3) == 0
        took = time.monotonic() - begin
        assert 0.3 <= took < 20 and len(ticks) > 5
        begin = time.monotonic()
        assert list(ring.records(timeout=0.2)) == []
        assert 0.2 <= time.monotonic() - begin < 20


@pytest.mark.timeout(method="thread")
def test_exception_of_a_signal_handler_ends_the_wait(obj, alarm):
    def handler(*_):
        raise TimeoutError("enough")

    with obj.ring_buffer("even", lambda record: None) as ring:
        for use in (lambda: ring.poll(), lambda: next(iter(ring))):
            alarm(handler, 0.03)
            with pytest.raises(TimeoutError, match="enough"):
                use()
        send_even(obj)
        assert ring.poll(1) == 1


# ---------------------------------------------------------------- several maps, life and death


def test_several_maps_each_with_its_callback(obj):
    got = {"even": [], "odd": []}
    with obj.ring_buffer("even", got["even"].append) as ring:
        ring.add(obj.maps["odd"], got["odd"].append)
        assert repr(ring) == "<RingBuffer: map 'even', map 'odd'>"
        rings.configure(obj, count=10)
        rings.send()
        assert ring.poll(1) == 10
        rings.send()
        assert ring.consume(3) == 3 and ring.consume() == 7
    assert numbers(got["even"]) == list(range(0, 20, 2)) and numbers(got["odd"]) == list(range(1, 20, 2))


def test_exception_of_one_maps_callback_leaves_the_others_records(obj):
    got = []

    def fail(record):
        got.append(record)
        raise ZeroDivisionError

    with obj.ring_buffer("even", fail) as ring:
        ring.add(obj.maps["odd"], got.append)
        rings.configure(obj, count=4)
        rings.send()
        for _ in range(2):
            with pytest.raises(ZeroDivisionError):
                ring.consume()
        ring.consume()
    assert sorted(numbers(got)) == [0, 1, 2, 3]


def test_descriptor_of_a_map_is_enough_and_is_not_kept(obj):
    got = []
    fd = os.dup(obj.maps["even"].fd)
    with pylbpf.RingBuffer(fd, got.append) as ring:
        os.close(fd)
        with open(os.devnull):  # takes the number
            send_even(obj, 2)
            assert ring.poll(1) == 2 and numbers(got) == [0, 2]


def test_object_closed_first_closes_the_ring_buffer(bpf_object):
    obj = rings.loaded(bpf_object("rings"))
    ring = obj.ring_buffer("even", print)
    obj.close()
    assert ring.closed
    for use in (ring.poll, ring.consume, lambda: list(ring.records(timeout=0)), ring.fileno, ring.__enter__,
                lambda: ring.add(3)):
        with pytest.raises(ValueError, match="closed"):
            use()
    ring.close()


def test_ring_buffer_keeps_map_and_object(bpf_object):
    got = []
    obj = rings.loaded(bpf_object("rings"))
    config = obj.maps["config"]
    links = obj.attach()
    ring = obj.ring_buffer("even", got.append)
    del obj
    gc.collect()
    rings.send()
    assert config.lookup(rings.NUMBER) and ring.poll(1) == 1 and numbers(got) == [0]
    links.close()
    ring.close()


def test_add_to_a_closed_ring_buffer_is_a_value_error(obj):
    ring = obj.ring_buffer("even", print)
    ring.close()
    try:
        with pytest.raises(ValueError, match="closed"):
            ring.add(obj.maps["odd"], print)
        assert ring.closed and repr(ring) == "<RingBuffer: closed>"
    finally:
        ring.close()


def test_second_init_is_refused(obj):
    with obj.ring_buffer("even", print) as ring:
        with pytest.raises(pylbpf.StateError, match="open already"):
            ring.__init__(obj.maps["odd"])
        assert ring.consume() == 0


def test_wrong_maps_and_callbacks_leak_nothing(obj):
    before = sorted(os.listdir("/proc/self/fd"))
    for map, callback, error in ((obj.maps["config"], None, ValueError), (-1, None, pylbpf.BpfError),
                                 (1 << 20, None, pylbpf.BpfError), (obj.maps["config"].fd, None, pylbpf.BpfError),
                                 (0, None, pylbpf.BpfError), (obj.maps["even"], 5, TypeError),
                                 (None, None, (TypeError, AttributeError)),
                                 ("even", None, (TypeError, AttributeError))):
        with pytest.raises(error):
            pylbpf.RingBuffer(map, callback)
    with obj.ring_buffer("even") as ring:
        with pytest.raises(ValueError, match="not a RINGBUF"):
            ring.add(obj.maps["config"])
        with pytest.raises(pylbpf.BpfError):
            ring.add(obj.maps["config"].fd)
        send_even(obj)
        assert numbers(ring.records(timeout=0.05)) == [0]
    assert sorted(os.listdir("/proc/self/fd")) == before


def test_ring_buffer_before_load_is_a_state_error(bpf_object):
    with pylbpf.open(bpf_object("rings")) as obj:
        with pytest.raises(pylbpf.StateError, match="does not exist in the kernel"):
            obj.ring_buffer("even")
