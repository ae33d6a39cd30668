"""Interfaces, cgroups, name spaces, sockets in maps, netfilter: programs run when they should, and no more afterwards."""
from __future__ import annotations

import contextlib
import errno
import gc
import os
import socket
import struct
import subprocess
import sys

import pytest

import kernel
import pylbpf
from attaching import count, loaded, take
from pylbpf import AttachFlags, AttachType, XdpFlags

VERSION = pylbpf.libbpf_version()
pytestmark = pytest.mark.bpf
FIRST, SECOND, THIRD, LOOKUP, MESSAGE, STREAM, FILTER, SOCKET, REUSEPORT, ORDER = range(10)


@pytest.fixture
def net(bpf_object):
    """net("first", "second") -> an object with these programs, loaded."""
    with contextlib.ExitStack() as stack:
        yield lambda *names, **types: stack.enter_context(loaded(bpf_object("net"), *names, types=types))


@pytest.fixture
def tcx(net, veth):
    """The object, its three programs, and order() -> the digits of those that a packet meets."""
    if reason := kernel.no_tcx():
        pytest.skip(reason)
    obj = net("first", "second", "third")

    def order() -> int:
        take(obj, ORDER)
        veth.send()
        return take(obj, ORDER)

    return [obj.programs[name] for name in ("first", "second", "third")], order


def needs_libbpf(minor: int) -> None:
    if VERSION < (1, minor):
        pytest.skip(f"libbpf >= 1.{minor}: options of attaching")


# ---------------------------------------------------------------- tcx


def test_tcx_runs_and_stops(tcx, veth):
    (first, second, third), order = tcx
    with first.attach_tcx(veth.name) as link:
        assert link.name == f"program 'first' on tcx {veth.name}"
        assert order() == 1
        with second.attach_tcx(veth.index):
            assert order() == 12
        assert order() == 1
    assert order() == 0


def test_tcx_before_and_after(tcx, veth):
    needs_libbpf(3)
    (first, second, third), order = tcx
    with first.attach_tcx(veth.name) as link, second.attach_tcx(veth.name, flags=AttachFlags.BEFORE):
        assert order() == 21
        with third.attach_tcx(veth.name, flags=AttachFlags.AFTER, relative_fd=second):
            assert order() == 231
        with third.attach_tcx(veth.name, flags=AttachFlags.BEFORE, relative_fd=link):
            assert order() == 231
        with third.attach_tcx(veth.name, flags=AttachFlags.BEFORE, relative_id=second.info().id):
            assert order() == 321


def test_tcx_expected_revision(tcx, veth):
    needs_libbpf(3)
    (first, second, _), order = tcx
    with first.attach_tcx(veth.name):
        with pytest.raises(pylbpf.BpfError) as raised:
            second.attach_tcx(veth.name, expected_revision=77)
        assert raised.value.errno == errno.ESTALE
        now = pylbpf.query.attached(veth.name, AttachType.TCX_INGRESS)
        with second.attach_tcx(veth.name, expected_revision=now.revision):
            assert order() == 12


def test_tcx_options_of_an_older_libbpf_name_the_version(tcx, veth):
    (first, second, _), _ = tcx
    if VERSION >= (1, 3):
        pytest.skip("libbpf < 1.3: an older one lacks the options")
    for options in ({"flags": AttachFlags.BEFORE}, {"relative_fd": second}, {"relative_id": 3}, {"expected_revision": 1}):
        with pytest.raises(pylbpf.NotSupported, match=r"a place in the order of tcx needs libbpf 1\.3"):
            first.attach_tcx(veth.name, **options)


