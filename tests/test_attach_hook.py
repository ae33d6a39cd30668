"""What is attached without links: by descriptor, to sockets, by netlink. It stays until it is taken away."""
from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
import subprocess
import sys

import pytest

import kernel
import pylbpf
from attaching import loaded, take
from pylbpf import AttachFlags, AttachType, TcHook, XdpFlags, query, xdp

VERSION = pylbpf.libbpf_version()
pytestmark = pytest.mark.bpf
FIRST, SECOND, THIRD, LOOKUP, MESSAGE, STREAM, FILTER, SOCKET, REUSEPORT, ORDER = range(10)

SEND = """
import os, socket, sys
with open(sys.argv[1] + "/cgroup.procs", "w") as procs:
    procs.write(str(os.getpid()))
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
    sender.sendto(b"x", ("127.0.0.1", 9))
"""


@pytest.fixture
def net(bpf_object):
    with contextlib.ExitStack() as stack:
        yield lambda *names: stack.enter_context(loaded(bpf_object("net"), *names))


# ---------------------------------------------------------------- by descriptor


def test_cgroup_by_descriptor(net, cgroup):
    obj = net("egress_first", "egress_second")
    first, second = obj.programs["egress_first"], obj.programs["egress_second"]
    kind = AttachType.CGROUP_INET_EGRESS

    def order() -> int:
        take(obj, ORDER)
        subprocess.run([sys.executable, "-c", SEND, str(cgroup)], check=True)
        return take(obj, ORDER)

    first.prog_attach(cgroup, kind, flags=AttachFlags.ALLOW_MULTI)
    try:
        assert order() == 1
        assert query.attached(cgroup, kind).flags == AttachFlags.ALLOW_MULTI
        second.prog_attach(cgroup, kind, flags=AttachFlags.ALLOW_MULTI | AttachFlags.REPLACE, replace_fd=first)
        assert order() == 2
        with pytest.raises(pylbpf.BpfError, match=r"detach from .* program 'egress_first'") as raised:
            first.prog_detach(cgroup, kind)
        assert raised.value.errno == errno.ENOENT
    finally:
        second.prog_detach(cgroup, kind)
    assert order() == 0


def test_what_is_attached_by_descriptor_outlives_object_and_is_found(bpf_object, cgroup):
    kind = AttachType.CGROUP_INET_EGRESS
    with loaded(bpf_object("net"), "egress_first") as obj:
        obj.programs["egress_first"].prog_attach(cgroup, kind)
        id = obj.programs["egress_first"].info().id
    assert [each.prog_id for each in query.attached(cgroup, kind).programs] == [id]
    assert query.program(id).name == "egress_first"  # it dies with the cgroup


def test_tcx_by_descriptor(net, veth):
    if reason := kernel.no_tcx():
        pytest.skip(reason)
    obj = net("first", "second")
    first, second = obj.programs["first"], obj.programs["second"]

    def order() -> int:
        take(obj, ORDER)
        veth.send()
        return take(obj, ORDER)

    first.prog_attach(veth.name, AttachType.TCX_INGRESS)
    if VERSION >= (1, 3):
        second.prog_attach(veth.name, AttachType.TCX_INGRESS, flags=AttachFlags.BEFORE, relative_fd=first)
        assert order() == 21
        now = query.attached(veth.name, AttachType.TCX_INGRESS).revision
        with pytest.raises(pylbpf.BpfError):
            second.prog_detach(veth.name, AttachType.TCX_INGRESS, expected_revision=now + 1)
        second.prog_detach(veth.name, AttachType.TCX_INGRESS, expected_revision=now)
        before = os.dup(0)
        os.dup2(first.fd, 0)
        try:    # which C would take for no descriptor at all
            second.prog_attach(veth.name, AttachType.TCX_INGRESS, flags=AttachFlags.BEFORE, relative_fd=0)
        finally:
            os.dup2(before, 0)
            os.close(before)
        assert order() == 21
        second.prog_detach(veth.name, AttachType.TCX_INGRESS)
    else:
        with pytest.raises(pylbpf.NotSupported, match=r"libbpf 1\.3"):
            second.prog_attach(veth.name, AttachType.TCX_INGRESS, flags=AttachFlags.BEFORE)
        with pytest.raises(pylbpf.NotSupported, match=r"libbpf 1\.3"):
            first.prog_detach(veth.name, AttachType.TCX_INGRESS, expected_revision=3)
    assert order() == 1
    first.prog_detach(veth.name, AttachType.TCX_INGRESS)
    assert order() == 0


