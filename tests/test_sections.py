"""The table of libbpf's own sections says of each name what the libbpf in use says, and how patterns match is its rule.

What libbpf answers is asked in a fresh process: once a handler is registered, it knows every name.
"""
import json
import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pylbpf import sections
from pylbpf.enums import AttachType, ProgramType

# The version from which on libbpf has them; the others are in 1.1 already.
SINCE = {
    (1, 2): ["struct_ops.s+"],
    (1, 3): ["uprobe.multi+", "uprobe.multi.s+", "uretprobe.multi+", "uretprobe.multi.s+", "usdt.s+", "netfilter",
             "tc/ingress", "tc/egress", "tcx/ingress", "tcx/egress", "netkit/primary", "netkit/peer",
             "cgroup/connect_unix", "cgroup/sendmsg_unix", "cgroup/recvmsg_unix", "cgroup/getpeername_unix",
             "cgroup/getsockname_unix"],
    (1, 5): ["kprobe.session+"],
    (1, 6): ["uprobe.session+", "uprobe.session.s+", "sk_skb/verdict"],
    (1, 7): ["fsession+", "fsession.s+"],
    (1, 8): ["tp.s+", "tracepoint.s+", "raw_tp.s+", "raw_tracepoint.s+", "tp_btf.s+", "fentry.multi+",
             "fentry.multi.s+", "fexit.multi+", "fexit.multi.s+", "fsession.multi+", "fsession.multi.s+"],
}
NEWER = {pattern: version for version, patterns in SINCE.items() for pattern in patterns}

PATTERNS = sections.builtin_patterns()

ASK = """
import json, sys
from pylbpf import log, sections
lines = []
log.set_print(lambda level, line: lines.append(line), 2)
sections._ask_libbpf("nonsense")
log.set_print(None)
answers = {name: sections._ask_libbpf(name) for name in json.load(sys.stdin)}
json.dump({"lines": lines, "answers": answers, "version": sections._libbpf_version()}, sys.stdout)
"""


def stem(pattern):
    return pattern[:-1] if pattern.endswith("+") else pattern


def samples(pattern):
    """Names that the pattern matches, and names close by."""
    name = stem(pattern)
    return [name, f"{name}/", f"{name}/x", f"{name}/x/y:z+1", f"{name}.s", f"{name}.multi", f"{name}x", name[:-1],
            f"?{name}"]


@pytest.fixture(scope="module")
def libbpf():
    names = sorted({name for pattern in PATTERNS for name in samples(pattern)})
    asked = subprocess.run([sys.executable, "-c", ASK], input=json.dumps(names), capture_output=True, text=True,
                           check=False)
    assert asked.returncode == 0, asked.stderr
    return json.loads(asked.stdout)


@pytest.fixture(scope="module")
def version(libbpf):
    return tuple(libbpf["version"])


@pytest.fixture(scope="module")
def listed(libbpf):
    """The patterns that libbpf names when it does not know a section."""
    [text] = [line.partition("names are:")[2] for line in libbpf["lines"] if "names are:" in line]
    patterns = text.split()
    assert len(patterns) > 50
    return patterns


def test_libbpf_has_no_section_that_the_table_lacks(listed):
    assert set(listed) - set(PATTERNS) == set()


def test_libbpf_lacks_only_what_is_newer(listed, version):
    missing = set(PATTERNS) - set(listed)
    assert {pattern: NEWER.get(pattern) for pattern in missing if NEWER.get(pattern, (0, 0)) <= version} == {}


def test_newer_sections_are_in_the_table():
    assert NEWER.keys() <= set(PATTERNS)


def test_types_are_those_of_libbpf(libbpf, listed):
    for pattern in listed:
        names = [name for name in samples(pattern) if sections._match(pattern, name)]
        assert stem(pattern) in names
        assert {name: sections.section_builtin(name) for name in names} == {
            name: tuple(libbpf["answers"][name] or ()) for name in names
        }


