//! How the data path names topics and brokers: by name in older versions, by id in newer ones.

use std::ops::Range;

use crate::error::{DecodeError, EncodeError};
use crate::reader::Reader;
use crate::writer::Writer;

/// A topic, as a request or response names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TopicRef<'a> {
    /// By name.
    Name(&'a str),
    /// By id.
    Id([u8; 16]),
}

/// A [`TopicRef`] that does not borrow: a name is a range of the body it was read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TopicKey {
    Name(Range<usize>),
    Id([u8; 16]),
}

impl TopicKey {
    /// Reads an id, or a name.
    #[inline]
    pub(crate) fn read(
        reader: &mut Reader<'_>,
        by_id: bool,
        flexible: bool,
    ) -> Result<TopicKey, DecodeError> {
        if by_id {
            return Ok(TopicKey::Id(reader.field("topic_id").uuid()?));
        }
        let length = reader.field("topic").string(flexible)?.len();
        Ok(TopicKey::Name(
            reader.position() - length..reader.position(),
        ))
    }

    /// The topic again; `body` must be the one it was read from.
    #[inline]
    pub(crate) fn resolve<'a>(&self, body: &'a [u8]) -> TopicRef<'a> {
        match self {
            // It was checked to be UTF-8 when it was read.
            TopicKey::Name(range) => TopicRef::Name(
                body.get(range.clone())
                    .and_then(|name| std::str::from_utf8(name).ok())
                    .unwrap_or(""),
            ),
            TopicKey::Id(id) => TopicRef::Id(*id),
        }
    }
}

/// Writes the topic of a response in the form its version wants; the request had the same form.
pub(crate) fn write_topic(
    writer: &mut Writer<'_>,
    version: i16,
    by_id: bool,
    flexible: bool,
    topic: TopicRef<'_>,
) -> Result<(), EncodeError> {
    match (topic, by_id) {
        (TopicRef::Id(id), true) => writer.uuid(&id),
        (TopicRef::Name(name), false) => writer.string(flexible, "topic", Some(name))?,
        (TopicRef::Id(_), false) => {
            return Err(EncodeError::NotInVersion {
                field: "topic_id",
                version,
            })
        }
        (TopicRef::Name(_), true) => {
            return Err(EncodeError::NotInVersion {
                field: "topic",
                version,
            })
        }
    }
    Ok(())
}

/// The leader a client should go to instead (KIP-951).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CurrentLeader {
    /// The broker, or -1 if unknown.
    pub leader_id: i32,
    /// The epoch, or -1 if unknown.
    pub leader_epoch: i32,
}

impl CurrentLeader {
    pub(crate) fn write(self, writer: &mut Writer<'_>) {
        writer.i32(self.leader_id);
        writer.i32(self.leader_epoch);
        writer.no_tags(true);
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<CurrentLeader, DecodeError> {
        let leader_id = reader.field("leader_id").i32()?;
        let leader_epoch = reader.field("leader_epoch").i32()?;
        reader.skip_tags(true)?;
        Ok(CurrentLeader {
            leader_id,
            leader_epoch,
        })
    }
}

/// Where a broker named by a [`CurrentLeader`] is reached (KIP-951).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeEndpoint<'a> {
    /// The broker.
    pub node_id: i32,
    /// Its host.
    pub host: &'a str,
    /// Its port.
    pub port: i32,
    /// Its rack.
    pub rack: Option<&'a str>,
}

/// Writes the tagged fields at the end of a response: tag 0 holds endpoints, if there are any.
pub(crate) fn write_endpoints(
    writer: &mut Writer<'_>,
    endpoints: &[NodeEndpoint<'_>],
) -> Result<(), EncodeError> {
    if endpoints.is_empty() {
        writer.uvarint(0);
        return Ok(());
    }
    writer.uvarint(1);
    writer.tagged(0, |content| {
        content.length(true, "node_endpoints", Some(endpoints.len()))?;
        for endpoint in endpoints {
            content.i32(endpoint.node_id);
            content.string(true, "host", Some(endpoint.host))?;
            content.i32(endpoint.port);
            content.string(true, "rack", endpoint.rack)?;
            content.no_tags(true);
        }
        Ok(())
    })
}

/// Reads what [`write_endpoints`] writes into tag 0.
pub(crate) fn read_endpoints<'a>(
    reader: &mut Reader<'a>,
) -> Result<Vec<NodeEndpoint<'a>>, DecodeError> {
    let count = reader.field("node_endpoints").array_len(true, 11)?;
    let mut endpoints = Vec::with_capacity(count);
    for _ in 0..count {
        endpoints.push(NodeEndpoint {
            node_id: reader.field("node_id").i32()?,
            host: reader.field("host").string(true)?,
            port: reader.field("port").i32()?,
            rack: reader.field("rack").nullable_string(true)?,
        });
        reader.skip_tags(true)?;
    }
    Ok(endpoints)
}
