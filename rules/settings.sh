# settings.sh - what the rules are made from: defaults, command line, settings file; all checked strictly.
# Sourced. The settings themselves are the variables named set_*; lists are separated by spaces.
# shellcheck shell=sh
# shellcheck disable=SC2034,SC2154  # program and verb come from the main script; set_* are for the modes

settings_default() {
    set_ports=25
    set_in_interfaces=''
    set_listen_port=10025
    case $mode in nfq) set_mark=0x3000000/0x3000000 ;; *) set_mark=0x1000000/0x1000000 ;; esac
    set_table=2525
    set_priority=2525
    set_zone=2525
    set_queue=2525
    set_queues=1
    set_bypass=no
    set_family=both
    set_place=router
    set_tool=auto
    set_fail=open
    set_exempts=''
    set_translated=''
    set_keep_open=no
    set_dry_run=no
}

# Strict forms. Each prints nothing and says yes or no by its status.
is_number_between() { # TEXT MINIMUM MAXIMUM
    case $1 in '' | *[!0-9]* | 0?* | ???????????*) return 1 ;; esac
    [ "$1" -ge "$2" ] && [ "$1" -le "$3" ]
}

is_word32() { # TEXT: 0x... or decimal, at most 0xffffffff
    case $1 in
    0x*)
        case ${1#0x} in '' | *[!0-9a-fA-F]* | ?????????*) return 1 ;; esac
        ;;
    *) is_number_between "$1" 0 4294967295 ;;
    esac
}

is_interface() {
    case $1 in '' | . | .. | ????????????????* | *[!A-Za-z0-9_.:@+-]* | -* | *+?*) return 1 ;; esac
}

is_network4() {
    printf '%s\n' "$1" | awk '
        !/^[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+(\/[0-9]+)?$/ { exit 1 }
        { n = split($0, part, "/"); if (n == 2 && part[2] > 32) exit 1
          split(part[1], octet, "."); for (i in octet) if (octet[i] > 255 || octet[i] ~ /^0./) exit 1 }'
}

is_network6() {
    printf '%s\n' "$1" | awk '
        !/^[0-9a-fA-F:]+(\/[0-9]+)?$/ || !/:.*:/ || /:::/ { exit 1 }
        { n = split($0, part, "/"); if (n == 2 && part[2] > 128) exit 1
          address = part[1]; gaps = gsub(/::/, ":x:", address)
          if (gaps > 1 || part[1] ~ /^:[^:]/ || part[1] ~ /[^:]:$/) exit 1
          sub(/^:x/, "x", address); sub(/x:$/, "x", address)
          count = split(address, group, ":")
          for (i in group) if (group[i] != "x" && group[i] !~ /^[0-9a-fA-F][0-9a-fA-F]?[0-9a-fA-F]?[0-9a-fA-F]?$/) exit 1
          if (gaps ? count > 8 : count != 8) exit 1 }'
}

list_spaces() { # TEXT: commas and runs of blanks become single spaces
    printf '%s' "$1" | tr ',\t' '  ' | awk '{ $1 = $1; print }'
}

# One setter for every setting, whatever it came from. WHERE opens the message.
setting_set() { # KEY VALUE WHERE
    case $1 in
    port) setting_set_ports "$2" "$3" ;;
    in-interface) setting_add_interfaces "$2" "$3" ;;
    exempt) setting_add_exempts "$2" "$3" ;;
    translated) setting_add_translated "$2" "$3" ;;
    mark) setting_set_mark "$2" "$3" ;;
    listen-port)
        is_number_between "$2" 1 65535 || die_usage "$3: '$2' is no port; give a number from 1 to 65535"
        set_listen_port=$2
        ;;
    table)
        is_number_between "$2" 1 2147483647 || die_usage "$3: '$2' is no routing table number; give 1 to 2147483647"
        case $2 in 253 | 254 | 255) die_usage "$3: table $2 belongs to the system; choose another number" ;; esac
        set_table=$2
        ;;
    priority)
        is_number_between "$2" 1 32765 || die_usage "$3: '$2' is no rule priority; give a number from 1 to 32765"
        set_priority=$2
        ;;
    zone)
        [ "$2" = none ] || is_number_between "$2" 1 65535 ||
            die_usage "$3: '$2' is no conntrack zone; give a number from 1 to 65535, or none"
        set_zone=$2
        ;;
    queue)
        is_number_between "$2" 0 65520 || die_usage "$3: '$2' is no queue number; give a number from 0 to 65520"
        set_queue=$2
        ;;
    queues)
        case $2 in 1 | 2 | 4 | 8 | 16) set_queues=$2 ;; *) die_usage "$3: '$2' queues; give 1, 2, 4, 8 or 16" ;; esac
        ;;
    place)
        case $2 in router | host) set_place=$2 ;; *) die_usage "$3: '$2' is no place; give router or host" ;; esac
        ;;
    tool)
        case $2 in auto | iptables | nft) set_tool=$2 ;; *) die_usage "$3: '$2' is no tool; give auto, iptables or nft" ;; esac
        ;;
    fail)
        case $2 in open | closed) set_fail=$2 ;; *) die_usage "$3: '$2' is no way to fail; give open or closed" ;; esac
        ;;
    bypass)
        case $2 in yes | no) set_bypass=$2 ;; *) die_usage "$3: '$2' is neither yes nor no" ;; esac
        ;;
    family)
        case $2 in 4 | 6 | both) set_family=$2 ;; *) die_usage "$3: '$2' is no family; give 4, 6 or both" ;; esac
        ;;
    esac
}

