"""Partitioners; see `mqlog.client.partitioner`."""

from mqlog.client.partitioner import (
    DefaultPartitioner,
    Partitioner,
    StickyPartitioner,
    murmur2,
)

__all__ = ["DefaultPartitioner", "Partitioner", "StickyPartitioner", "murmur2"]
