/* dialogue - follows one SMTP session from both sides (RFC 5321; PIPELINING RFC 2920, CHUNKING RFC 3030,
 * STARTTLS RFC 3207, AUTH RFC 4954, LMTP RFC 2033, LIMITS RFC 9422).
 *
 * The server's replies are the truth about the phase: commands queue up in a FIFO of unanswered verbs, each
 * complete reply takes one off. When replies and queue cannot be made to agree, the dialogue
 * re-synchronises from the replies and says so (DIALOGUE_RESYNCED). Bodies are counted and skipped; only
 * their end is looked for.
 *
 * Owns:    its queue (memory beyond DIALOGUE_OWN_RUNS runs), its two line assemblers (memory only while a line is
 *          split), what follows TLS once that begins, one kept reply text.
 * Borrows: spans, during the call only.
 * Bounds:  DIALOGUE_MAX_RUNS runs of equal verbs outstanding; more sets DIALOGUE_TOO_DEEP: then
 *          older runs merge into one of unknown verbs, their number stays right.
 *          DIALOGUE_REPLY_TEXT octets of a kept reply.
 * Errors:  none: whatever peers send is data. Allocation failure loses text, of a line split over spans all but its
 *          code or verb, makes the queue too deep at DIALOGUE_OWN_RUNS, and TLS is counted, not followed.
 * Threads: none. Time: none needed; the caller attributes time. */
#ifndef SMTPWITNESS_CORE_SMTP_DIALOGUE_H
#define SMTPWITNESS_CORE_SMTP_DIALOGUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/attributes.h"
#include "core/base/phase.h"
#include "core/base/side.h"
#include "core/smtp/command.h"
#include "core/smtp/reply.h"
#include "core/smtp/reply_text.h"
#include "core/smtp/tls_stream.h"
#include "core/stream/line.h"

#define DIALOGUE_MAX_RUNS 24
#define DIALOGUE_OWN_RUNS                                                                                    \
    4 /* MAIL, RCPT, DATA and what is sent behind; more than these take memory of their own, while they last */
#define DIALOGUE_REPLY_TEXT 200

/* Facts noticed on the way; a set, never cleared but where said. */
enum dialogue_flag {
    DIALOGUE_EARLY_TALK = 1u << 0,    /* client octets before the greeting */
    DIALOGUE_RESYNCED = 1u << 1,      /* the picture was wrong, or the session was picked up in the middle */
    DIALOGUE_TOO_DEEP = 1u << 2,      /* more runs outstanding than DIALOGUE_MAX_RUNS */
    DIALOGUE_BANNER_MASKED = 1u << 3, /* 220 with asterisks (PIX/ASA) */
    DIALOGUE_CAPABILITY_MASKED = 1u << 4, /* an EHLO keyword turned to X's */
    DIALOGUE_VERB_MASKED = 1u << 5,       /* a verb turned to X's reached us from the client */
    DIALOGUE_BODY_WITHOUT_354 = 1u << 6,  /* body lines after DATA was refused, or before its 354 */
    DIALOGUE_BARE_LF = 1u << 7,           /* a line ended by LF alone */
    DIALOGUE_LINE_TOO_LONG = 1u << 8,     /* a line longer than LINE_KEEP_OCTETS */
    DIALOGUE_NUL = 1u << 9,               /* a NUL octet in a command or reply line */
    DIALOGUE_NOT_SMTP = 1u << 10,         /* the server's first octets are no reply */
    DIALOGUE_STARTTLS_OFFERED = 1u << 11, /* from the last EHLO reply; cleared by the next */
    DIALOGUE_PIPELINING_OFFERED = 1u << 12,
    DIALOGUE_CHUNKING_OFFERED = 1u << 13,
    DIALOGUE_PIPECONNECT_OFFERED = 1u << 14, /* Exim's early pipelining: early talk is lawful */
    DIALOGUE_TURNED = 1u << 15,              /* TURN/ATRN: the roles are swapped */
    DIALOGUE_LMTP = 1u << 16,
    DIALOGUE_PRDR = 1u << 17,
    DIALOGUE_QUIT_SENT = 1u << 18,
    DIALOGUE_221_SEEN = 1u << 19,
    DIALOGUE_421_SEEN = 1u << 20,
    DIALOGUE_TLS = 1u << 21,     /* TLS began on this session */
    DIALOGUE_GREETED = 1u << 22, /* a 220 greeting was seen */
    DIALOGUE_GAP = 1u << 23,     /* octets were skipped where lines or the end of a body were expected */
    DIALOGUE_CODELESS_LINE = 1u << 24, /* a server line without a reply code where one was due */
    DIALOGUE_LONG_COMMAND = 1u << 25,  /* the last client command exceeded 512 octets (RFC 5321 4.5.3.1.4) */
    DIALOGUE_PIX_DOT = 1u << 26,       /* "." and CRLF of the last end of data came in separate spans */
    DIALOGUE_BARE_DOT = 1u << 27,     /* an LF.LF or CRLF.LF that is no end of data, last thing in the body */
    DIALOGUE_PROXY_LINE = 1u << 28,   /* a PROXY protocol line was seen */
    DIALOGUE_CAN_INFER = 1u << 29,    /* inside TLS: sizes and directions still tell the phase */
    DIALOGUE_BODY_REFUSED = 1u << 30, /* body lines whose DATA was refused, before them or behind them */
};

