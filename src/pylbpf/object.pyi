from collections.abc import Callable, Iterable, Mapping, Sequence
from os import PathLike
from typing import Any, final

import numpy.typing
from _typeshed import StrOrBytesPath
from typing_extensions import Buffer, Self

from .btf import Btf
from .contents import Programs
from .maps import Maps
from .delivery import NativeCallback
from .descriptors import Descriptors
from .enums import State
from .variables import Globals
from .handlers import ProgramHandler
from .linkset import LinkSet
from .loader import Loader
from .map import Map
from .perfbuf import PerfBuffer
from .ringbuf import RingBuffer
from .userring import UserRingBuffer

@final
class Object:
    @property
    def name(self) -> str: ...
    @property
    def state(self) -> State: ...
    @property
    def closed(self) -> bool: ...
    @property
    def programs(self) -> Programs: ...
    @property
    def maps(self) -> Maps: ...
    @property
    def links(self) -> LinkSet: ...
    @property
    def btf(self) -> Btf | None: ...
    @property
    def globals(self) -> Globals: ...
    @property
    def kernel_version(self) -> int: ...
    @kernel_version.setter
    def kernel_version(self, value: int) -> None: ...
    @property
    def token_fd(self) -> int: ...
    def prepare(self) -> None: ...
    def load(self, *, threads: int | None = None) -> None: ...
    def gen_loader(self) -> Loader: ...
    def reopen(self) -> Object: ...
    def attach(self) -> LinkSet: ...
    def ring_buffer(
        self,
        map: str | Map | Sequence[str | Map],
        callback: Callable[[Any], object] | NativeCallback | None = None,
        *,
        type: numpy.typing.DTypeLike | type[Any] | None = None,
        dispatch: Mapping[Any, Any] | None = None,
        tag: str | None = None,
        batches: bool = False,
        tail: bool = False,
    ) -> RingBuffer: ...
    def perf_buffer(
        self,
        map: str | Map,
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
    ) -> PerfBuffer: ...
    def user_ring_buffer(self, map: str | Map) -> UserRingBuffer: ...
    def detach_fds(self) -> Descriptors: ...
    def close(self) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, kind: object = None, value: object = None, traceback: object = None) -> None: ...

def open(
    source: str | PathLike[str] | PathLike[bytes] | Buffer,
    *,
    name: str | None = None,
    handlers: Iterable[ProgramHandler] = (),
    pin_root_path: StrOrBytesPath | None = None,
    kconfig: str | None = None,
    btf_custom_path: StrOrBytesPath | None = None,
    relaxed_maps: bool = False,
    log_level: int = 0,
    token_path: StrOrBytesPath | None = None,
) -> Object: ...
