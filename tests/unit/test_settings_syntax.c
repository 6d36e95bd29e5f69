/* What an INI file can be wrong in besides a value: the exact line for each. */
#include "tests/unit/test_settings.h"

#include <sys/stat.h>
#include <unistd.h>

#include "conf/settings_index.h"
#include "conf/settings_nearest.h"

struct wrong_file {
    const char *text;
    const char *line;
};

static const struct wrong_file wrong_files[] = {
    {"[limit]\n", "test.conf:1: unknown section [limit]; did you mean [limits]?"},
    {"\n\n[sources a]\n", "test.conf:3: unknown section [sources a]; did you mean [source NAME]?"},
    {"[Limits]\n", "test.conf:1: unknown section [Limits]; did you mean [limits]?"},
    {"[zebra]\n",
     "test.conf:1: unknown section [zebra]; the sections are [smtp] [proxy] [nfq] [log] [process] [timeouts] "
     "[limits] [source NAME] [server NAME]"},
    {"[]\n", "test.conf:1: unknown section []; the sections are [smtp] [proxy] [nfq] [log] [process] "
             "[timeouts] [limits] "
             "[source NAME] [server NAME]"},
    {"[ log]\n",
     "test.conf:1: unknown section [ log]; the sections are [smtp] [proxy] [nfq] [log] [process] [timeouts] "
     "[limits] [source NAME] [server NAME]"},
    {"[limits\n",
     "test.conf:1: \"[limits\" is no section header; write it alone on its line, for example [limits]"},
    {"[", "test.conf:1: \"[\" is no section header; write it alone on its line, for example [limits]"},
    {"[limits] # x\n",
     "test.conf:1: \"[limits] # x\" is no section header; write it alone on its line, for example [limits]"},
    {"[limits x]\n", "test.conf:1: section [limits] takes no name; write [limits]"},
    {"[source]\n",
     "test.conf:1: section [source] needs one blank and a name of at most 63 letters, digits, dots, "
     "dashes and underscores; write for example [source gateways]"},
    {"[server ]\n",
     "test.conf:1: section [server ] needs one blank and a name of at most 63 letters, digits, dots, "
     "dashes and underscores; write for example [server exchange]"},
    {"[source a b]\n",
     "test.conf:1: section [source a b] needs one blank and a name of at most 63 letters, digits, "
     "dots, dashes and underscores; write for example [source gateways]"},
    {"[source  a]\n",
     "test.conf:1: section [source  a] needs one blank and a name of at most 63 letters, digits, "
     "dots, dashes and underscores; write for example [source gateways]"},
    {"[source a:b]\n",
     "test.conf:1: section [source a:b] needs one blank and a name of at most 63 letters, digits, "
     "dots, dashes and underscores; write for example [source gateways]"},
    {"[log]\n\n[log]\n", "test.conf:3: section [log] stands already in line 1; put its keys there"},
    {"[source a]\nnetworks=::1\n[source A]\nnetworks=::2\n",
     "test.conf:3: section [source a] stands already in line 1; put its keys there"},
    {"total = 1\n",
     "test.conf:1: the key \"total\" stands before any section; write [limits] on a line above it"},
    {"listen-prt = 1\n",
     "test.conf:1: the key \"listen-prt\" stands before any section; write [proxy] on a line above it"},
    {"[limits]\npersource = 20\n",
     "test.conf:2: [limits] has no key \"persource\"; did you mean \"per-source\"?"},
    {"[limits]\nPER-SOURCE = 20\n",
     "test.conf:2: [limits] has no key \"PER-SOURCE\"; did you mean \"per-source\"?"},
    {"[log]\nper-source = 20\n", "test.conf:2: [log] has no key \"per-source\"; it belongs in [limits]"},
    {"[log]\ncount-as-one = yes\n",
     "test.conf:2: [log] has no key \"count-as-one\"; it belongs in [source NAME]"},
    {"[source a]\nmax-sources = 1\n",
     "test.conf:2: [source a] has no key \"max-sources\"; it belongs in [limits]"},
    {"[limits]\nx\x01y = 1\n", "test.conf:2: the control character 0x01 in column 2; delete it"},
    {"[limits]\nquux = 1\n", "test.conf:2: [limits] has no key \"quux\"; smtpwitness.conf(5) lists the keys"},
    {"[limits]\nt\xc3\xa4tal = 1\n",
     "test.conf:2: [limits] has no key \"t\\xc3\\xa4tal\"; did you mean \"total\"?"},
    {"[limits]\n= 1\n", "test.conf:2: there is no key before the \"=\"; write for example per-source = 20"},
    {"[limits]\nper-source 20\n", "test.conf:2: \"per-source 20\" is neither a section, a key nor a comment; "
                                  "write for example per-source = 20"},
    {"x", "test.conf:1: \"x\" is neither a section, a key nor a comment; write for example per-source = 20"},
    {"[limits]\ntotal = 1\nrate = 0\ntotal = 1\n",
     "test.conf:4: [limits] total is already set in line 2; keep one of the two"},
    {"[log]\nident = \"a\n", "test.conf:2: the quote in \"a is never closed; close it or take it away"},
    {"[log]\nident = \"\n", "test.conf:2: the quote in \" is never closed; close it or take it away"},
    {"[log]\nident = \"a\" b\n",
     "test.conf:2: there is something behind the closing quote in \"a\" b; take it away"},
    {"[log]\nident = \"a'b\"\n", "test.conf:2: a quote within the quotes of \"a'b\"; take it away"},
    {"[log]\nident = a\"b\n",
     "test.conf:2: a quote in the middle of a\"b; put the whole value into quotes, or take it away"},
    {"[log]\nident = a#b\n",
     "test.conf:2: a \"#\" in a#b; put a blank before it if it starts a comment, or put the "
     "whole value into double quotes"},
    {"[smtp]\nports = 25;26\n",
     "test.conf:2: a \";\" in 25;26; put a blank before it if it starts a comment, or put "
     "the whole value into double quotes"},
    {"[smtp]\nports = 25 \\\n 26\n",
     "test.conf:2: \"ports = 25 \\\" ends in a backslash; lines cannot be continued, delete it"},
    {"# a comment \\\n[smtp]\n",
     "test.conf:1: \"# a comment \\\" ends in a backslash; lines cannot be continued, delete it"},
    {"[log]\rident = a\n", "test.conf:1: the control character 0x0d in column 6; delete it"},
    {"\xef\xbb\xbf[log]\n",
     "test.conf:1: the file begins with a byte order mark; save it as UTF-8 without one"},
    {"\xff\xfe[", "test.conf:1: the file is in UTF-16; save it as UTF-8"},
    {"\xfe\xff", "test.conf:1: the file is in UTF-16; save it as UTF-8"},
    /* Two errors: the one further up in the file, whatever the order of the sections. */
    {"[source a]\nnetworks = x\n[limits]\ntotal = y\n",
     "test.conf:2: [source a] networks = \"x\": \"x\" is not an IPv4 or IPv6 address or network (names are "
     "not looked "
     "up); write for example \"networks = 192.0.2.0/24, 2001:db8::/32\""},
    {"[timeouts]\nrcpt = 1\nmail = 1\n",
     "test.conf:2: [timeouts] rcpt = \"1\": a duration needs a unit: ms, s, min, h "
     "or d; write for example \"rcpt = 1s\""},
    /* Values that contradict one another. */
    {"[limits]\npercent-of-remaining = 2\n", "test.conf:2: [limits] percent-of-remaining = 2: there is no "
                                             "total of which to take a part; write for example "
                                             "\"total = 5000\""},
    {"[limits]\npercent-of-remaining = 2\ntotal = 10\n[server a]\nnetworks = ::1\ntotal = 0\n",
     "test.conf:6: [server a] percent-of-remaining = 2: there is no total of which to take a part; write for "
     "example "
     "\"total = 5000\""},
    {"[smtp]\nports = 25 465\n", "test.conf:2: [smtp] port 465 stands in both ports and implicit-tls-ports; "
                                 "write it in one of them only"},
    {"[smtp]\nlmtp-ports = 25\n",
     "test.conf:2: [smtp] port 25 stands in both ports and lmtp-ports; write it in one of them only"},
    {"[nfq]\nmark = 7\n",
     "test.conf:2: [nfq] mark = 0x7: exactly two bits are needed; write for example \"mark = 0x3000000\""},
    {"[nfq]\nmark = 4\n",
     "test.conf:2: [nfq] mark = 0x4: exactly two bits are needed; write for example \"mark = 0x3000000\""},
    {"[nfq]\nqueues = 3\n",
     "test.conf:2: [nfq] queues = 3: the rules know 1, 2, 4, 8 and 16; write for example "
     "\"queues = 4\""},
    {"[proxy]\noutgoing-mark = 0x3000000\n",
     "test.conf:2: [proxy] outgoing-mark = 0x3000000: it contains the bit 0x1000000 of the interception "
     "rules, so our "
     "own packets would be intercepted; write for example \"outgoing-mark = 0x20\""},
    {"[source a]\n", "test.conf:1: [source a] has no networks; write for example \"networks = 192.0.2.0/24, "
                     "2001:db8::/32\""},
    {"[server a]\nrate = 1/1s\n",
     "test.conf:1: [server a] has no networks; write for example \"networks = 192.0.2.25\""},
    {"[source a]\nnetworks = 2001:db8::1/32\n", "test.conf:2: [source a] networks = \"2001:db8::1/32\": "
                                                "\"2001:db8::1/32\" has host bits set; write for example "
                                                "\"networks = 2001:db8::/32\""},
};

