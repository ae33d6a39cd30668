"""What this kernel and this process can do, asked of the kernel itself by system call and not through pylbpf.

Each no_...() returns "" where the thing works, else the reason, for pytest.skip.
"""
from __future__ import annotations

import ctypes
import errno
import functools
import os
import platform
import re
import struct
import subprocess
from pathlib import Path
from typing import Optional

import handling

libc = ctypes.CDLL(None, use_errno=True)

SYS_BPF = {"x86_64": 321, "s390x": 351, "ppc64le": 361}.get(platform.machine(), 280)
SYS_PERF_EVENT_OPEN = {"x86_64": 298, "s390x": 331, "ppc64le": 319}.get(platform.machine(), 241)
MAP_CREATE, PROG_LOAD, LINK_GET_NEXT_ID, ITER_CREATE = 0, 5, 31, 33
KPROBE, RAW_TRACEPOINT, TRACING, LSM = 2, 17, 26, 29
TRACE_FENTRY, MODIFY_RETURN, LSM_MAC, TRACE_FSESSION = 24, 26, 27, 58
RELEASE = tuple(map(int, re.findall(r"\d+", os.uname().release)[:2]))
# Before 6.10 a raw tracepoint takes a program once only.
RAW_TRACEPOINTS_ONCE = RELEASE < (6, 10)
CAPABILITIES = {"CAP_NET_ADMIN": 12, "CAP_SYS_ADMIN": 21, "CAP_PERFMON": 38, "CAP_BPF": 39}
CLONE_NEWNS, MS_REC, MS_PRIVATE, MNT_DETACH = 0x00020000, 0x4000, 1 << 18, 2


def bpf(command: int, attr: bytes) -> int:
    """bpf(2): a descriptor or 0, else OSError."""
    buffer = ctypes.create_string_buffer(attr, max(len(attr), 128))
    result: int = libc.syscall(ctypes.c_long(SYS_BPF), ctypes.c_int(command), buffer, ctypes.c_uint(len(buffer)))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def load_nothing(program_type: int, *, attach_type: int = 0, btf_id: int = 0) -> None:
    """Load `return 0` as a program of this type, and let it go; OSError if the kernel refuses."""
    code = ctypes.create_string_buffer(struct.pack("<BBhiBBhi", 0xB7, 0, 0, 0, 0x95, 0, 0, 0))
    license = ctypes.create_string_buffer(b"GPL")
    attr = struct.pack(
        "=IIQQIIQII16sIIIIQIIQII",
        program_type, 2, ctypes.addressof(code), ctypes.addressof(license),
        0, 0, 0, 0, 0, b"", 0, attach_type, 0, 0, 0, 0, 0, 0, 0, btf_id,
    )
    os.close(bpf(PROG_LOAD, attr))


def effective_capabilities() -> int:
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"^CapEff:\s*([0-9a-f]+)", status, re.MULTILINE).group(1), 16)  # type: ignore[union-attr]


def has_capability(name: str) -> bool:
    return bool(effective_capabilities() >> CAPABILITIES[name] & 1)


@functools.lru_cache(maxsize=None)
def no_bpf() -> str:
    """Tries an array map and a tracing program: the right to both is what most tests need."""
    try:
        os.close(bpf(MAP_CREATE, struct.pack("=IIII", 2, 4, 8, 1)))
        load_nothing(RAW_TRACEPOINT)
    except OSError as error:
        if error.errno == errno.ENOSYS:
            return "bpf(2): the kernel was built without CONFIG_BPF_SYSCALL"
        if has_capability("CAP_SYS_ADMIN"):
            return f"bpf(2): {error.strerror} in spite of CAP_SYS_ADMIN (a seccomp filter or lockdown?)"
        missing = [name for name in ("CAP_BPF", "CAP_PERFMON") if not has_capability(name)]
        if missing:
            return f"bpf(2): {' and '.join(missing)} missing (or CAP_SYS_ADMIN)"
        return f"bpf(2): {error.strerror}"
    return ""


@functools.lru_cache(maxsize=None)
def no_program_type(number: int, attach_type: int = 0) -> str:
    try:
        load_nothing(number, attach_type=attach_type)
    except OSError as error:
        name = {20: "lirc", 32: "netfilter"}.get(number, f"program type {number}")
        return no_bpf() or f"{name}: the kernel refuses the smallest program ({error.strerror})"
    return ""


