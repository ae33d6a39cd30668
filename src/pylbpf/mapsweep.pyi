from collections.abc import Callable
from datetime import timedelta
from typing import Any

from numpy.typing import ArrayLike, NDArray

from .map import Map

def sweep(
    map: Map,
    predicate: Callable[[NDArray[Any], NDArray[Any]], ArrayLike] | None = None,
    *,
    older_than: float | timedelta | None = None,
    field: str | None = None,
    clock: str = "monotonic",
) -> int: ...
