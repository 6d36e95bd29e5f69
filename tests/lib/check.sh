#!/bin/bash
# check.sh PART... - runs `make PART` for each and sums up. Every part runs, whatever the ones before it did.
# A part counts what its last "N passed, N failed, N skipped" line says; one without such a line is one test.
# Parts that live in real time (REAL_TIME) share the processors with whatever else runs here. When one fails, what failed is
# said, and it runs once more; what failed stays in the summary as "unsteady", so that nobody overlooks it.
# The last line is the total. Full output of a part: build/check/PART.log (of a first try: PART.log.1).
set -u
cd "$(dirname "$0")/../.." || exit 1
mkdir -p build/check
jobs=$(nproc)
REAL_TIME=' cli-check rules-check proxy-check nfq-check units-check bench-smoke scenarios '
passed=0 failed=0 skipped=0 summary='' broken='' unsteady=''

run_part() { # PART: sets status, good, bad, left_out
    local counts
    make --no-print-directory -j"$jobs" "$1" >"build/check/$1.log" 2>&1
    status=$?
    counts=$(sed -nE 's/^([0-9]+) passed, ([0-9]+) failed(, ([0-9]+) skipped)?$/\1 \2 \4/p' "build/check/$1.log" | tail -n 1)
    read -r good bad left_out <<<"${counts:-x}"
    if [ "$good" = x ]; then
        good=$((status == 0)) bad=$((status != 0))
    elif [ "$status" -ne 0 ] && [ "$bad" -eq 0 ]; then
        bad=1
    fi
    left_out=${left_out:-0}
}

what_failed() { # PART: the lines of its log that say so, for a reader who sees only the end of this output
    local lines
    lines=$(grep -nE '^not ok|^FAIL|error:|Sanitizer|\*\*\*' "build/check/$1.log" | cut -c1-600 | head -n 20)
    printf '%s: %s\n' "$1" "${lines:-see build/check/$1.log}"
}

for part in "$@"; do
    echo "=== $part"
    started=$SECONDS
    run_part "$part"
    if [ "$status" -ne 0 ] && [[ $REAL_TIME == *" $part "* ]]; then
        unsteady+=$(what_failed "$part")$'\n'
        mv "build/check/$part.log" "build/check/$part.log.1"
        echo "=== $part failed; once more"
        run_part "$part"
    fi
    grep -vE '^(gcc|clang|cc|ar|  CC|  AR|  LINK) ' "build/check/$part.log" | tail -n 120
    if [ "$status" -ne 0 ]; then
        echo "=== $part FAILED (status $status), see build/check/$part.log"
        broken+=$(what_failed "$part")$'\n'
    fi
    summary+=$(printf '%-12s %5d passed %4d failed %4d skipped %5d s' "$part" "$good" "$bad" "$left_out" $((SECONDS - started)))$'\n'
    passed=$((passed + good)) failed=$((failed + bad)) skipped=$((skipped + left_out))
done

[ -z "$unsteady" ] || printf '=== unsteady: failed at the first try\n%s' "$unsteady"
[ -z "$broken" ] || printf '=== what failed\n%s' "$broken"
echo "=== summary"
printf '%s' "$summary"
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
