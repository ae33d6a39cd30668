"""pylbpf: libbpf for Python, with custom SEC() handlers.

    import pylbpf

    with pylbpf.open("app.bpf.o") as obj:
        obj.load()
        obj.attach()
        for record in obj.ring_buffer("events").records(timeout=1.0):
            ...
"""
import os as _os

if _os.path.exists(_os.path.join(_os.path.dirname(__file__), "pylbpf-rooms.so")):
    from . import _together
    _together.find_rooms(__path__)      # a reload has forgotten it
elif not _os.path.isdir(_os.path.dirname(__file__)):
    raise ImportError("pylbpf has libraries, which cannot be imported from an archive: unpack it", name=__name__, path=__file__)

from . import log as _log  # noqa: F401  first: from here on libbpf is silent
from .object import Object, open
from .program import FuncInfo, LineInfo, Program
from .insns import Insn, Insns
from .link import Link
from .handlers import NativeHandler, ProgramHandler
from .registry import (
    HandlerStats,
    Registration,
    SectionInfo,
    handler_stats,
    handlers,
    register,
    section_info,
)
from .loadopts import LoadOpts
from .errors import (
    BpfError,
    HandlerBusyError,
    HandlerExistsError,
    LibbpfError,
    NotSupported,
    StateError,
    VerifierError,
)
from .log import set_print
from ._version import (
    __version__,
    get_include,
    get_libraries,
    get_library_dirs,
    libbpf_path,
    libbpf_version,
    libbpf_version_string,
)

# What is imported when it is first asked for: an import of pylbpf must not cost what few need.
_LATER = {
    **dict.fromkeys(("AttachType", "BtfKind", "LinkType", "LogLevel", "MapFlags", "MapType", "ProgramFlags", "ProgramType", "State",
                     "UpdateFlags", "AttachFlags", "XdpFlags", "ProbeAttachMode", "IterOrder"), "enums"),
    "load_many": "batch", "LoadReport": "report", "LoadResult": "report", "trimmed_btf": "corebtf",
    "attach_many": "attachmany", "detach_many": "linkset", "LinkSet": "linkset", "expedited": "expedite",
    "Descriptors": "descriptors", "Map": "map", "possible_cpus": "definition", "Btf": "btf", "MapView": "memory", "Queue": "maptypes", "BloomFilter": "maptypes",
    "Member": "btf", "Globals": "variables", "bit_field": "bitfields", "set_bit_field": "bitfields",
    "RingBuffer": "ringbuf", "Record": "record", "RecordError": "record", "RecordBatch": "recordbatch", "Lease": "lease",
    "NativeCallback": "delivery", "AsyncReader": "aio", "Consumer": "consumer", "RingStats": "readerstats", "RingState": "readerstats",
    "UserRingBuffer": "userring", "UserSample": "usersample",
    "KernelProgram": "kernelprogram",
    "LinkInfo": "linkinfo", "ProgramInfo": "info", "MapInfo": "info", "BtfInfo": "info",
    "TestRun": "testrun", "stats_enabled": "runstats", "query": "", "features": "", "symbols": "", "xdp": "",
    "TcHook": "tc", "TcFilter": "tc", "Linker": "linker", "link_files": "linker", "Loader": "loader", "Token": "token",
    "PerfEvent": "perfevent", "PerfBuffer": "perfbuf", "PerfRecord": "perfring", "PerfStats": "readerstats",
    "PerfCpu": "readerstats",
    **dict.fromkeys(("verify_many", "VerifyReport", "VerifyResult", "VerifyComparison", "VerifyChange"), "verify"),
}

__all__ = [
    "open", "Object", "State", "Descriptors",
    "Program", "KernelProgram", "Insn", "Insns", "FuncInfo", "LineInfo", "TestRun", "ProgramInfo",
    "Map", "MapView", "MapInfo", "Queue", "BloomFilter", "Globals",
    "Btf", "Member", "bit_field", "set_bit_field", "BtfInfo",
    "Link", "LinkSet", "LinkInfo",
    "query", "features", "symbols", "stats_enabled", "xdp", "TcHook", "TcFilter",
    "Linker", "link_files", "Loader", "Token",
    "RingBuffer", "Record", "RecordBatch", "RecordError", "Lease", "NativeCallback", "AsyncReader", "Consumer", "RingStats", "RingState",
    "PerfBuffer", "PerfRecord", "PerfStats", "PerfCpu", "PerfEvent", "UserRingBuffer", "UserSample",
    "ProgramHandler", "NativeHandler", "LoadOpts", "Registration", "register", "handlers",
    "section_info", "SectionInfo", "handler_stats", "HandlerStats",
    "load_many", "LoadReport", "LoadResult",
    "attach_many", "detach_many", "expedited",
    "verify_many", "VerifyReport", "VerifyResult", "VerifyComparison", "VerifyChange",
    "ProgramType", "AttachType", "MapType", "LinkType", "BtfKind",
    "ProgramFlags", "MapFlags", "UpdateFlags", "LogLevel",
    "AttachFlags", "XdpFlags", "ProbeAttachMode", "IterOrder",
    "BpfError", "LibbpfError", "VerifierError", "StateError", "HandlerBusyError", "HandlerExistsError", "NotSupported",
    "set_print",
    "trimmed_btf", "possible_cpus",
    "get_include", "get_libraries", "get_library_dirs", "libbpf_path",
    "libbpf_version", "libbpf_version_string", "__version__",
]


def __getattr__(name):
    room = _LATER.get(name)
    if room is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module
    # What is in no room is a room.
    found = globals()[name] = getattr(import_module(f".{room}", __name__), name) if room else import_module(f".{name}", __name__)
    return found


def __dir__():
    return sorted({*globals(), *_LATER})
