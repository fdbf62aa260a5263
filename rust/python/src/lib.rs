//! The PyO3 skin: mqlog._native.

use pyo3::prelude::*;

mod broker;
mod capi;
mod capi_consumer;
mod capi_futures;
mod capi_producer;
mod client;
mod client_config;
mod client_error;
mod client_metadata;
mod codec;
mod consumer;
mod control_values;
mod exchange;
mod image;
mod producer;
mod producer_source;
mod records;

#[pymodule(name = "_native")]
fn native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    broker::register(module)?;
    capi::register(module)?;
    capi_consumer::register(module)?;
    consumer::register(module)?;
    capi_producer::register(module)?;
    client::register(module)?;
    codec::register(module)?;
    exchange::register(module)?;
    producer::register(module)?;
    records::register(module)
}