setting_set_ports() {
    ports_new=$(list_spaces "$1")
    ports_count=0
    for port in $ports_new; do
        is_number_between "$port" 1 65535 || die_usage "$2: '$port' is no port; give a number from 1 to 65535"
        ports_count=$((ports_count + 1))
    done
    [ "$ports_count" -ge 1 ] || die_usage "$2: no port given; write for example 25 or 25,587"
    [ "$ports_count" -le 15 ] || die_usage "$2: $ports_count ports; at most 15 fit in one rule"
    [ -z "$(printf '%s\n' "$ports_new" | tr ' ' '\n' | sort | uniq -d)" ] ||
        die_usage "$2: a port is given twice; name each once"
    set_ports=$(printf '%s' "$ports_new" | tr ' ' ',')
}

setting_add_interfaces() {
    [ -n "$(list_spaces "$1")" ] || die_usage "$2: no interface given; write for example eth1"
    for interface in $(list_spaces "$1"); do
        is_interface "$interface" ||
            die_usage "$2: '$interface' is no interface name; give one of 'ip -o link', or a prefix ending in +"
        case " $set_in_interfaces " in *" $interface "*) die_usage "$2: '$interface' is given twice; name it once" ;; esac
        set_in_interfaces="${set_in_interfaces:+$set_in_interfaces }$interface"
    done
}

setting_add_exempts() {
    [ -n "$(list_spaces "$1")" ] || die_usage "$2: no network given; write for example 192.0.2.0/24"
    for network in $(list_spaces "$1"); do
        is_network4 "$network" || is_network6 "$network" ||
            die_usage "$2: '$network' is no network; write for example 192.0.2.0/24 or 2001:db8::/32"
        set_exempts="${set_exempts:+$set_exempts }$network"
    done
}

setting_add_translated() { # PUBLIC=SERVER; a blank between pairs
    [ -n "$(list_spaces "$1")" ] || die_usage "$2: no address given; write for example 198.51.100.1=10.0.3.2"
    for pair in $(list_spaces "$1"); do
        case $pair in
        */*) die_usage "$2: '$pair': give single addresses, as PUBLIC=SERVER" ;;
        *:*=*:*) is_network6 "${pair%%=*}" && is_network6 "${pair#*=}" ;;
        *=*) is_network4 "${pair%%=*}" && is_network4 "${pair#*=}" ;;
        *) false ;;
        esac || die_usage "$2: '$pair' is no PUBLIC=SERVER; write for example 198.51.100.1=10.0.3.2"
        set_translated="${set_translated:+$set_translated }$pair"
    done
}

setting_set_mark() {
    mark_value=${1%%/*}
    mark_mask=${1#*/}
    if ! is_word32 "$mark_value" || ! is_word32 "$mark_mask"; then
        die_usage "$2: '$1' is no mark; write VALUE/MASK, for example 0x1000000/0x1000000"
    fi
    [ $((mark_value)) -ne 0 ] || die_usage "$2: the mark's value is 0; give at least one bit"
    [ $((mark_value & ~mark_mask)) -eq 0 ] || die_usage "$2: the value of '$1' has bits outside its mask; widen the mask"
    set_mark=$(printf '0x%x/0x%x' $((mark_value)) $((mark_mask)))
}

