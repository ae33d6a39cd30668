from _typeshed import FileDescriptorLike
from typing_extensions import Buffer

from .info import ProgramInfo
from .map import Map
from .testrun import TestRun

class AtWork:
    def info(self) -> ProgramInfo: ...
    def test_run(
        self,
        data: Buffer | None = None,
        ctx: Buffer | None = None,
        *,
        repeat: int = 1,
        cpu: int | None = None,
        flags: int = 0,
        live_frames: bool = False,
        batch_size: int = 0,
        data_size_out: int | None = None,
    ) -> TestRun: ...
    def bind_map(self, map: FileDescriptorLike) -> None: ...
    def assoc_struct_ops(self, map: Map) -> None: ...
    def read_stream(self, stream: int, *, size: int = 65536) -> bytes: ...
