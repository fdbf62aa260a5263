//! Offset ranges that a log does not have: damaged, lost, or cut off after a crash. They are
//! remembered, so that nothing is ever put in their place.

use std::path::{Path, PathBuf};

use crate::atomic_file::{self, Reader, Unusable, Writer};
use crate::disk::Disk;

const MAGIC: &[u8; 4] = b"MQHO";
const VERSION: u16 = 1;

/// Why offsets are missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HoleKind {
    /// Their bytes are there and wrong.
    Damaged,
    /// Their bytes were known durable and are gone.
    Lost,
    /// Their bytes were torn by a crash before they were flushed; they were cut off.
    Cut,
}

impl HoleKind {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            HoleKind::Damaged => "damaged",
            HoleKind::Lost => "lost",
            HoleKind::Cut => "cut",
        }
    }
}

/// Offsets `from..to` are missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hole {
    /// First missing offset.
    pub from: i64,
    /// First offset after them.
    pub to: i64,
    /// Base offset of the segment.
    pub segment: i64,
    /// Where the bad bytes begin in it.
    pub position: u64,
    /// How many they are; 0 if there are none.
    pub length: u64,
    /// Why they are missing.
    pub kind: HoleKind,
}

pub(crate) fn path(dir: &Path) -> PathBuf {
    dir.join("holes")
}

/// The hole that an offset lies in.
pub(crate) fn at(holes: &[Hole], offset: i64) -> Option<&Hole> {
    holes
        .iter()
        .find(|hole| hole.from <= offset && offset < hole.to)
}

/// The holes that have bytes in this segment.
pub(crate) fn in_segment(holes: &[Hole], segment: i64) -> Vec<Hole> {
    let here = |hole: &&Hole| hole.segment == segment && hole.length > 0;
    holes.iter().filter(here).copied().collect()
}

/// Where the batches of a segment end whose last offsets, up to `end`, may be missing.
pub(crate) fn end_of(holes: &[Hole], segment: i64, end: i64) -> i64 {
    let tail = |hole: &&Hole| hole.segment == segment && hole.length == 0 && hole.to == end;
    holes.iter().find(tail).map_or(end, |hole| hole.from)
}

/// Adds a hole in its place; one that begins where another does replaces it.
pub(crate) fn insert(holes: &mut Vec<Hole>, hole: Hole) {
    holes.retain(|other| other.from != hole.from);
    holes.push(hole);
    holes.sort_by_key(|hole| hole.from);
}

pub(crate) fn encode(holes: &[Hole]) -> Vec<u8> {
    let mut out = Writer::new(MAGIC, VERSION, 0);
    out.u32(holes.len() as u32);
    for hole in holes {
        out.i64(hole.from);
        out.i64(hole.to);
        out.i64(hole.segment);
        out.u64(hole.position);
        out.u64(hole.length);
        out.u8(match hole.kind {
            HoleKind::Damaged => 0,
            HoleKind::Lost => 1,
            HoleKind::Cut => 2,
        });
    }
    out.finish()
}

fn parse(_: u16, reader: &mut Reader<'_>) -> Option<Vec<Hole>> {
    let count = reader.u32()?;
    let mut holes = Vec::new();
    for _ in 0..count {
        holes.push(Hole {
            from: reader.i64()?,
            to: reader.i64()?,
            segment: reader.i64()?,
            position: reader.u64()?,
            length: reader.u64()?,
            kind: match reader.u8()? {
                0 => HoleKind::Damaged,
                1 => HoleKind::Lost,
                2 => HoleKind::Cut,
                _ => return None,
            },
        });
    }
    Some(holes)
}

/// The holes of a partition; none if the file is absent.
pub(crate) fn load(disk: &dyn Disk, dir: &Path) -> Result<Vec<Hole>, Unusable> {
    match atomic_file::read(disk, &path(dir), MAGIC, VERSION, parse) {
        Err(Unusable::Absent) => Ok(Vec::new()),
        result => result,
    }
}