def test_tcx_wrong_targets(tcx, veth):
    (first, second, _), order = tcx
    with pytest.raises(pylbpf.BpfError, match="find network interface plb_not_there"):
        first.attach_tcx("plb_not_there")
    with pytest.raises(ValueError, match="0 is not an interface index"):
        first.attach_tcx(0)
    with pytest.raises(pylbpf.BpfError, match="attach tcx 2147483647"):
        first.attach_tcx(0x7FFFFFFF)
    with pytest.raises(ValueError, match="not both"):
        first.attach_tcx(veth.name, relative_fd=second, relative_id=1)
    with pytest.raises(TypeError, match="relative_fd must be a descriptor or an object with fileno"):
        first.attach_tcx(veth.name, relative_fd="second")
    for wrong in ({"relative_id": -1}, {"relative_id": 1 << 32}, {"expected_revision": 1 << 64}, {"relative_fd": -1}):
        with pytest.raises(ValueError):
            first.attach_tcx(veth.name, **wrong)
    assert order() == 0


def test_tcx_needs_its_attach_type(net, veth):
    program = net("first", first=AttachType.CGROUP_INET_INGRESS).programs["first"]
    with pytest.raises(pylbpf.StateError, match="before load it must be set to TCX_INGRESS or TCX_EGRESS"):
        program.attach_tcx(veth.name)
    with pytest.raises(pylbpf.StateError, match="NETKIT_PRIMARY or NETKIT_PEER"):
        program.attach_netkit(veth.name)
    with pytest.raises(pylbpf.StateError, match="SK_LOOKUP or FLOW_DISSECTOR"):
        program.attach_netns("/proc/self/ns/net")


def test_tcx_update_with_the_expected_program(tcx, veth):
    (first, second, third), order = tcx
    with first.attach_tcx(veth.name) as link:
        with pytest.raises(pylbpf.BpfError, match="update") as raised:
            link.update(second, old_program=third)
        assert raised.value.errno == errno.EPERM and order() == 1 and link.program == first
        link.update(second, old_program=first)
        assert order() == 2 and link.program == second
        link.update(third)
        assert order() == 3 and "third" in link.name
    assert order() == 0


def test_updated_link_belongs_to_the_new_programs_object(bpf_object, tcx, veth):
    (first, *_), order = tcx
    with loaded(bpf_object("net"), "second") as other:
        link = first.attach_tcx(veth.name)
        link.update(other.programs["second"])
        assert order() == 0  # counted in the other object's map
        veth.send(2)
        assert count(other, SECOND) >= 2
    assert link.closed


def test_tcx_link_that_is_dropped_warns_and_is_gone(tcx, veth):
    (first, *_), order = tcx
    with pytest.warns(ResourceWarning, match="was never closed"):
        first.attach_tcx(veth.name)
        gc.collect()
    assert order() == 0


def test_tcx_link_dies_with_its_object(net, veth):
    if reason := kernel.no_tcx():
        pytest.skip(reason)
    obj = net("first")
    link = obj.programs["first"].attach_tcx(veth.name)
    obj.close()
    assert link.closed


def test_forked_child_does_not_touch_the_parents_tcx_link(tcx, veth):
    (first, *_), order = tcx
    with first.attach_tcx(veth.name) as link:
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                for operation in (link.detach, lambda: link.update(first), link.info, lambda: first.attach_tcx(veth.name)):
                    with pytest.raises(pylbpf.StateError):
                        operation()
                link.close()
                status = 0
            finally:
                os._exit(status)
        assert os.waitpid(pid, 0)[1] == 0
        assert order() == 1


# ---------------------------------------------------------------- XDP


def test_xdp_link_in_generic_mode(bpf_object, veth):
    with pylbpf.open(bpf_object("xdp")) as obj:
        obj.load()
        packets = lambda: struct.unpack("=Q", obj.maps["packets"].lookup(bytes(4)))[0]  # noqa: E731
        with obj.programs["pass"].attach_xdp(veth.name, flags=XdpFlags.SKB_MODE) as link:
            assert link.info().ifindex == veth.index and link.program.name == "pass"
            shown = subprocess.run(["ip", "link", "show", "dev", veth.name], stdout=subprocess.PIPE, text=True).stdout
            assert "xdpgeneric" in shown
            before = packets()
            veth.send(2)
            assert packets() == before + 2
            link.update(obj.programs["pass_frags"])
            veth.send(2)
            assert packets() == before + 2
            link.detach()
            assert link.info().ifindex == 0
        with pytest.raises(pylbpf.BpfError, match="attach xdp"):
            obj.programs["pass"].attach_xdp(veth.name, flags=XdpFlags.HW_MODE)


