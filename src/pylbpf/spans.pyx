"""Memory that a forked child does not get: of perf buffers and arenas, which the kernel does not copy."""
from posix.mman cimport MAP_ANONYMOUS, MAP_PRIVATE, PROT_READ, PROT_WRITE, mmap

cdef extern from "<pthread.h>" nogil:
    int pthread_atfork(void (*prepare)() noexcept, void (*parent)() noexcept, void (*child)() noexcept)

cdef extern from "<sys/mman.h>" nogil:
    int MAP_FIXED_NOREPLACE
    int MAP_NORESERVE

cdef Span *spans = NULL


cdef void on_fork() noexcept nogil:
    cdef Span *span = spans
    while span != NULL:
        mmap(span.start, span.length, PROT_READ | PROT_WRITE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0)
        span = span.next


pthread_atfork(NULL, NULL, on_fork)


cdef void note_span(Span *span, void *start, size_t length) noexcept:
    global spans
    span.start = <char *>start
    span.length = length
    span.next = spans
    spans = span


cdef void forget_span(Span *span) noexcept:
    cdef Span **link = &spans
    while link[0] != NULL and link[0] != span:
        link = &link[0].next
    if link[0] != NULL:
        link[0] = span.next
