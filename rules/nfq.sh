# nfq.sh - the rules of the packet hook.
# Sourced by smtpwitness-rules after common.sh and settings.sh.
# shellcheck shell=sh
# shellcheck disable=SC2034,SC2154  # set_* come from settings.sh, program and library from the main script
#
# What a packet meets, all in table mangle, where addresses of both directions are those of the real client and the
# real server, and before table filter, so that the administrator's own rules still decide what passes:
#   FORWARD  NFQ     last in FORWARD: a verdict leaves the table, so rules behind ours would not be seen.
#            NFQ_C   from a client to one of our ports   NFQ_S  from the server   NFQ_E  an ICMP error
#            NFQ_IN  by one of the clients' interfaces, and NFQ_OUT back: asked for last, because names are compared slowly
#   OUTPUT   NFQ_O   ICMP errors and resets this router itself makes: seen in FORWARD by nobody, and without them the
#                    network would be blamed for them.
#   INPUT, OUTPUT    with --place host NFQ stands last in both, instead of in FORWARD: the mail server is this host.
#                    Connections within the host (lo) would be seen twice and are left alone.
#   POSTROUTING NFQ_P  a packet that the witness follows, with the higher bit of our mark, comes to it once more: so it is
#                    known that no rule or route of this host stopped it.
#   any      NFQ_MADE never visited: says that the table did not exist before us, so that unload removes it.
#
# --queue-bypass lets packets pass while nobody holds the queue. Several queues are told apart by the low bits of the
# client's port (match u32), so that both directions of a connection, and the errors about it, come to the same one;
# --queue-balance goes by addresses alone, and HMARK overwrites all 32 bits of the packet's mark.
#
# --bypass: the witness puts the lower bit of our mark on a connection that is in the midst of a large body, and off, in the
# kernel's table of connections (nfq/connection_marks). Large segments of its client skip the queue then, but for
#   - those that bear FIN, SYN or RST, and those that end in CRLF.CRLF, pushed or not (a client that corks its octets may
#     not push them);
#   - those that end in LF and bear PSH, or are several in one (offload: nearly every such packet bears PSH): a client
#     that has said what it had to say, be it the final dot or a command behind it, pushes it and ends with LF.
# Everything else is queued as ever. What is queued is overtaken by what is not, so that the former must be rare. Every
# packet of a body is asked all this, so it is one program of bpf, and one rule.
#
# --tool nft: the same as one table of nft's; see nfq_nft.sh.

# shellcheck source=rules/checks.sh
. "$library/checks.sh"
# shellcheck source=rules/nfq_nft.sh
. "$library/nfq_nft.sh"

# NFQ_B is of earlier versions: load and unload take it away.
mode_chains='SMTPWITNESS_NFQ SMTPWITNESS_NFQ_C SMTPWITNESS_NFQ_S SMTPWITNESS_NFQ_E SMTPWITNESS_NFQ_B SMTPWITNESS_NFQ_IN SMTPWITNESS_NFQ_OUT
    SMTPWITNESS_NFQ_O SMTPWITNESS_NFQ_P SMTPWITNESS_NFQ_MADE'
