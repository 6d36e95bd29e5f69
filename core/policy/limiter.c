#include <stdlib.h>
#include <string.h>

#include "core/policy/limiter_internal.h"
#include "core/policy/timeouts.h"

#define RATE_WINDOW_US 60000000u /* counted over a minute when the settings name no window */
/* A hundred days, and the most a rate is counted up to: their product stays within 64 bits. */
#define RATE_LONGEST_US  (UINT64_C(1) << 43)
#define RATE_MOST_COUNT  (1u << 20)
#define PEAKS_SLICE_ROWS 4096u /* rows read before the lock is let go */

void limiter_lock(struct limiter *limiter)
{
    pthread_mutex_lock(&limiter->lock);
}

void limiter_unlock(struct limiter *limiter)
{
    pthread_mutex_unlock(&limiter->lock);
}

struct limiter *limiter_create(uint32_t max_rows, const uint8_t seed[16])
{
    struct limiter *limiter = calloc(1, sizeof *limiter);
    if (limiter == NULL) {
        return NULL;
    }
    limiter->rows_max = max_rows == 0 ? 1 : max_rows == UINT32_MAX ? UINT32_MAX - 1 : max_rows;
    limiter->rows = calloc(limiter->rows_max, sizeof *limiter->rows);
    limiter->buckets = calloc(limiter->rows_max, sizeof *limiter->buckets);
    limiter->neighbours = neighbours_create(limiter->rows_max, seed);
    if (limiter->rows == NULL || limiter->buckets == NULL || limiter->neighbours == NULL) {
        goto no_memory;
    }
    limiter->memory_octets = sizeof *limiter +
                             (size_t)limiter->rows_max * (sizeof *limiter->rows + sizeof *limiter->buckets) +
                             neighbours_memory_octets(limiter->neighbours);
    memcpy(limiter->seed, seed, sizeof limiter->seed);
    if (pthread_mutex_init(&limiter->lock, NULL) != 0) {
        goto no_memory;
    }
    if (pthread_cond_init(&limiter->wake_ended, NULL) != 0) {
        pthread_mutex_destroy(&limiter->lock);
        goto no_memory;
    }
    return limiter;
no_memory:
    neighbours_destroy(limiter->neighbours);
    free(limiter->rows);
    free(limiter->buckets);
    free(limiter);
    return NULL;
}

void limiter_destroy(struct limiter *limiter)
{
    if (limiter == NULL) {
        return;
    }
    pthread_cond_destroy(&limiter->wake_ended);
    pthread_mutex_destroy(&limiter->lock);
    neighbours_destroy(limiter->neighbours);
    free(limiter->rows);
    free(limiter->buckets);
    free(limiter);
}

struct neighbours *limiter_neighbours(struct limiter *limiter)
{
    return limiter != NULL ? limiter->neighbours : NULL;
}

/* Counts an attempt and returns how many the window now holds. */
static uint32_t rate_count(struct limiter_row *row, uint64_t window_us, uint64_t now_us)
{
    if (window_us == 0) {
        window_us = RATE_WINDOW_US;
    }
    if (window_us > RATE_LONGEST_US) {
        window_us = RATE_LONGEST_US;
    }
    uint64_t elapsed_us = now_us > row->rate_since_us ? now_us - row->rate_since_us : 0;
    if (elapsed_us / 2 >= window_us || (row->rate_now == 0 && row->rate_before == 0)) {
        row->rate_now = row->rate_before = 0;
        row->rate_since_us = now_us;
        elapsed_us = 0;
    } else if (elapsed_us >= window_us) {
        row->rate_before = row->rate_now;
        row->rate_now = 0;
        row->rate_since_us += window_us;
        elapsed_us -= window_us;
    }
    if (row->rate_now < RATE_MOST_COUNT) {
        row->rate_now++;
    }
    uint64_t covered_us = elapsed_us < window_us ? window_us - elapsed_us : 0;
    return row->rate_now + (uint32_t)(row->rate_before * covered_us / window_us);
}

