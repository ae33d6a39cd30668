"""Handlers come and go by the thousand, from four threads, while a hundred objects live and others come and go."""
from __future__ import annotations

import itertools
import sys
import threading

import pytest

import conftest
import kernel
import objects
import pylbpf
from handling import RAW, Recorder, registered, value

THREADS = 4
CALLS = 10_000 // THREADS
OBJECTS = 100


@pytest.fixture(autouse=True)
def eager_threads():
    """Threads change as often as Python can make them, not every 5 ms."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


@pytest.fixture(scope="module")
def small():
    return objects.build(objects.many(4, ["stress/a", "stress/b", "calm", "?stress/off"], with_map=True), "stress")


class Steady(Recorder):
    """Appending to a list is safe from any thread; the cookie says whose it is."""

    def attach(self, program):
        assert program.handler is self
        return super().attach(program)


@pytest.mark.bpf
def test_registrations_by_the_thousand_around_a_hundred_objects(small):
    descriptors = conftest.descriptors()
    links = kernel.own_link_ids()
    failures: list[BaseException] = []
    wild, calm = Steady("stress/"), Steady("calm")
    loaded, over = threading.Event(), threading.Event()
    calls = [0] * THREADS
    came: list[int] = []

    def churn(thread: int) -> None:
        try:
            for number in itertools.count():
                if number >= CALLS // 2 and loaded.is_set():
                    return
                # It matches what the steady handlers match, but is weaker; and the name changes all the time.
                handler = Recorder(f"stress/{'ab'[number % 2]}", priority=-1 - thread)
                registration = pylbpf.register(handler)
                calls[thread] += 1
                if number % 250 == 0:
                    mine = Recorder("stress/a", priority=1 + thread)
                    with pylbpf.open(small, handlers=[mine]) as obj:
                        assert obj.programs["p0000"].handler is mine
                        assert obj.programs["p0001"].handler is wild
                registration.unregister()
                calls[thread] += 1
                assert handler.calls == []
        except BaseException as error:
            failures.append(error)

    def come_and_go() -> None:
        try:
            while not over.is_set():
                own = Steady("stress/b", priority=1000)
                with pylbpf.open(small, handlers=[own]) as obj:
                    obj.load()
                    with obj.programs["p0001"].attach():
                        pass
                assert own.calls == [(kind, "p0001") for kind in ("setup", "prepare_load", "attach")]
                came.append(1)
        except BaseException as error:
            failures.append(error)

    with registered(wild, calm):
        opened = []
        threads = [threading.Thread(target=churn, args=(thread,)) for thread in range(THREADS)]
        passers = [threading.Thread(target=come_and_go) for _ in range(2)]
        try:
            for thread in threads + passers:
                thread.start()
            for _ in range(OBJECTS):
                opened.append(pylbpf.open(small))
            for obj in opened:
                obj.load()
            for obj in opened:
                assert len(obj.attach()) == 3
            kernel.rename_task()
            for obj in opened:
                assert [value(obj.maps["counts"], slot) > 0 for slot in range(4)] == [True, True, True, False]
                assert obj.programs["p0000"].handler is wild and obj.programs["p0002"].handler is calm
            assert len(kernel.own_link_ids() - links) >= 3 * OBJECTS
            loaded.set()
            for thread in threads:
                thread.join()
        finally:
            loaded.set()
            over.set()
            for thread in threads + passers:
                thread.join()
            for obj in opened:
                obj.close()
    assert failures == []
    assert sum(calls) >= 10_000 and came
    for handler, names in ((wild, ("p0000", "p0001")), (calm, ("p0002",))):
        for name in names:
            for kind in ("setup", "prepare_load", "attach"):
                assert handler.calls.count((kind, name)) >= OBJECTS
        assert not set(handler.names("attach")) - set(names)
    assert pylbpf.handlers() == ()
    assert not conftest.leaked_since(descriptors)
    assert not kernel.own_link_ids() - links


@pytest.mark.bpf
def test_overrides_come_and_go_around_objects(bpf_object):
    """The only handlers for which libbpf's own table changes: each attempt works, or says that it cannot now."""
    path = bpf_object("override")
    links = kernel.own_link_ids()
    failures: list[BaseException] = []
    over = threading.Event()
    made = [0, 0]

    def churn(section: str, type: pylbpf.ProgramType) -> None:
        try:
            while not over.is_set():
                try:
                    with pylbpf.register(Recorder(section, program_type=type)):
                        made[0] += 1
                except pylbpf.HandlerBusyError:
                    made[1] += 1
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=churn, args=pair) for pair in
               (("xdp", pylbpf.ProgramType.XDP), ("perf_event", RAW), ("tp+", pylbpf.ProgramType.TRACEPOINT))]
    for thread in threads:
        thread.start()
    try:
        opened = 0
        for _ in range(60):
            own = Recorder("raw_tp+")
            try:
                with pylbpf.open(path, handlers=[own]) as obj:
                    obj.load()
                    assert len(obj.attach()) == 1
                opened += 1
            except pylbpf.HandlerBusyError:
                continue
            assert own.calls == [("setup", "raw_tp"), ("setup", "raw_tp_noisy"), ("prepare_load", "raw_tp"),
                                 ("attach", "raw_tp")]
            with pylbpf.open(path) as obj:
                obj.load()
                assert obj.programs["raw_tp"].handler is None and len(obj.attach()) == 1
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert failures == []
    assert opened > 0 and made[0] > 0
    assert pylbpf.handlers() == () and not kernel.own_link_ids() - links
