/* A dialogue as a text of tests/transcripts, which is also its corpus. Followed whole and octet by octet,
 * it must end in the same place: where packets are cut says nothing. */
#include <stdint.h>
#include <stdlib.h>

#include "tests/transcripts/transcript.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const struct dialogue *dialogue)
{
    if ((unsigned)dialogue->phase >= PHASE_COUNT || (unsigned)dialogue->owed_by > SIDE_SERVER)
        abort();
    if (dialogue->mails.ok > dialogue->mails.total)
        abort();
    if (dialogue->run_count > DIALOGUE_MAX_RUNS || dialogue->run_first >= DIALOGUE_MAX_RUNS)
        abort();
    if ((dialogue_outstanding_count(dialogue) == 0) != (dialogue_oldest_verb(dialogue) == VERB_NONE))
        abort();
    if (dialogue->phase == PHASE_CLOSED && (dialogue->owed_by != SIDE_NONE || dialogue_may_speak(dialogue)))
        abort();
    if (dialogue->phase == PHASE_END_OF_DATA && dialogue_may_speak(dialogue))
        abort();
    uint64_t length;
    uint32_t keep;
    if (dialogue_may_pass(dialogue, SIDE_CLIENT, &length, &keep) && length == 0)
        abort();
    if (dialogue->kept.role == DIALOGUE_REPLY_NONE && dialogue->kept.text != NULL)
        abort();
}

static void follow(const struct transcript *transcript, struct dialogue *dialogue, bool octets)
{
    dialogue_init(dialogue, &transcript->options);
    if (!transcript->unconnected)
        dialogue_connected(dialogue);
    for (size_t i = 0; i < transcript->step_count; i++) {
        const struct transcript_step *step = &transcript->steps[i];
        const uint8_t *said = transcript->octets + step->at;
        switch (step->kind) {
        case TRANSCRIPT_SAY:
            for (size_t at = 0; octets && at < step->length; at++) {
                dialogue_consume(dialogue, step->side, said + at, 1);
                check(dialogue);
            }
            if (!octets)
                dialogue_consume(dialogue, step->side, said, step->length);
            break;
        case TRANSCRIPT_SKIP:
            dialogue_skip(dialogue, step->side, step->count);
            break;
        case TRANSCRIPT_PASS:
            dialogue_pass(dialogue, step->side, step->count);
            break;
        case TRANSCRIPT_CONNECT:
            dialogue_connected(dialogue);
            break;
        case TRANSCRIPT_ASSERT:
        case TRANSCRIPT_ASSERT_WHOLE:
        case TRANSCRIPT_CUT:
            break;
        }
        check(dialogue);
    }
}

/* TLS borders after a gap are found again at the border of a span only. */
static bool depends_on_cuts(const struct transcript *transcript)
{
    if (transcript->options.midstream)
        return true;
    for (size_t i = 0; i < transcript->step_count; i++)
        if (transcript->steps[i].kind == TRANSCRIPT_SKIP || transcript->steps[i].kind == TRANSCRIPT_PASS)
            return true;
    return false;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct transcript transcript;
    const uint32_t cut_flags = DIALOGUE_PIX_DOT;
    if (!transcript_parse(&transcript, (const char *)data, size))
        transcript.error[0] = 0; /* what stands before the line that is no step is followed all the same */
    if (transcript.octet_count > 10000)
        return 0; /* long fillers cost time and show nothing new */
    struct dialogue whole, cut;
    follow(&transcript, &whole, false);
    follow(&transcript, &cut, true);
    if (!depends_on_cuts(&transcript) &&
        (whole.phase != cut.phase || whole.owed_by != cut.owed_by || whole.mails.ok != cut.mails.ok ||
         whole.mails.total != cut.mails.total || whole.commands.total != cut.commands.total ||
         whole.commands.ok != cut.commands.ok || whole.body_octets != cut.body_octets ||
         whole.errors != cut.errors || whole.kept.role != cut.kept.role ||
         whole.kept.class != cut.kept.class || ((whole.flags ^ cut.flags) & ~cut_flags) != 0))
        abort();
    dialogue_clear(&whole);
    dialogue_clear(&cut);
    return 0;
}
