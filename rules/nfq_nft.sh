# nfq_nft.sh - the rules of the packet hook as one nft table of our own, for kernels whose iptables has no NFQUEUE.
# Sourced by nfq.sh, whose comment says what each chain is for; the chains here bear the names of those there.
# shellcheck shell=sh
# shellcheck disable=SC2154  # set_*, mark_* and families come from settings.sh, work and program from the main script
#
# Where they differ:
#   - Base chains come right behind table mangle of iptables (priority -149), so rules of both kinds are met as before.
#   - nft cannot look at the last octet of a packet. So with --bypass all that is pushed comes to the queue, and so does
#     every packet of several segments (offload): it helps where packets arrive one by one.
#   - An ICMP error that quotes a header with IP options comes to the first of several queues.

nft_table=smtpwitness_nfq
nft_priority=-149 # NF_IP_PRI_MANGLE + 1

nft_set() { echo "{ $(printf '%s' "$1" | sed 's/,/, /g') }"; } # LIST with commas

# ---- the plan: one transaction ----

nft_plan() {
    nft_ports=$(nft_set "$set_ports")
    printf 'table inet %s {}\ndelete table inet %s\ntable inet %s {\n' "$nft_table" "$nft_table" "$nft_table"
    nft_plan_queues
    case $set_place in
    router)
        nft_chain 'chain forward' forward nft_plan_forward
        nft_chain 'chain output' output nft_plan_output
        nft_chain 'chain postrouting' postrouting nft_plan_postrouting
        ;;
    host)
        nft_chain 'chain input' input nft_plan_forward
        nft_chain 'chain output' output nft_plan_forward
        ;;
    esac
    echo '}'
}

nft_chain() { # OPENING HOOK FUNCTION...: a base chain; an empty HOOK: a chain that others go to
    echo "  $1 {"
    [ -z "$2" ] || echo "    type filter hook $2 priority $nft_priority; policy accept;"
    shift 2
    "$@" | sed 's/^/    /'
    echo '  }'
}

nft_plan_queues() {
    nft_chain 'chain from_client' '' nft_plan_parts 'tcp sport'
    nft_chain 'chain from_server' '' nft_plan_parts 'tcp dport'
    nft_chain 'chain errors' '' nft_plan_errors_parts
}

nft_plan_parts() { # FIELD: the low bits of the client's port name the queue
    nft_part=0
    while [ "$nft_part" -lt "$set_queues" ]; do
        if [ "$set_queues" -eq 1 ]; then nft_condition=''; else nft_condition="$1 & $((set_queues - 1)) == $nft_part "; fi
        echo "${nft_condition}queue num $((set_queue + nft_part)) bypass"
        nft_part=$((nft_part + 1))
    done
}

# Behind 8 octets of ICMP: the quoted header, its ports first in what follows. Offsets in bits.
nft_plan_errors_parts() {
    if [ "$set_queues" -gt 1 ]; then
        nft_part=0
        while [ "$nft_part" -lt "$set_queues" ]; do
            for family in $families; do
                case $family in
                4) nft_quote='meta nfproto ipv4 @th,64,8 & 0x0f == 5' nft_source=@th,224,16 nft_target=@th,240,16 ;;
                6) nft_quote='meta nfproto ipv6' nft_source=@th,384,16 nft_target=@th,400,16 ;;
                esac
                for nft_ends in "$nft_target $nft_source" "$nft_source $nft_target"; do
                    echo "$nft_quote ${nft_ends% *} $nft_ports ${nft_ends#* } & $((set_queues - 1)) == $nft_part" \
                        "queue num $((set_queue + nft_part)) bypass"
                done
            done
            nft_part=$((nft_part + 1))
        done
        echo 'meta nfproto ipv6 return'
        echo '@th,64,8 & 0x0f == 5 return'
    fi
    echo "queue num $set_queue bypass"
}

