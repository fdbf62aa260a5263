"""Building and reading a batch of 500 records of 100 bytes."""

from __future__ import annotations

from mqlog import _native, _records

from .wire import batch

CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]
RECORDS = 500
VALUE_BYTES = 100


class RecordBatch:
    """Per batch; divide by 500 for a record."""

    params = CODECS
    param_names = ["codec"]

    def setup(self, codec: str) -> None:
        self.bytes = batch(RECORDS, VALUE_BYTES, codec)
        read = _records.decode_batches(self.bytes)[0].records()
        self.rows = [(r.timestamp, r.key, r.value, r.headers) for r in read]

    def time_build(self, codec: str) -> None:
        _native.build_batch(self.rows, codec)

    def time_read(self, codec: str) -> None:
        for one in _records.iter_batches(self.bytes):
            one.records()

    def track_bytes(self, codec: str) -> int:
        return len(self.bytes)

    track_bytes.unit = "bytes"
