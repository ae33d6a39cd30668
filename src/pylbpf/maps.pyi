from .contents import Contents
from .map import Map

class Maps(Contents[Map]): ...
