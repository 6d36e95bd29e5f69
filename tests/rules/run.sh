#!/bin/sh
# Tests of smtpwitness-rules in network namespaces of their own; nothing outside them is touched.
#
#   rl-cl 10.0.1.2 --(MTU 1300 on the way back)-- rl-mid --10.0.2.0/24-- rl-rt (the router) --10.0.3.0/24-- rl-sv 10.0.3.2
#   the same with fd00:1:: fd00:2:: fd00:3::
#
# usage: run.sh [GROUP]...   groups: arguments state rollback checks traffic life placements; all of them when none is named
# The names begin with $PREFIX (rl).
set -u
prefix=${PREFIX:-rl}
here=$(cd "$(dirname "$0")" && pwd)
rules=$here/../../rules/smtpwitness-rules
python=/usr/bin/python3
[ -x "$python" ] || python=python3
count_ok=0
count_failed=0
started=''

ok() { count_ok=$((count_ok + 1)) && echo "ok - $1"; }
not_ok() {
    count_failed=$((count_failed + 1))
    echo "not ok - $1"
    shift
    [ $# -eq 0 ] || printf '%s\n' "$@" | sed 's/^/#   /'
}
check_equal() { if [ "$2" = "$3" ]; then ok "$1"; else not_ok "$1" "expected: $2" "     got: $3"; fi; }
check_has() { case $3 in *"$2"*) ok "$1" ;; *) not_ok "$1" "expected somewhere: $2" "               got: $3" ;; esac }
check_status() { check_equal "$1" "status $2" "status $3"; }

in_ns() {
    in_ns_name=$1
    shift
    ip netns exec "$prefix-$in_ns_name" "$@"
}
router() { in_ns rt "$@"; }
proxy() { router "$rules" proxy "$@"; }

skip() {
    echo "skipped: $1"
    exit 0
}

# ---- topology ----

clean_up() {
    for pid in $started; do kill "$pid" 2>/dev/null; done
    for name in cl mid rt sv; do
        [ ! -e "/run/netns/$prefix-$name" ] || ip netns del "$prefix-$name"
    done
    rm -rf -- "$scratch"
}

link() { # A DEVICE ADDRESS4 ADDRESS6  B DEVICE ADDRESS4 ADDRESS6
    ip -n "$prefix-$1" link add "$2" type veth peer name "$6" netns "$prefix-$5"
    ip -n "$prefix-$1" addr add "$3/24" dev "$2" && ip -n "$prefix-$1" addr add "$4/64" dev "$2" nodad && ip -n "$prefix-$1" link set "$2" up
    ip -n "$prefix-$5" addr add "$7/24" dev "$6" && ip -n "$prefix-$5" addr add "$8/64" dev "$6" nodad && ip -n "$prefix-$5" link set "$6" up
}

topology() {
    for name in cl mid rt sv; do
        [ ! -e "/run/netns/$prefix-$name" ] || ip netns del "$prefix-$name"
        ip netns add "$prefix-$name" || return 1
        ip -n "$prefix-$name" link set lo up
        in_ns "$name" sysctl -qw net.ipv6.conf.all.accept_dad=0 net.ipv6.conf.default.accept_dad=0 net.ipv6.bindv6only=1
    done
    link cl c0 10.0.1.2 fd00:1::2 mid m0 10.0.1.1 fd00:1::1
    link mid m1 10.0.2.2 fd00:2::2 rt r0 10.0.2.1 fd00:2::1
    link rt r1 10.0.3.1 fd00:3::1 sv s0 10.0.3.2 fd00:3::2
    for name in mid rt; do in_ns "$name" sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1; done
    ip -n "$prefix"-cl route add default via 10.0.1.1 && ip -n "$prefix"-cl -6 route add default via fd00:1::1
    ip -n "$prefix"-mid route add default via 10.0.2.1 && ip -n "$prefix"-mid -6 route add default via fd00:2::1
    ip -n "$prefix"-rt route add 10.0.1.0/24 via 10.0.2.2 && ip -n "$prefix"-rt -6 route add fd00:1::/64 via fd00:2::2
    ip -n "$prefix"-sv route add default via 10.0.3.1 && ip -n "$prefix"-sv -6 route add default via fd00:3::1
    for last in 11 12 13 14 15 16; do
        ip -n "$prefix"-cl addr add "10.0.1.$last/24" dev c0 && ip -n "$prefix"-cl addr add "fd00:1::$last/64" dev c0 nodad
    done
}

start() { # NAME NAMESPACE COMMAND...: in the background, until it says ready
    start_name=$1
    start_namespace=$2
    shift 2
    : >"$scratch/$start_name.out" # an earlier one of that name was ready, too
    ip netns exec "$prefix-$start_namespace" "$@" >"$scratch/$start_name.out" 2>&1 &
    start_pid=$!
    started="$started $start_pid"
    start_tries=0
    until grep -q ready "$scratch/$start_name.out" 2>/dev/null || [ "$start_tries" -ge 100 ]; do
        sleep 0.05
        start_tries=$((start_tries + 1))
    done
}

state() { # all that load may change, without counters
    # shellcheck disable=SC2016  # for the inner shell
    router sh -c '
        for tool in iptables-save ip6tables-save; do $tool | sed -e "/^#/d" -e "s/ \[[0-9]*:[0-9]*\]$//"; done
        for version in -4 -6; do ip $version rule show; ip $version route show table all; done'
}

client() { in_ns cl timeout 12 "$python" "$here/peers.py" "$@"; }

# ---- arguments: one line, status 2, nothing touched ----

refuse() { # EXPECTED ARGUMENT...
    refuse_expected=$1
    shift
    refuse_output=$(router "$rules" "$@" 2>&1)
    refuse_status=$?
    if [ "$refuse_status" -eq 2 ] && [ "$(printf '%s\n' "$refuse_output" | wc -l)" -eq 1 ]; then
        check_has "refused: $*" "$refuse_expected" "$refuse_output"
    else
        not_ok "refused: $*" "status $refuse_status: $refuse_output"
    fi
}

refuse_setting() { # EXPECTED TEXT OF THE FILE
    printf '%b' "$2" >"$scratch/rules.conf"
    refuse "$1" proxy check --settings "$scratch/rules.conf"
}

