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


duration = click.option("-d", "--duration", type=click.FloatRange(min=0), metavar="SECONDS",
                        help="End after so many seconds; else with Ctrl-C.")
