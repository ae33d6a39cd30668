"""What can be seen of an object that was loaded, asked of pylbpf and of the kernel, so that two can be compared."""
from __future__ import annotations

import contextlib
import ctypes
import os
import re
import struct
from typing import Any

import kernel
import pylbpf

GET_INFO_BY_FD = 15
LDIMM64 = 0x18
# Numbers that differ from load to load: addresses in the kernel.
ADDRESS = re.compile(r"0x[0-9a-f]{12,16}")


class ProgInfo(ctypes.Structure):
    _fields_ = [(name, kind) for kind, names in [
        (ctypes.c_uint32, "type id"), (ctypes.c_uint8 * 8, "tag"), (ctypes.c_uint32, "jited_prog_len xlated_prog_len"),
        (ctypes.c_uint64, "jited_prog_insns xlated_prog_insns load_time"),
        (ctypes.c_uint32, "created_by_uid nr_map_ids"), (ctypes.c_uint64, "map_ids"), (ctypes.c_char * 16, "name"),
        (ctypes.c_uint32, "ifindex gpl_compatible"), (ctypes.c_uint64, "netns_dev netns_ino"),
        (ctypes.c_uint32, "nr_jited_ksyms nr_jited_func_lens"), (ctypes.c_uint64, "jited_ksyms jited_func_lens"),
        (ctypes.c_uint32, "btf_id func_info_rec_size"), (ctypes.c_uint64, "func_info"),
        (ctypes.c_uint32, "nr_func_info nr_line_info"), (ctypes.c_uint64, "line_info jited_line_info"),
        (ctypes.c_uint32, "nr_jited_line_info line_info_rec_size jited_line_info_rec_size nr_prog_tags"),
        (ctypes.c_uint64, "prog_tags run_time_ns run_cnt recursion_misses"),
        (ctypes.c_uint32, "verified_insns attach_btf_obj_id attach_btf_id"),
    ] for name in names.split()]


class MapInfo(ctypes.Structure):
    _fields_ = [(name, kind) for kind, names in [
        (ctypes.c_uint32, "type id key_size value_size max_entries map_flags"), (ctypes.c_char * 16, "name"),
        (ctypes.c_uint32, "ifindex btf_vmlinux_value_type_id"), (ctypes.c_uint64, "netns_dev netns_ino"),
        (ctypes.c_uint32, "btf_id btf_key_type_id btf_value_type_id btf_vmlinux_id"), (ctypes.c_uint64, "map_extra"),
    ] for name in names.split()]


def get_info(fd: int, info: Any) -> Any:
    kernel.bpf(GET_INFO_BY_FD, struct.pack("=IIQ", fd, ctypes.sizeof(info), ctypes.addressof(info)))
    return info


def prog_info(fd: int) -> tuple[ProgInfo, list[int]]:
    """What the kernel says of a program, and the numbers of the maps that it uses."""
    first = get_info(fd, ProgInfo())
    ids = (ctypes.c_uint32 * max(first.nr_map_ids, 1))()
    info = ProgInfo()
    info.nr_map_ids, info.map_ids = first.nr_map_ids, ctypes.addressof(ids)
    return get_info(fd, info), list(ids[: first.nr_map_ids])


def map_id(fd: int) -> int:
    return int(get_info(fd, MapInfo()).id)


def instructions(program: pylbpf.Program, names: dict[int, str]) -> list[Any]:
    """A program's instructions, with the names of maps for their descriptors."""
    found: list[Any] = []
    for insn in program.insns:
        if insn.code == LDIMM64 and insn.src in (1, 2) and program.fd >= 0:
            found.append((insn.code, insn.dst, insn.src, insn.off, names[map_id(insn.imm)]))
        else:
            found.append((insn.code, insn.dst, insn.src, insn.off, insn.imm))
    return found


def words(text: str) -> str:
    return ADDRESS.sub("ADDRESS", text)


