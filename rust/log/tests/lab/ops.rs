//! What a data directory is asked to do while it lives.

use std::sync::Arc;

use mqlog_log::{check_batch, AppendError, AppendMode, Clock, LogError, Partition, ReadUpTo};

use super::batch::{batch, Sent};
use super::client::Client;
use super::ledger::{Ledger, View};
use super::life::{Id, Known, Life};
use super::reader::{fetch, Got};

const MOST_PARTITIONS: usize = 4;

impl Life {
    /// One operation, chosen by chance.
    pub fn operate(&mut self) -> Result<(), String> {
        let step = self.rng.below(5);
        self.clock.advance(step);
        if self.known.is_empty() {
            return self.create();
        }
        let at = self.rng.index(self.known.len());
        let id = self.known.keys().copied().nth(at).unwrap_or_default();
        match self.rng.below(100) {
            0..46 => self.append(id),
            46..58 => self.flush(),
            58..62 => self.flush_one(id),
            62..70 => self.checkpoint(),
            70..74 => self.housekeeping(),
            74..88 => self.read(id),
            88..91 => self.delete_records(id),
            91..94 => self.retention(id),
            94..97 => self.truncate(id),
            97..99 if self.known.len() < MOST_PARTITIONS => self.create(),
            _ if self.known.len() > 1 && self.rng.percent(20) => self.delete_topic(id),
            _ => self.jump(),
        }
    }

    fn partition(&self, id: Id) -> Result<Arc<Partition>, String> {
        let found = self.running()?.partitions.get(&id).cloned();
        found.ok_or_else(|| format!("{id:?} is not open"))
    }

    fn ledger(&mut self, id: Id) -> Result<&mut Ledger, String> {
        let known = self.known.get_mut(&id).map(|known| &mut known.ledger);
        known.ok_or_else(|| format!("{id:?} is not known"))
    }

    /// A new topic of one or two partitions. Metadata knows them once this has worked.
    fn create(&mut self) -> Result<(), String> {
        self.topics += 1;
        let topic = [self.topics; 16];
        let count = 1 + self.rng.index(2) as i32;
        let wanted: Vec<_> = (0..count)
            .map(|n| (topic, n, self.config.clone(), 0))
            .collect();
        match self.running()?.dir.create_partitions(&wanted) {
            Err(error) => self.allow("create", &error),
            Ok(made) => {
                for partition in made {
                    let id = (topic, partition.index());
                    let mut clients = Vec::new();
                    for _ in 0..self.rng.index(3) {
                        self.producers += 1;
                        clients.push(Client::new(self.producers, self.rng.percent(60)));
                    }
                    let ledger = Ledger::default();
                    self.known.insert(
                        id,
                        Known {
                            ledger,
                            clients,
                            epoch: 0,
                        },
                    );
                    if let Some(running) = &mut self.running {
                        running.partitions.insert(id, partition);
                    }
                }
                self.say(|| format!("created {count} of topic {}", topic[0]));
                Ok(())
            }
        }
    }

    /// Metadata forgets the topic, then its files go.
    fn delete_topic(&mut self, id: Id) -> Result<(), String> {
        self.say(|| format!("deletes topic {}", id.0[0]));
        self.known.retain(|known, _| known.0 != id.0);
        if let Some(running) = &mut self.running {
            running.partitions.retain(|known, _| known.0 != id.0);
            running.dir.delete_topic(id.0);
        }
        Ok(())
    }

