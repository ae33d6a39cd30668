#!/usr/bin/env python3
"""Compile one BPF C file to a small object: bpfcc.py prog.bpf.c [-o prog.bpf.o].

The compiler is $BPF_CLANG, else a clang that knows the bpf target, else the one inside the PyPI package
ziglang of the running Python. All of them write BTF and BTF.ext; DWARF, which libbpf does not read, is
taken out again, so that the result depends on nothing but source and compiler.
"""
from __future__ import annotations

import argparse
import functools
import glob
import importlib.util
import os
import platform
import re
import shlex
import shutil
import struct
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Sequence

# What <bpf/bpf_tracing.h> asks for.
TARGET_ARCH = {
    "x86_64": "x86", "i686": "x86", "aarch64": "arm64", "armv7l": "arm", "s390x": "s390", "ppc64le": "powerpc",
    "riscv64": "riscv", "loongarch64": "loongarch", "mips64": "mips",
}
FLAGS = ("-O2", "-g", "-Wall", "-Wno-missing-declarations", "-fno-stack-protector", "-fno-asynchronous-unwind-tables")
ZIG_FLAGS = ("-fno-sanitize=all", "-fno-unwind-tables")  # what zig cc turns on by itself


class CompilerMissing(RuntimeError):
    """No compiler with a bpf target was found."""


class CompileError(RuntimeError):
    """The compiler refused the source; the message is what it printed."""


def environment() -> dict[str, str]:
    """The environment for the compiler: ours, without a preloaded sanitizer."""
    return {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}


def output_of(*command: str) -> str:
    try:
        result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment())
    except OSError:
        return ""
    return result.stdout if result.returncode == 0 else ""


def has_bpf(clang: str) -> bool:
    return re.search(r"^\s*bpf(el)?\b", output_of(clang, "--print-targets"), re.MULTILINE) is not None


@functools.lru_cache(maxsize=None)
def compiler() -> tuple[str, ...]:
    """The command that compiles for BPF, with its target; CompilerMissing if there is none."""
    if chosen := os.environ.get("BPF_CLANG"):
        return (*shlex.split(chosen), "-target", "bpfel")
    versioned = {path for folder in os.get_exec_path() for path in glob.glob(f"{folder}/clang-[0-9]*")}
    newest_first = sorted(versioned, key=lambda path: -int(re.sub(r"\D", "", Path(path).name) or 0))
    for clang in ("clang", *newest_first):
        if shutil.which(clang) and has_bpf(clang):
            return (clang, "-target", "bpfel")
    if (spec := importlib.util.find_spec("ziglang")) and spec.submodule_search_locations:
        zig = Path(spec.submodule_search_locations[0], "zig")
        return (str(zig), "cc", "-target", "bpfel-freestanding", *ZIG_FLAGS)
    raise CompilerMissing("no compiler with a bpf target: set BPF_CLANG, install clang, or pip install ziglang")


@functools.lru_cache(maxsize=None)
def compiler_version() -> str:
    """One line that names the compiler: its own clang version, and zig's where clang is inside it."""
    command = compiler()
    is_zig = command[1] == "cc"
    version = output_of(command[0], *(["cc"] if is_zig else []), "--version").partition("\n")[0].strip()
    version = re.sub(r"\s*\((https?://|/).*?\)", "", version)
    return f"zig {output_of(command[0], 'version').strip()}, {version}" if is_zig else version


@functools.lru_cache(maxsize=None)
def system_include_dirs() -> tuple[str, ...]:
    """Where <linux/bpf.h>, <asm/types.h> and <bpf/bpf_helpers.h> are; a cross-compiler does not look there by itself."""
    multiarch = sysconfig.get_config_var("MULTIARCH") or f"{platform.machine()}-linux-gnu"
    dirs = [word[2:] for word in shlex.split(output_of("pkg-config", "--cflags-only-I", "libbpf"))]
    dirs += ["/usr/include", f"/usr/include/{multiarch}"]
    return tuple(dict.fromkeys(path for path in dirs if os.path.isdir(path)))


