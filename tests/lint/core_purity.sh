#!/bin/bash
# core_purity.sh OBJECT_DIRECTORY - the core does no I/O, reads no clock and has no variables of its own.
# Looks at the compiled objects, so that a macro or an inline function cannot hide it.
# With --self-test: compiles three violations and checks that each is found.
set -u
forbidden='clock_gettime|clock|time|gettimeofday|localtime(_r)?|gmtime|nanosleep|sleep|usleep|open(64|at)?|creat|close'
forbidden+='|p?read(64)?|p?write(64)?|f?printf|__f?printf_chk|puts|putchar|fputs|fwrite|fopen(64)?|fflush|perror|syslog'
forbidden+='|__syslog_chk|socket|connect|bind|accept4?|send(to|msg|mmsg)?|recv(from|msg|mmsg)?|ioctl|poll|select|epoll_.*'
forbidden+='|getenv|setenv|getaddrinfo|gethostbyname.*|s?rand(om)?|rand_r|getrandom|fork|exec.*|system|signal|sigaction|event_.*|sd_.*'

check() { # directory
    local object failed=0 count=0 found
    while read -r object; do
        count=$((count + 1))
        found=$(nm -u "$object" | awk '{ print $NF }' | sed 's/@.*//' | grep -xE "$forbidden" | sort -u | tr '\n' ' ')
        if [ -n "$found" ]; then
            echo "$object: the core must not call: $found"
            failed=1
        fi
        found=$(size -A "$object" | awk '($1 ~ /^\.(data|bss)($|\.)/ && $1 !~ /^\.data\.rel\.ro/ || $1 ~ /^\.tbss|^\.tdata/) && $2 > 0 { print $1 }' | tr '\n' ' ')
        if [ -n "$found" ]; then
            echo "$object: the core must have no variables of static duration ($found)"
            failed=1
        fi
    done < <(find "$1" -name '*.o' | sort)
    if [ "$count" -eq 0 ]; then
        echo "$1: no objects; run make first"
        failed=1
    fi
    return "$failed"
}

self_test() {
    local copy missed=0 source
    copy=$(mktemp -d)
    trap 'rm -rf "$copy"' RETURN
    while read -r source; do
        echo "$source" | "${CC:-gcc}" -x c -c -O2 -fPIE -o "$copy/x.o" - || return 1
        if check "$copy" >/dev/null; then
            echo "self-test: not found: $source"
            missed=1
        fi
    done <<'END'
long time(long *); long f(void) { return time(0); }
int count; int f(void) { return ++count; }
int printf(const char *, ...); void f(int n) { printf("%d", n); }
END
    return "$missed"
}

case ${1:-} in
--self-test) self_test ;;
*) check "${1:?which directory of objects}" ;;
esac
