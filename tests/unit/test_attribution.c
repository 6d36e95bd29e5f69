/* The table of attribution, cell by cell: every phase with every side that can owe in it, every end, silent or not.
 * The expected answers are tests/unit/attribution_cells.txt; `test_attribution --print` writes the present ones, for
 * review by a person before they are committed. Then the laws that must hold whatever the facts are. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/fault/attribution.h"
#include "core/policy/timeouts.h"

#define CELLS_FILE "tests/unit/attribution_cells.txt"

static const char *const end_names[SESSION_END_COUNT] = {
    "runs",         "reply",       "client-fin",  "server-fin",     "client-reset",
    "server-reset", "client-lost", "server-lost", "connect-failed", "witness",
    "refused",      "drain",       "overload",    "capture",
};

/* Which sides can owe in a phase. */
static unsigned owers(enum phase phase)
{
    switch (phase) {
    case PHASE_GREETING:
    case PHASE_STARTTLS:
    case PHASE_DATA:
    case PHASE_END_OF_DATA:
    case PHASE_RSET:
    case PHASE_QUIT:
    case PHASE_COMMAND:
        return 1u << SIDE_SERVER;
    case PHASE_CONNECT: /* the client owes when it does not take the server's answer to its SYN */
    case PHASE_HELO:
    case PHASE_TLS:
    case PHASE_AUTH:
    case PHASE_MAIL:
    case PHASE_RCPT:
    case PHASE_BODY: /* the server owes when it does not take the body */
    case PHASE_BDAT:
    case PHASE_OPAQUE:
        return 1u << SIDE_CLIENT | 1u << SIDE_SERVER;
    case PHASE_IDLE:
        return 1u << SIDE_CLIENT;
    case PHASE_CLOSED:
    case PHASE_COUNT:
        return 1u << SIDE_NONE;
    }
    return 0;
}

static uint64_t phase_bits(enum phase phase)
{
    uint64_t bits = phase == PHASE_CONNECT || phase == PHASE_GREETING
                        ? FACT_NO_SERVER_OCTETS | FACT_NO_CLIENT_OCTETS
                        : FACT_GREETED;
    bits |= phase == PHASE_RCPT || phase == PHASE_DATA || phase == PHASE_BODY || phase == PHASE_END_OF_DATA ||
                    phase == PHASE_BDAT
                ? FACT_MAIL_OPEN
                : 0;
    bits |= phase == PHASE_BODY || phase == PHASE_END_OF_DATA || phase == PHASE_BDAT ? FACT_BODY_BEGAN : 0;
    bits |= phase == PHASE_IDLE ? FACT_IDLE | FACT_MAIL_ACCEPTED : 0;
    bits |= phase == PHASE_QUIT || phase == PHASE_CLOSED ? FACT_ORDERLY : 0;
    bits |= phase == PHASE_OPAQUE || phase == PHASE_TLS ? FACT_TLS : 0;
    bits |= phase == PHASE_OPAQUE ? FACT_TLS_INFERRED : 0;
    return bits;
}

static void cell_facts(struct facts *facts, enum phase phase, enum side side, enum session_end end,
                       bool stalled)
{
    memset(facts, 0, sizeof *facts);
    facts->phase = phase;
    facts->suspect = side;
    facts->end = end;
    facts->waited_us = stalled ? 20000000 : 1000;
    facts->patience_us = rfc5321_patience_us(phase, side);
    facts->bits = phase_bits(phase) | (stalled ? FACT_STALLED : 0) |
                  (side == SIDE_CLIENT   ? FACT_OWED_CLIENT
                   : side == SIDE_SERVER ? FACT_OWED_SERVER
                                         : 0);
    if (end == SESSION_END_REPLY) {
        facts->bits |= FACT_REPLY_DECIDES | (stalled && side == SIDE_CLIENT ? FACT_SERVER_TIRED : 0);
        facts->reply_class = stalled && side == SIDE_CLIENT ? REPLY_CLASS_TIMEOUT : REPLY_CLASS_OTHER;
    }
    facts->connect = end == SESSION_END_CONNECT_FAILED               ? CONNECT_TIMED_OUT
                     : phase == PHASE_CONNECT && side == SIDE_SERVER ? CONNECT_PENDING
                                                                     : CONNECT_ESTABLISHED;
}

