//! One request of a flow, to wherever it belongs.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mqlog_protocol::ApiKey;

use crate::cluster::Cluster;
use crate::connection::{Connection, Purpose, Request};
use crate::ClientError;

/// Who is to answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Target {
    /// Whoever is there.
    Any,
    /// The controller.
    Controller,
    /// This node.
    Node(i32),
}

/// A request whose body is written already, for one version.
#[derive(Debug, Clone)]
pub struct Call {
    /// Who is to answer.
    pub target: Target,
    /// On which connection.
    pub purpose: Purpose,
    /// What is asked.
    pub api: ApiKey,
    /// In which version; see [`version`].
    pub version: i16,
    /// The body.
    pub body: Bytes,
    /// The longest the caller waits, connecting included; `None` if it sees to that itself.
    pub limit: Option<Duration>,
    /// The longest the broker may take: then the connection is closed. `request_timeout` if `None`.
    pub answer_limit: Option<Duration>,
}

/// What came of it.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Who answered; below 0 for a bootstrap server whose id is not known.
    pub node: i32,
    /// `HOST:PORT` of who answered.
    pub address: Arc<str>,
    /// The body.
    pub body: Bytes,
}

/// A connection to a target.
pub async fn connect(
    cluster: &Cluster,
    target: Target,
    purpose: Purpose,
) -> Result<Connection, ClientError> {
    match target {
        Target::Any => cluster.any(purpose).await,
        Target::Controller => cluster.controller(purpose).await,
        Target::Node(node) => cluster.connection(node, purpose).await,
    }
}

/// The newest version of an API, `newest` at most, that the target speaks; connects if need be.
pub async fn version(
    cluster: &Cluster,
    target: Target,
    purpose: Purpose,
    api: ApiKey,
    newest: i16,
) -> Result<i16, ClientError> {
    connect(cluster, target, purpose)
        .await?
        .version(api, newest)
}

/// Sends one request and waits for its answer. One attempt: what to do about an error is the
/// caller's decision.
pub async fn call(cluster: &Cluster, call: Call) -> Result<Answer, ClientError> {
    let Some(limit) = call.limit else {
        return send(cluster, call).await;
    };
    let api = call.api;
    match tokio::time::timeout(limit, send(cluster, call)).await {
        Ok(answer) => answer,
        Err(_) => Err(ClientError::Timeout {
            what: format!("the answer to {}", api.name()),
            limit,
            setting: "timeout_ms",
            last: cluster
                .last_error()
                .map(|error| error.to_string())
                .unwrap_or_default(),
        }),
    }
}

async fn send(cluster: &Cluster, call: Call) -> Result<Answer, ClientError> {
    let connection = match call.target {
        Target::Any => {
            cluster
                .any_speaking(call.purpose, call.api, call.version)
                .await?
        }
        target => connect(cluster, target, call.purpose).await?,
    };
    // The body was written for a version: whoever answers must speak that very one.
    let spoken = connection.versions(call.api);
    if !spoken.is_some_and(|versions| versions.contains(call.version)) {
        return Err(connection.unsupported(call.api, call.version, call.version));
    }
    let timeout = call
        .answer_limit
        .unwrap_or(cluster.config().request_timeout);
    let request = Request::new(call.api, call.version, vec![call.body], timeout);
    let body = connection.send(request).await?;
    Ok(Answer {
        node: connection.node_id(),
        address: connection.address().clone(),
        body,
    })
}
