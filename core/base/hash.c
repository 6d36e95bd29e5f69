#include "core/base/hash.h"

#include <endian.h>
#include <string.h>

struct sip_state {
    uint64_t v0, v1, v2, v3;
};

static uint64_t rotate_left(uint64_t word, unsigned bits)
{
    return (word << bits) | (word >> (64 - bits));
}

/* Up to eight octets, least significant first; missing ones are zero. */
static uint64_t word_from_octets(const uint8_t *octets, size_t count)
{
    uint64_t word = 0;
    memcpy(&word, octets, count);
    return le64toh(word);
}

static void sip_rounds(struct sip_state *state, unsigned rounds)
{
    while (rounds-- > 0) {
        state->v0 += state->v1;
        state->v2 += state->v3;
        state->v1 = rotate_left(state->v1, 13) ^ state->v0;
        state->v3 = rotate_left(state->v3, 16) ^ state->v2;
        state->v0 = rotate_left(state->v0, 32);
        state->v2 += state->v1;
        state->v0 += state->v3;
        state->v1 = rotate_left(state->v1, 17) ^ state->v2;
        state->v3 = rotate_left(state->v3, 21) ^ state->v0;
        state->v2 = rotate_left(state->v2, 32);
    }
}

static void sip_absorb(struct sip_state *state, uint64_t word)
{
    state->v3 ^= word;
    sip_rounds(state, 2);
    state->v0 ^= word;
}

uint64_t hash_octets(const uint8_t seed[HASH_SEED_OCTETS], const void *octets, size_t octets_count)
{
    const uint8_t *next = octets;
    size_t left = octets_count;
    uint64_t key0 = word_from_octets(seed, 8);
    uint64_t key1 = word_from_octets(seed + 8, 8);
    struct sip_state state = {
        .v0 = key0 ^ 0x736f6d6570736575u, /* "somepseudorandomlygeneratedbytes" */
        .v1 = key1 ^ 0x646f72616e646f6du,
        .v2 = key0 ^ 0x6c7967656e657261u,
        .v3 = key1 ^ 0x7465646279746573u,
    };
    while (left >= 8) {
        sip_absorb(&state, word_from_octets(next, 8));
        next += 8;
        left -= 8;
    }
    sip_absorb(&state, word_from_octets(next, left) | (uint64_t)(octets_count & 0xff) << 56);
    state.v2 ^= 0xff;
    sip_rounds(&state, 4);
    return state.v0 ^ state.v1 ^ state.v2 ^ state.v3;
}
