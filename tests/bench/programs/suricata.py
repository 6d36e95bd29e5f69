"""Suricata inline on the same queue, its SMTP parser on, no rules and no outputs: it reads the mail and says nothing."""

import os
import shutil

from router import queue_everything

DESCRIPTION = "Suricata, NFQUEUE inline, SMTP parser, no rules, no outputs, verdicts in batches of 20"
TARGETS = ()
QUEUE = 8
CONFIG = """\
%YAML 1.1
---
{outputs}
logging:
  default-log-level: warning
  outputs:
    - console:
        enabled: yes
nfq:
  mode: accept
  batchcount: 20
  fail-open: yes
host-mode: router
app-layer:
  protocols:
    smtp:
      enabled: yes
      max-tx: 1000000
"""


def missing():
    return None if shutil.which("suricata") else "suricata is not installed"


def start_with(router, outputs, rules):
    path = os.path.join(router.folder, "suricata.yaml")
    rule_file = os.path.join(router.folder, "suricata.rules")
    with open(path, "w", encoding="ascii") as file:
        file.write(CONFIG.format(outputs=outputs))
    with open(rule_file, "w", encoding="ascii") as file:
        file.write(rules)
    queue_everything(router, QUEUE)
    process = router.spawn("r", "suricata.log", "suricata", "-c", path, "-q", str(QUEUE), "--runmode", "workers", "-k", "none",
                           "-S", rule_file, "-l", router.folder)
    router.wait_for_queue(QUEUE, process)
    return [process]


def start(router):
    return start_with(router, "outputs: []", "")
