/* causes - the text of every cause: the one source of `smtpwitness explain` and of smtpwitness-verdicts(7).
 * Backquotes mark what is typed, configured or seen literally. Plain ASCII, no backslash, no line break. */
#include "core/fault/causes.h"

#include <stddef.h>
#include <string.h>

static const struct cause_text texts[] = {
    [CAUSE_CLEAN] =
        {
            .fault = FAULT_NONE,
            .summary = "nothing went wrong",
            .seen = "Every command was answered, every mail that was begun was finished, and nobody waited "
                    "past what RFC 5321 grants.",
            .proves = "That this session worked. Remarks such as a slow greeting or loss that stopped "
                      "nothing are in `notes`; they accuse nobody. A reset from the client after it sent "
                      "QUIT is normal too: many clients do not wait for the 221, and their kernel answers "
                      "it with a reset. Reading that reset as a network fault is wrong.",
            .manual = "RFC 5321 section 4.5.3.2 (who may wait how long)",
        },
    [CAUSE_PROBE_ONLY] =
        {
            .fault = FAULT_NONE,
            .summary = "the client connected and left without a word, as a health check does",
            .seen = "The connection was opened and closed at once; the client sent no octet.",
            .proves = "That the port answers, and no more. Monitoring systems, load balancers and port "
                      "scanners behave like this. It is not an aborted delivery.",
            .server_step = "If such lines flood your log and the address is your own monitoring, let it "
                           "send QUIT, or filter `cause=probe-only`.",
            .manual = "RFC 9293 section 3.6 (closing a connection is always allowed)",
        },
    [CAUSE_IDLE_REAPED] =
        {
            .fault = FAULT_NONE,
            .summary = "an idle session between two mails was closed by the server",
            .seen = "No mail was open and no reply was due. The client kept the connection for later use, "
                    "and the server closed it, with or without a 421.",
            .proves = "That nothing was lost: the client opens a new connection for its next mail. The "
                      "words `timeout exceeded` in the reply look like a failure and are not one here.",
            .client_step = "Nothing must be done. To avoid the lines, let the client close cached "
                           "connections before the server's limit, which is in `waited-ms`.",
            .manual = "RFC 5321 section 4.5.3.2.7 (a server should wait at least 5 minutes for a command)",
        },
    [CAUSE_EARLY_TALK] =
        {
            .fault = FAULT_CLIENT,
            .summary = "the client spoke before the server's greeting, and the server refused that",
            .seen = "Octets from the client arrived before the 220, and the server answered with a "
                    "protocol or synchronization error.",
            .proves = "That the client did not wait for its turn. Servers take this as the mark of spam "
                      "software. It is not an error of the server. A client that had been offered early "
                      "pipelining on a former connection is allowed to do this and is not blamed.",
            .client_step = "Find out which software opened the connection: a mail server waits for the 220. "
                           "If a load balancer in front of it sends a PROXY protocol line, the receiving "
                           "server must be told to expect it.",
            .server_step = "Postfix: look for `PREGREET` in the log of postscreen. Exim: the check is "
                           "`smtp_enforce_sync`. If your own load balancer sends PROXY lines, set "
                           "`smtpd_upstream_proxy_protocol = haproxy` (Postfix) or `hosts_proxy` (Exim).",
            .manual = "RFC 5321 section 3.1 (the client waits for the greeting)",
        },
    [CAUSE_GAVE_UP_EARLY] =
        {
            .fault = FAULT_CLIENT,
            .summary = "the client left while the server still had time to answer",
            .seen = "A reply was due from the server. Before the minimum of RFC 5321 was over, the client "
                    "closed the connection.",
            .proves = "That the client's timeout is shorter than the standard asks; it made the end. The "
                      "server was slow, but lawful, so it stays in `also`. Reading this as "
                      "`the server timed out` is wrong. After the final dot, `duplicate=yes` means that the "
                      "server accepted the mail although the client will send it again.",
            .client_step =
                "Raise the client's timeout to the RFC's: 5 minutes for the greeting, EHLO, MAIL "
                "and RCPT, 2 for DATA, 3 for a block of the body, 10 after the final dot. Postfix: "
                "`postconf -n | grep _timeout` must not show smaller values of `smtp_helo_timeout`, "
                "`smtp_mail_timeout`, `smtp_rcpt_timeout`, `smtp_data_init_timeout`, "
                "`smtp_data_xfer_timeout` or `smtp_data_done_timeout`. Exim: `command_timeout`, "
                "`data_timeout` and `final_timeout` of the smtp transport.",
            .server_step =
                "See why the reply takes so long: DNS lookups of the client's address, block lists, "
                "content scanning. `waited-ms` says how long the client waited in vain.",
            .manual = "RFC 5321 section 4.5.3.2 (minimum timeouts of a client)",
        },
    [CAUSE_COMMAND_STALL] =
        {
            .fault = FAULT_CLIENT,
            .summary = "the client had its reply and did not send its next command",
            .seen = "The server's last reply was complete and the client's host acknowledged it. A mail or a "
                    "login was open. Then the client was silent until somebody gave up.",
            .proves =
                "That the client's application stopped. Certain when the client's host answered a probe "
                "and its sequence number showed that it had sent nothing we missed. Without the probe "
                "its network stays possible and is named in `also`. The server's closing 421 is the "
                "consequence, not the cause: `the server hung up on us` is the wrong reading.",
            .client_step = "Look in the client's log for the session at `start`: a hung delivery process, a "
                           "content filter or a DNS lookup in the middle of the dialogue. On Linux "
                           "`ss -tnpo dst SERVER` shows the process, `strace -p PID` what it waits for.",
            .server_step =
                "Nothing, unless `notes` has server-limit-below-rfc: then raise your command timeout "
                "to 5 minutes (Postfix `smtpd_timeout`, Exim `smtp_receive_timeout`, Exchange "
                "`ConnectionInactivityTimeout`).",
            .manual = "RFC 5321 section 4.5.3.2.7; RFC 9293 section 3.8.4 (what answers a keepalive)",
        },
    [CAUSE_UNTERMINATED_COMMAND] =
        {
            .fault = FAULT_CLIENT,
            .summary = "the client sent part of a command line and never its end",
            .seen = "Octets of a command arrived without CRLF, with no gap in the sequence numbers. Then "
                    "silence. The server must wait for the rest of the line.",
            .proves =
                "That the server owed nothing: it had no command to answer. `The server does not reply` "
                "is the wrong reading. If a sequence number shows that the client did send the rest, "
                "the verdict is octets-lost instead.",
            .client_step =
                "Look for a client or script that ends lines with nothing or with a bare CR, or that "
                "died while writing.",
            .manual = "RFC 5321 section 2.3.8 (a line ends with CRLF) and section 4.1.1",
        },
    [CAUSE_DATA_START_STALL] =
        {
            .fault = FAULT_CLIENT,
            .summary = "the server said 354, and the client sent no octet of the mail",
            .seen =
                "DATA, then 354, and the client's host acknowledged it. No octet of the body followed until "
                "the server closed or the client left.",
            .proves =
                "That the client's application had its turn and did not use it; certain when its host "
                "answered a probe and no lost octets came to light. The server's log says `timeout after "
                "DATA (0 bytes)`, which reads like a fault of the server or of the network and is "
                "neither. A path MTU black hole towards us looks the same from outside, because a body "
                "starts with full-size packets: when the tap saw the client's sequence number run ahead, "
                "the verdict is path-mtu-black-hole.",
            .client_step =
                "Ask what the client does between 354 and the first line: gateways fetch, decrypt, "
                "scan or sign the mail at that moment. Let them finish before DATA, or shorten the "
                "scan. If `confidence` is below certain, send a small and a large mail by hand; if "
                "only the large one hangs, test the path with `ping -M do -s 1472 SERVER`.",
            .server_step =
                "With notes=server-limit-below-rfc, raise the limit: Postfix `smtpd_timeout = 300s`. "
                "Note that Postfix itself falls to 10 s under stress: "
                "`postconf smtpd_timeout` shows the expression.",
            .manual = "RFC 5321 section 4.1.1.4 (after 354 the client sends); section 4.5.3.2.7",
        },
    [CAUSE_BODY_STALL] =
        {
            .fault = FAULT_CLIENT,
            .summary = "the client stopped in the middle of a mail",
            .seen =
                "Part of the body arrived without gaps and was acknowledged; its end never came. The same "
                "for a BDAT chunk with fewer octets than announced.",
            .proves = "That the client's application stopped sending, when its host answers probes and shows "
                      "nothing more sent. The server's `timeout after DATA (N bytes)` is true, yet not the "
                      "server's doing.",
            .client_step =
                "Look for the process that feeds the mail: a full disk, a hung filter, a file on a "
                "dead network mount. Compare the size of the mail with `bytes-client`.",
            .server_step = "Nothing, unless notes=server-limit-below-rfc.",
            .manual = "RFC 5321 sections 4.5.3.2.5 and 4.5.3.2.7; RFC 3030 section 2 (BDAT counts octets)",
        },
    [CAUSE_SLOW_SENDER] =
        {
            .fault = FAULT_CLIENT,
            .summary = "the client sent the mail so slowly that a limit ended the session",
            .seen = "The body came in small pieces. The round trip was short, nothing was lost, and "
                    "the server's window was open: nothing held the client back (`bottleneck=client`).",
            .proves = "That the pace was the client application's own choice, likely. A slow line would show "
                      "as a grown round trip or losses. Where the legs told nothing, `also` names them.",
            .client_step = "Look for rate shaping, an overloaded filter or an application that flushes after "
                           "every line.",
            .server_step =
                "A limit on the whole session punishes slow senders: Exchange `ConnectionTimeout`, "
                "Postfix `smtpd_per_request_deadline` with `smtpd_min_data_rate`.",
            .manual = "RFC 5321 section 4.5.3.2.5 (3 minutes for each block, none for the whole mail)",
        },
    [CAUSE_UNTERMINATED_BODY] =
        {
            .fault = FAULT_CLIENT,
            .summary = "the client thinks the mail is finished, but its end mark was never sent properly",
            .seen = "The last octets of the body arrived and were acknowledged, but they are not "
                    "CRLF, dot, CRLF. Often they are LF, dot, LF, or the text before the dot lacks its CRLF.",
            .proves = "That both sides wait for each other: the client for a 250, the server for the rest. "
                      "`The server does not confirm the mail` is the wrong reading.",
            .client_step = "Make the client end lines with CRLF and the mail with CRLF, dot, CRLF. Scripts "
                           "that write plain LF are the usual culprits.",
            .server_step = "Do not accept LF, dot, LF as a workaround: it allows smuggling of forged mails.",
            .manual = "RFC 5321 sections 2.3.8 and 4.1.1.4 (the end of mail data is CRLF, dot, CRLF)",
        },
    [CAUSE_BODY_WITHOUT_354] =
        {
            .fault = FAULT_CLIENT,
            .summary = "the client sent the mail although the server had refused DATA",
            .seen = "The reply to DATA was a 4xx or 5xx, and lines of a mail followed. The server took each "
                    "for a command and refused it.",
            .proves =
                "That the client does not look at the reply to DATA. The row of 5xx replies that follows "
                "is a consequence; `the server rejects everything` is the wrong reading.",
            .client_step =
                "Repair or replace the sending software. The first refusal, in `reply`, says why the "
                "mail was not wanted.",
            .manual = "RFC 5321 section 4.1.1.4 (only 354 permits the mail data)",
        },
    [CAUSE_TLS_HANDSHAKE_STALL] =
        {
            .fault = FAULT_COUNT,
            .summary = "the TLS handshake stopped because one side did not send its part",
            .seen = "After the 220 to STARTTLS (or from the start, on a TLS port) one side owed a handshake "
                    "message. Its host had acknowledged everything, and nothing came.",
            .proves =
                "That the side in `fault` stopped. A modern ClientHello with post-quantum keys needs two "
                "packets, so a path MTU problem or a box that handles only one can look the same: "
                "without a probe the network is in `also`.",
            .client_step =
                "Try it by hand: `openssl s_client -starttls smtp -connect SERVER:25`. If that works "
                "and the mail server does not, compare the size of the ClientHello.",
            .server_step = "Look in the log for the moment of `start`: lack of entropy, an unreachable "
                           "certificate store or OCSP responder, a scanning box that terminates TLS.",
            .network_step = "Test the path with full-size packets: `ping -M do -s 1472 HOST`.",
            .manual = "RFC 3207 section 4 (STARTTLS); RFC 8446 section 4.1",
        },
    [CAUSE_ABORTED] =
        {
            .fault = FAULT_COUNT,
            .summary = "one side broke the connection off in the middle of its work",
            .seen =
                "A reset or an end of stream came from the side in `fault` while a mail was open, without "
                "a reply that explains it.",
            .proves = "That this side's host ended the connection, where the TTL of the packet was seen and "
                      "fits its other packets. Without that, a box on the way could have forged it and is in "
                      "`also`. A killed or crashed process looks like this.",
            .client_step = "If fault=client: look for a crash, a restart or an out-of-memory kill at that "
                           "second (`journalctl -k | grep -i oom`).",
            .server_step =
                "If fault=server: the same on the server. Postfix logs `lost connection after DATA` "
                "when the client aborted, and `killed by signal` when its own part died.",
            .manual = "RFC 9293 section 3.5.2 (resets); RFC 5321 section 4.1.1.10 (sessions end with QUIT)",
        },
    [CAUSE_PORT_CLOSED] =
        {
            .fault = FAULT_SERVER,
            .summary = "the server's host is up, but nothing listens on the port",
            .seen = "The connection attempt was answered at once with a reset that fits the server's own "
                    "packets, or no better knowledge exists.",
            .proves =
                "That the host refused the port. Certain only where the reset's TTL could be compared; a "
                "firewall that rejects with a reset looks alike otherwise, and is then in `also`. It is "
                "not a timeout and not a network outage.",
            .server_step =
                "Is the mail server running and listening on this address? `ss -ltnp 'sport = :25'`. "
                "Listening on 127.0.0.1 only is a frequent mistake (Postfix: `inet_interfaces`).",
            .network_step = "If the server does listen, look for a rule with `--reject-with tcp-reset`.",
            .manual = "RFC 9293 section 3.5.2 (a closed port answers a SYN with RST)",
        },
    [CAUSE_BACKLOG_FULL] =
        {
            .fault = FAULT_SERVER,
            .summary = "the server's queue of new connections is full",
            .seen = "The server's host answered the SYN and kept repeating its answer although the handshake "
                    "was completed. It never spoke.",
            .proves = "That its kernel cannot hand the connection to the application: too few or hung "
                      "processes accept. Certain when the SYN-ACK was seen repeated, twice at the least, "
                      "behind the "
                      "client's acknowledgements, likely without. It looks "
                      "like loss in the network, and is not.",
            .server_step = "`nstat -az TcpExtListenOverflows TcpExtListenDrops` grows, and "
                           "`ss -ltn 'sport = :25'` shows Recv-Q at Send-Q. Postfix: raise "
                           "`default_process_limit` or the smtpd limit in master.cf. The queue's own length "
                           "is `net.core.somaxconn`.",
            .manual = "listen(2) and tcp(7) of Linux (tcp_abort_on_overflow)",
        },
    [CAUSE_GREETING_STALL] =
        {
            .fault = FAULT_SERVER,
            .summary = "the server accepted the connection and did not greet",
            .seen = "The TCP connection stood, everything was acknowledged, and no 220 came before somebody "
                    "gave up.",
            .proves = "That the server's application was silent: certain when its host answered a probe and "
                      "5 minutes were over, likely before. `A firewall blocks port 25` is the wrong reading: "
                      "then there would be no connection.",
            .client_step = "Nothing to repair. A short pause before the greeting is common; be sure to wait "
                           "5 minutes (Postfix `smtp_helo_timeout`, Exim `command_timeout`).",
            .server_step = "Usual reasons: all smtpd processes busy (Postfix logs `warning: service smtp has "
                           "reached its process limit`), slow reverse DNS of the client (`dig -x CLIENT` on "
                           "the server), an ident lookup that a firewall swallows (sendmail "
                           "`confTO_IDENT`, Exim `rfc1413_query_timeout`), a deliberate greet pause.",
            .manual = "RFC 5321 section 4.5.3.2.1 (5 minutes for the greeting)",
        },
    [CAUSE_REPLY_STALL] =
        {
            .fault = FAULT_SERVER,
            .summary = "the server had a command and did not answer it",
            .seen = "The command reached the server's host, which acknowledged it; the reply never came.",
            .proves =
                "That the server's application stopped, when its host answered a probe and its sequence "
                "number shows that nothing it said was lost. Without the tap a lost reply is possible "
                "and server-network is in `also`.",
            .client_step = "Nothing, unless your client gave up before RFC 5321's minimum.",
            .server_step =
                "`phase` names the command: rcpt points to address lookups and policy services, auth "
                "to the password backend, mail to DNS of the sender's domain. Postfix: the last log "
                "line of that smtpd process, then `strace -p PID`. A milter may hold it for "
                "`milter_command_timeout`.",
            .manual = "RFC 5321 section 4.5.3.2 (5 minutes for MAIL and RCPT, 2 for DATA)",
        },
    [CAUSE_INCOMPLETE_REPLY] =
        {
            .fault = FAULT_SERVER,
            .summary = "the server began a reply of several lines and did not finish it",
            .seen =
                "Lines such as `250-SIZE` came, with the hyphen that promises more, and the last line did "
                "not; or fewer replies after the dot than LMTP recipients.",
            .proves = "That the client rightly waits. `The client does not go on` is the wrong reading. Lost "
                      "octets are excluded where the sequence numbers have no gap.",
            .server_step =
                "Look for a hand-made greeting or EHLO text, or for a box in front of the server that "
                "filters lines of the reply.",
            .manual = "RFC 5321 section 4.2.1 (multiline replies); RFC 2033 section 4.2 (LMTP)",
        },
    [CAUSE_UNTERMINATED_REPLY] =
        {
            .fault = FAULT_SERVER,
            .summary = "the server's reply lacks its line end",
            .seen = "The text of a reply arrived without CRLF and was acknowledged. Then both sides waited.",
            .proves =
                "That the reply is not finished, so the client must wait. `The server had answered and the "
                "client hung` is the wrong reading; a trace looks that way at first sight.",
            .server_step =
                "Look for hand-made reply texts and for a box that rewrites replies. An old Exchange version "
                "had this defect in its 250: update it.",
            .manual = "RFC 5321 section 2.3.8; Microsoft KB 303118",
        },
    [CAUSE_NOT_READING] =
        {
            .fault = FAULT_SERVER,
            .summary = "the server stopped reading: its receive window stayed closed",
            .seen = "The server's host advertised a window of zero and answered every window probe, but its "
                    "application took nothing out of the buffer.",
            .proves =
                "That the host is alive, the network carries packets, and the application does not read. "
                "This is certain for a window that stayed closed, likely for one that was closed half of the "
                "time while the mail crept. It looks like a slow line or a slow client from far away.",
            .server_step =
                "On the server `ss -tnp 'sport = :25'` shows a full Recv-Q and the process: see what "
                "it waits for (`strace -p PID`), typically a full disk, a hung content filter or a "
                "milter.",
            .manual = "RFC 9293 section 3.8.6.1 (zero-window probing)",
        },
    [CAUSE_END_OF_DATA_STALL] =
        {
            .fault = FAULT_SERVER,
            .summary = "the server had the whole mail and did not say whether it took it",
            .seen =
                "The final dot (or the last BDAT chunk) was delivered and acknowledged. No reply came, or "
                "came after the client had left.",
            .proves = "That the server took too long: certain from 10 minutes on and with an answered probe, "
                      "likely before. Watch `duplicate`: with yes the mail was accepted and will come again.",
            .client_step =
                "Keep the 10 minutes (Postfix `smtp_data_done_timeout = 600s`, Exim `final_timeout`); "
                "shorter ones make duplicates.",
            .server_step =
                "Scan after accepting, or faster: content filters run between the dot and the 250. "
                "Postfix: `milter_content_timeout`, `smtpd_proxy_timeout`. Exchange delays the 250 "
                "by `MaxAcknowledgementDelay` (30 s), which is harmless.",
            .manual = "RFC 5321 sections 4.5.3.2.6 and 6.1; RFC 1047 (duplicates)",
        },
    [CAUSE_OVERLOAD] =
        {
            .fault = FAULT_SERVER,
            .summary = "the server said that it is too busy, for everybody",
            .seen = "A reply such as `421 4.3.2 All server ports are busy`, `Too much load`, or `452 4.3.1`: "
                    "a lack "
                    "of space, whatever it answers (MAIL, DATA, BDAT or the message).",
            .proves =
                "What the server said of itself. It is not a limit on this client: a per-source limit has "
                "other words. Where the words do not tell, policy is in `also`. A 452 for want of space is a "
                "`size-limit` instead, with server in `also`, where the mail is larger than the SIZE that "
                "the "
                "server offers in its EHLO reply.",
            .client_step =
                "Nothing: the mail is retried. A backup server of lower preference helps the domain.",
            .server_step =
                "Postfix: `postscreen_pre_queue_limit`, `default_process_limit`, free space against "
                "`queue_minfree`. Exim: `smtp_accept_max`, `smtp_load_reserve`, `check_spool_space`.",
            .manual = "RFC 5321 section 4.2.2 (421, 452); RFC 3463 (4.3.1, 4.3.2)",
        },
    [CAUSE_SHUTDOWN] =
        {
            .fault = FAULT_SERVER,
            .summary = "the mail service was stopped or restarted during the session",
            .seen = "A 421 that announces the shutdown of the service, then the end of the connection.",
            .proves =
                "What the server said. It is no limit and no network fault. The bare words of RFC 5321, "
                "`Service not available`, are said for any reason: after seconds of the client's "
                "silence they count as the end of the server's patience, with the server in `also`.",
            .client_step = "Nothing: the mail is retried.",
            .server_step = "Compare with restarts, updates and failovers of that minute. Reload instead of "
                           "restart where that is enough (`postfix reload`).",
            .manual = "RFC 5321 section 3.8 (421 before closing)",
        },
    [CAUSE_EARLY_CLOSE] =
        {
            .fault = FAULT_SERVER,
            .summary = "the server hung up on the client's turn, too soon and without a word",
            .seen = "It was the client's turn. Before 5 minutes were over, the server closed the connection "
                    "without a reply.",
            .proves =
                "That the server's limit is below RFC 5321's; the client was slow, but lawful, and is in "
                "`also`. 10 s fit a Postfix under stress; then the real trouble is that all its "
                "processes are busy. Where its end crossed a command on its way, this is only possible: how "
                "long the turn had lasted by then is not told.",
            .client_step = "See why the client paused: `waited-ms` says for how long.",
            .server_step = "Raise the idle limit to 5 minutes: Postfix `smtpd_timeout`, Exchange "
                           "`ConnectionInactivityTimeout`. If it is Postfix under stress, add processes or "
                           "put postscreen in front.",
            .network_step = "If neither side has such a limit, a box between them closes idle connections; "
                            "compare `waited-ms` of several verdicts: a constant value is a timer.",
            .manual = "RFC 5321 sections 4.5.3.2.7 and 3.8",
        },
    [CAUSE_SILENT_CLOSE] =
        {
            .fault = FAULT_SERVER,
            .summary = "the server closed the connection without giving a reason",
            .seen =
                "The server's host ended the connection without a readable reply: before any greeting, or "
                "after an encrypted last word inside TLS.",
            .proves =
                "That the end came from the server's side. Whether it was a fault or a deliberate refusal "
                "cannot be seen, so policy is in `also`. TCP wrappers, a crash at start and an encrypted "
                "421 all look like this. It is not a network fault. Inside TLS this is never more than "
                "possible: "
                "a client's QUIT and its 221 are told from a refusal by their sizes alone.",
            .client_step =
                "Send the server's administrator the time and both addresses. Inside TLS your own log "
                "has the reply that we cannot read.",
            .server_step =
                "Search the log for the client's address. Check `/etc/hosts.deny`, a filter in front "
                "of the mail server, and crashes (`journalctl -u postfix`).",
            .manual = "RFC 5321 section 3.8 (a server should say 421 before it closes)",
        },
    [CAUSE_TLS_ALERT] =
        {
            .fault = FAULT_COUNT,
            .summary = "one side refused the TLS handshake with an alert",
            .seen = "An alert record in clear during the handshake: who sent it, and its number.",
            .proves =
                "Who complained, which is not who is wrong. Alerts 42 to 46 and 48 from the client mean "
                "that it does not trust the server's certificate: the certificate or the client's trust "
                "store may be at fault. 40 and 70 mean that the two sides have no version or cipher in "
                "common. The network is innocent. The other side is always in `also`.",
            .client_step = "`openssl s_client -starttls smtp -connect SERVER:25 -servername NAME` shows the "
                           "certificate. Check the trust store, the clock and, in Postfix, "
                           "`smtp_tls_security_level` and `smtp_tls_mandatory_protocols`.",
            .server_step = "Check the expiry, the names and the complete chain of the certificate, then the "
                           "lowest protocol version you allow (`smtpd_tls_mandatory_protocols`).",
            .manual = "RFC 8446 section 6.2 (the numbers of alerts); RFC 3207",
        },
    [CAUSE_CONNECT_UNANSWERED] =
        {
            .fault = FAULT_SERVER_NETWORK,
            .summary = "the server's address did not answer at all",
            .seen = "Connection attempts (SYN) were repeated; neither an answer nor an ICMP error came.",
            .proves = "That the packets or their answers vanish behind us. A dead host, a dead path and a "
                      "firewall that drops look exactly alike, therefore fault=server-network with server in "
                      "`also`; as long as no other source was seen to fail too, a filter against this one "
                      "cannot be excluded either (policy in `also`). `The server did not greet` is wrong: "
                      "there was no connection to greet on. (A "
                      "proxy may have made the client believe there was.)",
            .client_step = "Try another path: does the server answer from another network?",
            .server_step = "Is the host up? Does the SYN arrive there: `tcpdump -ni any tcp port 25 and host "
                           "CLIENT`? If it arrives and no answer leaves, look at the host's own filter and "
                           "its route back.",
            .network_step =
                "From this router: `traceroute -T -p 25 SERVER` and `ip neigh` show where it ends.",
            .manual = "RFC 9293 section 3.8.3; tcp_syn_retries in tcp(7)",
        },
    [CAUSE_UNREACHABLE] =
        {
            .fault = FAULT_SERVER_NETWORK,
            .summary = "a router said that there is no way to the host",
            .seen = "ICMP destination unreachable: no route to the network or the host, or its link-layer "
                    "address does not resolve. `where` names the leg.",
            .proves = "That routing ends there, or that the host does not answer on its last link (then the "
                      "message comes about 3 s late). It is no refusal by the mail server.",
            .server_step = "Is the host up and its cable plugged in?",
            .network_step =
                "`ip route get SERVER`, `ip neigh show`, then the same on the router that sent the "
                "message.",
            .manual = "RFC 792; RFC 1812 section 5.2.7.1; RFC 4443 section 3.1",
        },
    [CAUSE_LEG_UNANSWERED] =
        {
            .fault = FAULT_SERVER_NETWORK,
            .summary = "on one leg nothing is acknowledged any more: the path or the host died",
            .seen =
                "Octets sent towards one side stay unacknowledged, are repeated at growing intervals, and "
                "no packet comes back. The other leg is in perfect order. With phase=connect it is the "
                "server's "
                "answer to the SYN that the client never acknowledges.",
            .proves =
                "Which leg it is: certain. Whether the path or the host on it died cannot be told, so that "
                "endpoint is in `also`. The side's mail software is innocent: a stopped process still "
                "acknowledges. `Timeout` in the other side's log is only the consequence.",
            .client_step = "With where=client-leg: was the client's host or its uplink down?",
            .server_step = "With where=server-leg: was the server's host down?",
            .network_step =
                "`ping` and `mtr -T -P 25 HOST` along the leg named in `where`. If a new connection "
                "works at once while old ones are dead, suspect a firewall that was restarted and "
                "lost its table (see state-expired).",
            .manual = "RFC 6298 (retransmission); tcp_retries2 in tcp(7)",
        },
    [CAUSE_OCTETS_LOST] =
        {
            .fault = FAULT_SERVER_NETWORK,
            .summary = "the side that seemed silent had spoken, but its octets never reached us",
            .seen = "The side owed the next word. Its acknowledgements or its answer to our probe carry a "
                    "sequence number beyond the last octet that arrived here.",
            .proves =
                "That its application did send, and that the network between it and us lost the octets, "
                "repeatedly. Certain. Socket counters alone show a healthy silent peer, so `the server "
                "did not answer` or `the client is idle` is what everyone else would say, wrongly.",
            .network_step = "Small acknowledgements pass and packets with data do not: look on the leg in "
                            "`where` for a filter that inspects content, a wrong checksum offload "
                            "(`ethtool -K IFACE tx off` for a test), a one-way lossy link (`ip -s link`), or "
                            "a path MTU problem.",
            .manual = "RFC 9293 section 3.4 (an empty segment carries the next sequence number)",
        },
    [CAUSE_PATH_MTU_BLACK_HOLE] =
        {
            .fault = FAULT_SERVER_NETWORK,
            .summary = "large packets vanish without an ICMP message; small ones pass",
            .seen =
                "Commands and replies went well. Then full-size packets (the mail, or a certificate) were "
                "repeated in vain, or, on the client's leg, the tap saw only the short end of what the "
                "client sent.",
            .proves =
                "That a link on that leg is smaller than the senders believe, and the ICMP message that "
                "would tell them is lost or filtered. `Small mails pass, mails with attachments hang in "
                "DATA` is the sign; the server that does not read and the client that stalls are the "
                "wrong suspects. On the client's leg without a tap it is only possible, and the client "
                "is in `also`.",
            .client_step = "As a relief: lower the MTU of the route, `ip route change ... mtu 1400`, or "
                           "`sysctl net.ipv4.tcp_mtu_probing=1` on the sending host.",
            .server_step = "The same for what the server sends (certificates).",
            .network_step = "Measure: `ping -M do -s 1472 HOST` (1500 octets with headers; IPv6: 1452), then "
                            "smaller until it passes. Repair: let ICMP through, `iptables -I FORWARD -p icmp "
                            "--icmp-type fragmentation-needed -j ACCEPT` and `ip6tables -I FORWARD -p icmpv6 "
                            "--icmpv6-type packet-too-big -j ACCEPT`, on every filter of the leg. Or clamp: "
                            "`iptables -t mangle -A FORWARD -p tcp --tcp-flags SYN,RST SYN -j TCPMSS "
                            "--clamp-mss-to-pmtu`.",
            .manual = "RFC 1191; RFC 8201; RFC 2923 section 2.1 (black holes); RFC 4821",
        },
    [CAUSE_LOSS] =
        {
            .fault = FAULT_SERVER_NETWORK,
            .summary = "packets are lost on one leg, often enough to end the session",
            .seen =
                "On the client's leg: gaps that were filled later. On the server's leg: our octets had to be "
                "sent again (`bottleneck=client-leg-loss` or `server-leg-loss`); the sentence has the "
                "counts. The "
                "mail came all the time, at less than 32 kB/s, until somebody's patience ended.",
            .proves =
                "On which leg the loss is. Gaps come from loss before us, repeats from loss behind us. A "
                "little disorder is normal and blamed on nobody: the counts begin at 3 % (in the proxy 5 % "
                "on the "
                "client's leg, for the kernel does not tell loss from disorder). That the loss, and nothing "
                "else, "
                "made it slow is likely. When the client itself left, it is in `also`. Loss that ended "
                "nothing is "
                "only a remark in `notes`.",
            .network_step = "`mtr -T -P 25 HOST`; error counters with `ip -s link` and `ethtool -S IFACE`; a "
                            "duplex mismatch (`ethtool IFACE`); a full uplink.",
            .manual = "RFC 5681 (congestion control); RFC 6298",
        },
    [CAUSE_BANDWIDTH] =
        {
            .fault = FAULT_SERVER_NETWORK,
            .summary = "the line on one leg, or this box, is too slow for the mail in the time allowed",
            .seen =
                "Data was always in flight, the round trip grew far above its minimum, little was lost, and "
                "the receiver's window was open.",
            .proves =
                "That a queue in front of a narrow link filled up, likely. It is a fault only because "
                "a time limit "
                "ended the session; else the line has `bottleneck` and no fault. The server read as "
                "fast as octets "
                "came. On the client's leg full segments that come slowly, with nothing waiting behind "
                "us, show it; "
                "a client that paces itself looks the same and is in `also`. "
                "fault=witness, which the proxy alone can say of itself, means that our own send buffer "
                "or processor was what the octets waited for, half of the time or more.",
            .client_step = "Send fewer mails at once over that line.",
            .server_step = "A limit on the whole session hits slow lines: consider a longer one "
                           "(Exchange `ConnectionTimeout`, 10 minutes by default).",
            .network_step =
                "Look at the use of the links of that leg, at shaping (`tc -s qdisc`) and at what "
                "else fills them. For fault=witness: `net.ipv4.tcp_wmem`, and `workers` and the load of "
                "this box.",
            .manual = "RFC 5321 section 4.5.3.2.5; RFC 7567 (long queues)",
        },
    [CAUSE_RESET_INJECTED] =
        {
            .fault = FAULT_MIDDLEBOX,
            .summary = "a box on the way broke the connection with a forged reset",
            .seen =
                "A reset in one side's name whose distance (TTL), IP ID or window does not fit that side's "
                "other packets, or after which that side went on talking.",
            .proves =
                "That another box sent it: certain with a clear difference of TTL on a steady path, "
                "possible without one. The side whose name it bears is innocent. On the client's leg "
                "the forged packet may pass unseen; then only its effect is known: the client's host answers "
                "what is sent to it with a reset, as for a connection that it does not have. Then "
                "client-network is named, likely, with the box and the client in `also`.",
            .network_step =
                "Capture on both sides of each firewall or IPS of that leg: `tcpdump -nvi IFACE "
                "'tcp port 25 and tcp[tcpflags] & tcp-rst != 0'`; the box where the reset appears "
                "without having come in is the one. Then read its log for that second.",
            .manual =
                "RFC 9293 section 3.5.2; Weaver, Sommer and Paxson, Detecting Forged TCP Reset Packets, "
                "NDSS 2009",
        },
    [CAUSE_CONNECT_REJECTED] =
        {
            .fault = FAULT_MIDDLEBOX,
            .summary = "a firewall refused the connection in the server's name",
            .seen = "The attempt was answered with a reset whose TTL is not the server's, or with ICMP port "
                    "unreachable from another address.",
            .proves = "That a box before the server refuses. Likely when the server's own TTL is known, only "
                      "possible without. `The server's port is closed` is the wrong reading.",
            .server_step = "If the server's own filter rejects, it is your rule: `iptables -S INPUT`.",
            .network_step = "Look for REJECT rules for the port on the leg; an access list that lost the "
                            "client's or the server's address.",
            .manual = "RFC 1122 section 3.2.2.1; REJECT in iptables-extensions(8)",
        },
    [CAUSE_ADMIN_PROHIBITED] =
        {
            .fault = FAULT_MIDDLEBOX,
            .summary = "a router or firewall declared the connection prohibited",
            .seen = "ICMP destination unreachable with code 9, 10 or 13 (IPv6: code 1), and the address that "
                    "sent it.",
            .proves =
                "That an access list forbids it, on the box with that address. Certain. Where it is the "
                "server's own address, or not known, the filter may be one of the server's host, which then "
                "is "
                "in `also`. To the client's software it looks like `no route to host`, which is not the "
                "case.",
            .network_step = "Open the access list of the box that sent the message; the verdict's `explain` "
                            "names it where known.",
            .manual = "RFC 1812 section 5.2.7.1; RFC 4443 section 3.1",
        },
    [CAUSE_VERBS_REWRITTEN] =
        {
            .fault = FAULT_MIDDLEBOX,
            .summary = "a box rewrote the client's commands, and the server refused them",
            .seen = "A command of X letters, such as `XXXX`, came from the client's leg, and the server "
                    "answered 500.",
            .proves =
                "That an SMTP-inspecting firewall on the client's leg blotted out a command it does not "
                "know. Likely. Neither the client sent garbage nor is the server too strict.",
            .client_step = "As a relief keep to commands the box knows: Postfix "
                           "`smtp_discard_ehlo_keywords = pipelining, chunking, etrn`.",
            .network_step = "Switch SMTP inspection off. Cisco ASA and PIX: `no inspect esmtp` in "
                            "`policy-map global_policy`, `class inspection_default`; old PIX: "
                            "`no fixup protocol smtp 25`.",
            .manual = "Cisco ASA configuration guide, ESMTP inspection; Postfix FAQ on PIX firewalls",
        },
    [CAUSE_CAPABILITIES_MASKED] =
        {
            .fault = FAULT_MIDDLEBOX,
            .summary = "a box hid what the server can do, and the client needed it",
            .seen =
                "Keywords of X letters in the reply to EHLO, or a banner of asterisks, on the server's leg; "
                "then the client left, as one does that must have STARTTLS.",
            .proves = "That an inspecting box on the server's leg removed the keywords. Likely. `The server "
                      "offers no TLS` is the wrong reading.",
            .server_step = "Check from a host beside the server: `swaks --quit-after EHLO --server SERVER` "
                           "shows the true keywords.",
            .network_step =
                "Cisco ASA: `show service-policy inspect esmtp` counts; then `allow-tls` under the "
                "parameters of the esmtp inspection map, or `no inspect esmtp` altogether.",
            .manual = "Cisco ASA configuration guide, ESMTP inspection (mask-banner, allow-tls); RFC 3207 "
                      "section 6",
        },
    [CAUSE_LONG_LINE_KILLED] =
        {
            .fault = FAULT_MIDDLEBOX,
            .summary = "a box killed the connection at a long line",
            .seen =
                "A reset or a sudden silence right after a command line of more than 512 octets (long AUTH "
                "or MAIL parameters, or a long address). Shorter ones had passed.",
            .proves = "That something counts the length of lines. A middlebox is likely where the TTL of the "
                      "reset does not fit or the same repeats; after one case only it is a suspicion.",
            .client_step = "Compare with a login or address that is shorter.",
            .network_step =
                "Cisco ASA by default drops command lines above 512 octets: `match cmd line length "
                "gt 512` in the esmtp inspection map. Raise it or switch inspection off.",
            .manual = "RFC 5321 section 4.5.3.1.4; RFC 4954 section 4 (AUTH lines may have 12288 octets)",
        },
    [CAUSE_WINDOW_SCALE_BROKEN] =
        {
            .fault = FAULT_MIDDLEBOX,
            .summary = "a box broke TCP window scaling, so large mails crawl or hang",
            .seen = "Window scaling was offered and is missing from the answer while the window is tiny; or "
                    "losses start exactly where the unscaled window ends, three times and never elsewhere. "
                    "In a session that worked it is only the remark `tcp-rewritten-server-leg`.",
            .proves =
                "That a box changes TCP options or checks windows without knowing the scale. Likely, "
                "because a host with such a small buffer is possible. The sender stands before an almost "
                "closed door; the server is not slow.",
            .server_step =
                "As a test only: `sysctl net.ipv4.tcp_window_scaling=0`. If mails then flow, the box "
                "is proven.",
            .network_step =
                "Look for `tcp-options window-scale clear` (Cisco ASA), TCPOPTSTRIP rules, and for "
                "asymmetric routing past a stateful firewall that never saw the SYN.",
            .manual = "RFC 7323 section 2.2",
        },
    [CAUSE_SEQUENCE_REWRITTEN] =
        {
            .fault = FAULT_MIDDLEBOX,
            .summary = "a box changes sequence numbers but not the selective acknowledgements",
            .seen = "SACK blocks that lie outside of what was sent, always by the same distance.",
            .proves = "That a firewall randomises sequence numbers and forgets the SACK option. Likely: the "
                      "distance was the same three times. Every loss then becomes a long stall, which looks "
                      "like a bad "
                      "line. Only packets show it: the proxy ends TCP itself and says loss. In a session "
                      "that worked it "
                      "is only the remark `tcp-rewritten-server-leg`.",
            .client_step = "As a relief: `sysctl net.ipv4.tcp_sack=0` on the sender.",
            .network_step = "Cisco ASA: `set connection random-sequence-number disable` for this traffic.",
            .manual = "RFC 2018; Cisco ASA configuration guide, TCP sequence randomization",
        },
    [CAUSE_STATE_EXPIRED] =
        {
            .fault = FAULT_MIDDLEBOX,
            .summary = "a firewall or NAT forgot the idle connection",
            .seen = "The session worked, paused, and after the pause everything on one leg was dropped or "
                    "answered with a foreign reset. A new connection works.",
            .proves =
                "That a stateful device dropped its entry: likely, with notes=fresh-one-works the more so, "
                "and when `waited-ms` is a round "
                "number that repeats (240 s, 300 s, 350 s, 3600 s). Neither host died. The pause itself "
                "was allowed.",
            .client_step =
                "Do not keep connections idle longer than the device allows; TCP keepalive below its "
                "limit also helps.",
            .server_step = "A filter or scan that pauses the session for minutes provokes this; shorten it.",
            .network_step =
                "Raise the idle limit: Linux `sysctl net.netfilter.nf_conntrack_tcp_timeout_established`, "
                "Cisco ASA `timeout conn 1:00:00`. Known defaults: Azure load balancer 240 s, AWS "
                "NLB 350 s. Was the firewall restarted, or did it fail over?",
            .manual = "RFC 5382 section 5 (NAT must keep established connections for 2 hours 4 minutes)",
        },
    [CAUSE_SPLIT_DOT] =
        {
            .fault = FAULT_MIDDLEBOX,
            .summary = "a box lost the end of the mail because dot and line end came in two packets",
            .seen =
                "The dot and its CRLF left in separate packets; the second had no effect at the server, and "
                "the same happened again at the next attempt.",
            .proves = "A suspicion of a known defect of PIX firewalls; likely when the banner is masked with "
                      "asterisks too, else only possible. The server that seems to ignore the dot has not "
                      "seen it.",
            .client_step =
                "Postfix: `smtp_pix_workarounds = delay_dotcrlf, disable_esmtp` (the default) and a "
                "smaller `smtp_pix_workaround_threshold_time`.",
            .network_step =
                "Update the firewall, or switch `inspect esmtp` (PIX: `fixup protocol smtp`) off.",
            .manual = "Cisco bug CSCds90792; Postfix postconf(5), smtp_pix_workarounds",
        },
    [CAUSE_SOURCE_FILTERED] =
        {
            .fault = FAULT_POLICY,
            .summary = "connections of this client only are dropped before the server answers",
            .seen =
                "Connection attempts of this source stay unanswered while other sources, or older sessions, "
                "reach the same server.",
            .proves =
                "That server and path work and something near them drops this source. Likely: it rests on "
                "the comparison with others. `The server is down` is the wrong reading.",
            .client_step = "Open fewer connections at once, and ask whether the address was blocked.",
            .server_step = "`iptables -S | grep -e connlimit -e hashlimit -e recent`, `nft list ruleset`, "
                           "`fail2ban-client status`; then the same on the firewall before the server.",
            .manual = "connlimit, hashlimit and recent in iptables-extensions(8)",
        },
    [CAUSE_PER_SOURCE_LIMIT] =
        {
            .fault = FAULT_POLICY,
            .summary = "the server allows this source only so many connections at once",
            .seen =
                "A refusal whose words or codes mean too many connections from this source. `concurrent` is "
                "what we counted at that instant, the source-... keys say in which phases they were and the "
                "most at once of the last hour and day; `profiles-refuse` names kinds of servers whose "
                "defaults would have refused it too.",
            .proves =
                "That the server's limit was hit: certain from its text. Whether our count explains it is "
                "said in the verdict; with notes=unexplained-limit fewer connections crossed here than the "
                "limit it names, or than it has taken before: others share that address (NAT) or take "
                "another route, or the server still counts dead connections. The server is not down, and it "
                "did not hang up for no reason.",
            .client_step =
                "Send less in parallel: Postfix `smtp_destination_concurrency_limit` (or a transport "
                "with its own), Exim `remote_max_parallel`. Gateways that share one address behind "
                "NAT count as one source.",
            .server_step =
                "Raise the limit for your own gateways. Postfix: `smtpd_client_connection_count_limit` "
                "(default 50), or exempt them with `smtpd_client_event_limit_exceptions`. Exchange: "
                "`Set-ReceiveConnector NAME -MaxInboundConnectionPerSource 100` (default 20) and "
                "`MaxInboundConnectionPercentagePerSource` (default 2). Exim: "
                "`smtp_accept_max_per_host`.",
            .network_step = "A witness that holds connections (`over-limit = hold`) keeps the gateway below "
                            "the limit.",
            .manual = "Postfix postconf(5); Microsoft, Set-ReceiveConnector; RFC 5321 section 3.8",
        },
    [CAUSE_PER_SOURCE_RATE] =
        {
            .fault = FAULT_POLICY,
            .summary = "the server allows this source only so many connections, mails or recipients a time",
            .seen = "A refusal whose words mean too fast or too much from this source.",
            .proves = "What the server said: certain. It is a deliberate limit and no defect.",
            .client_step = "Slow down: Postfix `smtp_destination_rate_delay`; spread large mailings.",
            .server_step = "For your own gateways raise or exempt: Postfix "
                           "`smtpd_client_connection_rate_limit`, `smtpd_client_message_rate_limit`, "
                           "`smtpd_client_recipient_rate_limit`, `smtpd_client_event_limit_exceptions`; "
                           "sendmail `ConnectionRateThrottle` and FEATURE `ratecontrol`.",
            .manual = "Postfix postconf(5) and anvil(8); RFC 3463",
        },
    [CAUSE_REPUTATION] =
        {
            .fault = FAULT_POLICY,
            .summary = "the server refuses this source for its reputation",
            .seen = "A refusal that names a block list, a bad reputation or bad reverse DNS.",
            .proves = "What the server said: certain. Neither software is broken.",
            .client_step =
                "Read the list's name in `reply` and look your address up there; check forward and "
                "reverse DNS (`dig -x ADDRESS`); look for a compromised account that sends spam.",
            .server_step = "If it is your own gateway, exempt it: the block list check must see the address "
                           "of the first outside hop, not the gateway's.",
            .manual = "RFC 5782 (DNS lists); RFC 3463 (5.7.1)",
        },
    [CAUSE_GREYLISTING] =
        {
            .fault = FAULT_POLICY,
            .summary = "the server asked the client to come again later, to sort out spam software",
            .seen = "A 450 or 451 whose words mean greylisting.",
            .proves =
                "What the server said: certain. Nobody is at fault; the next attempt after some minutes "
                "is accepted.",
            .client_step = "Nothing, if retries come from the same address. A pool of senders with many "
                           "addresses may be greylisted again and again.",
            .server_step = "Exempt large senders and your own gateways.",
            .manual = "RFC 6647",
        },
    [CAUSE_TARPIT] =
        {
            .fault = FAULT_POLICY,
            .summary = "the server answers later and later, on purpose",
            .seen = "Three replies in a row came late, none much sooner than the one before it, after errors "
                    "of the "
                    "client; then the client left. A client that waits has only the remark `late-replies`.",
            .proves = "That the server slows the client down deliberately: likely where errors came before. "
                      "Without errors the server is merely slow, and fault=server. The network's round trip "
                      "did not grow.",
            .client_step =
                "Find the errors: unknown recipients, failed logins. Wait as long as RFC 5321 asks.",
            .server_step = "Postfix: `smtpd_error_sleep_time`, `smtpd_soft_error_limit`. Exchange: "
                           "`TarpitInterval` (5 s). Exempt your own gateways.",
            .manual = "Postfix postconf(5); Microsoft, Set-ReceiveConnector; RFC 5321 section 4.5.3.2",
        },
    [CAUSE_SIZE_LIMIT] =
        {
            .fault = FAULT_POLICY,
            .summary = "the mail is larger than the server takes",
            .seen =
                "A 552 (or 554) about the size, often while the client was still sending, then the end of "
                "the connection; or a 452 for want of space, to a mail larger than the SIZE that the server "
                "offers.",
            .proves =
                "What the server said: certain. A 452 may be about the size or about full storage: likely, "
                "with server in `also`. With notes=client-saw-reset the client may never have read "
                "it, because the reset that follows destroys unread replies; its log then says "
                "`connection reset`, which is not the cause.",
            .client_step =
                "Announce the size (SIZE in MAIL), so that the refusal comes before the body. Postfix "
                "reads the limit from EHLO by itself.",
            .server_step = "Postfix `message_size_limit`, Exim `message_size_limit`, Exchange "
                           "`MaxMessageSize` of the connector; read the rest of the mail before closing.",
            .manual = "RFC 1870; RFC 5321 section 4.5.3.1",
        },
    [CAUSE_SESSION_TIME_LIMIT] =
        {
            .fault = FAULT_POLICY,
            .summary = "the server allows a session only so much time in all",
            .seen = "A 421 about the allowed connection time, while the session was at work.",
            .proves =
                "What the server said: certain. The reason for the length is elsewhere: `ledger-ms` shows "
                "which party used the time up.",
            .client_step = "Send fewer mails in one session; see the ledger for what was slow.",
            .server_step =
                "Exchange: `ConnectionTimeout` (10 minutes by default, even while data flows). Cisco "
                "ESA: total time of an inbound connection, 15 minutes.",
            .manual = "Microsoft, Set-ReceiveConnector; Cisco AsyncOS user guide; RFC 5321 section 4.5.3.2",
        },
    [CAUSE_REJECTED] =
        {
            .fault = FAULT_POLICY,
            .summary = "the server refused the mail with a reason of its own",
            .seen =
                "A complete 4xx or 5xx reply ended the mail; its words fit none of the better known limits.",
            .proves = "That the server decided; `reply` has its words. The network is innocent.",
            .client_step = "Read `reply` and its enhanced code: x.1.x address, x.2.x mailbox, x.4.x network, "
                           "x.5.x protocol, x.6.x content, x.7.x policy.",
            .server_step = "Search your log for the client's address at that second.",
            .manual = "RFC 3463; RFC 5321 section 4.2",
        },
    [CAUSE_WITNESS_LIMIT] =
        {
            .fault = FAULT_POLICY,
            .summary = "a limit configured in smtpwitness refused, held or closed the connection",
            .seen =
                "One of our own limits or timeouts that are set to enforce took effect; `action` says how, "
                "`limit-ms` or `concurrent-limit` which.",
            .proves = "That it was us, on purpose. Certain. Neither client, server nor network failed.",
            .client_step = "Open fewer connections at once, or be quicker.",
            .network_step = "In smtpwitness.conf(5) raise the limit, set its action to report (such as "
                            "`per-source-action = report`), or let connections wait for a slot with "
                            "`over-limit = hold`. `smtpwitness --dump-config` prints what is in force.",
            .manual = "smtpwitness.conf(5), sections limits and timeouts",
        },
    [CAUSE_ICMP_UNDIVERTED] =
        {
            .fault = FAULT_WITNESS,
            .summary = "our own box passed on ICMP messages that were meant for us: we are the black hole",
            .seen =
                "Path MTU messages for a session of the proxy were forwarded past it, while its full-size "
                "packets stay unacknowledged.",
            .proves =
                "That the interception rules of this router are incomplete. Certain. Blaming the server's "
                "network would be wrong.",
            .network_step =
                "Load our rules completely, or add by hand, with the mark of the interception rules: "
                "`iptables -t mangle -I PREROUTING -p icmp -m socket --transparent -j MARK "
                "--set-xmark 0x1000000/0x1000000`, and with ip6tables the same for `-p icmpv6`.",
            .manual = "RFC 1191 section 6.4; ip(7), IP_TRANSPARENT; socket match in iptables-extensions(8)",
        },
    [CAUSE_OWN_DROP] =
        {
            .fault = FAULT_WITNESS,
            .summary = "this router itself dropped or refused the packets",
            .seen =
                "Packets of the session were stopped by the router's own filter, or ICMP that this router "
                "itself generated ended them.",
            .proves =
                "That the cause is on our box. Certain where the drop or the message was seen here. The "
                "leg behind it is innocent.",
            .network_step = "`iptables -vL` and `nft list ruleset` (counters that grow), `ip route get`, "
                            "`sysctl net.ipv4.conf.all.rp_filter`, a full table (`nf_conntrack: table full` "
                            "in the kernel's log).",
            .manual = "iptables(8); nf_conntrack in the kernel's networking documentation",
        },
    [CAUSE_OBSERVER_LOSS] =
        {
            .fault = FAULT_WITNESS,
            .summary = "we lost packets or stood still ourselves, so we do not judge this session",
            .seen = "Octets were acknowledged that we never saw, while our own queue reported drops; or "
                    "nobody let us run for a second or more.",
            .proves = "That our evidence has holes. Gaps in it are not gaps of the network, and everything "
                      "else would be a guess. Without a drop that coincides, fault=unknown.",
            .network_step =
                "Give the witness room: a larger queue (`net.core.rmem_max`), more workers, fewer "
                "ports, processors that are not all taken. The mail itself was not harmed.",
            .manual = "netlink(7), ENOBUFS",
        },
    [CAUSE_WITNESS_STOPPED] =
        {
            .fault = FAULT_WITNESS,
            .summary = "smtpwitness was stopped and ended the session",
            .seen = "The time to drain was over, and the session was still open.",
            .proves = "That it was us. Certain. The client tries again.",
            .network_step =
                "Allow more time with `drain` in section proxy of smtpwitness.conf(5), or stop at a "
                "quieter hour.",
            .manual = "smtpwitness.conf(5); RFC 5321 section 4.5.4.1 (the client retries)",
        },
    [CAUSE_CAPTURE_GAP] =
        {
            .fault = FAULT_UNKNOWN,
            .summary = "the record of this session is incomplete, so we do not judge it",
            .seen = "The observation began in the middle, was cut, or packets are missing from it although "
                    "the "
                    "other side acknowledged them.",
            .proves =
                "Only that the capture is an imperfect witness. Acknowledged octets that we did not see "
                "were not lost in the network.",
            .network_step =
                "Capture anew, both directions, from before the start, whole packets and a larger "
                "buffer: `tcpdump -i IFACE -s 0 -B 65536 -w FILE tcp port 25 or icmp or icmp6`.",
            .manual = "pcap(3PCAP); tcpdump(8)",
        },
    [CAUSE_UNDETERMINED] =
        {
            .fault = FAULT_UNKNOWN,
            .summary = "something failed, and the evidence does not say whose fault it is",
            .seen = "The session ended badly. Only one direction was visible, or the signs contradict or do "
                    "not "
                    "suffice.",
            .proves = "Nothing, and that is meant honestly: a confident wrong answer would cost more. The "
                      "counters in the line are still true.",
            .client_step = "Compare the line with your log of that second.",
            .server_step = "Compare the line with your log of that second.",
            .network_step = "If one direction is missing, the routing is asymmetric: place the witness where "
                            "both pass. Allow probes and the tap (`probe` and `tap` in section proxy), which "
                            "turn many such verdicts into certain ones.",
            .manual = "RFC 9293 (what a silent peer can mean)",
        },
};
_Static_assert(sizeof texts / sizeof texts[0] == CAUSE_COUNT, "one text per cause");

const struct cause_text *cause_text(enum cause cause)
{
    return &texts[(size_t)cause < CAUSE_COUNT ? cause : CAUSE_UNDETERMINED];
}

enum cause cause_by_name(const char *name)
{
    for (enum cause cause = CAUSE_CLEAN; cause < CAUSE_COUNT; cause++) {
        if (strcmp(name, cause_name(cause)) == 0) {
            return cause;
        }
    }
    return CAUSE_COUNT;
}
