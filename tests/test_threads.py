"""Threads and signals: one thread at a time in an object, others beside it; nothing is lost that comes meanwhile."""
from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

import pylbpf
import rings
from pylbpf import ProgramType

pytestmark = pytest.mark.timeout(method="thread")  # these tests have the alarm clock for themselves


@contextlib.contextmanager
def threads(*functions):
    """Run side by side while the block runs; raise the first of their exceptions at its end."""
    raised: list[BaseException] = []

    def guard(function):
        try:
            function()
        except BaseException as error:
            raised.append(error)

    workers = [threading.Thread(target=guard, args=(function,)) for function in functions]
    for worker in workers:
        worker.start()
    try:
        yield raised
    finally:
        for worker in workers:
            worker.join(60)
            assert not worker.is_alive()
    if raised:
        raise raised[0]


def wait_for_load(thread: int) -> None:
    """Until that thread is inside a load, where its signals wait, or has ended."""
    status = Path(f"/proc/self/task/{thread}/status")
    give_up = time.monotonic() + 60
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        while not int(re.search(r"^SigBlk:\s*(\w+)", status.read_text(), re.MULTILINE)[1], 16):
            assert time.monotonic() < give_up, "no load has been seen"
            time.sleep(0.001)


def during_a_load(function):
    """Calls the function on another thread, while this one is inside a load."""
    loader = threading.get_native_id()
    return threads(lambda: (wait_for_load(loader), function()))


# ---------------------------------------------------------------- different objects


@pytest.mark.bpf
def test_different_objects_in_different_threads(bpf_object):
    path, wrong = bpf_object("rings"), bpf_object("rejected")
    done = []

    def work():
        for _ in range(15):
            with pylbpf.open(path) as obj:
                obj.load()
                with obj.attach():
                    obj.maps["config"].update(rings.NAME, bytes(8))
                    assert len(obj.programs["send"].insns.tobytes()) % 8 == 0
            with pylbpf.open(wrong) as obj:
                with pytest.raises(pylbpf.VerifierError) as raised:
                    obj.load()
                assert raised.value.program == "careless" and "processed" in raised.value.log
        done.append(True)

    with threads(work, work, work, work):
        pass
    assert len(done) == 4


@pytest.mark.bpf
def test_other_threads_run_during_a_load(bpf_object):
    ticks = []
    with pylbpf.open(bpf_object("long_load")) as obj:
        stop = threading.Event()

        def tick():
            while not stop.wait(0.005):
                ticks.append(time.monotonic())

        with threads(tick):
            begin = time.monotonic()
            obj.load()
            end = time.monotonic()
            stop.set()
    during = [at for at in ticks if begin < at < end]
    assert len(during) > 2


# ---------------------------------------------------------------- the same object


@pytest.mark.bpf
def test_second_thread_waits_for_the_first(bpf_object):
    with pylbpf.open(bpf_object("long_load")) as obj:
        loaders = []

        def load():
            loaders.append(threading.get_native_id())
            obj.load()

        with threads(load):
            while not loaders:
                time.sleep(0.001)
            wait_for_load(loaders[0])
            obj.programs["walk"].autoattach = False  # a setter that is legal once it is loaded
            assert obj.state is pylbpf.State.LOADED


@pytest.mark.bpf
def test_close_waits_for_a_load(bpf_object):
    obj = pylbpf.open(bpf_object("long_load"))
    loaders, states = [], []

    def load():
        loaders.append(threading.get_native_id())
        obj.load()
        states.append("loaded")

    with threads(load):
        while not loaders:
            time.sleep(0.001)
        wait_for_load(loaders[0])
        obj.close()
        states.append("closed")
    # Had close() not waited, load() would have failed; which of the two says so first is the scheduler's choice.
    assert sorted(states) == ["closed", "loaded"] and obj.closed


@pytest.mark.bpf
def test_who_waited_for_close_gets_a_value_error(bpf_object):
    for _ in range(20):
        obj = pylbpf.open(bpf_object("task_rename"))
        results = []

        def use(operation):
            try:
                operation()
                results.append("worked")
            except (ValueError, pylbpf.StateError) as error:
                results.append(type(error))

        with threads(lambda: use(obj.load), lambda: use(obj.close), lambda: use(obj.attach), lambda: use(obj.close)):
            pass
        assert obj.closed and len(results) == 4
        assert set(results) <= {"worked", ValueError, pylbpf.StateError}


