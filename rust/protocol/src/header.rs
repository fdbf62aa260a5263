//! What stands before a request or response, and the length before both.
//!
//! A frame is a big-endian int32 length, a header, a body. Request headers are version 2
//! (with tagged fields) for flexible versions, else 1; response headers 1 or 0, and always 0 for
//! ApiVersions, whose answer must be readable before any version is agreed on.

use crate::api_key::ApiKey;
use crate::error::{DecodeError, EncodeError};
use crate::reader::Reader;
use crate::writer::Writer;

/// The header of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestHeader<'a> {
    /// As on the wire; see [`RequestHeader::api`].
    pub api_key: i16,
    /// As on the wire; it need not exist.
    pub api_version: i16,
    /// Chosen by the client, echoed in the answer.
    pub correlation_id: i32,
    /// The client's name for itself.
    pub client_id: Option<&'a str>,
    /// Where the body starts in the frame.
    pub body_offset: usize,
}

impl<'a> RequestHeader<'a> {
    /// Reads the header of a frame whose length prefix has been taken off. Keys and versions
    /// that do not exist are no error here: the caller needs them to answer.
    pub fn parse(frame: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(frame);
        let api_key = reader.field("api_key").i16()?;
        let api_version = reader.field("api_version").i16()?;
        let correlation_id = reader.field("correlation_id").i32()?;
        // The client id keeps the old encoding even in header version 2.
        let client_id = reader.field("client_id").nullable_string(false)?;
        let known = ApiKey::from_i16(api_key).filter(|api| api.versions().contains(api_version));
        reader.skip_tags(known.is_some_and(|api| api.flexible(api_version)))?;
        let body_offset = reader.position();
        Ok(RequestHeader {
            api_key,
            api_version,
            correlation_id,
            client_id,
            body_offset,
        })
    }

    /// The API, if there is one of this key.
    pub fn api(&self) -> Option<ApiKey> {
        ApiKey::from_i16(self.api_key)
    }
}

/// Appends a request's header. `version` must be one that the API has.
pub fn request_header(
    api: ApiKey,
    version: i16,
    correlation_id: i32,
    client_id: Option<&str>,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    let mut writer = Writer::new(out);
    writer.i16(api as i16);
    writer.i16(version);
    writer.i32(correlation_id);
    writer.string(false, "client_id", client_id)?;
    writer.no_tags(api.flexible(version));
    Ok(())
}

/// Whether the response header of this API and version has tagged fields.
#[inline]
pub fn flexible_response_header(api: ApiKey, version: i16) -> bool {
    api != ApiKey::ApiVersions && api.flexible(version)
}

/// Appends a response's header.
#[inline]
pub fn response_header(api: ApiKey, version: i16, correlation_id: i32, out: &mut Vec<u8>) {
    let mut writer = Writer::new(out);
    writer.i32(correlation_id);
    writer.no_tags(flexible_response_header(api, version));
}

/// Reads a response's header: the correlation id and where the body starts.
pub fn parse_response_header(
    api: ApiKey,
    version: i16,
    frame: &[u8],
) -> Result<(i32, usize), DecodeError> {
    let mut reader = Reader::new(frame);
    let correlation_id = reader.field("correlation_id").i32()?;
    reader.skip_tags(flexible_response_header(api, version))?;
    Ok((correlation_id, reader.position()))
}

/// Where a frame begins in a buffer, so that its length can be filled in when it is known.
#[derive(Debug)]
#[must_use = "the frame has no length until it is ended"]
pub struct FrameStart(usize);

/// Begins a frame: appends room for its length.
pub fn begin_frame(out: &mut Vec<u8>) -> FrameStart {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    FrameStart(start)
}

/// Begins a response's frame: its length's room and its header.
pub fn begin_response(
    api: ApiKey,
    version: i16,
    correlation_id: i32,
    out: &mut Vec<u8>,
) -> FrameStart {
    let start = begin_frame(out);
    response_header(api, version, correlation_id, out);
    start
}

/// Ends a frame: fills in its length, `elsewhere` counting bytes that are sent within the frame
/// but do not lie in `out`. Returns the whole frame's size, length prefix included.
pub fn end_frame(
    start: FrameStart,
    elsewhere: usize,
    out: &mut [u8],
) -> Result<usize, EncodeError> {
    let too_long = |length| EncodeError::TooLong {
        field: "frame",
        length,
        limit: i32::MAX as usize,
    };
    let body = out
        .len()
        .saturating_sub(start.0 + 4)
        .saturating_add(elsewhere);
    let length = i32::try_from(body).map_err(|_| too_long(body))?;
    match out.get_mut(start.0..start.0 + 4) {
        Some(room) => room.copy_from_slice(&length.to_be_bytes()),
        None => return Err(too_long(body)),
    }
    Ok(body + 4)
}
