/* dialogue_internal - what the files of the dialogue share; nobody else includes it.
 *
 * Octets behind DATA whose 354 has not come ("provisional body"): the client should have waited, so they
 * may be a body sent too early or commands. Nothing is held back. Until the reply tells, every such line is
 * queued as the unknown command it would be if DATA were refused, while the final dot is looked for as if
 * it were accepted; behind that dot lines are commands either way. On 354 the queued lines up to the dot
 * are struck out, on refusal they stay (each draws its 500), the dot too.
 *
 * Roles: after TURN the transport's client speaks as the SMTP server. Functions here take roles; dialogue.c
 * maps sides to roles on the way in, and roles to sides on the way out.
 * Threads: none. Time: none. */
#ifndef SMTPWITNESS_CORE_SMTP_DIALOGUE_INTERNAL_H
#define SMTPWITNESS_CORE_SMTP_DIALOGUE_INTERNAL_H

#include "core/smtp/dialogue.h"

enum dialogue_state {
    STATE_CONNECTED = 1u << 0,
    STATE_CLOSED = 1u << 1,
    STATE_HELO_DONE = 1u << 2,      /* EHLO, HELO or LHLO was accepted */
    STATE_MAIL_DONE = 1u << 3,      /* a mail ended since: between mails the client is at leisure */
    STATE_PROVISIONAL = 1u << 4,    /* the body runs behind a DATA that is not answered */
    STATE_BODY_HOLE = 1u << 5,      /* octets of the body passed unseen; its end may be among them */
    STATE_BODY_REJECTED = 1u << 6,  /* the server answered before the dot; the dot gets no other answer */
    STATE_BODY_BEGAN = 1u << 7,     /* body octets of the open mail were seen */
    STATE_BDAT_OPEN = 1u << 8,      /* a chunk that is not the last was accepted */
    STATE_BDAT_SENT = 1u << 9,      /* a chunk that is not the last was sent */
    STATE_CANDIDATE = 1u << 10,     /* the kept reply may still turn out not to have ended a mail */
    STATE_UNKNOWN = 1u << 11,       /* picked up in the middle, no reply has told the state yet */
    STATE_SERVER_GAP = 1u << 12,    /* server octets were lost, no reply came since */
    STATE_DATA_REFUSED = 1u << 13,  /* and no command came since */
    STATE_REPLY_SEEN = 1u << 14,    /* the server has said a reply */
    STATE_POPPED = 1u << 15,        /* the oldest debt was paid: a new clock */
    STATE_PROXY_DUE = 1u << 16,     /* a PROXY header is due from the client */
    STATE_PROXY_V2 = 1u << 17,      /* it is the binary one */
    STATE_SNIFFED_TLS = 1u << 18,   /* TLS was guessed from the client's first octet */
    STATE_LMTP_MAIL_OK = 1u << 19,  /* one of several final replies was positive */
    STATE_PRDR_RUNS = 1u << 20,     /* per-recipient replies of PRDR run, one final reply follows */
    STATE_REPLIES_BEGAN = 1u << 21, /* some, not all, replies to the final dot have come (LMTP, PRDR) */
    STATE_MORE_RUNS = 1u << 23,     /* the queue has memory of its own */
    STATE_BODY_BLIND = 1u << 22,    /* octets of the body passed unseen on purpose, few have come since */
};

/* What the last EHLO reply offered. */
#define DIALOGUE_OFFERED                                                                                     \
    ((uint32_t)(DIALOGUE_STARTTLS_OFFERED | DIALOGUE_PIPELINING_OFFERED | DIALOGUE_CHUNKING_OFFERED |        \
                DIALOGUE_PIPECONNECT_OFFERED))

static inline bool state_has(const struct dialogue *dialogue, uint32_t bits)
{
    return (dialogue->state & bits) != 0;
}

static inline void state_set(struct dialogue *dialogue, uint32_t bits)
{
    dialogue->state |= bits;
}

static inline void state_drop(struct dialogue *dialogue, uint32_t bits)
{
    dialogue->state &= ~bits;
}

static inline void dialogue_note(struct dialogue *dialogue, uint32_t flags)
{
    dialogue->flags |= flags;
}

/* dialogue_queue.c: the unanswered verbs. VERB_NONE stands for a blank line, which may or may not be
 * answered. */
void queue_push(struct dialogue *dialogue, enum verb verb);
void queue_pop(struct dialogue *dialogue);
void queue_push_front(struct dialogue *dialogue, enum verb verb, uint16_t count);
void queue_clear(struct dialogue *dialogue);
enum verb queue_head(const struct dialogue *dialogue); /* blank lines included */
enum verb queue_newest(const struct dialogue *dialogue);
/* Index of the first run of `verb` at or behind run `from`; run_count when there is none. */
uint8_t queue_find(const struct dialogue *dialogue, enum verb verb, uint8_t from);
struct dialogue_run *queue_run(struct dialogue *dialogue, uint8_t index);
/* Strikes the first `count` runs out. */
void queue_drop_runs(struct dialogue *dialogue, uint8_t count);

/* dialogue_body.c: each takes what belongs to it and returns the octets taken. */
void body_begin(struct dialogue *dialogue);
size_t body_consume(struct dialogue *dialogue, const uint8_t *octets, size_t length);
size_t chunk_consume(struct dialogue *dialogue, uint64_t length);
void chunk_begin(struct dialogue *dialogue, uint64_t size);
bool body_ends_in_bare_dot(const struct dialogue *dialogue);
/* A line of a provisional body. True: it was the dot. */
bool body_provisional_line(struct dialogue *dialogue, const struct line_view *view);
void body_accept_provisional(struct dialogue *dialogue);
void body_refuse_provisional(struct dialogue *dialogue);

/* dialogue_client.c: octets of the client's role; returns the octets taken. */
size_t client_consume(struct dialogue *dialogue, const uint8_t *octets, size_t length);

/* dialogue_server.c: up to and with one line of the server's role; returns the octets taken. */
size_t server_consume(struct dialogue *dialogue, const uint8_t *octets, size_t length);
void line_note_flags(struct dialogue *dialogue, const struct line_view *view);

/* dialogue_reply.c: a complete reply. */
void reply_apply(struct dialogue *dialogue, const struct reply *reply);

/* dialogue_capability.c: one line of an EHLO reply. */
void reply_apply_capability(struct dialogue *dialogue, const struct reply *reply);

/* dialogue_answer.c: the reply answers the oldest verb, which is `verb`. */
void answer_verb(struct dialogue *dialogue, enum verb verb, const struct reply *reply);
/* A reply shows that a mail is open whose MAIL or its reply we did not see. */
void mail_infer_open(struct dialogue *dialogue);
void mail_fail(struct dialogue *dialogue, enum verb verb, const struct reply *reply);
void dialogue_forget_mail(struct dialogue *dialogue);

/* dialogue_kept.c: the reply worth quoting. */
void kept_clear(struct dialogue *dialogue);
void kept_take(struct dialogue *dialogue, enum dialogue_reply_role role, enum verb verb,
               const struct reply *reply);
/* It may have ended the mail: it did unless the client finds another way. */
void kept_take_candidate(struct dialogue *dialogue, enum verb verb, const struct reply *reply);
bool kept_is_candidate(const struct dialogue *dialogue);
bool kept_answers_hello(const struct dialogue *dialogue);

/* dialogue.c */
/* Takes what follows as TLS; without memory it is not followed (DIALOGUE_DEAF). */
void dialogue_follow_tls(struct dialogue *dialogue, bool implicit);
void dialogue_begin_tls(struct dialogue *dialogue, bool implicit);

#endif
