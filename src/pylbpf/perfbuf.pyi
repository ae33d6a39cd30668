from collections.abc import Callable, Iterable, Mapping
from typing import Any, final

import numpy
import numpy.typing
from _typeshed import FileDescriptorLike
from typing_extensions import Buffer

from .delivery import NativeCallback
from .lease import Lease
from .map import Map
from .readerstats import PerfStats
from .reader import Reader

@final
class PerfBuffer(Reader):
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
    def stats(self) -> PerfStats: ...
    def borrow(self, max_records: int | None = None, timeout: float | None = None) -> Lease: ...
    def pause(self) -> None: ...
    def resume(self) -> None: ...