uint32_t limiter_percent_allows(uint32_t total_count, uint32_t percent, uint32_t total)
{
    uint64_t remaining = total < total_count ? total_count - total : 0;
    uint64_t part = remaining * percent / 100;
    return part < 1 ? 1 : (uint32_t)(part < UINT32_MAX ? part : UINT32_MAX);
}

struct limiter_judgement {
    enum limiter_answer answer;
    unsigned weight; /* of what named `met`: 1 reported, 2 a hold, 3 a refusal */
    struct limiter_counts *counts;
};

static void judge_limit(struct limiter_judgement *judgement, enum limiter_limit met, uint32_t limit,
                        enum policy_action action, enum policy_over_limit over)
{
    enum limiter_answer answer = over == POLICY_HOLD ? LIMITER_HOLD : LIMITER_REFUSE;
    unsigned weight = 1;
    if (action == POLICY_ENFORCE) {
        weight = answer == LIMITER_HOLD ? 2 : 3;
    } else if (answer == LIMITER_HOLD) {
        judgement->counts->would_hold = true;
    } else {
        judgement->counts->would_refuse = true;
    }
    if (weight <= judgement->weight) {
        return;
    }
    judgement->weight = weight;
    judgement->counts->met = met;
    judgement->counts->limit = limit;
    if (weight > 1) {
        judgement->answer = answer;
    }
}

/* Which limits a newcomer to `row` meets. `counts` holds the rate already. */
static enum limiter_answer limiter_judge(const struct limiter *limiter, const struct limiter_row *row,
                                         const struct policy_limits *limits, struct limiter_counts *counts)
{
    struct limiter_judgement judgement = {.answer = LIMITER_ADMIT, .counts = counts};
    if (limits->per_source_count != 0 && row->concurrent >= limits->per_source_count) {
        judge_limit(&judgement, LIMITER_LIMIT_PER_SOURCE, limits->per_source_count, limits->per_source_action,
                    limits->over_limit);
    }
    if (limits->total_count != 0 && limiter->total >= limits->total_count) {
        judge_limit(&judgement, LIMITER_LIMIT_TOTAL, limits->total_count, limits->total_action,
                    limits->over_limit);
    }
    if (limits->percent_of_remaining != 0 && limits->total_count != 0) {
        uint32_t allowed =
            limiter_percent_allows(limits->total_count, limits->percent_of_remaining, limiter->total);
        if (row->concurrent >= allowed) {
            judge_limit(&judgement, LIMITER_LIMIT_PERCENT, allowed, limits->percent_action,
                        limits->over_limit);
        }
    }
    if (limits->rate_count != 0 && counts->rate > limits->rate_count) {
        judge_limit(&judgement, LIMITER_LIMIT_RATE, limits->rate_count, limits->rate_action, POLICY_REFUSE);
    }
    return judgement.answer;
}

bool limiter_limits_admit(const struct policy_limits *limits, uint32_t open_count)
{
    bool per_source = limits->per_source_count == 0 || open_count < limits->per_source_count;
    bool total = limits->total_count == 0 || open_count < limits->total_count;
    bool percent =
        limits->percent_of_remaining == 0 || limits->total_count == 0 ||
        open_count < limiter_percent_allows(limits->total_count, limits->percent_of_remaining, open_count);
    return per_source && total && percent;
}

static void name_what_the_first_waits_for(const struct limiter *limiter, const struct limiter_row *row,
                                          struct limiter_counts *counts)
{
    const struct limiter_hold *hold = &row->first->hold;
    if (hold->per_source_count != 0 && row->concurrent >= hold->per_source_count) {
        counts->met = LIMITER_LIMIT_PER_SOURCE;
        counts->limit = hold->per_source_count;
    } else if (hold->total_count != 0 && limiter->total >= hold->total_count) {
        counts->met = LIMITER_LIMIT_TOTAL;
        counts->limit = hold->total_count;
    } else {
        counts->met = LIMITER_LIMIT_PERCENT;
        counts->limit = limiter_percent_allows(hold->percent_of_count, hold->percent, limiter->total);
    }
}

