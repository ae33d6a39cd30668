"""Maps as tables of pyarrow and pandas."""
from __future__ import annotations

import numpy as np

from .maparrays import to_numpy


def columns(name, array):
    """The columns of an array: of a struct one for each field, within structs too."""
    if array.dtype.names is None:
        yield name, array
        return
    for field in array.dtype.names:
        yield from columns(f"{name}.{field}", array[field])


def both(map):
    keys, values = to_numpy(map)
    return list(columns("key", keys)), list(columns("value", values))


def to_arrow(map):
    import pyarrow as pa

    def column(array):
        if array.ndim > 1:
            flat = column(array.reshape(-1, *array.shape[2:]))
            if array.shape[1] == 0:
                return pa.FixedSizeListArray.from_buffers(pa.list_(flat.type, 0), len(array), [None], children=[flat])
            return pa.FixedSizeListArray.from_arrays(flat, array.shape[1])
        array = np.ascontiguousarray(array)
        if array.dtype.kind in "VS":
            memory = pa.py_buffer(array.view(np.uint8)) if array.size else pa.py_buffer(b"")
            return pa.FixedSizeBinaryArray.from_buffers(pa.binary(array.dtype.itemsize), len(array), [None, memory])
        return pa.array(array)

    keys, values = both(map)
    return pa.table({name: column(array) for name, array in keys + values})


def to_pandas(map):
    import pandas as pd

    def flat(name, array):
        if array.ndim == 1:
            yield name, array.astype(object) if array.dtype.kind in "VS" else array
            return
        for at in range(array.shape[1]):
            yield from flat(f"{name}[{at}]", array[:, at])

    keys, values = ([part for name, array in side for part in flat(name, array)] for side in both(map))
    index = pd.Index(keys[0][1], name=keys[0][0]) if len(keys) == 1 else pd.MultiIndex.from_arrays(
        [array for _, array in keys], names=[name for name, _ in keys])
    return pd.DataFrame(dict(values), index=index)
