"""Threads that work through a list without the GIL."""
from posix.signal cimport sigset_t

cdef extern from "<semaphore.h>" nogil:
    ctypedef struct sem_t:
        pass

cdef extern from "<pthread.h>" nogil:
    ctypedef unsigned long pthread_t

# One item, on a thread without the GIL.
ctypedef void (*work_t)(void *context, size_t item) noexcept nogil


cdef struct Toil:
    # What the workers see: none of it is a Python object.
    work_t work
    void *context
    const size_t *order         # in which order items are begun, NULL for as they are
    size_t count
    bint python                 # items may run Python: each worker gets one thread state for all of them
    size_t next                 # how many were begun
    size_t *finished            # the items in the order in which they were finished,
    size_t ended                # so many
    int running                 # workers
    int arriving                # those that get their thread state
    unsigned int generation     # of forks, when run() began
    int cancelled               # no further item is begun
    sem_t news


cdef class Crew:
    cdef Toil toil
    cdef size_t told                # how many items finish_item() has been told of
    cdef sigset_t signals           # the mask of the thread that waits, for what Python code starts
    cdef sigset_t blocked           # the mask of the workers

    cdef int finish_item(self, size_t item) except -1
    cdef int listen(self) except -1
    cdef bint forked(self) noexcept
    cdef void stop(self) noexcept nogil
    cdef int run(self, int threads) except -1
    cdef int start(self, pthread_t *threads, int wanted) noexcept nogil
    cdef int wait(self) except -1


cdef void cancel(int *cancelled) noexcept nogil
cdef void tell(Toil *toil) noexcept nogil
cdef void block_signals(sigset_t *blocked) noexcept nogil
cdef int usable_cpus() except -1
cdef int thread_count(object threads) except -1
cdef object callback(object function, str what)
cdef int check_process(unsigned int generation) except -1
