/* What a complete reply does: it answers the oldest verb, or shows that the picture was wrong. */
#include "core/smtp/dialogue_internal.h"

/* Strikes out what stands before the oldest `verb`: its replies were missed. */
static bool resync_to(struct dialogue *dialogue, enum verb verb)
{
    uint8_t index = queue_find(dialogue, verb, 0);
    if (index == dialogue->run_count)
        return false;
    if (index > 0) {
        queue_drop_runs(dialogue, index);
        dialogue_note(dialogue, DIALOGUE_RESYNCED);
    }
    return true;
}

static bool may_answer(enum verb verb, uint16_t code)
{
    switch (code) {
    case 354:
        return verb == VERB_DATA;
    case 334:
        return verb == VERB_AUTH || verb == VERB_OTHER;
    case 353:
        return verb == VERB_END_OF_DATA || verb == VERB_BDAT_LAST;
    case 235:
        return verb == VERB_AUTH || verb == VERB_OTHER;
    case 221:
        return verb == VERB_QUIT;
    case 220:
        return verb == VERB_GREETING || verb == VERB_STARTTLS || verb == VERB_XCLIENT || verb == VERB_TURN ||
               verb == VERB_ATRN || verb == VERB_OTHER;
    }
    return true;
}

/* The reply cannot answer the oldest verb. True: it was made to fit another one, which is now the oldest. */
static bool reply_resync(struct dialogue *dialogue, uint16_t code)
{
    switch (code) {
    case 354:
        return resync_to(dialogue, VERB_DATA);
    case 334:
    case 235:
        return resync_to(dialogue, VERB_AUTH);
    case 353:
        return resync_to(dialogue, VERB_END_OF_DATA) || resync_to(dialogue, VERB_BDAT_LAST);
    case 221:
        return resync_to(dialogue, VERB_QUIT);
    case 220:
        return resync_to(dialogue, VERB_STARTTLS) || resync_to(dialogue, VERB_XCLIENT);
    }
    return false;
}

/* Some servers take leave with another code than 421: Exchange's 451 4.7.0, Gmail's 451 4.4.2. */
static bool reply_takes_leave(struct dialogue *dialogue, const struct reply *reply)
{
    if (reply->code < 400)
        return false;
    switch (reply_text_classify(reply->code, reply->enhanced, reply->text, reply->text_length)) {
    case REPLY_CLASS_TIMEOUT:
    case REPLY_CLASS_SESSION_TIME:
    case REPLY_CLASS_SHUTDOWN:
        kept_take(dialogue, DIALOGUE_REPLY_ENDED_SESSION, VERB_NONE, reply);
        state_set(dialogue, STATE_CLOSED);
        return true;
    case REPLY_CLASS_NONE:
    case REPLY_CLASS_PER_SOURCE_LIMIT:
    case REPLY_CLASS_PER_SOURCE_RATE:
    case REPLY_CLASS_PER_SESSION_LIMIT:
    case REPLY_CLASS_OVERLOAD:
    case REPLY_CLASS_CLIENT_PROTOCOL:
    case REPLY_CLASS_GREYLISTING:
    case REPLY_CLASS_REPUTATION:
    case REPLY_CLASS_SIZE:
    case REPLY_CLASS_SIZE_OR_ROOM:
    case REPLY_CLASS_AUTHENTICATION:
    case REPLY_CLASS_CONNECTION_LIMIT_OR_LOAD:
    case REPLY_CLASS_OTHER:
    case REPLY_CLASS_COUNT:
        break;
    }
    return false;
}

/* A reply that nothing outstanding explains. */
static void reply_apply_unasked(struct dialogue *dialogue, const struct reply *reply)
{
    if (dialogue_outstanding_count(dialogue) == 0 && reply_takes_leave(dialogue, reply))
        return;
    dialogue_note(dialogue, DIALOGUE_RESYNCED);
    switch (reply->code) {
    case 354:
        queue_clear(dialogue);
        mail_infer_open(dialogue);
        body_accept_provisional(dialogue);
        break;
    case 334:
        queue_clear(dialogue);
        queue_push(dialogue, VERB_AUTH);
        if (dialogue->mode == DIALOGUE_COMMANDS)
            dialogue->mode = DIALOGUE_AUTH_TURN;
        break;
    case 221:
        state_set(dialogue, STATE_CLOSED);
        break;
    case 220:
        if ((dialogue->flags & DIALOGUE_GREETED) == 0) {
            dialogue_note(dialogue, DIALOGUE_GREETED);
            state_drop(dialogue, STATE_HELO_DONE);
        }
        break;
    }
}