static void test_each_mistake_has_its_line(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof wrong_files / sizeof wrong_files[0]; i++) {
        struct settings_error error;
        assert_string_equal(load_bad(wrong_files[i].text, &error), wrong_files[i].line);
    }
}

/* Every key of every section: twice, with a slip of the pen, in a section where it does not belong. */
static void check_key(const struct settings_row *row, enum settings_section section)
{
    const struct settings_section_row *place = &settings_sections[section];
    const char *name = place->named ? " x" : "";
    struct settings_error error;
    char text[512];
    char expected[256];

    snprintf(text, sizeof text, "[%s%s]\n%s = %s\n\n%s = %s\n", place->word, name, row->key, row->example,
             row->key, row->example);
    snprintf(expected, sizeof expected,
             "test.conf:4: [%s%s] %s is already set in line 2; keep one of the two", place->word, name,
             row->key);
    assert_string_equal(load_bad(text, &error), expected);

    snprintf(text, sizeof text, "[%s%s]\n%c%s = %s\n", place->word, name, row->key[0], row->key,
             row->example);
    snprintf(expected, sizeof expected, "test.conf:2: [%s%s] has no key \"%c%s\"; did you mean \"%s\"?",
             place->word, name, row->key[0], row->key, row->key);
    assert_string_equal(load_bad(text, &error), expected);

    snprintf(text, sizeof text, "%s = %s\n[%s%s]\n", row->key, row->example, place->word, name);
    load_bad(text, &error);
    snprintf(expected, sizeof expected, "test.conf:1: the key \"%s\" stands before any section; write [",
             row->key);
    assert_int_equal(strncmp(error.text, expected, strlen(expected)), 0);
}

