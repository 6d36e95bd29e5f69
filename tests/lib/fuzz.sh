#!/bin/bash
# fuzz.sh PROGRAM... - runs every fuzz target for FUZZ_SECONDS on its corpus, two side by side.
# FUZZ_SEED (1) makes a run repeatable; FUZZ_SEED=0 takes a new seed each time.
# What a target finds stays in build/fuzz/found/NAME*; the corpus in tests/fuzz/corpus is read, never written.
set -u
seconds=${FUZZ_SECONDS:-10}
project=$(cd "$(dirname "$0")/../.." && pwd)
found=$project/build/fuzz/found
mkdir -p "$found"

one() { # program
    local name=${1##*/} corpus work log
    corpus=$project/tests/fuzz/corpus/${name#fuzz_}
    work=$(mktemp -d)
    log=$found/$name.log
    [ -d "$corpus" ] && cp -r "$corpus/." "$work/"
    if timeout $((seconds + 60)) "$1" -seed="${FUZZ_SEED:-1}" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=1024 \
        -artifact_prefix="$found/$name-" "$work" >"$log" 2>&1; then
        echo "ok - $name: $(sed -n 's/^Done \([0-9]*\) runs.*/\1 runs/p' "$log")"
    else
        echo "not ok - $name: see $log"
        tail -n 30 "$log"
    fi
    rm -rf "$work"
}

output=$(mktemp)
trap 'rm -f "$output"' EXIT
export -f one
export seconds project found
[ $# -eq 0 ] || printf '%s\0' "$@" | xargs -0 -n 1 -P 2 bash -c 'one "$1"' one | tee "$output"
passed=$(grep -c '^ok ' "$output")
failed=$(($# - passed))
echo "$passed passed, $failed failed, 0 skipped"
[ "$failed" -eq 0 ]
