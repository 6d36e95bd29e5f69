#include <string.h>

#include "core/policy/limiter_internal.h"
#include "core/policy/timeouts.h"

/* -- who waits, in which order --------------------------------------------------------------------------- */

static void hold_fill(struct limiter_hold *hold, const struct policy_limits *limits)
{
    memset(hold, 0, sizeof *hold);
    if (limits->per_source_action == POLICY_ENFORCE) {
        hold->per_source_count = limits->per_source_count;
    }
    if (limits->total_action == POLICY_ENFORCE) {
        hold->total_count = limits->total_count;
    }
    if (limits->percent_action == POLICY_ENFORCE && limits->total_count != 0) {
        hold->percent = limits->percent_of_remaining;
        hold->percent_of_count = limits->total_count;
    }
}

static void hold_refresh(struct limiter_waiter *waiter, const struct policy_settings *settings)
{
    hold_fill(&waiter->hold, policy_limits_for(settings, &waiter->client, &waiter->server, NULL));
}

static bool hold_is_over(const struct limiter *limiter, const struct limiter_row *row,
                         const struct limiter_hold *hold)
{
    if (hold->per_source_count != 0 && row->concurrent >= hold->per_source_count) {
        return false;
    }
    if (hold->total_count != 0 && limiter->total >= hold->total_count) {
        return false;
    }
    return hold->percent == 0 ||
           row->concurrent < limiter_percent_allows(hold->percent_of_count, hold->percent, limiter->total);
}

/* Both queues of waiters, a row's and that of the granted ones, have a first and a last and use the same
 * links. */
static void queue_append(struct limiter_waiter **first, struct limiter_waiter **last,
                         struct limiter_waiter *waiter)
{
    waiter->next = NULL;
    waiter->previous = *last;
    if (*last != NULL) {
        (*last)->next = waiter;
    } else {
        *first = waiter;
    }
    *last = waiter;
    waiter->linked = true;
}

static void queue_remove(struct limiter_waiter **first, struct limiter_waiter **last,
                         struct limiter_waiter *waiter)
{
    if (waiter->previous != NULL) {
        waiter->previous->next = waiter->next;
    } else {
        *first = waiter->next;
    }
    if (waiter->next != NULL) {
        waiter->next->previous = waiter->previous;
    } else {
        *last = waiter->previous;
    }
    waiter->next = waiter->previous = NULL;
    waiter->linked = false;
}

/* Takes a waiter out of its row's queue. The first of a row carries the row's limits, which are the newest:
 * the next one takes them over. */
static void row_remove(struct limiter_row *row, struct limiter_waiter *waiter)
{
    bool was_first = row->first == waiter;
    queue_remove(&row->first, &row->last, waiter);
    if (was_first && row->first != NULL) {
        row->first->hold = waiter->hold;
    }
}

/* -- granting -------------------------------------------------------------------------------------------- */

static bool row_grant_first(struct limiter *limiter, uint32_t index)
{
    struct limiter_row *row = limiter_row_at(limiter, index);
    struct limiter_waiter *waiter = row->first;
    if (waiter == NULL || !hold_is_over(limiter, row, &waiter->hold)) {
        return false;
    }
    row_remove(row, waiter);
    limiter_row_open(limiter, index, &waiter->ticket);
    waiter->granted = true;
    queue_append(&limiter->granted_first, &limiter->granted_last, waiter);
    return true;
}

void limiter_queue_serve(struct limiter *limiter, const struct policy_settings *settings, uint32_t own)
{
    const struct limiter_row_list *ready = &limiter->lists[LIMITER_LIST_READY];
    struct limiter_row *own_row = own != 0 ? limiter_row_at(limiter, own) : NULL;
    uint32_t steps = 0, in_vain = 0, granted = 0;
    if (settings != NULL && own_row != NULL && own_row->first != NULL) {
        hold_refresh(own_row->first, settings);
        limiter_row_classify(limiter, own);
    }
    while (ready->oldest != 0 && in_vain < ready->count && steps < LIMITER_WALK_ROWS) {
        uint32_t index = ready->oldest;
        struct limiter_row *row = limiter_row_at(limiter, index);
        steps++;
        if (settings != NULL) {
            hold_refresh(row->first, settings);
        }
        bool got_in = row_grant_first(limiter, index);
        limiter_row_classify(limiter, index);
        if (got_in) {
            granted++;
            in_vain = 0;
        } else if (row->list == LIMITER_LIST_READY) {
            in_vain++;
        }
        if (row->list == LIMITER_LIST_READY) {
            limiter_row_move(limiter, index, LIMITER_LIST_READY); /* the others' turn */
        }
    }
    if (own_row != NULL && own_row->list == LIMITER_LIST_READY && in_vain < ready->count &&
        row_grant_first(limiter, own)) {
        limiter_row_classify(limiter, own);
        granted++;
    }
    limiter->unserved = granted > 0 && steps == LIMITER_WALK_ROWS;
}

