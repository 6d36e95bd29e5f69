/* fuzz_settings - any octets as a configuration file.
 * Either they load, and the dump of what was loaded loads again to the same dump; or there is one error line. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conf/settings.h"
#include "conf/settings_loader.h"
#include "conf/settings_print.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds, const char *what)
{
    if (!holds) {
        fprintf(stderr, "%s\n", what);
        abort();
    }
}

static char *dump(const struct settings *settings, size_t *length)
{
    char *text = NULL;
    FILE *to = open_memstream(&text, length);
    require(to != NULL, "no memory for the dump");
    require(settings_dump(settings, to), "the settings cannot be dumped");
    require(fclose(to) == 0, "the dump cannot be closed");
    return text;
}

static void check_error(const struct settings_error *error)
{
    size_t length = strnlen(error->text, sizeof error->text);
    require(length > 0 && length < sizeof error->text, "no error line, or an endless one");
    for (size_t i = 0; i < length; i++) {
        require((unsigned char)error->text[i] >= 0x20 && error->text[i] != 0x7f, "a control character in it");
    }
    /* Our own mistakes; at a fixed place, for the rest of a line may quote anything. */
    const char *what = error->text + strlen("fuzz.conf:");
    what += strspn(what, "0123456789: ");
    require(strncmp(what, "the built-in value", 18) != 0, "a built-in value is wrong");
    require(strncmp(what, "the INI library", 15) != 0, "iniparser reads the file differently");
    if (what[0] == '[') {
        what += strcspn(what, "]");
        what += strcspn(what, "\":=");
        require(strncmp(what, ": the INI library", 17) != 0, "iniparser does not see a line");
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct settings_error error;
    struct settings *settings = settings_load_text("fuzz.conf", (const char *)data, size, &error);
    if (settings == NULL) {
        check_error(&error);
        return 0;
    }
    size_t first_length;
    char *first = dump(settings, &first_length);
    struct settings *again = settings_load_text("dump.conf", first, first_length, &error);
    if (again == NULL) {
        fprintf(stderr, "%s\n", error.text);
    }
    require(again != NULL, "the dump does not load");
    size_t second_length;
    char *second = dump(again, &second_length);
    require(first_length == second_length && memcmp(first, second, first_length) == 0, "the dump changes");
    free(first);
    free(second);
    settings_destroy(again);
    settings_destroy(settings);
    return 0;
}
