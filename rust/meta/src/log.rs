//! The local metadata log: proposals in, durable records out, images so that it stays short.
//!
//! A log of our own engine in `meta/`. One batch is one proposal: all of its records count or
//! none. Its rules are stricter than a topic's: a hole after the image in use refuses the start.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use mqlog_log::{
    check_batch, AppendMode, DataDir, HoleKind, LogConfig, Partition, ReadError, ReadRange,
    ReadUpTo,
};
use mqlog_record::{BatchBuilder, Batches, Codec, OpenBatch};

use crate::error::MetaError;
use crate::snapshot::{decode_image, encode_image, SnapshotError, IMAGE_VERSION};
use crate::{Image, MetaRecord};

/// Largest proposal, in bytes of its batch.
const MAX_PROPOSAL: usize = 64 << 20;
/// Proposals between two images.
const IMAGE_INTERVAL: u64 = 1_000;
/// Producer ids in a block.
const ID_BLOCK: i64 = 1_000;
/// Blocks passed over when the end of the log was cut: they may have been given out.
const SKIPPED_BLOCKS: i64 = 1_000;
/// Rounds of finding damage, or a wrong index, before a read is given up.
const CHECKS: usize = 8;
const IMAGE_PREFIX: &str = "image-";
/// No image is ever this large.
const IMAGE_LIMIT: u64 = 1 << 30;

/// The writer of the metadata: one per data directory, on one thread.
pub struct MetaLog {
    dir: Arc<DataDir>,
    partition: Arc<Partition>,
    image: Image,
    /// Proposals since the newest image.
    since_image: u64,
    /// Offset of the image before the newest: the log is kept from there.
    newest_image: i64,
    was_cut: bool,
    /// A proposal was written and could not be flushed: nobody knows whether it counts, so
    /// nothing may follow it.
    unsettled: Option<String>,
}

impl MetaLog {
    /// Reads the newest usable image and the log after it.
    pub fn open(dir: &Arc<DataDir>) -> Result<(MetaLog, Image), MetaError> {
        let partition = dir.open_meta(Arc::new(config())).map_err(engine)?;
        let was_cut = partition.was_cut_at_end().map_err(engine)?;
        if was_cut {
            dir.believe_log_epochs();
        }
        let (image, from) = newest_image(dir, &partition)?;
        let mut log = MetaLog {
            dir: dir.clone(),
            partition,
            image,
            since_image: 0,
            newest_image: from,
            was_cut,
            unsettled: None,
        };
        log.replay(from)?;
        if log.was_cut {
            let next = log.image.next_producer_id() + SKIPPED_BLOCKS * ID_BLOCK;
            log.propose(&[MetaRecord::ProducerIds { next }])?;
        }
        let image = log.image.clone();
        Ok((log, image))
    }

    /// Whether the log's end was cut, by this start or by one that got no further: what it names
    /// may then be incomplete, so that nothing it does not name may be moved away.
    pub fn was_cut(&self) -> bool {
        self.was_cut
    }

    /// The offset after the last record.
    pub fn log_end(&self) -> i64 {
        self.partition.log_end()
    }

    /// Makes records durable, all or none. A record that does not fit is refused before anything
    /// is written.
    pub fn propose(&mut self, records: &[MetaRecord]) -> Result<(), MetaError> {
        if records.is_empty() {
            return Ok(());
        }
        if let Some(reason) = &self.unsettled {
            return Err(MetaError::Unsettled(reason.clone()));
        }
        let mut image = self.image.clone();
        image.apply_all(records)?;
        let now_ms = now_ms();
        let mut batch = encode(records, now_ms)?;
        if batch.len() > MAX_PROPOSAL {
            return Err(MetaError::TooLarge {
                bytes: batch.len(),
                limit: MAX_PROPOSAL,
            });
        }
        let checked = check_batch(&mut batch, &config(), false, now_ms).map_err(engine)?;
        let mut answers = Vec::with_capacity(1);
        self.partition
            .append(&mut [checked], AppendMode::Assign, &mut answers, now_ms);
        for answer in answers {
            answer.map_err(engine)?;
        }
        if let Err(error) = self.dir.flush_partition(&self.partition) {
            self.unsettled = Some(error.to_string());
            return Err(engine(error));
        }
        self.image = image;
        self.since_image += 1;
        if self.since_image >= IMAGE_INTERVAL {
            // The proposal is durable; an image that cannot be written is tried again next time.
            let _ = self.write_image();
        }
        Ok(())
    }

    /// Writes the image of everything so far and drops the log before the image that was newest.
    pub fn write_image(&mut self) -> Result<(), MetaError> {
        let offset = self.partition.log_end();
        if offset == self.newest_image {
            return Ok(());
        }
        let path = image_path(&self.dir, offset);
        self.dir
            .replace_file(&path, &encode_image(&self.image, offset))
            .map_err(engine)?;
        let before = std::mem::replace(&mut self.newest_image, offset);
        self.since_image = 0;
        self.partition.advance_log_start(before).map_err(engine)?;
        for (offset, path) in image_files(&self.dir)? {
            if offset < before {
                // One too many does no harm.
                let _ = self.dir.disk().unlink(&path);
            }
        }
        Ok(())
    }

