from collections.abc import Iterator, Mapping
from typing import TypeVar

from .program import Program

_Thing = TypeVar("_Thing")

class Contents(Mapping[str, _Thing]):
    def __init__(self, handle: object) -> None: ...
    def __getitem__(self, name: str) -> _Thing: ...
    def __iter__(self) -> Iterator[str]: ...
    def __len__(self) -> int: ...

class Programs(Contents[Program]):
    # Iterators, not views: nothing of 1000 programs is made before it is asked for.
    def values(self) -> Iterator[Program]: ...  # type: ignore[override]
    def items(self) -> Iterator[tuple[str, Program]]: ...  # type: ignore[override]
