# checks.sh - what would break the proxy's rules, found before they are loaded, and what to do about it.
# Sourced by proxy.sh. Nothing here changes anything: the kernel is probed in an empty network namespace.
# shellcheck shell=sh
# shellcheck disable=SC2154  # set_*, families, mark_value and mark_mask come from settings.sh

# ---- findings ----

finding_problem() { # TEXT REMEDY: it would not work
    echo "$1" >>"$work/problems"
    if [ "$findings_form" = load ]; then
        echo "$program: $1; $2" >&2
    else
        printf 'problem: %s\nremedy: %s\n' "$1" "$2"
    fi
}

finding_warning() { # TEXT REMEDY: it works, but the administrator should know
    [ "$findings_form" = check ] || return 0
    printf 'warning: %s\nremedy: %s\n' "$1" "$2"
}

finding_idle() { # TEXT REMEDY: rules loaded now would have nothing to do; load says so when it is done, and it may come yet
    case $findings_form in
    load) echo "$program: warning: $1; $2" >>"$work/notes" ;;
    check) printf '%s: %s\nremedy: %s\n' "${3:-warning}" "$1" "$2" ;;
    esac
    [ "${3:-warning}" = warning ] || [ "$findings_form" = load ] || echo "$1" >>"$work/problems"
}

notes_say() { cat "$work/notes" >&2; }

findings_clean() { ! [ -s "$work/problems" ]; }

findings_for_load() {
    findings_form=load
    findings_gather
}

findings_all() {
    findings_form=check
    findings_gather
}

findings_gather() {
    : >"$work/problems"
    : >"$work/notes"
    check_privilege
    check_ipv6
    check_tools
    findings_clean || return 1
    for family in $families; do
        firewall_save "$family" "$work/seen.$family" ||
            finding_problem "the $(firewall_name "$family") ruleset cannot be read: $(error_first_line)" "run $(firewall_name "$family")-save and see what it needs"
    done
    findings_clean || return 1
    nft_rules_read
    check_kernel
    check_src_valid_mark
    check_mark_sysctls
    check_forwarding
    check_rp_filter
    check_interfaces
    check_conntrack
    check_bridges
    check_hardware_offload
    for family in $families; do
        name=$(firewall_name "$family")
        check_helper "$work/seen.$family"
        check_mark_owner "$work/seen.$family"
        check_connmark "$work/seen.$family"
        check_routing_rules
        check_routing_table
        check_nat "$work/seen.$family"
        check_forward_lists "$work/seen.$family"
        check_loaded "$work/seen.$family"
        check_other_backend
    done
    check_nft
    check_listener
    findings_clean
}

# ---- the machine ----

check_privilege() {
    if [ "$(id -u)" -ne 0 ]; then
        finding_problem 'not run as root' 'run it with sudo'
        return
    fi
    capabilities=$(sed -n 's/^CapEff:[[:space:]]*//p' /proc/self/status)
    [ $((0x${capabilities:-0} >> 12 & 1)) -eq 1 ] ||
        finding_problem 'the capability to change the network (CAP_NET_ADMIN) is missing' \
            'run it on the router itself, not in a container without NET_ADMIN'
}

