from collections.abc import Callable, Mapping
from typing import Any, final

import numpy.typing
from _typeshed import FileDescriptorLike

from .delivery import NativeCallback
from .lease import Lease
from .map import Map
from .reader import Reader
from .readerstats import RingStats

@final
class RingBuffer(Reader):
    def __init__(
        self,
        map: Map | FileDescriptorLike,
        callback: Callable[[Any], object] | NativeCallback | None = None,
        *,
        type: numpy.typing.DTypeLike | type[Any] | None = None,
        dispatch: Mapping[Any, Any] | None = None,
        tag: str | None = None,
        batches: bool = False,
        tail: bool = False,
        drops: Map | None = None,
    ) -> None: ...
    def add(
        self,
        map: Map | FileDescriptorLike,
        callback: Callable[[Any], object] | NativeCallback | None = None,
        *,
        type: numpy.typing.DTypeLike | type[Any] | None = None,
        dispatch: Mapping[Any, Any] | None = None,
        tag: str | None = None,
        batches: bool = False,
        tail: bool = False,
        drops: Map | None = None,
    ) -> None: ...
    def stats(self) -> RingStats: ...
    def borrow(self, max_records: int | None = None, timeout: float | None = None) -> Lease: ...

def counts_drops(map: object) -> bool: ...
def drops_of(maps: Mapping[str, Map], map: object) -> Map | None: ...
