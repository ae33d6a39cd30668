"""`pylbpf doctor` says what is here, for people and for machines, with and without rights."""
from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import kernel
import pylbpf
from handling import environment

pytest.importorskip("click")
pytest.importorskip("rich")

from pylbpf.cli import doctor  # noqa: E402


def run(*arguments: str, status: int) -> str:
    result = subprocess.run([sys.executable, "-W", "error", "-m", "pylbpf", "doctor", *arguments], capture_output=True,
                            text=True, env=environment(), timeout=240, check=False)
    assert (result.returncode, result.stderr) == (status, "")
    return result.stdout


def test_report_and_json_say_the_same():
    status = 1 if kernel.no_bpf() else 0
    text = run(status=status)
    findings = json.loads(run("--json", status=status))
    assert {"versions", "libbpf", "kernel", "rights", "limits", "mounts"} == {finding["group"] for finding in findings}
    for finding in findings:
        assert finding["name"] in text and finding["reason"] in text
        assert finding["status"] in doctor.STYLES and (finding["status"] == "ok") == (finding["reason"] == "")


def test_with_nobody_to_tell():
    """Standard output is closed: Python has none then."""
    code = f'exec "{sys.executable}" -m pylbpf doctor --json >&-'
    result = subprocess.run(["sh", "-c", code], capture_output=True, text=True, env=environment(), check=False)
    assert result.stderr == "" and result.returncode in (0, 1)


def test_names_the_libbpf_that_runs():
    values = {(finding.group, finding.name): finding.value for finding in doctor.examine()}
    assert values["libbpf", "version"] == pylbpf.libbpf_version_string()
    assert Path(values["libbpf", "file"]).exists()
    assert values["libbpf", "from"] == ("the system" if pylbpf.get_libraries() == ["bpf"] else "this package")


def test_without_rights_it_says_what_is_refused(requires_bpf):
    if os.getuid():
        pytest.skip("root: cannot give up rights that are not there")
    code = "import os, pylbpf.cli.doctor as d; list(d.rights()); os.setgid(65534); os.setuid(65534)\n" \
           "for f in d.rights(): print(f.name, f.status, f.reason, sep='|')"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment(), check=False)
    assert result.returncode == 0, result.stderr
    lines = dict(line.split("|", 1) for line in result.stdout.splitlines())
    assert lines["CAP_BPF"] == "limited|refused: maps and programs"
    if Path("/proc/sys/kernel/unprivileged_bpf_disabled").read_text().strip() != "0":
        assert lines["make a map"].startswith("missing|bpf() answers: ")


@pytest.mark.parametrize(("held", "inside", "statuses"), [
    ({"CAP_SYS_ADMIN"}, False, {"CAP_BPF": "ok", "CAP_PERFMON": "ok", "CAP_NET_ADMIN": "limited", "CAP_SYS_ADMIN": "ok"}),
    (set(doctor.CAPABILITIES), False, dict.fromkeys(doctor.CAPABILITIES, "ok")),
    (set(doctor.CAPABILITIES), True, dict.fromkeys(doctor.CAPABILITIES, "limited")),
    (set(), True, dict.fromkeys(doctor.CAPABILITIES, "limited")),
])
def test_what_capabilities_are_good_for(monkeypatch, held, inside, statuses):
    monkeypatch.setattr(doctor._rights, "held", lambda: held)
    monkeypatch.setattr(doctor._rights, "in_user_namespace", lambda: inside)
    found = {finding.name: finding for finding in doctor.rights() if finding.name in doctor.CAPABILITIES}
    assert {name: finding.status for name, finding in found.items()} == statuses
    for name, finding in found.items():
        assert ("user namespace" in finding.reason) == (inside and name in held)
        assert (finding.reason == "") == (finding.status == "ok")


@pytest.mark.parametrize(("path", "content", "name", "word"), [
    ("/sys/kernel/security/lockdown", "none integrity [confidentiality]", "lockdown", "kernel memory"),
    ("/proc/sys/net/core/bpf_jit_enable", "0", "JIT", "interpreted"),
    ("/proc/sys/net/core/bpf_jit_harden", "2", "JIT hardening", "slower"),
])
def test_what_a_kernel_setting_means(monkeypatch, path, content, name, word):
    real = doctor.read
    monkeypatch.setattr(doctor, "read", lambda asked: content if asked == path else real(asked))
    (finding,) = [each for each in doctor.kernel() if each.name == name]
    assert finding.status == "limited" and word in finding.reason


def test_unreadable_settings_are_no_error(monkeypatch):
    monkeypatch.setattr(doctor, "read", lambda path: "")
    assert {finding.value for finding in doctor.kernel() if finding.name in ("JIT", "lockdown")} == {"unknown"}


@pytest.mark.parametrize(("hidden", "missing"), [("/sys", "possible CPUs"), ("/proc", "capabilities"), ("/proc", "mounts")])
def test_without_a_file_system_of_the_kernel_it_still_reports(private_mounts, hidden, missing):
    code = "import ctypes, pylbpf.cli.doctor as d\n" \
           "libc = ctypes.CDLL(None)\n" \
           "assert libc.unshare(0x20000) == 0 and libc.mount(None, b'/', None, 1 << 18 | 1 << 14, None) == 0\n" \
           f"assert libc.mount(b'none', b'{hidden}', b'tmpfs', 0, None) == 0\n" \
           "for f in d.examine(): print(f.name, f.status, f.reason, sep='|')"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment(), check=False)
    assert result.returncode == 0, result.stderr
    lines = dict(line.split("|", 1) for line in result.stdout.splitlines())
    assert lines[missing].startswith("limited|" + hidden)