mode_made=SMTPWITNESS_NFQ_MADE
mode_tables=mangle
mark_example=0xc000000/0xc000000
bypass_least_octets=512
# A packet that may pass unseen, as `bpf_asm` reads it; in IPv6 only where TCP follows the header at once.
#            ld len; jlt #512, queued                            (bypass_least_octets)
#   IPv6:    ldb [6]; jne #6, queued; ld len
#            sub #1; tax; ldb [x + 0]; jne #10, inside
#            ld len; jgt #1500, queued                           (it ends in LF)
#   IPv4:    ldxb 4 * ([0] & 0xf); ldb [x + 13]                  IPv6: ldb [53]
#            jset #15, queued                                    (FIN, SYN, RST, PSH)
#            ld len; sub #5; tax; ld [x + 0]; jeq #0x0d0a2e0d, queued, unseen
#   inside:  the flags again; jset #7, queued, unseen            (FIN, SYN, RST)
#   unseen:  ret #65535
#   queued:  ret #0
bypass_unseen4='21,128 0 0 0,53 0 18 512,20 0 0 1,7 0 0 0,80 0 0 0,21 0 10 10,128 0 0 0,37 12 0 1500,177 0 0 0,80 0 0 13,69 9 0 15,128 0 0 0,20 0 0 5,7 0 0 0,64 0 0 0,21 4 3 218770957,177 0 0 0,80 0 0 13,69 1 0 7,6 0 0 65535,6 0 0 0'
bypass_unseen6='22,128 0 0 0,53 0 19 512,48 0 0 6,21 0 17 6,128 0 0 0,20 0 0 1,7 0 0 0,80 0 0 0,21 0 9 10,128 0 0 0,37 10 0 1500,48 0 0 53,69 8 0 15,128 0 0 0,20 0 0 5,7 0 0 0,64 0 0 0,21 3 2 218770957,48 0 0 53,69 1 0 7,6 0 0 65535,6 0 0 0'

# ---- iptables or nft ----

# --tool auto: nft only where iptables has no NFQUEUE and nft has. Where nothing can be probed, iptables.
tool_choose() {
    tool=$set_tool
    [ "$tool" = auto ] || return 0
    tool=iptables
    unshare -n true 2>/dev/null || return 0
    for family in $families; do
        family_has_queue "$family" && continue
        nft_has_queue && tool=nft
        return 0
    done
}

family_has_queue() { # FAMILY: has its iptables NFQUEUE?
    family_has_tools "$1" || return 1
    kernel_features "$1" | grep '^NFQUEUE ' >"$work/feature"
    kernel_probe "$1" "$work/feature"
}

family_tool() { # FAMILY: whose word an error is
    case $tool in iptables) firewall_name "$1" ;; nft) echo nft ;; esac
}

# ---- the plan ----

plan() { # FAMILY
    for chain in '' _C _S _E _O; do
        echo ":SMTPWITNESS_NFQ$chain"
    done
    [ "$set_place" = host ] || echo ':SMTPWITNESS_NFQ_P'
    [ "$set_place" = router ] || printf -- '-A SMTPWITNESS_NFQ %s lo -j RETURN\n' -i -o
    plan_exceptions "$1"
    [ "$set_bypass" = no ] || plan_bypass "$1"
    [ "$set_place" = host ] || plan_marks
    plan_forward "$1"
    plan_output "$1"
    plan_queues "$1"
    case $set_place in
    router)
        printf -- '-A %s\n' 'FORWARD -j SMTPWITNESS_NFQ' 'OUTPUT -j SMTPWITNESS_NFQ_O'
        echo "-A POSTROUTING -m mark ! --mark 0x0/$mark_high -j SMTPWITNESS_NFQ_P"
        ;;
    host) printf -- '-A %s -j SMTPWITNESS_NFQ\n' INPUT OUTPUT ;;
    esac
}

plan_exceptions() { # FAMILY: networks to leave alone
    for network in $set_exempts; do
        case $1$network in 4*:* | 6*.*) continue ;; esac
        echo "-A SMTPWITNESS_NFQ -s $network -j RETURN"
        echo "-A SMTPWITNESS_NFQ -d $network -j RETURN"
    done
}

plan_forward() { # FAMILY
    if [ -z "$set_in_interfaces" ]; then
        echo "-A SMTPWITNESS_NFQ -p tcp $(ports_match d) -j SMTPWITNESS_NFQ_C"
        echo "-A SMTPWITNESS_NFQ -p tcp $(ports_match s) -j SMTPWITNESS_NFQ_S"
    fi
    [ -z "$set_in_interfaces" ] || plan_interfaces
    plan_errors "$1" SMTPWITNESS_NFQ
}