settings_from_arguments() {
    seen_options=' '
    seen_file=''
    # The file first, whatever its place on the command line: the command line overrides it.
    settings_find_first "$@"
    [ -z "$seen_file" ] || settings_from_file "$seen_file"
    while [ $# -gt 0 ]; do
        option=$1
        shift
        case $option in
        --*=*)
            set -- "${option#*=}" "$@"
            option=${option%%=*}
            ;;
        --bypass | --keep-open | -n | --dry-run | -h | --help) ;;
        --port | --in-interface | --exempt | --translated | --listen-port | --mark | --table | --priority | --zone | --queue | --queues | --family | --place | --tool | --fail | --settings | --default)
            [ $# -gt 0 ] || die_usage "$option needs a value; see $program --help"
            ;;
        *) die_usage "unknown option '$option'; see $program --help" ;;
        esac
        case $option in
        -h | --help) usage_print && exit 0 ;;
        -n | --dry-run) set_dry_run=yes ;;
        --keep-open)
            [ "$verb" = unload ] || die_usage "--keep-open belongs to unload; leave it out of $verb"
            [ "$mode" = proxy ] || die_usage "--keep-open belongs to proxy; $mode breaks no connection by unload"
            set_keep_open=yes
            ;;
        --bypass) settings_one_option bypass yes ;;
        --settings | --default) shift ;;
        *)
            settings_one_option "${option#--}" "$1"
            shift
            ;;
        esac
    done
}

settings_one_option() { # KEY VALUE: lists replace the file's list once, then grow; others may come once
    case $1 in
    port | in-interface | exempt | mark | family) ;;
    listen-port | table | priority | zone | fail | translated)
        [ "$mode" = proxy ] || die_usage "--$1 belongs to proxy; leave it out of $mode"
        ;;
    queue | queues | bypass | place | tool)
        [ "$mode" = nfq ] || die_usage "--$1 belongs to nfq; leave it out of $mode"
        ;;
    *) die_usage "unknown option '--$1'; see $program --help" ;;
    esac
    case "$seen_options" in
    *" $1 "*)
        case $1 in
        in-interface | exempt | translated) ;;
        *) die_usage "--$1 is given twice; give it once" ;;
        esac
        ;;
    *)
        case $1 in in-interface) set_in_interfaces='' ;; exempt) set_exempts='' ;; translated) set_translated='' ;; esac
        seen_options="$seen_options$1 "
        ;;
    esac
    setting_set "$1" "$2" "--$1"
}

settings_find_first() {
    while [ $# -gt 0 ]; do
        case $1 in
        --settings)
            [ $# -gt 1 ] || die_usage "--settings needs a file name; see $program --help"
            settings_file_once "$2"
            shift
            ;;
        --settings=*) settings_file_once "${1#*=}" ;;
        --default) # KEY=value of smtpwitness.conf, from `smtpwitness rules`: the settings file overrides it
            [ $# -gt 1 ] || die_usage "--default needs KEY=VALUE; see $program --help"
            setting_set "${2%%=*}" "${2#*=}" "--default ${2%%=*}"
            shift
            ;;
        esac
        shift
    done
}

settings_file_once() {
    [ -z "$seen_file" ] || die_usage "--settings is given twice; give it once"
    seen_file=$1
    if ! [ -f "$1" ] || ! [ -r "$1" ]; then
        die_usage "$1: no such readable file; name a settings file such as /etc/smtpwitness/rules.conf"
    fi
}

settings_from_file() { # FILE: KEY=value lines, never executed
    line_number=0
    seen_keys=' '
    byte_order_mark=$(printf '\357\273\277')
    utf16_mark=$(printf '\377\376') utf16_other_mark=$(printf '\376\377')
    [ "$(tr -cd '\000' <"$1" | wc -c)" -eq 0 ] ||
        die_usage "$1: a NUL octet; this is no text file, or it is in UTF-16: save it as UTF-8"
    while IFS= read -r line || [ -n "$line" ]; do
        line_number=$((line_number + 1))
        case $line_number:$line in
        1:"$byte_order_mark"*) die_usage "$1:1: the file begins with a byte order mark; save it as UTF-8 without one" ;;
        1:"$utf16_mark"* | 1:"$utf16_other_mark"*) die_usage "$1:1: the file is in UTF-16; save it as UTF-8" ;;
        esac
        line=$(trimmed "$line")
        case $line in '' | '#'*) continue ;; esac
        settings_one_line "$line" "$1:$line_number"
    done <"$1"
}

