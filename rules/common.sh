# common.sh - what every mode needs: messages, a work directory, and changing only our own part of a ruleset.
# Sourced. A mode names its chains in mode_chains; nothing here touches any other chain.
# shellcheck shell=sh
# shellcheck disable=SC2154  # program, mode_chains and set_* come from the main script, the mode and settings.sh

lock_wait_seconds=30
lock_file=/run/smtpwitness-rules.lock

die() { # TEXT; REMEDY
    echo "$program: $1" >&2
    exit 1
}

die_usage() {
    echo "$program: $1" >&2
    exit 2
}

work_directory_make() {
    work=$(mktemp -d) || die "cannot make a temporary directory; free some space in ${TMPDIR:-/tmp}"
    trap 'rm -rf -- "$work"' EXIT
    trap 'exit 1' HUP INT TERM
}

lock_take() { # two loads at once must not mix
    command -v flock >/dev/null || return 0
    exec 9>>"$lock_file" || die "cannot open $lock_file; run this as root"
    flock -w "$lock_wait_seconds" 9 || die "another $program is still at work; try again when it has finished"
}

privilege_require() {
    [ "$(id -u)" -eq 0 ] || die "root is needed to $1 rules; run it with sudo"
}

# Every packet is asked for its ports, and for one port more cheaply than for a list.
ports_match() { # d or s; '!' or nothing: the ports of a TCP packet
    case $set_ports in
    *,*) echo "-m multiport${2:+ $2} --$1ports $set_ports" ;;
    *) echo "-m tcp${2:+ $2} --$1port $set_ports" ;;
    esac
}

firewall_name() { # FAMILY
    case $1 in 4) echo iptables ;; 6) echo ip6tables ;; esac
}

ipv6_is_built_in() { [ -e /proc/sys/net/ipv6/conf ]; } # not with ipv6.disable=1 on the kernel's command line

ipv6_is_on() { # without it on lo there is no local route, and so no interception
    [ "$(cat /proc/sys/net/ipv6/conf/lo/disable_ipv6 2>/dev/null)" = 0 ]
}

family_has_tools() { # FAMILY
    [ "$1" = 4 ] || ipv6_is_built_in || return 1
    command -v "$(firewall_name "$1")-save" >/dev/null && command -v "$(firewall_name "$1")-restore" >/dev/null
}

firewall_save() { # FAMILY FILE: the ruleset without counters and comments
    "$(firewall_name "$1")-save" >"$work/save.$1" 2>"$work/error" || return 1
    sed -e '/^#/d' -e 's/^\(:[^ ]* [^ ]*\) \[.*/\1/' "$work/save.$1" >"$2"
}

firewall_is_nft() {
    case $(iptables -V 2>/dev/null) in *nf_tables*) ;; *) return 1 ;; esac
}

ruleset_section() { # FILE TABLE: that table's lines
    awk -v table="$2" '/^\*/ { inside = ($0 == "*" table) } inside && !/^\*/ && !/^COMMIT/' "$1"
}

ruleset_has_table() { grep -qxF "*$2" "$1"; } # FILE TABLE

ruleset_has_chain() { # FILE TABLE CHAIN
    ruleset_section "$1" "$2" | grep -q "^:$3 "
}

ruleset_is_loaded() { # FILE: is any chain of ours there?
    for chain in $mode_chains; do
        grep -q "^:$chain " "$1" && return 0
    done
    return 1
}

# Our part of one table, in the form a plan has: ":CHAIN", "-A CHAIN rule", "-I BASE position [-m mark ! --mark MARK] -j CHAIN".
ruleset_ours() { # FILE TABLE
    ruleset_section "$1" "$2" | awk -v chains="$mode_chains" '
        BEGIN { n = split(chains, name, " "); for (i = 1; i <= n; i++) ours[name[i]] = 1 }
        /^:/ { chain = substr($1, 2); if (chain in ours) print ":" chain }
        /^-A / && ($2 in ours) { print; next }
        /^-A / { position[$2]++; what = $0; sub(/^-A [^ ]+ /, "", what)
                 if ($NF in ours && what ~ /^(-m mark ! --mark [^ ]+ )?-j [^ ]+$/ && $2 ~ /^(PREROUTING|INPUT|FORWARD|OUTPUT|POSTROUTING)$/)
                     jump[++jumps] = "-I " $2 " " position[$2] " " what }
        END { for (i = 1; i <= jumps; i++) print jump[i] }'
}

