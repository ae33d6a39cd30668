"""After fork(): a child cannot operate what its parent made; whatever it does with it, the parent notices nothing."""
from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import struct
import time
import traceback
import warnings

import pytest

import kernel
import pylbpf
import rings

pytestmark = pytest.mark.bpf


def in_child(function) -> None:
    """Run in a forked child; fail with its traceback if it raises or does not come to its end."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        told = "killed"
        try:
            os.close(read)
            function()
            told = ""
        except BaseException:
            told = traceback.format_exc()
        finally:
            os.write(write, told.encode())
            os.close(write)
            os._exit(0)
    os.close(write)
    with open(read) as pipe:
        told = pipe.read()
    _, status = os.waitpid(child, 0)
    assert status == 0 and told == "", told or f"status {status}"


def total(map: pylbpf.Map) -> int:
    value = map.lookup(bytes(4))
    return sum(struct.unpack(f"={len(value) // 8}Q", value))


class Counting:
    """One program of each kind that fork could hurt, attached; counts() runs each and says which of them have run."""

    def __init__(self, bpf_object, stack):
        self.event = kernel.perf_event_open(1, 0, frequency=999, pid=0, cpu=-1)
        stack.callback(os.close, self.event)
        self.raw = stack.enter_context(rings.loaded(bpf_object("rings")))
        self.sampled = stack.enter_context(pylbpf.open(bpf_object("perf_event")))
        self.traced = stack.enter_context(pylbpf.open(bpf_object("tracepoint")))
        self.sampled.load()
        self.traced.load()
        self.links = [self.raw.programs["send"].attach(),
                      self.sampled.programs["on_sample"].attach_perf_event(self.event),
                      self.traced.programs["on_task_rename"].attach()]
        self.ring = self.raw.ring_buffer("even", self.on_record)
        self.records = []
        self.objects = [self.raw, self.sampled, self.traced]

    def on_record(self, record):
        self.records.append(rings.number(record))

    def counts(self):
        before = rings.sent(self.raw), total(self.sampled.maps["samples"]), total(self.traced.maps["counts"])
        rings.send()
        end = time.process_time() + 0.03
        while time.process_time() < end:
            pass
        after = rings.sent(self.raw), total(self.sampled.maps["samples"]), total(self.traced.maps["counts"])
        return [b < a for b, a in zip(before, after)]


@pytest.fixture
def counting(bpf_object, requires_perf_event, tracefs):
    with contextlib.ExitStack() as stack:
        made = Counting(bpf_object, stack)
        assert made.counts() == [True, True, True]
        yield made


# ---------------------------------------------------------------- what a child may not


def test_child_may_not_operate_what_its_parent_made(counting):
    obj, ring = counting.raw, counting.ring
    program, map, link, insns, btf = obj.programs["send"], obj.maps["config"], counting.links[0], \
        obj.programs["send"].insns, obj.btf
    with open(os.devnull) as null:
        def child():
            for operate in (
                obj.load, obj.attach, lambda: obj.programs, lambda: obj.maps, lambda: obj.name, obj.__enter__,
                lambda: obj.ring_buffer("even"), program.attach, lambda: program.attach_raw_tracepoint("sys_enter"),
                lambda: program.fd, program.fileno, program.unload, lambda: program.name,
                lambda: program.set_insns(bytes(8)), lambda: program.insns,
                lambda: setattr(program, "autoattach", True),
                lambda: program.attach_perf_event(null), lambda: map.lookup(bytes(4)),
                lambda: map.update(bytes(4), bytes(8)), map.next_key, lambda: map.fd, lambda: map.pin("/sys/fs/bpf/x"),
                link.detach, link.disconnect, lambda: link.fd, lambda: link.pin("/sys/fs/bpf/x"), link.unpin,
                ring.poll, ring.consume, lambda: next(iter(ring)), ring.fileno, lambda: ring.add(map),
                lambda: insns[0], lambda: len(btf), btf.tobytes,
            ):
                try:
                    operate()
                except pylbpf.StateError as error:
                    assert "parent process" in str(error), error
                else:
                    raise AssertionError(f"{operate} worked")

        in_child(child)
    assert counting.counts() == [True, True, True]


def test_everything_can_still_be_shown_in_a_child(counting):
    obj = counting.raw
    things = [obj, obj.programs, obj.maps, obj.programs["send"], obj.maps["config"], obj.btf, counting.links[0],
              obj.programs["send"].insns, counting.ring, obj.links]

    def child():
        for thing in things:
            assert repr(thing)

    in_child(child)


# ---------------------------------------------------------------- what a child does


@pytest.mark.parametrize("deed", ["exit", "drop", "destroy", "close", "all"])
def test_parents_programs_keep_counting(counting, deed):
    def child():
        if deed in ("destroy", "all"):
            for link in counting.links:
                link.destroy()
                assert link.closed
        if deed in ("close", "all"):
            counting.ring.close()
            for obj in counting.objects:
                obj.close()
                assert obj.closed
        if deed in ("drop", "all"):
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # a dropped link of the parent's is no news
                counting.__dict__.clear()
                gc.collect()

    in_child(child)
    assert counting.counts() == [True, True, True]
    assert all(not link.closed for link in counting.links) and not counting.raw.closed


def test_parents_ring_buffer_loses_nothing(counting):
    rings.configure(counting.raw, count=10)
    rings.send()

    def child():
        for use in (counting.ring.poll, counting.ring.consume):
            with contextlib.suppress(pylbpf.StateError):
                use()
        counting.ring.close()

    in_child(child)
    before = len(counting.records)
    rings.send()
    assert counting.ring.poll(1) >= 10 and len(counting.records) > before
    assert counting.records == list(range(0, 2 * len(counting.records), 2))


def test_child_has_the_numbers_closed_by_close(bpf_object):
    """Closing is all it does, but that it does: a child that closes everything has no descriptor left."""
    def descriptors():
        return {fd for fd in os.listdir("/proc/self/fd") if os.path.lexists(f"/proc/self/fd/{fd}")}

    before = descriptors()
    obj = rings.loaded(bpf_object("rings"))
    link, ring = obj.programs["send"].attach(), obj.ring_buffer("even")

    def child():
        own = {fd for fd in descriptors() - before if os.readlink(f"/proc/self/fd/{fd}").startswith("pipe")}
        link.close()
        ring.close()
        obj.close()
        left = {os.readlink(f"/proc/self/fd/{fd}") for fd in descriptors() - before - own}
        assert not left, left

    in_child(child)
    rings.send()
    assert rings.sent(obj) == 1
    link.close()
    obj.close()


def test_views_of_the_parent_do_not_dangle_in_a_child(bpf_object):
    obj = pylbpf.open(bpf_object("subprogs"))
    view = memoryview(obj.programs["first"].insns)
    expected = view.tobytes()

    def child():
        with contextlib.suppress(BufferError):
            obj.close()
            raise AssertionError("closed under an exported view")
        assert view.tobytes() == expected

    in_child(child)
    view.release()
    obj.close()


def test_child_opens_its_own(bpf_object):
    with rings.loaded(bpf_object("rings")) as parents, parents.attach():
        def child():
            with rings.loaded(bpf_object("rings")) as obj, obj.attach():
                rings.send(3)
                assert rings.sent(obj) == 3
                got = []
                with obj.ring_buffer("even", got.append) as ring:
                    assert ring.poll(1) == 2

        in_child(child)
        rings.send(2)
        assert rings.sent(parents) == 2


def test_grandchild_may_not_operate_its_parents_either(bpf_object):
    def child():
        obj = pylbpf.open(bpf_object("empty"))

        def grandchild():
            with pytest.raises(pylbpf.StateError, match="parent process"):
                obj.maps

        in_child(grandchild)
        assert list(obj.maps)
        obj.close()

    in_child(child)


def test_fork_while_other_threads_are_inside(bpf_object):
    """Their locks stay taken in the child, where these threads are not: it must not wait for them."""
    import threading
    obj = rings.loaded(bpf_object("rings"))
    ring = obj.ring_buffer("even", lambda record: None)
    path, stop = bpf_object("task_rename"), []
    handler = pylbpf.ProgramHandler(section="fork/")

    def work():
        while not stop:
            with pylbpf.open(path) as other:
                other.load()

    def churn():
        while not stop:
            pylbpf.register(handler).unregister()

    threads = [threading.Thread(target=ring.poll, args=(0.5,)), threading.Thread(target=work),
               threading.Thread(target=churn)]
    for thread in threads:
        thread.start()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of what is tested here
            for _ in range(10):
                def child():
                    import signal
                    signal.alarm(20)
                    ring.close()
                    obj.close()
                    with pylbpf.open(path, handlers=[handler]) as own:
                        own.load()
                    with pylbpf.register(pylbpf.ProgramHandler(section="forked/")):
                        pass

                in_child(child)
    finally:
        stop.append(True)
        for thread in threads:
            thread.join()
    ring.close()
    obj.close()


# ---------------------------------------------------------------- multiprocessing


def close_all(link, obj, ring):
    with contextlib.suppress(pylbpf.StateError):
        obj.attach()
    link.close()
    ring.close()
    obj.close()


def test_multiprocessing_child(counting):
    context = multiprocessing.get_context("fork")
    for target in (close_all, lambda *_: None):
        process = context.Process(target=target, args=(counting.links[1], counting.sampled, counting.ring))
        process.start()
        process.join(20)
        assert process.exitcode == 0
    assert counting.counts() == [True, True, True]


def raise_from_a_child(path):
    pylbpf.open(path)


def test_errors_of_a_pool_come_back(tmp_path):
    with multiprocessing.get_context("fork").Pool(1) as pool:
        with pytest.raises(FileNotFoundError) as raised:
            pool.apply(raise_from_a_child, (tmp_path / "nothing.bpf.o",))
        pool.close()
        pool.join()
    assert isinstance(raised.value, pylbpf.BpfError) and raised.value.operation == "open"
