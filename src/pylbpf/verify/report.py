"""What was found: one record for each program, and all of them together."""
from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Iterable, NamedTuple, Optional, Sequence, Union, overload

from . import tables

if TYPE_CHECKING:
    from .compare import VerifyComparison

Path = Union[str, "os.PathLike[str]"]


class VerifyResult(NamedTuple):
    """What the verifier says of one program; plain types only, so that it can be pickled and sent.

    - ``object``: name of the file, or the name given with bytes; ``path``: where it was found, "" for bytes.
    - ``program``, ``section``, ``type`` ("xdp"): "" if this is about an object as a whole, which cannot be opened or
      has no programs.
    - ``verdict``: "accepted"; "rejected" by the verifier; "failed" for another reason, such as a map that the kernel
      does not make; "refused": the object cannot be opened.
    - ``seconds``: wall time of the load: maps, types, relocations and verification; ``verification_time``: seconds
      of the verification alone, by the kernel.
    - ``insns_processed``, ``total_states``, ``peak_states``, ``max_states_per_insn``, ``mark_read``: what the verifier
      counted, by its names; ``stack_depths``: bytes of stack of each function.
    - ``insn_count``: instructions, with sub-programs; ``xlated_size``, ``jited_size``: bytes in the kernel.
    - ``errno``: 0 or the number of the error; ``reason``: why, in a sentence; ``insn``, ``source``: index of the
      failing instruction and the line of C it came from.
    - ``log``: the end of the verifier's log, or what libbpf said where there is none.

    What is not known is None. An "accepted" with an errno: the verifier took the program, and the rest of the object
    failed after that, as for tail calls into programs that are not loaded.
    """

    object: str
    path: str
    program: str
    section: str
    type: str
    verdict: str
    seconds: float
    verification_time: Optional[float]
    insns_processed: Optional[int]
    total_states: Optional[int]
    peak_states: Optional[int]
    max_states_per_insn: Optional[int]
    mark_read: Optional[int]
    stack_depths: tuple[int, ...]
    insn_count: Optional[int]
    xlated_size: Optional[int]
    jited_size: Optional[int]
    errno: int
    reason: Optional[str]
    insn: Optional[int]
    source: Optional[str]
    log: str

    @property
    def stack_depth(self) -> Optional[int]:
        """Bytes of stack of all functions together, or None."""
        return sum(self.stack_depths) if self.stack_depths else None


class VerifyReport(Sequence[VerifyResult]):
    """The VerifyResults of verify_many(), in the order of the items and of the programs in each.

    ``seconds`` is the wall time of the call, ``kernel`` and ``libbpf`` are the versions that ran. It can be pickled.
    """

    seconds: float
    kernel: str
    libbpf: str

    def __init__(
        self, results: Iterable[VerifyResult] = (), *, seconds: float = 0.0, kernel: str = "", libbpf: str = ""
    ) -> None:
        self._results = list(results)
        self.seconds = seconds
        self.kernel = kernel
        self.libbpf = libbpf

    @overload
    def __getitem__(self, index: int) -> VerifyResult: ...
    @overload
    def __getitem__(self, index: slice) -> VerifyReport: ...
    def __getitem__(self, index: Union[int, slice]) -> Union[VerifyResult, VerifyReport]:
        if isinstance(index, slice):
            return self._with(self._results[index])
        return self._results[index]

    def __len__(self) -> int:
        return len(self._results)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, VerifyReport) and self._results == other._results

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        counts = ", ".join(f"{count} {verdict}" for verdict, count in self.verdicts().items())
        return f"<VerifyReport: {counts or 'empty'}>"

    def _with(self, results: Iterable[VerifyResult]) -> VerifyReport:
        return VerifyReport(results, seconds=self.seconds, kernel=self.kernel, libbpf=self.libbpf)

    def verdicts(self) -> dict[str, int]:
        """How many results have each verdict; those that none has are left out."""
        counts: dict[str, int] = {}
        for result in self._results:
            counts[result.verdict] = counts.get(result.verdict, 0) + 1
        return counts

    def records(self) -> list[dict[str, Any]]:
        """The results as dicts, each with ``stack_depth`` too."""
        return [{**result._asdict(), "stack_depth": result.stack_depth} for result in self._results]

    def to_csv(self, path: Optional[Path] = None) -> Optional[str]:
        """Write a table without the logs to a file, or return it as text; the first line has the names.

        Unknown is an empty cell; stack depths are written as the kernel does: 16+0+8.
        """
        return tables.write(path, tables.to_csv(self._results))

    @classmethod
    def from_csv(cls, path: Path) -> VerifyReport:
        """Read what to_csv() wrote; columns that it does not know are passed over. ValueError if it is none."""
        return cls(tables.from_csv(tables.read(path), VerifyResult))

    def to_json(self, path: Optional[Path] = None) -> Optional[str]:
        """Write everything, logs too, to a file, or return it as text."""
        about = {"kernel": self.kernel, "libbpf": self.libbpf, "seconds": self.seconds}
        return tables.write(path, tables.to_json(about, self._results))

    @classmethod
    def from_json(cls, path: Path) -> VerifyReport:
        """Read what to_json() wrote. ValueError if it is none."""
        about, results = tables.from_json(tables.read(path), VerifyResult)
        return cls(results, **about)

    def to_numpy(self) -> Any:
        """A structured numpy array, shape (n,), with the columns of to_csv().

        Text as str of the longest's length, counts as int64 with -1 for unknown, seconds as float64 with NaN.
        """
        return tables.to_numpy(self._results)

    def to_pandas(self) -> Any:
        """A pandas DataFrame with the columns of to_csv(); counts are Int64, which knows missing values.

        ImportError if pandas is not installed.
        """
        return tables.to_pandas(self._results)

    def to_arrow(self) -> Any:
        """A pyarrow Table with the columns of to_csv(), missing values as null, stack depths as a list.

        ImportError if pyarrow is not installed.
        """
        return tables.to_arrow(self._results)

    def compare(
        self, before: VerifyReport, *, fields: Optional[Sequence[str]] = None, threshold: float = 0.0
    ) -> VerifyComparison:
        """What is worse and better here than in another report, appeared, or vanished: a VerifyComparison.

        Programs are matched by the names of object and program. ``fields`` are the counts to look at, default all but
        times, of which less is better; changes of at most ``threshold`` (0.05 is 5 %) do not count.
        """
        from .compare import compare

        return compare(before, self, fields, threshold)
