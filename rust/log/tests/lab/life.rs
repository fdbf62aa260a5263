//! One history: start, check, work, end, again and again on the same directory.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use mqlog_log::sim::{Call, Fault, FsMode, SimClock, SimDisk, SimRng};
use mqlog_log::{Bugs, DataDir, DataDirOptions, Durability, LogConfig, Partition, State, TopicId};
use mqlog_record::Batches;

use super::client::Client;
use super::ledger::{Ledger, Loss, View};
use super::reader::read_all;

pub type Id = (TopicId, i32);

const NOW: i64 = 1_700_000_000_000;
const HEADER: usize = 61;

/// What happened in a history, to see that it was worth running.
#[derive(Debug, Default, Clone, Copy)]
pub struct Stats {
    pub crashes: u64,
    pub recoveries: u64,
    pub clean_starts: u64,
    pub torn_recoveries: u64,
    pub appended: u64,
    pub duplicates: u64,
    pub errors: u64,
    pub cuts: u64,
    pub holes: u64,
    pub rolls: u64,
    pub truncations: u64,
    pub deletions: u64,
    pub checkpoints: u64,
    pub damages: u64,
}

impl Stats {
    pub fn add(&mut self, other: &Stats) {
        self.crashes += other.crashes;
        self.recoveries += other.recoveries;
        self.clean_starts += other.clean_starts;
        self.torn_recoveries += other.torn_recoveries;
        self.appended += other.appended;
        self.duplicates += other.duplicates;
        self.errors += other.errors;
        self.cuts += other.cuts;
        self.holes += other.holes;
        self.rolls += other.rolls;
        self.truncations += other.truncations;
        self.deletions += other.deletions;
        self.checkpoints += other.checkpoints;
        self.damages += other.damages;
    }
}

/// A partition that metadata knows: what was promised of it, and who sends to it.
pub struct Known {
    pub ledger: Ledger,
    pub clients: Vec<Client>,
    pub epoch: i32,
}

/// A data directory that is open.
pub struct Running {
    pub dir: DataDir,
    pub partitions: BTreeMap<Id, Arc<Partition>>,
}

/// The whole of a history.
pub struct Life {
    pub rng: SimRng,
    pub disk: SimDisk,
    pub clock: Arc<SimClock>,
    pub options: DataDirOptions,
    pub config: Arc<LogConfig>,
    pub known: BTreeMap<Id, Known>,
    pub running: Option<Running>,
    pub serial: u64,
    pub stats: Stats,
    /// Calls may fail in this life although the machine runs.
    pub troubled: bool,
    pub trace: bool,
    pub topics: u8,
    pub producers: i64,
    /// What the ends since the last good start may have taken.
    loss: Loss,
    /// The last end was a clean shutdown of a healthy directory.
    clean: bool,
    failed_syncs: u64,
    /// The start of this life came to its end.
    served: bool,
}

fn pick<T: Copy>(rng: &mut SimRng, from: &[T]) -> T {
    from[rng.index(from.len())]
}

impl Life {
    pub fn new(seed: u64, bugs: Bugs, trace: bool) -> Life {
        let mut rng = SimRng::new(seed ^ 0x6c61_6221);
        let mode = pick(&mut rng, &[FsMode::Ordered, FsMode::Loose]);
        let mut options = DataDirOptions::new("/data");
        options.durability = pick(
            &mut rng,
            &[
                Durability::Fsync,
                Durability::Fsync,
                Durability::Fsync,
                Durability::Os,
            ],
        );
        options.reserve_bytes = pick(&mut rng, &[0, 0, 4096]);
        options.syncfs = rng.percent(50);
        options.fd_budget = 16;
        options.recovery_threads = 1;
        options.index_cache_bytes = pick(&mut rng, &[0, 1 << 20]);
        options.bugs = bugs;
        let config = LogConfig {
            segment_bytes: pick(&mut rng, &[1_200, 3_000, 8_000, 40_000]),
            segment_ms: pick(&mut rng, &[200, 604_800_000]),
            index_interval_bytes: pick(&mut rng, &[100, 400, 4_096]),
            ts_after_max_ms: i64::MAX,
            file_delete_delay_ms: pick(&mut rng, &[0, 500]),
            ..LogConfig::default()
        };
        let disk = SimDisk::new(rng.next_u64(), mode);
        disk.set_cold(pick(&mut rng, &[0, 0, 30]));
        Life {
            disk,
            clock: Arc::new(SimClock::new(NOW)),
            options,
            config: Arc::new(config),
            known: BTreeMap::new(),
            running: None,
            serial: 0,
            stats: Stats::default(),
            troubled: false,
            trace,
            topics: 0,
            producers: 1,
            loss: Loss::Nothing,
            clean: false,
            failed_syncs: 0,
            served: false,
            rng,
        }
    }

