#!/bin/bash
# run.sh [analyze] - every check that reads the sources; prints "ok NAME" or "not ok NAME" and what is wrong.
# Needs the built program (the manual and the sample must be what it prints).
set -u
cd "$(dirname "$0")/../.." || exit 1
build=${BUILD:-build}
passed=0 failed=0 skipped=0

mapfile -t sources < <(git ls-files '*.c')
mapfile -t headers < <(git ls-files '*.h')
mapfile -t scripts < <(git ls-files | xargs -r grep -slE '^#!(/usr/bin/env |/bin/)(ba|da)?sh' --)
mapfile -t program < <(git ls-files '*.c' ':!tests')
read -ra flags <<<"${CPPFLAGS:--I. -D_GNU_SOURCE}"

one() { # name tool command...
    local name=$1 tool=$2 output started=$SECONDS
    shift 2
    if ! command -v "$tool" >/dev/null; then
        echo "skipped $name: $tool is not installed (tests/install_build_deps.sh)"
        skipped=$((skipped + 1))
    elif output=$("$@" 2>&1); then
        echo "ok $name $((SECONDS - started)) s"
        passed=$((passed + 1))
    else
        echo "not ok $name"
        grep -vE '^[0-9]+ warnings? generated\.$' <<<"$output" | head -n 60
        failed=$((failed + 1))
    fi
}

format() { clang-format --dry-run --Werror "${sources[@]}" "${headers[@]}"; }

cppcheck_run() {
    cppcheck --quiet --std=c11 --language=c -I. -D_GNU_SOURCE -j 2 --error-exitcode=1 --inline-suppr \
        --enable=warning,performance,portability --suppress=missingIncludeSystem --suppress=unmatchedSuppression \
        --suppressions-list=tests/lint/cppcheck_suppressions.txt "${program[@]}"
}

tidy() {
    printf '%s\0' "${program[@]}" |
        xargs -0 -n 8 -P 2 sh -c 'flags=$1; shift; clang-tidy --quiet --warnings-as-errors="*" --checks="$TIDY_CHECKS" "$@" -- $flags' \
            tidy "${flags[*]} -std=c11"
}

# SC2016: awk and apt programs stand in single quotes on purpose. Style hints (SC2001 and the like) are not errors.
shell() { shellcheck -x --severity=info --exclude=SC2016 "${scripts[@]}"; }

manuals() {
    local page bad=0
    for page in man/*.[0-9]; do
        mandoc -T lint -W warning,stop "$page" || bad=1
    done
    return "$bad"
}

generated() {
    local bad=0
    "$build/smtpwitness" --print-sample | diff -u conf/smtpwitness.conf.sample - || bad=1
    "$build/smtpwitness" --print-manual | diff -u man/smtpwitness.conf.5 - || bad=1
    [ "$bad" -eq 0 ] || echo "the settings table changed: run 'make generate' and commit the result"
    return "$bad"
}

# Every subcommand and option of the program stands in its manual page.
documented() {
    local word bad=0 count=0
    while read -r word; do
        count=$((count + 1))
        sed 's/\\-/-/g' man/smtpwitness.8 | grep -qE "(^|[ -])${word#--}( |$)" ||
            { echo "man/smtpwitness.8 does not mention $word"; bad=1; }
    done < <("$build/smtpwitness" --help | grep -oE -e '^  smtpwitness [a-z-]+' -e '^ {8}--[a-z-]+' | awk '{ print $NF }' | sort -u)
    [ "$count" -gt 0 ] || { echo "$build/smtpwitness --help lists nothing"; bad=1; }
    return "$bad"
}

# What docs/ and the README name is there: causes, options of the rules, files and headings linked to.
documents() {
    local word file bad=0 causes options
    causes=$("$build/smtpwitness" explain | awk '/^[a-z]/ { print $1 }')
    options=$(rules/smtpwitness-rules --help; "$build/smtpwitness" --help)
    while read -r word; do
        grep -qx "$word" <<<"$causes" || { echo "docs name a cause that there is not: $word"; bad=1; }
    done < <(grep -ohE 'cause=[a-z-]+' docs/*.md README.md | sort -u | cut -d= -f2)
    while read -r word; do
        grep -qE -- "$word\b" <<<"$options" || { echo "docs name an option that there is not: $word"; bad=1; }
    done < <(grep -hE 'smtpwitness(-rules)? ' docs/*.md README.md | grep -oE -e '--[a-z][a-z-]+' | sort -u)
    for file in docs/*.md README.md; do
        for word in $(grep -oE '\]\([^)]*\)' "$file" | tr -d '])('); do
            case $word in
            http*) ;;
            '#'*) sed -n 's/^##* //p' "$file" | tr 'A-Z ' 'a-z-' | tr -cd 'a-z0-9\n-' | grep -qxF -- "${word#?}" ||
                { echo "$file: no heading $word"; bad=1; } ;;
            *) [ -e "$(dirname "$file")/$word" ] || { echo "$file: no file $word"; bad=1; } ;;
            esac
        done
    done
    return "$bad"
}

wording() { # words that mark what is unfinished, and checks that cannot fail
    # shellcheck disable=SC2251
    ! git grep -nE 'TODO|FIXME|XXX:|\|\| *true' -- . ':!tests/lint/run.sh'
}

# The static analyser takes minutes: `make analyze` adds it.
checks='-*,bugprone-*,misc-misplaced-const,performance-*,-performance-no-int-to-ptr'
for without in easily-swappable-parameters reserved-identifier narrowing-conversions assignment-in-if-condition \
    misplaced-widening-cast implicit-widening-of-multiplication-result sizeof-expression branch-clone \
    not-null-terminated-result suspicious-missing-comma; do
    checks+=,-bugprone-$without
done
if [ "${1:-}" = analyze ]; then
    checks+=',clang-analyzer-*,-clang-analyzer-security.insecureAPI.DeprecatedOrUnsafeBufferHandling'
    checks+=',-clang-analyzer-valist.Uninitialized' # a false alarm of clang 14 at every va_start
fi
export TIDY_CHECKS=$checks

if [ "${1:-}" = analyze ]; then
    one analyze clang-tidy tidy
    echo "$passed passed, $failed failed, $skipped skipped"
    exit "$failed"
fi
one format clang-format format
one cppcheck cppcheck cppcheck_run
one clang-tidy clang-tidy tidy
one shellcheck shellcheck shell
one include-direction awk tests/lint/include_direction.sh
one include-direction-self-test awk tests/lint/include_direction.sh --self-test
one core-purity nm tests/lint/core_purity.sh "$build/obj/core"
one core-purity-self-test nm tests/lint/core_purity.sh --self-test
one manuals mandoc manuals
one generated diff generated
one documented grep documented
one documents grep documents
one wording git wording
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
