from collections.abc import Callable, Mapping
from typing import Any, Literal, final

import numpy
import numpy.typing
from _typeshed import FileDescriptorLike

from .consumer import Consumer
from .delivery import NativeCallback
from .lease import Lease
from .map import Map
from .reader import Reader
from .ringstats import RingStats

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
    def start(
        self,
        target: Callable[[numpy.ndarray[Any, Any]], object] | None = None,
        *,
        block_records: int = 4096,
        blocks: int = 16,
        policy: Literal["wait", "overwrite"] = "wait",
    ) -> Consumer: ...
    def borrow(self, max_records: int | None = None, timeout: float | None = None) -> Lease: ...

def counts_drops(map: object) -> bool: ...
