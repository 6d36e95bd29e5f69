/* ledger - every microsecond of a session charged to exactly one account. The accounts sum to the duration.
 * Threads: none. Time: the caller's monotonic microseconds, never decreasing. */
#ifndef SMTPWITNESS_CORE_FAULT_LEDGER_H
#define SMTPWITNESS_CORE_FAULT_LEDGER_H

#include <stdint.h>

enum account {
    ACCOUNT_CLIENT = 0,
    ACCOUNT_SERVER,
    ACCOUNT_CLIENT_NETWORK,
    ACCOUNT_SERVER_NETWORK,
    ACCOUNT_WITNESS,
    ACCOUNT_COUNT,
};

struct ledger {
    uint64_t charged_us[ACCOUNT_COUNT];
    uint64_t until_us; /* everything before is charged */
};

void ledger_init(struct ledger *ledger, uint64_t now_us);

/* Charges the time since the last charge to `account`. Of it at most `network_us` goes to `network` instead
 * (the round trip every reply needs). A clock that went back charges nothing. */
void ledger_charge(struct ledger *ledger, uint64_t now_us, enum account account, enum account network,
                   uint64_t network_us);

/* Later evidence showed that up to `us` of what stands on `from` belongs to `to`. */
void ledger_move(struct ledger *ledger, enum account from, enum account to, uint64_t us);
uint64_t ledger_sum_us(const struct ledger *ledger);

#endif