check_ipv6() {
    ! ipv6_is_on || return 0
    case $set_family in
    6) finding_problem 'IPv6 is not in this kernel, or switched off on lo (net.ipv6.conf.lo.disable_ipv6)' \
        'sysctl -w net.ipv6.conf.lo.disable_ipv6=0, or load with --family 4' ;;
    both)
        grep -qs 0 /proc/sys/net/ipv6/conf/*/disable_ipv6 || return 0 # nothing can come by it
        finding_warning 'IPv6 is switched off on lo: only IPv4 is intercepted, and mail by IPv6 passes unseen' \
            'sysctl -w net.ipv6.conf.lo.disable_ipv6=0, or FAMILY=4 in rules.conf if no mail comes by IPv6'
        ;;
    esac
}

check_tools() {
    command -v ip >/dev/null || finding_problem 'the program ip is missing' 'install iproute2'
    for family in $families; do
        family_has_tools "$family" ||
            finding_problem "$(firewall_name "$family")-save and $(firewall_name "$family")-restore are missing" 'install iptables'
    done
}

kernel_features() { # FAMILY: name, module, table and rule of all that a plan uses
    cat <<TEXT
TPROXY xt_TPROXY mangle -p tcp -j TPROXY --on-port 1 --tproxy-mark 0x1/0x1
MARK xt_mark mangle -j MARK --set-xmark 0x1/0x1
socket xt_socket mangle -p tcp -m socket --transparent
mark xt_mark filter -m mark --mark 0x1/0x1
multiport xt_multiport filter -p tcp -m multiport --ports 25
addrtype xt_addrtype mangle -m addrtype --dst-type LOCAL
comment xt_comment mangle -m comment --comment x
REJECT ipt_REJECT filter -p tcp -j REJECT --reject-with tcp-reset
TEXT
    [ "$set_fail" = closed ] || echo "recent xt_recent raw -m recent ! --rcheck --seconds 2 --name probe --mask $(any_address "$1")"
    [ -z "$set_translated" ] || cat <<TEXT
connmark xt_connmark mangle -m connmark --mark 0x1/0x1
CONNMARK xt_connmark mangle -j CONNMARK --set-xmark 0x1/0x1
TEXT
    [ "$set_zone" = none ] || cat <<TEXT
CT_zone xt_CT raw -j CT --zone 1
conntrack xt_conntrack mangle -m conntrack --ctstate ESTABLISHED
TEXT
}

check_kernel() {
    if ! unshare -n true 2>/dev/null; then
        finding_warning 'the kernel was not probed: no empty network namespace can be made here' \
            'nothing, if load succeeds; it undoes everything when the kernel refuses a rule'
        return
    fi
    for family in $families; do
        kernel_features "$family" >"$work/features"
        kernel_probe "$family" "$work/features" || check_kernel_each "$family"
        unshare -n ip "-$family" rule add fwmark 0x1/0x1 lookup 1 2>/dev/null ||
            finding_problem "IPv$family: the kernel knows no policy routing (CONFIG_IP_MULTIPLE_TABLES)" \
                "use a kernel with it, or leave IPv$family out with --family"
    done
}

kernel_probe() { # FAMILY FEATURES: one transaction in an empty network namespace, which goes with it
    for table in filter mangle raw; do
        echo "*$table"
        awk -v table="$table" '$3 == table {
            $1 = $2 = $3 = ""; print "-A " (table == "filter" ? "INPUT" : "PREROUTING") $0 }' "$2"
        echo COMMIT
    done >"$work/probe"
    unshare -n "$(firewall_name "$1")-restore" --noflush <"$work/probe" >/dev/null 2>&1
}

check_kernel_each() { # FAMILY: which one is it?
    while read -r feature; do
        echo "$feature" >"$work/feature"
        kernel_probe "$1" "$work/feature" && continue
        check_kernel_report "$1" "$feature"
    done <"$work/features"
}

check_kernel_report() { # FAMILY "FEATURE MODULE TABLE RULE"
    echo "$2" >"$work/feature"
    read -r feature module table rule <"$work/feature"
    finding_problem "$(firewall_name "$1"): the kernel or $(firewall_name "$1") lacks '$feature' in table $table" \
        "modprobe $module, or install the kernel's netfilter modules, or leave IPv$1 out with --family"
}

sysctl_read() { # NAME with slashes: empty when the kernel has none
    cat "/proc/sys/net/$1" 2>/dev/null
}

interfaces_watched() { # those clients come in by, as the kernel names them
    if [ -z "$set_in_interfaces" ]; then
        ls /sys/class/net 2>/dev/null
        return
    fi
    for interface in $set_in_interfaces; do
        case $interface in
        *+) (cd /sys/class/net 2>/dev/null && ls -d "${interface%+}"* 2>/dev/null) ;;
        *) echo "$interface" ;;
        esac
    done
}

family_is_wanted() { case " $families " in *" $1 "*) ;; *) return 1 ;; esac }

# The answer to a marked packet is looked up with the mark, found local, and the packet dropped as a martian:
# fib_validate_source in net/ipv4/fib_frontend.c.
check_src_valid_mark() {
    family_is_wanted 4 || return 0
    for interface in all $(interfaces_watched); do
        [ "$(sysctl_read "ipv4/conf/$interface/src_valid_mark")" = 1 ] || continue
        finding_problem "net.ipv4.conf.$interface.src_valid_mark is 1: every intercepted packet is dropped without a word" \
            "sysctl -w net.ipv4.conf.$interface.src_valid_mark=0, and the same in /etc/sysctl.d"
    done
}

check_mark_sysctls() {
    if [ "$(sysctl_read ipv4/tcp_fwmark_accept)" = 1 ]; then
        finding_problem 'net.ipv4.tcp_fwmark_accept is 1: what we send to clients would inherit our mark and come back to us' \
            'sysctl -w net.ipv4.tcp_fwmark_accept=0, and the same in /etc/sysctl.d'
    fi
    if [ "$(sysctl_read ipv4/tcp_rfc1337)" = 1 ]; then
        finding_warning 'net.ipv4.tcp_rfc1337 is 1: a client that uses the port of its last session again, past the witness, waits for a minute' \
            'sysctl -w net.ipv4.tcp_rfc1337=0, and the same in /etc/sysctl.d; it concerns only what ends at this router itself'
    fi
    for family in $families; do
        case $family in 4) reflect=ipv4 ;; 6) reflect=ipv6 ;; esac
        [ "$(sysctl_read "$reflect/fwmark_reflect")" = 1 ] || continue
        finding_warning "net.$reflect.fwmark_reflect is 1: resets the kernel sends for intercepted connections would not leave the router" \
            "sysctl -w net.$reflect.fwmark_reflect=0, and the same in /etc/sysctl.d"
    done
}

check_forwarding() {
    forwards4=$(sysctl_read ipv4/ip_forward)
    forwards6=$(sysctl_read ipv6/conf/all/forwarding)
    for family in $families; do
        case $family in
        4) forwards=$forwards4 other=$forwards6 sysctl_name=net.ipv4.ip_forward ;;
        6) forwards=$forwards6 other=$forwards4 sysctl_name=net.ipv6.conf.all.forwarding ;;
        esac
        [ "$forwards" = 1 ] && continue
        forward_text="$sysctl_name is 0: this host does not route IPv$family, so mail would pass only while the witness runs"
        forward_remedy="sysctl -w $sysctl_name=1, or leave IPv$family out with --family"
        if [ "$set_family" = both ] && [ "$other" = 1 ]; then
            finding_warning "$forward_text" "$forward_remedy"
        else
            finding_problem "$forward_text" "$forward_remedy"
        fi
    done
}

# The server leg is sent by this host, so rules that route by incoming interface no longer see it. When it then
# leaves by another interface than before, a strict reverse path filter drops the answers.
check_rp_filter() {
    family_is_wanted 4 || return 0
    rule_list 4 | grep -q ' iif [^l]\| iif l[^o]' || return 0
    all=$(sysctl_read ipv4/conf/all/rp_filter)
    for interface in $(cd /sys/class/net && ls); do
        one=$(sysctl_read "ipv4/conf/$interface/rp_filter")
        [ "$interface" = lo ] && continue
        [ "${one:-0}" -gt "${all:-0}" ] || one=$all
        [ "${one:-0}" = 1 ] || continue
        finding_warning "strict rp_filter on $interface and routing rules by incoming interface: answers of servers may be dropped" \
            "sysctl -w net.ipv4.conf.$interface.rp_filter=2, or see that 'ip route get SERVER from CLIENT' uses the interface the answers come by"
    done
}

check_interfaces() {
    for interface in $set_in_interfaces; do
        case $interface in *+) continue ;; esac
        [ -e "/sys/class/net/$interface" ] ||
            finding_idle "interface $interface does not exist now: nothing that comes by it is seen until it does" \
                "if it will come later, nothing; else write one of: $(interfaces_present)" problem
    done
}

interfaces_present() {
    for interface_present in /sys/class/net/*; do
        interface_present=${interface_present##*/}
        [ "$interface_present" = lo ] || printf '%s\n' "$interface_present"
    done | head -n 20 | tr '\n' ' ' | sed 's/ $//'
}

