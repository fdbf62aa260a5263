//! From received bytes to requests: framing, limits, and who answers.

use std::ops::Range;

use mqlog_protocol::header::RequestHeader;
use mqlog_protocol::ApiKey;

use crate::admit::{admit, Resource};
use crate::apis::{self, Answerer};
use crate::close::{foreign, Close};
use crate::connection::{Connection, Io, MAX_BACKLOG};
use crate::control::{ControlEvent, ControlRequest};
use crate::outbox::Outbox;
use crate::park::{ControlWait, Parked};
use crate::produce::MAX_PENDING;
use crate::{api_versions, list_offsets, metadata, offset_for_leader_epoch};

const LENGTH: usize = 4;

/// A request whose header has been read.
pub(crate) struct Request<'a> {
    pub(crate) header: RequestHeader<'a>,
    /// The frame after the header.
    pub(crate) body: &'a [u8],
}

impl Connection {
    /// Decodes and serves every complete frame of `data`, up to the first that has to wait.
    /// Returns how many bytes were used, even if the last request of them ends the connection.
    pub(crate) fn decode(
        &mut self,
        data: &mut [u8],
        io: &mut Io,
        out: &mut Outbox,
    ) -> (usize, Result<(), Close>) {
        let mut used = 0;
        let mut result = self.decode_frames(data, &mut used, io, out);
        // Produce requests are only gathered above.
        if let Err(close) = self.run_produces(data, io, out) {
            result = result.and(Err(close));
        }
        (used, result)
    }

    fn decode_frames(
        &mut self,
        data: &mut [u8],
        used: &mut usize,
        io: &mut Io,
        out: &mut Outbox,
    ) -> Result<(), Close> {
        while let Some(frame) = self.next_frame(data, *used)? {
            if out.backlog() > MAX_BACKLOG || self.produces.len() >= MAX_PENDING {
                self.stopped = true;
                return Ok(());
            }
            let bytes = &data[frame.clone()];
            let header = RequestHeader::parse(bytes).map_err(|_| Close::Malformed)?;
            let served = apis::find(header.api_key, header.api_version);
            if let Some((ApiKey::Produce, _)) = served.filter(|_| header.api_version >= 3) {
                let body = frame.start + header.body_offset..frame.end;
                self.accepted(ApiKey::Produce)?;
                io.produce.gather(&self.core, &header, data, body)?;
                *used = frame.end;
                continue;
            }
            // Effects are in request order, and so are answers.
            let key = header.api_key;
            self.run_produces(data, io, out)?;
            if !self.produces.is_empty() {
                self.stopped = true;
                return Ok(());
            }
            *used = frame.end;
            let bytes = &data[frame];
            let header = RequestHeader::parse(bytes).map_err(|_| Close::Malformed)?;
            let request = Request {
                header,
                body: &bytes[header.body_offset..],
            };
            let Some((api, answerer)) = served else {
                self.unserved(key, &request, out)?;
                continue;
            };
            self.accepted(api)?;
            match answerer {
                Answerer::Data => self.answer(api, &request, io, out)?,
                Answerer::Control => self.ask_control(api, &request, None),
            }
            if self.parked.is_some() {
                self.stopped = true;
                return Ok(());
            }
        }
        Ok(())
    }

    /// The next complete frame at `at`, without its length prefix.
    fn next_frame(&self, data: &[u8], at: usize) -> Result<Option<Range<usize>>, Close> {
        let rest = data.get(at..).unwrap_or_default();
        let Some(prefix) = rest.first_chunk::<LENGTH>() else {
            return Ok(None);
        };
        let limits = &self.core.config.limits;
        let max = match self.trusted {
            true => limits.request_max_bytes,
            false => limits.request_max_bytes.min(limits.first_request_max_bytes),
        };
        match usize::try_from(i32::from_be_bytes(*prefix)) {
            Ok(length) if length <= max => {
                let frame = at + LENGTH..at + LENGTH + length;
                Ok((frame.end <= data.len()).then_some(frame))
            }
            _ if self.trusted => Err(Close::FrameLength),
            _ => Err(foreign(rest)),
        }
    }

    fn accepted(&mut self, api: ApiKey) -> Result<(), Close> {
        self.trusted = true;
        self.core.stats.request(api as i16);
        self.progress();
        match admit(&self.place, api, &[Resource::Broker]) {
            true => Ok(()),
            false => Err(Close::NotAdmitted),
        }
    }

    /// A key or version that is not served.
    fn unserved(&mut self, key: i16, request: &Request<'_>, out: &mut Outbox) -> Result<(), Close> {
        if key != ApiKey::ApiVersions as i16 {
            return Err(Close::Unsupported);
        }
        self.accepted(ApiKey::ApiVersions)?;
        api_versions::refuse(request.header.correlation_id, &mut out.bytes)
    }

    fn answer(
        &mut self,
        api: ApiKey,
        request: &Request<'_>,
        io: &mut Io,
        out: &mut Outbox,
    ) -> Result<(), Close> {
        let header = &request.header;
        match api {
            ApiKey::Fetch => self.fetch(request, io, out),
            ApiKey::Metadata => {
                let parsed = metadata::Request::decode(header.api_version, request.body)?;
                if parsed.wants_creation(&self.core) {
                    self.ask_control(api, request, Some(request.body.to_vec()));
                    return Ok(());
                }
                parsed.answer(
                    &self.core,
                    &self.place,
                    header.correlation_id,
                    &mut out.bytes,
                )
            }
            ApiKey::ApiVersions => {
                api_versions::answer(&self.core, &self.place, request, &mut out.bytes)
            }
            ApiKey::ListOffsets => list_offsets::serve(self, request, &mut out.bytes),
            ApiKey::OffsetForLeaderEpoch => {
                offset_for_leader_epoch::answer(&self.core, &self.place, request, &mut out.bytes)
            }
            // Produce 0 to 2: advertised for old clients' sake, refused as Kafka 4.3.1 does.
            _ => Err(Close::Unsupported),
        }
    }

    /// Hands a request to the control plane and parks.
    fn ask_control(&mut self, api: ApiKey, request: &Request<'_>, metadata: Option<Vec<u8>>) {
        let header = &request.header;
        let core = &self.core;
        let token = core.tokens.ticket();
        core.tokens.insert(token, &self.mailbox);
        core.stats.control_requests.add(1);
        self.parked = Some(Box::new(Parked::Control(ControlWait {
            token,
            api,
            version: header.api_version,
            correlation_id: header.correlation_id,
            metadata,
        })));
        core.control.submit(ControlEvent::Request(ControlRequest {
            token,
            api_key: header.api_key,
            api_version: header.api_version,
            client_id: header.client_id.map(str::to_owned),
            body: request.body.to_vec(),
            peer: self.place.peer,
            local: self.place.local,
            listener: self.place.listener.to_string(),
            arrival_ns: core.clock.mono_ns(),
        }));
    }
}
