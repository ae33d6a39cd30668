"""load(threads=…): what comes of it is what a plain load makes, whatever the object, the settings and the failures."""
from __future__ import annotations

import ctypes
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import kernel
import loaded
import objects
import pylbpf
import usdt
from handling import HIT, RAW, Recorder, compile_c, count_this_process, registered, rest, value
from pylbpf import ProgramType, State

bpf = pytest.mark.bpf
pytestmark = pytest.mark.timeout(method="thread")
VERSION = pylbpf.libbpf_version()[:2]


def source(*programs: str, before: str = "") -> str:
    """C of these functions, by their bodies, on a raw tracepoint: p0000, p0001, …"""
    functions = [f'SEC("raw_tp/{HIT}") int p{at:04}(void *ctx) {{ {body} }}' for at, body in enumerate(programs)]
    return "\n".join([
        "#include <linux/bpf.h>", "#include <bpf/bpf_helpers.h>",
        "struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 4); __type(key, __u32); __type(value, __u64); }",
        'values SEC(".maps");', before, *functions, 'char _license[] SEC("license") = "GPL";', ""])


GOOD = "return 0;"
BAD = "__u32 key = 7; __u64 *value = bpf_map_lookup_elem(&values, &key); *value += 1; return 0;"


def with_bad(count: int, *bad: int) -> Path:
    return objects.build(source(*(BAD if number in bad else GOOD for number in range(count))),
                         f"bad_{count}_{'_'.join(map(str, bad))}")


def many(count: int, sections: str = f"raw_tp/{HIT}", **options) -> Path:
    return objects.build(objects.many(count, sections, **options), f"many_{count}")


def result(path, threads, *, change=lambda obj: None, **options):
    """Everything that can be seen of a load, or of its failure."""
    with pylbpf.open(path, **options) as obj:
        change(obj)
        try:
            obj.load(threads=threads)
        except pylbpf.BpfError as error:
            failure = loaded.of_error(error)
        else:
            failure = None
        seen = {"failure": failure, **loaded.everything(obj)}
    if failure:
        # Those after the failure may not have got their final instructions.
        for program in seen["programs"]:
            for name in ("insn_count", "func_info", "line_info"):
                program.pop(name, None)
    for pin in Path(options.get("pin_root_path", "/nowhere")).glob("*"):
        pin.unlink()
    return seen


def same(path, *, threads=(2, 5), **options):
    """A load with threads is as one without; what that is."""
    plain = result(path, None, **options)
    for number in threads:
        assert loaded.differences(plain, result(path, number, **options)) == []
    return plain


def all_closed(obj):
    assert obj.state == State.FAILED
    assert all(program.fd == -1 for program in obj.programs.values())
    assert all(map.fd == -1 for map in obj.maps.values())


@pytest.fixture
def nothing_stays():
    """No program and no map is in the kernel, by a descriptor, when a load has failed."""
    before = loaded.in_kernel()
    return lambda: loaded.in_kernel() == before


# ---------------------------------------------------------------- the same as without


@bpf
@pytest.mark.parametrize("name", sorted(  # but struct_ops, whose maps cannot be shared
    {path.name[: -len(".bpf.c")] for path in objects.SOURCES.glob("*.bpf.c")} - {"struct_ops"}))
def test_objects_of_all_sorts(bpf_object, bpffs, name):
    """Each with two more programs, for many have only one."""
    text = (objects.SOURCES / f"{name}.bpf.c").read_text().replace('#include "', f'#include "{objects.SOURCES}/')
    wish = objects.CPU.search(text)
    more = "\n".join(f'SEC("raw_tp/{HIT}") int {extra}(void *ctx) {{ return 0; }}' for extra in ("more", "most"))
    bpf_object(name)  # skips what this compiler cannot do
    path = objects.build(text + more, f"{name}_and_more", cpu=wish.group(1) if wish else "v3")
    for given in (path, path.read_bytes()):
        same(given, handlers=[rest()], name="same", pin_root_path=bpffs, log_level=0)
    if not name.startswith("long_"):
        same(path, handlers=[rest()], pin_root_path=bpffs, log_level=1)


@bpf
def test_many_programs_in_one_section_and_in_many():
    for sections in (f"raw_tp/{HIT}", "mine/{i}"):
        path = many(40, sections, with_map=True, subprogram=True, insns=30)
        seen = same(path, handlers=[rest()], threads=(2, 16))
        assert all(program["loaded"] for program in seen["programs"])
        assert all(program["maps"] == ["counts"] for program in seen["programs"])


@bpf
def test_programs_in_parts_run_and_share_maps(bpf_object):
    seen = []
    for threads in (None, 2, 7):
        with pylbpf.open(bpf_object("parts")) as obj:
            obj.load(threads=threads)
            obj.maps["process"].update(bytes(4), os.getpid().to_bytes(8, "little"))
            with obj.attach() as links:
                kernel.rename_task(5)
                assert [link.program for link in links] == [each for each in obj.programs.values() if each.fd >= 0]
            seen.append(([value(obj.maps["counts"], slot) for slot in range(10)], loaded.everything(obj)))
    assert seen[0] == seen[1] == seen[2]
    assert seen[0][0] == [5, 0, 10, 5, 0, 5, 3, 2, 15, 5]
    assert seen[0][1]["filled slots"]["jumps"] == [None, "leap", "land", None]