# The one transaction that turns our part of a table into the plan; prints nothing when there is nothing to do.
ruleset_batch() { # FILE TABLE PLAN
    ruleset_ours "$1" "$2" >"$work/present"
    awk -v table="$2" '
        FILENAME == ARGV[1] && /^:/ { present[substr($1, 2)] = 1; order[++presents] = substr($1, 2) }
        FILENAME == ARGV[1] && /^-I/ { what = $0; sub(/^-I [^ ]+ [^ ]+ /, "", what); removed = removed "-D " $2 " " what "\n" }
        FILENAME == ARGV[1] { next }
        /^:/ { wanted[substr($1, 2)] = 1; declared = declared $1 " - [0:0]\n" }
        /^-A/ && ($2 in wanted) { rules = rules $0 "\n"; next }
        /^-[AI]/ { jumps = jumps $0 "\n" }
        END {
            for (i = 1; i <= presents; i++) if (!(order[i] in wanted)) {
                flushed = flushed "-F " order[i] "\n"; deleted = deleted "-X " order[i] "\n" }
            text = removed declared flushed rules deleted jumps
            if (text != "") printf "*%s\n%sCOMMIT\n", table, text
        }' "$work/present" "$3"
}

# Every change goes through these two, so that a dry run and show print exactly what load does.
run_ip() {
    if [ "$set_dry_run" = yes ]; then
        echo "ip $*"
    else
        ip "$@" 2>"$work/error"
    fi
}

run_restore() { # FAMILY BATCH
    [ -s "$2" ] || return 0
    if [ "$set_dry_run" = yes ]; then
        echo "$(firewall_name "$1")-restore -w $lock_wait_seconds --noflush <<'END'"
        cat "$2"
        echo END
    else
        "$(firewall_name "$1")-restore" -w "$lock_wait_seconds" --noflush <"$2" 2>"$work/error"
    fi
}

table_apply() { # FAMILY TABLE PLAN [RULESET]: RULESET is the present one when the caller already has it
    table_present=${4:-$work/present.save}
    if [ $# -lt 4 ]; then
        firewall_save "$1" "$table_present" || return 1
    fi
    ruleset_batch "$table_present" "$2" "$3" >"$work/batch"
    run_restore "$1" "$work/batch"
}

error_first_line() {
    awk 'NF { print; exit }' "$work/error" 2>/dev/null
}

# Policy routing: "fwmark VALUE/MASK lookup TABLE priority N", and a local default route in TABLE.
rule_list() { ip "-$1" -N rule show 2>/dev/null; } # FAMILY; numbers, not names

mark_as_listed() { # VALUE/MASK as ip prints it: a full mask is left out
    case $1 in */0xffffffff) echo "${1%/*}" ;; *) echo "$1" ;; esac
}

rule_line() { # MARK TABLE PRIORITY
    printf '%s:\tfrom all fwmark %s lookup %s' "$3" "$(mark_as_listed "$1")" "$2"
}

rule_is_there() { # FAMILY MARK TABLE PRIORITY
    rule_list "$1" | sed 's/ *$//' | grep -qxF "$(rule_line "$2" "$3" "$4")"
}

route_list() { ip "-$1" route show table "$2" 2>/dev/null; } # FAMILY TABLE

route_is_there() { # FAMILY TABLE
    route_list "$1" "$2" | grep -q '^local default dev lo'
}

policy_add() { # FAMILY MARK TABLE PRIORITY
    if ! rule_is_there "$@"; then
        run_ip "-$1" rule add fwmark "$2" lookup "$3" priority "$4" || return 1
    fi
    route_is_there "$1" "$3" || run_ip "-$1" route add local default dev lo table "$3"
}