    /// Runs until so many ends have happened.
    pub fn run(&mut self, crashes: u64) -> Result<Stats, String> {
        while self.stats.crashes < crashes {
            self.served = self.start()?;
            if self.served {
                self.work()?;
            }
            self.end()?;
        }
        Ok(self.stats)
    }

    pub fn say(&self, text: impl FnOnce() -> String) {
        if self.trace {
            eprintln!("{:>4} {}", self.stats.crashes, text());
        }
    }

    /// An error that is somebody's fault but the engine's, or a violation.
    pub fn allow(&mut self, what: &str, error: &dyn std::fmt::Display) -> Result<(), String> {
        self.stats.errors += 1;
        self.say(|| format!("{what}: {error}"));
        if self.troubled || self.disk.stopped() {
            return Ok(());
        }
        Err(format!("{what} failed on a healthy disk: {error}"))
    }

    /// Opens the directory and checks what is in it. False: the plug was pulled meanwhile, or the
    /// disk failed.
    fn start(&mut self) -> Result<bool, String> {
        let (clean, synced) = (std::mem::take(&mut self.clean), self.syncs_that_failed());
        self.failed_syncs = synced;
        if self.rng.percent(15) {
            let calls = self.rng.below(30);
            self.say(|| format!("stops after {calls} calls"));
            self.disk.stop_after(calls);
        }
        if self.rng.percent(4) {
            self.break_something();
        }
        let opened = DataDir::open(
            Arc::new(self.disk.clone()),
            self.clock.clone(),
            self.options.clone(),
        );
        let dir = match opened {
            Ok(dir) => dir,
            Err(error) => return self.allow("open", &error).map(|()| false),
        };
        if clean && !dir.was_clean() {
            return Err("a clean shutdown was not remembered".to_owned());
        }
        self.stats.clean_starts += u64::from(clean);
        let known: HashSet<Id> = self.known.keys().copied().collect();
        dir.scan_orphans(&known);
        let wanted: Vec<_> = self
            .known
            .iter()
            .map(|(id, known)| (id.0, id.1, self.config.clone(), known.epoch))
            .collect();
        let mut partitions = BTreeMap::new();
        for (topic, index, opened) in dir.open_partitions(&wanted) {
            let partition = opened.map_err(|error| error.to_string())?;
            partitions.insert((topic, index), partition);
        }
        let was_clean = dir.was_clean();
        self.running = Some(Running { dir, partitions });
        if !self.check_start()? {
            self.stats.torn_recoveries += 1;
            return Ok(false);
        }
        self.loss = Loss::Nothing;
        if !was_clean {
            self.raise_epochs();
        }
        Ok(true)
    }

    pub fn running(&self) -> Result<&Running, String> {
        self.running.as_ref().ok_or_else(|| "not open".to_owned())
    }

