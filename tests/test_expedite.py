"""expedited() and expedite=True: raised while it is wanted, and put back whatever happens."""
from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

import kernel
import objects
import pylbpf
from test_fork import in_child
from together import HIT, SILENT, left, opened

pytestmark = pytest.mark.bpf
SWITCH = Path("/sys/kernel/rcu_expedited")


def raised() -> bool:
    return SWITCH.read_text().strip() != "0"


@pytest.fixture(autouse=True)
def writable():
    if not os.access(SWITCH, os.W_OK):
        pytest.skip("rcu_expedited: cannot be written")
    assert not raised()
    yield
    assert not raised()


# ---------------------------------------------------------------- the context manager


def test_raised_and_put_back():
    with pylbpf.expedited() as nothing:
        assert nothing is None and raised()


def test_nested():
    again = pylbpf.expedited()
    with pylbpf.expedited():
        with again:
            with again:
                assert raised()
            assert raised()
        assert raised()


def test_after_an_exception():
    with pytest.raises(LookupError):
        with pylbpf.expedited():
            raise LookupError


def test_left_more_often_than_entered():
    with pylbpf.expedited():
        pylbpf.expedited().__exit__(None, None, None)
        assert raised()


def test_what_was_there_is_put_back():
    SWITCH.write_text("1")
    try:
        with pylbpf.expedited():
            assert raised()
        assert raised()
    finally:
        SWITCH.write_text("0")


def test_threads_are_counted():
    inside, leave = threading.Barrier(4), [threading.Event() for _ in range(3)]

    def work(number):
        with pylbpf.expedited():
            inside.wait()
            leave[number].wait()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    inside.wait()
    for thread, event in zip(threads, leave):
        assert raised()
        event.set()
        thread.join()


def run(code: str, *arguments: str) -> str:
    return subprocess.run([sys.executable, "-c", textwrap.dedent(code), *arguments], stdout=subprocess.PIPE, text=True,
                          check=True, timeout=240).stdout


def test_put_back_at_exit():
    assert run("""
        import pylbpf
        held = pylbpf.expedited()
        held.__enter__()
        print(open("/sys/kernel/rcu_expedited").read().strip())
    """) == "1\n"
    assert not raised()


def test_two_processes():
    """The one that came first puts back what it has found; the other one does not put back the 1 that it saw."""
    other = subprocess.Popen([sys.executable, "-c", textwrap.dedent("""
        import pylbpf
        with pylbpf.expedited():
            print("in", flush=True)
            input()
    """)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with pylbpf.expedited():
        assert other.stdout.readline() == "in\n" and raised()
    assert not raised()
    other.communicate("\n")
    assert other.returncode == 0


def test_a_forked_child_puts_nothing_back():
    def child():
        assert raised()
        with pylbpf.expedited():
            pass
        held.__exit__(None, None, None)
        assert raised()

    held = pylbpf.expedited()
    with held:
        in_child(child)
        assert raised()


def test_without_the_right():
    def child():
        os.setegid(65534)
        os.seteuid(65534)
        with pytest.raises(PermissionError, match="rcu_expedited"):
            with pylbpf.expedited():
                pass

    in_child(child)


def test_where_it_is_not():
    def child():
        kernel.private_mounts()
        kernel.mount("tmpfs", Path("/sys/kernel"))
        with pytest.raises(pylbpf.NotSupported, match="rcu_expedited is not there"):
            with pylbpf.expedited():
                pass
        with pytest.raises(pylbpf.NotSupported):
            pylbpf.detach_many([], expedite=True)

    in_child(child)


def test_made_by_the_function_only():
    with pytest.raises(TypeError):
        type(pylbpf.expedited())()


# ---------------------------------------------------------------- for the time of a batch


class Xdp(pylbpf.ProgramHandler):
    """Attaches to an interface, and looks at the switch."""

    def __init__(self, interface):
        super().__init__(section="net/", program_type=pylbpf.ProgramType.XDP,
                         expected_attach_type=pylbpf.AttachType.XDP)
        self.interface, self.seen = interface, []

    def attach(self, program):
        self.seen.append(raised())
        return program.attach_xdp(self.interface)


def test_attach_and_detach(veth):
    handler = Xdp(veth.name)
    with pylbpf.open(objects.build(objects.many(1, "net/a"), "net"), handlers=[handler]) as obj:
        obj.load()
        links = pylbpf.attach_many([obj], expedite=True)
        assert handler.seen == [True] and not raised()
        seen = []
        pylbpf.detach_many(links, expedite=True, on_progress=lambda done, total: seen.append(raised()))
        assert seen == [True] and not raised() and all(link.closed for link in links)
        links = pylbpf.attach_many([obj])
        assert handler.seen == [True, False]
        links.close(expedite=True)


def test_put_back_when_attaching_fails(tracefs, requires_perf_event):
    before = left()

    def on_progress(done, total):
        assert raised()
        if done == 2:
            raise KeyboardInterrupt

    with opened(HIT, *SILENT[:2], "raw_tp/task_rename", name="interrupted") as obj:
        with pytest.raises(KeyboardInterrupt):
            pylbpf.attach_many([obj], expedite=True, on_progress=on_progress)
        assert not raised() and left() == before
        with pytest.raises(LookupError):
            with pylbpf.attach_many([obj], expedite=True):
                raise LookupError


def test_nothing_is_attached_without_the_right():
    """In a child without rights, with the object of the parent's rights made before."""
    def child():
        with opened("raw_tp/task_rename", name="unexpedited") as obj:
            os.seteuid(65534)
            try:
                with pytest.raises(PermissionError):
                    pylbpf.attach_many([obj], expedite=True)
                assert not kernel.own_link_ids()
            finally:
                os.seteuid(0)
            links = pylbpf.attach_many([obj])
            os.seteuid(65534)
            with pytest.raises(PermissionError):
                links.close(expedite=True)
            assert not links[0].closed
            links.close()

    in_child(child)
