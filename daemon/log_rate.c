#include "daemon/log_rate.h"

#define SECOND_US UINT64_C(1000000)

/* Credit is counted in microseconds times lines, so that no limit loses a fraction of a line to rounding. */

void log_rate_init(struct log_rate *rate, uint32_t limit_count, uint64_t now_us)
{
    rate->limit_count = limit_count;
    rate->credit = SECOND_US * limit_count;
    rate->last_us = now_us;
}

bool log_rate_take(struct log_rate *rate, uint64_t now_us)
{
    uint64_t full = SECOND_US * rate->limit_count;
    uint64_t passed_us = now_us > rate->last_us ? now_us - rate->last_us : 0;

    if (rate->limit_count == 0) {
        return true;
    }
    if (now_us > rate->last_us) {
        rate->last_us = now_us;
    }
    if (passed_us >= SECOND_US) {
        rate->credit = full;
    } else {
        rate->credit += passed_us * rate->limit_count;
        if (rate->credit > full) {
            rate->credit = full;
        }
    }
    if (rate->credit < SECOND_US) {
        return false;
    }
    rate->credit -= SECOND_US;
    return true;
}
