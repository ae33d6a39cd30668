"""What an iterator program writes, as a file of lines."""
from __future__ import annotations

import io
from typing import Any, Union

SIZE = 1 << 16


class _Output(io.FileIO):
    """The descriptor. The kernel says "try again" after a million of things of which the program has written nothing."""

    def readinto(self, buffer: Any) -> int:
        while True:
            count = super().readinto(buffer)
            if count is not None:
                return count


class Lines(io.BufferedReader):
    """What an iterator program writes, as a binary file; it is closed at the end of a loop, and by ``with``."""

    def __next__(self) -> bytes:
        try:
            return super().__next__()
        except StopIteration:
            self.close()
            raise


class TextLines(io.TextIOWrapper):
    """The same as text: UTF-8, with surrogates for what is none."""

    def __next__(self) -> str:  # type: ignore[override]  # as that of its base
        try:
            return super().__next__()
        except StopIteration:
            self.close()
            raise


def open_lines(fd: int, text: bool) -> Union[Lines, TextLines]:
    """A file on the descriptor, which it takes over."""
    lines = Lines(_Output(fd, "rb", closefd=True), SIZE)
    return TextLines(lines, encoding="utf-8", errors="surrogateescape", newline="\n") if text else lines
