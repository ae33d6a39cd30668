from typing import NamedTuple

from _typeshed import FileDescriptorLike, StrOrBytesPath

from .enums import AttachFlags
from .info import BtfInfo, MapInfo, ProgramInfo
from .linkinfo import LinkInfo

__all__ = ["programs", "maps", "links", "btfs", "program", "map", "link", "btf", "attached", "Attached", "AttachedProgram",
           "owners", "Owner"]

class AttachedProgram(NamedTuple):
    prog_id: int
    link_id: int | None
    flags: AttachFlags

class Attached(NamedTuple):
    revision: int | None
    flags: AttachFlags
    programs: tuple[AttachedProgram, ...]

class Owner(NamedTuple):
    pid: int
    name: str

def programs() -> list[ProgramInfo]: ...
def maps() -> list[MapInfo]: ...
def links() -> list[LinkInfo]: ...
def btfs() -> list[BtfInfo]: ...
def program(id: int) -> ProgramInfo: ...
def map(id: int) -> MapInfo: ...
def link(id: int) -> LinkInfo: ...
def btf(id: int) -> BtfInfo: ...
def attached(
    target: str | int | StrOrBytesPath | FileDescriptorLike, attach_type: int, *, effective: bool = False
) -> Attached: ...
def owners() -> dict[tuple[str, int], list[Owner]]: ...
