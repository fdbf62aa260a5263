//! Surgery on every kind of file in a data directory: bytes flipped, zeroed, taken out, put in or
//! cut off at head, middle and tail, and files that are gone. A start succeeds or says what it
//! refuses and how to go on; whatever is read back was written, at its offset.
//!
//! The metadata log and its images have theirs in `mqlog-meta`.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mqlog_log::disk::Disk;
use mqlog_log::sim::{FsMode, SimDisk, SimRng};
use mqlog_log::{DataDir, DataDirOptions, LogConfig, LogError, Partition, ReadError, ReadUpTo};
use mqlog_record::{BatchHeader, Batches};
use support::*;

const END: ReadUpTo = ReadUpTo::LogEnd;
/// Where metadata is after the last append.
const EPOCH: i32 = 4;

fn open(disk: &SimDisk) -> Result<DataDir, LogError> {
    let mut options = DataDirOptions::new("/data");
    options.reserve_bytes = 0;
    options.recovery_threads = 1;
    let clock = ManualClock(std::sync::atomic::AtomicI64::new(NOW));
    DataDir::open(Arc::new(disk.clone()), Arc::new(clock), options)
}

fn config() -> Arc<LogConfig> {
    Arc::new(LogConfig {
        segment_bytes: 3_000,
        index_interval_bytes: 300,
        ..LogConfig::default()
    })
}

fn partitions(dir: &DataDir) -> Vec<Arc<Partition>> {
    let wanted = [0, 1].map(|index| (TOPIC, index, config(), EPOCH));
    let opened = dir.open_partitions(&wanted).into_iter();
    opened.map(|(_, _, partition)| partition.unwrap()).collect()
}

/// No batch of the test has more bytes.
const LARGEST: usize = 2_300;

/// Bytes of every batch by partition and base offset.
type Written = BTreeMap<(i32, i64), Vec<u8>>;

/// A directory that has seen a good deal, and all that was written to it.
fn patient(clean: bool) -> (SimDisk, Written) {
    let disk = SimDisk::new(1, FsMode::Ordered);
    let mut written = Written::new();
    let mut put = |partition: &Partition, mut bytes: Vec<u8>| {
        let appended = append_at(partition, &config(), &mut bytes, NOW).unwrap();
        written.insert((partition.index(), appended.base_offset), bytes);
    };
    let dir = open(&disk).unwrap();
    let made = [0, 1].map(|index| (TOPIC, index, config(), 0));
    let made = dir.create_partitions(&made).unwrap();
    for n in 0..6 {
        for partition in &made {
            put(partition, batch(1 + n % 3, 100 + n as usize * 30, n as u8));
            put(partition, idempotent(7, 0, n * 2, 2));
        }
    }
    dir.checkpoint(false).unwrap();
    put(&made[1], batch(2, 100, 99));
    dir.flush_once().unwrap();
    drop((made, dir));
    // The last batch of partition 1 is torn by a crash: a hole, and a file in `cut/`.
    let (_, last) = written.pop_last().unwrap();
    let log = *logs(&disk, 1).last().unwrap();
    alter(&disk, &log_path(1, log), |bytes| {
        assert!(bytes.ends_with(&last));
        bytes.truncate(bytes.len() - 30);
    });
    let mut put = |partition: &Partition, mut bytes: Vec<u8>| {
        let appended = append_at(partition, &config(), &mut bytes, NOW).unwrap();
        written.insert((partition.index(), appended.base_offset), bytes);
    };
    let dir = open(&disk).unwrap();
    for partition in partitions(&dir) {
        for n in 6..20 {
            partition.set_leader_epoch(n / 5);
            put(&partition, batch(1 + n % 3, 100 + n as usize * 30, n as u8));
            put(&partition, idempotent(7, 0, n * 2, 2));
            if n == 11 {
                dir.checkpoint(false).unwrap();
            }
        }
    }
    dir.flush_once().unwrap();
    if clean {
        dir.shutdown();
    }
    drop(dir);
    disk.kill();
    assert!(disk.files().len() > 30, "{:?}", disk.files());
    (disk, written)
}

