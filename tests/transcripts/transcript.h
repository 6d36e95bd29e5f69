/* transcript - reads the dialogues of tests/transcripts/<name>.txt; unit tests and fuzz targets include it.
 *
 *   # comment                      blank lines are passed over
 *   ! lmtp|implicit-tls|proxy|midstream|unconnected      options, before anything else
 *   C: text       S: text          the side says `text` CRLF; \r \n \t \0 \\ \xNN are octets
 *   C| text       S| text          the same without a line end
 *   C+ 3000       S+ 3000          so many octets of filler (lines of 60 letters, no dots)
 *   C~ 3000       S~ 3000          so many octets pass unseen
 *   C> 3000       S> 3000          so many octets pass by, as may-pass allows
 *   CT 22 200 01  ST 23 4113       a TLS record: type, length, its first octets in hex, zeros behind them
 *   C.            S.               that side ends its stream
 *   --                             a new segment; else what one side says in a row goes in one
 *   connect                        the server leg comes up (done at the start unless `! unconnected`)
 *   wait 500ms    gap C 120        time passes; octets are lost (as C~)
 *   ? key=value ...                must hold here, however the octets were cut
 *   ?w key=value ...               must hold here when nothing was cut
 *
 * Owns:    nothing but itself: some 400 kB, for the heap or static memory.
 * Bounds:  TRANSCRIPT_STEPS steps, TRANSCRIPT_OCTETS octets in all. */
#ifndef SMTPWITNESS_TESTS_TRANSCRIPTS_TRANSCRIPT_H
#define SMTPWITNESS_TESTS_TRANSCRIPTS_TRANSCRIPT_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/smtp/dialogue.h"

#define TRANSCRIPT_STEPS  512
#define TRANSCRIPT_OCTETS 400000

enum transcript_kind {
    TRANSCRIPT_SAY = 0,
    TRANSCRIPT_SKIP,
    TRANSCRIPT_PASS,
    TRANSCRIPT_CONNECT,
    TRANSCRIPT_ASSERT,
    TRANSCRIPT_ASSERT_WHOLE,
    TRANSCRIPT_CUT,
};

struct transcript_step {
    enum transcript_kind kind;
    enum side side;
    size_t at, length; /* of transcript.octets: what is said, or the NUL-terminated assertions */
    uint64_t count;    /* octets skipped or passed by */
    unsigned line;
};

struct transcript {
    struct dialogue_options options;
    bool unconnected;
    struct transcript_step steps[TRANSCRIPT_STEPS];
    size_t step_count;
    size_t octet_count;
    char error[100];
    uint8_t octets[TRANSCRIPT_OCTETS];
};

static bool transcript_put(struct transcript *transcript, uint8_t octet)
{
    if (transcript->octet_count == TRANSCRIPT_OCTETS)
        return false;
    transcript->octets[transcript->octet_count++] = octet;
    return true;
}

static int transcript_hex(char digit)
{
    if (digit >= '0' && digit <= '9')
        return digit - '0';
    if (digit >= 'a' && digit <= 'f')
        return digit - 'a' + 10;
    return digit >= 'A' && digit <= 'F' ? digit - 'A' + 10 : -1;
}

static bool transcript_put_text(struct transcript *transcript, const char *text, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        uint8_t octet = (uint8_t)text[i];
        if (text[i] == '\\' && i + 1 < length) {
            i++;
            octet = (uint8_t)text[i];
            if (text[i] == 'r')
                octet = '\r';
            else if (text[i] == 'n')
                octet = '\n';
            else if (text[i] == 't')
                octet = '\t';
            else if (text[i] == '0')
                octet = 0;
            else if (text[i] == 'x' && i + 2 < length && transcript_hex(text[i + 1]) >= 0 &&
                     transcript_hex(text[i + 2]) >= 0) {
                octet = (uint8_t)(transcript_hex(text[i + 1]) * 16 + transcript_hex(text[i + 2]));
                i += 2;
            }
        }
        if (!transcript_put(transcript, octet))
            return false;
    }
    return true;
}

static bool transcript_put_filler(struct transcript *transcript, uint64_t count)
{
    if (count > TRANSCRIPT_OCTETS)
        return false;
    for (uint64_t i = 0; i < count; i++) {
        uint64_t column = i % 62;
        if (!transcript_put(transcript, column == 60   ? '\r'
                                        : column == 61 ? '\n'
                                                       : (uint8_t)('a' + column % 26)))
            return false;
    }
    return true;
}

/* "22 200 0100": type, length, first octets. */
static bool transcript_put_record(struct transcript *transcript, const char *text)
{
    char *rest;
    unsigned long type = strtoul(text, &rest, 10);
    unsigned long length = strtoul(rest, &rest, 10);
    if (length > 0xffff || type > 0xff)
        return false;
    uint8_t header[5] = {(uint8_t)type, 3, 3, (uint8_t)(length >> 8), (uint8_t)length};
    for (size_t i = 0; i < sizeof header; i++)
        if (!transcript_put(transcript, header[i]))
            return false;
    while (*rest == ' ')
        rest++;
    for (unsigned long i = 0; i < length; i++) {
        uint8_t octet = 0;
        if (transcript_hex(rest[0]) >= 0 && transcript_hex(rest[1]) >= 0) {
            octet = (uint8_t)(transcript_hex(rest[0]) * 16 + transcript_hex(rest[1]));
            rest += 2;
        }
        if (!transcript_put(transcript, octet))
            return false;
    }
    return true;
}

