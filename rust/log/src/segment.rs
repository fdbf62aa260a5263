//! One `.log` file with its index: where its batches are, which of its bytes were checked.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use arc_swap::ArcSwapOption;
use mqlog_record::BatchHeader;

use crate::disk::{Disk, DiskFile, OpenMode};
use crate::files::{FileCache, Slot};
use crate::holes::Hole;
use crate::idx_file::{self, Persisted};
use crate::index::{Entry, Index};
use crate::partition::lock;
use crate::scan::{Window, HEADERS};

/// Places of the newest batches that are remembered exactly.
const RECENT: usize = 64;
/// No timestamp seen.
pub(crate) const NO_TIME: i64 = i64::MIN;

/// A segment of a log.
pub struct Segment {
    base_offset: i64,
    dir: PathBuf,
    pub(crate) slot: Arc<Slot>,
    /// Bytes of whole batches; those of the active segment grow.
    size: AtomicU64,
    /// Offset after the last batch.
    end_offset: AtomicI64,
    max_timestamp: AtomicI64,
    /// When its first batch came, by the wall clock; -1 if that is not known.
    first_ms: AtomicI64,
    index: ArcSwapOption<Index>,
    /// The index came from a file and nobody compared it with the log.
    hints: AtomicBool,
    persisted: Mutex<Persisted>,
    /// Where the newest batches begin, by offset: `relative << 32 | position`.
    recent: OnceLock<Box<[AtomicU64; RECENT]>>,
    checked: Checked,
    used: AtomicU64,
}

/// Which bytes this process wrote or checked.
struct Checked {
    /// All from here on.
    from: AtomicU64,
    ranges: Mutex<Vec<(u64, u64)>>,
}

/// `<20 digits>.<extension>`.
pub(crate) fn file_name(base: i64, extension: &str) -> String {
    format!("{base:020}.{extension}")
}

/// The offset in a name of 20 digits and an extension.
pub(crate) fn parse_name(name: &str, extension: &str) -> Option<i64> {
    let digits = name.strip_suffix(extension)?.strip_suffix('.')?;
    let all_digits = digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
    all_digits.then(|| digits.parse().ok()).flatten()
}

fn recent_slot(relative: u32) -> usize {
    (relative.wrapping_mul(0x9e37_79b1) >> 26) as usize % RECENT
}

impl Segment {
    fn new(dir: &Path, base_offset: i64, checked_from: u64) -> Segment {
        Segment {
            base_offset,
            dir: dir.to_path_buf(),
            slot: Slot::new(dir.join(file_name(base_offset, "log"))),
            size: AtomicU64::new(0),
            end_offset: AtomicI64::new(base_offset),
            max_timestamp: AtomicI64::new(NO_TIME),
            first_ms: AtomicI64::new(-1),
            index: ArcSwapOption::empty(),
            hints: AtomicBool::new(false),
            persisted: Mutex::new(Persisted::default()),
            recent: OnceLock::new(),
            checked: Checked {
                from: AtomicU64::new(checked_from),
                ranges: Mutex::new(Vec::new()),
            },
            used: AtomicU64::new(0),
        }
    }

    /// Makes the file of a new segment. Its directory entry is not durable yet.
    pub(crate) fn create(
        disk: &dyn Disk,
        files: &FileCache,
        dir: &Path,
        base_offset: i64,
    ) -> io::Result<Segment> {
        let segment = Segment::new(dir, base_offset, 0);
        segment.index.store(Some(Arc::default()));
        let file = disk.open(&segment.path(), OpenMode::CreateNew)?;
        files.adopt(&segment.slot, file);
        Ok(segment)
    }

    /// A segment that is there already, of which nothing was looked at.
    pub(crate) fn existing(dir: &Path, base: i64, size: u64, end_offset: i64) -> Segment {
        let segment = Segment::new(dir, base, size);
        segment.size.store(size, Ordering::Release);
        segment.end_offset.store(end_offset, Ordering::Release);
        if size == 0 {
            segment.index.store(Some(Arc::default()));
        }
        segment
    }

    /// First offset the segment may hold: its name.
    pub fn base_offset(&self) -> i64 {
        self.base_offset
    }

    /// Offset after its last batch.
    pub fn end_offset(&self) -> i64 {
        self.end_offset.load(Ordering::Acquire)
    }

    /// Bytes of its batches.
    pub fn size(&self) -> u64 {
        self.size.load(Ordering::Acquire)
    }

    /// Its file.
    pub fn path(&self) -> PathBuf {
        self.slot.path()
    }

    pub(crate) fn sibling(&self, extension: &str) -> PathBuf {
        self.dir.join(file_name(self.base_offset, extension))
    }

    /// Largest timestamp in it, [`NO_TIME`] if there is none or it is not known.
    pub(crate) fn max_timestamp(&self) -> i64 {
        self.max_timestamp.load(Ordering::Acquire)
    }

    pub(crate) fn first_ms(&self) -> i64 {
        self.first_ms.load(Ordering::Relaxed)
    }

