#include "conf/settings_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "conf/settings_error.h"
#include "conf/settings_index.h"

/* Reads to the end of the file; one octet more than the limit is enough to know it is too long. */
static char *read_all(int descriptor, size_t room, size_t *length)
{
    char *text = malloc(room);
    size_t used = 0;
    if (text == NULL) {
        return NULL;
    }
    while (used < room) {
        ssize_t count = read(descriptor, text + used, room - used);
        if (count == -1 && errno == EINTR) {
            continue;
        }
        if (count == -1) {
            free(text);
            return NULL;
        }
        if (count == 0) {
            break;
        }
        used += (size_t)count;
    }
    *length = used;
    return text;
}

char *settings_file_read(const char *path, size_t *length, struct settings_error *error)
{
    char *text = NULL;
    struct stat status;
    /* O_NONBLOCK: a named pipe without a writer must not hang us before fstat() refuses it. */
    int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (descriptor == -1) {
        settings_error_set(error, path, 0, "cannot open the configuration: %s%s", strerror(errno),
                           errno == ENOENT   ? "; write one, or name another with --config"
                           : errno == EACCES ? "; let the user that starts us read it"
                                             : "");
        return NULL;
    }
    if (fstat(descriptor, &status) == -1) {
        settings_error_set(error, path, 0, "cannot look at the configuration: %s", strerror(errno));
    } else if (S_ISDIR(status.st_mode)) {
        settings_error_set(error, path, 0, "this is a directory; name the file in it");
    } else if (!S_ISREG(status.st_mode)) {
        settings_error_set(error, path, 0, "this is no regular file; name a file");
    } else {
        errno = 0;
        text = read_all(descriptor, SETTINGS_MAX_FILE_OCTETS + 1, length);
        if (text == NULL) {
            settings_error_set(error, path, 0, "cannot read the configuration: %s", strerror(errno));
        }
    }
    close(descriptor);
    return text;
}

static bool write_all(int descriptor, const char *text, size_t length)
{
    while (length > 0) {
        ssize_t count = write(descriptor, text, length);
        if (count == -1 && errno == EINTR) {
            continue;
        }
        if (count == -1) {
            return false;
        }
        text += count;
        length -= (size_t)count;
    }
    return true;
}

/* The index has found every fault already; iniparser's own words on stderr would only repeat them without a line. */
static int ignore_message(const char *format, ...)
{
    (void)format;
    return 0;
}

/* iniparser 4.1 uses the first memory it asks for without looking whether it got any (dictionary_new). So a lack of
 * memory is found here, before it can crash there: its tables, its lines, and a copy of every key and value.
 * (volatile: a compiler may leave out an allocation that is only freed.) */
static bool memory_suffices(size_t length)
{
    void *volatile tried = malloc((size_t)64 * 1024 + 8 * length);
    free(tried);
    return tried != NULL;
}

dictionary *settings_file_parse(const char *name, const char *text, size_t length,
                                struct settings_error *error)
{
    char path[32];
    dictionary *parsed = NULL;
    if (!memory_suffices(length)) {
        settings_error_set(error, name, 0, "out of memory");
        return NULL;
    }
    int descriptor = memfd_create("smtpwitness.conf", MFD_CLOEXEC);
    if (descriptor == -1) {
        settings_error_set(error, name, 0, "cannot make a copy of the configuration: %s", strerror(errno));
        return NULL;
    }
    if (!write_all(descriptor, text, length)) {
        settings_error_set(error, name, 0, "cannot make a copy of the configuration: %s", strerror(errno));
        goto out;
    }
    snprintf(path, sizeof path, "/proc/self/fd/%d", descriptor);
    iniparser_set_error_callback(ignore_message);
    parsed = iniparser_load(path);
    iniparser_set_error_callback(NULL);
    if (parsed == NULL) {
        settings_error_set(error, name, 0,
                           "iniparser cannot read the configuration; is there memory, and is /proc mounted?");
    }
out:
    close(descriptor);
    return parsed;
}
