/* Every dialogue of tests/transcripts, whole, octet by octet, and cut at every octet of every segment. */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <strings.h>
#include <cmocka.h>

#include "tests/transcripts/transcript.h"

#define TRANSCRIPTS_MIN 60  /* so that a lost directory cannot pass */
#define CUTS_PER_END    400 /* segments longer than twice this are cut at their first and last octets only */

struct flag_name {
    const char *name;
    uint32_t flag;
};

static const struct flag_name flag_names[] = {
    {"early-talk", DIALOGUE_EARLY_TALK},
    {"resynced", DIALOGUE_RESYNCED},
    {"too-deep", DIALOGUE_TOO_DEEP},
    {"banner-masked", DIALOGUE_BANNER_MASKED},
    {"capability-masked", DIALOGUE_CAPABILITY_MASKED},
    {"verb-masked", DIALOGUE_VERB_MASKED},
    {"body-without-354", DIALOGUE_BODY_WITHOUT_354},
    {"bare-lf", DIALOGUE_BARE_LF},
    {"line-too-long", DIALOGUE_LINE_TOO_LONG},
    {"nul", DIALOGUE_NUL},
    {"not-smtp", DIALOGUE_NOT_SMTP},
    {"starttls-offered", DIALOGUE_STARTTLS_OFFERED},
    {"pipelining-offered", DIALOGUE_PIPELINING_OFFERED},
    {"chunking-offered", DIALOGUE_CHUNKING_OFFERED},
    {"pipeconnect-offered", DIALOGUE_PIPECONNECT_OFFERED},
    {"turned", DIALOGUE_TURNED},
    {"lmtp", DIALOGUE_LMTP},
    {"prdr", DIALOGUE_PRDR},
    {"quit-sent", DIALOGUE_QUIT_SENT},
    {"221-seen", DIALOGUE_221_SEEN},
    {"421-seen", DIALOGUE_421_SEEN},
    {"tls", DIALOGUE_TLS},
    {"greeted", DIALOGUE_GREETED},
    {"gap", DIALOGUE_GAP},
    {"codeless-line", DIALOGUE_CODELESS_LINE},
    {"long-command", DIALOGUE_LONG_COMMAND},
    {"pix-dot", DIALOGUE_PIX_DOT},
    {"bare-dot", DIALOGUE_BARE_DOT},
    {"proxy-line", DIALOGUE_PROXY_LINE},
    {"can-infer", DIALOGUE_CAN_INFER},
    {"body-refused", DIALOGUE_BODY_REFUSED},
};

struct run {
    const char *file;
    const struct transcript *transcript;
    size_t cut_step, cut_at; /* SIZE_MAX: no step is cut */
    bool octets;             /* every segment octet by octet */
    uint32_t serial;         /* at the assertion before */
    unsigned failures;
};

static const char *role_name(enum dialogue_reply_role role)
{
    return role == DIALOGUE_REPLY_NONE ? "none" : role == DIALOGUE_REPLY_ENDED_MAIL ? "mail" : "session";
}

static uint32_t flag_find(const char *name)
{
    for (size_t i = 0; i < sizeof flag_names / sizeof flag_names[0]; i++)
        if (strcmp(flag_names[i].name, name) == 0)
            return flag_names[i].flag;
    return 0;
}

static void flags_describe(uint32_t flags, char *text, size_t size)
{
    text[0] = 0;
    for (size_t i = 0; i < sizeof flag_names / sizeof flag_names[0]; i++) {
        if ((flags & flag_names[i].flag) == 0)
            continue;
        size_t used = strlen(text);
        snprintf(text + used, size - used, "%s%s", used > 0 ? "," : "", flag_names[i].name);
    }
}

static const char *yes(bool value)
{
    return value ? "yes" : "no";
}

