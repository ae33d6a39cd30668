from typing import Any

import numpy

from .btf import Btf

def build(btf: Btf, id: int) -> numpy.dtype[Any]: ...