@bpf
def test_programs_in_parts_attach_one_by_one():
    with pylbpf.open(many(6, with_map=True, by_process=True)) as obj:
        before = list(obj.programs.values())
        obj.load(threads=3)
        count_this_process(obj)
        for program in before:
            assert program == obj.programs[program.name] and hash(program) == hash(obj.programs[program.name])
            assert program.fileno() == program.fd >= 0 and program.object is obj
            with program.attach() as link:
                assert link.program is program
            with program.attach_raw_tracepoint(HIT):
                kernel.rename_task()
        assert [value(obj.maps["counts"], slot) for slot in range(6)] == [1] * 6
        before[2].unload()
        assert before[2].fd == -1 and before[3].fd >= 0
        with pytest.raises(pylbpf.StateError):
            before[2].attach()
        before[4].autoattach = False
        assert not obj.programs["p0004"].autoattach
        links = obj.attach()
        assert [link.program.name for link in links] == ["p0000", "p0001", "p0003", "p0005"]
    with pytest.raises(ValueError, match="closed"):
        before[0].fd


@bpf
def test_programs_in_parts_attach_with_others():
    """Their handlers are those that they were bound to, however they were used before."""
    handlers = [Recorder("mine/"), pylbpf.ProgramHandler(section="other/", program_type=RAW)]
    sections = [f"mine/{number}" if number % 2 else f"raw_tp/{HIT}" for number in range(5)] + ["other/x"]
    path = objects.build(objects.many(6, sections, with_map=True), "mixed")
    with pylbpf.open(path, handlers=handlers) as obj:
        obj.load(threads=3)
        programs = list(obj.programs.values())
        assert all(program.fd >= 0 for program in programs)
        with pylbpf.attach_many(programs) as links:
            assert sorted(link.program.name for link in links) == [f"p{number:04}" for number in range(5)]
            assert [program.section for program in links.skipped] == ["other/x"]
            assert sorted(handlers[0].names("attach")) == ["p0001", "p0003"]
            kernel.rename_task()
        assert [value(obj.maps["counts"], slot) >= 1 for slot in range(6)] == [True] * 5 + [False]
        with pytest.raises(ValueError, match="given twice"):
            pylbpf.attach_many([*programs, obj])


@bpf
def test_parts_hold_nothing_once_the_object_is_closed(nothing_stays):
    path = many(8, with_map=True)
    obj = pylbpf.open(path)
    obj.load(threads=4)
    link = obj.programs["p0000"].attach()
    obj.close()
    assert link.closed and nothing_stays()
    obj = pylbpf.open(path)
    obj.load(threads=4)
    program = obj.programs["p0007"]
    del obj
    assert program.fd >= 0  # it keeps its object
    del program
    assert nothing_stays()


@bpf
def test_settings_are_carried_over(bpf_object):
    def change(obj):
        programs = list(obj.programs.values())
        programs[0].log_level = 2
        programs[1].flags |= pylbpf.ProgramFlags.STRICT_ALIGNMENT
        programs[2].autoload = False
        programs[3].autoattach = False
        programs[4].type = ProgramType.SOCKET_FILTER
        programs[5].type = ProgramType.SOCKET_FILTER
        programs[5].type = RAW
        obj.maps["counts"].max_entries = 77
        obj.kernel_version = 0x60000

    path = many(8, with_map=True)
    seen = same(path, change=change, threads=(2, 8))
    assert "processed" in seen["programs"][0]["log"] and not seen["programs"][1]["log"]
    assert not seen["programs"][2]["loaded"] and seen["programs"][4]["type"] == ProgramType.SOCKET_FILTER
    assert seen["maps"][0]["kernel's max_entries"] == 77
    # A type that was changed, even back, makes newer libbpf forget how the section is attached.
    outcomes = []
    for threads in (None, 4):
        with pylbpf.open(path) as obj:
            change(obj)
            obj.load(threads=threads)
            for name in ("p0004", "p0005"):
                try:
                    with obj.programs[name].attach():
                        outcomes.append("attached")
                except pylbpf.BpfError as error:
                    outcomes.append(error.errno)
    assert outcomes[:2] == outcomes[2:]


@bpf
def test_expected_attach_types_are_carried_over():
    def change(obj):
        for program in obj.programs.values():
            program.type = ProgramType.CGROUP_SKB
            program.expected_attach_type = pylbpf.AttachType.CGROUP_INET_EGRESS

    seen = same(many(4, "mine"), change=change)
    assert {program["expected_attach_type"] for program in seen["programs"]} == {pylbpf.AttachType.CGROUP_INET_EGRESS}


@bpf
def test_attach_targets_are_carried_over(requires_btf):
    path = objects.build("""#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
SEC("tp_btf") int one(void *ctx) { return 0; }
SEC("tp_btf/task_rename") int two(void *ctx) { return 0; }
SEC("mine") int three(void *ctx) { return 0; }
char _license[] SEC("license") = "GPL";""", "targets")

    class Mine(pylbpf.ProgramHandler):
        section, program_type, expected_attach_type = "mine", ProgramType.TRACING, pylbpf.AttachType.TRACE_RAW_TP

        def setup(self, program):
            program.set_attach_target("task_rename")

    def change(obj):
        obj.programs["one"].set_attach_target("sched_switch")

    seen = same(path, change=change, handlers=[Mine()])
    one, two, three = (program["kernel's attach_btf_id"] for program in seen["programs"])
    assert one != two == three


