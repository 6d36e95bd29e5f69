#include "daemon/peaks.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>

/* The name of its list, its address, or its network where IPv6 sources are counted by network. */
static const char *source_text(const struct limiter_peak *peak, uint8_t ipv6_source_prefix,
                               char text[ADDRESS_TEXT_SIZE])
{
    struct network network;

    if (peak->name[0] != '\0') {
        return peak->name;
    }
    if (address_is_ipv4(&peak->source) || ipv6_source_prefix >= 128) {
        return address_format_host(&peak->source, text);
    }
    memcpy(network.octets, peak->source.octets, sizeof(network.octets));
    network.prefix = ipv6_source_prefix;
    return network_format(&network, text);
}

void peaks_format(const struct limiter_peak *peak, uint8_t ipv6_source_prefix, uint64_t interval_us,
                  char logfmt[PEAKS_LINE_OCTETS], char json[PEAKS_LINE_OCTETS])
{
    char source_space[ADDRESS_TEXT_SIZE];
    char server[ADDRESS_TEXT_SIZE];
    const char *source = source_text(peak, ipv6_source_prefix, source_space);
    unsigned long long interval_s = (interval_us + 500000) / 1000000;

    address_format(&peak->server, server);
    snprintf(logfmt, PEAKS_LINE_OCTETS,
             "peaks source=%s server=%s peak=%u concurrent=%u opened=%u interval-s=%llu", source, server,
             peak->peak, peak->concurrent, peak->opened, interval_s);
    snprintf(json, PEAKS_LINE_OCTETS,
             "{\"event\":\"peaks\",\"source\":\"%s\",\"server\":\"%s\",\"peak\":%u,\"concurrent\":%u,"
             "\"opened\":%u,"
             "\"interval-s\":%llu}",
             source, server, peak->peak, peak->concurrent, peak->opened, interval_s);
}

void peaks_log(struct log *log, struct limiter *limiter, uint32_t count, uint8_t ipv6_source_prefix,
               uint64_t interval_us, bool reset)
{
    size_t room = count < PEAKS_MAX_SOURCES ? count : PEAKS_MAX_SOURCES;
    struct limiter_peak *peaks = calloc(room + 1, sizeof(*peaks)); /* + 1: never a request for nothing */
    char logfmt[PEAKS_LINE_OCTETS], json[PEAKS_LINE_OCTETS];
    size_t found;

    if (peaks == NULL) {
        log_message(log, LOG_WARNING, "peaks", "out of memory, none reported");
        return;
    }
    found = limiter_peaks(limiter, peaks, room, reset);
    for (size_t i = 0; i < found; i++) {
        peaks_format(&peaks[i], ipv6_source_prefix, interval_us, logfmt, json);
        log_line(log, LOG_INFO, logfmt, json);
    }
    free(peaks);
}
