//! A connection's task: reads answers, writes what the socket did not take, watches the clock.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{sleep_until, timeout};

use crate::exchange::Shared;
use crate::fork::Registered;
use crate::frame::{stranger, FrameError, Frames};
use crate::io::lock;
use crate::transport::Sink;
use crate::{tls, ClientError};

/// How long a connection that cannot be written to may still say why.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// Ends the connection also when the runtime drops the task.
struct Ending(Arc<Shared>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.fail(ClientError::Closed("client"));
    }
}

/// Runs until the connection is over.
pub(crate) async fn run(
    shared: Arc<Shared>,
    mut frames: Frames,
    sink: Arc<Sink>,
    registered: Registered,
) {
    let ending = Ending(shared);
    let shared = &ending.0;
    let mut timer = pin!(sleep_until(shared.plan().until));
    loop {
        let plan = shared.plan();
        if plan.over {
            break;
        }
        if plan.broken {
            let last = poll_fn(|cx| frames.poll_next(cx, 0));
            match timeout(LAST_WORDS, last).await {
                Ok(Ok(frame)) => {
                    if let Err(error) = shared.answer(&frame) {
                        shared.fail(error);
                    }
                }
                Ok(Err(error)) => shared.fail(explain(shared, error, frames.received())),
                Err(_) => shared.fail(explain(
                    shared,
                    FrameError::Ended { inside: false },
                    frames.received(),
                )),
            }
            continue;
        }
        if timer.deadline() != plan.until {
            timer.as_mut().reset(plan.until);
        }
        tokio::select! {
            frame = poll_fn(|cx| frames.poll_next(cx, plan.expected)) => {
                let done = match frame {
                    Ok(frame) => shared.answer(&frame),
                    Err(error) => Err(explain(shared, error, frames.received())),
                };
                if let Err(error) = done {
                    shared.fail(error);
                }
            }
            _ = sink.writable(), if plan.blocked => shared.flush(&mut lock(&shared.state)),
            () = shared.wake.notified() => {}
            () = &mut timer => {
                if let Some(error) = shared.late() {
                    shared.fail(error);
                }
            }
        }
    }
    // In this order: a child of a fork must never close a descriptor that was given out again.
    drop(registered);
    drop((frames, sink));
}

/// What a failed read means.
fn explain(shared: &Shared, error: FrameError, received: u64) -> ClientError {
    let (broken, waiting, answers) = shared.standing();
    let address = shared.peer.address.clone();
    let disconnected = |reason: String, hint: &str| ClientError::Disconnected {
        address: address.clone(),
        reason,
        hint: hint.to_owned(),
    };
    match error {
        FrameError::Length { head, limit } => {
            if let Some((what, hint)) = stranger(head).filter(|_| answers == 0) {
                return shared.protocol(format!("{what}; {hint}"));
            }
            let length = i32::from_be_bytes(head);
            let what = match length {
                4.. => format!(
                    "it announces an answer of {length} bytes, above \
                     receive_message_max_bytes={limit}"
                ),
                _ => format!("it announces an answer of {length} bytes"),
            };
            let wrong_port = "; is this the port of a Kafka listener?";
            shared.protocol(what + if answers == 0 { wrong_port } else { "" })
        }
        FrameError::Ended { inside: true } => disconnected(
            format!("it was cut in the middle of an answer, after {received} bytes in all"),
            "",
        ),
        FrameError::Ended { inside: false } => {
            let reason = match (broken, waiting) {
                (Some(why), _) => why,
                (None, 0) => "the broker closed it".to_owned(),
                (None, 1) => "the broker closed it with a request unanswered".to_owned(),
                (None, more) => format!("the broker closed it with {more} requests unanswered"),
            };
            disconnected(reason, silent_end(shared, answers, waiting))
        }
        FrameError::Io(error) => match tls::fault(&error) {
            Some(fault) => tls::explain(&address, fault),
            None => disconnected(
                crate::open::plain(&error),
                silent_end(shared, answers, waiting),
            ),
        },
    }
}

/// Brokers that want SASL answer ApiVersions and close at the first other request.
fn silent_end(shared: &Shared, answers: u64, waiting: usize) -> &'static str {
    if shared.peer.sasl || answers != 1 || waiting == 0 {
        return "";
    }
    match shared.peer.tls {
        true => "a listener that wants SASL ends so: check security_protocol (SASL_SSL?)",
        false => "a listener that wants SASL ends so: check security_protocol (SASL_PLAINTEXT?)",
    }
}
