#include "core/policy/neighbours_internal.h"

#include <stdlib.h>
#include <string.h>

#include "core/policy/timeouts.h"

#define MINUTE_US       60000000u
#define MINUTES_A_DAY   1440u
#define SYN_INTERVAL_US 1000000 /* RFC 6298: the first repetition of a SYN comes after one second */

struct neighbours *neighbours_create(uint32_t max_rows, const uint8_t seed[16])
{
    struct neighbours *neighbours = calloc(1, sizeof *neighbours);
    if (neighbours == NULL) {
        return NULL;
    }
    uint32_t rows = max_rows < NEIGHBOURS_MOST_ROWS ? max_rows : NEIGHBOURS_MOST_ROWS;
    uint32_t servers = rows < NEIGHBOURS_SERVERS ? rows : NEIGHBOURS_SERVERS;
    memcpy(neighbours->seed, seed, sizeof neighbours->seed);
    neighbours->seats_max = NEIGHBOURS_SEATS;
    neighbours->seats = calloc(neighbours->seats_max, sizeof *neighbours->seats);
    bool made = neighbours_table_init(&neighbours->pairs, rows, sizeof(struct neighbours_pair), seed);
    made = neighbours_table_init(&neighbours->sources, rows, sizeof(struct neighbours_source), seed) && made;
    made =
        neighbours_table_init(&neighbours->servers, servers, sizeof(struct neighbours_server), seed) && made;
    if (neighbours->seats == NULL || !made || pthread_mutex_init(&neighbours->lock, NULL) != 0) {
        neighbours_table_clear(&neighbours->pairs);
        neighbours_table_clear(&neighbours->sources);
        neighbours_table_clear(&neighbours->servers);
        free(neighbours->seats);
        free(neighbours);
        return NULL;
    }
    return neighbours;
}

void neighbours_destroy(struct neighbours *neighbours)
{
    if (neighbours == NULL) {
        return;
    }
    for (uint32_t i = 0; i < neighbours->seats_used; i++) {
        free(neighbours->seats[i].receipt);
    }
    pthread_mutex_destroy(&neighbours->lock);
    neighbours_table_clear(&neighbours->pairs);
    neighbours_table_clear(&neighbours->sources);
    neighbours_table_clear(&neighbours->servers);
    free(neighbours->seats);
    free(neighbours);
}

size_t neighbours_memory_octets(const struct neighbours *neighbours)
{
    return sizeof *neighbours + neighbours_table_octets(&neighbours->pairs) +
           neighbours_table_octets(&neighbours->sources) + neighbours_table_octets(&neighbours->servers) +
           (size_t)neighbours->seats_max * (sizeof *neighbours->seats + sizeof(struct neighbours_receipt));
}

/* -- seats ----------------------------------------------------------------------------------------------- */

static struct neighbours_seat *seat_at(struct neighbours *neighbours, uint32_t number)
{
    return neighbours == NULL || number == 0 ? NULL : &neighbours->seats[number - 1];
}

static struct neighbours_pair *pair_of(struct neighbours *neighbours, const struct neighbours_seat *seat)
{
    return neighbours_table_row(&neighbours->pairs, seat->pair);
}

static struct neighbours_source *source_of(struct neighbours *neighbours, const struct neighbours_seat *seat)
{
    return neighbours_table_row(&neighbours->sources, seat->source);
}

static struct neighbours_server *server_of(struct neighbours *neighbours, const struct neighbours_seat *seat)
{
    return neighbours_table_row(&neighbours->servers, seat->server);
}

static uint32_t seat_obtain(struct neighbours *neighbours)
{
    uint32_t number = neighbours->free_seat;
    if (number != 0) {
        neighbours->free_seat = neighbours->seats[number - 1].next;
        return number;
    }
    return neighbours->seats_used < neighbours->seats_max ? ++neighbours->seats_used : 0;
}

static void seat_return(struct neighbours *neighbours, uint32_t number)
{
    struct neighbours_seat *seat = &neighbours->seats[number - 1];
    memset(seat, 0, sizeof *seat);
    seat->next = neighbours->free_seat;
    neighbours->free_seat = number;
}

