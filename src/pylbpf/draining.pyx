"""A thread that drains a ring buffer or perf buffer without the GIL, and the queue of blocks that it fills, which become numpy arrays."""
cimport cython
from cpython.exc cimport PyErr_CheckSignals
from libc.errno cimport errno
from libc.stdint cimport uint64_t
from libc.stdlib cimport calloc, free
from posix.signal cimport SIG_SETMASK, sigset_t
from posix.time cimport timespec
from posix.unistd cimport close as close_fd, write

from .block cimport Block, Pool
from .c.system cimport EFD_CLOEXEC, EFD_NONBLOCK, POLLIN, eventfd, pollfd, ppoll
from .deadline cimport LONGEST_WAIT, a_while_from_now, now
from .errors cimport fail
from .feed cimport FULL, MISFIT, Feed, Stop
from .handle cimport fork_generation
from .ndarray cimport array_over
from .record cimport StructType
from .reader cimport CONSUMER, Reader
from .workers cimport block_signals

cdef extern from "<signal.h>" nogil:
    int pthread_sigmask(int how, const sigset_t *wanted, sigset_t *before)

cdef extern from "<pthread.h>" nogil:
    int pthread_create(pthread_t *thread, const void *attributes, void *(*start)(void *) noexcept, void *argument)
    int pthread_join(pthread_t thread, void **result)
    int pthread_mutex_init(pthread_mutex_t *mutex, const void *attributes)
    int pthread_mutex_lock(pthread_mutex_t *mutex)
    int pthread_mutex_unlock(pthread_mutex_t *mutex)
    int pthread_cond_init(pthread_cond_t *condition, const void *attributes)
    int pthread_cond_broadcast(pthread_cond_t *condition)
    int pthread_cond_wait(pthread_cond_t *condition, pthread_mutex_t *mutex)
    int pthread_cond_timedwait(pthread_cond_t *condition, pthread_mutex_t *mutex, const timespec *until)

cdef enum:
    SHORTEST_WAIT = 50000


# On the thread

cdef size_t fill(Drain *drain, char *block, size_t count) noexcept nogil:
    """Copy what waits behind `count` records, up to a whole block; records of another size are counted and left out."""
    cdef Stop stop
    cdef int at = 0
    while at < drain.feed_count:
        count += (<Feed>drain.feeds[at]).copy_structs(block + count * drain.size, drain.size, drain.room - count, &stop)
        if stop == FULL:
            break
        if stop == MISFIT:
            (<Feed>drain.feeds[at]).skip()
            drain.misfits += 1
        else:
            at += 1
    return count


cdef bint something_waits(Drain *drain) noexcept nogil:
    cdef int at
    for at in range(drain.feed_count):
        if (<Feed>drain.feeds[at]).waits():
            return True
    return False


cdef bint has_stopped(Drain *drain) noexcept nogil:
    cdef bint stopped
    pthread_mutex_lock(&drain.mutex)
    stopped = drain.stopped
    pthread_mutex_unlock(&drain.mutex)
    return stopped


cdef void rest(Drain *drain, long *nap) noexcept nogil:
    """Until records come or time is up: a little, and longer each time that nothing was found."""
    cdef pollfd fds[2]
    cdef timespec time
    cdef int at
    fds[0].fd = drain.stop_fd
    fds[1].fd = drain.epoll_fd
    fds[0].events = fds[1].events = POLLIN
    time.tv_sec = 0
    time.tv_nsec = nap[0]
    if ppoll(fds, 2, &time, NULL) > 0 and fds[1].revents:
        if something_waits(drain):
            return
        # Readable, and nothing is there: a record that is not yet submitted.
        time.tv_nsec = SHORTEST_WAIT
        ppoll(fds, 1, &time, NULL)
        return
    nap[0] = min(2 * nap[0], <long>LONGEST_WAIT)


