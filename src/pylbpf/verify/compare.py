"""Two reports side by side: what got worse, better, appeared or vanished, and by how much."""
from __future__ import annotations

from collections import defaultdict, deque
from typing import TYPE_CHECKING, Any, Iterable, Iterator, NamedTuple, Optional, Sequence, Union, overload

if TYPE_CHECKING:
    from .report import VerifyReport, VerifyResult

# Counts of which less is better. Times are left out: they are never the same twice.
FIELDS = (
    "insns_processed", "total_states", "peak_states", "max_states_per_insn", "stack_depth", "insn_count", "xlated_size",
    "jited_size",
)
ALSO = ("mark_read", "seconds", "verification_time")
RANKS = {"refused": 0, "failed": 1, "rejected": 2, "accepted": 3}
CHANGES = ("worse", "better", "appeared", "vanished")


class VerifyChange(NamedTuple):
    """One difference between two reports.

    ``change`` is "worse", "better", "appeared" or "vanished". The first two are about one ``field``: the verdict, or a
    count of which less is better, ``before`` and ``after``; the others are about a program, and of ``before`` and
    ``after`` one is its verdict, the other None.
    """

    change: str
    object: str
    program: str
    field: str
    before: Any
    after: Any

    @property
    def ratio(self) -> Optional[float]:
        """after / before of a count, or None."""
        if isinstance(self.before, (int, float)) and isinstance(self.after, (int, float)) and self.before:
            return self.after / self.before
        return None

    def __str__(self) -> str:
        subject = f"{self.object} {self.program}".rstrip()
        if self.change in ("appeared", "vanished"):
            return f"{self.change:8} {subject}: {self.before or self.after}"
        by = "" if self.ratio is None else f" ({self.ratio - 1:+.1%})"
        return f"{self.change:8} {subject}: {self.field} {self.before} -> {self.after}{by}"


class VerifyComparison(Sequence[VerifyChange]):
    """The VerifyChanges between two reports: first what is worse, then what is better, appeared, vanished."""

    def __init__(self, changes: Iterable[VerifyChange] = ()) -> None:
        self._changes = sorted(changes, key=lambda change: CHANGES.index(change.change))

    @overload
    def __getitem__(self, index: int) -> VerifyChange: ...
    @overload
    def __getitem__(self, index: slice) -> VerifyComparison: ...
    def __getitem__(self, index: Union[int, slice]) -> Union[VerifyChange, VerifyComparison]:
        if isinstance(index, slice):
            return VerifyComparison(self._changes[index])
        return self._changes[index]

    def __len__(self) -> int:
        return len(self._changes)

    def __repr__(self) -> str:
        counts = ", ".join(f"{len(self._of(kind))} {kind}" for kind in CHANGES if self._of(kind))
        return f"<VerifyComparison: {counts or 'no difference'}>"

    def __str__(self) -> str:
        return "\n".join(map(str, self._changes))

    def _of(self, kind: str) -> list[VerifyChange]:
        return [change for change in self._changes if change.change == kind]

    @property
    def worse(self) -> list[VerifyChange]:
        """What got worse: verdicts, and counts that rose."""
        return self._of("worse")

    @property
    def better(self) -> list[VerifyChange]:
        """What got better."""
        return self._of("better")

    @property
    def appeared(self) -> list[VerifyChange]:
        """Programs that only the new report has."""
        return self._of("appeared")

    @property
    def vanished(self) -> list[VerifyChange]:
        """Programs that only the old report has."""
        return self._of("vanished")

    def records(self) -> list[dict[str, Any]]:
        """The changes as dicts, each with its ``ratio``."""
        return [{**change._asdict(), "ratio": change.ratio} for change in self._changes]


class Named:
    """The results of a report by object and program; of several with the same names, the first one left."""

    def __init__(self, report: VerifyReport) -> None:
        self.left: defaultdict[tuple[str, str], deque[VerifyResult]] = defaultdict(deque)
        for result in report:
            self.left[result.object, result.program].append(result)
        self.objects = {result.object for result in report}
        self.refused = {result.object: result for result in report if result.verdict == "refused"}

    def take(self, result: VerifyResult) -> Optional[VerifyResult]:
        same = self.left[result.object, result.program]
        return same.popleft() if same else None


def compare(
    before: VerifyReport, after: VerifyReport, fields: Optional[Sequence[str]], threshold: float
) -> VerifyComparison:
    fields = FIELDS if fields is None else tuple(fields)
    for field in fields:
        if field not in FIELDS + ALSO:
            raise ValueError(f"{field!r} is not a field to compare; there are {', '.join(FIELDS + ALSO)}")
    if not threshold >= 0:
        raise ValueError(f"threshold must be 0 or more, not {threshold}")
    old, new = Named(before), Named(after)
    changes: list[VerifyChange] = []
    # What is said of an object that cannot be opened is said of each program that it had, or has now.
    for result in after:
        earlier = old.take(result) or old.refused.get(result.object)
        if earlier is not None:
            changes.extend(differences(earlier, result, fields, threshold))
        elif result.verdict != "refused" or result.object not in old.objects:
            changes.append(VerifyChange("appeared", result.object, result.program, "verdict", None, result.verdict))
    for result in (result for left in old.left.values() for result in left):
        later = new.refused.get(result.object)
        if later is not None:
            changes.extend(differences(result, later, fields, threshold))
        elif result.verdict != "refused" or result.object not in new.objects:
            changes.append(VerifyChange("vanished", result.object, result.program, "verdict", result.verdict, None))
    return VerifyComparison(changes)


def differences(
    before: VerifyResult, after: VerifyResult, fields: Sequence[str], threshold: float
) -> Iterator[VerifyChange]:
    names = (before.object, before.program or after.program)
    if before.verdict != after.verdict:
        worse = RANKS.get(after.verdict, -1) < RANKS.get(before.verdict, -1)
        yield VerifyChange("worse" if worse else "better", *names, "verdict", before.verdict, after.verdict)
    if before.verdict != "accepted" or after.verdict != "accepted":
        return  # how far the verifier came says nothing
    for field in fields:
        was, now = getattr(before, field), getattr(after, field)
        if was is not None and now is not None and abs(now - was) > threshold * was:
            yield VerifyChange("worse" if now > was else "better", *names, field, was, now)
