#include "conf/settings_table.h"

#include <string.h>
#include <syslog.h>

#include "conf/settings.h"

#define MILLISECOND UINT64_C(1000)
#define SECOND      (1000 * MILLISECOND)
#define MINUTE      (60 * SECOND)
#define HOUR        (60 * MINUTE)
#define DAY         (24 * HOUR)

/* A field of the wrong size stops the compiler here: the array would have a negative length. */
#define SIZE_IS(member_size, wanted) (0 * sizeof(char[(member_size) == (wanted) ? 1 : -1]))
#define MEMBER(structure, member)    (((struct structure *)0)->member)
#define FIELD(base_, structure, member, wanted)                                                              \
    .base = (base_), .offset = offsetof(struct structure, member),                                           \
    .size = sizeof MEMBER(structure, member) + SIZE_IS(sizeof MEMBER(structure, member), wanted)

#define IN_SETTINGS(member, wanted) FIELD(SETTINGS_BASE_SETTINGS, settings, member, wanted)
#define IN_TIMEOUTS(member, wanted) FIELD(SETTINGS_BASE_TIMEOUTS, policy_timeouts, member, wanted)
#define IN_LIMITS(member, wanted)   FIELD(SETTINGS_BASE_LIMITS, policy_limits, member, wanted)
#define IN_OVERRIDE(member, wanted) FIELD(SETTINGS_BASE_OVERRIDE, policy_override, member, wanted)

static const struct settings_choice facilities[] = {
    {"mail", LOG_MAIL},     {"daemon", LOG_DAEMON},     {"user", LOG_USER},
    {"auth", LOG_AUTH},     {"authpriv", LOG_AUTHPRIV}, {"syslog", LOG_SYSLOG},
    {"local0", LOG_LOCAL0}, {"local1", LOG_LOCAL1},     {"local2", LOG_LOCAL2},
    {"local3", LOG_LOCAL3}, {"local4", LOG_LOCAL4},     {"local5", LOG_LOCAL5},
    {"local6", LOG_LOCAL6}, {"local7", LOG_LOCAL7},     {NULL, 0},
};
static const struct settings_choice levels[] = {
    {"debug", LOG_DEBUG}, {"info", LOG_INFO}, {"notice", LOG_NOTICE}, {"warning", LOG_WARNING},
    {"err", LOG_ERR},     {"crit", LOG_CRIT}, {"alert", LOG_ALERT},   {NULL, 0},
};
static const struct settings_choice formats[] = {
    {"logfmt", SETTINGS_LOG_LOGFMT},
    {"json", SETTINGS_LOG_JSON},
    {NULL, 0},
};
static const struct settings_choice verdicts[] = {
    {"all", SETTINGS_LOG_ALL},
    {"faults", SETTINGS_LOG_FAULTS},
    {NULL, 0},
};
static const struct settings_choice actions[] = {
    {"report", POLICY_REPORT},
    {"enforce", POLICY_ENFORCE},
    {NULL, 0},
};
static const struct settings_choice over_limits[] = {
    {"refuse", POLICY_REFUSE},
    {"hold", POLICY_HOLD},
    {NULL, 0},
};
static const struct settings_choice refusals[] = {
    {"auto", POLICY_REFUSE_AUTO},
    {"421", POLICY_REFUSE_421},
    {"reset", POLICY_REFUSE_RESET},
    {NULL, 0},
};

static const struct settings_choice fails[] = {
    {"open", SETTINGS_FAIL_OPEN},
    {"closed", SETTINGS_FAIL_CLOSED},
    {NULL, 0},
};

#define CHOICES(list) .type = SETTINGS_TYPE_CHOICE, .choices = (list), .unit = ""
#define BOOLEAN       .type = SETTINGS_TYPE_BOOLEAN, .unit = ""
#define DURATION      .type = SETTINGS_TYPE_DURATION, .unit = "duration"

/* A timeout of [timeouts] for one phase. 10 ms is short enough for any test, 7 d longer than any sender waits. */
#define PHASE_TIMEOUT(key_, phase, default_, help_)                                                          \
    {                                                                                                        \
        .section = SETTINGS_SECTION_TIMEOUTS, .key = (key_), DURATION,                                       \
        IN_TIMEOUTS(phase_us[phase], sizeof(uint64_t)), .minimum = 10 * MILLISECOND, .maximum = 7 * DAY,     \
        .zero = "no limit", .default_text = (default_), .example = (default_), .reloadable = true,           \
        .help = (help_)                                                                                      \
    }

#define ACTION(section_, key_, field, help_)                                                                 \
    {                                                                                                        \
        .section = (section_), .key = (key_), CHOICES(actions), field, .default_text = "report",             \
        .example = "report", .reloadable = true, .help = (help_)                                             \
    }

#define COUNT_MAX 1000000 /* more sessions than the descriptors of one machine allow */