static void cell_line(const struct facts *facts, const struct verdict *verdict, char *line, size_t room)
{
    char also[64] = "";
    for (unsigned fault = 0; fault < FAULT_COUNT; fault++) {
        if (verdict->also >> fault & 1u) {
            strncat(also, also[0] != '\0' ? "," : "+", sizeof also - strlen(also) - 1);
            strncat(also, fault_name((enum fault)fault), sizeof also - strlen(also) - 1);
        }
    }
    snprintf(line, room, "%-11s %-6s %-14s %-6s -> %s%s %s %s %s %s", phase_name(facts->phase),
             side_name(facts->suspect), end_names[facts->end], (facts->bits & FACT_STALLED) ? "silent" : "-",
             fault_name(verdict->fault), also, cause_name(verdict->cause),
             confidence_name(verdict->confidence), ended_by_name(verdict->ended_by),
             attribution_rule_name(facts));
}

static void cells_visit(void (*visit)(const struct facts *, const struct verdict *, void *), void *context)
{
    for (unsigned phase = 0; phase < PHASE_COUNT; phase++) {
        for (unsigned side = SIDE_NONE; side <= SIDE_SERVER; side++) {
            if (!(owers((enum phase)phase) >> side & 1u)) {
                continue;
            }
            for (unsigned end = 0; end < SESSION_END_COUNT; end++) {
                for (unsigned stalled = 0; stalled < 2; stalled++) {
                    struct facts facts;
                    struct verdict verdict = {0};
                    cell_facts(&facts, (enum phase)phase, (enum side)side, (enum session_end)end,
                               stalled != 0);
                    attribution_judge(&facts, &verdict);
                    visit(&facts, &verdict, context);
                }
            }
        }
    }
}

static void cell_print(const struct facts *facts, const struct verdict *verdict, void *context)
{
    char line[256];
    cell_line(facts, verdict, line, sizeof line);
    fprintf(context, "%s\n", line);
}

static void cell_compare(const struct facts *facts, const struct verdict *verdict, void *context)
{
    char line[256], expected[256] = "";
    cell_line(facts, verdict, line, sizeof line);
    if (fgets(expected, sizeof expected, context) != NULL) {
        expected[strcspn(expected, "\n")] = '\0';
    }
    assert_string_equal(line, expected);
}

static void test_every_cell(void **state)
{
    (void)state;
    FILE *file = fopen(CELLS_FILE, "r");
    assert_non_null(file);
    cells_visit(cell_compare, file);
    assert_int_equal(fgetc(file), EOF);
    fclose(file);
}

/* --- laws ------------------------------------------------------------------------------------------------------- */

static bool names_endpoint(const struct verdict *verdict, enum side side)
{
    return verdict->fault == (side == SIDE_CLIENT ? FAULT_CLIENT : FAULT_SERVER);
}

static void law_sane(const struct facts *facts, const struct verdict *verdict, void *context)
{
    (void)context;
    (void)facts;
    assert_false(verdict->also >> verdict->fault & 1u);
    if (verdict->fault == FAULT_NONE) {
        assert_int_equal(verdict->also, 0);
    }
    if (verdict->fault == FAULT_UNKNOWN) {
        assert_int_equal(verdict->confidence, CONFIDENCE_POSSIBLE);
    }
    assert_true(verdict->explain[0] != '\0');
    assert_null(strchr(verdict->explain, '{'));
}

static void test_sane(void **state)
{
    (void)state;
    cells_visit(law_sane, NULL);
}

/* With proof that the leg failed, silence is never charged to the application behind it. */
static void law_undelivered(const struct facts *given, const struct verdict *plain, void *context)
{
    struct facts facts = *given;
    struct verdict verdict = {0};
    (void)plain;
    uint64_t proof = *(const uint64_t *)context;
    bool other_ended = (facts.suspect == SIDE_CLIENT &&
                        (facts.end == SESSION_END_SERVER_FIN || facts.end == SESSION_END_SERVER_RESET)) ||
                       (facts.suspect == SIDE_SERVER &&
                        (facts.end == SESSION_END_CLIENT_FIN || facts.end == SESSION_END_CLIENT_RESET)) ||
                       facts.end == SESSION_END_NONE || facts.end == SESSION_END_WITNESS;
    /* A FIN or a reset of its own behind a failed leg tells no more. Only where it may be said to have refused is it
     * named: a server that closes before it greets. */
    bool own_end = !other_ended &&
                   (facts.end == SESSION_END_SERVER_FIN || facts.end == SESSION_END_SERVER_RESET ||
                    facts.end == SESSION_END_CLIENT_FIN || facts.end == SESSION_END_CLIENT_RESET) &&
                   facts.phase != PHASE_GREETING && facts.phase != PHASE_CONNECT;
    if (!(facts.bits & FACT_STALLED) || facts.suspect == SIDE_NONE || !(other_ended || own_end)) {
        return;
    }
    facts.bits |= proof;
    attribution_judge(&facts, &verdict);
    if (names_endpoint(&verdict, facts.suspect)) {
        print_error("rule %s names the %s in phase %s\n", attribution_rule_name(&facts),
                    side_name(facts.suspect), phase_name(facts.phase));
    }
    assert_false(names_endpoint(&verdict, facts.suspect));
}