/* What `key` is now, as text. False: no such key. */
static bool describe(struct run *run, const struct dialogue *dialogue, const char *key, char *text,
                     size_t size)
{
    const struct tls_stream *tls = dialogue_tls(dialogue);
    uint64_t length;
    uint32_t keep;
#define NUMBER(name, value)                                                                                  \
    if (strcmp(key, name) == 0) {                                                                            \
        snprintf(text, size, "%llu", (unsigned long long)(value));                                           \
        return true;                                                                                         \
    }
#define WORD(name, value)                                                                                    \
    if (strcmp(key, name) == 0) {                                                                            \
        snprintf(text, size, "%s", value);                                                                   \
        return true;                                                                                         \
    }
#define COUNT(name, value)                                                                                   \
    if (strcmp(key, name) == 0) {                                                                            \
        snprintf(text, size, "%u/%u", (value).ok, (value).total);                                            \
        return true;                                                                                         \
    }
    WORD("phase", phase_name(dialogue->phase))
    WORD("owed", side_name(dialogue->owed_by))
    COUNT("mails", dialogue->mails)
    COUNT("rcpts", dialogue->rcpts)
    COUNT("commands", dialogue->commands)
    NUMBER("code", dialogue->last_code)
    NUMBER("errors", dialogue->errors)
    NUMBER("body", dialogue->body_octets)
    NUMBER("size", dialogue->announced_size)
    NUMBER("size-limit", dialogue->size_limit)
    NUMBER("rcptmax", dialogue->limits_rcptmax)
    NUMBER("mailmax", dialogue->limits_mailmax)
    NUMBER("rcptdomainmax", dialogue->limits_rcptdomainmax)
    WORD("open", yes(dialogue->mail_open))
    WORD("unread", yes(dialogue->mail_accepted_unread))
    WORD("oldest", verb_name(dialogue_oldest_verb(dialogue)))
    NUMBER("outstanding", dialogue_outstanding_count(dialogue))
    WORD("client-line", yes(dialogue_line_open(dialogue, SIDE_CLIENT)))
    WORD("server-line", yes(dialogue_line_open(dialogue, SIDE_SERVER)))
    WORD("reply-open", yes(dialogue_reply_open(dialogue)))
    WORD("speak", yes(dialogue_may_speak(dialogue)))
    NUMBER("may-pass", dialogue_may_pass(dialogue, SIDE_CLIENT, &length, &keep) ? length : 0)
    NUMBER("keep", dialogue_may_pass(dialogue, SIDE_CLIENT, &length, &keep) ? keep : 0)
    WORD("kept", role_name(dialogue->kept.role))
    WORD("class", reply_class_name(dialogue->kept.class))
    WORD("kept-verb", verb_name(dialogue->kept.verb))
    WORD("kept-phase", phase_name(dialogue->kept.phase))
    WORD("kept-owed", side_name(dialogue->kept.owed_by))
    NUMBER("kept-code", dialogue->kept.code)
    WORD("kept-body", yes(dialogue->kept.body_began))
    WORD("clock", dialogue->debt_serial == run->serial ? "same" : "new")
    WORD("established", yes(tls->established))
    WORD("not-tls", yes(tls->not_tls))
    NUMBER("version", tls->version)
    NUMBER("alert", tls->alert_description)
    WORD("alert-from", side_name(tls->alert_from))
    NUMBER("tickets", tls->tickets)
    NUMBER("tls-commands", tls->commands)
    NUMBER("tls-replies", tls->replies)
    NUMBER("bulk", tls->bulk_octets)
    WORD("server-bye", yes(tls->close_notify[side_index(SIDE_SERVER)]))
    WORD("client-bye", yes(tls->close_notify[side_index(SIDE_CLIENT)]))
#undef NUMBER
#undef WORD
#undef COUNT
    return false;
}

static void fail_step(struct run *run, const struct transcript_step *step, const char *what)
{
    run->failures++;
    print_error("%s:%u: %s", run->file, step->line, what);
    if (run->octets)
        print_error(" (octet by octet)");
    else if (run->cut_step != SIZE_MAX)
        print_error(" (segment of line %u cut at %zu)", run->transcript->steps[run->cut_step].line,
                    run->cut_at);
    print_error("\n");
}

static void check_flags(struct run *run, const struct transcript_step *step, const struct dialogue *dialogue,
                        char *names, bool wanted)
{
    char now[600], what[800];
    for (char *save, *name = strtok_r(names, ",", &save); name != NULL; name = strtok_r(NULL, ",", &save)) {
        uint32_t flag = flag_find(name);
        if (flag != 0 && ((dialogue->flags & flag) != 0) == wanted)
            continue;
        flags_describe(dialogue->flags, now, sizeof now);
        snprintf(what, sizeof what, "flag %s must%s be among %s", name, wanted ? "" : " not", now);
        fail_step(run, step, what);
    }
}

static void check_step(struct run *run, const struct transcript_step *step, const struct dialogue *dialogue)
{
    char text[4096], now[300], what[800];
    snprintf(text, sizeof text, "%s", (const char *)run->transcript->octets + step->at);
    for (char *save, *word = strtok_r(text, " ", &save); word != NULL; word = strtok_r(NULL, " ", &save)) {
        char *value = strchr(word, '=');
        if (value == NULL) {
            fail_step(run, step, "an assertion is key=value");
            continue;
        }
        *value++ = 0;
        if (strcmp(word, "flags") == 0 || strcmp(word, "noflags") == 0) {
            check_flags(run, step, dialogue, value, word[0] == 'f');
        } else if (strcmp(word, "text") == 0) {
            if (dialogue->kept.text == NULL || strstr(dialogue->kept.text, value) == NULL)
                fail_step(run, step, "the kept text is another one");
        } else if (!describe(run, dialogue, word, now, sizeof now)) {
            snprintf(what, sizeof what, "no such key: %s", word);
            fail_step(run, step, what);
        } else if (strcmp(now, value) != 0) {
            snprintf(what, sizeof what, "%s is %s, not %s", word, now, value);
            fail_step(run, step, what);
        }
    }
    run->serial = dialogue->debt_serial;
}

