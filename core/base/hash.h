/* hash - SipHash-2-4, a keyed hash: whoever does not know the key cannot choose inputs that collide.
 * Source:  J.-P. Aumasson, D. J. Bernstein, "SipHash: a fast short-input PRF" (2012); 64-bit result.
 * Threads: none. Bounds: reads exactly `octets_count` octets. */
#ifndef SMTPWITNESS_CORE_BASE_HASH_H
#define SMTPWITNESS_CORE_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

#define HASH_SEED_OCTETS 16

uint64_t hash_octets(const uint8_t seed[HASH_SEED_OCTETS], const void *octets, size_t octets_count);

#endif