def test_xdp_link_with_flags_is_pinned_disconnected_and_released_with_others(bpf_object, veth, bpffs):
    with pylbpf.open(bpf_object("xdp")) as obj:
        obj.load()
        attach = lambda: obj.programs["pass"].attach_xdp(veth.name, flags=XdpFlags.SKB_MODE)  # noqa: E731
        with attach() as link:
            assert link.pin_path is None
            link.pin(bpffs / "xdp")
            assert link.pin_path == str(bpffs / "xdp") and (bpffs / "xdp").exists()
            with pytest.raises(pylbpf.BpfError):
                link.pin(bpffs / "again")
            link.unpin()
            assert link.pin_path is None and not (bpffs / "xdp").exists()
            with pytest.raises(pylbpf.BpfError):
                link.unpin()
        fd = attach().disconnect()
        with pytest.raises(pylbpf.BpfError):
            attach()
        os.close(fd)
        link = attach()
        pylbpf.detach_many([link])
        assert link.closed
        attach().close()


# ---------------------------------------------------------------- cgroups


SEND = """
import os, socket, sys
with open(sys.argv[1] + "/cgroup.procs", "w") as procs:
    procs.write(str(os.getpid()))
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
    sender.sendto(b"x", ("127.0.0.1", 9))
"""


def test_cgroup_order(net, cgroup):
    needs_libbpf(6)
    obj = net("egress_first", "egress_second")
    first, second = obj.programs["egress_first"], obj.programs["egress_second"]

    def order() -> int:
        take(obj, ORDER)
        subprocess.run([sys.executable, "-c", SEND, str(cgroup)], check=True)
        return take(obj, ORDER)

    with first.attach_cgroup(cgroup) as anchor:
        try:
            link = second.attach_cgroup(cgroup, flags=AttachFlags.BEFORE, relative_fd=anchor)
        except pylbpf.BpfError as error:
            assert error.errno == errno.EINVAL
            pytest.skip("Linux >= 6.17: an order of what is attached to cgroups")
        with link:
            assert order() == 21
        with second.attach_cgroup(cgroup):
            assert order() == 12
    assert order() == 0


def test_cgroup_options_of_an_older_libbpf_name_the_version(net, cgroup):
    if VERSION >= (1, 6):
        pytest.skip("libbpf < 1.6: an older one lacks the options")
    with pytest.raises(pylbpf.NotSupported, match=r"a place in the order of cgroup needs libbpf 1\.6"):
        net("egress_first").programs["egress_first"].attach_cgroup(cgroup, flags=AttachFlags.BEFORE)


def test_cgroup_by_an_object_with_a_descriptor(net, cgroup):
    class Folder:
        fd = os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY)

        def fileno(self):
            return self.fd

    obj = net("egress_first")
    with obj.programs["egress_first"].attach_cgroup(Folder()) as link:
        os.close(Folder.fd)
        subprocess.run([sys.executable, "-c", SEND, str(cgroup)], check=True)
        assert take(obj, FIRST) == 1
        assert link.info().cgroup_id == cgroup.stat().st_ino
        link.detach()
        subprocess.run([sys.executable, "-c", SEND, str(cgroup)], check=True)
        assert take(obj, FIRST) == 0 and link.info().cgroup_id == 0


# ---------------------------------------------------------------- network name spaces


