#!/usr/bin/env bash
#
# tools/build-deps.sh PREFIX: builds the libbpf that goes into a wheel, with libelf and zlib inside.
# tools/build-deps.sh --download FOLDER: only fetches the sources.
#
# What comes of it:
#
#   PREFIX/lib/libbpf-pylbpf.so   libbpf; libelf and zlib are in it and cannot be seen
#   PREFIX/include/bpf/           its headers, which rename every function f of libbpf to pylbpf__f, so that neither
#                                 another libbpf in the process nor one built into somebody else's module is ever called
#   PREFIX/include/linux/         the kernel's headers of the same age, for building pylbpf only
#   PREFIX/licenses/              the texts
#
# Environment:
#
#   CC, AR, RANLIB    the tools (cc, ar, ranlib); a wheel for many systems needs those of tools/zig.py, for an old glibc
#   HOST              where it is to run, for a cross build, as "aarch64-linux-gnu"
#   PYLBPF_SOURCES    folder of the source archives; what it lacks comes from third_party/ here or beside this folder, from
#                     Debian's source packages by apt, or from the projects themselves. Checksums decide.
#
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# name | sha256 | file | Debian suite and source package | where the project has it
sources='
libbpf   | 7ab5feffbf78557f626f2e3e3204788528394494715a30fc2070fcddc2051b7b | libbpf_1.7.0.orig.tar.gz | sid libbpf | https://github.com/libbpf/libbpf/archive/refs/tags/v1.7.0.tar.gz
elfutils | 616099beae24aba11f9b63d86ca6cc8d566d968b802391334c91df54eab416b4 | elfutils_0.192.orig.tar.bz2 | trixie elfutils | https://sourceware.org/elfutils/ftp/0.192/elfutils-0.192.tar.bz2
zlib     | 60dd315c07f616887caa029408308a018ace66e3d142726a97db164b3b8f69fb | zlib_1.3.dfsg+really1.3.1.orig.tar.gz | trixie zlib |
'

die() { printf 'build-deps: %s\n' "$*" >&2; exit 1; }
quietly() { "$@" >"$work/log" 2>&1 || { tail -n 40 "$work/log" >&2; die "failed: $*"; }; }

# ---- Sources

good() { [ -f "$1" ] && [ "$(sha256sum <"$1" | cut -c1-64)" = "$2" ]; }

from_folders() {
    local folder
    for folder in "${PYLBPF_SOURCES:-}" "$root/third_party" "$root"/../third_party "$root"/../*/third_party; do
        good "$folder/$file" "$sum" && cp "$folder/$file" . && return
    done
    return 1
}

# Another suite than the host's, with lists of its own: nothing of the host is touched.
from_debian() {
    local mirror apt=apt-$suite options
    command -v apt-get >/dev/null || return 1
    mirror=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' | sed -n '/debian$/{p;q}')
    mkdir -p "$apt/lists/partial" "$apt/archives/partial"
    # The checksums below say whether it is the right thing.
    echo "deb-src [trusted=yes] ${mirror:-http://deb.debian.org/debian} $suite main" >"$apt/sources.list"
    options=(-o "Dir::Etc::sourcelist=$PWD/$apt/sources.list" -o Dir::Etc::sourceparts=/dev/null -o "Dir::Cache=$PWD/$apt"
             -o "Dir::State::lists=$PWD/$apt/lists" -o Acquire::Check-Valid-Until=false -o APT::Sandbox::User=root)
    apt-get "${options[@]}" -qq update && apt-get "${options[@]}" -qq source --download-only --tar-only "$package"
}

from_project() { [ -n "$address" ] && curl -sSfL --retry 3 -o "$file" "$address"; }

# Leaves all of them in this folder.
fetch() {
    local name sum file suite package address way
    while IFS='|' read -r name sum file suite address; do
        read -r name <<<"$name"; read -r sum <<<"$sum"; read -r file <<<"$file"
        read -r suite package <<<"$suite"; read -r address <<<"$address"
        [ -n "$name" ] || continue
        for way in from_folders from_debian from_project; do
            good "$file" "$sum" || "$way" >>log 2>&1 || true
        done
        good "$file" "$sum" || die "$file with the checksum $sum was not to be had (see $PWD/log): put it into third_party/"
    done <<<"$sources"
}

unpack() {
    mkdir "$work/$1"
    tar -xf "$work/sources/$(awk -F' *[|] *' -v name="$1" '$1 == name { print $3 }' <<<"$sources")" \
        -C "$work/$1" --strip-components=1
}

# ---- The build

build_zlib() {
    cd "$work/zlib"
    CHOST='' CFLAGS=$flags quietly ./configure --static
    quietly make -j "$jobs" libz.a
    mkdir -p "$work/include" "$work/licenses/zlib"
    cp zlib.h zconf.h "$work/include"
    cp LICENSE "$work/licenses/zlib"
}

# The library alone, not the tools: of elfutils only lib/ and libelf/.
build_elfutils() {
    cd "$work/elfutils"
    CFLAGS="$flags -I$work/include -Wno-error" CPPFLAGS=-I$work/include LDFLAGS=-L$work/zlib \
        quietly ./configure ${HOST:+"--host=$HOST"} --disable-debuginfod --disable-libdebuginfod --disable-nls \
        --disable-symbol-versioning --disable-demangler --without-zstd --without-bzlib --without-lzma
    quietly make -C lib -j "$jobs"
    quietly make -C libelf -j "$jobs" libelf.a
    cp libelf/libelf.h libelf/gelf.h "$work/include"
    mkdir -p "$work/licenses/elfutils"
    cp COPYING COPYING-GPLV2 COPYING-LGPLV3 "$work/licenses/elfutils"     # COPYING is the GPL 3, which the LGPL 3 is part of
}

# Every function of libbpf, and those of later ones that pylbpf asks for: another libbpf must not answer for them.
rename() {
    echo '/* What the libbpf in this package calls its functions. */'
    {
        grep -oE '^\s+[a-z_0-9]+;' "$work/libbpf/src/libbpf.map" | tr -d '\t ;'
        sed -n '/^PYLBPF_WEAK/s/.*[ *]\([a-z_0-9]*\)(.*/\1/p' "$root/include/pylbpf/compat.h"
    } | sort -u | sed 's/.*/#define & pylbpf__&/'
}