plan_interfaces() {
    printf ':%s\n' SMTPWITNESS_NFQ_IN SMTPWITNESS_NFQ_OUT
    echo "-A SMTPWITNESS_NFQ -p tcp $(ports_match d) -j SMTPWITNESS_NFQ_IN"
    echo "-A SMTPWITNESS_NFQ -p tcp $(ports_match s) -j SMTPWITNESS_NFQ_OUT"
    for interface in $set_in_interfaces; do
        echo "-A SMTPWITNESS_NFQ_IN -i $interface -j SMTPWITNESS_NFQ_C"
        echo "-A SMTPWITNESS_NFQ_OUT -o $interface -j SMTPWITNESS_NFQ_S"
    done
}

plan_bypass() { # FAMILY
    case $1 in 4) unseen=$bypass_unseen4 ;; 6) unseen=$bypass_unseen6 ;; esac
    echo "-A SMTPWITNESS_NFQ -p tcp -m connmark --mark $mark_low/$mark_low $(ports_match d) -m bpf --bytecode \"$unseen\" -j RETURN"
}

plan_marks() {
    for ends in d:C s:S; do
        echo "-A SMTPWITNESS_NFQ_P -p tcp $(ports_match "${ends%:*}") -j SMTPWITNESS_NFQ_${ends#*:}"
    done
}

# RFC 792 and RFC 4443: unreachable, too big, time exceeded, parameter problem.
plan_errors() { # FAMILY CHAIN
    case $1 in
    4) for type in 3 11 12; do echo "-A $2 -p icmp -m icmp --icmp-type $type -j SMTPWITNESS_NFQ_E"; done ;;
    6) for type in 1 2 3 4; do echo "-A $2 -p ipv6-icmp -m icmp6 --icmpv6-type $type -j SMTPWITNESS_NFQ_E"; done ;;
    esac
}

plan_output() { # FAMILY: REJECT's resets bear the address of another host
    reset='-p tcp -m tcp --tcp-flags RST RST -m addrtype ! --src-type LOCAL -m multiport'
    echo "-A SMTPWITNESS_NFQ_O $reset --sports $set_ports -j SMTPWITNESS_NFQ_S"
    echo "-A SMTPWITNESS_NFQ_O $reset --dports $set_ports -j SMTPWITNESS_NFQ_C"
    plan_errors "$1" SMTPWITNESS_NFQ_O
}

plan_queues() { # FAMILY
    if [ "$set_queues" -eq 1 ]; then
        for chain in C S E; do
            echo "-A SMTPWITNESS_NFQ_$chain -j NFQUEUE --queue-num $set_queue --queue-bypass"
        done
        return
    fi
    # Offsets of the TCP header, and of the one an error quotes (behind 8 octets of ICMP and an IP header).
    case $1 in
    4) tcp='0>>22&0x3C@0' quoted='0>>22&0x3C@8>>22&0x3C@8' ;;
    6) tcp=40 quoted=88 ;;
    esac
    mask=$((set_queues - 1))
    part=0
    while [ "$part" -lt "$set_queues" ]; do
        plan_queue C "$tcp>>16&$mask=$part"
        plan_queue S "$tcp&$mask=$part"
        plan_queue E "$quoted&0xFFFF=$set_ports&&$quoted>>16&$mask=$part"
        plan_queue E "$quoted>>16&0xFFFF=$set_ports&&$quoted&$mask=$part"
        part=$((part + 1))
    done
}

plan_queue() { # CHAIN CONDITION: for queue number `part`
    echo "-A SMTPWITNESS_NFQ_$1 -m u32 --u32 \"$2\" -j NFQUEUE --queue-num $((set_queue + part)) --queue-bypass"
}

# ---- findings: see checks.sh ----

records_of() { :; } # FILE: the routing rules of an earlier load; this mode has none

