from .atwork cimport AtWork
from .targets cimport Target


cdef class Hooking(AtWork):
    pass


# What a hook is of: an interface for tcx and netkit, else a path or descriptor.
cdef Target hook_target(object target, unsigned int attach_type)
