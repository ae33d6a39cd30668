from typing import Literal, NamedTuple, final

from _typeshed import FileDescriptorLike

__all__ = ["TcHook", "TcFilter"]

class TcFilter(NamedTuple):
    handle: int
    priority: int
    prog_id: int

@final
class TcHook:
    def __init__(
        self,
        interface: str | int,
        attach_point: Literal["ingress", "egress", "both", "custom", "qdisc"],
        *,
        parent: int = 0,
        handle: int = 0,
        qdisc: str | None = None,
    ) -> None: ...
    @property
    def interface(self) -> str | int: ...
    @property
    def attach_point(self) -> str: ...
    def create(self) -> None: ...
    def destroy(self) -> None: ...
    def attach(
        self, program: FileDescriptorLike, *, handle: int = 0, priority: int = 0, replace: bool = False
    ) -> TcFilter: ...
    def detach(self, handle: int, priority: int) -> None: ...
    def query(self, handle: int, priority: int) -> TcFilter: ...
