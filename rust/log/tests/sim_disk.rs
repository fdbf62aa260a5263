//! The simulated disk itself: what it must keep, what it must be able to lose.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::path::Path;

use mqlog_log::disk::{read_file, write_all_at, Disk, DiskFile, OpenMode};
use mqlog_log::sim::{Call, Fault, FsMode, SimDisk};

const MODES: [FsMode; 2] = [FsMode::Ordered, FsMode::Loose];

fn read(disk: &SimDisk, path: &str) -> Option<Vec<u8>> {
    read_file(disk, Path::new(path), 1 << 20).ok()
}

fn create(disk: &SimDisk, path: &str, bytes: &[u8]) -> std::sync::Arc<dyn DiskFile> {
    let file = disk.open(Path::new(path), OpenMode::CreateNew).unwrap();
    write_all_at(&*file, bytes, 0).unwrap();
    file
}

#[test]
fn what_was_synced_with_its_directory_survives() {
    for seed in 0..500 {
        for mode in MODES {
            let disk = SimDisk::new(seed, mode);
            disk.mkdir(Path::new("/d")).unwrap();
            disk.sync_dir(Path::new("/")).unwrap();
            create(&disk, "/d/a", &[7; 10_000]).sync_data().unwrap();
            disk.sync_dir(Path::new("/d")).unwrap();
            disk.crash();
            assert_eq!(
                read(&disk, "/d/a").unwrap(),
                [7; 10_000],
                "seed {seed} {mode:?}"
            );
        }
    }
}

#[test]
fn a_name_is_lost_without_a_directory_sync() {
    for mode in MODES {
        let kept = (0..200).filter(|seed| {
            let disk = SimDisk::new(*seed, mode);
            create(&disk, "/a", b"x").sync_data().unwrap();
            disk.crash();
            read(&disk, "/a").is_some()
        });
        let kept = kept.count();
        assert!((20..180).contains(&kept), "{mode:?}: {kept} of 200 kept");
    }
}

/// Old bytes, new bytes, a tear inside a page and a length in between must all be seen; in order
/// mode never a zero that nobody wrote.
#[test]
fn unsynced_bytes_tear_at_sectors() {
    for mode in MODES {
        let (mut torn, mut zeros, mut lengths) = (0, 0, BTreeSet::new());
        for seed in 0..400 {
            let disk = SimDisk::new(seed, mode);
            let file = create(&disk, "/a", &[1; 6_000]);
            file.sync_data().unwrap();
            disk.sync_dir(Path::new("/")).unwrap();
            write_all_at(&*file, &[2; 20_000], 3_000).unwrap();
            disk.crash();
            let bytes = read(&disk, "/a").unwrap();
            assert!(bytes[..3_000].iter().all(|b| *b == 1));
            let page = &bytes[4_096..bytes.len().min(8_192)];
            torn += usize::from(page.contains(&1) && page.contains(&2));
            zeros += usize::from(bytes.contains(&0));
            lengths.insert(bytes.len());
        }
        assert!(torn > 10, "{mode:?}: {torn} torn pages");
        assert_eq!(
            zeros > 0,
            mode == FsMode::Loose,
            "{mode:?}: {zeros} runs with holes"
        );
        assert!(lengths.len() > 20, "{mode:?}: {} lengths", lengths.len());
    }
}

#[test]
fn a_failed_sync_is_not_made_good_by_the_next() {
    let lost = (0..200).filter(|seed| {
        let disk = SimDisk::new(*seed, FsMode::Ordered);
        let file = create(&disk, "/a", &[1; 4_096]);
        file.sync_data().unwrap();
        disk.sync_dir(Path::new("/")).unwrap();
        write_all_at(&*file, &[2; 4_096], 0).unwrap();
        let (call, errno) = (Call::SyncData, 5);
        disk.fail(Fault {
            call,
            path: String::new(),
            skip: 0,
            times: 1,
            errno,
        });
        assert!(file.sync_data().is_err());
        assert_eq!(disk.fired(Call::SyncData), 1);
        file.sync_data().unwrap();
        assert_eq!(
            read(&disk, "/a").unwrap(),
            [2; 4_096],
            "the cache still shows it"
        );
        disk.crash();
        read(&disk, "/a").unwrap() != [2; 4_096]
    });
    assert!(lost.count() > 50);
}

#[test]
fn a_rename_is_whole_or_not_there() {
    for seed in 0..300 {
        for mode in MODES {
            let disk = SimDisk::new(seed, mode);
            create(&disk, "/a", b"old").sync_data().unwrap();
            disk.sync_dir(Path::new("/")).unwrap();
            create(&disk, "/a.tmp", b"new").sync_data().unwrap();
            disk.rename(Path::new("/a.tmp"), Path::new("/a")).unwrap();
            disk.crash();
            let now = read(&disk, "/a").unwrap();
            assert!(now == b"old" || now == b"new", "seed {seed} {mode:?}");
            assert!(now == b"old" || read(&disk, "/a.tmp").is_none());
        }
    }
}

#[test]
fn a_full_disk_takes_what_fits_and_then_says_so() {
    let disk = SimDisk::new(1, FsMode::Ordered);
    disk.set_capacity(Some(1_000));
    let file = disk.open(Path::new("/a"), OpenMode::CreateNew).unwrap();
    let error = write_all_at(&*file, &[1; 1_500], 0).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
    assert_eq!(file.len().unwrap(), 1_000);
    file.set_len(10).unwrap();
    write_all_at(&*file, &[1; 900], 10).unwrap();
}

#[test]
fn a_stopped_machine_does_nothing_more_and_handles_of_before_are_dead() {
    let disk = SimDisk::new(1, FsMode::Ordered);
    let file = create(&disk, "/a", b"12345");
    disk.stop_after(1);
    file.sync_data().unwrap();
    assert!(write_all_at(&*file, b"67890", 5).is_err());
    assert!(disk.stopped() && file.sync_data().is_err());
    disk.kill();
    assert!(file.sync_data().is_err(), "a handle outlived its process");
    assert!(read(&disk, "/a").unwrap().starts_with(b"12345"));
}

#[test]
fn a_lock_is_held_once_and_let_go_by_the_dead() {
    let disk = SimDisk::new(1, FsMode::Ordered);
    let held = disk.try_lock(Path::new("/lock")).unwrap().unwrap();
    assert!(disk.try_lock(Path::new("/lock")).unwrap().is_none());
    disk.kill();
    let again = disk.try_lock(Path::new("/lock")).unwrap().unwrap();
    drop(held);
    assert!(disk.try_lock(Path::new("/lock")).unwrap().is_none());
    drop(again);
    assert!(disk.try_lock(Path::new("/lock")).unwrap().is_some());
}
