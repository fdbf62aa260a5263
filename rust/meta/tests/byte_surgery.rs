//! Surgery on the metadata log, its images and the small files beside them: a start gives all of
//! the metadata, or says what it refuses and how to go on. Only after a crash may an end be
//! missing, and then the start knows it.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::sync::Arc;

use mqlog_log::disk::Disk;
use mqlog_log::sim::{FsMode, SimDisk, SimRng};
use mqlog_log::{DataDir, DataDirOptions, SystemClock};
use mqlog_meta::{Image, MetaLog, MetaRecord};

/// Producer ids passed over when the end was cut.
const SKIP: i64 = 1_000_000;

fn open(disk: &SimDisk) -> Result<(Arc<DataDir>, MetaLog, Image), String> {
    let mut options = DataDirOptions::new("/data");
    options.reserve_bytes = 0;
    let clock = Arc::new(SystemClock::new());
    let dir = DataDir::open(Arc::new(disk.clone()), clock, options).map_err(|e| e.to_string())?;
    let dir = Arc::new(dir);
    let (log, image) = MetaLog::open(&dir).map_err(|e| e.to_string())?;
    Ok((dir, log, image))
}

/// A directory with two images and proposals after each, and what it was after every proposal.
fn patient(clean: bool) -> (SimDisk, Vec<Image>) {
    let disk = SimDisk::new(3, FsMode::Ordered);
    let (dir, mut log, mut live) = open(&disk).unwrap();
    let mut states = vec![live.clone()];
    for n in 0..12u8 {
        let records = [
            MetaRecord::Topic {
                id: [n; 16],
                name: format!("a-topic-with-a-name-{n}"),
            },
            MetaRecord::ProducerIds {
                next: (i64::from(n) + 1) * 1_000,
            },
        ];
        log.propose(&records).unwrap();
        live.apply_all(&records).unwrap();
        states.push(live.clone());
        match n {
            3 | 7 => log.write_image().unwrap(),
            9 => dir.checkpoint(false).unwrap(),
            _ => {}
        }
    }
    if clean {
        dir.shutdown();
    }
    drop((dir, log));
    disk.kill();
    (disk, states)
}

fn cut(image: &Image) -> Image {
    let mut after = image.clone();
    let next = image.next_producer_id() + SKIP;
    after.apply(&MetaRecord::ProducerIds { next }).unwrap();
    after
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

fn operate(patient: &SimDisk, path: &Path, op: Op, at: usize, n: usize) -> SimDisk {
    let disk = patient.fork();
    let mut bytes = disk.contents(path).unwrap();
    let at = at.min(bytes.len());
    let end = (at + n).min(bytes.len());
    match op {
        Op::Flip => bytes[at..end].iter_mut().for_each(|byte| *byte ^= 0x21),
        Op::Zero => bytes[at..end].fill(0),
        Op::TakeOut => drop(bytes.drain(at..end)),
        Op::PutIn => drop(bytes.splice(at..at, [2; 7])),
        Op::Truncate => bytes.truncate(at),
        Op::Delete => {
            disk.unlink(path).unwrap();
            disk.sync_dir(path.parent().unwrap()).unwrap();
            return disk;
        }
    }
    disk.damage(path, &bytes).unwrap();
    disk
}

/// What a start makes of it; true if it gave all of the metadata.
fn check(disk: &SimDisk, path: &Path, states: &[Image], clean: bool, label: &str) -> bool {
    let (dir, log, image) = match open(disk) {
        Ok(opened) => opened,
        Err(error) => {
            let named = error.contains(path.to_str().unwrap()) || error.contains("/data/meta");
            assert!(named, "{label}: {error}");
            assert!(
                error.contains("restore") || error.contains("upgrade"),
                "{label}: {error}"
            );
            // It is not forgotten.
            disk.kill();
            assert_eq!(
                open(disk).err().as_ref().map(String::is_empty),
                Some(false),
                "{label}"
            );
            return false;
        }
    };
    let live = states.last().unwrap();
    if log.was_cut() {
        assert!(!clean, "{label}: cut");
        assert!(
            states.iter().any(|state| image == cut(state)),
            "{label}: {image:?}"
        );
    } else {
        assert_eq!(&image, live, "{label}");
    }
    drop((dir, log));
    disk.kill();
    assert_eq!(open(disk).unwrap().2, image, "{label}: after another start");
    &image == live
}

#[test]
fn every_file_every_operation_every_place() {
    for clean in [true, false] {
        let (patient, states) = patient(clean);
        let mut whole = 0;
        for path in patient.files() {
            let len = patient.contents(&path).unwrap().len();
            for op in OPS {
                for (at, n) in [(0, 1), (0, 40), (len / 2, 5), (len.saturating_sub(9), 9)] {
                    let disk = operate(&patient, &path, op, at, n);
                    let label = format!("clean {clean}: {op:?} {at}+{n} of {}", path.display());
                    whole += usize::from(check(&disk, &path, &states, clean, &label));
                }
            }
        }
        assert!(whole > 50, "most files are hints or have a second: {whole}");
    }
}

#[test]
fn every_byte_of_the_log() {
    let mut rng = SimRng::new(5);
    for clean in [true, false] {
        let (patient, states) = patient(clean);
        let files = patient.files();
        let log = files
            .iter()
            .find(|path| path.ends_with("00000000000000000000.log"))
            .unwrap();
        for at in 0..patient.contents(log).unwrap().len() {
            let op = OPS[rng.index(5)];
            let disk = operate(&patient, log, op, at, 1 + rng.index(3));
            let label = format!("clean {clean}: {op:?} at {at}");
            check(&disk, log, &states, clean, &label);
        }
    }
}
