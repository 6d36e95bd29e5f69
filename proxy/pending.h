/* pending - octets that one leg did not take yet, kept until it does.
 * It exists only while there is something to keep: no memory is held for a session whose peers both read.
 * Owns:    one allocation, grown to the limit at most. Borrows: octets, during the call only.
 * Bounds:  the caller's limit, given with each append. Threads: none. Time: none. */
#ifndef SMTPWITNESS_PROXY_PENDING_H
#define SMTPWITNESS_PROXY_PENDING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/attributes.h"

struct pending; /* NULL is the empty one */

/* Appends; false when it would exceed `limit` octets or memory lacks: nothing is kept then. */
bool pending_append(struct pending **pending, const void *octets, size_t length, size_t limit) MUST_CHECK;

size_t pending_length(const struct pending *pending);
/* The oldest octets, all in one piece; NULL when empty. Valid until the next call. */
const uint8_t *pending_octets(const struct pending *pending);

/* Forgets the `length` oldest; frees the memory and sets NULL with the last one. */
void pending_consume(struct pending **pending, size_t length);
void pending_clear(struct pending **pending);

#endif
