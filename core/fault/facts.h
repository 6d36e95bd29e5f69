/* facts - the evidence of one session, flattened into what the rules of attribution ask.
 * Built by core/session at the deciding moment; pure data. Threads: none. */
#ifndef SMTPWITNESS_CORE_FAULT_FACTS_H
#define SMTPWITNESS_CORE_FAULT_FACTS_H

#include <stdbool.h>
#include <stdint.h>

#include "core/base/phase.h"
#include "core/base/side.h"
#include "core/fault/evidence.h"
#include "core/fault/near.h"
#include "core/fault/session_end.h"
#include "core/smtp/reply_text.h"

/* One bit per yes/no fact. "Suspect": the side whose turn it was; its leg's transport facts are LEG_*-derived. */
#define FACT(bit)        (UINT64_C(1) << (bit))
#define FACT_OWED_CLIENT FACT(0) /* the suspect is the client */
#define FACT_OWED_SERVER FACT(1) /* the suspect is the server */
#define FACT_STALLED     FACT(2) /* the suspect had been silent for FACTS_STALL_US or more */
#define FACT_PAST_RFC    FACT(3) /* ... for what RFC 5321 grants, or more */
#define FACT_LINE_OPEN   FACT(4) /* the suspect had begun a line */
#define FACT_REPLY_OPEN  FACT(5) /* a multi-line reply, or LMTP's set of replies, was unfinished */
#define FACT_BODY_BEGAN  FACT(6)
#define FACT_MAIL_OPEN   FACT(7)
#define FACT_IDLE        FACT(8) /* between mails, at leisure, after at least one mail was tried */
#define FACT_AFTER_PAUSE FACT(9) /* seconds of silence on the leg, then nothing got through */
#define FACT_RESET_ANSWERS                                                                                   \
    FACT(55) /* the client's RST answers what was sent to it: its end was gone before */
#define FACT_ORDERLY              FACT(10) /* 221 said, or QUIT sent and every mail answered */
#define FACT_HEARD                FACT(11) /* the suspect's host was heard while our octets stayed unacknowledged */
#define FACT_MAIL_ACCEPTED        FACT(12)
#define FACT_NO_CLIENT_OCTETS     FACT(13)
#define FACT_NO_SERVER_OCTETS     FACT(14)
#define FACT_GREETED              FACT(15)
#define FACT_EARLY_TALK           FACT(16)
#define FACT_EARLY_LAWFUL         FACT(17)
#define FACT_VERB_MASKED          FACT(18)
#define FACT_CAPABILITY_MASKED    FACT(19)
#define FACT_BANNER_MASKED        FACT(20)
#define FACT_BODY_REFUSED         FACT(21) /* a body came although DATA was refused */
#define FACT_LONG_COMMAND         FACT(22)
#define FACT_SPLIT_DOT            FACT(23)
#define FACT_BARE_DOT             FACT(24)
#define FACT_NOT_SMTP             FACT(25)
#define FACT_TLS                  FACT(26)
#define FACT_ALERT_BY_CLIENT      FACT(27) /* a fatal TLS alert in clear */
#define FACT_ALERT_BY_SERVER      FACT(28)
#define FACT_TLS_REPLY_THEN_CLOSE FACT(29) /* an encrypted reply, close_notify, end */
#define FACT_ERRORS_BEFORE        FACT(30)
#define FACT_OBSERVER_GAP         FACT(31) /* we ourselves missed packets */
#define FACT_MIDSTREAM            FACT(32)
#define FACT_SESSION_TIME         FACT(33) /* our limit of the whole session passed */
#define FACT_UNDELIVERED          FACT(34) /* octets sent to the suspect are repeated and not acknowledged */
#define FACT_ONLY_BIG_LOST        FACT(35)
#define FACT_WINDOW_ZERO          FACT(36)
#define FACT_FLOWING              FACT(37) /* the body runs, far too slowly for a mail, without a pause */
#define FACT_REVEALED             FACT(38) /* the suspect's sequence number is beyond what reached us */
#define FACT_REVEALED_BIG         FACT(39) /* ... by a full segment or more */
#define FACT_PROBE_ANSWERED       FACT(40)
#define FACT_PROBE_UNANSWERED     FACT(41)
#define FACT_TAPPED               FACT(42)
#define FACT_UNREACHABLE          FACT(43) /* ICMP unreachable on the suspect's leg */
#define FACT_ICMP_UNDIVERTED      FACT(44)
#define FACT_RESET_FOREIGN        FACT(45) /* the deciding RST does not fit its sender */
#define FACT_RESET_FITS           FACT(46)
#define FACT_ICMP_FOREIGN         FACT(47) /* the ICMP error came from another box than the server */
#define FACT_CROSSED              FACT(48) /* the server's FIN came before it had acknowledged the last command */
#define FACT_ONE_WAY              FACT(49)
#define FACT_TARPIT               FACT(50) /* the server's last replies, and this one, came later and later */
#define FACT_AFTER_LONG_IDLE      FACT(51) /* minutes of silence on the leg, then nothing got through */
#define FACT_NO_MAIL              FACT(52) /* no MAIL was tried */
#define FACT_REPLY_DECIDES        FACT(53) /* a failing reply ended the session, or every mail of an ended session */
#define FACT_SERVER_TIRED         FACT(54) /* that reply says (or hints) that the server tired of waiting */
#define FACT_TLS_QUIT_LIKELY      FACT(56) /* the client's last encrypted record has the size of QUIT */
#define FACT_TLS_CLOSE_NOTIFY     FACT(57) /* the side that ended said so inside TLS: deliberate */
#define FACT_HELD                 FACT(59) /* it waited here for a slot when it ended */
#define FACT_TLS_INFERRED         FACT(58) /* who owed was inferred from record sizes */
#define FACT_SYN_ACK_REPEATED     FACT(60) /* the server repeats its SYN-ACK though it was acknowledged */
#define FACT_ACKNOWLEDGED                                                                                    \
    FACT(61) /* the leg was looked at, and all that was sent before the end is acknowledged */
