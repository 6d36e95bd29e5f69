/* fuzz_capture - any octets as a capture file, through all of replay: pcap and pcapng, link layers, fragments, clocks that
 * step, streams, sessions, stories and records. Compressed files are left out: they start another program. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "replay/replay.h"

#define SOURCES 64

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds, const char *what)
{
    if (!holds) {
        fprintf(stderr, "%s\n", what);
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct settings *settings;
    static FILE *nowhere;
    static int file = -1;
    static char path[64];
    if (settings == NULL) {
        struct settings_error error;
        settings = settings_load(NULL, &error);
        nowhere = fopen("/dev/null", "w");
        file = memfd_create("capture", MFD_CLOEXEC);
        require(settings != NULL && nowhere != NULL && file != -1, "no memory");
        settings->max_sources = SOURCES;
        snprintf(path, sizeof path, "/proc/self/fd/%d", file);
    }
    if (size >= 2 && data[0] == 0x1f && data[1] == 0x8b) {
        return 0;
    }
    require(ftruncate(file, 0) == 0 && pwrite(file, data, size, 0) == (ssize_t)size, "no room");
    const char *const paths[] = {path, path};
    struct replay_totals totals;
    struct replay_options options = {.settings = settings,
                                     .paths = paths,
                                     .path_count = size % 7 == 0 ? 2 : 1, /* the same capture twice, merged */
                                     .max_flows = 16,
                                     .any_port = true,
                                     .format = (enum replay_format)(size % 3),
                                     .output = nowhere,
                                     .remarks = nowhere};
    enum replay_result result = replay_run(&options, &totals);
    require(result != REPLAY_FAILED, "failed");
    require(totals.faults <= totals.sessions && totals.sessions <= totals.packets,
            "more sessions than packets");
    return 0;
}