test_arguments() {
    before=$(state)
    refuse 'no mode given'
    refuse "unknown mode 'prxy'" prxy load
    refuse "unknown mode 'common'" common load
    refuse "unknown mode '../proxy'" ../proxy load
    refuse 'no verb given' proxy
    refuse "unknown verb 'start'" proxy start
    refuse "unknown option '--prot'" proxy load --prot 25
    refuse "unknown option '25'" proxy load 25
    refuse '--port needs a value' proxy load --port
    refuse 'no port given' proxy load --port ''
    refuse "'0' is no port" proxy load --port 0
    refuse "'65536' is no port" proxy load --port 25,65536
    refuse "'025' is no port" proxy load --port 025
    refuse 'given twice' proxy load --port 25,25
    refuse '--port is given twice' proxy load --port 25 --port 587
    refuse 'at most 15' proxy load --port 1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16
    refuse 'no interface name' proxy load --in-interface 'r0;id'
    refuse 'no interface name' proxy load --in-interface abcdefghijklmnop
    refuse 'given twice' proxy load --in-interface r0 --in-interface r0
    refuse 'no network' proxy load --exempt 10.0.0.0/33
    refuse 'no network' proxy load --exempt 10.0.0.256
    refuse 'no network' proxy load --exempt fd00::1::2
    refuse 'no network' proxy load --exempt fd00::/129
    refuse 'no network' proxy load --exempt example.org
    refuse 'also an intercepted port' proxy load --port 25,10025
    refuse 'no mark' proxy load --mark green
    refuse 'value is 0' proxy load --mark 0/1
    refuse 'outside its mask' proxy load --mark 0x3/0x1
    refuse 'no mark' proxy load --mark 0x100000000/0x1
    refuse 'belongs to the system' proxy load --table 254
    refuse 'no routing table' proxy load --table main
    refuse 'no rule priority' proxy load --priority 32766
    refuse 'no conntrack zone' proxy load --zone 65536
    refuse 'no family' proxy load --family 5
    refuse 'no PUBLIC=SERVER' proxy load --translated 10.0.2.1
    refuse 'no PUBLIC=SERVER' proxy load --translated 10.0.2.1=fd00:3::2
    refuse 'give single addresses' proxy load --translated 10.0.2.0/24=10.0.3.2
    refuse '--translated belongs to proxy' nfq load --translated 10.0.2.1=10.0.3.2
    refuse 'no way to fail' proxy load --fail half
    refuse '--fail belongs to proxy' nfq load --fail open
    refuse '--tool belongs to nfq' proxy load --tool nft
    refuse "'ipfw' is no tool" nfq load --tool ipfw
    refuse '--keep-open belongs to unload' proxy load --keep-open
    refuse 'no such readable file' proxy load --settings "$scratch/none"
    refuse_setting "rules.conf:2: unknown key 'PROT'" 'PORT=25\nPROT=25\n'
    refuse_setting 'rules.conf:1: the file begins with a byte order mark' '\0357\0273\0277PORT=25\n'
    refuse_setting 'rules.conf: a NUL octet' 'PORT=2\00005\n'
    refuse_setting 'rules.conf:3: PORT is set twice' 'PORT=25\n\nPORT=587\n'
    refuse_setting 'is not KEY=value' 'PORT 25\n'
    # shellcheck disable=SC2016  # it must not expand, here or there
    refuse_setting "PORT: '\$(id)' is no port" 'PORT=$(id)\n'
    refuse_setting "FAMILY: '5' is no family" 'FAMILY = 5\n'
    refuse_setting 'rules.conf:1: the file is in UTF-16' '\377\376P\n'
    refuse_setting 'write the value without quotes' 'PORT="25"\n'
    refuse_setting 'a comment stands on a line of its own' 'IN_INTERFACE=r0 # clients\n'
    check_equal 'refused arguments touch nothing' "$before" "$(state)"
    test_settings_file
}

test_settings_file() {
    printf '# comment\nPORT=25,587\nIN_INTERFACE=r0,r1\nEXEMPT=10.9.0.0/16\nMARK=0x2000000/0x2000000' >"$scratch/rules.conf"
    shown=$(proxy show --settings "$scratch/rules.conf" --in-interface r7)
    check_equal 'line ends of Windows do not count' "$shown" \
        "$(sed 's/$/\r/' "$scratch/rules.conf" >"$scratch/crlf.conf"; proxy show --settings "$scratch/crlf.conf" --in-interface r7)"
    check_has 'the file sets the ports' 'dports 25,587' "$shown"
    check_has 'its last line needs no end of line' 'fwmark 0x2000000/0x2000000' "$shown"
    check_has 'the command line overrides a list' '-i r7 ' "$shown"
    case $shown in *'-i r0 '*) not_ok 'the list of the file is gone' "$shown" ;; *) ok 'the list of the file is gone' ;; esac
    printf '  # comment\r\n\tPORT = 25,587\r\n\r\nIN_INTERFACE=r0, r1 \r\n' >"$scratch/rules.conf"
    check_equal 'blanks around key and value, and line ends of other systems, are none of them' \
        "$(proxy show --port 25,587 --in-interface r0,r1)" "$(proxy show --settings "$scratch/rules.conf")"
    check_equal 'the sample file holds' "$(proxy show)" "$(sed 's/^#\([A-Z_]*=.*[^.]\)$/\1/' "$here/../../rules/rules.conf.sample" |
        grep -v 'EXEMPT\|IN_INTERFACE\|TRANSLATED' >"$scratch/sample.conf"; proxy show --settings "$scratch/sample.conf")"
}

# ---- load, unload, idempotence, foreign rules ----

foreign_rules() { # what an administrator may have, around and between ours
    for tool in iptables ip6tables; do
        router "$tool" -t mangle -A PREROUTING -p tcp --dport 80 -j MARK --set-xmark 0x1/0xff
        router "$tool" -A INPUT -p tcp --dport 22 -j ACCEPT
        router "$tool" -A FORWARD -p tcp --dport 22 -j ACCEPT
        router "$tool" -A OUTPUT -p tcp --dport 7 -j ACCEPT
        router "$tool" -N MINE
        router "$tool" -A MINE -m comment --comment 'not SMTPWITNESS_PRE' -j RETURN
    done
    router ip rule add fwmark 0x1/0xff lookup 77 priority 7000
    router ip route add 10.77.0.0/16 dev lo table 77
}

