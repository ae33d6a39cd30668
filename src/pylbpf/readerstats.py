"""What ring buffers and perf buffers know about themselves."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class RingState:
    """One map of a ring buffer.

    ``consumer`` and ``producer`` are positions in bytes since the map was made, ``waiting`` is what lies between them with
    headers, and ``capacity`` is the most that can. ``records``, ``bytes`` (without headers) and ``discarded`` count what
    this ring buffer has consumed. ``dropped`` counts records that found no room, where BPF programs count them: see
    pylbpf/ringbuf.bpf.h; else it is None.
    """

    map: str
    consumer: int
    producer: int
    waiting: int
    capacity: int
    records: int
    bytes: int
    discarded: int
    dropped: int | None


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


class _Sums:
    """Over the parts of a buffer, which are maps or CPUs."""

    def _parts(self) -> Sequence[RingState | PerfCpu]:
        raise NotImplementedError

    @property
    def waiting(self) -> int:
        """Bytes that wait, with headers; up to ``capacity``."""
        return sum(part.waiting for part in self._parts())

    @property
    def capacity(self) -> int:
        """Bytes that there is room for."""
        return sum(part.capacity for part in self._parts())

    @property
    def records(self) -> int:
        """Records consumed."""
        return sum(part.records for part in self._parts())

    @property
    def bytes(self) -> int:
        """Bytes of records consumed, without headers; of a perf buffer as the kernel filled them up."""
        return sum(part.bytes for part in self._parts())


@dataclass(frozen=True)
class RingStats(_Sums):
    """A ring buffer at one moment: the sums over its maps, and each of them in ``rings``.

    ``callback_seconds`` is the time spent in callbacks, with what it took to make records for them.
    """

    rings: tuple[RingState, ...]
    callback_seconds: float

    def _parts(self) -> tuple[RingState, ...]:
        return self.rings

    @property
    def discarded(self) -> int:
        """Records that programs had reserved and then discarded."""
        return sum(ring.discarded for ring in self.rings)

    @property
    def dropped(self) -> int | None:
        """Records that found no room, or None where no program counts them."""
        counted = [ring.dropped for ring in self.rings if ring.dropped is not None]
        return sum(counted) if counted else None


@dataclass(frozen=True)
class PerfStats(_Sums):
    """A perf buffer at one moment: the sums over its CPUs, and each of them in ``cpus``.

    ``callback_seconds`` is the time spent in callbacks, with what it took to make records for them.
    """

    cpus: tuple[PerfCpu, ...]
    callback_seconds: float

    def _parts(self) -> tuple[PerfCpu, ...]:
        return self.cpus

    @property
    def lost(self) -> int:
        """Records for which there was no room. The kernel tells of them when there is room again."""
        return sum(cpu.lost for cpu in self.cpus)
