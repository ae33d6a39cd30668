"""Ring buffers and perf buffers in an event loop: asyncio's own, uvloop, or any other with add_reader()."""
from __future__ import annotations

import asyncio
import os
from time import monotonic
from typing import TYPE_CHECKING, Any, Callable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine
    from contextvars import Context

    from .reader import Reader

    Future = asyncio.Future[Any]
else:
    Future = asyncio.Future

# Records that were sent without a wake-up are looked for by a timer: often while it finds some, seldom while it does not.
SHORTEST, LONGEST = 0.001, 0.1
# So many records in a row, and other tasks have their turn.
TURN = 256


class _Wait(Future):
    """One wait of one task. The task goes on from inside the callback that has found something: a future's own way is to call
    it in the loop's next round, and that takes as long as all the rest."""

    def __init__(self, ring: Reader) -> None:
        super().__init__()
        self.ring = ring
        self.loop = self.get_loop()
        self.task: tuple[Callable[[Any], object], Context | None] | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.limit: asyncio.TimerHandle | None = None
        self.listening = False
        self.fd = -1
        ring._park(self.on_close)

    def look(self) -> Any:
        """What the task waits for, or None."""
        return True if self.ring._waits() else None

    async def over(self, timeout: float | None) -> Any:
        """What was found, or None if the time is up."""
        try:
            # A descriptor of our own: the ring buffer may be closed, and its number used again, while the loop has it.
            self.fd = os.dup(self.ring.fileno())
            self.listen()
            self.set_timer()
            if timeout is not None:
                self.limit = self.loop.call_later(timeout, self.on_limit)
            return await self
        except BaseException:
            self.end()
            raise

    def end(self) -> None:
        if not self.done() or self.cancelled():
            self.ring._park(None)
        for handle in (self.timer, self.limit):
            if handle is not None:
                handle.cancel()
        if self.listening and not self.loop.is_closed():
            self.loop.remove_reader(self.fd)
        self.listening = False
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    # As a future

    def add_done_callback(self, fn: Callable[[Any], object], *, context: Context | None = None) -> None:
        """By the task."""
        if self.done():
            super().add_done_callback(fn, context=context)
        else:
            self.task = fn, context

    def cancel(self, msg: Any | None = None) -> bool:
        # Whoever cancels is in the middle of something, so now the task has to go on later.
        if self.task is not None and not self.done():
            super().add_done_callback(self.task[0], context=self.task[1])
            self.task = None
        return super().cancel(msg)

    def found(self) -> bool:
        """Look, and let the task go on with what there is, or with what is wrong; false if there is nothing."""
        if self.done():
            return True
        try:
            what = self.look()
        except StopIteration as error:
            self.set_exception(RuntimeError(f"StopIteration: {error}"))     # futures cannot have it
        except BaseException as error:
            self.set_exception(error)
        else:
            if what is None:
                return False
            self.set_result(what)
        self.go_on()
        return True

    def go_on(self) -> None:
        self.ring._park(None)       # the task may want to wait again
        try:
            if self.task is not None:
                function, context = self.task
                self.task = None
                if context is None:
                    function(self)
                else:
                    context.run(function, self)
        finally:
            self.end()

    # In the loop

    def listen(self) -> None:
        self.loop.add_reader(self.fd, self.on_ready)
        self.listening = True

    def on_ready(self) -> None:
        if self.found():
            self.ring._interval = min(2 * self.ring._interval, LONGEST)
            return
        # A record that is reserved and not yet submitted keeps the descriptor readable: look again a little later.
        self.loop.remove_reader(self.fd)
        self.listening = False
        self.ring._interval = SHORTEST
        self.set_timer()

    def on_timer(self) -> None:
        if self.found():
            self.ring._interval = max(self.ring._interval / 2, SHORTEST)
            return
        self.ring._interval = min(2 * self.ring._interval, LONGEST)
        if not self.listening:
            self.listen()
        self.set_timer()

    def on_limit(self) -> None:
        if not self.found():
            self.set_result(None)
            self.go_on()

    def set_timer(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
        self.timer = self.loop.call_later(self.ring._interval, self.on_timer)

    def on_close(self) -> None:
        """From any thread."""
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self.found)


