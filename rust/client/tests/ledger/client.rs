//! A producer, as a test uses it.

use std::sync::Arc;
use std::time::Duration;

use mqlog_client::config::{NetConfig, ProducerConfig};
use mqlog_client::producer::{Append, BatchState, Content, Outcome, Refused, Waited, Waiting};
use mqlog_client::{ClientError, Cluster, IoThread, Producer};

use super::Ledger;
use crate::peer;

pub fn settings() -> ProducerConfig {
    ProducerConfig {
        acks: -1,
        idempotent: true,
        linger: Duration::from_millis(2),
        batch_size: 16_384,
        buffer_memory: 32 << 20,
        max_block: Duration::from_secs(10),
        max_request_size: 1 << 20,
        max_in_flight: 5,
        delivery_timeout: Duration::from_secs(30),
        retries: u32::MAX,
        codec: mqlog_record::Codec::None,
        level: None,
    }
}

/// A producer with the thread it runs on, and topic `t`.
pub struct Client {
    pub producer: Producer,
    pub topic: u32,
    pub cluster: Arc<Cluster>,
}

/// A record's future.
pub struct Sent(pub Arc<BatchState>, pub u32);

impl Client {
    pub fn start(ledger: &Ledger, config: ProducerConfig) -> Client {
        Client::with(ledger, config, |_| {})
    }

    pub fn with(
        ledger: &Ledger,
        config: ProducerConfig,
        change: impl FnOnce(&mut NetConfig),
    ) -> Client {
        let mut net = peer::config(&ledger.state(|state| state.ports.clone()));
        change(&mut net);
        let cluster = Cluster::new(net, IoThread::start().unwrap()).unwrap();
        let producer = Producer::start(cluster.clone(), config);
        let topic = producer.topic("t");
        Client {
            producer,
            topic,
            cluster,
        }
    }

    pub fn try_send(&self, record: &Append<'_>) -> Result<Sent, Refused> {
        let mut waiting = Waiting::default();
        loop {
            match self.producer.append_patiently(record, &mut waiting) {
                Ok(put) => return Ok(Sent(put.batch.unwrap(), put.index)),
                Err(Refused::Memory { .. } | Refused::Metadata) => {}
                Err(refused) => return Err(refused),
            }
        }
    }

    pub fn send_to(&self, partition: i32, value: &[u8]) -> Sent {
        self.try_send(&self.record(Some(partition), value)).unwrap()
    }

    /// All to partition 0.
    pub fn send_all(&self, values: &[Vec<u8>]) -> Vec<Sent> {
        values.iter().map(|value| self.send_to(0, value)).collect()
    }

    pub fn record<'a>(&self, partition: Option<i32>, value: &'a [u8]) -> Append<'a> {
        Append {
            topic: self.topic,
            partition,
            acks: -1,
            timestamp: None,
            content: Content {
                key: None,
                value: Some(value),
                headers: &[],
            },
        }
    }

    pub fn flush(&self) {
        let last = self.producer.flush();
        let start = std::time::Instant::now();
        while self.producer.flushed(last, Duration::from_secs(1)) == Waited::NotYet {
            assert!(
                start.elapsed() < Duration::from_secs(60),
                "flush does not end"
            );
        }
    }

    pub fn get(&self, sent: &Sent) -> Result<i64, ClientError> {
        let start = std::time::Instant::now();
        let limit = Duration::from_secs(1);
        while self.producer.wait(&sent.0, sent.1, limit) == Waited::NotYet {
            assert!(start.elapsed() < Duration::from_secs(60), "no end");
        }
        match sent.0.outcome(sent.1).unwrap() {
            (
                Outcome::Written {
                    base_offset: -1, ..
                },
                _,
            ) => Ok(-1),
            (Outcome::Written { base_offset, .. }, at) => Ok(base_offset + i64::from(at)),
            (Outcome::Failed(failure), at) => Err(failure.of(at)),
        }
    }
}
