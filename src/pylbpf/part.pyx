"""A part of an object: opened beside it from the same bytes, with the object's maps and some of its programs.

libbpf loads the programs of one object one after the other, and there is no way to give it a descriptor from outside.
But it loads several objects at once. So those that several threads load an object with are whole objects to libbpf, in
which all other programs are switched off and all maps are the object's own. What the user has set there is set here.
"""
from libc.errno cimport EINVAL, ESTALE, errno
from libc.string cimport memcmp, strlen, strncmp
from posix.fcntl cimport O_CLOEXEC
from posix.unistd cimport close

from .c cimport btf as c_btf
from .c cimport libbpf, uapi
from .call cimport Call, Stand, enter, leave
from .opening cimport Job, load_object
from .overrides cimport enter_gate, unlock_gate
from .trampolines cimport declare_again

cdef extern from "<fcntl.h>" nogil:
    int fcntl(int fd, int command, ...)
    int F_DUPFD_CLOEXEC

cdef extern from "<unistd.h>" nogil:
    int dup3(int fd, int number, int flags)

cdef extern from "<string.h>" nogil:
    void *memmem(const void *text, size_t length, const void *word, size_t word_length)

cdef extern from * nogil:
    """
    #define pylbpf_get(place) __atomic_load_n(place, __ATOMIC_SEQ_CST)

    static void pylbpf_lower(size_t *place, size_t value)
    {
        size_t before = __atomic_load_n(place, __ATOMIC_SEQ_CST);
        while (value < before &&
               !__atomic_compare_exchange_n(place, &before, value, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
            ;
    }
    """
    size_t get "pylbpf_get"(size_t *place)
    void lower "pylbpf_lower"(size_t *place, size_t value)

cdef const char *NAME_BEGINS = b"prog '"
cdef const char *NOT_LOADED = b"': failed to load: "


# As the object is

cdef int set_alike(libbpf.bpf_program *own, libbpf.bpf_program *program, const Share *share) noexcept nogil:
    cdef int type = <int>libbpf.bpf_program__type(own)
    cdef size_t count = libbpf.bpf_program__insn_cnt(own)
    cdef const uapi.bpf_insn *insns = <const uapi.bpf_insn *>libbpf.bpf_program__insns(own)
    cdef size_t log_size = 0
    cdef const char *log = libbpf.bpf_program__log_buf(own, &log_size)
    cdef int code = declare_again(program, share.record)
    if code >= 0 and share.retyped:
        # Also where it was changed back: libbpf looks at the change, not at the type.
        code = libbpf.bpf_program__set_type(program, <uapi.bpf_prog_type>(2 if type == 1 else 1))
    if code >= 0:
        code = libbpf.bpf_program__set_type(program, <uapi.bpf_prog_type>type)
    if code >= 0:
        code = libbpf.bpf_program__set_expected_attach_type(program, libbpf.bpf_program__expected_attach_type(own))
    if code >= 0:
        code = libbpf.bpf_program__set_flags(program, libbpf.bpf_program__flags(own))
    if code >= 0:
        code = libbpf.bpf_program__set_log_level(program, libbpf.bpf_program__log_level(own))
    if code >= 0 and log != NULL:
        code = libbpf.bpf_program__set_log_buf(program, <char *>log, log_size)
    if code >= 0 and (libbpf.bpf_program__insn_cnt(program) != count or
                      memcmp(libbpf.bpf_program__insns(program), insns, count * sizeof(insns[0])) != 0):
        code = libbpf.bpf_program__set_insns(program, <uapi.bpf_insn *>insns, count)
    if code >= 0 and share.target != NULL:
        code = libbpf.bpf_program__set_attach_target(program, share.target_fd, share.target)
    libbpf.bpf_program__set_autoattach(program, libbpf.bpf_program__autoattach(own))
    if share.ifindex:
        libbpf.bpf_program__set_ifindex(program, share.ifindex)
    return code


cdef int take_programs(const Plan *plan, Part *part) noexcept nogil:
    cdef libbpf.bpf_program *own = libbpf.bpf_object__next_program(plan.object, NULL)
    cdef libbpf.bpf_program *program = libbpf.bpf_object__next_program(part.object, NULL)
    cdef size_t at = 0
    cdef bint ours
    cdef int code = 0
    while own != NULL and program != NULL and code >= 0:
        ours = at < part.count and part.shares[at].own == own
        if ours:
            code = set_alike(own, program, &part.shares[at])
            part.stands[at].own = own
            part.stands[at].part = program
            at += 1
        if code >= 0:
            code = libbpf.bpf_program__set_autoload(program, ours)
        own = libbpf.bpf_object__next_program(plan.object, own)
        program = libbpf.bpf_object__next_program(part.object, program)
    if code >= 0 and (own != NULL or program != NULL or at < part.count):
        code = -ESTALE
    return code


cdef int take_maps(const Plan *plan, libbpf.bpf_object *part) noexcept nogil:
    cdef libbpf.bpf_map *own = libbpf.bpf_object__next_map(plan.object, NULL)
    cdef libbpf.bpf_map *map = libbpf.bpf_object__next_map(part, NULL)
    cdef int code = 0
    while own != NULL and map != NULL and code >= 0:
        code = libbpf.bpf_map__set_pin_path(map, NULL)
        if code >= 0 and libbpf.bpf_map__autocreate(own):
            code = libbpf.bpf_map__reuse_fd(map, libbpf.bpf_map__fd(own))
        elif code >= 0:
            code = libbpf.bpf_map__set_autocreate(map, False)
        own = libbpf.bpf_object__next_map(plan.object, own)
        map = libbpf.bpf_object__next_map(part, map)
    if code >= 0 and (own != NULL or map != NULL):
        code = -ESTALE
    return code


