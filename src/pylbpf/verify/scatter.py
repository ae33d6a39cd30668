"""The work divided among the workers of an executor, some of whom may die."""
from __future__ import annotations

import concurrent.futures
import contextlib
import errno
from concurrent.futures import Executor, Future
from typing import Any, Generator, Optional

from ..errors import BpfError
from .many import Findings, verify_here
from .report import VerifyResult
from .sources import Source

Numbered = tuple[int, Source]
Answer = list[tuple[int, int, VerifyResult]]

TASKS = 64  # in so many parts the work is divided, if it is large
MOST_OBJECTS = 32  # in a task
AHEAD = 2  # tasks for each worker that are handed out at once: so many are in doubt if one dies
ATTEMPTS = 3
WORKERS = 8  # of executors that do not tell


def verify_task(task: list[Numbered], options: dict[str, Any]) -> Answer:
    """What a worker does: the results of some objects, each with its number and its program's place."""
    answer: Answer = []

    def add(source: int, place: int, result: VerifyResult) -> VerifyResult:
        answer.append((task[source][0], place, result))
        return result

    verify_here([source for _, source in task], add, None, options)
    return answer


def divide(sources: list[Source]) -> list[list[Numbered]]:
    """Tasks of about the same size, the largest objects first."""
    sized = [(source.size(), number, source) for number, source in enumerate(sources)]
    sized.sort(key=lambda item: -item[0])
    enough = sum(size for size, _, _ in sized) / TASKS
    tasks: list[list[Numbered]] = []
    room = 0.0
    for size, number, source in sized:
        if not tasks or room < size or len(tasks[-1]) == MOST_OBJECTS:
            tasks.append([])
            room = enough
        tasks[-1].append((number, source))
        room -= size
    return tasks


def is_loss(error: BaseException) -> bool:
    """Whether a task was lost with its worker, or on its way. Anything else would go wrong again."""
    if isinstance(error, BpfError):
        return False
    return (
        isinstance(error, (concurrent.futures.BrokenExecutor, concurrent.futures.CancelledError, OSError))
        or "distributed" in (package(type(error).__module__), package(origin(error)))
    )


def package(module: str) -> str:
    return module.partition(".")[0]


def origin(error: BaseException) -> str:
    """The module that raised it. When a worker dies while its answer is on its way, distributed trips over itself."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "" if trace is None else str(trace.tb_frame.f_globals.get("__name__", ""))


def scatter(
    sources: list[Source], findings: Findings, executor: Executor, with_bytes: bool, options: dict[str, Any]
) -> None:
    """Have an executor verify all sources, and add what it finds.

    Nobody can say which task killed its worker. So the objects of all that were lost are tried again one at a time,
    after everything else: then the guilty one is known.
    """
    crowd = Crowd(executor, with_bytes, options)
    tasks, ahead = divide(sources), AHEAD * crowd.workers()
    try:
        for attempt in range(1, ATTEMPTS + 1):
            lost: list[Numbered] = []
            with contextlib.closing(crowd.work(tasks, ahead)) as answers:
                for task, answer, why in answers:
                    if answer is not None:
                        hear(findings, answer)
                    elif attempt < ATTEMPTS:
                        lost.extend(task)
                    else:
                        hear(findings, [given_up(*each, why) for each in task])
            tasks, ahead = [[each] for each in lost], 1
    finally:
        crowd.close()


def hear(findings: Findings, answer: Answer) -> None:
    before = findings.done
    for number, place, result in answer:
        findings.add(number, place, result)
    for done, (_, _, result) in enumerate(answer, before + 1):
        findings.tell(findings.done + findings.silent, result, done)


def given_up(number: int, source: Source, why: str) -> tuple[int, int, VerifyResult]:
    return number, -1, VerifyResult(
        source.object, source.path, "", "", "", "failed", 0.0, None, None, None, None, None, None, (), None, None, None,
        errno.EIO, f"lost {ATTEMPTS} times with the worker that verified it: {why}", None, None, "",
    )


class Crowd:
    """An executor, and where it breaks for good another like it."""

    def __init__(self, executor: Executor, with_bytes: bool, options: dict[str, Any]) -> None:
        self.executor = executor
        self.with_bytes = with_bytes
        self.options = options
        self.own: Optional[Executor] = None

    def workers(self) -> int:
        return int(getattr(self.executor, "_max_workers", None) or WORKERS)

    def work(
        self, tasks: list[list[Numbered]], ahead: int
    ) -> Generator[tuple[list[Numbered], Optional[Answer], str], None, None]:
        """(task, answer or None if it was lost, why it was lost), as they come."""
        waiting = list(reversed(tasks))
        under_way: dict[Future[Answer], list[Numbered]] = {}
        try:
            while waiting or under_way:
                while waiting and len(under_way) < ahead:
                    task = waiting.pop()
                    under_way[self.submit(task)] = task
                done, _ = concurrent.futures.wait(under_way, return_when=concurrent.futures.FIRST_COMPLETED)
                for future in done:
                    task = under_way.pop(future)
                    try:
                        answer, why = future.result(), ""
                    except BaseException as error:
                        if not is_loss(error):
                            raise
                        answer, why = None, f"{type(error).__name__}: {error}"
                    yield task, answer, why
        finally:
            for future in under_way:
                future.cancel()

    def submit(self, task: list[Numbered]) -> Future[Answer]:
        if self.with_bytes:
            task = [(number, source.shipped()) for number, source in task]
        try:
            return self.executor.submit(verify_task, task, self.options)
        except concurrent.futures.BrokenExecutor:
            if not isinstance(self.executor, concurrent.futures.ProcessPoolExecutor):
                raise
            self.replace(self.executor)
            return self.executor.submit(verify_task, task, self.options)

    def replace(self, broken: Executor) -> None:
        """A process pool never recovers from the loss of a process."""
        if self.own is not None:
            self.own.shutdown()
        self.own = self.executor = concurrent.futures.ProcessPoolExecutor(
            self.workers(), getattr(broken, "_mp_context", None), getattr(broken, "_initializer", None),
            getattr(broken, "_initargs", ()),
        )

    def close(self) -> None:
        if self.own is not None:
            self.own.shutdown()
