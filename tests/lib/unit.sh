#!/bin/bash
# unit.sh PROGRAM... - runs cmocka programs one after the other and sums up. Each gets two minutes.
set -u
passed=0 failed=0 skipped=0
for program in "$@"; do
    output=$(CMOCKA_MESSAGE_OUTPUT=TAP timeout 120 "$program" 2>&1)
    status=$?
    left_out=$(grep -cE '^(not )?ok [0-9]+ # SKIP' <<<"$output") # cmocka 1.1.5 writes "not ok N # SKIP"
    good=$(grep -E '^ok ' <<<"$output" | grep -vcE '# SKIP')
    bad=$(grep -E '^not ok ' <<<"$output" | grep -vcE '# SKIP')
    if [ "$status" -ne 0 ] && [ "$bad" -eq 0 ]; then # crashed, or stopped by a sanitizer or by the clock
        bad=1
        echo "not ok - ${program##*/} ended with status $status"
    fi
    if [ "$bad" -ne 0 ] || [ $((good + bad + left_out)) -eq 0 ]; then
        echo "$output" | tail -n 60
    fi
    if [ $((good + bad + left_out)) -eq 0 ]; then
        bad=1
        echo "not ok - ${program##*/} ran no test"
    fi
    echo "${program##*/}: $good ok, $bad not ok, $left_out skipped"
    passed=$((passed + good)) failed=$((failed + bad)) skipped=$((skipped + left_out))
done
[ $# -gt 0 ] || { echo "unit.sh: no test programs"; failed=1; }
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
