//! The C functions of what was sent: where records went and how they ended. Part of the table of
//! `capi_producer.rs`, whose rules hold here.

use std::slice;
use std::sync::Arc;
use std::time::Duration;

use mqlog_client::producer::{BatchState, Outcome, Pieces, Taken, Waited};
use mqlog_client::ClientError;
use pyo3::ffi::PyObject;
use pyo3::prelude::*;

use crate::capi_producer::{guarded, Handle, AGAIN, DONE, FAILED};
use crate::client_error::raised;

/// Some records of a send that are in one batch.
#[repr(C)]
pub struct PieceView {
    batch: *const BatchState,
    partition: i32,
    first: u32,
    count: u32,
}

/// How a record ended.
#[repr(C)]
pub struct End {
    offset: i64,
    /// -1 if the record keeps its own.
    log_append_time: i64,
    error: *mut ClientError,
}

pub unsafe extern "C" fn pieces_new() -> *mut Pieces {
    Box::into_raw(Box::default())
}

pub unsafe extern "C" fn pieces_free(pieces: *mut Pieces) {
    // SAFETY: `pieces_new` made it, and nobody uses it any more.
    guarded((), || drop(unsafe { Box::from_raw(pieces) }));
}

pub unsafe extern "C" fn pieces_count(pieces: *const Pieces) -> usize {
    // SAFETY: as above.
    unsafe { &*pieces }.list().len()
}

/// Piece `at`; its batch lives as long as the pieces do. No records beyond the last.
pub unsafe extern "C" fn piece(pieces: *const Pieces, at: usize) -> PieceView {
    // SAFETY: as above.
    match unsafe { &*pieces }.list().get(at) {
        Some(piece) => PieceView {
            batch: Arc::as_ptr(&piece.batch),
            partition: piece.batch.slot.partition,
            first: piece.first,
            count: piece.count,
        },
        None => PieceView {
            batch: std::ptr::null(),
            partition: -1,
            first: 0,
            count: 0,
        },
    }
}

pub unsafe extern "C" fn batch_release(batch: *const BatchState) {
    // SAFETY: it was given with a count of its own, which is taken back here.
    guarded((), || drop(unsafe { Arc::from_raw(batch) }));
}

/// How record `index` ended; `AGAIN` if it has not.
pub unsafe extern "C" fn batch_end(batch: *const BatchState, index: u32, out: *mut End) -> i32 {
    // SAFETY: as above.
    guarded(AGAIN, || match unsafe { &*batch }.outcome(index) {
        None => AGAIN,
        Some((outcome, at)) => {
            let (code, end) = ended(outcome, at);
            // SAFETY: as above.
            unsafe { out.write(end) };
            code
        }
    })
}

fn ended(outcome: &Outcome, at: u32) -> (i32, End) {
    match outcome {
        Outcome::Written {
            base_offset,
            log_append_time,
        } => {
            let offset = match base_offset {
                -1 => -1,
                base => base.saturating_add(i64::from(at)),
            };
            let end = End {
                offset,
                log_append_time: *log_append_time,
                error: std::ptr::null_mut(),
            };
            (DONE, end)
        }
        Outcome::Failed(failure) => {
            let end = End {
                offset: -1,
                log_append_time: -1,
                error: Box::into_raw(Box::new(failure.of(at))),
            };
            (FAILED, end)
        }
    }
}

/// Waits for the end of record `index`, a turn or `limit_ms` long. `FAILED` in a child of a fork.
pub unsafe extern "C" fn batch_wait(
    handle: *const Handle,
    batch: *const BatchState,
    index: u32,
    limit_ms: i64,
) -> i32 {
    guarded(FAILED, || {
        // SAFETY: as above.
        let (handle, batch) = unsafe { (&*handle, &*batch) };
        let limit = Duration::from_millis(u64::try_from(limit_ms).unwrap_or(0));
        match handle
            .get()
            .map(|producer| producer.wait(batch, index, limit))
        {
            Ok(Waited::Done) => DONE,
            Ok(Waited::NotYet) => AGAIN,
            Err(_) => FAILED,
        }
    })
}

/// Has `token` put into the queue when the batch is done: `AGAIN`. `DONE` if it is already.
pub unsafe extern "C" fn batch_watch(
    handle: *const Handle,
    batch: *const BatchState,
    token: u64,
) -> i32 {
    guarded(FAILED, || {
        // SAFETY: as above.
        let (handle, batch) = unsafe { (&*handle, &*batch) };
        match handle
            .get()
            .map(|producer| batch.watch(producer.completions(), token))
        {
            Ok(true) => AGAIN,
            Ok(false) => DONE,
            Err(_) => FAILED,
        }
    })
}

/// Tokens of batches that are done, `limit_ms` waited for at most; -1 when there will be no more.
pub unsafe extern "C" fn completed(
    handle: *const Handle,
    out: *mut u64,
    room: usize,
    limit_ms: i64,
) -> isize {
    guarded(-1, || {
        // SAFETY: as above.
        let (handle, out) = unsafe { (&*handle, slice::from_raw_parts_mut(out, room)) };
        let Ok(producer) = handle.get() else {
            return -1;
        };
        let limit = Duration::from_millis(u64::try_from(limit_ms).unwrap_or(0));
        match producer.completions().take(out, limit) {
            Taken::Tokens(count) => count as isize,
            Taken::Nothing => 0,
            Taken::Closed => -1,
        }
    })
}

/// The exception of an error, which is gone afterwards. The caller is attached to the interpreter;
/// null if there is no memory.
pub unsafe extern "C" fn error_take(error: *mut ClientError) -> *mut PyObject {
    guarded(std::ptr::null_mut(), || {
        // SAFETY: the error came from here and is given back once; the caller is attached.
        let (error, py) = unsafe { (Box::from_raw(error), Python::assume_attached()) };
        raised(py, &error).into_value(py).into_ptr()
    })
}
