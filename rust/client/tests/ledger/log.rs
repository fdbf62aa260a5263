//! Partitions, and Kafka's rules for what may be appended to them.

use std::collections::{HashMap, VecDeque};

use mqlog_protocol::ErrorCode;
use mqlog_record::{verify_crc, Batches};

use super::{Fault, State};

/// One batch as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    pub id: i64,
    pub epoch: i16,
    pub sequence: i32,
    pub count: i32,
    pub acks: i16,
    pub codec: String,
    pub size: usize,
}

#[derive(Debug, Default)]
pub struct Partition {
    pub leader: usize,
    pub epoch: i32,
    pub values: Vec<Vec<u8>>,
    pub batches: Vec<Written>,
    pub(super) producers: HashMap<i64, Known>,
}

/// What is known of a producer: its epoch, and first and last number and offset of its last
/// batches.
pub(super) type Known = (i16, VecDeque<(i32, i32, i64)>);

impl State {
    pub(super) fn take(
        &mut self,
        node: usize,
        index: usize,
        acks: i16,
        bytes: &[u8],
        fault: Fault,
    ) -> Result<i64, ErrorCode> {
        let partition = &mut self.partitions[index];
        if let Fault::Refuse(code) = fault {
            return Err(code);
        }
        if partition.leader != node {
            return Err(ErrorCode::NotLeaderOrFollower);
        }
        if bytes.len() > self.max_batch {
            return Err(ErrorCode::MessageTooLarge);
        }
        assert!(verify_crc(bytes), "the checksum");
        let mut batches = Batches::new(bytes);
        let batch = batches.next().unwrap().unwrap();
        assert!(batches.next().is_none(), "one batch for each partition");
        let open = batch.open(1 << 24).unwrap();
        let header = *open.header();
        let records: Vec<_> = open.records().collect::<Result<_, _>>().unwrap();
        assert_eq!(records.len(), header.records_count as usize);
        assert_eq!(header.last_offset_delta, header.records_count - 1);
        let times = records.iter().map(|record| record.timestamp);
        assert_eq!(times.max(), Some(header.max_timestamp));
        let offset = partition.values.len() as i64;
        if header.producer_id >= 0 {
            if let Some(known) = partition.check(&header, offset)? {
                return Ok(known);
            }
        }
        let values = records
            .iter()
            .map(|record| record.value.unwrap_or_default().to_vec());
        partition.values.extend(values);
        partition.batches.push(Written {
            id: header.producer_id,
            epoch: header.producer_epoch,
            sequence: header.base_sequence,
            count: header.records_count,
            acks,
            codec: header.codec().unwrap().to_string(),
            size: bytes.len(),
        });
        match fault {
            Fault::Lie(code) => Err(code),
            _ => Ok(offset),
        }
    }
}

impl Partition {
    /// What a broker that was started anew knows of its producers.
    pub fn forget_producers(&mut self) {
        self.producers.clear();
    }

    /// The last record is lost, as by an unclean election.
    pub fn truncate(&mut self, count: usize) {
        self.values.truncate(self.values.len() - count);
        for (_, last) in self.producers.values_mut() {
            last.pop_back();
        }
    }

    fn check(
        &mut self,
        header: &mqlog_record::BatchHeader,
        offset: i64,
    ) -> Result<Option<i64>, ErrorCode> {
        let (first, count) = (header.base_sequence, header.records_count);
        let last = first.wrapping_add(count - 1) & i32::MAX;
        let entry = self.producers.entry(header.producer_id);
        let known = matches!(entry, std::collections::hash_map::Entry::Occupied(_));
        let (epoch, batches) = entry.or_insert((header.producer_epoch, VecDeque::new()));
        if header.producer_epoch < *epoch {
            return Err(ErrorCode::InvalidProducerEpoch);
        }
        if header.producer_epoch > *epoch {
            if first != 0 {
                return Err(ErrorCode::OutOfOrderSequenceNumber);
            }
            *epoch = header.producer_epoch;
            batches.clear();
        } else if let Some(same) = batches.iter().find(|one| (one.0, one.1) == (first, last)) {
            return Ok(Some(same.2));
        } else if known {
            let next = batches
                .back()
                .map_or(0, |one| one.1.wrapping_add(1) & i32::MAX);
            if first != next {
                return Err(ErrorCode::OutOfOrderSequenceNumber);
            }
        }
        batches.push_back((first, last, offset));
        if batches.len() > 5 {
            batches.pop_front();
        }
        Ok(None)
    }
}