nft_plan_forward() {
    nft_plan_exceptions
    [ "$set_bypass" = no ] || echo "ct mark & $mark_low == $mark_low tcp dport $nft_ports tcp flags & (fin|syn|rst|psh) == 0" \
        "meta length $bypass_least_octets-1500 accept"
    if [ -z "$set_in_interfaces" ]; then
        echo "tcp dport $nft_ports goto from_client"
        echo "tcp sport $nft_ports goto from_server"
    fi
    for interface in $set_in_interfaces; do
        case $interface in *+) nft_interface="${interface%+}*" ;; *) nft_interface=$interface ;; esac
        echo "tcp dport $nft_ports iifname \"$nft_interface\" goto from_client"
        echo "tcp sport $nft_ports oifname \"$nft_interface\" goto from_server"
    done
    nft_plan_errors
}

nft_plan_exceptions() {
    case $set_family in 4) echo 'meta nfproto ipv6 return' ;; 6) echo 'meta nfproto ipv4 return' ;; esac
    [ "$set_place" = router ] || printf '%s "lo" return\n' iifname oifname
    for network in $set_exempts; do
        case $network in *:*) nft_protocol=ip6 ;; *) nft_protocol=ip ;; esac
        echo "$nft_protocol saddr $network return"
        echo "$nft_protocol daddr $network return"
    done
}

nft_plan_errors() { # RFC 792 and RFC 4443: unreachable, too big, time exceeded, parameter problem
    echo 'icmp type { 3, 11, 12 } goto errors'
    echo 'icmpv6 type { 1, 2, 3, 4 } goto errors'
}

nft_plan_output() {
    case $set_family in 4) echo 'meta nfproto ipv6 return' ;; 6) echo 'meta nfproto ipv4 return' ;; esac
    echo "tcp flags & rst == rst fib saddr type != local tcp sport $nft_ports goto from_server"
    echo "tcp flags & rst == rst fib saddr type != local tcp dport $nft_ports goto from_client"
    nft_plan_errors
}

nft_plan_postrouting() {
    case $set_family in 4) echo 'meta nfproto ipv6 return' ;; 6) echo 'meta nfproto ipv4 return' ;; esac
    echo "meta mark & $mark_high == 0 return"
    echo "tcp dport $nft_ports goto from_client"
    echo "tcp sport $nft_ports goto from_server"
}

# ---- what the kernel has ----

nft_has_queue() { # probed in an empty network namespace, which goes with it
    command -v nft >/dev/null || return 1
    echo "table inet probe { chain probe { type filter hook forward priority 0; queue num 1 bypass; }; }" >"$work/probe"
    unshare -n nft -c -f "$work/probe" >/dev/null 2>&1
}

nft_takes_rest() { # all of the plan but `queue` itself
    nft_plan | sed 's/queue num [0-9]* bypass/accept/' >"$work/probe"
    unshare -n nft -c -f "$work/probe" >/dev/null 2>"$work/error"
}

# ---- load, unload ----

nft_list() { nft list table inet "$nft_table" 2>/dev/null; }

nft_is_loaded() { command -v nft >/dev/null && nft_list >/dev/null; }

nft_run() { # FILE
    if [ "$set_dry_run" = yes ]; then
        echo "nft -f - <<'END'"
        cat "$1"
        echo END
    else
        nft -f "$1" 2>"$work/error"
    fi
}

nft_load() {
    nft_plan >"$work/nft.plan"
    nft_run "$work/nft.plan"
}

nft_remove() {
    nft_is_loaded || return 0
    if [ "$set_dry_run" = yes ]; then
        echo "nft delete table inet $nft_table"
    else
        nft delete table inet "$nft_table" 2>"$work/error"
    fi
}

nft_snapshot() {
    : >"$work/nft.before"
    if nft_is_loaded; then nft_list >"$work/nft.before"; fi
}

nft_rollback() { # as it was before; counters and what was seen of connections aside
    if [ -s "$work/nft.before" ]; then
        { printf 'table inet %s {}\ndelete table inet %s\n' "$nft_table" "$nft_table" && cat "$work/nft.before"; } >"$work/nft.plan"
        nft_run "$work/nft.plan"
    else
        nft_remove
    fi
}
