//! Work on partitions' files that the control plane orders; it runs in the pool.

use mqlog_log::{Partition, TopicId};
use mqlog_protocol::ErrorCode;
use std::sync::Arc;

use crate::core::Core;

/// One piece of work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileOp {
    /// DeleteRecords: moves the log start to `offset` (-1: the high watermark), durably, and
    /// removes what lies wholly below. Its value is the new log start.
    DeleteRecords {
        /// Topic.
        topic_id: TopicId,
        /// Partition.
        partition: i32,
        /// First offset to keep.
        offset: i64,
    },
    /// Retention: removes the segments that end at or below `offset`. Its value is the new log
    /// start.
    AdvanceLogStart {
        /// Topic.
        topic_id: TopicId,
        /// Partition.
        partition: i32,
        /// First offset to keep.
        offset: i64,
    },
}

/// A value, or Kafka's error code and what happened in words.
pub(crate) type FileResult = Result<i64, (i16, String)>;

pub(crate) fn run(core: &Core, op: &FileOp) -> FileResult {
    match op {
        FileOp::DeleteRecords {
            topic_id,
            partition,
            offset,
        } => {
            let partition = find(core, topic_id, *partition)?;
            partition
                .delete_records(*offset)
                .map_err(|e| (e.code(), e.to_string()))
        }
        FileOp::AdvanceLogStart {
            topic_id,
            partition,
            offset,
        } => {
            let partition = find(core, topic_id, *partition)?;
            partition
                .advance_log_start(*offset)
                .map_err(|e| (e.code(), e.to_string()))?;
            Ok(partition.log_start())
        }
    }
}

fn find(core: &Core, topic_id: &TopicId, index: i32) -> Result<Arc<Partition>, (i16, String)> {
    core.dir.partition(*topic_id, index).ok_or_else(|| {
        let code = ErrorCode::UnknownTopicOrPartition;
        (
            code as i16,
            format!("this broker has no partition {index} of that topic"),
        )
    })
}
