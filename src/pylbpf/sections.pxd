"""The sections that libbpf knows by itself."""

cdef extern from * nogil:
    """
    #include <linux/bpf.h>

    /* What the header of Linux 6.1 lacks. */
    enum {
        PYLBPF_PROG_NETFILTER = 32,
        PYLBPF_NETFILTER = 45, PYLBPF_TCX_INGRESS, PYLBPF_TCX_EGRESS, PYLBPF_UPROBE_MULTI,
        PYLBPF_UNIX_CONNECT, PYLBPF_UNIX_SENDMSG, PYLBPF_UNIX_RECVMSG, PYLBPF_UNIX_GETPEERNAME, PYLBPF_UNIX_GETSOCKNAME,
        PYLBPF_NETKIT_PRIMARY, PYLBPF_NETKIT_PEER, PYLBPF_KPROBE_SESSION, PYLBPF_UPROBE_SESSION, PYLBPF_FSESSION,
        PYLBPF_FENTRY_MULTI, PYLBPF_FEXIT_MULTI, PYLBPF_FSESSION_MULTI,
    };

    enum pylbpf_attachment {
        PYLBPF_NOWHERE, PYLBPF_ON_KPROBE, PYLBPF_ON_KPROBES, PYLBPF_ON_SYSCALL, PYLBPF_ON_UPROBE, PYLBPF_ON_UPROBES,
        PYLBPF_ON_USDT, PYLBPF_ON_TRACEPOINT, PYLBPF_ON_RAW_TRACEPOINT, PYLBPF_ON_FUNCTION, PYLBPF_ON_FUNCTIONS,
        PYLBPF_ON_LSM, PYLBPF_ON_ITERATOR,
    };

    /* Sleepable and frags have the numbers that the kernel gives them as flags of BPF_PROG_LOAD. */
    enum pylbpf_trait {
        PYLBPF_RETURN = 1, PYLBPF_SESSION = 2, PYLBPF_TARGET = 4, PYLBPF_SLEEPS = 16, PYLBPF_FRAGS = 32,
    };

    struct pylbpf_section {
        const char *pattern;
        unsigned char program_type, attach_type, attachment, traits;
    };
    """
    struct Section "pylbpf_section":
        const char *pattern
        unsigned char program_type, attach_type, attachment, traits
    enum:
        UPROBE_MULTI "PYLBPF_UPROBE_MULTI"
        NOWHERE "PYLBPF_NOWHERE"
        ON_KPROBE "PYLBPF_ON_KPROBE"
        ON_KPROBES "PYLBPF_ON_KPROBES"
        ON_SYSCALL "PYLBPF_ON_SYSCALL"
        ON_UPROBE "PYLBPF_ON_UPROBE"
        ON_UPROBES "PYLBPF_ON_UPROBES"
        ON_USDT "PYLBPF_ON_USDT"
        ON_TRACEPOINT "PYLBPF_ON_TRACEPOINT"
        ON_RAW_TRACEPOINT "PYLBPF_ON_RAW_TRACEPOINT"
        ON_FUNCTION "PYLBPF_ON_FUNCTION"
        ON_FUNCTIONS "PYLBPF_ON_FUNCTIONS"
        ON_LSM "PYLBPF_ON_LSM"
        ON_ITERATOR "PYLBPF_ON_ITERATOR"
        RETURN "PYLBPF_RETURN"
        SESSION "PYLBPF_SESSION"
        TARGET "PYLBPF_TARGET"
        LOAD_FLAGS "(PYLBPF_SLEEPS | PYLBPF_FRAGS)"

# Whether a section name matches a pattern, by libbpf's rule: "abc" is that name, "abc/" whatever begins so, "abc+" is
# "abc" or "abc/...", NULL is any name.
cdef int match(const char *pattern, const char *name) noexcept nogil
# The table's entry for the name, or NULL.
cdef const Section *find(const char *name) noexcept nogil
# Whether some name matches the pattern and is known to libbpf too, of whatever version; false for NULL.
cdef bint overlaps_builtin(const char *pattern) noexcept nogil
cdef bint is_builtin(const char *name) noexcept nogil
# 0, or -ESRCH and nothing written.
cdef int builtin_type(const char *name, int *program_type, int *expected_attach_type) noexcept nogil
# The program type that all built-in sections share which overlap the pattern, and their attach type if that is one
# too, else 0. -ESRCH and UNSPEC if there is no such section, or no such type.
cdef int pattern_type(const char *pattern, int *program_type, int *expected_attach_type) noexcept nogil
