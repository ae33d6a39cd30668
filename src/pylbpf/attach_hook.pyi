from _typeshed import FileDescriptorLike, StrOrBytesPath

from .atwork import AtWork
from .link import Link

class Hooking(AtWork):
    def prog_attach(
        self,
        target: StrOrBytesPath | FileDescriptorLike,
        attach_type: int,
        *,
        flags: int = 0,
        replace_fd: FileDescriptorLike | None = None,
        relative_fd: FileDescriptorLike | None = None,
        relative_id: int = 0,
        expected_revision: int = 0,
    ) -> None: ...
    def prog_detach(
        self,
        target: StrOrBytesPath | FileDescriptorLike,
        attach_type: int,
        *,
        relative_fd: FileDescriptorLike | None = None,
        relative_id: int = 0,
        expected_revision: int = 0,
    ) -> None: ...
    def link_create(
        self,
        target: str | int | StrOrBytesPath | FileDescriptorLike | None,
        attach_type: int,
        *,
        flags: int = 0,
        cookie: int = 0,
        relative_fd: FileDescriptorLike | None = None,
        relative_id: int = 0,
        expected_revision: int = 0,
    ) -> Link: ...
    def attach_socket(self, sock: FileDescriptorLike) -> None: ...
    def detach_socket(self, sock: FileDescriptorLike) -> None: ...
