#include "conf/settings_loader.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "conf/settings_error.h"
#include "conf/settings_file.h"
#include "conf/settings_index.h"
#include "conf/settings_profile.h"
#include "conf/settings_table.h"
#include "conf/settings_text.h"
#include "conf/settings_value.h"

_Static_assert(sizeof((struct policy_override *)0)->name == SETTINGS_MAX_NAME_OCTETS + 1,
               "a section's name fits its override");

/* The name in our replies when the system's own is no host name (RFC 5321 wants one there). */
#define HOST_NAME_FALLBACK "localhost"

/* The bit by which the interception rules recognise packets; in our own mark it would send them in circles. */
#define RULES_MARK UINT32_C(0x1000000)

/* What the functions below share during one load. The error of the earliest line wins: settings are applied section
 * by section, but an administrator corrects a file from the top. */
struct loader {
    const char *name;
    struct settings *settings;
    struct settings_index index;
    dictionary *values;
    struct settings_error *error;
    uint32_t error_line; /* UINT32_MAX = no error yet */
};

/* Where the values of one scope go. */
struct scope {
    struct settings *settings; /* NULL in a named section */
    struct policy_timeouts *timeouts;
    struct policy_limits *limits;
    struct policy_override *override; /* NULL outside of a named section */
};

static void *scope_base(const struct scope *scope, const struct settings_row *row)
{
    switch (row->base) {
    case SETTINGS_BASE_SETTINGS:
        return scope->settings;
    case SETTINGS_BASE_TIMEOUTS:
        return scope->timeouts;
    case SETTINGS_BASE_LIMITS:
        return scope->limits;
    case SETTINGS_BASE_OVERRIDE:
        return scope->override;
    case SETTINGS_BASE_NONE:
        break;
    }
    return NULL;
}

/* True when an error in `line` is to be written: it is the earliest so far. */
static bool claims_error(struct loader *loader, uint32_t line)
{
    if (line >= loader->error_line) {
        return false;
    }
    loader->error_line = line;
    return true;
}

#define FAIL(loader, line, ...)                                                                              \
    do {                                                                                                     \
        uint32_t fail_line = (line);                                                                         \
        if (claims_error((loader), fail_line)) {                                                             \
            settings_error_set((loader)->error, (loader)->name, fail_line, __VA_ARGS__);                     \
        }                                                                                                    \
    } while (0)

/* Defaults and profiles ----------------------------------------------------------------------------------- */

static void apply_text(struct loader *loader, const struct scope *scope, const struct settings_row *row,
                       const char *text, uint32_t line)
{
    struct settings_value_fault fault;
    if (settings_value_parse(row, text, scope_base(scope, row), &fault) != SETTINGS_VALUE_OK) {
        FAIL(loader, line, "the built-in value \"%s\" of %s is wrong: %s", text, row->key, fault.what);
    }
}

/* The defaults of `section`, or of every section without a name when it is SETTINGS_SECTION_NONE. */
static void apply_defaults(struct loader *loader, const struct scope *scope, enum settings_section section)
{
    for (size_t i = 0; i < settings_row_count; i++) {
        const struct settings_row *row = &settings_rows[i];
        bool wanted = section == SETTINGS_SECTION_NONE ? !settings_sections[row->section].named
                                                       : row->section == section;
        if (wanted && row->default_text != NULL) {
            apply_text(loader, scope, row, row->default_text, 0);
        }
    }
}

static bool is_session_limit(const struct settings_row *row)
{
    return row->base == SETTINGS_BASE_TIMEOUTS && row->offset == offsetof(struct policy_timeouts, session_us);
}

static void apply_profile(struct loader *loader, const struct scope *scope, const char *name, uint32_t line)
{
    const struct settings_profile *profile = settings_profile_find(name);
    if (profile == NULL) {
        return; /* a wrong name is reported with the section's other values */
    }
    for (const struct settings_profile_fill *fill = profile->fills; fill->key != NULL; fill++) {
        const struct settings_row *row = settings_row_find(fill->section, fill->key, strlen(fill->key));
        if (row == NULL) {
            FAIL(loader, line, "the profile \"%s\" fills the unknown key %s", name, fill->key);
        } else {
            apply_text(loader, scope, row, fill->value, line);
            if (is_session_limit(row)) {
                scope->timeouts->session_profile = (uint8_t)(profile - settings_profiles);
            }
        }
    }
}