/* The server speaks while the body runs. True: the reply is dealt with. */
static bool reply_apply_in_body(struct dialogue *dialogue, const struct reply *reply)
{
    if (state_has(dialogue, STATE_BODY_REJECTED)) {
        dialogue_note(dialogue, DIALOGUE_RESYNCED);
        return true;
    }
    if (reply_takes_leave(dialogue, reply))
        return true;
    bool end_unseen = body_ends_in_bare_dot(dialogue) || state_has(dialogue, STATE_BODY_HOLE);
    if (end_unseen || reply->code < 300) {
        /* The server saw an end we did not take for one, or did not see. */
        dialogue_note(dialogue, DIALOGUE_RESYNCED);
        dialogue->mode = DIALOGUE_COMMANDS;
        dialogue->flags &= ~(uint32_t)DIALOGUE_BARE_DOT;
        queue_push(dialogue, VERB_END_OF_DATA);
        return false;
    }
    if (reply->code < 400) {
        dialogue_note(dialogue, DIALOGUE_RESYNCED);
        return true;
    }
    mail_fail(dialogue, VERB_END_OF_DATA, reply); /* too large, and the like: said before the dot */
    state_set(dialogue, STATE_BODY_REJECTED | STATE_POPPED);
    return true;
}

static void reply_apply_421(struct dialogue *dialogue, const struct reply *reply)
{
    enum verb verb = dialogue_oldest_verb(dialogue);
    bool farewell = verb == VERB_QUIT || (dialogue->flags & DIALOGUE_221_SEEN) != 0;
    dialogue_note(dialogue, DIALOGUE_421_SEEN);
    if (!farewell || dialogue->kept.role != DIALOGUE_REPLY_ENDED_MAIL)
        kept_take(dialogue, DIALOGUE_REPLY_ENDED_SESSION, verb, reply);
    while (queue_head(dialogue) == VERB_NONE && dialogue->run_count > 0)
        queue_drop_runs(dialogue, 1);
    queue_pop(dialogue);
    if (verb == VERB_END_OF_DATA || verb == VERB_BDAT_LAST) {
        dialogue_forget_mail(dialogue);
        state_set(dialogue, STATE_MAIL_DONE);
    } else if (verb == VERB_DATA) {
        body_refuse_provisional(dialogue);
    } else if (verb == VERB_AUTH && dialogue->mode == DIALOGUE_AUTH_TURN) {
        dialogue->mode = DIALOGUE_COMMANDS;
    }
    state_set(dialogue, STATE_CLOSED);
}

/* Said to be closed, yet a verb gets a positive answer: some servers use 421 as any other 4xx. */
static void dialogue_reopen(struct dialogue *dialogue)
{
    state_drop(dialogue, STATE_CLOSED);
    if (dialogue->kept.role != DIALOGUE_REPLY_ENDED_SESSION)
        return;
    dialogue->kept.role = DIALOGUE_REPLY_ENDED_MAIL;
    if (dialogue->kept.verb == VERB_RCPT)
        state_set(dialogue, STATE_CANDIDATE);
}

void reply_apply(struct dialogue *dialogue, const struct reply *reply)
{
    uint16_t code = reply->code;
    bool was_unknown = state_has(dialogue, STATE_UNKNOWN);
    dialogue->last_code = code;
    if (code >= 400 && dialogue->errors < UINT8_MAX)
        dialogue->errors++;
    if (code == 221)
        dialogue_note(dialogue, DIALOGUE_221_SEEN);
    state_drop(dialogue, STATE_UNKNOWN | STATE_SERVER_GAP);
    state_set(dialogue, STATE_REPLY_SEEN);
    if (was_unknown && code != 220)
        state_set(dialogue, STATE_HELO_DONE);
    if (code == 421) {
        reply_apply_421(dialogue, reply);
        return;
    }
    while (dialogue->run_count > 0 && queue_head(dialogue) == VERB_NONE) {
        if (code >= 500 && code <= 504) { /* a server that minds blank lines */
            queue_pop(dialogue);
            return;
        }
        queue_drop_runs(dialogue, 1);
    }
    bool body = dialogue->mode == DIALOGUE_BODY && !state_has(dialogue, STATE_PROVISIONAL);
    if (body && dialogue->run_count == 0 && reply_apply_in_body(dialogue, reply))
        return;
    enum verb verb = queue_head(dialogue);
    if (verb != VERB_NONE && !may_answer(verb, code)) {
        if (!reply_resync(dialogue, code)) {
            reply_apply_unasked(dialogue, reply);
            return;
        }
        verb = queue_head(dialogue);
    }
    if (verb == VERB_NONE) {
        reply_apply_unasked(dialogue, reply);
        return;
    }
    if (state_has(dialogue, STATE_CLOSED) && code < 400 && verb != VERB_QUIT &&
        (dialogue->flags & DIALOGUE_221_SEEN) == 0)
        dialogue_reopen(dialogue);
    answer_verb(dialogue, verb, reply);
}
