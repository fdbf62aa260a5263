"""The broker seen from its socket: what Kafka's clients rely on, and what no client should send."""
