"""What the benchmarks make of their figures: ratios, comparisons, charts. No timing here."""
from __future__ import annotations

import dataclasses
import io
import json
import os
import runpy
import subprocess
import sys
import xml.etree.ElementTree as xml
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"
if not BENCHMARKS.exists():
    pytest.skip("checkout: these tests are about its benchmarks", allow_module_level=True)
sys.path.insert(0, str(BENCHMARKS))

import compare  # noqa: E402
import race  # noqa: E402

pytestmark = pytest.mark.no_c


def results(own: list[int], name: str = "open", **row) -> list[race.Result]:
    """Of a race against C, which always takes 1000 ns for ten items."""
    samples = {"C": [{"it": 1000}] * len(own), "pylbpf": [{"it": time} for time in own]}
    return race.evaluate(name, [race.Row("it", ["it"], 10, **row)], samples)


def test_ratios_are_of_minima_and_of_rounds():
    c, own = results([2000, 3000, 2500, 4000, 2400], ratios={"pylbpf": 2.2}, clock="wall")
    assert (c.contestant, c.minimum, c.ratio) == ("C", 100, None)
    assert (own.minimum, own.median, own.ratio, own.ratio_median, own.reference) == (200, 250, 2, 2.5, "C")
    assert own.ratio_quartiles == (2.4, 3.0) and own.met == "nearly" and own.clock == "wall"
    assert results([2000, 2100], ratios={"pylbpf": 2.2})[1].met == "yes"
    assert results([3000, 3100], ratios={"pylbpf": 2.2})[1].met == "NO"
    assert results([3000], unit="us", limits={"pylbpf": 0.3})[1].met == "yes"


def test_what_is_run():
    run = runpy.run_path(str(BENCHMARKS / "run.py"))
    file = str(BENCHMARKS / "test_map.py")
    for words in [], ["-k", "map"], ["--rounds", "3"], ["--compare", __file__]:
        assert run["arguments"](words) == [str(BENCHMARKS), *run["OPTIONS"], *words]
    for words in [file], ["--smoke", f"{file}::test_map"], [os.path.relpath(file)]:
        assert run["arguments"](words) == [*run["OPTIONS"], *words]


def test_comparison_tells_what_is_beyond_the_spread():
    then = results([2000, 2100, 2050, 2075]) + results([500], "gone")
    same, worse, better = [2040, 2060, 2100, 2000], [2600, 2700, 2650, 2620], [1500, 1550, 1510, 1520]
    for own, verdict in (same, "same"), (worse, "worse"), (better, "better"):
        changes = {change.benchmark: change for change in compare.compare(then, results(own) + results([500], "more"))}
        assert changes["open"].verdict == verdict and changes["open"].unit == "× C"
        assert changes["gone"].verdict == "gone" and changes["gone"].now is None and changes["gone"].factor is None
        assert changes["more"].verdict == "new" and changes["more"].then is None
        assert {change.contestant for change in changes.values()} == {"pylbpf"}


def test_earlier_runs_are_read_and_checked(tmp_path):
    stored = tmp_path / "results.json"
    then = results([2000, 2100])
    stored.write_text(json.dumps({"results": [dataclasses.asdict(result) for result in then]}))
    assert [change.verdict for change in compare.compare(compare.load(stored), then)] == ["same"]
    for text in ("", "{}", "[]", '{"results": [{"nonsense": 1}]}'):
        stored.write_text(text)
        with pytest.raises(SystemExit, match="no result of an earlier run"):
            compare.load(stored)
    with pytest.raises(SystemExit, match="No such file"):
        compare.load(tmp_path / "none")
    rich = pytest.importorskip("rich.console", reason="rich: not installed")
    console = rich.Console(width=120, file=io.StringIO())
    console.print(compare.table(compare.compare(then, results([4000, 4100])), "then and now"))
    assert "worse" in console.file.getvalue() and "+97.6 %" in console.file.getvalue()


def charts(group: list[race.Result], folder: Path) -> list[Path]:
    """In a process of its own: matplotlib keeps its fonts open."""
    script = """
import json, sys
from pathlib import Path
import chart, race
results = [race.Result(**result) for result in json.load(sys.stdin)]
print(*chart.write(results, Path(sys.argv[1])), sep="\\n")
"""
    done = subprocess.run([sys.executable, "-c", script, folder], input=json.dumps([*map(dataclasses.asdict, group)]),
                          stdout=subprocess.PIPE, text=True, check=True, env={**os.environ, "PYTHONPATH": str(BENCHMARKS)})
    return [Path(line) for line in done.stdout.split("\n") if line]


def test_charts_show_each_bar_and_target(tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib: not installed")
    group = results([1500, 1600], "open many", ratios={"pylbpf": 1.03}) + results([90000, 91000], "other/one")
    group += results([1200, 1300], "open many[2-file]")
    paths = charts(group, tmp_path)
    assert [path.name for path in paths] == ["open-many.svg", "other-one.svg"]
    for path, label in zip(paths, ("1.5", "90")):
        texts = ["".join(node.itertext()) for node in xml.parse(path).iter("{http://www.w3.org/2000/svg}text")]
        assert label in texts and any("pylbpf" in text for text in texts), texts
        assert ("2-file  it  pylbpf" in texts) == (path == paths[0])  # a parameter is no group of its own
    assert charts([result for result in group if result.ratio is None], tmp_path) == []
    again = charts(group, tmp_path / "again")
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in paths]