/* Every profile's own numbers, to report what a server of that kind would have done. The first is `none`. */
static void resolve_profiles(struct loader *loader)
{
    struct policy_settings *policy = &loader->settings->policy;
    for (size_t i = 1; i < settings_profile_count && policy->profile_count < POLICY_MOST_PROFILES; i++) {
        struct policy_timeouts timeouts = {.session_us = 0};
        struct policy_profile *profile = &policy->profiles[policy->profile_count++];
        const struct scope scope = {.timeouts = &timeouts, .limits = &profile->limits};
        snprintf(profile->name, sizeof profile->name, "%s", settings_profiles[i].name);
        apply_profile(loader, &scope, profile->name, 0);
        profile->session_us = timeouts.session_us;
    }
}

/* Values of the file -------------------------------------------------------------------------------------- */

static const char *look_up(const struct loader *loader, const struct settings_index_section *section,
                           const struct settings_row *row)
{
    char title[SETTINGS_HEADER_SIZE];
    char path[SETTINGS_HEADER_SIZE + 64];
    snprintf(path, sizeof path, "%s:%.60s", settings_index_title(section, title), row->key);
    return iniparser_getstring(loader->values, path, NULL);
}

static void apply_value(struct loader *loader, const struct scope *scope,
                        const struct settings_index_section *section, const struct settings_row *row,
                        uint32_t line)
{
    char title[SETTINGS_HEADER_SIZE];
    char quoted[SETTINGS_QUOTE_SIZE];
    struct settings_value_fault fault;
    const char *text = look_up(loader, section, row);
    settings_index_title(section, title);
    if (text == NULL) {
        FAIL(loader, line,
             "[%s] %s: the INI library does not see this line; write it plainly, as \"%s = %s\"", title,
             row->key, row->key, row->example);
        return;
    }
    enum settings_value_result result = settings_value_parse(row, text, scope_base(scope, row), &fault);
    if (result == SETTINGS_VALUE_NO_MEMORY) {
        FAIL(loader, line, "out of memory");
    } else if (result == SETTINGS_VALUE_WRONG) {
        FAIL(loader, line, "[%s] %s = \"%s\": %s; write for example \"%s = %s\"", title, row->key,
             settings_quote(quoted, text, strlen(text)), fault.what, row->key, fault.example);
    } else if (is_session_limit(row)) {
        scope->timeouts->session_profile = 0; /* the administrator's own number */
    }
}

static uint32_t line_of(const struct settings_index_section *section, enum settings_section home,
                        const char *key)
{
    const struct settings_row *row = settings_row_find(home, key, strlen(key));
    return section == NULL || row == NULL ? 0 : section->row_line[row - settings_rows];
}

static void apply_section_profile(struct loader *loader, const struct scope *scope,
                                  const struct settings_index_section *section)
{
    const struct settings_row *row = settings_row_find(SETTINGS_SECTION_LIMITS, "profile", strlen("profile"));
    uint32_t line = line_of(section, SETTINGS_SECTION_LIMITS, "profile");
    const char *name = line == 0 || row == NULL ? NULL : look_up(loader, section, row);
    if (name != NULL) {
        apply_profile(loader, scope, name, line);
    }
}

static void apply_section(struct loader *loader, const struct scope *scope,
                          const struct settings_index_section *section)
{
    for (size_t i = 0; i < settings_row_count; i++) {
        if (section->row_line[i] != 0) {
            apply_value(loader, scope, section, &settings_rows[i], section->row_line[i]);
        }
    }
}

/* Values that contradict one another ---------------------------------------------------------------------- */

/* The later of the lines that set `keys`, or the section's own. */
static uint32_t latest_line(const struct settings_index_section *section, enum settings_section home,
                            const char *const *keys)
{
    uint32_t latest = 0;
    for (; *keys != NULL; keys++) {
        uint32_t line = line_of(section, home, *keys);
        latest = line > latest ? line : latest;
    }
    return latest == 0 && section != NULL ? section->line : latest;
}

static void check_limits(struct loader *loader, const struct policy_limits *limits,
                         const struct settings_index_section *section)
{
    static const char *const keys[] = {"percent-of-remaining", "total", "profile", NULL};
    char title[SETTINGS_HEADER_SIZE];
    if (limits->percent_of_remaining > 0 && limits->total_count == 0) {
        FAIL(loader, latest_line(section, SETTINGS_SECTION_LIMITS, keys),
             "[%s] percent-of-remaining = %u: there is no total of which to take a part; write for example "
             "\"total = 5000\"",
             section != NULL ? settings_index_title(section, title) : "limits",
             (unsigned)limits->percent_of_remaining);
    }
}

