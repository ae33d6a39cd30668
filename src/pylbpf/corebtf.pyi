from collections.abc import Iterable
from os import PathLike
from typing import Any, Optional, Union, final

from _typeshed import StrOrBytesPath
from typing_extensions import Buffer

@final
class SharedBtf:
    @property
    def path(self) -> bytes: ...
    def covers(self, data: Buffer) -> bool: ...

def needs(data: Buffer) -> dict[str, Any]: ...
def shared_btf(objects: Iterable[Buffer]) -> Optional[SharedBtf]: ...
def trimmed_btf(
    objects: Iterable[Union[str, PathLike[str], PathLike[bytes], Buffer]], *, btf: Optional[StrOrBytesPath] = None
) -> bytes: ...