def of_program(program: pylbpf.Program, names: dict[int, str]) -> dict[str, Any]:
    seen = {name: getattr(program, name) for name in (
        "name", "section", "type", "expected_attach_type", "flags", "autoload", "autoattach", "ifindex", "log_level",
        "insn_count", "handler")}
    seen["log"] = words(program.log)
    seen["loaded"] = program.fd >= 0
    if program.fd >= 0:
        seen["insns"] = instructions(program, names)
        info, ids = prog_info(program.fd)
        seen["maps"] = sorted(names[number] for number in ids)
        for name in ("type", "xlated_prog_len", "name", "ifindex", "gpl_compatible", "nr_func_info",
                     "nr_line_info", "verified_insns", "attach_btf_id", "attach_btf_obj_id"):
            seen[f"kernel's {name}"] = getattr(info, name)
        # The tag is of the instructions without descriptors.
        seen["tag"] = bytes(info.tag)
    with contextlib.suppress(pylbpf.NotSupported):
        seen["func_info"] = [(item.insn_off, item.type_id) for item in program.func_info]
        seen["line_info"] = [(item.insn_off, item.line) for item in program.line_info]
    return seen


def without_addresses(data: bytes) -> bytes:
    """The kernel shows the ends of an empty list in a value."""
    return re.sub(rb"[\x00-\xff]{4}[\x80-\xff][\x80-\xff]\xff\xff", bytes(8), data)


def elements(map: pylbpf.Map) -> Any:
    if map.type.name in ("ARRAY", "HASH") and map.fd >= 0:
        found = {}
        key = map.next_key()
        while key is not None:
            found[key] = without_addresses(map.lookup(key) or b"")
            key = map.next_key(key)
        return found
    if map.type.name == "PROG_ARRAY":
        return [map.lookup(slot.to_bytes(4, "little")) is not None for slot in range(map.max_entries)]
    return None


def of_map(map: pylbpf.Map) -> dict[str, Any]:
    seen = {name: getattr(map, name) for name in (
        "name", "type", "key_size", "value_size", "max_entries", "flags", "map_extra", "autocreate", "is_internal",
        "pin_path", "is_pinned")}
    seen["exists"] = map.fd >= 0
    if map.fd >= 0:
        info = get_info(map.fd, MapInfo())
        for name in ("type", "key_size", "value_size", "max_entries", "map_flags", "name", "btf_key_type_id",
                     "btf_value_type_id"):
            seen[f"kernel's {name}"] = getattr(info, name)
        seen["elements"] = elements(map)
    return seen


def slots(map: pylbpf.Map) -> list[int]:
    """The numbers of the programs in a program array."""
    return [int.from_bytes(map.lookup(slot.to_bytes(4, "little")) or b"", "little") for slot in range(map.max_entries)]


def everything(obj: pylbpf.Object) -> dict[str, Any]:
    """All of it that two loads of the same object must have in common."""
    names = {map_id(map.fd): map.name for map in obj.maps.values() if map.fd >= 0}
    types = {prog_info(program.fd)[0].btf_id for program in obj.programs.values() if program.fd >= 0}
    types |= {get_info(map.fd, MapInfo()).btf_id for map in obj.maps.values() if map.fd >= 0}
    return {
        "name": obj.name,
        "state": obj.state,
        "sets of types": len(types - {0}),
        "programs": [of_program(program, names) for program in obj.programs.values()],
        "maps": [of_map(map) for map in obj.maps.values()],
        "filled slots": {map.name: [names_of(obj).get(number) for number in slots(map)] for map in obj.maps.values()
                         if map.type.name == "PROG_ARRAY" and map.fd >= 0},
    }


def names_of(obj: pylbpf.Object) -> dict[int, str]:
    return {prog_info(program.fd)[0].id: program.name for program in obj.programs.values() if program.fd >= 0}


def of_error(error: pylbpf.BpfError) -> dict[str, Any]:
    seen = {name: getattr(error, name, None) for name in (
        "errno", "strerror", "operation", "subject", "program", "section", "summary", "insn", "source")}
    return {**seen, "class": type(error), "text": words(str(error)), "log": words(error.log)}


def in_kernel() -> int:
    """How many descriptors of programs and maps this process has."""
    count = 0
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            count += os.readlink(f"/proc/self/fd/{number}") in ("anon_inode:bpf-map", "anon_inode:bpf-prog")
    return count


def differences(one: Any, other: Any, where: str = "") -> list[str]:
    """What two of these differ in, for people; nothing if they are equal."""
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        return [line for key in one for line in differences(one[key], other[key], f"{where}[{key!r}]")]
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        return [line for at, (a, b) in enumerate(zip(one, other)) for line in differences(a, b, f"{where}[{at}]")]
    return [] if one == other else [f"{where}: {one!r} != {other!r}"]
