"""A map as a mutable mapping of Python's: keys and values by their types."""
from _collections_abc import MutableMapping as _MutableMapping

from libc.errno cimport EOPNOTSUPP

from .c cimport libbpf
from .call cimport note_missing
from .element cimport Element, MISSING, POP, UPDATE
from .elements cimport Elements
from .paths cimport number64_of
from .walk cimport ITEMS, KEYS, VALUES, stroll, walk

from .errors import BpfError

libbpf.pylbpf_on_missing = note_missing

cdef enum:
    # enum bpf_map_type
    ARRAY = 2
    PERCPU_ARRAY = 6


cdef class Mapping(Element):
    """The part of Map that is like a dict."""

    def update(self, other, *value, flags=0):
        """Set all elements of a mapping, or of pairs of key and value, by their types, one after the other.

        With two arguments, a key and a value, both are bytes-like, as in all methods that are named as libbpf's
        functions; the key is None for queues, stacks and bloom filters. ``flags``: see set(). Source:
        bpf_map_update_elem().
        """
        if value:
            if len(value) > 1:
                raise TypeError(f"update() takes a mapping, or a key and a value, not {1 + len(value)} arguments")
            return Elements.update(self, other, value[0], flags=flags)
        cdef unsigned long long bits = number64_of(flags, "flags")
        if isinstance(other, Mapping):
            other = other.items()
        elif hasattr(other, "keys"):
            other = [(key, other[key]) for key in other.keys()]
        for key, each in other:
            self.operate(UPDATE, key, each, bits, None)

    # All elements

    def __iter__(self):
        return self.keys()

    def keys(self):
        """Iterate over the keys; see items(). Source: bpf_map_lookup_batch(), bpf_map_get_next_key()."""
        return walk(self, KEYS)

    def items(self):
        """Iterate over (key, value).

        Hash maps and arrays are read by chunks of 64 to 4096 elements: what is changed or deleted after its chunk was
        read comes as it was. Whoever deletes meanwhile, an element that is there all the time comes exactly once. Other
        kinds, and all before Linux 5.6, go from key to key. There, too, deleting the key that has just come is safe; but
        if somebody else deletes the one that would come next, the kernel starts again from the first, and keys may come
        twice; it ends after ``max_entries`` at the latest. Source: bpf_map_lookup_batch(), bpf_map_get_next_key().
        """
        return walk(self, ITEMS)

    def values(self):
        """Iterate over the values; see items(). Source: bpf_map_lookup_batch(), bpf_map_lookup_elem()."""
        return walk(self, VALUES)

    def __len__(self):
        self.require_keys()
        if self.kind() in (ARRAY, PERCPU_ARRAY):
            return self.entries()
        return walk(self, VALUES).length()

    def __bool__(self):
        """Whether there is an element; False of a map that is not there, True of one that cannot be walked."""
        if not self.usable() or not self.exists():
            return False
        self.ready()
        if self.key_codec is None:
            return True             # as of rings
        try:
            return self.next_key() is not None
        except BpfError as error:
            if error.errno != EOPNOTSUPP:
                raise
            return True             # local storage cannot be walked

    def popitem(self):
        """Delete some element, and return its key and value; KeyError if there is none."""
        for key in stroll(self, KEYS):
            value = self.operate(POP, key, None, 0, None)
            if value is not MISSING:
                return key, value
        raise KeyError(f"{self} is empty")

    def clear(self):
        """Delete all elements that are there. TypeError of an array. Source: bpf_map_delete_elem()."""
        self.require_keys()
        if self.kind() in (ARRAY, PERCPU_ARRAY):
            raise TypeError(f"elements of {self} are always there")
        for key in Elements.keys(self):
            try:
                self.delete(key)
            except KeyError:        # deleted by somebody else meanwhile
                pass


_MutableMapping.register(Mapping)
