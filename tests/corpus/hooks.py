"""One kind of object for each family of sections that libbpf knows, with all the family's sections in its variants."""
from __future__ import annotations

import functools
from random import Random

from .text import Kind, plain, program, source, work

VARIANTS = 5  # from so many on, every section has been in one

FAMILIES: dict[str, tuple[str, str, list[str]]] = {
    # name: what it needs, what it comes to, its sections
    "kprobe": ("", "loads", ["kprobe/do_nanosleep", "kretprobe/do_nanosleep", "ksyscall/nanosleep",
                             "kretsyscall/nanosleep", "kprobe", "kprobe/vfs_read+4"]),
    "kprobe_multi": ("", "loads", ["kprobe.multi/tcp_v4_*", "kretprobe.multi/tcp_v4_*", "kprobe.multi"]),
    "kprobe_session": ("libbpf 1.5", "loads", ["kprobe.session/tcp_v4_*"]),
    "uprobe": ("", "loads", ["uprobe//proc/self/exe:main", "uretprobe//proc/self/exe:main", "uprobe",
                             "uprobe.s//proc/self/exe:main", "uretprobe.s//proc/self/exe:main"]),
    "uprobe_multi": ("libbpf 1.3", "loads", ["uprobe.multi//proc/self/exe:a*", "uretprobe.multi//proc/self/exe:a*",
                                             "uprobe.multi.s//proc/self/exe:a*",
                                             "uretprobe.multi.s//proc/self/exe:a*"]),
    "uprobe_session": ("libbpf 1.6", "loads", ["uprobe.session//proc/self/exe:a*",
                                               "uprobe.session.s//proc/self/exe:a*"]),
    "usdt": ("", "loads", ["usdt//proc/self/exe:some:thing", "usdt"]),
    "usdt_sleepable": ("libbpf 1.3", "loads", ["usdt.s//proc/self/exe:some:thing"]),
    "tracepoint": ("", "loads", ["tp/task/task_rename", "tracepoint/task/task_rename", "tp/sched/sched_switch",
                                 "tracepoint/syscalls/sys_enter_openat", "tp"]),
    "raw_tracepoint": ("", "loads", ["raw_tp/task_rename", "raw_tracepoint/sys_enter", "raw_tp.w/task_rename",
                                     "raw_tracepoint.w/task_rename", "raw_tp"]),
    "tp_btf": ("btf", "loads", ["tp_btf/sched_switch", "tp_btf/task_rename", "tp_btf/sched_process_exit"]),
    "fentry": ("fentry", "loads", ["fentry/do_nanosleep", "fexit/do_nanosleep", "fmod_ret/security_file_open"]),
    "fentry_sleepable": ("sleepable_fentry", "loads", ["fentry.s/bpf_fentry_test1", "fexit.s/bpf_fentry_test1",
                                                       "fmod_ret.s/bpf_fentry_test1"]),
    "fsession": ("libbpf 1.7, fsession", "loads", ["fsession/do_nanosleep", "fsession.s/bpf_fentry_test1"]),
    "freplace": ("btf", "rejected", ["freplace/what_is_not_there", "freplace"]),
    "iter": ("btf", "loads", ["iter/task", "iter/bpf_map", "iter.s/task", "iter/bpf_prog", "iter/task_file"]),
    "lsm": ("lsm", "loads", ["lsm/file_open", "lsm.s/file_open", "lsm/bpf"]),
    "lsm_cgroup": ("lsm", "loads", ["lsm_cgroup/socket_bind"]),
    "perf_event": ("", "loads", ["perf_event"]),
    "syscall": ("", "loads", ["syscall"]),
    "lirc": ("program type 20", "loads", ["lirc_mode2"]),
    "xdp": ("", "loads", ["xdp", "xdp/devmap", "xdp/cpumap", "xdp.frags", "xdp.frags/devmap", "xdp.frags/cpumap"]),
    "tc": ("", "loads", ["tc", "classifier", "action"]),
    "tcx": ("libbpf 1.3", "loads", ["tc/ingress", "tc/egress", "tcx/ingress", "tcx/egress", "netkit/primary",
                                    "netkit/peer"]),
    "netfilter": ("libbpf 1.3, program type 32", "loads", ["netfilter"]),
    "socket": ("", "loads", ["socket", "sk_reuseport", "sk_reuseport/migrate", "sk_lookup", "flow_dissector"]),
    "sk_skb": ("", "loads", ["sk_skb", "sk_skb/stream_parser", "sk_skb/stream_verdict", "sk_msg", "sockops"]),
    "sk_skb_verdict": ("libbpf 1.6", "loads", ["sk_skb/verdict"]),
    "lwt": ("", "loads", ["lwt_in", "lwt_out", "lwt_xmit", "lwt_seg6local"]),
    "cgroup_skb": ("", "loads", ["cgroup_skb/ingress", "cgroup_skb/egress", "cgroup/skb", "cgroup/dev",
                                 "cgroup/sysctl"]),
    "cgroup_sock": ("", "loads", ["cgroup/sock", "cgroup/sock_create", "cgroup/sock_release", "cgroup/post_bind4",
                                  "cgroup/post_bind6", "cgroup/getsockopt", "cgroup/setsockopt"]),
    "cgroup_addr": ("", "loads", [f"cgroup/{what}{version}" for version in "46" for what in
                                  ("bind", "connect", "sendmsg", "recvmsg", "getpeername", "getsockname")]),
    "cgroup_unix": ("libbpf 1.3", "loads", [f"cgroup/{what}_unix" for what in
                                            ("connect", "sendmsg", "recvmsg", "getpeername", "getsockname")]),
}


def hooks(sections: list[str], draw: Random, variant: int) -> str:
    """The variant's share of the sections, a program each."""
    share = sections[variant % VARIANTS :: VARIANTS] or [sections[variant % len(sections)]]
    return source(*(plain(section, f"on_{i}", draw) for i, section in enumerate(share)))


def struct_ops(draw: Random, variant: int) -> str:
    """A congestion control that the kernel can have, and never asks for."""
    return source(
        "struct sock;",
        "struct tcp_congestion_ops { __u32 (*ssthresh)(struct sock *); void (*cong_avoid)(struct sock *, __u32, __u32);"
        " __u32 (*undo_cwnd)(struct sock *); char name[16]; };",
        *(program("struct_ops/" + name, name, *work(draw), result="2") for name in ("ssthresh", "undo_cwnd")),
        'SEC("struct_ops/cong_avoid") void cong_avoid(void *ctx) {}',
        'SEC(".struct_ops") struct tcp_congestion_ops ops = { .ssthresh = (void *)ssthresh,'
        " .undo_cwnd = (void *)undo_cwnd,"
        f' .cong_avoid = (void *)cong_avoid, .name = "pylbpf_{variant}" }};',
    )


KINDS = {
    name: Kind(functools.partial(hooks, sections), expected, needs)
    for name, (needs, expected, sections) in FAMILIES.items()
}
KINDS["struct_ops"] = Kind(struct_ops, needs="btf")