# Our own router's table of connections is as good a suspect as any firewall behind it.
check_conntrack() {
    conntrack=/proc/sys/net/netfilter/nf_conntrack
    [ -r "${conntrack}_max" ] || return 0
    conntrack_max=$(cat "${conntrack}_max") conntrack_count=$(cat "${conntrack}_count")
    if [ "$conntrack_max" -gt 0 ] && [ $((conntrack_count / 4)) -ge $((conntrack_max / 5)) ]; then
        finding_warning "the conntrack table is nearly full, $conntrack_count of $conntrack_max; the proxy needs two entries a session" \
            "sysctl -w net.netfilter.nf_conntrack_max=$((conntrack_max * 2)), and the same in /etc/sysctl.d"
    fi
    conntrack_seconds=$(cat "${conntrack}_tcp_timeout_established")
    if [ "$conntrack_seconds" -lt 600 ]; then
        finding_warning "this router forgets a silent connection after $conntrack_seconds s; RFC 5321 lets a server take 600 s for its reply to a mail" \
            'sysctl -w net.netfilter.nf_conntrack_tcp_timeout_established=7440, and the same in /etc/sysctl.d (RFC 5382)'
    fi
}

check_helper() { # FILE: there is no helper for SMTP in the kernel; one on its ports takes it for something else
    { rules_met "$1" raw PREROUTING && rules_met "$1" raw OUTPUT; } | grep -- '-j CT .*--helper' >"$work/met"
    while read -r rule; do
        finding_warning "$name: a conntrack helper reads, and may change, what passes on our ports: $rule" \
            "let the rule leave port ${set_ports%%,*} out"
    done <"$work/met"
}

