//! The stored metadata against the live one: over random proposals with restarts, kills and power
//! failures in any call, and where a start must refuse or be careful.
#![allow(clippy::unwrap_used)]

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mqlog_log::sim::{Call, Fault, FsMode, SimDisk};
use mqlog_log::{DataDir, DataDirOptions, SystemClock};
use mqlog_meta::{Image, MetaError, MetaLog, MetaRecord};
use proptest::prelude::*;

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

/// A proposal that fits any image: a topic of its own, its partition, a config, producer ids.
fn proposal(n: u8, kind: u8, image: &Image) -> Vec<MetaRecord> {
    let id = [n; 16];
    match (kind % 4, image.topic(&id)) {
        (0, None) | (1, None) => vec![
            MetaRecord::Topic {
                id,
                name: format!("topic-{n}"),
            },
            MetaRecord::Partition {
                topic_id: id,
                index: 0,
                leader: 1,
                leader_epoch: 0,
                replicas: vec![1],
                isr: vec![1],
            },
        ],
        (0, Some(_)) => vec![MetaRecord::RemoveTopic { id }],
        (1, Some(topic)) => vec![MetaRecord::Config {
            resource_type: mqlog_meta::RESOURCE_TOPIC,
            name: topic.name.to_string(),
            key: "retention.ms".into(),
            value: (kind > 4).then(|| kind.to_string()),
        }],
        (2, _) => vec![MetaRecord::ProducerIds {
            next: image.next_producer_id() + 1_000,
        }],
        _ => vec![MetaRecord::RaiseLeaderEpochs { leader: 1 }],
    }
}

fn applied(image: &Image, records: &[MetaRecord]) -> Image {
    let mut after = image.clone();
    after.apply_all(records).unwrap();
    after
}

/// What a start must give: `image`, with producer ids passed over if the log was cut.
fn after_start(image: &Image, was_cut: bool) -> Image {
    let next = image.next_producer_id() + SKIP;
    match was_cut {
        true => applied(image, &[MetaRecord::ProducerIds { next }]),
        false => image.clone(),
    }
}

