/* What a complete reply does: it answers the oldest verb, or shows that the picture was wrong. */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/smtp/dialogue_internal.h"

#define OFFERED                                                                                              \
    ((uint32_t)(DIALOGUE_STARTTLS_OFFERED | DIALOGUE_PIPELINING_OFFERED | DIALOGUE_CHUNKING_OFFERED |        \
                DIALOGUE_PIPECONNECT_OFFERED))

/* ---- the kept reply ---- */

void kept_clear(struct dialogue *dialogue)
{
    free(dialogue->kept.text);
    dialogue->kept = (struct dialogue_kept_reply){.role = DIALOGUE_REPLY_NONE};
    state_drop(dialogue, STATE_CANDIDATE);
}

static void kept_take(struct dialogue *dialogue, enum dialogue_reply_role role, enum verb verb,
                      const struct reply *reply)
{
    struct dialogue_kept_reply *kept = &dialogue->kept;
    if (kept->role == DIALOGUE_REPLY_ENDED_SESSION)
        return;
    if (kept->role == DIALOGUE_REPLY_ENDED_MAIL && role == DIALOGUE_REPLY_ENDED_MAIL) {
        state_drop(dialogue,
                   STATE_CANDIDATE); /* now the mail has surely failed, and the first reason stands */
        return;
    }
    kept_clear(dialogue);
    kept->role = role;
    kept->class = reply_text_classify(reply->code, reply->enhanced, reply->text, reply->text_length);
    kept->verb = verb;
    kept->phase = dialogue->phase;
    kept->owed_by = dialogue->owed_by;
    kept->code = reply->code;
    kept->body_began = state_has(dialogue, STATE_BODY_BEGAN);
    if (reply->text == NULL)
        return;
    size_t length = reply->text_length < DIALOGUE_REPLY_TEXT ? reply->text_length : DIALOGUE_REPLY_TEXT;
    kept->text = malloc(length + 1);
    if (kept->text == NULL)
        return;
    memcpy(kept->text, reply->text, length);
    kept->text[length] = 0;
}

/* It may have ended the mail: it did unless the client finds another way. */
static void kept_take_candidate(struct dialogue *dialogue, enum verb verb, const struct reply *reply)
{
    if (dialogue->kept.role != DIALOGUE_REPLY_NONE)
        return;
    kept_take(dialogue, DIALOGUE_REPLY_ENDED_MAIL, verb, reply);
    state_set(dialogue, STATE_CANDIDATE);
}

static bool kept_is_candidate(const struct dialogue *dialogue)
{
    return state_has(dialogue, STATE_CANDIDATE) && dialogue->kept.role == DIALOGUE_REPLY_ENDED_MAIL;
}

static bool kept_answers_hello(const struct dialogue *dialogue)
{
    enum verb verb = dialogue->kept.verb;
    return verb == VERB_HELO || verb == VERB_EHLO || verb == VERB_LHLO;
}

/* ---- capabilities ---- */

static bool keyword_is(const uint8_t *text, size_t length, const char *keyword)
{
    return length == strlen(keyword) && strncasecmp((const char *)text, keyword, length) == 0;
}

/* RFC 9422 4: LIMITS RCPTMAX=20 MAILMAX=5. */
static uint32_t limit_value(const uint8_t *text, size_t length)
{
    uint32_t value = 0;
    for (size_t i = 0; i < length && i < 6; i++) {
        if (text[i] < '0' || text[i] > '9')
            return 0;
        value = value * 10 + (uint32_t)(text[i] - '0');
    }
    return length == 0 || length > 6 ? 0 : value; /* RFC 9422: at most six digits */
}

