"""Objects as loader programs."""
from __future__ import annotations

import contextlib
import gc
import os
import pickle
import signal
import struct

import pytest

import objects
import pylbpf
from pylbpf import Loader, Map, MapType, Program

pytestmark = pytest.mark.bpf
SOURCE = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
const volatile __u32 answer = 2;
__u32 started = 7;
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 8); __type(key, __u32); __type(value, __u32); } table SEC(".maps");
SEC("xdp") int pass(struct xdp_md *ctx) { __u32 key = 1; started++; bpf_map_update_elem(&table, &key, &key, 0); return answer; }
SEC("xdp") int drop(struct xdp_md *ctx) { return XDP_DROP; }
char _license[] SEC("license") = "GPL";
"""
# The verifier of the kernel that loads it refuses it.
REJECTED = SOURCE.replace("return answer;", "return *(int *)(long)key;")


@pytest.fixture
def loader(bpf_objects):
    with pylbpf.open(objects.build(SOURCE, "generated")) as obj:
        return obj.gen_loader()


def run(kept: pylbpf.Descriptors, name: str) -> int:
    with Program.from_fd(kept.programs[name]) as program:
        return program.test_run(bytes(64)).retval


def test_it_loads_all_there_is(loader):
    assert list(loader.maps)[0] == "table" and loader.programs == ("pass", "drop")
    assert len(loader.insns) % 8 == 0 and loader.data and repr(loader).startswith("<Loader: 3 maps, 2 programs")
    with loader.load() as kept:
        assert set(kept.maps) == set(loader.maps) and not kept.closed
        assert (run(kept, "pass"), run(kept, "drop")) == (2, 1)
        data = next(name for name in kept.maps if name.endswith(".data"))
        with Map.from_fd(kept.maps[data]) as memory, Map.from_fd(kept.maps["table"]) as table:
            assert memory.lookup(bytes(4)) == struct.pack("=I", 8)
            assert len(table) == 1 and table.max_entries == 8
        assert not os.get_inheritable(kept.maps["table"])


def test_values_and_sizes_are_given_when_it_loads(loader):
    constant = next(name for name in loader.maps if name.endswith(".rodata"))
    with loader.load(values={constant: struct.pack("=I", 5)}, max_entries={"table": 100}) as kept:
        assert run(kept, "pass") == 5
        with Map.from_fd(kept.maps["table"]) as table:
            assert table.max_entries == 100
    with loader.load() as kept:     # the loader stays as it is
        assert run(kept, "pass") == 2


def test_what_was_set_before_is_in_it(bpf_objects):
    with pylbpf.open(objects.build(SOURCE, "generated")) as obj:
        obj.globals.answer = 3
        obj.programs["drop"].autoload = False
        loader = obj.gen_loader()
        assert obj.closed
    assert loader.programs == ("pass",)
    with loader.load() as kept:
        assert run(kept, "pass") == 3 and list(kept.programs) == ["pass"]


def test_it_can_be_kept_and_made_again(loader):
    for again in (pickle.loads(pickle.dumps(loader)), Loader(loader.insns, loader.data, loader.maps, loader.programs)):
        assert (again.insns, again.data, again.maps, again.programs) == (loader.insns, loader.data, loader.maps, loader.programs)
        with again.load() as kept:
            assert run(kept, "drop") == 1


def test_rejected_program_is_an_error_with_the_verifiers_log(bpf_objects):
    with pylbpf.open(objects.build(REJECTED, "generated_badly")) as obj:
        loader = obj.gen_loader()
    with pytest.raises(pylbpf.BpfError, match="load by <Loader") as raised:
        loader.load()       # of which nothing is left, or no_leaks says so
    assert "invalid mem access" in raised.value.log


def test_only_an_open_object_has_one(bpf_objects):
    with pylbpf.open(objects.build(SOURCE, "generated")) as obj:
        obj.load()
        with pytest.raises(pylbpf.StateError, match="must be open"):
            obj.gen_loader()
    with pytest.raises(ValueError, match="closed"):
        obj.gen_loader()


@pytest.mark.parametrize("arguments, error", [
    ((b"1234567", b"1", {}, ()), "7 bytes"), ((b"", b"1", {}, ()), "0 bytes"), ((bytes(8), b"", {}, ()), "without data"),
    ((bytes(8), b"1", {str(at): 0 for at in range(5000)}, ()), "too many"),
])
def test_what_is_no_loader(arguments, error):
    with pytest.raises(ValueError, match=error):
        Loader(*arguments)


def test_wrong_options(loader):
    for options, error, words in (
            (dict(values={"nothing": b""}), ValueError, "no map 'nothing'"), (dict(values={"table": b"1"}), ValueError, "0 bytes"),
            (dict(max_entries={"table": 1 << 40}), ValueError, "32 bits"), (dict(max_entries={"table": "8"}), TypeError, "number"),
            (dict(values={next(name for name in loader.maps if name.endswith(".rodata")): bytes(3)}), ValueError, "4 bytes, not 3")):
        with pytest.raises(error, match=words):
            loader.load(**options)


def test_nonsense_is_refused(loader):
    with pytest.raises(pylbpf.BpfError) as raised:
        Loader(bytes(16), b"x", {}, ()).load()
    assert raised.value.log


def test_names_that_are_none(bpf_objects):
    with pylbpf.open(bpf_objects["xdp"]) as obj:
        loader = obj.gen_loader()
    with pytest.raises(TypeError, match="not a str"):
        pylbpf.Loader(loader.insns, loader.data, loader.maps, "pass")
    with pytest.raises(ValueError, match="twice"):
        pylbpf.Loader(loader.insns, loader.data, loader.maps, ("pass", "pass"))


def test_what_libbpf_cannot_write_down_is_refused(bpf_object, bpffs):
    with pylbpf.open(bpf_object("struct_ops")) as obj:
        if not any(map.type == MapType.STRUCT_OPS for map in obj.maps.values()):
            pytest.skip("libbpf >= 1.3: struct_ops links")
        with pytest.raises(pylbpf.NotSupported, match="is of struct_ops"):
            obj.gen_loader()
        assert obj.state == pylbpf.State.OPEN
    with pylbpf.open(objects.build(SOURCE, "generated")) as obj, Map.create(MapType.HASH, key="u4", value="u4", max_entries=8) as other:
        obj.maps["table"].pin_path = bpffs / "table"
        with pytest.raises(pylbpf.NotSupported, match="map 'table' is to be pinned"):
            obj.gen_loader()
        obj.maps["table"].pin_path = None
        obj.maps["table"].reuse_fd(other)
        with pytest.raises(pylbpf.NotSupported, match="is there already"):
            obj.gen_loader()
    programs = [f'SEC("xdp") int p{number}(void *ctx) {{ return 0; }}\n' for number in range(33)]
    crowd = '#include <linux/bpf.h>\n#include <bpf/bpf_helpers.h>\n%s char _license[] SEC("license") = "GPL";'
    with pylbpf.open(objects.build(crowd % "".join(programs), "crowd33")) as obj:
        with pytest.raises(pylbpf.NotSupported, match="33 programs are more than"):
            obj.gen_loader()
    with pylbpf.open(objects.build(crowd % "".join(programs[1:]), "crowd32")) as obj:
        obj.programs["p1"].autoload = False
        with obj.gen_loader().load() as kept:
            assert len(kept.programs) == 31


def test_a_failure_leaves_standard_input_alone(bpf_objects):
    """libbpf 1.1 closes descriptor 0."""
    before = os.fstat(0)
    missing = SOURCE.replace('SEC("xdp")', 'extern int nobody_has_this __ksym;\nSEC("xdp")', 1).replace("return answer", "return *(int *)&nobody_has_this")
    jumps = SOURCE.replace('SEC("xdp")', """int drop(struct xdp_md *ctx);
