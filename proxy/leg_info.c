#include "proxy/leg_info.h"

#define HEADERS_IPV4 40u /* IP and TCP headers without options */
#define HEADERS_IPV6 60u

#define SEVERAL_REPEATS     2u /* retransmission timeouts in a row: not just one lost packet */
#define MANY_REPEATS        4u
#define PROBES_WITHOUT_ECHO 3u /* keepalives without an answer before we say so */

#define HEARD_AFTER_US 1000000u /* what comes sooner answers what was sent before */

#define STATE_ESTABLISHED 1u /* Linux include/net/tcp_states.h */
#define STATE_SYN_SENT    2u
#define STATE_SYN_RECV    3u
#define STATE_CLOSE       7u

#define HAS_FIELD(context, field)                                                                            \
    ((context)->info_octets >= offsetof(struct tcp_info, field) + sizeof(((struct tcp_info *)0)->field))

static uint32_t milliseconds_of(uint64_t microseconds)
{
    const uint64_t milliseconds = microseconds / 1000u;

    return milliseconds > UINT32_MAX ? UINT32_MAX : (uint32_t)milliseconds;
}

static void set_flag(struct leg_evidence *evidence, enum leg_flag flag, bool on)
{
    if (on)
        evidence->flags |= (uint32_t)flag;
    else
        evidence->flags &= ~(uint32_t)flag;
}

/* How long the repeats of the oldest octet have lasted at the least: each timeout was twice the one before it, and the
 * one that runs now has not passed (RFC 6298 5.5). */
static uint64_t repeated_for(const struct tcp_info *info)
{
    const uint32_t doublings = info->tcpi_backoff < 31 ? info->tcpi_backoff : 31;

    return info->tcpi_retransmits > 0 ? info->tcpi_rto - (info->tcpi_rto >> doublings) : 0;
}

/* Since when our oldest octet has been waiting for its acknowledgement, at the least. While octets flow the last ACK
 * bounds it, after a pause our own last write does. Once it is repeated an ACK without progress bounds nothing: what the
 * other side repeats carries one too; but the oldest octet is no younger than the last write, nor than its repeats. */
static uint64_t unacked_since(const struct leg_evidence *before, const struct tcp_info *info,
                              const struct leg_info_context *context)
{
    const uint64_t ack_age_us = (uint64_t)info->tcpi_last_ack_recv * 1000u;
    const uint64_t acked_us = context->now_us > ack_age_us ? context->now_us - ack_age_us : 0;
    const uint64_t repeated_us = repeated_for(info);
    uint64_t since_us = acked_us > context->wrote_us ? acked_us : context->wrote_us;

    if (info->tcpi_retransmits > 0) {
        const uint64_t first_us =
            context->now_us > repeated_us ? context->now_us - repeated_us : context->now_us;

        since_us = context->wrote_us != 0 && context->wrote_us < first_us ? context->wrote_us : first_us;
    }
    if (!context->progressed && before->unacked_since_us != 0 && before->unacked_since_us < since_us)
        since_us = before->unacked_since_us;
    return since_us != 0 ? since_us : context->now_us;
}

/* Do full-size segments get through? What is under way are full ones, but for the last one of each write, and some are
 * reported (RFC 2018). They are none when together they are less than one, were all that is missing full: to believe that
 * takes MANY_REPEATS, because rests may be missing, too. A TLS library writes its certificate in parts (OpenSSL: 4096
 * octets), and a relay what it has read (TLS: records of 16 kB), so rests are common, among which a full one may hide. */
enum full_ones { FULL_ONES_NONE, FULL_ONES_DOUBTED, FULL_ONES_PASS };

static enum full_ones full_ones_reported(const struct leg_evidence *evidence, const struct tcp_info *info)
{
    const uint64_t missing_count =
        info->tcpi_unacked > info->tcpi_sacked ? info->tcpi_unacked - info->tcpi_sacked : 0;
    const uint64_t missing_octets = missing_count * info->tcpi_snd_mss;
    const uint64_t reported_octets =
        evidence->unacked_octets > missing_octets ? evidence->unacked_octets - missing_octets : 0;

    if (info->tcpi_sacked == 0 || (info->tcpi_sacked == 1 && info->tcpi_notsent_bytes == 0))
        return FULL_ONES_NONE;
    if (info->tcpi_retransmits < MANY_REPEATS)
        return FULL_ONES_PASS;
    if (reported_octets < info->tcpi_snd_mss)
        return FULL_ONES_NONE;
    return reported_octets / info->tcpi_sacked < info->tcpi_snd_mss / 4 * 3 ? FULL_ONES_DOUBTED
                                                                            : FULL_ONES_PASS;
}

static bool only_big_lost(const struct leg_evidence *evidence, const struct tcp_info *info)
{
    const uint32_t mss = info->tcpi_snd_mss;

    if (mss == 0 || evidence->unacked_octets < mss)
        return false;
    if (info->tcpi_backoff < SEVERAL_REPEATS && info->tcpi_retransmits < SEVERAL_REPEATS)
        return false;
    if (full_ones_reported(evidence, info) == FULL_ONES_PASS)
        return false;
    /* Something got through before, and on the average it was small: no full-size segment ever passed. */
    if (info->tcpi_bytes_acked == 0 || info->tcpi_delivered == 0)
        return false;
    return info->tcpi_bytes_acked / info->tcpi_delivered < mss / 2;
}

