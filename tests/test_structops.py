"""struct_ops maps: attached, put in each other's place, associated with programs."""
from __future__ import annotations

import contextlib
import errno
import gc
import os
import socket
from typing import Iterator

import pytest

import pylbpf
import rings
from pylbpf import LinkType

VERSION = pylbpf.libbpf_version()
pytestmark = pytest.mark.bpf


@contextlib.contextmanager
def opened(path) -> Iterator[pylbpf.Object]:
    if VERSION < (1, 3):
        pytest.skip("libbpf >= 1.3: struct_ops links")
    with pylbpf.open(path) as obj:
        try:
            obj.load()
        except pylbpf.BpfError as error:
            pytest.skip(f"struct_ops: the kernel refuses such programs ({error.strerror})")
        yield obj


@pytest.fixture
def obj(bpf_object):
    with opened(bpf_object("struct_ops")) as obj:
        yield obj


def talk() -> None:
    """Send something over a connection that the test's congestion control is for."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"pylbpf_test")
        client.connect(server.getsockname())
        other, _ = server.accept()
        with other:
            for _ in range(20):
                client.sendall(bytes(10000))
                left = 10000
                while left:
                    left -= len(other.recv(left))


def calls(obj: pylbpf.Object) -> tuple[bool, bool]:
    """Whether the functions of the first, of the second were called."""
    obj.globals.first_calls = obj.globals.second_calls = 0
    talk()
    return obj.globals.first_calls > 0, obj.globals.second_calls > 0


def test_another_map_takes_the_place(obj):
    with obj.maps["first"].attach_struct_ops() as link:
        assert calls(obj) == (True, False) and link.info().type == LinkType.STRUCT_OPS
        link.update_map(obj.maps["second"])
        assert calls(obj) == (False, True) and link.program == obj.maps["second"] and "second" in link.name
        assert link.info().map_id == obj.maps["second"].info().id
        link.update_map(obj.maps["first"], old_map=obj.maps["second"])
        assert calls(obj) == (True, False)
        with pytest.raises(pylbpf.BpfError) as raised:
            link.update_map(obj.maps["second"], old_map=obj.maps["second"])
        assert raised.value.errno == errno.EPERM and link.program == obj.maps["first"]
    with pytest.raises(OSError):
        talk()


def test_links_from_a_pin_take_maps_that_were_attached(obj, bpffs):
    with obj.maps["second"].attach_struct_ops():
        pass
    with obj.maps["first"].attach_struct_ops() as link:
        link.pin(bpffs / "link")
        with pylbpf.Link.open(bpffs / "link") as other:
            other.update_map(obj.maps["second"])
            assert calls(obj) == (False, True) and other.program == obj.maps["second"]
            with pylbpf.Map.from_fd(obj.maps["first"]) as lone:
                other.update_map(lone)
            assert calls(obj) == (True, False) and "first" in other.name
        link.unpin()


def test_the_link_belongs_to_the_new_maps_object(bpf_object):
    with opened(bpf_object("struct_ops")) as one, opened(bpf_object("struct_ops")) as other:
        link = one.maps["first"].attach_struct_ops()
        link.update_map(other.maps["second"])
        one.close()
        assert not link.closed and calls(other) == (False, True)
        other.close()
        assert link.closed
        with pytest.raises(ValueError, match="closed"):
            link.update_map(other.maps["first"])


def test_a_closed_map_is_no_place_taker(bpf_object, obj):
    with opened(bpf_object("struct_ops")) as other:
        map = other.maps["second"]
    with obj.maps["first"].attach_struct_ops() as link:
        with pytest.raises(ValueError, match="closed"):
            link.update_map(map)
        assert calls(obj) == (True, False)


def test_what_is_not_struct_ops_is_refused(bpf_object):
    with rings.loaded(bpf_object("rings")) as obj, obj.programs["send"].attach() as link:
        with pytest.raises(pylbpf.NotSupported, match="RAW_TRACEPOINT cannot be updated"):
            link.update_map(obj.maps["even"], old_map=obj.maps["even"])
        with pytest.raises(TypeError, match="struct_ops Map"):
            link.update_map(obj.programs["send"])
        with pytest.raises((pylbpf.BpfError, pylbpf.NotSupported)):
            link.update_map(obj.maps["even"])
        with pytest.raises(TypeError, match="struct_ops Map"):
            obj.programs["send"].assoc_struct_ops(3)
        link.close()
        with pytest.raises(ValueError, match="closed"):
            link.update_map(obj.maps["even"])


def test_association_needs_a_newer_libbpf_or_a_struct_ops_map(bpf_object):
    with rings.loaded(bpf_object("rings")) as obj, pylbpf.Map.from_fd(obj.maps["even"]) as lone:
        for map in obj.maps["even"], lone:
            with pytest.raises(pylbpf.BpfError) as raised:
                obj.programs["send"].assoc_struct_ops(map)
            assert isinstance(raised.value, pylbpf.NotSupported) == (VERSION < (1, 7))


def test_a_dropped_link_warns_and_lets_go(obj):
    link = obj.maps["first"].attach_struct_ops()
    with pytest.warns(ResourceWarning, match="never closed"):
        del link
        gc.collect()
    with pytest.raises(OSError):
        talk()
    assert os.getpid()


# ---------------------------------------------------------------- registered maps: their links have no descriptor of their own


def test_a_registered_map_keeps_its_descriptor(registered):
    map = registered.maps["first"]
    link = map.attach_struct_ops()
    assert link.fd == map.fd
    for operation in (link.info, link.detach):
        with pytest.raises(pylbpf.NotSupported, match="a map that the kernel has registered"):
            operation()
    fd = link.disconnect()
    try:
        assert fd != map.fd
        talk()      # it stays registered
    finally:
        with pylbpf.Map.from_fd(fd) as lone:
            lone.delete(bytes(4))
        os.close(fd)
    with pytest.raises(OSError):
        talk()
    assert map.info().type is pylbpf.MapType.STRUCT_OPS


def test_a_forked_child_leaves_a_registered_map_alone(registered):
    fd = registered.maps["first"].fd
    with registered.maps["first"].attach_struct_ops() as link:
        child = os.fork()
        if child == 0:
            try:
                link.close()
                os.fstat(fd)
                os._exit(0)
            finally:
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        talk()


def test_descriptors_are_not_detached_from_a_registered_map(registered):
    with registered.maps["first"].attach_struct_ops(), pytest.raises(pylbpf.StateError, match="struct_ops"):
        registered.detach_fds()