const struct settings_row settings_rows[] = {
    /* [smtp] */
    {.section = SETTINGS_SECTION_SMTP,
     .key = "hostname",
     .type = SETTINGS_TYPE_HOST_NAME,
     .unit = "",
     IN_SETTINGS(policy.host_name, 256),
     .empty = "the name of this system",
     .default_text = "",
     .example = "gate.example.com",
     .reloadable = true,
     .help = "The host name spoken in our own 421 replies."},
    {.section = SETTINGS_SECTION_SMTP,
     .key = "ports",
     .type = SETTINGS_TYPE_PORTS,
     .unit = "ports",
     IN_SETTINGS(smtp.ports, sizeof(struct settings_ports)),
     .minimum = 1,
     .maximum = SETTINGS_MAX_PORTS,
     .default_text = "25 587",
     .example = "25 587",
     .reloadable = true,
     .help = "The server ports where SMTP is expected."},
    {.section = SETTINGS_SECTION_SMTP,
     .key = "implicit-tls-ports",
     .type = SETTINGS_TYPE_PORTS,
     .unit = "ports",
     IN_SETTINGS(smtp.implicit_tls_ports, sizeof(struct settings_ports)),
     .minimum = 0,
     .maximum = SETTINGS_MAX_PORTS,
     .empty = "none",
     .default_text = "465",
     .example = "465",
     .reloadable = true,
     .help = "The server ports where TLS starts with the first octet, without STARTTLS."},
    {.section = SETTINGS_SECTION_SMTP,
     .key = "lmtp-ports",
     .type = SETTINGS_TYPE_PORTS,
     .unit = "ports",
     IN_SETTINGS(smtp.lmtp_ports, sizeof(struct settings_ports)),
     .minimum = 0,
     .maximum = SETTINGS_MAX_PORTS,
     .empty = "none",
     .default_text = "24",
     .example = "24",
     .reloadable = true,
     .help = "The server ports where LMTP is spoken: after the final dot the server answers once for each "
             "recipient."},
    {.section = SETTINGS_SECTION_SMTP,
     .key = "proxy-protocol",
     BOOLEAN,
     IN_SETTINGS(smtp.proxy_protocol, sizeof(bool)),
     .default_text = "no",
     .example = "no",
     .reloadable = true,
     .help = "Clients are load balancers that send a PROXY protocol line before the dialogue."},

    /* [proxy] */
    {.section = SETTINGS_SECTION_PROXY,
     .key = "listen-port",
     .type = SETTINGS_TYPE_PORT,
     .unit = "port",
     IN_SETTINGS(proxy.listen_port, sizeof(uint16_t)),
     .minimum = 1,
     .maximum = 65535,
     .default_text = "10025",
     .example = "10025",
     .reloadable = false,
     .help =
         "The local port to which the TPROXY rules deliver intercepted connections. It must be the port the "
         "rules name."},
    {.section = SETTINGS_SECTION_PROXY,
     .key = "workers",
     .type = SETTINGS_TYPE_COUNT,
     .unit = "threads",
     IN_SETTINGS(proxy.workers, sizeof(uint32_t)),
     .minimum = 1,
     .maximum = 256,
     .zero = "one per processor",
     .default_text = "0",
     .example = "2",
     .reloadable = false,
     .help = "How many worker threads relay sessions."},
    {.section = SETTINGS_SECTION_PROXY,
     .key = "max-sessions",
     .type = SETTINGS_TYPE_COUNT,
     .unit = "sessions",
     IN_SETTINGS(proxy.max_sessions, sizeof(uint32_t)),
     .minimum = 1,
     .maximum = COUNT_MAX,
     .zero = "as many as the descriptor limit allows",
     .default_text = "0",
     .example = "5000",
     .reloadable = false,
     .help = "How many sessions may be open at once. Each needs two descriptors. At the limit new "
             "connections pass by "
             "unseen; with fail = closed they wait in the kernel's queue."},
    {.section = SETTINGS_SECTION_PROXY,
     .key = "buffer",
     .type = SETTINGS_TYPE_SIZE,
     .unit = "octets",
     IN_SETTINGS(proxy.buffer_octets, sizeof(uint32_t)),
     .minimum = 4096,
     .maximum = 16777216,
     .default_text = "64k",
     .example = "64k",
     .reloadable = true,
     .help = "The most octets of one direction of one session that may wait in memory. A full buffer stops "
             "reading "
             "from the faster side."},
    {.section = SETTINGS_SECTION_PROXY,
     .key = "splice",
     BOOLEAN,
     IN_SETTINGS(proxy.splice, sizeof(bool)),
     .default_text = "yes",
     .example = "yes",
     .reloadable = true,
     .help = "Move the bulk of a body from one connection to the other inside the kernel, and look only at "
             "the end of what has arrived: about half the work. With no, every octet is looked at."},
    {.section = SETTINGS_SECTION_PROXY,
     .key = "keep-client-port",
     BOOLEAN,
     IN_SETTINGS(proxy.keep_client_port, sizeof(bool)),
     .default_text = "yes",
     .example = "yes",
     .reloadable = true,
     .help =
         "Use the client's own port as well as its address towards the server. If that port is still busy, "
         "another one is taken and the verdict says so."},
    {.section = SETTINGS_SECTION_PROXY,
     .key = "outgoing-mark",
     .type = SETTINGS_TYPE_MARK,
     .unit = "mark",
     IN_SETTINGS(proxy.outgoing_mark, sizeof(uint32_t)),
     .minimum = 0,
     .maximum = UINT32_MAX,
     .zero = "no mark",
     .default_text = "0",
     .example = "0x20",
     .reloadable = true,
     .help = "The firewall mark of our packets towards the server, for policy routing. It must not contain "
             "the bit "
             "0x1000000, by which the interception rules recognise packets."},
    {.section = SETTINGS_SECTION_PROXY,
     .key = "connect-timeout",
     DURATION,
     IN_SETTINGS(proxy.connect_timeout_us, sizeof(uint64_t)),
     .minimum = 10 * MILLISECOND,
     .maximum = 10 * MINUTE,
     .default_text = "30s",
     .example = "30s",
     .reloadable = true,
     .help = "How long the server may take to accept a connection before the client is told by a reset."},
    {.section = SETTINGS_SECTION_PROXY,
     .key = "probe",
     BOOLEAN,
     IN_SETTINGS(proxy.probe, sizeof(bool)),
     .default_text = "yes",
     .example = "yes",
     .reloadable = true,
     .help = "Probe a silent side with a TCP keepalive, so that a silent application can be told from a dead "
             "network. Only a suspicious silence is probed."},
    {.section = SETTINGS_SECTION_PROXY,
     .key = "probe-after",
     DURATION,
     IN_SETTINGS(proxy.probe_after_us, sizeof(uint64_t)),
     .minimum = 10 * MILLISECOND,
     .maximum = 10 * MINUTE,
     .default_text = "5s",
     .example = "5s",
     .reloadable = true,
     .help = "The silence after which the side that owes the next word is probed."},
    {.section = SETTINGS_SECTION_PROXY,
     .key = "tap",
     BOOLEAN,
     IN_SETTINGS(proxy.tap, sizeof(bool)),
     .default_text = "yes",
     .example = "yes",
     .reloadable = false,
     .help = "Look at the packets of a suspect session through a raw socket, to tell a side that said "
             "nothing from "
             "one whose octets were lost on the way. Without it such a verdict is less certain."},
    {.section = SETTINGS_SECTION_PROXY,
     .key = "drain",
     DURATION,
     IN_SETTINGS(proxy.drain_us, sizeof(uint64_t)),
     .minimum = 10 * MILLISECOND,
     .maximum = 1 * DAY,
     .zero = "no time at all",
     .default_text = "60s",
     .example = "60s",
     .reloadable = true,
     .help = "How long open sessions may go on after the request to stop."},
    {.section = SETTINGS_SECTION_PROXY,
     .key = "fail",
     CHOICES(fails),
     IN_SETTINGS(proxy.fail, sizeof(int)),
     .default_text = "open",
     .example = "open",
     .reloadable = true,
     .help = "What becomes of new connections while the witness is dead, hangs, has no session free or is "
             "stopping: "
             "open lets them pass to the server unseen, closed drops them. The rules do it, so they must be "
             "loaded "
             "with the same choice; 'smtpwitness rules' takes it from here."},

    /* [nfq] */
    {.section = SETTINGS_SECTION_NFQ,
     .key = "first-queue",
     .type = SETTINGS_TYPE_COUNT,
     .unit = "queue number",
     IN_SETTINGS(nfq.first_queue, sizeof(uint32_t)),
     .minimum = 0,
     .maximum = 65520,
     .default_text = "2525",
     .example = "2525",
     .reloadable = false,
     .help = "The number of the first packet queue (NFQUEUE). It must be the one the rules name."},
    {.section = SETTINGS_SECTION_NFQ,
     .key = "queues",
     .type = SETTINGS_TYPE_COUNT,
     .unit = "queues",
     IN_SETTINGS(nfq.queues_count, sizeof(uint32_t)),
     .minimum = 1,
     .maximum = 16,
     .default_text = "1",
     .example = "2",
     .reloadable = false,
     .help = "How many packet queues there are, numbered upwards, with one thread each: 1, 2, 4, 8 or 16. "
             "The rules must be loaded with the same number."},
    {.section = SETTINGS_SECTION_NFQ,
     .key = "max-flows",
     .type = SETTINGS_TYPE_COUNT,
     .unit = "connections",
     IN_SETTINGS(nfq.max_flows_count, sizeof(uint32_t)),
     .minimum = 256,
     .maximum = COUNT_MAX,
     .default_text = "65536",
     .example = "65536",
     .reloadable = false,
     .help = "How many connections are followed at once. When there are more, mail still passes; the "
             "connections that have been silent longest get their verdict early."},
    {.section = SETTINGS_SECTION_NFQ,
     .key = "queue-length",
     .type = SETTINGS_TYPE_COUNT,
     .unit = "packets",
     IN_SETTINGS(nfq.queue_length_count, sizeof(uint32_t)),
     .minimum = 64,
     .maximum = 1048576,
     .default_text = "8192",
     .example = "8192",
     .reloadable = false,
     .help = "How many packets of one queue may wait for us in the kernel."},
    {.section = SETTINGS_SECTION_NFQ,
     .key = "receive-buffer",
     .type = SETTINGS_TYPE_SIZE,
     .unit = "octets",
     IN_SETTINGS(nfq.receive_buffer_octets, sizeof(uint32_t)),
     .minimum = 262144,
     .maximum = 1073741824,
     .default_text = "16M",
     .example = "16M",
     .reloadable = false,
     .help = "The buffer of each queue's socket. It must hold a burst of packets of 64 kB."},
    {.section = SETTINGS_SECTION_NFQ,
     .key = "fail-open",
     BOOLEAN,
     IN_SETTINGS(nfq.fail_open, sizeof(bool)),
     .default_text = "yes",
     .example = "yes",
     .reloadable = false,
     .help = "Let packets pass unseen when they find the queue full. Without it they are dropped, and mail "
             "is delayed."},
    {.section = SETTINGS_SECTION_NFQ,
     .key = "watchdog",
     DURATION,
     IN_SETTINGS(nfq.watchdog_us, sizeof(uint64_t)),
     .minimum = 1 * SECOND,
     .maximum = 1 * MINUTE,
     .default_text = "3s",
     .example = "3s",
     .reloadable = false,
     .help = "After so long without a sign of life the process that holds the queues is killed and started "
             "again, because packets wait for it. Meanwhile mail passes unseen."},
    {.section = SETTINGS_SECTION_NFQ,
     .key = "probe",
     BOOLEAN,
     IN_SETTINGS(nfq.probe, sizeof(bool)),
     .default_text = "yes",
     .example = "yes",
     .reloadable = false,
     .help = "Ask a silent side with a TCP keepalive in the other side's name, so that a silent application "
             "can be told from a dead network. Only a suspicious silence is probed, and the answer goes no "
             "further than here."},
    {.section = SETTINGS_SECTION_NFQ,
     .key = "probe-after",
     DURATION,
     IN_SETTINGS(nfq.probe_after_us, sizeof(uint64_t)),
     .minimum = 10 * MILLISECOND,
     .maximum = 10 * MINUTE,
     .default_text = "5s",
     .example = "5s",
     .reloadable = false,
     .help = "The silence after which the side that owes the next word is probed."},
    {.section = SETTINGS_SECTION_NFQ,
     .key = "bypass",
     BOOLEAN,
     IN_SETTINGS(nfq.bypass, sizeof(bool)),
     .default_text = "no",
     .example = "yes",
     .reloadable = false,
     .help = "While a large body runs fast, let its full segments pass without coming to us; what tells "
             "something is still seen. Saves most of the work of large mails. The rules must be loaded with "
             "--bypass, and the kernel tracks connections then."},
    {.section = SETTINGS_SECTION_NFQ,
     .key = "mark",
     .type = SETTINGS_TYPE_MARK,
     .unit = "mark",
     IN_SETTINGS(nfq.mark, sizeof(uint32_t)),
     .minimum = 3,
     .maximum = UINT32_MAX,
     .default_text = "0x3000000",
     .example = "0x3000000",
     .reloadable = false,
     .help = "Two bits of marks that nobody else uses: the lower one marks connections for "
             "bypass, the higher one packets that are followed out of this host. It must be the "
             "value the rules were loaded with (--mark)."},

    /* [log] */
    {.section = SETTINGS_SECTION_LOG,
     .key = "facility",
     CHOICES(facilities),
     IN_SETTINGS(log.facility, sizeof(int)),
     .default_text = "mail",
     .example = "mail",
     .reloadable = true,
     .help = "The syslog facility of our lines."},
    {.section = SETTINGS_SECTION_LOG,
     .key = "level",
     CHOICES(levels),
     IN_SETTINGS(log.level, sizeof(int)),
     .default_text = "info",
     .example = "info",
     .reloadable = true,
     .help =
         "The syslog level of verdicts without a fault. Verdicts with a fault are always logged as warning."},
    {.section = SETTINGS_SECTION_LOG,
     .key = "ident",
     .type = SETTINGS_TYPE_WORD,
     .unit = "",
     IN_SETTINGS(log.ident, 32),
     .default_text = "smtpwitness",
     .example = "smtpwitness",
     .reloadable = true,
     .help = "The program name in front of our syslog lines."},
    {.section = SETTINGS_SECTION_LOG,
     .key = "format",
     CHOICES(formats),
     IN_SETTINGS(log.format, sizeof(int)),
     .default_text = "logfmt",
     .example = "logfmt",
     .reloadable = true,
     .help = "The form of our lines in syslog: key=value pairs, or one JSON object per line. The names are "
             "the same."},
    {.section = SETTINGS_SECTION_LOG,
     .key = "verdicts",
     CHOICES(verdicts),
     IN_SETTINGS(log.verdicts, sizeof(int)),
     .default_text = "all",
     .example = "all",
     .reloadable = true,
     .help = "Log a verdict for every session, or only for sessions with a fault."},
    {.section = SETTINGS_SECTION_LOG,
     .key = "stalls",
     BOOLEAN,
     IN_SETTINGS(log.stalls, sizeof(bool)),
     .default_text = "yes",
     .example = "yes",
     .reloadable = true,
     .help = "Log a stall while it lasts, as soon as it passes stall-notice, and a forecast of the session "
             "limit. "
             "The verdict comes at the end of the session in any case."},
    {.section = SETTINGS_SECTION_LOG,
     .key = "json-file",
     .type = SETTINGS_TYPE_PATH,
     .unit = "path",
     IN_SETTINGS(log.json_file, 256),
     .dash = true,
     .empty = "none",
     .default_text = "",
     .example = "/var/log/smtpwitness.json",
     .reloadable = true,
     .help = "A file that gets every line as JSON too, besides syslog. A dash means standard output. A "
             "reload opens it "
             "anew, as the user of [process], who must be allowed to write there."},
    {.section = SETTINGS_SECTION_LOG,
     .key = "rate-limit",
     .type = SETTINGS_TYPE_COUNT,
     .unit = "lines a second",
     IN_SETTINGS(log.rate_limit_count, sizeof(uint32_t)),
     .minimum = 1,
     .maximum = COUNT_MAX,
     .zero = "no limit",
     .default_text = "500",
     .example = "500",
     .reloadable = true,
     .help = "The most lines a second we log. What is left out is counted, and the count is logged."},
    {.section = SETTINGS_SECTION_LOG,
     .key = "peaks-interval",
     DURATION,
     IN_SETTINGS(log.peaks_interval_us, sizeof(uint64_t)),
     .minimum = 10 * MILLISECOND,
     .maximum = 7 * DAY,
     .zero = "no such lines",
     .default_text = "15min",
     .example = "15min",
     .reloadable = true,
     .help = "How often the busiest sources and their peak concurrency are logged."},
    {.section = SETTINGS_SECTION_LOG,
     .key = "peaks-sources",
     .type = SETTINGS_TYPE_COUNT,
     .unit = "sources",
     IN_SETTINGS(log.peaks_count, sizeof(uint32_t)),
     .minimum = 1,
     .maximum = 1000,
     .default_text = "10",
     .example = "10",
     .reloadable = true,
     .help = "How many of the busiest sources those lines name."},

    /* [process] */
    {.section = SETTINGS_SECTION_PROCESS,
     .key = "user",
     .type = SETTINGS_TYPE_WORD,
     .unit = "",
     IN_SETTINGS(process.user, 32),
     .empty = "stay the user that started us",
     .default_text = "nobody",
     .example = "nobody",
     .reloadable = false,
     .help = "The user we become once the privileged work of the start is done."},
    {.section = SETTINGS_SECTION_PROCESS,
     .key = "pid-file",
     .type = SETTINGS_TYPE_PATH,
     .unit = "path",
     IN_SETTINGS(process.pid_file, 256),
     .empty = "none",
     .default_text = "",
     .example = "/run/smtpwitness.pid",
     .reloadable = false,
     .help = "A file that holds our process id while we run. systemd needs none."},
    {.section = SETTINGS_SECTION_PROCESS,
     .key = "system-call-filter",
     BOOLEAN,
     IN_SETTINGS(process.system_call_filter, sizeof(bool)),
     .default_text = "yes",
     .example = "yes",
     .reloadable = false,
     .help = "Let the kernel refuse every system call that a running witness has no use for (seccomp). If "
             "something fails with EPERM that should not, no shows whether this is why."},

    /* [timeouts]: RFC 5321 section 4.5.3.2 where it names a number, five minutes where it names none. */
    PHASE_TIMEOUT(
        "connect", PHASE_CONNECT, "30s",
        "The longest wait for the server to accept the connection. Postfix as a client waits 30 s."),
    PHASE_TIMEOUT("greeting", PHASE_GREETING, "5min",
                  "The longest wait for the server's greeting. RFC 5321 asks for 5 minutes."),
    PHASE_TIMEOUT(
        "helo", PHASE_HELO, "5min",
        "The longest silence before EHLO or HELO, and before the reply to it. RFC 5321 gives the client "
        "5 minutes for a command."),
    PHASE_TIMEOUT("starttls", PHASE_STARTTLS, "5min", "The longest wait for the reply to STARTTLS."),
    PHASE_TIMEOUT("tls", PHASE_TLS, "5min", "The longest silence within a TLS handshake."),
    PHASE_TIMEOUT("auth", PHASE_AUTH, "5min", "The longest silence of either side within AUTH."),
    PHASE_TIMEOUT(
        "mail", PHASE_MAIL, "5min",
        "The longest silence before MAIL, and before the reply to it. RFC 5321 asks for 5 minutes."),
    PHASE_TIMEOUT("rcpt", PHASE_RCPT, "5min",
                  "The longest silence before RCPT or DATA, and before the reply to RCPT. RFC 5321 asks for "
                  "5 minutes."),
    PHASE_TIMEOUT("data", PHASE_DATA, "2min",
                  "The longest wait for the server's 354 after DATA. RFC 5321 asks for 2 minutes."),
    PHASE_TIMEOUT(
        "body", PHASE_BODY, "3min",
        "The longest silence of the client within a message body, between two blocks. RFC 5321 asks for "
        "3 minutes."),
    PHASE_TIMEOUT(
        "end-of-data", PHASE_END_OF_DATA, "10min",
        "The longest wait for the reply to the final dot or to BDAT LAST. RFC 5321 asks for 10 minutes. "
        "A client that gives up here sends the mail again."),
    PHASE_TIMEOUT(
        "bdat", PHASE_BDAT, "5min",
        "The longest silence within a BDAT chunk, and before the reply to a chunk that is not the last."),
    PHASE_TIMEOUT("rset", PHASE_RSET, "5min", "The longest wait for the reply to RSET."),
    PHASE_TIMEOUT("quit", PHASE_QUIT, "5min", "The longest wait for the reply to QUIT."),
    PHASE_TIMEOUT("command", PHASE_COMMAND, "5min", "The longest silence around any other command."),
    {.section = SETTINGS_SECTION_TIMEOUTS,
     .key = "idle",
     DURATION,
     IN_TIMEOUTS(idle_us, sizeof(uint64_t)),
     .minimum = 10 * MILLISECOND,
     .maximum = 7 * DAY,
     .zero = "no limit",
     .default_text = "5min",
     .example = "5min",
     .reloadable = true,
     .help = "The longest silence between two mails, when it is the client's turn and nothing is open. RFC "
             "5321 asks "
             "a server to wait 5 minutes for the next command."},
    {.section = SETTINGS_SECTION_TIMEOUTS,
     .key = "session",
     DURATION,
     IN_TIMEOUTS(session_us, sizeof(uint64_t)),
     .minimum = 10 * MILLISECOND,
     .maximum = 30 * DAY,
     .zero = "no limit",
     .default_text = "0",
     .example = "15min",
     .reloadable = true,
     .help = "The longest session in all, even when mail is flowing. Some servers have such a limit: 10 "
             "minutes for "
             "Exchange, 15 minutes for the Cisco gateway. A forecast line says, once per session, when the "
             "mail under way will not be through in time, by its announced size and the rate so far."},
    {.section = SETTINGS_SECTION_TIMEOUTS,
     .key = "stall-notice",
     DURATION,
     IN_TIMEOUTS(stall_notice_us, sizeof(uint64_t)),
     .minimum = 10 * MILLISECOND,
     .maximum = 7 * DAY,
     .zero = "no notice",
     .default_text = "60s",
     .example = "60s",
     .reloadable = true,
     .help = "The silence of the side that owes the next word after which a stall line is logged."},
    ACTION(SETTINGS_SECTION_TIMEOUTS, "action", IN_TIMEOUTS(action, sizeof(int)),
           "What happens when a phase or idle timeout passes: report says what would have been done, enforce "
           "closes "
           "the session."),
    ACTION(SETTINGS_SECTION_TIMEOUTS, "session-action", IN_TIMEOUTS(session_action, sizeof(int)),
           "The same for the session limit. A session is only closed at a moment that cannot damage a mail."),

    /* [limits] */
    {.section = SETTINGS_SECTION_LIMITS,
     .key = "profile",
     .type = SETTINGS_TYPE_PROFILE,
     .unit = "",
     .base = SETTINGS_BASE_NONE,
     .default_text = "none",
     .example = "exchange",
     .reloadable = true,
     .help =
         "Fill in the limits and timeouts of a known kind of server, so that the log shows what that server "
         "would "
         "have done. Keys written out in the file win over the profile. In a [source NAME] or [server NAME] "
         "section it wins over [timeouts] and [limits] for those hosts, and none changes nothing."},
    {.section = SETTINGS_SECTION_LIMITS,
     .key = "per-source",
     .type = SETTINGS_TYPE_COUNT,
     .unit = "sessions",
     IN_LIMITS(per_source_count, sizeof(uint32_t)),
     .minimum = 1,
     .maximum = COUNT_MAX,
     .zero = "no limit",
     .default_text = "0",
     .example = "20",
     .reloadable = true,
     .help = "How many sessions one source may have open to one server at once."},
    {.section = SETTINGS_SECTION_LIMITS,
     .key = "total",
     .type = SETTINGS_TYPE_COUNT,
     .unit = "sessions",
     IN_LIMITS(total_count, sizeof(uint32_t)),
     .minimum = 1,
     .maximum = COUNT_MAX,
     .zero = "no limit",
     .default_text = "0",
     .example = "5000",
     .reloadable = true,
     .help = "How many sessions may be open at once in all."},
    {.section = SETTINGS_SECTION_LIMITS,
     .key = "percent-of-remaining",
     .type = SETTINGS_TYPE_COUNT,
     .unit = "percent",
     IN_LIMITS(percent_of_remaining, sizeof(uint32_t)),
     .minimum = 1,
     .maximum = 100,
     .zero = "no limit",
     .default_text = "0",
     .example = "2",
     .reloadable = true,
     .help = "One source may hold at most this part of the sessions that total leaves free, as in Exchange. "
             "It needs "
             "a total."},
    {.section = SETTINGS_SECTION_LIMITS,
     .key = "rate",
     .type = SETTINGS_TYPE_RATE,
     .unit = "sessions/duration",
     IN_LIMITS(rate_count, sizeof(uint32_t)),
     .second_offset = offsetof(struct policy_limits, rate_window_us),
     .minimum = 1,
     .maximum = COUNT_MAX,
     .zero = "no limit",
     .default_text = "0",
     .example = "30/1min",
     .reloadable = true,
     .help = "How many new sessions one source may open within a time."},
    {.section = SETTINGS_SECTION_LIMITS,
     .key = "over-limit",
     CHOICES(over_limits),
     IN_LIMITS(over_limit, sizeof(int)),
     .default_text = "refuse",
     .example = "refuse",
     .reloadable = true,
     .help =
         "What enforcement does with a connection over a limit of concurrent sessions: refuse it, or hold it "
         "until a slot is free."},
    {.section = SETTINGS_SECTION_LIMITS,
     .key = "hold-longest",
     DURATION,
     IN_LIMITS(hold_longest_us, sizeof(uint64_t)),
     .minimum = 10 * MILLISECOND,
     .maximum = 29 * SECOND,
     .default_text = "25s",
     .example = "25s",
     .reloadable = true,
     .help = "A held connection is refused after this time. It stays below 30 s because Postfix gives up a "
             "connection "
             "attempt after 30 s: a client held longer would leave by itself and blame the network."},
    {.section = SETTINGS_SECTION_LIMITS,
     .key = "refuse-with",
     CHOICES(refusals),
     IN_LIMITS(refuse_with, sizeof(int)),
     .default_text = "auto",
     .example = "auto",
     .reloadable = true,
     .help = "How a connection is refused: with a 421 reply, which the sender logs and retries, or with a "
             "TCP reset. auto is 421 as a proxy and reset as a packet hook, where a reset answers the first "
             "packet and the server never hears of the connection. With 421 the packet hook lets the server "
             "answer the first packet, then speaks in its place and resets the server's side."},
    ACTION(SETTINGS_SECTION_LIMITS, "per-source-action", IN_LIMITS(per_source_action, sizeof(int)),
           "What happens over the limit per-source: report says what would have been done, enforce does it."),
    ACTION(SETTINGS_SECTION_LIMITS, "total-action", IN_LIMITS(total_action, sizeof(int)),
           "The same for the limit total."),
    ACTION(SETTINGS_SECTION_LIMITS, "percent-action", IN_LIMITS(percent_action, sizeof(int)),
           "The same for the limit percent-of-remaining."),
    ACTION(SETTINGS_SECTION_LIMITS, "rate-action", IN_LIMITS(rate_action, sizeof(int)),
           "The same for the limit rate. Over a rate a connection is refused, never held."),
    {.section = SETTINGS_SECTION_LIMITS,
     .key = "max-sources",
     .type = SETTINGS_TYPE_COUNT,
     .unit = "sources",
     IN_SETTINGS(max_sources, sizeof(uint32_t)),
     .minimum = 1,
     .maximum = 16777216,
     .default_text = "65536",
     .example = "65536",
     .reloadable = false,
     .help = "How many sources are counted at once. The memory for them is taken at the start."},
    {.section = SETTINGS_SECTION_LIMITS,
     .key = "ipv6-prefix",
     .type = SETTINGS_TYPE_OCTET,
     .unit = "bits",
     IN_SETTINGS(policy.ipv6_source_prefix, sizeof(uint8_t)),
     .minimum = 1,
     .maximum = 128,
     .default_text = "64",
     .example = "64",
     .reloadable = false,
     .help = "IPv6 clients that agree in this many leading bits count as one source."},

    /* [source NAME] */
    {.section = SETTINGS_SECTION_SOURCE,
     .key = "networks",
     .type = SETTINGS_TYPE_NETWORKS,
     .unit = "networks",
     IN_OVERRIDE(networks, sizeof(struct network *)),
     .second_offset = offsetof(struct policy_override, network_count),
     .default_text = NULL,
     .example = "192.0.2.0/24, 2001:db8::/32",
     .reloadable = true,
     .help = "The client networks this section is for, separated by commas or spaces."},
    {.section = SETTINGS_SECTION_SOURCE,
     .key = "count-as-one",
     BOOLEAN,
     IN_OVERRIDE(count_as_one, sizeof(bool)),
     .default_text = "no",
     .example = "no",
     .reloadable = true,
     .help = "Count all addresses of this section as one source, such as the hosts of one mail cluster."},

    /* [server NAME] */
    {.section = SETTINGS_SECTION_SERVER,
     .key = "networks",
     .type = SETTINGS_TYPE_NETWORKS,
     .unit = "networks",
     IN_OVERRIDE(networks, sizeof(struct network *)),
     .second_offset = offsetof(struct policy_override, network_count),
     .default_text = NULL,
     .example = "192.0.2.25",
     .reloadable = true,
     .help = "The server addresses this section is for, separated by commas or spaces."},
};

