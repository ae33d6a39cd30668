"""How long does it take to attach many programs, until none of them fires any more, and until all is released?

Wall time per link, of a loop in C and of attach_many() and LinkSet.close(). C's loop has only one end:
nothing fires any more when all is released. That pylbpf's close(wait=False) keeps its word is checked: it returns, the machine goes on
with what made the programs fire, and their counters stand still. Network links go to interfaces of a namespace of the
benchmark's own, with `expedite=True` for pylbpf; a loop in C has no such thing.
"""
import kernel
import network
import objects
import pylbpf
import pytest
import tracepoints
from race import Row
from time import perf_counter_ns as now

HAS_MANY = hasattr(pylbpf, "attach_many")
HAS_TCX = hasattr(pylbpf.Program, "attach_tcx") and pylbpf.libbpf_version() >= (1, 3)


def run(race, c, own, rows, *, able=HAS_MANY, share=1.0):
    """C alone where pylbpf cannot do it yet."""
    race({"C": c, "pylbpf": own} if able else {"C": c}, rows, timed="pylbpf" if able else "C", share=share)


def attach(programs, **options):
    start = now()
    links = pylbpf.attach_many(programs, **options)
    took = now() - start
    assert len(links) == len(programs) and not any(link.closed for link in links)
    return links, took


def close(links, **options):
    start = now()
    links.close(**options)
    return now() - start


# ---------------------------------------------------------------- tracepoints


def test_tracepoints(race, batch_floor, bpf, size):
    n = size(120, 6)
    sections = tracepoints.sections(n)
    if len(sections) < n:
        pytest.skip(f"tracefs: not mounted, or less than {n} tracepoints")
    path = objects.build(objects.many(n, sections, with_map=True), "tracepoints")
    with pylbpf.open(path) as obj, batch_floor.loaded(path) as raw, tracepoints.Stir() as stir:
        obj.load()
        programs = list(obj.programs.values())

        def counted():
            counts = obj.maps["counts"]
            return [int.from_bytes(counts.lookup(i.to_bytes(4, "little")), "little") for i in range(n)]

        def in_c():
            times = batch_floor.links(raw, n)
            return {"attach": times["attach"], "silent": times["destroy"], "released": times["destroy"]}

        def own():
            before = counted()
            links, attached = attach(programs)
            stir.wait(5)
            silent = close(links, wait=False)
            after = counted()
            stir.wait(20)
            assert counted() == after, "a program has run after close(wait=False)"
            assert after != before, "nothing has made the programs run"
            links.close()
            links, _ = attach(programs)
            return {"attach": attached, "silent": silent, "released": close(links)}

        run(
            race, in_c, own,
            [Row("released", ["released"], n, "us", clock="wall", ratios={"pylbpf": 0.5}),
             Row("nothing fires", ["silent"], n, "us", clock="wall", ratios={"pylbpf": 0.01}),
             Row("attach", ["attach"], n, "us", clock="wall")],
            share=0.1,
        )


# ---------------------------------------------------------------- interfaces


class ToInterface(pylbpf.ProgramHandler):
    """Attaches each program to the next interface."""

    def __init__(self, kind, indexes):
        if kind == "xdp":
            super().__init__(section="xdp", program_type=pylbpf.ProgramType.XDP,
                             expected_attach_type=pylbpf.AttachType.XDP)
        else:
            super().__init__(section="tc", program_type=pylbpf.ProgramType.SCHED_CLS,
                             expected_attach_type=pylbpf.AttachType.TCX_INGRESS)
        self.kind, self.indexes = kind, indexes

    def attach(self, program):
        index = self.indexes[int(program.name[1:])]
        return program.attach_xdp(index) if self.kind == "xdp" else program.attach_tcx(index)


@pytest.mark.parametrize("kind", ["xdp", "tcx"])
def test_interfaces(race, batch_floor, bpf, size, kind):
    if network.missing():
        pytest.skip(network.missing())
    n = size(64, 4)
    path = objects.build(objects.many(n, "xdp" if kind == "xdp" else "tc"), kind)
    with network.interfaces(n) as indexes, batch_floor.loaded(path) as raw:
        try:
            batch_floor.interfaces(raw, kind, indexes[:1])
        except OSError as error:
            pytest.skip(f"{kind}: the kernel makes no such link ({error.strerror})")
        with pylbpf.open(path, handlers=[ToInterface(kind, indexes)]) as obj:
            obj.load()
            programs = list(obj.programs.values())

            def own():
                links, attached = attach(programs, expedite=True)
                return {"attach": attached, "destroy": close(links, expedite=True)}

            wanted = {"pylbpf": 0.15 if kind == "xdp" else 0.02}
            run(
                race, lambda: batch_floor.interfaces(raw, kind, indexes), own,
                [Row("attach", ["attach"], n, "us", clock="wall", ratios=wanted),
                 Row("destroy", ["destroy"], n, "us", clock="wall", ratios=wanted)],
                share=0.2, able=HAS_MANY and (kind == "xdp" or HAS_TCX),
            )


# ---------------------------------------------------------------- iterators


def test_many_iterators(race, batch_floor, bpf, size):
    """Nothing sleeps here: what remains is what each side adds."""
    if kernel.no_btf():
        pytest.skip(kernel.no_btf())
    n = size(1000, 10)
    path = objects.build(objects.many(n, "iter/bpf_map"), "iterators")
    with pylbpf.open(path) as obj, batch_floor.loaded(path) as raw:
        obj.load()
        programs = list(obj.programs.values())

        def own():
            links, attached = attach(programs)
            return {"attach": attached, "destroy": close(links)}

        wanted = {"pylbpf": 1.15}
        run(
            race, lambda: batch_floor.links(raw, n), own,
            [Row("attach and destroy", ["attach", "destroy"], n, "ns", clock="wall", ratios=wanted),
             Row("attach", ["attach"], n, "ns", clock="wall"), Row("destroy", ["destroy"], n, "ns", clock="wall")],
        )
