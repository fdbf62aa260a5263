//! The `.idx` file: index entries in checksummed blocks, appended without fsync. All hints.

use std::io;
use std::path::Path;

use mqlog_record::crc32c;

use crate::atomic_file::{Reader, Writer};
use crate::disk::{read_file, write_all_at, Disk, OpenMode};
use crate::index::{Entry, Index};

const MAGIC: &[u8; 4] = b"MQIX";
const VERSION: u16 = 1;
const HEADER: u64 = 16;
const ENTRY: usize = 16;
/// A segment has at most 4 GiB and an entry for each few bytes of it at most.
const LIMIT: u64 = 1 << 30;

/// How much of an index the file holds.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Persisted {
    /// Entries.
    pub entries: usize,
    /// Bytes of the file; 0 if it must be begun anew.
    pub bytes: u64,
}

fn parse_block(reader: &mut Reader<'_>, out: &mut Vec<Entry>) -> Option<()> {
    let count = reader.u32()?;
    let crc = reader.u32()?;
    let len = (count as usize).checked_mul(ENTRY)?;
    let entries = reader.0.get(..len)?;
    let mut covered = Vec::with_capacity(4 + len);
    covered.extend_from_slice(&count.to_le_bytes());
    covered.extend_from_slice(entries);
    if crc32c(&covered) != crc {
        return None;
    }
    for _ in 0..count {
        out.push(Entry {
            relative: reader.u32()?,
            position: reader.u32()?,
            max_timestamp: reader.i64()?,
        });
    }
    Some(())
}

/// Loads an index up to `end` bytes of log. Anything wrong gives a shorter index, an entry out of
/// order or a wrong header none at all. `trust` skips these checks (a fault for tests).
pub(crate) fn load(
    disk: &dyn Disk,
    path: &Path,
    base: i64,
    end: u64,
    trust: bool,
) -> io::Result<(Index, Persisted)> {
    let bytes = match read_file(disk, path, LIMIT) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Default::default()),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => return Ok(Default::default()),
        Err(error) => return Err(error),
    };
    let mut reader = Reader(&bytes);
    let right = reader.array::<4>().as_ref() == Some(MAGIC)
        && reader.u16() == Some(VERSION)
        && reader.u16().is_some()
        && reader.i64() == Some(base);
    if !right {
        return Ok(Default::default());
    }
    let mut entries = Vec::new();
    let mut persisted = Persisted {
        entries: 0,
        bytes: HEADER,
    };
    while !reader.0.is_empty() {
        let before = entries.len();
        if parse_block(&mut reader, &mut entries).is_none() {
            entries.truncate(before);
            break;
        }
        let within = |entry: &Entry| trust || u64::from(entry.position) <= end;
        if !entries.iter().skip(before).all(within) {
            // The block is kept out of the file, so that it is written again as it is now.
            entries.retain(within);
            break;
        }
        persisted.entries = entries.len();
        persisted.bytes = (bytes.len() - reader.0.len()) as u64;
    }
    let rising = entries.windows(2).all(|pair| match pair {
        [a, b] => {
            a.relative < b.relative && a.position < b.position && a.max_timestamp <= b.max_timestamp
        }
        _ => true,
    });
    if !rising && !trust {
        return Ok(Default::default());
    }
    let index = Index::default();
    entries.iter().for_each(|entry| index.push(*entry));
    persisted.entries = persisted.entries.min(index.len());
    Ok((index, persisted))
}

/// Appends the entries that the file does not have yet.
pub(crate) fn append(
    disk: &dyn Disk,
    path: &Path,
    base: i64,
    index: &Index,
    persisted: &mut Persisted,
) -> io::Result<()> {
    let entries: Vec<Entry> = (persisted.entries..index.len())
        .filter_map(|at| index.get(at))
        .collect();
    if entries.is_empty() {
        return Ok(());
    }
    let mut block = Writer(Vec::with_capacity(8 + entries.len() * ENTRY));
    block.u32(entries.len() as u32);
    for entry in &entries {
        block.u32(entry.relative);
        block.u32(entry.position);
        block.i64(entry.max_timestamp);
    }
    let crc = crc32c(&block.0);
    block.0.splice(4..4, crc.to_le_bytes());
    let mut bytes = Vec::new();
    let begun = persisted.bytes >= HEADER;
    if !begun {
        let mut header = Writer::new(MAGIC, VERSION, 0);
        header.i64(base);
        bytes = header.0;
    }
    bytes.extend_from_slice(&block.0);
    let mode = if begun {
        OpenMode::ReadWrite
    } else {
        OpenMode::Truncate
    };
    let file = match disk.open(path, mode) {
        Err(error) if begun && error.kind() == io::ErrorKind::NotFound => {
            *persisted = Persisted::default();
            return append(disk, path, base, index, persisted);
        }
        result => result?,
    };
    let at = if begun { persisted.bytes } else { 0 };
    file.set_len(at)?;
    write_all_at(&*file, &bytes, at)?;
    persisted.bytes = at + bytes.len() as u64;
    persisted.entries += entries.len();
    Ok(())
}
