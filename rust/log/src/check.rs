//! What a batch must be before it may take the appender's lock.

use mqlog_record::{
    set_log_append_time, validate_header, validate_records, BatchHeader, Codec, OpenBatch,
    RecordError,
};

use crate::{AppendError, LogConfig};

/// Most bytes a batch may open to while it is being checked.
const MAX_UNCOMPRESSED: usize = 64 << 20;
/// Most refused records that are named one by one.
const MAX_NAMED: usize = 100;

/// A batch that passed the checks, still in the buffer it came in.
#[derive(Debug)]
pub struct Checked<'a> {
    pub(crate) header: BatchHeader,
    pub(crate) bytes: &'a mut [u8],
}

impl Checked<'_> {
    /// The batch's header; offset and leader epoch are right after the append.
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }
}

/// Checks that `bytes` are one batch the topic takes. A LogAppendTime topic stamps it with
/// `now_ms`. Takes no lock. `from_client` refuses what only a broker may write.
pub fn check_batch<'a>(
    bytes: &'a mut [u8],
    cfg: &LogConfig,
    from_client: bool,
    now_ms: i64,
) -> Result<Checked<'a>, AppendError> {
    let mut header = validate_header(bytes, cfg.max_message_bytes).map_err(AppendError::Record)?;
    if from_client {
        if header.is_control() {
            return Err(AppendError::Control);
        }
        if header.is_transactional() {
            return Err(AppendError::Transactional);
        }
        if header.is_log_append_time() {
            return Err(AppendError::TimestampType);
        }
    }
    if cfg.validate_records || (cfg.compact && !header.is_control()) {
        open(bytes, cfg)?;
    }
    if cfg.log_append_time && !header.is_control() {
        set_log_append_time(bytes, now_ms);
        header = BatchHeader::parse(bytes).map_err(AppendError::Record)?;
    } else if from_client {
        check_timestamps(&header, cfg, now_ms)?;
    }
    Ok(Checked { header, bytes })
}

/// The header tells the first and the largest timestamp; only these are looked at.
fn check_timestamps(header: &BatchHeader, cfg: &LogConfig, now_ms: i64) -> Result<(), AppendError> {
    let least = now_ms.saturating_sub(cfg.ts_before_max_ms);
    let most = now_ms.saturating_add(cfg.ts_after_max_ms);
    let refused = |timestamp, setting| {
        Err(AppendError::Timestamp {
            timestamp,
            least,
            most,
            setting,
        })
    };
    if header.max_timestamp > most {
        return refused(header.max_timestamp, "message.timestamp.after.max.ms");
    }
    let first = header.base_timestamp;
    if first < least && first != -1 {
        return refused(first, "message.timestamp.before.max.ms");
    }
    Ok(())
}

fn open(bytes: &[u8], cfg: &LogConfig) -> Result<(), AppendError> {
    let info = validate_records(bytes, MAX_UNCOMPRESSED).map_err(AppendError::Record)?;
    if !(cfg.compact && info.null_keys) {
        return Ok(());
    }
    let open = OpenBatch::new(bytes, MAX_UNCOMPRESSED).map_err(AppendError::Record)?;
    let mut errors = Vec::new();
    for record in open.records() {
        let record = record.map_err(AppendError::Record)?;
        if record.key.is_none() && errors.len() < MAX_NAMED {
            let text = "Compacted topic cannot accept message without key".to_owned();
            errors.push((record.offset_delta, text));
        }
    }
    Err(AppendError::Records {
        message: "One or more records have been rejected".to_owned(),
        errors,
    })
}

/// Whether a header that failed its checksum may still be believed about its length and offsets:
/// the bytes of a damaged batch can hold what looks like one.
pub(crate) fn plausible(bytes: &[u8]) -> Option<BatchHeader> {
    let header = BatchHeader::parse(bytes).ok()?;
    fits(&header).then_some(header)
}

/// Whether the fields of a header agree with each other.
pub(crate) fn fits(header: &BatchHeader) -> bool {
    let count = header.records_count;
    let body = header.size().saturating_sub(mqlog_record::HEADER_LEN);
    let codec: Result<Codec, RecordError> = header.codec();
    count >= 1
        && header.base_offset >= 0
        && header.last_offset_delta == count - 1
        && match codec {
            Ok(Codec::None) => (count as usize).saturating_mul(7) <= body,
            Ok(_) => true,
            Err(_) => false,
        }
}
