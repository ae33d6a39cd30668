"""Descriptors closed in the background, for the kernel takes its time over some of them.

A perf event on a tracepoint or a probe takes some 30 ms, one after the other, however many threads close them. A few
threads keep the kernel busy; they live as long as there is something to close.
"""
import atexit as _atexit

from cpython.exc cimport PyErr_CheckSignals
from libc.stdlib cimport realloc
from libc.string cimport memcpy
from posix.signal cimport SIG_SETMASK, sigset_t
from posix.time cimport timespec
from posix.unistd cimport close

from .deadline cimport a_while_from_now
from .workers cimport block_signals

cdef extern from "<signal.h>" nogil:
    int pthread_sigmask(int how, const sigset_t *wanted, sigset_t *before)

cdef extern from "<pthread.h>" nogil:
    ctypedef unsigned long pthread_t
    ctypedef struct pthread_mutex_t:
        pass
    ctypedef struct pthread_cond_t:
        pass
    int pthread_create(pthread_t *thread, const void *attributes, void *(*start)(void *) noexcept, void *argument)
    int pthread_detach(pthread_t thread)
    int pthread_mutex_init(pthread_mutex_t *mutex, const void *attributes)
    int pthread_mutex_lock(pthread_mutex_t *mutex)
    int pthread_mutex_unlock(pthread_mutex_t *mutex)
    int pthread_cond_init(pthread_cond_t *condition, const void *attributes)
    int pthread_cond_broadcast(pthread_cond_t *condition)
    int pthread_cond_timedwait(pthread_cond_t *condition, pthread_mutex_t *mutex, const timespec *until)
    int pthread_atfork(void (*prepare)() noexcept, void (*parent)() noexcept, void (*child)() noexcept)

cdef enum:
    CLOSERS = 4                 # that the next one waits in the kernel already saves a few percent

cdef pthread_mutex_t _mutex     # guards all that follows
cdef pthread_cond_t _news
cdef int *_waiting = NULL       # descriptors: from _first to before _last
cdef size_t _room = 0
cdef size_t _first = 0
cdef size_t _last = 0
cdef unsigned long long _added = 0      # descriptors ever
cdef unsigned long long _taken = 0      # of them
cdef bint _alive[CLOSERS]
cdef unsigned long long _closing[CLOSERS]       # which one each closes, _IDLE for none
cdef unsigned long long _IDLE = <unsigned long long>-1


cdef void reset() noexcept nogil:
    """No closers, and nothing to close. The descriptors of a forked child are copies, which go when it ends."""
    global _first, _last, _taken
    cdef int at
    pthread_mutex_init(&_mutex, NULL)
    pthread_cond_init(&_news, NULL)
    _first = _last = 0
    _taken = _added
    for at in range(CLOSERS):
        _alive[at] = False
        _closing[at] = _IDLE


cdef void before_fork() noexcept nogil:
    pthread_mutex_lock(&_mutex)


cdef void after_fork() noexcept nogil:
    pthread_mutex_unlock(&_mutex)


cdef void *be_closer(void *argument) noexcept nogil:
    global _first, _taken
    cdef size_t at = <size_t>argument
    cdef int descriptor
    pthread_mutex_lock(&_mutex)
    while _first < _last:
        descriptor = _waiting[_first]
        _first += 1
        _closing[at] = _taken
        _taken += 1
        pthread_mutex_unlock(&_mutex)
        close(descriptor)
        pthread_mutex_lock(&_mutex)
        _closing[at] = _IDLE
        pthread_cond_broadcast(&_news)
    _alive[at] = False
    pthread_mutex_unlock(&_mutex)
    return NULL


cdef bint append(const int *descriptors, size_t count) noexcept nogil:
    global _waiting, _room, _first, _last, _added
    cdef size_t wanted
    cdef int *grown
    if _first == _last:
        _first = _last = 0
    if _last + count > _room:
        wanted = 2 * (_last + count)
        grown = <int *>realloc(_waiting, wanted * sizeof(int))
        if grown == NULL:
            return False
        _waiting = grown
        _room = wanted
    memcpy(_waiting + _last, descriptors, count * sizeof(int))
    _last += count
    _added += count
    return True


cdef bint start_closers() noexcept nogil:
    """As many as there is work for; false if there is not a single one."""
    cdef sigset_t blocked, before
    cdef pthread_t thread
    cdef int at
    cdef bint any = False
    block_signals(&blocked)
    pthread_sigmask(SIG_SETMASK, &blocked, &before)
    for at in range(CLOSERS):
        if not _alive[at] and at < <int>(_last - _first) and pthread_create(&thread, NULL, be_closer, <void *><size_t>at) == 0:
            pthread_detach(thread)
            _alive[at] = True
        any |= _alive[at]
    pthread_sigmask(SIG_SETMASK, &before, NULL)
    return any


cdef unsigned long long close_later(const int *descriptors, size_t count) noexcept nogil:
    global _last, _added
    cdef unsigned long long number
    cdef bint taken
    cdef size_t at
    pthread_mutex_lock(&_mutex)
    taken = append(descriptors, count)
    if taken and not start_closers():
        _last -= count
        _added -= count
        taken = False
    number = _added
    pthread_mutex_unlock(&_mutex)
    if not taken:
        for at in range(count):
            close(descriptors[at])
    return number


cdef bint closed(unsigned long long number) noexcept nogil:
    cdef int at
    if _taken < number:
        return False
    for at in range(CLOSERS):
        if _closing[at] < number:
            return False
    return True


cdef bint wait_a_while(unsigned long long number) noexcept nogil:
    cdef timespec until
    cdef bint done
    pthread_mutex_lock(&_mutex)
    if not closed(number):
        a_while_from_now(&until)
        pthread_cond_timedwait(&_news, &_mutex, &until)
    done = closed(number)
    pthread_mutex_unlock(&_mutex)
    return done


cdef int wait_closed(unsigned long long number) except -1:
    cdef bint done = False
    while not done:
        with nogil:
            done = wait_a_while(number)
        PyErr_CheckSignals()
    return 0


def _finish():
    """At exit: what was begun is ended."""
    wait_closed(_added)


reset()
pthread_atfork(before_fork, after_fork, reset)
_atexit.register(_finish)
