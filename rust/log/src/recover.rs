//! Opening a partition: at once after a clean shutdown, else by checking everything past the
//! checkpoint. What is torn is cut, what is damaged stays and is remembered; no offset that may
//! have been seen is given again.

mod settle;
mod state;
mod walk;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mqlog_record::HEADER_LEN;

use crate::atomic_file::Unusable;
use crate::checkpoint::Entry;
use crate::disk::{DiskFile, OpenMode};
use crate::epochs;
use crate::holes::{self, Hole};
use crate::marks::Mark;
use crate::partition::{Opened, Recovery};
use crate::producer::Producers;
use crate::scan::Window;
use crate::segment::{file_name, parse_name, Segment};
use crate::shared::{Shared, Trash};
use crate::{LogConfig, LogError, TopicId, META_TOPIC_ID};

/// What is known of a partition before it is opened.
pub(crate) struct Plan<'a> {
    pub shared: &'a Arc<Shared>,
    pub id: (TopicId, i32),
    pub dir: &'a Path,
    pub config: &'a LogConfig,
    /// The metadata's leader epoch: no batch can have a larger one.
    pub most_epoch: i32,
    pub entry: Option<Entry>,
    /// The last shutdown was clean.
    pub clean: bool,
    /// Everything was flushed since the start by one `syncfs`.
    pub synced: bool,
}

/// A log file that is there.
#[derive(Debug, Clone)]
struct Found {
    base: i64,
    path: PathBuf,
    size: u64,
}

/// Opens a partition.
pub(crate) fn open(plan: &Plan<'_>) -> Result<Opened, LogError> {
    let names = list(plan)?;
    let (found, log_start) = plan.tidy(&names)?;
    let holes = plan.load_holes()?;
    if let Some(opened) = plan.open_clean(&names, &found, log_start, &holes)? {
        return Ok(opened);
    }
    if plan.clean && plan.id.0 == META_TOPIC_ID {
        return Err(plan.changed_since_shutdown(&found));
    }
    let walk = plan.recover(&names, &found, log_start, holes)?;
    plan.settle(walk, &names, log_start)
}

fn list(plan: &Plan<'_>) -> Result<Vec<String>, LogError> {
    plan.shared
        .disk
        .list(plan.dir)
        .map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => LogError::Missing {
                path: plan.dir.to_path_buf(),
            },
            _ => LogError::io("list", plan.dir, error),
        })
}

