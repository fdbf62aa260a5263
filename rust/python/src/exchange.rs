//! What a caller needs beside the messages: which versions exist, and how a response begins.

use mqlog_protocol::header::parse_response_header;
use mqlog_protocol::ApiKey;
use pyo3::exceptions::PyLookupError;
use pyo3::import_exception;
use pyo3::prelude::*;

import_exception!(mqlog.errors, ProtocolError);

/// Adds `versions` and `response_header` to `mqlog._native`.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add("DEBUG_BUILD", cfg!(debug_assertions))?;
    module.add_function(wrap_pyfunction!(versions, module)?)?;
    module.add_function(wrap_pyfunction!(response_header, module)?)
}

fn api(api_key: i16) -> PyResult<ApiKey> {
    ApiKey::from_i16(api_key)
        .ok_or_else(|| PyLookupError::new_err(format!("no messages for API key {api_key}")))
}

/// The first and the last version of an API that this codec knows. LookupError if none.
#[pyfunction]
fn versions(api_key: i16) -> PyResult<(i16, i16)> {
    let known = api(api_key)?.versions();
    Ok((known.min, known.max))
}

/// The correlation id of a response frame (without its length), and where its body starts.
#[pyfunction]
fn response_header(api_key: i16, version: i16, frame: &[u8]) -> PyResult<(i32, usize)> {
    parse_response_header(api(api_key)?, version, frame)
        .map_err(|error| ProtocolError::new_err(error.to_string()))
}
