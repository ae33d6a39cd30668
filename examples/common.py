"""What the tools share: opening, and a sentence about what is missing."""
from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import click
import pylbpf

FOLDER = Path(__file__).resolve().parent


@contextlib.contextmanager
def loaded(name: str, needs: str) -> Iterator[pylbpf.Object]:
    """The object of that name, opened and loaded; what the kernel refuses ends the tool with a sentence."""
    try:
        with pylbpf.open(FOLDER / f"{name}.bpf.o") as obj:
            obj.load()
            with contextlib.suppress(KeyboardInterrupt):
                yield obj
    except PermissionError as error:
        raise click.ClickException(
            f"not allowed: run it as root, or with CAP_BPF, CAP_PERFMON and, for networks, CAP_NET_ADMIN ({error})") from None
    except pylbpf.BpfError as error:
        btf = "" if os.path.exists("/sys/kernel/btf/vmlinux") else "\nThis kernel has no BTF: it was built without it."
        raise click.ClickException(f"{error}\n{name} needs {needs}.{btf}") from None


class Seconds(click.FloatRange):
    """A time that one can wait: nan is in no range, but click lets it pass."""

    def __init__(self, min: float) -> None:
        super().__init__(min, 1e9)

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = super().convert(value, param, ctx)
        if number != number:
            self.fail(f"{value!r} is not a number.", param, ctx)
        return number


# Numbers as the kernel has them: of a process, of a port.
PID = click.IntRange(1, 0x7FFFFFFF)
PORT = click.IntRange(0, 0xFFFF)

duration = click.option("-d", "--duration", type=Seconds(0), metavar="SECONDS",
                        help="End after so many seconds; else with Ctrl-C.")
