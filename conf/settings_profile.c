#include "conf/settings_profile.h"

#include <string.h>

#define TIMEOUT(key, value)                                                                                  \
    {                                                                                                        \
        SETTINGS_SECTION_TIMEOUTS, (key), (value)                                                            \
    }
#define LIMIT(key, value)                                                                                    \
    {                                                                                                        \
        SETTINGS_SECTION_LIMITS, (key), (value)                                                              \
    }
#define END                                                                                                  \
    {                                                                                                        \
        SETTINGS_SECTION_NONE, NULL, NULL                                                                    \
    }

/* The phases in which a server's own command timeout runs while it waits for the client. */
#define CLIENT_TURNS(value)                                                                                  \
    TIMEOUT("helo", value), TIMEOUT("tls", value), TIMEOUT("auth", value), TIMEOUT("mail", value),           \
        TIMEOUT("rcpt", value), TIMEOUT("body", value), TIMEOUT("bdat", value), TIMEOUT("command", value),   \
        TIMEOUT("idle", value)

static const struct settings_profile_fill none[] = {END};

/* Exchange Server receive connector, Set-ReceiveConnector reference: MaxInboundConnectionPerSource 20,
 * MaxInboundConnectionPercentagePerSource 2, MaxInboundConnection 5000, ConnectionInactivityTimeout 5 minutes,
 * ConnectionTimeout 10 minutes (also while a mail is being transferred). */
static const struct settings_profile_fill exchange[] = {
    LIMIT("per-source", "20"), LIMIT("percent-of-remaining", "2"), LIMIT("total", "5000"),
    CLIENT_TURNS("5min"),      TIMEOUT("session", "10min"),        END,
};

/* Cisco Email Security Appliance (IronPort), User Guide for AsyncOS 10.0, "Configuring Global Settings for
 * Listeners": an unsuccessful connection ends after 5 minutes, any connection after 15 minutes. The guide has no
 * number of sessions per host for every listener, so none is filled in. */
static const struct settings_profile_fill ironport[] = {
    CLIENT_TURNS("5min"),
    TIMEOUT("session", "15min"),
    END,
};

/* Postfix 3.7, postconf(5): smtpd_client_connection_count_limit 50, default_process_limit 100 (smtpd processes, so
 * sessions), smtpd_client_connection_rate_limit 0, smtpd_timeout 300s and smtpd_starttls_timeout 300s normally. */
static const struct settings_profile_fill postfix[] = {
    LIMIT("per-source", "50"), LIMIT("total", "100"), LIMIT("rate", "0"), CLIENT_TURNS("300s"), END,
};

/* The same while all smtpd processes are busy: smtpd_timeout ${stress?{10}:{300}}s, and smtpd_starttls_timeout. */
static const struct settings_profile_fill postfix_stress[] = {
    LIMIT("per-source", "50"), LIMIT("total", "100"), LIMIT("rate", "0"), CLIENT_TURNS("10s"), END,
};

/* Exim specification, main options: smtp_accept_max 20, smtp_accept_max_per_host unset, smtp_receive_timeout 5m
 * (also per read of a message). */
static const struct settings_profile_fill exim[] = {
    LIMIT("per-source", "0"),
    LIMIT("total", "20"),
    CLIENT_TURNS("5min"),
    END,
};

/* An access provider that takes ten sessions of one address, as Cox answers with its AUP#CXCNCT refusal. */
static const struct settings_profile_fill isp_10[] = {
    LIMIT("per-source", "10"),
    END,
};

const struct settings_profile settings_profiles[] = {
    {"none", "Nothing is filled in.", none},
    {"exchange", "An Exchange receive connector with its default limits.", exchange},
    {"ironport", "A Cisco Email Security Appliance (IronPort): its session times.", ironport},
    {"postfix", "A Postfix server with its default limits.", postfix},
    {"postfix-stress", "A Postfix server under stress, which waits only 10 seconds for a client.",
     postfix_stress},
    {"exim", "An Exim server with its default limits.", exim},
    {"isp-10", "A provider that takes ten sessions of one address.", isp_10},
};
const size_t settings_profile_count = sizeof settings_profiles / sizeof settings_profiles[0];

const struct settings_profile *settings_profile_find(const char *name)
{
    for (size_t i = 0; i < settings_profile_count; i++) {
        if (strcmp(settings_profiles[i].name, name) == 0) {
            return &settings_profiles[i];
        }
    }
    return NULL;
}