    fn refuse_holes(&self, from: i64) -> Result<(), MetaError> {
        let bad = |hole: &&mqlog_log::Hole| hole.to > from && hole.kind != HoleKind::Cut;
        let Some(hole) = self.partition.holes().iter().find(bad).copied() else {
            return Ok(());
        };
        Err(MetaError::Log(format!(
            "offsets {} to {} are {} in {}/{:020}.log: later records cannot be trusted; restore \
             meta/ from a backup",
            hole.from,
            hole.to,
            hole.kind.name(),
            self.partition.directory().display(),
            hole.segment,
        )))
    }

    fn replay(&mut self, from: i64) -> Result<(), MetaError> {
        let mut offset = from;
        let mut bytes = Vec::new();
        while offset < self.partition.log_end() {
            let range = self.checked(offset, from)?;
            bytes.clear();
            range.read_into(&mut bytes).map_err(engine)?;
            for batch in Batches::new(&bytes) {
                let batch = batch.map_err(|bad| engine(bad.error))?;
                if batch.header.next_offset() > from {
                    self.replay_batch(batch.bytes)?;
                    self.since_image += 1;
                }
            }
            if range.next_offset <= offset {
                return Err(engine(format!("it cannot be read beyond offset {offset}")));
            }
            offset = range.next_offset;
        }
        Ok(())
    }

    /// Batches from `offset` on, compared with their checksums.
    fn checked(&self, offset: i64, from: i64) -> Result<ReadRange, MetaError> {
        for _ in 0..CHECKS {
            // A hole that was found by the last round refuses the start here.
            self.refuse_holes(from)?;
            let read = self
                .partition
                .read_blocking(offset, MAX_PROPOSAL, true, ReadUpTo::LogEnd);
            match read.and_then(|range| range.check().map(|()| range)) {
                Err(ReadError::NeedsPool) => {}
                result => return result.map_err(engine),
            }
        }
        Err(engine(format!("offset {offset} cannot be checked")))
    }

    fn replay_batch(&mut self, batch: &[u8]) -> Result<(), MetaError> {
        let open = OpenBatch::new(batch, MAX_PROPOSAL).map_err(engine)?;
        for record in open.records() {
            let record = record.map_err(engine)?;
            let offset = record.offset;
            let decoded = MetaRecord::decode(record.value.unwrap_or_default())
                .map_err(|source| MetaError::Decode { offset, source })?;
            self.image
                .apply(&decoded)
                .map_err(|source| MetaError::Apply { offset, source })?;
        }
        Ok(())
    }
}

fn config() -> LogConfig {
    LogConfig {
        segment_bytes: 16 << 20,
        segment_ms: i64::MAX,
        max_message_bytes: MAX_PROPOSAL,
        retention_ms: -1,
        ..LogConfig::default()
    }
}

fn engine(error: impl std::fmt::Display) -> MetaError {
    MetaError::Log(error.to_string())
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as i64)
}

fn encode(records: &[MetaRecord], now_ms: i64) -> Result<Vec<u8>, MetaError> {
    let mut builder = BatchBuilder::new(Codec::None);
    for record in records {
        builder
            .append(None, Some(&record.to_bytes()), now_ms, &[])
            .map_err(engine)?;
    }
    builder.build().map_err(engine)
}

fn image_path(dir: &DataDir, offset: i64) -> PathBuf {
    dir.path()
        .join("meta")
        .join(format!("{IMAGE_PREFIX}{offset:020}"))
}

/// Image files, oldest first.
fn image_files(dir: &DataDir) -> Result<Vec<(i64, PathBuf)>, MetaError> {
    let meta = dir.path().join("meta");
    let names = dir.disk().list(&meta).map_err(|source| MetaError::Io {
        path: meta.display().to_string(),
        what: "list",
        source,
    })?;
    let offset = |name: &str| name.strip_prefix(IMAGE_PREFIX)?.parse::<i64>().ok();
    let mut files: Vec<(i64, PathBuf)> = names
        .iter()
        .filter_map(|name| Some((offset(name)?, meta.join(name))))
        .collect();
    files.sort();
    Ok(files)
}

/// The newest image that can be read, and where the log goes on after it.
fn newest_image(dir: &DataDir, partition: &Partition) -> Result<(Image, i64), MetaError> {
    let mut skipped = Vec::new();
    let mut found = (Image::default(), 0);
    for (_, path) in image_files(dir)?.into_iter().rev() {
        let bytes =
            mqlog_log::disk::read_file(&**dir.disk(), &path, IMAGE_LIMIT).map_err(|source| {
                MetaError::Io {
                    path: path.display().to_string(),
                    what: "read",
                    source,
                }
            })?;
        match decode_image(&bytes) {
            Ok(image) => {
                found = image;
                break;
            }
            Err(SnapshotError::Newer(version)) => {
                return Err(MetaError::NewerImage {
                    path: path.display().to_string(),
                    version,
                    ours: IMAGE_VERSION,
                })
            }
            Err(error) => skipped.push(format!("{}: {error}", path.display())),
        }
    }
    let log_start = partition.log_start();
    if log_start > found.1 {
        return Err(MetaError::Gap {
            log_start,
            image: found.1,
            detail: skipped.join("; "),
        });
    }
    if partition.log_end() < found.1 {
        return Err(MetaError::Log(format!(
            "it ends at offset {} but the image stands for {}: its end is gone; restore meta/ \
             from a backup",
            partition.log_end(),
            found.1,
        )));
    }
    Ok(found)
}
