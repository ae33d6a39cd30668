"""The thread that drains ring buffers: order, back-pressure, its end, and the end of the interpreter."""
from __future__ import annotations

import contextlib
import gc
import os
import subprocess
import sys
import textwrap
import threading
import time
import warnings

import numpy as np
import pytest

import pylbpf
import records
from records import CAPACITY, NO_WAKEUP, NUMBER, emit

pytestmark = pytest.mark.bpf


@pytest.fixture
def obj(bpf_object):
    with records.loaded(bpf_object("records")) as obj:
        yield obj


@pytest.fixture
def ring(obj):
    with obj.ring_buffer("events", type=NUMBER) as ring:
        yield ring


def produce(obj, total, flags=0):
    first = 0
    while first < total:
        first += emit(obj, min(500, total - first), first=first, flags=flags)


@contextlib.contextmanager
def warning_of_consumer():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    assert [(warning.category, "was never stopped" in str(warning.message)) for warning in caught] == [(ResourceWarning, True)]


def take(consumer, total, timeout=20.0):
    arrays = []
    while sum(map(len, arrays)) < total:
        array = consumer.get(timeout)
        assert array is not None
        arrays.append(array)
    return np.concatenate(arrays)["number"]


def test_arrays_have_each_record_in_order(obj, ring):
    with ring.start(block_records=100, blocks=4) as consumer:
        producer = threading.Thread(target=produce, args=(obj, 50_000))
        producer.start()
        assert np.array_equal(take(consumer, 50_000), np.arange(50_000))
        producer.join()
        assert consumer.records == 50_000 and consumer.queued == 0 and consumer.get(0) is None
        assert "running" in repr(consumer) and ring.stats().records == 50_000
    assert not consumer.running and consumer.get() is None and list(consumer) == []


def test_target_is_called_with_arrays_on_a_thread(obj, ring):
    got, threads = [], set()

    def target(array):
        got.append(array)
        threads.add(threading.current_thread())

    with ring.start(target, block_records=64) as consumer:
        produce(obj, 5000)
        while consumer.records < 5000:
            time.sleep(0.001)
    assert sum(map(len, got)) == 5000
    assert np.array_equal(np.concatenate(got)["number"], np.arange(sum(map(len, got))))
    emit(obj, 1)
    assert len(ring.read_batch(timeout=0)) == 1 and threading.main_thread() not in threads


def test_what_is_queued_at_the_end_can_still_be_taken(obj, ring):
    consumer = ring.start(block_records=10, blocks=100)
    emit(obj, 300)
    while consumer.records < 300:
        time.sleep(0.001)
    consumer.stop()
    consumer.stop()
    assert sum(map(len, consumer)) == 300


def test_policy_wait_leaves_records_in_the_ring(obj, ring):
    with ring.start(block_records=10, blocks=2) as consumer:
        emit(obj, 100)
        while consumer.queued < 20:
            time.sleep(0.001)
        time.sleep(0.02)
        assert consumer.queued == 20 and ring.stats().waiting == 80 * 16
        assert np.array_equal(take(consumer, 100), np.arange(100))


def test_policy_overwrite_keeps_the_newest(obj, ring):
    with ring.start(block_records=10, blocks=3, policy="overwrite") as consumer:
        produce(obj, 1000)
        while consumer.records < 1000:
            time.sleep(0.001)
        time.sleep(0.01)
        left = take(consumer, consumer.queued)
        assert left[-1] == 999 and consumer.overwritten + len(left) == 1000 and len(left) <= 30


def test_records_without_wakeup_are_found(obj, ring):
    with ring.start() as consumer:
        for _ in range(3):
            emit(obj, 5, flags=NO_WAKEUP)
            assert len(take(consumer, 5)) == 5
            time.sleep(0.01)


def test_records_of_another_size_are_counted(obj, ring):
    with ring.start() as consumer:
        emit(obj, 3)
        emit(obj, 2, size=9)
        emit(obj, 2, first=3)
        assert take(consumer, 5).tolist() == list(range(5)) and consumer.misfits == 2


def test_exception_of_the_target_ends_it_and_comes_out_of_stop(obj, ring):
    def target(array):
        raise ZeroDivisionError("target")

    consumer = ring.start(target)
    emit(obj, 3)
    while consumer.running:
        time.sleep(0.001)
    with pytest.raises(ZeroDivisionError, match="target"):
        consumer.stop()
    consumer.stop()
    emit(obj, 3)
    assert len(ring.read_batch(timeout=0)) == 3