class _Batch(_Wait):
    def __init__(self, ring: Reader, arguments: tuple[Any, ...]) -> None:
        super().__init__(ring)
        self.arguments = arguments

    def look(self) -> Any:
        batch = self.ring.read_batch(*self.arguments)
        return batch if count(batch) else None


def count(batch: Any) -> int:
    """Records of an array, of a batch, or of a dict of them."""
    return sum(map(len, batch.values())) if isinstance(batch, dict) else len(batch)


async def read_batch(ring: Reader, max_records: int | None, max_bytes: int | None, timeout: float | None,
                     into: Any) -> Any:
    """read_batch() for a task. Cancelled, it has taken nothing."""
    arguments = max_records, max_bytes, 0, into
    batch: Any = ring.read_batch(*arguments)
    if count(batch) or (timeout is not None and timeout <= 0):
        return batch
    found = await _Batch(ring, arguments).over(timeout)
    return batch if found is None else found


async def poll(ring: Reader, timeout: float | None, max_records: int | None, max_time: float | None) -> int:
    """poll() for a task."""
    total = ring.consume(max_records, max_time=max_time)
    if total or (timeout is not None and timeout <= 0) or not await _Wait(ring).over(timeout):
        return total
    return ring.consume(max_records, max_time=max_time)


class AsyncRecords:
    """Records one by one, for ``async for``, up to a moment."""

    def __init__(self, ring: Reader, deadline: float = float("inf")) -> None:
        self.ring = ring
        self.deadline = deadline
        self.waiting = ring.records(0)
        self.over = False
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
            if self.over:
                raise StopAsyncIteration
            left = self.deadline - monotonic()
            self.over = left <= 0
            self.waiting = self.ring.records(0)
            for record in self.waiting:
                return record
            if not self.over:
                await _Wait(self.ring).over(None if left == float("inf") else left)
                self.turn = TURN


class AsyncReader:
    """A RingBuffer or PerfBuffer in an event loop: what ``async with`` gives, which closes it in the end.

    Its methods are those of ``ring``, the buffer itself, but they are awaited instead of waiting. One task at a time waits:
    a second one gets StateError. Cancelled while it waits, it has taken nothing. Source: ring_buffer__epoll_fd(),
    perf_buffer__epoll_fd(), which the loop waits for.
    """

    def __init__(self, ring: Reader) -> None:
        self.ring = ring

    def __repr__(self) -> str:
        return f"<AsyncReader: {self.ring!r}>"

    def read_batch(self, max_records: int | None = None, max_bytes: int | None = None, timeout: float | None = None,
                   into: Any = None) -> Coroutine[Any, Any, Any]:
        """All records that wait, or the next that come within ``timeout`` seconds (None: for ever): as read_batch() of ``ring``."""
        return self.ring.read_batch_async(max_records, max_bytes, timeout, into)

    def poll(self, timeout: float | None = None, max_records: int | None = None, *,
             max_time: float | None = None) -> Coroutine[Any, Any, int]:
        """Call the callbacks with what waits, or with what comes within ``timeout`` seconds: as poll() of ``ring``.

        Source: ring_buffer__consume(), perf_buffer__consume().
        """
        return poll(self.ring, timeout, max_records, max_time)

    def records(self, timeout: float | None = None) -> AsyncIterator[Any]:
        """Iterate with ``async for``, for ``timeout`` seconds in all (None: for ever, 0: those that wait).

        Source: ring_buffer__consume(), perf_buffer__consume().
        """
        return self.ring.records(timeout).__aiter__()

    def __aiter__(self) -> AsyncIterator[Any]:
        return self.ring.__aiter__()
