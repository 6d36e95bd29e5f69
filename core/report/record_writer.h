/* record_writer - a line being written into the caller's buffer. What does not fit whole is not written.
 * Borrows: the buffer. Bounds: never writes past `room`. Threads: none. */
#ifndef SMTPWITNESS_CORE_REPORT_RECORD_WRITER_H
#define SMTPWITNESS_CORE_REPORT_RECORD_WRITER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct record_writer {
    char *line;
    size_t room; /* octets that may be used, the terminating NUL not counted */
    size_t used;
    bool full; /* something did not fit; record_writer_settle() clears it */
};

#define RECORD_UNIT_OCTETS 8

/* Escapes one octet into `unit`; returns its length, 1 to 6. */
typedef size_t record_text_unit(uint8_t octet, char unit[RECORD_UNIT_OCTETS]);

void record_writer_init(struct record_writer *writer, char *line, size_t room);
void record_put_octet(struct record_writer *writer, char octet);
void record_put_word(struct record_writer *writer, const char *word);
void record_put_number(struct record_writer *writer, uint64_t number);
void record_put_tenths(struct record_writer *writer, uint64_t tenths);

/* Escaped text of at most `allowance_octets`; longer text is cut between escapes and ends in "...". */
void record_put_text(struct record_writer *writer, const char *text, size_t text_octets,
                     size_t allowance_octets, record_text_unit *text_unit);
size_t record_text_length(const char *text, size_t text_octets, record_text_unit *text_unit);

/* Takes everything after `mark` back when it did not fit. Returns true when it did. */
bool record_writer_settle(struct record_writer *writer, size_t mark);

#endif
