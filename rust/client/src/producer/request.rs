//! One Produce request of several partitions, written around their records.

use std::sync::Arc;

use bytes::Bytes;
use mqlog_protocol::produce_client::ProduceRequestWriter;
use mqlog_protocol::{EncodeError, TopicRef};
use mqlog_record::HEADER_LEN;

use super::batch::Slot;
use crate::ClientError;

/// The newest version that is spoken; it names topics by id.
pub(crate) const NEWEST: i16 = 13;
/// The newest that names them by name.
pub(crate) const NEWEST_BY_NAME: i16 = 12;
/// The first with zstd.
pub(crate) const FIRST_ZSTD: i16 = 7;
/// Of topics that have no id.
pub(crate) const NO_ID: [u8; 16] = [0; 16];

/// One batch in a request.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) slot: Slot,
    pub(crate) topic: Arc<str>,
    pub(crate) header: [u8; HEADER_LEN],
    pub(crate) records: Bytes,
}

/// The body of a request, in pieces; `parts` are brought into its order. `id` knows topics' ids.
pub(crate) fn encode(
    version: i16,
    acks: i16,
    timeout_ms: i32,
    parts: &mut [Part],
    id: impl Fn(&str) -> [u8; 16],
) -> Result<Vec<Bytes>, ClientError> {
    parts.sort_by_key(|part| part.slot.topic);
    let mut out = Vec::with_capacity(64 + parts.len() * (HEADER_LEN + 16));
    let cuts = write(&mut out, version, acks, timeout_ms, parts, id);
    let cuts = cuts.map_err(|error| ClientError::encode(&error))?;
    let out = Bytes::from(out);
    let mut pieces = Vec::with_capacity(2 * parts.len() + 1);
    let mut done = 0;
    for (cut, part) in cuts.into_iter().zip(parts.iter()) {
        pieces.push(out.slice(done..cut));
        pieces.push(part.records.clone());
        done = cut;
    }
    pieces.push(out.slice(done..));
    Ok(pieces)
}

fn write(
    out: &mut Vec<u8>,
    version: i16,
    acks: i16,
    timeout_ms: i32,
    parts: &[Part],
    id: impl Fn(&str) -> [u8; 16],
) -> Result<Vec<usize>, EncodeError> {
    let topics = parts.chunk_by(|one, other| one.slot.topic == other.slot.topic);
    let count = topics.clone().count();
    let mut writer = ProduceRequestWriter::new(out, version, acks, timeout_ms, count)?;
    let mut cuts = Vec::with_capacity(parts.len());
    for parts in topics {
        if let Some(first) = parts.first() {
            let topic = match version > NEWEST_BY_NAME {
                true => TopicRef::Id(id(&first.topic)),
                false => TopicRef::Name(&first.topic),
            };
            writer.topic(topic, parts.len())?;
        }
        for part in parts {
            cuts.push(writer.partition(part.slot.partition, &part.header, part.records.len())?);
        }
    }
    writer.finish();
    Ok(cuts)
}