static void check_key_elsewhere(const struct settings_row *row, enum settings_section section)
{
    const struct settings_section_row *place = &settings_sections[section];
    const char *name = place->named ? " x" : "";
    struct settings_error error;
    char text[512];
    char expected[256];

    if (settings_row_find(section, row->key, strlen(row->key)) != NULL) {
        return; /* a key of the same name */
    }
    snprintf(text, sizeof text, "[%s%s]\n%s = %s\n", place->word, name, row->key, row->example);
    load_bad(text, &error);
    snprintf(expected, sizeof expected, "test.conf:2: [%s%s] has no key \"%s\"; ", place->word, name,
             row->key);
    if (strncmp(error.text, expected, strlen(expected)) != 0) {
        fail_msg("%s, which does not begin with %s", error.text, expected);
    }
    assert_true(strstr(error.text, "it belongs in [") != NULL ||
                strstr(error.text, "did you mean \"") != NULL);
}

static void test_each_key_twice_misspelt_and_misplaced(void **state)
{
    (void)state;
    for (size_t i = 0; i < settings_row_count; i++) {
        for (enum settings_section section = 1; section < SETTINGS_SECTION_COUNT; section++) {
            if (settings_row_fits(&settings_rows[i], section)) {
                check_key(&settings_rows[i], section);
            } else {
                check_key_elsewhere(&settings_rows[i], section);
            }
        }
    }
}

static void test_nul_is_refused_wherever_it_stands(void **state)
{
    (void)state;
    static const char text[] = "# c\n[log]\nident = a ; b\n";
    for (size_t i = 0; i < sizeof text - 1; i++) {
        struct settings_error error;
        char broken[sizeof text];
        char expected[96];
        unsigned line = 1;
        memcpy(broken, text, sizeof text);
        for (size_t j = 0; j < i; j++) {
            line += text[j] == '\n';
        }
        broken[i] = '\0';
        snprintf(expected, sizeof expected, "test.conf:%u: a NUL octet; this is no text file", line);
        load_bad_length(broken, sizeof text - 1, &error);
        assert_int_equal(strncmp(error.text, expected, strlen(expected)), 0);
    }
}

