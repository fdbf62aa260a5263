//! Batches as a producer sends them, each with bytes that no other has.

use std::sync::Arc;

use mqlog_log::sim::SimRng;
use mqlog_record::{BatchBuilder, BatchHeader, Codec};

/// Bytes before this are the broker's: base offset, length, leader epoch.
const PRODUCER_PART: usize = 16;

/// A batch that was sent at least once.
#[derive(Debug)]
pub struct Sent {
    /// Tells it from every other batch of the run.
    pub serial: u64,
    pub bytes: Vec<u8>,
    pub header: BatchHeader,
}

impl Sent {
    /// Whether stored bytes are this batch.
    pub fn is(&self, stored: &[u8]) -> bool {
        stored.get(PRODUCER_PART..) == self.bytes.get(PRODUCER_PART..)
    }
}

/// A batch of one to four records around `serial`, which makes it unique.
pub fn batch(
    rng: &mut SimRng,
    serial: u64,
    now_ms: i64,
    producer: Option<(i64, i16, i32)>,
) -> Arc<Sent> {
    let mut builder = BatchBuilder::new(Codec::None);
    if let Some((id, epoch, sequence)) = producer {
        builder = builder.producer(id, epoch, sequence);
    }
    for nth in 0..1 + rng.index(4) {
        let len = match rng.below(10) {
            0 => rng.index(1_500),
            1..=3 => rng.index(400),
            _ => rng.index(60),
        };
        let mut value = serial.to_le_bytes().to_vec();
        value.push(nth as u8);
        value.resize(value.len() + len, rng.next_u64() as u8);
        builder
            .append(Some(&serial.to_le_bytes()), Some(&value), now_ms, &[])
            .unwrap();
    }
    let bytes = builder.build().unwrap();
    let header = BatchHeader::parse(&bytes).unwrap();
    Arc::new(Sent {
        serial,
        bytes,
        header,
    })
}
