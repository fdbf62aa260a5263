"""CRC32C of one buffer."""

from __future__ import annotations

from mqlog import _records


class Crc32c:
    """By size, in bytes."""

    params = [64, 1024, 65536, 1 << 20]
    param_names = ["bytes"]

    def setup(self, size: int) -> None:
        self.data = bytes(i * 31 % 251 for i in range(size))

    def time_crc32c(self, size: int) -> None:
        _records.crc32c(self.data)