    /// Some clients send what they have, in one request, with batches of no producer.
    fn append(&mut self, id: Id) -> Result<(), String> {
        let partition = self.partition(id)?;
        let now = self.clock.now_ms();
        let Some(known) = self.known.get_mut(&id) else {
            return Ok(());
        };
        let mut request: Vec<(Option<usize>, Arc<Sent>)> = Vec::new();
        for (n, client) in known.clients.iter_mut().enumerate() {
            if self.rng.percent(70) {
                let batches = client.request(&mut self.rng, &mut self.serial, now);
                request.extend(batches.into_iter().map(|sent| (Some(n), sent)));
            }
        }
        for _ in 0..self.rng.index(3) {
            self.serial += 1;
            request.push((None, batch(&mut self.rng, self.serial, now, None)));
        }
        let mut bytes: Vec<Vec<u8>> = request.iter().map(|(_, sent)| sent.bytes.clone()).collect();
        let mut checked = Vec::with_capacity(bytes.len());
        for batch in &mut bytes {
            let batch = check_batch(batch, &self.config, true, now);
            checked.push(batch.map_err(|error| format!("a good batch: {error}"))?);
        }
        request
            .iter()
            .for_each(|(_, sent)| known.ledger.sends(sent));
        let (mut end, epoch) = (partition.log_end(), partition.leader_epoch());
        let segments = partition.segments().len();
        let mut answers = Vec::new();
        partition.append(&mut checked, AppendMode::Assign, &mut answers, now);
        self.stats.rolls += (partition.segments().len() - segments) as u64;
        if answers.len() != request.len() {
            return Err(format!(
                "{} answers to {} batches",
                answers.len(),
                request.len()
            ));
        }
        let mut refused = None;
        for ((who, sent), answer) in request.iter().zip(&answers) {
            match answer {
                Ok(appended) => {
                    known.ledger.answered(sent, appended, end)?;
                    if appended.duplicate {
                        self.stats.duplicates += 1;
                    } else {
                        self.stats.appended += 1;
                        end = appended.last_offset + 1;
                        known
                            .ledger
                            .tell(epoch, appended.base_offset, sent.serial)?;
                    }
                }
                Err(AppendError::Storage(reason)) => {
                    refused = Some(reason.clone());
                    known.ledger.refuses(sent);
                }
                Err(_) => {}
            }
            match (who.and_then(|n| known.clients.get_mut(n)), answer) {
                (Some(client), _) => client.answer(sent, answer)?,
                (None, Ok(_) | Err(AppendError::Storage(_))) => {}
                (None, Err(error)) => return Err(format!("batch {}: {error}", sent.serial)),
            }
        }
        self.say(|| {
            let names: Vec<u64> = request.iter().map(|(_, sent)| sent.serial).collect();
            format!("{}/{} append {names:?}: {answers:?}", id.0[0], id.1)
        });
        if partition.log_end() != end {
            return Err(format!(
                "{end} was answered, the log ends at {}",
                partition.log_end()
            ));
        }
        refused.map_or(Ok(()), |reason| self.allow("append", &reason))
    }

    fn flush(&mut self) -> Result<(), String> {
        self.say(|| "flush".to_owned());
        match self.running()?.dir.flush_once() {
            Err(error) => self.allow("flush", &error),
            Ok(_) => Ok(()),
        }
    }

    fn flush_one(&mut self, id: Id) -> Result<(), String> {
        self.say(|| format!("{}/{} flush", id.0[0], id.1));
        let partition = self.partition(id)?;
        let end = partition.log_end();
        match self.running()?.dir.flush_partition(&partition) {
            Err(error) => self.allow("flush", &error),
            Ok(()) if partition.durable_end() < end => Err(format!(
                "a flush of {end} came to {}",
                partition.durable_end()
            )),
            Ok(()) => Ok(()),
        }
    }

    /// A checkpoint that works has flushed everything, as its contract says.
    fn checkpoint(&mut self) -> Result<(), String> {
        self.say(|| "checkpoint".to_owned());
        match self.running()?.dir.checkpoint(false) {
            Err(error) => self.allow("checkpoint", &error),
            Ok(()) => {
                self.stats.checkpoints += 1;
                if !self.troubled {
                    self.known
                        .values_mut()
                        .for_each(|known| known.ledger.all_flushed());
                }
                Ok(())
            }
        }
    }

    fn housekeeping(&mut self) -> Result<(), String> {
        let now = self.clock.now_ms();
        self.running()?.dir.housekeeping(now);
        Ok(())
    }

