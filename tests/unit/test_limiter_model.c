/* The limiter against a naive model of it, which gets all it knows by counting, in many random operations. */
#include "tests/unit/test_limiter.h"

#define MODEL_SOURCES    6
#define MODEL_SESSIONS   48
#define MODEL_OPERATIONS 60000

enum model_state {
    MODEL_FREE = 0,
    MODEL_OPEN,    /* admitted, or granted and taken */
    MODEL_WAITING, /* in the queue */
    MODEL_GRANTED, /* granted, not taken yet: counts */
};

/* One session of the model. Everything the model knows it gets by counting these. */
struct model_session {
    struct held held;
    enum model_state state;
    uint32_t source;
    uint64_t arrival; /* of a waiter */
    bool greeted;
    struct limiter_ticket ticket;
};

static struct {
    struct limiter *limiter;
    struct policy_settings settings;
    struct model_session sessions[MODEL_SESSIONS];
    uint64_t arrivals;
    uint32_t attempts[MODEL_SOURCES];
    uint32_t peak[MODEL_SOURCES];
    uint64_t random;
    unsigned wakes, granted;
} model;

static uint32_t model_random(uint32_t below)
{
    model.random ^= model.random << 13;
    model.random ^= model.random >> 7;
    model.random ^= model.random << 17;
    return (uint32_t)((model.random >> 16) % below);
}

static uint32_t model_concurrent(uint32_t source)
{
    uint32_t count = 0;
    for (unsigned i = 0; i < MODEL_SESSIONS; i++) {
        const struct model_session *session = &model.sessions[i];
        count +=
            session->source == source && (session->state == MODEL_OPEN || session->state == MODEL_GRANTED);
    }
    return count;
}

static uint32_t model_total(void)
{
    uint32_t count = 0;
    for (uint32_t source = 0; source < MODEL_SOURCES; source++) {
        count += model_concurrent(source);
    }
    return count;
}

static struct model_session *model_first_waiter(uint32_t source)
{
    struct model_session *first = NULL;
    for (unsigned i = 0; i < MODEL_SESSIONS; i++) {
        struct model_session *session = &model.sessions[i];
        if (session->state == MODEL_WAITING && session->source == source &&
            (first == NULL || session->arrival < first->arrival)) {
            first = session;
        }
    }
    return first;
}

/* Is there room for one more of `source`, by the limits that are enforced (or by all of them)? */
static bool model_has_room(uint32_t source, bool reported_too)
{
    const struct policy_limits *limits = &model.settings.limits;
    uint32_t concurrent = model_concurrent(source), total = model_total();
    uint32_t remaining = total < limits->total_count ? limits->total_count - total : 0;
    uint32_t part = remaining * limits->percent_of_remaining / 100;
    bool per_source = limits->per_source_count == 0 || concurrent < limits->per_source_count;
    bool in_all = limits->total_count == 0 || total < limits->total_count;
    bool percent =
        limits->total_count == 0 || limits->percent_of_remaining == 0 || concurrent < (part == 0 ? 1 : part);
    return (per_source || (!reported_too && limits->per_source_action == POLICY_REPORT)) &&
           (in_all || (!reported_too && limits->total_action == POLICY_REPORT)) &&
           (percent || (!reported_too && limits->percent_action == POLICY_REPORT));
}

static void model_note_peak(uint32_t source)
{
    uint32_t concurrent = model_concurrent(source);
    if (concurrent > model.peak[source]) {
        model.peak[source] = concurrent;
    }
}

/* Called by the limiter: was it this one's turn, and was there room? */
static void model_granted(struct held *held)
{
    struct model_session *session = (struct model_session *)held;
    assert_int_equal(session->state, MODEL_WAITING);
    assert_ptr_equal(model_first_waiter(session->source), session);
    model.granted++;
    session->state = MODEL_GRANTED;
    model_note_peak(session->source);
}

static void model_check(void)
{
    struct limiter_stats stats;
    limiter_stats(model.limiter, &stats);
    assert_int_equal(stats.total, model_total());
    for (uint32_t source = 0; source < MODEL_SOURCES; source++) {
        uint32_t greeted = 0;
        struct model_session *open = NULL;
        for (unsigned i = 0; i < MODEL_SESSIONS; i++) {
            struct model_session *session = &model.sessions[i];
            if (session->state == MODEL_OPEN && session->source == source) {
                greeted += session->greeted;
                open = session;
            }
        }
        if (open != NULL) {
            struct limiter_counts counts;
            limiter_count(model.limiter, &open->ticket, &counts);
            assert_int_equal(counts.concurrent, model_concurrent(source));
            assert_int_equal(counts.greeted, greeted);
            assert_int_equal(counts.concurrent_peak, model.peak[source]);
            assert_int_equal(counts.total, model_total());
        }
        /* nobody waits for a slot that is free */
        assert_true(model_first_waiter(source) == NULL || !model_has_room(source, false));
    }
}