static void keys_make(struct neighbours *neighbours, const struct policy_settings *settings,
                      const struct address *client, const struct address *server, struct limiter_key *pair,
                      struct limiter_key *source, struct limiter_key *target)
{
    const struct policy_override *override = NULL;
    (void)policy_limits_for(settings, client, server, &override);
    limiter_key_make(pair, neighbours->seed, settings, override, client, server);
    *source = *target = *pair;
    memset(source->server, 0, sizeof source->server);
    memset(source->server_port, 0, sizeof source->server_port);
    memset(target->source, 0, sizeof target->source);
    target->kind = 0;
}

/* Its rows, all three or none. */
static bool seat_find_rows(struct neighbours *neighbours, struct neighbours_seat *seat,
                           const struct limiter_key *pair, const struct limiter_key *source,
                           const struct limiter_key *target)
{
    seat->pair = neighbours_table_take(&neighbours->pairs, pair);
    seat->source = neighbours_table_take(&neighbours->sources, source);
    seat->server = neighbours_table_take(&neighbours->servers, target);
    if (seat->pair != 0 && seat->source != 0 && seat->server != 0) {
        return true;
    }
    if (seat->pair != 0) {
        neighbours_table_give(&neighbours->pairs, seat->pair);
    }
    if (seat->source != 0) {
        neighbours_table_give(&neighbours->sources, seat->source);
    }
    if (seat->server != 0) {
        neighbours_table_give(&neighbours->servers, seat->server);
    }
    return false;
}

uint32_t neighbours_open(struct neighbours *neighbours, const struct policy_settings *settings,
                         const struct address *client, const struct address *server, uint64_t now_us)
{
    struct limiter_key pair_key, source_key, server_key;
    if (neighbours == NULL) {
        return 0;
    }
    keys_make(neighbours, settings, client, server, &pair_key, &source_key, &server_key);
    uint32_t source_hash = (uint32_t)hash_octets(neighbours->seed, &source_key, sizeof source_key) | 1;

    pthread_mutex_lock(&neighbours->lock);
    uint32_t number = seat_obtain(neighbours);
    struct neighbours_seat *seat = seat_at(neighbours, number);
    if (seat != NULL && !seat_find_rows(neighbours, seat, &pair_key, &source_key, &server_key)) {
        seat_return(neighbours, number);
        number = 0;
    } else if (seat != NULL) {
        struct neighbours_pair *pair = pair_of(neighbours, seat);
        atomic_store_explicit(&seat->state, SEAT_CONNECTING, memory_order_relaxed);
        seat->source_hash = source_hash;
        seat->opened_us = now_us;
        seat->previous = 0;
        seat->next = pair->first_seat;
        if (seat->next != 0) {
            seat_at(neighbours, seat->next)->previous = number;
        }
        pair->first_seat = number;
        peaks_note(&pair->peaks, ++pair->open_count, now_us);
    }
    pthread_mutex_unlock(&neighbours->lock);
    return number;
}

/* The server has it open no longer. */
static void seat_leave(struct neighbours *neighbours, struct neighbours_seat *seat, uint64_t now_us)
{
    struct neighbours_pair *pair = pair_of(neighbours, seat);
    if (atomic_load_explicit(&seat->state, memory_order_relaxed) == SEAT_GONE) {
        return;
    }
    atomic_store_explicit(&seat->state, SEAT_GONE, memory_order_relaxed);
    peaks_note(&pair->peaks, pair->open_count--, now_us);
    pair->greeted_count -= seat->greeted ? 1 : 0;
    seat->greeted = false;
}

void neighbours_close(struct neighbours *neighbours, uint32_t *number, uint64_t now_us)
{
    struct neighbours_seat *seat = seat_at(neighbours, *number);
    if (seat == NULL) {
        return;
    }
    pthread_mutex_lock(&neighbours->lock);
    seat_leave(neighbours, seat, now_us);
    if (seat->previous != 0) {
        seat_at(neighbours, seat->previous)->next = seat->next;
    } else {
        pair_of(neighbours, seat)->first_seat = seat->next;
    }
    if (seat->next != 0) {
        seat_at(neighbours, seat->next)->previous = seat->previous;
    }
    neighbours_table_give(&neighbours->pairs, seat->pair);
    neighbours_table_give(&neighbours->sources, seat->source);
    neighbours_table_give(&neighbours->servers, seat->server);
    free(seat->receipt);
    seat_return(neighbours, *number);
    pthread_mutex_unlock(&neighbours->lock);
    *number = 0;
}