#define ROW_COUNT (sizeof settings_rows / sizeof settings_rows[0])
_Static_assert(ROW_COUNT <= SETTINGS_MAX_ROWS, "the index of lines has a slot per row");
const size_t settings_row_count = ROW_COUNT;

const struct settings_section_row settings_sections[] = {
    [SETTINGS_SECTION_NONE] = {SETTINGS_SECTION_NONE, "", false, ""},
    [SETTINGS_SECTION_SMTP] = {SETTINGS_SECTION_SMTP, "smtp", false,
                               "The protocol: where it is spoken, and our name."},
    [SETTINGS_SECTION_PROXY] = {SETTINGS_SECTION_PROXY, "proxy", false, "The transparent relay."},
    [SETTINGS_SECTION_NFQ] = {SETTINGS_SECTION_NFQ, "nfq", false, "The packet hook."},
    [SETTINGS_SECTION_LOG] = {SETTINGS_SECTION_LOG, "log", false, "Where verdicts go, and which."},
    [SETTINGS_SECTION_PROCESS] = {SETTINGS_SECTION_PROCESS, "process", false, "The running process."},
    [SETTINGS_SECTION_TIMEOUTS] =
        {SETTINGS_SECTION_TIMEOUTS, "timeouts", false,
         "How long the side that owes the next word may stay silent. The defaults are those "
         "of RFC 5321, section 4.5.3.2. Nothing is closed unless the action is enforce."},
    [SETTINGS_SECTION_LIMITS] =
        {SETTINGS_SECTION_LIMITS, "limits", false,
         "How many sessions a source may have. A source is one IPv4 address, one IPv6 "
         "network, or a [source NAME] section that counts as one. Nothing is refused unless "
         "the action of that limit is enforce."},
    [SETTINGS_SECTION_SOURCE] =
        {SETTINGS_SECTION_SOURCE, "source", true,
         "Other values for some clients. Besides the keys here, every key of [timeouts] and "
         "[limits] may stand in it, except max-sources and ipv6-prefix; what is left out is "
         "taken from there. If several such sections contain a client, the first one in the "
         "file applies; a source section wins over a server section."},
    [SETTINGS_SECTION_SERVER] = {SETTINGS_SECTION_SERVER, "server", true,
                                 "Other values for some servers, in the same way."},
};
_Static_assert(sizeof settings_sections / sizeof settings_sections[0] == SETTINGS_SECTION_COUNT,
               "a row per section");