bridges() {
    for place in /sys/class/net/*/bridge; do
        [ -d "$place" ] || continue
        place=${place%/bridge}
        echo "${place##*/}"
    done
}

check_bridges() { # the proxy takes what is routed; what is only bridged is for nfq
    bridge_list=$(bridges | tr '\n' ' ' | sed 's/ $//')
    [ -n "$bridge_list" ] || return 0
    for family in $families; do
        case $family in 4) call=bridge-nf-call-iptables ;; 6) call=bridge-nf-call-ip6tables ;; esac
        [ "$(sysctl_read "bridge/$call")" = 1 ] || continue
        finding_warning "IPv$family: connections across a bridge ($bridge_list) meet these rules too, and the proxy would break those it cannot route" \
            "name the interfaces of clients whose mail is routed with --in-interface; sysctl -w net.bridge.$call=0; or use nfq"
    done
}

check_hardware_offload() {
    command -v ethtool >/dev/null || return 0
    for interface in $(interfaces_watched); do
        ethtool -k "$interface" 2>/dev/null | grep -q '^hw-tc-offload: on' || continue
        finding_warning "$interface may forward connections in hardware (hw-tc-offload): those pass unseen" \
            "ethtool -K $interface hw-tc-offload off, if mail is missing from the log"
    done
}

listener_is_there() { # FAMILY; yes, when nobody can tell
    command -v ss >/dev/null || return 0
    # A dual-stack socket serves IPv4 as well, though not as a transparent IPv4 listener.
    [ -n "$(ss -Hltn "-$1" "sport = :$set_listen_port" 2>/dev/null)" ]
}

check_listener() {
    check_listener_families=''
    for family in $families; do
        listener_is_there "$family" || check_listener_families="${check_listener_families:+$check_listener_families and }IPv$family"
    done
    [ -n "$check_listener_families" ] || return 0
    case $set_fail in open) check_listener_text='pass unseen' ;; closed) check_listener_text='get no answer' ;; esac
    finding_idle "nothing listens on port $set_listen_port for $check_listener_families: while the rules are loaded, new connections $check_listener_text" \
        'start smtpwitness proxy, or give its port with --listen-port'
}

# ---- others on this router; called for one family, with its name ----

rules_of_others() { grep '^-A' "$1" | grep -v '^-A SMTPWITNESS_'; } # FILE

word_overlaps() { # VALUE: are bits of ours in it?
    is_word32 "$1" && [ $(($1 & mark_mask)) -ne 0 ]
}

