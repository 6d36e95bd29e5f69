/* supervisor - a process of ours that watches over the one that holds the packet queues. While that one hangs, packets
 * wait for their verdicts and mail stands still: neither --queue-bypass nor the fail-open flag helps, only its death
 * does. So its parent waits for a sign of life, kills it (SIGKILL works on a stopped process too) and starts another;
 * meanwhile the rules let packets bypass the queue.
 * The parent allocates nothing, has no threads, writes no log and reads nothing but its child's signs and signals; it
 * stays who it was started as, because each new child has to open the queues. Signals of an administrator go on to the
 * child; what the service manager wants to know is told by the parent, which is the service's main process.
 * Owns:    the child. Bounds: SUPERVISOR_DELAY_MOST_US between two starts.
 * Threads: none may run yet. */
#ifndef SMTPWITNESS_NFQ_SUPERVISOR_H
#define SMTPWITNESS_NFQ_SUPERVISOR_H

#include <stdbool.h>
#include <stdint.h>

#include "core/base/attributes.h"

#define SUPERVISOR_START_US      UINT64_C(20000000) /* for everything before the first sign of life */
#define SUPERVISOR_DELAY_US      UINT64_C(1000000)
#define SUPERVISOR_DELAY_MOST_US UINT64_C(30000000)
#define SUPERVISOR_QUICK_US      UINT64_C(10000000) /* a child that lived shorter waits longer for its successor */

/* The child's end. */
struct supervised {
    int link_fd;
    const char
        *last_end; /* why there was a child before: "did not answer for 3 s and was killed"; NULL = first */
    uint32_t generation; /* 1 = first */
};

struct supervisor_options {
    uint64_t watchdog_us;
    /* Runs in the child; its result is the exit code. */
    int (*run)(void *context, const struct supervised *supervised);
    void *context;
};

/* The parent's whole life; returns the program's exit code. signals_block() must have been called. */
int supervisor_run(const struct supervisor_options *options);

/* In the child. Never wait. */
void supervised_ready(const struct supervised *supervised);
void supervised_alive(const struct supervised *supervised);
/* Once the child is who it will be: its parent's death ends it. False: the parent is gone already. */
bool supervised_follow_parent(const struct supervised *supervised) MUST_CHECK;

#endif