def test_names_that_libbpf_does_not_know(libbpf, listed):
    """Near misses: no name is known to only one of the two, but for sections that this libbpf lacks."""
    newer = [pattern for pattern in PATTERNS if pattern not in listed]
    for name, answer in libbpf["answers"].items():
        if any(sections._match(pattern, name) for pattern in newer):
            assert answer is None
        else:
            assert sections.section_builtin(name) == (answer and tuple(answer)), name


def test_types_of_sections_that_this_libbpf_lacks():
    """As far as no libbpf at hand can say: the numbers are the kernel's."""
    expected = {
        "uprobe.multi.s": ("KPROBE", "TRACE_UPROBE_MULTI"),
        "kprobe.session": ("KPROBE", "TRACE_KPROBE_SESSION"),
        "uprobe.session": ("KPROBE", "TRACE_UPROBE_SESSION"),
        "fsession": ("TRACING", "TRACE_FSESSION"),
        "netfilter": ("NETFILTER", "NETFILTER"),
        "tcx/ingress": ("SCHED_CLS", "TCX_INGRESS"),
        "tc/egress": ("SCHED_CLS", "TCX_EGRESS"),
        "netkit/primary": ("SCHED_CLS", "NETKIT_PRIMARY"),
        "netkit/peer": ("SCHED_CLS", "NETKIT_PEER"),
        "cgroup/connect_unix": ("CGROUP_SOCK_ADDR", "CGROUP_UNIX_CONNECT"),
        "cgroup/getsockname_unix": ("CGROUP_SOCK_ADDR", "CGROUP_UNIX_GETSOCKNAME"),
        "sk_skb/verdict": ("SK_SKB", "SK_SKB_VERDICT"),
    }
    for name, (program_type, attach_type) in expected.items():
        assert sections.section_builtin(name) == (ProgramType[program_type], AttachType[attach_type]), name
    multi = [sections.section_builtin(f"{kind}.multi/*") for kind in ("fentry", "fexit", "fsession")]
    assert multi == [(ProgramType.TRACING, 59), (ProgramType.TRACING, 60), (ProgramType.TRACING, 61)]


def test_no_name_matches_two_sections():
    assert [(a, b) for i, a in enumerate(PATTERNS) for b in PATTERNS[i + 1:] if sections._overlap(a, b)] == []


# ---------------------------------------------------------------- patterns


def matches(pattern, name):
    """libbpf's rule in other words."""
    if pattern.endswith("/"):
        return name.startswith(pattern)
    if pattern.endswith("+"):
        return name == pattern[:-1] or name.startswith(pattern[:-1] + "/")
    return name == pattern


short = st.text("ab/+", max_size=5)
near_builtin = st.sampled_from(PATTERNS).flatmap(
    lambda pattern: st.builds(
        lambda cut, tail: pattern[:cut] + tail, st.integers(0, len(pattern)), st.text("/+.sx", max_size=3)
    )
)


@pytest.mark.parametrize("pattern, name, expected", [
    ("abc", "abc", True), ("abc", "abc/", False), ("abc", "abcd", False), ("abc", "ab", False),
    ("abc/", "abc/", True), ("abc/", "abc/x", True), ("abc/", "abc", False), ("abc/", "abcx/", False),
    ("abc+", "abc", True), ("abc+", "abc/", True), ("abc+", "abc/x/y", True), ("abc+", "abcx", False),
    ("abc+", "abc+", False), (None, "abc", True), (None, "", True), ("", "", True), ("", "a", False),
    ("+", "", True), ("+", "/x", True), ("/", "/x", True), ("é/", "é/ü", True), ("é", "e", False),
])
def test_match(pattern, name, expected):
    assert sections._match(pattern, name) is expected


@given(short | near_builtin, short | near_builtin)
def test_match_is_the_rule(pattern, name):
    assert sections._match(pattern, name) == matches(pattern, name)


@given(short, short)
def test_overlap_is_a_name_that_both_match(a, b):
    """Brute force: if two patterns have a name in common, then one of these."""
    candidates = [base + tail for base in (a, b, stem(a), stem(b)) for tail in ("", "/", "/x")]
    common = [name for name in candidates if matches(a, name) and matches(b, name)]
    assert sections._overlap(a, b) == bool(common)
    assert sections._overlap(b, a) == bool(common)


