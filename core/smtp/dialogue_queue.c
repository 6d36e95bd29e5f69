#include <assert.h>
#include <stdlib.h>

#include "core/smtp/dialogue_internal.h"

_Static_assert(VERB_COUNT <= UINT8_MAX, "a run keeps its verb in an octet");

static uint8_t queue_room(const struct dialogue *dialogue)
{
    return state_has(dialogue, STATE_MORE_RUNS) ? DIALOGUE_MAX_RUNS : DIALOGUE_OWN_RUNS;
}

static const struct dialogue_run *queue_run_const(const struct dialogue *dialogue, uint8_t index)
{
    const struct dialogue_run *ring =
        state_has(dialogue, STATE_MORE_RUNS) ? dialogue->more_runs : dialogue->own_runs;
    return &ring[(dialogue->run_first + index) % queue_room(dialogue)];
}

struct dialogue_run *queue_run(struct dialogue *dialogue, uint8_t index)
{
    assert(index < dialogue->run_count);
    struct dialogue_run *ring =
        state_has(dialogue, STATE_MORE_RUNS) ? dialogue->more_runs : dialogue->own_runs;
    return &ring[(dialogue->run_first + index) % queue_room(dialogue)];
}

/* False: it stays full. */
static bool queue_make_room(struct dialogue *dialogue)
{
    if (dialogue->run_count < queue_room(dialogue))
        return true;
    if (state_has(dialogue, STATE_MORE_RUNS))
        return false;
    struct dialogue_run *more = malloc(DIALOGUE_MAX_RUNS * sizeof *more);
    if (more == NULL)
        return false;
    for (uint8_t i = 0; i < dialogue->run_count; i++)
        more[i] = *queue_run_const(dialogue, i);
    dialogue->more_runs = more;
    state_set(dialogue, STATE_MORE_RUNS);
    dialogue->run_first = 0;
    return true;
}

void queue_push(struct dialogue *dialogue, enum verb verb)
{
    if (dialogue->run_count > 0) {
        struct dialogue_run *newest = queue_run(dialogue, (uint8_t)(dialogue->run_count - 1));
        if (newest->verb == verb && newest->count < UINT16_MAX) {
            newest->count++;
            return;
        }
    }
    if (!queue_make_room(dialogue)) {
        /* Too deep: the two newest runs become one of unknown verbs. The number of replies due stays right,
         * the newest verb too. */
        dialogue_note(dialogue, DIALOGUE_TOO_DEEP);
        struct dialogue_run *left = queue_run(dialogue, (uint8_t)(dialogue->run_count - 2));
        const struct dialogue_run *right = queue_run(dialogue, (uint8_t)(dialogue->run_count - 1));
        uint32_t sum = (uint32_t)left->count + right->count;
        left->verb = VERB_OTHER;
        left->count = (uint16_t)(sum > UINT16_MAX ? UINT16_MAX : sum);
        dialogue->run_count--;
    }
    dialogue->run_count++;
    struct dialogue_run *run = queue_run(dialogue, (uint8_t)(dialogue->run_count - 1));
    run->verb = (uint8_t)verb;
    run->count = 1;
}

void queue_drop_runs(struct dialogue *dialogue, uint8_t count)
{
    assert(count <= dialogue->run_count);
    dialogue->run_first = (uint8_t)((dialogue->run_first + count) % queue_room(dialogue));
    dialogue->run_count = (uint8_t)(dialogue->run_count - count);
    if (dialogue->run_count == 0)
        queue_clear(dialogue);
}

void queue_pop(struct dialogue *dialogue)
{
    if (dialogue->run_count == 0)
        return;
    struct dialogue_run *oldest = queue_run(dialogue, 0);
    if (--oldest->count == 0)
        queue_drop_runs(dialogue, 1);
    state_set(dialogue, STATE_POPPED);
}

void queue_push_front(struct dialogue *dialogue, enum verb verb, uint16_t count)
{
    if (!queue_make_room(dialogue)) {
        dialogue_note(dialogue, DIALOGUE_TOO_DEEP);
        return;
    }
    uint8_t room = queue_room(dialogue);
    dialogue->run_first = (uint8_t)((dialogue->run_first + room - 1) % room);
    dialogue->run_count++;
    *queue_run(dialogue, 0) = (struct dialogue_run){.verb = (uint8_t)verb, .count = count};
}

void queue_clear(struct dialogue *dialogue)
{
    if (state_has(dialogue, STATE_MORE_RUNS))
        free(dialogue->more_runs);
    state_drop(dialogue, STATE_MORE_RUNS);
    dialogue->run_first = 0;
    dialogue->run_count = 0;
}

enum verb queue_head(const struct dialogue *dialogue)
{
    return dialogue->run_count == 0 ? VERB_NONE : (enum verb)queue_run_const(dialogue, 0)->verb;
}

enum verb queue_newest(const struct dialogue *dialogue)
{
    return dialogue->run_count == 0
               ? VERB_NONE
               : (enum verb)queue_run_const(dialogue, (uint8_t)(dialogue->run_count - 1))->verb;
}

uint8_t queue_find(const struct dialogue *dialogue, enum verb verb, uint8_t from)
{
    for (uint8_t i = from; i < dialogue->run_count; i++)
        if (queue_run_const(dialogue, i)->verb == verb)
            return i;
    return dialogue->run_count;
}

enum verb dialogue_oldest_verb(const struct dialogue *dialogue)
{
    for (uint8_t i = 0; i < dialogue->run_count; i++)
        if (queue_run_const(dialogue, i)->verb != VERB_NONE)
            return (enum verb)queue_run_const(dialogue, i)->verb;
    return VERB_NONE;
}

uint32_t dialogue_outstanding_count(const struct dialogue *dialogue)
{
    uint32_t count = 0;
    for (uint8_t i = 0; i < dialogue->run_count; i++)
        if (queue_run_const(dialogue, i)->verb != VERB_NONE)
            count += queue_run_const(dialogue, i)->count;
    return count;
}
