#!/bin/sh
# run.sh [TEST...] - proves the packet hook on its own, between real sockets in network namespaces.
# Without a TEST: all of them. A TEST may be a group: passage, trouble, enforcement, nft or bypass.
# Needs root and a built program (make). Environment: PROGRAM (build/smtpwitness), PREFIX (nq).
# Prints one "ok" or "not ok" line per claim; exits non-zero when one of them does not hold.
set -eu
here=$(dirname -- "$(readlink -f -- "$0")")
PROGRAM=${PROGRAM:-$here/../../build/smtpwitness}
PREFIX=${PREFIX:-nq}
export PROGRAM PREFIX

if [ "$(id -u)" != 0 ]; then
    echo "run.sh: needs root for network namespaces" >&2
    exit 1
fi
[ -x "$PROGRAM" ] || {
    echo "run.sh: $PROGRAM is not built" >&2
    exit 1
}
topology=$here/../proxy/topology.sh
python=/usr/bin/python3
[ -x $python ] || python=python3
output=$(mktemp -d)
groups='passage trouble enforcement nft bypass'
trap 'for group in $groups; do PREFIX=$PREFIX$group "$topology" down; done; "$topology" down; rm -rf "$output"' EXIT

run() { # TEST...
    "$topology" bare
    "$python" "$here/nfq_tests.py" "$@"
}

status=0
if [ $# -gt 0 ]; then
    run "$@" || status=$?
    exit "$status"
fi
# The groups side by side, each in namespaces of its own.
for group in $groups; do
    (PREFIX=$PREFIX$group && run "$group" >"$output/$group" 2>&1 || echo "$group" >>"$output/failed") &
done
wait
for group in $groups; do
    cat "$output/$group"
done | awk '/^[0-9]+ passed, / { passed += $1; failed += $3; skipped += $5; next } { print }
    END { print passed + 0 " passed, " failed + 0 " failed, " skipped + 0 " skipped" }'
[ ! -s "$output/failed" ]
