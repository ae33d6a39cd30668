"""Threads that work through a list without the GIL, while the caller waits and can be interrupted.

Signals are blocked in them, so that Ctrl-C reaches the thread that waits. It learns of each item that is finished, takes
the GIL for that only, and is the one that raises. Whatever happens, no thread is left when the call returns.

Who is told may fork. The child has none of the threads, and what they were in the middle of is theirs: the call ends
there with StateError, and leaves it alone.
"""
import errno as _errno
import os as _os

from cpython.exc cimport PyErr_CheckSignals
from libc.signal cimport SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGSEGV, SIGTRAP
from libc.stdlib cimport free, malloc
from libc.string cimport memset
from posix.signal cimport SIG_SETMASK, sigdelset, sigfillset, sigset_t
from posix.time cimport timespec
from posix.unistd cimport usleep

from .deadline cimport a_while_from_now
from .handle cimport fork_generation

from .errors import StateError

cdef extern from "<signal.h>" nogil:
    int pthread_sigmask(int how, const sigset_t *wanted, sigset_t *before)

cdef extern from "<pthread.h>" nogil:
    ctypedef struct pthread_attr_t:
        pass
    int pthread_attr_init(pthread_attr_t *attributes)
    int pthread_attr_setstacksize(pthread_attr_t *attributes, size_t size)
    int pthread_attr_destroy(pthread_attr_t *attributes)
    int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *) noexcept, void *argument)
    int pthread_join(pthread_t thread, void **result)

cdef extern from "<semaphore.h>" nogil:
    int sem_init(sem_t *semaphore, int shared, unsigned int value)
    int sem_post(sem_t *semaphore)
    int sem_trywait(sem_t *semaphore)
    int sem_timedwait(sem_t *semaphore, const timespec *until)
    int sem_destroy(sem_t *semaphore)

cdef extern from "Python.h" nogil:
    ctypedef int PyGILState_STATE
    PyGILState_STATE PyGILState_Ensure()
    void PyGILState_Release(PyGILState_STATE state)
    void *PyEval_SaveThread()
    void PyEval_RestoreThread(void *state)

cdef extern from * nogil:
    """
    #define pylbpf_take(counter) __atomic_fetch_add(counter, 1, __ATOMIC_SEQ_CST)
    #define pylbpf_give(counter) __atomic_sub_fetch(counter, 1, __ATOMIC_SEQ_CST)
    #define pylbpf_get(place) __atomic_load_n(place, __ATOMIC_SEQ_CST)
    #define pylbpf_put(place, value) __atomic_store_n(place, value, __ATOMIC_SEQ_CST)
    """
    size_t take "pylbpf_take"(size_t *counter)
    void give "pylbpf_give"(int *counter)
    size_t get "pylbpf_get"(size_t *place)
    int get_int "pylbpf_get"(int *place)
    void put "pylbpf_put"(size_t *place, size_t value)
    void put_int "pylbpf_put"(int *place, int value)

cdef enum:
    STACK = 8 << 20             # libbpf recurses through subprograms and types
    MOST_THREADS = 1024

cdef size_t NONE = <size_t>-1   # in `finished`: not yet


cdef int usable_cpus() except -1:
    """CPUs that this process may use."""
    return max(1, len(_os.sched_getaffinity(0)))


cdef int thread_count(object threads) except -1:
    """A number of threads as the user gave it; None is one for each usable CPU."""
    if threads is None:
        return usable_cpus()
    if isinstance(threads, bool) or not isinstance(threads, int):
        raise TypeError(f"threads must be a number or None, not {type(threads).__name__}")
    if not 1 <= threads <= MOST_THREADS:
        raise ValueError(f"threads must be 1 to {MOST_THREADS}, not {threads}")
    return threads


cdef object callback(object function, str what):
    """A function as the user gave it, or None."""
    if function is not None and not callable(function):
        raise TypeError(f"{what} must be callable, not {type(function).__name__}")
    return function


cdef int check_process(unsigned int generation) except -1:
    """Raise in a child that was forked since then."""
    if generation != fork_generation():
        raise StateError(_errno.EPERM, "forked in the middle of a call: this process cannot go on with it")
    return 0


# The workers

cdef void block_signals(sigset_t *blocked) noexcept nogil:
    """All but those that tell of a crash."""
    sigfillset(blocked)
    sigdelset(blocked, SIGABRT)
    sigdelset(blocked, SIGBUS)
    sigdelset(blocked, SIGFPE)
    sigdelset(blocked, SIGILL)
    sigdelset(blocked, SIGSEGV)
    sigdelset(blocked, SIGTRAP)


cdef void cancel(int *cancelled) noexcept nogil:
    """Have the workers begin no further item. They may say so themselves."""
    put_int(cancelled, True)


cdef void tell(Toil *toil) noexcept nogil:
    """Have the caller listen: an item that takes long has something to say before it is finished."""
    sem_post(&toil.news)


