from . import features as features
from . import query as query
from . import symbols as symbols
from . import xdp as xdp
from ._version import __version__ as __version__
from ._version import get_include as get_include
from ._version import get_libraries as get_libraries
from ._version import get_library_dirs as get_library_dirs
from ._version import libbpf_path as libbpf_path
from ._version import libbpf_version as libbpf_version
from ._version import libbpf_version_string as libbpf_version_string
from .attachmany import attach_many as attach_many
from .batch import load_many as load_many
from .bitfields import bit_field as bit_field
from .bitfields import set_bit_field as set_bit_field
from .btf import Btf as Btf
from .btf import Member as Member
from .corebtf import trimmed_btf as trimmed_btf
from .expedite import expedited as expedited
from .descriptors import Descriptors as Descriptors
from .enums import AttachFlags as AttachFlags
from .enums import AttachType as AttachType
from .enums import BtfKind as BtfKind
from .enums import IterOrder as IterOrder
from .enums import LinkType as LinkType
from .enums import LogLevel as LogLevel
from .enums import MapFlags as MapFlags
from .enums import MapType as MapType
from .enums import ProbeAttachMode as ProbeAttachMode
from .enums import ProgramFlags as ProgramFlags
from .enums import ProgramType as ProgramType
from .enums import State as State
from .enums import UpdateFlags as UpdateFlags
from .enums import XdpFlags as XdpFlags
from .errors import BpfError as BpfError
from .errors import HandlerBusyError as HandlerBusyError
from .errors import HandlerExistsError as HandlerExistsError
from .errors import LibbpfError as LibbpfError
from .errors import NotSupported as NotSupported
from .errors import StateError as StateError
from .errors import VerifierError as VerifierError
from .registry import HandlerStats as HandlerStats
from .variables import Globals as Globals
from .handlers import NativeHandler as NativeHandler
from .handlers import ProgramHandler as ProgramHandler
from .registry import Registration as Registration
from .registry import SectionInfo as SectionInfo
from .registry import handler_stats as handler_stats
from .registry import handlers as handlers
from .registry import register as register
from .registry import section_info as section_info
from .insns import Insn as Insn
from .insns import Insns as Insns
from .kernelprogram import KernelProgram as KernelProgram
from .info import BtfInfo as BtfInfo
from .info import MapInfo as MapInfo
from .info import ProgramInfo as ProgramInfo
from .link import Link as Link
from .linker import Linker as Linker
from .linker import link_files as link_files
from .linkinfo import LinkInfo as LinkInfo
from .linkset import LinkSet as LinkSet
from .linkset import detach_many as detach_many
from .loader import Loader as Loader
from .loadopts import LoadOpts as LoadOpts
from .log import set_print as set_print
from .map import Map as Map
from .maptypes import BloomFilter as BloomFilter
from .maptypes import Queue as Queue
from .memory import MapView as MapView
from .report import LoadReport as LoadReport
from .report import LoadResult as LoadResult
from .definition import possible_cpus as possible_cpus
from .object import Object as Object
from .object import open as open
from .program import FuncInfo as FuncInfo
from .program import LineInfo as LineInfo
from .program import Program as Program
from .consumer import Consumer as Consumer
from .aio import AsyncReader as AsyncReader
from .delivery import NativeCallback as NativeCallback
from .lease import Lease as Lease
from .record import Record as Record
from .record import RecordError as RecordError
from .recordbatch import RecordBatch as RecordBatch
from .ringbuf import RingBuffer as RingBuffer
from .readerstats import RingState as RingState
from .readerstats import RingStats as RingStats
from .perfbuf import PerfBuffer as PerfBuffer
from .perfring import PerfRecord as PerfRecord
from .perfevent import PerfEvent as PerfEvent
from .readerstats import PerfCpu as PerfCpu
from .readerstats import PerfStats as PerfStats
from .token import Token as Token
from .userring import UserRingBuffer as UserRingBuffer
from .usersample import UserSample as UserSample
from .runstats import stats_enabled as stats_enabled
from .tc import TcFilter as TcFilter
from .tc import TcHook as TcHook
from .testrun import TestRun as TestRun
from .verify.compare import VerifyChange as VerifyChange
from .verify.compare import VerifyComparison as VerifyComparison
from .verify.many import verify_many as verify_many
from .verify.report import VerifyReport as VerifyReport
from .verify.report import VerifyResult as VerifyResult

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

def __dir__() -> list[str]: ...