def test_sockmap_by_descriptor(net):
    obj = net("message")
    program, sockets = obj.programs["message"], obj.maps["sockets"]
    program.prog_attach(sockets, AttachType.SK_MSG_VERDICT)
    with socket.create_server(("127.0.0.1", 0)) as server:
        with socket.create_connection(server.getsockname()) as one, server.accept()[0] as other:
            sockets.update(bytes(4), struct.pack("=Q", one.fileno()))
            one.sendall(b"x")
            assert other.recv(1) == b"x" and take(obj, MESSAGE) >= 1
            program.prog_detach(sockets, AttachType.SK_MSG_VERDICT)
            sockets.delete(bytes(4))
            one.sendall(b"x")
            assert other.recv(1) == b"x" and take(obj, MESSAGE) == 0


def test_hooks_that_are_not_there(net, tmp_path):
    program = net("egress_first").programs["egress_first"]
    with pytest.raises(FileNotFoundError, match="open target"):
        program.prog_attach("/there/is/no/such", AttachType.CGROUP_INET_EGRESS)
    with pytest.raises(pylbpf.BpfError, match="attach to .* program 'egress_first'"):
        program.prog_attach(tmp_path, AttachType.CGROUP_INET_EGRESS)
    with pytest.raises(pylbpf.BpfError):
        program.prog_detach(tmp_path, AttachType.CGROUP_INET_EGRESS)
    with pytest.raises(TypeError):
        program.prog_attach(tmp_path, "CGROUP_INET_EGRESS")


# ---------------------------------------------------------------- sockets


def test_filter_of_a_socket(net):
    obj = net("on_socket")
    program = obj.programs["on_socket"]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver, \
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(10)

        def packets() -> int:
            sender.sendto(b"x", receiver.getsockname())
            assert receiver.recv(1) == b"x"
            return take(obj, SOCKET)

        program.attach_socket(receiver)
        assert packets() == 1
        program.attach_socket(receiver.fileno())  # in the place of itself
        assert packets() == 1
        program.detach_socket(receiver)
        assert packets() == 0
        with pytest.raises(pylbpf.BpfError) as raised:
            program.detach_socket(receiver)
        assert raised.value.errno == errno.ENOENT
    with pytest.raises(ValueError, match="is not a file descriptor"):
        program.attach_socket(receiver)
    with open("/dev/null") as file, pytest.raises(pylbpf.BpfError, match="attach to socket program 'on_socket'"):
        program.attach_socket(file)


def test_program_of_a_group_of_sockets(net):
    obj = net("reuseport")
    program = obj.programs["reuseport"]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver, \
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(10)
        program.attach_socket(receiver)
        sender.sendto(b"x", receiver.getsockname())
        assert receiver.recv(1) == b"x" and take(obj, REUSEPORT) == 1
        program.detach_socket(receiver)
        sender.sendto(b"x", receiver.getsockname())
        assert receiver.recv(1) == b"x" and take(obj, REUSEPORT) == 0


# ---------------------------------------------------------------- XDP by netlink


@pytest.fixture
def passing(bpf_object):
    with pylbpf.open(bpf_object("xdp")) as obj:
        obj.load()
        yield obj


def packets(obj: pylbpf.Object, slot: int = 0) -> int:
    return int(struct.unpack("=Q", obj.maps["packets"].lookup(struct.pack("=I", slot)))[0])


def test_xdp_by_netlink(passing, veth):
    one, two = passing.programs["pass"], passing.programs["pass_frags"]
    assert xdp.query(veth.name).prog_id == 0
    xdp.attach(veth.name, one)
    found = xdp.query(veth.index)
    assert found.prog_id == found.drv_prog_id == one.info().id and found.attach_mode == 1
    veth.send(2)
    assert packets(passing) == 2
    with pytest.raises(pylbpf.BpfError, match=f"attach XDP program to {veth.name}") as raised:
        xdp.attach(veth.name, two, flags=XdpFlags.UPDATE_IF_NOEXIST)
    assert raised.value.errno == errno.EBUSY
    with pytest.raises(pylbpf.BpfError):
        xdp.attach(veth.name, two, old_program=two)
    xdp.attach(veth.name, two, old_program=one)
    assert xdp.query(veth.name).prog_id == two.info().id
    with pytest.raises(pylbpf.BpfError, match=f"detach XDP program of {veth.name}"):
        xdp.detach(veth.name, old_program=one)
    xdp.detach(veth.name, old_program=two)
    assert xdp.query(veth.name).prog_id == 0
    xdp.detach(veth.name)
    veth.send(2)
    assert packets(passing) == 2