/* -- waking ---------------------------------------------------------------------------------------------- */

static struct limiter_waking *waking_of_thread(const struct limiter *limiter)
{
    struct limiter_waking *waking = limiter->waking;
    while (waking != NULL && !pthread_equal(waking->thread, pthread_self())) {
        waking = waking->next;
    }
    return waking;
}

static struct limiter_waking *waking_of_waiter(const struct limiter *limiter,
                                               const struct limiter_waiter *waiter)
{
    struct limiter_waking *waking = limiter->waking;
    while (waking != NULL && waking->waiter != waiter) {
        waking = waking->next;
    }
    return waking;
}

/* A wake() has returned: nobody waits for it any more. The waiter may be gone by now and is not touched. */
static void waking_ended(struct limiter *limiter, struct limiter_waking *ended)
{
    ended->waiter = NULL;
    for (struct limiter_waking *waking = limiter->waking; waking != NULL; waking = waking->next) {
        if (waking->waits_for == ended) {
            waking->waits_for = NULL;
        }
    }
    if (limiter->leavers > 0) {
        pthread_cond_broadcast(&limiter->wake_ended);
    }
}

static void wake_granted(struct limiter *limiter, struct limiter_waking *waking)
{
    struct limiter_waiter *waiter = limiter->granted_first;
    void (*wake)(void *context) = waiter->wake;
    void *context = waiter->context;
    queue_remove(&limiter->granted_first, &limiter->granted_last, waiter);
    waking->waiter = waiter;
    limiter_unlock(limiter);
    if (wake != NULL) {
        wake(context);
    }
    limiter_lock(limiter);
    waking_ended(limiter, waking);
}

void limiter_queue_finish(struct limiter *limiter)
{
    /* Inside a wake() the loop further up this stack goes on when that wake() has returned: no recursion. */
    if ((limiter->granted_first == NULL && !limiter->unserved) || waking_of_thread(limiter) != NULL) {
        limiter_unlock(limiter);
        return;
    }
    struct limiter_waking waking = {.next = limiter->waking, .thread = pthread_self()};
    /* cppcheck-suppress autoVariables ; taken out again before this function returns */
    limiter->waking = &waking;
    while (limiter->granted_first != NULL || limiter->unserved) {
        if (limiter->granted_first != NULL) {
            wake_granted(limiter, &waking);
        } else {
            limiter_queue_serve(limiter, NULL, 0);
        }
    }
    struct limiter_waking **link = &limiter->waking;
    while (*link != &waking) {
        link = &(*link)->next;
    }
    *link = waking.next;
    limiter_unlock(limiter);
}

/* True when `target` waits, through others, for `self` to end. */
static bool waking_waits_for(const struct limiter_waking *target, const struct limiter_waking *self)
{
    while (target != NULL && target != self) {
        target = target->waits_for;
    }
    return target != NULL;
}

/* Takes the waiter out of every queue and waits until no other thread is inside its wake(). */
static void waiter_detach(struct limiter *limiter, struct limiter_waiter *waiter)
{
    if (waiter->linked && waiter->granted) {
        queue_remove(&limiter->granted_first, &limiter->granted_last, waiter);
        return;
    }
    if (waiter->linked) {
        struct limiter_row *row = limiter_row_at(limiter, waiter->row);
        row_remove(row, waiter);
        limiter_row_classify(limiter, waiter->row);
        return;
    }
    struct limiter_waking *self = waking_of_thread(limiter);
    struct limiter_waking *other = waking_of_waiter(limiter, waiter);
    while (other != NULL && (self == NULL || !waking_waits_for(other, self))) {
        if (self != NULL) {
            self->waits_for = other;
        }
        limiter->leavers++;
        pthread_cond_wait(&limiter->wake_ended, &limiter->lock);
        limiter->leavers--;
        if (self != NULL) {
            self->waits_for = NULL;
        }
        other = waking_of_waiter(limiter, waiter);
    }
}