findings_gather() {
    : >"$work/problems"
    : >"$work/notes"
    check_privilege
    tool_choose
    case $tool in
    iptables) check_tools ;;
    nft) command -v nft >/dev/null || finding_problem 'the program nft is missing' 'install nftables, or use --tool iptables' ;;
    esac
    findings_clean || return 1
    for family in $families; do
        if [ "$tool" = nft ] && ! family_has_tools "$family"; then
            : >"$work/seen.$family" # nobody here has rules of iptables
            continue
        fi
        firewall_save "$family" "$work/seen.$family" ||
            finding_problem "the $(firewall_name "$family") ruleset cannot be read: $(error_first_line)" "run $(firewall_name "$family")-save and see what it needs"
    done
    findings_clean || return 1
    nft_rules_read
    case $tool in iptables) check_kernel ;; nft) check_kernel_nft ;; esac
    [ "$set_place" = host ] || check_forwarding_or_bridge
    check_interfaces
    check_conntrack
    check_hardware_offload
    for family in $families; do
        name=$(firewall_name "$family")
        check_proxy_rules "$work/seen.$family"
        check_queue_owner "$work/seen.$family"
        check_passed_over "$work/seen.$family"
        [ "$set_place" = host ] || check_marks "$work/seen.$family"
        check_other_backend
    done
    check_queue_owner_nft
    check_offload
    check_queue_holder
    findings_clean
}

check_kernel_nft() {
    if ! unshare -n true 2>/dev/null; then
        finding_warning 'the kernel was not probed: no empty network namespace can be made here' \
            'nothing, if load succeeds; nft changes nothing when the kernel refuses a rule'
        return
    fi
    nft_has_queue ||
        finding_problem "nft: the kernel or nft lacks 'queue'" 'modprobe nft_queue, or use --tool iptables where that has NFQUEUE'
    nft_takes_rest ||
        finding_problem "nft: the kernel or nft does not take the rules: $(error_first_line)" \
            "install the kernel's netfilter modules, or use --tool iptables"
}

check_queue_owner_nft() {
    last=$((set_queue + set_queues - 1))
    grep -v "^inet $nft_table " "$work/nft.rules" |
        sed -n 's/.*queue .*\(num\|to\) \([0-9]*\)\(-\([0-9]*\)\)\{0,1\}.*/\2 \4 &/p' |
        awk -v first="$set_queue" -v last="$last" '{ low = $1; high = $2 ~ /^[0-9]+$/ ? $2 : $1
            if (high + 0 >= first + 0 && low + 0 <= last + 0) print }' >"$work/queues"
    while read -r number rule; do
        finding_problem "nft: another rule sends packets to queue $number: $rule" 'choose free numbers with --queue, and [nfq] first-queue alike'
    done <"$work/queues"
}

kernel_features() { # FAMILY
    cat <<TEXT
NFQUEUE xt_NFQUEUE mangle -p tcp -j NFQUEUE --queue-num 1 --queue-bypass
multiport xt_multiport filter -p tcp -m multiport --ports 25
addrtype xt_addrtype mangle -m addrtype --dst-type LOCAL
mark xt_mark mangle -m mark --mark 0x1/0x1
TEXT
    [ "$set_queues" -eq 1 ] || echo 'u32 xt_u32 mangle -m u32 --u32 0=0'
    [ "$set_bypass" = no ] || cat <<TEXT
connmark xt_connmark mangle -m connmark --mark 0x1/0x1
bpf xt_bpf filter -m bpf --bytecode "$bypass_unseen4"
TEXT
}

# A bridge forwards frames, not packets: netfilter sees them in FORWARD only with br_netfilter.
check_forwarding_or_bridge() {
    if [ -z "$(bridges)" ]; then
        check_forwarding
        return
    fi
    for family in $families; do
        case $family in 4) call=bridge-nf-call-iptables ;; 6) call=bridge-nf-call-ip6tables ;; esac
        [ "$(sysctl_read "bridge/$call")" = 1 ] && continue
        finding_warning "IPv$family: there is a bridge ($(bridges | tr '\n' ' ' | sed 's/ $//')), and what it forwards is not shown to these rules" \
            "if mail crosses it: modprobe br_netfilter; sysctl -w net.bridge.$call=1; and the same in /etc/sysctl.d"
    done
}

