//! A request that cannot be answered at once and holds the decoding of its connection up.

use mqlog_protocol::header::{begin_response, end_frame};
use mqlog_protocol::ApiKey;

use crate::close::Close;
use crate::connection::{Connection, Io};
use crate::control::ControlEvent;
use crate::core::Core;
use crate::fetch::FetchWait;
use crate::mailbox::Letter;
use crate::metadata;
use crate::outbox::Outbox;

/// What a parked request waits for.
pub(crate) enum Parked {
    /// The control plane.
    Control(ControlWait),
    /// Records, or the pool that reads them.
    Fetch(FetchWait),
    /// A frame that the pool makes, under this ticket.
    Pool(u64),
}

/// A request that the control plane has.
pub(crate) struct ControlWait {
    pub(crate) token: u64,
    pub(crate) api: ApiKey,
    pub(crate) version: i16,
    pub(crate) correlation_id: i32,
    /// Of a Metadata request: it is answered here once its topics are made.
    pub(crate) metadata: Option<Vec<u8>>,
}

impl Parked {
    /// When it must be answered whatever has come, broker milliseconds.
    pub(crate) fn deadline_ms(&self) -> Option<u64> {
        match self {
            Parked::Fetch(fetch) => fetch.deadline_ms(),
            Parked::Control(_) | Parked::Pool(_) => None,
        }
    }

    /// The connection is gone.
    pub(crate) fn abandon(&self, core: &Core) {
        if let Parked::Control(wait) = self {
            if core.tokens.forget(wait.token) {
                core.control
                    .submit(ControlEvent::Disconnected { token: wait.token });
            }
        }
    }
}

impl Connection {
    /// Answers the parked request if what it waits for has come.
    pub(crate) fn unpark(&mut self, io: &mut Io, out: &mut Outbox) -> Result<(), Close> {
        let Some(mut parked) = self.parked.take() else {
            return Ok(());
        };
        let answered = match &mut *parked {
            Parked::Control(wait) => self.control_answer(wait, out),
            Parked::Fetch(wait) => self.fetch_again(wait, io, out),
            Parked::Pool(ticket) => match self.mailbox.collect(*ticket) {
                Some(Letter::Frame(frame)) => {
                    out.bytes.extend_from_slice(&frame);
                    Ok(true)
                }
                Some(_) => Err(Close::ByControl),
                None => Ok(false),
            },
        };
        match answered {
            Ok(true) => {
                self.progress();
                Ok(())
            }
            other => {
                // Kept for an error, too: the control plane may have to hear of it.
                self.parked = Some(parked);
                other.map(|_| ())
            }
        }
    }

    fn control_answer(&mut self, wait: &ControlWait, out: &mut Outbox) -> Result<bool, Close> {
        let (version, correlation_id) = (wait.version, wait.correlation_id);
        match self.mailbox.collect(wait.token) {
            None => Ok(false),
            Some(Letter::Reply(body)) => {
                let start = begin_response(wait.api, version, correlation_id, &mut out.bytes);
                out.bytes.extend_from_slice(&body);
                end_frame(start, 0, &mut out.bytes).map_err(|_| Close::ByControl)?;
                Ok(true)
            }
            Some(Letter::ReplyMetadata) => {
                let body = wait.metadata.as_deref().ok_or(Close::ByControl)?;
                let request = metadata::Request::decode(version, body)?;
                request.answer(&self.core, &self.place, correlation_id, &mut out.bytes)?;
                Ok(true)
            }
            Some(_) => Err(Close::ByControl),
        }
    }
}