policy_remove() { # FAMILY MARK TABLE PRIORITY
    policy_status=0
    if route_is_there "$1" "$3"; then
        run_ip "-$1" route del local default dev lo table "$3" || policy_status=1
    fi
    if rule_is_there "$@"; then
        run_ip "-$1" rule del fwmark "$2" lookup "$3" priority "$4" || policy_status=1
    fi
    return "$policy_status"
}

# ---- tables that exist only because of us; undoing a load ----
# A mode names its marker chain in mode_made: it is never visited and says that the table did not exist before us.

plan_made() { # FAMILY TABLE: the marker of a table that only we need, or we and the other mode; the last one takes it away
    firewall_is_nft || return 0
    if ! ruleset_has_table "$work/before.$1" "$2" || ruleset_has_chain "$work/before.$1" "$2" 'SMTPWITNESS_[A-Z_]*MADE'; then
        echo ":$mode_made"
    fi
}

family_tidy() { # FAMILY: tables that exist only because of us go, if nobody else has come to use them
    grep -q "^:$mode_made " "$work/before.$1" && command -v nft >/dev/null && firewall_is_nft || return 0
    case $1 in 4) nft_family=ip ;; 6) nft_family=ip6 ;; esac
    firewall_save "$1" "$work/now" || return 1
    for table in $mode_tables; do
        ruleset_has_chain "$work/before.$1" "$table" "$mode_made" || continue
        if [ "$set_dry_run" = yes ]; then
            [ "$verb" != unload ] || echo "nft delete table $nft_family $table    # if nothing else is in it"
            continue
        fi
        ruleset_has_table "$work/now" "$table" || continue
        ruleset_section "$work/now" "$table" | grep -qv '^:[A-Z]* ACCEPT$' && continue
        nft delete table "$nft_family" "$table" 2>"$work/error" || return 1
    done
}

rollback_rules() { # FAMILY: what is as it was is not touched, so what the kernel refused is not asked for again
    firewall_save "$1" "$work/now" || return 1
    rollback_rules_status=0
    for table in mangle filter raw; do
        ruleset_ours "$work/before.$1" "$table" >"$work/plan"
        ruleset_ours "$work/now" "$table" >"$work/ours"
        cmp -s "$work/plan" "$work/ours" && continue
        table_apply "$1" "$table" "$work/plan" "$work/now" || rollback_rules_status=1
    done
    return "$rollback_rules_status"
}

rollback_tables() { # FAMILY: tables that were not there
    command -v nft >/dev/null && firewall_is_nft || return 0
    case $1 in 4) nft_family=ip ;; 6) nft_family=ip6 ;; esac
    firewall_save "$1" "$work/now" || return 1
    for table in $mode_tables; do
        ruleset_has_table "$work/before.$1" "$table" && continue
        ruleset_has_table "$work/now" "$table" || continue
        ruleset_section "$work/now" "$table" | grep -qv '^:[A-Z]* ACCEPT$' && continue
        nft delete table "$nft_family" "$table" 2>"$work/error" || return 1
    done
}

# ---- load: all of it or nothing; the mode says what (family_load, family_remove, family_tool, snapshot_take, rollback, mode_loaded) ----

mode_load() {
    privilege_require load
    [ "$set_dry_run" = yes ] || lock_take
    findings_for_load || exit 1
    snapshot_take
    [ "$set_dry_run" = yes ] || trap 'trap "" HUP INT TERM; load_fail "interrupted"' HUP INT TERM
    for family in 4 6; do
        case " $families " in
        *" $family "*) family_load "$family" || load_fail "$(family_tool "$family"): $(error_first_line)" ;;
        *) family_remove "$family" || load_fail "$(family_tool "$family"): $(error_first_line)" ;;
        esac
    done
    trap 'exit 1' HUP INT TERM
    mode_loaded
}

load_fail() { # WHY
    load_fail_why=${1%: }
    [ "$set_dry_run" = no ] || die "$load_fail_why; run '$program $mode check'"
    if rollback; then
        die "not loaded, everything is as it was: $load_fail_why; run '$program $mode check' for the remedy"
    fi
    die "not loaded, and undoing failed too: $load_fail_why; run '$program $mode unload', then look at iptables-save"
}