#[derive(Debug, Clone)]
enum Step {
    Propose(u8, u8),
    Image,
    Restart,
    Kill,
    Crash,
    /// Power fails after so many calls that change something.
    CrashAfter(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        10 => (0u8..6, any::<u8>()).prop_map(|(n, kind)| Step::Propose(n, kind)),
        2 => Just(Step::Image),
        1 => Just(Step::Restart),
        1 => Just(Step::Kill),
        1 => Just(Step::Crash),
        3 => (0u64..12).prop_map(Step::CrashAfter),
    ];
    prop::collection::vec(step, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn replay_gives_the_live_state(steps in steps(), seed in any::<u64>(), loose in any::<bool>()) {
        let disk = SimDisk::new(seed, if loose { FsMode::Loose } else { FsMode::Ordered });
        let (mut dir, mut log, mut live) = open(&disk).unwrap();
        // What a proposal without an answer would make of it.
        let mut perhaps: Option<Image> = None;
        for step in steps {
            match step {
                Step::Propose(n, kind) => {
                    let records = proposal(n, kind, &live);
                    let after = applied(&live, &records);
                    match log.propose(&records) {
                        Ok(()) => live = after,
                        Err(error) => {
                            prop_assert!(disk.stopped(), "{error}");
                            perhaps = perhaps.or(Some(after));
                        }
                    }
                }
                Step::Image => {
                    prop_assert!(log.write_image().is_ok() || disk.stopped());
                }
                Step::CrashAfter(calls) => {
                    disk.stop_after(calls);
                    continue;
                }
                Step::Restart if !disk.stopped() => {
                    dir.shutdown();
                    disk.kill();
                }
                Step::Kill => disk.kill(),
                Step::Restart | Step::Crash => disk.crash(),
            }
            if disk.stopped() {
                disk.crash();
            } else if matches!(step, Step::Propose(..) | Step::Image) {
                continue;
            }
            drop((log, dir));
            let image;
            (dir, log, image) = open(&disk).unwrap();
            let possible = [Some(live.clone()), perhaps.take()];
            let possible = possible.iter().flatten();
            let possible: Vec<Image> = possible.map(|i| after_start(i, log.was_cut())).collect();
            prop_assert!(possible.contains(&image), "{image:?} is none of {possible:?}");
            live = image;
        }
    }

    #[test]
    fn a_start_that_is_stopped_anywhere_loses_nothing(seed in any::<u64>(), stop in 0u64..60) {
        let disk = SimDisk::new(seed, FsMode::Loose);
        let (dir, mut log, mut live) = open(&disk).unwrap();
        for n in 0..4 {
            let records = proposal(n, 1, &live);
            log.propose(&records).unwrap();
            live = applied(&live, &records);
        }
        drop((dir, log));
        disk.kill();
        tear(&disk, 40);
        // The last proposal is torn: the log ends before it.
        let last = live.topic_named("topic-3").unwrap().id;
        let left = applied(&live, &[MetaRecord::RemoveTopic { id: last }]);
        disk.stop_after(stop);
        let first = open(&disk);
        let finished = first.is_ok();
        drop(first);
        disk.crash();
        let (dir, log, image) = open(&disk).unwrap();
        // Nobody can tell whether the one before got to pass ids over, but one of them did.
        let cut = after_start(&left, true);
        let twice = after_start(&cut, true);
        prop_assert!(image == cut || (log.was_cut() && image == twice), "{image:?}");
        prop_assert!(log.was_cut() || finished || image == cut);
        drop((dir, log));
        disk.kill();
        let (_, log, again) = open(&disk).unwrap();
        prop_assert!(!log.was_cut());
        prop_assert_eq!(again, image);
    }
}

fn log_path() -> PathBuf {
    Path::new("/data/meta").join(format!("{:020}.log", 0))
}

fn edit(disk: &SimDisk, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = disk.contents(path).unwrap();
    change(&mut bytes);
    disk.damage(path, &bytes).unwrap();
}

/// Takes some bytes off the end of the log.
fn tear(disk: &SimDisk, bytes: usize) {
    edit(disk, &log_path(), |log| log.truncate(log.len() - bytes));
}

/// Three topics; ended cleanly or not.
fn three_topics(clean: bool) -> (SimDisk, Image) {
    let disk = SimDisk::new(7, FsMode::Ordered);
    let (dir, mut log, mut live) = open(&disk).unwrap();
    for n in 0..3 {
        let records = proposal(n, 1, &live);
        log.propose(&records).unwrap();
        live = applied(&live, &records);
    }
    if clean {
        dir.shutdown();
    }
    drop((dir, log));
    disk.kill();
    (disk, live)
}

#[test]
fn after_a_clean_shutdown_an_end_that_changed_is_refused_every_time() {
    for change in ["cut", "grown", "zeros"] {
        let (disk, live) = three_topics(true);
        let before = disk.contents(&log_path()).unwrap();
        edit(&disk, &log_path(), |log| match change {
            "cut" => log.truncate(log.len() - 1),
            "grown" => log.push(1),
            _ => log.extend([0; 5000]),
        });
        let changed = disk.contents(&log_path()).unwrap();
        for _ in 0..3 {
            let error = open(&disk).err().unwrap();
            assert!(error.contains("/data/meta"), "{change}: {error}");
            assert!(
                error.contains("restore the directory from a backup"),
                "{change}: {error}"
            );
            assert_eq!(
                disk.contents(&log_path()).unwrap(),
                changed,
                "nothing is cut"
            );
            disk.kill();
        }
        // The backup.
        disk.damage(&log_path(), &before).unwrap();
        assert_eq!(open(&disk).unwrap().2, live);
    }
}

#[test]
fn damage_inside_is_refused_by_file_and_offset_every_time() {
    for clean in [true, false] {
        for (at, from) in [(100, 0), (300, 2)] {
            let (disk, _) = three_topics(clean);
            edit(&disk, &log_path(), |log| log[at] ^= 1);
            for _ in 0..3 {
                let error = open(&disk).err().unwrap();
                assert!(
                    error.contains(&format!("offsets {from} to")),
                    "{clean} {at}: {error}"
                );
                assert!(error.contains("damaged"), "{clean} {at}: {error}");
                assert!(
                    error.contains(log_path().to_str().unwrap()),
                    "{clean} {at}: {error}"
                );
                assert!(error.contains("backup"), "{clean} {at}: {error}");
                disk.kill();
            }
        }
    }
}

#[test]
fn a_log_that_ends_before_its_checkpoint_is_refused() {
    let (disk, live) = three_topics(true);
    drop(open(&disk).unwrap());
    disk.kill();
    tear(&disk, 10);
    for _ in 0..2 {
        let error = open(&disk).err().unwrap();
        assert!(
            error.contains("lost") && error.contains("backup"),
            "{error}"
        );
        disk.kill();
    }
    assert_eq!(live.topic_count(), 3);
}

#[test]
fn a_torn_end_after_a_crash_makes_the_next_start_careful() {
    let (disk, live) = three_topics(false);
    tear(&disk, 10);
    let (dir, log, image) = open(&disk).unwrap();
    assert!(log.was_cut());
    let last = live.topic_named("topic-2").unwrap().id;
    let left = applied(&live, &[MetaRecord::RemoveTopic { id: last }]);
    assert_eq!(image, after_start(&left, true));
    // The directory of the topic that was forgotten stays where it is.
    let topic = Path::new("/data/topics").join("02".repeat(16));
    mqlog_log::disk::mkdir_all(&**dir.disk(), &topic.join("0")).unwrap();
    let known = HashSet::new();
    assert_eq!(dir.report_orphans(&known), [topic.display().to_string()]);
    assert!(dir.disk().exists(&topic).unwrap());
}

#[test]
fn an_image_is_replaced_by_the_one_before_it_or_refused() {
    let disk = SimDisk::new(7, FsMode::Ordered);
    let (dir, mut log, mut live) = open(&disk).unwrap();
    for n in 0..6 {
        let records = proposal(n, 1, &live);
        log.propose(&records).unwrap();
        live = applied(&live, &records);
        if n % 2 == 0 {
            log.write_image().unwrap();
        }
    }
    dir.shutdown();
    drop((dir, log));
    disk.kill();
    let images: Vec<PathBuf> = disk
        .files()
        .into_iter()
        .filter(|path| path.to_string_lossy().contains("image-"))
        .collect();
    assert_eq!(images.len(), 2, "{images:?}");
    edit(&disk, &images[1], |bytes| bytes[20] ^= 1);
    let (dir, log, image) = open(&disk).unwrap();
    assert_eq!(image, live);
    dir.shutdown();
    drop((dir, log));
    disk.kill();
    edit(&disk, &images[0], |bytes| bytes.truncate(9));
    let error = open(&disk).err().unwrap();
    assert!(error.contains(images[0].to_str().unwrap()), "{error}");
    assert!(error.contains("restore meta/ from a backup"), "{error}");
}

#[test]
fn nothing_follows_a_proposal_whose_flush_failed() {
    let disk = SimDisk::new(7, FsMode::Ordered);
    let (_dir, mut log, image) = open(&disk).unwrap();
    disk.fail(Fault {
        call: Call::SyncData,
        path: ".log".into(),
        skip: 0,
        times: 1,
        errno: 5,
    });
    let records = proposal(1, 1, &image);
    assert!(log.propose(&records).is_err());
    let again = log.propose(&records).unwrap_err();
    assert!(matches!(again, MetaError::Unsettled(_)), "{again}");
    assert!(again.to_string().contains("restart"), "{again}");
    disk.kill();
    // It has one meaning again, whichever.
    let (_dir, mut log, image) = open(&disk).unwrap();
    match image.topic_count() {
        0 => log.propose(&records).unwrap(),
        count => assert_eq!(count, 1),
    }
}

#[test]
fn a_full_disk_refuses_a_proposal_and_takes_the_next() {
    let disk = SimDisk::new(7, FsMode::Ordered);
    let (dir, mut log, mut live) = open(&disk).unwrap();
    let first = proposal(1, 1, &live);
    log.propose(&first).unwrap();
    live = applied(&live, &first);
    disk.set_capacity(Some(disk.used() + 20));
    let second = proposal(2, 1, &live);
    let error = log.propose(&second).unwrap_err();
    assert!(matches!(error, MetaError::Log(_)), "{error}");
    disk.set_capacity(None);
    log.propose(&second).unwrap();
    live = applied(&live, &second);
    dir.shutdown();
    drop((dir, log));
    disk.kill();
    assert_eq!(open(&disk).unwrap().2, live);
}
