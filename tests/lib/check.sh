#!/bin/bash
# check.sh PART... - runs `make PART` for each and sums up. Every part runs, whatever the ones before it did.
# A part counts what its last "N passed, N failed, N skipped" line says; one without such a line is one test.
# The last line is the total. Full output of a part: build/check/PART.log.
set -u
cd "$(dirname "$0")/../.." || exit 1
mkdir -p build/check
jobs=$(nproc)
passed=0 failed=0 skipped=0 summary=

for part in "$@"; do
    echo "=== $part"
    started=$SECONDS
    make --no-print-directory -j"$jobs" "$part" >"build/check/$part.log" 2>&1
    status=$?
    counts=$(sed -nE 's/^([0-9]+) passed, ([0-9]+) failed(, ([0-9]+) skipped)?$/\1 \2 \4/p' "build/check/$part.log" | tail -n 1)
    read -r good bad left_out <<<"${counts:-x}"
    if [ "$good" = x ]; then
        good=$((status == 0)) bad=$((status != 0))
    elif [ "$status" -ne 0 ] && [ "$bad" -eq 0 ]; then
        bad=1
    fi
    left_out=${left_out:-0}
    grep -vE '^(gcc|clang|cc|ar) ' "build/check/$part.log" | tail -n 120
    [ "$status" -eq 0 ] || echo "=== $part FAILED (status $status), see build/check/$part.log"
    summary+=$(printf '%-12s %5d passed %4d failed %4d skipped %5d s' "$part" "$good" "$bad" "$left_out" $((SECONDS - started)))$'\n'
    passed=$((passed + good)) failed=$((failed + bad)) skipped=$((skipped + left_out))
done

echo "=== summary"
printf '%s' "$summary"
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