    /// Every partition is there and has what it must have.
    fn check_start(&mut self) -> Result<bool, String> {
        let partitions = self.running()?.partitions.clone();
        for (id, partition) in &partitions {
            let offline = partition.offline_reason();
            if partition.state() != State::Online || offline.is_some() {
                let reason = offline.map_or_else(|| "deleted".to_owned(), |r| r.to_string());
                return self.allow("recovery", &reason).map(|()| false);
            }
            let recovery = partition.recovery();
            self.say(|| format!("{}/{} {:?}", id.0[0], id.1, View::of(partition)));
            self.say(|| format!("  {recovery:?} {:?}", partition.holes()));
            let read = match read_all(partition) {
                Ok(read) => read,
                Err(error) => return self.allow("reading", &error).map(|()| false),
            };
            if self.disk.stopped() || self.running()?.dir.offline_reason().is_some() {
                return self
                    .allow("reading", &"the directory is offline")
                    .map(|()| false);
            }
            self.stats.recoveries += u64::from(!recovery.clean);
            self.stats.cuts += u64::from(recovery.cut_bytes > 0);
            self.stats.holes += recovery.new_holes.len() as u64;
            let view = View::of(partition);
            let holes = partition.holes();
            let loss = self.loss;
            self.say(|| {
                let read: Vec<_> = read
                    .iter()
                    .map(|stored| stored.header.base_offset)
                    .collect();
                format!("  {loss:?}: {read:?}")
            });
            let Some(known) = self.known.get_mut(id) else {
                return Err(format!("{id:?} was opened and is not known"));
            };
            known
                .ledger
                .after_crash(view, &read, &holes, loss)
                .map_err(|error| format!("partition {} after a start: {error}", id.1))?;
            known
                .clients
                .iter_mut()
                .for_each(|client| client.reconnect(&known.ledger));
        }
        if partitions.len() != self.known.len() {
            return Err("a partition was not opened".to_owned());
        }
        Ok(!self.disk.stopped())
    }

    /// After a start that was not clean: a new leader epoch, durable in the metadata, which here
    /// never crashes.
    fn raise_epochs(&mut self) {
        let Some(running) = &self.running else {
            return;
        };
        for (id, known) in &mut self.known {
            known.epoch += 1;
            if let Some(partition) = running.partitions.get(id) {
                partition.set_leader_epoch(known.epoch);
            }
        }
    }

    /// Has some call fail now and then.
    fn break_something(&mut self) {
        let calls = [
            (Call::Open, libc::EMFILE),
            (Call::Open, libc::EIO),
            (Call::Create, libc::EMFILE),
            (Call::Create, libc::ENOSPC),
            (Call::Rename, libc::EIO),
            (Call::Unlink, libc::EIO),
            (Call::List, libc::EIO),
            (Call::Mkdir, libc::ENOSPC),
            (Call::SyncDir, libc::EIO),
            (Call::Read, libc::EIO),
            (Call::Write, libc::ENOSPC),
            (Call::Write, libc::EIO),
            (Call::SetLen, libc::EIO),
            (Call::SyncData, libc::EIO),
            (Call::SyncData, libc::ENOSPC),
            (Call::SyncFs, libc::EIO),
        ];
        let (call, errno) = pick(&mut self.rng, &calls);
        let fault = Fault {
            call,
            path: String::new(),
            skip: self.rng.index(12) as u32,
            times: 1 + self.rng.index(3) as u32,
            errno,
        };
        self.say(|| format!("will fail: {fault:?}"));
        self.troubled = true;
        self.disk.fail(fault);
    }

    fn syncs_that_failed(&self) -> u64 {
        [Call::SyncData, Call::SyncFs, Call::SyncDir]
            .iter()
            .map(|call| self.disk.fired(*call))
            .sum()
    }

    /// A life of some operations, with the plug pulled in one of them or after the last.
    fn work(&mut self) -> Result<(), String> {
        if self.rng.percent(75) {
            let calls = self.rng.below(150);
            self.say(|| format!("stops after {calls} calls"));
            self.disk.stop_after(calls);
        }
        if self.rng.percent(15) {
            self.break_something();
        }
        if self.rng.percent(8) {
            self.troubled = true;
            let room = self.rng.below(6_000);
            self.disk.set_capacity(Some(self.disk.used() + room));
        }
        for _ in 0..3 + self.rng.index(25) {
            if self.disk.stopped() {
                break;
            }
            self.operate()?;
            self.observe()?;
        }
        Ok(())
    }