@bpf
def test_co_re_with_other_types(bpf_object, requires_btf, tmp_path):
    path = objects.build("""#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
struct task_struct { int pid; int tgid; } __attribute__((preserve_access_index));
__u32 seen[3];
#define TASK(ctx) ((struct task_struct *)(ctx)[1])
SEC("tp_btf/sched_switch") int one(__u64 *ctx) { seen[0] = BPF_CORE_READ(TASK(ctx), tgid); return 0; }
SEC("tp_btf/sched_switch") int two(__u64 *ctx) { seen[1] = BPF_CORE_READ(TASK(ctx), pid); return 0; }
SEC("raw_tp/sys_enter") int three(void *ctx) { seen[2] = bpf_core_field_offset(struct task_struct, tgid); return 0; }
char _license[] SEC("license") = "GPL";""", "core_parts")
    types = tmp_path / "types.btf"
    types.write_bytes(Path("/sys/kernel/btf/vmlinux").read_bytes())
    assert same(path)["programs"] == same(path, btf_custom_path=types)["programs"]


@bpf
def test_types_that_maps_and_programs_share(requires_btf):
    """The kernel wants the very same set of types in a program that it has in the map."""
    path = objects.build("""#define bpf_list_head newer_list_head /* which the header may have, without an alignment */
#define bpf_list_node newer_list_node
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#undef bpf_list_head
#undef bpf_list_node
#define __contains(name, node) __attribute__((btf_decl_tag("contains:" #name ":" #node)))
struct bpf_list_head { __u64 opaque[2]; } __attribute__((aligned(8)));
struct bpf_list_node { __u64 opaque[3]; } __attribute__((aligned(8)));
struct item { __u64 value; struct bpf_list_node node; };
extern void *bpf_obj_new_impl(__u64 type, void *meta) __ksym;
extern void bpf_obj_drop_impl(void *item, void *meta) __ksym;
extern int bpf_list_push_front_impl(struct bpf_list_head *, struct bpf_list_node *, void *meta, __u64 off) __ksym;
struct { struct bpf_spin_lock lock; struct bpf_list_head head __contains(item, node); } queue SEC(".data.queue") __hidden;
static __always_inline int push(void)
{
	struct item *item = bpf_obj_new_impl(__builtin_btf_type_id(*(struct item *)0, 0), 0);
	if (!item)
		return 0;
	bpf_spin_lock(&queue.lock);
	bpf_list_push_front_impl(&queue.head, &item->node, 0, 0);
	bpf_spin_unlock(&queue.lock);
	return 0;
}
SEC("tc") int one(struct __sk_buff *ctx) { return push(); }
SEC("tc") int two(struct __sk_buff *ctx) { return push(); }
SEC("tc") int three(struct __sk_buff *ctx) { return push(); }
char _license[] SEC("license") = "GPL";""", "graph")
    plain = result(path, None)
    if plain["failure"]:
        pytest.skip("linked lists: the kernel has none in maps")
    for threads in (2, 5):
        parted = result(path, threads)
        for seen in plain, parted:
            for map in seen["maps"]:
                map.pop("elements", None)       # an empty list has an address of the kernel's in it
        assert loaded.differences(plain, parted) == []
    assert plain["sets of types"] == 1


@bpf
def test_maps_of_others_are_used(bpffs):
    path = many(4, with_map=True)
    with pylbpf.open(path) as lender:
        lender.load()
        for threads in (None, 2):
            with pylbpf.open(path) as obj:
                obj.maps["counts"].reuse_fd(lender.maps["counts"].fd)
                obj.load(threads=threads)
                assert loaded.map_id(obj.maps["counts"].fd) == loaded.map_id(lender.maps["counts"].fd)
                assert loaded.everything(obj)["programs"] == loaded.everything(lender)["programs"]


@bpf
def test_pins(bpffs):
    path = many(4, with_map=True)

    def pinned(obj):
        obj.maps["counts"].pin_path = bpffs / "counts"

    with pylbpf.open(path) as first, pylbpf.open(path) as second:
        pinned(first)
        first.load(threads=2)
        assert (bpffs / "counts").exists() and first.maps["counts"].is_pinned
        pinned(second)
        second.load(threads=2)
        assert loaded.map_id(first.maps["counts"].fd) == loaded.map_id(second.maps["counts"].fd)
        assert list(bpffs.iterdir()) == [bpffs / "counts"]


@bpf
def test_autocreate_off():
    path = objects.build(source(GOOD, GOOD, GOOD), "unused_map")

    def change(obj):
        obj.maps["values"].autocreate = False

    assert not same(path, change=change)["maps"][0]["exists"]


@bpf
def test_usdt(requires_uprobe):
    path = usdt.build(3)
    same(path)
    for threads in (None, 3):
        with pylbpf.open(path) as obj:
            obj.load(threads=threads)
            with obj.attach() as links:
                assert len(links) == 5
                usdt.trip(4)
            assert [value(obj.maps["counts"], slot) for slot in range(3)] == [4, 4, 4]


@bpf
@pytest.mark.parametrize("threads", [None, 1, 2, 100])
def test_nothing_to_share_is_a_plain_load(bpf_object, threads):
    with pylbpf.open(bpf_object("task_rename")) as obj:
        obj.load(threads=threads)
        assert obj.state == State.LOADED
        with obj.attach():
            pass


