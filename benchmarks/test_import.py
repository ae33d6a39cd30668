"""What does `import pylbpf` cost over the bare interpreter, in CPU time and memory?

Whole processes, from start to exit: CPU time as the kernel accounts it to the child, resident memory as the child reads
it at its end. What the bare interpreter takes is taken off, minimum from minimum and median from median. The ctypes
peer loads the same libbpf.
"""
import os
import subprocess
import sys

import pylbpf
from floor import BUILD
from race import Row

REPORT = "\nwith open('/proc/self/statm') as f: print(f.read())"
PAGE = os.sysconf("SC_PAGE_SIZE")
SOURCES = {
    "bare": "pass",
    "pylbpf": "import pylbpf",
    "pylbpf and enums": "import pylbpf; pylbpf.ProgramType",
    "ctypes and libbpf": "import ctypes; ctypes.CDLL('libbpf.so.1')",
}


def process(source):
    """CPU nanoseconds and resident bytes of a Python that does this."""
    child = subprocess.Popen([sys.executable, "-c", source + REPORT], stdout=subprocess.PIPE, cwd="/", env=ENVIRONMENT)
    out = child.stdout.read()
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    child.stdout.close()
    assert child.returncode == 0
    return int((usage.ru_utime + usage.ru_stime) * 1e9), int(out.split()[1]) * PAGE


# As installed: with byte code at hand, which the first, untimed round writes.
ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if not name.startswith("PYTHON")},
    "PYTHONPATH": os.path.dirname(os.path.dirname(pylbpf.__file__)),
    "PYTHONPYCACHEPREFIX": str(BUILD / "pycache"),
}


def whole(source):
    cpu, memory = process(source)
    return {"cpu": cpu, "memory": memory}


def in_process(source):
    """The import alone, timed inside the child."""
    timed = f"from time import process_time_ns as now\nstart = now()\n{source}\nprint(now() - start)"
    out = subprocess.run([sys.executable, "-c", timed], stdout=subprocess.PIPE, cwd="/", env=ENVIRONMENT, check=True)
    return {"import": int(out.stdout)}


def test_import_over_bare(race):
    race(
        {name: (lambda source=source: whole(source)) for name, source in SOURCES.items()},
        [
            Row("CPU", ["cpu"], 1, "ms", against="", over="bare", limits={"pylbpf": 6}),
            Row("memory", ["memory"], 1 << 20, "MiB", against="", over="bare", limits={"pylbpf": 3}),
        ],
    )


def test_import_alone(race):
    race(
        {name: (lambda source=source: in_process(source)) for name, source in SOURCES.items() if name != "bare"},
        [Row("CPU", ["import"], 1, "ms", against="", limits={"pylbpf": 6})],
    )