static void model_open_one(struct model_session *session)
{
    unsigned clock_before = model.granted;
    struct limiter_counts counts;
    session->source = model_random(MODEL_SOURCES);
    session->greeted = false;
    model.attempts[session->source]++;
    bool waiters = model_first_waiter(session->source) != NULL;
    bool room = model_has_room(session->source, false);
    bool room_by_all = model_has_room(session->source, true);
    enum policy_over_limit over = model.settings.limits.over_limit;
    enum limiter_answer expected = !room ? (over == POLICY_HOLD ? LIMITER_HOLD : LIMITER_REFUSE)
                                   : waiters && over == POLICY_HOLD ? LIMITER_HOLD
                                                                    : LIMITER_ADMIT;
    uint32_t concurrent = model_concurrent(session->source);
    assert_int_equal(admit(model.limiter, &model.settings, session->source, &session->ticket, &counts),
                     expected);
    assert_int_equal(model.granted, clock_before);
    assert_int_equal(counts.concurrent, concurrent + 1);
    assert_int_equal(counts.rate, model.attempts[session->source]);
    assert_int_equal(counts.met != LIMITER_LIMIT_NONE, !room_by_all);
    if (expected == LIMITER_ADMIT) {
        session->state = MODEL_OPEN;
        assert_int_equal(counts.would_refuse || counts.would_hold, !room_by_all);
        model_note_peak(session->source);
    } else if (expected == LIMITER_HOLD && model_random(8) != 0) {
        held_init(&session->held, model.limiter, session->source, &model.wakes);
        session->held.then = model_granted;
        session->arrival = ++model.arrivals;
        session->state = MODEL_WAITING;
        assert_false(limiter_wait(model.limiter, &model.settings, &session->held.waiter, SECOND_US));
    }
}

static void model_close_one(struct model_session *session)
{
    enum model_state before = session->state;
    session->state = MODEL_FREE; /* first: its place may be granted to another before the call returns */
    if (before == MODEL_OPEN) {
        limiter_release(model.limiter, &session->ticket, SECOND_US);
    } else if (before != MODEL_FREE) {
        limiter_leave(model.limiter, &session->held.waiter, SECOND_US);
    }
}

static void model_step(struct model_session *session)
{
    switch (session->state) {
    case MODEL_FREE:
        model_open_one(session);
        break;
    case MODEL_OPEN:
        if (model_random(3) == 0) {
            session->greeted = model_random(2) == 0;
            limiter_greeted(model.limiter, &session->ticket, session->greeted);
        } else {
            model_close_one(session);
        }
        break;
    case MODEL_WAITING:
        if (model_random(4) == 0) {
            model_close_one(session);
        }
        break;
    case MODEL_GRANTED:
        if (model_random(4) == 0) {
            model_close_one(session);
        } else {
            assert_true(limiter_take(model.limiter, &session->held.waiter, &session->ticket));
            session->state = MODEL_OPEN;
            session->greeted = false;
        }
        break;
    }
}

static void model_new_settings(void)
{
    struct policy_limits *limits = &model.settings.limits;
    memset(limits, 0, sizeof *limits);
    limits->per_source_count = model_random(3) == 0 ? 0 : 1 + model_random(6);
    limits->total_count = model_random(3) == 0 ? 0 : 1 + model_random(20);
    limits->percent_of_remaining = model_random(2) == 0 ? 0 : 1 + model_random(100);
    limits->per_source_action = (enum policy_action)(model_random(4) != 0);
    limits->total_action = (enum policy_action)(model_random(4) != 0);
    limits->percent_action = (enum policy_action)(model_random(4) != 0);
    limits->over_limit = (enum policy_over_limit)(model_random(4) != 0);
    limits->rate_window_us = 3600 * SECOND_US;
    limiter_reload(model.limiter, &model.settings, SECOND_US);
}

static void random_operations_agree_with_the_model(void **state)
{
    (void)state;
    memset(&model, 0, sizeof model);
    model.limiter = limiter_make(MODEL_SOURCES);
    model.random = 88172645463325252u;
    model.settings.ipv6_source_prefix = 64;
    unsigned granted = 0;
    for (unsigned operation = 0; operation < MODEL_OPERATIONS; operation++) {
        if (operation % 200 == 0) {
            model_new_settings();
        }
        model_step(&model.sessions[model_random(MODEL_SESSIONS)]);
        model_check();
    }
    granted = model.granted;
    assert_in_range(granted, 1000, MODEL_OPERATIONS); /* or the test tested nothing */
    for (unsigned i = 0; i < MODEL_SESSIONS; i++) {
        model_close_one(&model.sessions[i]);
        model_check();
    }
    assert_nothing_open(model.limiter);
    limiter_destroy(model.limiter);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_operations_agree_with_the_model),
    };
    only_tests_that_match(argc, argv);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
