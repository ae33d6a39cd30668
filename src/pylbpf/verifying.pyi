from collections.abc import Callable, Sequence
from typing import Any, Optional, Union

from .program import Program

VERDICTS: tuple[str, ...]

def verify(
    sources: list[tuple[str, Optional[bytes], Optional[bytes], Optional[bytes]]],
    hear: Callable[..., Any],
    *,
    progress: Optional[Callable[[int, Any], object]] = None,
    threads: Optional[int] = None,
    handlers: Sequence[Any] = (),
    select: Union[frozenset[str], Callable[[Program], object], None] = None,
    log_level: int = 1,
    log_limit: int = 1 << 14,
    share_kernel_btf: bool = True,
    fixed_log: bool = False,
    options: dict[str, Any] = ...,
) -> None: ...
