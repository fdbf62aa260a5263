"""The client: settings, decisions and the three classes over the native core.

`mqlog.KafkaProducer`, `mqlog.KafkaConsumer` and `mqlog.KafkaAdminClient` are where users begin;
`docs/internals/client.md` says who does what.
"""