check_proxy_rules() { # FILE: both at once is fine, each sees what the other does not
    grep -q '^:SMTPWITNESS_PRE ' "$1" || return 0
    finding_warning "$name: the rules of the proxy are loaded: connections it takes are not forwarded; these rules see those that pass it by" \
        "nothing, if both are meant; to use these alone: $program proxy unload"
    if [ "$set_bypass" != no ] && grep -q '^-A SMTPWITNESS_NEW .*-j CONNMARK ' "$1"; then
        finding_problem "$name: --bypass would take away the connection marks of the proxy's --translated connections" \
            'leave one of the two out'
    fi
}

check_queue_owner() { # FILE
    last=$((set_queue + set_queues - 1))
    grep '^-A' "$1" | grep -v '^-A SMTPWITNESS_NFQ' |
        sed -n 's/.*--queue-num \([0-9]*\).*/\1 &/p; s/.*--queue-balance \([0-9]*\):\([0-9]*\).*/\1 &/p' >"$work/queues"
    while read -r number rule; do
        if [ "$number" -lt "$set_queue" ] || [ "$number" -gt "$last" ]; then
            continue
        fi
        finding_problem "$name: another rule sends packets to queue $number: $rule" 'choose free numbers with --queue, and [nfq] first-queue alike'
    done <"$work/queues"
}

check_passed_over() { # FILE: rules before ours that take packets out of the table
    case $set_place in router) passed_chains=FORWARD ;; host) passed_chains='INPUT OUTPUT' ;; esac
    for chain in $passed_chains; do
        rules_met "$1" mangle "$chain" | grep -E -- '-j (ACCEPT|NFQUEUE|DROP)( |$)' >"$work/met"
        while read -r rule; do
            finding_warning "$name: packets that meet this rule in mangle $chain do not come to us: $rule" \
                'nothing, if that is meant; else give the rule a narrower match'
        done <"$work/met"
    done
}

# Who else uses our bits, and who looks at whole marks behind us. Without --bypass the lower bit is not used: the proxy has
# the same one.
check_marks() { # FILE
    check_marks_all=$mark_mask
    [ "$set_bypass" != no ] || mark_mask=$mark_high
    check_mark_owner "$1"
    mark_mask=$check_marks_all
    [ "$set_bypass" = no ] || check_connection_marks "$1"
    { rules_met "$1" filter FORWARD && rules_met "$1" mangle POSTROUTING && rules_met "$1" nat POSTROUTING; } 2>/dev/null |
        grep -E -- '-m (conn)?mark .*--mark (0x[0-9a-f]+|[0-9]+)( |$)' >"$work/met"
    while read -r rule; do
        finding_warning "$name: a rule behind ours looks at whole marks; ours is in those of packets that are followed, and of connections in the midst of large bodies: $rule" \
            "give it a mask without our bits: VALUE/$(printf '0x%x' $((~mark_mask & 0xffffffff)))"
    done <"$work/met"
}

check_connection_marks() { # FILE
    rules_of_others "$1" | sed -n 's/.*-j CONNMARK .*--\(set-xmark\|set-mark\|or-mark\) \(0x[0-9a-f]*\|[0-9]*\).*/\2 &/p; s/.*--save-mark --nfmask \(0x[0-9a-f]*\).*/\1 &/p' >"$work/marks"
    while read -r value rule; do
        word_overlaps "$value" || continue
        finding_problem "$name: another rule writes bits of our mark $set_mark to connections: $rule" "choose free bits with --mark, for example $mark_example"
    done <"$work/marks"
}

check_offload() {
    if grep -q ' flowtable: ' "$work/nft.rules" || grep -q -- '-j FLOWOFFLOAD' "$work"/seen.*; then
        finding_warning 'a flowtable is in use: packets of offloaded connections pass unseen' \
            'leave the SMTP ports out of it: put tcp dport != 25 before flow add'
    fi
}

check_queue_holder() {
    number=$set_queue
    while [ "$number" -lt $((set_queue + set_queues)) ]; do
        awk -v number="$number" '$1 == number { found = 1 } END { exit !found }' /proc/net/netfilter/nfnetlink_queue 2>/dev/null ||
            finding_idle "nobody holds queue $number: mail passes, unseen" \
                'start smtpwitness nfq, or give its numbers with --queue and --queues'
        number=$((number + 1))
    done
}