cdef void work_through(Toil *toil) noexcept nogil:
    cdef size_t place, item
    # Nor does a child go on that was forked by a callback on this thread.
    while not get_int(&toil.cancelled) and toil.generation == fork_generation():
        place = take(&toil.next)
        if place >= toil.count:
            break
        item = toil.order[place] if toil.order != NULL else place
        toil.work(toil.context, item)
        put(&toil.finished[take(&toil.ended)], item)
        sem_post(&toil.news)


cdef void *be_worker(void *argument) noexcept nogil:
    cdef Toil *toil = <Toil *>argument
    cdef PyGILState_STATE state
    cdef void *saved
    if toil.python:
        # One thread state for all callbacks of this worker, instead of a new one for each.
        state = PyGILState_Ensure()
        saved = PyEval_SaveThread()
        give(&toil.arriving)
        work_through(toil)
        PyEval_RestoreThread(saved)
        PyGILState_Release(state)
    else:
        work_through(toil)
    give(&toil.running)
    sem_post(&toil.news)
    return NULL


# Whoever waits for them

cdef class Crew:
    """The items of one call. Who uses it fills in `work`, `context`, `count` and perhaps `order` of its toil."""

    def __init__(self):
        raise TypeError("made by the calls that need it")

    def __dealloc__(self):
        free(self.toil.finished)

    cdef int finish_item(self, size_t item) except -1:
        """With the GIL, on the calling thread, after each item. An exception cancels what has not begun."""
        return 0

    cdef int listen(self) except -1:
        """With the GIL, on the calling thread, after each tell() of a worker, and once more when all are gone."""
        return 0

    cdef bint forked(self) noexcept:
        """Whether this is a child that was forked since run() began."""
        return self.toil.generation != fork_generation()

    cdef void stop(self) noexcept nogil:
        """No further item is to be begun."""
        cancel(&self.toil.cancelled)

    cdef int run(self, int threads) except -1:
        """Work through all items, once; raise what finish_item() or a signal handler raised, when all workers are gone."""
        cdef Toil *toil = &self.toil
        cdef int wanted = <int>min(<size_t>threads, toil.count)
        cdef pthread_t *workers
        cdef int started = 0
        cdef int at
        toil.generation = fork_generation()
        if toil.count == 0:
            return 0
        toil.finished = <size_t *>malloc(toil.count * sizeof(size_t))
        workers = <pthread_t *>malloc(wanted * sizeof(pthread_t))
        if toil.finished == NULL or workers == NULL:
            free(workers)
            raise MemoryError()
        memset(toil.finished, 0xff, toil.count * sizeof(size_t))
        sem_init(&toil.news, 0, 0)
        try:
            with nogil:
                started = self.start(workers, wanted)
            self.wait()
        except BaseException:
            self.stop()
            raise
        finally:
            if not self.forked():
                with nogil:
                    for at in range(started):
                        pthread_join(workers[at], NULL)
                sem_destroy(&toil.news)
            free(workers)
        return 0

    cdef int start(self, pthread_t *workers, int wanted) noexcept nogil:
        """Start the workers and return how many; if the system gives none, the work is done here."""
        cdef pthread_attr_t attributes
        cdef int started = 0
        block_signals(&self.blocked)
        self.toil.running = self.toil.arriving = wanted
        pthread_attr_init(&attributes)
        pthread_attr_setstacksize(&attributes, STACK)
        pthread_sigmask(SIG_SETMASK, &self.blocked, &self.signals)
        while started < wanted and pthread_create(&workers[started], &attributes, be_worker, &self.toil) == 0:
            started += 1
        for _ in range(started, wanted):
            give(&self.toil.running)
            give(&self.toil.arriving)
        # Who is told may fork, and Python's lock of thread states must not be held then: its child would wait for ever.
        while self.toil.python and get_int(&self.toil.arriving) > 0:
            usleep(20)
        if started == 0:
            work_through(&self.toil)
        pthread_sigmask(SIG_SETMASK, &self.signals, NULL)
        pthread_attr_destroy(&attributes)
        return started

    cdef int wait(self) except -1:
        cdef Toil *toil = &self.toil
        cdef timespec until
        cdef bint gone
        while True:
            gone = get_int(&toil.running) == 0
            self.listen()
            check_process(toil.generation)
            while self.told < toil.count and get(&toil.finished[self.told]) != NONE:
                self.told += 1
                self.finish_item(toil.finished[self.told - 1])
                check_process(toil.generation)
            if gone and self.told == get(&toil.ended):
                return 0
            with nogil:
                a_while_from_now(&until)
                if sem_timedwait(&toil.news, &until) == 0:
                    while sem_trywait(&toil.news) == 0:     # several at once
                        pass
            PyErr_CheckSignals()
            check_process(toil.generation)