cdef int take_btf(const Plan *plan, libbpf.bpf_object *part) noexcept nogil:
    """Make a part use the types that the kernel has for the object; return the descriptor, or -1.

    For the kernel two sets of types are two, however alike: what a map holds by the types of one cannot be used by a
    program with those of the other. libbpf has no word for this, but where its types have a descriptor already, it goes
    on with that one instead of loading them.
    """
    cdef c_btf.btf *own = libbpf.bpf_object__btf(plan.object)
    cdef c_btf.btf *types = libbpf.bpf_object__btf(part)
    cdef int fd = -1
    if own != NULL and types != NULL and c_btf.btf__fd(own) >= 0:
        fd = fcntl(c_btf.btf__fd(own), F_DUPFD_CLOEXEC, <int>3)
        if fd >= 0:
            c_btf.btf__set_fd(types, fd)
    return fd


# Open and load

cdef int open_part(const Plan *plan, Part *part) noexcept nogil:
    cdef const Job *job = plan.job
    cdef int code = 0
    enter_gate()
    part.object = libbpf.bpf_object__open_mem(job.data, job.size, &job.opts)
    if part.object == NULL:
        code = -errno if errno else -EINVAL
    unlock_gate()
    if code == 0:
        code = libbpf.bpf_object__set_kversion(part.object, libbpf.bpf_object__kversion(plan.object))
    if code >= 0:
        code = take_maps(plan, part.object)
    if code >= 0:
        code = take_programs(plan, part)
    return code


cdef void note_failure(Plan *plan, const Part *part) noexcept nogil:
    cdef bint before_load = False
    cdef size_t place
    if part.code < 0:
        place = failing(part, &before_load)
        # Before any program is loaded all are relocated: what fails there comes before everything else.
        lower(&plan.failed, 0 if before_load else place)


cdef void load_part(void *context, size_t number) noexcept nogil:
    """Work for a thread: a whole part, unless another one has failed at an earlier program."""
    cdef Plan *plan = <Plan *>context
    cdef Part *part = &plan.parts[number]
    cdef int fd = -1
    if part.shares[0].place > get(&plan.failed):
        return
    part.begun = True
    enter(&part.call, plan.handle)
    part.call.part = True
    part.call.verbose = plan.verbose
    part.call.signals = plan.signals
    part.call.blocked = plan.blocked
    part.code = open_part(plan, part)
    if part.code >= 0:
        part.call.length = 0        # of what an open says the object has had its share
        part.call.stands = part.stands
        part.call.stand_count = part.count
        fd = take_btf(plan, part.object)
        part.code = load_object(part.object, &part.call, False)
        if fd >= 0 and c_btf.btf__fd(libbpf.bpf_object__btf(part.object)) != fd:
            close(fd)               # libbpf had to load types of its own
    leave(&part.call)
    note_failure(plan, part)


cdef void load_own(Plan *plan, Part *part) noexcept nogil:
    """The object itself, already prepared, after its parts: the programs that were not given away."""
    part.begun = True
    enter(&part.call, plan.handle)
    part.call.verbose = plan.verbose
    part.code = load_object(part.object, &part.call, False)
    leave(&part.call)
    note_failure(plan, part)


# What became of it

cdef size_t place_of(const Part *part, const char *name, size_t length) noexcept nogil:
    """Where a program stands in the order of the file; where the part's first one does, if it has none of that name."""
    cdef const char *known
    cdef size_t at
    for at in range(part.count):
        known = libbpf.bpf_program__name(part.shares[at].own)
        if strlen(known) == length and strncmp(known, name, length) == 0:
            return part.shares[at].place
    return part.shares[0].place if part.count else 0


cdef size_t failing(const Part *part, bint *before_load) noexcept nogil:
    """The place of the program that a part failed at, as libbpf named it: the last one."""
    cdef const char *lines = part.call.lines
    cdef const char *end
    cdef const char *found
    cdef const char *name = NULL
    cdef const char *name_end = NULL
    before_load[0] = False
    if part.call.last != NULL and part.call.last.rejected:
        return place_of(part, part.call.last.program, strlen(part.call.last.program))
    if lines == NULL or memmem(lines, part.call.length, NOT_LOADED, strlen(NOT_LOADED)) == NULL:
        before_load[0] = True
    if lines == NULL:
        return part.shares[0].place
    end = lines + part.call.length
    found = <const char *>memmem(lines, end - lines, NAME_BEGINS, strlen(NAME_BEGINS))
    while found != NULL:
        name = found + strlen(NAME_BEGINS)
        found = <const char *>memmem(name, end - name, NAME_BEGINS, strlen(NAME_BEGINS))
    if name != NULL:
        name_end = <const char *>memmem(name, end - name, b"'", 1)
    return part.shares[0].place if name_end == NULL else place_of(part, name, name_end - name)


cdef void empty(libbpf.bpf_object *object, int null) noexcept nogil:
    """After a failure: nothing of it stays in the kernel, while what it says of itself and its instructions stay.

    The numbers of its descriptors are libbpf's until it is closed, so something harmless is put over them.
    """
    cdef libbpf.bpf_program *program = libbpf.bpf_object__next_program(object, NULL)
    cdef libbpf.bpf_map *map = libbpf.bpf_object__next_map(object, NULL)
    while program != NULL:
        libbpf.bpf_program__unload(program)
        program = libbpf.bpf_object__next_program(object, program)
    while map != NULL:
        if null >= 0 and libbpf.bpf_map__fd(map) >= 0:
            dup3(null, libbpf.bpf_map__fd(map), O_CLOEXEC)
        map = libbpf.bpf_object__next_map(object, map)