test_state() {
    pristine=$(state)
    output=$(proxy unload 2>&1)
    check_status 'unload with nothing loaded' 0 $?
    check_equal 'it says nothing and changes nothing' "$pristine" "$output$(state)"
    proxy status >/dev/null
    check_status 'status says not loaded' 1 $?
    output=$(proxy load 2>&1)
    check_status 'load in an empty ruleset' 0 $?
    check_equal 'it says that nobody listens yet, and nothing else' "smtpwitness-rules: warning: nothing listens on port 10025 for IPv4 and IPv6: while \
the rules are loaded, new connections pass unseen; start smtpwitness proxy, or give its port with --listen-port" "$output"
    loaded=$(state | grep -v '^:SMTPWITNESS_MADE ')
    proxy unload
    proxy show >"$scratch/show.sh" && router sh "$scratch/show.sh"
    check_equal 'what show prints does what load does' "$loaded" "$(state)"
    proxy unload
    for family in ip ip6; do for table in filter mangle raw; do router nft delete table "$family" "$table"; done; done
    check_equal 'unload leaves even the tables as they were' "$pristine" "$(state)"
    for first in proxy nfq; do
        case $first in proxy) second=nfq ;; nfq) second=proxy ;; esac
        router "$rules" "$first" load 2>/dev/null && router "$rules" "$second" load 2>/dev/null
        router "$rules" "$first" unload && router "$rules" "$second" unload
        check_equal "both modes, $first first to come and to go: even the tables are as they were" "$pristine" "$(state)"
    done
    proxy load --port 25,587 2>/dev/null
    check_has 'unload ends what the kernel keeps of sessions, but not of the host itself' \
        "ss -K state time-wait '( sport = :25 or dport = :25 or sport = :587 or dport = :587 ) and not src 10.0.2.1" "$(proxy unload -n)"
    proxy unload
    proxy load --port 587 --in-interface r0 2>/dev/null
    check_has 'of one port as well' "ss -K state time-wait '( sport = :587 or dport = :587 ) and not src" "$(proxy unload -n)"
    proxy unload

    foreign_rules
    before=$(state)
    output=$(proxy load -n)
    check_equal 'a dry run changes nothing' "$before" "$(state)"
    check_has 'a dry run tells what load would do' 'ip -6 rule add fwmark 0x1000000/0x1000000 lookup 2525 priority 2525' "$output"
    proxy load --in-interface r0 --port 25,587 --exempt 10.9.0.0/16,fd09::/16 --exempt 10.8.0.1
    check_status 'load beside foreign rules' 0 $?
    once=$(state)
    check_equal 'foreign rules are still there' "$before" "$(printf '%s\n' "$once" | grep -v '^:SMTPWITNESS\|^-A SMTPWITNESS\|-j SMTPWITNESS\|0x1000000\|table 2525\|^\*raw' | state_without_raw)"
    proxy load --in-interface r0 --port 25,587 --exempt 10.9.0.0/16,fd09::/16 --exempt 10.8.0.1
    check_status 'load again' 0 $?
    check_equal 'loading twice is loading once' "$once" "$(state)"
    proxy load
    default=$(state)
    proxy load --table 3000 --priority 3000 --mark 0x2000000/0x2000000 --zone none --port 587 --family 4
    check_status 'load with other settings' 0 $?
    other=$(state)
    case $other in
    *2525*) not_ok 'nothing of the earlier settings is left' "$(printf '%s\n' "$other" | grep 2525)" ;;
    *) ok 'nothing of the earlier settings is left' ;;
    esac
    proxy load &
    wait_pid=$!
    proxy load
    wait "$wait_pid"
    check_equal 'and back again, by two loads at once' "$default" "$(state)"
    test_state_unload
}

state_without_raw() { # our table raw, and the line ends it brought: both families had none before
    awk '/^:/ && previous == "COMMIT" { skipping = 1 } /^COMMIT$/ && skipping { skipping = 0; next } !skipping { print }
         { previous = $0 }'
}

test_state_unload() {
    output=$(proxy status)
    check_status 'status says loaded' 0 $?
    check_has 'status shows the policy route' 'policy route present' "$output"
    proxy unload --keep-open
    check_status 'unload --keep-open' 0 $?
    case $(state) in
    *TPROXY*) not_ok 'no new connections are taken' "$(state | grep TPROXY)" ;;
    *DIVERT*) ok 'no new connections are taken, open ones are kept' ;;
    *) not_ok 'open connections are kept' ;;
    esac
    proxy load
    check_equal 'load takes new connections again' "$default" "$(state)"
    proxy unload
    check_equal 'unload leaves the foreign rules as they were' "$before" "$(state)"
    proxy load --table 3000 --mark 0x2000000/0x2000000
    proxy unload
    check_equal 'unload needs no settings' "$before" "$(state)"
    test_state_partial
}

test_state_partial() { # somebody or something removed parts of ours
    proxy load
    router iptables -t mangle -D PREROUTING -j SMTPWITNESS_PRE
    router ip rule del fwmark 0x1000000/0x1000000
    router ip -6 route flush table 2525
    proxy load
    check_equal 'load repairs what is missing' "$default" "$(state)"
    router iptables -t mangle -F PREROUTING
    router iptables -t mangle -F SMTPWITNESS_PRE
    router iptables -t raw -F
    router ip -6 rule del fwmark 0x1000000/0x1000000
    router iptables -t mangle -A PREROUTING -p tcp --dport 80 -j MARK --set-xmark 0x1/0xff
    proxy unload
    check_status 'unload after a partial loss' 0 $?
    check_equal 'nothing of ours is left' "$before" "$(state)"
    router ip rule add fwmark 0x1000000/0x1000000 lookup 2525 priority 2525
    proxy unload
    check_equal 'a lone routing rule of ours goes too' "$before" "$(state)"
    proxy load
    router iptables -N KEEPS && router iptables -A KEEPS -j SMTPWITNESS_IN
    output=$(proxy unload 2>&1)
    check_status 'unload cannot remove a chain others use' 1 $?
    check_has 'and says so with a remedy' 'iptables-save | grep SMTPWITNESS' "$output"
    router iptables -F KEEPS && router iptables -X KEEPS
    proxy unload
    check_equal 'the next unload finishes' "$before" "$(state)"
    router ip rule del priority 7000
    for tool in iptables ip6tables; do
        router "$tool" -F && router "$tool" -X MINE && router "$tool" -t mangle -F
    done
}

# ---- rollback ----

fake() { # TOOL CONDITION: TOOL fails when its input matches CONDITION
    mkdir -p "$scratch/fake"
    cat >"$scratch/fake/$1" <<TEXT
#!/bin/sh
cat >"$scratch/fake.input"
if grep -q -- '$2' "$scratch/fake.input"; then
    echo "$1: Couldn't load match: faked" >&2
    exit 1
fi
exec $(command -v "$1") "\$@" <"$scratch/fake.input"
TEXT
    chmod +x "$scratch/fake/$1"
}
proxy_with_fakes() { router env PATH="$scratch/fake:$PATH" "$rules" proxy "$@"; }
fakes_end() { rm -rf "$scratch/fake"; }

failing_load() { # WHAT TOOL CONDITION [ARGUMENT...]
    failing_what=$1
    fake "$2" "$3"
    shift 3
    failing_before=$(state)
    output=$(proxy_with_fakes load "$@" 2>&1)
    check_status "$failing_what: load fails" 1 $?
    check_equal "$failing_what: everything is as it was" "$failing_before" "$(state)"
    check_equal "$failing_what: one line" 1 "$(printf '%s\n' "$output" | wc -l)"
    check_has "$failing_what: with a remedy" 'not loaded, everything is as it was' "$output"
    fakes_end
}

