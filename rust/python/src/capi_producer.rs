//! The C functions that produce: the capsule `mqlog._native._PRODUCER_API`.
//!
//! `cython/mqlog/_capi_producer.pxd` declares the same structs; a change of either raises
//! `ABI_VERSION` in both. No function unwinds. None needs the interpreter but `error_take`. A
//! producer is what the capsule of `Producer._handle` points to.

use std::ffi::CStr;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::slice;
use std::sync::Arc;

use mqlog_client::fork::Kept;
use mqlog_client::producer::{
    Append, BatchState, Common, Content, HeaderRef, Pieces, Put, Refused, Waiting,
};
use mqlog_client::{ClientError, Producer};
use pyo3::ffi::PyObject;
use pyo3::prelude::*;
use pyo3::types::PyCapsule;

use crate::capi_futures::{
    batch_end, batch_release, batch_wait, batch_watch, completed, error_take, piece, pieces_count,
    pieces_free, pieces_new, End, PieceView,
};
use crate::producer_source::Columns;

const NAME: &CStr = c"mqlog._native._PRODUCER_API";
/// The name of the capsule that `Producer._handle` gives.
pub const HANDLE: &CStr = c"mqlog._native.Producer";
const ABI_VERSION: u32 = 1;

pub const DONE: i32 = 0;
/// Not yet: the caller looks for signals and comes back.
pub const AGAIN: i32 = 1;
/// There is no such partition.
const NO_PARTITION: i32 = 2;
/// `error` says what is wrong.
pub const FAILED: i32 = 3;

/// "Now", as a timestamp.
const NOW: i64 = i64::MIN;
/// The most headers that a record may have.
const MOST_HEADERS: usize = 1 << 16;

/// What the capsule of a producer points to.
pub type Handle = Kept<Arc<Producer>>;

/// Bytes, or null.
#[repr(C)]
#[derive(Clone, Copy)]
struct View {
    data: *const u8,
    /// -1 for null.
    len: isize,
}

#[repr(C)]
struct Record {
    topic: u32,
    partition: i32,
    acks: i16,
    timestamp: i64,
    key: View,
    value: View,
    /// Key, value, key, value ...
    headers: *const View,
    headers_count: usize,
}

#[repr(C)]
struct Where {
    /// The batch, to be released; null if it is the one expected.
    batch: *const BatchState,
    timestamp: i64,
    partition: i32,
    index: u32,
}

#[repr(C)]
struct Table {
    abi_version: u32,
    topic: unsafe extern "C" fn(*const Handle, *const u8, usize) -> i64,
    append:
        unsafe extern "C" fn(*const Handle, *const Record, *const BatchState, *mut Where) -> i32,
    append_patiently: unsafe extern "C" fn(
        *const Handle,
        *const Record,
        *mut Waiting,
        *mut Where,
        *mut *mut ClientError,
    ) -> i32,
    append_many: unsafe extern "C" fn(
        *const Handle,
        *const Record,
        *const Columns,
        *mut usize,
        *mut Pieces,
        *mut Waiting,
        *mut *mut ClientError,
    ) -> i32,
    waiting_new: unsafe extern "C" fn() -> *mut Waiting,
    waiting_free: unsafe extern "C" fn(*const Handle, *mut Waiting),
    pieces_new: unsafe extern "C" fn() -> *mut Pieces,
    pieces_free: unsafe extern "C" fn(*mut Pieces),
    pieces_count: unsafe extern "C" fn(*const Pieces) -> usize,
    piece: unsafe extern "C" fn(*const Pieces, usize) -> PieceView,
    batch_release: unsafe extern "C" fn(*const BatchState),
    batch_end: unsafe extern "C" fn(*const BatchState, u32, *mut End) -> i32,
    batch_wait: unsafe extern "C" fn(*const Handle, *const BatchState, u32, i64) -> i32,
    batch_watch: unsafe extern "C" fn(*const Handle, *const BatchState, u64) -> i32,
    completed: unsafe extern "C" fn(*const Handle, *mut u64, usize, i64) -> isize,
    error_take: unsafe extern "C" fn(*mut ClientError) -> *mut PyObject,
}