    pub(crate) fn set_first_ms(&self, now_ms: i64) {
        self.first_ms.store(now_ms, Ordering::Relaxed);
    }

    pub(crate) fn index(&self) -> Option<Arc<Index>> {
        self.index.load_full()
    }

    pub(crate) fn has_hints(&self) -> bool {
        self.hints.load(Ordering::Acquire)
    }

    pub(crate) fn touch(&self, tick: u64) {
        self.used.store(tick, Ordering::Relaxed);
    }

    pub(crate) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// Gives the index back; it is loaded again when it is needed.
    pub(crate) fn drop_index(&self) {
        self.index.store(None);
    }

    /// Takes in a batch at the end. Under the appender's lock, or before anybody else knows it.
    pub(crate) fn appended(&self, header: &BatchHeader, position: u64, boundary: Option<&Index>) {
        let relative = self.relative(header.base_offset);
        let max = self.max_timestamp.load(Ordering::Relaxed);
        if let Some(index) = boundary.filter(|_| position > 0) {
            index.push(Entry {
                relative,
                position: position as u32,
                max_timestamp: max,
            });
        }
        let recent = self
            .recent
            .get_or_init(|| Box::new([const { AtomicU64::new(0) }; RECENT]));
        if let Some(cell) = recent.get(recent_slot(relative)) {
            cell.store(u64::from(relative) << 32 | position, Ordering::Relaxed);
        }
        if header.max_timestamp > max {
            self.max_timestamp
                .store(header.max_timestamp, Ordering::Release);
        }
        self.end_offset
            .store(header.next_offset(), Ordering::Release);
        self.size
            .store(position + header.size() as u64, Ordering::Release);
    }

    /// What follows a hole at the end begins here.
    pub(crate) fn set_end(&self, end_offset: i64, size: u64) {
        self.end_offset.store(end_offset, Ordering::Release);
        self.size.store(size, Ordering::Release);
    }

    pub(crate) fn relative(&self, offset: i64) -> u32 {
        u32::try_from(offset.saturating_sub(self.base_offset)).unwrap_or(u32::MAX)
    }

    /// Where the batch with this base offset begins, if it is one of the newest.
    pub(crate) fn recent_position(&self, offset: i64) -> Option<u64> {
        let relative = self.relative(offset);
        if relative == 0 {
            return Some(0);
        }
        let cell = self.recent.get()?.get(recent_slot(relative))?;
        let held = cell.load(Ordering::Relaxed);
        ((held >> 32) as u32 == relative).then_some(held & u64::from(u32::MAX))
    }

    /// Whether this process wrote or checked all bytes of a range.
    pub(crate) fn is_checked(&self, from: u64, to: u64) -> bool {
        if from >= self.checked.from.load(Ordering::Acquire) {
            return true;
        }
        let ranges = lock(&self.checked.ranges);
        let to = to.min(self.checked.from.load(Ordering::Acquire));
        ranges.iter().any(|(a, b)| *a <= from && to <= *b)
    }

    /// Remembers that a range was found good.
    pub(crate) fn set_checked(&self, from: u64, to: u64) {
        let mut ranges = lock(&self.checked.ranges);
        ranges.push((from, to));
        ranges.sort_unstable();
        let mut merged: Vec<(u64, u64)> = Vec::with_capacity(ranges.len());
        for (a, b) in ranges.drain(..) {
            match merged.last_mut() {
                Some(last) if a <= last.1 => last.1 = last.1.max(b),
                _ => merged.push((a, b)),
            }
        }
        let limit = self.checked.from.load(Ordering::Acquire);
        if let Some((a, _)) = merged.last().copied().filter(|(_, b)| *b >= limit) {
            self.checked.from.store(a.min(limit), Ordering::Release);
            merged.pop();
        }
        *ranges = merged;
    }

    /// Everything from `from` on is known good.
    pub(crate) fn set_checked_from(&self, from: u64) {
        self.checked.from.store(from, Ordering::Release);
    }

    /// The index, loaded from its file and completed from the log if it is not in memory. Reads
    /// from the device.
    pub(crate) fn load_index(
        &self,
        disk: &dyn Disk,
        files: &FileCache,
        holes: &[Hole],
        interval: u32,
        trust: bool,
    ) -> io::Result<Arc<Index>> {
        let mut persisted = lock(&self.persisted);
        if let Some(index) = self.index() {
            return Ok(index);
        }
        let size = self.size();
        let file = files.get(&self.slot)?;
        let path = self.sibling("idx");
        let (mut index, mut held) = idx_file::load(disk, &path, self.base_offset, size, trust)?;
        let mut hints = index.len() > 0;
        if hints && !trust && !self.confirms(&*file, &index)? {
            (index, held) = Default::default();
            hints = false;
        }
        if !trust || index.len() == 0 {
            self.complete(&*file, &index, holes, interval)?;
        }
        *persisted = held;
        let index = Arc::new(index);
        self.hints.store(hints, Ordering::Release);
        self.index.store(Some(index.clone()));
        Ok(index)
    }

