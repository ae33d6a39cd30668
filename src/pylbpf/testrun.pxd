# Run a loaded program once or more on data that is made up.
from .link cimport Linked

cdef object test_run(Linked program, int type, object data, object ctx, object repeat, object cpu, object flags,
                     object batch_size, bint live_frames, object data_size_out)
