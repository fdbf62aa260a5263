"""kafka-python, imported once before warnings become errors: it uses a deprecated function."""

import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import kafka.record.default_records  # noqa: F401
