"""Every kind of link: it fires, is replaced, found, detached, and stops; and what may go wrong does so in words."""
from __future__ import annotations

import contextlib
import errno
import gc
import warnings

import pytest

import hooks
import kernel
import pylbpf
from attaching import take
from hooks import KINDS
from test_fork import in_child

pytestmark = pytest.mark.bpf


class Case:
    """A kind, an object with its two programs, and where they are attached."""

    def __init__(self, kind, obj, programs, place) -> None:
        self.kind, self.obj, self.programs, self.place = kind, obj, programs, place

    def attach(self, program=None) -> pylbpf.Link:
        return self.kind.attach(program or self.programs[0], self.place)

    def runs(self) -> tuple[bool, bool]:
        """Which of the two programs run when there is a reason to."""
        take(self.obj, 0), take(self.obj, 1)
        self.kind.trip(self.place)
        return take(self.obj, 0) > 0, take(self.obj, 1) > 0


@pytest.fixture(params=KINDS)
def case(request, bpf_object):
    kind = KINDS[request.param]
    with contextlib.ExitStack() as stack:
        obj, programs = stack.enter_context(hooks.opened(request.param, kind, bpf_object))
        yield Case(kind, obj, programs, hooks.Place(request, stack, obj))


@pytest.fixture(params=[name for name in KINDS if name != "usdt"])
def with_descriptor(request, bpf_object):
    """The kinds whose links the kernel knows by a descriptor."""
    kind = KINDS[request.param]
    with contextlib.ExitStack() as stack:
        obj, programs = stack.enter_context(hooks.opened(request.param, kind, bpf_object))
        yield Case(kind, obj, programs, hooks.Place(request, stack, obj))


def test_it_fires_until_the_link_is_closed(case):
    assert case.runs() == (False, False)
    with case.attach() as link:
        assert case.runs() == (True, False)
        assert link.program == case.programs[0]
    assert case.runs() == (False, False)
    with case.attach(case.programs[1]):
        assert case.runs() == (False, True)


def test_another_program_takes_its_place_or_that_is_refused(with_descriptor):
    case = with_descriptor
    with case.attach() as link:
        if case.kind.updates:
            link.update(case.programs[1])
            assert case.runs() == (False, True)
            assert link.program == case.programs[1]
        else:
            with pytest.raises(pylbpf.BpfError) as raised:
                link.update(case.programs[1])
            assert raised.value.errno in (errno.EINVAL, errno.EOPNOTSUPP)
            assert case.runs() == (True, False)
    assert case.runs() == (False, False)


def test_it_is_found_by_its_number(with_descriptor):
    case = with_descriptor
    with case.attach() as link:
        info = link.info()
        assert info.prog_id == case.programs[0].info().id
        if info.id:  # where the kernel has no links of this kind it is a perf event
            assert pylbpf.query.link(info.id) == info and info in pylbpf.query.links()
        if case.kind.where:
            there = pylbpf.query.attached(case.kind.where(case.place), case.programs[0].expected_attach_type)
            assert info.prog_id in {each.prog_id for each in there.programs}
    if case.kind.where:
        there = pylbpf.query.attached(case.kind.where(case.place), case.programs[0].expected_attach_type)
        assert info.prog_id not in {each.prog_id for each in there.programs}


def test_it_is_detached_or_that_is_refused(with_descriptor):
    case = with_descriptor
    with case.attach() as link:
        if case.kind.detaches:
            link.detach()
            assert case.runs() == (False, False) and not link.closed
        else:
            with pytest.raises(pylbpf.BpfError) as raised:
                link.detach()
            assert raised.value.errno == errno.EOPNOTSUPP
            assert case.runs() == (True, False)


def test_object_that_is_closed_first_takes_the_link_along(case):
    link = case.attach()
    case.obj.close()
    assert link.closed
    for operation in (link.detach, link.fileno, lambda: link.update(case.programs[0])):
        with pytest.raises(ValueError, match="closed"):
            operation()


def test_dropped_link_warns_and_stops(case):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        case.attach()
        gc.collect()
    assert [str(each.message) for each in caught if each.category is ResourceWarning and "was never closed" in str(each.message)]
    assert case.runs() == (False, False)


def test_child_leaves_the_parents_link_alone(case):
    with case.attach() as link:
        def child() -> None:
            for operation in (link.detach, lambda: link.update(case.programs[1]), lambda: case.attach()):
                with pytest.raises(pylbpf.StateError):
                    operation()
            link.close()

        in_child(child)
        assert case.runs() == (True, False)


def test_wrong_target(case):
    before = kernel.own_link_ids()
    with pytest.raises(OSError) as raised:
        case.kind.wrong(case.programs[0]).close()
    assert isinstance(raised.value, pylbpf.BpfError) or raised.value.filename or "open" in str(raised.value)
    assert kernel.own_link_ids() == before


def test_without_rights(request, case, bpf_object):
    """Loading needs rights anyway; some kinds need them to attach, too. None crashes, and the words say what failed."""
    if not kernel.has_capability("CAP_SYS_ADMIN"):
        pytest.skip("root: no rights that could be dropped")
    name = request.node.callspec.params["case"]
    with contextlib.closing(case.attach()):  # whatever the place has to have is there now
        pass

    def child() -> None:
        with hooks.opened(name, case.kind, bpf_object) as (obj, programs):
            case.place.obj = obj
            hooks.drop_rights()
            try:
                case.kind.attach(programs[0], case.place).close()
            except pylbpf.BpfError as error:
                assert isinstance(error, PermissionError) and programs[0].name in str(error), str(error)
            else:
                assert not case.kind.rights

    in_child(child)