trimmed() { # TEXT without the blanks around it, among them the carriage return of a file from elsewhere
    trimmed_text=${1#"${1%%[![:space:]]*}"}
    printf '%s' "${trimmed_text%"${trimmed_text##*[![:space:]]}"}"
}

settings_one_line() { # LINE WHERE
    case $1 in *=*) ;; *) die_usage "$2: '$1' is not KEY=value; write for example PORT=25" ;; esac
    key=$(trimmed "${1%%=*}")
    value=$(trimmed "${1#*=}")
    case $value in
    *[\"\']*) die_usage "$2: $key=$value: write the value without quotes" ;;
    *'#'*) die_usage "$2: $key=$value: a comment stands on a line of its own; take it out of this one" ;;
    esac
    case $key in
    PORT | IN_INTERFACE | EXEMPT | TRANSLATED | LISTEN_PORT | MARK | TABLE | PRIORITY | ZONE | QUEUE | QUEUES | BYPASS | PLACE | TOOL | FAMILY | FAIL) ;;
    *) die_usage "$2: unknown key '$key'; the keys are PORT IN_INTERFACE EXEMPT TRANSLATED LISTEN_PORT MARK TABLE PRIORITY ZONE QUEUE QUEUES BYPASS PLACE TOOL FAMILY FAIL" ;;
    esac
    case "$seen_keys" in *" $key "*) die_usage "$2: $key is set twice; set it once, lists separated by commas" ;; esac
    seen_keys="$seen_keys$key "
    setting_set "$(printf '%s' "$key" | tr 'A-Z_' 'a-z-')" "$value" "$2: $key"
}

settings_finish() {
    case "$mode:,$set_ports," in
    proxy:*",$set_listen_port,"*) die_usage "--listen-port $set_listen_port is also an intercepted port; choose another, for example 10025" ;;
    esac
    case $mode:$set_place:$set_bypass in
    nfq:host:yes) die_usage '--bypass is for what a router forwards; leave it out with --place host' ;;
    esac
    case $set_family in
    both) if ipv6_is_on; then families='4 6'; else families=4; fi ;;
    *) families=$set_family ;;
    esac
    mark_value=${set_mark%%/*}
    mark_mask=${set_mark#*/}
    [ "$mode" != nfq ] || settings_finish_bits
}

settings_finish_bits() { # the packet hook needs two bits; nfq.sh says what they say
    mark_low=$((mark_value & -mark_value))
    mark_high=$((mark_value & ~mark_low))
    if [ "$mark_high" -eq 0 ] || [ $((mark_high & (mark_high - 1))) -ne 0 ] || [ $((mark_value)) -ne $((mark_mask)) ]; then
        die_usage "mark $set_mark: nfq needs exactly two bits and a mask of the same; write for example 0x3000000/0x3000000"
    fi
    mark_low=$(printf '0x%x' "$mark_low")
    mark_high=$(printf '0x%x' "$mark_high")
}

usage_print() {
    cat <<'TEXT'
usage: smtpwitness-rules proxy load|show|check [OPTION]...
       smtpwitness-rules proxy unload [--keep-open] [OPTION]...
       smtpwitness-rules proxy status
       smtpwitness-rules nfq load|show|check|unload|status [OPTION]...

  --port N[,N...]         ports of the servers (25)
  --in-interface IF       where clients come in; may be repeated (every interface)
  --exempt NETWORK        leave traffic from or to NETWORK alone; may be repeated
  --translated PUBLIC=SERVER  a rule of yours translates PUBLIC to SERVER (DNAT); may be repeated
  --listen-port N         where the witness listens (10025)
  --mark VALUE/MASK       mark bits of our own (proxy: 0x1000000/0x1000000, nfq: 0x3000000/0x3000000)
  --table N               routing table of our own (2525)
  --priority N            priority of the routing rule (2525)
  --zone N|none           conntrack zone that keeps the two legs apart (2525)
  --fail open|closed      when the witness is dead or hangs, new connections pass unseen, or are dropped (open)
  --queue N               nfq: the first packet queue (2525)
  --queues N              nfq: how many, 1, 2, 4, 8 or 16 (1)
  --bypass                nfq: the bulk of large bodies need not come to the queue
  --place router|host     nfq: what is forwarded, or this host's own connections (router)
  --tool auto|iptables|nft  nfq: what the rules are made with (auto: nft where iptables has no NFQUEUE)
  --family 4|6|both       address families (both)
  --settings FILE         read KEY=value settings; options override them
  --keep-open             unload: stop taking new connections, keep the open ones alive
  -n, --dry-run           load, unload: print what would be done, do nothing

exit status: 0 done or clean, 1 a problem (nothing is left changed), 2 wrong usage
TEXT
}
