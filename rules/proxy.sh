# proxy.sh - the rules of the transparent proxy.
# Sourced by smtpwitness-rules after common.sh and settings.sh.
# shellcheck shell=sh
# shellcheck disable=SC2034,SC2154  # set_* come from settings.sh, program and library from the main script
#
# What a packet meets:
#   raw     PRE     client leg into a conntrack zone of its own; without it both legs have the same addresses and
#                   ports, share one conntrack entry, and strict firewalls drop one of them as INVALID.
#           OUT     what we send to clients: source port ours, source address not ours, so a transparent socket.
#                   The witness's signs of life, too: IP protocol 253 (RFC 3692, for experiments) on lo, which only a
#                   process with CAP_NET_RAW can send. Their time is noted (xt_recent) and they end here: sendto()
#                   says EPERM, by which the witness knows that they were seen. 254 takes the note away: a farewell.
#   The server leg stays in the default zone: source NAT and state rules treat it as they treated the
#   forwarded connection, and its answers need no rule that tells them from other traffic.
#   mangle  PRE     ICMP errors and packets of open connections go to our sockets (DIVERT), new connections to NEW.
#           FROM    which interfaces clients come from: asked for last, because names are compared slowly.
#           NEW     the only place where a new connection is taken (TPROXY). An empty NEW takes none, in raw and
#                   in mangle alike: the zone must follow the decision. With --fail open its first rule lets a
#                   connection pass by when the last sign of life is older than life_seconds: a dead man's switch.
#                   DIVERT and the policy route stay, for connections that are open and sockets in TIME_WAIT.
#   filter  IN      marked packets are ours; a direct connection to the listener would make the proxy call itself.
#           OUT     last in OUTPUT: only a policy of DROP is overruled, not the administrator's own rules.
#   mangle  SET     never visited: its comment remembers mark, table and priority for unload.
#   any     MADE    never visited: says that the table did not exist before us, so that unload removes it.
#
# Destination translation (--translated PUBLIC=SERVER) happens after mangle, so the socket of the client leg has SERVER's
# address while its packets still bear PUBLIC when we look for it. Such a connection is known by its connection mark
# instead. Translation keeps its legs apart, so they get no zone: PUBLIC is what the client leg began with, and the
# server leg, which has the same answers, is given another port by the kernel. Connections to SERVER by its own address
# would have both legs in one entry, as above, and are left alone.
#
# A SYN that is to be taken never takes the DIVERT path: TPROXY alone knows what to do when the client uses its port again
# while our old socket is in TIME_WAIT (net/netfilter/xt_TPROXY.c, nf_tproxy_handle_time_wait4). One that is not taken must
# go to that socket first: early demultiplexing would find it on the way (tcp_v4_early_demux), and what is forwarded must not
# have one (ip_forward drops it). The socket answers with its old numbers, the client resets them, which ends the TIME_WAIT
# (tcp_timewait_state_process), and the client's next SYN, which Linux sends at once, passes. In the other direction the
# server's SYN-ACK meets our socket of the server leg and ends it alike, and the server's next one passes.

# shellcheck source=rules/checks.sh
. "$library/checks.sh"

mode_chains='SMTPWITNESS_PRE SMTPWITNESS_DIVERT SMTPWITNESS_FROM SMTPWITNESS_NEW SMTPWITNESS_IN SMTPWITNESS_OUT SMTPWITNESS_SET SMTPWITNESS_MADE'
mode_made=SMTPWITNESS_MADE
mode_tables='raw filter mangle'
mark_example=0x2000000/0x2000000

# A sign comes twice a second (GATE_INTERVAL_US in proxy/gate.h). A SYN that met a dead listener is repeated after 1 and
# 3 s (RFC 6298), so that with 2 s every connection is through 4 s after the death.
life_name=smtpwitness
life_seconds=2

# ---- the plan: every rule there is, in one place ----

plan() { # FAMILY TABLE
    case $2 in
    raw) raw_is_unused || plan_raw "$1" ;;
    filter) plan_filter ;;
    mangle) plan_mangle "$1" ;;
    esac
}

raw_is_unused() { [ "$set_zone" = none ] && [ "$set_fail" = closed ]; }

