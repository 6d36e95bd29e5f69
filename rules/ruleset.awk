# ruleset.awk - which rules of an iptables-save text can meet a new TCP connection to one of our ports?
# Prints, as "-A ...", the rules reachable from a base chain that can match it; when in doubt, it can.
# Set: table, base, ports ("25,587"), interfaces (blanks between; empty: any), skip (a regular expression of chains).

function has_port(list,    item, count, range, i, j) {
    count = split(list, item, ",")
    for (i = 1; i <= count; i++) {
        if (split(item[i], range, ":") == 1) range[2] = range[1]
        if (range[2] == "") range[2] = 65535
        for (j in wanted) if (wanted[j] + 0 >= range[1] + 0 && wanted[j] + 0 <= range[2] + 0) return 1
    }
    return 0
}

function from_our_interfaces(name,    i, stem) {
    if (interface_count == 0) return name != "lo"
    for (i in interface) {
        if (interface[i] == name) return 1
        if (name ~ /\+$/) { stem = substr(name, 1, length(name) - 1); if (index(interface[i], stem) == 1) return 1 }
        if (interface[i] ~ /\+$/) { stem = substr(interface[i], 1, length(interface[i]) - 1)
                                    if (index(name, stem) == 1) return 1 }
    }
    return 0
}

function can_match(count, word,    i, negated) {
    for (i = 3; i <= count; i++) {
        negated = (word[i - 1] == "!")
        if (word[i] == "-p" && !negated && word[i + 1] !~ /^(tcp|all|6|0)$/) return 0
        if (word[i] == "-p" && negated && word[i + 1] ~ /^(tcp|6)$/) return 0
        if (word[i] ~ /^--(dports?|ports)$/ && !negated && !has_port(word[i + 1])) return 0
        if (word[i] ~ /^--sports?$/ && !negated) return 0
        if (word[i] ~ /^--(ctstate|state)$/ && !negated && word[i + 1] !~ /NEW/) return 0
        if (word[i] == "-i" && !negated && base != "OUTPUT" && base != "POSTROUTING" && !from_our_interfaces(word[i + 1])) return 0
    }
    return 1
}

function visit(chain,    i, count, word) {
    if (chain in visited) return
    visited[chain] = 1
    for (i = 1; i <= rules[chain]; i++) {
        count = split(rule[chain, i], word, " ")
        if (!can_match(count, word)) continue
        print rule[chain, i]
        for (; count > 2; count--)
            if ((word[count - 1] == "-j" || word[count - 1] == "-g") && word[count] in known) visit(word[count])
    }
}

BEGIN { split(ports, wanted, ","); interface_count = split(interfaces, interface, " ") }
/^\*/ { inside = ($0 == "*" table) }
inside && /^:/ { known[substr($1, 2)] = 1; if ($1 == ":" base && $2 == "DROP") policy_drop = 1 }
inside && /^-A / && (skip == "" || $2 !~ skip) { rule[$2, ++rules[$2]] = $0 }
END { visit(base); if (policy_drop) print "-P " base " DROP" }