static void test_what_is_allowed(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "",
        "\n",
        "\r\n",
        "   \t \n",
        "# only\n; comments = 1 \" '\n",
        "[log]",
        "[log]\r\nident = a\r\n",
        "[log]\nident=a",
        "\t[log]  \n  ident\t=\ta   \n",
        "[log]\nident = 'a' # c \"\n",
        "[log]\nident = \"a\";c\n",
        "[process]\nuser = ; stay\n",
        "[process]\nuser = # stay \"\n",
        "[process]\nuser = \"\" # stay\n",
        "[process]\nuser =",
        "[log]\nident = a ; c = d\n",
        "# \xc3\xa4\xff\n[log]\n",
        "[log]\n[source A.b-c_9]\nnetworks = 192.0.2.0/24,2001:db8::/32 10.0.0.1 ,\t::1\n[smtp]\n",
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        settings_destroy(load_good(texts[i]));
    }
    struct settings *settings = load_good("[log]\nident = 'a' # c \"\n[process]\nuser = ; stay\n");
    assert_string_equal(settings->log.ident, "a");
    assert_string_equal(settings->process.user, "");
    settings_destroy(settings);
}

/* The longest line, the most sections and the longest name are allowed, one more is not. */
static void test_bounds(void **state)
{
    (void)state;
    struct settings_error error;
    char *text = malloc(SETTINGS_MAX_FILE_OCTETS + 2);
    assert_non_null(text);

    memset(text, 'x', SETTINGS_MAX_LINE_OCTETS + 1);
    text[0] = '#';
    text[SETTINGS_MAX_LINE_OCTETS] = '\0';
    settings_destroy(load_good(text));
    text[SETTINGS_MAX_LINE_OCTETS] = 'x';
    text[SETTINGS_MAX_LINE_OCTETS + 1] = '\0';
    assert_string_equal(
        load_bad(text, &error),
        "test.conf:1: the line has 1001 octets, the most is 1000; shorten it, or split the section");

    size_t used = 0;
    for (int i = 0; i < SETTINGS_MAX_SECTIONS; i++) {
        used += (size_t)sprintf(text + used, "[source s%d]\nnetworks = ::1\n", i);
    }
    struct settings *settings = load_good(text);
    assert_int_equal(settings->policy.source_count, SETTINGS_MAX_SECTIONS);
    assert_string_equal(settings->policy.sources[SETTINGS_MAX_SECTIONS - 1].name, "s511");
    settings_destroy(settings);
    sprintf(text + used, "[log]\n");
    assert_string_equal(load_bad(text, &error),
                        "test.conf:1025: more than 512 sections; put several networks into one section");

    memset(text, '\n', SETTINGS_MAX_FILE_OCTETS + 1);
    settings = settings_load_text("test.conf", text, SETTINGS_MAX_FILE_OCTETS, &error);
    assert_non_null(settings);
    settings_destroy(settings);
    assert_string_equal(load_bad_length(text, SETTINGS_MAX_FILE_OCTETS + 1, &error),
                        "test.conf: the file has more than 1048576 octets; is it a configuration file?");

    char name[80];
    memset(name, 'n', sizeof name);
    sprintf(text, "[source %.63s]\nnetworks = ::1\n", name);
    settings = load_good(text);
    assert_int_equal(strlen(settings->policy.sources[0].name), 63);
    settings_destroy(settings);
    sprintf(text, "[source %.64s]\nnetworks = ::1\n", name);
    load_bad(text, &error);

    used = (size_t)sprintf(text, "[source a]\nnetworks =");
    for (int i = 0; i < 256; i++) {
        used += (size_t)sprintf(text + used, " ::");
    }
    settings = load_good(text);
    assert_int_equal(settings->policy.sources[0].network_count, 256);
    settings_destroy(settings);
    sprintf(text + used, " ::");
    assert_non_null(strstr(load_bad(text, &error), ": more than 256 networks; split the section"));

    /* These grow when they are written back: the dump would not load. */
    used = (size_t)sprintf(text, "[source a]\nnetworks =");
    for (int i = 0; i < 80; i++) {
        used += (size_t)sprintf(text + used, " ::ffff:ff%02x", i + 1);
    }
    assert_non_null(
        strstr(load_bad(text, &error), "[source a] networks: the list is too long; split the section"));
    free(text);
}

