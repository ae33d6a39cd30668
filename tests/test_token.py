"""Tokens: rights that a BPF file system hands on to a user namespace."""
from __future__ import annotations

import ctypes
import os
import socket
import traceback

import pytest

import kernel
import pylbpf
from handling import run_python
from pylbpf import Map, MapType, Token
from test_fork import in_child

pytestmark = pytest.mark.bpf
C = ctypes.CDLL(None, use_errno=True)
FSOPEN, FSCONFIG, FSMOUNT = 430, 431, 432
SET_STRING, CREATE = 1, 6
NEW_USER, NEW_MOUNT = 0x10000000, 0x00020000


def checked(result: int) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def with_delegation(function) -> None:
    """Run in a child that may do nothing, but is given a BPF file system that delegates all: function(its descriptor)."""
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    child = os.fork()
    if child == 0:
        told = "killed"
        try:
            ours.close()
            checked(C.unshare(NEW_USER | NEW_MOUNT))
            context = checked(C.syscall(FSOPEN, b"bpf", 0))
            socket.send_fds(its, [b"?"], [context])
            _, (mount,), _, _ = socket.recv_fds(its, 1, 1)
            function(os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=mount))
            told = "fine"
        except BaseException:
            told = traceback.format_exc()
        finally:
            its.sendall(told.encode())
            os._exit(0)
    its.close()
    with ours:
        told, fds, _, _ = socket.recv_fds(ours, 1 << 16, 1)
        if fds:
            context, mount = fds[0], -1
            try:
                for name in (b"delegate_cmds", b"delegate_maps", b"delegate_progs", b"delegate_attachs"):
                    checked(C.syscall(FSCONFIG, context, SET_STRING, name, b"any", 0))
                checked(C.syscall(FSCONFIG, context, CREATE, None, None, 0))
                mount = checked(C.syscall(FSMOUNT, context, 0, 0))
                socket.send_fds(ours, [b"!"], [mount])
                told = b""
                while part := ours.recv(1 << 16):
                    told += part
            except OSError as error:
                ours.shutdown(socket.SHUT_RDWR)
                told = f"token: the kernel cannot delegate ({error})".encode()
            finally:
                for fd in (context, mount):
                    if fd >= 0:
                        os.close(fd)
    os.waitpid(child, 0)
    if told.startswith(b"token:"):
        pytest.skip(told.decode())
    assert told == b"fine", told.decode()


def needs_tokens() -> None:
    if pylbpf.libbpf_version() < (1, 4):
        pytest.skip("libbpf >= 1.4: bpf_token_create()")
    if not kernel.has_capability("CAP_SYS_ADMIN"):
        pytest.skip("root: only it can delegate")


def test_it_stands_for_rights():
    needs_tokens()

    def child(bpffs: int) -> None:
        with pytest.raises(PermissionError):
            Map.create(MapType.ARRAY, key_size=4, value_size=8, max_entries=1).close()
        with Token(bpffs) as token:
            assert token.fd == token.fileno() > 2 and not os.get_inheritable(token.fd)
            with Map.create(MapType.LPM_TRIE, key_size=8, value_size=8, max_entries=1, flags=1, token_fd=token.fd) as made:
                made.update(bytes(8), bytes(8))
        assert token.closed and repr(token) == "<Token: closed>"
        with pytest.raises(ValueError, match="closed"):
            token.fileno()
        token.close()

    with_delegation(child)


def test_an_object_takes_the_file_system(bpf_object):
    needs_tokens()
    path = bpf_object("xdp")

    def child(bpffs: int) -> None:
        with pylbpf.open(path) as obj:
            with pytest.raises(PermissionError):
                obj.load()
        with pylbpf.open(path, token_path=f"/proc/self/fd/{bpffs}") as obj:
            obj.programs["pass_frags"].autoload = False
            obj.load()
            assert obj.programs["pass"].fd >= 0
            if pylbpf.libbpf_version() >= (1, 5):
                assert obj.token_fd > 2

    with_delegation(child)


def test_child_of_a_fork_makes_its_own(bpf_objects):
    needs_tokens()

    def child(bpffs: int) -> None:
        token = Token(bpffs)

        def grandchild() -> None:
            with pytest.raises(pylbpf.StateError, match="forked child"):
                token.fileno()

        in_child(grandchild)
        token.close()

    with_delegation(child)


def test_what_delegates_nothing(bpffs, tmp_path):
    if pylbpf.libbpf_version() < (1, 4):
        with pytest.raises(pylbpf.NotSupported, match="bpf_token_create needs libbpf 1.4"):
            Token(bpffs)
        return
    for folder in bpffs, tmp_path:
        with pytest.raises(pylbpf.BpfError, match="create token of"):
            Token(folder)
    with pytest.raises(FileNotFoundError):
        Token(tmp_path / "nothing")
    with pytest.raises(TypeError):
        Token(None)


@pytest.mark.parametrize("what", ["'/nonexistent'", "'a\\0b'", "-1", "None", ""])
def test_what_is_no_token_closes_nothing(what):
    run_python(f"""
import os
import pylbpf
try:
    pylbpf.Token({what})
except (OSError, TypeError, ValueError):
    os.fstat(0)
else:
    raise SystemExit("a token")
""")
