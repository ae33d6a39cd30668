"""All rooms in one file, as wheels have them: a quarter smaller than a file for each, and quicker to import.

That file is an entry of the package's search path, and this is what looks into it.
"""
import os
import sys
from _frozen_importlib import ModuleSpec  # as zipimport does: to import importlib.machinery takes a millisecond
from _frozen_importlib_external import ExtensionFileLoader

FILE = os.path.join(os.path.dirname(__file__), "pylbpf-rooms.so")


class Finder:
    """For one entry of a search path: what setup.py has written beside the file says which modules are in it."""

    def __init__(self, path: str) -> None:
        if path != FILE or not os.path.exists(FILE):
            raise ImportError("not the file of pylbpf's rooms", path=path)
        with open(os.path.splitext(path)[0] + ".txt") as file:
            self.names = file.read().split()

    def find_spec(self, name: str, target: object = None) -> "ModuleSpec | None":
        package, _, room = name.rpartition(".")
        if package != __package__ or room not in self.names:
            return None
        spec = ModuleSpec(name, ExtensionFileLoader(name, FILE), origin=FILE)
        spec.has_location = True
        return spec

    def iter_modules(self, prefix: str = "") -> list[tuple[str, bool]]:
        """For pkgutil."""
        return [(prefix + room, False) for room in self.names]

    def invalidate_caches(self) -> None:
        """The file does not change."""


def find_rooms(path: "list[str]") -> None:
    """Have the search path of the package lead to them."""
    if FILE not in path:
        path.insert(0, FILE)    # asked first: it answers sooner than a folder does
    if Finder not in sys.path_hooks:
        sys.path_hooks.append(Finder)
        sys.path_importer_cache[FILE] = Finder(FILE)  # not found by asking all hooks
