#!/bin/sh
# install_build_deps.sh [build|demo|all|deb] - installs what is needed from Debian 12's own packages (root).
#   build  compiler and libraries       demo  also what `make demo` runs       all  also every test tool (default)
#   deb    what `make deb` and `make systemd-check` need besides the libraries
# Installs packages only: no service is started, no configuration is changed.
set -eu

build='make gcc libc6-dev pkg-config libevent-dev libsystemd-dev libcap-ng-dev libiniparser-dev libpcap-dev libnetfilter-queue-dev libmnl-dev libseccomp-dev'
demo='iproute2 iptables ethtool procps util-linux openssl python3 mmdebstrap tcpdump'
all='git conntrack nftables systemd bash-completion clang clang-format clang-tidy libclang-rt-14-dev cppcheck shellcheck mandoc libcmocka-dev'
deb='build-essential debhelper dpkg-dev lintian systemd-container mmdebstrap iproute2 python3'

case ${1:-all} in
build) packages=$build ;;
demo) packages="$build $demo" ;;
all) packages="$build $demo $all" ;;
deb) packages="$build $deb" ;;
*)
    echo "install_build_deps.sh: '$1' is none of build, demo, all, deb" >&2
    exit 2
    ;;
esac
if [ "$(id -u)" != 0 ]; then
    echo "install_build_deps.sh: run it as root, it installs packages" >&2
    exit 1
fi

missing=
for package in $packages; do
    dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || missing="$missing $package"
done
if [ -z "$missing" ]; then
    echo "install_build_deps.sh: everything is there"
    exit 0
fi
export DEBIAN_FRONTEND=noninteractive
apt-get -q -o Acquire::Retries=3 update
# shellcheck disable=SC2086  # a list of words
apt-get -q -y -o Acquire::Retries=3 install --no-install-recommends $missing