def compile(  # noqa: A001
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    cpu: str = "v3",
    include_dirs: Sequence[str | os.PathLike[str]] = (),
    defines: Sequence[str] = (),
    ident: bool = False,
) -> Path:
    """Compile `source` to `output`, which appears whole or not at all; returns its path.

    `defines` are "NAME" or "NAME=value". `ident` records the compiler in the section .comment.
    Raises CompileError with the compiler's words, CompilerMissing if there is none.
    """
    source, output = Path(source).resolve(), Path(output).absolute()
    arch = TARGET_ARCH.get(platform.machine(), platform.machine())
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".bpfcc-", dir=output.parent) as folder:
        unfinished = Path(folder, output.name)
        command = [
            *compiler(), f"-mcpu={cpu}", *FLAGS, f"-D__TARGET_ARCH_{arch}", *(f"-D{define}" for define in defines),
            "-iquote", ".", *(f"-I{Path(path).absolute()}" for path in include_dirs),
            *(word for path in system_include_dirs() for word in ("-idirafter", path)),
            # Line information then names the file and nothing of this machine.
            f"-ffile-prefix-map={source.parent}=.", f"-fdebug-prefix-map={source.parent}=.",
            "-c", source.name, "-o", str(unfinished),
        ]
        result = subprocess.run(
            command, cwd=source.parent, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        if result.returncode or not unfinished.exists():
            raise CompileError(f"{source}: {shlex.join(command[:2])}… failed\n{result.stdout}")
        if result.stdout:
            sys.stderr.write(result.stdout)
        unfinished.write_bytes(strip(unfinished.read_bytes(), ident=compiler_version() if ident else None))
        os.replace(unfinished, output)
    return output


# ---------------------------------------------------------------- ELF

SECTION = struct.Struct("<IIQQQQIIQQ")  # name, type, flags, addr, offset, size, link, info, addralign, entsize
SYMBOL = struct.Struct("<IBBHQQ")  # name, info, other, section, value, size
RELOCATION = struct.Struct("<QQ")  # offset, info: symbol in the upper half
NAME, TYPE, _, _, OFFSET, SIZE, LINK, INFO, ALIGN, _ = range(10)
PROGBITS, SYMTAB, STRTAB, NOBITS, REL, STT_SECTION = 1, 2, 3, 8, 9, 3
# libbpf reads none of these; the relocations of BTF only say what BTF itself says already.
UNWANTED = re.compile(r"(\.rel)?\.(debug_.*|eh_frame)|\.rel\.BTF(\.ext)?|\.llvm_addrsig")


def strip(elf: bytes, *, ident: str | None = None) -> bytes:
    """Take debug sections, and the symbols that belong to them, out of a 64-bit little-endian relocatable file."""
    if elf[:6] != b"\x7fELF\x02\x01":
        raise CompileError("the compiler did not write a 64-bit little-endian ELF file")
    (table_at,) = struct.unpack_from("<Q", elf, 0x28)
    count, names_index = struct.unpack_from("<HH", elf, 0x3C)
    headers = [list(SECTION.unpack_from(elf, table_at + i * SECTION.size)) for i in range(count)]
    bodies = [b"" if h[TYPE] in (0, NOBITS) else elf[h[OFFSET] : h[OFFSET] + h[SIZE]] for h in headers]

    def text(table: int, at: int) -> bytes:
        return bodies[table][at : bodies[table].index(b"\0", at)]

    names = [text(names_index, h[NAME]).decode() for h in headers]
    symtab = next(i for i, h in enumerate(headers) if h[TYPE] == SYMTAB)
    strtab = headers[symtab][LINK]
    kept = [i for i in range(count) if not UNWANTED.fullmatch(names[i]) and i not in (strtab, names_index)]
    section_number = {old: new for new, old in enumerate(kept)}

    # Symbols: the named ones of kept sections, and whatever a relocation needs.
    relocations = {i: list(RELOCATION.iter_unpack(bodies[i])) for i in kept if headers[i][TYPE] == REL}
    needed = {info >> 32 for entries in relocations.values() for _, info in entries}
    symbols: list[bytes] = []
    symbol_number: dict[int, int] = {}
    strings, local = Strings(), 0
    for number, (name, info, other, section, value, size) in enumerate(SYMBOL.iter_unpack(bodies[symtab])):
        own = name and section in section_number and info & 15 != STT_SECTION
        if number and not own and number not in needed:
            continue
        symbol_number[number] = len(symbols)
        local += info >> 4 == 0
        symbols.append(SYMBOL.pack(
            strings.add(text(strtab, name)), info, other, section_number.get(section, section), value, size
        ))
    bodies[symtab] = b"".join(symbols)
    headers[symtab][INFO] = local
    for i, entries in relocations.items():
        bodies[i] = b"".join(
            RELOCATION.pack(at, symbol_number[info >> 32] << 32 | info & 0xFFFFFFFF) for at, info in entries
        )
        headers[i][INFO] = section_number[headers[i][INFO]]

    sections = [(names[i], headers[i], bodies[i]) for i in kept]
    if ident:
        sections.append((".comment", [0, PROGBITS, 0x30, 0, 0, 0, 0, 0, 1, 1], ident.encode() + b"\0"))
    sections.append((".strtab", [0, STRTAB, 0, 0, 0, 0, 0, 0, 1, 0], b""))
    last = len(sections) - 1
    for name, header, _ in sections:
        header[NAME] = strings.add(name.encode())
        if header[TYPE] in (SYMTAB, REL):
            header[LINK] = last if header[TYPE] == SYMTAB else section_number[symtab]
    sections[last] = (*sections[last][:2], bytes(strings))

    out = bytearray(elf[:64])
    for _, header, body in sections[1:]:
        out += bytes(-len(out) % max(header[ALIGN], 1))
        header[OFFSET] = len(out)
        if header[TYPE] != NOBITS:
            header[SIZE] = len(body)
            out += body
    out += bytes(-len(out) % 8)
    struct.pack_into("<Q", out, 0x28, len(out))
    struct.pack_into("<HH", out, 0x3C, len(sections), last)
    return bytes(out) + b"".join(SECTION.pack(*header) for _, header, _ in sections)


class Strings:
    """An ELF string table under construction."""

    def __init__(self) -> None:
        self.at = {b"": 0}
        self.size = 1

    def add(self, text: bytes) -> int:
        if text not in self.at:
            self.at[text] = self.size
            self.size += len(text) + 1
        return self.at[text]

    def __bytes__(self) -> bytes:
        return b"".join(text + b"\0" for text in self.at)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="bpfcc", description=__doc__.partition("\n")[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("-o", "--output", type=Path, help="default: the source's name with .o for .c")
    parser.add_argument("--cpu", default="v3", help="BPF instruction set: v1, v2, v3 or v4 (v3)")
    parser.add_argument("-I", dest="include_dirs", action="append", default=[], metavar="DIR")
    parser.add_argument("-D", dest="defines", action="append", default=[], metavar="NAME[=VALUE]")
    parser.add_argument("--ident", action="store_true", help="record the compiler in the section .comment")
    arguments = parser.parse_args(argv)
    output = arguments.output or arguments.source.with_suffix(".o")
    try:
        compile(arguments.source, output, cpu=arguments.cpu, include_dirs=arguments.include_dirs,
                defines=arguments.defines, ident=arguments.ident)
    except (CompileError, CompilerMissing) as error:
        print(f"bpfcc: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
