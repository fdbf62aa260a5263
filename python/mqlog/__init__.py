"""The event log for Python: a Kafka-compatible broker in one pip install.

`mqlog serve` starts a broker; `mqlog.testing.Broker` starts one inside a test. Nothing is imported
here, so that the command starts quickly: import the module you need.
"""
