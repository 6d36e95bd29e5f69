/* causes_print - writes the texts of core/fault/causes.h for people: `smtpwitness explain` and the manual
 * page smtpwitness-verdicts(7), which is generated from here so that the two cannot disagree.
 * Owns:    nothing; the stream is borrowed. A failed write shows in ferror(), which the caller checks.
 * Bounds:  lines of at most CAUSES_PRINT_COLUMNS on a terminal, unless a single word is longer.
 * Threads: none. Time: none. */
#ifndef SMTPWITNESS_DAEMON_CAUSES_PRINT_H
#define SMTPWITNESS_DAEMON_CAUSES_PRINT_H

#include <stdio.h>

#include "core/fault/verdict.h"

#define CAUSES_PRINT_COLUMNS 80

/* `smtpwitness explain`: every cause with its summary. */
void causes_print_list(FILE *stream);

/* `smtpwitness explain CAUSE`: all that is known about one. A value outside the enum prints
 * `undetermined`. */
void causes_print_one(FILE *stream, enum cause cause);

/* The page smtpwitness-verdicts(7), in mdoc(7). */
void causes_print_manual(FILE *stream);

#endif
