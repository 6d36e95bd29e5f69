"""The least a packet queue costs: everything is accepted unread, large packets whole, many verdicts in one message."""

import os

from router import queue_everything

FLOOR = os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))),
                     "build", "bench", "nfqueue_floor")

DESCRIPTION = "NFQUEUE, everything accepted unread, GSO, batched reads and verdicts"
TARGETS = ()
QUEUE = 7


def missing():
    return None if os.access(FLOOR, os.X_OK) else f"{FLOOR} is not built"


def start(router):
    queue_everything(router, QUEUE)
    process = router.spawn("r", "nfqueue_floor.log", FLOOR, str(QUEUE))
    router.wait_for_queue(QUEUE, process)
    return [process]
