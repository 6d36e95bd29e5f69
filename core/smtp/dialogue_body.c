/* Bodies: DATA's up to CRLF.CRLF (RFC 5321 section 4.1.1.4), BDAT's by count (RFC 3030). Never read, only
 * ended. */
#include <string.h>

#include "core/smtp/dialogue_internal.h"

#define COMMAND_PART_OCTETS 8   /* so few may be the rest of a command's line: "IT\r\n" */
#define COMMANDS_MAX_OCTETS 512 /* more than stands behind a final dot before the client waits */
#define TAIL_OCTETS         sizeof(((struct dialogue *)0)->tail)

#define DENSE_DOTS_MIN    8  /* so many dots are looked at before their density is judged */
#define DENSE_DOTS_OCTETS 48 /* dots closer than this on average cost more by memchr() than by body_scan() */

static const uint8_t body_end[5] = {'\r', '\n', '.', '\r', '\n'};

void body_begin(struct dialogue *dialogue)
{
    dialogue->mode = DIALOGUE_BODY;
    dialogue->tail_length = 2; /* as if a line had just ended: a body may be empty */
    memcpy(dialogue->tail, body_end, 2);
    state_drop(dialogue, STATE_BODY_HOLE | STATE_BODY_REJECTED | STATE_BODY_BLIND);
    dialogue->flags &= ~(uint32_t)(DIALOGUE_BARE_DOT | DIALOGUE_PIX_DOT);
}

/* Horspool's search for CRLF.CRLF from octet `at` on: about as fast whatever the octets are. */
static size_t body_scan(const uint8_t *octets, size_t length, size_t at)
{
    for (size_t last = at + sizeof body_end - 1; last < length;) {
        switch (octets[last]) {
        case '\n':
            if (memcmp(octets + last - 4, body_end, sizeof body_end) == 0)
                return last + 1;
            last += 3;
            break;
        case '\r':
            last += 1;
            break;
        case '.':
            last += 2;
            break;
        default:
            last += 5;
            break;
        }
    }
    return 0;
}

/* Finds CRLF.CRLF that lies wholly in the span; returns the octets up to and with it, 0 = not there. Dots
 * are rarer than line ends, and base64 has none: memchr() leaps from dot to dot, unless they stand close. */
static size_t body_find_end(const uint8_t *octets, size_t length)
{
    if (length < sizeof body_end)
        return 0;
    const uint8_t *last = octets + length - 3; /* room for .CRLF */
    const uint8_t *dot = octets + 2;
    size_t misses = 0;
    while (dot <= last && (dot = memchr(dot, '.', (size_t)(last - dot) + 1)) != NULL) {
        if (memcmp(dot - 2, body_end, sizeof body_end) == 0)
            return (size_t)(dot - octets) + 3;
        size_t at = (size_t)(dot - octets) - 1;
        if (++misses > DENSE_DOTS_MIN && at / misses < DENSE_DOTS_OCTETS)
            return body_scan(octets, length, at);
        dot++;
    }
    return 0;
}

/* The same across the border between the tail and this span. */
static size_t body_find_end_across(const struct dialogue *dialogue, const uint8_t *octets, size_t length)
{
    uint8_t border[TAIL_OCTETS + sizeof body_end - 1];
    size_t tail = dialogue->tail_length;
    size_t head = length < sizeof body_end - 1 ? length : sizeof body_end - 1;
    memcpy(border, dialogue->tail, tail);
    memcpy(border + tail, octets, head);
    for (size_t end = tail + 1; end <= tail + head; end++)
        if (end >= sizeof body_end && memcmp(border + end - sizeof body_end, body_end, sizeof body_end) == 0)
            return end - tail;
    return 0;
}

static void body_keep_tail(struct dialogue *dialogue, const uint8_t *octets, size_t length)
{
    if (length >= TAIL_OCTETS) {
        memcpy(dialogue->tail, octets + length - TAIL_OCTETS, TAIL_OCTETS);
        dialogue->tail_length = TAIL_OCTETS;
        return;
    }
    size_t kept = dialogue->tail_length;
    if (kept + length > TAIL_OCTETS) {
        size_t surplus = kept + length - TAIL_OCTETS;
        memmove(dialogue->tail, dialogue->tail + surplus, kept - surplus);
        kept -= surplus;
    }
    memcpy(dialogue->tail + kept, octets, length);
    dialogue->tail_length = (uint8_t)(kept + length);
}

