//! ApiVersions: what this broker serves. The one request whose answer must be readable before
//! client and broker have agreed on anything.

use std::sync::atomic::Ordering::SeqCst;

use mqlog_protocol::header::{begin_response, end_frame};
use mqlog_protocol::messages::api_versions::{
    ApiVersionsRequest, ApiVersionsResponse, ApiVersionsResponseVersion,
};
use mqlog_protocol::{ApiKey, ErrorCode};

use crate::admit::throttle;
use crate::apis;
use crate::close::Close;
use crate::connection::Place;
use crate::core::Core;
use crate::decode::Request;
use crate::features;

pub(crate) fn answer(
    core: &Core,
    place: &Place,
    request: &Request<'_>,
    out: &mut Vec<u8>,
) -> Result<(), Close> {
    let version = request.header.api_version;
    let body = ApiVersionsRequest::decode(version, request.body).map_err(|_| Close::Malformed)?;
    let mut response = ApiVersionsResponse {
        throttle_time_ms: if version >= 1 { throttle(place) } else { 0 },
        ..ApiVersionsResponse::default()
    };
    if version >= 3 && !software(&body) {
        response.error_code = ErrorCode::InvalidRequest as i16;
    } else {
        response.api_keys = apis::served()
            .map(
                |(api, min_version, max_version)| ApiVersionsResponseVersion {
                    api_key: api as i16,
                    min_version,
                    max_version,
                },
            )
            .collect();
        features::tell(core.metadata_end.load(SeqCst), &mut response);
    }
    write(&response, version, request.header.correlation_id, out)
}

/// An unknown version is answered in version 0, with nothing but what would have been understood.
pub(crate) fn refuse(correlation_id: i32, out: &mut Vec<u8>) -> Result<(), Close> {
    let own = apis::served().find(|(api, ..)| *api == ApiKey::ApiVersions);
    let response = ApiVersionsResponse {
        error_code: ErrorCode::UnsupportedVersion as i16,
        api_keys: own
            .map(
                |(api, min_version, max_version)| ApiVersionsResponseVersion {
                    api_key: api as i16,
                    min_version,
                    max_version,
                },
            )
            .into_iter()
            .collect(),
        ..ApiVersionsResponse::default()
    };
    write(&response, 0, correlation_id, out)
}

fn write(
    response: &ApiVersionsResponse,
    version: i16,
    correlation_id: i32,
    out: &mut Vec<u8>,
) -> Result<(), Close> {
    let start = begin_response(ApiKey::ApiVersions, version, correlation_id, out);
    response
        .encode(version, out)
        .map_err(|_| Close::Malformed)?;
    end_frame(start, 0, out).map_err(|_| Close::Malformed)?;
    Ok(())
}

/// Kafka's rule for software names and versions: letters and digits at both ends, `-` and `.` in
/// between.
fn software(request: &ApiVersionsRequest) -> bool {
    let legal = |text: &str| {
        let inner = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
        let ends = |c: char| c.is_ascii_alphanumeric();
        text.chars().all(inner) && text.starts_with(ends) && text.ends_with(ends)
    };
    legal(&request.client_software_name) && legal(&request.client_software_version)
}
