/* `smtpwitness check`: is the configuration good, and with --machine: is this machine? Changes nothing. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <sys/resource.h>

#include "cli/command.h"
#include "cli/rules_script.h"
#include "conf/settings.h"
#include "daemon/port.h"
#include "daemon/privileges.h"

#define DESCRIPTORS_A_SESSION 2
#define DESCRIPTORS_RESERVED  64   /* as in proxy/proxy.c */
#define DESCRIPTORS_ENOUGH    4096 /* about 2000 sessions */

static unsigned problem(const char *what, const char *remedy)
{
    printf("problem: %s\nremedy: %s\n", what, remedy);
    return 1;
}

static void warning(const char *what, const char *remedy)
{
    printf("warning: %s\nremedy: %s\n", what, remedy);
}

static unsigned check_descriptors(const struct settings *settings)
{
    const uint64_t wanted =
        (uint64_t)settings->proxy.max_sessions * DESCRIPTORS_A_SESSION + DESCRIPTORS_RESERVED;
    struct rlimit limit;
    char text[160];

    if (getrlimit(RLIMIT_NOFILE, &limit) == -1) {
        return 0;
    }
    if (settings->proxy.max_sessions != 0 && wanted > limit.rlim_max) {
        snprintf(text, sizeof(text),
                 "[proxy] max-sessions = %u needs %llu descriptors, and the limit here is %llu",
                 settings->proxy.max_sessions, (unsigned long long)wanted,
                 (unsigned long long)limit.rlim_max);
        return problem(text, "raise LimitNOFILE of the service (or ulimit -Hn), or lower max-sessions");
    }
    if (limit.rlim_max < DESCRIPTORS_ENOUGH) {
        snprintf(text, sizeof(text), "%llu descriptors allow only %llu sessions at once",
                 (unsigned long long)limit.rlim_max,
                 (unsigned long long)(limit.rlim_max - DESCRIPTORS_RESERVED) / DESCRIPTORS_A_SESSION);
        warning(text, "raise LimitNOFILE of the service, or ulimit -Hn where it is started");
    }
    return 0;
}

/* What the JSON file would meet at a reload, when the witness is no longer root. */
static unsigned check_json_file(const struct settings_log *log)
{
    char directory[sizeof(log->json_file)];
    char text[sizeof(log->json_file) + 96];
    char *slash;

    snprintf(directory, sizeof(directory), "%s", log->json_file);
    slash = strrchr(directory, '/');
    if (slash == NULL) {
        return 0; /* none, or standard output */
    }
    slash[slash == directory ? 1 : 0] = '\0';
    if (access(directory, W_OK | X_OK) == 0) {
        return 0;
    }
    snprintf(text, sizeof(text), "[log] json-file: cannot write in %s: %s", directory, strerror(errno));
    return problem(text, "make the directory, and give it to the user of [process]");
}

/* A port in use is a witness that runs, or somebody else. */
static void check_port(const struct settings *settings)
{
    struct settings_error error = {0};

    if (!port_check_free(settings->proxy.listen_port, &error)) {
        warning(error.text, "nothing, if that is a witness that runs already");
    }
}

static unsigned check_process(const struct settings *settings, bool proxy)
{
    struct settings_error error = {0};
    bool able = proxy ? privileges_check(settings->process.user, &error)
                      : privileges_check_queues(settings->process.user, &error);
    unsigned problems = able ? 0 : problem(error.text, "see PRIVILEGES in smtpwitness(8)");

    if (proxy) {
        problems += check_descriptors(settings);
        check_port(settings);
    }
    return problems + check_json_file(&settings->log);
}

/* The rest, and most of it, is known to the rules. */
static enum command_exit check_machine(const char *mode, const char *config, const struct settings *settings)
{
    const struct rules_script script = {
        .mode = mode, .verb = "check", .config = config, .settings = settings};
    unsigned problems = check_process(settings, strcmp(mode, "proxy") == 0);
    enum command_exit rules = rules_script_run(&script);

    if (rules == COMMAND_OK && problems == 0) {
        printf("this machine: no problem for %s\n", mode);
    }
    return rules != COMMAND_OK ? rules : problems != 0 ? COMMAND_FAILED : COMMAND_OK;
}

enum command_exit command_check(const struct arguments *arguments)
{
    const char *file = arguments->operand_count > 0 ? arguments->operands[0] : COMMAND_DEFAULT_CONFIG;
    const char *mode = arguments->values[COMMAND_CHECK_MACHINE];
    struct settings_error error = {0};
    struct settings *settings = settings_load(file, &error);
    enum command_exit result = COMMAND_OK, output;

    if (settings == NULL) {
        command_error(error.text);
        return COMMAND_USAGE;
    }
    printf("%s: ok\n", file);
    if (mode != NULL) {
        result = check_machine(mode, file, settings);
    }
    settings_destroy(settings);
    output = command_finish_output();
    return result != COMMAND_OK ? result : output;
}
