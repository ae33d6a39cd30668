#!/usr/bin/env bash
#
# tools/build-python.sh [PREFIX]: builds the free-threaded Python 3.13t from Debian's source, which Debian has no package of.
# Without PREFIX it goes where tools/wheel.py looks for it: ~/.cache/pylbpf/python-3.13t.
#
set -euo pipefail
prefix=${1:-${XDG_CACHE_HOME:-$HOME/.cache}/pylbpf/python-3.13t}
[ ! -x "$prefix/bin/python3.13t" ] || exit 0

work=$(mktemp -d "${TMPDIR:-/tmp}/pylbpf-python.XXXXXX")
trap 'rm -rf "$work"' EXIT
cd "$work"

# shellcheck disable=SC2016 # apt's own variables
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | sed -n '/debian\/\{0,1\}$/{p;q}')
mkdir -p lists/partial archives/partial source
echo "deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] ${mirror:-http://deb.debian.org/debian} trixie main" >sources.list
options=(-o "Dir::Etc::sourcelist=$work/sources.list" -o Dir::Etc::sourceparts=/dev/null -o "Dir::Cache=$work"
         -o "Dir::State::lists=$work/lists" -o Acquire::Check-Valid-Until=false -o APT::Sandbox::User=root)
apt-get "${options[@]}" -qq update
apt-get "${options[@]}" -qq source --download-only --tar-only python3.13
tar -xf python3.13_*.orig.tar.xz -C source --strip-components=1

cd source
{
    ./configure --quiet --disable-gil --disable-test-modules --with-ensurepip=install --prefix="$prefix"
    make -s -j "$(nproc)"
    make -s install
} >"$work/log" 2>&1 || { tail -n 40 "$work/log" >&2; exit 1; }
