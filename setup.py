"""Finds libbpf, makes each .pyx an extension module, and reads some environment variables.

PYLBPF_LIBBPF=system    use the libbpf that pkg-config finds; the default
PYLBPF_LIBBPF=bundled   bring one along: of PYLBPF_DEPS, a folder that tools/build-deps.sh has filled, or built here by it
PYLBPF_SANITIZE=1       build with AddressSanitizer and UndefinedBehaviorSanitizer
PYLBPF_TRACE=1          build with line tracing, for coverage
"""
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

MINIMUM = "1.1"
LIBBPF = os.environ.get("PYLBPF_LIBBPF") or "system"
BUNDLED = LIBBPF == "bundled"
DEPS = Path(os.environ.get("PYLBPF_DEPS") or "build/deps")
if LIBBPF not in ("system", "bundled"):
    sys.exit(f"pylbpf: PYLBPF_LIBBPF is system or bundled, not {LIBBPF}")
SANITIZE = bool(os.environ.get("PYLBPF_SANITIZE"))
TRACE = bool(os.environ.get("PYLBPF_TRACE"))
LICENCE = "LGPL-2.1-only OR BSD-2-Clause"
LICENCES_INSIDE = "(LGPL-3.0-or-later OR GPL-2.0-or-later) AND Zlib"
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]
# What runs for each element, record, instruction, type, link or run. A package with all inside is small: the rest is compiled for size.
HOT = set("""
    arrays attach attach_trace attaching atwork block btf call codec consumer corebtf delivery detaching dispatch draining
    element elements elf errors feed handle insns lease link map mapbatch mapmany mapping maps memory paths perfbuf perfring
    program reader record recordbatch ring ringbuf sections testrun trampolines typed userring usersample usersender walk
    workers
""".split())
SMALL = ["-Os", "-fno-inline"]
# Who asks for the frames on the stack, a profiler or a debugger, finds them by their pointers: tables for it are a twelfth of the file.
FRAMES = ["-fno-omit-frame-pointer", "-fno-asynchronous-unwind-tables", "-fno-unwind-tables"]
DIRECTIVES = {
    "language_level": 3,
    "binding": False,
    "cdivision": True,
    "nonecheck": True,  # X.__new__(X) must raise, not crash
    "embedsignature": True,
    "embedsignature.format": "clinic",
    "auto_pickle": False,
    "always_allow_keywords": True,
    "linetrace": TRACE,
}


def pkg_config(*arguments: str) -> list[str]:
    tool = os.environ.get("PKG_CONFIG", "pkg-config")
    try:
        return shlex.split(subprocess.check_output([tool, *arguments, "libbpf"], text=True))
    except FileNotFoundError:
        sys.exit(f"pylbpf: {tool} is not installed (Debian: apt install pkg-config)")
    except subprocess.CalledProcessError:
        sys.exit(f"pylbpf: libbpf >= {MINIMUM} with headers was not found by {tool} (Debian: apt install libbpf-dev)")


def find_libbpf() -> tuple[list[str], list[str]]:
    """What the compiler and the linker are to be told."""
    if not BUNDLED:
        pkg_config("--atleast-version", MINIMUM)
        # Weak references stay undefined when the libbpf at hand is older than the newest function.
        # Some compilers leave a library out that is only referred to weakly.
        return pkg_config("--cflags"), ["-Wl,--no-as-needed", *pkg_config("--libs")]
    if not Path(DEPS, "lib", "libbpf-pylbpf.so").exists():
        subprocess.check_call(["tools/build-deps.sh", DEPS])
    return [], ["-L" + str(DEPS / "lib"), "-lbpf-pylbpf", "-Wl,--disable-new-dtags,-rpath,$ORIGIN/lib", "-Wl,-s"]


def copy_headers(package: Path) -> None:
    """Carry include/ into the package, and with a libbpf of its own that one's headers."""
    shutil.rmtree(package / "include", ignore_errors=True)
    shutil.copytree("include", package / "include")
    if BUNDLED:
        shutil.copytree(DEPS / "include" / "bpf", package / "include" / "bpf")


class BuildPy(build_py):
    """Carries the headers along, so that get_include() works when installed."""

    def run(self):
        super().run()
        if not self.editable_mode:
            if BUNDLED:
                find_libbpf()
            copy_headers(Path(self.build_lib, "pylbpf"))


class Wheel(bdist_wheel):
    """Says in a wheel with a libbpf of its own what the licences of that are."""

    def egg2dist(self, *arguments):
        super().egg2dist(*arguments)
        if not BUNDLED:
            return
        folder = Path(arguments[1])
        metadata = (folder / "METADATA").read_text(encoding="utf-8")
        head, blank, text = metadata.partition("\n\n")
        for licence in sorted(path for path in (DEPS / "licenses").rglob("*") if path.is_file()):
            name = licence.relative_to(DEPS / "licenses").as_posix()
            target = folder / "licenses" / "bundled" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(licence, target)
            head += f"\nLicense-File: bundled/{name}"
        head = head.replace(f"License-Expression: {LICENCE}", f"License-Expression: ({LICENCE}) AND {LICENCES_INSIDE}")
        (folder / "METADATA").write_text(head + blank + text, encoding="utf-8")