static struct transcript_step *transcript_add(struct transcript *transcript, enum transcript_kind kind,
                                              enum side side, unsigned line)
{
    /* What one side says in a row is one segment. */
    if (kind == TRANSCRIPT_SAY && transcript->step_count > 0) {
        struct transcript_step *last = &transcript->steps[transcript->step_count - 1];
        if (last->kind == TRANSCRIPT_SAY && last->side == side)
            return last;
    }
    if (transcript->step_count == TRANSCRIPT_STEPS)
        return NULL;
    struct transcript_step *step = &transcript->steps[transcript->step_count++];
    *step = (struct transcript_step){.kind = kind, .side = side, .at = transcript->octet_count, .line = line};
    return step;
}

static bool transcript_option(struct transcript *transcript, const char *name)
{
    if (strcmp(name, "lmtp") == 0)
        transcript->options.lmtp = true;
    else if (strcmp(name, "implicit-tls") == 0)
        transcript->options.implicit_tls = true;
    else if (strcmp(name, "proxy") == 0)
        transcript->options.proxy_protocol = true;
    else if (strcmp(name, "midstream") == 0)
        transcript->options.midstream = true;
    else if (strcmp(name, "unconnected") == 0)
        transcript->unconnected = true;
    else
        return false;
    return true;
}

static bool transcript_take_said(struct transcript *transcript, const char *text, size_t length,
                                 unsigned number)
{
    enum side side = text[0] == 'C' ? SIDE_CLIENT : SIDE_SERVER;
    char form = text[1];
    const char *rest = text + 2;
    while (*rest == ' ' && form != ':' && form != '|')
        rest++;
    if (form == '.' && *rest == 0)
        return true; /* the engine learns of it from its caller */
    if (form == '~' || form == '>') {
        struct transcript_step *step =
            transcript_add(transcript, form == '~' ? TRANSCRIPT_SKIP : TRANSCRIPT_PASS, side, number);
        if (step != NULL)
            step->count = strtoull(rest, NULL, 10);
        return step != NULL;
    }
    if (form != ':' && form != '|' && form != '+' && form != 'T')
        return false;
    struct transcript_step *step = transcript_add(transcript, TRANSCRIPT_SAY, side, number);
    if (step == NULL)
        return false;
    bool done = true;
    if (form == '+')
        done = transcript_put_filler(transcript, strtoull(rest, NULL, 10));
    else if (form == 'T')
        done = transcript_put_record(transcript, rest);
    else {
        size_t skip = *rest == ' ' ? 3 : 2;
        done = transcript_put_text(transcript, text + skip, length - skip);
        if (form == ':')
            done = done && transcript_put(transcript, '\r') && transcript_put(transcript, '\n');
    }
    step->length = transcript->octet_count - step->at;
    return done;
}

static bool transcript_take_line(struct transcript *transcript, const char *text, size_t length,
                                 unsigned number)
{
    if (length == 0 || text[0] == '#' || strncmp(text, "wait ", 5) == 0)
        return true;
    if (text[0] == '!')
        return text[1] == ' ' && transcript_option(transcript, text + 2);
    if (strcmp(text, "--") == 0)
        return transcript_add(transcript, TRANSCRIPT_CUT, SIDE_NONE, number) != NULL;
    if (strcmp(text, "connect") == 0)
        return transcript_add(transcript, TRANSCRIPT_CONNECT, SIDE_NONE, number) != NULL;
    if (strncmp(text, "gap C ", 6) == 0 || strncmp(text, "gap S ", 6) == 0) {
        struct transcript_step *step =
            transcript_add(transcript, TRANSCRIPT_SKIP, text[4] == 'C' ? SIDE_CLIENT : SIDE_SERVER, number);
        if (step != NULL)
            step->count = strtoull(text + 6, NULL, 10);
        return step != NULL;
    }
    if (text[0] == '?') {
        bool whole = text[1] == 'w';
        struct transcript_step *step = transcript_add(
            transcript, whole ? TRANSCRIPT_ASSERT_WHOLE : TRANSCRIPT_ASSERT, SIDE_NONE, number);
        if (step == NULL)
            return false;
        size_t skip = whole ? 2 : 1;
        for (size_t i = skip; i < length; i++)
            if (!transcript_put(transcript, (uint8_t)text[i]))
                return false;
        step->length = length - skip;
        return transcript_put(transcript, 0);
    }
    if (length >= 2 && (text[0] == 'C' || text[0] == 'S'))
        return transcript_take_said(transcript, text, length, number);
    return false;
}

/* False: `error` says which line is none. A NUL in `text` ends its line. */
static bool transcript_parse(struct transcript *transcript, const char *text, size_t length)
{
    transcript->options = (struct dialogue_options){0};
    transcript->unconnected = false;
    transcript->step_count = transcript->octet_count = 0;
    transcript->error[0] = 0;
    unsigned number = 0;
    while (length > 0) {
        number++;
        const char *end = memchr(text, '\n', length);
        size_t taken = end == NULL ? length : (size_t)(end - text);
        char line[4096];
        size_t kept = taken < sizeof line - 1 ? taken : sizeof line - 1;
        memcpy(line, text, kept);
        line[kept] = 0;
        if (!transcript_take_line(transcript, line, strlen(line), number)) {
            snprintf(transcript->error, sizeof transcript->error, "line %u is no step, or one too many",
                     number);
            return false;
        }
        text += end == NULL ? taken : taken + 1;
        length -= end == NULL ? taken : taken + 1;
    }
    return true;
}

#endif
