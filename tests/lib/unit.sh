#!/bin/bash
# unit.sh PROGRAM... - runs cmocka programs one after the other and sums up. Each gets two minutes.
set -u
passed=0 failed=0 skipped=0
for program in "$@"; do
    output=$(CMOCKA_MESSAGE_OUTPUT=TAP timeout 120 "$program" 2>&1)
    status=$?
    good=$(grep -cE '^ok ' <<<"$output")
    bad=$(grep -cE '^not ok ' <<<"$output")
    left_out=$(grep -cE '^ok .*# SKIP' <<<"$output")
    if [ "$status" -ne 0 ] && [ "$bad" -eq 0 ]; then # crashed, or stopped by a sanitizer or by the clock
        bad=1
        echo "not ok - ${program##*/} ended with status $status"
    fi
    if [ "$bad" -ne 0 ] || [ $((good + bad)) -eq 0 ]; then
        echo "$output" | tail -n 60
    fi
    if [ $((good + bad)) -eq 0 ]; then
        bad=1
        echo "not ok - ${program##*/} ran no test"
    fi
    echo "${program##*/}: $((good - left_out)) ok, $bad not ok, $left_out skipped"
    passed=$((passed + good - left_out)) failed=$((failed + bad)) skipped=$((skipped + left_out))
done
[ $# -gt 0 ] || { echo "unit.sh: no test programs"; failed=1; }
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
