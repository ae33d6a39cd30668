from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import overload

from typing_extensions import Self

from .link import Link
from .map import Map
from .program import Program

class LinkSet(Sequence[Link]):
    skipped: tuple[Program, ...]
    errors: tuple[tuple[Program | Map, Exception], ...]
    def __init__(
        self,
        links: Iterable[Link] = (),
        skipped: Iterable[Program] = (),
        errors: Iterable[tuple[Program | Map, Exception]] = (),
    ) -> None: ...
    def __del__(self) -> None: ...
    def __len__(self) -> int: ...
    @overload
    def __getitem__(self, index: int) -> Link: ...
    @overload
    def __getitem__(self, index: slice) -> LinkSet: ...
    def __iter__(self) -> Iterator[Link]: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, *_: object) -> None: ...
    def close(self, wait: bool = True, *, expedite: bool = False) -> None: ...

def detach_many(
    links: Link | Iterable[Link],
    *,
    threads: int | None = None,
    wait: bool = True,
    expedite: bool = False,
    on_progress: Callable[[int, int], object] | None = None,
) -> None: ...
