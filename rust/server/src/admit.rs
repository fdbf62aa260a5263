//! The seams for authorization and quotas: every request passes [`admit`], every answer carries
//! what [`throttle`] says. Today everyone may do everything, at once.

use mqlog_protocol::ApiKey;

use crate::connection::Place;

/// What a request touches.
pub(crate) enum Resource {
    /// The broker as a whole.
    Broker,
}

/// Whether the client at `place` may send this request at all.
pub(crate) fn admit(_place: &Place, _api: ApiKey, _resources: &[Resource]) -> bool {
    true
}

/// How long the client at `place` is asked to pause, in milliseconds.
pub(crate) fn throttle(_place: &Place) -> i32 {
    0
}
