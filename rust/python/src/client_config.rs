//! A client's settings out of the dict that `mqlog.client.config` makes.

use std::time::Duration;

use mqlog_client::config::{NetConfig, SaslConfig, SaslMechanism, TlsConfig};
use pyo3::exceptions::{PyKeyError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// The longest time that a setting means; longer ones are as good as for ever.
const LONGEST_MS: f64 = 3.2e12;

/// What is in the dict under a name. KeyError if nothing is.
pub fn field<'py, T>(dict: &Bound<'py, PyDict>, name: &str) -> PyResult<T>
where
    T: for<'a> FromPyObject<'a, 'py, Error: Into<PyErr>>,
{
    let value = dict
        .get_item(name)?
        .ok_or_else(|| PyKeyError::new_err(name.to_owned()))?;
    value.extract().map_err(Into::into)
}

/// Milliseconds, as any number.
pub fn milliseconds(ms: f64) -> Duration {
    let ms = if ms.is_nan() { 0.0 } else { ms };
    Duration::from_secs_f64(ms.clamp(0.0, LONGEST_MS) / 1000.0)
}

/// A time in the dict.
pub fn time(dict: &Bound<'_, PyDict>, name: &str) -> PyResult<Duration> {
    Ok(milliseconds(field(dict, name)?))
}

/// How to reach a cluster.
pub fn net(dict: &Bound<'_, PyDict>) -> PyResult<NetConfig> {
    let tls: Option<Bound<'_, PyDict>> = field(dict, "tls")?;
    let sasl: Option<Bound<'_, PyDict>> = field(dict, "sasl")?;
    Ok(NetConfig {
        bootstrap: field(dict, "bootstrap")?,
        client_id: field(dict, "client_id")?,
        client_rack: field(dict, "client_rack")?,
        tls: tls.as_ref().map(tls_config).transpose()?,
        sasl: sasl.as_ref().map(sasl_config).transpose()?,
        request_timeout: time(dict, "request_timeout_ms")?,
        connect_timeout: time(dict, "connect_timeout_ms")?,
        reconnect_backoff: time(dict, "reconnect_backoff_ms")?,
        reconnect_backoff_max: time(dict, "reconnect_backoff_max_ms")?,
        retry_backoff: time(dict, "retry_backoff_ms")?,
        retry_backoff_max: time(dict, "retry_backoff_max_ms")?,
        metadata_max_age: time(dict, "metadata_max_age_ms")?,
        connections_max_idle: time(dict, "connections_max_idle_ms")?,
        receive_max_bytes: field(dict, "receive_max_bytes")?,
        send_buffer: field(dict, "send_buffer")?,
        receive_buffer: field(dict, "receive_buffer")?,
        allow_auto_create: field(dict, "allow_auto_create")?,
    })
}

fn tls_config(dict: &Bound<'_, PyDict>) -> PyResult<TlsConfig> {
    Ok(TlsConfig {
        ca_pem: field(dict, "ca_pem")?,
        cert_pem: field(dict, "cert_pem")?,
        key_pem: field(dict, "key_pem")?,
        check_hostname: field(dict, "check_hostname")?,
    })
}

fn sasl_config(dict: &Bound<'_, PyDict>) -> PyResult<SaslConfig> {
    let name: String = field(dict, "mechanism")?;
    let mechanism = [
        SaslMechanism::Plain,
        SaslMechanism::ScramSha256,
        SaslMechanism::ScramSha512,
    ]
    .into_iter()
    .find(|mechanism| mechanism.name() == name)
    .ok_or_else(|| PyValueError::new_err(format!("sasl mechanism {name:?}")))?;
    Ok(SaslConfig {
        mechanism,
        username: field(dict, "username")?,
        password: field(dict, "password")?,
    })
}
