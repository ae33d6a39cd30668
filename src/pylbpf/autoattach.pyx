"""How libbpf attaches the programs of its own sections, by what the section's name says after the slash."""
from libc.errno cimport EINVAL, ENAMETOOLONG, errno
from libc.stdlib cimport free, strtol
from libc.string cimport memcpy, memset, strchr, strlen, strrchr, strspn

from .builtin cimport explain, target_of
from .c cimport libbpf
from .call cimport note_missing
from .functions cimport Functions, find_functions, reads_functions
from .link cimport HIDDEN_EVENT, NO_EVENT
from .sections cimport (
    NOWHERE, ON_FUNCTION, ON_FUNCTIONS, ON_ITERATOR, ON_KPROBE, ON_KPROBES, ON_LSM, ON_RAW_TRACEPOINT, ON_SYSCALL,
    ON_TRACEPOINT, ON_UPROBE, ON_UPROBES, ON_USDT, RETURN, SESSION, Section, find,
)
from .tracepoint cimport attach_tracepoint

cdef const char *SYMBOL = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_."
cdef const char *SYMBOLS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.*?"

libbpf.pylbpf_on_missing = note_missing


cdef int made(libbpf.bpf_link *made_link, libbpf.bpf_link **link) noexcept nogil:
    link[0] = made_link
    if made_link != NULL:
        return 0
    return -errno if errno else -EINVAL


cdef char *cut(char *text, char separator) noexcept nogil:
    """End the text at the separator; return what follows, NULL if that is nothing."""
    cdef char *found = strchr(text, separator)
    if found == NULL:
        return NULL
    found[0] = 0
    return found + 1 if found[1] else NULL


cdef int attach_kprobe(const libbpf.bpf_program *program, const Section *section, char *name,
                       libbpf.bpf_link **link) noexcept nogil:
    """FUNCTION[+OFFSET], or a pattern of functions. What cannot belong to a name is cut off, as libbpf does."""
    cdef bint several = section.attachment == ON_KPROBES
    cdef bint returns = section.traits & RETURN
    cdef size_t length = strspn(name, SYMBOLS if several else SYMBOL)
    cdef long offset = strtol(name + length + 1, NULL, 0) if name[length] == c'+' and not several else 0
    cdef libbpf.bpf_kprobe_opts opts
    cdef libbpf.bpf_kprobe_multi_opts multi
    if length == 0 or offset < 0 or (offset and returns):
        return explain(-EINVAL, program, b"needs FUNCTION[+OFFSET], and no offset for a return probe")
    name[length] = 0
    memset(&opts, 0, sizeof(opts))
    memset(&multi, 0, sizeof(multi))
    opts.sz = sizeof(opts)
    multi.sz = sizeof(multi)
    opts.retprobe = multi.retprobe = returns
    opts.offset = offset
    multi.session = section.traits & SESSION
    if several:
        return made(libbpf.bpf_program__attach_kprobe_multi_opts(program, name, &multi), link)
    return made(libbpf.bpf_program__attach_kprobe_opts(program, name, &opts), link)


cdef bint pattern_of(const libbpf.bpf_program *program, char *pattern, size_t room) noexcept nogil:
    """The pattern of functions that a program's section names, or False."""
    cdef const Section *section = find(libbpf.bpf_program__section_name(program))
    cdef const char *target = target_of(program)
    cdef size_t length
    if section == NULL or section.attachment != ON_KPROBES or target == NULL:
        return False
    length = strspn(target, SYMBOLS)
    if length == 0 or length >= room:
        return False
    memcpy(pattern, target, length)
    pattern[length] = 0
    return True


cdef bint is_on_functions(const libbpf.bpf_program *program) noexcept nogil:
    cdef char pattern[512]
    cdef const Section *section = find(libbpf.bpf_program__section_name(program))
    if not pattern_of(program, pattern, sizeof(pattern)) or not reads_functions(pattern):
        return False
    # An older libbpf has no such sections.
    return not section.traits & SESSION or libbpf.libbpf_major_version() > 1 or libbpf.libbpf_minor_version() >= 5


cdef int attach_functions(const libbpf.bpf_program *program, const Functions *functions, libbpf.bpf_link **link) noexcept nogil:
    cdef const Section *section = find(libbpf.bpf_program__section_name(program))
    cdef libbpf.bpf_kprobe_multi_opts opts
    cdef unsigned long *addresses
    cdef char pattern[512]
    cdef size_t count
    cdef int code
    link[0] = NULL
    if not pattern_of(program, pattern, sizeof(pattern)):
        return -EINVAL
    code = find_functions(functions, pattern, &addresses, &count)
    if code < 0:
        return code
    memset(&opts, 0, sizeof(opts))
    opts.sz = sizeof(opts)
    opts.addrs = addresses
    opts.cnt = count
    opts.retprobe = section.traits & RETURN
    opts.session = section.traits & SESSION
    code = made(libbpf.bpf_program__attach_kprobe_multi_opts(program, NULL, &opts), link)
    free(addresses)
    return code


