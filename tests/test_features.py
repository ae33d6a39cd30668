"""What the kernel can do, and its statistics."""
from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

import kernel
import pylbpf
import rings
from handling import run_python
from pylbpf import LinkType, MapType, ProgramType, features
from pylbpf.cli import main

pytestmark = pytest.mark.bpf
KTIME_GET_NS, SKB_STORE_BYTES = 5, 9  # enum bpf_func_id


def test_types_and_helpers():
    assert features.program_type(ProgramType.RAW_TRACEPOINT) and features.map_type(MapType.ARRAY)
    for unknown in (features.map_type, features.program_type):
        with pytest.raises(pylbpf.BpfError, match="type 500"):
            unknown(500)
    assert features.helper(ProgramType.XDP, KTIME_GET_NS)
    assert not features.helper(ProgramType.XDP, SKB_STORE_BYTES)
    assert features.helper(ProgramType.SCHED_CLS, SKB_STORE_BYTES)
    if not kernel.no_btf():
        assert features.helper(ProgramType.XDP, "bpf_xdp_adjust_head") and not features.helper(ProgramType.XDP, "skb_store_bytes")
        for wrong in "bpf_make_coffee", "unspec", "":
            with pytest.raises(ValueError, match="no helper"):
                features.helper(ProgramType.XDP, wrong)
    with pytest.raises(pylbpf.BpfError, match="probe"):
        features.helper(ProgramType.TRACING, KTIME_GET_NS)
    for wrong in (-1, 1 << 40):
        with pytest.raises(ValueError):
            features.map_type(wrong)
    with pytest.raises(TypeError):
        features.program_type("XDP")


def test_links():
    found = features.link_type(LinkType.RAW_TRACEPOINT), features.link_type(LinkType.TCX)
    assert found in ((True, not kernel.no_tcx()), (None, None))
    assert features.link_type(500) is False


def test_kfuncs(requires_btf):
    found = features.kfunc("bpf_cpumask_create")
    assert found in (True, None, False)
    assert features.kfunc("there_is_no_such_function") is False
    if found:  # kernels that mark them
        assert features.kfunc("do_nanosleep") is False
    with pytest.raises(ValueError):
        features.kfunc("")


