/* What the server's role says: lines that make up replies. */
#include <string.h>

#include "core/smtp/dialogue_internal.h"

void line_note_flags(struct dialogue *dialogue, const struct line_view *view)
{
    if (view->bare_lf)
        dialogue_note(dialogue, DIALOGUE_BARE_LF);
    if (view->truncated)
        dialogue_note(dialogue, DIALOGUE_LINE_TOO_LONG);
    if (view->nul)
        dialogue_note(dialogue, DIALOGUE_NUL);
}

/* PIX and ASA leave only 2, 0 and blanks of the banner: "220 ****0***". */
static bool banner_is_masked(const struct reply *reply)
{
    size_t stars = 0;
    for (size_t i = 0; i < reply->line_length; i++)
        stars = reply->line[i] == '*' ? stars + 1 : stars;
    return stars >= 4 && stars * 2 > reply->line_length;
}

static void server_take_codeless(struct dialogue *dialogue)
{
    if (state_has(dialogue, STATE_UNKNOWN)) {
        dialogue->mode = DIALOGUE_DEAF;
        return;
    }
    if (!state_has(dialogue, STATE_REPLY_SEEN))
        dialogue_note(dialogue, DIALOGUE_NOT_SMTP);
    if (dialogue_outstanding_count(dialogue) > 0)
        dialogue_note(dialogue, DIALOGUE_CODELESS_LINE);
}

static void server_take_line(struct dialogue *dialogue, const struct line_view *view)
{
    line_note_flags(dialogue, view);
    struct reply reply;
    enum reply_outcome outcome = reply_consume(&dialogue->reply, view->text, view->length, &reply);
    if (outcome == REPLY_NO_CODE) {
        server_take_codeless(dialogue);
        return;
    }
    enum verb verb = dialogue_oldest_verb(dialogue);
    if (verb == VERB_GREETING && banner_is_masked(&reply))
        dialogue_note(dialogue, DIALOGUE_BANNER_MASKED);
    if ((verb == VERB_EHLO || verb == VERB_LHLO) && reply.code == 250)
        reply_apply_capability(dialogue, &reply);
    if (outcome == REPLY_INCOMPLETE)
        return;
    reply_apply(dialogue, &reply);
    reply_clear(&dialogue->reply);
}

/* The server answers in clear what was taken for TLS from the client's first octet. */
static void server_undo_sniffing(struct dialogue *dialogue)
{
    dialogue->mode = DIALOGUE_COMMANDS;
    dialogue->flags &= ~(uint32_t)(DIALOGUE_TLS | DIALOGUE_CAN_INFER);
    dialogue_note(dialogue, DIALOGUE_EARLY_TALK | DIALOGUE_RESYNCED);
    queue_push(dialogue, VERB_GREETING);
    line_gap(&dialogue->lines[side_index(SIDE_CLIENT)]);
}

size_t server_consume(struct dialogue *dialogue, const uint8_t *octets, size_t length)
{
    if (state_has(dialogue, STATE_SNIFFED_TLS)) {
        state_drop(dialogue, STATE_SNIFFED_TLS);
        if (*octets >= '2' && *octets <= '5')
            server_undo_sniffing(dialogue);
    }
    bool starttls_due = queue_find(dialogue, VERB_STARTTLS, 0) < dialogue->run_count;
    if (dialogue->mode == DIALOGUE_DEAF)
        return length;
    if (dialogue->mode == DIALOGUE_CIPHER && !starttls_due) {
        tls_stream_consume(dialogue->tls, SIDE_SERVER, octets, length);
        return length;
    }
    struct line *line = &dialogue->lines[side_index(SIDE_SERVER)];
    if (!state_has(dialogue, STATE_REPLY_SEEN | STATE_UNKNOWN) && !line_is_open(line) && !line->skipping &&
        !reply_is_open(&dialogue->reply) && (*octets < '2' || *octets > '5'))
        dialogue_note(dialogue, DIALOGUE_NOT_SMTP);

    const uint8_t *next = octets;
    size_t left = length;
    struct line_view view;
    if (line_next(line, &next, &left, &view))
        server_take_line(dialogue, &view);
    return length - left;
}