static void check_ports(struct loader *loader, const struct settings_index_section *section)
{
    static const char *const names[] = {"ports", "implicit-tls-ports", "lmtp-ports"};
    const struct settings_smtp *smtp = &loader->settings->smtp;
    const struct settings_ports *lists[] = {&smtp->ports, &smtp->implicit_tls_ports, &smtp->lmtp_ports};
    for (size_t a = 0; a < 3; a++) {
        for (size_t b = a + 1; b < 3; b++) {
            for (uint32_t i = 0; i < lists[a]->count * lists[b]->count; i++) {
                uint16_t port = lists[a]->port[i / lists[b]->count];
                const char *const keys[] = {names[a], names[b], NULL};
                if (port == lists[b]->port[i % lists[b]->count]) {
                    FAIL(loader, latest_line(section, SETTINGS_SECTION_SMTP, keys),
                         "[smtp] port %u stands in both %s and %s; write it in one of them only",
                         (unsigned)port, names[a], names[b]);
                }
            }
        }
    }
}

static void check_mark(struct loader *loader, const struct settings_index_section *section)
{
    uint32_t mark = loader->settings->proxy.outgoing_mark;
    if ((mark & RULES_MARK) != 0) {
        FAIL(loader, line_of(section, SETTINGS_SECTION_PROXY, "outgoing-mark"),
             "[proxy] outgoing-mark = 0x%x: it contains the bit 0x%x of the interception rules, so our own "
             "packets "
             "would be intercepted; write for example \"outgoing-mark = 0x20\"",
             (unsigned)mark, (unsigned)RULES_MARK);
    }
}

static void check_two_bits(struct loader *loader, const struct settings_index_section *section)
{
    uint32_t mark = loader->settings->nfq.mark;
    uint32_t high = mark & (mark - 1);
    if (high == 0 || (high & (high - 1)) != 0) {
        FAIL(loader, line_of(section, SETTINGS_SECTION_NFQ, "mark"),
             "[nfq] mark = 0x%x: exactly two bits are needed; write for example \"mark = 0x3000000\"",
             (unsigned)mark);
    }
}

/* The rules choose the queue by the low bits of a port. */
static void check_queues(struct loader *loader, const struct settings_index_section *section)
{
    uint32_t count = loader->settings->nfq.queues_count;
    if ((count & (count - 1)) != 0) {
        FAIL(loader, line_of(section, SETTINGS_SECTION_NFQ, "queues"),
             "[nfq] queues = %u: the rules know 1, 2, 4, 8 and 16; write for example \"queues = 4\"",
             (unsigned)count);
    }
}

/* Named sections ------------------------------------------------------------------------------------------ */

static void apply_override(struct loader *loader, const struct settings_index_section *section,
                           struct policy_override *override)
{
    char title[SETTINGS_HEADER_SIZE];
    struct scope scope = {
        .settings = NULL, .timeouts = &override->timeouts, .limits = &override->limits, .override = override};
    const struct policy_settings *policy = &loader->settings->policy;
    override->timeouts = policy->timeouts;
    override->limits = policy->limits;
    memcpy(override->name, section->name, sizeof override->name);
    apply_defaults(loader, &scope, section->section);
    apply_section_profile(loader, &scope, section);
    apply_section(loader, &scope, section);
    check_limits(loader, &override->limits, section);

    const struct settings_row *networks = settings_row_find(section->section, "networks", strlen("networks"));
    char text[SETTINGS_VALUE_SIZE];
    if (networks == NULL || line_of(section, section->section, "networks") == 0) {
        FAIL(loader, section->line, "[%s] has no networks; write for example \"networks = %s\"",
             settings_index_title(section, title), networks != NULL ? networks->example : "");
    } else if (override->networks != NULL &&
               (!settings_value_format(networks, override, text) ||
                strlen(text) + strlen("networks = ") > SETTINGS_MAX_LINE_OCTETS)) {
        /* The dump must load again. Only addresses such as ::ffff:ffff grow when they are written back. */
        FAIL(loader, line_of(section, section->section, "networks"),
             "[%s] networks: the list is too long; split the section", settings_index_title(section, title));
    }
}

static void apply_overrides(struct loader *loader, enum settings_section kind,
                            struct policy_override **overrides, size_t *count)
{
    size_t wanted = 0;
    for (size_t i = 0; i < loader->index.section_count; i++) {
        wanted += loader->index.sections[i].section == kind;
    }
    if (wanted == 0) {
        return;
    }
    *overrides = calloc(wanted, sizeof **overrides);
    if (*overrides == NULL) {
        FAIL(loader, 0, "out of memory");
        return;
    }
    for (size_t i = 0; i < loader->index.section_count; i++) {
        if (loader->index.sections[i].section == kind) {
            apply_override(loader, &loader->index.sections[i], &(*overrides)[(*count)++]);
        }
    }
}

