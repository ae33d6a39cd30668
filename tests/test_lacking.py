"""What the kernel lacks is said in words, by whatever number it refuses."""
from __future__ import annotations

import errno

import pytest

import kernel
import pylbpf
from attaching import loaded
from pylbpf import features, lacking
from pylbpf.attach import explained


@pytest.fixture
def poor(monkeypatch, tmp_path):
    """A kernel without probes and without links."""
    monkeypatch.setattr(lacking, "DEVICES", str(tmp_path))
    monkeypatch.setattr(lacking.os.path, "exists", lambda path: False)
    monkeypatch.setattr(features, "link_type", lambda type: False)


@pytest.mark.parametrize("kind, words", [
    ("kprobe do_nanosleep+0", "CONFIG_KPROBE_EVENTS"), ("section 'kretprobe/do_nanosleep'", "CONFIG_KPROBE_EVENTS"),
    ("usdt /lib/x.so:a:b", "CONFIG_UPROBE_EVENTS"), ("uprobe.s/x", "CONFIG_UPROBE_EVENTS"), ("tcx eth0", "kind TCX: Linux 6.6"),
    ("section 'tcx/ingress'", "TCX"), ("kprobe.multi vfs_*", "CONFIG_FPROBE"), ("netfilter pf 2, hook 1", "NETFILTER"),
    ("lsm", "CONFIG_BPF_LSM"), ("iter", "ITER"), ("sockmap 4", "SOCKMAP"), ("netkit nk0", "NETKIT"), ("lsm.s/file_open", "LSM"),
])
def test_by_kind(poor, kind, words):
    assert words in lacking.missing(kind)


def test_errors_that_say_enough_stay_as_they_are(poor):
    for error in (PermissionError(errno.EPERM, ""), OSError(errno.EMFILE, ""), pylbpf.NotSupported(errno.EOPNOTSUPP, "libbpf")):
        assert explained(error, "tcx eth0") is error
    for kind in "perf_event 3", "section 'mine/x'", "tracepoint task/task_rename":
        error = OSError(errno.EINVAL, "")
        assert explained(error, kind) is error
    better = explained(pylbpf.BpfError(errno.EINVAL, "", "attach tcx eth0", "program 'p'"), "tcx eth0")
    assert isinstance(better, pylbpf.NotSupported) and str(better).startswith("attach tcx eth0 program 'p': the kernel has no links")
    assert better.__cause__ is not None


def test_nothing_is_made_up(monkeypatch):
    monkeypatch.setattr(features, "link_type", lambda type: None)
    assert lacking.missing("tcx eth0") == lacking.missing("iter") == ""


@pytest.mark.bpf
def test_kprobes(bpf_object):
    """Where there are none, each way to attach says so; where there are, a function that is missing is one."""
    without = kernel.no_kprobe()
    expected = pylbpf.NotSupported if without else FileNotFoundError
    with loaded(bpf_object("probes"), "on_syscall") as obj:
        program = obj.programs["on_syscall"]
        for attach in (lambda: program.attach_kprobe("there_is_no_such"), lambda: program.attach_ksyscall("there_is_no_such")):
            with pytest.raises(expected):
                attach().close()
        if without:
            for attach in program.attach, obj.attach, lambda: pylbpf.attach_many([program]):
                with pytest.raises(pylbpf.NotSupported, match="the kernel has no kprobes"):
                    attach()