@bpf
def test_few_descriptors_make_few_parts(nothing_stays):
    path = many(64, with_map=True)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = len(os.listdir("/proc/self/fd"))
    try:
        for spare in (64 + 64 + 2, 64 + 64 + 30):
            resource.setrlimit(resource.RLIMIT_NOFILE, (used + spare, before[1]))
            with pylbpf.open(path) as obj:
                obj.load(threads=16)
                assert all(program.fd >= 0 for program in obj.programs.values())
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert nothing_stays()


# ---------------------------------------------------------------- failures


@bpf
@pytest.mark.parametrize("bad", [(0,), (4,), (9,), (3, 5), (2, 3, 4), tuple(range(10))])
@pytest.mark.parametrize("log_level", [0, 1])
def test_the_first_failure_is_reported(bad, log_level, nothing_stays):
    path = with_bad(10, *bad)
    seen = same(path, log_level=log_level, threads=(2, 3, 10))
    assert seen["failure"]["program"] == f"p{bad[0]:04}" and seen["failure"]["class"] is pylbpf.VerifierError
    assert [bool(program["log"]) for program in seen["programs"]] == [
        number == bad[0] or (log_level == 1 and number < bad[0]) for number in range(10)]
    with pylbpf.open(path) as obj:
        with pytest.raises(pylbpf.VerifierError):
            obj.load(threads=2)
        assert nothing_stays()
        all_closed(obj)
        assert all(program.autoload for program in obj.programs.values())
        with pytest.raises(pylbpf.StateError):
            obj.load(threads=2)
        with obj.reopen() as again:
            for number in bad:
                again.programs[f"p{number:04}"].autoload = False
            again.load(threads=2)


@bpf
def test_failures_without_a_verdict(nothing_stays):
    sections = [f"raw_tp/{HIT}", f"raw_tp/{HIT}", "nobody/knows", f"raw_tp/{HIT}", "nobody/knows/either"]
    path = objects.build(objects.many(5, sections, with_map=True), "untyped")
    seen = same(path, threads=(2, 5))
    assert "p0002" in seen["failure"]["log"] and "missing BPF prog type" in seen["failure"]["log"]
    assert nothing_stays()


@bpf
def test_failures_of_what_the_object_keeps(bpf_object, nothing_stays):
    """Targets of slots are the object's own to load."""
    def bad_from(name):
        def change(obj):
            programs = list(obj.programs.values())
            for program in programs[[program.name for program in programs].index(name):]:
                program.type = ProgramType.UNSPEC
        return change

    for name in ("plain", "leap", "land", "last") if VERSION >= (1, 6) else ("leap", "last"):
        seen = same(bpf_object("parts"), change=bad_from(name), log_level=1)
        assert f"'{name}'" in seen["failure"]["log"]
        assert nothing_stays()


@bpf
def test_failure_to_make_maps(nothing_stays):
    def change(obj):
        obj.maps["counts"].max_entries = 0

    seen = same(many(4, with_map=True), change=change)
    assert seen["failure"] and nothing_stays()


@bpf
def test_descriptors_run_out_in_the_middle(nothing_stays):
    taken = []

    class Greedy(pylbpf.ProgramHandler):
        section, program_type = None, RAW

        def prepare_load(self, program, opts):
            while program.name == "p0005":
                try:
                    taken.append(os.open("/dev/null", os.O_RDONLY))
                except OSError:
                    return

    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    for threads in (None, 2, 5):
        with pylbpf.open(many(24, "mine/{i}", with_map=True), handlers=[Greedy()]) as obj:
            resource.setrlimit(resource.RLIMIT_NOFILE, (400, limit[1]))
            try:
                with pytest.raises(pylbpf.BpfError, match="Too many open files"):
                    obj.load(threads=threads)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, limit)
                while taken:
                    os.close(taken.pop())
            assert nothing_stays()
            all_closed(obj)


@bpf
def test_failure_takes_back_its_own_pins_only(bpffs, nothing_stays):
    path = with_bad(6, 3)
    with pylbpf.open(many(2, with_map=True)) as other:
        other.load()
        for threads in (None, 3):
            with pylbpf.open(path) as obj:
                obj.maps["values"].pin_path = bpffs / "own"
                with pytest.raises(pylbpf.VerifierError):
                    obj.load(threads=threads)
                assert list(bpffs.iterdir()) == []
    with pylbpf.open(with_bad(6)) as first:
        first.maps["values"].pin_path = bpffs / "own"
        first.load()
        with pylbpf.open(path) as obj:
            obj.maps["values"].pin_path = bpffs / "own"
            with pytest.raises(pylbpf.VerifierError):
                obj.load(threads=3)
        assert list(bpffs.iterdir()) == [bpffs / "own"] and first.maps["values"].is_pinned
    assert nothing_stays()


@bpf
def test_views_of_a_load_that_fails_stay_good_until_close():
    kept = []

    class Keep(pylbpf.ProgramHandler):
        section, program_type = None, RAW

        def prepare_load(self, program, opts):
            kept.append((program, memoryview(program.insns)))
            if program.name == "p0003":
                raise RuntimeError("no")

    obj = pylbpf.open(many(4, "mine"), handlers=[Keep()])
    with pytest.raises(RuntimeError):
        obj.load(threads=2)
    for program, view in kept:
        assert view.tobytes() == program.insns.tobytes()
    with pytest.raises(BufferError):
        obj.close()
    for _, view in kept:
        view.release()
    obj.close()