/* -- what callers see ------------------------------------------------------------------------------------ */

bool limiter_wait(struct limiter *limiter, const struct policy_settings *settings,
                  struct limiter_waiter *waiter, uint64_t now_us)
{
    const struct policy_override *source = NULL;
    const struct policy_limits *limits =
        policy_limits_for(settings, &waiter->client, &waiter->server, &source);
    struct limiter_key key;
    limiter_key_make(&key, limiter->seed, settings, source, &waiter->client, &waiter->server);
    waiter->next = waiter->previous = NULL;
    waiter->linked = waiter->granted = false;
    waiter->since_us = now_us;
    memset(&waiter->ticket, 0, sizeof waiter->ticket);
    hold_fill(&waiter->hold, limits);

    limiter_lock(limiter);
    waiter->row = limiter_row_find(limiter, &key);
    struct limiter_row *row = waiter->row != 0 ? limiter_row_at(limiter, waiter->row) : NULL;
    waiter->generation = row != NULL ? row->generation : 0;
    if (row == NULL || (row->first == NULL && hold_is_over(limiter, row, &waiter->hold))) {
        limiter_row_open(limiter, waiter->row,
                         &waiter->ticket); /* a slot came free meanwhile, or fail open */
        waiter->granted = true;
    } else {
        queue_append(&row->first, &row->last, waiter);
        limiter_row_classify(limiter, waiter->row);
    }
    bool granted = waiter->granted;
    limiter_unlock(limiter);
    return granted;
}

bool limiter_take(struct limiter *limiter, struct limiter_waiter *waiter, struct limiter_ticket *ticket)
{
    limiter_lock(limiter);
    bool granted = waiter->granted;
    if (granted) {
        waiter_detach(limiter, waiter);
        *ticket = waiter->ticket;
        memset(&waiter->ticket, 0, sizeof waiter->ticket);
        waiter->granted = false;
    }
    limiter_unlock(limiter);
    return granted;
}

void limiter_leave(struct limiter *limiter, struct limiter_waiter *waiter, uint64_t now_us)
{
    (void)now_us;
    limiter_lock(limiter);
    waiter_detach(limiter, waiter);
    uint32_t own = waiter->row;
    if (waiter->granted) {
        limiter_row_close(limiter, &waiter->ticket);
        waiter->granted = false;
    }
    limiter_queue_serve(limiter, NULL, own);
    limiter_queue_finish(limiter);
}

/* The rows that wait for their own limit, measured anew, LIMITER_WALK_ROWS at a time. */
static void reload_blocked(struct limiter *limiter, const struct policy_settings *settings)
{
    const struct limiter_row_list *blocked = &limiter->lists[LIMITER_LIST_BLOCKED];
    limiter_lock(limiter);
    for (uint32_t left = blocked->count; left > 0 && blocked->oldest != 0; left--) {
        uint32_t index = blocked->oldest;
        hold_refresh(limiter_row_at(limiter, index)->first, settings);
        limiter_row_classify(limiter, index);
        if (limiter_row_at(limiter, index)->list == LIMITER_LIST_BLOCKED) {
            limiter_row_move(limiter, index, LIMITER_LIST_BLOCKED);
        }
        if (left % LIMITER_WALK_ROWS == 0) {
            limiter_unlock(limiter);
            limiter_lock(limiter);
        }
    }
    limiter_unlock(limiter);
}

void limiter_reload(struct limiter *limiter, const struct policy_settings *settings, uint64_t now_us)
{
    (void)now_us;
    uint32_t left = UINT32_MAX;
    reload_blocked(limiter, settings);
    while (left > 0) {
        limiter_lock(limiter);
        uint32_t ready = limiter->lists[LIMITER_LIST_READY].count;
        limiter_queue_serve(limiter, settings, 0);
        left = left < ready ? left : ready;
        left -= left < LIMITER_WALK_ROWS ? left : LIMITER_WALK_ROWS;
        if (limiter->unserved) {
            left = UINT32_MAX; /* somebody got in: all have another chance */
        }
        limiter_queue_finish(limiter);
    }
}
