#!/bin/bash
# include_direction.sh [DIRECTORY] - fails on an include against the direction in which data flows (ARCHITECTURE.md):
#   core: base <- stream <- {tcp, smtp} <- fault <- policy <- report <- session <- tracker
#   core <- conf <- daemon <- {proxy, nfq, replay} <- cli
# A room may include itself and rooms of a lower rank. Rooms of equal rank never include each other.
# With --self-test: plants violations in a copy and checks that each is found.
set -u

check() { # directory
    (cd "$1" && find core conf daemon proxy nfq replay cli -name '*.[ch]' 2>/dev/null | sort | xargs -r awk '
        BEGIN {
            n = split("core/base:0 core/stream:1 core/tcp:2 core/smtp:2 core/fault:3 core/policy:4 core/report:5 " \
                      "core/session:6 core/tracker:7 conf:8 daemon:9 proxy:10 nfq:10 replay:10 cli:11", pairs, " ")
            for (i = 1; i <= n; i++) { split(pairs[i], pair, ":"); rank[pair[1]] = pair[2] }
        }
        function room_of(path,    parts) {
            split(path, parts, "/")
            return parts[1] == "core" ? parts[1] "/" parts[2] : parts[1]
        }
        /^[ \t]*#[ \t]*include[ \t]*"/ {
            path = $0
            sub(/^[^"]*"/, "", path); sub(/".*/, "", path)
            from = room_of(FILENAME); to = room_of(path)
            if (!(from in rank)) {
                problem = "room " from " is not in the list of tests/lint/include_direction.sh"
            } else if (path !~ /\// || !(to in rank)) {
                problem = "includes \"" path "\": write the path from the project directory"
            } else if (from != to && rank[to] + 0 >= rank[from] + 0) {
                problem = "includes \"" path "\": " from " must not know " to
            } else {
                next
            }
            printf "%s:%d: %s\n", FILENAME, FNR, problem
            failed = 1
        }
        END { exit failed }')
}

self_test() {
    local copy file line missed=0
    copy=$(mktemp -d)
    trap 'rm -rf "$copy"' RETURN
    mkdir -p "$copy"/{core/{base,stream,tcp,smtp,fault,policy,report,session,tracker},conf,daemon,proxy,nfq,replay,cli}
    while read -r file line; do
        printf '#include "%s"\n' "$line" >"$copy/$file"
        if check "$copy" >"$copy/said" 2>&1 || ! grep -q "^$file:1:" "$copy/said"; then
            echo "self-test: $file including $line was not found"
            missed=1
        fi
        rm "$copy/$file"
    done <<'END'
core/base/x.c core/stream/line.h
core/smtp/x.c core/tcp/x.h
core/fault/x.h core/policy/policy_settings.h
core/session/x.c conf/settings.h
core/session/x.c core/tracker/tracker.h
core/tcp/x.c core/fault/evidence.h
conf/x.c daemon/log.h
daemon/x.c proxy/proxy.h
proxy/x.c nfq/nfq.h
nfq/x.c replay/replay.h
replay/x.h proxy/proxy.h
proxy/x.c cli/command.h
core/base/x.c side.h
END
    printf '#include "core/report/record.h"\n' >"$copy/daemon/x.h"
    if ! check "$copy" >/dev/null; then
        echo "self-test: an include along the direction was refused"
        missed=1
    fi
    return "$missed"
}

case ${1:-} in
--self-test) self_test ;;
*) check "${1:-$(dirname "$0")/../..}" ;;
esac
