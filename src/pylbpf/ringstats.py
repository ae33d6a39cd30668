"""What a ring buffer knows about itself."""
from __future__ import annotations

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
class RingStats:
    """A ring buffer at one moment: the sums over its maps, and each of them in ``rings``.

    ``callback_seconds`` is the time spent in callbacks, with what it took to make records for them.
    """

    rings: tuple[RingState, ...]
    callback_seconds: float

    @property
    def waiting(self) -> int:
        """Bytes that wait, with headers; up to ``capacity``."""
        return sum(ring.waiting for ring in self.rings)

    @property
    def capacity(self) -> int:
        """Bytes that there is room for."""
        return sum(ring.capacity for ring in self.rings)

    @property
    def records(self) -> int:
        """Records consumed."""
        return sum(ring.records for ring in self.rings)

    @property
    def bytes(self) -> int:
        """Bytes of records consumed, without headers."""
        return sum(ring.bytes for ring in self.rings)

    @property
    def discarded(self) -> int:
        """Records that programs had reserved and then discarded."""
        return sum(ring.discarded for ring in self.rings)

    @property
    def dropped(self) -> int | None:
        """Records that found no room, or None where no program counts them."""
        counted = [ring.dropped for ring in self.rings if ring.dropped is not None]
        return sum(counted) if counted else None
