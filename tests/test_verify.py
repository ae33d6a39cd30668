"""verify_many(): its verdicts are those of one load after the other, its numbers the log's, and nothing stays."""
from __future__ import annotations

import concurrent.futures
import contextlib
import ctypes
import errno
import json
import logging
import multiprocessing
import os
import pickle
import re
import resource
import shutil
import signal
import struct
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Iterator

import pytest

import kernel
import objects
import pylbpf
from handling import RAW, Recorder, registered
from pylbpf import VerifyReport, VerifyResult, verify_many, verifying

pytestmark = pytest.mark.bpf

TAIL_CALLS = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
int target(void *ctx);
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY); __uint(max_entries, 2); __uint(key_size, 4);
	__array(values, int (void *));
} jumps SEC(".maps") = { .values = { [1] = (void *)&target } };
SEC("socket") int target(void *ctx) { return 7; }
SEC("socket") int jump(void *ctx) { bpf_tail_call(ctx, &jumps, 1); return 1; }
char _license[] SEC("license") = "GPL";
"""
OBJ_GET_INFO_BY_FD = 15


@pytest.fixture(scope="module")
def several() -> Path:
    """Four programs in sections that libbpf knows."""
    return objects.build(objects.many(4, "raw_tp/task_rename"), "several")


@pytest.fixture(scope="module")
def mine() -> Path:
    """Four programs in sections that need a handler."""
    return objects.build(objects.many(4, "mine/{i}"), "mine")


@pytest.fixture(scope="module")
def crowd(tmp_path_factory, several) -> list[Path]:
    """Many objects of different names and sizes."""
    folder = tmp_path_factory.mktemp("crowd")
    sources = [several, *(objects.build(objects.many(n, "xdp", insns=40 * n), f"size{n}") for n in (1, 2, 3))]
    return [Path(shutil.copy(sources[at % 4], folder / f"object{at:02}.bpf.o")) for at in range(40)]


def short(report: VerifyReport) -> list[tuple[str, str, str]]:
    return [(result.object, result.program, result.verdict) for result in report]


def by_program(report: VerifyReport) -> dict[str, VerifyResult]:
    return {result.program: result for result in report}


# ---------------------------------------------------------------- the same as one by one


def alone(path: Path, name: str, level: int = 0) -> pylbpf.Object:
    """An object opened to be loaded with one program only."""
    obj = pylbpf.open(path)
    for map in obj.maps.values():
        map.pin_path = None
    for program in obj.programs.values():
        program.autoload = program.name == name
    if name:
        obj.programs[name].log_level = level
    return obj


def one_by_one(path: Path) -> list[tuple[str, str]]:
    """(program, verdict), in the obvious way."""
    try:
        with pylbpf.open(path) as obj:
            names = list(obj.programs) or [""]
    except OSError:
        return [("", "refused")]
    found = []
    for name in names:
        with alone(path, name) as obj:
            try:
                obj.load()
                found.append((name, "accepted"))
            except pylbpf.VerifierError:
                found.append((name, "rejected"))
            except OSError:
                found.append((name, "failed"))
    return found


def sizes(program: pylbpf.Program) -> tuple[int, int]:
    """(jited, xlated) bytes, asked of the kernel."""
    info = ctypes.create_string_buffer(256)
    kernel.bpf(OBJ_GET_INFO_BY_FD, struct.pack("=IIQ", program.fileno(), 256, ctypes.addressof(info)))
    jited, xlated = struct.unpack_from("=II", info.raw, 16)
    return jited, xlated


def verifiable(bpf_objects):
    """All but the one with declared slots of a prog_array: alone each of its programs is accepted, and its load fails."""
    return [path for name, path in bpf_objects.items() if name != "parts"]


def test_every_verdict_is_that_of_one_by_one(bpf_objects):
    report = verify_many(verifiable(bpf_objects))
    expected = [(path.name, *each) for path in verifiable(bpf_objects) for each in one_by_one(path)]
    assert short(report) == expected
    assert {"accepted", "rejected", "failed"} <= set(report.verdicts())


def test_optional_programs_are_verified_too(bpf_object):
    with pylbpf.open(bpf_object("override")) as obj:
        assert not all(program.autoload for program in obj.programs.values())
        names = list(obj.programs)
    assert [result.program for result in verify_many(bpf_object("override"))] == names


def test_numbers_are_those_of_the_log(bpf_objects):
    checked = 0
    for result in verify_many(verifiable(bpf_objects)):
        if result.verdict != "accepted" or not result.program:
            continue
        with alone(Path(result.path), result.program, level=4) as obj:
            obj.load()
            program = obj.programs[result.program]
            log = program.log
            assert program.insn_count == result.insn_count
            jited, xlated = sizes(program)
            assert (result.section, result.type) == (program.section, program.type.name.lower())
        for field, pattern in (
            ("insns_processed", r"processed (\d+) insns"), ("total_states", r"total_states (\d+)"),
            ("peak_states", r"peak_states (\d+)"), ("max_states_per_insn", r"max_states_per_insn (\d+)"),
        ):
            assert getattr(result, field) == int(re.search(pattern, log)[1]), (result.object, result.program, field)
        depths = [int(depth) for depth in re.search(r"stack depth (\S+)", log)[1].split("+")]
        assert result.stack_depths == tuple(depths) and result.stack_depth == sum(depths)
        assert result.xlated_size == xlated and bool(result.jited_size) == bool(jited)
        assert 0 < result.verification_time <= result.seconds
        checked += 1
    assert checked > 30


def test_functions_have_their_own_stack(bpf_object):
    assert len(by_program(verify_many(bpf_object("subprogs")))["first"].stack_depths) > 1


def test_a_rejection_says_where_and_why(bpf_object):
    path = bpf_object("rejected")
    careful, careless = verify_many(path)
    with alone(path, "careless") as obj, pytest.raises(pylbpf.VerifierError) as raised:
        obj.load()
    expected = raised.value
    assert careful.verdict == "accepted" and (careful.errno, careful.reason, careful.insn) == (0, None, None)
    assert (careless.reason, careless.insn, careless.source) == (expected.summary, expected.insn, expected.source)
    assert careless.errno == expected.errno == errno.EACCES
    assert "R0 invalid mem access" in careless.reason and "*value += 1" in careless.source
    assert careless.insn_count and careless.xlated_size is careless.jited_size is None
    assert careless.insns_processed == int(re.search(r"processed (\d+) insns", expected.log)[1])


def test_an_object_without_programs_is_loaded_for_its_maps(bpf_object):
    (empty,) = verify_many(bpf_object("empty"))
    assert (empty.program, empty.verdict, empty.insn_count) == ("", "accepted", None)


@pytest.mark.parametrize("end", [
    "verification time 5 usec\nstack depth 8+16\n",
    "verification time 5 usec\nstack depth 8+16 max 24\ninsns processed 7+3\n",    # since Linux 7
])
def test_statistics_are_no_reason(end):
    from pylbpf._verifier import explain, statistics
    log = ("; *value += 1; @ a.bpf.c:25\n7: (79) r1 = *(u64 *)(r0 +0)\nR0 invalid mem access 'map_value_or_null'\n" + end
           + "processed 10 insns (limit 1000000) max_states_per_insn 1 total_states 2 peak_states 2 mark_read 0\n")
    assert explain(log) == ("R0 invalid mem access 'map_value_or_null'", 7, "*value += 1; @ a.bpf.c:25")
    counts, depths, seconds = statistics(log)
    assert (counts["insns_processed"], counts["total_states"], depths, seconds) == (10, 2, (8, 16), 5e-6)


def test_what_fails_after_the_verifier_is_accepted():
    """libbpf cannot put a program into a map that was not loaded."""
    target, jump = verify_many(objects.build(TAIL_CALLS, "tail_calls"))
    assert target.verdict == jump.verdict == "accepted"
    assert jump.errno == errno.EBADF and "jumps" in jump.reason
    assert jump.insns_processed and jump.xlated_size is None


def test_maps_that_the_kernel_refuses_fail_the_program():
    source = objects.many(1, "xdp", with_map=True).replace("BPF_MAP_TYPE_ARRAY", "BPF_MAP_TYPE_QUEUE")
    (result,) = verify_many(objects.build(source, "wrong_map"))
    assert (result.verdict, result.errno) == ("failed", errno.EINVAL)
    assert "counts" in result.log and result.insns_processed is None and result.stack_depth is None


def test_the_shared_types_change_nothing(bpf_objects):
    assert short(verify_many(bpf_objects["core"])) == short(verify_many(bpf_objects["core"], share_kernel_btf=False))


def test_pinned_maps_are_not_pinned(bpf_object, bpffs, monkeypatch):
    pins = set(os.listdir("/sys/fs/bpf")) if os.path.isdir("/sys/fs/bpf") else set()
    (result,) = verify_many(bpf_object("pinned"))
    assert result.verdict == "accepted"
    assert (set(os.listdir("/sys/fs/bpf")) if os.path.isdir("/sys/fs/bpf") else set()) == pins


# ---------------------------------------------------------------- items


def test_items_of_all_kinds(bpf_object, several, tmp_path):
    folder = tmp_path / "build" / "deep"
    folder.mkdir(parents=True)
    shutil.copy(several, folder / "b.bpf.o")
    shutil.copy(bpf_object("xdp"), folder.parent / "a.o")
    (folder / "notes.txt").write_text("no object")
    (folder / "native.o").write_bytes(b"\x7fELF\x02\x01\x01".ljust(18, b"\0") + struct.pack("<H", 62).ljust(46, b"\0"))
    (folder / "damaged.o").write_bytes(b"\x7fELF\x02\x01")
    data = bpf_object("xdp").read_bytes()
    report = verify_many([
        tmp_path, str(folder / "*.bpf.o"), str(tmp_path / "**" / "a.o"), data, bytearray(data),
        ("mine.bpf.o", memoryview(data)),
    ])
    assert list(dict.fromkeys((result.object, result.path) for result in report)) == [
        ("a.o", str(folder.parent / "a.o")), ("b.bpf.o", str(folder / "b.bpf.o")),
        ("damaged.o", str(folder / "damaged.o")),
        ("<bytes 5>", ""), ("<bytes 6>", ""), ("mine.bpf.o", ""),
    ]
    assert [result.object for result in report].count("b.bpf.o") == 8
    assert report.verdicts() == {"accepted": 2 * 2 + 2 * 4 + 3 * 2, "refused": 1}


@pytest.mark.parametrize("item", [5, None, ("name",), ("name", 5), (b"name", b""), ("a", b"b", "c")])
def test_items_of_no_kind(item):
    with pytest.raises(TypeError, match="item"):
        verify_many([item])


def test_no_items():
    report = verify_many([])
    assert len(report) == 0 and repr(report) == "<VerifyReport: empty>" and report.verdicts() == {}


def test_what_cannot_be_opened_is_refused_and_does_not_stop_the_rest(several, tmp_path):
    whole = several.read_bytes()
    (tmp_path / "cut.o").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "none.o").write_bytes(b"")
    os.mkfifo(tmp_path / "pipe")
    report = verify_many([
        tmp_path / "cut.o", several, tmp_path / "missing.o", str(tmp_path / "*.nothing"), tmp_path / "none.o",
        tmp_path / "pipe", ("text", b"no ELF at all, however long it may be, and this is long enough for a header"),
    ])
    refused = [result for result in report if result.verdict == "refused"]
    assert [result.object for result in refused] == ["cut.o", "missing.o", "*.nothing", "none.o", "pipe", "text"]
    assert [result.errno for result in refused][1:3] == [errno.ENOENT] * 2
    assert all(result.reason and result.program == "" and result.log for result in refused if result.errno > 4000)
    assert report.verdicts()["accepted"] == 4


def test_names_of_all_sorts(several, tmp_path):
    odd = os.fsdecode(str(tmp_path).encode() + b"/\xff[x]\n.o")
    shutil.copy(several, odd)
    report = verify_many(odd)
    assert report[0].path == odd and report.verdicts() == {"accepted": 4}
    report.to_csv(tmp_path / "csv")
    assert VerifyReport.from_csv(tmp_path / "csv")[0].path == odd
    report.to_json(tmp_path / "json")
    assert VerifyReport.from_json(tmp_path / "json") == report
    report.to_numpy(), pickle.loads(pickle.dumps(report))


@pytest.mark.parametrize("wrong", [
    {"threads": 0}, {"threads": 5000}, {"log_level": 3}, {"log_level": -1}, {"log_limit": 10}, {"ship": "pigeons"},
    {"kconfig": ""}, {"btf_custom_path": ""},
])
def test_wrong_values(several, wrong):
    with pytest.raises(ValueError):
        verify_many(several, **wrong)


@pytest.mark.parametrize("wrong", [
    {"threads": 1.5}, {"handlers": 5}, {"handlers": [object()]}, {"select": "name"}, {"select": [1]}, {"kconfig": 5},
])
def test_wrong_types(several, wrong):
    with pytest.raises(TypeError):
        verify_many(several, **wrong)


def test_options_reach_every_open(bpf_object, several, tmp_path):
    assert verify_many(bpf_object("core"), btf_custom_path="/nonexistent").verdicts() == {"failed": 1}
    assert verify_many(bpf_object("kconfig"), kconfig="CONFIG_HZ=12\n")[0].program == "run"


# ---------------------------------------------------------------- which programs


def test_select(several):
    names = [result.program for result in verify_many(several)]
    assert [result.program for result in verify_many(several, select={names[2], "other"})] == [names[2]]
    assert [result.program for result in verify_many(several, select=[names[3], names[0]])] == [names[0], names[3]]
    chosen = verify_many(several, select=lambda program: program.section != "xdp" and program.name.endswith("1"))
    assert [result.program for result in chosen] == [names[1]]
    assert len(verify_many([several] * 3, select=lambda program: False)) == 0


def test_a_function_that_selects_and_raises(several):
    def choose(program: pylbpf.Program) -> bool:
        raise LookupError(program.name)

    with pytest.raises(LookupError) as raised:
        verify_many([several] * 10, select=choose)
    assert len(raised.value.report) < 40


# ---------------------------------------------------------------- logs


def test_logs_keep_their_end(bpf_object):
    (whole,) = verify_many(bpf_object("long_log"), log_limit=1 << 22)
    (cut,) = verify_many(bpf_object("long_log"), log_limit=2000)
    assert whole.verdict == cut.verdict == "rejected" and len(whole.log) > 100_000
    assert len(cut.log) <= 2000 and re.match(r"\d+: |;|from |R\d|\S", cut.log)
    ends = [[line for line in result.log.splitlines() if not line.startswith("verification time ")][-4:] for result in (whole, cut)]
    assert ends[0] == ends[1]
    assert (whole.reason, whole.insn) == (cut.reason, cut.insn) and cut.insn is not None


def test_kernels_that_keep_the_begin_of_a_log_get_a_larger_buffer(bpf_object):
    found: list[Any] = []
    path = os.fsencode(bpf_object("long_log"))
    verifying.verify([("x", path, None, b"x")], lambda *each: found.append(each), fixed_log=True)
    if found[0][5] == "failed":
        pytest.skip("BPF_LOG_FIXED: libbpf before 1.2 or a kernel before 6.4")
    log = found[0][13]
    assert found[0][5] == "rejected" and 10_000 < len(log) <= 1 << 14 and "processed " in log[-300:]


def test_log_levels(several, bpf_object):
    way = re.compile(r"^\d+: \(..\) ", re.MULTILINE)
    accepted = [verify_many(several, log_level=level)[0] for level in range(3)]
    assert [bool(way.search(result.log)) for result in accepted] == [False, False, True]
    rejected = [verify_many(bpf_object("rejected"), log_level=level)[1] for level in range(3)]
    assert [bool(way.search(result.log)) for result in rejected] == [False, True, True]
    assert len({result.reason for result in rejected}) == 1
    assert [result.insn is None for result in rejected] == [True, False, False]
    for result in accepted + rejected:
        assert len(re.findall("^processed ", result.log, re.MULTILINE)) == 1


# ---------------------------------------------------------------- handlers


def test_declarative_handlers_need_no_gil(mine):
    assert verify_many(mine).verdicts() == {"failed": 4}
    before = pylbpf.handler_stats()
    handler = pylbpf.ProgramHandler(section="mine/", program_type=RAW)
    assert verify_many([mine] * 5, handlers=[handler], threads=4).verdicts() == {"accepted": 20}
    with registered(handler):
        assert verify_many(mine).verdicts() == {"accepted": 4}
    assert (pylbpf.handler_stats() - before).gil_acquired == 0


def test_python_handlers_are_called_for_each_load(mine):
    handler = Recorder("mine/")
    assert verify_many([mine] * 3, handlers=[handler], threads=3).verdicts() == {"accepted": 12}
    assert sorted(handler.names("prepare_load")) == sorted([f"p{at:04}" for at in range(4)] * 3)
    assert len(handler.names("setup")) == 12 * 4 and not handler.names("attach")


@pytest.mark.parametrize("python", [False, True])
def test_overrides_leave_libbpfs_table_free(several, python):
    handler = (Recorder if python else pylbpf.ProgramHandler)(section="raw_tp/task_rename", program_type=RAW)
    other = pylbpf.ProgramHandler(section="raw_tp/sys_enter", program_type=RAW)
    assert verify_many([several] * 4, handlers=[handler], threads=2).verdicts() == {"accepted": 16}
    with registered(handler):
        assert verify_many([several] * 4, threads=2).verdicts() == {"accepted": 16}
        with registered(other):     # HandlerBusyError if a program still pointed into the table
            pass
    with registered(other):
        pass


def test_setup_that_raises_refuses_the_object(mine, several):
    class Wrong(pylbpf.ProgramHandler):
        def setup(self, program: pylbpf.Program) -> None:
            raise LookupError("not here")

    report = verify_many([mine, several], handlers=[Wrong(section="mine/")])
    assert [result.verdict for result in report] == ["refused"] + ["accepted"] * 4
    assert report[0].reason == "LookupError: not here" and report[0].errno == errno.ECANCELED
    assert "Traceback" in report[0].log and "in setup" in report[0].log or sys.version_info < (3, 11)


def test_prepare_load_that_raises_fails_its_program_only(mine):
    class Wrong(pylbpf.ProgramHandler):
        def prepare_load(self, program: pylbpf.Program, opts: pylbpf.LoadOpts) -> None:
            if program.name == "p0002":
                raise OSError(errno.EXDEV, "not this one")

    report = verify_many([mine] * 3, handlers=[Wrong(section="mine/", program_type=RAW)], threads=3)
    assert [result.verdict for result in report] == ["accepted", "accepted", "failed", "accepted"] * 3
    assert report[2].reason == "OSError: [Errno 18] not this one" and report[2].errno == errno.EXDEV


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_a_callback_that_wants_to_end_all_does(mine, error):
    class End(pylbpf.ProgramHandler):
        def setup(self, program: pylbpf.Program) -> None:
            raise error()

    with pytest.raises(error) as raised:
        verify_many([mine] * 20, handlers=[End(section="mine/", program_type=RAW)], threads=2)
    assert isinstance(raised.value.report, VerifyReport) and len(raised.value.report) < 20


def test_what_a_callback_keeps_is_closed(mine):
    kept: list[pylbpf.Program] = []

    class Keep(pylbpf.ProgramHandler):
        def setup(self, program: pylbpf.Program) -> None:
            kept.append(program)

    assert verify_many(mine, handlers=[Keep(section="mine/", program_type=RAW)]).verdicts() == {"accepted": 4}
    for program in kept:
        with pytest.raises(ValueError, match="closed"):
            program.name


def test_a_view_that_a_callback_keeps_is_told_and_safe(mine):
    kept: list[memoryview] = []

    class Keep(pylbpf.ProgramHandler):
        def prepare_load(self, program: pylbpf.Program, opts: pylbpf.LoadOpts) -> None:
            if program.name == "p0001":
                kept.append(memoryview(program.insns))

    report = verify_many(mine, handlers=[Keep(section="mine/", program_type=RAW)])
    assert [result.verdict for result in report] == ["accepted", "failed", "accepted", "accepted"]
    assert report[1].reason.startswith("BufferError: ") and "views" in report[1].reason
    assert len(kept[0].tobytes()) == 2 * 8
    kept.clear()


def test_callbacks_may_verify_too(mine, several):
    """A call inside a call."""
    inner: list[VerifyReport] = []

    class Nested(pylbpf.ProgramHandler):
        def setup(self, program: pylbpf.Program) -> None:
            if not inner:
                inner.append(VerifyReport())
                inner[0] = verify_many(several, threads=2)

    report = verify_many(mine, handlers=[Nested(section="mine/", program_type=RAW)], threads=1)
    assert report.verdicts() == {"accepted": 4}
    assert inner[0].verdicts() == {"accepted": 4}


def test_many_calls_at_once(bpf_objects, mine):
    expected = short(verify_many(bpf_objects["rejected"]))
    wrong: list[object] = []

    def work(number: int) -> None:
        for _ in range(5):
            handlers = [] if number % 2 else [Recorder("mine/")]
            report = verify_many([bpf_objects["rejected"], mine], handlers=handlers, threads=2)
            if short(report[:2]) != expected or report[2].verdict != ("failed" if number % 2 else "accepted"):
                wrong.append(report)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


# ---------------------------------------------------------------- progress, the end before the end


def test_progress(bpf_objects, several):
    seen: list[tuple[int, int, VerifyResult]] = []
    caller = threading.get_ident()

    def on_progress(done: int, total: int, result: VerifyResult) -> None:
        assert threading.get_ident() == caller
        seen.append((done, total, result))

    report = verify_many([several, bpf_objects["rejected"], "/none"], on_progress=on_progress, threads=2)
    assert [done for done, _, _ in seen] == list(range(1, 8))
    assert all(done <= total for done, total, _ in seen) and seen[-1][1] == 7
    assert sorted(result for _, _, result in seen) == sorted(report)


def test_progress_that_raises_ends_it(several):
    def on_progress(done: int, total: int, result: VerifyResult) -> None:
        if done == 3:
            raise LookupError("enough")

    with pytest.raises(LookupError, match="enough") as raised:
        verify_many([several] * 400, on_progress=on_progress, threads=2)
    assert 3 <= len(raised.value.report) < 1600


def test_ctrl_c_has_what_was_found_so_far(bpf_object):
    def on_progress(done: int, total: int, result: VerifyResult) -> None:
        if done == 1:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt) as raised:
        verify_many([bpf_object("rings")] * 400, on_progress=on_progress, threads=2)
    report = raised.value.report
    assert 1 <= len(report) < 400 and set(report.verdicts()) == {"accepted"}


def test_descriptors_run_out_in_the_middle():
    """A program fails, with the number, and nothing is left open."""
    path = objects.build(objects.many(3, "mine/{i}", with_map=True), "with_map")
    script = """