test_rollback() {
    failing_load 'the last table of the last family is refused' ip6tables-restore '^-A SMTPWITNESS_NEW.*TPROXY'
    failing_load 'the first table is refused' iptables-restore '^-A SMTPWITNESS_OUT.*CT'
    failing_load 'the record is refused' iptables-restore '^-A SMTPWITNESS_SET'
    proxy load
    failing_load 'over an earlier load' ip6tables-restore '^-A SMTPWITNESS_NEW.*TPROXY' --mark 0x2000000/0x2000000 --priority 2600
    failing_load 'over an earlier load, other table' ip6tables-restore '^-A SMTPWITNESS_NEW.*TPROXY' --table 2600 --port 587
    proxy unload
    test_interrupted
    router ip rule add from all lookup main priority 100
    router ip route add unreachable default
    router ip rule add to 192.0.2.0/24 lookup main priority 101
    before=$(state)
    output=$(proxy load 2>&1)
    check_status 'another routing rule wins: load fails' 1 $?
    check_has 'another routing rule wins: the remedy' 'choose a smaller --priority' "$output"
    check_equal 'another routing rule wins: everything is as it was' "$before" "$(state)"
    router ip rule del priority 100
    router ip rule del priority 101
    router ip route del unreachable default
    test_missing_match
}

fake_signal() { # TOOL CONDITION SIGNAL: whoever runs TOOL with such an input gets SIGNAL
    fake "$1" "$2"
    sed -i -e "s/^    echo .*/    kill -$3 \$PPID/" -e 's/^    exit 1//' "$scratch/fake/$1"
}

test_interrupted() {
    before=$(state)
    fake_signal ip6tables-restore '^-A SMTPWITNESS_PRE.*CT' TERM
    output=$(proxy_with_fakes load 2>&1)
    check_status 'an interrupted load fails' 1 $?
    check_has 'and says why' 'everything is as it was: interrupted' "$output"
    check_equal 'and leaves everything as it was' "$before" "$(state)"
    for condition in '^-A SMTPWITNESS_SET' '^-A SMTPWITNESS_NEW.*TPROXY'; do
        fake_signal ip6tables-restore "$condition" KILL
        (TMPDIR=$scratch proxy_with_fakes load) >/dev/null 2>&1
        [ "$before" != "$(state)" ] || not_ok 'a killed load leaves something to clean up' "$condition"
        fakes_end
        proxy unload
        check_equal "unload cleans up after a load killed at $condition" "$before" "$(state)"
    done
}

test_missing_match() {
    fake iptables-restore '-m socket'
    before=$(state)
    output=$(proxy_with_fakes check --family 4 2>&1)
    check_status 'a missing match: check' 1 $?
    check_has 'a missing match: problem' "problem: iptables: the kernel or iptables lacks 'socket' in table mangle" "$output"
    check_has 'a missing match: remedy' 'remedy: modprobe xt_socket' "$output"
    output=$(proxy_with_fakes load 2>&1)
    check_status 'a missing match: load' 1 $?
    check_equal 'a missing match: nothing is touched' "$before" "$(state)"
    check_equal 'a missing match: load says it in one line' 1 "$(printf '%s\n' "$output" | wc -l)"
    fakes_end
}

# ---- check ----

finding() { # STATUS EXPECTED SETUP UNDO [ARGUMENT...]: found when there; all_clean says that it goes with its cause
    finding_status=$1
    finding_text=$2
    finding_undo=$4
    router sh -c "$3" || not_ok "setup: $3"
    shift 4
    finding_before=$(state)
    output=$(proxy check "$@" 2>&1)
    finding_got=$?
    if [ "$finding_got" -ne "$finding_status" ]; then
        not_ok "found: $finding_text" "status $finding_got: $output"
    else
        check_has "found: $finding_text" "$finding_text" "$output"
    fi
    case $output in *"
remedy: "*) ;; *) not_ok "it has a remedy: $finding_text" "$output" ;; esac
    [ "$finding_before" = "$(state)" ] || not_ok "check changed something: $finding_text"
    router sh -c "$finding_undo" || not_ok "undo: $finding_undo"
}

all_clean() { # AFTER WHAT
    output=$(proxy check 2>&1)
    check_equal "clean: $1" 'status 0 ' "status $? $output"
}

test_checks() {
    start listener rt "$python" "$here/tproxy_echo.py" 10025
    listener=$start_pid
    all_clean 'a good router'
    test_checks_machine
    all_clean 'when the machine is set right again'
    test_checks_marks
    all_clean 'when marks and routing rules are free again'
    test_checks_rules
    test_checks_nft
    all_clean 'when the rules in the way are gone'
    proxy load
    all_clean 'when loaded'
    finding 1 'their policy route is gone' 'ip rule del priority 2525' "$rules proxy load"
    finding 0 'another rule has come before ours' 'iptables -I INPUT -p udp -j ACCEPT' 'iptables -D INPUT -p udp -j ACCEPT' --family 4
    all_clean 'when ours are whole and first again'
    proxy unload
    kill "$listener"
    sleep 0.2
    output=$(proxy check --family 4)
    check_status 'nothing listens: only a warning' 0 $?
    check_has 'nothing listens: warning' 'warning: nothing listens on port 10025' "$output"
}

