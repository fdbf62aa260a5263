//! What the scenario tests share: a data directory in a temporary place, a clock that is set by
//! hand, batches, and a reader that checks what it reads.
#![allow(dead_code, clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::Arc;

use mqlog_log::sim::{FsMode, SimDisk};
use mqlog_log::{
    check_batch, AppendError, AppendMode, Appended, Clock, DataDir, DataDirOptions, Disk,
    LogConfig, LogError, Partition, ReadError, ReadUpTo, RealDisk, TopicId,
};
use mqlog_record::{BatchBuilder, BatchHeader, Batches, Codec};
use tempfile::TempDir;

pub const TOPIC: TopicId = [0xab; 16];
pub const NOW: i64 = 1_700_000_000_000;
const STORAGE_ERROR: i16 = 56;

/// A clock that moves when told.
pub struct ManualClock(pub AtomicI64);

impl Clock for ManualClock {
    fn now_ms(&self) -> i64 {
        self.0.load(Ordering::SeqCst)
    }

    fn mono_ns(&self) -> u64 {
        (self.now_ms() - NOW + 1_000_000).max(0) as u64 * 1_000_000
    }
}

/// A data directory under test, without threads.
pub struct Bench {
    pub temp: TempDir,
    pub clock: Arc<ManualClock>,
    pub config: LogConfig,
    pub options: DataDirOptions,
    pub disk: Arc<dyn Disk>,
    dir: Option<DataDir>,
}

impl Bench {
    pub fn new() -> Bench {
        Bench::with(|_, _| {})
    }

    pub fn with(change: impl FnOnce(&mut DataDirOptions, &mut LogConfig)) -> Bench {
        Bench::on(Arc::new(RealDisk), change)
    }

    pub fn on(
        disk: Arc<dyn Disk>,
        change: impl FnOnce(&mut DataDirOptions, &mut LogConfig),
    ) -> Bench {
        let temp = tempfile::tempdir().unwrap();
        let mut options = DataDirOptions::new(temp.path().join("data"));
        options.reserve_bytes = 0;
        let mut config = LogConfig::default();
        change(&mut options, &mut config);
        let mut bench = Bench {
            temp,
            clock: Arc::new(ManualClock(AtomicI64::new(NOW))),
            config,
            options,
            disk,
            dir: None,
        };
        bench.open();
        bench
    }

    /// On a simulated disk, which can fail and be full.
    pub fn simulated(change: impl FnOnce(&mut DataDirOptions, &mut LogConfig)) -> (SimDisk, Bench) {
        let disk = SimDisk::new(11, FsMode::Ordered);
        let bench = Bench::on(Arc::new(disk.clone()), |options, config| {
            options.path = "/data".into();
            options.recovery_threads = 1;
            change(options, config);
        });
        (disk, bench)
    }

    pub fn try_open(&self) -> Result<DataDir, LogError> {
        DataDir::open(self.disk.clone(), self.clock.clone(), self.options.clone())
    }

    pub fn open(&mut self) {
        self.dir = Some(self.try_open().unwrap());
    }

    pub fn dir(&self) -> &DataDir {
        self.dir.as_ref().unwrap()
    }

    pub fn path(&self) -> PathBuf {
        self.options.path.clone()
    }

    pub fn partition_path(&self, index: i32) -> PathBuf {
        let topic: String = TOPIC.iter().map(|byte| format!("{byte:02x}")).collect();
        self.path()
            .join("topics")
            .join(topic)
            .join(index.to_string())
    }

    pub fn create(&self) -> Arc<Partition> {
        self.create_many(1).remove(0)
    }

    pub fn create_many(&self, n: i32) -> Vec<Arc<Partition>> {
        let config = Arc::new(self.config.clone());
        let wanted: Vec<_> = (0..n)
            .map(|index| (TOPIC, index, config.clone(), 0))
            .collect();
        self.dir().create_partitions(&wanted).unwrap()
    }

    /// Opens partition 0 as metadata with this leader epoch would.
    pub fn reopen_partition(&self, epoch: i32) -> Arc<Partition> {
        let config = Arc::new(self.config.clone());
        let mut opened = self.dir().open_partitions(&[(TOPIC, 0, config, epoch)]);
        opened.remove(0).2.unwrap()
    }

    /// A clean restart.
    pub fn restart(&mut self) -> Arc<Partition> {
        self.dir().shutdown();
        self.dir = None;
        self.open();
        self.reopen_partition(0)
    }

    /// The process dies; what the kernel has stays.
    pub fn kill(&mut self) -> Arc<Partition> {
        self.close();
        self.open();
        self.reopen_partition(0)
    }

    pub fn close(&mut self) {
        self.dir = None;
    }

