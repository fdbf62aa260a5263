//! A fetch session with one broker (KIP-227): what it knows of us need not be said again.

use std::collections::HashMap;
use std::sync::Arc;

use mqlog_protocol::fetch::FetchPartition;
use mqlog_protocol::fetch_client::{write_request, FetchHead};
use mqlog_protocol::{EncodeError, ErrorCode, TopicRef};

use crate::positions::Handle;

/// The first version with sessions, and the first that names topics by id.
const SESSIONS: i16 = 7;
const TOPIC_IDS: i16 = 13;
const NO_ID: [u8; 16] = [0; 16];

/// One partition to be fetched.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Want {
    pub handle: Handle,
    pub topic: Arc<str>,
    pub topic_id: [u8; 16],
    pub fetch: FetchPartition,
}

/// What the broker holds of us.
#[derive(Debug, Default)]
pub(crate) struct Session {
    id: i32,
    epoch: i32,
    /// The version that the session speaks: topics have ids from 13 on.
    version: i16,
    /// What was asked for last, by topic.
    topics: HashMap<Arc<str>, Held>,
    names: HashMap<[u8; 16], Arc<str>>,
}

#[derive(Debug)]
struct Held {
    id: [u8; 16],
    partitions: HashMap<i32, (Handle, FetchPartition)>,
}

type Group<T> = Vec<(Arc<str>, [u8; 16], Vec<T>)>;

impl Session {
    /// The version to speak, `most` at most: without the ids of all topics none that needs them.
    pub fn version(wants: &[Want], most: i16) -> i16 {
        match wants.iter().all(|want| want.topic_id != NO_ID) {
            true => most,
            false => most.min(TOPIC_IDS - 1),
        }
    }

    /// Appends the request for `wants`, and takes note of them. `head`'s session fields are
    /// filled in here; with `on` false, or in an old version, there is no session.
    pub fn write(
        &mut self,
        version: i16,
        on: bool,
        head: FetchHead<'_>,
        wants: Vec<Want>,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        let on = on && version >= SESSIONS;
        if version != self.version {
            self.reset(true);
            self.version = version;
        }
        let incremental = on && self.epoch > 0;
        let forgotten = self.forgotten(&wants, incremental);
        let mut said: Group<FetchPartition> = Vec::new();
        for want in wants {
            if self.note(&want) || !incremental {
                add(&mut said, &want.topic, want.topic_id, want.fetch);
            }
        }
        let head = FetchHead {
            session_id: if on { self.id } else { 0 },
            session_epoch: if on { self.epoch } else { -1 },
            ..head
        };
        let said: Vec<_> = said.iter().map(|row| named(version, row)).collect();
        let gone: Vec<_> = forgotten.iter().map(|row| named(version, row)).collect();
        write_request(version, head, &said, &gone, out)
    }

    /// Takes note of a partition asked for; says whether the broker must be told.
    fn note(&mut self, want: &Want) -> bool {
        let held = self
            .topics
            .entry(want.topic.clone())
            .or_insert_with(|| Held {
                id: want.topic_id,
                partitions: HashMap::new(),
            });
        self.names.insert(want.topic_id, want.topic.clone());
        let row = (want.handle, want.fetch.clone());
        let before = held.partitions.insert(want.fetch.index, row);
        before.is_none_or(|(_, before)| before != want.fetch)
    }

    /// Drops what is not wanted any more. All of it without a session to continue.
    fn forgotten(&mut self, wants: &[Want], incremental: bool) -> Group<i32> {
        if !incremental {
            self.topics.clear();
            self.names.clear();
            return Vec::new();
        }
        let mut wanted: HashMap<(&str, i32), [u8; 16]> = HashMap::new();
        for want in wants {
            wanted.insert((&want.topic, want.fetch.index), want.topic_id);
        }
        let mut gone: Group<i32> = Vec::new();
        self.topics.retain(|topic, held| {
            let id = held.id;
            held.partitions.retain(|index, _| {
                // A topic of the same name with another id is another topic.
                let kept = wanted.get(&(&**topic, *index)) == Some(&id);
                if !kept {
                    add(&mut gone, topic, id, *index);
                }
                kept
            });
            !held.partitions.is_empty()
        });
        let topics = &self.topics;
        self.names
            .retain(|id, name| topics.get(name).is_some_and(|held| held.id == *id));
        gone
    }

    /// What was asked for under a name or id of an answer.
    pub fn asked(&self, topic: TopicRef<'_>, index: i32) -> Option<(&Arc<str>, Handle, i64)> {
        let name = match topic {
            TopicRef::Name(name) => name,
            TopicRef::Id(id) => self.names.get(&id)?,
        };
        let (name, held) = self.topics.get_key_value(name)?;
        let (handle, fetch) = held.partitions.get(&index)?;
        Some((name, *handle, fetch.fetch_offset))
    }

    /// After an answer without an error of its own: the next request goes on from it.
    pub fn answered(&mut self, id: i32) {
        if id == 0 {
            // The broker keeps no session for us.
            self.reset(false);
        } else if self.epoch == 0 || id == self.id {
            self.id = id;
            self.epoch = self.epoch.checked_add(1).unwrap_or(1);
        } else {
            self.reset(true);
        }
    }

    /// After an error of a whole answer: whether it was about the session, which then begins anew.
    pub fn failed(&mut self, code: ErrorCode) -> bool {
        match code {
            ErrorCode::FetchSessionIdNotFound => self.reset(false),
            ErrorCode::InvalidFetchSessionEpoch | ErrorCode::FetchSessionTopicIdError => {
                self.reset(true);
            }
            _ => return false,
        }
        true
    }

    /// Begins anew; `close` has the broker drop the session that it may still have.
    pub fn reset(&mut self, close: bool) {
        self.epoch = 0;
        if !close {
            self.id = 0;
        }
    }
}

