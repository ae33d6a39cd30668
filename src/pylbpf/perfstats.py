"""What a perf buffer knows about itself."""
from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PerfCpu:
    """The buffer of one CPU.

    ``consumer`` and ``producer`` are positions in bytes since it was opened, ``waiting`` is what lies between them with
    headers, and ``capacity`` is the most that can. ``records`` and ``bytes`` (as the kernel filled them up) count what was
    consumed, ``lost`` the records for which there was no room, as far as the kernel has told, and ``others`` events of
    other kinds.
    """

    cpu: int
    consumer: int
    producer: int
    waiting: int
    capacity: int
    records: int
    bytes: int
    lost: int
    others: int


@dataclass(frozen=True)
class PerfStats:
    """A perf buffer at one moment: the sums over its CPUs, and each of them in ``cpus``.

    ``callback_seconds`` is the time spent in callbacks, with what it took to make records for them.
    """

    cpus: tuple[PerfCpu, ...]
    callback_seconds: float

    @property
    def waiting(self) -> int:
        """Bytes that wait, with headers; up to ``capacity``."""
        return sum(cpu.waiting for cpu in self.cpus)

    @property
    def capacity(self) -> int:
        """Bytes that there is room for."""
        return sum(cpu.capacity for cpu in self.cpus)

    @property
    def records(self) -> int:
        """Records consumed."""
        return sum(cpu.records for cpu in self.cpus)

    @property
    def bytes(self) -> int:
        """Bytes of records consumed, as the kernel filled them up."""
        return sum(cpu.bytes for cpu in self.cpus)

    @property
    def lost(self) -> int:
        """Records for which there was no room. The kernel tells of them when there is room again."""
        return sum(cpu.lost for cpu in self.cpus)