@functools.lru_cache(maxsize=None)
def no_map_type(number: int) -> str:
    """Whether the kernel has it: one that it does not know is EINVAL as many other mistakes are, so BTF is asked."""
    name = {33: "BPF_MAP_TYPE_ARENA"}[number]
    return no_bpf() or no_name(name, f"map {name[13:]}: the kernel has none")


def no_name(name: str, reason: str) -> str:
    """Whether the kernel's types have an enumerator, or anything else, of that name."""
    return no_btf() or ("" if name.encode() in Path("/sys/kernel/btf/vmlinux").read_bytes() else reason)


@functools.lru_cache(maxsize=None)
def no_net_admin() -> str:
    if has_capability("CAP_NET_ADMIN") or has_capability("CAP_SYS_ADMIN"):
        return ""
    return "network: CAP_NET_ADMIN missing"


def no_device(capability: str, name: str, *kind: str) -> str:
    """Make a network interface; or the reason why there is none."""
    try:
        made = subprocess.run(["ip", "link", "add", name, "type", *kind], stderr=subprocess.PIPE, text=True, check=False)
    except FileNotFoundError:
        return "ip: not installed (iproute2)"
    return f"{capability}: cannot make a device of type {kind[0]} ({made.stderr.strip()})" if made.returncode else ""


@functools.lru_cache(maxsize=None)
def no_btf() -> str:
    return "" if os.path.exists("/sys/kernel/btf/vmlinux") else "vmlinux BTF: the kernel has none (CONFIG_DEBUG_INFO_BTF)"


def tracefs() -> Optional[Path]:
    for folder in ("/sys/kernel/tracing", "/sys/kernel/debug/tracing"):
        if os.path.exists(f"{folder}/events"):
            return Path(folder)
    return None


def perf_event_open(kind: int, config: int, *, cpu: int = 0, pid: int = -1, frequency: int = 0) -> int:
    """perf_event_open(2) with a small perf_event_attr: a descriptor, else OSError."""
    attr = struct.pack("=IIQQQQQ", kind, 112, config, frequency, 0, 0, 1 << 10 if frequency else 0).ljust(112, b"\0")
    buffer = ctypes.create_string_buffer(attr, 112)
    fd: int = libc.syscall(
        ctypes.c_long(SYS_PERF_EVENT_OPEN), buffer, ctypes.c_int(pid), ctypes.c_int(cpu), ctypes.c_int(-1),
        ctypes.c_ulong(8),
    )
    if fd < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return fd


@functools.lru_cache(maxsize=None)
def no_perf_event() -> str:
    try:
        os.close(perf_event_open(1, 0, frequency=99))
    except OSError as error:
        return f"perf_event_open(2): {error.strerror} (CAP_PERFMON, kernel.perf_event_paranoid or seccomp)"
    return ""


def no_pmu(name: str) -> str:
    """kprobe and uprobe are perf event sources of their own since 4.17."""
    if os.path.exists(f"/sys/bus/event_source/devices/{name}/type"):
        return no_bpf() or no_perf_event()
    return f"{name}: the kernel was built without CONFIG_{name.upper()}_EVENTS"


@functools.lru_cache(maxsize=None)
def no_kprobe() -> str:
    return no_pmu("kprobe")


@functools.lru_cache(maxsize=None)
def no_uprobe() -> str:
    return no_pmu("uprobe")


@functools.lru_cache(maxsize=None)
def no_uprobe_multi() -> str:
    """6.6; bpf_uprobe_multi_link_attach is in the kernel's symbols where it is built in."""
    return no_uprobe() or no_symbol("bpf_uprobe_multi_link_attach", "uprobe.multi: kernel older than 6.6")


@functools.lru_cache(maxsize=None)
def no_kprobe_multi() -> str:
    return no_kprobe() or no_symbol("register_fprobe_ips", "kprobe.multi: kernel older than 5.18, or without CONFIG_FPROBE")


@functools.lru_cache(maxsize=None)
def no_kprobe_session() -> str:
    return no_kprobe_multi() or no_name("BPF_TRACE_KPROBE_SESSION", "kprobe.session: kernel older than 6.10")


@functools.lru_cache(maxsize=None)
def no_uprobe_session() -> str:
    return no_uprobe_multi() or no_name("BPF_TRACE_UPROBE_SESSION", "uprobe.session: kernel older than 6.13")


@functools.lru_cache(maxsize=None)
def no_sockmap_link() -> str:
    return no_bpf() or no_symbol("sock_map_link_create", "Linux >= 6.10: links to sockmaps")


