"""What the client's tests share."""

from __future__ import annotations

import warnings

with warnings.catch_warnings():  # kafka-python uses what the standard library deprecates
    warnings.simplefilter("ignore", DeprecationWarning)
    import kafka  # noqa: F401
