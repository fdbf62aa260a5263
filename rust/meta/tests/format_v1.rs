//! A data directory that format version 1 wrote, kept in `tests/fixtures/format_v1` and never
//! edited: every later build reads all of it, after a clean shutdown and after a crash.
//!
//! `write_the_fixture` made it, once. What each small file's bytes mean is pinned by the unit tests
//! of the crates that own them.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::Arc;

use mqlog_log::{
    check_batch, AppendMode, Appended, Clock, DataDir, DataDirOptions, EpochStart, HoleKind,
    LogConfig, Partition, ReadUpTo, RealDisk, TopicId,
};
use mqlog_meta::{
    decode_image, encode_image, Image, MetaLog, MetaRecord, RESOURCE_BROKER, RESOURCE_TOPIC,
};
use mqlog_record::{BatchBuilder, Batches, Codec};

const NOW: i64 = 1_750_000_000_000;
const TOPIC: TopicId = [0x11; 16];
const END: ReadUpTo = ReadUpTo::LogEnd;

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/format_v1")
}

/// Each look is a second later.
struct Ticking(AtomicI64);

impl Clock for Ticking {
    fn now_ms(&self) -> i64 {
        self.0.fetch_add(1_000, Ordering::SeqCst)
    }

    fn mono_ns(&self) -> u64 {
        0
    }
}

fn open(path: &Path) -> Arc<DataDir> {
    let mut options = DataDirOptions::new(path);
    options.reserve_bytes = 0;
    options.node_id = 7;
    options.cluster_id = Some("a-cluster-of-format-1".to_owned());
    let clock = Arc::new(Ticking(AtomicI64::new(NOW)));
    Arc::new(DataDir::open(Arc::new(RealDisk), clock, options).unwrap())
}

fn config() -> Arc<LogConfig> {
    Arc::new(LogConfig {
        segment_bytes: 1_500,
        segment_ms: i64::MAX,
        index_interval_bytes: 200,
        ..LogConfig::default()
    })
}

type Headers = Vec<(Vec<u8>, Option<Vec<u8>>)>;

/// A record as a reader gets it.
#[derive(Debug, PartialEq, Eq)]
struct Record {
    offset: i64,
    epoch: i32,
    timestamp: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Headers,
}

/// Record `offset`: null and empty keys and values, headers in order with a duplicate and a null.
fn record(offset: i64, epoch: i32) -> Record {
    let text = |what: &str| Some(format!("{what} {offset}").into_bytes());
    let header = |key: &str, value: Option<Vec<u8>>| (key.as_bytes().to_vec(), value);
    Record {
        offset,
        epoch,
        timestamp: NOW + offset * 10 - offset % 3,
        key: [None, Some(Vec::new()), text("key")][(offset % 3) as usize].clone(),
        value: [
            text("a value of"),
            None,
            Some(vec![b'v'; 60]),
            Some(Vec::new()),
        ][(offset % 4) as usize]
            .clone(),
        headers: match offset % 5 {
            0 => Vec::new(),
            _ => vec![
                header("b", text("first")),
                header("a", None),
                header("b", Some(Vec::new())),
            ],
        },
    }
}

fn batch(builder: BatchBuilder, first: i64, count: i64) -> Vec<u8> {
    let mut builder = builder;
    for offset in first..first + count {
        let record = record(offset, 0);
        let headers: Vec<_> = record
            .headers
            .iter()
            .map(|(key, value)| (key.as_slice(), value.as_deref()))
            .collect();
        builder
            .append(
                record.key.as_deref(),
                record.value.as_deref(),
                record.timestamp,
                &headers,
            )
            .unwrap();
    }
    builder.build().unwrap()
}

fn append(partition: &Partition, mut bytes: Vec<u8>) -> Appended {
    let checked = check_batch(&mut bytes, &partition.config(), true, NOW).unwrap();
    let mut out = Vec::new();
    partition.append(&mut [checked], AppendMode::Assign, &mut out, NOW);
    out.remove(0).unwrap()
}

/// Producer 40's batch at `first`, its `n`th of two records.
fn idempotent(n: i32, first: i64) -> Vec<u8> {
    batch(
        BatchBuilder::new(Codec::None).producer(40, 1, n * 2),
        first,
        2,
    )
}

const CODECS: [Codec; 5] = [
    Codec::None,
    Codec::Gzip,
    Codec::Snappy,
    Codec::Lz4,
    Codec::Zstd,
];

fn topic_records() -> Vec<MetaRecord> {
    let mut records = vec![MetaRecord::Topic {
        id: TOPIC,
        name: "flights".to_owned(),
    }];
    records.extend((0..2).map(|index| MetaRecord::Partition {
        topic_id: TOPIC,
        index,
        leader: 7,
        leader_epoch: 0,
        replicas: vec![7],
        isr: vec![7],
    }));
    records.push(set(
        RESOURCE_TOPIC,
        "flights",
        "segment.bytes",
        Some("1500"),
    ));
    records
}

fn set(resource_type: i8, name: &str, key: &str, value: Option<&str>) -> MetaRecord {
    MetaRecord::Config {
        resource_type,
        name: name.to_owned(),
        key: key.to_owned(),
        value: value.map(str::to_owned),
    }
}

