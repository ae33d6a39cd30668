"""What the kernel says about one link: a class for each kind, of what it is attached to."""
from __future__ import annotations

from dataclasses import dataclass
from struct import unpack, unpack_from
from typing import Callable

from .enums import AttachType, IterOrder, LinkType
from .info import read_link


@dataclass(frozen=True)
class LinkInfo:
    """What the kernel says about one link of any kind.

    ``type`` (LinkType), ``id``, ``prog_id`` of the program that is attached, 0 for a struct_ops link. What it is attached
    to is in the class of its kind: RawTracepointLinkInfo, TracingLinkInfo, CgroupLinkInfo, IterLinkInfo, NetnsLinkInfo,
    InterfaceLinkInfo, PerfEventLinkInfo, KprobeMultiLinkInfo, UprobeMultiLinkInfo, MapLinkInfo, NetfilterLinkInfo of
    pylbpf.linkinfo. Source: bpf_link_get_info_by_fd().
    """

    type: LinkType
    id: int
    prog_id: int


@dataclass(frozen=True)
class RawTracepointLinkInfo(LinkInfo):
    """``tp_name`` and ``cookie`` (0 where the kernel does not tell it)."""

    tp_name: str
    cookie: int


@dataclass(frozen=True)
class TracingLinkInfo(LinkInfo):
    """``target_obj_id`` is a program's number for freplace, else that of the BTF that ``target_btf_id`` is in."""

    attach_type: AttachType
    target_obj_id: int
    target_btf_id: int
    cookie: int


@dataclass(frozen=True)
class CgroupLinkInfo(LinkInfo):
    """``cgroup_id`` is the inode of the cgroup's folder, 0 once detached."""

    cgroup_id: int
    attach_type: AttachType


@dataclass(frozen=True)
class IterLinkInfo(LinkInfo):
    """``target_name`` ("task", "bpf_map_elem"), and what it was limited to, 0 for nothing."""

    target_name: str
    map_id: int = 0
    cgroup_id: int = 0
    order: IterOrder = IterOrder.UNSPEC
    tid: int = 0
    pid: int = 0


@dataclass(frozen=True)
class NetnsLinkInfo(LinkInfo):
    """``netns_ino`` is the inode of the name space, 0 once detached."""

    netns_ino: int
    attach_type: AttachType


@dataclass(frozen=True)
class InterfaceLinkInfo(LinkInfo):
    """Of xdp, tcx and netkit: ``ifindex``, 0 once detached or when the interface is gone."""

    ifindex: int
    attach_type: AttachType


@dataclass(frozen=True)
class PerfEventLinkInfo(LinkInfo):
    """``kind`` is "uprobe", "uretprobe", "kprobe", "kretprobe", "tracepoint", "event", or "" where the kernel does not tell.

    ``name`` of the function, file or tracepoint, ``offset`` from it, ``addr`` of a kprobe, ``missed`` calls of it,
    ``config`` and ``event_type`` of any other event, ``cookie``.
    """

    kind: str
    name: str = ""
    offset: int = 0
    addr: int = 0
    missed: int = 0
    cookie: int = 0
    ref_ctr_offset: int = 0
    config: int = 0
    event_type: int = 0


@dataclass(frozen=True)
class KprobeMultiLinkInfo(LinkInfo):
    """``addrs`` (0 each without the right to see them), ``cookies``, ``flags`` (1: at return), ``missed`` calls."""

    addrs: tuple[int, ...]
    cookies: tuple[int, ...]
    flags: int
    missed: int


@dataclass(frozen=True)
class UprobeMultiLinkInfo(LinkInfo):
    """``path``, ``offsets``, ``ref_ctr_offsets``, ``cookies``, ``flags`` (1: at return), ``pid`` (0: all)."""

    path: str
    offsets: tuple[int, ...]
    ref_ctr_offsets: tuple[int, ...]
    cookies: tuple[int, ...]
    flags: int
    pid: int


@dataclass(frozen=True)
class MapLinkInfo(LinkInfo):
    """Of sockmap and struct_ops: ``map_id``; ``attach_type`` of sockmap."""

    map_id: int
    attach_type: AttachType


@dataclass(frozen=True)
class NetfilterLinkInfo(LinkInfo):
    """``pf``, ``hooknum``, ``priority``, ``flags``, as they were given."""

    pf: int
    hooknum: int
    priority: int
    flags: int


Common = tuple[LinkType, int, int]
PERF_KINDS = ("", "uprobe", "uretprobe", "kprobe", "kretprobe", "tracepoint", "event")


def numbers(array: bytes) -> tuple[int, ...]:
    return unpack(f"={len(array) // 8}Q", array)


def iterator(common: Common, raw: bytes, text: str, _: list[bytes]) -> LinkInfo:
    if text == "bpf_map_elem" or text == "bpf_sk_storage_map":
        return IterLinkInfo(*common, text, map_id=unpack_from("=I", raw, 28)[0])
    if text == "cgroup":
        cgroup, order = unpack_from("=QI", raw, 32)
        return IterLinkInfo(*common, text, cgroup_id=cgroup, order=IterOrder(order))
    if text.startswith("task"):
        tid, pid = unpack_from("=II", raw, 32)
        return IterLinkInfo(*common, text, tid=tid, pid=pid)
    return IterLinkInfo(*common, text)


