#include "proxy/refusal.h"

#include <stdio.h>
#include <string.h>

size_t refusal_text(char text[REFUSAL_TEXT_SIZE], const char *host_name, const struct address *client)
{
    char host[ADDRESS_TEXT_SIZE];
    const char *address = address_format_host(client, host);
    /* An address literal of IPv6 carries its tag (RFC 5321 4.1.3). */
    const int length = snprintf(text, REFUSAL_TEXT_SIZE,
                                "421 4.7.0 %.255s Too many connections from [%s%s], try again later\r\n",
                                host_name, address_is_ipv4(client) ? "" : "IPv6:", address);

    return length < 0 ? 0 : (size_t)length < REFUSAL_TEXT_SIZE ? (size_t)length : REFUSAL_TEXT_SIZE - 1;
}

void refusal_record(struct record *record, const struct session *session, const struct limiter_counts *counts,
                    enum action action, int64_t start_unix_ms)
{
    memset(record, 0, sizeof *record);
    record->kind = RECORD_REFUSAL;
    record->mode = RECORD_PROXY;
    snprintf(record->session_id, sizeof record->session_id, "%s", session->id);
    record->client = session->client;
    record->server = session->server;
    record->start_unix_ms = start_unix_ms;
    record->counts = *counts;
    record->limit_name = limiter_limit_name(counts->met);
    record->verdict.fault = FAULT_POLICY;
    record->verdict.cause = CAUSE_WITNESS_LIMIT;
    record->verdict.confidence = CONFIDENCE_CERTAIN;
    record->verdict.where = WHERE_HERE;
    record->verdict.phase = PHASE_CONNECT;
    record->verdict.limit_by = LIMIT_BY_WITNESS;
    record->verdict.ended_by = action == ACTION_REFUSED ? ENDED_BY_WITNESS : ENDED_BY_NONE;
    record->verdict.action = action;
}