plan_raw() { # FAMILY
    [ "$set_zone" = none ] || plan_zone "$1"
    [ "$set_zone" != none ] || echo ':SMTPWITNESS_OUT'
    plan_life "$1"
    echo '-I OUTPUT 1 -j SMTPWITNESS_OUT'
}

any_address() { case $1 in 4) echo 0.0.0.0 ;; 6) echo :: ;; esac } # FAMILY: a mask that makes all addresses one

# FAMILY: where signs of life arrive. TCP, which is nearly all there is, leaves before interface names are compared.
plan_life() {
    [ "$set_fail" = open ] || return 0
    echo '-A SMTPWITNESS_OUT -p tcp -j RETURN'
    life_entry="--name $life_name --mask $(any_address "$1") --rsource -j DROP"
    echo "-A SMTPWITNESS_OUT -o lo -p 253 -m recent --set $life_entry"
    echo "-A SMTPWITNESS_OUT -o lo -p 254 -m recent --remove $life_entry"
}

plan_gate() { # FAMILY: without a recent sign of life nothing new is taken
    [ "$set_fail" = open ] || return 0
    echo "-A SMTPWITNESS_NEW -m recent ! --rcheck --seconds $life_seconds --name $life_name --mask $(any_address "$1") --rsource -j RETURN"
}

# A client whose own port is one of ours cannot be told from its server leg by ports: it gets no zone.
plan_zone() { # FAMILY
    raw_client="$(ports_match d) $(ports_match s !)"
    echo ':SMTPWITNESS_PRE'
    echo ':SMTPWITNESS_NEW'
    echo ':SMTPWITNESS_OUT'
    plan_translated "$1"
    echo "-A SMTPWITNESS_PRE -p tcp $raw_client -m tcp ! --tcp-flags FIN,SYN,RST,ACK SYN -m socket --transparent -j CT --zone $set_zone"
    plan_jumps_new "-p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN $raw_client"
    plan_gate "$1"
    plan_exempts "$1"
    plan_local
    echo "-A SMTPWITNESS_NEW -j CT --zone $set_zone"
    echo "-A SMTPWITNESS_OUT -p tcp $(ports_match s) $(ports_match d !) -m addrtype ! --src-type LOCAL -j CT --zone $set_zone"
    echo '-I PREROUTING 1 -j SMTPWITNESS_PRE'
}

translated_pairs() { # FAMILY: "PUBLIC SERVER" lines
    for pair in $set_translated; do
        case $1$pair in 4*:* | 6*.*) continue ;; esac
        echo "${pair%%=*} ${pair#*=}"
    done
}

plan_translated() { # FAMILY: no zone for either address
    translated_pairs "$1" | while read -r public server; do
        for address in "$public" "$server"; do
            echo "-A SMTPWITNESS_PRE -d $address -p tcp $(ports_match d) -j RETURN"
        done
        echo "-A SMTPWITNESS_OUT -s $server -p tcp $(ports_match s) -j RETURN"
    done
}

plan_translated_open() { # FAMILY ICMP: packets of connections that were taken
    translated_pairs "$1" | while read -r public server; do
        echo "-A SMTPWITNESS_PRE -d $public -p tcp $(ports_match d) -m tcp ! --tcp-flags FIN,SYN,RST,ACK SYN -m connmark --mark $set_mark -j SMTPWITNESS_DIVERT"
        echo "-A SMTPWITNESS_PRE -d $public -p $2 -m conntrack --ctstate RELATED -m connmark --mark $set_mark -j SMTPWITNESS_DIVERT"
    done
}

plan_translated_new() { # FAMILY
    translated_pairs "$1" | while read -r public server; do
        echo "-A SMTPWITNESS_NEW -d $public -p tcp -m tcp ! --tcp-flags FIN,SYN,RST,ACK SYN -m conntrack --ctstate RELATED,ESTABLISHED -j RETURN"
        echo "-A SMTPWITNESS_NEW -d $public -p tcp -j CONNMARK --set-xmark $set_mark"
        echo "-A SMTPWITNESS_NEW -d $public -p tcp -j TPROXY --on-port $set_listen_port --tproxy-mark $set_mark"
        echo "-A SMTPWITNESS_NEW -d $server -j RETURN"
    done
}

