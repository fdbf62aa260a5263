"""Administration of a cluster; see `mqlog.client.admin`."""

from mqlog.client.admin import *  # noqa: F403
from mqlog.client.admin import __all__ as __all__  # noqa: PLC0414
