"""Types as other tools see them, which read BTF by themselves: pahole and bpftool."""
from __future__ import annotations

import json
import re
import shutil
import subprocess

import pytest

import pylbpf
from pylbpf import BtfKind

np = pytest.importorskip("numpy")

KERNEL = "/sys/kernel/btf/vmlinux"
# A member as pahole writes it: name, array, bits, and in a comment byte, first bit and bytes.
MEMBER = re.compile(r"(\w+)(?:\[\d*\])*(?:\)\(.*\))?(?::\d+)?;\s*/\*\s*(\d+)(?::\s*\d+)?\s+(\d+)\s*\*/")
OBJECTS = ("globals", "maps", "records", "types", "variables", "struct_ops")


def tool(name):
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
    if found is None:
        pytest.skip(f"{name}: not installed")
    return found


def pahole(path, names):
    """Struct -> (size, member -> all the (offset, size) that a member of this name has)."""
    output = subprocess.run([tool("pahole"), "-F", "btf", "-C", ",".join(names), str(path)], capture_output=True, text=True,
                            timeout=240).stdout
    found = {}
    for text in re.split(r"^(?=struct \w+ \{)", output, flags=re.M):
        head, size = re.match(r"struct (\w+) \{", text), re.search(r"/\* size: (\d+)", text)
        if head and size:
            members = {}
            for name, offset, length in MEMBER.findall(text):
                members.setdefault(name, set()).add((int(offset), int(length)))
            found.setdefault(head[1], (int(size[1]), members))
    return found


def structs_of(btf):
    """Name -> number, of structs that are there once and can be a dtype."""
    seen = {}
    for number in btf:
        if btf.kind(number) == BtfKind.STRUCT and btf.name(number):
            seen.setdefault(btf.name(number), []).append(number)
    return {name: numbers[0] for name, numbers in seen.items() if len(numbers) == 1 and btf.size(numbers[0])}


def compare_with_pahole(btf, path, names):
    compared = 0
    for name, (size, members) in pahole(path, names).items():
        dtype = btf.dtype(f"struct {name}")
        assert dtype.itemsize == size, name
        for field, (inner, offset, *_) in dtype.fields.items():
            if field in members and "@" not in field:
                assert (offset, inner.itemsize) in members[field], (name, field)
                compared += 1
    return compared


def test_structs_of_the_kernel_are_as_pahole_has_them():
    tool("pahole")
    try:
        btf = pylbpf.Btf.kernel()
    except pylbpf.BpfError as error:
        pytest.skip(f"vmlinux BTF: {error.strerror}")
    names = sorted(structs_of(btf))
    names = names[::max(1, len(names) // 200)][:200] + ["task_struct", "sk_buff", "net_device", "list_head"]
    assert compare_with_pahole(btf, KERNEL, names) > 1000


@pytest.mark.parametrize("name", OBJECTS)
def test_structs_of_objects_are_as_pahole_has_them(name, bpf_object):
    tool("pahole")
    btf = pylbpf.Btf.parse(bpf_object(name))
    names = sorted(structs_of(btf))
    if names:
        assert compare_with_pahole(btf, bpf_object(name), names) > 0


@pytest.mark.parametrize("name", OBJECTS)
def test_types_of_objects_are_as_bpftool_has_them(name, bpf_object):
    """Each one, by its number."""
    result = subprocess.run([tool("bpftool"), "-j", "btf", "dump", "file", str(bpf_object(name)), "format", "raw"],
                            capture_output=True, text=True, timeout=240)
    if result.returncode:
        pytest.skip(f"bpftool: it cannot read this file: {result.stdout or result.stderr}")
    btf = pylbpf.Btf.parse(bpf_object(name))
    types = json.loads(result.stdout)["types"]
    assert len(types) == len(btf)
    for theirs in types:
        number = theirs["id"]
        kind = BtfKind(btf.kind(number)).name
        assert kind == theirs["kind"] and btf.name(number) == theirs["name"].replace("(anon)", "")
        if kind in ("STRUCT", "UNION"):
            members = btf.members(number)
            assert btf.size(number) == theirs["size"]
            assert [(m.name, m.type, m.offset) for m in members] == [
                (m["name"].replace("(anon)", ""), m["type_id"], m["bits_offset"]) for m in theirs["members"]]
            assert [m.bits for m in members if "@" not in m.name] == [m.get("bitfield_size", 0) for m in theirs["members"]]
        elif kind in ("ENUM", "ENUM64"):
            assert btf.enumerators(number) == {each["name"]: each["val"] for each in theirs["values"]}
        elif kind in ("PTR", "TYPEDEF", "CONST", "VOLATILE", "FUNC", "VAR"):
            assert btf.target(number) == theirs["type_id"]


@pytest.mark.parametrize("name", ("types", "maps"))
def test_declarations_are_those_of_bpftool(name, bpf_object):
    """Both ask libbpf: each struct that bpftool declares is declared in the same words."""
    output = subprocess.run([tool("bpftool"), "btf", "dump", "file", str(bpf_object(name)), "format", "c"], capture_output=True,
                            text=True, timeout=240).stdout
    theirs = dict(re.findall(r"^(struct \w+) (\{\n.*?^\}[^\n]*;)$", output, flags=re.M | re.S))
    btf = pylbpf.Btf.parse(bpf_object(name))
    compared = 0
    for struct, number in structs_of(btf).items():
        ours = dict(re.findall(r"^(struct \w+) (\{\n.*?^\}[^\n]*;)$", btf.c_decl(number), flags=re.M | re.S))
        if f"struct {struct}" in theirs and f"struct {struct}" in ours:
            assert ours[f"struct {struct}"] == theirs[f"struct {struct}"]
            compared += 1
    assert compared
