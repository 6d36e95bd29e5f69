/* settings_list - lists of ports and of networks, separated by blanks or single commas.
 * Owns:    a list of networks it allocates is the caller's, to be freed with free().
 * Bounds:  the row's maximum of ports, SETTINGS_MAX_NETWORKS. Threads: any; nothing is kept. */
#ifndef SMTPWITNESS_CONF_SETTINGS_LIST_H
#define SMTPWITNESS_CONF_SETTINGS_LIST_H

#include "conf/settings.h"
#include "conf/settings_value.h"

/* Different ports, as many as the row allows. */
bool settings_list_read_ports(const struct settings_row *row, const char *text,
                              struct settings_ports *ports) MUST_CHECK;
bool settings_list_write_ports(const struct settings_ports *ports, char text[SETTINGS_VALUE_SIZE]);

/* Sets the fault's `what` when it is wrong, and `example` when it can tell what was meant. */
enum settings_value_result settings_list_read_networks(const char *text, struct network **networks,
                                                       size_t *count,
                                                       struct settings_value_fault *fault) MUST_CHECK;
/* As the dump does: one blank between, no prefix where it is a single host. False when it does not fit. */
bool settings_list_write_networks(const struct network *networks, size_t count,
                                  char text[SETTINGS_VALUE_SIZE]) MUST_CHECK;

#endif
