"""Links that were made together, and the two ways to release many in one call."""
from _collections_abc import Sequence as _Sequence

from cpython.object cimport PyObject

from .closer cimport wait_closed
from .detaching cimport detach
from .handle cimport fork_generation
from .link cimport Link
from .workers cimport callback

cdef extern from "Python.h":
    Py_ssize_t Py_REFCNT(PyObject *object)
    PyObject *PyTuple_GET_ITEM_BORROWED "PyTuple_GET_ITEM"(object links, Py_ssize_t at)
    int PyErr_ResourceWarning(object source, Py_ssize_t stack_level, const char *format, ...) except -1


cdef list only_here(tuple links):
    """Those that are open and that nobody else holds."""
    cdef list found = []
    cdef PyObject *link
    for at in range(len(links)):
        link = PyTuple_GET_ITEM_BORROWED(links, at)
        if Py_REFCNT(link) == 1 and (<Link>link).ptr != NULL and (<Link>link).generation == fork_generation():
            found.append(<Link>link)
    return found


class LinkSet(_Sequence):
    """Links that were made together: a sequence, and a context manager that closes them all.

    - ``skipped``: the programs that have no automatic attach.
    - ``errors``: pairs of a program, or struct_ops map, and the exception that said why it was not attached; of
      attach_many() with ``rollback=False``.

    Who drops the last reference to a set of open links gets one ResourceWarning, and the links that nobody else holds
    are released together. Those of Object.attach(), and of attach_many() over objects, are held by their objects.
    """

    def __init__(self, links=(), skipped=(), errors=()):
        self._links = tuple([*links])       # nobody else's tuple: see __del__
        for link in self._links:
            if not isinstance(link, Link):
                raise TypeError(f"a LinkSet is made of links, not {type(link).__name__}")
        self.skipped = tuple(skipped)
        self.errors = tuple(errors)
        self._closing = 0

    def __del__(self):
        links = self.__dict__.pop("_links", ())
        cdef list alone = only_here(links) if Py_REFCNT(<PyObject *>links) == 1 else []     # else there is a copy
        if alone:
            try:
                PyErr_ResourceWarning(self, 1, b"a LinkSet of %zd links was never closed", <Py_ssize_t>len(alone))
            finally:
                # Also where warnings are errors.
                detach(alone[::-1])

    def __len__(self):
        return len(self._links)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return LinkSet(self._links[index])
        return self._links[index]

    def __iter__(self):
        return iter(self._links)

    def __repr__(self):
        failed = f", {len(self.errors)} failed" if self.errors else ""
        return f"<LinkSet: {len(self)} links, {len(self.skipped)} programs skipped{failed}>"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self, wait=True, *, expedite=False):
        """Release all links, the last one first; links that are closed are left alone.

        What sleeps in the kernel sleeps at the same time, see detach_many(). All are tried before the first failure is
        raised. With ``wait=False`` it returns as soon as no program fires any more; the kernel's perf events are closed
        in the background, and another ``close()`` waits for that, as does the end of the interpreter.
        ``expedite``: see expedited(). Source: bpf_link__destroy().
        """
        number = detach(list(self._links[::-1]), None, wait, expedite)
        self._closing = max(self._closing, number)
        if wait:
            wait_closed(self._closing)


cdef object set_of(list links, list skipped, list errors):
    """A LinkSet of what is known to be links."""
    made = LinkSet.__new__(LinkSet)
    made._links = tuple(links)
    made.skipped = tuple(skipped)
    made.errors = tuple(errors)
    made._closing = 0
    return made


def detach_many(links, *, threads=None, wait=True, expedite=False, on_progress=None):
    """Release many links, or one, the last one first; links that are closed are left alone.

    Links on perf events, of tracepoints, kprobes and uprobes, sleep in the kernel on up to ``threads`` threads (default
    128) at once; all others gain nothing from threads and are released one after the other. With ``wait=False`` it
    returns as soon as no program fires any more: the perf events themselves are closed in the background, and the end
    of the interpreter waits for that. ``expedite`` expedites grace periods meanwhile, see expedited().
    ``on_progress(done, total)`` is called on the calling thread. All are tried before the first failure is raised, a
    BpfError with the others in its ``errors``; what on_progress or a signal handler raises waits until then, too.
    Source: bpf_link__destroy().
    """
    cdef list all = []
    callback(on_progress, "on_progress")
    for link in (links,) if isinstance(links, Link) else links:
        if not isinstance(link, Link):
            raise TypeError(f"detach_many() takes links, not {type(link).__name__}")
        all.append(link)
    detach(all[::-1], threads, wait, expedite, on_progress)