cdef char *block_to_fill(Drain *drain) noexcept nogil:
    """The newest block if there is room in it, else another, or NULL when it is time to stop.

    Waits, or takes the oldest back, if there is none.
    """
    cdef char *block = NULL
    cdef size_t newest
    pthread_mutex_lock(&drain.mutex)
    while not drain.stopped:
        newest = (drain.first + drain.queued - 1) % drain.blocks
        if drain.queued and not drain.wanting and drain.counts[newest] < drain.room:
            drain.queued -= 1
            drain.in_hand = drain.counts[newest]
            block = drain.filled[newest]
            break
        if drain.free_count:
            drain.free_count -= 1
            block = drain.free[drain.free_count]
            break
        if drain.overwrite and drain.queued:
            block = drain.filled[drain.first]
            drain.overwritten += drain.counts[drain.first]
            drain.first = (drain.first + 1) % drain.blocks
            drain.queued -= 1
            break
        pthread_cond_wait(&drain.news, &drain.mutex)
    pthread_mutex_unlock(&drain.mutex)
    return block


cdef bint pass_on(Drain *drain, char *block, size_t count) noexcept nogil:
    """Queue a block, or keep an empty one; false when it is time to stop."""
    cdef size_t at
    cdef bint go_on
    pthread_mutex_lock(&drain.mutex)
    if count:
        at = (drain.first + drain.queued) % drain.blocks
        drain.filled[at] = block
        drain.counts[at] = count
        drain.queued += 1
        drain.taken += count - drain.in_hand
        drain.in_hand = 0
        pthread_cond_broadcast(&drain.news)
    else:
        drain.free[drain.free_count] = block
        drain.free_count += 1
    go_on = not drain.stopped
    pthread_mutex_unlock(&drain.mutex)
    return go_on


cdef void *be_consumer(void *argument) noexcept nogil:
    cdef Drain *drain = <Drain *>argument
    cdef char *block
    cdef size_t count
    cdef long nap = SHORTEST_WAIT
    while not has_stopped(drain):
        # A block is only taken, perhaps from those that are queued, when there is something for it.
        if not something_waits(drain):
            rest(drain, &nap)
            continue
        nap = SHORTEST_WAIT
        block = block_to_fill(drain)
        if block == NULL:
            break
        count = fill(drain, block, drain.in_hand)
        if not pass_on(drain, block, count):
            break
    pthread_mutex_lock(&drain.mutex)
    drain.ended = True
    pthread_cond_broadcast(&drain.news)
    pthread_mutex_unlock(&drain.mutex)
    return NULL


# On other threads

