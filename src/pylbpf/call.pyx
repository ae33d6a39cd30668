"""The call into libbpf in progress on this thread.

libbpf hands callbacks a program but not its object, prints its explanations to a global function, and reports
only a number. Each call therefore leaves a mark in thread-local storage, where trampolines find the object that
they belong to, and where explanations and the first exception of a callback wait for the call to return.
"""
from cpython.ref cimport Py_XDECREF, Py_INCREF
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcpy, memmove
from posix.signal cimport SIG_SETMASK, sigset_t

cdef extern from *:
    """
    #include "per_thread.h"
    PYLBPF_PER_THREAD void *pylbpf_current_call;
    #define pylbpf_add(counter) __atomic_fetch_add(counter, 1, __ATOMIC_RELAXED)
    """
    void *pylbpf_current_call
    void pylbpf_add(long *counter) nogil

# Warnings are explanations for people: beyond this they no longer explain.
cdef enum:
    LINES_LIMIT = 1 << 16


cdef extern from "<signal.h>" nogil:
    int pthread_sigmask(int how, const sigset_t *wanted, sigset_t *before)


cdef void let_signals_through(Call *call, bint through) noexcept nogil:
    """Signals are blocked while the kernel verifies; Python's code, and what it starts, is interrupted as ever."""
    if call.signals != NULL:
        pthread_sigmask(SIG_SETMASK, call.signals if through else call.blocked, NULL)


cdef Call *current() noexcept nogil:
    return <Call *>pylbpf_current_call


cdef void enter(Call *call, PyObject *handle) noexcept nogil:
    global pylbpf_current_call
    call.outer = <Call *>pylbpf_current_call
    call.handle = handle
    call.lines = NULL
    call.length = call.capacity = 0
    call.verdicts = call.last = NULL
    call.error = call.result = NULL
    call.missing = call.since = NULL
    call.hearing = 0
    call.verbose = call.suspended = False
    call.signals = call.blocked = NULL
    call.part = False
    call.stands = NULL
    call.stand_count = 0
    call.preparing = call.prepared = NULL
    call.opts = NULL
    call.loan = NULL
    pylbpf_current_call = call


cdef void leave(Call *call) noexcept nogil:
    global pylbpf_current_call
    pylbpf_current_call = call.outer


cdef Call *keep_call(const Call *call) noexcept nogil:
    """A copy of a call that was left, to be cleared and freed; NULL if it has nothing to tell."""
    cdef Call *kept
    if call.lines == NULL and call.verdicts == NULL and call.error == NULL and call.missing == NULL:
        return NULL
    kept = <Call *>malloc(sizeof(Call))
    if kept != NULL:
        kept[0] = call[0]
    return kept


cdef Stats _stats


cdef Stats *statistics() noexcept nogil:
    return &_stats


cdef void count(long *counter) noexcept nogil:
    pylbpf_add(counter)


cdef void clear_text(Call *call) noexcept nogil:
    """Free what libbpf said."""
    cdef Verdict *verdict
    if call.lines != NULL:
        free(call.lines)
        call.lines = NULL
        call.length = call.capacity = 0
    while call.verdicts != NULL:
        verdict = call.verdicts
        call.verdicts = verdict.next
        free(verdict.program)
        free(verdict.text)
        free(verdict)
    call.last = NULL


cdef void clear(Call *call) noexcept:
    """Free what the call collected; it may be cleared more than once."""
    clear_text(call)
    Py_XDECREF(call.error)
    Py_XDECREF(call.result)
    call.error = call.result = NULL


cdef void keep_error(Call *call, object error) noexcept:
    """Keep the first exception of a callback: later ones only follow from it."""
    if call.error == NULL:
        Py_INCREF(error)
        call.error = <PyObject *>error


cdef void note_missing(const char *name, const char *since) noexcept nogil:
    cdef Call *call = current()
    if call != NULL:
        call.missing = name
        call.since = since


cdef void add_line(Call *call, const char *text, size_t length) noexcept nogil:
    cdef size_t wanted = call.length + length
    cdef size_t capacity
    cdef char *grown
    if wanted > LINES_LIMIT:
        return
    if wanted > call.capacity:
        capacity = wanted * 2
        grown = <char *>realloc(call.lines, capacity)
        if grown == NULL:
            return
        call.lines = grown
        call.capacity = capacity
    memcpy(call.lines + call.length, text, length)
    call.length = wanted


cdef char *duplicate(const char *text, size_t length) noexcept nogil:
    cdef char *copy = <char *>malloc(length + 1)
    if copy != NULL:
        memcpy(copy, text, length)
        copy[length] = 0
    return copy


cdef void add_verdict(Call *call, const char *program, size_t program_length, const char *text, size_t length,
                      bint rejected) noexcept nogil:
    cdef Verdict *verdict = <Verdict *>malloc(sizeof(Verdict))
    if verdict == NULL:
        return
    verdict.program = duplicate(program, program_length)
    verdict.text = duplicate(text, length)
    verdict.length = verdict.whole = length
    verdict.rejected = rejected
    verdict.next = NULL
    if verdict.program == NULL or verdict.text == NULL:
        free(verdict.program)
        free(verdict.text)
        free(verdict)
        return
    if call.last == NULL:
        call.verdicts = verdict
    else:
        call.last.next = verdict
    call.last = verdict


cdef void trim_verdicts(Call *call, size_t limit) noexcept nogil:
    """Keep that much of all logs together: of a long one a quarter from its begin, and its end, where the reason is."""
    cdef Verdict *verdict = call.verdicts
    cdef size_t total = 0
    cdef size_t head, room
    cdef char *smaller
    while verdict != NULL:
        total += verdict.length
        verdict = verdict.next
    verdict = call.verdicts
    while verdict != NULL and total > limit:
        # What lies beyond the limit is taken from the first ones: what was rejected comes last.
        room = verdict.length - (total - limit) if verdict.length > total - limit else 0
        if verdict.next != NULL and room < 4096:
            room = min(verdict.length, <size_t>4096)
        total -= verdict.length - room
        head = room // 4
        memmove(verdict.text + head, verdict.text + verdict.length - (room - head), room - head)
        verdict.text[room] = 0
        verdict.length = room
        smaller = <char *>realloc(verdict.text, room + 1)
        if smaller != NULL:
            verdict.text = smaller
        verdict = verdict.next
