//! Finds where a log goes on after bytes that are no batch.

use std::io;

use mqlog_record::{verify_crc, BatchHeader, HEADER_LEN};

use crate::check::{fits, plausible};
use crate::holes::Hole;
use crate::scan::Window;

/// Where the magic byte of a batch lies.
const MAGIC_AT: u64 = 16;

/// What a batch must agree with besides its own checksum, which covers neither its offset nor its
/// leader epoch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    pub least_epoch: i32,
    pub most_epoch: i32,
    /// Base offset of the next segment, `i64::MAX` if there is none.
    pub next_base: i64,
}

impl Rules {
    /// Those of a segment below the checkpoint, which ends at `next_base`.
    pub fn any(next_base: i64) -> Rules {
        Rules {
            least_epoch: i32::MIN,
            most_epoch: i32::MAX,
            next_base,
        }
    }

    pub fn accept(&self, header: &BatchHeader) -> bool {
        fits(header)
            && (self.least_epoch..=self.most_epoch).contains(&header.partition_leader_epoch)
            && header.next_offset() <= self.next_base
    }
}

/// The header of a whole good batch at `position` with the base offset `expected`.
pub(crate) fn good_batch(
    window: &mut Window<'_>,
    position: u64,
    expected: i64,
    rules: &Rules,
) -> io::Result<Option<BatchHeader>> {
    Ok(window.batch(position)?.and_then(|(header, bytes)| {
        let good = header.base_offset == expected && rules.accept(&header) && verify_crc(bytes);
        good.then_some(header)
    }))
}

/// Whether good batches follow each other from `position` to the end, past the `known` holes;
/// with `whole` also up to the offset at which the next segment begins.
fn chains(
    window: &mut Window<'_>,
    mut position: u64,
    rules: &Rules,
    known: &[Hole],
    whole: bool,
) -> io::Result<bool> {
    let mut rules = *rules;
    let Some(first) = window.header(position)? else {
        return Ok(false);
    };
    let mut expected = first.base_offset;
    while position < window.end {
        if let Some(hole) = known.iter().find(|hole| hole.position == position) {
            expected = hole.to;
            position += hole.length;
            continue;
        }
        match good_batch(window, position, expected, &rules)? {
            Some(header) => {
                expected = header.next_offset();
                rules.least_epoch = header.partition_leader_epoch;
                position += header.size() as u64;
            }
            None => return Ok(false),
        }
    }
    Ok(!whole || expected == rules.next_base)
}

/// The next good batch after the bad one at `bad`, up to the window's end. A bad batch whose
/// header can be believed is jumped over whole: its records may hold what looks like a batch. Only
/// where it is known at which offset the log goes on, and nothing good follows it, may its length
/// be what is wrong. `known` are the holes of this segment.
pub(crate) fn next_good(
    window: &mut Window<'_>,
    bad: u64,
    expected: i64,
    rules: &Rules,
    known: &[Hole],
) -> io::Result<Option<(u64, BatchHeader)>> {
    let mut from = bad + 1;
    let believed = plausible(window.bytes(bad, HEADER_LEN)?)
        .filter(|header| header.base_offset == expected && rules.accept(header));
    let mut after = from;
    if let Some(header) = believed {
        after = bad + header.size() as u64;
        let open_end = rules.next_base == i64::MAX;
        if after == window.end || (after > window.end && open_end) {
            return Ok(None);
        }
        if let Some(next) = good_batch(window, after, header.next_offset(), rules)? {
            return Ok(Some((after, next)));
        }
        if open_end {
            from = after;
        }
    }
    while from + HEADER_LEN as u64 <= window.end {
        let Some(at) = next_magic(window, from)? else {
            return Ok(None);
        };
        from = at;
        let reach = expected.saturating_add(i64::try_from(from - bad).unwrap_or(i64::MAX));
        // What is missing had an offset: one that claims it has lost its own to a torn sector.
        let header = window.header(from)?.filter(|header| {
            (expected + 1..=reach).contains(&header.base_offset) && rules.accept(header)
        });
        if let Some(header) = header {
            if chains(window, from, rules, known, from < after)? {
                return Ok(Some((from, header)));
            }
        }
        from += 1;
    }
    Ok(None)
}

/// The next position from which a batch could begin: its magic byte says 2.
fn next_magic(window: &mut Window<'_>, mut from: u64) -> io::Result<Option<u64>> {
    while from + HEADER_LEN as u64 <= window.end {
        let bytes = window.bytes(from + MAGIC_AT, crate::scan::HEADERS)?;
        if bytes.is_empty() {
            return Ok(None);
        }
        if let Some(at) = bytes.iter().position(|byte| *byte == 2) {
            return Ok(Some(from + at as u64));
        }
        from += bytes.len() as u64;
    }
    Ok(None)
}
