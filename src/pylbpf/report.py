"""What became of the items of load_many()."""
from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Iterable, Literal, overload

if TYPE_CHECKING:
    from .object import Object
    from .program import Program


class LoadResult:
    """What became of one item.

    - ``source``: the path, the bytes or the Object that was given; of a pattern, the path it stands for. ``name``: it
      in a word.
    - ``object``: the loaded Object, or None. ``error``: the exception that ``open`` or ``Object.load`` would have
      raised, or None. Both are None for what was never begun.
    - ``state``: "loaded", "failed" or "cancelled".
    - ``log``: verifier logs: of the rejected program, or with a log level of all, one after the other.
    - ``open_seconds``, ``load_seconds``: time spent on the item; ``prepare_seconds`` is the part of load_seconds before
      the first program is verified, None where libbpf does not tell it apart (before 1.6).
    - ``instructions``: how many the verifier went through for all programs together, None where the kernel does not say
      (before 5.16).
    - ``kernel_btf``: "shared" if it was relocated against the small BTF, "plain" if against the kernel's own or that of
      ``btf_custom_path``, None if it has nothing to relocate; ``kernel_btf_reason`` says why plain.
    """

    source: Any
    name: str
    object: Object | None
    error: BaseException | None
    state: Literal["loaded", "failed", "cancelled"]
    log: str
    open_seconds: float
    prepare_seconds: float | None
    load_seconds: float
    instructions: int | None
    kernel_btf: Literal["shared", "plain"] | None
    kernel_btf_reason: str | None
    _programs: bytes

    __slots__ = ("source", "name", "object", "error", "state", "log", "open_seconds", "prepare_seconds", "load_seconds",
                 "instructions", "kernel_btf", "kernel_btf_reason", "_programs", "__weakref__")

    def __init__(self, source: Any, name: str) -> None:
        self.source = source
        self.name = name
        self.object = self.error = None
        self.state = "cancelled"
        self.log = ""
        self.open_seconds = self.load_seconds = 0.0
        self.prepare_seconds = self.instructions = self.kernel_btf = self.kernel_btf_reason = None
        self._programs = b""

    @property
    def verdicts(self) -> dict[str, str]:
        """Of each program by name: "accepted", "rejected", "skipped" (autoload is off), or "untried" (another one failed
        before it, or the object did not get that far). Empty if the object could not be opened."""
        words = {"a": "accepted", "r": "rejected", "s": "skipped", "u": "untried"}
        text = self._programs.decode("utf-8", "surrogateescape")
        return {program[1:]: words[program[0]] for program in text.split("\0") if program}

    @property
    def ok(self) -> bool:
        """True if it was loaded."""
        return self.state == "loaded"

    def __repr__(self) -> str:
        return f"<LoadResult: {self.name}, {self.state}{f', {self.error}' if self.error else ''}>"


class LoadReport(Sequence[LoadResult]):
    """A LoadResult for each item, in the order given. It keeps the loaded objects; as a context manager it closes them.

    ``unknown``: names given as ``select`` that no opened object has a program of.
    """

    def __init__(self, results: Iterable[LoadResult] = (), unknown: Iterable[str] = ()) -> None:
        self._results = tuple(results)
        self.unknown = tuple(unknown)

    def __len__(self) -> int:
        return len(self._results)

    @overload
    def __getitem__(self, index: int) -> LoadResult: ...

    @overload
    def __getitem__(self, index: slice) -> LoadReport: ...

    def __getitem__(self, index: int | slice) -> LoadResult | LoadReport:
        if isinstance(index, slice):
            return LoadReport(self._results[index], self.unknown)
        return self._results[index]

    def __repr__(self) -> str:
        counts: dict[str, int] = {state: 0 for state in ("loaded", "failed", "cancelled")}
        for result in self._results:
            counts[result.state] += 1
        return f"<LoadReport: {', '.join(f'{count} {state}' for state, count in counts.items() if count) or 'empty'}>"

    @property
    def objects(self) -> list[Object]:
        """The loaded objects that nobody closed yet."""
        return [result.object for result in self._results if result.object is not None and not result.object.closed]

    @property
    def programs(self) -> list[Program]:
        """The programs of these objects that are loaded."""
        return [program for object in self.objects for program in object.programs.values() if program.fd >= 0]

    @property
    def failed(self) -> list[LoadResult]:
        """The results that failed."""
        return [result for result in self._results if result.state == "failed"]

    @property
    def errors(self) -> list[BaseException]:
        """Their exceptions."""
        return [result.error for result in self.failed if result.error is not None]

    def raise_first(self) -> None:
        """Raise the first error, if there is one."""
        for error in self.errors:
            raise error

    def close(self) -> None:
        """Close all objects, the last one first; all are tried before the first failure is raised."""
        failure: BaseException | None = None
        for object in reversed(self.objects):
            try:
                object.close()
            except (OSError, BufferError) as error:
                failure = failure or error
        if failure is not None:
            raise failure

    def __enter__(self) -> LoadReport:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
