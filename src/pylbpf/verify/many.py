"""verify_many(): what is asked, checked; and what was found, as results."""
from __future__ import annotations

import errno
import os
import platform
import time
import traceback
from typing import TYPE_CHECKING, Any, Callable, Collection, Iterable, Optional, Union

from .. import _verifier, rights, verifying
from .._version import libbpf_version_string
from .report import VerifyReport, VerifyResult
from .sources import Item, Source, find_sources

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from ..handlers import ProgramHandler
    from ..program import Program

Select = Union[Callable[["Program"], object], Collection[str], None]
Progress = Optional[Callable[[int, int, VerifyResult], object]]
# What libbpf says when it goes on, or guesses.
NO_REASON = ("Retrying without", "RLIMIT_MEMLOCK", "CONFIG_BPF_SYSCALL")


def verify_many(
    items: Union[Item, Iterable[Item]],
    *,
    threads: Optional[int] = None,
    executor: Optional[Executor] = None,
    ship: str = "paths",
    handlers: Iterable[ProgramHandler] = (),
    select: Select = None,
    on_progress: Progress = None,
    log_level: int = 1,
    log_limit: int = 1 << 14,
    share_kernel_btf: bool = True,
    kconfig: Optional[str] = None,
    btf_custom_path: Union[str, os.PathLike[str], None] = None,
    relaxed_maps: bool = False,
    token_path: Union[str, os.PathLike[str], None] = None,
) -> VerifyReport:
    """Load every program of many objects by itself, to hear what the verifier says of it; return a VerifyReport.

    An item is a path; a pattern such as ``"build/**/*.bpf.o"``; a folder, of which every ``*.o`` below it counts;
    bytes; or a pair of a name and bytes. Each program is loaded alone, whether or not it has autoload, from an open of
    its own; maps are not pinned, and nothing stays loaded. What goes wrong with an item is in the report, and no
    reason to stop.

    - ``threads``: default one for each usable CPU; the costly objects come first. They hold the GIL only for callbacks
      that are written in Python. With an executor it is the number in each task, default 1.
    - ``executor``: a concurrent.futures.Executor that does the work, in tasks of some objects each; with
      ``ship="paths"`` each worker reads the files itself, with ``ship="bytes"`` they are sent. Work that is lost with a
      worker is done again, in the end one object at a time; what is lost three times is "failed" in the report.
    - ``handlers``: ProgramHandlers beside the registered ones. Their ``setup`` runs for each open of an object,
      ``prepare_load`` for each load. An executor that has other processes needs
      handlers that can be pickled.
    - ``select``: names of the programs that are wanted, or a function that is asked of each Program, before its load.
    - ``on_progress(done, total, result)``: called on this thread after each program; ``total`` is an estimate until all
      objects are open. What it raises ends the call.
    - ``log_level``: 0 for statistics only; with 1 a rejected program is loaded a second time, for the verifier's way to
      the failing instruction; with 2 all are, for all ways.
    - ``log_limit``: bytes that are kept of the end of each log.
    - ``share_kernel_btf``: relocate all CO-RE objects against one small selection of the kernel's types, which is
      faster and comes to the same.

    The others are as in open(). On Ctrl-C, and whatever else ends the call, programs that are being loaded are waited
    for, no other is begun, nothing stays loaded; the exception has what was found as ``report``. An executor's tasks
    that are under way go on to their end. Needs the right to load programs: without it they are "failed".
    Source: bpf_object__load(), struct bpf_prog_info.
    """
    sources = find_sources(items)
    check(ship, log_level, log_limit, executor, threads, on_progress)
    options: dict[str, Any] = {
        "handlers": tuple(handlers), "select": wanted(select), "log_level": log_level,
        "log_limit": log_limit, "share_kernel_btf": share_kernel_btf,
        "options": {"kconfig": kconfig, "btf_custom_path": btf_custom_path, "relaxed_maps": relaxed_maps,
                    "token_path": token_path},
    }
    findings = Findings(len(sources), on_progress)
    began = time.perf_counter()
    try:
        if executor is None:
            verify_here(sources, findings.add, findings.tell, {**options, "threads": threads})
        else:
            from .scatter import scatter

            scatter(sources, findings, executor, ship == "bytes", {**options, "threads": threads or 1})
    except BaseException as error:
        error.report = findings.report(began)  # type: ignore[attr-defined]
        raise
    return findings.report(began)


