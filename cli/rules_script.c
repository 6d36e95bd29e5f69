#include "cli/rules_script.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <sys/wait.h>

#define SCRIPT_NAME "smtpwitness-rules"
#define TEXT_SIZE   32

/* What becomes argv. */
struct call {
    char path[PATH_MAX + 64];
    char settings_file[PATH_MAX + 16];
    char texts[2][TEXT_SIZE];
    const char *words[RULES_SCRIPT_MAX_WORDS + 16];
    size_t count;
};

static bool find_script(struct call *call)
{
    static const char *const places[] = {"/" SCRIPT_NAME, "/../rules/" SCRIPT_NAME};
    char here[PATH_MAX];
    ssize_t length = readlink("/proc/self/exe", here, sizeof(here) - 1);

    if (length == -1) {
        return false;
    }
    here[length] = '\0';
    here[strrchr(here, '/') - here] = '\0';
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        snprintf(call->path, sizeof(call->path), "%s%s", here, places[i]);
        if (access(call->path, X_OK) == 0) {
            return true;
        }
    }
    return false;
}

static void add(struct call *call, const char *word)
{
    call->words[call->count++] = word;
}

/* Is "--name" or "--name=..." among the words? */
static bool is_given(const struct rules_script *script, const char *name)
{
    size_t length = strlen(name);

    for (size_t i = 0; i < script->word_count; i++) {
        const char *word = script->words[i];

        if (strncmp(word, name, length) == 0 && (word[length] == '\0' || word[length] == '=')) {
            return true;
        }
    }
    return false;
}

/* What rules.conf and the command line override. */
static void add_default(struct call *call, char *text, size_t size, const char *key, const char *value)
{
    snprintf(text, size, "%s=%s", key, value);
    add(call, "--default");
    add(call, text);
}

static void add_number(struct call *call, char *text, size_t size, const char *key, uint32_t value)
{
    char digits[16];

    snprintf(digits, sizeof(digits), "%u", value);
    add_default(call, text, size, key, digits);
}

/* rules.conf beside the configuration, when there is one. */
static void add_settings_file(struct call *call, const struct rules_script *script)
{
    const char *slash = strrchr(script->config, '/');
    int directory = slash == NULL ? 0 : (int)(slash - script->config) + 1;

    snprintf(call->settings_file, sizeof(call->settings_file), "%.*srules.conf", directory, script->config);
    if (!is_given(script, "--settings") && access(call->settings_file, R_OK) == 0) {
        add(call, "--settings");
        add(call, call->settings_file);
    }
}

static void add_settings(struct call *call, const struct rules_script *script)
{
    const struct settings *settings = script->settings;

    add_settings_file(call, script);
    if (strcmp(script->mode, "nfq") == 0) {
        add_number(call, call->texts[0], TEXT_SIZE, "queue", settings->nfq.first_queue);
        add_number(call, call->texts[1], TEXT_SIZE, "queues", settings->nfq.queues_count);
    } else {
        add_number(call, call->texts[0], TEXT_SIZE, "listen-port", settings->proxy.listen_port);
        add_default(call, call->texts[1], TEXT_SIZE, "fail",
                    settings->proxy.fail == SETTINGS_FAIL_OPEN ? "open" : "closed");
    }
}

enum command_exit rules_script_become(const struct rules_script *script)
{
    struct call call = {.count = 0};

    if (script->word_count > RULES_SCRIPT_MAX_WORDS) {
        command_error("rules: too many words; use a settings file (--settings)");
        return COMMAND_USAGE;
    }
    if (!find_script(&call)) {
        command_error("rules: " SCRIPT_NAME " is not beside this program; install smtpwitness again");
        return COMMAND_FAILED;
    }
    add(&call, call.path);
    add(&call, script->mode);
    add(&call, script->verb);
    if (script->settings != NULL && !is_given(script, "--help") && !is_given(script, "-h")) {
        add_settings(&call, script);
    }
    for (size_t i = 0; i < script->word_count; i++) {
        add(&call, script->words[i]);
    }
    add(&call, NULL);
    execv(call.path, (char *const *)(const void *)call.words);
    fprintf(stderr, COMMAND_PROGRAM ": rules: cannot run %s: %s; install smtpwitness again\n", call.path,
            strerror(errno));
    return COMMAND_FAILED;
}

enum command_exit rules_script_run(const struct rules_script *script)
{
    int status = 0;
    pid_t child;

    fflush(stdout);
    child = fork();
    if (child == -1) {
        fprintf(stderr, COMMAND_PROGRAM ": rules: fork: %s\n", strerror(errno));
        return COMMAND_FAILED;
    }
    if (child == 0) {
        _exit((int)rules_script_become(script));
    }
    while (waitpid(child, &status, 0) == -1) {
        if (errno != EINTR) {
            return COMMAND_FAILED;
        }
    }
    return WIFEXITED(status) ? (enum command_exit)WEXITSTATUS(status) : COMMAND_FAILED;
}