    /// Time passes, or somebody sets the clock.
    fn jump(&mut self) -> Result<(), String> {
        match self.rng.below(3) {
            0 => self.clock.jump(-3_600_000),
            1 => self.clock.jump(1_800_000),
            _ => self.clock.advance(1_000),
        }
        Ok(())
    }

    /// A consumer reads a little, anywhere below the high watermark.
    fn read(&mut self, id: Id) -> Result<(), String> {
        let partition = self.partition(id)?;
        let (start, limit) = (partition.log_start(), partition.high_watermark());
        if limit <= start {
            return Ok(());
        }
        let offset = start + self.rng.below((limit - start) as u64) as i64;
        let most = self.rng.index(2_000);
        let got = match fetch(&partition, offset, most, ReadUpTo::HighWatermark) {
            Ok(got) => got,
            Err(error) => return self.allow("read", &error),
        };
        if self.disk.stopped() {
            return Ok(());
        }
        let checked = match got {
            Got::Hole(to) => self.ledger(id)?.check_hole(offset, to.min(limit)),
            Got::Batches(batches, next) if batches.is_empty() => {
                self.ledger(id)?.check_hole(offset, next.max(offset + 1))
            }
            Got::Batches(batches, _) => self.ledger(id)?.check_read(offset, &batches),
        };
        checked.map_err(|error| format!("{}/{}: {error}", id.0[0], id.1))
    }

    fn delete_records(&mut self, id: Id) -> Result<(), String> {
        let partition = self.partition(id)?;
        let (start, most) = (partition.log_start(), partition.high_watermark());
        let to = start + self.rng.below((most - start + 1) as u64) as i64;
        self.say(|| format!("{}/{} deletes below {to}", id.0[0], id.1));
        self.ledger(id)?.asks_log_start(to);
        let asked = if to == most { -1 } else { to };
        match partition.delete_records(asked) {
            Err(error) => self.allow("delete records", &error),
            Ok(now) if now < to => Err(format!("deleted below {to}, the log starts at {now}")),
            Ok(_) => {
                self.stats.deletions += 1;
                Ok(())
            }
        }
    }

    /// Removes the oldest segments, as a retention policy would.
    fn retention(&mut self, id: Id) -> Result<(), String> {
        let partition = self.partition(id)?;
        let segments = partition.segments();
        let closed = segments.iter().filter(|segment| !segment.active).count();
        let keep = self.rng.index(closed + 1);
        let most = partition.high_watermark();
        let to = segments
            .get(keep)
            .map_or(0, |segment| segment.base_offset)
            .min(most);
        self.say(|| format!("{}/{} retains from {to}", id.0[0], id.1));
        self.ledger(id)?.asks_log_start(to);
        match partition.advance_log_start(to) {
            Err(error) => self.allow("retention", &error),
            Ok(()) => Ok(()),
        }
    }

    /// Cuts the log back, as a follower or an operator would, and begins a new epoch.
    fn truncate(&mut self, id: Id) -> Result<(), String> {
        let partition = self.partition(id)?;
        let deep = self.rng.percent(40);
        let least = if deep {
            partition.log_start()
        } else {
            partition.high_watermark()
        };
        let to = least + self.rng.below((partition.log_end() - least + 1) as u64) as i64;
        self.ledger(id)?.asks_truncation(to);
        let result = partition.truncate_to(to, deep);
        self.say(|| format!("{}/{} truncates to {to}: {result:?}", id.0[0], id.1));
        let known = self.known.get_mut(&id).ok_or("not known")?;
        match result {
            Err(LogError::OutOfRange { .. }) => {
                known.ledger.truncation_refused();
                return Ok(());
            }
            Err(error) => return self.allow("truncate", &error),
            Ok(()) => {}
        }
        known.ledger.truncated(View::of(&partition));
        known
            .clients
            .iter_mut()
            .for_each(|client| client.reconnect(&known.ledger));
        known.epoch += 1;
        partition.set_leader_epoch(known.epoch);
        self.stats.truncations += 1;
        Ok(())
    }
}