plan_mangle() {
    case $1 in 4) icmp=icmp ;; 6) icmp=ipv6-icmp ;; esac
    echo ':SMTPWITNESS_PRE'
    echo ':SMTPWITNESS_DIVERT'
    echo ':SMTPWITNESS_NEW'
    plan_record "$set_mark" "$set_table" "$set_priority"
    plan_translated_open "$1" "$icmp"
    for end in d s; do
        echo "-A SMTPWITNESS_PRE -p tcp $(ports_match $end) -m tcp ! --tcp-flags FIN,SYN,RST,ACK SYN -m socket --transparent -j SMTPWITNESS_DIVERT"
    done
    echo "-A SMTPWITNESS_PRE -p $icmp -m socket --transparent -j SMTPWITNESS_DIVERT"
    plan_jumps_new "-p tcp $(ports_match d)"
    echo "-A SMTPWITNESS_PRE -p tcp $(ports_match d) -m tcp --tcp-flags FIN,SYN,RST,ACK SYN -m socket --transparent -j SMTPWITNESS_DIVERT"
    echo "-A SMTPWITNESS_DIVERT -j MARK --set-xmark $set_mark"
    echo '-A SMTPWITNESS_DIVERT -j ACCEPT'
    plan_gate "$1"
    plan_exempts "$1"
    plan_translated_new "$1"
    plan_local
    # Connections that were open before us go on being forwarded. A client that answers a SYN cookie has
    # neither socket nor state in this zone and must be taken: so not --syn.
    [ "$set_zone" = none ] ||
        echo '-A SMTPWITNESS_NEW -p tcp -m tcp ! --tcp-flags FIN,SYN,RST,ACK SYN -m conntrack --ctstate RELATED,ESTABLISHED -j RETURN'
    echo "-A SMTPWITNESS_NEW -p tcp -j TPROXY --on-port $set_listen_port --tproxy-mark $set_mark"
    echo '-I PREROUTING 1 -j SMTPWITNESS_PRE'
}

plan_filter() {
    echo ':SMTPWITNESS_IN'
    echo ':SMTPWITNESS_OUT'
    echo "-A SMTPWITNESS_IN -m mark --mark $set_mark -j ACCEPT"
    echo "-A SMTPWITNESS_IN ! -i lo -p tcp -m tcp --dport $set_listen_port -j REJECT --reject-with tcp-reset"
    for end in d s; do
        echo "-A SMTPWITNESS_OUT -p tcp $(ports_match $end) -m addrtype ! --src-type LOCAL -j ACCEPT"
    done
    echo '-I INPUT 1 -j SMTPWITNESS_IN'
    echo '-A OUTPUT -j SMTPWITNESS_OUT'
}

plan_record() { # MARK TABLE PRIORITY
    echo ':SMTPWITNESS_SET'
    echo "-A SMTPWITNESS_SET -m comment --comment \"mark=$1 table=$2 priority=$3\""
}

plan_jumps_new() { # MATCH
    if [ -z "$set_in_interfaces" ]; then
        echo "-A SMTPWITNESS_PRE $1 -j SMTPWITNESS_NEW"
        return
    fi
    echo ':SMTPWITNESS_FROM'
    echo "-A SMTPWITNESS_PRE $1 -j SMTPWITNESS_FROM"
    for interface in $set_in_interfaces; do
        echo "-A SMTPWITNESS_FROM -i $interface -j SMTPWITNESS_NEW"
    done
}

plan_exempts() { # FAMILY: networks to leave alone
    for network in $set_exempts; do
        case $1$network in 4*:* | 6*.*) continue ;; esac
        echo "-A SMTPWITNESS_NEW -s $network -j RETURN"
        echo "-A SMTPWITNESS_NEW -d $network -j RETURN"
    done
}

plan_local() { echo '-A SMTPWITNESS_NEW -m addrtype --dst-type LOCAL -j RETURN'; } # mail for the router itself

# ---- what is there now ----

snapshot_take() { # the state before we touch anything
    for family in 4 6; do
        : >"$work/before.$family"
        family_has_tools "$family" || continue
        firewall_save "$family" "$work/before.$family" ||
            die "cannot read the $(firewall_name "$family") ruleset: $(error_first_line); see that $(firewall_name "$family")-save works"
        records_of "$work/before.$family" >"$work/records.$family"
        rule_list "$family" >"$work/rules.$family"
    done
}

