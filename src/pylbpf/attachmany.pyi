from collections.abc import Callable, Iterable

from .linkset import LinkSet
from .object import Object
from .program import Program
from .report import LoadReport

def attach_many(
    items: Program | Object | Iterable[Program | Object] | LoadReport,
    *,
    threads: int | None = None,
    rollback: bool = True,
    expedite: bool = False,
    on_progress: Callable[[int, int], object] | None = None,
) -> LinkSet: ...
