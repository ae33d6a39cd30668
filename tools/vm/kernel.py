"""The stock kernel of a suite: unpacked from its packages, never installed."""
from __future__ import annotations

import gzip
import lzma
import re
import shutil
import struct
from pathlib import Path

from host import CACHE, NoMachine, call, making, say, sources_list

FORMAT = 1  # another number makes all cached kernels anew
# What mounts the root image; the guest loads everything else by itself.
MODULES = ("virtio_pci", "virtio_blk", "virtio_console", "ext4", "9p", "9pnet_virtio", "overlay")


def kernel(suite: str, arch: str) -> Path:
    """A folder with vmlinux, boot/config-*, lib/modules, and initrd/ with the modules of MODULES in their order."""
    folder = CACHE / f"kernel-{suite}{'' if arch == 'amd64' else f'-{arch}'}-{FORMAT}"
    if folder.exists():
        return folder
    with making(folder) as work:
        if not folder.exists():  # somebody else may have made it meanwhile
            say(f"kernel of {suite}")
            packages, root = download(suite, arch, work), work / "root"
            for package in packages:
                tar = call("sh", "-c", 'dpkg-deb --fsys-tarfile "$1" >"$1.tar"; echo "$1.tar"', "sh", package).strip()
                root.mkdir(exist_ok=True)
                call("tar", "-xf", tar, "-C", root, "--keep-directory-symlink")
            arrange(root)
            root.rename(folder)
    return folder


def download(suite: str, arch: str, work: Path) -> list[Path]:
    apt = work / "apt"
    for name in ("etc/apt/apt.conf.d", "etc/apt/preferences.d", "var/lib/apt/lists/partial", "var/cache/apt/archives/partial"):
        (apt / name).mkdir(parents=True)
    (apt / "status").touch()
    (apt / "etc/apt/sources.list").write_text(sources_list(suite))
    options = ("-qq", "-o", f"Dir={apt}", "-o", f"Dir::State::status={apt}/status", "-o", "APT::Sandbox::User=root",
               "-o", f"APT::Architecture={arch}", "-o", f"APT::Architectures={arch}")
    call("apt-get", *options, "update")

    def depends(package: str) -> list[str]:
        return re.findall(r"Depends: (linux-\S+)", call("apt-cache", *options, "depends", "--important", package))

    image = next((name for name in depends(f"linux-image-{arch}") if re.match(r"linux-image-\d", name)), None)
    if image is None:
        raise NoMachine(f"{suite} has no kernel package")
    parts = [name for name in depends(image) if re.match(r"linux-(base|binary|modules)-\d", name)]  # since Linux 7
    call("apt-get", *options, "download", image, *parts, cwd=work)
    return sorted(work.glob("*.deb"))


def arrange(root: Path) -> None:
    if not (root / "lib/modules").exists():  # where /usr is one with /
        (root / "lib").mkdir(exist_ok=True)
        (root / "usr/lib/modules").rename(root / "lib/modules")
    shutil.rmtree(root / "usr", ignore_errors=True)
    [modules] = (root / "lib/modules").iterdir()
    version = modules.name
    if (modules / "vmlinuz").exists():  # since Linux 7
        (root / "boot").mkdir(exist_ok=True)
        (modules / "vmlinuz").rename(root / f"boot/vmlinuz-{version}")
        shutil.copy(modules / "config", root / f"boot/config-{version}")
    (root / "vmlinux").write_bytes(unpacked(root / f"boot/vmlinuz-{version}"))
    call("depmod", "-b", root, version)
    (root / "initrd").mkdir()
    paths: list[str] = []
    for name in MODULES:
        shown = call("modprobe", "-d", root, "-S", version, "-C", "/dev/null", "--show-depends", name)
        paths += re.findall(r"^insmod (\S+)", shown, re.MULTILINE)
    for number, path in enumerate(dict.fromkeys(paths)):
        (root / f"initrd/{number:02}-{re.sub('[.](xz|zst)$', '', Path(path).name)}").write_bytes(decompressed(Path(path)))


def decompressed(path: Path) -> bytes:
    if path.suffix == ".zst":
        call("zstd", "-qdf", path, "-o", path.with_suffix(""))
        path = path.with_suffix("")
    return lzma.decompress(path.read_bytes()) if path.suffix == ".xz" else path.read_bytes()


def unpacked(image: Path) -> bytes:
    """The ELF kernel inside a bzImage, which QEMU starts at once; unpacking it in the guest takes seconds. Of arm64 the Image.

    Offsets are those of the kernel's "Linux/x86 boot protocol": setup_sects, payload_offset, payload_length.
    """
    data = image.read_bytes()
    if data[:2] == b"\x1f\x8b":
        data = gzip.decompress(data)
    if data[56:60] == b"ARM\x64":
        return data
    setup_sectors, = struct.unpack_from("<B", data, 0x1F1)
    offset, length = struct.unpack_from("<II", data, 0x248)
    payload = data[(setup_sectors + 1) * 512 + offset:][:length]
    if payload[:4] == b"\x28\xb5\x2f\xfd":
        packed = image.with_suffix(".payload.zst")
        packed.write_bytes(payload[:-4])  # the last four bytes are the size of what is inside
        call("zstd", "-qdf", packed, "-o", packed.with_suffix(""))
        elf = packed.with_suffix("").read_bytes()
        packed.unlink()
        packed.with_suffix("").unlink()
    elif payload[:6] == b"\xfd7zXZ\0":
        elf = lzma.LZMADecompressor().decompress(payload)
    elif payload[:2] == b"\x1f\x8b":
        elf = gzip.decompress(payload)
    else:
        raise NoMachine(f"{image.name} is packed in a way that is not known here")
    if elf[:4] != b"\x7fELF":
        raise NoMachine(f"{image.name} has no ELF kernel inside")
    return elf
