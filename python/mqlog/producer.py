"""Producing; see `mqlog.client.producer`."""

from mqlog.client.producer import KafkaProducer

__all__ = ["KafkaProducer"]