static void capability_limits(struct dialogue *dialogue, const uint8_t *text, size_t length)
{
    while (length > 0) {
        size_t word = 0;
        while (word < length && text[word] != ' ')
            word++;
        const uint8_t *equals = memchr(text, '=', word);
        if (equals != NULL) {
            size_t name = (size_t)(equals - text);
            uint32_t value = limit_value(equals + 1, word - name - 1);
            if (keyword_is(text, name, "RCPTMAX"))
                dialogue->limits_rcptmax = value;
            else if (keyword_is(text, name, "MAILMAX"))
                dialogue->limits_mailmax = value;
            else if (keyword_is(text, name, "RCPTDOMAINMAX"))
                dialogue->limits_rcptdomainmax = value;
        }
        text += word;
        length -= word;
        while (length > 0 && *text == ' ') {
            text++;
            length--;
        }
    }
}

/* "XXXXXXXA": all X's but the last octet, which the ASA counts up. No registered keyword looks so. */
static bool keyword_is_masked(const uint8_t *text, size_t length)
{
    if (length < 4)
        return false;
    for (size_t i = 0; i + 1 < length; i++)
        if (text[i] != 'X' && text[i] != 'x')
            return false;
    return true;
}

void reply_apply_capability(struct dialogue *dialogue, const struct reply *reply)
{
    if (reply->first_line) {
        dialogue->flags &= ~OFFERED;
        dialogue->limits_rcptmax = dialogue->limits_mailmax = dialogue->limits_rcptdomainmax = 0;
        return; /* the server's name and a greeting */
    }
    if (reply->line_length <= 4)
        return;
    const uint8_t *text = reply->line + 4;
    size_t length = reply->line_length - 4;
    size_t word = 0;
    while (word < length && text[word] != ' ' && text[word] != '=')
        word++;
    if (keyword_is(text, word, "STARTTLS"))
        dialogue_note(dialogue, DIALOGUE_STARTTLS_OFFERED);
    else if (keyword_is(text, word, "PIPELINING"))
        dialogue_note(dialogue, DIALOGUE_PIPELINING_OFFERED);
    else if (keyword_is(text, word, "CHUNKING"))
        dialogue_note(dialogue, DIALOGUE_CHUNKING_OFFERED);
    else if (keyword_is(text, word, "PIPECONNECT") || keyword_is(text, word, "X_PIPE_CONNECT"))
        dialogue_note(dialogue, DIALOGUE_PIPECONNECT_OFFERED);
    else if (keyword_is(text, word, "LIMITS") && word < length)
        capability_limits(dialogue, text + word + 1, length - word - 1);
    else if (keyword_is_masked(text, word))
        dialogue_note(dialogue, DIALOGUE_CAPABILITY_MASKED);
}

/* ---- the mail ---- */

void dialogue_forget_mail(struct dialogue *dialogue)
{
    dialogue->mail_open = false;
    dialogue->rcpts_accepted = 0;
    dialogue->replies_left = 0;
    state_drop(dialogue, STATE_BDAT_OPEN | STATE_LMTP_MAIL_OK | STATE_PRDR_RUNS | STATE_REPLIES_BEGAN);
}

/* A reply shows that a mail is open whose MAIL or its reply we did not see. */
static void mail_infer_open(struct dialogue *dialogue)
{
    if (dialogue->mail_open)
        return;
    dialogue->mail_open = true;
    dialogue->mails.total++;
    dialogue_note(dialogue, DIALOGUE_RESYNCED);
}

static void mail_fail(struct dialogue *dialogue, enum verb verb, const struct reply *reply)
{
    kept_take(dialogue, DIALOGUE_REPLY_ENDED_MAIL, verb, reply);
    state_drop(dialogue, STATE_CANDIDATE);
    dialogue_forget_mail(dialogue);
    state_set(dialogue, STATE_MAIL_DONE);
}

static void mail_succeed(struct dialogue *dialogue)
{
    mail_infer_open(dialogue);
    dialogue->mails.ok++;
    dialogue->mail_accepted_unread = true;
    if (dialogue->kept.role == DIALOGUE_REPLY_ENDED_MAIL)
        kept_clear(dialogue);
    dialogue_forget_mail(dialogue);
    state_set(dialogue, STATE_MAIL_DONE);
}

