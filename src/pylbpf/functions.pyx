"""Which functions of the kernel a pattern means: read once for many links.

For each kprobe.multi program libbpf reads all functions that the kernel can trace, some 60,000 lines that the kernel
makes anew each time. What it takes of them, and in which order, is done here in the same way.
"""
from libc.errno cimport EINTR, EINVAL, ENOENT, ENOMEM, errno
from libc.stdlib cimport bsearch, free, malloc, qsort, realloc, strtoul
from libc.string cimport memset, strcmp, strlen, strncmp, strpbrk, strstr
from posix.fcntl cimport O_CLOEXEC, O_RDONLY, open as open_file
from posix.unistd cimport F_OK, R_OK, access, close, read

from .c cimport libbpf

cdef enum:
    LONGEST = 499               # bytes of a name; libbpf leaves out the rest
    LONGEST_TRIMMED = 255       # without its suffix

cdef const char *SUFFIX = b".llvm."
cdef const char *SYMBOLS = b"/proc/kallsyms"


# Files

cdef char *read_text(const char *path) noexcept nogil:
    """The whole of a file without a size, ended by NUL; NULL and errno."""
    cdef size_t room = 4 << 20
    cdef size_t length = 0
    cdef ssize_t got = 1
    cdef char *text = NULL
    cdef char *grown
    cdef int code = 0
    cdef int fd = open_file(path, O_RDONLY | O_CLOEXEC)
    if fd < 0:
        return NULL
    while got:
        if text == NULL or room - length < 2:
            room *= 2
            grown = <char *>realloc(text, room)
            if grown == NULL:
                code = ENOMEM
                break
            text = grown
        got = read(fd, text + length, room - length - 1)
        if got > 0:
            length += got
        elif got < 0 and errno != EINTR:
            code = errno
            break
    close(fd)
    if code:
        free(text)
        (&errno)[0] = code
        return NULL
    text[length] = 0
    return text


cdef bint is_space(char letter) noexcept nogil:
    return letter == c' ' or c'\t' <= letter <= c'\r'


cdef char *take_word(char **text, bint in_line) noexcept nogil:
    """The next word, up to where the text goes on then; NULL at the end of the text, or of the line."""
    cdef char *word = text[0]
    cdef char *end
    while is_space(word[0]) and not (in_line and word[0] == c'\n'):
        word += 1
    text[0] = word
    if not word[0] or word[0] == c'\n':
        return NULL
    end = word
    while end[0] and not is_space(end[0]):
        end += 1
    text[0] = end
    return word


cdef char *next_line(char *text) noexcept nogil:
    """Behind the end of this line; what was cut off last gets its NUL."""
    cdef char *end = text
    while end[0] and end[0] != c'\n':
        end += 1
    if end[0]:
        end += 1
    text[0] = 0
    return end


# Functions

cdef Function *add(Functions *functions) noexcept nogil:
    cdef Function *grown
    if functions.count == functions.room:
        functions.room = functions.room * 2 + 1024
        grown = <Function *>realloc(functions.all, functions.room * sizeof(Function))
        if grown == NULL:
            return NULL
        functions.all = grown
    functions.count += 1
    return &functions.all[functions.count - 1]


cdef void shorten(char *name) noexcept nogil:
    if strlen(name) > LONGEST:
        name[LONGEST] = 0


cdef int take_lines(Functions *functions, char *text, bint addresses, bint types) noexcept nogil:
    """Add what each line tells: perhaps an address, perhaps a type, and a name."""
    cdef Function *function
    cdef char *number
    cdef char *type
    cdef char *name
    cdef char *following
    while True:
        number = type = NULL
        if addresses:
            number = take_word(&text, False)
        if types:
            type = take_word(&text, True)
        name = take_word(&text, addresses)
        if name == NULL:
            return 0 if number == NULL and not text[0] else -EINVAL
        following = next_line(text)
        shorten(name)
        function = add(functions)
        if function == NULL:
            return -ENOMEM
        function.address = strtoul(number, NULL, 16) if number != NULL else 0
        function.name = name
        function.kept = strlen(name)
        text = following


cdef int by_name(const void *one, const void *other) noexcept nogil:
    return strcmp((<const Function *>one).name, (<const Function *>other).name)


cdef bint contains(const Functions *sorted, const char *name) noexcept nogil:
    cdef Function wanted
    wanted.name = name
    return bsearch(&wanted, sorted.all, sorted.count, sizeof(Function), by_name) != NULL


cdef void keep_available(Functions *functions, const Functions *available) noexcept nogil:
    """Of all symbols those that can be traced. Some kernels list those without the suffix of the compiler."""
    cdef char trimmed[LONGEST_TRIMMED + 1]
    cdef Function *function
    cdef const char *suffix
    cdef size_t at, kept
    cdef size_t left = 0
    qsort(available.all, available.count, sizeof(Function), by_name)
    for at in range(functions.count):
        function = &functions.all[at]
        if not contains(available, function.name):
            suffix = strstr(function.name, SUFFIX)
            if suffix == NULL:
                continue
            kept = min(<size_t>(suffix - function.name), <size_t>LONGEST_TRIMMED)
            for place in range(kept):
                trimmed[place] = function.name[place]
            trimmed[kept] = 0
            if not contains(available, trimmed):
                continue
            function.kept = kept
        functions.all[left] = function[0]
        left += 1
    functions.count = left


