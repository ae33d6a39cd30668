"""The corpus is what it says: as many different objects, always the same, that come to what is expected of them."""
from __future__ import annotations

import collections
import re
from random import Random

import corpus
import objects
import pylbpf
import pytest
from corpus import core, hooks
from corpus.measured import milliseconds_per_turn
from pylbpf import sections

COUNT = 320
# Hooks of libbpf 1.8, and those that need a struct of their own.
LEFT_OUT = re.compile(r"f(entry|exit|session)\.multi.*|(tp|tracepoint|raw_tp|raw_tracepoint|tp_btf)\.s\+|struct_ops.*")


@pytest.fixture(scope="module")
def items():
    try:
        return corpus.build(COUNT)
    except objects.bpfcc.CompilerMissing as error:
        pytest.skip(f"compiler: {error}")


def verdict(item):
    """What open and load come to, and the words of the error."""
    try:
        obj = pylbpf.open(item.path, handlers=corpus.handlers())
    except pylbpf.BpfError as error:
        return "refused", error
    with obj:
        try:
            obj.load()
        except pylbpf.BpfError as error:
            return "rejected", error
    return "loads", None


def test_there_are_many_and_no_two_are_the_same(items):
    assert len(items) == COUNT == len({item.name for item in items})
    files = collections.Counter(item.path.read_bytes() for item in items)
    assert len(files) > 0.97 * COUNT  # some variants of a kind have nothing to choose
    kinds = collections.Counter(item.kind for item in items)
    assert set(kinds) == set(corpus.KINDS) and min(kinds.values()) >= 3
    assert {item.expected for item in items} == {"loads", "rejected", "refused"}


def test_it_is_the_same_every_time(items):
    assert corpus.build(40) == items[:40]
    other = corpus.build(40, seed=2)
    assert [item.kind for item in other] == [item.kind for item in items[:40]]
    assert sum(one.path != two.path for one, two in zip(other, items)) > 20


def test_every_section_of_libbpf_is_in_it():
    names = [name for _, _, names in hooks.FAMILIES.values() for name in names]
    patterns = [pattern for pattern in sections.builtin_patterns() if not LEFT_OUT.fullmatch(pattern)]
    assert [pattern for pattern in patterns if not any(sections._match(pattern, name) for name in names)] == []


def test_every_section_of_a_family_is_in_a_variant():
    for name, (_, _, names) in hooks.FAMILIES.items():
        made = "".join(corpus.KINDS[name].make(Random(variant), variant) for variant in range(hooks.VARIANTS))
        assert set(names) <= set(re.findall(r'SEC\("([^"]*)"\) int', made))


@pytest.mark.bpf
def test_each_item_comes_to_what_is_expected(items):
    otherwise = []
    for item in items:
        found, error = verdict(item)
        if found != item.expected and not item.missing:
            otherwise.append(f"{item.name}: {found} instead of {item.expected}: {error} ({item.path})")
    assert not otherwise, "\n".join(otherwise)


@pytest.mark.bpf
def test_an_item_that_lacks_something_says_what(items):
    assert "" in {item.missing for item in items}
    for item in items:
        assert not item.missing or item.needs
    assert "libbpf >= 99.0" in corpus.without("bpf, libbpf 99.0")
    assert "program type 4000" in corpus.without("program type 4000")


@pytest.mark.bpf
def test_handlers_make_the_difference(items):
    handled = next(item for item in items if item.handled)
    with pylbpf.open(handled.path) as obj, pytest.raises(pylbpf.BpfError, match="missing BPF prog type"):
        obj.load()
    assert verdict(handled) == ("loads", None)


# ---------------------------------------------------------------- for measurements


def test_tools_read_5_to_40_fields():
    counts = [core.tool(Random(i), i).count("BPF_CORE_READ(") for i in range(200)]
    assert min(counts) >= 5 and max(counts) <= 43  # each program has one at least
    assert len(set(counts)) > 20


@pytest.mark.bpf
def test_core_objects_are_distinct_and_load(requires_btf):
    paths = corpus.core_objects(6)
    assert len({path.read_bytes() for path in paths}) == 6
    for path in paths:
        with pylbpf.open(path) as obj:
            assert {"starts", "events"} <= set(obj.maps)
            obj.load()


@pytest.mark.bpf
def test_heavy_objects_have_as_many_programs_and_take_time_in_proportion():
    unit = max(1.0, 100 * milliseconds_per_turn())     # where that is slow, too, some turns
    short, long = corpus.heavy(3, unit), corpus.heavy(3, 5 * unit)
    assert short != long and corpus.heavy(3, 5 * unit) == long
    turns = [int(re.search(r"x(\d+)", path.name)[1]) for path in (short, long)]
    assert 4 < turns[1] / turns[0] < 6
    for path in (short, long):
        with pylbpf.open(path) as obj:
            obj.load()
            assert [program.fd >= 0 for program in obj.programs.values()] == [True] * 3
