#!/bin/sh
# run.sh [TEST...] - the Debian package on a router that boots a real systemd: installed, started, reloaded, hung, killed,
# restarted and upgraded under load, stopped, purged. Two or three minutes; needs root, systemd-nspawn and debhelper.
# Environment: DEB (a package that is built already), PREFIX (sd).
set -eu
here=$(dirname -- "$(readlink -f -- "$0")")
project=$here/../..
PREFIX=${PREFIX:-sd$$}
export PREFIX

fail() {
    echo "run.sh: $1" >&2
    exit 1
}

[ "$(id -u)" = 0 ] || fail 'needs root for network namespaces and a guest'
for tool in systemd-nspawn mmdebstrap dh nsenter; do
    command -v $tool >/dev/null || fail "$tool is missing: tests/install_build_deps.sh deb"
done
"$project/tests/mta/make_roots.sh" systemd >/dev/null
DEB=${DEB:-$(make --no-print-directory -C "$project" deb)}
PROGRAM=/usr/sbin/smtpwitness
export DEB PROGRAM
topology=$project/tests/proxy/topology.sh
trap '"$topology" down' EXIT
trap 'exit 130' INT TERM
"$topology" bare
python=/usr/bin/python3
[ -x $python ] || python=python3
status=0
"$python" "$here/systemd_tests.py" "$@" || status=$?
exit "$status"
