/* Frames of every link type, and files in and out; whole captures are judged by tests/captures/run. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pcap/pcap.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "replay/capture.h"
#include "replay/link.h"
#include "replay/replay.h"
#include "tests/unit/test_packets.h"

static void hex(const char *text, uint8_t *to, size_t *length)
{
    for (*length = 0; *text != '\0'; text += *text == ' ' ? 1 : 0) {
        unsigned octet;
        assert_int_equal(sscanf(text, "%2x", &octet), 1);
        to[(*length)++] = (uint8_t)octet;
        text += 2;
    }
}

#define MACS "02 00 00 00 00 02 02 00 00 00 00 01 "

static const struct {
    int link;
    const char *before; /* what stands before the IP header */
    bool found;
} frames[] = {
    {DLT_EN10MB, MACS "08 00", true},
    {DLT_EN10MB, MACS "81 00 00 01 08 00", true},
    {DLT_EN10MB, MACS "88 a8 00 01 81 00 00 02 08 00", true},
    {DLT_EN10MB, MACS "88 64 11 00 00 01 00 16 00 21", true},
    {DLT_EN10MB, MACS "88 64 11 00 00 01 00 16 c0 21", false}, /* LCP */
    {DLT_EN10MB, MACS "88 47 00 01 00 40 00 02 01 40", true},
    {DLT_EN10MB, MACS "00 1c aa aa 03 00 00 00 08 00", true},
    {DLT_EN10MB, MACS "08 06", false},
    {DLT_EN10MB, MACS "00 1c 42 42 03", false},
    {DLT_LINUX_SLL, "00 00 00 01 00 06 02 00 00 00 00 01 00 00 08 00", true},
    {DLT_LINUX_SLL2, "08 00 00 00 00 00 00 02 00 01 00 06 02 00 00 00 00 01 00 00", true},
    {DLT_RAW, "", true},
    {DLT_IPV4, "", true},
    {DLT_NULL, "02 00 00 00", true},
    {DLT_NULL, "00 00 00 02", true},
    {DLT_LOOP, "00 00 00 02", true},
    {DLT_PPP, "00 21", true},
    {DLT_PPP, "21", true},
    {DLT_PPP, "ff 03 00 21", true},
    {DLT_PPP, "00 57", true}, /* the version decides, not the number */
    {DLT_PPP, "c0 21", false},
    {DLT_PPP_SERIAL, "ff 03 00 21", true},
    {DLT_PPP_ETHER, "11 00 00 01 00 16 00 21", true},
    {DLT_C_HDLC, "0f 00 08 00", true},
    {DLT_IEEE802_11, "", false},
};

static void test_links(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof frames / sizeof frames[0]; i++) {
        uint8_t frame[128];
        size_t before;
        struct link_payload payload;
        hex(frames[i].before, frame, &before);
        size_t length = before + test_put_ip(frame + before, "192.0.2.7", "192.0.2.8", 6, 64, 1, 0);
        bool found = link_find_ip(frames[i].link, frame, length, length + 100, &payload);
        assert_int_equal(found, frames[i].found);
        assert_true(!found || link_is_known(frames[i].link));
        if (found) {
            assert_ptr_equal(payload.octets, frame + before);
            assert_int_equal(payload.captured, 20);
            assert_int_equal(payload.length, 120);
        }
        for (size_t cut = 0; cut <= before;
             cut++) { /* cut anywhere before the IP packet: nothing, and no crash */
            uint8_t *copy = malloc(cut + 1);
            memcpy(copy, frame, cut);
            assert_false(link_find_ip(frames[i].link, copy, cut, length, &payload));
            free(copy);
        }
    }
}

static void test_endless_tags(void **state)
{
    (void)state;
    uint8_t frame[14 + 4 * 100];
    struct link_payload payload;
    memset(frame, 0, sizeof frame);
    for (size_t i = 12; i + 4 <= sizeof frame; i += 4) {
        test_put16(frame + i, 0x8100);
    }
    assert_false(link_find_ip(DLT_EN10MB, frame, sizeof frame, sizeof frame, &payload));
}

static char path[] = "/tmp/test_replay.XXXXXX";

static void write_file(const void *octets, size_t length)
{
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(octets, 1, length, file), length);
    assert_int_equal(fclose(file), 0);
}

/* A pcap with one packet of `length` octets, in nanoseconds. */
static size_t put_pcap(uint8_t *to, uint32_t length)
{
    const uint32_t head[] = {0xa1b23c4d, 2 | 4u << 16, 0, 0, 65535, 101};
    const uint32_t packet[] = {1700000000, 123456789, length, length};
    memcpy(to, head, sizeof head);
    memcpy(to + sizeof head, packet, sizeof packet);
    memset(to + sizeof head + sizeof packet, 0x45, length);
    return sizeof head + sizeof packet + length;
}