    /// Whether the last entry but a closing one leads to the batch it names.
    fn confirms(&self, file: &dyn DiskFile, index: &Index) -> io::Result<bool> {
        let mut window = Window::new(file, self.size(), HEADERS);
        for at in index.len().saturating_sub(2)..index.len() {
            if index
                .get(at)
                .is_some_and(|entry| !matches!(self.leads(&mut window, entry), Ok(true)))
            {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether the batch that an entry names is where it says.
    pub(crate) fn leads(&self, window: &mut Window<'_>, entry: Entry) -> io::Result<bool> {
        let offset = self.base_offset + i64::from(entry.relative);
        if u64::from(entry.position) == self.size() {
            return Ok(offset == self.end_offset());
        }
        let header = window.header(u64::from(entry.position))?;
        Ok(header.is_some_and(|header| header.base_offset == offset))
    }

    /// Adds what the headers after the last entry tell, and the largest timestamp.
    fn complete(
        &self,
        file: &dyn DiskFile,
        index: &Index,
        holes: &[Hole],
        interval: u32,
    ) -> io::Result<()> {
        let last = index.last();
        let mut position = last.map_or(0, |entry| u64::from(entry.position));
        let mut max = last.map_or(NO_TIME, |entry| entry.max_timestamp);
        let mut expected = self.base_offset + last.map_or(0, |entry| i64::from(entry.relative));
        let mut marked = position;
        let size = self.size();
        let mut window = Window::new(file, size, HEADERS);
        while position < size {
            if let Some(hole) = self.hole_at(holes, position) {
                position += hole.length;
                expected = hole.to;
                continue;
            }
            let Some(header) = window.header(position)? else {
                break;
            };
            // An offset is outside of the checksum: one that does not fit names no batch.
            let fits = header.base_offset == expected;
            expected = expected.saturating_add(i64::from(header.last_offset_delta) + 1);
            if fits && position >= marked + u64::from(interval) {
                index.push(Entry {
                    relative: self.relative(header.base_offset),
                    position: position as u32,
                    max_timestamp: max,
                });
                marked = position;
            }
            max = max.max(header.max_timestamp);
            position += header.size() as u64;
        }
        self.max_timestamp.fetch_max(max, Ordering::AcqRel);
        Ok(())
    }

    fn hole_at<'h>(&self, holes: &'h [Hole], position: u64) -> Option<&'h Hole> {
        holes.iter().find(|hole| {
            hole.segment == self.base_offset && hole.position == position && hole.length > 0
        })
    }

    /// Throws the index away, on the heap and in the file: it led astray.
    pub(crate) fn forget_index(&self, disk: &dyn Disk) {
        let mut persisted = lock(&self.persisted);
        *persisted = Persisted::default();
        // It is rebuilt from the log whether or not the file could be removed: its entries were
        // shown wrong, and loading checks them again.
        let _ = disk.unlink(&self.sibling("idx"));
        self.hints.store(false, Ordering::Release);
        self.index.store(None);
    }

    /// Removes the `.idx` file; what is in memory is written again as a whole.
    pub(crate) fn forget_index_file(&self, disk: &dyn Disk) {
        let mut persisted = lock(&self.persisted);
        *persisted = Persisted::default();
        // Entries that come back anyway are past the end or are checked before they are used.
        let _ = disk.unlink(&self.sibling("idx"));
    }

    /// Ends the index at the end of the log, so that loading it reads no header.
    pub(crate) fn seal_index(&self) {
        if let Some(index) = self.index() {
            if self.size() > 0 {
                index.push(Entry {
                    relative: self.relative(self.end_offset()),
                    position: self.size() as u32,
                    max_timestamp: self.max_timestamp(),
                });
            }
        }
    }

    /// Bytes of the `.idx` file that hold what is in memory.
    pub(crate) fn persisted_bytes(&self) -> u64 {
        lock(&self.persisted).bytes
    }

    /// The same file up to `size`, with what is known of that part.
    pub(crate) fn cut_to(&self, size: u64, end_offset: i64) -> Segment {
        let mut segment = Segment::new(&self.dir, self.base_offset, 0);
        segment.slot = self.slot.clone();
        segment.set_end(end_offset, size);
        segment.set_first_ms(self.first_ms());
        segment
            .checked
            .from
            .store(self.checked.from.load(Ordering::Acquire), Ordering::Release);
        *lock(&segment.checked.ranges) = lock(&self.checked.ranges).clone();
        if size == 0 {
            segment.index.store(Some(Arc::default()));
        }
        segment
    }

    /// Appends what the `.idx` file does not have. Not durable: it is a hint.
    pub(crate) fn persist_index(&self, disk: &dyn Disk) -> io::Result<()> {
        let mut persisted = lock(&self.persisted);
        match self.index() {
            Some(index) => {
                let path = self.sibling("idx");
                idx_file::append(disk, &path, self.base_offset, &index, &mut persisted)
            }
            None => Ok(()),
        }
    }
}

impl std::fmt::Debug for Segment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Segment")
            .field("base_offset", &self.base_offset)
            .field("end_offset", &self.end_offset())
            .field("size", &self.size())
            .finish_non_exhaustive()
    }
}