/* Was that side heard since our oldest octet became overdue? Then the way still carries something. */
static bool heard_meanwhile(const struct leg_evidence *evidence, const struct tcp_info *info,
                            const struct leg_info_context *context)
{
    const uint64_t overdue_us = evidence->unacked_since_us + HEARD_AFTER_US;

    return info->tcpi_sacked > 0 ||
           (evidence->unacked_since_us != 0 && context->now_us > overdue_us &&
            (uint64_t)info->tcpi_last_ack_recv * 1000u < context->now_us - overdue_us);
}

void leg_info_apply(struct leg_evidence *evidence, const struct tcp_info *info,
                    const struct leg_info_context *context)
{
    const bool synchronised = info->tcpi_state != STATE_SYN_SENT && info->tcpi_state != STATE_SYN_RECV;
    const uint32_t unsent = info->tcpi_notsent_bytes;
    uint32_t outstanding = context->outstanding;

    if (context->fin_sent && outstanding > 0)
        outstanding--;
    evidence->unsent_octets = unsent < outstanding ? unsent : outstanding;
    evidence->unacked_octets = outstanding - evidence->unsent_octets;
    evidence->unacked_since_us = evidence->unacked_octets > 0 ? unacked_since(evidence, info, context) : 0;

    /* What we sent after the ICMP error arrived, and no probe is without its answer: the way is open again. */
    if (info->tcpi_state != STATE_CLOSE && info->tcpi_probes == 0 && info->tcpi_retransmits == 0 &&
        (evidence->unacked_octets == 0 || context->progressed))
        evidence->flags &= ~(uint32_t)LEG_UNREACHABLE;

    evidence->rtt_us = info->tcpi_rtt;
    if (info->tcpi_rtt > evidence->rtt_most_us)
        evidence->rtt_most_us = info->tcpi_rtt;
    if (info->tcpi_min_rtt != 0 && info->tcpi_min_rtt != UINT32_MAX)
        evidence->rtt_least_us = info->tcpi_min_rtt;
    evidence->retrans_count = info->tcpi_total_retrans;
    evidence->segment_octets = info->tcpi_snd_mss > UINT16_MAX ? UINT16_MAX : (uint16_t)info->tcpi_snd_mss;
    evidence->busy_ms = milliseconds_of(info->tcpi_busy_time);
    evidence->window_limited_ms = milliseconds_of(info->tcpi_rwnd_limited);
    evidence->buffer_limited_ms = milliseconds_of(info->tcpi_sndbuf_limited);

    if (HAS_FIELD(context, tcpi_snd_wnd)) {
        evidence->window_octets = info->tcpi_snd_wnd;
        set_flag(evidence, LEG_WINDOW_ZERO,
                 synchronised && info->tcpi_snd_wnd == 0 && info->tcpi_unacked == 0 && unsent > 0);
        set_flag(evidence, LEG_WINDOW_TINY,
                 synchronised && (info->tcpi_options & TCPI_OPT_WSCALE) == 0 && info->tcpi_snd_wnd > 0 &&
                     info->tcpi_snd_mss > 0 && info->tcpi_snd_wnd < 4 * info->tcpi_snd_mss &&
                     info->tcpi_busy_time > 0 && info->tcpi_rwnd_limited > info->tcpi_busy_time / 2);
    } else {
        /* Kernels before 5.4 do not say. A closed window is then probed, with nothing in flight (R4). */
        set_flag(evidence, LEG_WINDOW_ZERO,
                 synchronised && info->tcpi_unacked == 0 && unsent > 0 && info->tcpi_backoff > 0);
    }

    /* A path MTU below what the route promised when the connection began: only ICMP lowers it. */
    {
        const uint32_t headers = context->ipv6 ? HEADERS_IPV6 : HEADERS_IPV4;

        if (synchronised && info->tcpi_advmss > 0 && info->tcpi_pmtu > 0 &&
            info->tcpi_pmtu < info->tcpi_advmss + headers)
            evidence->flags |= LEG_ICMP_TOO_BIG;
    }
    set_flag(evidence, LEG_ONLY_BIG_LOST, synchronised && only_big_lost(evidence, info));
    set_flag(evidence, LEG_BIG_DOUBTED,
             (evidence->flags & LEG_ONLY_BIG_LOST) != 0 &&
                 full_ones_reported(evidence, info) == FULL_ONES_DOUBTED);
    set_flag(evidence, LEG_HEARD, synchronised && heard_meanwhile(evidence, info, context));
    if (HAS_FIELD(context, tcpi_data_segs_out)) {
        evidence->came_segments = info->tcpi_data_segs_in;
        evidence->sent_segments = info->tcpi_data_segs_out;
    }
    if (HAS_FIELD(context, tcpi_rcv_ooopack))
        evidence->late_segments = info->tcpi_rcv_ooopack;
    /* A repeat the peer reports as a duplicate (DSACK, RFC 2883) was needless: nothing had been lost. */
    if (info->tcpi_total_retrans > info->tcpi_dsack_dups)
        evidence->flags |= LEG_LOSS_AFTER_US;
    evidence->probes_unanswered = info->tcpi_probes;
}

enum probe_result leg_info_probe(const struct tcp_info *info, uint64_t since_us, uint64_t now_us)
{
    const uint64_t running_us = now_us > since_us ? now_us - since_us : 0;

    if ((uint64_t)info->tcpi_last_ack_recv * 1000u < running_us && info->tcpi_probes == 0)
        return PROBE_ANSWERED;
    if (info->tcpi_probes >= PROBES_WITHOUT_ECHO)
        return PROBE_UNANSWERED;
    return PROBE_SENT;
}
