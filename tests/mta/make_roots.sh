#!/bin/bash
# make_roots.sh - builds the small Debian roots that the scenarios start real mail servers from.
# Usage:  tests/mta/make_roots.sh [postfix|exim|systemd ...]       (default: postfix exim; a root that exists is kept)
#
# A root of its own per mail server, because Debian's mail servers conflict with each other, and so that a mail
# server installed on this machine is never touched. The root `systemd` is a router that boots (tests/systemd). The roots are read-only lower layers: an instance writes to
# an overlay of its own (mta.py). They go to build/roots, or to $MTA_ROOTS. Packages come from the Debian sources
# this machine already uses. Takes about half a minute per root; needs root and mmdebstrap.
set -euo pipefail

project=$(cd "$(dirname "$0")/../.." && pwd)
roots=${MTA_ROOTS:-$project/build/roots}
partial=

cleanup() { [ -z "$partial" ] || rm -rf --one-file-system "$partial"; }
trap cleanup EXIT
trap 'exit 130' INT TERM

fail() { echo "make_roots.sh: $*" >&2; exit 1; }

# The machine's own Debian sources, one-line style. The target site is asked for so that no third-party list gets in.
debian_sources() {
    # shellcheck disable=SC2016  # apt expands these, not the shell
    apt-get indextargets --format 'deb $(REPO_URI) $(RELEASE) $(COMPONENT)|$(ORIGIN)' 'Created-By: Packages' |
        awk -F'|' '$2 == "Debian" { print $1 }' | sort -u
}

make_root() { # name packages
    local name=$1 packages=$2 started=$SECONDS log=$roots/make-$1.log
    local hooks=("${@:3}")
    if [ -e "$roots/$name/.complete" ]; then
        echo "$name: present"
        return
    fi
    sources=$(debian_sources)
    [ -n "$sources" ] || fail "no Debian sources known to apt; run 'apt-get update' first"
    # shellcheck source=/dev/null
    suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
    partial=$roots/$name.partial.$$
    mmdebstrap --mode=root --variant=minbase --aptopt='Acquire::Languages "none"' --include="$packages" "${hooks[@]}" \
        "$suite" "$partial" - <<<"$sources" >"$log" 2>&1 || { tail -n 5 "$log" >&2; fail "$name: mmdebstrap failed, see $log"; }

    # What every instance needs and none changes: a mailbox user who may read the test certificate, and names
    # looked up in /etc/hosts only (a lookup that waits for a name server would look like a slow greeting).
    if [ "$name" != systemd ]; then
        chroot "$partial" useradd --create-home u1
        chroot "$partial" usermod --append --groups ssl-cert u1
    fi
    [ "$name" != exim ] || chroot "$partial" usermod --append --groups ssl-cert Debian-exim
    printf 'passwd: files\ngroup: files\nshadow: files\nhosts: files\n' >"$partial/etc/nsswitch.conf"
    printf 'nameserver 127.0.0.1\n' >"$partial/etc/resolv.conf"
    if [ "$name" = postfix ]; then
        chroot "$partial" postconf -F '*/*/chroot=n'
        echo 'root: u1' >"$partial/etc/aliases"
        chroot "$partial" newaliases -oA/etc/aliases
    fi
    touch "$partial/.complete"
    rm -rf --one-file-system "${roots:?}/$name"
    mv "$partial" "$roots/$name"
    partial=
    echo "$name: made in $((SECONDS - started)) s"
}

[ "$(id -u)" = 0 ] || fail "must run as root (it makes a Debian root with chroot)"
command -v mmdebstrap >/dev/null || fail "mmdebstrap is missing: apt-get install mmdebstrap"
mkdir -p "$roots"
exec 9>"$roots/.lock"
flock 9

# Beside rsyslog it cannot be installed; to look at a configuration it needs only lie there, and its libraries be installed.
# shellcheck disable=SC2016  # mmdebstrap's shell expands it
unpack_syslog_ng='cd "$1/opt" && APT_CONFIG=$MMDEBSTRAP_APT_CONFIG apt-get -q download syslog-ng-core &&
    dpkg -x syslog-ng-core_*.deb syslog-ng && rm syslog-ng-core_*.deb'

[ $# -gt 0 ] || set -- postfix exim
for mta in "$@"; do
    case $mta in
    postfix) make_root postfix postfix,postfix-pcre,ssl-cert,ca-certificates ;;
    exim) make_root exim exim4-daemon-heavy,ssl-cert ;;
    systemd) # what a router has, and the libraries of the package under test
        make_root systemd "systemd,systemd-sysv,iproute2,iptables,nftables,procps,rsyslog,logrotate,bash-completion,\
libevent-2.1-7,libevent-pthreads-2.1-7,libcap-ng0,libpcap0.8,libnetfilter-queue1,libmnl0,libiniparser1,libseccomp2,\
libglib2.0-0,libjson-c5,libivykis0,libnet1,libwrap0,libpcre3" \
            --customize-hook="$unpack_syslog_ng"
        ;;
    *) fail "unknown root '$mta': postfix, exim or systemd" ;;
    esac
done