@pytest.mark.bpf
def test_of_many_loads_one_works(bpf_object):
    with pylbpf.open(bpf_object("task_rename")) as obj:
        results = []

        def load():
            try:
                obj.load()
                results.append("loaded")
            except pylbpf.StateError:
                results.append("refused")

        with threads(*[load] * 6):
            pass
        assert sorted(results) == ["loaded"] + ["refused"] * 5


@pytest.mark.bpf
def test_of_many_destroys_one_destroys(bpf_object):
    with rings.loaded(bpf_object("rings")) as obj:
        for _ in range(10):
            link = obj.programs["send"].attach()
            with threads(*[link.destroy] * 4):
                pass
            assert link.closed


@pytest.mark.bpf
def test_pin_and_detach_against_destroy(bpf_object, bpffs):
    """Whoever comes late gets ValueError; nobody works on a link that is freed."""
    with rings.loaded(bpf_object("rings")) as obj:
        for at in range(20):
            link = obj.programs["send"].attach()

            def late(operation):
                for _ in range(20):
                    with contextlib.suppress(ValueError, pylbpf.BpfError):
                        operation()

            with threads(lambda: late(lambda: link.pin(bpffs / f"pin{at}")), lambda: late(link.detach),
                         lambda: late(link.unpin), lambda: late(lambda: link.pin_path)):
                link.destroy()
            assert link.closed
            (bpffs / f"pin{at}").unlink() if (bpffs / f"pin{at}").exists() else None


@pytest.mark.bpf
def test_many_threads_attach_and_detach_one_program(bpf_object):
    with rings.loaded(bpf_object("rings")) as obj:
        program = obj.programs["send"]

        def work():
            for _ in range(20):
                with program.attach():
                    pass

        with threads(work, work, work, work):
            pass
        with program.attach():
            rings.send()
        assert rings.sent(obj) >= 1
        before = rings.sent(obj)
        rings.send()
        assert rings.sent(obj) == before


@pytest.mark.bpf
def test_elements_from_many_threads(bpf_object):
    with pylbpf.open(bpf_object("maps")) as obj:
        obj.load()
        map = obj.maps["hash"]

        def work(at):
            key = at.to_bytes(4, "little")
            for value in range(200):
                map.update(key, value.to_bytes(32, "little"))
                assert map.lookup(key) == value.to_bytes(32, "little")
            map.delete(key)

        with threads(*[lambda at=at: work(at) for at in range(4)]):
            pass
        assert map.next_key() is None


