//! Keeping a member in its group while its user is busy.
//!
//! The task sends heartbeats, finds a coordinator that moved, and leaves the group when nobody has
//! polled for too long. It decides nothing: what it learns is a word that `poll` looks at.

use std::sync::atomic::{
    AtomicI32, AtomicU64,
    Ordering::{AcqRel, Acquire, Release},
};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mqlog_protocol::messages::find_coordinator::{FindCoordinatorRequest, FindCoordinatorResponse};
use mqlog_protocol::messages::heartbeat::{HeartbeatRequest, HeartbeatResponse};
use mqlog_protocol::messages::leave_group::{LeaveGroupRequest, LeaveGroupRequestMemberIdentity};
use mqlog_protocol::{ApiKey, EncodeError, ErrorCode};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::bell::Bell;
use crate::config::MemberConfig;
use crate::connection::{Connection, Purpose, Request};
use crate::intake::code;
use crate::{ClientError, Cluster};

/// How a member stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Nothing is known to be wrong.
    Fine,
    /// The coordinator wants everybody to join again.
    Rebalance,
    /// The member is none any more, by this code.
    Lost(ErrorCode),
    /// Nobody polled for `max_poll_interval`: a dynamic member has left, a static one is silent.
    Left,
    /// The task failed, which is a fault of ours.
    Broken,
}

/// The member and the task that keeps it. Dropping it ends the heartbeats, not the membership.
#[derive(Debug)]
pub struct Heartbeat {
    member: Arc<Member>,
    stop: watch::Sender<bool>,
}

#[derive(Debug)]
struct Member {
    cluster: Arc<Cluster>,
    config: MemberConfig,
    bell: Arc<Bell>,
    /// The coordinator's node, shared with whoever else looks for it; -1 if unknown.
    coordinator: Arc<AtomicI32>,
    word: AtomicU64,
    made: Instant,
    /// Milliseconds from `made` to the last poll.
    polled: AtomicU64,
}

/// The longest that leaving may take: nobody waits for it.
const LEAVING: Duration = Duration::from_secs(5);
const LEFT: &str = "max_poll_interval_ms passed without a poll";

impl Heartbeat {
    /// Starts with a poll, now. `coordinator` is a cell that all who need the group's coordinator
    /// share.
    pub fn start(
        cluster: Arc<Cluster>,
        config: MemberConfig,
        bell: Arc<Bell>,
        coordinator: Arc<AtomicI32>,
    ) -> Heartbeat {
        coordinator.store(config.coordinator, Release);
        let member = Arc::new(Member {
            cluster,
            config,
            bell,
            coordinator,
            word: AtomicU64::new(Standing::Fine.pack()),
            made: Instant::now(),
            polled: AtomicU64::new(0),
        });
        let (stop, stopped) = watch::channel(false);
        let task = run(member.clone(), stopped);
        member.cluster.io().spawn(task);
        Heartbeat { member, stop }
    }

    /// The generation that this is about: what is said of another is nothing.
    pub fn generation(&self) -> i32 {
        self.member.config.generation
    }

    /// How the member stands.
    pub fn standing(&self) -> Standing {
        Standing::unpack(self.member.word.load(Acquire))
    }

    /// Somebody polls.
    pub fn mark_poll(&self) {
        let now = self.member.made.elapsed().as_millis();
        self.member
            .polled
            .store(u64::try_from(now).unwrap_or(u64::MAX), Release);
    }

    /// Ends the heartbeats.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Standing {
    fn pack(self) -> u64 {
        match self {
            Standing::Fine => 0,
            Standing::Rebalance => 1,
            Standing::Left => 2,
            Standing::Broken => 3,
            Standing::Lost(code) => 4 | u64::from(code.code() as u16) << 8,
        }
    }

    fn unpack(word: u64) -> Standing {
        match word & 0xff {
            0 => Standing::Fine,
            1 => Standing::Rebalance,
            2 => Standing::Left,
            3 => Standing::Broken,
            _ => Standing::Lost(code((word >> 8) as u16 as i16)),
        }
    }
}

/// Nobody may wait for a task that is gone.
struct Guard(Arc<Member>);

impl Drop for Guard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.say(Standing::Broken);
        }
    }
}

async fn run(member: Arc<Member>, mut stopped: watch::Receiver<bool>) {
    let _guard = Guard(member.clone());
    let stopped = async { drop(stopped.wait_for(|stopped| *stopped).await) };
    tokio::select! {
        () = stopped => {}
        () = member.beat() => {}
        () = member.nobody_polls() => {
            member.say(Standing::Left);
            // A static member keeps its place until its session ends.
            if member.config.instance_id.is_none() {
                let _ = tokio::time::timeout(LEAVING, member.leave()).await;
            }
        }
    }
}

impl Member {
    fn say(&self, standing: Standing) {
        let word = standing.pack();
        if self.word.swap(word, AcqRel) != word {
            self.bell.ring();
        }
    }

