//! The directories below `topics/`: made with their first segment, deleted by renaming, and put
//! aside when no metadata names them.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};

use crate::checkpoint::Entry;
use crate::cut::hex;
use crate::disk::{mkdir_all, Trouble};
use crate::marks::Mark;
use crate::partition::{lock, Opened};
use crate::segment::Segment;
use crate::shared::Shared;
use crate::{DataDir, LogConfig, LogError, Partition, Recovery, TopicId};

/// How long the files of a deleted topic stay, in ms, if no partition says.
const DELETE_DELAY_MS: i64 = 60_000;

pub(crate) fn topic_dir(root: &Path, id: &TopicId) -> PathBuf {
    root.join("topics").join(hex(id))
}

impl DataDir {
    /// Moves directories that no metadata record names to `orphans/`; says which.
    pub fn scan_orphans(&self, known: &HashSet<(TopicId, i32)>) -> Vec<String> {
        self.orphans(known, true)
    }

    /// Names directories that no metadata record names, leaving them where they are: for a start
    /// whose metadata log was cut.
    pub fn report_orphans(&self, known: &HashSet<(TopicId, i32)>) -> Vec<String> {
        self.orphans(known, false)
    }

    fn orphans(&self, known: &HashSet<(TopicId, i32)>, remove: bool) -> Vec<String> {
        let shared = &self.shared;
        let topics = self.path().join("topics");
        let names = |path: &Path| shared.disk.list(path).unwrap_or_default();
        let directories: HashSet<String> = known.iter().map(|(id, _)| hex(id)).collect();
        let partitions: HashSet<(String, String)> = known
            .iter()
            .map(|(id, index)| (hex(id), index.to_string()))
            .collect();
        let mut found = Vec::new();
        for topic in names(&topics)
            .into_iter()
            .filter(|name| !name.ends_with(".deleted"))
        {
            if !directories.contains(&topic) {
                found.push((topics.join(&topic), topic));
                continue;
            }
            for index in names(&topics.join(&topic)) {
                if !partitions.contains(&(topic.clone(), index.clone())) {
                    found.push((topics.join(&topic).join(&index), format!("{topic}-{index}")));
                }
            }
        }
        let mut report: Vec<String> = found
            .into_iter()
            .map(
                |(path, name)| match remove.then(|| shared.move_orphan(&path, &name)) {
                    Some(Ok(to)) => to.display().to_string(),
                    _ => path.display().to_string(),
                },
            )
            .collect();
        report.sort();
        report
    }

    /// Unpublishes a topic's partitions and removes their files after a while. Also removes what
    /// is left of a topic that was deleted in an earlier life.
    pub fn delete_topic(&self, topic: TopicId) {
        self.shared.remove_topic(topic);
    }
}

impl Shared {
    /// Makes a partition's directory with its first, empty segment. Not durable yet.
    pub(crate) fn create(
        self: &Arc<Self>,
        id: (TopicId, i32),
        dir: &Path,
        config: &Arc<LogConfig>,
        epoch: i32,
    ) -> Result<Arc<Partition>, LogError> {
        let failed = |error: io::Error| {
            if Trouble::of(&error) == Trouble::Full {
                self.disk_is_full();
            }
            LogError::io("create", dir, error)
        };
        self.files.make_room(1);
        mkdir_all(&*self.disk, dir).map_err(failed)?;
        let segment = Segment::create(&*self.disk, &self.files, dir, 0).map_err(failed)?;
        let entry = Entry {
            log_start: 0,
            durable_end: 0,
            segment: 0,
            position: 0,
            snapshot: -1,
        };
        let opened = Opened {
            segments: vec![Arc::new(segment)],
            end: Mark::default(),
            log_start: 0,
            epochs: Default::default(),
            holes: Vec::new(),
            producers: Default::default(),
            snapshot: -1,
            recovery: Recovery {
                clean: true,
                cut_at: -1,
                last_epoch: -1,
                ..Recovery::default()
            },
            entry: Some(entry),
        };
        Ok(Partition::new(
            self.clone(),
            id,
            dir,
            config.clone(),
            epoch,
            opened,
        ))
    }

