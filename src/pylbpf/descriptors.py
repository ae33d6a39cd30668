"""What Object.detach_fds() leaves of an object: descriptors."""
from types import MappingProxyType as _MappingProxyType

from .kernelfd import close_numbers as _close_numbers
from .linkset import LinkSet


class Descriptors:
    """Descriptors of an object's programs and maps, without the object; from Object.detach_fds().

    ``programs`` and ``maps`` are mappings of name to descriptor number (closed on exec), ``links`` is a LinkSet of what
    was attached. All are owned: close() closes them, as does leaving a ``with`` block, and losing the last reference
    with a ResourceWarning. Use os.dup() for what is to stay. What is closed is no longer in the mappings.
    """

    __slots__ = ("_programs", "_maps", "_links", "_name", "__weakref__")

    def __new__(cls, *_, **__):
        raise TypeError("made by Object.detach_fds()")

    @property
    def programs(self):
        """A read-only mapping of program name to descriptor, of those that were loaded."""
        return _MappingProxyType(self._programs)

    @property
    def maps(self):
        """A read-only mapping of map name to descriptor, of those that were made."""
        return _MappingProxyType(self._maps)

    @property
    def links(self):
        """A LinkSet of the object's links, which live on."""
        return self._links

    @property
    def closed(self):
        """True after close()."""
        return not (self._programs or self._maps or any(not link.closed for link in self._links))

    def close(self):
        """Destroy the links, then close all descriptors; a second time does nothing."""
        try:
            self._links.close()
        finally:
            try:
                _close_numbers(self._programs)
            finally:
                _close_numbers(self._maps)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def __del__(self):
        if getattr(self, "_links", None) is not None and (self._programs or self._maps):
            try:
                import warnings
                warnings.warn(f"{self!r} was never closed", ResourceWarning, source=self, stacklevel=1)
            finally:
                # Also where warnings are errors. The links say for themselves what becomes of them.
                _close_numbers(self._programs)
                _close_numbers(self._maps)

    def __repr__(self):
        what = "closed" if self.closed else (
            f"{len(self._programs)} programs, {len(self._maps)} maps, {len(self._links)} links")
        return f"<Descriptors: {self._name}, {what}>"


def make_descriptors(name):
    """An empty one, to be filled."""
    made = object.__new__(Descriptors)
    made._name, made._programs, made._maps, made._links = name, {}, {}, LinkSet()
    return made
