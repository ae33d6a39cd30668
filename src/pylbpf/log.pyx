"""libbpf's print callback: what it says goes to the call in progress and to a listener, never to stderr."""
import atexit as _atexit

from libc.errno cimport errno
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp, strchr, strlen, strncmp, strstr

from .c cimport libbpf
from .call cimport Call, add_line, add_verdict, current, keep_error
from .paths cimport number_of

cdef extern from "<stdarg.h>" nogil:
    void va_copy(libbpf.va_list target, libbpf.va_list source)
    void va_end(libbpf.va_list arguments)

cdef extern from "<stdio.h>" nogil:
    int vsnprintf(char *text, size_t size, const char *format, libbpf.va_list arguments)

cdef extern from "<unistd.h>" nogil:
    int usleep(unsigned int microseconds)

cdef extern from *:
    """
    #define pylbpf_add(counter, by) __atomic_add_fetch(counter, by, __ATOMIC_SEQ_CST)
    """
    int pylbpf_add(int *counter, int by) nogil

cdef int _inside = 0        # threads inside on_print()
cdef object _listener = None
cdef int _level = -1        # up to which level the listener wants lines; -1: there is none

cdef const char *PREFIX = b"libbpf: "
cdef const char *LOG_BEGIN = b"-- BEGIN PROG LOAD LOG --\n"
cdef const char *LOG_END = b"-- END PROG LOAD LOG --"
cdef const char *OTHER_TYPES = b"Error loading .BTF into kernel"


cdef bint take_verdict(Call *call, const char *line, bint rejected) noexcept nogil:
    """Keep a verifier log, which comes as: prog 'NAME': -- BEGIN PROG LOAD LOG -- ... -- END PROG LOAD LOG --."""
    cdef const char *begin = strstr(line, LOG_BEGIN)
    cdef const char *name = strchr(line, 39)      # an apostrophe
    cdef const char *name_end
    cdef const char *end
    cdef size_t rest
    if begin == NULL or name == NULL or name > begin:
        return False
    name += 1
    name_end = strchr(name, 39)
    begin += strlen(LOG_BEGIN)
    # The end is looked for from the back: searching megabytes of log forward would take long.
    rest = strlen(begin)
    end = begin + rest
    while end > begin and strncmp(end, LOG_END, strlen(LOG_END)) != 0:
        end -= 1
        if begin + rest - end > 64:
            break
    if strncmp(end, LOG_END, strlen(LOG_END)) != 0:
        end = begin + rest
    add_verdict(call, name, name_end - name, begin, end - begin, rejected)
    return True


cdef void tell_listener(int level, const char *line) noexcept with gil:
    from .enums import LogLevel
    cdef Call *call = current()
    listener = _listener
    if call != NULL:
        call.hearing += 1
    try:
        if listener is not None:
            listener(LogLevel(level), line.decode("utf-8", "replace").rstrip("\n"))
    except (KeyboardInterrupt, SystemExit) as error:
        # Not the listener's failure: it comes out of the call, where there is one.
        if call == NULL:
            raise
        keep_error(call, error)
    finally:
        if call != NULL:
            call.hearing -= 1


cdef int print_line(libbpf.libbpf_print_level level, const char *format, libbpf.va_list arguments) noexcept nogil:
    cdef Call *call = current()
    cdef bint listening = <int>level <= _level
    cdef bint keeping = call != NULL and (level == libbpf.LIBBPF_WARN or call.verbose)
    cdef bint verdict = keeping and strstr(format, LOG_BEGIN) != NULL
    cdef char small[512]
    cdef char *text = small
    cdef const char *line
    cdef libbpf.va_list again
    cdef int length
    cdef int kept_errno = errno
    if not (listening or verdict or (keeping and level == libbpf.LIBBPF_WARN)):
        return 0
    if call != NULL and call.part and strstr(format, OTHER_TYPES) != NULL:
        return 0                # as it should be: they are there already
    va_copy(again, arguments)
    length = vsnprintf(small, sizeof(small), format, arguments)
    if length >= <int>sizeof(small):
        text = <char *>malloc(length + 1)
        if text == NULL:
            text = small
        else:
            length = vsnprintf(text, length + 1, format, again)
    va_end(again)
    line = text
    if memcmp(line, PREFIX, strlen(PREFIX)) == 0:
        line += strlen(PREFIX)
    if verdict:
        take_verdict(call, line, level == libbpf.LIBBPF_WARN)
    elif keeping and level == libbpf.LIBBPF_WARN:
        add_line(call, line, strlen(line))
    if listening:
        tell_listener(level, line)
    if text != small:
        free(text)
    (&errno)[0] = kept_errno
    return 0


cdef int on_print(libbpf.libbpf_print_level level, const char *format, libbpf.va_list arguments) noexcept nogil:
    # Counted before _level is read: at exit the interpreter waits for those that may still take the GIL.
    cdef int result
    pylbpf_add(&_inside, 1)
    result = print_line(level, format, arguments)
    pylbpf_add(&_inside, -1)
    return result


cdef void warn(const char *line) noexcept nogil:
    """Say a line, with its newline, as a warning of libbpf's."""
    cdef Call *call = current()
    cdef int kept_errno = errno
    pylbpf_add(&_inside, 1)
    if call != NULL:
        add_line(call, line, strlen(line))
    if _level >= 0:
        tell_listener(libbpf.LIBBPF_WARN, line)
    pylbpf_add(&_inside, -1)
    (&errno)[0] = kept_errno


cdef bint listening() noexcept nogil:
    return _level >= 0


def _finish():
    global _level, _listener
    cdef int waited = 0
    _level = -1
    while pylbpf_add(&_inside, 0) and waited < 2000:
        with nogil:
            usleep(500)
        waited += 1
    _listener = None


def set_print(callback, level=None):
    """Send libbpf's lines to a callable, or to nobody with None; return the callable that was there before.

    ``callback(level, line)`` gets a LogLevel and the text without its newline, for lines up to ``level`` (default
    LogLevel.INFO). It runs on the thread that made the call and must not call back into the object at work; an
    exception in it is reported as unraisable and does not disturb the call. Warnings of a call that fails are kept
    in the exception's ``log`` whether or not somebody listens. Wraps libbpf_set_print(), which pylbpf sets at import.
    """
    global _listener, _level
    if callback is not None and not callable(callback):
        raise TypeError(f"callback must be callable or None, not {type(callback).__name__}")
    cdef int wanted = 1 if level is None else number_of(level, "level")
    if not 0 <= wanted <= 2:
        raise ValueError(f"level must be 0 (WARN), 1 (INFO) or 2 (DEBUG), not {wanted}")
    previous = _listener
    _level = -1
    _listener = callback
    if callback is not None:
        _level = wanted
    return previous


libbpf.libbpf_set_print(on_print)
# Threads may still be inside libbpf when the interpreter is gone.
_atexit.register(_finish)
