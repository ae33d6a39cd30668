"""What does one record cost, drained from a full ring buffer?

100,000 records of 64 bytes, written by a BPF program before the clock starts; opening the ring buffer is not timed.
The C floor counts, or copies each record. ctypes has a callback that counts, and one that makes bytes of the record, as
pylbpf always does. The number of records and their bytes are checked.
"""
import ctypes
from itertools import islice
from time import thread_time_ns as now

import objects
import peer_ctypes
import pylbpf
from race import Row

RUNS = 100
EACH = 1000
N = RUNS * EACH
SIZE = 64
SOURCE = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 1 << 24); } ring SEC(".maps");
SEC("syscall") int fill(void *ctx)
{
	__u64 record[8] = {};

	for (__u32 i = 0; i < 1000; i++) {
		record[0] = i;
		if (bpf_ringbuf_output(&ring, record, sizeof(record), BPF_RB_NO_WAKEUP))
			return 1;
	}
	return 0;
}
char _license[] SEC("license") = "GPL";
"""
EXPECTED = [i.to_bytes(8, "little") + bytes(56) for i in range(EACH)] * RUNS


def with_callback(map):
    got = []
    with pylbpf.RingBuffer(map, got.append) as ring:
        start = now()
        ring.consume()
        took = now() - start
    assert got == EXPECTED
    return took


def iterated(map):
    with pylbpf.RingBuffer(map) as ring:
        start = now()
        got = list(islice(ring, N))
        took = now() - start
    assert got == EXPECTED
    return took


def ctypes_counting(fd):
    seen = 0

    def count(context, data, size):
        nonlocal seen
        seen += 1
        return 0

    took = peer_ctypes.drain(fd, count)
    assert seen == N
    return took


def ctypes_bytes(fd):
    got = []
    append, string_at = got.append, ctypes.string_at

    def copy(context, data, size):
        append(string_at(data, size))
        return 0

    took = peer_ctypes.drain(fd, copy)
    assert got == EXPECTED
    return took


def test_ring_buffer(race, floor, bpf):
    copy = ctypes.create_string_buffer(N * SIZE)
    with pylbpf.open(objects.build(SOURCE, "fill")) as obj:
        obj.load()
        ring, fill = obj.maps["ring"], obj.programs["fill"].fd

        def filled(drain):
            def run():
                floor.library.floor_run(fill, RUNS)
                return {"drain": drain()}

            return run

        race(
            {
                "C count": filled(lambda: floor.drain(ring.fd, N, SIZE)),
                "C copy": filled(lambda: floor.drain(ring.fd, N, SIZE, copy=copy)),
                "pylbpf callback": filled(lambda: with_callback(ring)),
                "pylbpf iteration": filled(lambda: iterated(ring)),
                "ctypes count": filled(lambda: ctypes_counting(ring.fd)),
                "ctypes bytes": filled(lambda: ctypes_bytes(ring.fd)),
            },
            [Row("drain", ["drain"], N, against="C copy")],
            timed="pylbpf callback",
        )
