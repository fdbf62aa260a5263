"""What a cluster says of itself; see `mqlog.client.cluster`."""

from mqlog.client.cluster import ClusterMetadata

__all__ = ["ClusterMetadata"]
