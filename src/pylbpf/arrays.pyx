"""Many elements of a map at once, as numpy arrays."""
from .elements cimport Elements


cdef class Arrays(Elements):
    """The part of Map that reads and writes many elements at once.

    One call goes through the whole map in C, without the GIL, in chunks between which signals are handled, and on a
    descriptor of its own: closing the map meanwhile ends nothing that has begun.
    """

    def to_numpy(self, *, flags=0):
        """Return all elements as two new arrays, (keys, values).

        Keys have the shape (n,), values (n,) or, per CPU, (n, possible CPUs); dtypes are those of the map's types, else
        unsigned numbers of 1, 2, 4 or 8 bytes, else ``V`` with the size. Arrays come in order of their index. In a hash
        map an element that is there all the time comes exactly once, one that comes or goes meanwhile once or not at all;
        in a trie nearly always. ``flags``: UpdateFlags.LOCK. BpfError for kinds that cannot be read without changing them.
        Source: bpf_map_lookup_batch(), or bpf_map_lookup_elem() for each key where the kernel (5.6) or the kind of map
        has no such.
        """
        from . import maparrays
        return maparrays.to_numpy(self, flags=flags)

    def to_dict(self):
        """Return all elements as a new dict, read at once as to_numpy() does.

        Keys and values are Python's numbers, or bytes; structs are numpy's records as values, and bytes as keys. Per CPU
        a value is a list, or an array of records. Source: bpf_map_lookup_batch().
        """
        from . import maparrays
        return maparrays.to_dict(self)

    def items_array(self, out=None, *, flags=0):
        """Read all elements into ``out``, a pair of arrays of the caller's, and return the parts of them that were filled.

        They must have the dtypes of to_numpy(), C-contiguous and writable, else TypeError or ValueError before anything
        is read; ValueError if the map has more elements than there is room for, and then the arrays may hold some. For
        arrays the first of the pair may be None: their keys are their indexes. Per-CPU values that are no multiple of
        8 bytes are refused. Without ``out`` it is to_numpy(). Source: bpf_map_lookup_batch().
        """
        from . import maparrays
        return maparrays.items_array(self, out, flags=flags)

    def lookup_many(self, keys, *, flags=0):
        """Look up many keys; return (values, found), found being an array of bool. What is not there is all zeros.

        ``keys`` is an array like the keys of to_numpy(), or what makes one without loss. ``flags``: UpdateFlags.LOCK.
        Source: bpf_map_lookup_elem_flags() for each.
        """
        from . import maparrays
        return maparrays.lookup_many(self, keys, flags=flags)

    def update_many(self, keys, values, *, flags=0):
        """Set the values of many keys, in their order; of a key that comes twice the last one stays.

        Both are arrays like those of to_numpy(), of equal length, or what makes such ones without loss; C-contiguous
        arrays of the right dtype are used as they are. Queues, stacks and bloom filters take None for the keys; maps of
        descriptors take Maps, Programs and what else has fileno().
        ``flags``: UpdateFlags, for each element. What has the wrong type or shape is a TypeError or ValueError before the
        kernel sees anything. The first element that cannot be set ends the call: those before it stay set, and the
        exception's ``done`` tells how many they are, whatever exception it is. FileExistsError and KeyError for NOEXIST
        and EXIST. Source: bpf_map_update_batch(), or bpf_map_update_elem() where the kernel (5.6), the kind of map or
        the flags want that.
        """
        from . import maparrays
        maparrays.update_many(self, keys, values, flags=flags)

    def delete_many(self, keys):
        """Delete many keys and return how many were there; those that are not are passed over.

        An exception tells in ``done`` how many keys were gone through, and in ``deleted`` how many of them were there.
        Source: bpf_map_delete_batch(), or bpf_map_delete_elem().
        """
        from . import maparrays
        return maparrays.delete_many(self, keys)

    def pop_many(self, max_entries=None):
        """Take all elements out of the map, or at most ``max_entries``, and return them as (keys, values).

        In a hash map each is read and deleted in one step, so no update gets lost; in a trie, or before Linux 5.14 and
        5.6, it is read and then deleted. Queues and stacks give (None, values) in the order of popping. Whatever
        exception ends the call, its ``popped`` has what was taken out before. Source:
        bpf_map_lookup_and_delete_batch(), bpf_map_lookup_and_delete_elem().
        """
        from . import maparrays
        return maparrays.pop_many(self, max_entries)

    def sweep(self, predicate=None, *, older_than=None, field=None, clock="monotonic"):
        """Delete elements by age, or those that a function chooses, and return how many were deleted.

        ``older_than`` is seconds or a timedelta: an element goes when its time stamp is older. That is the value itself or
        its ``field`` ("seen", "times.last"), in nanoseconds of ``clock``: "monotonic" (bpf_ktime_get_ns()), "boottime",
        "tai" or "realtime"; per CPU the newest counts. Or ``predicate(keys, values)``, called with arrays of some
        thousands of elements, returns an array of bool, true for what is to go. What is set anew between the reading
        and the deleting of its chunk is deleted nevertheless. Of an exception ``deleted`` tells how many are gone.
        """
        from . import mapsweep
        return mapsweep.sweep(self, predicate, older_than=older_than, field=field, clock=clock)

    def to_arrow(self):
        """Return all elements as a pyarrow.Table: columns "key" and "value", of structs "key.field" and "value.field".

        Arrays within an element, and the CPUs of a per-CPU value, are lists of fixed size. ImportError without pyarrow.
        Source: bpf_map_lookup_batch().
        """
        from . import maptables
        return maptables.to_arrow(self)

    def to_pandas(self):
        """Return all elements as a pandas.DataFrame, with the keys as its index.

        Columns and levels of the index are named as in to_arrow(); of arrays and CPUs each item is a column, "value[0]".
        ImportError without pandas. Source: bpf_map_lookup_batch().
        """
        from . import maptables
        return maptables.to_pandas(self)