def check(ship: Any, log_level: Any, log_limit: Any, executor: Any, threads: Any, on_progress: Any) -> None:
    for what, value in (("log_limit", log_limit), ("threads", threads)):
        if isinstance(value, bool) or not isinstance(value, int if what == "log_limit" else (int, type(None))):
            raise TypeError(f"{what} must be a number, not {type(value).__name__}")
    if isinstance(threads, int) and threads < 1:
        raise ValueError(f"threads must be 1 or more, not {threads}")
    if executor is not None and not callable(getattr(executor, "submit", None)):
        raise TypeError(f"executor must be a concurrent.futures.Executor, not {type(executor).__name__}")
    if on_progress is not None and not callable(on_progress):
        raise TypeError(f"on_progress must be callable, not {type(on_progress).__name__}")
    if ship not in ("paths", "bytes"):
        raise ValueError(f"ship must be 'paths' or 'bytes', not {ship!r}")
    if log_level not in (0, 1, 2):
        raise ValueError(f"log_level must be 0, 1 or 2, not {log_level!r}")
    if not 1 << 10 <= log_limit <= 1 << 24:
        raise ValueError(f"log_limit must be 1024 bytes to 16 MiB, not {log_limit}")


def wanted(select: Select) -> Union[Callable[[Program], object], frozenset[str], None]:
    if select is None or callable(select):
        return select
    names = tuple(select) if isinstance(select, Iterable) and not isinstance(select, (str, bytes)) else (None,)
    if not all(isinstance(name, str) for name in names):
        raise TypeError(f"select must be a function or a collection of names, not {select!r:.80}")
    return frozenset(str(name) for name in names)


class Findings:
    """Results as they come in, by object."""

    def __init__(self, sources: int, on_progress: Progress) -> None:
        self.by_source: list[list[tuple[int, VerifyResult]]] = [[] for _ in range(sources)]
        self.done = 0
        self.silent = sources  # of which nothing was heard yet
        self.on_progress = on_progress

    def add(self, source: int, place: int, result: VerifyResult) -> VerifyResult:
        self.silent -= not self.by_source[source]
        self.by_source[source].append((place, result))
        self.done += 1
        return result

    def tell(self, total: int, result: VerifyResult, done: Optional[int] = None) -> None:
        if self.on_progress is not None:
            self.on_progress(self.done if done is None else done, total, result)

    def report(self, began: float) -> VerifyReport:
        return VerifyReport(
            (result for found in self.by_source for _, result in sorted(found, key=lambda item: item[0])),
            seconds=time.perf_counter() - began, kernel=platform.release(), libbpf=libbpf_version_string().lstrip("v"),
        )


# ---------------------------------------------------------------- in this process


def verify_here(
    sources: list[Source],
    add: Callable[[int, int, VerifyResult], VerifyResult],
    tell: Optional[Callable[[int, VerifyResult], object]],
    options: dict[str, Any],
) -> None:
    def hear(source: int, place: Optional[int], *found: Any) -> VerifyResult:
        return add(source, -1 if place is None else place, result_of(sources[source], *found))

    verifying.verify([in_c(source) for source in sources], hear, progress=tell, **options)


def in_c(source: Source) -> tuple[str, Optional[bytes], Optional[bytes], Optional[bytes]]:
    """As verifying.verify() wants it; the last is the name that libbpf would give a file."""
    name = os.fsencode(source.object).rpartition(b"/")[2].partition(b".")[0]
    return source.object, None if source.data is not None else os.fsencode(source.path), source.data, name or b"object"


def result_of(
    source: Source, program: str, section: str, type: str, verdict: str, code: int, message: str, seconds: float,
    insns: int, xlated: int, jited: int, counted: str, log: str, said: str, error: Optional[BaseException],
) -> VerifyResult:
    log = log or counted
    summary, insn, line = _verifier.explain(log) if verdict == "rejected" else (None, None, None)
    counts, depths, verification_time = _verifier.statistics(counted)
    reason = summary or (without_rights(code) or first_line(said) or message if code else None)
    if error is not None:
        if not isinstance(error, Exception):
            raise error
        verdict = "failed" if program else "refused"
        code = error.errno or 0 if isinstance(error, OSError) else errno.ECANCELED
        reason = f"{type_name(error)}: {error}"
        said = "".join(traceback.format_exception(error.__class__, error, error.__traceback__))
    return VerifyResult(
        source.object, source.path, program, section, type, verdict, seconds, verification_time,
        counts.get("insns_processed"), counts.get("total_states"), counts.get("peak_states"),
        counts.get("max_states_per_insn"), counts.get("mark_read"), depths, insns if program else None,
        xlated or None, jited or None, code, reason, insn, line, log or said,
    )


def first_line(text: str) -> str:
    """The first complaint that libbpf did not find a way around, and that is no guess."""
    return next((line for line in text.splitlines() if line and not any(words in line for words in NO_REASON)), "")


def without_rights(code: int) -> str:
    lacking = rights.missing("CAP_BPF", "CAP_PERFMON") if code == errno.EPERM else []
    return f"{os.strerror(code)}: missing {' and '.join(lacking)}" if lacking else ""


def type_name(error: BaseException) -> str:
    return error.__class__.__name__