@pytest.mark.bpf
def test_close_of_an_object_whose_ring_callback_needs_it_does_not_deadlock(bpf_object):
    """The callback attaches, which waits for the close, which waits for the callback."""
    code = """
import sys, threading, time, pylbpf, rings
obj = rings.loaded(sys.argv[1])
obj.attach()
inside = threading.Event()
def callback(record):
    inside.set()
    time.sleep(0.2)
    try:
        obj.programs["send"].attach().close()
    except (pylbpf.StateError, ValueError):
        pass
ring = obj.ring_buffer("even", callback)
rings.send()
def poll():
    try:
        ring.poll(5)
    except ValueError:
        pass
reader = threading.Thread(target=poll)
reader.start()
inside.wait()
obj.close()
reader.join()
print("done")
"""
    import subprocess
    from pathlib import Path
    here = str(Path(__file__).parent)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([here, os.environ.get("PYTHONPATH", "")])}
    try:
        result = subprocess.run([sys.executable, "-c", code, str(bpf_object("rings"))], env=environment, timeout=60,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    except subprocess.TimeoutExpired:
        pytest.fail("deadlock")
    assert (result.returncode, result.stdout) == (0, "done\n")


# ---------------------------------------------------------------- signals


@pytest.fixture
def handle():
    """handle(number, handler) for the test."""
    before = {}

    def install(number, handler):
        before.setdefault(number, signal.getsignal(number))
        signal.signal(number, handler)

    yield install
    signal.setitimer(signal.ITIMER_REAL, 0)
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.bpf
def test_storm_of_signals_does_not_stop_the_verifier(bpf_object, handle):
    """Each pending signal makes the kernel give up with EAGAIN; libbpf tries five times and no more."""
    ticks = []
    handle(signal.SIGALRM, lambda *_: ticks.append(time.monotonic()))
    with pylbpf.open(bpf_object("long_load")) as obj:
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
        begin = time.monotonic()
        obj.load()
        took = time.monotonic() - begin
        time.sleep(0.02)
        signal.setitimer(signal.ITIMER_REAL, 0)
        assert obj.state is pylbpf.State.LOADED
    assert took > 0.02, "too short a load to show anything"
    assert [at for at in ticks if at >= begin + took * 0.99], "signals go on afterwards"


@pytest.mark.bpf
def test_signals_of_a_load_are_handled_right_after_it(bpf_object, handle):
    seen = []
    with pylbpf.open(bpf_object("long_load")) as obj:
        handle(signal.SIGALRM, lambda *_: seen.append(obj.state))
        with during_a_load(lambda: signal.pthread_kill(threading.main_thread().ident, signal.SIGALRM)):
            obj.load()
            assert seen == [pylbpf.State.LOADED]


@pytest.mark.bpf
def test_keyboard_interrupt_comes_out_of_load_and_the_object_is_loaded(bpf_object, handle):
    handle(signal.SIGINT, signal.default_int_handler)
    with pylbpf.open(bpf_object("long_load")) as obj:
        with during_a_load(lambda: os.kill(os.getpid(), signal.SIGINT)), pytest.raises(KeyboardInterrupt):
            obj.load()
            pytest.fail("not after load() has returned")
        assert obj.state is pylbpf.State.LOADED
        obj.programs["walk"].attach().close()


@pytest.mark.bpf
def test_keyboard_interrupt_in_a_callback_comes_at_once(bpf_object, handle):
    handle(signal.SIGINT, signal.default_int_handler)
    seen = []

    class Handler(pylbpf.ProgramHandler):
        section = "probe/"
        program_type = ProgramType.RAW_TRACEPOINT

        def prepare_load(self, program, opts):
            seen.append(program.name)
            os.kill(os.getpid(), signal.SIGINT)
            end = time.monotonic() + 5
            while time.monotonic() < end:
                pass
            seen.append("went on")

    with pylbpf.open(bpf_object("handlers"), handlers=[Handler()]) as obj:
        for program in obj.programs.values():
            program.autoload = program.section.startswith("probe/") and program.name != "probe_off"
        with pytest.raises(KeyboardInterrupt):
            obj.load()
        assert seen == ["probe_one"] and obj.state is pylbpf.State.FAILED


@pytest.mark.bpf
def test_handlers_of_signals_run_in_python_callbacks(bpf_object, handle):
    ticks, in_callback = [], []
    handle(signal.SIGALRM, lambda *_: ticks.append(time.monotonic()))

    class Handler(pylbpf.ProgramHandler):
        section = "sample"
        program_type = ProgramType.RAW_TRACEPOINT

        def prepare_load(self, program, opts):
            before = len(ticks)
            end = time.monotonic() + 0.1
            while time.monotonic() < end:
                time.sleep(0.001)
            in_callback.append(len(ticks) - before)

    with pylbpf.open(bpf_object("handlers"), handlers=[Handler()]) as obj:
        for program in obj.programs.values():
            program.autoload = program.section == "sample"
        signal.setitimer(signal.ITIMER_REAL, 0.005, 0.005)
        obj.load()
        signal.setitimer(signal.ITIMER_REAL, 0)
    assert in_callback[0] > 3


@pytest.mark.bpf
@pytest.mark.parametrize("fails", [False, True])
def test_signal_mask_is_what_it_was(bpf_object, fails):
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    try:
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        with pylbpf.open(bpf_object("rejected" if fails else "task_rename")) as obj:
            with pytest.raises(pylbpf.VerifierError) if fails else contextlib.nullcontext():
                obj.load()
        assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == mask
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@pytest.mark.bpf
def test_signals_do_not_stop_attach_and_elements(bpf_object, handle):
    handle(signal.SIGALRM, lambda *_: None)
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    with pylbpf.open(bpf_object("maps")) as obj:
        obj.load()
        end = time.monotonic() + 0.3
        while time.monotonic() < end:
            obj.programs["user"].attach().close()
            obj.maps["prog_array"].update(bytes(4), obj.programs["user"].fd.to_bytes(4, sys.byteorder))
            obj.maps["prog_array"].delete(bytes(4))
            assert bytes(4) not in obj.maps["prog_array"].raw