    pub fn advance(&self, ms: i64) {
        self.clock.0.fetch_add(ms, Ordering::SeqCst);
    }

    pub fn append(&self, partition: &Partition, batch: &mut [u8]) -> Result<Appended, AppendError> {
        append_at(partition, &self.config, batch, self.clock.now_ms())
    }

    pub fn append_all(
        &self,
        partition: &Partition,
        batches: &mut [Vec<u8>],
    ) -> Vec<Result<Appended, AppendError>> {
        let now = self.clock.now_ms();
        let mut checked: Vec<_> = batches
            .iter_mut()
            .map(|batch| check_batch(batch, &self.config, true, now).unwrap())
            .collect();
        let mut out = Vec::new();
        partition.append(&mut checked, AppendMode::Assign, &mut out, now);
        out
    }
}

pub fn append_at(
    partition: &Partition,
    config: &LogConfig,
    batch: &mut [u8],
    now: i64,
) -> Result<Appended, AppendError> {
    let checked = check_batch(batch, config, true, now)?;
    let mut out = Vec::new();
    partition.append(&mut [checked], AppendMode::Assign, &mut out, now);
    out.remove(0)
}

/// A batch of `count` records of `len` bytes each, marked with `tag`.
pub fn batch(count: i32, len: usize, tag: u8) -> Vec<u8> {
    batch_at(count, len, tag, NOW)
}

pub fn batch_at(count: i32, len: usize, tag: u8, time: i64) -> Vec<u8> {
    let mut builder = BatchBuilder::new(Codec::None);
    for n in 0..count {
        builder
            .append(
                Some(&[n as u8]),
                Some(&vec![tag; len]),
                time + i64::from(n),
                &[],
            )
            .unwrap();
    }
    builder.build().unwrap()
}

pub fn idempotent(id: i64, epoch: i16, sequence: i32, count: i32) -> Vec<u8> {
    let mut builder = BatchBuilder::new(Codec::None).producer(id, epoch, sequence);
    for _ in 0..count {
        builder.append(None, Some(b"value"), NOW, &[]).unwrap();
    }
    builder.build().unwrap()
}

/// What a fetch from `offset` on gets, as a client would: checked first where that is due.
pub fn fetch(
    partition: &Partition,
    offset: i64,
    max_bytes: usize,
    up_to: ReadUpTo,
) -> Result<(i64, Vec<u8>), ReadError> {
    for _ in 0..100 {
        let range = match partition.read(offset, max_bytes, true, up_to) {
            Err(ReadError::NeedsPool) => partition.read_blocking(offset, max_bytes, true, up_to),
            result => result,
        };
        let range = match range {
            Err(ReadError::NeedsPool) => continue,
            result => result?,
        };
        match range.check() {
            Err(ReadError::NeedsPool) => continue,
            result => result?,
        }
        assert!(!range.needs_check());
        let mut bytes = Vec::new();
        range.read_into(&mut bytes)?;
        assert_eq!(bytes.len(), range.len);
        return Ok((range.next_offset, bytes));
    }
    panic!("a fetch at {offset} finds no end");
}

/// Headers of all batches from `offset` to the limit.
pub fn read_all(partition: &Partition, mut offset: i64, up_to: ReadUpTo) -> Vec<BatchHeader> {
    let mut headers = Vec::new();
    loop {
        let (next, bytes) = fetch(partition, offset, 64 << 10, up_to).unwrap();
        if bytes.is_empty() {
            return headers;
        }
        let mut walk = Batches::new(&bytes);
        let mut end = -1;
        for one in walk.by_ref() {
            let one = one.unwrap();
            assert!(one.verify_crc());
            end = one.header.next_offset();
            headers.push(one.header);
        }
        assert_eq!(walk.position(), bytes.len(), "only whole batches");
        assert!(next >= end && next > offset);
        offset = next;
    }
}

pub fn offsets(headers: &[BatchHeader]) -> Vec<(i64, i64)> {
    headers
        .iter()
        .map(|header| (header.base_offset, header.last_offset()))
        .collect()
}

/// Names in a directory that end like this, sorted.
pub fn files(dir: &Path, extension: &str) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(extension))
        .collect();
    names.sort();
    names
}

pub fn log_file(dir: &Path, base: i64) -> PathBuf {
    dir.join(format!("{base:020}.log"))
}

pub fn edit(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = std::fs::read(path).unwrap();
    change(&mut bytes);
    std::fs::write(path, bytes).unwrap();
}

/// What a produce was refused with, which is KAFKA_STORAGE_ERROR.
pub fn refused(answer: Result<Appended, AppendError>) -> String {
    let error = answer.unwrap_err();
    assert_eq!(error.code(), STORAGE_ERROR, "{error}");
    error.to_string()
}