/* What the kept reply did. */
enum ONE_OCTET dialogue_reply_role {
    DIALOGUE_REPLY_NONE = 0,
    DIALOGUE_REPLY_ENDED_MAIL,    /* a 4xx/5xx that made a mail fail (not: one RCPT of several) */
    DIALOGUE_REPLY_ENDED_SESSION, /* a 421 at any moment, or a 4xx/5xx greeting */
};

/* The reply worth quoting. The first that ends the session replaces any other and is never replaced, except that a 421
 * in answer to QUIT, or behind its 221, says less than the refusal of a mail; of those that end a mail the first is
 * kept, whatever became of the mails after it. */
struct dialogue_kept_reply {
    enum dialogue_reply_role role;
    enum reply_class class; /* what its text says (reply_text.h) */
    enum verb verb;         /* the verb it answered; VERB_NONE when none was outstanding */
    enum phase phase;       /* the phase just before it */
    enum side owed_by : 7;  /* who owed just before it */
    bool body_began : 1;    /* the client had sent body octets of the open mail */
    uint8_t mail;           /* mails.total when it came, its low octet: of this mail or of an older one? */
    uint16_t code;
    char *text; /* whole reply, its lines joined by a space, raw octets, NUL-terminated; may be NULL */
};

struct dialogue_count {
    uint32_t total;
    uint32_t ok; /* answered 2xx or 3xx */
};

struct dialogue_run { /* `count` equal verbs in a row, unanswered */
    uint8_t verb;
    uint8_t reserved;
    uint16_t count;
};

/* Body end recognition. */
enum ONE_OCTET dialogue_mode {
    DIALOGUE_COMMANDS = 0,
    DIALOGUE_BODY,      /* until CRLF.CRLF */
    DIALOGUE_CHUNK,     /* chunk_left octets of BDAT */
    DIALOGUE_AUTH_TURN, /* the next client line answers a 334 */
    DIALOGUE_CIPHER,    /* TLS records */
    DIALOGUE_DEAF,      /* not SMTP or beyond following: count only */
};

struct dialogue {
    /* Read these; write none. */
    enum phase phase;
    enum side owed_by;            /* SIDE_NONE: nothing is owed (closed, or idle at leisure: see phase) */
    uint8_t run_first, run_count; /* private, as what stands below: the ring of runs */
    uint32_t flags;               /* enum dialogue_flag */
    uint32_t debt_serial;         /* changes whenever what is owed changes: a new debt, a new clock */
    struct dialogue_count mails;  /* total: MAIL answered, refused ones too; ok: final reply 2xx */
    struct dialogue_count rcpts;
    struct dialogue_count commands; /* verbs, bodies not counted */
    uint16_t last_code;             /* of the last complete reply */
    uint8_t errors;                 /* 4xx/5xx replies so far, 255 at most */
    bool mail_open : 1;             /* MAIL was accepted and neither ended nor reset */
    bool
        mail_accepted_unread : 1; /* a final 250 passed; the client has sent nothing since (duplicate risk) */
    struct dialogue_kept_reply kept;
    uint64_t body_octets;       /* of the current or last body */
    uint64_t octets[SIDE_PAIR]; /* all octets seen, by side_index() */
    uint64_t announced_size;    /* SIZE= of the current MAIL, 0 = none */
    uint64_t size_limit;        /* SIZE of the last EHLO reply (RFC 1870); 0 = none said */
    uint64_t limits_rcptmax : 20, limits_mailmax : 20,
        limits_rcptdomainmax : 20; /* RFC 9422 as advertised, six digits at most; 0 = not */