def test_target_may_stop_its_consumer(obj, ring):
    started = threading.Event()

    def target(array):
        started.wait(10)
        consumer.stop()

    consumer = ring.start(target)
    started.set()
    emit(obj, 3)
    while consumer.running:
        time.sleep(0.001)
    consumer.stop()
    emit(obj, 3)
    assert len(ring.read_batch(timeout=0)) >= 3     # the ring is free again


def test_nobody_else_reads_meanwhile(obj, ring):
    with ring.start() as consumer:
        for use in (ring.consume, lambda: ring.read_batch(timeout=0), lambda: next(iter(ring)), ring.start,
                    ring.borrow().__enter__, lambda: ring.add(obj.maps["others"], type=NUMBER)):
            with pytest.raises(pylbpf.StateError, match="a consumer is reading it"):
                use()
        assert consumer.running
    with ring.start():
        pass


@pytest.mark.parametrize("what", ["ring", "object"])
def test_closing_ends_it(bpf_object, what):
    obj = records.loaded(bpf_object("records"))
    ring = obj.ring_buffer("events", type=NUMBER)
    consumer = ring.start()
    waiter = threading.Thread(target=list, args=(consumer,))
    waiter.start()
    (ring if what == "ring" else obj).close()
    waiter.join(10)
    assert not waiter.is_alive() and not consumer.running and ring.closed
    consumer.stop()
    obj.close()


@pytest.mark.parametrize("target", [None, lambda array: None], ids=["alone", "target"])
def test_dropped_it_ends(obj, target):
    ring = obj.ring_buffer("events", type=NUMBER)
    threads = len(os.listdir("/proc/self/task"))
    consumer = ring.start(target)
    assert consumer.running
    with warning_of_consumer():
        del consumer
        gc.collect()
    while len(os.listdir("/proc/self/task")) > threads:
        time.sleep(0.001)
    emit(obj, 1)
    assert len(ring.read_batch(timeout=0)) == 1
    ring.close()


def test_dropped_with_its_ring_it_ends(obj):
    """Nobody keeps either: not the thread that calls the target."""
    threads = len(os.listdir("/proc/self/task"))
    with warning_of_consumer():
        obj.ring_buffer("events", type=NUMBER).start(print)
        gc.collect()
    end = time.monotonic() + 30
    while len(os.listdir("/proc/self/task")) > threads:
        assert time.monotonic() < end
        time.sleep(0.001)


def test_what_is_queued_when_it_is_dropped_goes_to_the_target(obj, ring):
    got, first, go_on = [], threading.Event(), threading.Event()

    def target(array):
        first.set()
        go_on.wait(10)
        got.append(array)

    consumer = ring.start(target, block_records=10)
    emit(obj, 10)
    first.wait(10)
    emit(obj, 20, first=10)
    while consumer.records < 30:
        time.sleep(0.001)
    with warning_of_consumer():
        del consumer
        gc.collect()
    go_on.set()
    while sum(map(len, got)) < 30:
        time.sleep(0.001)
    assert np.array_equal(np.concatenate(got)["number"], np.arange(30))


def test_failure_of_a_target_that_nobody_asks_for_is_reported(obj, ring, monkeypatch):
    reported = []
    monkeypatch.setattr(threading, "excepthook", reported.append)
    inside, go_on = threading.Event(), threading.Event()

    def target(array):
        inside.set()
        go_on.wait(10)
        raise ZeroDivisionError

    consumer = ring.start(target)
    emit(obj, 1)
    inside.wait(10)
    with warning_of_consumer():
        del consumer
        gc.collect()
    go_on.set()
    while not reported:
        time.sleep(0.001)
    assert reported[0].exc_type is ZeroDivisionError


def test_a_block_is_filled_up_while_nobody_takes_it(obj, ring):
    with ring.start(block_records=100, blocks=2) as consumer:
        for turn in range(25):
            emit(obj, 10, first=10 * turn)
            while consumer.records < min(10 * turn + 10, 200):
                time.sleep(0.0005)
        assert consumer.queued == 200
        assert [len(consumer.get()) for _ in range(2)] == [100, 100]
        assert take(consumer, 50).tolist() == list(range(200, 250))


def test_arrays_outlive_it(obj, ring):
    with ring.start(block_records=1000) as consumer:
        emit(obj, 1000)
        array = take(consumer, 1000)
    del consumer
    gc.collect()
    assert array.tolist() == list(range(1000))


