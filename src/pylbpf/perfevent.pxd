"""Perf events, and the attributes that buffers are made with too."""
from .c.uapi cimport __u32, __u64

cdef extern from "<linux/perf_event.h>" nogil:
    struct event_attr "perf_event_attr":
        __u32 type
        __u32 size
        __u64 config
        __u64 sample_period
        __u64 sample_freq
        __u64 sample_type
        __u64 read_format
        # Bit fields.
        __u64 disabled
        __u64 inherit
        __u64 exclude_user
        __u64 exclude_kernel
        __u64 exclude_hv
        __u64 freq
        __u64 precise_ip
        __u64 sample_id_all
        __u64 watermark
        __u64 write_backward
        __u32 wakeup_events
        __u32 wakeup_watermark
        __u64 config1
        __u64 config2

# The CPUs that are online, in their order.
cdef list online_cpus()