def perf_event(common: Common, raw: bytes, text: str, _: list[bytes]) -> LinkInfo:
    number: int = unpack_from("=I", raw, 16)[0]
    kind = PERF_KINDS[number] if number < len(PERF_KINDS) else ""
    if kind.startswith("u"):
        offset, cookie, counter = unpack_from("=IQQ", raw, 36)
        return PerfEventLinkInfo(*common, kind, text, offset, cookie=cookie, ref_ctr_offset=counter)
    if kind.startswith("k"):
        offset, addr, missed, cookie = unpack_from("=IQQQ", raw, 36)
        return PerfEventLinkInfo(*common, kind, text, offset, addr, missed, cookie)
    if kind == "tracepoint":
        return PerfEventLinkInfo(*common, kind, text, cookie=unpack_from("=Q", raw, 40)[0])
    if kind == "event":
        config, event_type, _pad, cookie = unpack_from("=QIIQ", raw, 24)
        return PerfEventLinkInfo(*common, kind, cookie=cookie, config=config, event_type=event_type)
    return PerfEventLinkInfo(*common, kind)


def kprobe_multi(common: Common, raw: bytes, _: str, arrays: list[bytes]) -> LinkInfo:
    flags, missed = unpack_from("=IQ", raw, 28)
    addrs, cookies = (numbers(array) for array in arrays or (b"", b""))
    return KprobeMultiLinkInfo(*common, addrs, cookies, flags, missed)


def uprobe_multi(common: Common, raw: bytes, text: str, arrays: list[bytes]) -> LinkInfo:
    flags, pid = unpack_from("=II", raw, 56)
    offsets, counters, cookies = (numbers(array) for array in arrays or (b"", b"", b""))
    return UprobeMultiLinkInfo(*common, text, offsets, counters, cookies, flags, pid)


def raw_tracepoint(common: Common, raw: bytes, text: str, _: list[bytes]) -> LinkInfo:
    return RawTracepointLinkInfo(*common, text, unpack_from("=Q", raw, 32)[0])


def tracing(common: Common, raw: bytes, _: str, __: list[bytes]) -> LinkInfo:
    attach_type, obj, btf, _pad, cookie = unpack_from("=IIIIQ", raw, 16)
    return TracingLinkInfo(*common, AttachType(attach_type), obj, btf, cookie)


def cgroup(common: Common, raw: bytes, _: str, __: list[bytes]) -> LinkInfo:
    id, attach_type = unpack_from("=QI", raw, 16)
    return CgroupLinkInfo(*common, id, AttachType(attach_type))


def netns(common: Common, raw: bytes, _: str, __: list[bytes]) -> LinkInfo:
    inode, attach_type = unpack_from("=II", raw, 16)
    return NetnsLinkInfo(*common, inode, AttachType(attach_type))


def interface(common: Common, raw: bytes, _: str, __: list[bytes]) -> LinkInfo:
    ifindex, attach_type = unpack_from("=II", raw, 16)
    return InterfaceLinkInfo(*common, ifindex, AttachType.XDP if common[0] == LinkType.XDP else AttachType(attach_type))


def of_map(common: Common, raw: bytes, _: str, __: list[bytes]) -> LinkInfo:
    map_id, attach_type = unpack_from("=II", raw, 16)
    return MapLinkInfo(*common, map_id,
                       AttachType.STRUCT_OPS if common[0] == LinkType.STRUCT_OPS else AttachType(attach_type))


def netfilter(common: Common, raw: bytes, _: str, __: list[bytes]) -> LinkInfo:
    return NetfilterLinkInfo(*common, *unpack_from("=IIiI", raw, 16))


KINDS: dict[LinkType, Callable[[Common, bytes, str, list[bytes]], LinkInfo]] = {
    LinkType.RAW_TRACEPOINT: raw_tracepoint, LinkType.TRACING: tracing, LinkType.CGROUP: cgroup, LinkType.ITER: iterator,
    LinkType.NETNS: netns, LinkType.XDP: interface, LinkType.PERF_EVENT: perf_event,
    LinkType.KPROBE_MULTI: kprobe_multi, LinkType.STRUCT_OPS: of_map, LinkType.NETFILTER: netfilter,
    LinkType.TCX: interface, LinkType.UPROBE_MULTI: uprobe_multi, LinkType.NETKIT: interface, LinkType.SOCKMAP: of_map,
}


def link_info(fd: int) -> LinkInfo:
    """Ask about an open descriptor."""
    return make_link_info(*read_link(fd))


def make_link_info(raw: bytes, text: str, arrays: list[bytes]) -> LinkInfo:
    """Of struct bpf_link_info, the text and the arrays that its pointers led to."""
    type, id, prog_id = unpack_from("=III", raw)
    common = LinkType(type), id, prog_id
    kind = KINDS.get(common[0])
    return LinkInfo(*common) if kind is None else kind(common, raw, text, arrays)