def test_xdp_by_netlink_in_generic_mode_outlives_its_object(bpf_object, veth):
    with pylbpf.open(bpf_object("xdp")) as obj:
        obj.load()
        xdp.attach(veth.name, obj.programs["pass"], flags=XdpFlags.SKB_MODE)
        id = obj.programs["pass"].info().id
    assert xdp.query(veth.name).skb_prog_id == id
    xdp.detach(veth.name, flags=XdpFlags.SKB_MODE)
    assert xdp.query(veth.name).prog_id == 0


def test_xdp_link_is_not_detached_by_netlink(passing, veth):
    with passing.programs["pass"].attach_xdp(veth.name):
        assert xdp.query(veth.name).prog_id == passing.programs["pass"].info().id
        with pytest.raises(pylbpf.BpfError) as raised:
            xdp.detach(veth.name)
        assert raised.value.errno == errno.EBUSY


def test_xdp_of_what_is_not_there(passing):
    with pytest.raises(pylbpf.BpfError, match="find network interface plb_not_there"):
        xdp.query("plb_not_there")
    with pytest.raises(pylbpf.BpfError, match="query XDP programs of 2147483647") as raised:
        xdp.query(0x7FFFFFFF)
    assert raised.value.errno == errno.ENODEV
    with pytest.raises(pylbpf.BpfError, match="attach XDP program to 2147483647"):
        xdp.attach(0x7FFFFFFF, passing.programs["pass"])
    with pytest.raises(TypeError, match="program must be"):
        xdp.attach("lo", "pass")


# ---------------------------------------------------------------- TC by netlink


@pytest.fixture
def hook(veth):
    hook = TcHook(veth.name, "ingress")
    try:
        hook.create()
    except pylbpf.BpfError as error:
        pytest.skip(f"clsact: the kernel has none ({error})")
    yield hook
    with contextlib.suppress(OSError):
        TcHook(veth.name, "both").destroy()


def test_tc_runs_in_the_order_of_priorities(hook, net, veth):
    obj = net("first", "second", "third")
    first, second, third = (obj.programs[name] for name in ("first", "second", "third"))

    def order() -> int:
        take(obj, ORDER)
        veth.send()
        return take(obj, ORDER)

    assert str(hook) == f"ingress of {veth.name}" and hook.interface == veth.name
    one = hook.attach(first, priority=20)
    assert one.priority == 20 and one.handle > 0 and one.prog_id == first.info().id
    two = hook.attach(second, handle=1, priority=10)
    assert two[:2] == (1, 10) and order() == 21
    assert hook.query(1, 10) == two
    with pytest.raises(FileExistsError):
        hook.attach(third, handle=1, priority=10)
    assert hook.attach(third, handle=1, priority=10, replace=True).prog_id == third.info().id
    assert order() == 31
    hook.detach(1, 10)
    with pytest.raises(FileNotFoundError, match=r"query handle 1, priority 10 of ingress of"):
        hook.query(1, 10)
    assert order() == 1
    hook.detach(one.handle, one.priority)
    assert order() == 0


def test_tc_stays_until_it_is_destroyed(hook, bpf_object, veth):
    with loaded(bpf_object("net"), "first") as obj:
        found = hook.attach(obj.programs["first"])
    assert hook.query(found.handle, found.priority).prog_id == found.prog_id
    hook.destroy()  # all on this side
    with pytest.raises(pylbpf.BpfError):
        hook.query(found.handle, found.priority)
    with pytest.raises(FileExistsError):
        TcHook(veth.name, "egress").create()
    TcHook(veth.name, "both").destroy()
    TcHook(veth.name, "egress").create()


def test_tc_options_that_are_wrong(net, veth):
    with pytest.raises(ValueError, match="attach_point is one of ingress, egress"):
        TcHook(veth.name, "sideways")
    with pytest.raises(pylbpf.BpfError, match="find network interface"):
        TcHook("plb_not_there", "ingress")
    if VERSION < (1, 6):
        with pytest.raises(pylbpf.NotSupported, match=r"libbpf 1\.6"):
            TcHook(veth.name, "qdisc", qdisc="clsact")
    hook = TcHook(veth.name, "ingress")
    program = net("first").programs["first"]
    with pytest.raises(pylbpf.BpfError, match="attach program 'first' to ingress of"):
        hook.attach(program)  # nothing was created
    with pytest.raises(ValueError):
        hook.attach(program, priority=-1)
    with pytest.raises(pylbpf.BpfError):
        hook.detach(0, 0)
    with pytest.raises(TypeError, match="program must be"):
        hook.attach("first")
