"""Consuming; see `mqlog.client.consumer`."""

from mqlog.client.consumer import ConsumerRecord, KafkaConsumer
from mqlog.client.subscription import ConsumerRebalanceListener

__all__ = ["ConsumerRebalanceListener", "ConsumerRecord", "KafkaConsumer"]
