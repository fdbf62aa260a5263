"""Records read from segment files, without any broker. Usage: read_segments.py DIRECTORY.

The directory is a partition's (`mqlog topic describe` prints it), of mqlog or of Apache Kafka: the
bytes are the same. Files of a running broker may be read; the last batch can be half written.
"""

from __future__ import annotations

import sys
from pathlib import Path

from mqlog._records import CorruptBatch, iter_batches


def main() -> None:
    """Print every record, and where reading had to end if it had to."""
    for path in sorted(Path(sys.argv[1]).glob("*.log")):
        try:
            for batch in iter_batches(path.read_bytes()):
                for record in batch.records():
                    print(record.offset, record.timestamp, record.key, record.value)
        except CorruptBatch as error:
            print(f"{path}: {error.args[0]} at byte {error.position}")


if __name__ == "__main__":
    main()