cdef int take_symbols(Functions *functions, char *available, char *symbols) noexcept nogil:
    """From the list of functions without addresses, and that of all symbols."""
    cdef Functions listed
    cdef int code
    memset(&listed, 0, sizeof(listed))
    code = take_lines(&listed, available, False, False)
    if code == 0:
        code = take_lines(functions, symbols, True, True)
    if code == 0:
        keep_available(functions, &listed)
    free(listed.all)
    return code


cdef int read_functions(Functions *functions) noexcept nogil:
    cdef bint old = access(b"/sys/kernel/debug/tracing", F_OK) == 0     # libbpf looks there first
    cdef const char *addressed = (b"/sys/kernel/debug/tracing/available_filter_functions_addrs" if old
                                  else b"/sys/kernel/tracing/available_filter_functions_addrs")
    cdef const char *listed = (b"/sys/kernel/debug/tracing/available_filter_functions" if old
                               else b"/sys/kernel/tracing/available_filter_functions")
    cdef char *available
    cdef int code
    memset(functions, 0, sizeof(Functions))
    if access(addressed, R_OK) == 0:        # Linux 6.5
        functions.text = read_text(addressed)
        return -errno if functions.text == NULL else take_lines(functions, functions.text, True, False)
    available = read_text(listed)
    if available == NULL:
        return -errno
    functions.text = read_text(SYMBOLS)
    code = -errno if functions.text == NULL else take_symbols(functions, available, functions.text)
    free(available)
    return code


cdef void free_functions(Functions *functions) noexcept nogil:
    free(functions.text)
    free(functions.all)
    memset(functions, 0, sizeof(Functions))


# Patterns

cdef bint matches(const char *name, const char *end, const char *pattern) noexcept nogil:
    """By libbpf's rule: a question mark is any one letter, a star any number of them."""
    cdef const char *star = NULL        # the last one,
    cdef const char *retry = NULL       # and what comes behind what it stands for
    while name < end:
        if pattern[0] == c'*':
            star = pattern
            retry = name
            pattern += 1
        elif pattern[0] and (pattern[0] == c'?' or pattern[0] == name[0]):
            name += 1
            pattern += 1
        elif star != NULL:
            retry += 1
            name = retry
            pattern = star + 1
        else:
            return False
    while pattern[0] == c'*':
        pattern += 1
    return not pattern[0]


cdef int find_functions(const Functions *functions, const char *pattern, unsigned long **addresses, size_t *count) noexcept nogil:
    cdef unsigned long *found = NULL
    cdef unsigned long *grown
    cdef const Function *function
    cdef const char *name
    cdef size_t room = 0
    cdef size_t at, length
    count[0] = 0
    addresses[0] = NULL
    for at in range(functions.count):
        function = &functions.all[at]
        name = function.name
        length = strlen(name)
        if not matches(name, name + length, pattern):
            continue
        if function.kept < length and not matches(name, name + function.kept, pattern):
            continue
        if count[0] == room:
            room = room * 2 + 16
            grown = <unsigned long *>realloc(found, room * sizeof(unsigned long))
            if grown == NULL:
                free(found)
                return -ENOMEM
            found = grown
        found[count[0]] = function.address
        count[0] += 1
    addresses[0] = found
    return 0 if count[0] else -ENOENT


cdef bint reads_functions(const char *pattern) noexcept nogil:
    cdef unsigned int version = libbpf.libbpf_major_version() << 8 | libbpf.libbpf_minor_version()
    # Up to 1.2 it takes symbols that cannot be traced as well; from 1.7 on the kernel looks up what is no pattern.
    return version >= 0x103 and (version < 0x107 or strpbrk(pattern, b"*?") != NULL)


def addresses_of(pattern, *, addressed=None, available=None, symbols=None):
    """The addresses of the functions that a pattern (bytes) means: of this kernel, or of files like those in tracefs and
    like /proc/kallsyms (bytes). Raises OSError."""
    cdef Functions functions
    cdef unsigned long *found = NULL
    cdef size_t count = 0
    cdef int code
    memset(&functions, 0, sizeof(functions))
    # Copies, for they are cut up.
    texts = [None if text is None else bytearray(text + b"\0") for text in (addressed, available, symbols)]
    if addressed is not None:
        code = take_lines(&functions, texts[0], True, False)
    elif available is not None:
        code = take_symbols(&functions, texts[1], texts[2])
    else:
        with nogil:
            code = read_functions(&functions)
    if code == 0:
        code = find_functions(&functions, pattern, &found, &count)
    addresses = [found[at] for at in range(count)]
    free(found)
    free_functions(&functions)
    if code < 0:
        raise OSError(-code, "functions")
    return addresses
