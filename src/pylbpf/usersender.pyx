"""What sends samples through a user ring buffer map: one ring of libbpf's, for many threads, and waiting for room in it."""
import errno as _errno

cimport cython
from cpython.exc cimport PyErr_CheckSignals
from cpython.pythread cimport (
    NOWAIT_LOCK, PyThread_acquire_lock, PyThread_allocate_lock, PyThread_free_lock, PyThread_release_lock, WAIT_LOCK,
)
from libc.errno cimport EINTR, ENOSPC, errno
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcpy, memset
from posix.unistd cimport close as close_fd, usleep, write

from .c cimport bpf, libbpf, uapi
from .c.system cimport (
    EFD_CLOEXEC, EFD_NONBLOCK, EPOLL_CLOEXEC, EPOLL_CTL_ADD, EPOLLET, EPOLLIN, EPOLLOUT, epoll_create1, epoll_ctl,
    epoll_event, epoll_wait, eventfd,
)
from .call cimport Call, enter, note_missing
from .deadline cimport milliseconds
from .errors cimport fail, finish
from .handle cimport fork_generation
from .map cimport Map
from .targets cimport descriptor_of, duplicate_fd

from .errors import StateError

libbpf.pylbpf_on_missing = note_missing

cdef enum:
    USER_RINGBUF = 31
    HEADER = 8                  # in front of each sample, which begins at a multiple of 8
    # What a struct bpf_dynptr can hold. The kernel stops for ever at a longer sample.
    LONGEST = (1 << 24) - 1
    LONGEST_PAUSE = 64          # ms; a program may drain without a wake-up


