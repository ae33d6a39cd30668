from _typeshed import FileDescriptorLike, StrOrBytesPath

from .attach_trace import Tracing
from .link import Link

class Networking(Tracing):
    def attach_xdp(self, interface: str | int, *, flags: int = 0) -> Link: ...
    def attach_tcx(
        self,
        interface: str | int,
        *,
        flags: int = 0,
        relative_fd: FileDescriptorLike | None = None,
        relative_id: int = 0,
        expected_revision: int = 0,
    ) -> Link: ...
    def attach_netkit(
        self,
        interface: str | int,
        *,
        flags: int = 0,
        relative_fd: FileDescriptorLike | None = None,
        relative_id: int = 0,
        expected_revision: int = 0,
    ) -> Link: ...
    def attach_cgroup(
        self,
        cgroup: StrOrBytesPath | FileDescriptorLike,
        *,
        flags: int = 0,
        relative_fd: FileDescriptorLike | None = None,
        relative_id: int = 0,
        expected_revision: int = 0,
    ) -> Link: ...
    def attach_netns(self, netns: StrOrBytesPath | FileDescriptorLike) -> Link: ...
    def attach_sockmap(self, map: FileDescriptorLike) -> Link: ...
    def attach_netfilter(self, pf: int, hooknum: int, *, priority: int = 0, flags: int = 0) -> Link: ...
