# Only for other rooms.
from .object import Object

def load_parts(object: Object, threads: int) -> bool: ...
