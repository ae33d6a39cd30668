"""Why attaching fails, where the kernel lacks the kind altogether: it says so by whatever number comes first."""
from __future__ import annotations

import errno
import os

from .errors import NotSupported

# Kind -> the file that is there if it is, and what the kernel needs.
PROBES = {
    **dict.fromkeys(("kprobe", "kretprobe", "ksyscall", "kretsyscall"), ("kprobe", "kprobes: CONFIG_KPROBE_EVENTS")),
    **dict.fromkeys(("uprobe", "uretprobe", "usdt"), ("uprobe", "uprobes: CONFIG_UPROBE_EVENTS")),
}
# Kind -> the type of its links, and what the kernel needs.
LINKS = {
    **dict.fromkeys(("kprobe.multi", "kretprobe.multi", "kprobe.session"), (8, "Linux 5.18 and CONFIG_FPROBE")),
    **dict.fromkeys(("uprobe.multi", "uretprobe.multi", "uprobe.session"), (12, "Linux 6.6")),
    **dict.fromkeys(("trace", "tracing", "fentry", "fexit", "fmod_ret", "fsession", "tp_btf", "lsm", "freplace"),
                    (2, "Linux 5.5, for LSM 5.7 and CONFIG_BPF_LSM")),
    "raw_tracepoint": (1, "Linux 4.17"), "cgroup": (3, "Linux 5.7 and CONFIG_CGROUP_BPF"), "iter": (4, "Linux 5.8"),
    "netns": (5, "Linux 5.8"), "sk_lookup": (5, "Linux 5.9"), "xdp": (6, "Linux 5.9"), "tcx": (11, "Linux 6.6"), "netkit": (13, "Linux 6.7 and CONFIG_NETKIT"),
    "netfilter": (10, "Linux 6.4 and CONFIG_NETFILTER_BPF_LINK"), "sockmap": (14, "Linux 6.10"),
}
DEVICES = "/sys/bus/event_source/devices"


def missing(kind: str) -> str:
    """What the kernel lacks for links of a kind, given by its first word or a section; "" if nothing, or nobody knows."""
    word = kind.removeprefix("section '").split(" ")[0].split("/")[0].rstrip("'").removesuffix(".s")
    if word in PROBES:
        name, needs = PROBES[word]
        if os.path.isdir(DEVICES) and not os.path.exists(f"{DEVICES}/{name}"):
            for root in ("/sys/kernel/tracing", "/sys/kernel/debug/tracing"):
                if os.path.exists(f"{root}/{name}_events"):     # the older way
                    return ""
            return f"the kernel has no {needs}"
    elif word in LINKS:
        from . import features
        from .enums import LinkType
        type, needs = LINKS[word]
        if features.link_type(type) is False:
            return f"the kernel has no links of kind {LinkType(type).name}: {needs}"
    return ""


def explain(error: OSError, kind: str) -> OSError:
    """The error, or NotSupported if it is for what the kernel lacks."""
    reason = "" if isinstance(error, NotSupported) else missing(kind)
    if not reason:
        return error
    better = NotSupported(errno.EOPNOTSUPP, reason, getattr(error, "operation", None), getattr(error, "subject", None))
    better.__cause__ = error
    return better
