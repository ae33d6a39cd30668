"""Mistakes that mypy must find: each in the line that says so, with these words in its message, and no others."""
from __future__ import annotations

from typing import List

import pylbpf


class Wrong(pylbpf.ProgramHandler):
    section = 7  # error: Incompatible types in assignment
    priority = "high"  # error: Incompatible types in assignment

    def setup(self, program: pylbpf.Program) -> int:  # error: of "setup" incompatible
        return 0

    def attach(self, program: pylbpf.Program) -> List[str]:  # error: of "attach" incompatible
        return []

    def prepare_load(self, program: pylbpf.Program) -> None:  # error: Signature of "prepare_load" incompatible
        pass


pylbpf.register(Wrong)  # error: Argument 1 to "register" has incompatible type
pylbpf.register(pylbpf.ProgramHandler(sektion="x"))  # error: Unexpected keyword argument "sektion"
pylbpf.open(7)  # error: Argument 1 to "open" has incompatible type "int"
pylbpf.open("x", "y")  # error: Too many positional arguments for "open"

obj = pylbpf.open("x.bpf.o")
obj.state = pylbpf.State.LOADED  # error: Property "state" defined in "Object" is read-only
obj.programs["x"] = 1  # error: Unsupported target for indexed assignment
obj.programs["x"].nam  # error: "Program" has no attribute "nam"
obj.programs["x"].object.load()  # error: Item "None" of "Object | None" has no attribute "load"
obj.programs["x"].attach().fd  # error: Item "LinkSet" of "Link | LinkSet" has no attribute "fd"
obj.programs["x"].insns[0].imm = 3  # error: Property "imm" defined in "Insn" is read-only
obj.maps["x"].update("key", b"value")  # error: No overload variant of "update" of "Map" matches argument types "str", "bytes"
obj.maps["x"].lookup(b"key") + b"x"  # error: Unsupported left operand type for + ("None")
obj.btf.find("x")  # error: Item "None" of "Btf | None" has no attribute "find"
obj.ring_buffer("events", 3)  # error: Argument 2 to "ring_buffer" of "Object" has incompatible type "int"


class Better(pylbpf.Link):  # error: Cannot inherit from final class "Link"
    pass