check_mark_owner() { # FILE
    rules_of_others "$1" | sed -n 's/.*--\(set-xmark\|tproxy-mark\|set-mark\|or-mark\) \(0x[0-9a-f]*\|[0-9]*\).*/\2 &/p' >"$work/marks"
    while read -r value rule; do
        word_overlaps "$value" || continue
        finding_problem "$name: another rule sets bits of our mark $set_mark: $rule" "choose free bits with --mark, for example $mark_example"
    done <"$work/marks"
    rule_list "$family" | sed -n 's/.* fwmark \([0-9a-fx]*\).*/\1 &/p' >"$work/marks"
    while read -r value rule; do
        rule_is_ours "$rule" && continue
        word_overlaps "$value" || continue
        finding_problem "IPv$family: another routing rule uses bits of our mark $set_mark: $rule" "choose free bits with --mark, for example $mark_example"
    done <"$work/marks"
}

rule_is_ours() { # LINE of ip rule, blanks squeezed: of this load or an earlier one
    rule_text=$(echo "$1" | sed 's/[[:space:]]\{1,\}/ /g; s/ $//')
    records_of "$work/seen.$family" >"$work/records"
    echo "$set_mark $set_table $set_priority" >>"$work/records"
    while read -r old_mark old_table old_priority; do
        [ "$rule_text" = "$(rule_line "$old_mark" "$old_table" "$old_priority" | tr '\t' ' ')" ] && return 0
    done <"$work/records"
    return 1
}

check_connmark() { # FILE: a mark saved with our bit in it, then put on what we send, sends it back to us
    rules_of_others "$1" | sed -n 's/.*--restore-mark.* --ctmask \(0x[0-9a-f]*\).*/\1 &/p' | grep ' -A OUTPUT ' >"$work/marks"
    rules_of_others "$1" | grep -q -- --save-mark || return 0
    while read -r value rule; do
        word_overlaps "$value" || continue
        finding_warning "$name: connection marks are restored with our bits on what this host sends: $rule" \
            "leave our bits out: --restore-mark --nfmask and --ctmask $(printf '0x%x' $((~mark_mask & 0xffffffff)))"
    done <"$work/marks"
}

check_routing_rules() {
    rule_list "$family" | sed 's/:[[:space:]]*/ /' >"$work/rules"
    while read -r number rule; do
        case $rule in 'from all lookup 255' | 'from all lookup 254' | 'from all lookup 253') continue ;; esac
        rule_is_ours "$number: $rule" && continue
        if [ "$number" -eq "$set_priority" ]; then
            finding_problem "IPv$family: another routing rule has priority $set_priority: $rule" 'choose a free number with --priority'
        fi
        case $rule in
        *" lookup $set_table" | *" lookup $set_table "*)
            finding_problem "IPv$family: another routing rule uses table $set_table: $number: $rule" 'choose a free number with --table'
            ;;
        esac
        check_routing_selector "$number" "$rule"
    done <"$work/rules"
}

check_routing_selector() { # PRIORITY RULE
    case $2 in *' lookup 253' | *' lookup 254' | *' lookup 255') return 0 ;; esac
    case $2 in
    *' iif lo'*) ;;
    *' iif '* | *' fwmark '*)
        finding_warning "IPv$family: a routing rule goes by incoming interface or mark: $1: $2" \
            'the server leg is sent by this host and not seen by it; set marks in mangle OUTPUT too, or route by source address'
        ;;
    esac
    case $2 in *' fwmark '*) return 0 ;; esac
    if [ "$1" -gt 0 ] && [ "$1" -lt "$set_priority" ]; then
        finding_warning "IPv$family: a routing rule comes before ours and may take intercepted packets elsewhere: $1: $2" \
            'choose a smaller number with --priority'
    fi
}

check_routing_table() {
    route_list "$family" "$set_table" | grep -v '^local default dev lo' >"$work/routes"
    [ -s "$work/routes" ] || return 0
    read -r route <"$work/routes"
    finding_problem "IPv$family: routing table $set_table has routes of somebody else: $route" 'choose a free number with --table'
}

