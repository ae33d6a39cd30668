from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, final

import numpy
import numpy.typing
from _typeshed import FileDescriptorLike
from typing_extensions import Buffer, Self

from .delivery import NativeCallback
from .map import Map
from .perfstats import PerfStats

@final
class PerfRecord:
    cpu: int
    type: int
    misc: int
    data: bytes

@final
class PerfBuffer:
    def __init__(
        self,
        map: Map | FileDescriptorLike,
        callback: Callable[[Any], object] | NativeCallback | None = None,
        *,
        type: numpy.typing.DTypeLike | type[Any] | None = None,
        dispatch: Mapping[int | None, Any] | None = None,
        tag: str | None = None,
        batches: bool = False,
        tail: bool = False,
        lost: Callable[[int, int], object] | None = None,
        pages: int = 8,
        cpus: Iterable[int] | None = None,
        keys: Iterable[int] | None = None,
        wakeup_events: int = 1,
        watermark: int | None = None,
        raw: bool = False,
        attr: Buffer | None = None,
    ) -> None: ...
    @property
    def closed(self) -> bool: ...
    def fileno(self) -> int: ...
    def stats(self) -> PerfStats: ...
    def pause(self) -> None: ...
    def resume(self) -> None: ...
    def consume(self, max_records: int | None = None, *, max_time: float | None = None) -> int: ...
    def poll(
        self, timeout: float | None = None, max_records: int | None = None, *, max_time: float | None = None
    ) -> int: ...
    def records(self, timeout: float | None = None) -> Iterator[Any]: ...
    def __iter__(self) -> Iterator[Any]: ...
    # An array of typed records, a RecordBatch of others, a dict of both by tag.
    def read_batch(
        self,
        max_records: int | None = None,
        max_bytes: int | None = None,
        timeout: float | None = None,
        into: Buffer | None = None,
    ) -> Any: ...
    def close(self) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, *_: object) -> None: ...

@final
class PerfIterator(Iterator[Any]):
    def __iter__(self) -> Self: ...
    def __next__(self) -> Any: ...