import errno, os, resource, sys, pylbpf
class Take(pylbpf.ProgramHandler):
    program_type = pylbpf.ProgramType.RAW_TRACEPOINT
    def setup(self, program):
        self.count += 1
        if self.count == 30:            # the first program of the tenth open
            try:
                while True:
                    taken.append(os.dup(2))
            except OSError:
                pass
def give(done, total, result):
    if result.verdict != "accepted":
        while taken:
            os.close(taken.pop())
handler = Take(section="mine/")
handler.count, taken = 0, []
pylbpf.verify_many(sys.argv[1], handlers=[handler])
before = os.listdir("/proc/self/fd")
resource.setrlimit(resource.RLIMIT_NOFILE, (60, 60))
report = pylbpf.verify_many([sys.argv[1]] * 30, handlers=[handler], on_progress=give, threads=1)
assert os.listdir("/proc/self/fd") == before
failed = [result for result in report if result.verdict != "accepted"]
assert failed and {result.errno for result in failed} == {errno.EMFILE}, failed
assert {result.verdict for result in failed} <= {"failed", "refused"} and all(result.reason for result in failed)
assert report.verdicts()["accepted"] >= 6
print(len(failed))
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    result = subprocess.run([sys.executable, "-c", script, str(path)], text=True, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, env=environment)
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) > 0