@cython.final
@cython.no_gc_clear
cdef class Draining:
    def __cinit__(self):
        self.drain.stop_fd = -1

    def __init__(self):
        raise TypeError("consumers are started by start() of a RingBuffer or PerfBuffer")

    def __dealloc__(self):
        cdef size_t at
        if self.generation != fork_generation():
            if self.drain.stop_fd >= 0:
                close_fd(self.drain.stop_fd)
            return                  # the thread is the parent's, and its lock may be held for ever
        self.signal_stop()
        self.end()
        for at in range(self.drain.free_count):
            free(self.drain.free[at])
        for at in range(self.drain.queued):
            free(self.drain.filled[(self.drain.first + at) % self.drain.blocks])
        free(self.drain.free)
        free(self.drain.filled)
        free(self.drain.counts)
        free(self.drain.feeds)
        if self.drain.stop_fd >= 0:
            close_fd(self.drain.stop_fd)

    cdef int begin(self) except -1:
        cdef sigset_t blocked, before
        cdef int code
        pthread_mutex_init(&self.drain.mutex, NULL)
        pthread_cond_init(&self.drain.news, NULL)
        block_signals(&blocked)
        pthread_sigmask(SIG_SETMASK, &blocked, &before)
        code = pthread_create(&self.thread, NULL, be_consumer, &self.drain)
        pthread_sigmask(SIG_SETMASK, &before, NULL)
        if code:
            fail(code, "start", "consumer")
        self.started = True
        return 0

    cdef void signal_stop(self) noexcept nogil:
        cdef uint64_t one = 1
        if not self.started:
            return
        pthread_mutex_lock(&self.drain.mutex)
        self.drain.stopped = True
        pthread_cond_broadcast(&self.drain.news)
        pthread_mutex_unlock(&self.drain.mutex)
        write(self.drain.stop_fd, &one, sizeof(one))

    cdef void end(self) noexcept:
        """Join the thread, once."""
        cdef pthread_t thread = self.thread
        if not self.started or self.joined:
            return
        self.joined = True
        with nogil:
            pthread_join(thread, NULL)
        if self.ring.holder == CONSUMER:
            self.ring.release()

    cdef size_t queued(self) noexcept:
        """Records that nobody has taken."""
        cdef size_t at
        cdef size_t total = 0
        if self.generation == fork_generation():
            pthread_mutex_lock(&self.drain.mutex)
            total = self.drain.in_hand
            for at in range(self.drain.queued):
                total += self.drain.counts[(self.drain.first + at) % self.drain.blocks]
            pthread_mutex_unlock(&self.drain.mutex)
        return total

    cdef object next_block(self, double deadline):
        cdef Drain *drain = &self.drain
        cdef timespec until
        cdef char *data = NULL
        cdef size_t count = 0
        cdef Block fresh, block
        cdef bint over = False
        if self.generation != fork_generation():
            return None
        fresh = self.pool.take(drain.room * drain.size)
        block = Block.__new__(Block)
        while data == NULL and not over:
            with nogil:
                a_while_from_now(&until)
                pthread_mutex_lock(&drain.mutex)
                # What is in hand comes back at once.
                if not drain.queued and not drain.ended and (drain.in_hand or now() < deadline):
                    drain.wanting += 1
                    pthread_cond_timedwait(&drain.news, &drain.mutex, &until)
                    drain.wanting -= 1
                if drain.queued:
                    data = drain.filled[drain.first]
                    count = drain.counts[drain.first]
                    drain.first = (drain.first + 1) % drain.blocks
                    drain.queued -= 1
                    drain.free[drain.free_count] = fresh.data
                    drain.free_count += 1
                    pthread_cond_broadcast(&drain.news)
                else:
                    over = drain.ended or (now() >= deadline and not drain.in_hand)
                pthread_mutex_unlock(&drain.mutex)
            if data == NULL:
                PyErr_CheckSignals()
                if self.generation != fork_generation():
                    return None         # the thread is the parent's
        if data == NULL:
            return None
        fresh.data = NULL               # it is the thread's now
        block.data = data
        block.size = drain.room * drain.size
        block.length = count * drain.size
        block.pool = self.pool
        return array_over(block, data, count, drain.size, self.type.dtype, True)


cdef int prepare(Draining draining, Reader ring, size_t room, size_t blocks, object policy) except -1:
    cdef Drain *drain = &draining.drain
    cdef Block block
    cdef int at
    cdef size_t number
    draining.generation = fork_generation()
    draining.type = ring.only_type()
    draining.ring = ring
    draining.feeds = tuple(ring.feeds)
    draining.pool = Pool.__new__(Pool)
    drain.size = draining.type.size
    drain.room = room
    drain.overwrite = policy == "overwrite"
    drain.feed_count = <int>len(draining.feeds)
    drain.feeds = <PyObject **>calloc(drain.feed_count, sizeof(void *))
    drain.free = <char **>calloc(blocks + 1, sizeof(void *))
    drain.filled = <char **>calloc(blocks + 1, sizeof(void *))
    drain.counts = <size_t *>calloc(blocks + 1, sizeof(size_t))
    if drain.feeds == NULL or drain.free == NULL or drain.filled == NULL or drain.counts == NULL:
        raise MemoryError()
    drain.blocks = blocks
    drain.epoll_fd = ring.epoll_fd
    drain.stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)
    if drain.stop_fd < 0:
        fail(errno, "start", "consumer")
    for at in range(drain.feed_count):
        drain.feeds[at] = <PyObject *>draining.feeds[at]
    for number in range(blocks):
        block = draining.pool.take(room * drain.size)
        drain.free[drain.free_count] = block.data
        drain.free_count += 1
        block.data = NULL
    return 0