build_libbpf() {
    cd "$work/libbpf/src"
    rename >pylbpf_names.h
    sed -i 's/^#define __LIBBPF_LIBBPF_COMMON_H$/&\n\n#include "pylbpf_names.h"/' libbpf_common.h
    sed -i -e 's/alias("/&pylbpf__/' -e 's/alias(#symbol)/alias("pylbpf__" #symbol)/' ./*.[ch] # what no macro reaches
    grep -q pylbpf_names.h libbpf_common.h || die "libbpf_common.h is not what it was"
    quietly make -j "$jobs" CC="$CC" AR="$AR" NO_PKG_CONFIG=1 BUILD_STATIC_ONLY=y OBJDIR=objects \
        CFLAGS="$flags -I$work/include -include pylbpf_names.h" objects/libbpf.a
    # The name with pylbpf's own: a library called libbpf.so.1 would be taken for any other.
    # shellcheck disable=SC2086 # $CC may have arguments
    quietly $CC -shared -o "$work/libbpf-pylbpf.so" -Wl,-soname,libbpf-pylbpf.so -Wl,-z,defs -Wl,-z,relro,-z,now \
        -Wl,-Bsymbolic -Wl,--gc-sections -Wl,-s -Wl,--version-script=<(echo '{ global: pylbpf__*; local: *; };') \
        -Wl,--whole-archive objects/libbpf.a -Wl,--no-whole-archive \
        "$work/elfutils/libelf/libelf.a" "$work/elfutils/lib/libeu.a" "$work/zlib/libz.a"
    mkdir -p "$work/licenses/libbpf"
    cp ../LICENSE ../LICENSE.* "$work/licenses/libbpf"
}

install_all() {
    mkdir -p "$prefix/lib" "$prefix/include/linux"
    rm -rf "$prefix/licenses" "$prefix/include/bpf"
    cp -r "$work/licenses" "$prefix/licenses"
    cd "$work/libbpf/src"
    quietly make install_headers CC="$CC" NO_PKG_CONFIG=1 OBJDIR=objects PREFIX="$prefix"
    cp pylbpf_names.h "$prefix/include/bpf"
    cp ../include/uapi/linux/*.h "$prefix/include/linux"
    cp "$work/libbpf-pylbpf.so" "$prefix/lib"
    cat >"$prefix/licenses/README" <<END
pylbpf/lib/libbpf-pylbpf.so in this package is made of

$(awk -F' *[|] *' 'NF > 1 { print "    " $3 " (sha256 " $2 ")" }' <<<"$sources")

libbpf (LGPL-2.1 or BSD-2-Clause) with its functions renamed, libelf of elfutils (LGPL-3 or later, or GPL-2 or later),
zlib (Zlib). The texts are beside this file. To use other versions, change the list in tools/build-deps.sh of pylbpf's
source distribution, run "tools/build-deps.sh FOLDER" and put FOLDER/lib/libbpf-pylbpf.so in that file's place.
END
}

if [ "${1:-}" = --download ]; then
    mkdir -p "${2:?--download needs a folder}" && cd "$2"
    fetch
    rm -rf apt-* log ./*.dsc
    exit
fi
prefix=${1:?"the folder to install into is missing"}
mkdir -p "$prefix"
prefix=$(cd "$prefix" && pwd)
work=$(mktemp -d "${TMPDIR:-/tmp}/pylbpf-deps.XXXXXX")
trap 'rm -rf "$work"' EXIT
export CC=${CC:-cc} AR=${AR:-ar} RANLIB=${RANLIB:-ranlib}
jobs=$(nproc)
# Sanitizers off: zig's compiler has some on unless told. libbpf's header lets its visibility be chosen.
flags="-O2 -g0 -fPIC -fvisibility=hidden -fno-sanitize=all -ffunction-sections -fdata-sections"

mkdir "$work/sources" && cd "$work/sources"
fetch
for name in zlib elfutils libbpf; do
    unpack "$name"
    "build_$name"
done
install_all