def test_netns_sees_lookups_of_sockets(net):
    obj = net("lookup")
    with socket.create_server(("127.0.0.1", 0)) as server:
        def connect() -> None:
            socket.create_connection(server.getsockname()).close()
            server.accept()[0].close()

        with obj.programs["lookup"].attach_netns("/proc/self/ns/net") as link:
            connect()
            assert take(obj, LOOKUP) >= 1
            assert link.info().netns_ino == os.stat("/proc/self/ns/net").st_ino
            link.update(obj.programs["lookup"])
            link.detach()
            connect()
            assert take(obj, LOOKUP) == 0
        with open("/proc/self/ns/net") as namespace:
            link = obj.programs["lookup"].attach_netns(namespace)
        connect()
        assert take(obj, LOOKUP) >= 1
        link.close()
        connect()
        assert take(obj, LOOKUP) == 0


def test_netns_that_is_none(net):
    program = net("lookup").programs["lookup"]
    with pytest.raises(FileNotFoundError, match="open network name space /there/is/no/such"):
        program.attach_netns("/there/is/no/such")
    with pytest.raises(pylbpf.BpfError, match="attach netns /proc/self/ns/pid"):
        program.attach_netns("/proc/self/ns/pid")


# ---------------------------------------------------------------- sockets in maps


@pytest.fixture
def pair():
    """Two connected TCP sockets."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        with socket.create_connection(server.getsockname()) as one:
            with server.accept()[0] as other:
                yield one, other


@pytest.mark.parametrize("name, slot", [("message", MESSAGE), ("stream", STREAM)])
def test_sockmap_link(net, pair, name, slot):
    obj = net(name)
    one, other = pair
    sockets = obj.maps["sockets"]
    try:
        link = obj.programs[name].attach_sockmap(sockets)
    except pylbpf.BpfError as error:
        assert error.errno in (errno.EINVAL, errno.EOPNOTSUPP)
        pytest.skip("Linux >= 6.10: links to sockmaps")
    with link:
        sockets.update(bytes(4), struct.pack("=Q", one.fileno()))
        if name == "message":
            one.sendall(b"x")
            assert other.recv(1) == b"x"
        else:
            other.sendall(b"x")
            assert one.recv(1) == b"x"
        assert take(obj, slot) >= 1
        assert link.info().map_id == sockets_id(sockets)
        sockets.delete(bytes(4))
    with pytest.raises(pylbpf.BpfError):
        obj.programs[name].attach_sockmap(obj.maps["counts"])


def sockets_id(map: pylbpf.Map) -> int:
    with open(f"/proc/self/fdinfo/{map.fileno()}") as info:
        return int(next(line.split()[1] for line in info if line.startswith("map_id")))


# ---------------------------------------------------------------- netfilter


def test_netfilter(net):
    if VERSION < (1, 3):
        obj = net("lookup")
        with pytest.raises(pylbpf.NotSupported, match=r"libbpf 1\.3"):
            obj.programs["lookup"].attach_netfilter(2, 1)
        return
    if reason := kernel.no_program_type(32, 45):
        pytest.skip(reason)
    obj = net("filter")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))

        def send() -> None:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                sender.sendto(b"x", receiver.getsockname())

        with obj.programs["filter"].attach_netfilter(socket.AF_INET, 1, priority=-77) as link:
            send()
            assert take(obj, FILTER) >= 1
            info = link.info()
            assert (info.pf, info.hooknum, info.priority) == (2, 1, -77)
            with pytest.raises(pylbpf.NotSupported, match="NETFILTER cannot be updated"):
                link.update(obj.programs["filter"])
        take(obj, FILTER)
        send()
        assert take(obj, FILTER) == 0
        with pytest.raises(pylbpf.BpfError, match="attach netfilter pf 2, hook 99"):
            obj.programs["filter"].attach_netfilter(2, 99)


# ---------------------------------------------------------------- netkit


def test_netkit(net):
    name = f"plbnk{os.getpid() % 0x10000:x}"
    if reason := kernel.no_device("netkit", name, "netkit"):
        pytest.skip(reason)
    try:
        obj = net("first", first=AttachType.NETKIT_PRIMARY)
        with obj.programs["first"].attach_netkit(name) as link:
            assert link.info().ifindex == socket.if_nametoindex(name)
    finally:
        subprocess.run(["ip", "link", "del", name], check=False)
