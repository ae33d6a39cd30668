"""Maps as numpy arrays: what the batches read and write, with the types of the map.

numpy is imported when it is needed, never by `import pylbpf`.
"""
from __future__ import annotations

import functools
import operator
from collections.abc import Iterable

try:
    import numpy as np
except ImportError as error:
    raise ImportError("arrays of maps need numpy, which is not installed") from error

from .btf import Btf
from .fields import mask_of
from .mapbatch import Batch
from .mapmany import delete_many as _delete_many
from .mapmany import lookup_many as _lookup_many
from .mapmany import update_many as _update_many

LPM_TRIE = 11
# PROG_ARRAY, PERF_EVENT_ARRAY, CGROUP_ARRAY, ARRAY_OF_MAPS, HASH_OF_MAPS, SOCKMAP, XSKMAP, SOCKHASH, REUSEPORT_SOCKARRAY
OF_DESCRIPTORS = frozenset((3, 4, 8, 12, 13, 15, 17, 18, 20))
NUMBERS = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}


def raw_dtype(size, map_type=None):
    """The dtype of what nobody describes: a number of 1, 2, 4 or 8 bytes, else bytes; a trie's key is known anyway."""
    if map_type == LPM_TRIE and size > 4:
        return np.dtype([("prefixlen", np.uint32), ("data", np.uint8, (size - 4,))])
    return np.dtype(NUMBERS.get(size, f"V{size}"))


@functools.lru_cache(maxsize=256)
def dtype_of(btf, type):
    """The dtype of a type that the kernel keeps. Numbers of BTF are not used again."""
    try:
        return Btf.from_id(btf).dtype(type)
    except (PermissionError, ValueError):       # of others' types; of what has no size
        return None


def dtype_for(btf, type, size):
    """The dtype of a key or value, as the kernel tells it; None if it does not."""
    dtype = dtype_of(btf, type) if btf and type else None
    return dtype if dtype is not None and dtype.itemsize == size else None


class Layout:
    """A batch, and the dtypes of its keys and values."""

    def __init__(self, map):
        self.map = map
        self.batch = batch = Batch(map)
        key, value = map._said()
        if key is None:
            key = dtype_for(batch.btf, batch.key_type, batch.key_size)
        if value is None:
            value = dtype_for(batch.btf, batch.value_type, batch.value_size)
        if key is None or value is None:        # which takes a look at the kernel's again
            declared = map._declared()
            key, value = (each if each is not None else other for each, other in zip((key, value), declared))
        self.key = key if key is not None else raw_dtype(batch.key_size, batch.type)
        self.value = value if value is not None else raw_dtype(batch.value_size)
        # A value takes a multiple of 8 bytes on each CPU.
        self.slot = (batch.value_size + 7) // 8 * 8

    # What was read

    def keys(self):
        batch = self.batch
        if batch.key_size == 0:
            return None
        if batch.indexed:
            return np.arange(batch.count, dtype=np.uint32).view(self.key)
        return array_over(batch.keys, batch.count, self.key)

    def values(self):
        batch = self.batch
        if not batch.cpus:
            return array_over(batch.values, batch.count, self.value)
        return self.per_cpu(batch.values, batch.count)

    def per_cpu(self, memory, count):
        if count == 0:
            return np.empty((0, self.batch.cpus), self.value)
        strides = (self.batch.value_bytes, self.slot, *np.empty(1, self.value).strides[1:])     # an empty one has none
        shape = (count, self.batch.cpus, *self.value.shape)
        return np.ndarray(shape, self.value.base, memory, strides=strides)

    # What is to be written

    def fit_keys(self, keys):
        if keys is None:
            return None
        if self.batch.key_size == 0:
            raise TypeError(f"{self.map} has no keys")
        return bytes_of(fit(keys, self.key, (), "keys", self.map))

    def fit_values(self, values):
        batch = self.batch
        per_cpu = (batch.cpus,) if batch.cpus else ()
        if batch.type in OF_DESCRIPTORS and not isinstance(values, np.ndarray):
            values = [value.fileno() if hasattr(value, "fileno") else value for value in values]
        fitted = fit(values, self.value, per_cpu, "values", self.map)
        if batch.cpus and self.slot != batch.value_size:
            padded = np.zeros(len(fitted) * batch.value_bytes, np.uint8)
            self.per_cpu(padded, len(fitted))[...] = fitted
            return padded
        return bytes_of(fitted)

    def room_for(self, array, dtype, per_element, what):
        """Somebody's array as bytes that can be written to, or why that cannot be."""
        if not isinstance(array, np.ndarray):
            raise TypeError(f"out: {what} must be a numpy array, not {type(array).__name__}")
        if array.dtype != dtype.base or array.shape[1:] != (*per_element, *dtype.shape):
            raise TypeError(f"out: {what} of {self.map} are {describe(dtype, per_element)}, "
                            f"not {describe(array.dtype, array.shape[1:])}")
        if not (array.flags.c_contiguous and array.flags.writeable):
            raise ValueError(f"out: {what} must be C-contiguous and writable")
        return bytes_of(array)


