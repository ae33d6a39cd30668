"""Code of loaded programs as text: functions, lines of source, instructions and machine code."""
from __future__ import annotations

import re
import shutil

import pytest

import pylbpf
from pylbpf import progcode

pytestmark = pytest.mark.bpf


@pytest.fixture
def info(bpf_object):
    with pylbpf.open(bpf_object("subprogs")) as obj:
        obj.load()
        yield max((program.info() for program in obj.programs.values() if program.fd >= 0), key=lambda info: len(info.functions))


def test_functions_by_name_and_place(info):
    found = info.functions
    assert len(found) > 1 and found[0].insn_off == 0 and found[0].name.startswith(info.name)
    assert [each.insn_off for each in found] == sorted({each.insn_off for each in found})
    if info.jited:
        assert sum(each.size for each in found) == len(info.jited) and len({each.address for each in found}) == len(found)


def test_lines_of_source(info):
    found = info.lines
    assert [line.insn_off for line in found] == [line[0] for line in info.line_info]
    assert all(line.file.endswith(".c") and line.line > 0 for line in found) and any(line.text for line in found)


def test_instructions_with_lines_and_names(info):
    text = info.disassemble(lines=True)
    for function in info.functions:
        assert re.search(rf"^{function.name}:$", text, re.MULTILINE)
    assert re.search(r"call pc[+-]\d+ <\w+>", text) and re.search(r"^; .*\.c:\d+: ", text, re.MULTILINE)
    plain = [line.split(": ")[0] for line in info.disassemble().splitlines()]
    assert [line.split(": ")[0] for line in text.splitlines() if re.match(r"\d+: \(", line)] == plain


def test_helpers_have_their_names(bpf_object):
    from pylbpf import symbols
    if not symbols.kernel().addresses.get("__bpf_call_base"):
        pytest.skip("kernel addresses: hidden by kernel.kptr_restrict")
    with pylbpf.open(bpf_object("rings")) as obj:
        obj.load()
        assert re.search(r"call bpf_\w+$", obj.programs["send"].info().disassemble(lines=True), re.MULTILINE)


def test_machine_code(info):
    if shutil.which("llvm-objdump") is None:
        pytest.skip("llvm-objdump: not installed")
    if not info.jited:
        with pytest.raises(pylbpf.NotSupported, match="shows no machine code"):
            info.disassemble(jited=True)
        return
    text = info.disassemble(jited=True, lines=True)
    for function in info.functions:
        assert f"{function.address:x} <{function.name}>:" in text
    assert "ret" in text and re.search(r"^; .*\.c:\d+: ", text, re.MULTILINE)
    assert ";" not in info.disassemble(jited=True).replace("# ", "").split("\n")[0]


def test_machine_code_without_the_tool(info, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(progcode.glob, "glob", lambda _: [])
    with pytest.raises(pylbpf.NotSupported, match="needs llvm-objdump"):
        info.disassemble(jited=True)


def test_a_program_without_types():
    import objects
    with pylbpf.open(objects.build("""
        #include <linux/bpf.h>
        #include <bpf/bpf_helpers.h>
        SEC("socket") int plain(void *ctx) { return 0; }
    """, "plain")) as obj:
        obj.load()
        info = obj.programs["plain"].info()
        assert info.functions[0].name.startswith("plain") and "exit" in info.disassemble(lines=True)
