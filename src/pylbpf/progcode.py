"""A loaded program's code as text: its functions by name, its lines of source, its instructions and machine code."""
from __future__ import annotations

import errno
import glob
import re
import shutil
import struct
import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING, NamedTuple

from .btf import Btf
from .disasm import lines as instructions
from .errors import NotSupported

if TYPE_CHECKING:
    from .info import ProgramInfo

CALL = 0x85
TO_PROGRAM, TO_KERNEL = 1, 2    # source register of a call: to a function of its own, to one of the kernel


class Function(NamedTuple):
    """Of a loaded program: where it begins among the instructions, and where its machine code is, of how many bytes."""

    name: str
    insn_off: int
    address: int
    size: int


class Line(NamedTuple):
    """Of the source: from which instruction, and which address in memory, on. ``text`` is what the line says."""

    insn_off: int
    address: int
    file: str
    line: int
    column: int
    text: str


def types_of(info: ProgramInfo) -> Btf | None:
    return Btf.from_id(info.btf_id) if info.btf_id else None


def functions(info: ProgramInfo) -> tuple[Function, ...]:
    addresses = [each for each, in struct.iter_unpack("=Q", info._array("jited_ksyms"))]
    sizes = [each for each, in struct.iter_unpack("=I", info._array("jited_func_lens"))]
    types = types_of(info)
    found = []
    for at, (insn_off, type_id) in enumerate(struct.iter_unpack("=II", info._array("func_info"))):
        name = types.name(type_id) if types is not None else f"{info.name}_{at}"
        found.append(Function(name, insn_off, addresses[at] if at < len(addresses) else 0, sizes[at] if at < len(sizes) else 0))
    if not found:
        found.append(Function(info.name, 0, addresses[0] if addresses else 0, sizes[0] if sizes else info.jited_size))
    return tuple(found)


def source_lines(info: ProgramInfo) -> tuple[Line, ...]:
    types = types_of(info)
    if types is None:
        return ()
    addresses = [each for each, in struct.iter_unpack("=Q", info._array("jited_line_info"))]
    return tuple([
        Line(insn_off, addresses[at] if at < len(addresses) else 0, types.string(file), line, column, types.string(text).strip())
        for at, (insn_off, file, text, line, column) in enumerate(info.line_info)])


def heading(line: Line) -> str:
    return f"; {line.file}:{line.line}: {line.text}"


def xlated_text(info: ProgramInfo) -> str:
    """As the verifier writes it, with headings, lines of source and names of what is called."""
    code = info.xlated
    starts = {function.insn_off: function.name for function in functions(info)}
    before: dict[int, list[str]] = {}
    for line in source_lines(info):
        before.setdefault(line.insn_off, []).append(heading(line))
    written: list[str] = []
    for index, text in instructions(code):
        if index in starts:
            written += ["", f"{starts[index]}:"] if written else [f"{starts[index]}:"]
        written += before.get(index, ())
        opcode, registers, off, imm = struct.unpack_from("=BBhi", code, index * 8)
        if opcode == CALL:
            source = registers >> 4 if sys.byteorder == "little" else registers & 15
            # With machine code the kernel puts the distance there, and the number of the function into imm.
            text = called(index, source, off if source == TO_PROGRAM and off else imm, text, starts)
        written.append(f"{index}: ({opcode:02x}) {text}")
    return "\n".join(written)


def called(index: int, kind: int, imm: int, text: str, starts: dict[int, str]) -> str:
    """Calls of a loaded program: relative to the next instruction, or to a place in the kernel."""
    if kind == TO_PROGRAM:
        name = starts.get(index + 1 + imm)
        return f"call pc{imm:+d} <{name}>" if name else text
    if kind == TO_KERNEL or imm == 0:
        return text
    from .symbols import kernel
    base = kernel().addresses.get("__bpf_call_base")
    found = kernel().resolve(base[0] + imm) if base else None
    return f"call {found.name}" if found and found.offset == 0 else f"call #{imm}"