static bool tail_is(const struct dialogue *dialogue, const char *text)
{
    size_t length = strlen(text);
    return dialogue->tail_length >= length &&
           memcmp(dialogue->tail + dialogue->tail_length - length, text, length) == 0;
}

/* A lone dot between line ends that are not both CRLF: some servers end the body there, most do not. */
bool body_ends_in_bare_dot(const struct dialogue *dialogue)
{
    return tail_is(dialogue, "\n.\n") || tail_is(dialogue, "\n.\r\n") || tail_is(dialogue, "\r.\r");
}

/* Octets passed unseen, and now these came: may they stand behind a final dot among the unseen ones? Few enough, and
 * they end with what is a command, or may be part of one or of the dot's line. */
static bool may_be_commands(const uint8_t *octets, size_t length)
{
    if (length >= COMMANDS_MAX_OCTETS)
        return false;
    if (length <= COMMAND_PART_OCTETS)
        return true;
    if (octets[length - 1] != '\n')
        return false;
    size_t end = length - 1;
    size_t start = end;
    while (start > 0 && octets[start - 1] != '\n')
        start--;
    struct command command;
    command_parse(&command, octets + start, end - start - (end > start && octets[end - 1] == '\r' ? 1 : 0));
    return command.verb != VERB_OTHER || (start == 0 && end - start <= COMMAND_PART_OCTETS);
}

size_t body_consume(struct dialogue *dialogue, const uint8_t *octets, size_t length)
{
    bool split_dot =
        length >= 2 && length <= 8 && tail_is(dialogue, "\r\n.") && memcmp(octets, "\r\n", 2) == 0;
    size_t end = body_find_end_across(dialogue, octets, length);
    if (end == 0)
        end = body_find_end(octets, length);
    size_t taken = end == 0 ? length : end;

    dialogue->body_octets += taken;
    state_set(dialogue, STATE_BODY_BEGAN);
    dialogue->flags &= ~(uint32_t)DIALOGUE_BARE_DOT;
    if (end == 0) {
        body_keep_tail(dialogue, octets, taken);
        if (state_has(dialogue, STATE_BODY_BLIND) && !may_be_commands(octets, length))
            state_drop(dialogue, STATE_BODY_BLIND);
        if (body_ends_in_bare_dot(dialogue))
            dialogue_note(dialogue, DIALOGUE_BARE_DOT);
        return taken;
    }
    if (split_dot)
        dialogue_note(dialogue, DIALOGUE_PIX_DOT);
    dialogue->mode = DIALOGUE_COMMANDS;
    if (state_has(dialogue, STATE_BODY_REJECTED))
        state_drop(dialogue, STATE_BODY_REJECTED);
    else
        queue_push(dialogue, VERB_END_OF_DATA);
    return taken;
}

bool body_provisional_line(struct dialogue *dialogue, const struct line_view *view)
{
    size_t octets = view->total + (view->bare_lf ? 1 : 2);
    dialogue->body_octets += octets;
    dialogue_note(dialogue, DIALOGUE_BODY_WITHOUT_354);
    state_set(dialogue, STATE_BODY_BEGAN);
    dialogue->flags &= ~(uint32_t)DIALOGUE_BARE_DOT;

    bool dot = view->total == 1 && view->length == 1 && view->text[0] == '.';
    bool ends = dot && !view->bare_lf && tail_is(dialogue, "\r\n");
    /* The tail as body_consume() would have it, should the 354 come now. */
    uint8_t line_end[4] = {'\r', '\n', 0, 0};
    if (view->total > 0)
        body_keep_tail(dialogue, view->text + view->length - 1, 1);
    body_keep_tail(dialogue, view->bare_lf ? line_end + 1 : line_end, view->bare_lf ? 1 : 2);
    if (ends) {
        queue_push(dialogue, VERB_END_OF_DATA);
        dialogue->mode = DIALOGUE_COMMANDS;
        state_drop(dialogue, STATE_PROVISIONAL);
        return true;
    }
    if (body_ends_in_bare_dot(dialogue))
        dialogue_note(dialogue, DIALOGUE_BARE_DOT);

    struct command command;
    command_parse(&command, view->text, view->length);
    switch (command.verb) { /* what changes the mode may not change it here: it is most likely text */
    case VERB_HELO:
    case VERB_EHLO:
    case VERB_LHLO:
    case VERB_MAIL:
    case VERB_RCPT:
    case VERB_RSET:
    case VERB_QUIT:
    case VERB_NOOP:
        queue_push(dialogue, command.verb);
        break;
    case VERB_NONE:
    case VERB_DATA:
    case VERB_BDAT:
    case VERB_BDAT_LAST:
    case VERB_VRFY:
    case VERB_EXPN:
    case VERB_HELP:
    case VERB_STARTTLS:
    case VERB_AUTH:
    case VERB_ETRN:
    case VERB_TURN:
    case VERB_ATRN:
    case VERB_XCLIENT:
    case VERB_XFORWARD:
    case VERB_SEND:
    case VERB_OTHER:
    case VERB_MASKED:
    case VERB_END_OF_DATA:
    case VERB_GREETING:
    case VERB_COUNT:
        queue_push(dialogue, VERB_OTHER);
        break;
    }
    return false;
}

