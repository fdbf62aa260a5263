//! Keeping a cluster's metadata fresh: on demand, by age, and until what is wanted is there.

use std::sync::{Arc, Weak};

use bytes::Bytes;
use mqlog_protocol::messages::metadata::{MetadataRequest, MetadataRequestTopic, MetadataResponse};
use mqlog_protocol::{ApiKey, ErrorCode};
use tokio::sync::{watch, Notify};
use tokio::time::{sleep_until, Instant};

use crate::cluster::{delay, Cluster};
use crate::connection::{Connection, Purpose, Request};
use crate::io::lock;
use crate::metadata::Metadata;
use crate::ClientError;

/// The newest version of Metadata that is spoken.
const NEWEST: i16 = 13;

/// Closes the cluster when nobody keeps its metadata fresh any more, also after a panic: whoever
/// waits for metadata would wait in vain.
struct Ending(Weak<Cluster>);

impl Drop for Ending {
    fn drop(&mut self) {
        if let Some(cluster) = self.0.upgrade() {
            cluster.close();
        }
    }
}

/// Runs until the cluster is closed or gone.
pub(crate) async fn keep_fresh(
    cluster: Weak<Cluster>,
    asked: Arc<Notify>,
    mut closed: watch::Receiver<bool>,
) {
    let _ending = Ending(cluster.clone());
    // Attempts that failed, or after which something wanted was still not there.
    let mut failures = 0;
    let mut last = Instant::now();
    loop {
        let Some((due, pause)) = cluster.upgrade().map(|one| times(&one, last, failures)) else {
            return;
        };
        tokio::select! {
            () = asked.notified() => {}
            () = sleep_until(due) => {}
            _ = closed.wait_for(|closed| *closed) => return,
        }
        // Not more often than the back-off allows, unless something new is wanted.
        while cluster.upgrade().is_some_and(|one| !take_urgent(&one)) && Instant::now() < pause {
            tokio::select! {
                () = asked.notified() => {}
                () = sleep_until(pause) => {}
                _ = closed.wait_for(|closed| *closed) => return,
            }
        }
        last = Instant::now();
        let Some(now) = cluster.upgrade() else { return };
        let updated = tokio::select! {
            updated = update(&now) => updated,
            _ = closed.wait_for(|closed| *closed) => return,
        };
        match updated {
            Ok(metadata) if !lacks(&now, &metadata) => failures = 0,
            Ok(_) => failures += 1,
            Err(_) => failures += 1,
        }
    }
}

/// When the next refresh is due, and the earliest time for one that is asked for.
fn times(cluster: &Cluster, last: Instant, failures: u32) -> (Instant, Instant) {
    let config = cluster.config();
    let pause = last
        + delay(
            failures.max(1),
            config.retry_backoff,
            config.retry_backoff_max,
        );
    let refreshed = lock(&cluster.state).refreshed;
    match refreshed {
        _ if failures > 0 => (pause, pause),
        Some(at) => (at + config.metadata_max_age, pause),
        // Nobody has asked for anything yet: who asks first does not wait.
        None => (last + config.metadata_max_age, last),
    }
}

fn take_urgent(cluster: &Cluster) -> bool {
    std::mem::take(&mut lock(&cluster.state).urgent)
}

/// Whether something wanted is not there that may come.
fn lacks(cluster: &Cluster, metadata: &Metadata) -> bool {
    lock(&cluster.state)
        .wanted
        .iter()
        .any(|name| match metadata.topics.get(name) {
            None => true,
            // A broker may name a leader before it names that leader's address.
            Some(topic) if topic.error == ErrorCode::None => {
                let mut partitions = topic.partitions.iter();
                topic.partitions.is_empty()
                    || partitions.any(|one| !metadata.brokers.contains_key(&one.leader))
            }
            Some(topic) => topic.error.retriable(),
        })
}

