//! Who the producer is to the brokers, and the numbers that keep a batch from being written twice.

use mqlog_protocol::messages::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};
use mqlog_protocol::{ApiKey, ErrorCode};

use super::batch::Numbers;
use crate::cluster::Cluster;
use crate::request::{Purpose, Request};
use crate::ClientError;

/// The newest InitProducerId there is use for: later ones are about transactions.
const NEWEST: i16 = 4;

/// The producer id with the epoch that nobody used yet, once known.
#[derive(Debug, Default)]
pub(crate) struct Identity {
    current: Option<(i64, i16)>,
    /// Whether it is being asked for.
    pub(crate) asked: bool,
    /// Why it could not be had so far.
    pub(crate) failures: u32,
    /// How often it rose, to be counted.
    pub(crate) rises: usize,
}

/// Where one partition is in its sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Numbering {
    next: Numbers,
}

impl Identity {
    /// Takes what a broker gave.
    pub(crate) fn set(&mut self, id: i64, epoch: i16) {
        self.current = Some((id, epoch));
    }

    /// Numbers for a partition that has none.
    pub(crate) fn first(&self) -> Option<Numbering> {
        self.current.map(|(id, epoch)| Numbering::new(id, epoch))
    }

    /// Numbers in a later epoch than `old` (KIP-360). `None` if a new producer id must be asked
    /// for, because its epochs are used up.
    pub(crate) fn beyond(&mut self, old: &Numbering) -> Option<Numbering> {
        let (id, epoch) = self.current?;
        if (id, epoch) != (old.next.id, old.next.epoch) {
            // Another partition went on before; this one has not used that epoch.
            return self.first();
        }
        // The last epoch is never used, as in Kafka.
        if epoch >= i16::MAX - 1 {
            self.current = None;
            return None;
        }
        self.current = Some((id, epoch + 1));
        self.rises += 1;
        self.first()
    }
}

impl Numbering {
    fn new(id: i64, epoch: i16) -> Numbering {
        let next = Numbers {
            id,
            epoch,
            sequence: 0,
        };
        Numbering { next }
    }

    /// Whether the other has the same producer id, in whatever epoch.
    pub(crate) fn is_same_producer(&self, other: &Numbering) -> bool {
        self.next.id == other.next.id
    }

    /// The numbers of the next `count` records.
    pub(crate) fn take(&mut self, count: i32) -> Numbers {
        let taken = self.next;
        self.next = taken.plus(count);
        taken
    }
}

/// Asks some broker for a producer id; one attempt.
pub(crate) async fn ask(cluster: &Cluster) -> Result<(i64, i16), ClientError> {
    let connection = cluster.any(Purpose::General).await?;
    let version = connection.version(ApiKey::InitProducerId, NEWEST)?;
    let request = InitProducerIdRequest {
        transactional_id: None,
        // Of no meaning without transactions, but checked.
        transaction_timeout_ms: i32::MAX,
        ..Default::default()
    };
    let mut body = Vec::new();
    request
        .encode(version, &mut body)
        .map_err(|error| ClientError::encode(&error))?;
    let timeout = cluster.config().request_timeout;
    let request = Request::new(ApiKey::InitProducerId, version, vec![body.into()], timeout);
    let body = connection.send(request).await?;
    let answer = InitProducerIdResponse::decode(version, &body)
        .map_err(|error| ClientError::decode(connection.address(), &error))?;
    match ErrorCode::from_i16(answer.error_code).unwrap_or(ErrorCode::UnknownServerError) {
        ErrorCode::None => Ok((answer.producer_id, answer.producer_epoch)),
        code => Err(ClientError::code(code)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_share_an_epoch_and_leave_it_one_by_one() {
        let mut identity = Identity::default();
        assert_eq!(identity.first(), None);
        identity.set(7, 0);
        let mut one = identity.first().unwrap();
        let two = identity.first().unwrap();
        assert_eq!(one.take(5).sequence, 0);
        let five = one.take(i32::MAX);
        assert_eq!(
            (five.sequence, one.take(1).sequence),
            (5, 4),
            "it wraps to 0"
        );
        let next = identity.beyond(&one).unwrap();
        assert_eq!(next, Numbering::new(7, 1));
        assert_eq!(identity.beyond(&two), Some(next), "the same new epoch");
        assert_eq!(identity.beyond(&next), Some(Numbering::new(7, 2)));
    }

    #[test]
    fn epochs_that_are_used_up_need_another_id() {
        let mut identity = Identity::default();
        identity.set(7, i16::MAX - 1);
        let last = identity.first().unwrap();
        assert_eq!(identity.beyond(&last), None);
        assert_eq!(identity.first(), None);
        identity.set(8, 0);
        assert_eq!(identity.beyond(&last), Some(Numbering::new(8, 0)));
    }
}
