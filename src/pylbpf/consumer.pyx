"""Consumers: ring buffers and perf buffers that are drained while Python does something else."""
import atexit as _atexit
import threading as _threading
from _weakref import ref as _ref

cimport cython
from cpython.object cimport PyObject

from .deadline cimport deadline_of
from .draining cimport Draining, prepare
from .handle cimport fork_generation
from .reader cimport CONSUMER, Reader

cdef extern from "Python.h":
    int PyErr_ResourceWarning(object source, Py_ssize_t stack_level, const char *format, ...) except -1

cdef list _running = []         # weak references: stopped when the interpreter exits


@cython.final
@cython.no_gc_clear
cdef class Consumer:
    """A thread that drains a RingBuffer or PerfBuffer of one type without the GIL, and queues blocks of its records.

    Iterate over it, or call get(), for structured arrays in the order of the records; they are the caller's. Or a target
    was given to start(), which a Python thread calls with each. ``with`` and stop() end it, and so does
    dropping it, with a ResourceWarning if it still runs. Records that are queued by then are still there to be taken, by
    the target too; those in the ring stay there.
    """

    def __init__(self):
        raise TypeError("consumers are started by start() of a RingBuffer or PerfBuffer")

    def __dealloc__(self):
        if self.draining is not None and self.draining.generation == fork_generation():
            self.draining.dropped = True
            self.draining.signal_stop()
            self.draining.end()

    def __del__(self):
        if self.runs():
            text = str(self.draining.ring)
            PyErr_ResourceWarning(self, 1, b"a consumer of %U was never stopped", <PyObject *>text)

    cdef bint runs(self):
        return (self.draining is not None and self.draining.started and not self.draining.drain.ended
                and self.draining.generation == fork_generation())

    def __repr__(self):
        return f"<Consumer: {'running' if self.runs() else 'stopped'}, {self.draining.drain.queued} blocks queued>"

    @property
    def running(self):
        """Whether it drains the ring."""
        return self.runs()

    @property
    def queued(self):
        """Records that wait to be taken."""
        return self.draining.queued()

    @property
    def records(self):
        """Records that it has taken out of the ring."""
        return self.draining.drain.taken

    @property
    def overwritten(self):
        """Records that nobody took in time, with the policy "overwrite"."""
        return self.draining.drain.overwritten

    @property
    def misfits(self):
        """Records of another size than the type's, which were left out."""
        return self.draining.drain.misfits

    def get(self, timeout=None):
        """The next array, waiting up to ``timeout`` seconds (None: for ever); None if there is none, or it was stopped."""
        return self.draining.next_block(deadline_of(timeout))

    def __iter__(self):
        return self

    def __next__(self):
        array = self.draining.next_block(deadline_of(None))
        if array is None:
            raise StopIteration
        return array

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def _halt(self):
        """End the threads; from the target's own, it ends when that returns."""
        if self.draining.generation != fork_generation():
            return
        self.draining.signal_stop()
        with self.lock:
            self.draining.end()
        if self.feeder is not None and self.feeder is not _threading.current_thread() and self.feeder.is_alive():
            self.feeder.join()

    def stop(self):
        """Stop draining, let the target have what is queued, and wait for both; raises what the target raised, once."""
        self._halt()
        failure = self.draining.failure
        self.draining.failure = None
        if failure is not None:
            raise failure


def _feed(draining, target):
    """The thread that calls the target. It does not keep the Consumer."""
    cdef Draining work = draining
    try:
        while (array := work.next_block(deadline_of(None))) is not None:
            target(array)
            array = None
    except BaseException as error:
        work.signal_stop()
        if work.dropped:
            raise
        work.failure = error


cdef Consumer start_consumer(Reader ring, object target, size_t room, size_t blocks, object policy):
    cdef Consumer consumer = Consumer.__new__(Consumer)
    cdef Draining draining = Draining.__new__(Draining)
    if policy not in ("wait", "overwrite"):
        raise ValueError(f"policy is 'wait' or 'overwrite', not {policy!r}")
    if target is not None and not callable(target):
        raise TypeError(f"target must be callable or None, not {type(target).__name__}")
    # From here on nobody else reads.
    ring.acquire()
    ring.holder = CONSUMER
    try:
        if ring.only_type() is None:
            raise TypeError("a consumer needs records of one type, without a tail")
        prepare(draining, ring, room, blocks, policy)
        consumer.draining = draining
        consumer.lock = _threading.RLock()      # a signal's handler may stop what is being started
        if target is not None:
            consumer.feeder = _threading.Thread(target=_feed, args=(draining, target), name="pylbpf-consumer", daemon=True)
        ring.consumer = _ref(consumer)          # from now on it can be stopped: the target may close the ring at once
        with consumer.lock:
            draining.begin()
            if consumer.feeder is not None:
                consumer.feeder.start()
    except BaseException:
        ring.consumer = None
        draining.signal_stop()
        draining.end()
        if ring.holder == CONSUMER:
            ring.release()
        raise
    _running[:] = [each for each in _running if each() is not None]
    _running.append(_ref(consumer))
    return consumer


def start(Reader ring, target, block_records, blocks, policy):
    """For Reader.start()."""
    for number, what in ((block_records, "block_records"), (blocks, "blocks")):
        if isinstance(number, bool) or not isinstance(number, int):
            raise TypeError(f"{what} must be a number, not {type(number).__name__}")
        if not 1 <= number <= 1 << 30:
            raise ValueError(f"{what} is 1 or more, not {number}")
    return start_consumer(ring, target, block_records, blocks, policy)


@_atexit.register
def _stop_all():
    """No thread is left that could look at memory of an interpreter that is gone."""
    for reference in _running:
        consumer = reference()
        if consumer is not None and (<Consumer>consumer).draining.generation == fork_generation():
            (<Consumer>consumer).draining.signal_stop()
            (<Consumer>consumer).draining.end()