static void total_open(struct limiter *limiter, struct limiter_ticket *ticket)
{
    ticket->counted_total = true;
    limiter->admitted++;
    limiter->total++;
    if (limiter->total > limiter->total_peak) {
        limiter->total_peak = limiter->total;
    }
}

void limiter_row_open(struct limiter *limiter, uint32_t index, struct limiter_ticket *ticket)
{
    memset(ticket, 0, sizeof *ticket);
    total_open(limiter, ticket);
    if (index == 0) {
        limiter->uncounted++;
        return;
    }
    struct limiter_row *row = limiter_row_at(limiter, index);
    ticket->row = index;
    ticket->generation = row->generation;
    row->interval_opened++;
    row->concurrent++;
    if (row->concurrent > row->concurrent_peak) {
        row->concurrent_peak = row->concurrent;
    }
    if (row->concurrent > row->interval_peak) {
        row->interval_peak = row->concurrent;
    }
    limiter_row_classify(limiter, index);
}

void limiter_row_close(struct limiter *limiter, struct limiter_ticket *ticket)
{
    struct limiter_row *row = limiter_row_held(limiter, ticket->row, ticket->generation);
    if (ticket->counted_total) {
        limiter->total--;
    }
    if (row != NULL) {
        row->concurrent--;
        if (ticket->greeted) {
            row->greeted--;
        }
        limiter_row_classify(limiter, ticket->row);
    }
    memset(ticket, 0, sizeof *ticket);
}

enum limiter_answer limiter_admit(struct limiter *limiter, const struct policy_settings *settings,
                                  const struct address *client, const struct address *server, uint64_t now_us,
                                  struct limiter_ticket *ticket, struct limiter_counts *counts)
{
    const struct policy_override *source = NULL;
    const struct policy_limits *limits = policy_limits_for(settings, client, server, &source);
    struct limiter_key key;
    limiter_key_make(&key, limiter->seed, settings, source, client, server);
    memset(ticket, 0, sizeof *ticket);
    memset(counts, 0, sizeof *counts);

    limiter_lock(limiter);
    enum limiter_answer answer = LIMITER_ADMIT;
    uint32_t index = limiter_row_find(limiter, &key);
    if (index == 0) { /* every row is in use: fail open */
        limiter_row_open(limiter, 0, ticket);
        counts->total = limiter->total;
        limiter_unlock(limiter);
        return answer;
    }
    struct limiter_row *row = limiter_row_at(limiter, index);
    counts->rate = rate_count(row, limits->rate_window_us, now_us);
    if (row->first != NULL || limiter->lists[LIMITER_LIST_READY].count > 0) {
        limiter_queue_serve(limiter, settings, index);
    }
    answer = limiter_judge(limiter, row, limits, counts);
    if (answer == LIMITER_ADMIT && row->first != NULL && limits->over_limit == POLICY_HOLD) {
        answer = LIMITER_HOLD; /* no overtaking */
        name_what_the_first_waits_for(limiter, row, counts);
    }
    switch (answer) {
    case LIMITER_ADMIT:
        limiter_row_open(limiter, index, ticket);
        break;
    case LIMITER_REFUSE:
        limiter->refused++;
        break;
    case LIMITER_HOLD:
        limiter->held++;
        break;
    }
    uint32_t this_one = answer == LIMITER_ADMIT ? 0 : 1; /* an admitted one is in the counts already */
    counts->concurrent = row->concurrent + this_one;
    counts->concurrent_peak = row->concurrent_peak;
    counts->greeted = row->greeted;
    counts->total = limiter->total + this_one;
    limiter_queue_finish(limiter);
    return answer;
}

void limiter_release(struct limiter *limiter, struct limiter_ticket *ticket, uint64_t now_us)
{
    (void)now_us;
    if (ticket->row == 0 && !ticket->counted_total) {
        return;
    }
    limiter_lock(limiter);
    uint32_t own = ticket->row;
    limiter_row_close(limiter, ticket);
    limiter_queue_serve(limiter, NULL, own);
    limiter_queue_finish(limiter);
}