def test_forked_child_has_nothing_to_do_with_it(obj, ring):
    with ring.start() as consumer:
        child = os.fork()
        if not child:
            try:
                assert not consumer.running and consumer.get(0.1) is None and consumer.queued == 0
                consumer.stop()
                ring.close()
                del consumer
                gc.collect()
                os._exit(0)
            except BaseException:
                os._exit(1)
        assert os.waitpid(child, 0)[1] == 0
        emit(obj, 10)
        assert len(take(consumer, 10)) == 10


@pytest.mark.parametrize("target", ["None", "print", "lambda array: time.sleep(30)"])
def test_interpreter_exits_with_a_running_consumer(bpf_object, target):
    code = textwrap.dedent(f"""
        import sys, time, numpy, pylbpf, records
        obj = records.loaded(sys.argv[1])
        ring = obj.ring_buffer("events", type=records.NUMBER)
        consumer = ring.start({target})
        records.emit(obj, 10)
        time.sleep(0.05)
        records.emit(obj, 10)
    """)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    result = subprocess.run([sys.executable, "-X", "dev", "-c", code, str(bpf_object("records"))], env=environment,
                            capture_output=True, text=True, timeout=240)
    assert result.returncode == 0 and result.stderr == ""


def test_what_it_cannot_be_started_with(obj, ring):
    for options, error in (
        (dict(block_records=0), ValueError), (dict(blocks=0), ValueError), (dict(blocks="3"), TypeError),
        (dict(policy="drop"), ValueError), (dict(target=3), TypeError), (dict(block_records=1 << 40), ValueError),
    ):
        with pytest.raises(error):
            ring.start(**options)
    with obj.ring_buffer("others") as untyped:
        with pytest.raises(TypeError, match="one type"):
            untyped.start()
    assert len(ring.read_batch(timeout=0)) == 0 and CAPACITY


def test_overwriting_gives_up_nothing_while_nothing_comes(obj, ring):
    with ring.start(policy="overwrite", blocks=1) as consumer:
        for turn in range(5):
            emit(obj, 1, first=turn)
            assert consumer.get(timeout=60)["number"].tolist() == [turn]
        assert consumer.overwritten == 0


def test_a_forked_child_that_ends_leaves_the_thread_alone(obj, ring):
    with ring.start() as consumer:
        child = os.fork()
        if child == 0:
            try:
                from pylbpf import consumer as room

                room._stop_all()
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        before = time.process_time()
        time.sleep(0.3)
        assert time.process_time() - before < 0.2 and consumer.running
        emit(obj, 3)
        assert len(consumer.get(timeout=60)) == 3


def test_target_may_close_the_ring_at_once(obj, monkeypatch):
    class Slow(threading.Thread):
        def start(self):
            super().start()
            time.sleep(0.05)        # the target runs before start() is over

    monkeypatch.setattr(threading, "Thread", Slow)
    ring = obj.ring_buffer("events", type=NUMBER)
    produce(obj, 500)
    closed = threading.Event()

    def target(array):
        ring.close()
        closed.set()

    consumer = ring.start(target)
    assert closed.wait(10) and ring.closed
    consumer.stop()


def mappings() -> int:
    """Of ring buffers."""
    with open("/proc/self/maps") as file:
        return sum("bpf-map" in line for line in file)


def test_collector_ends_the_thread_and_then_unmaps_what_it_looked_at(obj):
    """In whatever order the collector finds them: were it the other way round, the thread would crash the process."""
    class Target:
        def __call__(self, array):
            pass

    threads, mapped, sent, stop = len(os.listdir("/proc/self/task")), mappings(), 0, threading.Event()

    def keep_busy():
        nonlocal sent
        while not stop.is_set():
            sent += emit(obj, 50)

    producer = threading.Thread(target=keep_busy)
    producer.start()
    try:
        for _ in range(10):
            ring, target = obj.ring_buffer("events", type=NUMBER), Target()
            target.consumer = ring.start()
            target.ring = ring
            while not target.consumer.records:
                time.sleep(0.001)
            assert target.consumer.running and mappings() > mapped
            with warning_of_consumer():
                del ring, target
                gc.collect()
            assert mappings() == mapped
            while len(os.listdir("/proc/self/task")) > threads + 1:
                time.sleep(0.001)
    finally:
        stop.set()
        producer.join()
    assert sent
