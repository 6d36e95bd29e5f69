#include "daemon/privileges.h"

#include <cap-ng.h>
#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/utsname.h>
#include <unistd.h>

bool privileges_mark_needs_admin(const char *release)
{
    unsigned major = 0, minor = 0;

    if (sscanf(release, "%u.%u", &major, &minor) != 2) {
        return true; /* keep one capability too many rather than lose the mark */
    }
    return major < 5 || (major == 5 && minor < 17);
}

static bool find_user(const char *user, const struct passwd **entry, struct settings_error *error)
{
    errno = 0;
    *entry = getpwnam(user);
    if (*entry == NULL) {
        snprintf(
            error->text, sizeof(error->text),
            "[process] user = %s: there is no such user; create it (useradd --system %s) or name another",
            user, user);
        return false;
    }
    return true;
}

bool privileges_check(const char *user, struct settings_error *error)
{
    const struct passwd *entry;

    if (user[0] != '\0' && !find_user(user, &entry, error)) {
        return false;
    }
    capng_get_caps_process();
    if (!capng_have_capability(CAPNG_EFFECTIVE, CAP_NET_RAW)) {
        snprintf(error->text, sizeof(error->text),
                 "missing privilege CAP_NET_RAW, without which no transparent socket can be opened; start as "
                 "root, "
                 "or with AmbientCapabilities=CAP_NET_RAW in the systemd unit");
        return false;
    }
    return true;
}

bool privileges_lock(struct settings_error *error)
{
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == -1) {
        snprintf(error->text, sizeof(error->text), "cannot set no_new_privs: %s", strerror(errno));
        return false;
    }
    capng_get_caps_process();
    if (capng_have_capability(CAPNG_EFFECTIVE, CAP_SETPCAP)) {
        capng_clear(CAPNG_SELECT_BOUNDS);
        if (capng_apply(CAPNG_SELECT_BOUNDS) != 0) {
            snprintf(error->text, sizeof(error->text), "cannot empty the bounding set of capabilities");
            return false;
        }
    }
    return true;
}

static bool keeps_admin(uint32_t outgoing_mark)
{
    struct utsname name;

    return outgoing_mark != 0 && (uname(&name) == -1 || privileges_mark_needs_admin(name.release));
}

/* Leaves exactly the capabilities we need in the sets we have prepared with libcap-ng. */
static void select_capabilities(bool admin)
{
    capng_clear(CAPNG_SELECT_BOTH);
    capng_update(CAPNG_ADD, CAPNG_EFFECTIVE | CAPNG_PERMITTED, CAP_NET_RAW);
    if (admin) {
        capng_update(CAPNG_ADD, CAPNG_EFFECTIVE | CAPNG_PERMITTED, CAP_NET_ADMIN);
    }
}

static bool holds_more_than_needed(bool admin)
{
    for (unsigned capability = 0; capability <= CAP_LAST_CAP; capability++) {
        bool needed = capability == CAP_NET_RAW || (admin && capability == CAP_NET_ADMIN);

        if (!needed && capng_have_capability(CAPNG_PERMITTED, capability)) {
            return true;
        }
    }
    return false;
}

/* A service manager has given us what we need and nothing more, and its system call filter may refuse capset(2). */
static bool keep_as_given(struct settings_error *error)
{
    if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) == -1 && errno != EINVAL) {
        snprintf(error->text, sizeof(error->text), "cannot empty the ambient set of capabilities: %s",
                 strerror(errno));
        return false;
    }
    return true;
}

static bool drop(const char *user, bool admin, struct settings_error *error)
{
    const struct passwd *entry;
    int failed;

    if (geteuid() == 0 && user[0] != '\0') {
        if (!find_user(user, &entry, error)) {
            return false;
        }
        select_capabilities(admin);
        failed = capng_change_id((int)entry->pw_uid, (int)entry->pw_gid,
                                 CAPNG_DROP_SUPP_GRP | CAPNG_CLEAR_BOUNDING);
        if (failed != 0) {
            snprintf(error->text, sizeof(error->text),
                     "[process] user = %s: cannot become that user (libcap-ng error %d); an empty user = "
                     "stays root",
                     user, failed);
            return false;
        }
    } else if (geteuid() != 0) {
        capng_get_caps_process();
        if (!holds_more_than_needed(admin)) {
            return keep_as_given(error);
        }
        select_capabilities(admin);
        if (capng_apply(CAPNG_SELECT_CAPS) != 0) {
            snprintf(error->text, sizeof(error->text), "cannot give up capabilities: %s", strerror(errno));
            return false;
        }
    }
    return true;
}

bool privileges_drop(const char *user, uint32_t outgoing_mark, struct settings_error *error)
{
    bool admin = keeps_admin(outgoing_mark);

    capng_get_caps_process();
    if (admin && !capng_have_capability(CAPNG_EFFECTIVE, CAP_NET_ADMIN)) {
        snprintf(error->text, sizeof(error->text),
                 "[proxy] outgoing-mark: missing privilege CAP_NET_ADMIN, which this kernel wants for marks; "
                 "start as "
                 "root, or add it to AmbientCapabilities= in the systemd unit");
        return false;
    }
    return drop(user, admin, error);
}

bool privileges_check_queues(const char *user, struct settings_error *error)
{
    const struct passwd *entry;
    bool admin, raw;

    if (user[0] != '\0' && !find_user(user, &entry, error)) {
        return false;
    }
    capng_get_caps_process();
    admin = capng_have_capability(CAPNG_EFFECTIVE, CAP_NET_ADMIN);
    raw = capng_have_capability(CAPNG_EFFECTIVE, CAP_NET_RAW);
    if (!admin || !raw) {
        snprintf(error->text, sizeof(error->text),
                 "missing privilege %s can be %s; start as root, or with AmbientCapabilities=CAP_NET_ADMIN "
                 "CAP_NET_RAW in the systemd unit",
                 admin ? "CAP_NET_RAW, without which no probe"
                       : "CAP_NET_ADMIN, without which no packet queue",
                 admin ? "sent" : "taken");
        return false;
    }
    return true;
}

bool privileges_drop_for_queues(const char *user, struct settings_error *error)
{
    return drop(user, true, error);
}
