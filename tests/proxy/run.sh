#!/bin/sh
# run.sh [TEST...], run.sh fail-open [TEST...] - proves the relay on its own, between real sockets in network namespaces;
# fail-open: with the packet filter rules, when it dies, hangs or is full.
# Needs root and a built program (make). Environment: PROGRAM (build/smtpwitness), PREFIX (px), IDLE (2500 sessions), SANITIZED
# (non-empty: leave out claims about memory).
# Prints one "ok" or "not ok" line per claim; exits non-zero when one of them does not hold.
set -eu
here=$(dirname -- "$(readlink -f -- "$0")")
PROGRAM=${PROGRAM:-$here/../../build/smtpwitness}
PREFIX=${PREFIX:-px}
export PROGRAM PREFIX

if [ "$(id -u)" != 0 ]; then
    echo "run.sh: needs root for network namespaces" >&2
    exit 1
fi
[ -x "$PROGRAM" ] || {
    echo "run.sh: $PROGRAM is not built" >&2
    exit 1
}
python=/usr/bin/python3
[ -x $python ] || python=python3
report=$(mktemp)
waiting=''
# shellcheck disable=SC2317  # by the trap
end() {
    [ -z "$waiting" ] || kill "$waiting" 2>/dev/null || :
    "$here/topology.sh" down
    PREFIX=${PREFIX}f "$here/topology.sh" down
    rm -f "$report" "$report.relay"
}
trap end EXIT
status=0
# How the rules and the relay fail open takes seconds of waiting: beside the rest, in namespaces of its own.
if [ $# -eq 0 ]; then
    PREFIX=${PREFIX}f "$here/topology.sh" bare
    PREFIX=${PREFIX}f "$python" "$here/fail_open_tests.py" >"$report" 2>&1 &
    waiting=$!
elif [ "$1" = fail-open ]; then
    shift
    "$here/topology.sh" bare
    "$python" "$here/fail_open_tests.py" "$@" || status=$?
    exit "$status"
fi
"$here/topology.sh" up
"$python" "$here/relay_tests.py" "$@" >"$report.relay" 2>&1 || status=$?
if [ -n "$waiting" ]; then
    wait "$waiting" || status=1
    waiting=''
fi
# One total for both.
awk '/^[0-9]+ passed, / { passed += $1; failed += $3; skipped += $5; next } { print }
    END { print passed + 0 " passed, " failed + 0 " failed, " skipped + 0 " skipped" }' "$report.relay" "$report"
exit "$status"
