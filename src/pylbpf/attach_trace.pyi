from typing import Iterable, Literal, overload

from _typeshed import FileDescriptorLike, StrOrBytesPath

from .attach_probe import Probing
from .lines import Lines, TextLines
from .link import Link

class Tracing(Probing):
    def attach_raw_tracepoint(self, name: str, *, cookie: int = 0) -> Link: ...
    def attach_tracepoint(self, category: str, name: str, *, cookie: int = 0) -> Link: ...
    def attach_perf_event(self, fd: FileDescriptorLike, *, cookie: int = 0, force_ioctl: bool = False) -> Link: ...
    def attach_trace(self, *, cookie: int = 0) -> Link: ...
    def attach_tracing_multi(
        self, pattern: str | None = None, *, ids: Iterable[int] | None = None, cookies: Iterable[int] | None = None
    ) -> Link: ...
    def attach_freplace(self, target: FileDescriptorLike, function: str) -> Link: ...
    def attach_lsm(self) -> Link: ...
    def attach_iter(
        self,
        *,
        map: FileDescriptorLike | None = None,
        cgroup: StrOrBytesPath | FileDescriptorLike | None = None,
        order: int = 0,
        pid: int = 0,
        tid: int = 0,
        pid_fd: FileDescriptorLike | None = None,
    ) -> Link: ...
    @overload
    def iter(
        self,
        *,
        text: Literal[False] = False,
        map: FileDescriptorLike | None = None,
        cgroup: StrOrBytesPath | FileDescriptorLike | None = None,
        order: int = 0,
        pid: int = 0,
        tid: int = 0,
        pid_fd: FileDescriptorLike | None = None,
    ) -> Lines: ...
    @overload
    def iter(
        self,
        *,
        text: Literal[True],
        map: FileDescriptorLike | None = None,
        cgroup: StrOrBytesPath | FileDescriptorLike | None = None,
        order: int = 0,
        pid: int = 0,
        tid: int = 0,
        pid_fd: FileDescriptorLike | None = None,
    ) -> TextLines: ...