bool settings_row_fits(const struct settings_row *row, enum settings_section section)
{
    if (row->section == section) {
        return true;
    }
    bool named = section == SETTINGS_SECTION_SOURCE || section == SETTINGS_SECTION_SERVER;
    return named && (row->base == SETTINGS_BASE_TIMEOUTS || row->base == SETTINGS_BASE_LIMITS ||
                     row->type == SETTINGS_TYPE_PROFILE);
}

const struct settings_row *settings_row_find(enum settings_section section, const char *key, size_t length)
{
    for (size_t i = 0; i < ROW_COUNT; i++) {
        const struct settings_row *row = &settings_rows[i];
        if (settings_row_fits(row, section) && strlen(row->key) == length &&
            memcmp(row->key, key, length) == 0) {
            return row;
        }
    }
    return NULL;
}

const char *settings_table_fault(void)
{
    for (size_t i = 0; i < ROW_COUNT; i++) {
        const struct settings_row *row = &settings_rows[i];
        if (row->section == SETTINGS_SECTION_NONE || row->section >= SETTINGS_SECTION_COUNT) {
            return "a row without a section";
        }
        if (row->type == SETTINGS_TYPE_NONE || row->type >= SETTINGS_TYPE_END) {
            return "a row without a type";
        }
        if (row->key == NULL || row->example == NULL || row->example[0] == '\0' || row->unit == NULL) {
            return "a row without a key, an example or a unit";
        }
        if (row->help == NULL || row->help[0] == '\0' || strchr(row->help, '\n') != NULL ||
            row->help[strlen(row->help) - 1] != '.') {
            return "a row whose help is no sentence";
        }
        if (row->minimum > row->maximum) {
            return "a row with an empty range";
        }
        if ((row->type == SETTINGS_TYPE_CHOICE) != (row->choices != NULL)) {
            return "choices where there should be none, or none where there should be";
        }
        if ((row->base == SETTINGS_BASE_NONE) != (row->type == SETTINGS_TYPE_PROFILE)) {
            return "a row without a field";
        }
        if (!row->reloadable && row->base != SETTINGS_BASE_SETTINGS) {
            return "a row that needs a restart but may differ by section";
        }
        for (size_t other = 0; other < i; other++) {
            for (enum settings_section section = 1; section < SETTINGS_SECTION_COUNT; section++) {
                if (strcmp(settings_rows[other].key, row->key) == 0 && settings_row_fits(row, section) &&
                    settings_row_fits(&settings_rows[other], section)) {
                    return "two rows with one name in one section";
                }
            }
        }
    }
    for (size_t i = 1; i < SETTINGS_SECTION_COUNT; i++) {
        if (settings_sections[i].section != (enum settings_section)i) {
            return "a section row in the wrong place";
        }
    }
    return NULL;
}
