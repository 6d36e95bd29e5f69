/* attributes - contracts the compiler can check. */
#ifndef SMTPWITNESS_CORE_BASE_ATTRIBUTES_H
#define SMTPWITNESS_CORE_BASE_ATTRIBUTES_H

#define MUST_CHECK        __attribute__((warn_unused_result))
#define PRINTF_LIKE(f, a) __attribute__((format(printf, f, a)))
#define UNUSED            __attribute__((unused))
#define ONE_OCTET         __attribute__((packed)) /* of an enum that every session stores */

#endif