/* A reply to the end of data. RFC 2033 4.2: LMTP gives one per accepted recipient; PRDR one each, then the final one. */
static void mail_end(struct dialogue *dialogue, enum verb verb, const struct reply *reply)
{
    bool positive = reply->code < 400;
    if (reply->code == 353 && !state_has(dialogue, STATE_PRDR_RUNS)) {
        dialogue_note(dialogue, DIALOGUE_PRDR);
        state_set(dialogue, STATE_PRDR_RUNS | STATE_POPPED);
        dialogue->replies_left =
            (uint16_t)(dialogue->rcpts_accepted + (dialogue->rcpts_accepted < UINT16_MAX));
        return;
    }
    bool lmtp = (dialogue->flags & DIALOGUE_LMTP) != 0 && !state_has(dialogue, STATE_PRDR_RUNS);
    if (lmtp && dialogue->replies_left == 0 && dialogue->rcpts_accepted > 1)
        dialogue->replies_left = dialogue->rcpts_accepted;
    if (dialogue->replies_left > 1) {
        dialogue->replies_left--;
        state_set(dialogue, STATE_POPPED | STATE_REPLIES_BEGAN);
        if (positive)
            state_set(dialogue, STATE_LMTP_MAIL_OK);
        else
            kept_take_candidate(dialogue, verb, reply);
        return;
    }
    queue_pop(dialogue);
    if (positive || (lmtp && state_has(dialogue, STATE_LMTP_MAIL_OK)))
        mail_succeed(dialogue);
    else
        mail_fail(dialogue, verb, reply);
}

/* ---- verbs ---- */

static void answer_greeting(struct dialogue *dialogue, const struct reply *reply)
{
    if (reply->code >= 400) {
        kept_take(dialogue, DIALOGUE_REPLY_ENDED_SESSION, VERB_GREETING, reply);
        state_set(dialogue, STATE_CLOSED);
        return;
    }
    dialogue_note(dialogue, DIALOGUE_GREETED);
    if (reply->code != 220)
        dialogue_note(dialogue, DIALOGUE_RESYNCED);
}

static void answer_hello(struct dialogue *dialogue, enum verb verb, const struct reply *reply)
{
    if (reply->code >= 400) {
        bool not_known = reply->code == 500 || reply->code == 502 || reply->code == 504;
        if (verb == VERB_HELO || !not_known) /* a refused EHLO falls back to HELO */
            kept_take_candidate(dialogue, verb, reply);
        return;
    }
    if (kept_is_candidate(dialogue) && kept_answers_hello(dialogue))
        kept_clear(dialogue);
    dialogue_forget_mail(dialogue); /* RFC 5321 4.1.4: as a RSET */
    state_drop(dialogue, STATE_MAIL_DONE);
    state_set(dialogue, STATE_HELO_DONE);
    if (verb == VERB_LHLO)
        dialogue_note(dialogue, DIALOGUE_LMTP);
}

static void answer_mail(struct dialogue *dialogue, enum verb verb, const struct reply *reply)
{
    if (reply->code >= 400) {
        kept_take(dialogue, DIALOGUE_REPLY_ENDED_MAIL, verb, reply);
        if (!dialogue->mail_open)
            state_set(dialogue, STATE_MAIL_DONE);
        return;
    }
    if (kept_is_candidate(dialogue)) {
        if (dialogue->kept.verb == VERB_RCPT)
            state_drop(dialogue, STATE_CANDIDATE); /* the mail before this one failed by it */
        else
            kept_clear(dialogue);
    }
    dialogue_forget_mail(dialogue);
    dialogue->mail_open = true;
    dialogue->mails.total++;
    if (dialogue->run_count == 0 || queue_find(dialogue, VERB_DATA, 0) == dialogue->run_count)
        state_drop(dialogue, STATE_BODY_BEGAN);
}

