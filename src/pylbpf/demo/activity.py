"""Something to see on a quiet machine: a small process of the demo's own that does a little of everything."""
from __future__ import annotations

import subprocess
import sys
import tempfile

_SCRIPT = """
import os, select, socket, sys
with open("/proc/self/comm", "w") as comm:
    comm.write("pylbpf-guest")
folder = os.open(sys.argv[1], os.O_RDONLY)
name = f"pylbpf-demo-{os.getpid()}"
while not select.select([sys.stdin], [], [], 0.4)[0]:  # ends when the demo does
    open("/etc/hostname").close()
    os.close(os.open(name, os.O_CREAT | os.O_EXCL, 0o600, dir_fd=folder))
    os.unlink(name, dir_fd=folder)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.connect(("127.0.0.1", 53))
    os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0)
    sum(range(500_000))
"""


class Guest:
    """`with Guest():` keeps the process running."""

    def __enter__(self) -> Guest:
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _SCRIPT, tempfile.gettempdir()],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for the demo alone
        )
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            self.process.wait(2)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