    /* Private; in this order without holes. */
    enum dialogue_mode mode;
    uint8_t tail_length;     /* of `tail` */
    uint8_t tail[4];         /* the last octets of the body so far */
    uint8_t auth_ahead;      /* lines sent behind AUTH before its 334 */
    uint8_t prefix_length;   /* octets of the PROXY header so far */
    uint16_t rcpts_accepted; /* of the open mail: LMTP's and PRDR's number of final replies */
    uint16_t replies_left;   /* final replies still due for this mail after the first (LMTP, PRDR) */
    uint32_t state;          /* enum dialogue_state of dialogue_internal.h */
    union {
        struct dialogue_run own_runs[DIALOGUE_OWN_RUNS]; /* a ring ... */
        struct dialogue_run *more_runs; /* ... or, with STATE_MORE_RUNS, this one of DIALOGUE_MAX_RUNS */
    };
    uint64_t chunk_left; /* of the BDAT chunk, or of the PROXY v2 header */
    struct reply_parser reply;
    struct line lines[SIDE_PAIR];
    struct tls_stream *tls; /* since TLS began; NULL before: read it with dialogue_tls() */
};

_Static_assert(sizeof(struct dialogue) <= 200, "an idle session may cost 1 kB in all");

#define DIALOGUE_KEEP_OCTETS 4096u

struct dialogue_options {
    bool implicit_tls;   /* TLS from the first octet (465) */
    bool lmtp;           /* expect LHLO semantics from the start (also switched on by LHLO itself) */
    bool proxy_protocol; /* a PROXY v1 line or v2 header from the client comes first */
    bool midstream;      /* picked up in the middle: nothing is known until a reply tells */
};

void dialogue_init(struct dialogue *dialogue, const struct dialogue_options *options);
void dialogue_clear(struct dialogue *dialogue);

/* What its TLS has shown; nothing, while none has begun. */
const struct tls_stream *dialogue_tls(const struct dialogue *dialogue);

/* The transport is up: from PHASE_CONNECT to PHASE_GREETING (or PHASE_TLS). */
void dialogue_connected(struct dialogue *dialogue);

/* Octets of `side`, in order. */
void dialogue_consume(struct dialogue *dialogue, enum side side, const uint8_t *octets, size_t length);

/* `length` octets of `side` passed unseen: a body spliced, a gap, a snap length. In a body or chunk they are
 * counted; where lines were expected the side re-synchronises at its next line end. */
void dialogue_skip(struct dialogue *dialogue, enum side side, uint64_t length);

/* True while octets of `side` may pass without being looked at, for speed: up to `*length` of those that have arrived,
 * the last `*keep` of which must be left and consumed. In a BDAT chunk of known length and in what is opaque nothing
 * needs to be kept. DATA's body is looked at where its end must be: in the last octets before the client waits for the
 * reply. Only a client that sends more than DIALOGUE_KEEP_OCTETS behind the final dot without waiting (RFC 2920 allows
 * it, no known one does) hides its dot so; the server's reply tells then (DIALOGUE_RESYNCED). */
bool dialogue_may_pass(const struct dialogue *dialogue, enum side side, uint64_t *length, uint32_t *keep);

/* `length` octets passed as dialogue_may_pass() allowed: counted as body, and no gap. */
void dialogue_pass(struct dialogue *dialogue, enum side side, uint64_t length);

/* After octets of the running body passed so little came, whole lines, that it may have been commands: whether the body
 * has ended cannot be told. In the midst of a line the client owes the rest of it, whatever it is. */
bool dialogue_body_is_doubtful(const struct dialogue *dialogue);

/* A line of that side began and has not ended (no LF yet). */
bool dialogue_line_open(const struct dialogue *dialogue, enum side side);

/* A multi-line reply began and its last line has not come (RFC 5321 4.2.1), or the first of the replies
 * that LMTP and PRDR give to the final dot has come and the last has not. */
bool dialogue_reply_open(const struct dialogue *dialogue);

/* May `421 ...` be put into the server's mouth right now without corrupting anything: plain text, no reply
 * or line half sent, nothing between final dot and its reply, no AUTH secret turn lost. In a body it is
 * also false: the client would not read it as an answer. */
bool dialogue_may_speak(const struct dialogue *dialogue);

/* Outstanding verbs, oldest first: VERB_NONE when none. */
enum verb dialogue_oldest_verb(const struct dialogue *dialogue);
uint32_t dialogue_outstanding_count(const struct dialogue *dialogue);

#endif