# ---------------------------------------------------------------- refused


def test_threads_is_a_number(bpf_object):
    with pylbpf.open(bpf_object("parts")) as obj:
        for wrong in (0, -1, 1 << 20):
            with pytest.raises(ValueError, match="threads must be 1 to"):
                obj.load(threads=wrong)
        for wrong in ("2", True, 2.0):
            with pytest.raises(TypeError, match="threads must be a number"):
                obj.load(threads=wrong)
        assert obj.state == State.OPEN


STRUCT_OPS = """#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
struct sock;
struct tcp_congestion_ops { void (*init)(struct sock *sk); __u32 (*ssthresh)(struct sock *sk); char name[16]; };
SEC("struct_ops/init") void init(void *ctx) {}
SEC("struct_ops/ssthresh") __u32 ssthresh(void *ctx) { return 2; }
SEC(".struct_ops") struct tcp_congestion_ops mine = {
	.init = (void *)init, .ssthresh = (void *)ssthresh, .name = "mine" };
char _license[] SEC("license") = "GPL";"""


@bpf
def test_struct_ops_are_loaded_by_one_thread():
    results = []
    for threads in (None, 2):
        with pylbpf.open(objects.build(STRUCT_OPS, "struct_ops")) as obj:
            try:
                obj.load(threads=threads)
            except pylbpf.BpfError as error:        # where the kernel refuses them
                results.append((obj.state, str(error)))
            else:
                results.append((obj.state, [program.fd > 0 for program in obj.programs.values()]))
            assert obj.state in (State.LOADED, State.FAILED)
    assert results[0] == results[1]


@bpf
def test_arenas_are_loaded_by_one_thread():
    arena = """struct { __uint(type, 33); __uint(map_flags, 1 << 10); __uint(max_entries, 1); } arena SEC(".maps");"""
    with pylbpf.open(objects.build(source(GOOD, GOOD, before=arena), "arena")) as obj:
        try:
            obj.load(threads=2)
        except pylbpf.BpfError as error:
            pytest.skip(f"map ARENA: this kernel makes none ({error.strerror})")
        assert all(program.fd > 0 for program in obj.programs.values()) and obj.maps["arena"].fd > 0


@pytest.mark.skipif(VERSION < (1, 6), reason=f"libbpf >= 1.6: this is v{'.'.join(map(str, VERSION))}")
@bpf
def test_prepared_objects_are_loaded_by_one_thread():
    with pylbpf.open(many(4)) as obj:
        obj.prepare()
        obj.load(threads=2)
        assert obj.state == State.LOADED and all(program.fd > 0 for program in obj.programs.values())


@bpf
def test_files_that_changed_are_refused(tmp_path):
    path = tmp_path / "app.bpf.o"
    path.write_bytes(many(4).read_bytes())
    with pylbpf.open(path) as obj:
        path.write_bytes(with_bad(4).read_bytes())
        with pytest.raises(pylbpf.StateError, match="has changed"):
            obj.load(threads=2)
        path.unlink()
        with pytest.raises(FileNotFoundError):
            obj.load(threads=2)
        path.write_bytes(b"no object")
        with pytest.raises(pylbpf.LibbpfError):
            obj.load(threads=2)
        assert obj.state == State.OPEN
        for program in list(obj.programs.values())[1:]:
            program.autoload = False
        obj.load(threads=2)  # of one program, without the file


# ---------------------------------------------------------------- callbacks


@bpf
def test_callbacks_run_once_for_each_program():
    count = 24
    for threads in (None, 3):
        handler = Recorder("mine/")
        before = pylbpf.handler_stats()
        with pylbpf.open(many(count, "mine/{i}"), handlers=[handler]) as obj:
            obj.load(threads=threads)
            names = list(obj.programs)
            assert handler.names("setup") == names and sorted(handler.names("prepare_load")) == names
            with obj.attach() as links:
                assert len(links) == count and handler.names("attach") == names
        assert pylbpf.handler_stats() - before == pylbpf.HandlerStats(count, count, count, 2 * count)


