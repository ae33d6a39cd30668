from typing import ClassVar, final

from typing_extensions import Self

from .enums import AttachType, ProgramType
from .handlers import ProgramHandler

@final
class Registration:
    @property
    def handler(self) -> ProgramHandler: ...
    @property
    def active(self) -> bool: ...
    def unregister(self) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, *_: object) -> None: ...

def register(handler: ProgramHandler) -> Registration: ...
def handlers() -> tuple[ProgramHandler, ...]: ...

class SectionInfo:
    name: str
    program_type: ProgramType
    expected_attach_type: AttachType
    handler: ProgramHandler | None
    builtin: bool
    def __init__(
        self,
        name: str,
        program_type: ProgramType,
        expected_attach_type: AttachType,
        handler: ProgramHandler | None,
        builtin: bool,
    ) -> None: ...

def section_info(name: str) -> SectionInfo | None: ...

class HandlerStats:
    __hash__: ClassVar[None]  # type: ignore[assignment]
    setup: int
    prepare_load: int
    attach: int
    gil_acquired: int
    def __init__(self, setup: int, prepare_load: int, attach: int, gil_acquired: int) -> None: ...
    def __sub__(self, other: HandlerStats) -> HandlerStats: ...
    def __eq__(self, other: object) -> bool: ...

def handler_stats() -> HandlerStats: ...
