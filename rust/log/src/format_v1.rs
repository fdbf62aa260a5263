//! The small files of format version 1 as they were written once: read and written again they are
//! the same, byte for byte.

use std::path::{Path, PathBuf};

use crate::disk::Disk;
use crate::idx_file::{self, Persisted};
use crate::index::Index;
use crate::{checkpoint, epochs, holes, snapshot, Identity, RealDisk};

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/format_v1")
}

fn partition(index: u32) -> PathBuf {
    fixture().join(format!("topics/{}/{index}", "11".repeat(16)))
}

fn bytes(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap()
}

#[test]
fn checkpoint_is_written_as_it_was() {
    let temp = tempfile::tempdir().unwrap();
    let disk = RealDisk::new();
    let mut ledger = checkpoint::load(&disk, &fixture()).unwrap();
    assert_eq!((ledger.entries.len(), ledger.clean), (3, true));
    ledger.serial -= 1;
    checkpoint::store(&disk, temp.path(), &mut ledger, true).unwrap();
    assert_eq!(
        bytes(&temp.path().join("checkpoint")),
        bytes(&fixture().join("checkpoint"))
    );
}

#[test]
fn identity_is_written_as_it_was() {
    let path = fixture().join("mqlog.json");
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(Identity::decode(&path, &text).unwrap().encode(), text);
}

#[test]
fn epochs_and_holes_are_written_as_they_were() {
    let disk = RealDisk::new();
    for (index, entries) in [(0, 3), (1, 2)] {
        let loaded = epochs::load(&disk, &partition(index)).unwrap();
        assert_eq!(loaded.entries().len(), entries);
        assert_eq!(loaded.encode(), bytes(&partition(index).join("epochs")));
    }
    let loaded = holes::load(&disk, &partition(1)).unwrap();
    assert_eq!(loaded.len(), 1);
    assert_eq!(holes::encode(&loaded), bytes(&partition(1).join("holes")));
}

#[test]
fn snapshots_are_written_as_they_were() {
    let disk = RealDisk::new();
    let offsets = snapshot::offsets(&disk.list(&partition(0)).unwrap());
    assert_eq!(offsets, [25, 51]);
    for offset in offsets {
        let producers = snapshot::load(&disk, &partition(0), offset).unwrap();
        assert_eq!(producers[0].batches.len(), 5);
        let written = bytes(&snapshot::path(&partition(0), offset));
        assert_eq!(snapshot::encode(offset, &producers), written);
    }
}

#[test]
fn indexes_are_written_as_they_were() {
    let temp = tempfile::tempdir().unwrap();
    let disk = RealDisk::new();
    for (base, blocks) in [(0, 2), (25, 1)] {
        let name = format!("{base:020}");
        let path = partition(0).join(format!("{name}.idx"));
        let end = bytes(&path.with_extension("log")).len() as u64;
        let (loaded, held) = idx_file::load(&disk, &path, base, end, false).unwrap();
        let old = bytes(&path);
        assert_eq!((loaded.len(), held.bytes), (5, old.len() as u64));
        // Block by block: `count crc entries`.
        let (index, mut persisted) = (Index::default(), Persisted::default());
        let copy = temp.path().join(&name);
        let (mut at, mut seen) = (16, 0);
        while at < old.len() {
            let count = u32::from_le_bytes(old[at..at + 4].try_into().unwrap()) as usize;
            let upto = index.len() + count;
            (index.len()..upto).for_each(|n| index.push(loaded.get(n).unwrap()));
            idx_file::append(&disk, &copy, base, &index, &mut persisted).unwrap();
            at += 8 + count * 16;
            seen += 1;
        }
        assert_eq!((seen, bytes(&copy)), (blocks, old));
    }
}