class Inside(pylbpf.ProgramHandler):
    """Looks around in prepare_load, in two threads at once: the first two callbacks wait for each other."""

    section, program_type = None, RAW

    def __init__(self):
        super().__init__()
        self.meeting = threading.Barrier(2, timeout=30)
        self.threads, self.errors = set(), []
        self.first = []
        self.known = {}

    def setup(self, program):
        self.known[program] = program.name

    def prepare_load(self, program, opts):
        self.threads.add(threading.get_ident())
        self.first.append(program)
        if len(self.first) <= 2:
            self.meeting.wait()
        try:
            self.look(program, opts)
        except BaseException as error:
            self.errors.append(error)
            raise
        finally:
            if program in self.first[:2]:
                self.meeting.wait()

    def look(self, program, opts):
        obj = program.object
        # It is the program that setup was given.
        assert self.known[program] == program.name and program == obj.programs[program.name]
        assert obj.state == State.PREPARED and program.handler is self and program.autoload
        assert len(program.insns) == program.insn_count and program.fd == -1
        assert obj.maps["counts"].fd >= 0 and obj.maps["counts"].lookup(bytes(4)) is not None
        # Its own program can be changed,
        program.log_level = 1
        view = program.view_insns(writable=True)
        memory = memoryview(view)
        memory.release()
        exit = bytes([0xB7, 0, 0, 0, 0, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0])
        program.set_insns(exit)
        assert program.insn_count == 2 and program.insns.tobytes() == exit
        opts.prog_flags |= pylbpf.ProgramFlags.STRICT_ALIGNMENT
        # and no other,
        other = next(candidate for candidate in obj.programs.values() if candidate != program)
        assert other.name != program.name and other.autoload and other.section
        for wrong in (lambda: setattr(other, "log_level", 2), lambda: other.insns.tobytes(),
                      lambda: other.set_insns(exit), lambda: setattr(other, "type", RAW), lambda: setattr(other, "autoattach", False),
                      lambda: other.set_attach_target("x"), lambda: other.view_insns(writable=True),
                      lambda: obj.load(), lambda: obj.load(threads=2), lambda: obj.attach(), lambda: obj.close(),
                      lambda: setattr(obj, "kernel_version", 7), lambda: program.attach(), lambda: program.unload(),
                      lambda: setattr(obj.maps["counts"], "max_entries", 3), lambda: obj.maps["counts"].pin("/x"),
                      lambda: obj.detach_fds()):
            with pytest.raises(pylbpf.StateError):
                wrong()
        # while other objects are as ever.
        with pylbpf.open(SMALL, handlers=[rest()]) as another:
            another.load()


SMALL = None


@bpf
def test_what_callbacks_may_do(bpf_object):
    global SMALL
    SMALL = bpf_object("handlers")
    handler = Inside()
    with pylbpf.open(many(8, "mine/{i}", with_map=True), handlers=[handler]) as obj:
        obj.load(threads=2)
        assert handler.errors == [] and len(handler.threads) == 2
        assert threading.get_ident() not in handler.threads
        for program in obj.programs.values():
            assert program.insn_count == 2 and "processed 2 insns" not in program.log
            assert loaded.prog_info(program.fd)[0].verified_insns == 2
        assert len(obj.attach().skipped) == 8


@bpf
def test_instructions_are_replaced_while_those_of_others_are_looked_at():
    looking, replaced, begun, seen = threading.Event(), threading.Event(), [], []

    class Pair(pylbpf.ProgramHandler):
        section, program_type = None, RAW

        def prepare_load(self, program, opts):
            exit = bytes([0xB7, 0, 0, 0, 0, 0, 0, 0] * 2 + [0x95, 0, 0, 0, 0, 0, 0, 0])
            begun.append(program)
            if program is begun[0]:
                insns = program.insns
                with memoryview(insns) as view:
                    before = view.tobytes()
                    looking.set()
                    assert replaced.wait(60)
                    seen.append((view.tobytes() == before, insns.tobytes() == before))
                program.set_insns(exit)
            elif program is begun[1]:
                assert looking.wait(60)
                program.set_insns(exit)
                replaced.set()

    with pylbpf.open(many(4, "mine/{i}"), handlers=[Pair()]) as obj:
        obj.load(threads=2)
        assert seen == [(True, True)]
        assert [program for program in obj.programs.values() if program.insn_count == 3] == sorted(
            begun[:2], key=lambda each: each.name)


@bpf
def test_other_threads_during_callbacks():
    """They get names and numbers at once, wait to set something, and are refused instructions, as in a plain load."""
    begun, done, seen = threading.Event(), threading.Event(), []

    class Wait(pylbpf.ProgramHandler):
        section, program_type = None, RAW

        def prepare_load(self, program, opts):
            begun.set()
            assert done.wait(30)

    with pylbpf.open(many(4, "mine/{i}"), handlers=[Wait()]) as obj:
        def look():
            begun.wait(30)
            program = obj.programs["p0001"]
            seen.append((program.name, program.fd, program.autoload, obj.state))
            try:
                program.insns.tobytes()
            except pylbpf.StateError:
                seen.append("refused")
            done.set()
            program.autoattach = False
            seen.append(obj.state)

        other = threading.Thread(target=look)
        other.start()
        obj.load(threads=2)
        other.join(30)
        assert seen == [("p0001", -1, True, State.PREPARED), "refused", State.LOADED]
        assert not obj.programs["p0001"].autoattach


@bpf
@pytest.mark.parametrize("wrong", [0, 3, 7])
def test_exceptions_of_callbacks_come_out(wrong, nothing_stays):
    class Fail(pylbpf.ProgramHandler):
        section, program_type = None, RAW

        def prepare_load(self, program, opts):
            if program.name >= f"p{wrong:04}":
                raise KeyError(program.name)

    with pylbpf.open(many(8, "mine/{i}", with_map=True), handlers=[Fail()]) as obj:
        with pytest.raises(KeyError) as raised:
            obj.load(threads=3)
        assert raised.value.args == (f"p{wrong:04}",)
        assert "prepare_load of Fail" in raised.value.__notes__[0]
        assert nothing_stays()
        all_closed(obj)


