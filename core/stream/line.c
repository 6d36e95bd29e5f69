#include "core/stream/line.h"

#include <stdlib.h>
#include <string.h>

static void line_free(struct line *line)
{
    if (!line->head_only)
        free(line->held);
    line->held = NULL;
    line->head_only = false;
    line->held_length = 0;
}

static void line_forget(struct line *line)
{
    line_free(line);
    line->total = 0;
    line->nul_seen = false;
    line->last_cr = false;
}

void line_clear(struct line *line)
{
    line_forget(line);
    line->skipping = false;
}

static uint8_t *line_kept(struct line *line)
{
    return line->head_only ? line->head : line->held;
}

/* Keeps what still fits; the rest is counted only. */
static void line_hold(struct line *line, const uint8_t *octets, size_t length)
{
    if (line->total == 0) {
        line->held = malloc(LINE_KEEP_OCTETS);
        line->head_only = line->held == NULL;
        line->held_length = 0;
    }
    const uint32_t most = line->head_only ? LINE_HEAD_OCTETS : LINE_KEEP_OCTETS;
    size_t room = most - line->held_length;
    size_t taken = length < room ? length : room;
    memcpy(line_kept(line) + line->held_length, octets, taken);
    line->held_length = (uint16_t)(line->held_length + taken);
    line->total = length > UINT32_MAX - line->total ? UINT32_MAX : line->total + (uint32_t)length;
    line->nul_seen = line->nul_seen || memchr(octets, 0, length) != NULL;
    line->last_cr = octets[length - 1] == '\r';
}

bool line_next(struct line *line, const uint8_t **octets, size_t *length, struct line_view *view)
{
    if (line->total == 0)
        line_free(line); /* of the line returned last */
    if (*length == 0)
        return false;

    const uint8_t *start = *octets;
    const uint8_t *end = memchr(start, '\n', *length);
    size_t taken = end == NULL ? *length : (size_t)(end - start); /* without the LF */

    if (line->skipping) {
        *octets += end == NULL ? taken : taken + 1;
        *length -= end == NULL ? taken : taken + 1;
        if (end == NULL)
            return false;
        line->skipping = false;
        return line_next(line, octets, length, view);
    }
    if (end == NULL) {
        line_hold(line, start, taken);
        *octets += taken;
        *length = 0;
        return false;
    }
    *octets += taken + 1;
    *length -= taken + 1;

    if (line->total == 0) { /* the whole line lies in this span */
        bool with_cr = taken > 0 && start[taken - 1] == '\r';
        view->text = start;
        view->total = with_cr ? taken - 1 : taken;
        view->length = view->total < LINE_KEEP_OCTETS ? view->total : LINE_KEEP_OCTETS;
        view->bare_lf = !with_cr;
        view->nul = memchr(start, 0, taken) != NULL;
    } else {
        if (taken > 0)
            line_hold(line, start, taken);
        view->text = line_kept(line);
        view->total = line->last_cr ? line->total - 1 : line->total;
        view->length = line->held_length < view->total ? line->held_length : view->total;
        view->bare_lf = !line->last_cr;
        view->nul = line->nul_seen;
        line->total = 0; /* the next call frees `held` */
        line->nul_seen = false;
        line->last_cr = false;
    }
    view->truncated = view->total > view->length;
    return true;
}

void line_gap(struct line *line)
{
    line_forget(line);
    line->skipping = true;
}

bool line_is_open(const struct line *line)
{
    return line->total > 0;
}