test_checks_machine() {
    finding 1 'net.ipv4.conf.all.src_valid_mark is 1' 'sysctl -qw net.ipv4.conf.all.src_valid_mark=1' \
        'sysctl -qw net.ipv4.conf.all.src_valid_mark=0' --family 4
    finding 1 'net.ipv4.conf.r0.src_valid_mark is 1' 'sysctl -qw net.ipv4.conf.r0.src_valid_mark=1' \
        'sysctl -qw net.ipv4.conf.r0.src_valid_mark=0' --family 4 --in-interface r+
    finding 0 'IPv6 is switched off on lo' 'sysctl -qw net.ipv6.conf.lo.disable_ipv6=1' 'true'
    proxy load
    check_equal 'IPv6 off on lo: IPv4 alone is loaded' 'status 0, 0 of IPv6' "status $?, $(router ip6tables-save | grep -c SMTPWITNESS) of IPv6"
    proxy unload
    finding 1 'IPv6 is not in this kernel, or switched off' 'true' 'sysctl -qw net.ipv6.conf.lo.disable_ipv6=0' --family 6
    test_checks_no_ipv6
    finding 1 'tcp_fwmark_accept is 1' 'sysctl -qw net.ipv4.tcp_fwmark_accept=1' 'sysctl -qw net.ipv4.tcp_fwmark_accept=0' --family 6
    finding 0 'tcp_rfc1337 is 1' 'sysctl -qw net.ipv4.tcp_rfc1337=1' 'sysctl -qw net.ipv4.tcp_rfc1337=0' --family 6
    finding 0 'fwmark_reflect is 1' 'sysctl -qw net.ipv6.fwmark_reflect=1' 'sysctl -qw net.ipv6.fwmark_reflect=0' --family 6
    finding 1 'net.ipv4.ip_forward is 0' 'sysctl -qw net.ipv4.ip_forward=0' 'sysctl -qw net.ipv4.ip_forward=1' --family 4
    finding 0 'net.ipv6.conf.all.forwarding is 0' 'sysctl -qw net.ipv6.conf.all.forwarding=0' 'sysctl -qw net.ipv6.conf.all.forwarding=1'
    finding 0 'strict rp_filter on r1' 'sysctl -qw net.ipv4.conf.r1.rp_filter=1; ip rule add iif r0 lookup 88 priority 9000' \
        'sysctl -qw net.ipv4.conf.r1.rp_filter=0; ip rule del priority 9000' --family 4
    finding 0 'this router forgets a silent connection after 120 s' 'sysctl -qw net.netfilter.nf_conntrack_tcp_timeout_established=120' \
        'sysctl -qw net.netfilter.nf_conntrack_tcp_timeout_established=432000' --family 4
    if router modprobe -q br_netfilter 2>/dev/null || [ -e /proc/sys/net/bridge ]; then
        finding 0 'connections across a bridge (br9) meet these rules too' \
            'ip link add br9 type bridge; sysctl -qw net.bridge.bridge-nf-call-iptables=1' \
            'ip link del br9; sysctl -qw net.bridge.bridge-nf-call-iptables=0' --family 4
    else
        echo 'skipped: a bridge whose frames meet the rules: this kernel has no br_netfilter'
    fi
    finding 1 'interface r9 does not exist now' 'true' 'true' --family 4 --in-interface r9
    check_has 'and the names there are' 'else write one of: r0 r1' "$output"
    output=$(proxy load --in-interface r0,r9 2>&1)
    check_equal 'an interface that may come later: load goes on, and says so in one line' 'status 0, 1 line' \
        "status $?, $(printf '%s\n' "$output" | grep -c 'warning: interface r9 does not exist now') line"
    proxy unload
}

test_checks_no_ipv6() { # a kernel without IPv6: its sysctls are not there, and its tools fail
    mkdir -p "$scratch/fake"
    for tool in ip6tables-save ip6tables-restore; do
        printf '#!/bin/sh\necho "Address family not supported by protocol" >&2\nexit 3\n' >"$scratch/fake/$tool"
    done
    # shellcheck disable=SC2016  # for the shell of the fake
    printf '#!/bin/sh\n[ "$1" != -6 ] || exit 2\nexec %s "$@"\n' "$(command -v ip)" >"$scratch/fake/ip"
    chmod +x "$scratch/fake/"*
    for verb in check load status 'unload --keep-open' unload; do
        # shellcheck disable=SC2086,SC2016  # words on purpose; for the inner shell
        output=$(router unshare -m sh -c 'mount -t tmpfs none /proc/sys/net/ipv6 && PATH=$0:$PATH exec "$@"' "$scratch/fake" "$rules" proxy $verb 2>&1)
        check_status "a kernel without IPv6: $verb" 0 $?
        case $output in *IPv6* | *'not supported'*) not_ok "a kernel without IPv6: $verb says nothing of it" "$output" ;; esac
    done
    fakes_end
}

test_checks_marks() {
    finding 1 'another rule sets bits of our mark' 'iptables -t mangle -A OUTPUT -p udp -j MARK --set-mark 0x3000000' \
        'iptables -t mangle -F OUTPUT' --family 4
    finding 1 'another routing rule uses bits of our mark' 'ip -6 rule add fwmark 0x1000000 lookup 88 priority 9000' \
        'ip -6 rule del priority 9000' --family 6
    finding 0 'connection marks are restored with our bits' \
        'iptables -t mangle -A OUTPUT -j CONNMARK --restore-mark; iptables -t mangle -A INPUT -j CONNMARK --save-mark' \
        'iptables -t mangle -F OUTPUT; iptables -t mangle -F INPUT' --family 4
    finding 1 'nft: another rule sets bits of our mark' 'nft add table inet other; nft add chain inet other c; nft add rule inet other c meta mark set mark or 0x1000000' \
        'nft delete table inet other' --family 4
    finding 1 'another routing rule has priority 2525' 'ip rule add to 192.0.2.0/24 lookup 88 priority 2525' \
        'ip rule del priority 2525' --family 4
    finding 1 'another routing rule uses table 2525' 'ip rule add to 192.0.2.0/24 lookup 2525 priority 9000' \
        'ip rule del priority 9000' --family 4
    finding 1 'routing table 2525 has routes of somebody else' 'ip route add 192.0.2.0/24 dev lo table 2525' \
        'ip route flush table 2525' --family 4
    finding 0 'a routing rule comes before ours' 'ip rule add from 10.0.1.0/24 lookup 88 priority 1000' \
        'ip rule del priority 1000' --family 4
    finding 0 'goes by incoming interface or mark' 'ip rule add fwmark 0x7/0xff lookup 88 priority 9000' \
        'ip rule del priority 9000' --family 4
}

test_checks_rules() {
    finding 1 'destination translation before interception' 'iptables -t nat -A PREROUTING -d 192.0.2.9 -p tcp --dport 25 -j DNAT --to-destination 10.0.3.2' \
        'iptables -t nat -F PREROUTING' --family 4
    finding 0 'load with --translated 10.0.2.1=10.0.3.2;' 'iptables -t nat -A PREROUTING -d 10.0.2.1 -p tcp --dport 25 -j DNAT --to-destination 10.0.3.2:25' \
        'iptables -t nat -F PREROUTING' --family 4
    finding 0 'load with --translated fd00:2::1=fd00:3::2;' 'ip6tables -t nat -A PREROUTING -d fd00:2::1 -p tcp --dport 25 -j DNAT --to-destination [fd00:3::2]:25' \
        'ip6tables -t nat -F PREROUTING' --family 6
    finding 0 "the router's own address and are not intercepted" 'iptables -t nat -A PREROUTING -d 10.0.2.1 -p tcp --dport 25 -j DNAT --to-destination 10.0.3.2' \
        'iptables -t nat -F PREROUTING' --family 4
    finding 0 'a conntrack helper reads, and may change' 'iptables -t raw -A PREROUTING -p tcp --dport 25 -j CT --helper ftp' \
        'iptables -t raw -F PREROUTING' --family 4
    finding 0 '1 rule(s) there that forbid no longer apply to port 25' \
        'iptables -N BAR; iptables -A BAR -s 10.66.0.0/16 -j REJECT; iptables -A FORWARD -p tcp -m multiport --dports 20:30 -j BAR' \
        'iptables -F FORWARD; iptables -F BAR; iptables -X BAR' --family 4
    finding 0 'first: -P FORWARD DROP' 'ip6tables -P FORWARD DROP' 'ip6tables -P FORWARD ACCEPT' --family 6
    router iptables -A FORWARD -p tcp --dport 80 -j DROP
    router iptables -A FORWARD -p udp -j DROP
    router iptables -A FORWARD -m conntrack --ctstate INVALID -j DROP
    router iptables -A FORWARD -i r1 -j DROP
    router iptables -t nat -A PREROUTING -p tcp --dport 80 -j DNAT --to-destination 10.0.3.2
    router iptables -t nat -A POSTROUTING -o r1 -j MASQUERADE
    router iptables -t mangle -A PREROUTING -j MARK --set-mark 0x1
    output=$(proxy check --in-interface r0 2>&1)
    check_equal 'rules that cannot meet our connections are no findings' 'status 0 ' "status $? $output"
    router iptables -F FORWARD
    for table in nat mangle; do router iptables -t "$table" -F; done
}

