/* Every key of [timeouts] on its own, from the text of a file to the wish to close: it acts in its phase, at its time, and
 * in no other phase. */
#include "tests/unit/test_settings.h"

#include "core/base/phase.h"
#include "core/session/session.h"

#define SECOND_US UINT64_C(1000000)
#define HELLO     "S220 x\r\n", "CEHLO c\r\n", "S250-x\r\nS250-STARTTLS\r\nS250 CHUNKING\r\n"
#define MAIL      HELLO, "CMAIL FROM:<a@b.test>\r\n", "S250 x\r\n"
#define RCPT      MAIL, "CRCPT TO:<a@b.test>\r\n", "S250 x\r\n"
#define BODY      RCPT, "CDATA\r\n", "S354 x\r\n"
#define STEPS_MAX 16

struct way {
    const char *key;
    bool unconnected;
    const char
        *steps[STEPS_MAX]; /* C or S, then what that side says; every further line has its letter too */
};

static const struct way ways[] = {
    {"connect", true, {NULL}},
    {"greeting", false, {NULL}},
    {"helo", false, {"S220 x\r\n"}},
    {"helo", false, {"S220 x\r\n", "CEHLO c\r\n"}},
    {"starttls", false, {HELLO, "CSTARTTLS\r\n"}},
    {"tls", false, {HELLO, "CSTARTTLS\r\n", "S220 x\r\n"}},
    {"auth", false, {HELLO, "CAUTH LOGIN\r\n"}},
    {"auth", false, {HELLO, "CAUTH LOGIN\r\n", "S334 VXNlcm5hbWU6\r\n"}},
    {"mail", false, {HELLO, "CMAIL FROM:<a@b.test>\r\n"}},
    {"rcpt", false, {MAIL}},
    {"rcpt", false, {MAIL, "CRCPT TO:<a@b.test>\r\n"}},
    {"rcpt", false, {RCPT}},
    {"data", false, {RCPT, "CDATA\r\n"}},
    {"body", false, {BODY}},
    {"body", false, {BODY, "Ctext\r\n"}},
    {"end-of-data", false, {BODY, "Ctext\r\nC.\r\n"}},
    {"bdat", false, {RCPT, "CBDAT 5\r\n"}},
    {"rset", false, {MAIL, "CRSET\r\n"}},
    {"quit", false, {HELLO, "CQUIT\r\n"}},
    {"command", false, {HELLO, "CVRFY x\r\n"}},
    {"idle", false, {BODY, "Ctext\r\nC.\r\n", "S250 x\r\n"}},
};

static void say(struct session *session, const char *step, uint64_t now_us)
{
    while (*step != '\0') {
        const char *end = strstr(step, "\r\n") + 2;
        const enum side side = *step == 'C' ? SIDE_CLIENT : SIDE_SERVER;

        session_on_octets(session, side, (const uint8_t *)step + 1, (size_t)(end - step) - 1, now_us);
        step = end;
    }
}

/* After how many seconds of silence the session wants to be closed; 0 = not within 50. */
static unsigned closes_after(const struct way *way, const struct settings *settings)
{
    static const struct session_caller caller = {.mode = RECORD_PROXY, .id_prefix = "test"};
    struct connection connection = {.client.port = 40000, .server.port = 25, .opened_us = SECOND_US};
    struct session_setup setup = {
        .caller = &caller, .connection = &connection, .number = 1, .policy = &settings->policy};
    uint64_t now_us = SECOND_US;
    struct record record;
    struct session session;
    unsigned after = 0;

    setup.connected = !way->unconnected;
    session_init(&session, &setup);
    for (size_t step = 0; step < STEPS_MAX && way->steps[step] != NULL; step++) {
        now_us += SECOND_US;
        say(&session, way->steps[step], now_us);
    }
    for (unsigned second = 1; second < 50 && after == 0; second++) {
        while (session_deadline_us(&session) <= now_us + second * SECOND_US) {
            session_on_deadline(&session, session_deadline_us(&session));
            if (session_take_wants(&session) & SESSION_WANT_CLOSE) {
                after = second;
                break;
            }
        }
    }
    session_finish(&session, &record, now_us + 50 * SECOND_US);
    session_clear(&session);
    return after;
}

static struct settings *load_timeouts(const char *key, const char *action, const char *section)
{
    char text[512];

    snprintf(text, sizeof text, "[timeouts]\n%s\n[%s]\n%s%s = 7s\naction = %s\n", "idle = 5min", section,
             strncmp(section, "server", 6) == 0 ? "networks = 0.0.0.0/0, ::/0\n" : "", key, action);
    if (strcmp(section, "timeouts") == 0)
        snprintf(text, sizeof text, "[timeouts]\n%s = 7s\naction = %s\n", key, action);
    return load_good(text);
}

static void each_key_acts_in_its_phase_alone(void **state)
{
    (void)state;
    for (size_t key = 0; key < sizeof ways / sizeof ways[0]; key++) {
        struct settings *settings = load_timeouts(ways[key].key, "enforce", "timeouts");

        for (size_t way = 0; way < sizeof ways / sizeof ways[0]; way++) {
            const bool own = strcmp(ways[key].key, ways[way].key) == 0;
            const unsigned want = own ? 7 : strcmp(ways[way].key, "connect") == 0 ? 30 : 0;

            if (closes_after(&ways[way], settings) != want)
                fail_msg("%s = 7s: in %s (way %zu) after %u s, not %u", ways[key].key, ways[way].key, way,
                         closes_after(&ways[way], settings), want);
        }
        settings_destroy(settings);
    }
}

static void report_closes_nothing(void **state)
{
    (void)state;
    for (size_t way = 0; way < sizeof ways / sizeof ways[0]; way++) {
        struct settings *settings = load_timeouts(ways[way].key, "report", "timeouts");

        assert_int_equal(closes_after(&ways[way], settings), 0);
        settings_destroy(settings);
    }
}

static void a_server_section_has_its_own(void **state)
{
    (void)state;
    for (size_t way = 0; way < sizeof ways / sizeof ways[0]; way++) {
        struct settings *settings = load_timeouts(ways[way].key, "enforce", "server any");

        assert_int_equal(closes_after(&ways[way], settings), 7);
        settings_destroy(settings);
    }
}

/* No phase is without a way here but those that have no key. */
static void every_key_is_tried(void **state)
{
    (void)state;
    for (enum phase phase = 0; phase < PHASE_COUNT; phase++) {
        bool tried = phase == PHASE_CLOSED || phase == PHASE_OPAQUE;

        for (size_t way = 0; way < sizeof ways / sizeof ways[0]; way++)
            tried = tried || strcmp(ways[way].key, phase_name(phase)) == 0;
        if (!tried)
            fail_msg("%s is not tried", phase_name(phase));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_key_acts_in_its_phase_alone),
        cmocka_unit_test(report_closes_nothing),
        cmocka_unit_test(a_server_section_has_its_own),
        cmocka_unit_test(every_key_is_tried),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
