"""Run a broker in the foreground: `mqlog serve`.

Exit codes: 0 stopped by SIGINT or SIGTERM, 74 the disk failed, 1 it could not start (the error
names what is in the way).
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import TYPE_CHECKING, TextIO

from mqlog.broker.journal import Journal
from mqlog.broker.listeners import asked_for, is_loopback, resolve
from mqlog.broker.runtime import Runtime
from mqlog.broker.settings import Address, Settings

if TYPE_CHECKING:
    from mqlog._native import StartFacts

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def run(settings: Settings, data_dir: str, out: TextIO | None = None) -> int:
    """Serve `data_dir` until a signal; return the exit code.

    Prints one line to `out` (standard output) when clients can connect. Raises ConfigError for a
    setting, StartError if the directory cannot be served or the address not be bound.
    """
    journal = Journal(settings.text("mqlog.log.format"))
    wanted = asked_for(settings)
    # Before any thread is made: all of them inherit the mask, one waits for the signals.
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    runtime = Runtime(settings, data_dir, resolve(wanted), journal)
    facts = runtime.start()
    threading.Thread(target=_wait_for_signal, args=(runtime,), daemon=True).start()
    _warn_of_strangers(journal, runtime.addresses)
    _tell(journal, facts)
    shown = wanted[0]._replace(port=runtime.addresses[0].port)
    print(
        f"mqlog ready listening on {shown} data {runtime.data_dir} cluster {runtime.cluster_id} "
        f"pid {os.getpid()}",
        file=out or sys.stdout,
        flush=True,
    )
    try:
        code = runtime.run()
    finally:
        runtime.close()
    journal.info("stopped", code=code)
    return code


def _warn_of_strangers(journal: Journal, addresses: list[Address]) -> None:
    """Say which addresses more than this machine can reach."""
    for address in addresses:
        if not is_loopback(address.host):
            journal.warning(
                "anyone who can reach this address can read and delete everything: there is no "
                "authentication", listen=str(address),
            )  # fmt: skip


def _tell(journal: Journal, facts: StartFacts) -> None:
    """What the start found that its operator should know."""
    if not facts["clean"] and facts["partitions"]:
        journal.info(
            "recovered after an unclean stop",
            partitions=facts["partitions"],
            checked_bytes=facts["checked_bytes"],
            cut_bytes=facts["cut_bytes"],
            quarantined_ranges=facts["quarantined_ranges"],
        )
    for directory in facts["orphans"]:
        journal.warning("directory belongs to no topic", directory=directory)
    for partition, reason in facts["offline"]:
        journal.error("partition is offline", partition=partition, reason=reason)


def _wait_for_signal(runtime: Runtime) -> None:
    first = signal.sigwait(_SIGNALS)
    runtime.journal.info(f"{signal.Signals(first).name}: stopping")
    runtime.stop()
    # A second Ctrl-C is impatience. A second SIGTERM is how some supervisors say it once.
    os._exit(128 + signal.sigwait({signal.SIGINT}))