impl Plan<'_> {
    fn io(&self, action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> LogError {
        let path = path.to_path_buf();
        move |error| LogError::io(action, &path, error)
    }

    /// Lists the log files, removes left-overs and segments below the log start.
    fn tidy(&self, names: &[String]) -> Result<(Vec<Found>, i64), LogError> {
        let shared = self.shared;
        let mut found = Vec::new();
        for name in names {
            let path = self.dir.join(name);
            if name.ends_with(".tmp") || name.ends_with(".deleted") {
                // Left-overs of an earlier life; one that cannot go now goes next time.
                let _ = shared.disk.unlink(&path);
            } else if let Some(base) = parse_name(name, "log") {
                let file = shared.disk.open(&path, OpenMode::Read);
                let size = file
                    .and_then(|file| file.len())
                    .map_err(self.io("open", &path))?;
                found.push(Found { base, path, size });
            }
        }
        found.sort_by_key(|found| found.base);
        let first = found
            .first()
            .map(|found| found.base)
            .ok_or_else(|| LogError::Missing {
                path: self.dir.to_path_buf(),
            })?;
        let log_start = self.entry.map_or(first, |entry| entry.log_start).max(first);
        // Producers are replayed from the checkpointed segment on, deleted or not.
        let needless = log_start.min(self.entry.map_or(i64::MAX, |entry| entry.segment));
        let below = found
            .windows(2)
            .take_while(|pair| pair.get(1).is_some_and(|next| next.base <= needless));
        let below = below.count();
        for old in found.drain(..below) {
            let paths = [old.path.clone(), self.dir.join(file_name(old.base, "idx"))];
            for path in paths {
                shared.throw_away(path, false, 0);
            }
        }
        Ok((found, log_start))
    }

    /// Why the metadata log is not opened after a clean shutdown: nothing may be missing from it.
    fn changed_since_shutdown(&self, found: &[Found]) -> LogError {
        let is = |base: i64, size: u64| format!("{} of {size} bytes", file_name(base, "log"));
        let there = found
            .last()
            .map_or_else(String::new, |last| is(last.base, last.size));
        let said = self.entry.map_or_else(
            || "nothing of it".to_owned(),
            |entry| is(entry.segment, entry.position),
        );
        LogError::Recovery {
            path: self.dir.to_path_buf(),
            reason: format!(
                "the log ends in {there}, but the clean shutdown left {said}: somebody changed it \
                 since; restore the directory from a backup"
            ),
        }
    }

    fn load_holes(&self) -> Result<Vec<Hole>, LogError> {
        match holes::load(&*self.shared.disk, self.dir) {
            Ok(holes) => Ok(holes),
            Err(Unusable::Fatal(error)) => Err(error),
            // What it said is found again by the checks that precede serving.
            Err(Unusable::Absent | Unusable::Damaged) => Ok(Vec::new()),
        }
    }

    fn existing(&self, found: &[Found], upto: usize) -> Vec<Arc<Segment>> {
        let ends = found.iter().skip(1).map(|next| next.base);
        let closed = found.iter().zip(ends).take(upto);
        closed
            .map(|(f, end)| Arc::new(Segment::existing(self.dir, f.base, f.size, end)))
            .collect()
    }

    /// After a clean shutdown names and sizes say enough.
    fn open_clean(
        &self,
        names: &[String],
        found: &[Found],
        log_start: i64,
        holes: &[Hole],
    ) -> Result<Option<Opened>, LogError> {
        let (Some(entry), Some(last)) = (self.entry.filter(|_| self.clean), found.last()) else {
            return Ok(None);
        };
        if last.base != entry.segment || last.size != entry.position {
            return Ok(None);
        }
        let mut segments = self.existing(found, found.len() - 1);
        let active = Segment::existing(self.dir, last.base, last.size, entry.durable_end);
        self.load_index(&active, holes)?;
        self.set_age(&active)?;
        segments.push(Arc::new(active));
        let mut producers = Producers::default();
        if entry.snapshot >= 0 {
            let replay = self.restore(names, entry, &mut producers)?;
            self.replay(&segments, holes, replay..entry.durable_end, &mut producers)?;
        }
        let epochs = match epochs::load(&*self.shared.disk, self.dir) {
            Ok(epochs) => epochs,
            Err(Unusable::Fatal(error)) => return Err(error),
            Err(_) => self.rebuild_epochs(&segments, holes)?,
        };
        let recovery = Recovery {
            clean: true,
            cut_at: -1,
            last_epoch: epochs.last().map_or(-1, |last| last.epoch),
            ..Recovery::default()
        };
        Ok(Some(Opened {
            end: Mark {
                offset: entry.durable_end,
                segment: entry.segment,
                position: entry.position,
                total: 0,
            },
            segments,
            log_start,
            epochs,
            holes: holes.to_vec(),
            snapshot: entry.snapshot,
            producers,
            recovery,
            entry: Some(Entry { log_start, ..entry }),
        }))
    }

    fn load_index(&self, segment: &Segment, holes: &[Hole]) -> Result<(), LogError> {
        let shared = self.shared;
        let interval = self.config.index_interval_bytes;
        let trust = shared.opts.bugs.trust_index;
        segment
            .load_index(&*shared.disk, &shared.files, holes, interval, trust)
            .map(|_| ())
            .map_err(self.io("read the index of", &segment.path()))
    }

    /// Age of the first batch, by its timestamp but never in the future.
    fn set_age(&self, segment: &Segment) -> Result<(), LogError> {
        if segment.size() > 0 {
            let file = self.file(segment)?;
            let mut window = Window::new(&*file, segment.size(), HEADER_LEN);
            let header = window.header(0).map_err(self.io("read", &segment.path()))?;
            let now = self.shared.clock.now_ms();
            let time = header.map_or(now, |header| header.max_timestamp);
            segment.set_first_ms(if time < 0 { now } else { time.min(now) });
        }
        Ok(())
    }

    fn file(&self, segment: &Segment) -> Result<Arc<dyn DiskFile>, LogError> {
        self.shared
            .files
            .get(&segment.slot)
            .map_err(self.io("open", &segment.path()))
    }
}

impl Shared {
    /// Has a file or directory removed when it is due.
    pub fn throw_away(&self, path: PathBuf, directory: bool, due_ms: i64) {
        crate::partition::lock(&self.trash).push(Trash {
            due_ms,
            path,
            directory,
        });
    }
}