/// Adds the capsule to `mqlog._native`.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let table = Table {
        abi_version: ABI_VERSION,
        topic,
        append,
        append_patiently,
        append_many,
        waiting_new,
        waiting_free,
        pieces_new,
        pieces_free,
        pieces_count,
        piece,
        batch_release,
        batch_end,
        batch_wait,
        batch_watch,
        completed,
        error_take,
    };
    let capsule = PyCapsule::new_with_value(module.py(), table, NAME)?;
    module.add("_PRODUCER_API", capsule)
}

/// What `work` gives, or `otherwise` if it panics.
pub fn guarded<T>(otherwise: T, work: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or(otherwise)
}

impl View {
    /// # Safety
    /// The caller keeps the bytes for as long as the slice lives.
    #[inline]
    unsafe fn get<'a>(self) -> Option<&'a [u8]> {
        match self.len {
            ..0 => None,
            0 => Some(&[]),
            // SAFETY: promised by the caller.
            len => Some(unsafe { slice::from_raw_parts(self.data, len as usize) }),
        }
    }
}

impl Record {
    /// # Safety
    /// The caller keeps key and value.
    #[inline]
    unsafe fn append<'a>(&self, headers: &'a [HeaderRef<'a>]) -> Append<'a> {
        // SAFETY: promised by the caller.
        let (key, value) = unsafe { (self.key.get(), self.value.get()) };
        Append {
            topic: self.topic,
            partition: (self.partition >= 0).then_some(self.partition),
            acks: self.acks,
            timestamp: (self.timestamp != NOW).then_some(self.timestamp),
            content: Content {
                key,
                value,
                headers,
            },
        }
    }

    /// # Safety
    /// The caller keeps the headers.
    unsafe fn headers<'a>(&self) -> Vec<HeaderRef<'a>> {
        let count = self.headers_count.min(MOST_HEADERS);
        let header = |at: usize| {
            // SAFETY: promised by the caller; there are two views for each header.
            unsafe {
                let key = (*self.headers.add(2 * at)).get().unwrap_or_default();
                (key, (*self.headers.add(2 * at + 1)).get())
            }
        };
        (0..count).map(header).collect()
    }
}

impl Where {
    fn new(put: Put) -> Where {
        Where {
            batch: put.batch.map_or(std::ptr::null(), Arc::into_raw),
            timestamp: put.timestamp,
            partition: put.partition,
            index: put.index,
        }
    }
}

/// The number of a topic; -1 for a name that is not UTF-8 or in a child of a fork.
unsafe extern "C" fn topic(handle: *const Handle, name: *const u8, len: usize) -> i64 {
    guarded(-1, || {
        // SAFETY: the caller keeps both for the length of the call; so in all that follow.
        let (handle, name) = unsafe { (&*handle, slice::from_raw_parts(name, len)) };
        match (handle.get(), std::str::from_utf8(name)) {
            (Ok(producer), Ok(name)) => i64::from(producer.topic(name)),
            _ => -1,
        }
    })
}

/// Appends without waiting. Anything but `DONE` is to be said by `append_patiently`.
unsafe extern "C" fn append(
    handle: *const Handle,
    record: *const Record,
    expected: *const BatchState,
    out: *mut Where,
) -> i32 {
    guarded(FAILED, || {
        // SAFETY: as above.
        let (handle, record) = unsafe { (&*handle, &*record) };
        let Ok(producer) = handle.get() else {
            return FAILED;
        };
        let mut waiting = Waiting::default();
        // SAFETY: as above.
        let put = unsafe {
            match record.headers_count {
                0 => producer.append(&record.append(&[]), expected, &mut waiting),
                _ => producer.append(&record.append(&record.headers()), expected, &mut waiting),
            }
        };
        match put {
            Ok(put) => {
                // SAFETY: `out` is the caller's.
                unsafe { out.write(Where::new(put)) };
                DONE
            }
            Err(_) => {
                producer.give_up(&mut waiting);
                AGAIN
            }
        }
    })
}

fn failed(error: ClientError, out: *mut *mut ClientError) -> i32 {
    // SAFETY: `out` is the caller's, who takes the error out of it.
    unsafe { out.write(Box::into_raw(Box::new(error))) };
    FAILED
}

unsafe extern "C" fn append_patiently(
    handle: *const Handle,
    record: *const Record,
    waiting: *mut Waiting,
    out: *mut Where,
    error: *mut *mut ClientError,
) -> i32 {
    let work = || {
        // SAFETY: as above; `waiting` is used by this call alone.
        let (handle, record, waiting) = unsafe { (&*handle, &*record, &mut *waiting) };
        let producer = match handle.get() {
            Ok(producer) => producer,
            Err(forked) => return failed(forked, error),
        };
        // SAFETY: as above.
        let headers = unsafe { record.headers() };
        // SAFETY: as above.
        match producer.append_patiently(unsafe { &record.append(&headers) }, waiting) {
            Ok(put) => {
                // SAFETY: as above.
                unsafe { out.write(Where::new(put)) };
                DONE
            }
            Err(refused) => {
                let (code, count) = refusal(refused, error);
                if code == NO_PARTITION {
                    // SAFETY: as above; the place says how many there are.
                    unsafe { (*out).index = count };
                }
                code
            }
        }
    };
    let panicked = catch_unwind(AssertUnwindSafe(work));
    panicked.unwrap_or_else(|_| failed(broken(), error))
}

fn broken() -> ClientError {
    ClientError::State("the producer failed; its panic was reported".to_owned())
}

fn refusal(refused: Refused, error: *mut *mut ClientError) -> (i32, u32) {
    match refused {
        Refused::Memory { .. } | Refused::Metadata => (AGAIN, 0),
        Refused::Partition { count } => (NO_PARTITION, count as u32),
        Refused::Error(what) => (failed(what, error), 0),
    }
}

/// Appends the records from `*from` on, and moves `*from` on. `common` has what all share. A
/// partition that is not there is an error like any other.
unsafe extern "C" fn append_many(
    handle: *const Handle,
    common: *const Record,
    columns: *const Columns,
    from: *mut usize,
    pieces: *mut Pieces,
    waiting: *mut Waiting,
    error: *mut *mut ClientError,
) -> i32 {
    let work = || {
        // SAFETY: as above; the last three are used by this call alone.
        let (handle, common, columns, from, pieces, waiting) = unsafe {
            (
                &*handle,
                &*common,
                &*columns,
                &mut *from,
                &mut *pieces,
                &mut *waiting,
            )
        };
        let producer = match handle.get() {
            Ok(producer) => producer,
            Err(forked) => return failed(forked, error),
        };
        // SAFETY: as above.
        let headers = unsafe { common.headers() };
        let common = Common {
            topic: common.topic,
            partition: (common.partition >= 0).then_some(common.partition),
            acks: common.acks,
            timestamp: (common.timestamp != NOW).then_some(common.timestamp),
            headers: &headers,
        };
        let rows = *from..columns.length();
        let (count, result) = producer.append_many(&common, columns, rows, pieces, waiting);
        *from += count;
        match result {
            Ok(()) => DONE,
            Err(refused) => match refusal(refused, error) {
                (NO_PARTITION, count) => {
                    let text = format!("the topic has partitions 0 to {}", count as i64 - 1);
                    failed(ClientError::State(text), error);
                    NO_PARTITION
                }
                (code, _) => code,
            },
        }
    };
    let panicked = catch_unwind(AssertUnwindSafe(work));
    panicked.unwrap_or_else(|_| failed(broken(), error))
}

unsafe extern "C" fn waiting_new() -> *mut Waiting {
    Box::into_raw(Box::default())
}

unsafe extern "C" fn waiting_free(handle: *const Handle, waiting: *mut Waiting) {
    guarded((), || {
        // SAFETY: `waiting_new` made it, and nobody uses it any more.
        let (handle, mut waiting) = unsafe { (&*handle, Box::from_raw(waiting)) };
        if let Ok(producer) = handle.get() {
            producer.give_up(&mut waiting);
        }
    });
}
