"""The C interface, by an extension module that uses all of it."""
from __future__ import annotations

import contextlib
import functools
import gc
import importlib.util
import re
import shutil
import subprocess
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import objects
import pylbpf
from handling import HIT, compiler_flags, rest

SOURCE = Path(__file__).parent / "capi" / "sample.c"
HEADER = Path(pylbpf.get_include(), "pylbpf", "pylbpf.h")


def older(text: str) -> str:
    """The header as it could have been before: without the last member, and with a shorter handler."""
    text, count = re.subn(r"\n\t/\* The libbpf that pylbpf uses.*?;\n", "", text, flags=re.S)
    text, checks = re.subn(r"\tif \(api->libbpf_version_string !=.*?\n\t}\n", "", text, flags=re.S)
    text, members = re.subn(r"\tpylbpf_attach_fn attach;\n", "", text)
    assert (count, checks, members) == (1, 1, 1)
    return text.replace("PYLBPF_API_HAS(api, libbpf_version_string)", "PYLBPF_API_HAS(api, register_handler)")


def compiled(folder: Path, *command: str, header: str = "", source: str = ""):
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]}: not installed")
    output = folder / f"sample{sysconfig.get_config_var('EXT_SUFFIX')}"
    include = folder / "include" / "pylbpf"
    include.mkdir(parents=True)
    if header:
        (include / "pylbpf.h").write_text(header)
    (folder / "sample.c").write_text(source or SOURCE.read_text())
    made = subprocess.run(
        [*command, "-Wall", "-Wextra", "-Werror", "-Wno-missing-field-initializers", "-shared", "-fPIC", "-o", output,
         f"-I{include.parent}", f"-isystem{sysconfig.get_path('include')}", folder / "sample.c", *compiler_flags()],
        capture_output=True, text=True, check=False,
    )
    assert made.returncode == 0, made.stderr
    spec = importlib.util.spec_from_file_location("sample", output)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


BUILDS = {
    "C11": (["cc", "-std=c11", "-D_GNU_SOURCE"], False),
    "C++17": (["c++", "-std=c++17", "-x", "c++"], False),
    "older header": (["cc", "-std=c11", "-D_GNU_SOURCE"], True),
}


@pytest.fixture(scope="module", params=BUILDS)
def sample(request, tmp_path_factory):
    command, old = BUILDS[request.param]
    source = SOURCE.read_text().replace("\thandler->attach = on_attach;\n", "\t(void)on_attach;\n") if old else ""
    module = compiled(tmp_path_factory.mktemp("capi"), *command, header=older(HEADER.read_text()) if old else "", source=source)
    module.old = old
    return module


@pytest.fixture
def loaded(bpf_object, requires_bpf):
    with pylbpf.open(bpf_object("handlers"), handlers=[rest()]) as obj:
        obj.load()
        yield obj


def test_sizes(sample):
    theirs, ours = sample.sizes()
    assert theirs > ours if sample.old else theirs == ours


def test_pointers_out_of_python_objects(sample, loaded):
    program = next(iter(loaded.programs.values()))
    map = next(iter(loaded.maps.values()))
    with program.attach_raw_tracepoint(HIT) as link:
        assert sample.names(loaded, program, map, link) == (loaded.name, program.name, map.name, link.fd)
        for wrong in [(program, program, map, link), (loaded, map, map, link), (loaded, program, loaded, link),
                      (loaded, program, map, None)]:
            with pytest.raises(TypeError, match="a pylbpf.* is needed, not "):
                sample.names(*wrong)
    with pytest.raises(ValueError, match="closed|destroyed"):
        sample.names(loaded, program, map, link)
    loaded.close()
    with pytest.raises(ValueError, match="closed"):
        sample.names(loaded, program, map, link)


def test_map_without_object_has_no_pointer(sample, loaded):
    program = next(iter(loaded.programs.values()))
    with pylbpf.Map.create(pylbpf.MapType.ARRAY, key_size=4, value_size=8, max_entries=1) as map, pytest.raises(TypeError, match="without an object"):
        sample.names(loaded, program, map, None)


@pytest.mark.parametrize("what", ["object", "program", "map", "link"])
def test_null_is_no_python_object(sample, what):
    with pytest.raises(TypeError, match=f"a pylbpf.{what.capitalize()} is needed, not NULL"):
        sample.misuse(what)
    with pytest.raises(TypeError, match=f"a pylbpf.{what.capitalize()} is needed, not NoneType"):
        sample.misuse(what, None)


def test_null_is_nothing_to_wrap(sample, loaded):
    for what in ("object", "link"):
        with pytest.raises(ValueError, match=f"{what} is NULL"):
            sample.misuse(f"wrap_{what}")
    for what in ("program", "map"):
        with pytest.raises(TypeError, match="a pylbpf.Object is needed, not NULL"):
            sample.misuse(f"wrap_{what}")
        with pytest.raises(ValueError, match=f"no {what} of"):
            sample.misuse(f"wrap_{what}", loaded)
    with pytest.raises(ValueError, match="handler is NULL"):
        sample.misuse("register_handler")


