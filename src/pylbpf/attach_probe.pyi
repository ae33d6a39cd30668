from typing import Iterable

from _typeshed import StrOrBytesPath

from .attach import Attachable
from .link import Link

class Probing(Attachable):
    def attach_kprobe(
        self, function: str | None, *, offset: int = 0, retprobe: bool = False, cookie: int = 0, attach_mode: int = 0
    ) -> Link: ...
    def attach_kprobe_multi(
        self,
        pattern: str | None = None,
        *,
        syms: Iterable[str] | None = None,
        addrs: Iterable[int] | None = None,
        cookies: Iterable[int] | None = None,
        retprobe: bool = False,
        session: bool = False,
        unique_match: bool = False,
    ) -> Link: ...
    def attach_ksyscall(self, syscall: str, *, retprobe: bool = False, cookie: int = 0) -> Link: ...
    def attach_uprobe(
        self,
        path: StrOrBytesPath,
        *,
        pid: int = -1,
        offset: int = 0,
        function: str | None = None,
        retprobe: bool = False,
        cookie: int = 0,
        ref_ctr_offset: int = 0,
        attach_mode: int = 0,
    ) -> Link: ...
    def attach_uprobe_multi(
        self,
        path: StrOrBytesPath,
        pattern: str | None = None,
        *,
        pid: int = -1,
        syms: Iterable[str] | None = None,
        offsets: Iterable[int] | None = None,
        ref_ctr_offsets: Iterable[int] | None = None,
        cookies: Iterable[int] | None = None,
        retprobe: bool = False,
        session: bool = False,
    ) -> Link: ...
    def attach_usdt(self, path: StrOrBytesPath, provider: str, name: str, *, pid: int = -1, cookie: int = 0) -> Link: ...
