from .link import Link
from .linkset import LinkSet

class Attachable:
    def attach(self) -> Link | LinkSet: ...