void neighbours_phase(struct neighbours *neighbours, uint32_t number, enum phase phase)
{
    struct neighbours_seat *seat = seat_at(neighbours, number);
    if (seat != NULL && atomic_load_explicit(&seat->phase, memory_order_relaxed) != (unsigned char)phase) {
        atomic_store_explicit(&seat->phase, (unsigned char)phase, memory_order_relaxed);
    }
}

void neighbours_closing(struct neighbours *neighbours, uint32_t number)
{
    struct neighbours_seat *seat = seat_at(neighbours, number);
    if (seat != NULL && atomic_load_explicit(&seat->state, memory_order_relaxed) != SEAT_GONE) {
        atomic_store_explicit(&seat->state, SEAT_CLOSING, memory_order_relaxed);
    }
}

void neighbours_gone(struct neighbours *neighbours, uint32_t number, uint64_t now_us)
{
    struct neighbours_seat *seat = seat_at(neighbours, number);
    if (seat != NULL) {
        pthread_mutex_lock(&neighbours->lock);
        seat_leave(neighbours, seat, now_us);
        pthread_mutex_unlock(&neighbours->lock);
    }
}

static void receipt_take(struct neighbours *neighbours, struct neighbours_seat *seat, uint64_t now_us);

/* -- what is told ---------------------------------------------------------------------------------------- */

/* How old the connection is, plus one, in milliseconds. After seven weeks it stays at the most. */
static uint32_t seat_age_ms(const struct neighbours_seat *seat, uint64_t now_us)
{
    uint64_t ms = now_us > seat->opened_us ? (now_us - seat->opened_us) / 1000 : 0;
    return ms < UINT32_MAX - 1 ? (uint32_t)ms + 1 : UINT32_MAX;
}

static struct neighbours_latest *latest_slot(struct neighbours_latest latest[2], uint32_t source)
{
    if (latest[0].source != source) {
        latest[1] = latest[0];
        latest[0] = (struct neighbours_latest){.source = source};
    }
    return &latest[0];
}

static const struct neighbours_latest *latest_of_others(const struct neighbours_latest latest[2],
                                                        uint32_t source)
{
    const struct neighbours_latest *other = latest[0].source == source ? &latest[1] : &latest[0];
    return other->source != 0 ? other : NULL;
}

void neighbours_connected(struct neighbours *neighbours, uint32_t number, bool just_now, uint64_t now_us)
{
    struct neighbours_seat *seat = seat_at(neighbours, number);
    if (seat == NULL) {
        return;
    }
    pthread_mutex_lock(&neighbours->lock);
    if (atomic_load_explicit(&seat->state, memory_order_relaxed) == SEAT_CONNECTING) {
        atomic_store_explicit(&seat->state, SEAT_OPEN, memory_order_relaxed);
    }
    if (just_now) {
        struct neighbours_server *server = server_of(neighbours, seat);
        struct neighbours_latest *slot = latest_slot(server->connected, seat->source_hash);
        slot->since_us = seat->opened_us;
        slot->at_us = now_us;
    }
    pthread_mutex_unlock(&neighbours->lock);
}

void neighbours_greeted(struct neighbours *neighbours, uint32_t number, uint64_t now_us)
{
    struct neighbours_seat *seat = seat_at(neighbours, number);
    if (seat == NULL || seat->greeted) {
        return;
    }
    pthread_mutex_lock(&neighbours->lock);
    struct neighbours_pair *pair = pair_of(neighbours, seat);
    uint32_t minute = (uint32_t)(now_us / MINUTE_US);
    seat->greeted = true;
    pair->greeted_count++;
    if (pair->greeted_count >= pair->admitted_peak || minute - pair->admitted_minute >= MINUTES_A_DAY) {
        pair->admitted_peak =
            pair->greeted_count < UINT16_MAX ? (uint16_t)pair->greeted_count : (uint16_t)UINT16_MAX;
        pair->admitted_minute = minute;
    }
    pthread_mutex_unlock(&neighbours->lock);
}

