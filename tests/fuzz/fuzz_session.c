/* One session as a relay tells it: what is said, what passes unseen, what TCP shows, when; and its end, in any order that
 * callers may keep. Whatever comes, the clock does not stand still, the ledger sums up, and every line is well formed. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/session/session.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MILLISECOND_US     UINT64_C(1000)
#define DEADLINES_A_MOMENT 64u /* more of them at one time would be a spinning worker */

static const char *const lines[] = {
    "220 mx ESMTP\r\n",
    "EHLO c\r\n",
    "250-mx\r\n250-STARTTLS\r\n250-LIMITS RCPTMAX=5\r\n250 CHUNKING\r\n",
    "MAIL FROM:<a@c>\r\n",
    "250 ok\r\n",
    "RCPT TO:<b@mx>\r\n",
    "DATA\r\n",
    "354 go\r\n",
    "text\r\n",
    ".\r\n",
    "QUIT\r\n",
    "221 bye\r\n",
    "421 4.4.2 timeout\r\n",
    "BDAT 20 LAST\r\n",
    "AUTH LOGIN\r\n",
    "334 VXNlcg==\r\n",
    "STARTTLS\r\n",
    "421 4.7.0 too many connections\r\n",
    "RSET\r\n",
    "250-half",
    "XX",
};
#define LINE_COUNT (sizeof lines / sizeof lines[0])

struct input {
    const uint8_t *data;
    size_t left;
};

static uint8_t take(struct input *input)
{
    if (input->left == 0)
        return 0;
    input->left--;
    return *input->data++;
}

static uint32_t take_number(struct input *input)
{
    const uint8_t shift = take(input) % 32;

    return (uint32_t)take(input) << shift;
}

static void require(bool holds)
{
    if (!holds)
        abort();
}

static void encode(const struct record *record)
{
    char line[RECORD_LINE_OCTETS];

    require(record_to_logfmt(record, line) < sizeof line);
    require(record_to_json(record, line) < sizeof line);
}

static void take_policy(struct input *input, struct policy_settings *policy)
{
    memset(policy, 0, sizeof *policy);
    for (unsigned phase = 0; phase < PHASE_COUNT; phase++)
        policy->timeouts.phase_us[phase] = 1000 * MILLISECOND_US << take(input) % 8;
    policy->timeouts.idle_us = 1000 * MILLISECOND_US << take(input) % 8;
    policy->timeouts.session_us = take_number(input) * MILLISECOND_US;
    policy->timeouts.stall_notice_us = take_number(input) * MILLISECOND_US;
    policy->timeouts.action = take(input) % 2 ? POLICY_ENFORCE : POLICY_REPORT;
    policy->timeouts.session_action = take(input) % 2 ? POLICY_ENFORCE : POLICY_REPORT;
    policy->ipv6_source_prefix = 64;
    memcpy(policy->host_name, "w.test", sizeof "w.test");
}

static void take_evidence(struct input *input, struct session *session, enum side side, uint64_t now_us)
{
    struct leg_evidence evidence = {.flags = take_number(input),
                                    .probe = (enum probe_result)(take(input) % PROBE_COUNT),
                                    .connect = (enum connect_result)(take(input) % CONNECT_COUNT),
                                    .rtt_us = take_number(input),
                                    .retrans_count = take(input),
                                    .unacked_octets = take_number(input),
                                    .unsent_octets = take_number(input),
                                    .revealed_octets = take(input),
                                    .window_octets = take_number(input),
                                    .busy_ms = take_number(input),
                                    .window_limited_ms = take_number(input),
                                    .segment_octets = take(input),
                                    .icmp_type = take(input),
                                    .icmp_code = take(input),
                                    .icmp_seen = take(input) % 2 == 1,
                                    .ttl = take(input),
                                    .reset_ttl = take(input),
                                    .probes_unanswered = take(input)};
    const uint64_t since_us = take_number(input) * MILLISECOND_US;

    evidence.unacked_since_us = evidence.unacked_octets > 0 && since_us < now_us ? now_us - since_us : 0;
    session_set_evidence(session, side, &evidence, now_us);
}