# Machine code


def machine_text(info: ProgramInfo, lines: bool) -> str:
    tool = disassembler()
    code = info.jited
    if not code:
        raise NotSupported(errno.EOPNOTSUPP, "the kernel shows no machine code: it has no JIT, it is off "
                           "(net.core.bpf_jit_enable), or its addresses are hidden (kernel.kptr_restrict)",
                           "disassemble", f"program '{info.name}'")
    with tempfile.NamedTemporaryFile(suffix=".o") as file:
        file.write(as_elf(code, functions(info)))
        file.flush()
        done = subprocess.run([tool, "--disassemble", "--no-show-raw-insn", file.name], capture_output=True, text=True)
    if done.returncode:
        raise NotSupported(errno.EOPNOTSUPP, f"{tool} failed: {done.stderr.strip()}", "disassemble", f"program '{info.name}'")
    before: dict[int, list[str]] = {}
    for line in source_lines(info) if lines else ():
        before.setdefault(line.address, []).append(heading(line))
    written: list[str] = []
    for text in done.stdout.splitlines():
        if place := re.match(r"\s*([0-9a-f]+):", text):
            written += before.get(int(place[1], 16), ())
        if not text.startswith("Disassembly of") and "file format" not in text and (text or (written and written[-1])):
            written.append(text)
    return "\n".join(written).strip("\n")


def disassembler() -> str:
    found = shutil.which("llvm-objdump") or next(iter(sorted(glob.glob("/usr/bin/llvm-objdump-*"), reverse=True)), None)
    if found is None:
        raise NotSupported(errno.EOPNOTSUPP, "machine code needs llvm-objdump (Debian: apt install llvm)", "disassemble", "a program")
    return found


def as_elf(code: bytes, parts: tuple[Function, ...]) -> bytes:
    """A file that tools take for a program of this machine: a section and a symbol for each function, at its address."""
    with open("/proc/self/exe", "rb") as file:
        head = file.read(64)
    wide = head[4] == 2
    strings = b"\0.strtab\0.symtab\0"
    sections = [bytes(64 if wide else 40)]
    symbols = [bytes(24 if wide else 16)]
    header = 64 if wide else 52
    at = header
    whole = sum(part.size for part in parts) == len(code)
    start = 0
    for index, part in enumerate(parts if whole else parts[:1]):
        size = part.size if whole else len(code)
        name, names = len(strings), f"{part.name}\0".encode()
        strings += names
        address = part.address or start
        sections.append(section(wide, name, 1, 6, address, header + start, size))
        if wide:
            symbols.append(struct.pack("=IBBHQQ", name, 0x12, 0, index + 1, address, size))
        else:
            symbols.append(struct.pack("=IIIBBH", name, address & 0xFFFFFFFF, size, 0x12, 0, index + 1))
        start += size
    at = header + len(code)
    table = b"".join(symbols)
    sections.append(section(wide, 9, 2, 0, 0, at, len(table), link=len(sections) + 1, info=1, entry=len(symbols[0])))
    sections.append(section(wide, 1, 3, 0, 0, at + len(table), len(strings)))
    place = at + len(table) + len(strings)
    machine = struct.unpack_from("=H", head, 18)[0]
    rest = struct.pack("=HHIQQQIHHHHHH" if wide else "=HHIIIIIHHHHHH", 2, machine, 1, 0, 0, place, 0, header, 0, 0,
                       len(sections[0]), len(sections), len(sections) - 1)
    return head[:16] + rest + code + table + strings + b"".join(sections)


def section(wide: bool, name: int, kind: int, flags: int, address: int, offset: int, size: int, *, link: int = 0,
            info: int = 0, entry: int = 0) -> bytes:
    if wide:
        return struct.pack("=IIQQQQIIQQ", name, kind, flags, address, offset, size, link, info, 1, entry)
    return struct.pack("=IIIIIIIIII", name, kind, flags, address & 0xFFFFFFFF, offset, size, link, info, 1, entry)