rules_met() { # FILE TABLE CHAIN: what a new connection to our ports can meet
    awk -f "$library/ruleset.awk" -v table="$2" -v base="$3" -v ports="$set_ports" \
        -v interfaces="$set_in_interfaces" -v skip='^SMTPWITNESS_' "$1"
}

# A rule that sends a connection elsewhere before we see its socket; --translated names those we know how to take.
check_nat() { # FILE
    rules_met "$1" nat PREROUTING | grep -E -- '-j (DNAT|REDIRECT|NETMAP)( |$)' >"$work/met"
    while read -r rule; do
        public=$(echo "$rule" | sed -n 's/.* -d \([^ ]*\)\/\(32\|128\) .*/\1/p')
        server=$(echo "$rule" | sed -n -e 's/.*-j DNAT --to-destination \([0-9a-f.:]*\)$/\1/p' \
            -e 's/.*-j DNAT --to-destination \[\([0-9a-f:]*\)\]/\1/p')
        for port in $(echo "$set_ports" | tr , ' '); do # to the same port is as good as to none
            case $server in *.*:"$port") server=${server%:*} ;; *:*:*) [ "$family" = 6 ] && server=${server%":$port"} ;; esac
        done
        case $server in *.*:*) server='' ;; esac
        case " $set_translated " in *" $public=$server "*) continue ;; esac
        check_nat_remedy='let the rule leave our ports out, exempt the address, or use nfq'
        [ -z "$public" ] || [ -z "$server" ] || check_nat_remedy="load with --translated $public=$server; or let the rule leave our ports out"
        if [ -n "$public" ] && ip "-$family" -o address show | grep -qF " $public/"; then
            finding_warning "$name: these connections come to the router's own address and are not intercepted: $rule" "$check_nat_remedy"
        else
            finding_problem "$name: destination translation before interception gives the client a reset: $rule" "$check_nat_remedy"
        fi
    done <"$work/met"
    [ "$family" = 4 ] || check_nat_source6 "$1"
}

# Only recent kernels' socket match looks behind IPv6 source translation (net/ipv6/netfilter/nf_socket_ipv6.c: 6.15,
# and some stable kernels before it); IPv4 always did.
check_nat_source6() { # FILE
    kernel_is_at_least 6 15 && return 0
    rules_met "$1" nat POSTROUTING | grep -E -- '-j (SNAT|MASQUERADE|NETMAP)( |$)' >"$work/met"
    while read -r rule; do
        finding_warning "$name: this kernel may not find the proxy behind source translation: $rule" \
            "send one mail by IPv6 after load; if it stalls: ip6tables -t nat -I POSTROUTING -p tcp --dport ${set_ports%%,*} -j ACCEPT, or --family 4"
    done <"$work/met"
}

kernel_is_at_least() { # MAJOR MINOR
    uname -r | awk -F '[.-]' -v major="$1" -v minor="$2" '{ exit !($1 > major || ($1 == major && $2 >= minor)) }'
}

check_forward_lists() { # FILE
    rules_met "$1" filter FORWARD | grep -E -- '(-j (DROP|REJECT)( |$))|^-P' >"$work/met"
    [ -s "$work/met" ] || return 0
    read -r rule <"$work/met"
    finding_warning "$name: intercepted connections do not pass FORWARD; $(wc -l <"$work/met") rule(s) there that forbid no longer apply to port $set_ports, first: $rule" \
        'repeat them in filter OUTPUT (the server leg leaves there with the address of the client), or name those networks with --exempt'
}