static void test_capture(void **state)
{
    (void)state;
    uint8_t octets[256];
    char error[CAPTURE_TEXT_SIZE];
    struct capture_packet packet;
    size_t length = put_pcap(octets, 20);
    write_file(octets, length);
    struct capture *capture = capture_open(path, error);
    assert_non_null(capture);
    assert_int_equal(capture_next(capture, &packet), CAPTURE_PACKET);
    assert_int_equal(packet.unix_us, INT64_C(1700000000123456));
    assert_int_equal(packet.captured, 20);
    assert_int_equal(capture_next(capture, &packet), CAPTURE_END);
    capture_close(capture);
    for (size_t cut = 25; cut < length; cut++) {
        write_file(octets, cut);
        capture = capture_open(path, error);
        assert_non_null(capture);
        assert_int_equal(capture_next(capture, &packet), CAPTURE_DAMAGED);
        assert_non_null(strstr(capture_trouble(capture), "cannot be read further than 0 packets"));
        assert_int_equal(capture_next(capture, &packet), CAPTURE_DAMAGED);
        capture_close(capture);
    }
    for (size_t cut = 0; cut < 24; cut++) {
        write_file(octets, cut);
        assert_null(capture_open(path, error));
        assert_non_null(strstr(error, path));
        assert_null(strchr(error, '\n'));
    }
}

/* pcapng may count in seconds, 64 bits of them. */
static void test_impossible_times(void **state)
{
    (void)state;
    static const uint32_t times[] = {0x7fffffff, 0xffffffff, 100};
    char error[CAPTURE_TEXT_SIZE];
    struct capture_packet packet;
    uint32_t file[64] = {0x0a0d0d0a, 28, 0x1a2b3c4d, 1,     0xffffffff,   0xffffffff, 28, /* section */
                         1,          32, 101,        65535, 9 | 1u << 16, 0,          0,
                         32}; /* interface, if_tsresol 0 */
    size_t words = 15;
    for (size_t i = 0; i < 3; i++) {
        const uint32_t block[] = {6, 36, 0, times[i], times[i], 4, 4, 0x45, 36};
        memcpy(file + words, block, sizeof block);
        words += sizeof block / sizeof block[0];
    }
    write_file(file, words * sizeof file[0]);
    struct capture *capture = capture_open(path, error);
    assert_non_null(capture);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(capture_next(capture, &packet), CAPTURE_PACKET);
        assert_true(packet.unix_us >= 0 && packet.unix_us <= INT64_C(253402300799999999));
    }
    assert_int_equal(capture_next(capture, &packet), CAPTURE_END);
    capture_close(capture);
}

/* One SYN an hour, and a clock that jumps: sessions stay apart and no silence is invented. */
static void test_time_steps(void **state)
{
    (void)state;
    static const int64_t times[] = {1700000000, 1700000001, 1699990000, 1699990001, 1900000000};
    uint8_t file[1024];
    const uint32_t head[] = {0xa1b2c3d4, 2 | 4u << 16, 0, 0, 65535, 101};
    size_t at = sizeof head;
    struct settings_error error;
    struct replay_totals totals;
    char *text = NULL;
    size_t text_length = 0;
    memcpy(file, head, sizeof head);
    for (size_t i = 0; i < sizeof times / sizeof times[0]; i++) {
        size_t length = test_put_tcp(file + at + 16, &(struct test_tcp){.source = "192.0.2.7",
                                                                        .destination = "198.51.100.25",
                                                                        .source_port = 40000,
                                                                        .destination_port = 25,
                                                                        .sequence = 5,
                                                                        .flags = PACKET_SYN,
                                                                        .ip_id = (uint16_t)(i + 1),
                                                                        .ttl = 60});
        const uint32_t packet[] = {(uint32_t)times[i], 0, (uint32_t)length, (uint32_t)length};
        memcpy(file + at, packet, sizeof packet);
        at += 16 + length;
    }
    write_file(file, at);
    const char *paths[] = {path};
    struct settings *settings = settings_load(NULL, &error);
    assert_non_null(settings);
    FILE *output = open_memstream(&text, &text_length);
    FILE *remarks = fopen("/dev/null", "w");
    struct replay_options options = {.settings = settings,
                                     .paths = paths,
                                     .path_count = 1,
                                     .format = REPLAY_LOGFMT,
                                     .output = output,
                                     .remarks = remarks};
    assert_int_equal(replay_run(&options, &totals), REPLAY_OK);
    fclose(output);
    char *story = NULL;
    options.output = open_memstream(&story, &text_length);
    options.format = REPLAY_TEXT;
    assert_int_equal(replay_run(&options, &totals), REPLAY_OK);
    fclose(options.output);
    fclose(remarks);
    assert_non_null(strstr(story, "\n       0.000  -- the capture ends\n"));
    assert_non_null(strstr(story, "  client leg: ttl 60\n"));
    assert_non_null(strstr(story, "5 packets, 2 SMTP sessions: "));
    free(story);
    assert_int_equal(totals.packets, 5);
    assert_int_equal(totals.time_steps, 2);
    assert_int_equal(totals.sessions, 2); /* the SYN years later is another attempt */
    assert_non_null(strstr(text, "duration-ms=2000 "));
    free(text);
    settings_destroy(settings);
}

static int make_path(void **state)
{
    (void)state;
    int fd = mkstemp(path);
    return fd == -1 ? -1 : close(fd);
}

static int remove_path(void **state)
{
    (void)state;
    return unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_links),      cmocka_unit_test(test_endless_tags),
        cmocka_unit_test(test_capture),    cmocka_unit_test(test_impossible_times),
        cmocka_unit_test(test_time_steps),
    };
    return cmocka_run_group_tests_name("replay", tests, make_path, remove_path);
}