/// One refresh of what is wanted, shared by all who ask meanwhile.
pub(crate) async fn update(cluster: &Arc<Cluster>) -> Result<Arc<Metadata>, ClientError> {
    let needed = lock(&cluster.state).additions;
    loop {
        let landing = {
            let mut state = lock(&cluster.state);
            match state.refresh.join() {
                Some(landing) => landing,
                None => {
                    let topics = state.wanted.iter().cloned().collect();
                    let additions = state.additions;
                    let (lander, landing) = state.refresh.start();
                    let cluster = cluster.clone();
                    // Whoever asks may give up; what was begun is of use to the next.
                    tokio::spawn(async move {
                        let create = cluster.config().allow_auto_create;
                        let result = fetch(&cluster, Some(topics), create).await;
                        if result.is_ok() {
                            lock(&cluster.state).refreshed = Some(Instant::now());
                        }
                        lander.land((additions, result));
                    });
                    landing
                }
            }
        };
        match landing.wait().await {
            // It was under way before what is needed was wanted.
            Some((additions, Ok(_))) if additions < needed => {}
            Some((_, result)) => return result,
            None => return Err(ClientError::Closed("client")),
        }
    }
}

/// One question about some topics, or all, whose answer goes into the snapshot.
pub(crate) async fn fetch(
    cluster: &Cluster,
    topics: Option<Vec<Arc<str>>>,
    create: bool,
) -> Result<Arc<Metadata>, ClientError> {
    let asked = ask(cluster, topics.as_deref(), create).await;
    let mut state = lock(&cluster.state);
    match asked {
        Ok((answer, connection)) => {
            state.refresh_error = None;
            drop(state);
            let source = connection.address();
            let age = cluster.config().metadata_max_age;
            cluster.change(|known| Some(known.merged(answer, topics.as_deref(), source, age)));
            Ok(cluster.snapshot())
        }
        Err(error) => {
            state.refresh_error = Some((Instant::now(), error.clone()));
            drop(state);
            Err(error)
        }
    }
}

async fn ask(
    cluster: &Cluster,
    topics: Option<&[Arc<str>]>,
    create: bool,
) -> Result<(MetadataResponse, Connection), ClientError> {
    let connection = cluster.any(Purpose::General).await?;
    let version = connection.version(ApiKey::Metadata, NEWEST)?;
    let named = |name: &Arc<str>| MetadataRequestTopic {
        topic_id: [0; 16],
        name: Some(name.to_string()),
    };
    let mut topics = topics.map(|topics| topics.iter().map(named).collect::<Vec<_>>());
    if version == 0 && topics.is_none() {
        // In version 0 no topic means all of them.
        topics = Some(Vec::new());
    }
    let request = MetadataRequest {
        topics,
        // Before version 4 it is the broker's decision alone.
        allow_auto_topic_creation: create || version < 4,
        ..MetadataRequest::default()
    };
    let mut body = Vec::new();
    request
        .encode(version, &mut body)
        .map_err(|error| ClientError::encode(&error))?;
    let body = vec![Bytes::from(body)];
    let timeout = cluster.config().request_timeout;
    let request = Request::new(ApiKey::Metadata, version, body, timeout);
    let body = connection.send(request).await?;
    let answer = MetadataResponse::decode(version, &body)
        .map_err(|error| ClientError::decode(connection.address(), &error))?;
    let code = ErrorCode::from_i16(answer.error_code).unwrap_or(ErrorCode::UnknownServerError);
    if code == ErrorCode::RebootstrapRequired {
        // The brokers we know are of no use: the bootstrap servers are asked next.
        cluster.change(|known| Some(known.without_brokers()));
        connection.close(ClientError::code(code));
    }
    if code != ErrorCode::None {
        return Err(ClientError::code(code));
    }
    if answer.brokers.is_empty() {
        return Err(ClientError::Connect {
            address: connection.address().clone(),
            reason: "it names no brokers yet".to_owned(),
            hint: String::new(),
        });
    }
    Ok((answer, connection))
}