def test_no_memory_limit_of_its_own(several):
    """More objects at once than would fit if each worker took much."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, hard), hard))
    try:
        assert verify_many([several] * 300, threads=8).verdicts() == {"accepted": 1200}
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_without_the_right_to_load_programs_fail(several):
    setpriv = shutil.which("setpriv")
    if not kernel.has_capability("CAP_SYS_ADMIN") or not setpriv:
        pytest.skip("setpriv: not here, or CAP_SETPCAP missing")
    script = ("import sys, pylbpf\nreport = pylbpf.verify_many(sys.argv[1])\n"
              "print(report.verdicts(), report[0].errno, report[0].reason)")
    result = subprocess.run(
        [setpriv, "--inh-caps", "-all", "--bounding-set", "-all", sys.executable, "-c", script, str(several)],
        stdout=subprocess.PIPE, text=True, check=True)
    assert result.stdout == "{'failed': 4} 1 Operation not permitted: missing CAP_BPF and CAP_PERFMON\n"


# ---------------------------------------------------------------- reports


def made(**fields: Any) -> VerifyResult:
    """A result, of which only these fields matter."""
    usual: dict[str, Any] = {field: None for field in VerifyResult._fields}
    usual.update(object="a.bpf.o", path="/a.bpf.o", program="p", section="xdp", type="xdp", verdict="accepted",
                 seconds=0.5, stack_depths=(), errno=0, log="")
    return VerifyResult(**{**usual, **fields})


RESULTS = VerifyReport([
    made(verification_time=0.25, insns_processed=10, total_states=1, peak_states=1, max_states_per_insn=0, mark_read=0,
         stack_depths=(8, 0), insn_count=9, xlated_size=72, jited_size=50, log="processed 10 insns\n"),
    made(program="q", verdict="rejected", errno=13, reason='R0 "is", bad', insn=4, source="*x = 1;", log="way\n"),
    made(object="bad, worse.o", program="", section="", type="", verdict="refused", errno=4001, reason="not an ELF"),
], seconds=1.5, kernel="6.18", libbpf="1.1")


def test_a_report_is_a_sequence_that_travels():
    assert len(RESULTS) == 3 and RESULTS[-1].verdict == "refused" and list(RESULTS[1:]) == [RESULTS[1], RESULTS[2]]
    assert isinstance(RESULTS[1:], VerifyReport) and RESULTS[1:].kernel == "6.18"
    assert repr(RESULTS) == "<VerifyReport: 1 accepted, 1 rejected, 1 refused>"
    again = pickle.loads(pickle.dumps(RESULTS))
    assert again == RESULTS and (again.seconds, again.kernel, again.libbpf) == (1.5, "6.18", "1.1")
    with pytest.raises(AttributeError):
        RESULTS[0].verdict = "other"
    with pytest.raises(TypeError):
        hash(RESULTS)
    assert RESULTS != [*RESULTS]


def test_records():
    first = RESULTS.records()[0]
    assert first["stack_depth"] == 8 and first["stack_depths"] == (8, 0)
    assert list(first)[:-1] == list(VerifyResult._fields)


def test_csv(tmp_path):
    text = RESULTS.to_csv()
    lines = text.splitlines()
    assert len(lines) == 4 and lines[0].startswith("object,path,program,section,type,verdict,seconds,")
    assert "8+0" in lines[1] and '"R0 ""is"", bad"' in lines[2]
    assert RESULTS.to_csv(tmp_path / "report.csv") is None and (tmp_path / "report.csv").read_text() == text
    again = VerifyReport.from_csv(tmp_path / "report.csv")
    assert list(again) == [result._replace(log="") for result in RESULTS]


def test_json(tmp_path):
    assert RESULTS.to_json(tmp_path / "report.json") is None
    again = VerifyReport.from_json(tmp_path / "report.json")
    assert again == RESULTS and (again.seconds, again.kernel, again.libbpf) == (1.5, "6.18", "1.1")
    assert RESULTS.to_json() == (tmp_path / "report.json").read_text()


def test_tables_of_newer_and_older_versions(tmp_path):
    (tmp_path / "csv").write_text("colour,object,verdict,program\nred,a,accepted,p\n")
    (result,) = VerifyReport.from_csv(tmp_path / "csv")
    assert (result.object, result.program, result.seconds, result.insns_processed) == ("a", "p", 0.0, None)


@pytest.mark.parametrize("text", [
    "", "a,b\n1,2\n", "object,program,verdict\n" + '"open', "object,program,verdict,errno\na,b,accepted,many\n",
    "object,program,verdict,stack_depths\na,b,accepted,1+x\n",
])
def test_no_csv_of_ours(tmp_path, text):
    (tmp_path / "csv").write_text(text)
    with pytest.raises(ValueError):
        VerifyReport.from_csv(tmp_path / "csv")


@pytest.mark.parametrize("text", [
    "", "{}", "[]", "5", '{"results": 5}', '{"results": [{"object": "a", "stack_depths": []}]}',
])
def test_no_json_of_ours(tmp_path, text):
    (tmp_path / "json").write_text(text)
    with pytest.raises(ValueError):
        VerifyReport.from_json(tmp_path / "json")


@pytest.mark.parametrize(("column", "value"), [
    ("insns_processed", "many"), ("seconds", None), ("verification_time", [1]), ("verdict", None), ("reason", 5),
    ("stack_depths", ["8"]), ("errno", 1.5), ("log", {}),
])
def test_no_field_of_ours(tmp_path, column, value):
    whole = json.loads(RESULTS.to_json())
    whole["results"][1][column] = value
    (tmp_path / "json").write_text(json.dumps(whole))
    with pytest.raises(ValueError, match=column):
        VerifyReport.from_json(tmp_path / "json")


def test_numpy():
    numpy = pytest.importorskip("numpy")
    table = RESULTS.to_numpy()
    assert table.shape == (3,) and table["insns_processed"].tolist() == [10, -1, -1]
    assert numpy.isnan(table["verification_time"]).tolist() == [False, True, True]
    assert table["verdict"].tolist() == ["accepted", "rejected", "refused"] and table["stack_depths"][0] == "8+0"
    assert table["seconds"].dtype == "f8" and VerifyReport().to_numpy().shape == (0,)


def test_pandas():
    pandas = pytest.importorskip("pandas")
    frame = RESULTS.to_pandas()
    assert frame.shape == (3, 22) and frame["insn"].isna().tolist() == [True, False, True]
    assert str(frame["insn"].dtype) == "Int64" and frame.loc[1, "insn"] == 4
    assert isinstance(VerifyReport().to_pandas(), pandas.DataFrame)


def test_arrow():
    pytest.importorskip("pyarrow")
    table = RESULTS.to_arrow()
    assert table.num_rows == 3 and table["insn"].to_pylist() == [None, 4, None]
    assert table["stack_depths"].to_pylist() == [[8, 0], [], []] and VerifyReport().to_arrow().num_rows == 0


@pytest.mark.parametrize("method, module", [("to_numpy", "numpy"), ("to_pandas", "pandas"), ("to_arrow", "pyarrow")])
def test_tables_that_need_what_is_not_installed(monkeypatch, method, module):
    monkeypatch.setitem(sys.modules, module, None)
    words = rf"VerifyReport.{method}\(\) needs {module}, which is not installed"
    with pytest.raises(ImportError, match=words) as raised:
        getattr(RESULTS, method)()
    assert raised.value.name == module


# ---------------------------------------------------------------- the log of the verifier


@pytest.mark.parametrize("log, counts, depths, time", [
    ("verification time 137 usec\nstack depth 8+0+16\nprocessed 11 insns (limit 1000000) max_states_per_insn 3 "
     "total_states 2 peak_states 1 mark_read 4\n",
     {"insns_processed": 11, "max_states_per_insn": 3, "total_states": 2, "peak_states": 1, "mark_read": 4},
     (8, 0, 16), 137e-6),
    ("processed 7 insns (limit 131072), stack depth 16+0\n", {"insns_processed": 7}, (16, 0), None),
    ("processed 5 insns\n", {"insns_processed": 5}, (), None),
    ("0: (95) exit\nprocessed 12 insns (limit 1000000) new_count 3 total_states 2\n",
     {"insns_processed": 12, "new_count": 3, "total_states": 2}, (), None),
    ("0: (95) exit\n", {}, (), None),
    ("", {}, (), None),
])
def test_statistics_of_all_kernels(log, counts, depths, time):
    from pylbpf._verifier import statistics

    found, *rest = statistics(log)
    assert {name: found.get(name) for name in counts} == counts and set(found) - set(counts) <= {"limit", "depth"}
    assert rest == [depths, time]


# ---------------------------------------------------------------- comparisons


def compared(before: list[VerifyResult], after: list[VerifyResult], **options: Any) -> list[tuple[Any, ...]]:
    return [tuple(change) for change in VerifyReport(after).compare(VerifyReport(before), **options)]


def test_nothing_has_changed():
    comparison = RESULTS.compare(RESULTS)
    assert len(comparison) == 0 and str(comparison) == "" and repr(comparison) == "<VerifyComparison: no difference>"


def test_counts_and_verdicts_that_changed():
    before = [made(insns_processed=100, total_states=10), made(program="q"), made(program="r", verdict="rejected"),
              made(program="s", verdict="failed", insns_processed=1)]
    after = [made(insns_processed=150, total_states=9), made(program="q", verdict="rejected"), made(program="r"),
             made(program="s", verdict="failed", insns_processed=2)]
    comparison = VerifyReport(after).compare(VerifyReport(before))
    assert [tuple(change) for change in comparison] == [
        ("worse", "a.bpf.o", "p", "insns_processed", 100, 150),
        ("worse", "a.bpf.o", "q", "verdict", "accepted", "rejected"),
        ("better", "a.bpf.o", "p", "total_states", 10, 9),
        ("better", "a.bpf.o", "r", "verdict", "rejected", "accepted"),
    ]
    assert comparison[0].ratio == 1.5 and comparison[1].ratio is None
    assert len(comparison.worse) == len(comparison.better) == 2 and not comparison.appeared + comparison.vanished
    assert repr(comparison) == "<VerifyComparison: 2 worse, 2 better>"
    assert repr(comparison[:1]) == "<VerifyComparison: 1 worse>"
    assert str(comparison).splitlines()[:2] == [
        "worse    a.bpf.o p: insns_processed 100 -> 150 (+50.0%)", "worse    a.bpf.o q: verdict accepted -> rejected"]
    assert comparison.records()[0]["ratio"] == 1.5


def test_programs_that_came_and_went():
    assert compared([made(program="old"), made()], [made(), made(program="new", verdict="rejected")]) == [
        ("appeared", "a.bpf.o", "new", "verdict", None, "rejected"),
        ("vanished", "a.bpf.o", "old", "verdict", "accepted", None),
    ]
    assert str(VerifyReport([made()]).compare(VerifyReport())) == "appeared a.bpf.o p: accepted"


def test_an_object_that_cannot_be_opened_any_more_or_can_again():
    refused = made(program="", verdict="refused")
    whole = [made(), made(program="q", verdict="rejected")]
    assert compared(whole, [refused]) == [
        ("worse", "a.bpf.o", "p", "verdict", "accepted", "refused"),
        ("worse", "a.bpf.o", "q", "verdict", "rejected", "refused"),
    ]
    assert compared([refused], whole) == [
        ("better", "a.bpf.o", "p", "verdict", "refused", "accepted"),
        ("better", "a.bpf.o", "q", "verdict", "refused", "rejected"),
    ]
    assert compared([refused], [refused]) == []
    assert compared([], [refused]) == [("appeared", "a.bpf.o", "", "verdict", None, "refused")]


def test_objects_of_the_same_name_in_their_order():
    before = [made(path="/1", insns_processed=1), made(path="/2", insns_processed=2)]
    after = [made(path="/1", insns_processed=1), made(path="/2", insns_processed=3), made(path="/3")]
    assert compared(before, after) == [
        ("worse", "a.bpf.o", "p", "insns_processed", 2, 3), ("appeared", "a.bpf.o", "p", "verdict", None, "accepted")]


def test_thresholds_and_fields():
    before, after = [made(insns_processed=100, seconds=1.0)], [made(insns_processed=105, seconds=2.0)]
    assert compared(before, after, threshold=0.05) == []
    assert len(compared(before, after, threshold=0.04)) == 1
    assert [change[3] for change in compared(before, after, fields=["seconds"])] == ["seconds"]
    with pytest.raises(ValueError, match="'colour' is not a field"):
        compared(before, after, fields=["colour"])
    with pytest.raises(ValueError, match="threshold"):
        compared(before, after, threshold=-1)


def test_what_is_the_same_compares_so(crowd):
    assert len(verify_many(crowd, threads=1).compare(verify_many(crowd, threads=3))) == 0


# ---------------------------------------------------------------- executors


class Deadly(pylbpf.ProgramHandler):
    """Ends the process that opens a program of this name; it can be sent."""

    section = "mine/"
    program_type = RAW

    def __init__(self, name: str, parent: int) -> None:
        self.name, self.parent = name, parent

    def __reduce__(self) -> Any:
        return Deadly, (self.name, self.parent)

    def setup(self, program: pylbpf.Program) -> None:
        if program.name == self.name and os.getpid() != self.parent:
            os._exit(3)


@pytest.fixture(scope="module", autouse=True)
def resource_tracker() -> None:
    """What multiprocessing starts with the first process and keeps until the end."""
    from multiprocessing import resource_tracker

    resource_tracker.ensure_running()


def pool(workers: int = 2) -> concurrent.futures.ProcessPoolExecutor:
    return concurrent.futures.ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"))


@pytest.mark.parametrize("ship", ["paths", "bytes"])
def test_threads_of_somebody_else(crowd, ship):
    expected = verify_many(crowd)
    seen: list[tuple[int, int]] = []
    with concurrent.futures.ThreadPoolExecutor(2) as executor:
        report = verify_many(crowd, executor=executor, ship=ship,
                             on_progress=lambda done, total, result: seen.append((done, total)))
    assert short(report) == short(expected)
    assert [result.path for result in report] == [result.path for result in expected]
    assert [done for done, _ in seen] == list(range(1, len(report) + 1)) and seen[-1][1] == len(report)


def test_what_goes_wrong_is_reported_from_afar_too(bpf_object, tmp_path):
    items = [bpf_object("rejected"), tmp_path / "missing", ("damaged", b"\x7fELF")]
    with concurrent.futures.ThreadPoolExecutor(1) as executor:
        for ship in ("paths", "bytes"):
            assert short(verify_many(items, executor=executor, ship=ship)) == short(verify_many(items))


def test_processes(crowd):
    expected = short(verify_many(crowd))
    with pool() as executor:
        assert short(verify_many(crowd, executor=executor)) == expected
        names = verify_many(crowd[0]).records()[0]["program"]
        assert {result.program for result in verify_many(crowd, executor=executor, select=[names])} == {names}
        with pytest.raises((pickle.PicklingError, AttributeError, TypeError)):
            verify_many(crowd, executor=executor, select=lambda program: True)
        with pytest.raises(ValueError, match="kconfig"):
            verify_many(crowd, executor=executor, kconfig="")
    with pytest.raises(RuntimeError, match="shutdown"):
        verify_many(crowd, executor=executor)


def test_a_process_that_is_killed_loses_no_item(crowd):
    killed: list[int] = []
    with pool() as executor:
        def kill(done: int, total: int, result: VerifyResult) -> None:
            if not killed:
                killed.append(next(iter(executor._processes)))
                os.kill(killed[0], signal.SIGKILL)

        report = verify_many(crowd, executor=executor, on_progress=kill)
    assert killed and short(report) == short(verify_many(crowd))


def test_an_object_that_kills_its_worker_is_the_only_one_that_fails(crowd, tmp_path):
    deadly = tmp_path / "deadly.bpf.o"
    shutil.copy(objects.build(objects.many(4, "mine/{i}").replace("p0002", "kills"), "deadly"), deadly)
    with pool() as executor:
        report = verify_many([*crowd[:8], deadly], executor=executor, handlers=[Deadly("kills", os.getpid())])
    *others, failed = report
    assert (failed.object, failed.verdict, failed.errno) == ("deadly.bpf.o", "failed", errno.EIO)
    assert "lost 3 times" in failed.reason and "BrokenProcessPool" in failed.reason
    assert {result.verdict for result in others} == {"accepted"} and {result.object for result in others} == {
        path.name for path in crowd[:8]}


def test_an_executor_that_cannot_work_at_all(crowd):
    def fail() -> None:
        raise LookupError

    logging.getLogger("concurrent.futures").addFilter(lambda record: False)
    with concurrent.futures.ThreadPoolExecutor(1, initializer=fail) as executor:
        with pytest.raises(concurrent.futures.BrokenExecutor):
            verify_many(crowd, executor=executor)


def test_progress_that_raises_takes_back_what_was_handed_out(crowd):
    def on_progress(done: int, total: int, result: VerifyResult) -> None:
        raise LookupError("enough")

    with concurrent.futures.ThreadPoolExecutor(1) as executor:
        with pytest.raises(LookupError) as raised:
            verify_many(crowd, executor=executor, on_progress=on_progress)
    assert 0 < len(raised.value.report) < len(verify_many(crowd))


@pytest.fixture
def cluster() -> Iterator[Any]:
    """A client of two worker processes."""
    distributed = pytest.importorskip("distributed", reason="distributed: not installed")
    with contextlib.ExitStack() as stack:
        local = stack.enter_context(distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=logging.CRITICAL))
        yield stack.enter_context(distributed.Client(local))


@pytest.mark.filterwarnings("ignore")
def test_a_cluster_of_which_a_worker_is_killed_loses_no_item(crowd, cluster):
    expected = short(verify_many(crowd))
    assert short(verify_many(crowd, executor=cluster.get_executor(), ship="bytes")) == expected
    killed: list[int] = []

    def kill(done: int, total: int, result: VerifyResult) -> None:
        if not killed:
            killed.append(next(iter(cluster.run(os.getpid).values())))
            os.kill(killed[0], signal.SIGKILL)

    report = verify_many(crowd, executor=cluster.get_executor(), on_progress=kill)
    assert killed and short(report) == expected


# ---------------------------------------------------------------- misuse


def test_names_may_come_from_anything(bpf_object):
    names = ["first", "second"]
    for select in (names, iter(names), (name for name in names), {*names}, dict.fromkeys(names)):
        assert [result.program for result in verify_many(bpf_object("subprogs"), select=select)] == names


@pytest.mark.parametrize("options, error, words", [
    ({"on_progress": 5}, TypeError, "on_progress must be callable, not int"),
    ({"select": 5}, TypeError, "select must be a function or a collection of names, not 5"),
    ({"select": "first"}, TypeError, "select must be a function or a collection of names"),
    ({"select": ["first", 5]}, TypeError, "select must be a function or a collection of names"),
    ({"log_limit": "1"}, TypeError, "log_limit must be a number, not str"),
    ({"threads": 0}, ValueError, "threads must be 1 or more, not 0"),
    ({"threads": "2"}, TypeError, "threads must be a number, not str"),
    ({"executor": 5}, TypeError, "executor must be a concurrent.futures.Executor, not int"),
])
def test_bad_options_are_told_at_once(options, error, words):
    for executor in (None, concurrent.futures.Executor()):
        with pytest.raises(error, match=words):
            verify_many([], **{"executor": executor, **options})


def test_a_child_that_on_progress_forks_cannot_go_on(bpf_object):
    children = []

    def fork(done, total, result):
        if done == 3:
            child = os.fork()
            if child == 0:
                return
            children.append(child)

    parent = os.getpid()
    try:
        report = verify_many([bpf_object("subprogs")] * 10, on_progress=fork)
    except BaseException as error:
        if os.getpid() == parent:
            raise
        os._exit(7 if isinstance(error, pylbpf.StateError) and "forked in the middle" in str(error) else 8)
    if os.getpid() != parent:
        os._exit(6)
    assert os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1]) == 7
    assert {result.verdict for result in report} == {"accepted"}