@bpf
def test_exception_after_a_verdict(nothing_stays):
    """Of a rejected program and a callback that raises, the one that comes first in the file is reported."""
    for bad, raises, error in ((2, 5, pylbpf.VerifierError), (5, 2, ZeroDivisionError)):
        functions = [f'SEC("mine") int p{at:04}(void *ctx) {{ {BAD if at == bad else GOOD} }}' for at in range(8)]
        path = objects.build(source(before="\n".join(functions)), f"bad_{bad}_mine")

        class Fail(pylbpf.ProgramHandler):
            section, program_type = "mine", RAW

            def prepare_load(self, program, opts):
                if program.name == f"p{raises:04}":
                    1 / 0

        for threads in (None, 2, 8):
            with pylbpf.open(path, handlers=[Fail()]) as obj:
                with pytest.raises(error):
                    obj.load(threads=threads)
                all_closed(obj)
            assert nothing_stays()


@bpf
def test_a_writable_view_that_is_kept_is_an_error(nothing_stays):
    kept = []

    class Keep(pylbpf.ProgramHandler):
        section, program_type = None, RAW

        def prepare_load(self, program, opts):
            kept.append(memoryview(program.view_insns(writable=True)[1:]))

    with pylbpf.open(many(4, "mine"), handlers=[Keep()]) as obj:
        with pytest.raises(BufferError, match="kept beyond prepare_load"):
            obj.load(threads=2)
        assert nothing_stays()
        kept.clear()


NATIVE = r"""
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <pylbpf/handler.h>

int prepared, set_up;

int setup(struct bpf_program *prog, long cookie)
{
	const struct bpf_insn insns[] = { { .code = 0xb7, .imm = cookie }, { .code = 0x95 } };
	__sync_fetch_and_add(&set_up, 1);
	if (bpf_program__insn_cnt(prog) == 2)
		return bpf_program__set_insns(prog, (struct bpf_insn *)insns, 2);
	return 0;
}

int prepare_load(struct bpf_program *prog, struct bpf_prog_load_opts *opts, long cookie)
{
	__sync_fetch_and_add(&prepared, 1);
	opts->prog_flags |= 4;
	return bpf_program__insn_cnt(prog) && bpf_program__name(prog) ? 0 : -22;
}

int attach(const struct bpf_program *prog, long cookie, struct bpf_link **link)
{
	*link = bpf_program__attach_raw_tracepoint(prog, "task_rename");
	return *link ? 0 : -1;
}
"""


@bpf
def test_native_callbacks(tmp_path, requires_btf):
    library = ctypes.CDLL(str(compile_c(NATIVE, tmp_path / "native.so")))
    prepared, set_up = (ctypes.c_int.in_dll(library, name) for name in ("prepared", "set_up"))
    functions = {kind: library[kind] for kind in ("setup", "prepare_load", "attach")}
    handlers = [pylbpf.NativeHandler("mine+", program_type=RAW, cookie=5, **functions),
                pylbpf.NativeHandler("xdp+", program_type=ProgramType.XDP, setup=library["setup"])]
    sections = ["mine", "xdp", "mine/x", "xdp", "mine", "xdp"]
    path = objects.build(objects.many(6, sections), "native_parts")
    seen = []
    for threads in (None, 2, 6):
        prepared.value = set_up.value = 0
        before = pylbpf.handler_stats()
        with pylbpf.open(path, handlers=handlers) as obj:
            obj.load(threads=threads)
            assert (set_up.value, prepared.value) == (6, 3)
            assert pylbpf.handler_stats().gil_acquired == before.gil_acquired
            seen.append(loaded.everything(obj))
            links = obj.attach()
            assert sorted(link.program.name for link in links) == ["p0000", "p0002", "p0004"]
    assert loaded.differences(seen[0], seen[1]) == loaded.differences(seen[0], seen[2]) == []
    assert seen[0]["programs"][0]["insns"][0] == (0xB7, 0, 0, 0, 5)


# ---------------------------------------------------------------- sections that libbpf knows


class Over(pylbpf.ProgramHandler):
    section = "raw_tp+"

    def __init__(self):
        super().__init__()
        self.prepared = []

    def prepare_load(self, program, opts):
        self.prepared.append(program.name)


@bpf
def test_overrides(bpf_object, requires_btf):
    def change(obj):
        for name in ("raw_tp", "raw_tp_noisy", "xdp", "xdp_frags", "tp_btf", "iter", "tracepoint", "perf_event"):
            obj.programs[name].autoload = True

    declared = pylbpf.ProgramHandler
    for handlers in ([Over()], [declared(section="raw_tp+"), declared(section="xdp+", program_flags=1)],
                     [declared(section="tp_btf+"), declared(section="iter+")]):
        seen = same(bpf_object("override"), change=change, handlers=handlers)
        assert not seen["failure"]
    over = Over()
    with pylbpf.open(bpf_object("override"), handlers=[over]) as obj:
        change(obj)
        obj.load(threads=3)
        assert sorted(over.prepared) == ["raw_tp", "raw_tp_noisy"]
        links = obj.attach()
        assert {"raw_tp", "tp_btf", "iter", "tracepoint"} <= {link.program.name for link in links}


@bpf
def test_overrides_that_came_and_went_since_the_open(bpf_object):
    """What is in libbpf's table when the parts are opened means nothing to an object that was opened before."""
    over = Over()
    path = many(6, with_map=True)
    with pylbpf.open(path) as obj:
        with registered(over):
            obj.load(threads=3)
            assert over.prepared == []
        for number in range(20):
            with registered(pylbpf.ProgramHandler(section=f"xdp/{number}")):
                pass
        with obj.attach() as links:
            kernel.rename_task()
            assert len(links) == 6
        assert all(value(obj.maps["counts"], slot) for slot in range(6))
    with registered(over):
        obj = pylbpf.open(path)
    with obj:
        obj.load(threads=3)
        assert sorted(over.prepared) == list(obj.programs)
        with registered(pylbpf.ProgramHandler(section="raw_tp")), obj.attach() as links:
            assert len(links) == 6