def test_what_is_wrapped_is_not_wrapped_again(sample, bpf_object, requires_bpf):
    with sample.open_object(bpf_object("handlers").read_bytes(), "from_c", True) as made, pylbpf.open(bpf_object("handlers"),
                                                                                                      handlers=[rest()]) as obj:
        obj.load()
        program = next(iter(obj.programs.values()))
        for known in (made, obj):
            with pytest.raises(ValueError, match="this object is pylbpf's already: "):
                sample.misuse("wrap_object_again", known)
        for attach in (functools.partial(sample.attach, program), program.attach_raw_tracepoint):
            with attach(HIT) as link, pytest.raises(ValueError, match="this link is pylbpf's already: "):
                sample.misuse("wrap_link_again", link)
    # Where one was, there may be another one.
    for _ in range(3):
        with sample.open_object(bpf_object("handlers").read_bytes(), "from_c", False) as made:
            assert sample.misuse("object", made)


def test_what_was_never_made_has_no_pointer(sample):
    for kind in (pylbpf.Object, pylbpf.Program, pylbpf.Map, pylbpf.Link):
        with pytest.raises((AttributeError, TypeError, ValueError)):
            sample.misuse(kind.__name__.lower(), kind.__new__(kind))


def test_link_that_libbpf_knows_nothing_of_has_no_pointer(sample, loaded):
    """Made by descriptors: what is inside is no bpf_link."""
    program = next(iter(loaded.programs.values()))
    with program.attach_raw_tracepoint(HIT) as link, pylbpf.Link.from_id(link.info().id) as other:
        assert sample.misuse("link", link)
        with pytest.raises(TypeError, match="has no bpf_link, only a descriptor"):
            sample.misuse("link", other)


@pytest.mark.parametrize("load", [False, True])
def test_object_made_by_c(sample, bpf_object, requires_bpf, load):
    obj = sample.open_object(bpf_object("handlers").read_bytes(), "from_c", load)
    assert type(obj) is pylbpf.Object
    assert obj.name == "from_c" and obj.state == (pylbpf.State.LOADED if load else pylbpf.State.OPEN)
    with pytest.raises(pylbpf.StateError, match="made by C"):
        obj.reopen()
    if not load:
        with pytest.raises(pylbpf.StateError, match="made by C"):
            obj.load(threads=2)
        obj.load()
    program, map = sample.first(obj)
    assert program == next(iter(obj.programs.values()))
    assert map.name == next(iter(obj.maps))
    del obj
    gc.collect()
    assert program.fd >= 0      # and keeps the object


def test_object_that_c_has_loaded_is_wrapped_as_such(sample, bpf_object, requires_bpf):
    with pytest.raises(ValueError, match="this object is loaded: say so"):
        sample.open_object(bpf_object("handlers").read_bytes(), "from_c", 2)


@pytest.mark.parametrize("load", [False, True])
def test_object_made_by_c_while_sections_are_overridden(sample, bpf_object, requires_bpf, load):
    """Its programs point into libbpf's array, so that must not move before the object is closed."""
    first = pylbpf.register(pylbpf.ProgramHandler(section="raw_tp+", program_type=pylbpf.ProgramType.RAW_TRACEPOINT))
    obj = sample.open_object(bpf_object("raw_tp").read_bytes(), "from_c", load)
    first.unregister()
    if not load:
        obj.load()
    with pytest.raises(pylbpf.HandlerBusyError, match="made by C"):
        pylbpf.register(pylbpf.ProgramHandler(section="xdp+", program_type=pylbpf.ProgramType.XDP))
    links = [program.attach() for program in obj.programs.values() if program.section.startswith("raw_tp/")]
    assert links
    obj.close()
    pylbpf.register(pylbpf.ProgramHandler(section="xdp+", program_type=pylbpf.ProgramType.XDP)).unregister()


def test_only_parts_of_the_object_are_wrapped(sample, loaded, bpf_object):
    other = pylbpf.open(bpf_object("handlers"), handlers=[rest()])
    with other, pytest.raises(ValueError, match="no program of"):
        sample.stranger(loaded, next(iter(other.programs.values())))


def test_link_made_by_c_works_and_goes_with_the_object(sample, bpf_object, requires_bpf):
    with pylbpf.open(bpf_object("handlers"), handlers=[rest()]) as obj:
        obj.load()
        program, another, *_ = obj.programs.values()    # old kernels attach no program twice to one raw tracepoint
        with pytest.raises(TypeError, match="a link is of a pylbpf.Program or Map, not of int"):
            sample.attach(program, HIT, 3)
        link = sample.attach(program, HIT)
        assert type(link) is pylbpf.Link and link.program == program and link.fd > 0
        alone = sample.attach(another, HIT, None)
        assert alone.program is None
    assert link.closed and not alone.closed
    alone.destroy()


