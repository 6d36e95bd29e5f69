#!/bin/sh
# install.sh install|uninstall BIN DESTDIR PREFIX SYSCONFDIR - what `make install` and `make uninstall` do.
set -eu
verb=$1 program=$2 root=$3$4 etc=$3$5/smtpwitness

case $verb in
install)
    install -D -m 755 "$program" "$root/sbin/smtpwitness"
    install -D -m 755 rules/smtpwitness-rules "$root/sbin/smtpwitness-rules"
    for file in rules/*.sh rules/*.awk; do
        install -D -m 644 "$file" "$root/lib/smtpwitness/$file"
    done
    for file in man/*.[0-9]; do
        install -D -m 644 "$file" "$root/share/man/man${file##*.}/${file##*/}"
    done
    for file in README.md CHANGELOG.md LICENSE LICENSES.md conf/smtpwitness.conf.sample rules/rules.conf.sample; do
        install -D -m 644 "$file" "$root/share/doc/smtpwitness/${file##*/}"
    done
    install -d "$etc"
    [ -e "$etc/smtpwitness.conf" ] || install -m 644 conf/smtpwitness.conf.sample "$etc/smtpwitness.conf"
    ;;
uninstall)
    rm -f "$root/sbin/smtpwitness" "$root/sbin/smtpwitness-rules"
    rm -rf "$root/lib/smtpwitness" "$root/share/doc/smtpwitness"
    for file in man/*.[0-9]; do
        rm -f "$root/share/man/man${file##*.}/${file##*/}"
    done
    ;;
*)
    echo "install.sh: unknown verb '$verb'" >&2
    exit 2
    ;;
esac
