#!/bin/sh
# topology.sh up|bare|down - four network namespaces in a row, with the witness on the router:
#
#   PREFIX-cl --- 10.81.1.0/24, fd81:1::/64 --- PREFIX-rt --- 10.81.2.0/24, fd81:2::/64 --- PREFIX-fw --- 10.81.3.0/24, fd81:3::/64 --- PREFIX-sv
#   client .2                              .1   witness   .1                          .2   firewall  .1                             .2  server
#
# The names begin with $PREFIX (px). Needs root.
set -eu
PREFIX=${PREFIX:-px}
cl=$PREFIX-cl rt=$PREFIX-rt fw=$PREFIX-fw sv=$PREFIX-sv

down() {
    for ns in "$cl" "$rt" "$fw" "$sv"; do
        if ip netns list | grep -qw "$ns"; then
            for pid in $(ip netns pids "$ns"); do kill -9 "$pid" 2>/dev/null || :; done
            ip netns del "$ns"
        fi
    done
}

link() { # NS-A IF-A V4-A V6-A  NS-B IF-B V4-B V6-B
    ip -n "$1" link add "$2" type veth peer name "$6" netns "$5"
    ip -n "$1" addr add "$3" dev "$2"
    ip -n "$1" addr add "$4" dev "$2" nodad
    ip -n "$1" link set "$2" up
    ip -n "$5" addr add "$7" dev "$6"
    ip -n "$5" addr add "$8" dev "$6" nodad
    ip -n "$5" link set "$6" up
}

up() {
    down
    for ns in "$cl" "$rt" "$fw" "$sv"; do
        ip netns add "$ns"
        ip -n "$ns" link set lo up
        ip netns exec "$ns" sysctl -qw net.ipv6.conf.all.accept_dad=0 net.ipv6.conf.default.accept_dad=0
    done
    link "$cl" c0 10.81.1.2/24 fd81:1::2/64 "$rt" r0 10.81.1.1/24 fd81:1::1/64
    link "$rt" r1 10.81.2.1/24 fd81:2::1/64 "$fw" f0 10.81.2.2/24 fd81:2::2/64
    link "$fw" f1 10.81.3.1/24 fd81:3::1/64 "$sv" s0 10.81.3.2/24 fd81:3::2/64
    for ns in "$rt" "$fw"; do
        ip netns exec "$ns" sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
    done
    # Unreachable answers without a limit on their rate: the tests want every one of them.
    ip netns exec "$fw" sysctl -qw net.ipv4.icmp_ratelimit=0 net.ipv6.icmp.ratelimit=0 net.ipv4.icmp_msgs_per_sec=100000
    ip -n "$cl" route add default via 10.81.1.1
    ip -n "$cl" -6 route add default via fd81:1::1
    ip -n "$rt" route add default via 10.81.2.2
    ip -n "$rt" -6 route add default via fd81:2::2
    ip -n "$fw" route add 10.81.1.0/24 via 10.81.2.1
    ip -n "$fw" -6 route add fd81:1::/64 via fd81:2::1
    ip -n "$sv" route add default via 10.81.3.1
    ip -n "$sv" -6 route add default via fd81:3::1
}

rules() { # the least that transparent interception needs
    for v in -4 -6; do
        ip -n "$rt" $v rule add fwmark 0x1000000/0x1000000 lookup 2525 priority 2525
    done
    ip -n "$rt" -4 route add local 0.0.0.0/0 dev lo table 2525
    ip -n "$rt" -6 route add local ::/0 dev lo table 2525
    for f in iptables ip6tables; do
        icmp=icmp
        [ $f = iptables ] || icmp=ipv6-icmp
        x="ip netns exec $rt $f -w -t mangle"
        $x -N SW_DIVERT
        $x -A SW_DIVERT -j MARK --set-xmark 0x1000000/0x1000000
        $x -A SW_DIVERT -j ACCEPT
        $x -A PREROUTING -p $icmp -m socket --transparent -j SW_DIVERT
        $x -A PREROUTING -p tcp -m tcp ! --tcp-flags FIN,SYN,RST,ACK SYN -m socket --transparent -j SW_DIVERT
        $x -A PREROUTING -i r0 -p tcp --dport 25 -j TPROXY --on-port 10025 --tproxy-mark 0x1000000/0x1000000
    done
}

case ${1:-} in
up) up && rules ;;
bare) up ;;
down) down ;;
*)
    echo "usage: topology.sh up|bare|down" >&2
    exit 2
    ;;
esac
