//! What went wrong in a client, as an exception of mqlog.errors.

use mqlog_client::ClientError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// The exception of an error; what the error knows are its attributes.
pub fn raised(py: Python<'_>, error: &ClientError) -> PyErr {
    exception(py, error).unwrap_or_else(|failure| failure)
}

/// The same for results, where an interpreter is at hand.
pub trait Raise<T> {
    /// The value, or the exception.
    fn or_raise(self, py: Python<'_>) -> PyResult<T>;
}

impl<T> Raise<T> for Result<T, ClientError> {
    fn or_raise(self, py: Python<'_>) -> PyResult<T> {
        self.map_err(|error| raised(py, &error))
    }
}

fn exception(py: Python<'_>, error: &ClientError) -> PyResult<PyErr> {
    let errors = py.import("mqlog.errors")?;
    let facts = PyDict::new(py);
    let name = match error {
        ClientError::Connect { hint, .. } | ClientError::Disconnected { hint, .. } => {
            set(&facts, "hint", hint)?;
            "KafkaConnectionError"
        }
        ClientError::Tls { hint, .. } => {
            set(&facts, "hint", hint)?;
            "TlsError"
        }
        ClientError::Authentication { hint, .. } => {
            set(&facts, "hint", hint)?;
            "SaslAuthenticationFailedError"
        }
        ClientError::Timeout { .. } => "KafkaTimeoutError",
        ClientError::Unsupported { .. } => "UnsupportedVersionError",
        ClientError::Protocol { .. } => "KafkaProtocolError",
        ClientError::Broker {
            code,
            topic,
            partition,
            message,
        } => {
            set(&facts, "topic", topic)?;
            if *partition >= 0 {
                facts.set_item("partition", partition)?;
            }
            let detail = Some(message).filter(|text| !text.is_empty());
            let of = errors.getattr("KafkaError")?.getattr("of")?;
            return Ok(PyErr::from_value(
                of.call((code.code(), detail), Some(&facts))?,
            ));
        }
        ClientError::RecordTooLarge { topic, hint, .. } => {
            set(&facts, "topic", topic)?;
            set(&facts, "hint", hint)?;
            "RecordTooLargeError"
        }
        ClientError::BufferFull { .. } => "BufferFullError",
        ClientError::Corrupt {
            topic,
            partition,
            offset,
            ..
        } => {
            set(&facts, "topic", topic)?;
            facts.set_item("partition", partition)?;
            facts.set_item("offset", offset)?;
            "CorruptMessageError"
        }
        ClientError::Setting { setting, problem } => {
            let class = errors.getattr("KafkaConfigurationError")?;
            return Ok(PyErr::from_value(class.call1((setting, "...", problem))?));
        }
        ClientError::Closed(_) => "ClosedError",
        ClientError::Forked(_) => "UsedAfterForkError",
        _ => "IllegalStateError",
    };
    let made = errors
        .getattr(name)?
        .call((error.to_string(),), Some(&facts))?;
    if let ClientError::RecordTooLarge {
        size,
        limit,
        setting,
        ..
    } = error
    {
        made.setattr("size", size)?;
        made.setattr("limit", limit)?;
        made.setattr("setting", setting)?;
    }
    Ok(PyErr::from_value(made))
}

fn set(facts: &Bound<'_, PyDict>, name: &str, text: &str) -> PyResult<()> {
    if text.is_empty() {
        return Ok(());
    }
    facts.set_item(name, text)
}