/* Each piece in memory of its own size, so that a sanitizer sees every octet read too far. */
static void say(struct dialogue *dialogue, enum side side, const uint8_t *octets, size_t length)
{
    if (length == 0)
        return;
    uint8_t *copy = malloc(length);
    assert_non_null(copy);
    memcpy(copy, octets, length);
    dialogue_consume(dialogue, side, copy, length);
    free(copy);
}

static void run_step(struct run *run, size_t index, struct dialogue *dialogue)
{
    const struct transcript_step *step = &run->transcript->steps[index];
    const uint8_t *octets = run->transcript->octets + step->at;
    bool whole = !run->octets && run->cut_step == SIZE_MAX;
    switch (step->kind) {
    case TRANSCRIPT_SAY:
        if (run->octets) {
            for (size_t i = 0; i < step->length; i++)
                say(dialogue, step->side, octets + i, 1);
        } else if (index == run->cut_step) {
            say(dialogue, step->side, octets, run->cut_at);
            say(dialogue, step->side, octets + run->cut_at, step->length - run->cut_at);
        } else {
            say(dialogue, step->side, octets, step->length);
        }
        break;
    case TRANSCRIPT_SKIP:
        dialogue_skip(dialogue, step->side, step->count);
        break;
    case TRANSCRIPT_PASS:
        dialogue_pass(dialogue, step->side, step->count);
        break;
    case TRANSCRIPT_CONNECT:
        dialogue_connected(dialogue);
        break;
    case TRANSCRIPT_ASSERT:
        check_step(run, step, dialogue);
        break;
    case TRANSCRIPT_ASSERT_WHOLE:
        if (whole)
            check_step(run, step, dialogue);
        break;
    case TRANSCRIPT_CUT:
        break;
    }
}

static void run_once(struct run *run)
{
    struct dialogue dialogue;
    dialogue_init(&dialogue, &run->transcript->options);
    if (!run->transcript->unconnected)
        dialogue_connected(&dialogue);
    run->serial = dialogue.debt_serial;
    for (size_t i = 0; i < run->transcript->step_count; i++)
        run_step(run, i, &dialogue);
    dialogue_clear(&dialogue);
}

static unsigned run_all_cuts(const char *file, const struct transcript *transcript)
{
    struct run run = {.file = file, .transcript = transcript, .cut_step = SIZE_MAX};
    run_once(&run);
    if (run.failures > 0)
        return run.failures;
    run.octets = true;
    run_once(&run);
    run.octets = false;
    for (size_t i = 0; i < transcript->step_count && run.failures == 0; i++) {
        const struct transcript_step *step = &transcript->steps[i];
        if (step->kind != TRANSCRIPT_SAY)
            continue;
        run.cut_step = i;
        for (run.cut_at = 1; run.cut_at < step->length && run.failures == 0; run.cut_at++) {
            if (run.cut_at == CUTS_PER_END && step->length > 2 * CUTS_PER_END)
                run.cut_at = step->length - CUTS_PER_END;
            run_once(&run);
        }
    }
    return run.failures;
}

static char *file_read(const char *path, size_t *length)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL)
        return NULL;
    size_t size = 200000;
    char *text = malloc(size);
    *length = text == NULL ? 0 : fread(text, 1, size, file);
    fclose(file);
    return text;
}

static int name_is_transcript(const struct dirent *entry)
{
    size_t length = strlen(entry->d_name);
    return length > 4 && strcmp(entry->d_name + length - 4, ".txt") == 0;
}

static void test_transcripts(void **state)
{
    (void)state;
    const char *only = getenv("TRANSCRIPT"); /* one file, while it is written */
    struct dirent **entries;
    int count = scandir("tests/transcripts", &entries, name_is_transcript, alphasort);
    assert_true(count >= TRANSCRIPTS_MIN);
    unsigned failures = 0;
    struct transcript *transcript = malloc(sizeof *transcript);
    assert_non_null(transcript);
    for (int i = 0; i < count; i++) {
        char path[400];
        snprintf(path, sizeof path, "tests/transcripts/%s", entries[i]->d_name);
        if (only == NULL || strcmp(only, entries[i]->d_name) == 0) {
            size_t length = 0;
            char *text = file_read(path, &length);
            assert_non_null(text);
            if (transcript_parse(transcript, text, length)) {
                failures += run_all_cuts(entries[i]->d_name, transcript);
            } else {
                print_error("%s: %s\n", entries[i]->d_name, transcript->error);
                failures++;
            }
            free(text);
        }
        free(entries[i]);
    }
    free(entries);
    free(transcript);
    assert_int_equal(failures, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_transcripts)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