/* All of it ----------------------------------------------------------------------------------------------- */

static void resolve_host_name(struct settings *settings)
{
    char *name = settings->policy.host_name;
    size_t size = sizeof settings->policy.host_name;
    if (name[0] != '\0') {
        return;
    }
    if (gethostname(name, size) == -1) {
        name[0] = '\0';
    }
    name[size - 1] = '\0';
    if (!settings_host_name_valid(name)) {
        memset(name, 0, size);
        snprintf(name, size, "%s", HOST_NAME_FALLBACK);
    }
}

/* iniparser keeps an entry per section and per key. A different number means that it read another text than we. */
static void check_agreement(struct loader *loader)
{
    size_t expected = loader->index.section_count + loader->index.key_count;
    if (loader->values->n < 0 || (size_t)loader->values->n != expected) {
        FAIL(loader, 0,
             "the INI library sees %d sections and keys where there are %zu; write the file more plainly",
             (int)loader->values->n, expected);
    }
}

static void apply_all(struct loader *loader)
{
    struct settings *settings = loader->settings;
    struct policy_settings *policy = &settings->policy;
    const struct scope scope = {
        .settings = settings, .timeouts = &policy->timeouts, .limits = &policy->limits, .override = NULL};
    const struct settings_index_section *limits =
        settings_index_find(&loader->index, SETTINGS_SECTION_LIMITS);
    apply_defaults(loader, &scope, SETTINGS_SECTION_NONE);
    resolve_profiles(loader);
    if (limits != NULL) {
        apply_section_profile(loader, &scope, limits);
    }
    for (size_t i = 0; i < loader->index.section_count; i++) {
        const struct settings_index_section *section = &loader->index.sections[i];
        if (!settings_sections[section->section].named) {
            apply_section(loader, &scope, section);
        }
    }
    check_limits(loader, &policy->limits, limits);
    check_ports(loader, settings_index_find(&loader->index, SETTINGS_SECTION_SMTP));
    check_mark(loader, settings_index_find(&loader->index, SETTINGS_SECTION_PROXY));
    check_two_bits(loader, settings_index_find(&loader->index, SETTINGS_SECTION_NFQ));
    check_queues(loader, settings_index_find(&loader->index, SETTINGS_SECTION_NFQ));
    apply_overrides(loader, SETTINGS_SECTION_SOURCE, &policy->sources, &policy->source_count);
    apply_overrides(loader, SETTINGS_SECTION_SERVER, &policy->servers, &policy->server_count);
    resolve_host_name(settings);
}

struct settings *settings_load_text(const char *name, const char *text, size_t length,
                                    struct settings_error *error)
{
    struct loader loader = {.name = name, .error = error, .error_line = UINT32_MAX};
    error->text[0] = '\0';
    if (!settings_index_build(&loader.index, name, text, length, error)) {
        settings_index_clear(&loader.index);
        return NULL;
    }
    loader.values = settings_file_parse(name, text, length, error);
    if (loader.values == NULL) {
        settings_index_clear(&loader.index);
        return NULL;
    }
    loader.settings = calloc(1, sizeof *loader.settings);
    if (loader.settings == NULL) {
        FAIL(&loader, 0, "out of memory");
    } else {
        check_agreement(&loader);
        apply_all(&loader);
    }
    iniparser_freedict(loader.values);
    settings_index_clear(&loader.index);
    if (loader.error_line != UINT32_MAX) {
        settings_destroy(loader.settings);
        return NULL;
    }
    return loader.settings;
}

struct settings *settings_load(const char *path, struct settings_error *error)
{
    if (path == NULL) {
        return settings_load_text("built-in defaults", "", 0, error);
    }
    size_t length;
    char *text = settings_file_read(path, &length, error);
    if (text == NULL) {
        return NULL;
    }
    struct settings *settings = settings_load_text(path, text, length, error);
    free(text);
    return settings;
}

static void destroy_overrides(struct policy_override *overrides, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        free(overrides[i].networks);
    }
    free(overrides);
}

void settings_destroy(struct settings *settings)
{
    if (settings == NULL) {
        return;
    }
    destroy_overrides(settings->policy.sources, settings->policy.source_count);
    destroy_overrides(settings->policy.servers, settings->policy.server_count);
    free(settings);
}