def test_all_features_and_the_command(capsys):
    found = features.all()
    assert found["program_types"][ProgramType.XDP] and set(found) == {"program_types", "map_types", "link_types", "instructions"}
    assert main(["features", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["map_types"]["HASH"] is True and len(shown["program_types"]) == len(ProgramType) - 1
    assert main(["features", "--missing"]) == 0
    assert "yes" not in capsys.readouterr().out.split()


def test_statistics_are_counted_while_somebody_wants_them(bpf_object):
    with rings.loaded(bpf_object("rings")) as obj:
        program = obj.programs["send"]
        with program.attach():
            try:
                stats = pylbpf.stats_enabled()
            except PermissionError:
                pytest.skip("statistics: CAP_SYS_ADMIN missing")
            with stats:
                assert stats.fileno() > 2
                rings.send(5)
                info = program.info()
                assert info.run_cnt >= 5 and info.run_time_ns > 0
            stats.close()
            with pytest.raises(ValueError, match="closed"):
                stats.fileno()


# ---------------------------------------------------------------- the commands prog, map, link, btf


@pytest.mark.parametrize("thing", ["prog", "map", "link", "btf"])
def test_lists(bpf_object, thing, capsys):
    with rings.loaded(bpf_object("rings")) as obj, obj.programs["send"].attach() as link:
        program = obj.programs["send"].info()
        id = {"prog": program.id, "map": program.map_ids[0], "link": link.info().id, "btf": program.btf_id}[thing]
        assert main([thing, "list", "--json"]) == 0
        found = {each["id"]: each for each in json.loads(capsys.readouterr().out)}
        assert id in found
        if thing in ("prog", "link", "map"):
            assert any("python" in each or "pytest" in each for each in found[id]["held by"])
        assert main([thing, "list"]) == 0
        assert any(line.split()[0] == str(id) for line in capsys.readouterr().out.splitlines())
        assert main([thing, "show", str(id), "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["id"] == id
        assert main([thing, "show", str(id)]) == 0
        assert str(id) in capsys.readouterr().out
    assert main([thing, "show", str(0x7FFFFFFF)]) == 1
    assert main([thing, "show", "zero"]) == 2


def test_instructions():
    found = {name: features.instructions(name) for name in (
        "v1", "v2", "subprograms", "v3", "large", "bounded_loops", "atomics", "v4", "may_goto", "load_acquire")}
    assert found == features.all()["instructions"]
    linux = tuple(map(int, os.uname().release.split(".")[:2]))
    since = {"v1": (4, 0), "v2": (4, 14), "subprograms": (4, 16), "v3": (5, 1), "large": (5, 2), "bounded_loops": (5, 3),
             "atomics": (5, 12), "v4": (6, 6), "may_goto": (6, 9), "load_acquire": (6, 15)}
    for name, version in since.items():
        assert found[name] or linux < version, name
        assert not found[name] or linux >= version, name
    with pytest.raises(ValueError, match="v1, v2"):
        features.instructions("v5")


def test_instructions_without_rights():
    if not kernel.has_capability("CAP_SYS_ADMIN"):
        pytest.skip("root: no rights that could be dropped")
    told = subprocess.run([sys.executable, "-c", (
        "import os, pylbpf.features\n"
        "os.setresuid(65534, 65534, 65534)\n"
        "try: print(pylbpf.features.instructions('v4'))\n"
        "except PermissionError as error: print(error)")], stdout=subprocess.PIPE, text=True, check=True).stdout
    assert "probe instructions v4" in told


def test_what_cannot_be_asked_is_no_answer(requires_bpf):
    """Without descriptors all loads fail, and libbpf's probes take that for an old kernel."""
    run_python("""
import os
import resource
import pylbpf
from pylbpf import MapType, ProgramType, features

soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
asked = [(features.program_type, ProgramType.XDP), (features.map_type, MapType.ARRAY), (features.helper, ProgramType.XDP, 1)]
resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) - 1, hard))
for function, *arguments in asked:
    try:
        raise SystemExit(f"{function} {arguments}: {function(*arguments)}")
    except pylbpf.BpfError as error:
        assert error.errno == 24, error
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
assert all(function(*arguments) for function, *arguments in asked)
""")


def test_a_no_needs_descriptors_for_all_that_is_tried(requires_bpf):
    """A kind whose probe makes two things has its answer with one descriptor too few, but says so."""
    run_python("""
import os
import resource
import pylbpf
from pylbpf import MapType, features

soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
asked = [MapType.ARRAY_OF_MAPS, MapType.HASH_OF_MAPS, MapType.SK_STORAGE]
features.map_type(MapType.ARRAY)
resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")), hard))
for type in asked:
    try:
        raise SystemExit(f"{type}: {features.map_type(type)}")
    except pylbpf.BpfError as error:
        assert error.errno == 24, error
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
assert all(features.map_type(type) for type in asked)
""")


def test_a_no_needs_the_rights_to_a_yes(requires_bpf):
    if not kernel.has_capability("CAP_SYS_ADMIN"):
        pytest.skip("root: no rights that could be dropped")

    run_python("""
import ctypes
import struct
import pylbpf
from pylbpf import ProgramType, features

bpf = 1 << 39
header, rights = struct.pack("=Ii", 0x20080522, 0), struct.pack("=6I", *[bpf & 0xffffffff] * 3, *[bpf >> 32] * 3)
assert ctypes.CDLL(None).capset(header, rights) == 0
assert features.program_type(ProgramType.SOCKET_FILTER) and features.instructions("v3")
for function, asked in (features.program_type, ProgramType.KPROBE), (features.program_type, ProgramType.XDP), (features.instructions, "bounded_loops"):
    try:
        raise SystemExit(f"{asked}: {function(asked)}")
    except PermissionError:
        pass
""")