/// The metadata's proposals; an image is written after the second and the fifth.
fn proposals() -> Vec<Vec<MetaRecord>> {
    let gone = MetaRecord::Topic {
        id: [0x22; 16],
        name: "gone".to_owned(),
    };
    vec![
        topic_records(),
        vec![
            gone,
            set(RESOURCE_BROKER, "", "log.retention.ms", Some("1000")),
        ],
        vec![MetaRecord::RemoveTopic { id: [0x22; 16] }],
        vec![MetaRecord::ProducerIds { next: 1_000 }],
        vec![set(RESOURCE_TOPIC, "flights", "segment.bytes", None)],
        vec![MetaRecord::RaiseLeaderEpochs { leader: 7 }],
        vec![set(
            RESOURCE_TOPIC,
            "flights",
            "compression.type",
            Some("producer"),
        )],
    ]
}

/// Offsets of partition 1: a crash tore the batch at 4 and 5.
const PARTITION_1: [i64; 6] = [0, 1, 2, 3, 6, 7];

fn write(path: &Path) {
    let dir = open(path);
    let (mut meta, _) = MetaLog::open(&dir).unwrap();
    let wanted = |index| (TOPIC, index, config(), 0);
    let made = dir.create_partitions(&[wanted(0), wanted(1)]).unwrap();
    let proposals = proposals();
    for (n, records) in proposals[..6].iter().enumerate() {
        meta.propose(records).unwrap();
        if n == 1 || n == 4 {
            meta.write_image().unwrap();
        }
    }
    for (n, codec) in (0..).zip(CODECS) {
        append(&made[0], batch(BatchBuilder::new(codec), n * 3, 3));
    }
    dir.checkpoint(false).unwrap();
    for n in 0..3 {
        append(&made[1], batch(BatchBuilder::new(Codec::Lz4), n * 2, 2));
    }
    dir.flush_once().unwrap();
    drop((made, meta, dir));
    let torn = path.join(format!("topics/{}/1/{:020}.log", "11".repeat(16), 0));
    let bytes = std::fs::read(&torn).unwrap();
    std::fs::write(&torn, &bytes[..bytes.len() - 20]).unwrap();

    let dir = open(path);
    let (mut meta, _) = MetaLog::open(&dir).unwrap();
    let made: Vec<_> = dir.open_partitions(&[wanted(0), wanted(1)]);
    let made: Vec<_> = made.into_iter().map(|opened| opened.2.unwrap()).collect();
    meta.propose(&proposals[6]).unwrap();
    made[0].set_leader_epoch(2);
    for n in 0..6 {
        append(&made[0], idempotent(n, 15 + i64::from(n) * 2));
    }
    made[0].set_leader_epoch(5);
    for n in 0..8 {
        append(
            &made[0],
            batch(BatchBuilder::new(CODECS[n % 5]), 27 + n as i64 * 3, 3),
        );
    }
    made[1].set_leader_epoch(1);
    append(&made[1], batch(BatchBuilder::new(Codec::Zstd), 6, 2));
    dir.flush_once().unwrap();
    made[0].delete_records(2).unwrap();
    dir.shutdown();
    drop((made, meta, dir));
    std::fs::remove_file(path.join("lock")).unwrap();
}

/// Run by hand with `MQLOG_FIXTURE` = a directory that does not exist yet.
#[test]
#[ignore = "writes a new fixture; the one in the repository is never edited"]
fn write_the_fixture() {
    let path = PathBuf::from(std::env::var_os("MQLOG_FIXTURE").expect("MQLOG_FIXTURE is not set"));
    assert!(!path.exists(), "{} exists", path.display());
    write(&path);
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &to),
            false => drop(std::fs::copy(entry.path(), to).unwrap()),
        }
    }
}

fn read(partition: &Partition, mut offset: i64) -> Vec<Record> {
    let mut all = Vec::new();
    while offset < partition.log_end() {
        let range = partition.read_blocking(offset, 1 << 20, true, END).unwrap();
        range.check().unwrap();
        let mut bytes = Vec::new();
        range.read_into(&mut bytes).unwrap();
        for batch in Batches::new(&bytes) {
            let batch = batch.unwrap();
            let open = batch.open(1 << 20).unwrap();
            all.extend(open.records().map(|record| {
                let record = record.unwrap();
                let headers = record.headers();
                Record {
                    offset: record.offset,
                    epoch: batch.header.partition_leader_epoch,
                    timestamp: record.timestamp,
                    key: record.key.map(<[u8]>::to_vec),
                    value: record.value.map(<[u8]>::to_vec),
                    headers: headers
                        .map(|(key, value)| (key.to_vec(), value.map(<[u8]>::to_vec)))
                        .collect(),
                }
            }));
        }
        offset = range.next_offset;
    }
    all
}

fn epoch_of(offset: i64) -> i32 {
    match offset {
        0..15 => 0,
        15..27 => 2,
        _ => 5,
    }
}

