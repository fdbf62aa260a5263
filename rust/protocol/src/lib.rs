//! Sans-I/O Kafka requests and responses, both directions.
