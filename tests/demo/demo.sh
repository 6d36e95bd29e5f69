#!/bin/bash
# demo.sh - smtpwitness at work, in two minutes: mail crosses a router of network namespaces, first well, then badly.
# Everything runs in namespaces and in mail servers' roots of our own (build/roots); no service of this machine is
# touched, and nothing keeps running, however this ends. Needs root and a built program.
set -u
cd "$(dirname "$0")/../.." || exit 1
work=$(mktemp -d)
runner=

clean_up() {
    if [ -n "$runner" ]; then # run.py ends the namespaces and all that runs in them
        kill -TERM "$runner" 2>/dev/null
        wait "$runner" 2>/dev/null
    fi
    rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 130' INT TERM HUP

fail() {
    echo "demo.sh: $*" >&2
    exit 1
}

# Runs one scenario and shows of its many steps those that matter here.
play() { # file
    local status
    tests/scenarios/run.py -v --way proxy "$1" >"$work/said" 2>&1 &
    runner=$!
    wait "$runner"
    status=$?
    runner=
    sed -nE 's/^\[[a-z-]+ +proxy +[0-9.]+\] (start postfix .*)$/    \1/p
             s/^\[[a-z-]+ +proxy +[0-9.]+\] ip netns exec [^ ]+ [^ ]*\/(build\/smtpwitness proxy .*)$/    \1/p
             s/^\[[a-z-]+ +proxy +[0-9.]+\] ip netns exec [^ ]+ [^ ]*\/(rules\/smtpwitness-rules .*)$/    \1/p' "$work/said"
    sed -nE 's/^\[[a-z-]+ +proxy +[0-9.]+\] syslog> <[0-9]+>(.*smtpwitness(\[[0-9]+\])?: (stall|verdict) .*)$/\1/p' "$work/said" >"$work/lines"
    if [ "$status" -ne 0 ] || [ ! -s "$work/lines" ]; then
        sed -n '/^not ok\|^skipped/,$p' "$work/said" | head -n 12 >&2
        fail "'$1' did not go as it should"
    fi
}

show() { # the syslog lines as they came, folded for the eye
    echo
    fold -s -w 110 "$work/lines" | sed 's/^/    /'
    echo
    echo "   Its last words say it in a sentence:"
    tail -n 1 "$work/lines" | sed -nE 's/.* explain="([^"]*)".*/\1/p' | fold -s -w 106 | sed 's/^/       /'
    echo
}

[ "$(id -u)" = 0 ] || fail "run it as root: it makes network namespaces and starts mail servers in them"
[ -x build/smtpwitness ] || fail "build/smtpwitness is missing: run 'make' first"

echo "1. A small Debian root with Postfix for the two mail servers (build/roots, kept for the next time)"
tests/mta/make_roots.sh postfix || fail "the mail server's root could not be made"

echo "2. A router with the witness, a Postfix on each side of it, and one mail from one to the other"
play tests/demo/delivered.toml
echo "   Delivered. What the witness wrote to syslog:"
show
echo "   'fault=none' and 'mails=1/1': the server accepted the one mail that the client sent. Nothing was changed on"
echo "   the way, and the server saw the client's own address and port."
echo
echo "3. The field case: Postfix gives its clients 8 s (smtpd_timeout=8s), and this client sleeps after the 354"
play tests/demo/asleep.toml
echo "   The server's own log now says 'timeout after DATA', as if the network had failed. The witness says, first"
echo "   while the silence lasts ('stall', not yet sure), then at the end ('verdict'):"
show
echo "   The client had the word and every octet sent to it was acknowledged, so neither the network nor the server"
echo "   is to blame for the silence. The server ended it by its own limit, which is shorter than what RFC 5321"
echo "   asks for (limit-by=server, notes=server-limit-below-rfc)."
echo
echo "What to do about it: build/smtpwitness explain data-start-stall"
