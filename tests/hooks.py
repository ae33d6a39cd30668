"""Every kind of link: how to attach, what makes the program run, and what the kernel lets one do with the link."""
from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import struct
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Iterator, Optional

import pytest

import kernel
import pylbpf
import usdt
from pylbpf import AttachType, ProgramType

NOT_THERE = "there_is_no_such"
PACKET_FANOUT, PACKET_FANOUT_HASH = 18, 0
KPROBE, CLS = ProgramType.KPROBE, ProgramType.SCHED_CLS


@dataclass(frozen=True)
class Kind:
    """`attach` and `trip` are given the place; `wrong` attaches the program to what is not there, or where it cannot be."""

    attach: Callable[[pylbpf.Program, "Place"], pylbpf.Link]
    trip: Callable[["Place"], None]
    needs: Callable[[], str]
    wrong: Callable[[pylbpf.Program], object]
    programs: str = ""              # of every.bpf.c, if not the name of the kind
    type: Any = None                # for a libbpf that does not know the section
    libbpf: int = 1                 # the least minor version
    target: str = ""                # set by set_attach_target()
    updates: bool = False
    detaches: bool = False
    rights: bool = False            # attaching needs them, not just loading
    where: Optional[Callable[["Place"], Any]] = None  # what query.attached() asks


class Place:
    """What a test attaches to, made when it is asked for."""

    def __init__(self, request: pytest.FixtureRequest, stack: contextlib.ExitStack, obj: pylbpf.Object) -> None:
        self.request, self.stack, self.obj = request, stack, obj
        self.iterator = -1

    @property
    def veth(self) -> Any:
        return self.request.getfixturevalue("veth")

    @property
    def cgroup(self) -> Path:
        return self.request.getfixturevalue("cgroup")

    @property
    def netkit(self) -> str:
        if not hasattr(self, "device"):
            name = f"plk{os.getpid() % 0x10000:x}"
            if reason := kernel.no_device("netkit", name, "netkit"):
                pytest.skip(reason)
            self.stack.callback(subprocess.run, ["ip", "link", "del", name], check=False)
            for each in (name, peer_of(name)):
                subprocess.run(["ip", "link", "set", each, "up"], check=True)
            self.device = name
        return self.device

    @property
    def event(self) -> int:
        if not hasattr(self, "perf_event"):
            self.perf_event = kernel.perf_event_open(1, 0, frequency=999, pid=0, cpu=-1)
            self.stack.callback(os.close, self.perf_event)
        return self.perf_event


def peer_of(name: str) -> str:
    index = Path(f"/sys/class/net/{name}/iflink").read_text().strip()
    return next(each for number, each in socket.if_nameindex() if str(number) == index)


# ---------------------------------------------------------------- what makes programs run


def sleep(place: Place) -> None:
    time.sleep(0.001)


def rename(place: Place) -> None:
    kernel.rename_task()


def probe(place: Place) -> None:
    usdt.trip()


def open_file(place: Place) -> None:
    open("/dev/null").close()


def work(place: Place) -> None:
    end = time.process_time() + 0.05
    while time.process_time() < end:
        pass


def frame(place: Place) -> None:
    place.veth.send()


def through_netkit(place: Place) -> None:
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sender:
        sender.bind((place.netkit, 0x0800))
        sender.send(bytes.fromhex("4500001c000000004011") + bytes(2) + socket.inet_aton("10.9.9.1")
                    + socket.inet_aton("10.9.9.2") + struct.pack(">4H", 9, 9, 8, 0))


def datagram(place: Place) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"x", receiver.getsockname())
        assert receiver.recvfrom(1)[0] == b"x"


def connection(place: Place) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        with socket.create_connection(server.getsockname()) as one, server.accept()[0] as other:
            one.getpeername(), one.getsockname()
            other.sendall(b"x")
            assert one.recv(1) == b"x"