fn log_path(index: i32, base: i64) -> PathBuf {
    let topic = "ab".repeat(16);
    Path::new("/data/topics")
        .join(topic)
        .join(index.to_string())
        .join(format!("{base:020}.log"))
}

/// Base offsets of a partition's segments.
fn logs(disk: &SimDisk, index: i32) -> Vec<i64> {
    let dir = log_path(index, 0).parent().unwrap().to_path_buf();
    let names = disk.list(&dir).unwrap();
    let mut bases: Vec<i64> = names
        .iter()
        .filter_map(|name| name.strip_suffix(".log")?.parse().ok())
        .collect();
    bases.sort_unstable();
    bases
}

fn alter(disk: &SimDisk, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = disk.contents(path).unwrap();
    change(&mut bytes);
    disk.damage(path, &bytes).unwrap();
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Op {
    Flip,
    Zero,
    TakeOut,
    PutIn,
    Truncate,
    Delete,
}

const OPS: [Op; 6] = [
    Op::Flip,
    Op::Zero,
    Op::TakeOut,
    Op::PutIn,
    Op::Truncate,
    Op::Delete,
];

/// One operation on one file.
#[derive(Debug, Clone)]
struct Cut {
    path: PathBuf,
    op: Op,
    range: Range<usize>,
    noise: u8,
}

impl Cut {
    fn make(&self, disk: &SimDisk) {
        if self.op == Op::Delete {
            disk.unlink(&self.path).unwrap();
            return disk.sync_dir(self.path.parent().unwrap()).unwrap();
        }
        alter(disk, &self.path, |bytes| {
            let range = self.range.start.min(bytes.len())..self.range.end.min(bytes.len());
            match self.op {
                Op::Flip => bytes[range].iter_mut().for_each(|b| *b ^= self.noise | 1),
                Op::Zero => bytes[range].fill(0),
                Op::TakeOut => drop(bytes.drain(range)),
                Op::PutIn => drop(bytes.splice(range.start..range.start, vec![self.noise; 16])),
                Op::Truncate | Op::Delete => bytes.truncate(range.start),
            }
        });
    }

    fn is_log(&self) -> bool {
        self.path
            .extension()
            .is_some_and(|extension| extension == "log")
    }

    /// Which batches it may cost, by their place: `(segment, bytes of the file)`.
    fn may_cost(&self, index: i32, segment: i64, place: Range<usize>) -> bool {
        if self.path != log_path(index, segment) {
            return false;
        }
        match self.op {
            Op::Flip | Op::Zero => self.range.start < place.end && place.start < self.range.end,
            // The one after it is not where the header before it says.
            Op::TakeOut | Op::PutIn => {
                place.start <= self.range.end + LARGEST && self.range.start <= place.end
            }
            Op::Truncate => place.end > self.range.start,
            Op::Delete => true,
        }
    }
}

/// Where every batch is: partition, segment, bytes of its file.
fn places(disk: &SimDisk) -> BTreeMap<(i32, i64), (i64, Range<usize>)> {
    let mut places = BTreeMap::new();
    for index in [0, 1] {
        for base in logs(disk, index) {
            let bytes = disk.contents(&log_path(index, base)).unwrap();
            let mut at = 0;
            for one in Batches::new(&bytes) {
                let header = one.unwrap().header;
                let place = at..at + header.size();
                at = place.end;
                places.insert((index, header.base_offset), (base, place));
            }
        }
    }
    places
}

/// Everything that a patient reader gets, by fetching on past what is reported damaged.
fn read_on(partition: &Partition, label: &str) -> Written {
    let mut all = Written::new();
    let (mut offset, end) = (partition.log_start(), partition.log_end());
    while offset < end {
        let (next, bytes) = match fetch(partition, offset, 700, END) {
            Ok(answer) => answer,
            Err(ReadError::Corrupt {
                from,
                to,
                segment,
                kind,
            }) => {
                let error = ReadError::Corrupt {
                    from,
                    to,
                    segment,
                    kind,
                }
                .to_string();
                assert!(error.contains("mqlog log verify"), "{label}: {error}");
                // Offsets that were cut are passed over before that.
                assert!(offset < to, "{label}: {error} at {offset}");
                offset = to;
                continue;
            }
            Err(error) => panic!("{label}: at {offset}: {error}"),
        };
        for one in Batches::new(&bytes) {
            let one = one.unwrap();
            assert!(one.verify_crc(), "{label}");
            all.insert(
                (partition.index(), one.header.base_offset),
                one.bytes.to_vec(),
            );
        }
        // Past holes that were cut there may be nothing more.
        assert!(
            !bytes.is_empty() || next >= end,
            "{label}: nothing at {offset} of {end}"
        );
        assert!(next > offset || next >= end, "{label}: stuck at {offset}");
        offset = next;
    }
    all
}

/// A time leads to a record that is there and has that time, or a later one.
fn look_up(partition: &Partition, found: &Written, label: &str) {
    for probe in [NOW, NOW + 1, NOW + 2] {
        let Ok(Some(at)) = partition.offset_for_timestamp(probe, END) else {
            continue;
        };
        let holds = |bytes: &Vec<u8>| {
            let header = BatchHeader::parse(bytes).unwrap();
            (header.base_offset..=header.last_offset()).contains(&at.offset)
                && header.max_timestamp >= probe
        };
        assert!(found.values().any(holds), "{label}: {probe} led to {at:?}");
        assert!(at.timestamp >= probe, "{label}: {probe} led to {at:?}");
    }
}

/// All but the leader epoch, which no checksum covers.
fn same(a: &[u8], b: &[u8]) -> bool {
    a[..12] == b[..12] && a[16..] == b[16..]
}

/// An error that a person can act on: it names the file or its directory, and the next step.
fn assert_helpful(text: &str, cuts: &[Cut], label: &str) {
    let named = cuts.iter().any(|cut| {
        let (file, dir) = (cut.path.to_str().unwrap(), cut.path.parent().unwrap());
        text.contains(file) || text.contains(dir.to_str().unwrap())
    });
    let steps = [
        "restore",
        "upgrade",
        "node.id",
        "make room",
        "delete the topic",
    ];
    assert!(
        named && steps.iter().any(|step| text.contains(step)),
        "{label}: {text}"
    );
}

/// Whether a batch was put aside whole.
fn in_cut(disk: &SimDisk, batch: &[u8]) -> bool {
    let files = disk
        .files()
        .into_iter()
        .filter(|path| path.starts_with("/data/cut"));
    files.into_iter().any(|path| {
        let bytes = disk.contents(&path).unwrap();
        bytes.windows(batch.len()).any(|window| same(window, batch))
    })
}

/// Operates, starts, reads, appends, restarts, reads again.
fn operate(patient: &SimDisk, written: &Written, cuts: &[Cut], clean: bool) {
    let label = format!("clean {clean}: {cuts:?}");
    let places = places(patient);
    let disk = patient.fork();
    cuts.iter().for_each(|cut| cut.make(&disk));
    let dir = match open(&disk) {
        Ok(dir) => dir,
        Err(error) => {
            let identity = |cut: &Cut| cut.path.ends_with("mqlog.json");
            assert!(cuts.iter().any(identity), "{label}: {error}");
            return assert_helpful(&error.to_string(), cuts, &label);
        }
    };
    for partition in partitions(&dir) {
        let index = partition.index();
        if let Some(reason) = partition.offline_reason() {
            assert!(cuts.iter().any(Cut::is_log), "{label}: {reason}");
            assert_helpful(&reason, cuts, &label);
            continue;
        }
        let found = read_on(&partition, &label);
        for (at, bytes) in &found {
            let original = written
                .get(at)
                .unwrap_or_else(|| panic!("{label}: {at:?} is new"));
            assert!(
                same(bytes, original),
                "{label}: {at:?} is not what was written"
            );
        }
        // The leader epoch of a damaged batch may speak against those after it.
        let epoch_hit = cuts.iter().any(|cut| {
            places.iter().any(|((i, _), (segment, place))| {
                cut.may_cost(*i, *segment, place.start + 12..place.start + 16)
            })
        });
        for (at, (segment, place)) in places.iter().filter(|(at, _)| at.0 == index) {
            let costs = |cut: &Cut| {
                cut.may_cost(index, *segment, place.clone())
                    || (epoch_hit && cut.path.parent() == log_path(index, 0).parent())
            };
            // After a crash a length that goes beyond the end is taken for a torn write.
            assert!(
                found.contains_key(at)
                    || cuts.iter().any(costs)
                    || (!clean && in_cut(&disk, &written[at])),
                "{label}: {at:?} in {segment} at {place:?} is lost: {:?}",
                partition.holes()
            );
        }
        look_up(&partition, &found, &label);
        // It goes on, at an offset of its own.
        let end = partition.log_end();
        let mut more = batch(2, 50, 200);
        let appended = append_at(&partition, &config(), &mut more, NOW).unwrap();
        assert_eq!(appended.base_offset, end, "{label}");
        assert!(found.keys().all(|(_, offset)| *offset < end), "{label}");
        dir.flush_partition(&partition).unwrap();
        let mut expected = found;
        expected.insert((index, end), more);
        assert_eq!(read_on(&partition, &label), expected, "{label}");
    }
    let before: Vec<_> = partitions_read(&dir, &label);
    drop(dir);
    disk.kill();
    let dir = open(&disk).unwrap();
    partitions(&dir);
    assert_eq!(
        partitions_read(&dir, &label),
        before,
        "{label}: after another start"
    );
}

fn partitions_read(dir: &DataDir, label: &str) -> Vec<Written> {
    let open = [0, 1].map(|index| dir.partition(TOPIC, index).unwrap());
    let online = open
        .iter()
        .filter(|partition| partition.offline_reason().is_none());
    online.map(|partition| read_on(partition, label)).collect()
}

#[test]
fn every_file_every_operation_every_place() {
    for clean in [true, false] {
        let (disk, written) = patient(clean);
        for path in disk.files() {
            let len = disk.contents(&path).unwrap().len();
            for op in OPS {
                for (at, n) in [(0, 1), (0, 40), (len / 2, 5), (len.saturating_sub(9), 9)] {
                    let cut = Cut {
                        path: path.clone(),
                        op,
                        range: at..at + n,
                        noise: 0x41,
                    };
                    operate(&disk, &written, &[cut], clean);
                    if op == Op::Delete {
                        break;
                    }
                }
            }
        }
    }
}

#[test]
fn every_field_of_a_batch_header() {
    for clean in [true, false] {
        let (disk, written) = patient(clean);
        for ((index, _), (segment, place)) in places(&disk) {
            // One after another, so that all fields of some batch at every place are met.
            for field in (0..mqlog_record::HEADER_LEN).step_by(4) {
                for (op, noise) in [(Op::Flip, 0), (Op::Flip, 0xfe), (Op::Zero, 0)] {
                    let at = place.start + field;
                    let cut = Cut {
                        path: log_path(index, segment),
                        op,
                        range: at..at + 4,
                        noise,
                    };
                    operate(&disk, &written, &[cut], clean);
                }
            }
        }
    }
}

#[test]
fn random_operations_two_at_a_time() {
    let mut rng = SimRng::new(20_250_601);
    let patients = [true, false].map(|clean| (clean, patient(clean)));
    for _ in 0..1_500 {
        let (clean, (disk, written)) = &patients[rng.index(2)];
        let files = disk.files();
        let mut cuts: Vec<Cut> = Vec::new();
        for _ in 0..1 + rng.index(2) {
            let path = files[rng.index(files.len())].clone();
            let len = disk.contents(&path).unwrap().len();
            let start = rng.index(len + 1);
            if cuts.iter().all(|cut| cut.path != path) {
                cuts.push(Cut {
                    path,
                    op: OPS[rng.index(OPS.len())],
                    range: start..start + 1 + rng.index(64),
                    noise: rng.next_u64() as u8,
                });
            }
        }
        operate(disk, written, &cuts, *clean);
    }
}

#[test]
fn the_header_is_what_it_says() {
    let (disk, written) = patient(true);
    for (at, (_, place)) in places(&disk) {
        let header = BatchHeader::parse(&written[&at]).unwrap();
        assert_eq!((header.base_offset, header.size()), (at.1, place.len()));
    }
}