records_of() { # FILE: "MARK TABLE PRIORITY" of each load that left a record
    ruleset_section "$1" mangle |
        sed -n 's/^-A SMTPWITNESS_SET .*"mark=\([^ ]*\) table=\([0-9]*\) priority=\([0-9]*\)".*/\1 \2 \3/p'
}

# ---- load ----

family_tool() { firewall_name "$1"; } # FAMILY

family_load() { # FAMILY
    record_write "$1" "$set_mark $set_table $set_priority" || return 1
    policy_add "$1" "$set_mark" "$set_table" "$set_priority" || return 1
    for table in $mode_tables; do
        { plan "$1" "$table" && plan_made_unless_unused "$1" "$table"; } >"$work/plan"
        if [ "$table" = mangle ]; then # the record has changed it since
            table_apply "$1" "$table" "$work/plan" || return 1
        else
            table_apply "$1" "$table" "$work/plan" "$work/before.$1" || return 1
        fi
    done
    policy_remove_others "$1" || return 1
    family_tidy "$1" || return 1
    policy_verify "$1"
}

plan_made_unless_unused() {
    [ "$2" = raw ] && raw_is_unused && return 0
    plan_made "$1" "$2"
}

# The record comes first and goes last, so that an interrupted load or unload can always be cleaned up.
record_write() { # FAMILY "MARK TABLE PRIORITY"
    if grep -qxF "$2" "$work/records.$1" && [ "$(wc -l <"$work/records.$1")" -eq 1 ]; then
        return 0
    fi
    {
        ruleset_ours "$work/before.$1" mangle | grep -v SMTPWITNESS_SET
        plan_made "$1" mangle
        { cat "$work/records.$1" && echo "$2"; } | while read -r old_mark old_table old_priority; do
            plan_record "$old_mark" "$old_table" "$old_priority"
        done
    } | awk '!seen[$0]++' >"$work/plan"
    table_apply "$1" mangle "$work/plan" "$work/before.$1"
}

policy_remove_others() { # FAMILY: what an earlier load with other settings left
    while read -r old_mark old_table old_priority; do
        [ "$old_mark $old_table $old_priority" = "$set_mark $set_table $set_priority" ] && continue
        if [ "$old_table" = "$set_table" ]; then
            rule_is_there "$1" "$old_mark" "$old_table" "$old_priority" || continue
            run_ip "-$1" rule del fwmark "$old_mark" lookup "$old_table" priority "$old_priority" || return 1
        else
            policy_remove "$1" "$old_mark" "$old_table" "$old_priority" || return 1
        fi
    done <"$work/records.$1"
}

policy_verify() { # FAMILY: does a marked packet really come to us?
    [ "$set_dry_run" = no ] || return 0
    case $1 in 4) probe_address=192.0.2.1 ;; 6) probe_address=2001:db8::1 ;; esac
    ip "-$1" route get "$probe_address" mark "$mark_value" 2>/dev/null | grep -q '^local ' && return 0
    echo "another routing rule takes marked packets before ours (ip -$1 rule); choose a smaller --priority" >"$work/error"
    return 1
}

# When load is done, connections are taken: so wait for the next sign of a witness that runs.
mode_loaded() {
    [ "$set_dry_run" = no ] || return 0
    notes_say
    [ "$set_fail" = open ] || return 0
    life_family=''
    for family in $families; do # that of IPv6 follows that of IPv4 at once
        ! listener_is_there "$family" || life_family=$family
    done
    [ -z "$life_family" ] || life_is_seen "$life_family" || return 0
}

# ---- unload ----

mode_unload() {
    privilege_require unload
    [ "$set_dry_run" = yes ] || lock_take
    snapshot_take
    unload_status=0
    for family in 4 6; do
        if [ "$set_keep_open" = yes ]; then
            family_close_new "$family" || unload_status=1
        else
            family_remove "$family" || unload_status=1
        fi
    done
    [ "$unload_status" -eq 0 ] ||
        die "could not remove everything: $(error_first_line); remove what refers to our chains (iptables-save | grep SMTPWITNESS) and run it again"
    [ "$set_keep_open" = yes ] || sockets_forget
}