def hashed(place: Place) -> None:
    """Packets that are shared out by their flow are dissected."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)) as listener:
        listener.bind(("lo", 3))
        listener.setsockopt(socket.SOL_PACKET if hasattr(socket, "SOL_PACKET") else 263, PACKET_FANOUT,
                            os.getpid() & 0xFFFF | PACKET_FANOUT_HASH << 16)
        datagram(place)


def in_sockmap(place: Place) -> None:
    sockets = place.obj.maps["sockets"]
    with socket.create_server(("127.0.0.1", 0)) as server:
        with socket.create_connection(server.getsockname()) as one, server.accept()[0] as other:
            sockets.update(bytes(4), struct.pack("=Q", one.fileno()))
            for sender, receiver in ((one, other), (other, one)):
                sender.sendall(b"x")
                assert receiver.recv(1) == b"x"
            sockets.delete(bytes(4))


def options(place: Place) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR)


def settings(place: Place) -> None:
    Path("/proc/sys/kernel/pid_max").read_text()


def within(trip: Callable[[Place], None]) -> Callable[[Place], None]:
    """The same, by a process in the cgroup."""
    def run(place: Place) -> None:
        procs = place.cgroup / "cgroup.procs"
        child = os.fork()
        if child == 0:
            status = 1
            try:
                procs.write_text(str(os.getpid()))
                trip(place)
                status = 0
            finally:
                os._exit(status)
        assert os.waitpid(child, 0)[1] == 0

    return run


# ---------------------------------------------------------------- the kinds


def attach_iter(program: pylbpf.Program, place: Place) -> pylbpf.Link:
    link = program.attach_iter()
    place.iterator = link.fileno()
    return link


def iterate(place: Place) -> None:
    """The program of an iterator runs when somebody reads."""
    with contextlib.suppress(OSError):
        with open(kernel.bpf(kernel.ITER_CREATE, struct.pack("=iI", place.iterator, 0)), "rb") as lines:
            lines.read()


def function(attach: Callable[..., pylbpf.Link], **more: Any) -> dict[str, Any]:
    return dict(attach=lambda program, place: attach(program, "do_nanosleep", **more), trip=sleep,
                wrong=lambda program: attach(program, NOT_THERE, **more))


def in_library(attach: str, *names: Any, **more: Any) -> dict[str, Any]:
    return dict(
        attach=lambda program, place: getattr(program, attach)(usdt.library(), *names, pid=0, **more), trip=probe,
        wrong=lambda program: getattr(program, attach)("/there/is/no/such", *names, pid=0, **more))


def by_type(trip: Callable[[Place], None], **more: Any) -> dict[str, Any]:
    """What the program is attached to is a part of it since it was loaded."""
    return dict(attach=lambda program, place: program.attach_trace(), trip=trip,
                wrong=lambda program: program.attach_perf_event(0), **more)


def on_cgroup(trip: Callable[[Place], None], **more: Any) -> Kind:
    return Kind(lambda program, place: program.attach_cgroup(place.cgroup), within(trip), kernel.no_bpf,
                lambda program: program.attach_cgroup("/proc/self"), updates=True, detaches=True,
                where=lambda place: place.cgroup, **more)


def on_netns(trip: Callable[[Place], None]) -> Kind:
    return Kind(lambda program, place: program.attach_netns("/proc/self/ns/net"), trip, kernel.no_bpf,
                lambda program: program.attach_netns("/proc/self/ns/pid"), updates=True, detaches=True,
                where=lambda place: "/proc/self/ns/net")


def on_sockmap() -> Kind:
    return Kind(lambda program, place: program.attach_sockmap(place.obj.maps["sockets"]), in_sockmap, kernel.no_sockmap_link,
                lambda program: program.attach_sockmap(program.object.maps["counts"]), updates=True, detaches=True)


P = pylbpf.Program
KINDS = {
    "kprobe": Kind(**function(P.attach_kprobe), needs=kernel.no_kprobe, rights=True),
    "kretprobe": Kind(**function(P.attach_kprobe, retprobe=True), needs=kernel.no_kprobe, programs="kprobe", rights=True),
    "ksyscall": Kind(lambda program, place: program.attach_ksyscall("clock_nanosleep"), sleep, kernel.no_kprobe,
                     lambda program: program.attach_ksyscall(NOT_THERE), rights=True),
    "kprobe_multi": Kind(**function(P.attach_kprobe_multi), needs=kernel.no_kprobe_multi,
                         type=(KPROBE, AttachType.TRACE_KPROBE_MULTI)),
    "kretprobe_multi": Kind(**function(P.attach_kprobe_multi, retprobe=True), needs=kernel.no_kprobe_multi,
                            type=(KPROBE, AttachType.TRACE_KPROBE_MULTI), programs="kprobe_multi"),
    "kprobe_session": Kind(**function(P.attach_kprobe_multi, session=True), needs=kernel.no_kprobe_session,
                           type=(KPROBE, AttachType.TRACE_KPROBE_SESSION), libbpf=5),
    "uprobe": Kind(**in_library("attach_uprobe", function="probe"), needs=kernel.no_uprobe, rights=True),
    "uretprobe": Kind(**in_library("attach_uprobe", function="probe", retprobe=True), needs=kernel.no_uprobe,
                      programs="uprobe", rights=True),
    "uprobe_multi": Kind(**in_library("attach_uprobe_multi", "probe"), needs=kernel.no_uprobe_multi,
                         type=(KPROBE, AttachType.TRACE_UPROBE_MULTI), libbpf=3),
    "uprobe_session": Kind(**in_library("attach_uprobe_multi", "probe", session=True), needs=kernel.no_uprobe_session,
                           type=(KPROBE, AttachType.TRACE_UPROBE_SESSION), libbpf=6),
    "usdt": Kind(**in_library("attach_usdt", "pylbpf", "probe"), needs=kernel.no_uprobe, programs="u"),
    "tracepoint": Kind(lambda program, place: program.attach_tracepoint("task", "task_rename"), rename,
                       kernel.no_tracepoint, lambda program: program.attach_tracepoint("task", NOT_THERE), rights=True),
    "raw_tp": Kind(lambda program, place: program.attach_raw_tracepoint("task_rename"), rename, kernel.no_bpf,
                   lambda program: program.attach_raw_tracepoint(NOT_THERE)),
    "tp_btf": Kind(**by_type(rename, needs=kernel.no_btf)),
    "fentry": Kind(**by_type(sleep, needs=kernel.no_fentry)),
    "fexit": Kind(**by_type(sleep, needs=kernel.no_fentry)),
    "fmod_ret": Kind(**by_type(open_file, needs=kernel.no_fmod_ret)),
    "fsession": Kind(**by_type(sleep, needs=kernel.no_fsession), type=(ProgramType.TRACING, AttachType.TRACE_FSESSION),
                     target="do_nanosleep", libbpf=7),
    "lsm": Kind(lambda program, place: program.attach_lsm(), open_file, kernel.no_lsm,
                lambda program: program.attach_cgroup("/proc/self")),
    "lsm_cgroup": Kind(lambda program, place: program.attach_cgroup(place.cgroup), within(connection),
                       kernel.no_lsm, lambda program: program.attach_cgroup("/proc/self"), updates=True, detaches=True),
    "iter": Kind(attach_iter, iterate, kernel.no_btf,
                 lambda program: program.attach_perf_event(0), updates=True),
    "perf_event": Kind(lambda program, place: program.attach_perf_event(place.event), work, kernel.no_perf_event,
                       lambda program: program.attach_perf_event(0)),
    "xdp": Kind(lambda program, place: program.attach_xdp(place.veth.name), frame, kernel.no_net_admin,
                lambda program: program.attach_xdp(NOT_THERE[:15]), updates=True, detaches=True),
    "tcx": Kind(lambda program, place: program.attach_tcx(place.veth.name), frame, kernel.no_tcx,
                lambda program: program.attach_tcx(NOT_THERE[:15]), type=(CLS, AttachType.TCX_INGRESS), libbpf=3,
                updates=True, detaches=True, where=lambda place: place.veth.name),
    "netkit": Kind(lambda program, place: program.attach_netkit(place.netkit), through_netkit, kernel.no_netkit,
                   lambda program: program.attach_netkit("lo"), type=(CLS, AttachType.NETKIT_PRIMARY), libbpf=3,
                   updates=True, detaches=True, where=lambda place: place.netkit),
    "netfilter": Kind(lambda program, place: program.attach_netfilter(socket.AF_INET, 1, priority=-77), datagram,
                      lambda: kernel.no_program_type(32, 45), lambda program: program.attach_netfilter(2, 99),
                      type=(ProgramType.NETFILTER, AttachType.NETFILTER), libbpf=3, detaches=True),
    "sk_lookup": on_netns(connection),
    "flow_dissector": on_netns(hashed),
    "sk_msg": on_sockmap(),
    "sk_skb": on_sockmap(),
    "egress": on_cgroup(datagram),
    "ingress": on_cgroup(datagram),
    "sock_create": on_cgroup(datagram),
    "sock_release": on_cgroup(datagram),
    "bind4": on_cgroup(datagram),
    "post_bind4": on_cgroup(datagram),
    "connect4": on_cgroup(connection),
    "sendmsg4": on_cgroup(datagram),
    "recvmsg4": on_cgroup(datagram),
    "getsockname4": on_cgroup(connection),
    "getpeername4": on_cgroup(connection),
    "setsockopt": on_cgroup(options),
    "getsockopt": on_cgroup(options),
    "sockops": on_cgroup(connection),
    "dev": on_cgroup(open_file),
    "sysctl": on_cgroup(settings),
}


@contextlib.contextmanager
def opened(name: str, kind: Kind, path: Callable[[str], Path]) -> Iterator[tuple[pylbpf.Object, list[pylbpf.Program]]]:
    """An object with the two programs of the kind, loaded, or the test is skipped."""
    if reason := kind.needs():
        pytest.skip(reason)
    if pylbpf.libbpf_version() < (1, kind.libbpf):
        pytest.skip(f"libbpf >= 1.{kind.libbpf}: {name}")
    with pylbpf.open(usdt.build(2) if name == "usdt" else path("every")) as obj:
        prefix = kind.programs or name
        chosen = [obj.programs[f"u{number}" if name == "usdt" else f"{prefix}_{number}"] for number in (0, 1)]
        for program in chosen:
            program.autoload = True
            if kind.type:
                program.type, program.expected_attach_type = kind.type
            if kind.target:
                program.set_attach_target(kind.target)
        obj.load()
        yield obj, chosen


def drop_rights() -> None:
    """This process becomes nobody, who may do nothing."""
    os.setgroups([])
    os.setresgid(65534, 65534, 65534)
    os.setresuid(65534, 65534, 65534)
    ctypes.CDLL(None).prctl(4, 1)  # PR_SET_DUMPABLE: /proc/self stays readable
