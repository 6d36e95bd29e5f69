#include "daemon/pidfile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

static void describe_owner(int fd, const char *path, struct settings_error *error)
{
    char text[24] = "";
    ssize_t length = pread(fd, text, sizeof(text) - 1, 0);

    text[length > 0 ? strspn(text, "0123456789") : 0] = '\0';
    snprintf(error->text, sizeof(error->text), "pid file %s: already running as process %s; stop it first",
             path, text[0] != '\0' ? text : "(unknown)");
}

bool pidfile_open(struct pidfile *pidfile, const char *path, struct settings_error *error)
{
    pidfile->fd = -1;
    pidfile->path = path;
    if (path[0] == '\0') {
        return true;
    }
    pidfile->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0644);
    if (pidfile->fd == -1) {
        snprintf(error->text, sizeof(error->text),
                 "pid file %s: cannot write: %s; name another or leave it out", path, strerror(errno));
        return false;
    }
    if (flock(pidfile->fd, LOCK_EX | LOCK_NB) == -1) {
        describe_owner(pidfile->fd, path, error);
    } else if (ftruncate(pidfile->fd, 0) == -1 || dprintf(pidfile->fd, "%ld\n", (long)getpid()) < 0) {
        snprintf(error->text, sizeof(error->text), "pid file %s: cannot write: %s", path, strerror(errno));
    } else {
        return true;
    }
    close(pidfile->fd);
    pidfile->fd = -1;
    return false;
}

void pidfile_close(struct pidfile *pidfile)
{
    if (pidfile->fd == -1) {
        return;
    }
    /* Where even this fails the file stays, unlocked, and the next start takes it over. */
    if (unlink(pidfile->path) == -1) {
        int ignored UNUSED = ftruncate(pidfile->fd, 0);
    }
    close(pidfile->fd);
    pidfile->fd = -1;
}
