"""Constants of the kernel and of libbpf, without their common prefix.

Numbers follow linux/bpf.h; members of kernels newer than the running one are listed too, the kernel refuses them. Each
enumeration is made when it is first asked for: all together would take as long as importing the rest of pylbpf.
"""
from enum import IntEnum, IntFlag


class _Names(IntEnum):
    """An IntEnum that also takes numbers it does not know, as kernels are newer than libraries."""

    @classmethod
    def _missing_(cls, value):
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            return None
        member = int.__new__(cls, value)
        member._name_ = f"UNKNOWN_{value}"
        member._value_ = value
        return member


# What it is in C, and its members, numbered from 0.
_NUMBERED = {
    "ProgramType": ("enum bpf_prog_type.", """
        UNSPEC SOCKET_FILTER KPROBE SCHED_CLS SCHED_ACT TRACEPOINT XDP PERF_EVENT CGROUP_SKB CGROUP_SOCK LWT_IN LWT_OUT
        LWT_XMIT SOCK_OPS SK_SKB CGROUP_DEVICE SK_MSG RAW_TRACEPOINT CGROUP_SOCK_ADDR LWT_SEG6LOCAL LIRC_MODE2
        SK_REUSEPORT FLOW_DISSECTOR CGROUP_SYSCTL RAW_TRACEPOINT_WRITABLE CGROUP_SOCKOPT TRACING STRUCT_OPS EXT LSM
        SK_LOOKUP SYSCALL NETFILTER
        """),
    "AttachType": ("enum bpf_attach_type.", """
        CGROUP_INET_INGRESS CGROUP_INET_EGRESS CGROUP_INET_SOCK_CREATE CGROUP_SOCK_OPS SK_SKB_STREAM_PARSER
        SK_SKB_STREAM_VERDICT CGROUP_DEVICE SK_MSG_VERDICT CGROUP_INET4_BIND CGROUP_INET6_BIND CGROUP_INET4_CONNECT
        CGROUP_INET6_CONNECT CGROUP_INET4_POST_BIND CGROUP_INET6_POST_BIND CGROUP_UDP4_SENDMSG CGROUP_UDP6_SENDMSG
        LIRC_MODE2 FLOW_DISSECTOR CGROUP_SYSCTL CGROUP_UDP4_RECVMSG CGROUP_UDP6_RECVMSG CGROUP_GETSOCKOPT
        CGROUP_SETSOCKOPT TRACE_RAW_TP TRACE_FENTRY TRACE_FEXIT MODIFY_RETURN LSM_MAC TRACE_ITER
        CGROUP_INET4_GETPEERNAME CGROUP_INET6_GETPEERNAME CGROUP_INET4_GETSOCKNAME CGROUP_INET6_GETSOCKNAME XDP_DEVMAP
        CGROUP_INET_SOCK_RELEASE XDP_CPUMAP SK_LOOKUP XDP SK_SKB_VERDICT SK_REUSEPORT_SELECT
        SK_REUSEPORT_SELECT_OR_MIGRATE PERF_EVENT TRACE_KPROBE_MULTI LSM_CGROUP STRUCT_OPS NETFILTER TCX_INGRESS
        TCX_EGRESS TRACE_UPROBE_MULTI CGROUP_UNIX_CONNECT CGROUP_UNIX_SENDMSG CGROUP_UNIX_RECVMSG
        CGROUP_UNIX_GETPEERNAME CGROUP_UNIX_GETSOCKNAME NETKIT_PRIMARY NETKIT_PEER TRACE_KPROBE_SESSION
        TRACE_UPROBE_SESSION TRACE_FSESSION
        """),
    "MapType": ("enum bpf_map_type.", """
        UNSPEC HASH ARRAY PROG_ARRAY PERF_EVENT_ARRAY PERCPU_HASH PERCPU_ARRAY STACK_TRACE CGROUP_ARRAY LRU_HASH
        LRU_PERCPU_HASH LPM_TRIE ARRAY_OF_MAPS HASH_OF_MAPS DEVMAP SOCKMAP CPUMAP XSKMAP SOCKHASH CGROUP_STORAGE
        REUSEPORT_SOCKARRAY PERCPU_CGROUP_STORAGE QUEUE STACK SK_STORAGE DEVMAP_HASH STRUCT_OPS RINGBUF INODE_STORAGE
        TASK_STORAGE BLOOM_FILTER USER_RINGBUF CGRP_STORAGE ARENA INSN_ARRAY
        """),
    "LinkType": ("enum bpf_link_type.", """
        UNSPEC RAW_TRACEPOINT TRACING CGROUP ITER NETNS XDP PERF_EVENT KPROBE_MULTI STRUCT_OPS NETFILTER TCX UPROBE_MULTI
        NETKIT SOCKMAP
        """),
    "BtfKind": ("Kinds of types (BTF_KIND_…); VOID is BTF_KIND_UNKN.", """
        VOID INT PTR ARRAY STRUCT UNION ENUM FWD TYPEDEF VOLATILE CONST RESTRICT FUNC FUNC_PROTO VAR DATASEC FLOAT DECL_TAG
        TYPE_TAG ENUM64
        """),
    "State": ("The phases of an object. libbpf has no getter for them, so they are kept here.",
        "OPENING OPEN PREPARED LOADED FAILED CLOSED"),
    "LogLevel": ("enum libbpf_print_level.", "WARN INFO DEBUG"),
    "ProbeAttachMode": ("enum probe_attach_mode of libbpf.", "DEFAULT LEGACY PERF LINK"),
    "IterOrder": ("enum bpf_cgroup_iter_order.", "UNSPEC SELF_ONLY DESCENDANTS_PRE DESCENDANTS_POST ANCESTORS_UP"),
}
# Which they are, and each with its number.
_FLAGS = {
    "ProgramFlags": ("Flags of BPF_PROG_LOAD (BPF_F_…).", {
        "STRICT_ALIGNMENT": 1 << 0, "ANY_ALIGNMENT": 1 << 1, "TEST_RND_HI32": 1 << 2, "TEST_STATE_FREQ": 1 << 3,
        "SLEEPABLE": 1 << 4, "XDP_HAS_FRAGS": 1 << 5, "XDP_DEV_BOUND_ONLY": 1 << 6, "TEST_REG_INVARIANTS": 1 << 7,
        "TOKEN_FD": 1 << 16,
    }),
    "MapFlags": ("Flags of BPF_MAP_CREATE (BPF_F_…).", {
        "NO_PREALLOC": 1 << 0, "NO_COMMON_LRU": 1 << 1, "NUMA_NODE": 1 << 2, "RDONLY": 1 << 3, "WRONLY": 1 << 4,
        "STACK_BUILD_ID": 1 << 5, "ZERO_SEED": 1 << 6, "RDONLY_PROG": 1 << 7, "WRONLY_PROG": 1 << 8, "CLONE": 1 << 9,
        "MMAPABLE": 1 << 10, "PRESERVE_ELEMS": 1 << 11, "INNER_MAP": 1 << 12, "LINK": 1 << 13, "PATH_FD": 1 << 14,
        "VTYPE_BTF_OBJ_FD": 1 << 15, "TOKEN_FD": 1 << 16, "SEGV_ON_FAULT": 1 << 17, "NO_USER_CONV": 1 << 18,
        "RB_OVERWRITE": 1 << 19,
    }),
    "UpdateFlags": ("Flags of an element update or lookup (BPF_ANY, BPF_NOEXIST, BPF_EXIST, BPF_F_LOCK).", {
        "ANY": 0, "NOEXIST": 1, "EXIST": 2, "LOCK": 4,
    }),
    "AttachFlags": ("Flags of an attachment (BPF_F_…): BEFORE, AFTER, REPLACE a program or LINK, given by descriptor or ID.", {
        "ALLOW_OVERRIDE": 1 << 0, "ALLOW_MULTI": 1 << 1, "REPLACE": 1 << 2, "BEFORE": 1 << 3, "AFTER": 1 << 4,
        "ID": 1 << 5, "PREORDER": 1 << 6, "LINK": 1 << 13,
    }),
    "XdpFlags": ("Flags of an XDP attachment (XDP_FLAGS_…).", {
        "UPDATE_IF_NOEXIST": 1 << 0, "SKB_MODE": 1 << 1, "DRV_MODE": 1 << 2, "HW_MODE": 1 << 3, "REPLACE": 1 << 4,
    }),
}


def __getattr__(name: str) -> type:
    if name in _NUMBERED:
        doc, members = _NUMBERED[name]
        made: type = _Names(name, members, module=__name__, start=0)
    elif name in _FLAGS:
        doc, flags = _FLAGS[name]
        made = IntFlag(name, flags, module=__name__)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    made.__doc__ = doc
    return globals().setdefault(name, made)  # what another thread has made meanwhile is the one


def __dir__() -> list[str]:
    return sorted({*globals(), *_NUMBERED, *_FLAGS})
