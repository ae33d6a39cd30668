"""Elements deleted from a map by their age, or by what a function says of them."""
from __future__ import annotations

import datetime
import difflib
import time

import numpy as np

from .maparrays import Layout, bytes_of
from .mapmany import delete_many

CLOCKS = {
    "monotonic": time.CLOCK_MONOTONIC,
    "boottime": time.CLOCK_BOOTTIME,
    "tai": getattr(time, "CLOCK_TAI", 11),
    "realtime": time.CLOCK_REALTIME,
}


def sweep(map, predicate=None, *, older_than=None, field=None, clock="monotonic"):
    if (predicate is None) == (older_than is None):
        raise TypeError("sweep() takes a predicate or older_than")
    layout = Layout(map)
    if layout.batch.indexed or layout.batch.key_size == 0:
        raise TypeError(f"elements of {map} cannot be deleted: it is of type {map.type.name}")
    if predicate is None:
        predicate = by_age(layout, older_than, field, clock)
    elif field is not None:
        raise TypeError("field is for older_than")
    elif not callable(predicate):
        raise TypeError(f"predicate must be callable, not {type(predicate).__name__}")
    deleted = 0
    try:
        for keys, values in chunks(layout):
            # Their own bytes, of which numpy would lose those between fields, and the predicate could change some.
            raw = np.ndarray(len(keys), f"V{layout.batch.key_size}", layout.batch.keys).copy()
            chosen = np.asarray(predicate(keys, values))
            if chosen.dtype != bool or chosen.shape != keys.shape[:1]:
                raise TypeError(f"predicate must return an array of bool of shape {keys.shape[:1]}, "
                                f"not {chosen.dtype} of shape {chosen.shape}")
            doomed = raw[chosen]
            if len(doomed):
                deleted += delete_many(layout.batch, bytes_of(doomed))
    except BaseException as error:
        error.deleted = deleted + getattr(error, "deleted", 0)
        raise
    return deleted


def chunks(layout):
    """The map in pieces, if deleting does not disturb the walk; else as one."""
    batch = layout.batch
    if batch.bucketed:
        while batch.read_some():
            yield layout.keys(), layout.values()
    else:
        batch.read()
        if batch.count:
            yield layout.keys(), layout.values()


def by_age(layout, older_than, field, clock):
    """The predicate for what is older than that now."""
    if clock not in CLOCKS:
        raise ValueError(f"clock must be one of {', '.join(CLOCKS)}, not {clock!r}")
    if isinstance(older_than, datetime.timedelta):
        older_than = older_than.total_seconds()
    if isinstance(older_than, bool) or not isinstance(older_than, (int, float)):
        raise TypeError(f"older_than must be seconds or a timedelta, not {type(older_than).__name__}")
    if not 0 <= older_than < float("inf"):
        raise ValueError(f"older_than must be a time of 0 seconds or more, not {older_than}")
    if field is not None and not isinstance(field, str):
        raise TypeError(f"field must be a name, or names with dots between, not {type(field).__name__}")
    age = round(min(older_than, 1e15) * 1e9)
    path = field.split(".") if field is not None else []
    dtype = stamp(layout, path)
    cpus = layout.batch.cpus

    def old(keys, values):
        for name in path:
            values = values[name]
        if cpus:
            values = values.max(axis=1)
        limit = time.clock_gettime_ns(CLOCKS[clock]) - age
        return values < dtype.type(limit) if limit > 0 else np.zeros(len(values), bool)

    return old


def stamp(layout, path):
    """The dtype of a time stamp in the values, which must be a number of 8 bytes."""
    dtype = layout.value
    for name in path:
        names = dtype.names or ()
        if name not in names:
            close = difflib.get_close_matches(name, names, 1)
            known = f"did you mean {close[0]!r}?" if close else f"it has {', '.join(names)}" if names else "it is no struct"
            raise ValueError(f"values of {layout.map} have no field {'.'.join(path)!r}: {known}")
        dtype = dtype[name]
    if dtype.kind not in "iu" or dtype.itemsize != 8:
        what = f"field {'.'.join(path)!r}" if path else "values"
        raise TypeError(f"{what} of {layout.map} must be a number of 8 bytes, nanoseconds, to tell an age; not {dtype}")
    return dtype
