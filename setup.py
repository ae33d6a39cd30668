"""Finds libbpf, makes each .pyx an extension module, and reads two environment variables.

PYLBPF_SANITIZE=1   build with AddressSanitizer and UndefinedBehaviorSanitizer
PYLBPF_TRACE=1      build with line tracing, for coverage
"""
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

MINIMUM = "1.1"
SANITIZE = bool(os.environ.get("PYLBPF_SANITIZE"))
TRACE = bool(os.environ.get("PYLBPF_TRACE"))
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]
DIRECTIVES = {
    "language_level": 3,
    "binding": False,
    "cdivision": True,
    "nonecheck": True,  # X.__new__(X) must raise, not crash
    "embedsignature": True,
    "embedsignature.format": "python",
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


class BuildPy(build_py):
    """Carries include/ into the package, so that get_include() works when installed."""

    def run(self):
        super().run()
        if not self.editable_mode:
            target = Path(self.build_lib, "pylbpf", "include", "pylbpf")
            target.mkdir(parents=True, exist_ok=True)
            for header in Path("include/pylbpf").glob("*.h"):
                shutil.copy(header, target)


def extensions() -> list[Extension]:
    return [
        Extension(
            f"pylbpf.{source.stem}",
            # What is plain C in a room lies beside it: elf.pyx and elf_check.c.
            [str(source), *sorted(map(str, source.parent.glob(f"{source.stem}_*.c")))],
            include_dirs=["include", "src/pylbpf"],
            depends=sorted(map(str, [*Path("include/pylbpf").glob("*.h"), *source.parent.glob("*.h")])),
        )
        for source in sorted(Path("src/pylbpf").glob("*.pyx"))
    ]


class BuildExt(build_ext):
    """Translates and finds libbpf only here: metadata and source distributions need neither."""

    def run(self):
        pkg_config("--atleast-version", MINIMUM)
        compile_args = ["-std=gnu11", "-fvisibility=hidden", "-Wno-unused-function", *pkg_config("--cflags")]
        # Weak references stay undefined when the libbpf at hand is older than the newest function.
        link_args = pkg_config("--libs")
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
        super().run()


if __name__ == "__main__":  # the translator's worker processes may import this file
    setup(cmdclass={"build_py": BuildPy, "build_ext": BuildExt}, ext_modules=extensions())