test_checks_nft() {
    finding 1 "nft: chain 'inet other in' drops intercepted packets" \
        'nft add table inet other; nft "add chain inet other in { type filter hook input priority 0; policy drop; }"' \
        'nft insert rule inet other in meta mark and 0x1000000 == 0x1000000 accept' --family 4
    router nft delete table inet other
    finding 0 'forbids by FORWARD what no longer passes there' \
        'nft add table inet other; nft "add chain inet other through { type filter hook forward priority 0; }"; nft add rule inet other through counter drop' \
        'nft delete table inet other' --family 4
    mkdir -p "$scratch/fake"
    printf '#!/bin/sh\nprintf "table inet other {\\n\\tflowtable f {\\n\\t\\thook ingress priority 0\\n\\t}\\n}\\n"\n' >"$scratch/fake/nft"
    chmod +x "$scratch/fake/nft"
    output=$(proxy_with_fakes check --family 4)
    check_status 'a flowtable is only a warning' 0 $?
    check_has 'found: a flowtable' 'warning: a flowtable is in use' "$output"
    fakes_end
    test_checks_old_kernel
}

test_checks_old_kernel() {
    mkdir -p "$scratch/fake"
    printf '#!/bin/sh\necho "hw-tc-offload: on"\n' >"$scratch/fake/ethtool"
    chmod +x "$scratch/fake/ethtool"
    output=$(proxy_with_fakes check --family 4 --in-interface r0)
    check_status 'forwarding in hardware is only a warning' 0 $?
    check_has 'found: forwarding in hardware' 'warning: r0 may forward connections in hardware' "$output"
    rm "$scratch/fake/ethtool"
    printf '#!/bin/sh\necho 6.1.0-test\n' >"$scratch/fake/uname"
    chmod +x "$scratch/fake/uname"
    router ip6tables -t nat -A POSTROUTING -o r1 -j MASQUERADE
    output=$(proxy_with_fakes check --family 6)
    check_status 'IPv6 source translation on an older kernel is only a warning' 0 $?
    check_has 'found: IPv6 source translation' 'warning: ip6tables: this kernel may not find the proxy' "$output"
    router ip6tables -t nat -F POSTROUTING
    fakes_end
}

# ---- traffic ----

wait_for_life() { # of a witness started a moment ago; load itself waits for one that runs
    life_tries=0
    until [ "$(router grep -c '^src=' /proc/net/xt_recent/smtpwitness 2>/dev/null)" = 2 ] || [ "$life_tries" -ge 100 ]; do
        sleep 0.05
        life_tries=$((life_tries + 1))
    done
}

taken() { # WHAT ADDRESS CLIENT [SOURCE]
    check_has "$1" "witness client=$3" "$(client hello "$2" 25 ${4:+"$4"})"
}
passed() { check_has "$1" "server client=$3" "$(client hello "$2" 25 ${4:+"$4"})"; }

test_traffic() {
    start server sv "$python" "$here/peers.py" server 25
    start listener rt "$python" "$here/tproxy_echo.py" 10025
    passed 'without rules v4 goes straight to the server' 10.0.3.2 10.0.1.2
    router conntrack -L >/dev/null 2>&1 && router iptables -A FORWARD -m conntrack --ctstate ESTABLISHED -j ACCEPT
    ip netns exec "$prefix"-cl "$python" "$here/peers.py" hold 10.0.3.2 25 "$scratch/go" >"$scratch/hold.out" &
    hold_pid=$!
    started="$started $hold_pid"
    until grep -q server "$scratch/hold.out" 2>/dev/null; do sleep 0.05; done
    proxy load --in-interface r0 --exempt 10.0.1.11,fd00:1::11
    taken 'v4 is taken, with addresses and port' 10.0.3.2 10.0.1.2
    check_has 'the original destination is known' 'wanted=10.0.3.2:25' "$(client hello 10.0.3.2 25)"
    taken 'v6 is taken' fd00:3::2 fd00:1::
    check_has 'the original v6 destination is known' 'wanted=fd00:3::2:25' "$(client hello fd00:3::2 25)"
    : >"$scratch/go"
    wait "$hold_pid"
    check_has 'a connection open before load goes on' 'got 5' "$(cat "$scratch/hold.out")"
    passed 'an exempt v4 client is left alone' 10.0.3.2 10.0.1.11 10.0.1.11
    passed 'an exempt v6 client is left alone' fd00:3::2 fd00:1::11 fd00:1::11
    router_server
    test_traffic_legs
    test_traffic_trouble
}

router_server() { # the router's own mail service is not for us, on any of its addresses
    start own rt "$python" "$here/peers.py" server 25
    own=$start_pid
    passed "mail for the router itself is left alone" 10.0.2.1 10.0.1.2
    passed 'also on its other interface' 10.0.3.1 10.0.1.2
    passed 'and v6' fd00:3::1 fd00:1::
    kill "$own"
    check_has 'the listener cannot be called directly' 'ConnectionRefused' "$(client hello 10.0.2.1 10025)"
}

upload() { # WHAT ADDRESS SOURCE
    output=$(client upload "$2" 25 "$3" 2000000 | tr '\n' ' ')
    check_has "$1: the server sees the client" "server client=$3:" "$output"
    check_has "$1: every octet arrives" 'got 2000000' "$output"
}