    /// Ends when the last poll is too long ago.
    async fn nobody_polls(&self) {
        loop {
            let polled = Duration::from_millis(self.polled.load(Acquire));
            let deadline = self.made + polled + self.config.max_poll_interval;
            if deadline <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(deadline).await;
        }
    }

    /// Sends heartbeats until the member is lost.
    async fn beat(&self) {
        let mut failures = 0;
        loop {
            match failures {
                0 => tokio::time::sleep(self.config.heartbeat_interval).await,
                _ => self.cluster.backoff(failures).await,
            }
            let answer = match self.heartbeat().await {
                Ok(answer) => answer,
                Err(_) => {
                    failures += 1;
                    self.lose_coordinator();
                    continue;
                }
            };
            failures = 0;
            match answer {
                ErrorCode::None => self.say(Standing::Fine),
                ErrorCode::RebalanceInProgress => self.say(Standing::Rebalance),
                ErrorCode::NotCoordinator | ErrorCode::CoordinatorNotAvailable => {
                    failures = 1;
                    self.lose_coordinator();
                }
                answer if answer.retriable() => failures = 1,
                answer => return self.say(Standing::Lost(answer)),
            }
        }
    }

    /// The coordinator is not where it was.
    fn lose_coordinator(&self) {
        self.coordinator.store(-1, Release);
    }

    async fn coordinator(&self) -> Result<i32, ClientError> {
        let known = self.coordinator.load(Acquire);
        if known >= 0 {
            return Ok(known);
        }
        let connection = self.cluster.any(Purpose::General).await?;
        let version = connection.version(ApiKey::FindCoordinator, 6)?;
        let group = self.config.group.to_string();
        let mut request = FindCoordinatorRequest::default();
        match version {
            4.. => request.coordinator_keys = vec![group],
            _ => request.key = group,
        }
        let body = self
            .ask(&connection, ApiKey::FindCoordinator, version, |out| {
                request.encode(version, out)
            })
            .await?;
        let answer = FindCoordinatorResponse::decode(version, &body)
            .map_err(|error| ClientError::decode(connection.address(), &error))?;
        let (node, said) = match answer.coordinators.first() {
            Some(one) => (one.node_id, one.error_code),
            None => (answer.node_id, answer.error_code),
        };
        match code(said) {
            ErrorCode::None => {
                self.coordinator.store(node, Release);
                Ok(node)
            }
            code => Err(ClientError::code(code)),
        }
    }

    async fn heartbeat(&self) -> Result<ErrorCode, ClientError> {
        let node = self.coordinator().await?;
        let connection = self.cluster.connection(node, Purpose::Group).await?;
        let version = connection.version(ApiKey::Heartbeat, 4)?;
        let config = &self.config;
        let instance = config.instance_id.as_deref().map(str::to_owned);
        let request = HeartbeatRequest {
            group_id: config.group.to_string(),
            generation_id: config.generation,
            member_id: config.member_id.to_string(),
            group_instance_id: instance.filter(|_| version >= 3),
        };
        let body = self
            .ask(&connection, ApiKey::Heartbeat, version, |out| {
                request.encode(version, out)
            })
            .await?;
        let answer = HeartbeatResponse::decode(version, &body)
            .map_err(|error| ClientError::decode(connection.address(), &error))?;
        Ok(code(answer.error_code))
    }

    async fn leave(&self) -> Result<(), ClientError> {
        let node = self.coordinator().await?;
        let connection = self.cluster.connection(node, Purpose::Group).await?;
        let version = connection.version(ApiKey::LeaveGroup, 5)?;
        let mut request = LeaveGroupRequest {
            group_id: self.config.group.to_string(),
            ..Default::default()
        };
        let member_id = self.config.member_id.to_string();
        match version {
            3.. => request.members.push(LeaveGroupRequestMemberIdentity {
                member_id,
                reason: (version >= 5).then(|| LEFT.to_owned()),
                ..Default::default()
            }),
            _ => request.member_id = member_id,
        }
        self.ask(&connection, ApiKey::LeaveGroup, version, |out| {
            request.encode(version, out)
        })
        .await
        .map(|_| ())
    }

    async fn ask(
        &self,
        connection: &Connection,
        api: ApiKey,
        version: i16,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), EncodeError>,
    ) -> Result<Bytes, ClientError> {
        let mut body = Vec::new();
        write(&mut body).map_err(|error| ClientError::encode(&error))?;
        // An answer that comes after the session is of no use.
        let timeout = self.cluster.config().request_timeout;
        let timeout = timeout.min(self.config.session_timeout);
        let request = Request::new(api, version, vec![body.into()], timeout);
        connection.send(request).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_standing_fits_into_a_word() {
        for standing in [
            Standing::Fine,
            Standing::Rebalance,
            Standing::Left,
            Standing::Broken,
            Standing::Lost(ErrorCode::UnknownMemberId),
            Standing::Lost(ErrorCode::UnknownServerError),
        ] {
            assert_eq!(Standing::unpack(standing.pack()), standing);
        }
    }
}
