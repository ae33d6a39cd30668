from typing import final

@final
class PerfRecord:
    cpu: int
    type: int
    misc: int
    data: bytes