void neighbours_heard(struct neighbours *neighbours, uint32_t number, enum side side, uint64_t now_us)
{
    struct neighbours_seat *seat = seat_at(neighbours, number);
    if (seat == NULL) {
        return;
    }
    uint32_t age_ms = seat_age_ms(seat, now_us);
    uint32_t *told_ms = &seat->told_ms[side_index(side)];
    if (*told_ms != 0 && age_ms - *told_ms < NEIGHBOURS_HEARD_MS) {
        return;
    }
    *told_ms = age_ms;
    pthread_mutex_lock(&neighbours->lock);
    if (side == SIDE_SERVER) {
        struct neighbours_pair *pair = pair_of(neighbours, seat);
        pair->heard_us = now_us;
        pair->server_fresh_us =
            seat->opened_us > pair->server_fresh_us ? seat->opened_us : pair->server_fresh_us;
    } else {
        struct neighbours_source *source = source_of(neighbours, seat);
        source->client_fresh_us =
            seat->opened_us > source->client_fresh_us ? seat->opened_us : source->client_fresh_us;
    }
    pthread_mutex_unlock(&neighbours->lock);
}

void neighbours_unanswered(struct neighbours *neighbours, uint32_t number, bool again, uint64_t now_us)
{
    struct neighbours_seat *seat = seat_at(neighbours, number);
    if (seat == NULL) {
        return;
    }
    pthread_mutex_lock(&neighbours->lock);
    struct neighbours_server *server = server_of(neighbours, seat);
    struct neighbours_latest *slot = latest_slot(server->failed, seat->source_hash);
    slot->since_us = seat->opened_us;
    slot->at_us = now_us;
    const struct neighbours_latest *others = latest_of_others(server->connected, seat->source_hash);
    if (others != NULL && others->at_us > seat->opened_us && !seat->others_exact) {
        seat->others_ms = seat->others_ms == 0 || again ? seat_age_ms(seat, now_us) : seat->others_ms;
        seat->others_exact = again;
    }
    /* What was open when it was not answered; by the time it is given up the others may have gone. */
    uint32_t open_count = pair_of(neighbours, seat)->open_count;
    if (seat->receipt == NULL && open_count > 1 && open_count <= NEIGHBOURS_SYN_WALK) {
        receipt_take(neighbours, seat, now_us);
    }
    pthread_mutex_unlock(&neighbours->lock);
}

/* -- what is asked --------------------------------------------------------------------------------------- */

/* After a moment `at_us` of a connection tried since `since_us` until `until_us`: was a SYN sent later? The pauses
 * between SYNs last an interval at least, so the last of so many came that late; and they at most double, so that the
 * next one came before twice that time and one interval (RFC 6298). */
static bool tried_after(uint64_t since_us, uint64_t at_us, uint32_t repeated_count, uint64_t until_us)
{
    return since_us + (uint64_t)repeated_count * SYN_INTERVAL_US > at_us ||
           (until_us > since_us && until_us - since_us >= 2 * (at_us - since_us) + SYN_INTERVAL_US);
}

uint32_t neighbours_of_connect(struct neighbours *neighbours, uint32_t number, uint32_t repeated_count,
                               uint64_t until_us)
{
    struct neighbours_seat *seat = seat_at(neighbours, number);
    uint32_t near = 0;
    if (seat == NULL) {
        return 0;
    }
    pthread_mutex_lock(&neighbours->lock);
    const struct neighbours_server *server = server_of(neighbours, seat);
    const struct neighbours_latest *others = latest_of_others(server->connected, seat->source_hash);
    uint64_t noted_us = seat->opened_us + (uint64_t)seat->others_ms * 1000;
    bool noted = seat->others_ms != 0 &&
                 (seat->others_exact || tried_after(seat->opened_us, noted_us, repeated_count, until_us));
    bool just = others != NULL && others->at_us > seat->opened_us &&
                tried_after(seat->opened_us, others->at_us, repeated_count, until_us);
    near |= noted || just ? (uint32_t)NEAR_OTHERS_CONNECT : 0;
    others = latest_of_others(server->failed, seat->source_hash);
    near |= others != NULL && others->at_us > seat->opened_us && others->since_us < until_us
                ? (uint32_t)NEAR_OTHERS_FAIL
                : 0;
    near |= pair_of(neighbours, seat)->heard_us > seat->opened_us ? (uint32_t)NEAR_PAIR_LIVES : 0;
    pthread_mutex_unlock(&neighbours->lock);
    return near;
}

