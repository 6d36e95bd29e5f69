/* SipHash-2-4 against its published vectors. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/base/hash.h"

/* The first sixteen and the last of the published SipHash-2-4 vectors: key 00..0f, input 00..length-1. */
static void hash_matches_published_vectors(void **state)
{
    (void)state;
    static const uint64_t expected[16] = {
        0x726fdb47dd0e0e31, 0x74f839c593dc67fd, 0x0d6c8009d9a94f5a, 0x85676696d7fb7e2d,
        0xcf2794e0277187b7, 0x18765564cd99a68d, 0xcbc9466e58fee3ce, 0xab0200f58b01d137,
        0x93f5f5799a932462, 0x9e0082df0ba9e4b0, 0x7a5dbbc594ddb9f3, 0xf4b32f46226bada7,
        0x751e8fbc860ee5fb, 0x14ea5627c0843d90, 0xf723ca908e7af2ee, 0xa129ca6149be45e5,
    };
    uint8_t key[16], input[63];
    for (uint8_t i = 0; i < sizeof key; i++) {
        key[i] = i;
    }
    for (uint8_t i = 0; i < sizeof input; i++) {
        input[i] = i;
    }
    for (size_t length = 0; length < 16; length++) {
        assert_true(hash_octets(key, input, length) == expected[length]);
    }
    assert_true(hash_octets(key, input, 63) == 0x958a324ceb064572);
    key[0] ^= 1;
    assert_false(hash_octets(key, input, 63) == 0x958a324ceb064572);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hash_matches_published_vectors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