void limiter_greeted(struct limiter *limiter, struct limiter_ticket *ticket, bool greeted)
{
    limiter_lock(limiter);
    struct limiter_row *row = limiter_row_held(limiter, ticket->row, ticket->generation);
    if (row != NULL && ticket->greeted != greeted) {
        ticket->greeted = greeted;
        row->greeted += greeted ? 1u : UINT32_MAX;
    }
    limiter_unlock(limiter);
}

void limiter_count(struct limiter *limiter, const struct limiter_ticket *ticket,
                   struct limiter_counts *counts)
{
    memset(counts, 0, sizeof *counts);
    limiter_lock(limiter);
    const struct limiter_row *row = limiter_row_held(limiter, ticket->row, ticket->generation);
    counts->total = limiter->total;
    if (row != NULL) {
        counts->concurrent = row->concurrent;
        counts->concurrent_peak = row->concurrent_peak;
        counts->greeted = row->greeted;
        counts->rate = row->rate_now;
    }
    limiter_unlock(limiter);
}

void limiter_stats(struct limiter *limiter, struct limiter_stats *stats)
{
    limiter_lock(limiter);
    *stats = (struct limiter_stats){
        .rows_used = limiter->rows_used,
        .rows_max = limiter->rows_max,
        .total = limiter->total,
        .total_peak = limiter->total_peak,
        .admitted = limiter->admitted,
        .refused = limiter->refused,
        .held = limiter->held,
        .uncounted = limiter->uncounted,
        .evicted = limiter->evicted,
        .memory_octets = limiter->memory_octets,
    };
    limiter_unlock(limiter);
}

static bool row_is_busier(const struct limiter_row *row, const struct limiter_peak *peak)
{
    return row->interval_peak != peak->peak ? row->interval_peak > peak->peak
                                            : row->interval_opened > peak->opened;
}

static void peak_fill(struct limiter_peak *peak, const struct limiter_row *row)
{
    memset(peak, 0, sizeof *peak);
    peak->peak = row->interval_peak;
    peak->concurrent = row->concurrent;
    peak->opened = row->interval_opened;
    memcpy(peak->server.octets, row->key.server, sizeof peak->server.octets);
    peak->server.port = (uint16_t)(row->key.server_port[0] << 8 | row->key.server_port[1]);
    if (row->key.kind == LIMITER_KEY_ADDRESS) {
        memcpy(peak->source.octets, row->key.source, sizeof peak->source.octets);
        return;
    }
    size_t whole = sizeof row->key.source - 1;
    size_t cut = sizeof row->key.source - sizeof(uint64_t); /* see key_take_name() */
    memcpy(peak->name, row->key.source, row->key.source[whole] == 0 ? whole : cut);
}

/* Puts the row into its place among the `count` busiest so far; returns how many there are now. */
static size_t peak_insert(struct limiter_peak *peaks, size_t count, size_t room,
                          const struct limiter_row *row)
{
    size_t place = count;
    while (place > 0 && row_is_busier(row, &peaks[place - 1])) {
        place--;
    }
    if (place >= room) {
        return count;
    }
    size_t kept = count < room ? count : room - 1;
    memmove(&peaks[place + 1], &peaks[place], (kept - place) * sizeof *peaks);
    peak_fill(&peaks[place], row);
    return kept + 1;
}

size_t limiter_peaks(struct limiter *limiter, struct limiter_peak *peaks, size_t room, bool reset)
{
    size_t count = 0;
    uint32_t next = 0;
    bool more = true;
    while (more) {
        limiter_lock(limiter);
        for (uint32_t slice = 0; slice < PEAKS_SLICE_ROWS && next < limiter->rows_used; slice++, next++) {
            struct limiter_row *row = &limiter->rows[next];
            if (row->interval_peak > 0 || row->interval_opened > 0) {
                count = peak_insert(peaks, count, room, row);
            }
            if (reset) {
                row->interval_peak = row->concurrent;
                row->interval_opened = 0;
            }
        }
        more = next < limiter->rows_used;
        limiter_unlock(limiter);
    }
    return count;
}