fn check_metadata(dir: &Arc<DataDir>) {
    let (log, image) = MetaLog::open(dir).unwrap();
    let mut expected = Image::default();
    for records in proposals() {
        expected.apply_all(&records).unwrap();
    }
    assert_eq!(image, expected);
    assert!(!log.was_cut());
}

fn check_partition_0(partition: &Partition, clean: bool) {
    // DeleteRecords moved it; without a checkpoint it is the first segment's name again.
    assert_eq!(partition.log_start(), if clean { 2 } else { 0 });
    assert_eq!(partition.log_end(), 51);
    let expected: Vec<Record> = (0..51).map(|n| record(n, epoch_of(n))).collect();
    assert_eq!(read(partition, partition.log_start()), expected);
    for offset in 2..51 {
        let found = read(partition, offset);
        let first = expected
            .iter()
            .position(|r| r.offset == found[0].offset)
            .unwrap();
        assert!(
            found[0].offset <= offset && found == expected[first..],
            "from {offset}"
        );
    }
    let epochs: Vec<_> = partition.epoch_starts();
    let first = if clean { 2 } else { 0 };
    assert_eq!(
        epochs,
        [(0, first), (2, 15), (5, 27)].map(|(epoch, start)| EpochStart { epoch, start })
    );
    for probe in [NOW, NOW + 101, NOW + 333, NOW + 500] {
        let from = partition.log_start();
        let first = expected
            .iter()
            .find(|r| r.timestamp >= probe && r.offset >= from);
        let found = partition.offset_for_timestamp(probe, END).unwrap();
        assert_eq!(found.map(|found| found.offset), first.map(|r| r.offset));
    }
    let producers = partition.producers();
    assert_eq!(producers.len(), 1);
    let known: Vec<_> = producers[0]
        .batches
        .iter()
        .map(|b| (b.last_offset, b.last_sequence))
        .collect();
    assert_eq!((producers[0].id, producers[0].epoch), (40, 1));
    assert_eq!(known, [(18, 3), (20, 5), (22, 7), (24, 9), (26, 11)]);
    let again = append(partition, idempotent(5, 25));
    assert!(again.duplicate && again.base_offset == 25);
    let next = append(partition, idempotent(6, 51));
    assert!(!next.duplicate && next.base_offset == 51);
}

fn check_partition_1(partition: &Partition) {
    let expected: Vec<Record> = PARTITION_1
        .iter()
        .map(|n| record(*n, i32::from(*n > 5)))
        .collect();
    assert_eq!(read(partition, 0), expected);
    let holes: Vec<_> = partition
        .holes()
        .iter()
        .map(|h| (h.from, h.to, h.kind))
        .collect();
    assert_eq!(holes, [(4, 6, HoleKind::Cut)]);
    assert_eq!(read(partition, 4), expected[4..]);
    assert_eq!(
        append(partition, batch(BatchBuilder::new(Codec::None), 8, 1)).base_offset,
        8
    );
}

#[test]
fn images_and_records_are_written_as_they_were() {
    let meta = fixture().join("meta");
    for offset in [6, 9] {
        let bytes = std::fs::read(meta.join(format!("image-{offset:020}"))).unwrap();
        let (image, at) = decode_image(&bytes).unwrap();
        assert_eq!(
            (at, image.topic_count()),
            (offset, if offset == 6 { 2 } else { 1 })
        );
        assert_eq!(encode_image(&image, at), bytes);
    }
    let log = std::fs::read(meta.join(format!("{:020}.log", 0))).unwrap();
    let mut stored = Vec::new();
    for batch in Batches::new(&log) {
        let open = batch.unwrap().open(1 << 20).unwrap();
        for record in open.records() {
            let value = record.unwrap().value.unwrap();
            let record = MetaRecord::decode(value).unwrap();
            assert_eq!(record.to_bytes(), value);
            stored.push(record);
        }
    }
    assert_eq!(stored, proposals().concat());
}

#[test]
fn what_format_1_wrote_is_read() {
    for clean in [true, false] {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("data");
        copy(&fixture(), &path);
        if !clean {
            std::fs::remove_file(path.join("checkpoint")).unwrap();
            std::fs::remove_file(path.join("checkpoint.old")).unwrap();
        }
        let dir = open(&path);
        assert_eq!(dir.was_clean(), clean);
        assert_eq!(dir.identity().cluster_id, "a-cluster-of-format-1");
        assert_eq!(
            (dir.identity().node_id, dir.identity().directory_id.len()),
            (7, 22)
        );
        check_metadata(&dir);
        let mut opened = dir.open_partitions(&[(TOPIC, 0, config(), 5), (TOPIC, 1, config(), 1)]);
        let second = opened.pop().unwrap().2.unwrap();
        let first = opened.pop().unwrap().2.unwrap();
        for partition in [&first, &second] {
            let recovery = partition.recovery();
            assert_eq!((recovery.clean, recovery.lost_anything()), (clean, false));
        }
        check_partition_0(&first, clean);
        check_partition_1(&second);
        let cut: Vec<_> = std::fs::read_dir(path.join("cut")).unwrap().collect();
        assert_eq!(cut.len(), 1);
    }
}
