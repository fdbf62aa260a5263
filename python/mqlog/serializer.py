"""Serializers; see `mqlog.client.serializers`."""

from mqlog.client.serializers import (
    DefaultSerializer,
    Deserializer,
    JsonSerializer,
    Serializer,
)

__all__ = ["DefaultSerializer", "Deserializer", "JsonSerializer", "Serializer"]