@pytest.mark.parametrize("whose", ["nobody", "another map", "a program"])
def test_link_of_a_registered_map_is_of_that_map(sample, registered, whose):
    wrong = {"nobody": None, "another map": registered.maps["second"], "a program": registered.programs["first_undo"]}
    with pytest.raises(ValueError, match="say whose it is, by its map"):
        sample.attach_struct_ops(registered.maps["first"], wrong[whose])


def test_link_of_a_registered_map_made_by_c(sample, registered):
    first = registered.maps["first"]
    link = sample.attach_struct_ops(first, first)
    with pytest.raises(pylbpf.StateError, match="close them before"):
        registered.detach_fds()
    registered.close()
    assert link.closed


def test_maps_of_every_class_have_pointers(sample):
    for section in ("queues", "bloom"):
        source = f"""
            #include <linux/bpf.h>
            #include <bpf/bpf_helpers.h>
            struct {{
                __uint(type, {"BPF_MAP_TYPE_QUEUE" if section == "queues" else "BPF_MAP_TYPE_BLOOM_FILTER"});
                __uint(max_entries, 4);
                __type(value, __u32);
            }} {section} SEC(".maps");
        """
        with pylbpf.open(objects.build(source, section)) as obj:
            assert type(obj.maps[section]) is not pylbpf.Map
            assert sample.misuse("map", obj.maps[section])


def test_native_handler_from_c(sample, bpf_object, requires_bpf):
    before = sample.seen()
    registration = sample.register_handler("sample", 2)
    try:
        assert registration.active and registration.handler.section == "sample" and registration.handler.priority == 5
        with pylbpf.open(bpf_object("handlers"), handlers=[rest()]) as obj:
            of_handler = [program for program in obj.programs.values() if program.section == "sample"]
            assert of_handler
            obj.load()
            links = [program.attach() for program in of_handler] if not sample.old else []
            after = sample.seen()
            assert after[0] - before[0] == 2 * len(of_handler)
            assert after[1] - before[1] == 2 * len(links)
    finally:
        registration.unregister()


def test_handler_from_c_stays_with_the_objects_that_are_open(sample, bpf_object, requires_bpf):
    registration = sample.register_handler("sample", 1)
    with pytest.raises(pylbpf.HandlerExistsError):
        sample.register_handler("sample", 2)
    with pylbpf.open(bpf_object("handlers"), handlers=[rest()]) as obj:
        of_handler = [program for program in obj.programs.values() if program.section == "sample"]
        registration.unregister()
        registration.unregister()
        with sample.register_handler("sample", 100):
            obj.load()
            before = sample.seen()[1]
            links = [program.attach() for program in of_handler] if not sample.old else []
            assert sample.seen()[1] - before == len(links)


def test_handlers_from_c_come_and_go_in_threads(sample, bpf_object):
    before = pylbpf.handlers()

    def come_and_go(number: int) -> None:
        for _ in range(50):
            with sample.register_handler(f"own{number}", number):
                pylbpf.open(bpf_object("handlers"), handlers=[rest()]).close()
            with contextlib.suppress(pylbpf.HandlerExistsError):
                sample.register_handler("shared", number).unregister()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(come_and_go, range(4)))
    assert pylbpf.handlers() == before


def test_autoload_of_a_handler_from_c(sample):
    for autoload, meaning in ((0, None), (1, True), (-1, False)):
        with sample.register_handler("never", 0, autoload) as registration:
            assert registration.handler.autoload is meaning
    with pytest.raises(ValueError, match="autoload is 1, 0 or -1, not 2"):
        sample.register_handler("never", 0, 2)


def test_size_of_a_handler_from_c(sample):
    with sample.register_handler(None, 0, 0, 16) as registration:     # a section and nothing else
        assert registration.handler.section is None and registration.handler.priority == 0
    for size in (0, 7, 12, 4104, -1):       # no multiple of a pointer's, or more than any will ever have
        with pytest.raises(ValueError, match="size of struct pylbpf_handler"):
            sample.register_handler("never", 0, 0, size)
    if not sample.old:
        sample.register_handler("never", 0, 0, sample_size() + 16).unregister()
        with pytest.raises(ValueError, match="does not know"):
            sample.register_handler("never", 0, 0, sample_size() + 16, 1)
    with pytest.raises(ValueError, match="section"):
        sample.register_handler("?never")


def sample_size() -> int:
    """sizeof(struct pylbpf_handler)"""
    return 8 + 8 + 6 * 4 + 4 * 8


def test_another_libbpf_is_refused(tmp_path):
    """A module with a libbpf of its own would corrupt what it gets."""
    source = '#include <bpf/libbpf.h>\nconst char *libbpf_version_string(void) { return "v0.0"; }\n'
    with pytest.raises(ImportError, match=r"another libbpf \(v0.0\) than pylbpf"):
        compiled(tmp_path, "cc", "-std=gnu11", "-Wl,-Bsymbolic", source=source + SOURCE.read_text())
