/* story - a session told for people: who owed what and for how long, what the packets showed, and the verdict.
 * Bounds:  STORY_FIRST turns from its beginning and STORY_LAST from its end are kept; what is left out is said.
 * Owns:    its turns. Threads: none. Time: monotonic microseconds of the tracker. */
#ifndef SMTPWITNESS_REPLAY_STORY_H
#define SMTPWITNESS_REPLAY_STORY_H

#include <stdio.h>

#include "core/base/attributes.h"
#include "core/tracker/tracker.h"

#define STORY_FIRST 60
#define STORY_LAST  60

struct story;

struct story *story_create(void) MUST_CHECK; /* NULL without memory */
void story_destroy(struct story *story);     /* accepts NULL */

/* After each step of its session. */
void story_on_step(struct story *story, const struct tracker_session *tracked, enum tracker_step step,
                   enum side side, uint64_t now_us);

/* Prints all of it. */
void story_print(const struct story *story, const struct tracker_session *tracked,
                 const struct record *record, FILE *to);

#endif
