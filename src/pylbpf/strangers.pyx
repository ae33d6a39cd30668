"""Programs of sections with overrides that C code has opened by itself.

They point into libbpf's own table, and nobody says until when: the table must not change any more. Only objects that are
given to pylbpf afterwards are known again.
"""
from libc.stdlib cimport realloc

from .c cimport libbpf

cdef extern from "<pthread.h>" nogil:
    ctypedef struct pthread_mutex_t:
        pass
    int pthread_mutex_init(pthread_mutex_t *mutex, const void *attributes)
    int pthread_mutex_lock(pthread_mutex_t *mutex)
    int pthread_mutex_unlock(pthread_mutex_t *mutex)
    int pthread_atfork(void (*prepare)() noexcept, void (*parent)() noexcept, void (*child)() noexcept)

cdef pthread_mutex_t _mutex
cdef const libbpf.bpf_program **_programs = NULL
cdef size_t _count = 0
cdef size_t _room = 0
cdef bint _uncounted = False    # there was no memory to note one

pthread_mutex_init(&_mutex, NULL)


cdef void before_fork() noexcept nogil:
    pthread_mutex_lock(&_mutex)


cdef void after_fork() noexcept nogil:
    pthread_mutex_unlock(&_mutex)


pthread_atfork(before_fork, after_fork, after_fork)


cdef size_t place_of(const libbpf.bpf_program *program) noexcept nogil:
    cdef size_t at = 0
    while at < _count and _programs[at] != program:
        at += 1
    return at


cdef void note_stranger(const libbpf.bpf_program *program) noexcept nogil:
    global _programs, _count, _room, _uncounted
    cdef void *grown
    pthread_mutex_lock(&_mutex)
    if _count == _room:
        grown = realloc(_programs, (2 * _room + 16) * sizeof(void *))
        if grown != NULL:
            _programs = <const libbpf.bpf_program **>grown
            _room = 2 * _room + 16
    if _count == _room:
        _uncounted = True
    elif place_of(program) == _count:       # else memory that was one before
        _programs[_count] = program
        _count += 1
    pthread_mutex_unlock(&_mutex)


cdef void claim_strangers(libbpf.bpf_object *object) noexcept nogil:
    global _count
    cdef const libbpf.bpf_program *program = libbpf.bpf_object__next_program(object, NULL)
    cdef size_t at
    pthread_mutex_lock(&_mutex)
    while program != NULL:
        at = place_of(program)
        if at < _count:
            _count -= 1
            _programs[at] = _programs[_count]
        program = libbpf.bpf_object__next_program(object, <libbpf.bpf_program *>program)
    pthread_mutex_unlock(&_mutex)


cdef bint any_strangers() noexcept nogil:
    return _count > 0 or _uncounted
