#!/bin/sh
# install.sh install|uninstall BIN DESTDIR PREFIX SYSCONFDIR UNITDIR - what `make install` and `make uninstall` do.
# Files of an administrator in SYSCONFDIR are neither overwritten nor removed.
set -eu
verb=$1 program=$2 destination=$3 prefix=$4 etc=$5 units=$6
root=$destination$prefix
library=$prefix/lib/smtpwitness
documents=$root/share/doc/smtpwitness
completions=$root/share/bash-completion/completions

put() { # MODE FROM TO: with the paths of this installation put in
    install -D -m "$1" "$2" "$3"
    sed -i -e "s|@sbindir@|$prefix/sbin|g" -e "s|@libdir@|$library|g" "$3"
}

put_configuration() { # FROM TO
    [ -e "$2" ] || install -D -m 644 "$1" "$2"
}

each_unit() { # COMMAND: for each unit and drop-in, its path below UNITDIR is $file
    for file in systemd/*.service systemd/*.socket systemd/*.d/*.conf; do
        file=${file#systemd/}
        "$1"
    done
}

put_unit() { put 644 "systemd/$file" "$destination$units/$file"; }
remove_unit() { rm -f "$destination$units/$file"; }

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
    for file in README.md CHANGELOG.md LICENSE LICENSES.md; do
        install -D -m 644 "$file" "$documents/$file"
    done
    for file in docs/*.md; do
        install -D -m 644 "$file" "$documents/$file"
    done
    for file in conf/smtpwitness.conf.sample rules/rules.conf.sample systemd/rsyslog.conf systemd/syslog-ng.conf; do
        install -D -m 644 "$file" "$documents/examples/${file##*/}"
    done
    each_unit put_unit
    put 755 systemd/unit-hook "$root/lib/smtpwitness/unit-hook"
    put 644 systemd/sysusers.conf "$root/lib/sysusers.d/smtpwitness.conf"
    put 644 systemd/tmpfiles.conf "$root/lib/tmpfiles.d/smtpwitness.conf"
    put 644 systemd/bash-completion "$completions/smtpwitness"
    ln -sf smtpwitness "$completions/smtpwitness-rules"
    put_configuration conf/smtpwitness.conf.sample "$destination$etc/smtpwitness/smtpwitness.conf"
    put_configuration rules/rules.conf.sample "$destination$etc/smtpwitness/rules.conf"
    put_configuration systemd/logrotate.conf "$destination$etc/logrotate.d/smtpwitness"
    ;;
uninstall)
    rm -f "$root/sbin/smtpwitness" "$root/sbin/smtpwitness-rules" "$root/lib/sysusers.d/smtpwitness.conf" \
        "$root/lib/tmpfiles.d/smtpwitness.conf" "$completions/smtpwitness" "$completions/smtpwitness-rules"
    rm -rf "$root/lib/smtpwitness" "$documents"
    each_unit remove_unit
    rmdir --ignore-fail-on-non-empty "$destination$units/smtpwitness-.service.d"
    for file in man/*.[0-9]; do
        rm -f "$root/share/man/man${file##*.}/${file##*/}"
    done
    ;;
*)
    echo "install.sh: unknown verb '$verb'" >&2
    exit 2
    ;;
esac