/* The 354 came and its DATA was taken off the queue: strike out what was body. */
void body_accept_provisional(struct dialogue *dialogue)
{
    uint8_t dot = queue_find(dialogue, VERB_END_OF_DATA, 0);
    uint8_t next_data = queue_find(dialogue, VERB_DATA, 0);
    if (dot < dialogue->run_count && dot < next_data) {
        queue_drop_runs(dialogue, dot);
        return; /* the dot was seen already; commands behind it are queued */
    }
    queue_clear(dialogue);
    struct line *line = &dialogue->lines[side_index(SIDE_CLIENT)];
    if (state_has(dialogue, STATE_PROVISIONAL) && dialogue->mode == DIALOGUE_BODY) {
        /* An unfinished line goes on as body. */
        state_drop(dialogue, STATE_PROVISIONAL);
        if (line->total > 0) {
            dialogue->body_octets += line->total;
            state_set(dialogue, STATE_BODY_BEGAN);
            if (!line->head_only && line->held != NULL && line->total == line->held_length)
                body_keep_tail(dialogue, line->held, line->held_length);
            else
                dialogue->tail_length = 0;
        }
    } else {
        body_begin(dialogue);
        state_drop(dialogue, STATE_PROVISIONAL);
    }
    line_clear(line);
}

/* DATA was refused and taken off the queue: what followed it were commands after all. */
void body_refuse_provisional(struct dialogue *dialogue)
{
    uint8_t dot = queue_find(dialogue, VERB_END_OF_DATA, 0);
    uint8_t next_data = queue_find(dialogue, VERB_DATA, 0);
    uint8_t end = dot < dialogue->run_count && dot < next_data ? dot : dialogue->run_count;
    bool running = dialogue->mode == DIALOGUE_BODY && state_has(dialogue, STATE_PROVISIONAL) &&
                   next_data == dialogue->run_count;
    if (end == dialogue->run_count && !running)
        end = 0;
    if (end < dialogue->run_count ? end == dot : running && state_has(dialogue, STATE_BODY_BEGAN))
        dialogue_note(dialogue, DIALOGUE_BODY_REFUSED);
    for (uint8_t i = 0; i < end; i++) {
        uint32_t count = queue_run(dialogue, i)->count;
        dialogue->commands.total += count;
    }
    if (end < dialogue->run_count && queue_run(dialogue, end)->verb == VERB_END_OF_DATA) {
        queue_run(dialogue, end)->verb = VERB_OTHER;
        dialogue->commands.total++;
    } else if (running) {
        dialogue->mode = DIALOGUE_COMMANDS;
        state_drop(dialogue, STATE_PROVISIONAL);
    }
}

void chunk_begin(struct dialogue *dialogue, uint64_t size)
{
    dialogue->chunk_left = size;
    if (size > 0)
        dialogue->mode = DIALOGUE_CHUNK;
}

size_t chunk_consume(struct dialogue *dialogue, uint64_t length)
{
    uint64_t taken = length < dialogue->chunk_left ? length : dialogue->chunk_left;
    dialogue->chunk_left -= taken;
    dialogue->body_octets += taken;
    state_set(dialogue, STATE_BODY_BEGAN);
    if (dialogue->chunk_left == 0)
        dialogue->mode = DIALOGUE_COMMANDS;
    return (size_t)taken;
}
