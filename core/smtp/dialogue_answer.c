/* What each verb's answer does to the mail and the session. */
#include "core/smtp/dialogue_internal.h"

void dialogue_forget_mail(struct dialogue *dialogue)
{
    dialogue->mail_open = false;
    dialogue->rcpts_accepted = 0;
    dialogue->replies_left = 0;
    state_drop(dialogue, STATE_BDAT_OPEN | STATE_LMTP_MAIL_OK | STATE_PRDR_RUNS | STATE_REPLIES_BEGAN);
}

void mail_infer_open(struct dialogue *dialogue)
{
    if (dialogue->mail_open)
        return;
    dialogue->mail_open = true;
    dialogue->mails.total++;
    dialogue_note(dialogue, DIALOGUE_RESYNCED);
}

void mail_fail(struct dialogue *dialogue, enum verb verb, const struct reply *reply)
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
    bool of_this = dialogue->kept.mail == (uint8_t)dialogue->mails.total;
    if (dialogue->kept.role == DIALOGUE_REPLY_ENDED_MAIL && (of_this || kept_is_candidate(dialogue)))
        kept_clear(dialogue); /* it kept this mail from nothing */
    dialogue_forget_mail(dialogue);
    state_set(dialogue, STATE_MAIL_DONE);
}

/* A reply to the end of data. RFC 2033 4.2: LMTP gives one per accepted recipient; PRDR one each, then the
 * final one. */
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
        if (!dialogue->mail_open) {
            state_set(dialogue, STATE_MAIL_DONE);
            if (reply->code != 503) /* out of order: no attempt at a mail (RFC 5321 4.2.3) */
                dialogue->mails.total++;
        }
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
        dialogue->flags &= ~DIALOGUE_OFFERED;
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
    dialogue->flags &= ~((uint32_t)DIALOGUE_GREETED | DIALOGUE_OFFERED);
    dialogue_forget_mail(dialogue);
    state_drop(dialogue, STATE_HELO_DONE | STATE_MAIL_DONE | STATE_REPLY_SEEN);
    queue_clear(dialogue);
    queue_push(dialogue, VERB_GREETING);
    for (size_t i = 0; i < SIDE_PAIR; i++)
        line_clear(&dialogue->lines[i]);
}

void answer_verb(struct dialogue *dialogue, enum verb verb, const struct reply *reply)
{
    bool positive = reply->code < 400;
    if (verb == VERB_END_OF_DATA || verb == VERB_BDAT_LAST) {
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