static void answer_rcpt(struct dialogue *dialogue, const struct reply *reply)
{
    if (reply->code >= 400) {
        if (dialogue->rcpts_accepted == 0)
            kept_take_candidate(dialogue, VERB_RCPT, reply);
        return;
    }
    mail_infer_open(dialogue);
    dialogue->rcpts.ok++;
    if (dialogue->rcpts_accepted < UINT16_MAX)
        dialogue->rcpts_accepted++;
    if (kept_is_candidate(dialogue) && dialogue->kept.verb == VERB_RCPT)
        kept_clear(dialogue);
}

static void answer_data(struct dialogue *dialogue, const struct reply *reply)
{
    if (reply->code < 400) { /* 354; some servers say 250 and mean it */
        if (reply->code != 354)
            dialogue_note(dialogue, DIALOGUE_RESYNCED);
        mail_infer_open(dialogue);
        body_accept_provisional(dialogue);
        return;
    }
    kept_take(dialogue, DIALOGUE_REPLY_ENDED_MAIL, VERB_DATA, reply);
    body_refuse_provisional(dialogue);
    state_set(dialogue, STATE_DATA_REFUSED);
}

static void answer_chunk(struct dialogue *dialogue, const struct reply *reply)
{
    if (dialogue->mode == DIALOGUE_CHUNK && queue_find(dialogue, VERB_BDAT, 0) == dialogue->run_count &&
        queue_find(dialogue, VERB_BDAT_LAST, 0) == dialogue->run_count)
        state_set(dialogue, STATE_CHUNK_ANSWERED); /* the rest still comes and is passed over by count */
    if (reply->code >= 400) {
        mail_fail(dialogue, VERB_BDAT, reply);
        return;
    }
    mail_infer_open(dialogue);
    state_set(dialogue, STATE_BDAT_OPEN);
}

static void answer_auth(struct dialogue *dialogue, const struct reply *reply)
{
    if (dialogue->mode == DIALOGUE_AUTH_TURN)
        dialogue->mode = DIALOGUE_COMMANDS;
    if (dialogue->auth_ahead > 0) { /* lines behind it were no answers after all */
        queue_push_front(dialogue, VERB_OTHER, dialogue->auth_ahead);
        dialogue->auth_ahead = 0;
    }
    if (reply->code >= 400)
        kept_take_candidate(dialogue, VERB_AUTH, reply);
    else if (kept_is_candidate(dialogue) && dialogue->kept.verb == VERB_AUTH)
        kept_clear(dialogue);
}

/* 334: the client's turn, whatever it named the verb (RFC 4954 4). */
static void answer_auth_turn(struct dialogue *dialogue)
{
    queue_pop(dialogue);
    queue_push_front(dialogue, VERB_AUTH, 1);
    if (dialogue->auth_ahead > 0)
        dialogue->auth_ahead--; /* answered before it was asked */
    else if (dialogue->mode == DIALOGUE_COMMANDS)
        dialogue->mode = DIALOGUE_AUTH_TURN;
}

static void answer_starttls(struct dialogue *dialogue, const struct reply *reply)
{
    if (reply->code < 300) {
        if (dialogue->mode == DIALOGUE_CIPHER) /* the client began before it was told to */
            queue_clear(dialogue);
        else
            dialogue_begin_tls(dialogue, false);
        dialogue->flags &= ~OFFERED;
        dialogue_note(dialogue, DIALOGUE_TLS);
        state_drop(dialogue, STATE_HELO_DONE);
        dialogue_forget_mail(dialogue);
        return;
    }
    if (dialogue->mode == DIALOGUE_CIPHER) {
        dialogue->mode = DIALOGUE_COMMANDS;
        line_gap(&dialogue->lines[side_index(SIDE_CLIENT)]);
        dialogue_note(dialogue, DIALOGUE_RESYNCED);
    }
    kept_take_candidate(dialogue, VERB_STARTTLS, reply);
}

