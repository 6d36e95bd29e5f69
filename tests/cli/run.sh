#!/bin/bash
# run.sh - the program as an administrator meets it: arguments, exit codes, one-line errors, reload, signals.
# The part that starts the proxy runs in a network namespace of its own and needs root; without root it is skipped.
set -u
here=$(cd "$(dirname "$0")" && pwd)
program=${PROGRAM:-$here/../../build/smtpwitness}
namespace=cli-$$
passed=0 failed=0 skipped=0
work=$(mktemp -d)
chmod 755 "$work"
witness=

clean_up() {
    [ -z "$witness" ] || kill -9 "$witness" 2>/dev/null
    ip netns del "$namespace" 2>/dev/null
    rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 130' INT TERM

judge() { # name condition-status detail
    if [ "$2" -eq 0 ]; then
        passed=$((passed + 1))
        echo "ok $1"
    else
        failed=$((failed + 1))
        echo "not ok $1: $3"
    fi
}

# Exit code, and exactly one line on stderr that matches.
refuses() { # name code pattern arguments...
    local name=$1 code=$2 pattern=$3 status lines
    shift 3
    timeout 20 "$program" "$@" >"$work/out" 2>"$work/err" </dev/null
    status=$?
    lines=$(wc -l <"$work/err")
    [ "$status" -eq "$code" ] && [ "$lines" -eq 1 ] && [ ! -s "$work/out" ] && grep -qE -- "$pattern" "$work/err"
    judge "$name" $? "exit $status, $lines lines: $(head -c 300 "$work/err")"
}

prints() { # name pattern arguments...
    local name=$1 pattern=$2 status
    shift 2
    timeout 20 "$program" "$@" >"$work/out" 2>"$work/err" </dev/null
    status=$?
    [ "$status" -eq 0 ] && [ ! -s "$work/err" ] && grep -qE -- "$pattern" "$work/out"
    judge "$name" $? "exit $status: $(head -c 300 "$work/err" "$work/out")"
}

captures() { # what replay says about files that are no captures
    : >"$work/empty"
    printf 'no capture\n' >"$work/text"
    printf '\037\213\010' >"$work/cut.gz"
    printf '\324\303\262\241\002\000\004\000\000\000\000\000\000\000\000\000\000\000\004\000\001\000\000\000' >"$work/header.pcap"
    gzip -c "$work/text" >"$work/text.gz"
    gzip -c "$work/header.pcap" >"$work/header.gz"
    refuses 'replay: no such file' 2 'cannot read .*none.pcap: No such file' replay "$work/none.pcap"
    refuses 'replay: a directory' 2 'Is a directory' replay "$work"
    refuses 'replay: an empty file' 2 'empty is empty' replay "$work/empty"
    refuses 'replay: nothing on standard input' 2 'standard input is empty' replay -
    refuses 'replay: a text' 2 'text is no capture file that can be read' replay "$work/text"
    refuses 'replay: a compressed text' 2 'unknown file format' replay "$work/text.gz"
    refuses 'replay: cut compressed data' 2 'damaged or cut' replay "$work/cut.gz"
    refuses 'replay: no sessions' 0 'no SMTP session on the ports of SMTP.*--any-port' replay --format=json "$work/header.pcap"
    refuses 'replay: no sessions in a compressed one' 0 'no SMTP session on any port' replay --format=json --any-port "$work/header.gz"
    mkdir "$work/bin" # no gzip there
    PATH=$work/bin "$program" replay "$work/header.gz" 2>"$work/err"
    [ $? -eq 2 ] && grep -q 'gzip is not installed' "$work/err"
    judge 'replay: without gzip' $? "$(cat "$work/err")"
}

arguments() {
    printf '[limits]\nper-source = 20\n' >"$work/good.conf"
    printf '[limits]\nper-source = 20\nper-source = 30\n' >"$work/twice.conf"
    printf '[limits]\nper-source = 12abc\n' >"$work/number.conf"
    refuses 'nothing said' 2 'say what to do.*--help'
    refuses 'unknown command' 2 "unknown command 'prox'" prox
    refuses 'unknown option' 2 "unknown option '--fore'.*proxy --help" proxy --fore
    refuses 'option without its value' 2 '--config wants a value' proxy --config
    refuses 'option with an empty value' 2 '--config wants a value' proxy --config=
    refuses 'flag with a value' 2 '--foreground takes no value' proxy --foreground=yes
    refuses 'value that is none of the choices' 2 'xml.*logfmt\|json' proxy --format=xml
    refuses 'option twice' 2 'stands twice' proxy --format=json --format=json
    refuses 'operand too many' 2 "unexpected 'more'" check "$work/good.conf" more
    refuses 'more files than fit' 2 'more than 256 words' replay $(seq 257)
    refuses 'operand missing' 2 'FILE... is missing' replay
    refuses 'check: a way to stand here that there is not' 2 'must be one of proxy\|nfq' check --machine=bridge "$work/good.conf"
    refuses 'rules: nothing said' 2 'say load, unload, show' rules
    refuses 'rules: unknown verb' 2 "unknown verb 'shwo'" rules shwo
    refuses 'rules: unknown option' 2 "unknown option '--prot'" rules show --prot
    refuses 'rules: --config without its value' 2 '--config wants a value' rules show --config
    refuses 'rules: --config behind the verb' 2 'number.conf:2: ' rules show --config="$work/number.conf"
    refuses 'rules: bad configuration' 2 'number.conf:2: ' rules --config="$work/number.conf" show
    refuses 'check: no such file' 2 'none.conf' check "$work/none.conf"
    refuses 'check: a directory' 2 "$work" check "$work"
    refuses 'check: key twice names file and line' 2 'twice.conf:3: ' check "$work/twice.conf"
    refuses 'check: bad number names file, line and key' 2 'number.conf:2: .*per-source' check "$work/number.conf"
    refuses 'proxy: bad configuration, before anything else' 2 'number.conf:2: ' proxy --config "$work/number.conf"
    refuses 'explain: unknown cause' 2 "no cause is called 'gremlins'.*verdicts\\(7\\)" explain gremlins
    prints 'check: a good file' '^/.*good.conf: ok$' check "$work/good.conf"
    printf '[proxy]\nlisten-port = 10026\nfail = closed\n[nfq]\nqueues = 4\n' >"$work/rules_of.conf"
    prints 'rules show: what the configuration says' 'TPROXY --on-port 10026' rules --config="$work/rules_of.conf" show --family 4
    if grep -q recent "$work/out"; then false; else true; fi
    judge 'rules show: fail = closed' $? "$(grep recent "$work/out")"
    prints 'rules show: fail = open' '-m recent ! --rcheck' rules --config "$work/good.conf" show
    prints 'rules show: an option wins' 'TPROXY --on-port 10027' rules --config="$work/rules_of.conf" show --listen-port=10027
    prints 'rules nfq show' 'queue-num 2528' rules --config="$work/rules_of.conf" nfq show
    printf 'PORT=2525\n' >"$work/rules.conf"
    prints 'rules show: rules.conf beside the configuration' '--dport 2525 ' rules --config="$work/rules_of.conf" show
    printf 'FAIL=open\n' >"$work/rules.conf"
    prints 'rules show: rules.conf wins over the configuration' '-m recent ! --rcheck' rules --config="$work/rules_of.conf" show
    rm "$work/rules.conf"
    prints 'help names the manual' 'smtpwitness\(8\)' --help
    prints 'help by other names' 'smtpwitness proxy' help
    prints 'help of a command' '--pid-file' proxy --help
    prints 'help of a command, behind an option' '--pid-file' proxy --foreground --help
    prints 'help of the rules' '--translated' rules load --help
    prints 'help of the rules, without a verb' '--translated' rules nfq --help
    prints 'version' '^smtpwitness [0-9]+\.[0-9]+' --version
    prints 'explain lists causes' '^data-start-stall +' explain
    prints 'explain says what to do' "client's administrator" explain data-start-stall
    prints 'dump of the defaults' '^per-source' --dump-config
    prints 'dump of a file' '^per-source = 20$' --dump-config --config "$work/good.conf"
    "$program" --dump-config --config "$work/good.conf" >"$work/dump.conf"
    prints 'the dump is a good file' ': ok$' check "$work/dump.conf"
    "$program" --print-sample >"$work/sample.conf"
    prints 'the sample is a good file' ': ok$' check "$work/sample.conf"
    captures
    local cause bad=
    for cause in $("$program" explain | awk '/^[a-z]/ { print $1 }'); do
        "$program" explain "$cause" | grep -q '^What was seen' || bad+=" $cause"
    done
    [ -z "$bad" ]
    judge 'every cause listed can be explained' $? "$bad"
    local words
    for words in --help explain --dump-config 'rules show' 'rules nfq show' "check $work/good.conf"; do
        # shellcheck disable=SC2086  # words
        "$program" $words >/dev/full 2>"$work/err"
        [ $? -eq 1 ] && [ "$(wc -l <"$work/err")" -eq 1 ] && grep -qE 'No space left|cannot write' "$work/err"
        judge "a full disk is said in one line: $words" $? "$(head -c 300 "$work/err")"
        # shellcheck disable=SC2086
        "$program" $words >&- 2>"$work/err"
        [ $? -eq 1 ] && [ "$(wc -l <"$work/err")" -eq 1 ] && grep -qE 'Bad file descriptor|cannot write' "$work/err"
        judge "a closed output is said in one line: $words" $? "$(head -c 300 "$work/err")"
    done
}

inside() { ip netns exec "$namespace" "$@"; }

await() { # pattern; waits until the witness says it
    local tries=0
    until grep -qE -- "$1" "$work/log"; do
        tries=$((tries + 1))
        [ "$tries" -lt 100 ] && kill -0 "$witness" 2>/dev/null || return 1
        sleep 0.1
    done
}

said() { # name pattern
    await "$2"
    judge "$1" $? "not said: $2 / $(tail -n 3 "$work/log" | head -c 600)"
}

start() {
    : >"$work/log"
    ip netns exec "$namespace" "$program" proxy --config "$work/run.conf" --foreground --pid-file "$work/run.pid" 2>>"$work/log" </dev/null &
    witness=$!
}

ended() { # name code seconds
    local tries=0 status
    while kill -0 "$witness" 2>/dev/null && [ "$tries" -lt $(($3 * 10)) ]; do
        sleep 0.1
        tries=$((tries + 1))
    done
    kill -9 "$witness" 2>/dev/null
    wait "$witness" 2>/dev/null
    status=$?
    witness=
    [ "$status" -eq "$2" ]
    judge "$1" $? "exit $status, expected $2"
}

# Exit code, what is found, and that a remedy stands below it.
finds() { # name code pattern command...
    local name=$1 code=$2 pattern=$3 status
    shift 3
    inside "$@" >"$work/out" 2>"$work/err" </dev/null
    status=$?
    [ "$status" -eq "$code" ] && [ ! -s "$work/err" ] && grep -A 1 -E -- "$pattern" "$work/out" | grep -qE '^remedy: .|^this machine: no problem'
    judge "$name" $? "exit $status: $(head -c 400 "$work/err" "$work/out")"
}

machine() {
    local proxy=("$program" check --machine=proxy)
    inside sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
    printf '[proxy]\nlisten-port = 20025\n' >"$work/machine.conf"
    printf '[proxy]\nmax-sessions = 5000\n' >"$work/many.conf"
    printf '[log]\njson-file = %s/none/file\n' "$work" >"$work/json.conf"
    finds 'check: a machine that is good for the proxy' 0 '^this machine: no problem for proxy$' "${proxy[@]}" "$work/machine.conf"
    finds 'check: and for the packet hook' 0 '^this machine: no problem for nfq$' "$program" check --machine=nfq "$work/machine.conf"
    finds 'check: too few descriptors for max-sessions' 1 'problem: .*max-sessions = 5000 needs [0-9]+ descriptors' \
        prlimit --nofile=1000:1000 "${proxy[@]}" "$work/many.conf"
    finds 'check: few descriptors' 0 'warning: 1000 descriptors allow only 468 sessions' prlimit --nofile=1000:1000 "${proxy[@]}" "$work/machine.conf"
    finds 'check: no folder for the JSON file' 1 "problem: .*json-file: cannot write in $work/none" "${proxy[@]}" "$work/json.conf"
    finds 'check: no root' 1 'problem: missing privilege CAP_NET_RAW' \
        setpriv --reuid 65534 --regid 65534 --clear-groups "${proxy[@]}" "$work/machine.conf"
    inside sysctl -qw net.ipv4.ip_forward=0 net.ipv6.conf.all.forwarding=0
    finds 'check: what the rules find is found' 1 'problem: net.ipv4.ip_forward is 0' "${proxy[@]}" "$work/machine.conf"
}

running() {
    ip netns add "$namespace" && inside ip link set lo up
    machine
    printf '[proxy]\nlisten-port = 20025\ndrain = 2s\n[limits]\nper-source = 20\n' >"$work/run.conf"
    start
    said 'ready line' '^smtpwitness: proxy: ready, listening on port 20025$'
    said 'worst-case memory is printed' 'memory at worst [0-9]+ MB'
    grep -q "^$witness\$" "$work/run.pid"
    judge 'pid file' $? "$(cat "$work/run.pid")"
    [ "$(awk '/^Uid:/ { print $2 }' "/proc/$witness/status")" = 65534 ]
    judge 'runs as nobody' $? "$(grep Uid "/proc/$witness/status")"
    local task bad=0
    for task in "/proc/$witness/task/"*; do # CAP_NET_RAW is bit 13: nothing else may be left
        grep -qE '^CapEff:\s+0000000000002000$|^CapEff:\s+0000000000000000$' "$task/status" || bad=1
        grep -qE '^NoNewPrivs:.*1' "$task/status" || bad=1
        grep -qE '^CapBnd:\s+0000000000000000$' "$task/status" || bad=1
    done
    judge 'CAP_NET_RAW, no other privilege and no new ones in any thread' "$bad" "$(grep -h Cap "/proc/$witness/task/"*/status | sort | uniq -c | head -c 400)"
    [ "$(grep -L '^Seccomp:.2' "/proc/$witness/task/"*/status)" = '' ]
    judge 'a system call filter in every thread' $? "$(grep -h Seccomp: "/proc/$witness/task/"*/status | sort | uniq -c)"
    inside sysctl -qw net.ipv4.ip_forward=1
    finds 'check: a port in use' 0 'warning: .*listen-port = 20025: in use' "$program" check --machine=proxy "$work/machine.conf"
    inside timeout 20 "$program" proxy --config "$work/run.conf" --foreground 2>"$work/err"
    [ $? -eq 1 ] && [ "$(wc -l <"$work/err")" -eq 1 ] && grep -q 'listen-port = 20025: in use' "$work/err"
    judge 'a port in use is one line and exit 1' $? "$(head -c 400 "$work/err")"
    inside timeout 20 "$program" proxy --config "$work/run.conf" --foreground --pid-file "$work/run.pid" 2>"$work/err"
    [ $? -eq 1 ] && [ "$(wc -l <"$work/err")" -eq 1 ] && grep -q "already running as process $witness" "$work/err"
    judge 'a second one with the same pid file is refused' $? "$(head -c 400 "$work/err")"
    install -m 755 "$program" "$work/smtpwitness" # the sources may lie where only root comes
    inside setpriv --reuid 65534 --regid 65534 --clear-groups --no-new-privs \
        timeout 20 "$work/smtpwitness" proxy --config "$work/run.conf" --foreground 2>"$work/err"
    [ $? -eq 1 ] && [ "$(wc -l <"$work/err")" -eq 1 ] && grep -q 'missing privilege CAP_NET_RAW.*start as root' "$work/err"
    judge 'a missing privilege is one line with its remedy' $? "$(head -c 400 "$work/err")"
    inside setpriv --reuid 65534 --regid 65534 --clear-groups --no-new-privs \
        timeout 20 "$work/smtpwitness" nfq --config "$work/run.conf" --foreground 2>"$work/err"
    [ $? -eq 1 ] && [ "$(wc -l <"$work/err")" -eq 1 ] && grep -q 'missing privilege CAP_NET_ADMIN.*packet queue' "$work/err"
    judge 'nfq: a missing privilege' $? "$(head -c 400 "$work/err")"

    inside timeout 20 "$program" rules --config="$work/number.conf" unload 2>"$work/err"
    judge 'rules: unload works with a bad configuration' $? "$(cat "$work/err")"
    sed -i 's/per-source = 20/per-source = 30/; s/20025/20026/' "$work/run.conf"
    kill -HUP "$witness"
    said 'reload says what changed' 'reload: \[limits\] per-source = 30 \(was 20\)'
    said 'reload says what needs a restart' 'reload: proxy.listen-port needs a restart; keeping 20025'
    said 'reload says where it is in force' 'reload: .*run.conf is in force'
    mkdir "$work/json" && chown nobody "$work/json"
    printf '[log]\njson-file = %s/first\n' "$work/json" >>"$work/run.conf"
    kill -HUP "$witness"
    said 'reload: a JSON file may be added' 'reload: \[log\] json-file = .*first'
    sed -i 's/first$/second/' "$work/run.conf"
    kill -HUP "$witness"
    said 'reload: and changed' 'reload: \[log\] json-file = .*second \(was .*first\)'
    [ -e "$work/json/first" ] && [ -e "$work/json/second" ]
    judge 'reload: the JSON files are there' $? "$(ls "$work/json")"
    sed -i 's/second$/none\/third/' "$work/run.conf"
    kill -HUP "$witness"
    said 'reload: one that cannot be opened changes nothing' 'json-file: cannot open .*third.*the running configuration stays'
    sed -i 's/none\/third$/second/' "$work/run.conf"
    echo 'no-such-key = 1' >>"$work/run.conf"
    kill -HUP "$witness"
    said 'a broken reload is one line, the old settings stay' 'run.conf:8: .*no-such-key.*the running configuration stays'
    said 'a witness whose rules were forgotten says so' 'no rules that fail open are loaded, .*smtpwitness rules load'
    kill -USR1 "$witness"
    said 'SIGUSR1 logs statistics' 'statistics: uptime-s=[0-9]+ sessions=0 '
    kill -TERM "$witness"
    said 'SIGTERM is said' 'proxy: stopping'
    ended 'SIGTERM ends it with 0' 0 10
    [ ! -e "$work/run.pid" ] || [ ! -s "$work/run.pid" ]
    judge 'the pid file is gone or empty' $? "$(cat "$work/run.pid" 2>&1)"

    printf '[proxy]\nlisten-port = 20025\ndrain = 60s\n[process]\nsystem-call-filter = no\n' >"$work/run.conf"
    start
    said 'starts again after a stop' 'ready, listening'
    grep -q '^Seccomp:.0' "/proc/$witness/status"
    judge 'no system call filter where none is wanted' $? "$(grep Seccomp "/proc/$witness/status")"
    kill -INT "$witness"
    ended 'SIGINT with no session open ends at once' 0 5

    printf '[process]\nuser = no-such-user-here\n' >"$work/user.conf"
    refuses 'an unknown user is one line' 1 'user = no-such-user-here: there is no such user' proxy --config "$work/user.conf"
    printf '[proxy]\nlisten-port = 20025\n' >"$work/run.conf"
    refuses 'a pid file that cannot be written is one line' 1 'pid file /proc/none/x: cannot write' \
        proxy --config "$work/run.conf" --pid-file /proc/none/x
}

arguments
if [ "$(id -u)" != 0 ] || ! command -v ip >/dev/null || ! unshare -n true 2>/dev/null; then
    echo "skipped running: needs root and network namespaces"
    skipped=1
else
    running
fi
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
