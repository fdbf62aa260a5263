"""A member of a group: `kcat.py BOOTSTRAP TOPIC GROUP eager|cooperative|static`.

kcat goes on until it gets a signal; it commits by itself, and when it leaves.
"""

import signal
import subprocess
import sys

bootstrap, topic, group, mode = sys.argv[1:]
settings = {
    "auto.offset.reset": "earliest",
    "auto.commit.interval.ms": "100",
    "session.timeout.ms": "10000",
    "heartbeat.interval.ms": "500",
    "reconnect.backoff.max.ms": "500",
}
if mode == "cooperative":
    settings["partition.assignment.strategy"] = "cooperative-sticky"
if mode == "static":
    settings["group.instance.id"] = "member"
options = [word for name, value in settings.items() for word in ("-X", f"{name}={value}")]
# -E: a broker that is away for a while is no reason to end.
command = ["kcat", "-b", bootstrap, "-G", group, topic, "-u", "-q", "-E", "-f", "%p %o\\n"]
with subprocess.Popen([*command[:-3], *options, *command[-3:]]) as kcat:
    sys.stdin.read()
    kcat.send_signal(signal.SIGINT)
sys.exit(kcat.returncode)
