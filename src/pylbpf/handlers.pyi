from collections.abc import Iterable
from typing import Any, final

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
