from .attach_hook import Hooking
from .link import Link
from .linkset import LinkSet

class Attachable(Hooking):
    def attach(self) -> Link | LinkSet: ...

def explained(error: OSError, kind: str) -> OSError: ...