test_traffic_legs() {
    # Before our own rules: with one conntrack entry for both legs, some of these packets would be INVALID.
    for tool in iptables ip6tables; do
        router "$tool" -I INPUT 1 -m conntrack --ctstate INVALID -j DROP
        router "$tool" -I OUTPUT 1 -m conntrack --ctstate INVALID -j DROP
    done
    for last in 12 13 14; do
        upload "a client with its own sequence numbers, $last" 10.0.3.2 "10.0.1.$last"
    done
    upload 'the same by v6' fd00:3::2 fd00:1::13
    check_equal 'conntrack finds no packet INVALID' '0 0 0 0 ' "$(for tool in iptables ip6tables; do
        router "$tool" -nvxL | awk '/INVALID/ { printf "%s ", $1 }'; done)"
    if router conntrack -L >/dev/null 2>&1; then
        listed=$(router conntrack -L -p tcp --src 10.0.1.12 2>/dev/null)
        check_equal 'each leg has its own conntrack entry, v4' '1 with zone, 1 without' "$(legs "$listed")"
        listed=$(router conntrack -L -f ipv6 -p tcp --src fd00:1::13 2>/dev/null)
        check_equal 'each leg has its own conntrack entry, v6' '1 with zone, 1 without' "$(legs "$listed")"
    else
        echo 'skipped: conntrack entries: conntrack is not installed or not supported'
    fi
    router iptables -t nat -A POSTROUTING -o r1 -j SNAT --to-source 10.0.3.1
    output=$(client upload 10.0.3.2 25 10.0.1.15 2000000 | tr '\n' ' ')
    check_has 'source translation applies to the server leg' 'server client=10.0.3.1:' "$output"
    check_has 'and its answers find the proxy' 'got 2000000' "$output"
    check_has 'source translation still works for exempt clients' 'server client=10.0.3.1:' "$(client hello 10.0.3.2 25 10.0.1.11)"
    router iptables -t nat -F POSTROUTING
    case $(uname -r) in
    [0-5].* | 6.? | 6.?[.-]* | 6.1[0-4]*) echo 'skipped: IPv6 source translation: this kernel may not support it' ;;
    *)
        router ip6tables -t nat -A POSTROUTING -o r1 -j SNAT --to-source fd00:3::1
        output=$(client upload fd00:3::2 25 fd00:1::15 2000000 | tr '\n' ' ')
        check_has 'IPv6 source translation applies to the server leg' 'server client=fd00:3::1:' "$output"
        check_has 'and its answers find the proxy too' 'got 2000000' "$output"
        router ip6tables -t nat -F POSTROUTING
        ;;
    esac
    router iptables -F && router ip6tables -F && proxy load --in-interface r0 --exempt 10.0.1.11,fd00:1::11
}

legs() { # CONNTRACK LISTING
    printf '%s with zone, %s without\n' "$(printf '%s\n' "$1" | grep -c 'zone=2525')" "$(printf '%s\n' "$1" | grep 'dport=25 ' | grep -vc 'zone=')"
}

test_traffic_trouble() {
    for tool in iptables ip6tables; do router "$tool" -P INPUT DROP && router "$tool" -P OUTPUT DROP; done
    router ip6tables -A INPUT -p ipv6-icmp -j ACCEPT && router ip6tables -A OUTPUT -p ipv6-icmp -j ACCEPT
    upload 'INPUT and OUTPUT policy DROP, v4' 10.0.3.2 10.0.1.16
    upload 'INPUT and OUTPUT policy DROP, v6' fd00:3::2 fd00:1::16
    test_traffic_mtu
    for tool in iptables ip6tables; do
        router "$tool" -P INPUT ACCEPT && router "$tool" -P OUTPUT ACCEPT
    done
    check_has 'a port used again while we are in TIME_WAIT, v4' 'again witness' "$(client again 10.0.3.2 25 10.0.1.14)"
    check_has 'a port used again while we are in TIME_WAIT, v6' 'again witness' "$(client again fd00:3::2 25 fd00:1::14)"
    router sysctl -qw net.ipv4.conf.all.src_valid_mark=1
    check_has 'src_valid_mark=1 does break it' 'error' "$(client hello 10.0.3.2 25)"
    output=$(proxy load --in-interface r0 2>&1)
    check_status 'src_valid_mark=1: load refuses' 1 $?
    check_has 'src_valid_mark=1: and says what to set' 'sysctl -w net.ipv4.conf.all.src_valid_mark=0' "$output"
    router sysctl -qw net.ipv4.conf.all.src_valid_mark=0
    proxy unload --keep-open
    passed 'after unload --keep-open new connections pass' 10.0.3.2 10.0.1.2
    proxy unload
    passed 'after unload v4 goes straight to the server' 10.0.3.2 10.0.1.2
    passed 'after unload v6 goes straight to the server' fd00:3::2 fd00:1::
}

test_traffic_mtu() { # a smaller link behind the next hop: its ICMP must reach the proxy's socket
    ip -n "$prefix"-mid link set m0 mtu 1300
    check_equal 'frag-needed reaches the socket of the client leg' 'mtu=1300' "$(client mtu 10.0.3.2 25)"
    check_equal 'packet-too-big reaches the socket of the client leg' 'mtu=1300' "$(client mtu fd00:3::2 25)"
    ip -n "$prefix"-mid link set m0 mtu 1500
}

# ---- signs of life ----

passes_within() { # SECONDS WHAT: from now on, in both families
    passes_begun=$(date +%s)
    until case $(client hello 10.0.3.2 25)$(client hello fd00:3::2 25) in *server*server*) true ;; *) false ;; esac do
        [ $(($(date +%s) - passes_begun)) -le 9 ] || break
    done
    passes_seconds=$(($(date +%s) - passes_begun))
    if [ "$passes_seconds" -lt "$1" ]; then ok "$2"; else not_ok "$2" "after $passes_seconds s"; fi
}

end_started() { # what an earlier group started
    for pid in $started; do kill -KILL "$pid" 2>/dev/null; done
    for pid in $started; do wait "$pid" 2>/dev/null; done
    started=''
}

test_life() {
    end_started
    start server sv "$python" "$here/peers.py" server 25
    passed 'before load v4' 10.0.3.2 10.0.1.2
    passed 'before load v6' fd00:3::2 fd00:1::
    for fail_zone in 2525 none; do
        proxy load --in-interface r0 --zone "$fail_zone"
        passed "zone $fail_zone: rules without a witness take nothing, v4" 10.0.3.2 10.0.1.2
        passed "zone $fail_zone: rules without a witness take nothing, v6" fd00:3::2 fd00:1::
        start listener rt "$python" "$here/tproxy_echo.py" 10025
        wait_for_life
        taken "zone $fail_zone: with signs of life v4 is taken" 10.0.3.2 10.0.1.2
        taken "zone $fail_zone: with signs of life v6 is taken" fd00:3::2 fd00:1::
        kill -KILL "$start_pid"
        passes_within 5 "zone $fail_zone: when they end, connections pass"
        proxy unload
    done
    test_life_conntrack
    start listener rt "$python" "$here/tproxy_echo.py" 10025
    proxy load --in-interface r0 --fail closed
    case $(proxy show --fail closed) in *recent*) not_ok 'fails closed: no rule asks for signs' ;; *) ok 'fails closed: no rule asks for signs' ;; esac
    taken 'fails closed: v4 is taken' 10.0.3.2 10.0.1.2
    kill -KILL "$start_pid"
    check_has 'fails closed: without a witness v4 is dropped' 'error TimeoutError' "$(client hello 10.0.3.2 25)"
    check_has 'fails closed: without a witness v6 is dropped' 'error TimeoutError' "$(client hello fd00:3::2 25)"
    check_has 'fails closed: status' 'fails closed' "$(proxy status)"
    proxy unload
}

