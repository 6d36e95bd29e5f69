#!/bin/sh
# deb.sh VERSION - builds the Debian package from a copy of the sources, so that nothing is left among them.
# Puts smtpwitness_VERSION_ARCH.deb into build/deb and prints its name. DEB_BUILD_OPTIONS goes on to the build.
set -eu
cd "$(dirname "$0")/../.."
version=$1
deb=$PWD/build/deb

fail() {
    echo "deb.sh: $*" >&2
    exit 1
}

for tool in dpkg-buildpackage dh; do
    command -v "$tool" >/dev/null || fail "$tool is missing: tests/install_build_deps.sh deb"
done
[ "$(dpkg-parsechangelog -S Version)" = "$version" ] ||
    fail "debian/changelog says $(dpkg-parsechangelog -S Version), the Makefile $version; write the same in both"

rm -rf "$deb"
mkdir -p "$deb/source"
if git rev-parse --git-dir >/dev/null 2>&1; then
    git ls-files --cached --others --exclude-standard -z | xargs -0 tar -c --ignore-failed-read 2>/dev/null | tar -x -C "$deb/source"
else
    tar -c --exclude=./build . | tar -x -C "$deb/source"
fi
cd "$deb/source"
DEB_BUILD_OPTIONS=${DEB_BUILD_OPTIONS:-nocheck parallel=$(nproc)} dpkg-buildpackage --build=binary --no-sign >"$deb/build.log" 2>&1 ||
    { tail -n 20 "$deb/build.log" >&2; fail "the build failed, see build/deb/build.log"; }
cd "$deb"
rm -rf source
ls "$deb"/smtpwitness_*.deb