    /// Takes in what the marks promise now.
    fn observe(&mut self) -> Result<(), String> {
        let commits = self.options.durability == Durability::Fsync;
        let Some(running) = &self.running else {
            return Ok(());
        };
        for (id, partition) in &running.partitions {
            if let Some(known) = self.known.get_mut(id) {
                let view = View::of(partition);
                known.ledger.observe(view, commits)?;
                known
                    .clients
                    .iter_mut()
                    .for_each(|client| client.committed(view.high_watermark));
            }
        }
        Ok(())
    }

    /// The process ends, one way or another.
    fn end(&mut self) -> Result<(), String> {
        self.stats.crashes += 1;
        let healthy = !self.troubled && !self.disk.stopped();
        if self.rng.percent(12) && self.served {
            if let Some(running) = &self.running {
                running.dir.shutdown();
                self.say(|| format!("shutdown, healthy {healthy}"));
                self.clean = healthy && !self.disk.stopped() && !self.known.is_empty();
                if self.clean {
                    self.known
                        .values_mut()
                        .for_each(|known| known.ledger.all_flushed());
                }
            }
        }
        if self.syncs_that_failed() > self.failed_syncs {
            self.loss = Loss::Unflushed;
        }
        if self.rng.percent(65) {
            self.say(|| "power fails".to_owned());
            self.disk.crash();
            self.loss = Loss::Unflushed;
        } else {
            self.say(|| "killed".to_owned());
            self.disk.kill();
        }
        self.running = None;
        if Arc::strong_count(&self.clock) > 1 {
            return Err("a directory that was closed is still held".to_owned());
        }
        self.troubled = false;
        self.disk.set_capacity(None);
        if self.stats.damages == 0 && self.rng.percent(3) {
            self.damage_a_batch()?;
        }
        if self.rng.percent(3) {
            self.damage_an_index()?;
        }
        Ok(())
    }

    /// Turns a byte of an acknowledged batch's records.
    fn damage_a_batch(&mut self) -> Result<(), String> {
        let nth = if self.rng.percent(60) {
            0
        } else {
            self.rng.index(8)
        };
        for ((topic, index), known) in &mut self.known {
            let Some((offset, sent)) = known.ledger.flushed_batch(nth) else {
                continue;
            };
            let topic: String = topic.iter().map(|byte| format!("{byte:02x}")).collect();
            let dir = format!("/data/topics/{topic}/{index}");
            let name = |base: i64| format!("{dir}/{base:020}.log");
            let files = self.disk.files();
            let there = |base: &i64| files.iter().any(|file| *file == Path::new(&name(*base)));
            let Some(base) = (0..=offset).rev().find(there) else {
                continue;
            };
            let path = name(base);
            let mut bytes = self
                .disk
                .contents(Path::new(&path))
                .map_err(|e| e.to_string())?;
            let mut walk = Batches::new(&bytes).map_while(Result::ok);
            let Some(found) = walk.find(|batch| batch.header.base_offset == offset) else {
                continue;
            };
            let at = found.position + HEADER + self.rng.index(found.bytes.len() - HEADER);
            bytes[at] ^= 1 << self.rng.index(8);
            self.disk
                .damage(Path::new(&path), &bytes)
                .map_err(|e| e.to_string())?;
            known.ledger.damages(offset, sent);
            self.stats.damages += 1;
            self.say(|| format!("damaged offset {offset} in {path}"));
            return Ok(());
        }
        Ok(())
    }

    /// Turns a byte of an index: a hint, so nothing may come of it.
    fn damage_an_index(&mut self) -> Result<(), String> {
        let files = self.disk.files();
        let indexes: Vec<_> = files
            .iter()
            .filter(|f| f.extension().is_some_and(|e| e == "idx"))
            .collect();
        if indexes.is_empty() {
            return Ok(());
        }
        let path = indexes[self.rng.index(indexes.len())];
        let mut bytes = self.disk.contents(path).map_err(|e| e.to_string())?;
        if !bytes.is_empty() {
            let at = self.rng.index(bytes.len());
            bytes[at] ^= 1 << self.rng.index(8);
            self.disk.damage(path, &bytes).map_err(|e| e.to_string())?;
        }
        Ok(())
    }
}
