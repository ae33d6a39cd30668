from typing import NamedTuple

from _typeshed import FileDescriptorLike

__all__ = ["attach", "detach", "query", "XdpQuery"]

class XdpQuery(NamedTuple):
    prog_id: int
    drv_prog_id: int
    hw_prog_id: int
    skb_prog_id: int
    attach_mode: int
    feature_flags: int
    zc_max_segs: int

def attach(
    interface: str | int, program: FileDescriptorLike, *, flags: int = 0, old_program: FileDescriptorLike | None = None
) -> None: ...
def detach(interface: str | int, *, flags: int = 0, old_program: FileDescriptorLike | None = None) -> None: ...
def query(interface: str | int) -> XdpQuery: ...