def test_overlap_of_all_short_patterns():
    """No name up to two characters longer than the patterns is overlooked."""
    def words(length):
        return [""] if length == 0 else [c + rest for c in "a/" for rest in words(length - 1)]
    names = [word for length in range(6) for word in words(length)]
    patterns = [word for length in range(4) for word in words(length)]
    patterns += [pattern + "+" for pattern in patterns]
    matched = {pattern: {name for name in names if matches(pattern, name)} for pattern in patterns}
    for a in patterns:
        for b in patterns:
            assert sections._overlap(a, b) == bool(matched[a] & matched[b]), (a, b)


@given(short | near_builtin)
def test_overlaps_builtin(pattern):
    names = {stem(pattern) + tail for tail in ("", "/", "/x")}
    names |= {stem(builtin) + tail for builtin in PATTERNS for tail in ("", "/", "/x")}
    common = any(matches(pattern, name) and sections.section_builtin(name) for name in names if name)
    assert sections._overlaps_builtin(pattern) == common


@pytest.mark.parametrize("pattern, expected", [
    (None, False), ("sample/", False), ("sample+", False), ("xdp", True), ("xdp/", True), ("xdp+", True),
    ("xdp.frags", True), ("xdp/x", False), ("xd", False), ("xdp/devmap/", False), ("tc/", True), ("tc/x", False),
    ("kprobe/", True), ("kprobe/do_unlinkat", True), ("kprobe/do_unlinkat+", True), ("kprobe", True),
    ("kprob", False), ("kprobe.x+", False), ("struct_ops.s/x", True), ("cgroup+", True), ("cgroup", False),
    ("perf_event/", False), ("perf_event", True), ("perf_event+", True), ("fentry.multi/x*", True),
])
def test_overrides(pattern, expected):
    assert sections._overlaps_builtin(pattern) is expected


@pytest.mark.parametrize("pattern, expected", [
    ("xdp", (ProgramType.XDP, AttachType.XDP)),
    ("xdp+", (ProgramType.XDP, 0)),
    ("xdp/", (ProgramType.XDP, 0)),
    ("kprobe/", (ProgramType.KPROBE, 0)),
    ("kprobe.multi/x", (ProgramType.KPROBE, AttachType.TRACE_KPROBE_MULTI)),
    ("tc/", (ProgramType.SCHED_CLS, 0)),
    ("tc/ingress", (ProgramType.SCHED_CLS, AttachType.TCX_INGRESS)),
    ("cgroup+", None),
    ("sk_skb+", (ProgramType.SK_SKB, 0)),
    ("perf_event+", (ProgramType.PERF_EVENT, 0)),
    ("sample/", None),
])
def test_type_of_a_pattern(pattern, expected):
    assert sections._pattern_type(pattern) == expected


@given(near_builtin)
def test_type_of_a_pattern_is_that_of_all_it_overlaps(pattern):
    types = {sections.section_builtin(stem(other)) for other in PATTERNS if sections._overlap(pattern, other)}
    programs = {program_type for program_type, _ in types}
    attach_types = {attach_type for _, attach_type in types}
    expected = None
    if len(programs) == 1:
        expected = (programs.pop(), attach_types.pop() if len(attach_types) == 1 else 0)
    assert sections._pattern_type(pattern) == expected


# ---------------------------------------------------------------- arguments


def test_unknown_section():
    assert sections.section_builtin("sample/99") is None
    assert sections.section_builtin("x" * 5000) is None


def test_name_that_is_not_utf8():
    assert sections.section_builtin(os.fsdecode(b"kprobe/\xff")) == (ProgramType.KPROBE, 0)


@pytest.mark.parametrize(
    "name, error", [(None, TypeError), (b"xdp", TypeError), ("", ValueError), ("a\0b", ValueError)]
)
def test_bad_name(name, error):
    with pytest.raises(error):
        sections.section_builtin(name)
