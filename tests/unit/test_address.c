/* Addresses and networks: to and from the kernel, to and from text, and what contains what. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/address.h"

static struct address address_of(const char *host, uint16_t port)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    struct address address;
    if (inet_pton(AF_INET, host, &in.sin_addr) == 1) {
        assert_true(address_from_sockaddr(&address, (const struct sockaddr *)&in));
    } else {
        assert_int_equal(inet_pton(AF_INET6, host, &in6.sin6_addr), 1);
        assert_true(address_from_sockaddr(&address, (const struct sockaddr *)&in6));
    }
    return address;
}

static void there_and_back(void **state)
{
    (void)state;
    static const struct {
        const char *host;
        uint16_t port;
        const char *text;
        socklen_t length;
    } cases[] = {
        {"192.0.2.7", 41234, "192.0.2.7:41234", sizeof(struct sockaddr_in)},
        {"0.0.0.0", 0, "0.0.0.0:0", sizeof(struct sockaddr_in)},
        {"255.255.255.255", 65535, "255.255.255.255:65535", sizeof(struct sockaddr_in)},
        {"2001:db8::25", 25, "[2001:db8::25]:25", sizeof(struct sockaddr_in6)},
        {"::", 1, "[::]:1", sizeof(struct sockaddr_in6)},
        {"2001:db8:1111:2222:3333:4444:5555:6666", 65535, "[2001:db8:1111:2222:3333:4444:5555:6666]:65535",
         sizeof(struct sockaddr_in6)},
        {"::ffff:192.0.2.1", 25, "192.0.2.1:25", sizeof(struct sockaddr_in)}, /* mapped: is IPv4 */
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct address address = address_of(cases[i].host, cases[i].port), again;
        struct sockaddr_storage storage;
        char text[ADDRESS_TEXT_SIZE];
        assert_string_equal(address_format(&address, text), cases[i].text);
        assert_int_equal(address_to_sockaddr(&address, &storage), cases[i].length);
        assert_true(address_from_sockaddr(&again, (const struct sockaddr *)&storage));
        assert_true(address_equal(&address, &again));
        assert_int_equal(address_is_ipv4(&address), cases[i].length == sizeof(struct sockaddr_in));
    }
    struct address address = address_of("2001:db8::25", 25);
    char text[ADDRESS_TEXT_SIZE];
    assert_string_equal(address_format_host(&address, text), "2001:db8::25");
}

static void other_families_are_refused(void **state)
{
    (void)state;
    struct sockaddr_storage storage = {.ss_family = AF_UNIX};
    struct address address;
    assert_false(address_from_sockaddr(&address, (const struct sockaddr *)&storage));
}

static void the_port_counts(void **state)
{
    (void)state;
    struct address a = address_of("192.0.2.7", 1), b = address_of("192.0.2.7", 2),
                   c = address_of("192.0.2.8", 1);
    assert_true(address_equal(&a, &a));
    assert_false(address_equal(&a, &b));
    assert_false(address_equal(&a, &c));
}

static void networks_are_parsed_strictly(void **state)
{
    (void)state;
    static const struct {
        const char *text, *printed;
    } good[] = {
        {"192.0.2.0/24", "192.0.2.0/24"},
        {"192.0.2.7", "192.0.2.7/32"},
        {"0.0.0.0/0", "0.0.0.0/0"},
        {"192.0.2.7/32", "192.0.2.7/32"},
        {"::/0", "::/0"},
        {"2001:db8::/32", "2001:db8::/32"},
        {"2001:db8::1", "2001:db8::1/128"},
        {"128.0.0.0/1", "128.0.0.0/1"},
    };
    static const char *const bad[] = {
        "",
        "/",
        "/24",
        "192.0.2.0/",
        "192.0.2.0/33",
        "192.0.2.0/024",
        "192.0.2.1/24",
        "192.0.2",
        "192.0.2.0/-1",
        "192.0.2.0/ 24",
        "192.0.2.0/24 ",
        " 192.0.2.0/24",
        "2001:db8::/129",
        "2001:db8::1/64",
        "host",
        "192.0.2.0/24/1",
        "192.0.2.0/9999999999999",
        "010.0.0.1",
        "1:2:3:4:5:6:7:8:9",
        "192.0.2.0/+4",
        "::/00",
        "2001:db8:1111:2222:3333:4444:5555:66666666666666666666",
    };
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        struct network network;
        char text[ADDRESS_TEXT_SIZE];
        assert_true(network_parse(&network, good[i].text));
        assert_string_equal(network_format(&network, text), good[i].printed);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct network network;
        if (network_parse(&network, bad[i])) {
            fail_msg("\"%s\" was taken for a network", bad[i]);
        }
    }
}

static void networks_contain_what_they_should(void **state)
{
    (void)state;
    static const struct {
        const char *network, *host;
        int contains;
    } cases[] = {
        {"192.0.2.0/24", "192.0.2.0", 1},        {"192.0.2.0/24", "192.0.2.255", 1},
        {"192.0.2.0/24", "192.0.3.0", 0},        {"192.0.2.0/25", "192.0.2.127", 1},
        {"192.0.2.0/25", "192.0.2.128", 0},      {"192.0.2.7", "192.0.2.7", 1},
        {"192.0.2.7", "192.0.2.6", 0},           {"0.0.0.0/0", "255.1.2.3", 1},
        {"0.0.0.0/0", "2001:db8::1", 0},         {"2001:db8::/33", "2001:db8:7fff::", 1},
        {"2001:db8::/33", "2001:db8:8000::", 0}, {"2001:db8::1", "2001:db8::1", 1},
        {"2001:db8::1", "2001:db8::2", 0},       {"128.0.0.0/1", "127.255.255.255", 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct network network;
        struct address address = address_of(cases[i].host, 25);
        assert_true(network_parse(&network, cases[i].network));
        assert_int_equal(network_contains(&network, &address), cases[i].contains);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(there_and_back),
        cmocka_unit_test(other_families_are_refused),
        cmocka_unit_test(the_port_counts),
        cmocka_unit_test(networks_are_parsed_strictly),
        cmocka_unit_test(networks_contain_what_they_should),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
