"""Does the batch consumer keep up with a producer at full speed as well as C does?

    python benchmarks/sustained.py [SECONDS [NAME ...]]

A BPF program sends records of 64 bytes as fast as it can on one CPU into a ring of 16 MiB, while they are drained on
another: by C that copies each, by read_batch() into an array, by borrow(), and by the consumer thread. Prints how many came
and what share found no room.
"""
from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "tests")]

import objects  # noqa: E402
import pylbpf  # noqa: E402
from floor import Floor  # noqa: E402
from test_ringbuf import EVENT, SIZE, SOURCE  # noqa: E402

COUNTED = SOURCE.replace("if (bpf_ringbuf_output(&ring, record, sizeof(record), 0))\n\t\t\treturn i + 1;",
                         "if (bpf_ringbuf_output(&ring, record, sizeof(record), 0))\n\t\t\tdropped++;")


def produce(floor: Floor, program: int, stop: threading.Event, runs: list[int]) -> None:
    cpus = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(threading.get_native_id(), {cpus[0]})
    while not stop.is_set():
        floor.library.floor_run(program, 100)
        runs[0] += 100_000


def with_batches(ring: pylbpf.RingBuffer, end: float) -> int:
    import numpy as np

    into = np.empty(1 << 14, EVENT)
    total = 0
    while time.monotonic() < end:
        total += len(ring.read_batch(timeout=0.01, into=into))
    return total


def with_borrow(ring: pylbpf.RingBuffer, end: float) -> int:
    total = 0
    while time.monotonic() < end:
        with ring.borrow(1 << 14, timeout=0.01) as batch:
            batch.array["number"].sum()
            total += len(batch)
    return total


def with_consumer(ring: pylbpf.RingBuffer, end: float) -> int:
    total = 0
    with ring.start(block_records=1 << 14) as consumer:
        while time.monotonic() < end:
            array = consumer.get(0.01)
            total += 0 if array is None else len(array)
    return total + sum(map(len, consumer))


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 5.0
    floor = Floor()
    cpus = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cpus[-1]})
    for name in sys.argv[2:] or ("C", "read_batch", "borrow", "consumer"):
        with pylbpf.open(objects.build(COUNTED, "stream")) as obj:
            obj.load()
            stop, runs = threading.Event(), [0]
            producer = threading.Thread(target=produce, args=(floor, obj.programs["stream"].fd, stop, runs))
            ring = None if name == "C" else pylbpf.RingBuffer(obj.maps["ring"], type=EVENT)
            producer.start()
            if ring is None:
                total = floor.consume(obj.maps["ring"].fd, SIZE, seconds)
            else:
                run = {"read_batch": with_batches, "borrow": with_borrow, "consumer": with_consumer}[name]
                total = run(ring, time.monotonic() + seconds)
            stop.set()
            producer.join()
            bss = next(map for map in obj.maps.values() if map.name.endswith(".bss"))
            dropped = int.from_bytes(bss.lookup(bytes(4))[:8], sys.byteorder)
            print(f"{name:12} {runs[0] / seconds / 1e6:6.2f} M/s sent, {total / seconds / 1e6:6.2f} M/s came, "
                  f"{dropped / max(runs[0], 1):7.3%} had no room", flush=True)
            if ring is not None:
                ring.close()


if __name__ == "__main__":
    main()
