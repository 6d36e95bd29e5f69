#!/bin/bash
# units.sh - what can be said of the installation without starting it: what install puts where and uninstall takes away,
# the units by systemd-analyze (they are sound, and exposed no more than BOUND), completion.
# Each tool that is missing is a test that is skipped. No root needed.
set -u
cd "$(dirname "$0")/../.." || exit 1
program=${PROGRAM:-build/smtpwitness}
BOUND=16 # tenths of systemd's exposure level
passed=0 failed=0 skipped=0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
prefix=$work/usr units=$work/usr/lib/systemd/system

judge() { # name condition-status detail
    if [ "$2" -eq 0 ]; then
        passed=$((passed + 1))
        echo "ok $1"
    else
        failed=$((failed + 1))
        echo "not ok $1: $3"
    fi
}

has() { # tool test-name
    command -v "$1" >/dev/null && return 0
    skipped=$((skipped + 1))
    echo "skipped $2: $1 is not installed"
    return 1
}

install_run() { tests/lib/install.sh "$1" "$program" "" "$prefix" "$work/etc" "$units" 2>&1; }

installation() {
    local said again left page
    said=$(install_run install)
    judge 'install works' $? "$said"
    echo '# mine' >>"$work/etc/smtpwitness/rules.conf"
    again=$(install_run install) && grep -qx '# mine' "$work/etc/smtpwitness/rules.conf"
    judge 'a second install keeps the configuration' $? "$again $(tail -n 1 "$work/etc/smtpwitness/rules.conf")"
    said=$(grep -rl '@[a-z]*@' "$prefix" 2>/dev/null | grep -v '/sbin/smtpwitness$')
    [ -z "$said" ]
    judge 'no path is left to be put in' $? "$said"
    said=$("$prefix/sbin/smtpwitness-rules" proxy show 2>&1) && grep -q TPROXY <<<"$said"
    judge 'the installed rules find their parts' $? "$said"
    while read -r page; do
        page=${page#man:}
        page=${page%)}
        [ -e "$prefix/share/man/man${page#*(}/${page/\(/.}" ]
        judge "the manual page ${page/\(/.} that a unit names" $? 'it is not installed'
    done < <(sed -nE 's/^Documentation=//p' systemd/*.service systemd/*.socket | grep -o 'man:[a-z.-]*([0-9])' | sort -u)
}

removal() {
    local said left
    said=$(install_run uninstall)
    judge 'uninstall works' $? "$said"
    left=$(cd "$work" && find . -type f -o -type l | sort | tr '\n' ' ')
    [ "$left" = './etc/logrotate.d/smtpwitness ./etc/smtpwitness/rules.conf ./etc/smtpwitness/smtpwitness.conf ' ]
    judge 'uninstall leaves the configuration and nothing else' $? "$left"
}

analysis() {
    local unit said level
    has systemd-analyze 'verify, exposure' || return
    said=$(cd "$units" && systemd-analyze verify --man=no --recursive-errors=no ./smtpwitness-proxy.socket ./*.service 2>&1)
    [ $? -eq 0 ] && [ -z "$said" ]
    judge 'systemd-analyze verify' $? "$said"
    for unit in "$units"/*.service; do
        unit=${unit##*/}
        said=$(cd "$units" && systemd-analyze security --offline=true --no-pager "./$unit" 2>&1)
        level=$(sed -nE 's/.*exposure level for .*: ([0-9]+)\.([0-9]).*/\1\2/p' <<<"$said")
        [ -n "$level" ] && [ "$level" -le "$BOUND" ]
        judge "exposure of $unit at most 1.6" $? "$(tail -n 1 <<<"$said")"
    done
}

complete_words() { # what Tab offers for the words before it; the last is the one it stands in
    bash -c '
        . /usr/share/bash-completion/bash_completion && . "$1" && shift
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMP_LINE="$*"
        COMP_LINE=${COMP_LINE// = /=} COMP_POINT=${#COMP_LINE}
        compopt() { :; }
        "_${1//-/_}" "$1" "${@: -1}" "" 2>/dev/null
        echo " ${COMPREPLY[*]} "' bash systemd/bash-completion "$@" 2>&1
}

offers() { # wanted words...
    local wanted=$1 said
    shift
    said=$(PATH=$prefix/sbin:$PATH complete_words "$@")
    [[ $said == *" $wanted "* ]]
    judge "completion of '$*' offers $wanted" $? "$said"
}

completion() {
    if [ ! -e /usr/share/bash-completion/bash_completion ]; then
        skipped=$((skipped + 1))
        echo 'skipped completion: bash-completion is not installed'
        return
    fi
    offers nfq smtpwitness ''
    offers --print-sample smtpwitness --pr
    offers --config= smtpwitness proxy --
    offers --foreground smtpwitness nfq --f
    offers json smtpwitness proxy --format = j
    offers data-start-stall smtpwitness explain data-st
    offers unload smtpwitness-rules proxy u
    offers --dry-run smtpwitness-rules proxy load --d
    offers --keep-open smtpwitness-rules proxy unload --k
    offers both smtpwitness-rules proxy load --family b
}

installation
analysis
completion
removal
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