check_loaded() { # FILE: is what was loaded still whole?
    ruleset_is_loaded "$1" || return 0
    [ "$findings_form" = check ] || return 0
    records_of "$1" >"$work/records"
    while read -r old_mark old_table old_priority; do
        rule_is_there "$family" "$old_mark" "$old_table" "$old_priority" && route_is_there "$family" "$old_table" && continue
        finding_problem "IPv$family: the rules are loaded but their policy route is gone: intercepted connections stall" \
            "run $program $mode load again; if systemd-networkd removed it, set ManageForeignRoutingPolicyRules=no and ManageForeignRoutes=no"
    done <"$work/records"
    for place in mangle:PREROUTING:SMTPWITNESS_PRE filter:INPUT:SMTPWITNESS_IN; do
        base=${place#*:}
        base=${base%:*}
        first=$(ruleset_section "$1" "${place%%:*}" | grep -m 1 "^-A $base ")
        [ "$first" = "-A $base -j ${place##*:}" ] ||
            finding_warning "$name: another rule has come before ours in ${place%%:*} $base: ${first:-none at all}" "run $program $mode load again"
    done
}

check_other_backend() {
    grep -q 'Warning: iptables-\(legacy\|nft\) tables present' "$work/save.$family" "$work/error" 2>/dev/null &&
        finding_warning "$name: both iptables-legacy and iptables-nft hold rules; only one of them was examined" \
            "move all rules to one: update-alternatives --config $name"
    return 0
}

# ---- rules made with nft itself ----

nft_rules_read() { # into nft.rules, as "FAMILY TABLE CHAIN HOOK: rule"; without the tables iptables-save shows
    : >"$work/nft.rules"
    command -v nft >/dev/null || return 0
    nft_skip='^$'
    firewall_is_nft && nft_skip='^ip6? (filter|nat|mangle|raw|security)$'
    nft -nn list ruleset 2>/dev/null | awk -v skip="$nft_skip" '
        $1 == "table" { table = $2 " " $3; chain = hook = ""; next }
        $1 == "chain" { chain = $2; hook = "-"; next }
        $1 == "flowtable" { chain = ""; if (table !~ skip) print table " " $2 " flowtable: " $0; next }
        $1 == "}" { chain = ""; next }
        chain == "" || table ~ skip { next }
        /^[ \t]*type .* hook / { for (i = 1; i < NF; i++) if ($i == "hook") hook = $(i + 1)
                                 if (/policy drop/) print table " " chain " " hook ": policy drop"; next }
        { sub(/^[ \t]*/, ""); print table " " chain " " hook ": " $0 }' >"$work/nft.rules"
}

check_nft() {
    check_nft_marks
    check_nft_hook input problem "drops intercepted packets, which come to this host" \
        "add to its start: meta mark & $mark_mask == $mark_value accept"
    check_nft_hook forward warning "forbids by FORWARD what no longer passes there" \
        'repeat it in a chain with hook output, or name those networks with --exempt'
    if grep -q ' flowtable: ' "$work/nft.rules" || grep -q -- '-j FLOWOFFLOAD' "$work"/seen.*; then
        finding_warning 'a flowtable is in use: connections already offloaded pass unseen, new ones are intercepted' \
            'leave the SMTP ports out of it: put tcp dport != 25 before flow add'
    fi
}

check_nft_marks() {
    sed -n 's/.*mark set \(.*\)/\1/p' "$work/nft.rules" | sed 's/\(&\|and\) [0-9a-fx]*//g' |
        grep -o '0x[0-9a-f]*\|[0-9][0-9]*' | sort -u >"$work/marks"
    while read -r value; do
        word_overlaps "$value" || continue
        rule=$(grep -m 1 -- "mark set.*$value" "$work/nft.rules")
        finding_problem "nft: another rule sets bits of our mark $set_mark: $rule" "choose free bits with --mark, for example $mark_example"
    done <"$work/marks"
}

# A base chain that drops by policy or by a last rule without condition, and does not accept our mark.
check_nft_hook() { # HOOK problem|warning TEXT REMEDY
    awk -v hook="$1:" '$4 == hook { chain = $1 " " $2 " " $3; rule = $0; sub(/^[^:]*: /, "", rule)
            if (rule ~ /mark/ && rule ~ /accept/) accepts[chain] = 1
            if (rule == "policy drop") drops[chain] = 1; else last[chain] = rule }
        END { for (chain in last) if (last[chain] ~ /^(counter .*)?(drop|reject.*)$/) drops[chain] = 1
              for (chain in drops) if (!(chain in accepts)) print chain }' "$work/nft.rules" >"$work/met"
    while read -r chain; do
        "finding_$2" "nft: chain '$chain' $3" "$4"
    done <"$work/met"
}
