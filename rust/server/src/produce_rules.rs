//! Kafka's demands on a produce request, before any batch itself is looked at.

use mqlog_protocol::produce::ProduceRequest;
use mqlog_protocol::topic::TopicRef;
use mqlog_protocol::ErrorCode;

/// A partition's error, and why.
pub(crate) type Fault = (ErrorCode, &'static str);

/// The answer for a partition without a whole batch.
pub(crate) const NONE: Fault = (
    ErrorCode::InvalidRecord,
    "Produce requests must have a record batch per partition",
);

/// The answer for a topic that only the broker writes to.
pub(crate) const INTERNAL: Fault = (
    ErrorCode::InvalidTopicException,
    "Cannot append to an internal topic",
);
/// The client that may write to internal topics all the same, as with Kafka.
pub(crate) const ADMIN_CLIENT: &str = "__admin_client";

/// Kafka's answer to a producer that may not use transactions, fatal for every client.
pub(crate) const NO_TRANSACTIONS: ErrorCode = ErrorCode::TransactionalIdAuthorizationFailed;

/// What is wrong with a request as a whole.
pub(crate) fn request_fault(request: &ProduceRequest<'_>) -> Option<Fault> {
    if !(-1..=1).contains(&request.acks) {
        let code = ErrorCode::InvalidRequiredAcks;
        return Some((code, code.message()));
    }
    let why = "this broker does not serve transactions yet";
    request.transactional_id.map(|_| (NO_TRANSACTIONS, why))
}

pub(crate) fn unknown(topic_unknown: bool, topic: TopicRef<'_>) -> Fault {
    let code = match topic {
        TopicRef::Id(_) if topic_unknown => ErrorCode::UnknownTopicId,
        _ => ErrorCode::UnknownTopicOrPartition,
    };
    (code, code.message())
}

/// Kafka's demands on the records of one partition, before the batch itself is looked at.
pub(crate) fn one_batch(version: i16, records: &[u8]) -> Result<(), Fault> {
    const LENGTH_END: usize = 12;
    const MAGIC: usize = 16;
    const ATTRIBUTES_LOW: usize = 22;
    const LEAST: i32 = 14;
    const ZSTD: u8 = 4;
    let invalid = |why| Err((ErrorCode::InvalidRecord, why));
    let corrupt = |why| Err((ErrorCode::CorruptMessage, why));
    let Some(length) = records.get(8..LENGTH_END).and_then(|b| b.first_chunk()) else {
        return Err(NONE);
    };
    let length = i32::from_be_bytes(*length);
    if length < LEAST {
        return corrupt("the batch's length is below the smallest possible");
    }
    let size = length as usize + LENGTH_END;
    let Some(magic) = records.get(MAGIC) else {
        return Err(NONE);
    };
    if *magic > 2 {
        return corrupt("the batch's magic is not known");
    }
    if records.len() < size {
        return Err(NONE);
    }
    if *magic != 2 {
        return invalid("Produce requests from version 3 on may only hold batches of magic 2");
    }
    if version < 7 && records.get(ATTRIBUTES_LOW).is_some_and(|a| a & 7 == ZSTD) {
        let why = "zstd needs Produce version 7 or later";
        return Err((ErrorCode::UnsupportedCompressionType, why));
    }
    if records.len() > size {
        return invalid("Produce requests must have exactly one record batch per partition");
    }
    Ok(())
}