def extensions() -> list[Extension]:
    rooms = sorted(Path("src/pylbpf").glob("*.pyx"))
    if strangers := HOT - {source.stem for source in rooms}:
        sys.exit(f"pylbpf: setup.py calls {', '.join(sorted(strangers))} hot, which are no rooms")
    return [
        Extension(
            f"pylbpf.{source.stem}",
            # What is plain C in a room lies beside it: elf.pyx and elf_check.c.
            [str(source), *sorted(map(str, source.parent.glob(f"{source.stem}_*.c")))],
            include_dirs=["include", "src/pylbpf"],
            depends=sorted(map(str, [*Path("include").rglob("*.h"), *source.parent.glob("*.h")])),
        )
        for source in rooms
    ]


class BuildExt(build_ext):
    """Translates and finds libbpf only here: metadata and source distributions need neither."""

    def finalize_options(self):
        super().finalize_options()
        self.parallel = self.parallel or os.cpu_count()     # as pip never says: one module after the other takes long

    def run(self):
        found_compile, found_link = find_libbpf()
        compile_args = ["-std=gnu11", "-fvisibility=hidden", "-Wno-unused-function", *found_compile]
        link_args = [*found_link]
        macros = []
        if SANITIZE:
            compile_args += [*SANITIZERS, "-O1", "-g", "-fno-omit-frame-pointer"]
            link_args += SANITIZERS
        else:
            compile_args.append("-g0")  # some Pythons ask for debug information, which is most of the size
        if TRACE:
            macros.append(("CYTHON_TRACE_NOGIL", "1"))
        translated = {module.name: module for module in cythonize(
            self.extensions,
            build_dir="build/cython-trace" if TRACE else "build/cython",
            include_path=["src"],
            nthreads=os.cpu_count() or 1,
            force=self.force or None,
            compiler_directives=DIRECTIVES,
        )}
        for extension in self.extensions:
            extension.sources = translated[extension.name].sources
            extension.depends += translated[extension.name].depends
            extension.define_macros += macros
            extension.extra_compile_args += compile_args
            extension.extra_link_args += link_args
            if BUNDLED:
                extension.extra_compile_args += [*FRAMES, "-ffunction-sections"]    # of which a linker can make like ones one
                if extension.name.rpartition(".")[2] not in HOT:
                    extension.extra_compile_args += SMALL
                extension.include_dirs.insert(0, str(DEPS / "include"))
                extension.depends.append(str(DEPS / "lib" / "libbpf-pylbpf.so"))
        package = Path("src" if self.inplace else self.build_lib, "pylbpf")
        library = package / "lib" / "libbpf-pylbpf.so"
        if library.exists() != BUNDLED:
            self.force = True       # what is there was built the other way
        if self.editable_mode:
            self.take_what_is_built()
        super().run()
        shutil.rmtree(library.parent, ignore_errors=True)
        if BUNDLED:
            library.parent.mkdir()
            shutil.copy(DEPS / "lib" / library.name, library)
        if self.inplace:
            shutil.rmtree(package / "include", ignore_errors=True)
            if BUNDLED:
                copy_headers(package)

    def take_what_is_built(self):
        """For pip, which would build all again in an empty folder, one module after the other; what is old is built anyway."""
        for extension in self.extensions:
            name = self.get_ext_filename(extension.name)
            built, wanted = Path("src", name), Path(self.build_lib, name)
            if built.exists() and not wanted.exists():
                wanted.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(built, wanted)

    def build_extensions(self):
        """One file for each module, or all of them in one: see pylbpf/_together.py."""
        if self.inplace or not BUNDLED:
            super().build_extensions()
            return
        folder = Path(self.build_lib, "pylbpf")
        for single in folder.glob("*.so"):
            single.unlink()
        objects = []
        link = self.compiler.link_shared_object
        self.compiler.link_shared_object = lambda files, *rest, **options: objects.extend(files)
        super().build_extensions()
        names = sorted(extension.name.rpartition(".")[2] for extension in self.extensions)
        exports = Path(self.build_temp, "pylbpf-rooms.map")
        exports.write_text(f"{{ global: {' '.join(f'PyInit_{name};' for name in names)} local: *; }};\n")
        link(sorted(set(objects)), str(folder / "pylbpf-rooms.so"), target_lang="c", build_temp=self.build_temp,
             extra_postargs=[*find_libbpf()[1], f"-Wl,--version-script={exports}", "-Wl,--gc-sections"])
        (folder / "pylbpf-rooms.txt").write_text("\n".join(names) + "\n")


if __name__ == "__main__":  # the translator's worker processes may import this file
    setup(cmdclass={"build_py": BuildPy, "build_ext": BuildExt, "bdist_wheel": Wheel}, ext_modules=extensions())
