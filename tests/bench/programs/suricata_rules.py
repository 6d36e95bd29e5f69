"""Suricata as an inspector is used: twenty rules that look into commands and bodies, and a line for each mail in eve.json."""

from programs import suricata
from programs.suricata import missing  # noqa: F401  pylint: disable=unused-import

DESCRIPTION = "Suricata as above, with 20 rules for commands and bodies, eve.json: alert, smtp"
TARGETS = ()
OUTPUTS = """\
outputs:
  - eve-log:
      enabled: yes
      filetype: regular
      filename: eve.json
      types:
        - alert
        - smtp"""
COMMANDS = ("VRFY", "EXPN", "TURN", "ETRN", "DEBUG", "WIZ", "BDAT", "XEXCH50", "HELP", "NOOP")
COMMAND_RULE = 'alert smtp any any -> any any (msg:"{0}"; flow:established,to_server; content:"{0} never"; nocase; sid:{1};)\n'
BODY_RULE = ('alert smtp any any -> any any (msg:"body {0}"; flow:established,to_server; file_data; content:"NeverSent{0}"; '
             'pcre:"/NeverSent{0}[0-9a-f]{{8}}/"; sid:{1};)\n')


def start(router):
    rules = [COMMAND_RULE.format(command, 9000001 + i) for i, command in enumerate(COMMANDS)]
    rules += [BODY_RULE.format(i, 9000101 + i) for i in range(10)]
    return suricata.start_with(router, OUTPUTS, "".join(rules))
