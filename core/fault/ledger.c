#include "core/fault/ledger.h"

#include <string.h>

void ledger_init(struct ledger *ledger, uint64_t now_us)
{
    memset(ledger, 0, sizeof *ledger);
    ledger->until_us = now_us;
}

void ledger_charge(struct ledger *ledger, uint64_t now_us, enum account account, enum account network,
                   uint64_t network_us)
{
    if (now_us <= ledger->until_us) {
        return;
    }
    uint64_t elapsed_us = now_us - ledger->until_us;
    uint64_t travel_us = network_us < elapsed_us ? network_us : elapsed_us;
    ledger->charged_us[network] += travel_us;
    ledger->charged_us[account] += elapsed_us - travel_us;
    ledger->until_us = now_us;
}

uint64_t ledger_sum_us(const struct ledger *ledger)
{
    uint64_t sum_us = 0;
    for (unsigned account = 0; account < ACCOUNT_COUNT; account++) {
        sum_us += ledger->charged_us[account];
    }
    return sum_us;
}

void ledger_move(struct ledger *ledger, enum account from, enum account to, uint64_t us)
{
    uint64_t moved_us = us < ledger->charged_us[from] ? us : ledger->charged_us[from];
    ledger->charged_us[from] -= moved_us;
    ledger->charged_us[to] += moved_us;
}
