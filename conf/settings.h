/* settings - everything an administrator can set, typed and validated.
 * Filled by settings_load() from an INI file; the one table of keys is in settings_table.c.
 * Owns:    the strings and network lists inside. Threads: immutable once loaded; share by reference count. */
#ifndef SMTPWITNESS_CONF_SETTINGS_H
#define SMTPWITNESS_CONF_SETTINGS_H

#include <stdbool.h>
#include <stdint.h>

#include "core/base/attributes.h"
#include "core/policy/policy_settings.h"

#define SETTINGS_MAX_PORTS 16

struct settings_ports {
    uint16_t port[SETTINGS_MAX_PORTS];
    uint32_t count;
};

/* [smtp] */
struct settings_smtp {
    struct settings_ports ports;              /* ports = 25 587 : where SMTP is expected (rules, replay) */
    struct settings_ports implicit_tls_ports; /* implicit-tls-ports = 465 : TLS from the first octet */
    struct settings_ports lmtp_ports;         /* lmtp-ports = 24 : LMTP (RFC 2033), a reply per recipient */
    bool proxy_protocol; /* proxy-protocol = no : a PROXY line comes before the dialogue */
};

enum settings_fail {
    SETTINGS_FAIL_OPEN = 0, /* new connections pass by */
    SETTINGS_FAIL_CLOSED,   /* new connections are dropped */
};

/* [proxy] */
struct settings_proxy {
    uint16_t listen_port;        /* listen-port = 10025 : where TPROXY delivers */
    uint32_t workers;            /* workers = 0 : threads, 0 = one per processor */
    uint32_t max_sessions;       /* max-sessions = 0 : 0 = what the descriptor limit allows */
    uint32_t buffer_octets;      /* buffer = 64k : most octets waiting in us per direction */
    bool splice;                 /* splice = yes : the bulk of bodies moves inside the kernel, unread */
    bool keep_client_port;       /* keep-client-port = yes */
    uint32_t outgoing_mark;      /* outgoing-mark = 0 : SO_MARK of the server leg, 0 = none */
    uint64_t connect_timeout_us; /* connect-timeout = 30s : the server leg's handshake */
    bool probe;                  /* probe = yes : keepalive on a silent leg, on suspicion only */
    uint64_t probe_after_us;     /* probe-after = 5s : silence that raises suspicion */
    bool tap;                    /* tap = yes : a raw tap tells "silent" from "its octets were lost" */
    uint64_t drain_us;           /* drain = 60s : at SIGTERM, how long live sessions may finish */
    enum settings_fail
        fail; /* fail = open | closed : when we are dead or hang; the rules must be loaded alike */
};

/* [nfq] */
struct settings_nfq {
    uint32_t first_queue;           /* first-queue = 2525 : the first NFQUEUE number */
    uint32_t queues_count;          /* queues = 1 : how many, one thread each */
    uint32_t max_flows_count;       /* max-flows = 65536 : connections followed at once, in all queues */
    uint32_t queue_length_count;    /* queue-length = 8192 : packets that may wait in the kernel, per queue */
    uint32_t receive_buffer_octets; /* receive-buffer = 16M : of each queue's socket */
    bool fail_open;                 /* fail-open = yes : a packet that finds the queue full passes unseen */
    uint64_t watchdog_us;    /* watchdog = 3s : silence of ours after which we are killed and restarted */
    bool probe;              /* probe = yes : ask a silent side with a keepalive, on suspicion only */
    uint64_t probe_after_us; /* probe-after = 5s : silence that raises suspicion */
    bool bypass;             /* bypass = no : the bulk of large bodies passes without coming to the queue */
    uint32_t mark;           /* mark = 0x3000000 : two bits of packets' marks that are ours */
};

enum settings_log_format {
    SETTINGS_LOG_LOGFMT = 0,
    SETTINGS_LOG_JSON,
};

enum settings_log_verdicts {
    SETTINGS_LOG_ALL = 0, /* a line per session */
    SETTINGS_LOG_FAULTS,  /* only sessions whose fault is not none */
};

/* [log] */
struct settings_log {
    int facility;   /* facility = mail : a LOG_* value */
    int level;      /* level = info : LOG_* priority of fault=none verdicts; faults are LOG_WARNING */
    char ident[32]; /* ident = smtpwitness */
    enum settings_log_format format;     /* format = logfmt | json */
    enum settings_log_verdicts verdicts; /* verdicts = all | faults */
    bool stalls;                         /* stalls = yes : stall lines while they last */
    char json_file[256];                 /* json-file = PATH or - : JSON lines besides syslog; empty = none */
    uint32_t rate_limit_count;  /* rate-limit = 500 : lines a second, the rest is counted; 0 = no limit */
    uint64_t peaks_interval_us; /* peaks-interval = 15min : per-source peaks; 0 = never */
    uint32_t peaks_count;       /* peaks-sources = 10 : how many of the busiest sources */
};

/* [process] */
struct settings_process {
    char user[32];           /* user = nobody : who we run as after start; empty = stay */
    char pid_file[256];      /* pid-file = : empty = none */
    bool system_call_filter; /* system-call-filter = yes : refuse ourselves what we never do */
};

struct settings {
    struct policy_settings policy; /* [timeouts] [limits] [source NAME] [server NAME], hostname in [smtp] */
    uint32_t max_sources;          /* [limits] max-sources = 65536 : rows of the table of sources */
    struct settings_smtp smtp;
    struct settings_proxy proxy;
    struct settings_nfq nfq;
    struct settings_log log;
    struct settings_process process;
};

/* One clear line: what is wrong, in which file and line, and what to write instead. */
struct settings_error {
    char text[512];
};

/* Loads `path`; NULL means the defaults alone. Returns NULL and fills `error` when anything at all is wrong
 * (unknown section or key, duplicate, bad number, unit or network, unreadable file). Never half-loads. */
struct settings *settings_load(const char *path, struct settings_error *error) MUST_CHECK;
void settings_destroy(struct settings *settings); /* accepts NULL */

#endif