    /// Makes the directories of new partitions durable, from the inside out.
    pub(crate) fn sync_created(&self, made: &[Arc<Partition>]) -> Result<(), LogError> {
        let failed = |path: &Path, error: io::Error| {
            if Trouble::of(&error) == Trouble::Io {
                self.take_offline(&format!("flushing {} failed: {error}", path.display()));
            }
            LogError::io("flush", path, error)
        };
        if self.opts.bugs.no_dir_fsync {
            return Ok(());
        }
        let root = &self.opts.path;
        if made.len() > 2
            && self.opts.syncfs
            && self.root.sync_fs().map_err(|error| failed(root, error))?
        {
            return Ok(());
        }
        let mut parents = Vec::new();
        for partition in made {
            let dir = partition.directory();
            self.disk
                .sync_dir(&dir)
                .map_err(|error| failed(&dir, error))?;
            parents.extend(
                dir.ancestors()
                    .skip(1)
                    .take_while(|p| p.starts_with(root))
                    .map(PathBuf::from),
            );
        }
        parents.sort();
        parents.dedup();
        for dir in parents.iter().rev() {
            self.disk
                .sync_dir(dir)
                .map_err(|error| failed(dir, error))?;
        }
        Ok(())
    }

    fn move_orphan(&self, path: &Path, name: &str) -> io::Result<PathBuf> {
        let orphans = self.opts.path.join("orphans");
        let mut to = orphans.join(name);
        for n in 1.. {
            if !self.disk.exists(&to)? {
                break;
            }
            to = orphans.join(format!("{name}.{n}"));
        }
        self.disk.rename(path, &to)?;
        self.disk.sync_dir(&orphans)?;
        if let Some(parent) = path.parent() {
            self.disk.sync_dir(parent)?;
        }
        Ok(to)
    }

    pub(crate) fn remove_topic(&self, topic: TopicId) {
        let partitions: Vec<Arc<Partition>> = self
            .partitions()
            .into_iter()
            .filter(|p| p.topic_id() == topic)
            .collect();
        partitions
            .iter()
            .for_each(|partition| partition.set_deleted());
        let delays = partitions
            .iter()
            .map(|p| p.config.load().file_delete_delay_ms);
        let delay = delays.max().unwrap_or(DELETE_DELAY_MS).max(0);
        {
            let mut registry = self
                .registry
                .write()
                .unwrap_or_else(PoisonError::into_inner);
            registry.retain(|(id, _), _| *id != topic);
        }
        lock(&self.ledger).entries.retain(|(id, _), _| *id != topic);
        let dir = topic_dir(&self.opts.path, &topic);
        let mut name = dir.clone().into_os_string();
        name.push(".deleted");
        let deleted = PathBuf::from(name);
        {
            // A round in progress still writes to it.
            let _round = lock(&self.round);
            if self.disk.rename(&dir, &deleted).is_err() {
                // Gone already, or it stays until the next start finds it.
                return;
            }
        }
        for partition in &partitions {
            let unflushed = partition.log_end.load().total - partition.durable.load().total;
            if self.opts.durability == crate::Durability::Fsync {
                self.bytes_flushed(unflushed);
            }
            let dir = deleted.join(partition.index().to_string());
            partition.moved_to(&dir);
            for segment in partition.segments.load().iter() {
                if let Some(name) = segment.path().file_name() {
                    segment.slot.renamed(&dir.join(name));
                }
            }
        }
        if let Err(error) = self.disk.sync_dir(&self.opts.path.join("topics")) {
            if Trouble::of(&error) == Trouble::Io {
                self.take_offline(&format!("flushing topics/ failed: {error}"));
            }
        }
        let due = self.clock.now_ms().saturating_add(delay);
        self.throw_away(deleted, true, due);
    }
}
