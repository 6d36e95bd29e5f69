# nfq.sh - the rules of the packet hook.
# Sourced by smtpwitness-rules after common.sh and settings.sh.
# shellcheck shell=sh
# shellcheck disable=SC2034,SC2154  # set_* come from settings.sh, program and library from the main script
#
# What a packet meets, all in table mangle, where addresses of both directions are those of the real client and the
# real server, and before table filter, so that the administrator's own rules still decide what passes:
#   FORWARD  NFQ     last in FORWARD: a verdict leaves the table, so rules behind ours would not be seen.
#            NFQ_C   from a client to one of our ports   NFQ_S  from the server   NFQ_E  an ICMP error
#   OUTPUT   NFQ_O   ICMP errors and resets this router itself makes: seen in FORWARD by nobody, and without them the
#                    network would be blamed for them.
#   any      NFQ_MADE never visited: says that the table did not exist before us, so that unload removes it.
#
# --queue-bypass lets packets pass while nobody holds the queue. No mark is set, of packets or connections: several
# queues are told apart by the low bits of the client's port (match u32), so that both directions of a connection, and
# the errors about it, come to the same one; --queue-balance goes by addresses alone, and HMARK overwrites all 32 bits
# of the packet's mark.

# shellcheck source=rules/checks.sh
. "$library/checks.sh"

mode_chains='SMTPWITNESS_NFQ SMTPWITNESS_NFQ_C SMTPWITNESS_NFQ_S SMTPWITNESS_NFQ_E SMTPWITNESS_NFQ_O SMTPWITNESS_NFQ_MADE'
mode_made=SMTPWITNESS_NFQ_MADE
mode_tables=mangle

# ---- the plan ----

plan() { # FAMILY
    for chain in '' _C _S _E _O; do
        echo ":SMTPWITNESS_NFQ$chain"
    done
    plan_exceptions "$1"
    plan_forward "$1"
    plan_output "$1"
    plan_queues "$1"
    echo '-A FORWARD -j SMTPWITNESS_NFQ'
    echo '-A OUTPUT -j SMTPWITNESS_NFQ_O'
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
        echo "-A SMTPWITNESS_NFQ -p tcp -m multiport --dports $set_ports -j SMTPWITNESS_NFQ_C"
        echo "-A SMTPWITNESS_NFQ -p tcp -m multiport --sports $set_ports -j SMTPWITNESS_NFQ_S"
    fi
    for interface in $set_in_interfaces; do
        echo "-A SMTPWITNESS_NFQ -i $interface -p tcp -m multiport --dports $set_ports -j SMTPWITNESS_NFQ_C"
        echo "-A SMTPWITNESS_NFQ -o $interface -p tcp -m multiport --sports $set_ports -j SMTPWITNESS_NFQ_S"
    done
    plan_errors "$1" SMTPWITNESS_NFQ
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

findings_gather() {
    : >"$work/problems"
    check_privilege
    check_tools
    findings_clean || return 1
    for family in $families; do
        firewall_save "$family" "$work/seen.$family" ||
            finding_problem "the $(firewall_name "$family") ruleset cannot be read: $(error_first_line)" "run $(firewall_name "$family")-save and see what it needs"
    done
    findings_clean || return 1
    nft_rules_read
    check_kernel
    check_forwarding_or_bridge
    check_interfaces
    check_conntrack
    check_hardware_offload
    for family in $families; do
        name=$(firewall_name "$family")
        check_proxy_rules "$work/seen.$family"
        check_queue_owner "$work/seen.$family"
        check_passed_over "$work/seen.$family"
        check_other_backend
    done
    check_offload
    check_queue_holder
    findings_clean
}

kernel_features() { # FAMILY
    cat <<TEXT
NFQUEUE xt_NFQUEUE mangle -p tcp -j NFQUEUE --queue-num 1 --queue-bypass
multiport xt_multiport filter -p tcp -m multiport --ports 25
addrtype xt_addrtype mangle -m addrtype --dst-type LOCAL
TEXT
    [ "$set_queues" -eq 1 ] || echo 'u32 xt_u32 mangle -m u32 --u32 0=0'
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
    finding_warning 'silent sides of connections across a bridge are not probed: probes need a route to them' \
        'nothing; verdicts about silence are less certain there'
}

check_proxy_rules() { # FILE
    grep -q '^:SMTPWITNESS_PRE ' "$1" || return 0
    finding_problem "$name: the rules of the proxy are loaded: intercepted connections are not forwarded, so nothing would be seen" \
        "choose one way; to use this one: $program proxy unload"
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
    rules_met "$1" mangle FORWARD | grep -E -- '-j (ACCEPT|NFQUEUE|DROP)( |$)' >"$work/met"
    while read -r rule; do
        finding_warning "$name: packets that meet this rule in mangle FORWARD do not come to us: $rule" \
            'nothing, if that is meant; else give the rule a narrower match'
    done <"$work/met"
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
            finding_warning "nobody holds queue $number: mail passes, unseen" \
                'start smtpwitness nfq, or give its numbers with --queue and --queues'
        number=$((number + 1))
    done
}

# ---- load, unload ----

snapshot_take() { # the state before we touch anything
    for family in 4 6; do
        : >"$work/before.$family"
        family_has_tools "$family" || continue
        firewall_save "$family" "$work/before.$family" ||
            die "cannot read the $(firewall_name "$family") ruleset: $(error_first_line); see that $(firewall_name "$family")-save works"
    done
}

rollback() {
    rollback_status=0
    for family in 4 6; do
        family_has_tools "$family" || continue
        rollback_rules "$family" || rollback_status=1
        rollback_tables "$family" || rollback_status=1
    done
    return "$rollback_status"
}

family_load() { # FAMILY
    { plan "$1" && plan_made "$1" mangle; } >"$work/plan"
    table_apply "$1" mangle "$work/plan" "$work/before.$1"
}

mode_loaded() { :; }

mode_unload() {
    privilege_require unload
    [ "$set_dry_run" = yes ] || lock_take
    snapshot_take
    unload_status=0
    for family in 4 6; do
        family_remove "$family" || unload_status=1
    done
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
    return "$status_loaded"
}

mode_check() {
    findings_all
}
