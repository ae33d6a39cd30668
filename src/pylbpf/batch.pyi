from collections.abc import Callable, Iterable
from os import PathLike
from typing import Literal

from _typeshed import StrOrBytesPath
from typing_extensions import Buffer

from .handlers import ProgramHandler
from .object import Object
from .program import Program
from .report import LoadReport, LoadResult

_Item = str | PathLike[str] | PathLike[bytes] | Buffer | Object

def load_many(
    items: _Item | Iterable[_Item],
    *,
    threads: int | None = None,
    handlers: Iterable[ProgramHandler] = (),
    select: str | Iterable[str] | Callable[[Program], object] | None = None,
    on_error: Literal["collect", "raise", "rollback"] = "collect",
    on_progress: Callable[[int, int, LoadResult], object] | None = None,
    order: Literal["cost", "given"] | LoadReport = "cost",
    log_level: int = 0,
    log_limit: int = ...,
    share_kernel_btf: bool = True,
    name: str | None = None,
    pin_root_path: StrOrBytesPath | None = None,
    kconfig: str | None = None,
    btf_custom_path: StrOrBytesPath | None = None,
    relaxed_maps: bool = False,
    token_path: StrOrBytesPath | None = None,
) -> LoadReport: ...