/* Every beginning of a good file, and every octet of it changed, is taken or refused with one line; never more. */
static void test_cut_and_damaged_files(void **state)
{
    (void)state;
    static const char good[] =
        "# c\n[limits]\nper-source = 20 # x\nrate = 3/1min\n[source a]\nnetworks = ::1, "
        "192.0.2.0/24\nprofile = exim\n[log]\njson-file = \"/a b\"\n";
    static const char damage[] = {0,   1,   '\n', '\r', ' ',  '"', '\'', '#',
                                  ';', '=', '[',  ']',  '\\', '%', 'x',  (char)0xff};
    struct settings_error error;
    for (size_t i = 0; i < sizeof good; i++) {
        char *copy = malloc(i + 1); /* at its exact size, so that the sanitizer sees a step too far */
        assert_non_null(copy);
        memcpy(copy, good, i);
        struct settings *settings = settings_load_text("f", copy, i, &error);
        assert_true((settings == NULL) == (error.text[0] != '\0'));
        settings_destroy(settings);
        for (size_t j = 0; i < sizeof good - 1 && j < sizeof damage; j++) {
            char broken[sizeof good];
            memcpy(broken, good, sizeof good);
            broken[i] = damage[j];
            settings = settings_load_text("f", broken, sizeof good - 1, &error);
            assert_true((settings == NULL) == (error.text[0] != '\0'));
            settings_destroy(settings);
        }
        free(copy);
    }
}

static void test_files_that_cannot_be_read(void **state)
{
    (void)state;
    struct settings_error error;
    char directory[] = "/tmp/test_settings.XXXXXX";
    char path[64];
    assert_non_null(mkdtemp(directory));
    assert_null(settings_load(directory, &error));
    assert_non_null(strstr(error.text, ": this is a directory; name the file in it"));
    snprintf(path, sizeof path, "%s/none", directory);
    assert_null(settings_load(path, &error));
    assert_non_null(strstr(error.text, "/none: cannot open the configuration: No such file or directory"));
    snprintf(path, sizeof path, "%s/pipe", directory);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_null(settings_load(path, &error));
    assert_non_null(strstr(error.text, ": this is no regular file; name a file"));
    unlink(path);
    assert_null(settings_load("/dev/null", &error));
    snprintf(path, sizeof path, "%s/good", directory);
    FILE *to = fopen(path, "w");
    assert_non_null(to);
    fputs("[limits]\nper-source = 7\n", to);
    assert_int_equal(fclose(to), 0);
    struct settings *settings = settings_load(path, &error);
    assert_non_null(settings);
    assert_int_equal(settings->policy.limits.per_source_count, 7);
    settings_destroy(settings);
    to = fopen(path, "w");
    assert_non_null(to);
    fputs("[limits]\nper-source = 2o\n", to);
    assert_int_equal(fclose(to), 0);
    assert_null(settings_load(path, &error));
    char expected[256];
    snprintf(expected, sizeof expected,
             "%s:2: [limits] per-source = \"2o\": not a whole number from 1 to 1000000, ", path);
    assert_int_equal(strncmp(error.text, expected, strlen(expected)), 0);
    unlink(path);
    rmdir(directory);
}

static void test_a_long_file_name_loses_its_beginning(void **state)
{
    (void)state;
    struct settings_error error;
    char name[3000];
    memset(name, 'd', sizeof name);
    memcpy(name + sizeof name - 11, "/this.conf", 11);
    assert_null(settings_load_text(name, "[limits]\ntotal = x\n", 19, &error));
    assert_int_equal(strncmp(error.text, "...ddd", 6), 0);
    assert_non_null(strstr(error.text, "/this.conf:2: [limits] total = \"x\": not a whole number"));
    assert_non_null(strstr(error.text, "write for example \"total = 5000\""));
}

static void test_distance(void **state)
{
    (void)state;
    assert_int_equal(settings_distance("", 0, ""), 0);
    assert_int_equal(settings_distance("total", 5, "TOTAL"), 0);
    assert_int_equal(settings_distance("totl", 4, "total"), 1);
    assert_int_equal(settings_distance("kitten", 6, "sitting"), 3);
    assert_int_equal(settings_distance("", 0, "abc"), 3);
    assert_int_equal(settings_distance("abc", 3, ""), 3);
    char text[64] = "";
    assert_true(settings_distance(text, sizeof text, "x") == SIZE_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_mistake_has_its_line),
        cmocka_unit_test(test_each_key_twice_misspelt_and_misplaced),
        cmocka_unit_test(test_nul_is_refused_wherever_it_stands),
        cmocka_unit_test(test_what_is_allowed),
        cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_cut_and_damaged_files),
        cmocka_unit_test(test_files_that_cannot_be_read),
        cmocka_unit_test(test_a_long_file_name_loses_its_beginning),
        cmocka_unit_test(test_distance),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