uint32_t neighbours_of_leg(struct neighbours *neighbours, uint32_t number, enum side side, uint64_t since_us)
{
    struct neighbours_seat *seat = seat_at(neighbours, number);
    uint32_t near = 0;
    if (seat == NULL || side == SIDE_NONE) {
        return 0;
    }
    pthread_mutex_lock(&neighbours->lock);
    const struct neighbours_server *server = server_of(neighbours, seat);
    uint64_t fresh_us = side == SIDE_SERVER ? pair_of(neighbours, seat)->server_fresh_us
                                            : source_of(neighbours, seat)->client_fresh_us;
    bool connected = false, failed = false;
    for (unsigned i = 0; side == SIDE_SERVER && i < 2; i++) {
        connected = connected || server->connected[i].at_us > since_us;
        failed = failed || (server->failed[i].source != 0 && server->failed[i].since_us > since_us);
    }
    near |= fresh_us > since_us ? (uint32_t)NEAR_FRESH_WORKS : 0;
    near |= failed && !connected ? (uint32_t)NEAR_FRESH_FAILS : 0;
    pthread_mutex_unlock(&neighbours->lock);
    return near;
}

/* -- receipts -------------------------------------------------------------------------------------------- */

static void receipt_count(const struct neighbours_seat *seat, struct neighbours_receipt *receipt,
                          uint64_t now_us)
{
    unsigned phase = atomic_load_explicit(&seat->phase, memory_order_relaxed);
    uint64_t age_us = now_us > seat->opened_us ? now_us - seat->opened_us : 0;
    switch ((enum neighbours_seat_state)atomic_load_explicit(&seat->state, memory_order_relaxed)) {
    case SEAT_CONNECTING:
        receipt->connecting++;
        break;
    case SEAT_OPEN:
        receipt->established++;
        receipt->phases[phase < PHASE_COUNT ? phase : 0]++;
        break;
    case SEAT_CLOSING:
        receipt->closing++;
        break;
    case SEAT_GONE:
    case SEAT_FREE:
        return;
    }
    receipt->oldest_us = age_us > receipt->oldest_us ? age_us : receipt->oldest_us;
}

static void receipt_take(struct neighbours *neighbours, struct neighbours_seat *seat, uint64_t now_us)
{
    struct neighbours_receipt *receipt = calloc(1, sizeof *receipt);
    if (receipt == NULL) {
        return; /* the line says less, nothing worse */
    }
    struct neighbours_pair *pair = pair_of(neighbours, seat);
    uint32_t left = NEIGHBOURS_WALK;
    for (uint32_t at = pair->first_seat; at != 0 && left > 0; left--) {
        const struct neighbours_seat *each = &neighbours->seats[at - 1];
        receipt_count(each, receipt, now_us);
        at = each->next;
    }
    peaks_note(&pair->peaks, pair->open_count, now_us);
    receipt->peak_recent = peaks_recent(&pair->peaks, now_us);
    receipt->peak_hour = peaks_hour(&pair->peaks, now_us);
    receipt->peak_day = peaks_day(&pair->peaks, now_us);
    if ((uint32_t)(now_us / MINUTE_US) - pair->admitted_minute < MINUTES_A_DAY) {
        receipt->admitted_peak = pair->admitted_peak;
    }
    seat->receipt = receipt;
}

const struct neighbours_receipt *neighbours_take_receipt(struct neighbours *neighbours, uint32_t number,
                                                         uint64_t now_us)
{
    struct neighbours_seat *seat = seat_at(neighbours, number);
    if (seat != NULL && seat->receipt == NULL) {
        pthread_mutex_lock(&neighbours->lock);
        receipt_take(neighbours, seat, now_us);
        pthread_mutex_unlock(&neighbours->lock);
    }
    return seat != NULL ? seat->receipt : NULL;
}

const struct neighbours_receipt *neighbours_receipt(struct neighbours *neighbours, uint32_t number)
{
    const struct neighbours_seat *seat = seat_at(neighbours, number);
    return seat != NULL ? seat->receipt : NULL;
}

struct neighbours_pace *neighbours_pace(struct neighbours *neighbours, uint32_t number)
{
    struct neighbours_seat *seat = seat_at(neighbours, number);
    return seat != NULL ? &seat->pace : NULL;
}
