/* near - what other connections show about this one (rule R8 of the catalogue of faults: same client, same server, a
 * fresh connection of the same pair). A set of its own beside the facts, so that a rule asks for both.
 * Filled by core/policy/neighbours from what is known at that moment; what comes later changes no verdict. */
#ifndef SMTPWITNESS_CORE_FAULT_NEAR_H
#define SMTPWITNESS_CORE_FAULT_NEAR_H

enum near {
    /* While a connection is tried: */
    NEAR_OTHERS_CONNECT = 1u << 0, /* another source got in after our first SYN and before our last one */
    NEAR_OTHERS_FAIL = 1u << 1, /* another source's SYNs to this server stayed unanswered in the same time */
    NEAR_PAIR_LIVES = 1u << 2,  /* the server speaks on an older connection of the same source */
    /* When octets stay undelivered: */
    NEAR_FRESH_WORKS = 1u << 3, /* a connection begun after the trouble did carries that side's octets */
    NEAR_FRESH_FAILS = 1u << 4, /* SYNs sent to that side since then stay unanswered, and nobody got in */
    /* When the server refuses: */
    NEAR_UNEXPLAINED = 1u << 5, /* fewer connections crossed here than the server's limit */
};

#endif
