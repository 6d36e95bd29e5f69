/* The reply worth quoting: what ended the session, or the mail. */
#include <stdlib.h>
#include <string.h>

#include "core/smtp/dialogue_internal.h"

void kept_clear(struct dialogue *dialogue)
{
    free(dialogue->kept.text);
    dialogue->kept = (struct dialogue_kept_reply){.role = DIALOGUE_REPLY_NONE};
    state_drop(dialogue, STATE_CANDIDATE);
}

/* A reply about a mail that is larger than the SIZE the server offers: a 552 is about that, and a 452 may be. RFC 1870
 * section 6 gives both codes for a mail that does not fit, for good or for now, and RFC 5321 452 for storage alone. */
static enum reply_class kept_class(const struct dialogue *dialogue, enum verb verb, const struct reply *reply)
{
    enum reply_class class =
        reply_text_classify(reply->code, reply->enhanced, reply->text, reply->text_length);
    bool of_body = verb == VERB_END_OF_DATA || verb == VERB_BDAT || verb == VERB_BDAT_LAST;
    bool oversize = dialogue->size_limit != 0 &&
                    ((verb != VERB_NONE && dialogue->announced_size > dialogue->size_limit) ||
                     (of_body && dialogue->body_octets > dialogue->size_limit));
    if (oversize && reply->code == 552 && class == REPLY_CLASS_OTHER)
        return REPLY_CLASS_SIZE;
    if (oversize && reply->code == 452 && class == REPLY_CLASS_OVERLOAD)
        return REPLY_CLASS_SIZE_OR_ROOM;
    return class;
}

void kept_take(struct dialogue *dialogue, enum dialogue_reply_role role, enum verb verb,
               const struct reply *reply)
{
    struct dialogue_kept_reply *kept = &dialogue->kept;
    if (kept->role == DIALOGUE_REPLY_ENDED_SESSION)
        return;
    if (kept->role == DIALOGUE_REPLY_ENDED_MAIL && role == DIALOGUE_REPLY_ENDED_MAIL) {
        state_drop(dialogue, STATE_CANDIDATE); /* the mail has failed for sure; its first reason stands */
        return;
    }
    kept_clear(dialogue);
    kept->role = role;
    kept->class = kept_class(dialogue, verb, reply);
    kept->verb = verb;
    kept->phase = dialogue->phase;
    kept->owed_by = dialogue->owed_by;
    kept->code = reply->code;
    kept->body_began = state_has(dialogue, STATE_BODY_BEGAN);
    kept->mail = (uint8_t)dialogue->mails.total;
    if (reply->text == NULL)
        return;
    size_t length = reply->text_length < DIALOGUE_REPLY_TEXT ? reply->text_length : DIALOGUE_REPLY_TEXT;
    kept->text = malloc(length + 1);
    if (kept->text == NULL)
        return;
    memcpy(kept->text, reply->text, length);
    kept->text[length] = 0;
}

void kept_take_candidate(struct dialogue *dialogue, enum verb verb, const struct reply *reply)
{
    if (dialogue->kept.role != DIALOGUE_REPLY_NONE)
        return;
    kept_take(dialogue, DIALOGUE_REPLY_ENDED_MAIL, verb, reply);
    state_set(dialogue, STATE_CANDIDATE);
}

bool kept_is_candidate(const struct dialogue *dialogue)
{
    return state_has(dialogue, STATE_CANDIDATE) && dialogue->kept.role == DIALOGUE_REPLY_ENDED_MAIL;
}

bool kept_answers_hello(const struct dialogue *dialogue)
{
    enum verb verb = dialogue->kept.verb;
    return verb == VERB_HELO || verb == VERB_EHLO || verb == VERB_LHLO;
}