@cython.final
@cython.no_gc
cdef class UserSender:
    def __cinit__(self):
        self.fd = self.wake_fd = -1
        self.generation = fork_generation()
        self.lock = PyThread_allocate_lock()
        if self.lock == NULL:
            raise MemoryError()

    def __init__(self):
        raise TypeError("samples are sent by a UserRingBuffer")

    def __dealloc__(self):
        self.free_all()
        if self.lock != NULL:
            PyThread_free_lock(self.lock)

    cdef void free_all(self) noexcept:
        if self.ptr != NULL:
            libbpf.user_ring_buffer__free(self.ptr)     # unmaps; in a forked child that is its own mapping
            self.ptr = NULL
        if self.wake_fd >= 0:
            close_fd(self.wake_fd)
        if self.fd >= 0:
            close_fd(self.fd)
        self.fd = self.wake_fd = -1

    cdef int check(self) except -1:
        if self.ptr == NULL or self.closing:
            raise ValueError("the user ring buffer is closed")
        if self.generation != fork_generation():
            raise StateError(_errno.EPERM, "made by the parent process; a forked child may only drop it", None,
                             "user ring buffer")
        return 0

    cdef int check_outside(self, object operation) except -1:
        if self.samples and self.generation == fork_generation():
            raise BufferError(f"cannot {operation} the user ring buffer: {self.samples} samples of it are not finished")
        return 0

    cdef int close(self) except -1:
        cdef uint64_t one = 1
        if self.generation == fork_generation():
            if not self.closing:
                self.closing = True
                write(self.wake_fd, &one, sizeof(one))
            while self.waiting:
                with nogil:
                    usleep(100)
            with nogil:
                PyThread_acquire_lock(self.lock, WAIT_LOCK)
            self.free_all()
            PyThread_release_lock(self.lock)
        else:
            self.free_all()
        return 0

    # Room

    cdef int check_size(self, Py_ssize_t size) except -1:
        cdef size_t longest = min(self.capacity - HEADER, <size_t>LONGEST)
        if size < 0:
            raise ValueError(f"a sample has 0 bytes or more, not {size}")
        if <size_t>size > longest:
            raise ValueError(f"a sample of {size} bytes is too long: at most {longest} in a ring of {self.capacity}")
        return 0

    cdef int acquire(self) except -1:
        if not PyThread_acquire_lock(self.lock, NOWAIT_LOCK):
            with nogil:
                PyThread_acquire_lock(self.lock, WAIT_LOCK)
        if self.ptr == NULL or self.closing:
            PyThread_release_lock(self.lock)
        return self.check()

    cdef void *try_take(self, Py_ssize_t size) except? NULL:
        """Reserve if there is room; NULL if not."""
        cdef void *data
        cdef int code
        self.acquire()
        data = libbpf.user_ring_buffer__reserve(self.ptr, <uint32_t>size)
        code = errno
        PyThread_release_lock(self.lock)
        if data == NULL and code != ENOSPC:
            fail(code, "reserve in", "user ring buffer")
        return data

    cdef void *take(self, Py_ssize_t size, double deadline) except? NULL:
        cdef epoll_event event
        cdef int epoll, ready, left
        cdef int pause = 1
        cdef void *data = self.try_take(size)
        if data != NULL or milliseconds(deadline) == 0:
            return data
        epoll = epoll_create1(EPOLL_CLOEXEC)
        if epoll < 0:
            fail(errno, "wait for", "user ring buffer")
        self.waiting += 1
        try:
            event.events = EPOLLIN
            ready = epoll_ctl(epoll, EPOLL_CTL_ADD, self.wake_fd, &event)
            if ready == 0:
                # By the edge: the map counts as writable as long as there is room for a single byte.
                event.events = EPOLLOUT | EPOLLET
                ready = epoll_ctl(epoll, EPOLL_CTL_ADD, self.fd, &event)
            if ready < 0:
                fail(errno, "wait for", "user ring buffer")
            while True:
                if self.closing:
                    raise ValueError("the user ring buffer was closed while waiting")
                data = self.try_take(size)
                left = milliseconds(deadline)
                if data != NULL or left == 0:
                    return data
                left = min(left, pause)
                pause = min(pause * 2, LONGEST_PAUSE)
                with nogil:
                    ready = epoll_wait(epoll, &event, 1, left)
                    if ready < 0:
                        ready = -errno
                if ready < 0 and ready != -EINTR:
                    fail(-ready, "wait for", "user ring buffer")
                PyErr_CheckSignals()
        finally:
            self.waiting -= 1
            close_fd(epoll)

    cdef void submit(self, void *data) noexcept:
        libbpf.user_ring_buffer__submit(self.ptr, data)
        self.sent += 1

    cdef Py_ssize_t send_burst(self, const char *data, Py_ssize_t length, Py_ssize_t count) except -1:
        cdef Py_ssize_t sent = 0
        cdef void *place
        self.acquire()
        with nogil:
            while sent < count:
                place = libbpf.user_ring_buffer__reserve(self.ptr, <uint32_t>length)
                if place == NULL:
                    break
                memcpy(place, data + sent * length, length)
                libbpf.user_ring_buffer__submit(self.ptr, place)
                sent += 1
        self.sent += sent
        PyThread_release_lock(self.lock)
        return sent


cdef UserSender open_sender(object map):
    """For a map given as Map, descriptor or what has a fileno()."""
    cdef UserSender sender = UserSender.__new__(UserSender)
    cdef Call call
    cdef uapi.bpf_map_info info
    cdef uapi.__u32 length = sizeof(info)
    cdef int fd, code = 0
    if isinstance(map, Map):
        if (<Map>map).kind() != USER_RINGBUF:
            raise ValueError(f"{map} is a {map.type.name}, not a USER_RINGBUF")
        fd = (<Map>map).descriptor()
    else:
        fd = map if isinstance(map, int) else descriptor_of(map, "map")
    # libbpf keeps the number only: ours stays valid whatever happens to the map's.
    sender.fd = duplicate_fd(fd)
    memset(&info, 0, sizeof(info))
    if bpf.bpf_obj_get_info_by_fd(sender.fd, &info, &length) < 0:
        fail(errno, "open user ring buffer on", map)
    sender.wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)
    if sender.wake_fd < 0:
        fail(errno, "open user ring buffer on", map)
    enter(&call, NULL)
    sender.ptr = libbpf.user_ring_buffer__new(sender.fd, NULL)
    if sender.ptr == NULL:
        code = -errno
    finish(&call, code, "open user ring buffer on", map)
    sender.capacity = info.max_entries
    return sender