def describe(dtype, per_element=()):
    return f"{dtype.base} of shape ({', '.join(['n', *map(str, (*per_element, *dtype.shape))])})"


def array_over(memory, count, dtype):
    if count == 0:
        return np.empty(0, dtype)
    return np.ndarray((count, *dtype.shape), dtype.base, memory)


def bytes_of(array):
    return array.reshape(-1).view(np.uint8)


def fit(given, dtype, per_element, what, map):
    """An array of this dtype, C-contiguous: the given one if it is like that, else a copy that loses nothing."""
    base, shape = dtype.base, (*per_element, *dtype.shape)
    if not hasattr(given, "__getitem__") and not hasattr(given, "__array__") and isinstance(given, Iterable):
        given = list(given)         # a set, a generator, the keys of a dict
    array = given if isinstance(given, np.ndarray) else from_python(given, base, what, map)
    # Between fields numpy copies what it likes; who gives bytes means them.
    mask = mask_of(base) if array.dtype.names is not None else None
    if array.dtype == np.uint8 != base and array.shape[1:] == (*shape, base.itemsize):
        array = np.ascontiguousarray(array).view(base)[..., 0]
    if array.dtype != base:
        array = converted(array, base, what, map)
    if array.ndim == 0 or array.shape[1:] != shape:
        raise ValueError(f"{what} of {map} are {describe(dtype, per_element)}, not an array of shape {array.shape}")
    array = np.ascontiguousarray(array)
    if mask is not None and array.size:
        shape = array.shape
        array = (bytes_of(array).reshape(-1, base.itemsize) & mask).reshape(-1).view(base).reshape(shape)
    return array


def from_python(given, base, what, map):
    """An array of what is none yet; numpy cuts what is too long, and is not let to."""
    if base.names is not None:
        if ("bits" in (base.metadata or ()) or any(isinstance(item, dict) or hasattr(item, "__dataclass_fields__") for item in given)
                or any(isinstance(item, str) for item in flat(given))):     # which numpy takes for ASCII
            from .fields import pack
            return np.frombuffer(b"".join(bytes(pack(base, item, f"one of the {what} of {map}")) for item in given), base)
        try:
            array = np.array(given, base)
        except (TypeError, ValueError, OverflowError) as error:
            raise (TypeError if isinstance(error, TypeError) else ValueError)(f"{what} of {map} are {base}: {error}") from None
        if not same(array.tolist(), given):
            raise ValueError(f"{what} of {map} are {base}: there are some that do not fit")
        return array
    if base.kind == "S" and any(isinstance(item, str) and "\0" in item for item in flat(given)):
        raise ValueError(f"NUL in one of the {what} of {map}")
    if base.kind == "V":
        items = []
        for item in given:
            if isinstance(item, (str, int, np.integer)):    # of a number bytes() makes so many zeros
                raise TypeError(f"{what} of {map} have {base.itemsize} bytes: {item!r} is no bytes")
            items.append(bytes(item))
        for item in items:
            if len(item) != base.itemsize:
                raise ValueError(f"{what} of {map} have {base.itemsize} bytes: {item!r} has {len(item)}")
        return np.frombuffer(b"".join(items), base)
    array = np.asarray(given)
    if base.kind == "f" and array.dtype.kind in "iuf":
        with np.errstate(over="ignore"):
            result = array.astype(base)
        if (np.isinf(result) & ~np.isinf(array)).any():
            raise ValueError(f"{what} of {map} are {base}: there are some that do not fit")
        return result
    if base.kind in "iu" and array.dtype.kind == "f" and array.size:    # what numpy makes of 3 and 1 << 63
        if any(isinstance(item, (float, np.floating)) for item in flat(given)):
            raise TypeError(f"{what} of {map} are {base}, not floats")
        return np.asarray(given, object)
    return np.char.encode(array, "utf-8") if array.dtype.kind == "U" and base.kind == "S" else array


def flat(items):
    """What is in lists within lists."""
    for item in items:
        if isinstance(item, (list, tuple)):
            yield from flat(item)
        else:
            yield item


def same(made, given):
    """Whether numpy has kept all of it, also within structs and arrays."""
    if isinstance(made, np.ndarray):
        made = made.tolist()
    if isinstance(made, (list, tuple)):
        # Numbers that numpy made arrays of have no length.
        return hasattr(given, "__len__") and len(made) == len(given) and all(map(same, made, given))
    if isinstance(made, float):     # of 4 bytes it is about the same
        return isinstance(given, (int, float, np.number)) and np.isinf(made) == np.isinf(given)
    if isinstance(made, bytes):
        if isinstance(given, str):
            return made == given.encode()
        return made == bytes(given).rstrip(b"\0")
    return made == given


