//! Sans-I/O Kafka requests and responses, both directions.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod api_key;
pub mod codec;
pub mod error;
pub mod error_code;
pub mod fetch;
pub mod fetch_response;
pub mod header;
pub mod messages;
pub mod produce;
pub mod reader;
pub mod schema;
pub mod tables;
pub mod topic;
pub mod value;
pub mod writer;

pub use api_key::ApiKey;
pub use error::{DecodeError, EncodeError};
pub use error_code::ErrorCode;
pub use topic::{CurrentLeader, NodeEndpoint, TopicRef};
pub use value::Value;