@functools.lru_cache(maxsize=None)
def no_netkit() -> str:
    return no_bpf() or no_symbol("netkit_link_attach", "netkit: kernel older than 6.7")


def no_symbol(name: str, reason: str) -> str:
    with open("/proc/kallsyms") as symbols:
        return "" if any(line.split()[2] == name for line in symbols) else reason


@functools.lru_cache(maxsize=None)
def no_fentry() -> str:
    return no_bpf() or no_btf() or no_tracing_load("fentry", TRACING, TRACE_FENTRY, "do_nanosleep")


def no_sleepable_fentry() -> str:
    return no_fentry() or ("Linux >= 6.3: functions to which programs that sleep can be attached" if RELEASE < (6, 3) else "")


@functools.lru_cache(maxsize=None)
def no_fsession() -> str:
    return no_bpf() or no_btf() or no_tracing_load("fsession", TRACING, TRACE_FSESSION, "do_nanosleep")


@functools.lru_cache(maxsize=None)
def no_fmod_ret() -> str:
    return no_fentry() or no_tracing_load("fmod_ret", TRACING, MODIFY_RETURN, "security_file_open")


@functools.lru_cache(maxsize=None)
def no_tracepoint() -> str:
    return no_bpf() or no_perf_event() or ("" if tracefs() else "tracefs: not mounted")


@functools.lru_cache(maxsize=None)
def no_lsm() -> str:
    return no_bpf() or no_btf() or no_tracing_load("lsm", LSM, LSM_MAC, "bpf_lsm_file_open")


def no_tracing_load(what: str, program_type: int, attach_type: int, function: str) -> str:
    # For an LSM hook libbpf puts bpf_lsm_ in front by itself.
    name = function[len("bpf_lsm_"):] if program_type == LSM else function
    btf_id = handling.libbpf().libbpf_find_vmlinux_btf_id(name.encode(), attach_type)
    if btf_id <= 0:
        return f"{what}: the kernel has no {function}"
    try:
        load_nothing(program_type, attach_type=attach_type, btf_id=btf_id)
    except OSError as error:
        return f"{what}: the kernel refuses such programs ({error.strerror})"
    return ""


def mount_point(filesystem: str) -> Optional[Path]:
    """Where this process sees a filesystem of that type."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split()
        if fields[fields.index("-") + 1] == filesystem:
            return Path(fields[4])
    return None


def link_ids() -> set[int]:
    """The numbers of all BPF links in the kernel, whoever made them (needs CAP_SYS_ADMIN)."""
    found: set[int] = set()
    buffer = ctypes.create_string_buffer(128)
    at = 0
    while True:
        struct.pack_into("=III", buffer, 0, at, 0, 0)
        if libc.syscall(ctypes.c_long(SYS_BPF), LINK_GET_NEXT_ID, buffer, ctypes.c_uint(128)) < 0:
            if ctypes.get_errno() == errno.ENOENT:
                return found
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        at = struct.unpack_from("=I", buffer, 4)[0]
        found.add(at)


def own_link_ids() -> set[int]:
    """The numbers of the BPF links that this process holds a descriptor of; others come and go on any machine."""
    found: set[int] = set()
    for entry in os.listdir("/proc/self/fdinfo"):
        try:
            text = Path(f"/proc/self/fdinfo/{entry}").read_text()
        except OSError:
            continue
        found.update(int(line.split()[1]) for line in text.splitlines() if line.startswith("link_id:"))
    return found


def private_mounts() -> None:
    """Give this process its own mount namespace: what it mounts from now on dies with it."""
    if libc.unshare(CLONE_NEWNS) or libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def mount(filesystem: str, at: Path) -> None:
    if libc.mount(filesystem.encode(), os.fsencode(at), filesystem.encode(), 0, None):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(at))


def unmount(at: Path) -> None:
    if libc.umount2(os.fsencode(at), MNT_DETACH):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(at))


def rename_task(times: int = 1) -> None:
    """Trip the tracepoint task_rename that many times, from this process; its name stays what it was."""
    with open("/proc/self/comm", "rb+", buffering=0) as comm:
        name = comm.read().rstrip(b"\n")
        for _ in range(times):
            comm.write(name)


@functools.lru_cache(maxsize=None)
def no_tcx() -> str:
    return no_bpf() or no_symbol("tcx_link_attach", "tcx: kernel older than 6.6")