/* As the caller of a session must: every deadline on the way is delivered. */
static void let_pass(struct session *session, uint64_t *now_us, uint64_t us)
{
    const uint64_t until_us = *now_us + us;
    unsigned at_once = 0;

    for (;;) {
        const uint64_t deadline_us = session_deadline_us(session);

        if (deadline_us > until_us)
            break;
        at_once = deadline_us > *now_us ? 0 : at_once + 1;
        require(at_once < DEADLINES_A_MOMENT);
        *now_us = deadline_us > *now_us ? deadline_us : *now_us;
        session_on_deadline(session, *now_us);
    }
    *now_us = until_us;
}

static void serve_wants(struct session *session, uint64_t now_us)
{
    const uint32_t wants = session_take_wants(session);
    struct record record;
    char text[512];

    if (wants & SESSION_WANT_STALL_LINE) {
        session_stall_record(session, &record, now_us);
        encode(&record);
    }
    if (wants & SESSION_WANT_FORECAST_LINE) {
        session_forecast_record(session, &record, now_us);
        encode(&record);
    }
    if (wants & SESSION_WANT_CLOSE) {
        const size_t length = session_close_reply(session, text, sizeof text);

        require(length < sizeof text);
        require(length == 0 || session->dialogue.phase != PHASE_END_OF_DATA);
    }
}

static void one_event(struct input *input, struct session *session, uint64_t *now_us)
{
    const uint8_t what = take(input);
    const enum side side = what & 1 ? SIDE_SERVER : SIDE_CLIENT;

    switch (what >> 1 & 7) {
    case 0: {
        const size_t wanted = take(input), length = wanted < input->left ? wanted : input->left;

        if (length > 0)
            session_on_octets(session, side, input->data, length, *now_us);
        input->data += length;
        input->left -= length;
        break;
    }
    case 1:
    case 2: {
        const char *line = lines[take(input) % LINE_COUNT];

        session_on_octets(session, side, (const uint8_t *)line, strlen(line), *now_us);
        break;
    }
    case 3:
        let_pass(session, now_us, take_number(input) % 4000000 * MILLISECOND_US);
        break;
    case 4:
        take_evidence(input, session, side, *now_us);
        break;
    case 5: {
        uint64_t length;
        uint32_t keep;

        if (dialogue_may_pass(&session->dialogue, side, &length, &keep)) {
            require(length > 0);
            session_on_passed(session, side, length < 5000 ? length : 5000, *now_us);
        }
        break;
    }
    case 6:
        if (what & 0x80)
            session_on_pushed_back(session, side, (what & 0x40) != 0, *now_us);
        else if (what & 0x40)
            session_set_rtt(session, side, take_number(input));
        else if (session->dialogue.phase == PHASE_CONNECT)
            session_on_connected(session, *now_us);
        break;
    case 7:
        session_on_end(session, (enum session_end)(1 + take(input) % (SESSION_END_COUNT - 1)), *now_us);
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input input = {data, size};
    struct policy_settings policy;
    static const struct session_caller caller = {.mode = RECORD_PROXY, .id_prefix = "f"};
    struct connection connection = {
        .client.port = 40000, .server.port = 25, .opened_us = 1000 * MILLISECOND_US};
    struct session_setup setup = {
        .caller = &caller, .connection = &connection, .number = 1, .policy = &policy, .probing = true};
    struct record record;
    struct session session;
    uint64_t now_us = 1000 * MILLISECOND_US;

    take_policy(&input, &policy);
    setup.probe_after_us = take_number(&input) * MILLISECOND_US;
    setup.connected = take(&input) % 2 == 1;
    session_init(&session, &setup);
    while (input.left > 0) {
        one_event(&input, &session, &now_us);
        serve_wants(&session, now_us);
    }
    session_finish(&session, &record, now_us);
    require(ledger_sum_us(&record.ledger) == record.duration_us);
    require(record.verdict.explain[0] != '\0');
    encode(&record);
    session_clear(&session);
    return 0;
}