def keeps_text(given, wanted):
    """That fields are the same, and strings come from strings: numpy makes them of numbers, too."""
    if wanted.names is not None:
        return given.names == wanted.names and all(keeps_text(given[name].base, wanted[name].base) for name in wanted.names)
    return wanted.kind != "S" or given.kind == "S"


def converted(array, base, what, map):
    if array.dtype.kind in "biu" and base.kind in "biu" or array.dtype == object and base.kind in "iu":
        try:
            result = array.astype(base)
        except (OverflowError, TypeError, ValueError):
            result = None
        if result is not None and (result == array).all():
            return result
        raise ValueError(f"{what} of {map} are {base}: there are some among these {array.dtype} that are not")
    if array.dtype.names is None and array.dtype.kind == "V" and array.dtype.itemsize == base.itemsize:
        return np.ascontiguousarray(array).view(base)
    # numpy's idea of [] is of floats.
    if array.size == 0 and array.dtype == np.float64 or (
            keeps_text(array.dtype, base) and np.can_cast(array.dtype, base, "safe")):
        return array.astype(base)
    raise TypeError(f"{what} of {map} are {base}, not {array.dtype}")


def to_numpy(map, *, flags=0):
    layout = Layout(map)
    layout.batch.read(flags=flags)
    return layout.keys(), layout.values()


def to_dict(map):
    keys, values = to_numpy(map)
    if len(keys) == 0:
        return {}
    if keys.dtype.names is not None or keys.ndim > 1:
        keys = np.ascontiguousarray(keys).reshape(-1).view(f"V{keys.nbytes // len(keys)}")
    return dict(zip(keys.tolist(), list(values) if values.dtype.names is not None else values.tolist()))


def items_array(map, out=None, *, flags=0):
    if out is None:
        return to_numpy(map, flags=flags)
    layout = Layout(map)
    batch = layout.batch
    if not isinstance(out, (tuple, list)) or len(out) != 2:
        raise TypeError(f"out is a pair of arrays, not {type(out).__name__}")
    keys, values = out
    per_cpu = ()
    value = layout.value
    if batch.cpus:
        per_cpu = (batch.cpus,)
        if layout.slot != batch.value_size:
            raise TypeError(f"out: values of {map} have {batch.value_size} bytes, which the kernel rounds up to "
                            f"{layout.slot} on each CPU: only to_numpy() can read them")
    room = layout.room_for(values, value, per_cpu, "values")
    key_room = None if keys is None and batch.indexed else layout.room_for(keys, layout.key, (), "keys")
    if key_room is not None and np.shares_memory(key_room, room):
        raise ValueError("out: keys and values are in the same memory")
    count = batch.read_into(key_room, room, flags=flags)
    return None if keys is None else keys[:count], values[:count]


def pop_many(map, max_entries=None):
    if max_entries is not None:
        if isinstance(max_entries, bool) or not hasattr(max_entries, "__index__"):
            raise TypeError(f"max_entries is a number, not {type(max_entries).__name__}")
        max_entries = operator.index(max_entries)
        if max_entries < 0:
            raise ValueError(f"max_entries is 0 or more, not {max_entries}")
    layout = Layout(map)
    try:
        layout.batch.read(pop=True, limit=max_entries)
        return layout.keys(), layout.values()
    except BaseException as error:
        error.popped = layout.keys(), layout.values()
        raise


def update_many(map, keys, values, *, flags=0):
    try:
        layout = Layout(map)
        batch = layout.batch
        fitted = layout.fit_keys(keys)
        room = layout.fit_values(values)
        if fitted is not None and len(fitted) * batch.value_bytes != len(room) * batch.key_size:
            raise ValueError(f"{len(fitted) // batch.key_size} keys, {len(room) // batch.value_bytes} values for {map}")
        _update_many(batch, fitted, room, flags=flags)
    except BaseException as error:
        if isinstance(error, KeyError) and layout.key.kind in "iu":
            error.args = (np.frombuffer(error.args[0], layout.key)[0].item(),)
        if not hasattr(error, "done"):
            error.done = 0
        raise


def delete_many(map, keys):
    try:
        layout = Layout(map)
        if layout.batch.key_size == 0:
            raise TypeError(f"{map} has no keys")
        return _delete_many(layout.batch, layout.fit_keys(keys))
    except BaseException as error:
        if not hasattr(error, "done"):
            error.done = error.deleted = 0
        raise


def lookup_many(map, keys, *, flags=0):
    layout = Layout(map)
    batch = layout.batch
    if batch.key_size == 0 or keys is None:
        raise TypeError(f"{map} has {'keys' if batch.key_size else 'no keys'}")
    fitted = layout.fit_keys(keys)
    count = len(fitted) // batch.key_size
    memory = bytearray(count * batch.value_bytes)
    found = np.zeros(count, bool)
    _lookup_many(batch, fitted, memory, found, flags=flags)
    if batch.cpus:
        return layout.per_cpu(memory, count), found
    return array_over(memory, count, layout.value), found