# What the kernel keeps of sessions for a minute (TIME_WAIT) would catch a client that uses its port again: see at the top.
# Sockets with an address of this host belong to its own mail server. As far as the kernel can (CONFIG_INET_DIAG_DESTROY).
sockets_forget() {
    loaded_ports=$(cat "$work/before.4" "$work/before.6" | sed -n 's/^-A SMTPWITNESS_OUT .*--dports\{0,1\} \([0-9,]*\) .*-j ACCEPT$/\1/p' | sort -u | tr '\n' ',')
    [ -n "$loaded_ports" ] && command -v ss >/dev/null || return 0
    sockets_filter=$(echo "${loaded_ports%,}" | tr ',' '\n' | awk '
        { text = text (text == "" ? "( " : " or ") "sport = :" $1 " or dport = :" $1 } END { print text " )" }')
    sockets_filter=$sockets_filter$(ip -o address show | awk '{ sub(/\/.*/, "", $4); print " and not src " ($4 ~ /:/ ? "[" $4 "]" : $4) }' | sort -u | tr -d '\n')
    if [ "$set_dry_run" = yes ]; then
        echo "ss -K state time-wait '$sockets_filter'"
    else
        ss -HKtn state time-wait "$sockets_filter" >/dev/null 2>&1
    fi
    return 0
}

family_close_new() { # FAMILY: take no new connection; what open ones need stays
    for table in raw mangle; do
        ruleset_has_chain "$work/before.$1" "$table" SMTPWITNESS_NEW || continue
        ruleset_ours "$work/before.$1" "$table" | grep -v '^-A SMTPWITNESS_NEW ' >"$work/plan"
        table_apply "$1" "$table" "$work/plan" "$work/before.$1" || return 1
    done
}

family_remove() { # FAMILY
    family_has_tools "$1" || return 0
    remove_status=0
    if ruleset_is_loaded "$work/before.$1"; then
        ruleset_ours "$work/before.$1" mangle | awk '/^:/ ? /SET$|MADE$/ : /^-A SMTPWITNESS_SET /' >"$work/plan"
        table_apply "$1" mangle "$work/plan" "$work/before.$1" || remove_status=1
        : >"$work/plan"
        for table in raw filter; do
            table_apply "$1" "$table" "$work/plan" "$work/before.$1" || remove_status=1
        done
    fi
    family_remove_policy "$1" || remove_status=1
    if [ "$remove_status" -ne 0 ]; then
        family_tidy_after_failure "$1"
        return 1
    fi
    : >"$work/plan"
    if ruleset_is_loaded "$work/before.$1"; then
        family_remove_last "$1" || return 1
    fi
    family_tidy "$1"
}

family_tidy_after_failure() { # FAMILY: the markers may be gone already; what failed is still the thing to tell
    cp "$work/error" "$work/error.first"
    family_tidy "$1"
    cp "$work/error.first" "$work/error"
}

family_remove_last() { # FAMILY: the record itself
    if [ "$set_dry_run" = no ]; then
        table_apply "$1" mangle "$work/plan"
    else
        printf '*mangle\n:SMTPWITNESS_SET -\nCOMMIT\n' >"$work/present.save"
        table_apply "$1" mangle "$work/plan" "$work/present.save"
    fi
}

family_remove_policy() { # FAMILY
    { cat "$work/records.$1" && echo "$set_mark $set_table $set_priority"; } | sort -u >"$work/records"
    while read -r old_mark old_table old_priority; do
        # Without a record only a rule exactly like ours says that the route is ours too.
        grep -qxF "$old_mark $old_table $old_priority" "$work/records.$1" ||
            rule_is_there "$1" "$old_mark" "$old_table" "$old_priority" || continue
        policy_remove "$1" "$old_mark" "$old_table" "$old_priority" || return 1
    done <"$work/records"
}

# ---- rollback: the same transactions, with the state before as the plan ----

rollback() {
    rollback_status=0
    for family in 4 6; do
        family_has_tools "$family" || continue
        rollback_policy "$family" || rollback_status=1
        rollback_rules "$family" || rollback_status=1
        rollback_tables "$family" || rollback_status=1
    done
    return "$rollback_status"
}

rollback_policy() { # FAMILY
    rollback_line=$(rule_line "$set_mark" "$set_table" "$set_priority")
    if ! sed 's/ *$//' "$work/rules.$1" | grep -qxF "$rollback_line"; then
        # A record with the same table means that the route was there before.
        if awk -v table="$set_table" '$2 == table { found = 1 } END { exit !found }' "$work/records.$1"; then
            rule_is_there "$1" "$set_mark" "$set_table" "$set_priority" &&
                { ip "-$1" rule del fwmark "$set_mark" lookup "$set_table" priority "$set_priority" || return 1; }
        else
            policy_remove "$1" "$set_mark" "$set_table" "$set_priority" || return 1
        fi
    fi
    while read -r old_mark old_table old_priority; do
        sed 's/ *$//' "$work/rules.$1" | grep -qxF "$(rule_line "$old_mark" "$old_table" "$old_priority")" || continue
        policy_add "$1" "$old_mark" "$old_table" "$old_priority" || return 1
    done <"$work/records.$1"
}

# ---- show, status, check ----

mode_show() { # as load would do it on a router without rules of ours
    set_dry_run=yes
    : >"$work/empty"
    for family in $families; do
        echo "ip -$family rule add fwmark $set_mark lookup $set_table priority $set_priority"
        echo "ip -$family route add local default dev lo table $set_table"
        for table in $mode_tables; do
            plan "$family" "$table" >"$work/plan"
            ruleset_batch "$work/empty" "$table" "$work/plan" >"$work/batch"
            run_restore "$family" "$work/batch"
        done
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
        status_family "$family"
    done
    return "$status_loaded"
}

status_family() { # FAMILY
    name=$(firewall_name "$1")
    while read -r old_mark old_table old_priority; do
        status_word=missing
        rule_is_there "$1" "$old_mark" "$old_table" "$old_priority" && route_is_there "$1" "$old_table" && status_word=present
        echo "$name: loaded, mark $old_mark, routing table $old_table, priority $old_priority, policy route $status_word"
    done <"$work/records.$1"
    if ! ruleset_section "$work/before.$1" mangle | grep -q '^-A SMTPWITNESS_NEW .*-j TPROXY'; then
        echo "$name: no new connections are taken (unload --keep-open); load takes them again"
    elif ! ruleset_has_gate "$work/before.$1"; then
        echo "$name: fails closed: while the witness does not run, new connections are dropped"
    elif life_is_seen "$1"; then
        echo "$name: fails open: the witness gives signs of life, new connections are taken"
    else
        echo "$name: fails open: the witness gives no sign of life, new connections pass unseen"
    fi
    "$name-save" -c 2>/dev/null | awk '
        /^\*/ { table = substr($0, 2) }
        /^\[/ && $3 ~ /^SMTPWITNESS_/ && $3 != "SMTPWITNESS_SET" {
            counters = substr($1, 2, length($1) - 2); split(counters, count, ":")
            rule = $0; sub(/^[^ ]+ -A /, "", rule)
            printf "  %-6s %10s packets %14s octets  %s\n", table, count[1], count[2], rule }'
}

ruleset_has_gate() { # FILE
    ruleset_section "$1" mangle | grep -q '^-A SMTPWITNESS_NEW -m recent '
}

life_last() { # FAMILY: when the kernel saw the last sign, in its own count; empty without any
    case $1 in 4) life_address=0.0.0.0 ;; 6) life_address=0000:0000:0000:0000:0000:0000:0000:0000 ;; esac
    sed -n "s/^src=$life_address .*last_seen: \\([0-9]*\\) .*/\\1/p" "/proc/net/xt_recent/$life_name" 2>/dev/null
}

life_is_seen() { # FAMILY: does another sign come within a second?
    life_before=$(life_last "$1")
    for life_wait in 1 2 3 4 5 6 7 8 9 10; do
        sleep 0.1
        life_now=$(life_last "$1")
        [ "$life_now" = "$life_before" ] || [ -z "$life_now" ] || return 0
    done
    return 1
}

mode_check() {
    findings_all
}