#define FACT_TLS_QUIT_SIZED FACT(62) /* the client's last encrypted record is as short as QUIT */
#define FACT_TIRED_GUESSED  FACT(63) /* FACT_SERVER_TIRED by its timing alone, no word of it in the text */

#define FACTS_STALL_US      1000000 /* shorter silences are no stall: a second of RTO, scheduling and think time */
#define FACTS_WAITED_FOR_US 5000000 /* the shortest idle limit seen in the field is 5-10 s (Postfix stress) */
/* Shorter than the shortest common state timeout (240 s, Azure) less 5 %. */
#define FACTS_LONG_IDLE_US      230000000
#define FACTS_PROBES_UNANSWERED 3       /* in a row; each is waited for longer than the one before it */
#define FACTS_BIG_OCTETS        500     /* more than a command, less than a segment */
#define FACTS_SLOW_US           5000000 /* a body is slow when it runs this long ... */
#define FACTS_SLOW_OCTETS       32768 /* ... at less than this a second: 3 min for what a server reads in one */
#define FACTS_TARPIT_COUNT      2     /* late replies in a row before the one that is due */
/* Whoever waits starts its clock when it has written its last octet; that octet passes here a little later, after round
 * trips or a repetition. Two percent less than RFC 5321 grants is no impatience. */
#define FACTS_RFC_LEAST_US(patience_us) ((patience_us) - (patience_us) / 50)

/* What a box on the way does to the segments of one leg, to be seen from here. */
enum box_sign {
    BOX_SIGN_NONE = 0,
    BOX_SIGN_UNSCALED, /* window scaling was offered, the answer came without it, and the window is tiny */
    BOX_SIGN_TRACKED,  /* what lies beyond the unscaled window is dropped */
    BOX_SIGN_SEQUENCE, /* sequence numbers are rewritten, the SACK blocks about them are not */
    BOX_SIGN_COUNT,
};

struct facts {
    uint64_t bits;
    enum session_end end; /* NONE: judged while it runs (stall notice) */
    enum phase phase;
    enum side suspect;            /* SIDE_NONE: nobody owed anything */
    enum reply_class reply_class; /* of the kept reply, when it matters */
    enum connect_result connect;  /* of the server leg */
    enum bottleneck bottleneck;   /* of a slow body, when known */
    enum box_sign box;            /* on the suspect's leg */
    uint64_t waited_us;
    uint64_t age_us;
    uint64_t patience_us;                   /* RFC 5321: how long the suspect may take */
    uint64_t closed_us;                     /* the suspect's window was closed so long in all */
    uint64_t limit_us;                      /* our own limit that acted, 0 = none */
    const struct leg_evidence *suspect_leg; /* may be NULL */
    const struct leg_evidence *client_leg;  /* may be NULL */
    const struct leg_evidence *server_leg;  /* may be NULL */
    uint8_t alert;                          /* TLS alert description */
    uint16_t reply_code;
    bool blind;    /* it began before we saw it, and no answer has shown since where it stands */
    uint32_t near; /* enum near: what other connections show */
    uint32_t concurrent, concurrent_limit; /* of the source, for the sentence */
    uint32_t limit_said;                   /* the limit that the server's reply names, 0 = none */
};

#endif
