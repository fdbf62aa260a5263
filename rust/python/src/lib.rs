//! The PyO3 skin: mqlog._native.

use pyo3::prelude::*;

mod capi;
mod codec;
mod exchange;
mod records;

#[pymodule(name = "_native")]
fn native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    capi::register(module)?;
    codec::register(module)?;
    exchange::register(module)?;
    records::register(module)
}
