from collections.abc import Iterable
from typing import Any, ClassVar, final

from typing_extensions import Self

from .enums import AttachType, ProgramType
from .link import Link
from .loadopts import LoadOpts
from .program import Program

class ProgramHandler:
    section: str | None
    program_type: int
    expected_attach_type: int
    program_flags: int
    autoload: bool | None
    priority: int
    cookie: Any
    def __init__(
        self,
        *,
        section: str | None = ...,
        program_type: int = ...,
        expected_attach_type: int = ...,
        program_flags: int = ...,
        autoload: bool | None = ...,
        priority: int = ...,
        cookie: Any = ...,
    ) -> None: ...
    def setup(self, program: Program) -> None: ...
    def prepare_load(self, program: Program, opts: LoadOpts) -> None: ...
    def attach(self, program: Program) -> Link | Iterable[Link] | None: ...

# A C function: an address, a PyCapsule, a ctypes or cffi function pointer, or a numba cfunc. The last four have no
# type that one could name here.
_Function = Any

@final
class NativeHandler(ProgramHandler):
    def __init__(
        self,
        section: str | None = None,
        *,
        program_type: int = 0,
        expected_attach_type: int = 0,
        cookie: int = 0,
        program_flags: int = 0,
        autoload: bool | None = None,
        priority: int = 0,
        setup: _Function = None,
        prepare_load: _Function = None,
        attach: _Function = None,
    ) -> None: ...
    @property
    def functions(self) -> tuple[_Function, _Function, _Function]: ...

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
