from _typeshed import FileDescriptorLike, StrOrBytesPath

from .attach_net import Networking

class Hooking(Networking):
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
    def attach_socket(self, sock: FileDescriptorLike) -> None: ...
    def detach_socket(self, sock: FileDescriptorLike) -> None: ...