struct { __uint(type, BPF_MAP_TYPE_PROG_ARRAY); __uint(max_entries, 2); __uint(key_size, 4); __array(values, int (void *)); }
calls SEC(".maps") = { .values = { (void *)&drop } };
SEC("xdp")""", 1)
    for number, source in enumerate((missing, jumps)):
        with contextlib.suppress(pylbpf.BpfError), pylbpf.open(objects.build(source, f"failing{number}")) as obj:
            obj.gen_loader()
        assert os.path.samestat(os.fstat(0), before)


def test_maps_of_a_loader_cannot_be_changed(loader):
    before = dict(loader.maps)
    with pytest.raises(TypeError):
        loader.maps["more"] = 4
    assert loader.maps == before and "more" not in before


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_ctrl_c_while_it_loads_loses_nothing(loader):
    """The signal is pending when the kernel comes back."""
    def interrupt(number, frame):
        raise InterruptedError

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        for delay in range(1, 40):
            descriptors = len(os.listdir("/proc/self/fd"))
            try:
                signal.setitimer(signal.ITIMER_REAL, delay / 20000)
                with loader.load():
                    pass
                signal.setitimer(signal.ITIMER_REAL, 0)
            except InterruptedError:
                gc.collect()        # of what the block was never entered with
            assert len(os.listdir("/proc/self/fd")) == descriptors
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