fn add<T>(groups: &mut Group<T>, topic: &Arc<str>, id: [u8; 16], item: T) {
    match groups.last_mut() {
        Some((last, last_id, items)) if last == topic && *last_id == id => items.push(item),
        _ => groups.push((topic.clone(), id, vec![item])),
    }
}

fn named<T>(version: i16, row: &(Arc<str>, [u8; 16], Vec<T>)) -> (TopicRef<'_>, &[T]) {
    let topic = match version {
        TOPIC_IDS.. => TopicRef::Id(row.1),
        _ => TopicRef::Name(&row.0),
    };
    (topic, &row.2)
}

#[cfg(test)]
mod tests {
    use mqlog_protocol::fetch::{FetchRequest, FetchScratch};

    use super::*;
    use crate::positions::{Positions, Start};

    const HEAD: FetchHead<'_> = FetchHead {
        max_wait_ms: 500,
        min_bytes: 1,
        max_bytes: 1,
        isolation_level: 0,
        session_id: 0,
        session_epoch: 0,
        rack_id: "",
    };

    fn want(topic: &str, id: u8, index: i32, offset: i64) -> Want {
        let mut positions = Positions::default();
        positions.add(Start {
            topic: topic.into(),
            partition: index,
            offset: Some(offset),
            epoch: -1,
        });
        Want {
            handle: positions.find(topic, index).unwrap().handle,
            topic: topic.into(),
            topic_id: [id; 16],
            fetch: FetchPartition {
                index,
                current_leader_epoch: -1,
                fetch_offset: offset,
                last_fetched_epoch: -1,
                log_start_offset: -1,
                max_bytes: 100,
            },
        }
    }

    /// Session id and epoch, partitions said, partitions forgotten.
    type Said = (i32, i32, Vec<(i32, i64)>, Vec<i32>);

    fn say(session: &mut Session, version: i16, on: bool, wants: &[Want]) -> Said {
        let mut body = Vec::new();
        session
            .write(version, on, HEAD, wants.to_vec(), &mut body)
            .unwrap();
        let mut scratch = FetchScratch::default();
        let request = FetchRequest::parse_into(version, &body, &mut scratch).unwrap();
        let said = request
            .topics()
            .flat_map(|(_, rows)| rows.iter().map(|row| (row.index, row.fetch_offset)));
        let gone = request
            .forgotten()
            .flat_map(|(_, rows)| rows.iter().copied());
        let (said, gone) = (said.collect(), gone.collect());
        (request.session_id, request.session_epoch, said, gone)
    }

    #[test]
    fn only_changes_are_said() {
        let mut session = Session::default();
        let (a, b) = (want("a", 1, 0, 5), want("b", 2, 1, 6));
        let both = [a.clone(), b.clone()];
        let full = (0, 0, vec![(0, 5), (1, 6)], vec![]);
        assert_eq!(say(&mut session, 17, true, &both), full);
        session.answered(77);
        assert_eq!(say(&mut session, 17, true, &both), (77, 1, vec![], vec![]));
        session.answered(77);
        let moved = [want("a", 1, 0, 9)];
        let changed = (77, 2, vec![(0, 9)], vec![1]);
        assert_eq!(say(&mut session, 17, true, &moved), changed);
        assert!(session.asked(TopicRef::Id([2; 16]), 1).is_none());
        let (name, _, offset) = session.asked(TopicRef::Id([1; 16]), 0).unwrap();
        assert_eq!((&**name, offset), ("a", 9));
    }

    #[test]
    fn a_topic_made_anew_is_another_one() {
        let mut session = Session::default();
        say(&mut session, 17, true, &[want("a", 1, 0, 5)]);
        session.answered(7);
        let anew = say(&mut session, 17, true, &[want("a", 3, 0, 5)]);
        assert_eq!(anew, (7, 1, vec![(0, 5)], vec![0]));
        assert!(session.asked(TopicRef::Id([3; 16]), 0).is_some());
        assert!(session.asked(TopicRef::Id([1; 16]), 0).is_none());
    }

    #[test]
    fn errors_of_the_session_begin_it_anew() {
        let wants = [want("a", 1, 0, 5)];
        for (code, id) in [
            (ErrorCode::FetchSessionIdNotFound, 0),
            (ErrorCode::InvalidFetchSessionEpoch, 7),
            (ErrorCode::FetchSessionTopicIdError, 7),
        ] {
            let mut session = Session::default();
            say(&mut session, 12, true, &wants);
            session.answered(7);
            assert!(session.failed(code));
            assert_eq!(
                say(&mut session, 12, true, &wants),
                (id, 0, vec![(0, 5)], vec![])
            );
        }
        assert!(!Session::default().failed(ErrorCode::NotLeaderOrFollower));
    }

    #[test]
    fn without_a_session_all_is_said_every_time() {
        let wants = [want("a", 1, 0, 5)];
        let mut session = Session::default();
        for (version, on) in [(17, false), (6, true)] {
            for _ in 0..2 {
                assert_eq!(
                    say(&mut session, version, on, &wants),
                    (0, -1, vec![(0, 5)], vec![])
                );
                session.answered(0);
            }
        }
        // A broker that keeps none.
        for _ in 0..2 {
            assert_eq!(
                say(&mut session, 17, true, &wants),
                (0, 0, vec![(0, 5)], vec![])
            );
            session.answered(0);
        }
    }

    #[test]
    fn a_topic_without_an_id_is_asked_for_by_name() {
        assert_eq!(Session::version(&[want("a", 1, 0, 5)], 17), 17);
        assert_eq!(Session::version(&[want("a", 0, 0, 5)], 17), 12);
    }
}
