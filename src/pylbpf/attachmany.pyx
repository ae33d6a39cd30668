"""attach_many()."""
from .attaching cimport Attaching
from .handle cimport Handle
from .object cimport Object
from .program cimport Program
from .workers cimport callback

from .report import LoadReport


def attach_many(items, *, threads=None, bint rollback=True, bint expedite=False, on_progress=None):
    """Attach many programs, and all that Object.attach() attaches of objects, in their order; return a LinkSet.

    - ``items``: Programs and Objects, or one, all loaded; or a LoadReport, which stands for its objects. A program that is given
      itself is attached whatever its ``autoattach`` says. Nothing may be given twice.
    - ``threads``: at most so many for what gains from threads: neighbours that are tracepoints or uprobes, by default 8.
      Handlers' attach methods, and all other kinds, are run one after the other on the calling thread.
    - ``rollback``: the first failure, in the order of the items, is raised when all links have been released again. With
      False the others are attached all the same, and ``LinkSet.errors`` has what failed.
    - ``expedite``: expedite grace periods meanwhile, see expedited().
    - ``on_progress(done, total)``: called on the calling thread. What it raises, and what signal handlers raise, is
      raised when all links have been released.

    What has no automatic attach is in ``LinkSet.skipped``. An object keeps the links of what it was given for until it is
    closed; links of programs that were given themselves are the LinkSet's, which must be kept. The objects are locked
    for the time of the call. Of several kprobe.multi programs the kernel's functions are read once, not for each. Raises
    StateError and ValueError about items before anything is attached.
    Source: bpf_program__attach().
    """
    cdef Attaching batch = Attaching.__new__(Attaching)
    cdef Handle handle
    cdef Object owner
    cdef set given = set()
    batch.rollback = rollback
    batch.on_progress = callback(on_progress, "on_progress")
    if isinstance(items, (Program, Object)):
        items = [items]
    elif isinstance(items, LoadReport):
        items = items.objects
    items = [*items]        # kept until all is done
    for item in items:
        if isinstance(item, Program):
            batch.items.append(item)
        elif isinstance(item, Object):
            handle = (<Object>item).handle
            if handle in given:
                raise ValueError(f"{item!r} is given twice")
            given.add(handle)
            batch.items.append(handle)
        else:
            raise TypeError(f"attach_many() takes programs and objects, not {type(item).__name__}")
    links = batch.run(threads, expedite)
    for handle, owned in batch.owned:
        owner = handle.owner()
        owner.forget_closed()
        owner.attached += owned
    return links