test_life_conntrack() { # what passes is one connection like any other, for strict rules and for source translation
    proxy load --in-interface r0
    router iptables -A FORWARD -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT
    router iptables -A FORWARD -p tcp --syn -j ACCEPT
    router iptables -P FORWARD DROP
    router iptables -t nat -A POSTROUTING -o r1 -j SNAT --to-source 10.0.3.1
    check_has 'what passes meets a strict FORWARD and source translation as ever' 'server client=10.0.3.1:' "$(client hello 10.0.3.2 25)"
    router iptables -t nat -F && router iptables -P FORWARD ACCEPT && router iptables -F FORWARD
    proxy unload
}

# ---- other places a router can have ----

test_placements() {
    end_started
    start server sv "$python" "$here/peers.py" server 25
    start listener rt "$python" "$here/tproxy_echo.py" 10025
    placement_listener=$start_pid
    test_placement_translated
    test_placement_ipv6_only
}

test_placement_translated() { # the router has the public address and translates it to the server
    router iptables -t nat -A PREROUTING -i r0 -d 10.0.2.1 -p tcp --dport 25 -j DNAT --to-destination 10.0.3.2
    router ip6tables -t nat -A PREROUTING -i r0 -d fd00:2::1 -p tcp --dport 25 -j DNAT --to-destination fd00:3::2
    passed 'translated: without rules v4 reaches the server' 10.0.2.1 10.0.1.2
    passed 'translated: without rules v6 reaches the server' fd00:2::1 fd00:1::
    ip netns exec "$prefix"-cl "$python" "$here/peers.py" hold 10.0.2.1 25 "$scratch/go2" >"$scratch/hold2.out" &
    hold_pid=$!
    started="$started $hold_pid"
    until grep -q server "$scratch/hold2.out" 2>/dev/null; do sleep 0.05; done
    proxy load --in-interface r0
    passed 'translated: not named, it is left alone' 10.0.2.1 10.0.1.2
    proxy load --in-interface r0 --translated 10.0.2.1=10.0.3.2,fd00:2::1=fd00:3::2
    check_equal 'translated: check is content' 'status 0 ' "status $? $(proxy check --translated 10.0.2.1=10.0.3.2,fd00:2::1=fd00:3::2 2>&1)"
    taken 'translated: v4 is taken' 10.0.2.1 10.0.1.2
    check_has 'translated: the proxy goes to the server itself' 'wanted=10.0.3.2:25' "$(client hello 10.0.2.1 25)"
    taken 'translated: v6 is taken' fd00:2::1 fd00:1::
    : >"$scratch/go2"
    wait "$hold_pid"
    check_has 'translated: a connection open before load goes on' 'got 5' "$(cat "$scratch/hold2.out")"
    for tool in iptables ip6tables; do
        router "$tool" -I INPUT 1 -m conntrack --ctstate INVALID -j DROP
        router "$tool" -I OUTPUT 1 -m conntrack --ctstate INVALID -j DROP
    done
    upload 'translated, v4' 10.0.2.1 10.0.1.12
    upload 'translated, v6' fd00:2::1 fd00:1::12
    passed 'translated: the server by its own address is left alone' 10.0.3.2 10.0.1.2
    for tool in iptables ip6tables; do router "$tool" -F; done
    proxy load --in-interface r0 --translated 10.0.2.1=10.0.3.2,fd00:2::1=fd00:3::2
    ip -n "$prefix"-mid link set m0 mtu 1300
    check_equal 'translated: frag-needed reaches the socket' 'mtu=1300' "$(client mtu 10.0.2.1 25)"
    check_equal 'translated: packet-too-big reaches the socket' 'mtu=1300' "$(client mtu fd00:2::1 25)"
    ip -n "$prefix"-mid link set m0 mtu 1500
    kill -STOP "$placement_listener"
    sleep 2.5
    passed 'translated: without signs of life v4 passes' 10.0.2.1 10.0.1.2
    passed 'translated: without signs of life v6 passes' fd00:2::1 fd00:1::
    kill -CONT "$placement_listener"
    proxy unload
    for tool in iptables ip6tables; do router "$tool" -t nat -F; done
}

test_placement_ipv6_only() { # nothing but IPv6 is routed
    router sysctl -qw net.ipv4.ip_forward=0
    output=$(proxy load --in-interface r0 2>&1)
    check_equal 'IPv6 alone: load says nothing' 'status 0 ' "status $? $output"
    taken 'IPv6 alone: v6 is taken' fd00:3::2 fd00:1::
    proxy unload
    proxy load --in-interface r0 --family 6
    taken 'IPv6 alone, --family 6: v6 is taken' fd00:3::2 fd00:1::
    case $(router iptables-save) in *SMTPWITNESS_NEW*) not_ok '--family 6 leaves IPv4 alone' ;; *) ok '--family 6 leaves IPv4 alone' ;; esac
    proxy unload
    router sysctl -qw net.ipv4.ip_forward=1
}

# ---- main ----

[ "$(id -u)" -eq 0 ] || skip 'root is needed to make network namespaces'
for tool in ip iptables ip6tables nft unshare "$python"; do
    command -v "$tool" >/dev/null || skip "$tool is not installed"
done
unshare -n true 2>/dev/null || skip 'network namespaces cannot be made here'
for needed in 'mangle -A PREROUTING -p tcp -j TPROXY --on-port 1' 'mangle -A PREROUTING -m socket' 'raw -A PREROUTING -j CT --zone 1'; do
    # shellcheck disable=SC2086  # words on purpose
    unshare -n iptables -t $needed 2>/dev/null || skip "the kernel has no netfilter support for: $needed"
done
scratch=$(mktemp -d) || exit 1
trap clean_up EXIT
trap 'exit 1' HUP INT TERM
topology || exit 1
[ $# -gt 0 ] || set -- arguments state rollback checks traffic life placements
for group in "$@"; do
    case $group in
    arguments | state | rollback | checks | traffic | life | placements) "test_$group" ;;
    *) echo "$0: unknown group $group" >&2 && exit 2 ;;
    esac
done
echo "$count_ok passed, $count_failed failed"
[ "$count_failed" -eq 0 ]
