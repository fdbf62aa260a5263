"""Kafka's own ConsumerGroupCommand for the demo, where java and mvn are there to run it."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
POM = ROOT / "tests" / "interop" / "java" / "tools" / "pom.xml"
COMMAND = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand"
#: The jars are fetched once, beside the load; so long are they waited for in the end.
PATIENCE_S = 60.0


class KafkaTools:
    """The jars of Kafka's tools, on their way from the moment this is made."""

    def __init__(self) -> None:
        self._missing = [tool for tool in ("java", "mvn") if shutil.which(tool) is None]
        self._folder = tempfile.TemporaryDirectory(prefix="mqlog-demo-")
        self._path = Path(self._folder.name) / "classpath"
        self._maven: subprocess.Popen[bytes] | None = None
        if not self._missing:
            goal = ["dependency:build-classpath", f"-Dmdep.outputFile={self._path}"]
            self._maven = subprocess.Popen(
                ["mvn", "-q", "-B", "-f", str(POM), *goal],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )

    def describe(self, bootstrap: str, group: str) -> str:
        """What it says of a group, or one line that says why there is nothing."""
        if self._maven is None:
            return f"Kafka's own command is left out: no {' and no '.join(self._missing)} here"
        try:
            failed = self._maven.wait(PATIENCE_S) != 0
        except subprocess.TimeoutExpired:
            failed = True
        if failed:
            return "Kafka's own command is left out: mvn could not fetch it"
        words = ["--bootstrap-server", bootstrap, "--describe", "--group", group]
        jars = self._path.read_text().strip()
        done = subprocess.run(
            ["java", "-XX:TieredStopAtLevel=1", "-cp", jars, COMMAND, *words],
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        if done.returncode:
            return f"Kafka's own command failed: {done.stderr.strip()[-300:]}"
        return f"$ kafka-consumer-groups.sh --describe --group {group}\n{done.stdout.strip()}"

    def close(self) -> None:
        """End what is still under way."""
        if self._maven is not None:
            self._maven.kill()
            self._maven.wait()
        self._folder.cleanup()