@bpf
def test_dropped_handlers(bpf_object):
    def change(obj):
        obj.programs["p0001"].set_type(ProgramType.SOCKET_FILTER, drop_handler=True)
        obj.programs["p0002"].set_type(RAW, drop_handler=True)

    for sections in ("mine", f"raw_tp/{HIT}"):
        over = Recorder(sections)
        path = many(4, sections)
        with pylbpf.open(path, handlers=[over]) as obj:
            change(obj)
            obj.load(threads=4)
            assert sorted(over.names("prepare_load")) == ["p0000", "p0003"]
        same(path, change=change, handlers=[over])


# ---------------------------------------------------------------- signals


@bpf
def test_interrupted(nothing_stays):
    class Interrupt(pylbpf.ProgramHandler):
        section, program_type = None, RAW
        calls = 0

        def prepare_load(self, program, opts):
            Interrupt.calls += 1
            if Interrupt.calls == 1:
                assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())
                os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.02)

    with pylbpf.open(many(64, "mine/{i}", with_map=True), handlers=[Interrupt()]) as obj:
        with pytest.raises(KeyboardInterrupt):
            obj.load(threads=2)
        assert nothing_stays() and Interrupt.calls < 64
        all_closed(obj)
        assert all(program.autoload for program in obj.programs.values())
        assert all(len(program.insns.tobytes()) for program in obj.programs.values())


@bpf
def test_signals_do_not_disturb(bpf_object):
    """A timer that fires all the time interrupts the one who waits, and not the verifier."""
    ticks = []
    before = signal.signal(signal.SIGALRM, lambda *_: ticks.append(1))
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    try:
        loop = "volatile int sum = 0; for (int i = 0; i < 3000; i++) sum += i; return 0;"
        with pylbpf.open(objects.build(source(*[loop] * 6), "loops")) as obj:
            obj.load(threads=2)
            assert all(program.fd >= 0 for program in obj.programs.values())
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert ticks


@bpf
def test_a_listener_that_calls_the_object_is_refused():
    refused = []
    with pylbpf.open(with_bad(4, 1, 2)) as obj:
        def listen(level, line):
            for wrong in (obj.close, lambda: setattr(obj.programs["p0000"], "autoattach", False)):
                try:
                    wrong()
                except pylbpf.StateError:
                    refused.append(line)

        before = pylbpf.set_print(listen)
        try:
            with pytest.raises(pylbpf.VerifierError):
                obj.load(threads=2)
        finally:
            pylbpf.set_print(before)
    assert refused


@bpf
def test_ctrl_c_in_a_listener():
    """It comes out of a load that went well, as without threads."""
    def listen(level, line):
        raise KeyboardInterrupt

    for threads in (None, 3):
        with pylbpf.open(many(6, with_map=True), log_level=1) as obj:
            before = pylbpf.set_print(listen, level=pylbpf.LogLevel.DEBUG)
            try:
                with pytest.raises(KeyboardInterrupt):
                    obj.load(threads=threads)
            finally:
                pylbpf.set_print(before)
            assert obj.state == State.LOADED


# ---------------------------------------------------------------- side by side


@bpf
def test_several_objects_by_several_threads(bpf_object, nothing_stays):
    path, bad = many(12, "mine/{i}", with_map=True), with_bad(12, 5)
    errors = []

    def work():
        try:
            for _ in range(6):
                with pylbpf.open(path, handlers=[Recorder("mine/")]) as obj:
                    obj.load(threads=3)
                    with obj.attach() as links:
                        assert len(links) == 12
                with pylbpf.open(bad) as obj:
                    with pytest.raises(pylbpf.VerifierError) as raised:
                        obj.load(threads=3)
                    assert raised.value.program == "p0005"
        except BaseException as error:
            errors.append(error)

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(100)
    assert errors == [] and nothing_stays()


@bpf
def test_fork_after_a_load_with_threads():
    with pylbpf.open(many(4)) as obj:
        obj.load(threads=2)
        child = os.fork()
        if child == 0:
            try:
                obj.programs["p0001"].fd
            except pylbpf.StateError:
                obj.close()
                os._exit(7)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        assert obj.programs["p0001"].fd >= 0


def test_all_this_with_newer_libbpf():
    """This file, with the library that PYLBPF_NEWER_LIBBPF points to."""
    if VERSION >= (1, 6):
        assert hasattr(pylbpf.Object, "prepare")  # this very run shows it
        return
    folder = os.environ.get("PYLBPF_NEWER_LIBBPF")
    if not folder:
        pytest.skip("newer libbpf: PYLBPF_NEWER_LIBBPF names none")
    found = os.pathsep.join(filter(None, [folder, os.environ.get("LD_LIBRARY_PATH")]))
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__],
        env={**os.environ, "LD_LIBRARY_PATH": found}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        timeout=110, check=False,
    )
    assert run.returncode == 0, run.stdout
    assert " passed" in run.stdout
