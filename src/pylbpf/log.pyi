from collections.abc import Callable

from .enums import LogLevel

def set_print(
    callback: Callable[[LogLevel, str], object] | None, level: LogLevel | int | None = None
) -> Callable[[LogLevel, str], object] | None: ...