static void test_network_proof_never_blames_the_application(void **state)
{
    (void)state;
    static const uint64_t proofs[] = {
        FACT_UNDELIVERED,
        FACT_UNDELIVERED | FACT_ONLY_BIG_LOST,
        FACT_REVEALED | FACT_TAPPED,
        FACT_REVEALED | FACT_REVEALED_BIG | FACT_TAPPED,
        FACT_PROBE_UNANSWERED,
        FACT_UNREACHABLE | FACT_UNDELIVERED,
    };
    for (size_t i = 0; i < sizeof proofs / sizeof proofs[0]; i++) {
        uint64_t proof = proofs[i];
        cells_visit(law_undelivered, &proof);
    }
}

/* What we did not see accuses nobody: with a gap of our own only words, order or our own deeds may decide. */
static void law_gap(const struct facts *given, const struct verdict *plain, void *context)
{
    struct facts facts = *given;
    struct verdict verdict = {0};
    (void)plain;
    (void)context;
    if (facts.end == SESSION_END_REPLY || facts.phase == PHASE_CONNECT) {
        return;
    }
    facts.bits |= FACT_OBSERVER_GAP;
    attribution_judge(&facts, &verdict);
    assert_true(verdict.fault == FAULT_NONE || verdict.fault == FAULT_UNKNOWN ||
                verdict.fault == FAULT_WITNESS || verdict.fault == FAULT_POLICY ||
                facts.end == SESSION_END_CONNECT_FAILED);
}

static void test_gap_blames_nobody(void **state)
{
    (void)state;
    cells_visit(law_gap, NULL);
}

/* Nobody is certain about an application that was not probed. */
static void law_probe(const struct facts *facts, const struct verdict *verdict, void *context)
{
    (void)context;
    bool silence_cause = verdict->cause == CAUSE_COMMAND_STALL || verdict->cause == CAUSE_DATA_START_STALL ||
                         verdict->cause == CAUSE_BODY_STALL || verdict->cause == CAUSE_GREETING_STALL ||
                         verdict->cause == CAUSE_REPLY_STALL || verdict->cause == CAUSE_END_OF_DATA_STALL;
    if (silence_cause && !(facts->bits & FACT_PROBE_ANSWERED)) {
        assert_int_not_equal(verdict->confidence, CONFIDENCE_CERTAIN);
        assert_int_not_equal(verdict->also, 0);
    }
}

static void test_no_certainty_without_a_probe(void **state)
{
    (void)state;
    cells_visit(law_probe, NULL);
}

/* Random facts: whatever comes, an answer that keeps the laws of form. */
static void test_random_facts(void **state)
{
    (void)state;
    uint64_t seed = 88172645463325252u;
    for (unsigned i = 0; i < 300000; i++) {
        struct facts facts;
        struct verdict verdict = {0};
        uint64_t draw[3];
        for (unsigned n = 0; n < 3; n++) {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            draw[n] = seed;
        }
        memset(&facts, 0, sizeof facts);
        facts.bits = draw[0] & draw[1];
        facts.phase = (enum phase)(draw[2] % PHASE_COUNT);
        facts.suspect = (enum side)(draw[2] / 32 % 3);
        facts.end = (enum session_end)(draw[2] / 256 % SESSION_END_COUNT);
        facts.reply_class = (enum reply_class)(draw[2] / 65536 % REPLY_CLASS_COUNT);
        facts.connect = (enum connect_result)(draw[2] / 16777216 % CONNECT_COUNT);
        facts.waited_us = draw[1] % 10000000000u;
        attribution_judge(&facts, &verdict);
        law_sane(&facts, &verdict, NULL);
        assert_true((unsigned)verdict.fault < FAULT_COUNT && (unsigned)verdict.cause < CAUSE_COUNT);
    }
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "--print") == 0) {
        cells_visit(cell_print, stdout);
        return 0;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_cell),
        cmocka_unit_test(test_sane),
        cmocka_unit_test(test_network_proof_never_blames_the_application),
        cmocka_unit_test(test_gap_blames_nobody),
        cmocka_unit_test(test_no_certainty_without_a_probe),
        cmocka_unit_test(test_random_facts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