cdef long take_offset(char **function) noexcept nogil:
    """Cut +NUMBER off a function; a NUMBER alone leaves NULL. Another plus is C++'s, and part of the name."""
    cdef char *plus = strrchr(function[0], c'+')
    cdef char *number = plus + 1 if plus != NULL else function[0]
    cdef char *end
    cdef long offset = strtol(number, &end, 0)
    if end == number or end[0]:
        return 0
    if plus == NULL:
        function[0] = NULL
    else:
        plus[0] = 0
    return offset


cdef int attach_uprobe(const libbpf.bpf_program *program, const Section *section, char *path,
                       libbpf.bpf_link **link) noexcept nogil:
    """PATH:FUNCTION[+OFFSET], PATH:OFFSET, or PATH:PATTERN."""
    cdef bint returns = section.traits & RETURN
    cdef char *function = cut(path, c':')
    cdef long offset
    cdef libbpf.bpf_uprobe_opts opts
    cdef libbpf.bpf_uprobe_multi_opts multi
    if function == NULL:
        return explain(-EINVAL, program, b"needs PATH:FUNCTION")
    if section.attachment == ON_UPROBES:
        memset(&multi, 0, sizeof(multi))
        multi.sz = sizeof(multi)
        multi.retprobe = returns
        multi.session = section.traits & SESSION
        return made(libbpf.bpf_program__attach_uprobe_multi(program, -1, path, function, &multi), link)
    offset = take_offset(&function)
    if offset and returns and function != NULL:
        return explain(-EINVAL, program, b"has an offset, which a return probe cannot have")
    memset(&opts, 0, sizeof(opts))
    opts.sz = sizeof(opts)
    opts.retprobe = returns
    opts.func_name = function
    return made(libbpf.bpf_program__attach_uprobe_opts(program, -1, path, offset, &opts), link)


cdef int attach_usdt(const libbpf.bpf_program *program, char *path, libbpf.bpf_link **link) noexcept nogil:
    cdef char *provider = cut(path, c':')
    cdef char *name = cut(provider, c':') if provider != NULL else NULL
    if name == NULL or path[0] == 0 or provider[0] == 0 or name[0] == c':':
        return explain(-EINVAL, program, b"needs PATH:PROVIDER:NAME")
    cut(name, c':')
    return made(libbpf.bpf_program__attach_usdt(program, -1, path, provider, name, NULL), link)


cdef int attach_text(const libbpf.bpf_program *program, const Section *section, char *text,
                     libbpf.bpf_link **link, int *event) noexcept nogil:
    """Attach to what the text says, a copy to be cut up."""
    cdef libbpf.bpf_ksyscall_opts opts
    cdef char *name
    cdef int kind = section.attachment
    if kind == ON_KPROBE or kind == ON_UPROBE or kind == ON_SYSCALL:
        event[0] = HIDDEN_EVENT
    if kind == ON_KPROBE or kind == ON_KPROBES:
        return attach_kprobe(program, section, text, link)
    if kind == ON_UPROBE or kind == ON_UPROBES:
        return attach_uprobe(program, section, text, link)
    if kind == ON_USDT:
        return attach_usdt(program, text, link)
    if kind == ON_RAW_TRACEPOINT:
        return made(libbpf.bpf_program__attach_raw_tracepoint(program, text), link)
    if kind == ON_FUNCTIONS:
        return made(libbpf.bpf_program__attach_tracing_multi(program, text, NULL), link)
    if kind == ON_TRACEPOINT:
        name = cut(text, c'/')
        if name == NULL:
            return explain(-EINVAL, program, b"needs CATEGORY/NAME")
        return made(attach_tracepoint(program, text, name, 0, event), link)
    memset(&opts, 0, sizeof(opts))
    opts.sz = sizeof(opts)
    opts.retprobe = section.traits & RETURN
    return made(libbpf.bpf_program__attach_ksyscall(program, text, &opts), link)


cdef int builtin_attach(const libbpf.bpf_program *program, libbpf.bpf_link **link, int *event) noexcept nogil:
    cdef const Section *section = find(libbpf.bpf_program__section_name(program))
    cdef const char *target = target_of(program)
    cdef char text[8192]        # paths have up to 4096 bytes, symbols of the kernel 512
    cdef size_t length
    cdef int kind
    link[0] = NULL
    event[0] = NO_EVENT
    if section == NULL or section.attachment == NOWHERE:
        return 0
    if libbpf.bpf_program__fd(program) < 0:
        return explain(-EINVAL, program, b"is of a program that was not loaded")
    kind = section.attachment
    # These were given their target when they were loaded.
    if kind == ON_FUNCTION:
        return made(libbpf.bpf_program__attach_trace(program), link)
    if kind == ON_LSM:
        return made(libbpf.bpf_program__attach_lsm(program), link)
    if kind == ON_ITERATOR:
        return made(libbpf.bpf_program__attach_iter(program, NULL), link)
    if target == NULL:
        return 0
    if target[0] == 0 or (target[0] == c':' and (kind == ON_UPROBE or kind == ON_UPROBES)):
        # To libbpf an uprobe without a path is one without a target; of the others it is an error.
        return 0 if kind == ON_UPROBE or kind == ON_UPROBES else explain(-EINVAL, program, b"ends with its slash")
    length = strlen(target)
    if length >= sizeof(text):
        return explain(-ENAMETOOLONG, program, b"is too long")
    memcpy(text, target, length + 1)
    return attach_text(program, section, text, link, event)
