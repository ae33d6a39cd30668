from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from typing import Any, Literal, final

import numpy
import numpy.typing
from _typeshed import FileDescriptorLike
from typing_extensions import Buffer, Self

from .consumer import Consumer
from .delivery import NativeCallback
from .lease import Lease
from .map import Map
from .ringstats import RingStats

# What read_batch() returns: an array of typed records, a RecordBatch of others, a dict of both by tag.
@final
class RingBuffer:
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
    @property
    def closed(self) -> bool: ...
    def fileno(self) -> int: ...
    def stats(self) -> RingStats: ...
    def consume(self, max_records: int | None = None, *, max_time: float | None = None) -> int: ...
    def poll(
        self, timeout: float | None = None, max_records: int | None = None, *, max_time: float | None = None
    ) -> int: ...
    def records(self, timeout: float | None = None) -> Iterator[Any]: ...
    def __iter__(self) -> Iterator[Any]: ...
    def read_batch(
        self,
        max_records: int | None = None,
        max_bytes: int | None = None,
        timeout: float | None = None,
        into: Buffer | None = None,
    ) -> Any: ...
    def read_batch_async(
        self,
        max_records: int | None = None,
        max_bytes: int | None = None,
        timeout: float | None = None,
        into: Buffer | None = None,
    ) -> Coroutine[Any, Any, Any]: ...
    def __aiter__(self) -> AsyncIterator[Any]: ...
    def start(
        self,
        target: Callable[[numpy.ndarray[Any, Any]], object] | None = None,
        *,
        block_records: int = 4096,
        blocks: int = 16,
        policy: Literal["wait", "overwrite"] = "wait",
    ) -> Consumer: ...
    def borrow(self, max_records: int | None = None, timeout: float | None = None) -> Lease: ...
    def close(self) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, *_: object) -> None: ...
    # For asyncio.
    _interval: float
    def _waits(self) -> bool: ...
    def _park(self, wake: Callable[[], object] | None) -> None: ...
