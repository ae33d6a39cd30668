"""Ring buffers and perf buffers in an event loop: asyncio's own, uvloop, or any other with add_reader()."""
from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .reader import Reader

# Records that were sent without a wake-up are looked for by a timer: often while it finds some, seldom while it does not.
SHORTEST, LONGEST = 0.001, 0.1
# So many records in a row, and other tasks have their turn.
TURN = 256


async def wait(ring: Reader, timeout: float | None = None) -> bool:
    """Until records wait (true) or the time is up (false); ValueError if the ring buffer is closed meanwhile."""
    if ring._waits():
        return True
    if timeout is not None and timeout <= 0:
        return False
    return await _Wait(ring, asyncio.get_running_loop()).until(timeout)


class _Wait:
    """One wait of one task."""

    def __init__(self, ring: Reader, loop: asyncio.AbstractEventLoop) -> None:
        self.ring = ring
        self.loop = loop
        self.done: asyncio.Future[bool] = loop.create_future()
        self.timer: asyncio.TimerHandle | None = None
        self.end: asyncio.TimerHandle | None = None
        self.listening = False
        self.fd = -1

    async def until(self, timeout: float | None) -> bool:
        ring, loop = self.ring, self.loop
        ring._park(self.on_close)
        try:
            # A descriptor of our own: the ring buffer may be closed, and its number used again, while the loop has it.
            self.fd = os.dup(ring.fileno())
            self.listen()
            self.timer = loop.call_later(ring._interval, self.on_timer)
            if timeout is not None:
                self.end = loop.call_later(timeout, self.finish, False)
            result = True if ring._waits() else await self.done
        except BaseException:
            self.clean()
            raise
        finally:
            ring._park(None)
        # The record first: whoever waits for it does not wait for this.
        loop.call_soon(self.clean)
        return result

    def clean(self) -> None:
        for handle in (self.timer, self.end):
            if handle is not None:
                handle.cancel()
        if self.listening:
            self.loop.remove_reader(self.fd)
            self.listening = False
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def listen(self) -> None:
        self.loop.add_reader(self.fd, self.on_ready)
        self.listening = True

    def finish(self, result: bool) -> None:
        if not self.done.done():
            self.done.set_result(result)

    def on_ready(self) -> None:
        ring = self.ring
        if self.done.done():
            return
        if ring.closed or ring._waits():
            ring._interval = min(2 * ring._interval, LONGEST)
            self.finish(True)
            return
        # A record that is reserved and not yet submitted keeps the descriptor readable: look again a little later.
        self.loop.remove_reader(self.fd)
        self.listening = False
        ring._interval = SHORTEST
        self.set_timer()

    def on_timer(self) -> None:
        ring = self.ring
        if self.done.done():
            return
        if ring.closed or ring._waits():
            ring._interval = max(ring._interval / 2, SHORTEST)
            self.finish(True)
            return
        ring._interval = min(2 * ring._interval, LONGEST)
        if not self.listening:
            self.listen()
        self.set_timer()

    def set_timer(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
        self.timer = self.loop.call_later(self.ring._interval, self.on_timer)

    def on_close(self) -> None:
        """From any thread."""
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self.finish, True)


def count(batch: Any) -> int:
    """Records of an array, of a batch, or of a dict of them."""
    return sum(map(len, batch.values())) if isinstance(batch, dict) else len(batch)


async def read_batch(ring: Reader, max_records: int | None, max_bytes: int | None, timeout: float | None,
                     into: Any) -> Any:
    """read_batch() for a task. Cancelled, it has taken nothing."""
    loop = asyncio.get_running_loop()
    end = None if timeout is None else loop.time() + timeout
    while True:
        batch: Any = ring.read_batch(max_records, max_bytes, 0, into)
        if count(batch) or not await wait(ring, None if end is None else end - loop.time()):
            return batch


class AsyncRecords:
    """Records one by one, for ``async for``."""

    def __init__(self, ring: Reader) -> None:
        self.ring = ring
        self.waiting = ring.records(0)
        self.turn = TURN

    def __aiter__(self) -> AsyncRecords:
        return self

    async def __anext__(self) -> Any:
        self.turn -= 1
        if not self.turn:
            self.turn = TURN
            await asyncio.sleep(0)
        while True:
            for record in self.waiting:
                return record
            self.waiting = self.ring.records(0)
            for record in self.waiting:
                return record
            await wait(self.ring)
            self.turn = TURN