/* RFC 821 3.8, RFC 2645: from here on the client receives. It greets now. */
static void answer_turn(struct dialogue *dialogue)
{
    dialogue->flags ^= DIALOGUE_TURNED;
    dialogue->flags &= ~((uint32_t)DIALOGUE_GREETED | OFFERED);
    dialogue_forget_mail(dialogue);
    state_drop(dialogue, STATE_HELO_DONE | STATE_MAIL_DONE | STATE_REPLY_SEEN);
    queue_clear(dialogue);
    queue_push(dialogue, VERB_GREETING);
    for (size_t i = 0; i < SIDE_PAIR; i++)
        line_clear(&dialogue->lines[i]);
}

static void answer_verb(struct dialogue *dialogue, enum verb verb, const struct reply *reply)
{
    bool positive = reply->code < 400;
    if (verb == VERB_END_OF_DATA || verb == VERB_BDAT_LAST) {
        if (verb == VERB_BDAT_LAST && dialogue->mode == DIALOGUE_CHUNK &&
            state_has(dialogue, STATE_CHUNK_LAST))
            state_set(dialogue, STATE_CHUNK_ANSWERED);
        if (verb == VERB_BDAT_LAST && positive)
            dialogue->commands.ok++;
        mail_end(dialogue, verb, reply);
        return;
    }
    if (reply->code == 334) {
        answer_auth_turn(dialogue);
        return;
    }
    queue_pop(dialogue);
    if (positive && verb != VERB_GREETING)
        dialogue->commands.ok++;
    switch (verb) {
    case VERB_GREETING:
        answer_greeting(dialogue, reply);
        break;
    case VERB_HELO:
    case VERB_EHLO:
    case VERB_LHLO:
        answer_hello(dialogue, verb, reply);
        break;
    case VERB_MAIL:
    case VERB_SEND:
        answer_mail(dialogue, verb, reply);
        break;
    case VERB_RCPT:
        answer_rcpt(dialogue, reply);
        break;
    case VERB_DATA:
        answer_data(dialogue, reply);
        break;
    case VERB_BDAT:
        answer_chunk(dialogue, reply);
        break;
    case VERB_RSET:
        if (positive) {
            if (dialogue->mail_open)
                state_set(dialogue, STATE_MAIL_DONE);
            dialogue_forget_mail(dialogue);
            state_drop(dialogue, STATE_CANDIDATE);
        }
        break;
    case VERB_QUIT:
        if (positive)
            state_set(dialogue, STATE_CLOSED);
        break;
    case VERB_STARTTLS:
        answer_starttls(dialogue, reply);
        break;
    case VERB_AUTH:
        answer_auth(dialogue, reply);
        break;
    case VERB_TURN:
    case VERB_ATRN:
        if (positive)
            answer_turn(dialogue);
        break;
    case VERB_XCLIENT:
        if (reply->code == 220) { /* Postfix XCLIENT_README: a new greeting, EHLO is due again */
            dialogue_forget_mail(dialogue);
            state_drop(dialogue, STATE_HELO_DONE | STATE_MAIL_DONE);
        }
        break;
    case VERB_NONE:
    case VERB_NOOP:
    case VERB_VRFY:
    case VERB_EXPN:
    case VERB_HELP:
    case VERB_ETRN:
    case VERB_XFORWARD:
    case VERB_OTHER:
    case VERB_MASKED:
    case VERB_BDAT_LAST:
    case VERB_END_OF_DATA:
    case VERB_COUNT:
        break;
    }
}

/* ---- agreement of replies and queue ---- */

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
    dialogue_note(dialogue, DIALOGUE_421_SEEN);
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
    if (dialogue->kept.role == DIALOGUE_REPLY_ENDED_SESSION)
        dialogue->kept.role = DIALOGUE_REPLY_ENDED_MAIL;
}

void reply_apply(struct dialogue *dialogue, const struct reply *reply)
{
    uint16_t code = reply->code;
    bool was_unknown = state_has(dialogue, STATE_UNKNOWN);
    dialogue->last_code = code;
    if (code >= 400 && dialogue->errors < UINT32_MAX)
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
