/* attribution - from facts to a verdict, by one table of rules read from top to bottom; the first that fits decides.
 * The order is the doctrine: what we did ourselves, then what somebody said in plain words, then what TCP proves
 * about the leg of the side that owed, then whose application that leaves, then `undetermined`.
 * Bounds: reads the table once. Threads: none. Time: none. */
#ifndef SMTPWITNESS_CORE_FAULT_ATTRIBUTION_H
#define SMTPWITNESS_CORE_FAULT_ATTRIBUTION_H

#include "core/fault/facts.h"
#include "core/fault/verdict.h"

/* Fills fault, also, cause, confidence, where, phase, owed_by, ended_by, limit_by, waited_us, limit_us and explain.
 * Leaves action and notes alone, but adds the notes that belong to the rule. */
void attribution_judge(const struct facts *facts, struct verdict *verdict);

/* For tests: how many rules there are, and the name of the rule that decided. */
const char *attribution_rule_name(const struct facts *facts);

/* explain.c: the sentence. */
void explain_verdict(const struct facts *facts, struct verdict *verdict);

#endif