# ---- load, unload ----

snapshot_take() { # the state before we touch anything
    nft_snapshot
    for family in 4 6; do
        : >"$work/before.$family"
        family_has_tools "$family" || continue
        firewall_save "$family" "$work/before.$family" ||
            die "cannot read the $(firewall_name "$family") ruleset: $(error_first_line); see that $(firewall_name "$family")-save works"
    done
}

rollback() {
    rollback_status=0
    nft_rollback || rollback_status=1
    for family in 4 6; do
        family_has_tools "$family" || continue
        rollback_rules "$family" || rollback_status=1
        rollback_tables "$family" || rollback_status=1
    done
    return "$rollback_status"
}

family_load() { # FAMILY; nft's table is of both, so the second time nothing is left to do
    if [ "$tool" = nft ]; then
        nft_load && family_remove "$1"
        return
    fi
    { plan "$1" && plan_made "$1" mangle; } >"$work/plan"
    table_apply "$1" mangle "$work/plan" "$work/before.$1"
}

mode_loaded() {
    [ "$tool" = nft ] || nft_remove || load_fail "nft: $(error_first_line)"
    [ "$set_dry_run" = yes ] || notes_say
}

mode_unload() {
    privilege_require unload
    [ "$set_dry_run" = yes ] || lock_take
    snapshot_take
    unload_status=0
    for family in 4 6; do
        family_remove "$family" || unload_status=1
    done
    nft_remove || unload_status=1
    [ "$unload_status" -eq 0 ] ||
        die "could not remove everything: $(error_first_line); remove what refers to our chains (iptables-save | grep SMTPWITNESS_NFQ) and run it again"
}

family_remove() { # FAMILY
    family_has_tools "$1" && ruleset_is_loaded "$work/before.$1" || return 0
    : >"$work/plan"
    table_apply "$1" mangle "$work/plan" "$work/before.$1" || return 1
    family_tidy "$1"
}

# ---- show, status, check ----

mode_show() { # as load would do it on a router without rules of ours
    set_dry_run=yes
    tool_choose
    if [ "$tool" = nft ]; then
        nft_load
        return
    fi
    : >"$work/empty"
    for family in $families; do
        plan "$family" >"$work/plan"
        ruleset_batch "$work/empty" mangle "$work/plan" >"$work/batch"
        run_restore "$family" "$work/batch"
    done
}

mode_status() { # loaded or not, with counters; exit 1 when not loaded
    privilege_require read
    snapshot_take
    status_loaded=1
    for family in 4 6; do
        name=$(firewall_name "$family")
        if ! ruleset_is_loaded "$work/before.$family"; then
            echo "$name: not loaded"
            continue
        fi
        status_loaded=0
        echo "$name: loaded"
        "$name-save" -c 2>/dev/null | awk '
            /^\[/ && $3 ~ /^SMTPWITNESS_NFQ/ {
                counters = substr($1, 2, length($1) - 2); split(counters, count, ":")
                rule = $0; sub(/^[^ ]+ -A /, "", rule)
                printf "  %10s packets %14s octets  %s\n", count[1], count[2], rule }'
    done
    if nft_is_loaded; then
        status_loaded=0
        echo 'nft: loaded'
        nft_list | sed 's/^\t/  /; s/\t/  /g'
    fi
    return "$status_loaded"
}

mode_check() {
    findings_all
    check_status=$?
    check_say_kernel
    return "$check_status"
}

check_say_kernel() { # what there is to choose from
    unshare -n true 2>/dev/null || return 0
    for family in $families; do
        if family_has_queue "$family"; then has=yes; else has=no; fi
        printf '%s NFQUEUE: %s, ' "$(firewall_name "$family")" "$has"
    done
    if nft_has_queue; then has=yes; else has=no; fi
    echo "nft queue: $has; the rules are made with $tool"
}
