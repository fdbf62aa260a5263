//! The C functions that read: the capsule `mqlog._native._CONSUMER_API`.
//!
//! `cython/mqlog/_capi_consumer.pxd` declares the same structs; a change of either raises
//! `ABI_VERSION` in both. No function unwinds or needs the GIL, and none waits for anything but a
//! lock of the consumer. A consumer is a handle that `attach` makes of what the capsule of
//! `Consumer._handle` points to.

use std::ffi::CStr;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::ptr;
use std::sync::Arc;

use mqlog_client::columns::{Binary, Columns, RecordColumns};
use mqlog_client::fork::{self, Kept};
use mqlog_client::reader::{Chunk, Mark};
use mqlog_client::views::RecordView;
use mqlog_client::{ClientError, Consumer};
use pyo3::prelude::*;
use pyo3::types::PyCapsule;

const NAME: &CStr = c"mqlog._native._CONSUMER_API";
/// The name of the capsule that `Consumer._handle` gives.
pub const HANDLE: &CStr = c"mqlog._native.Consumer";
const ABI_VERSION: u32 = 1;

const SOMETHING: i32 = 1;
const NOTHING: i32 = 0;
const CLOSED: i32 = -1;
const FORKED: i32 = -2;
const FAILED: i32 = -3;

/// What the capsule of a consumer points to.
pub type Handle = Kept<Arc<Consumer>>;

/// A chunk, as C sees it; valid until the chunk is given back.
#[repr(C)]
struct ChunkInfo {
    data: *const u8,
    views: *const RecordView,
    count: usize,
    topic: *const u8,
    topic_size: usize,
    next_offset: i64,
    partition: i32,
    timestamp_type: i32,
    mark: Mark,
}

#[repr(C)]
struct BinaryInfo {
    offsets: *const i32,
    data: *const u8,
    data_size: i64,
    /// Null while no string is.
    validity: *const u8,
    nulls: i64,
    length: i64,
}

#[repr(C)]
struct ColumnsInfo {
    length: i64,
    topics: i64,
    partitions_read: i64,
    topic: *const i32,
    partitions: *const i32,
    offsets: *const i64,
    timestamps: *const i64,
    keys: BinaryInfo,
    values: BinaryInfo,
    /// Null without headers.
    header_offsets: *const i32,
    header_names: BinaryInfo,
    header_values: BinaryInfo,
}

#[repr(C)]
struct NextInfo {
    topic: i32,
    partition: i32,
    offset: i64,
    epoch: i32,
}

type Take =
    unsafe extern "C" fn(*const Handle, usize, usize, *mut *mut Chunk, *mut ChunkInfo) -> i32;
type TakeColumns =
    unsafe extern "C" fn(*const Handle, usize, usize, i32, *mut *const RecordColumns) -> i32;

#[repr(C)]
struct Table {
    abi_version: u32,
    attach: unsafe extern "C" fn(*const Handle) -> *const Handle,
    close: unsafe extern "C" fn(*const Handle),
    take: Take,
    release: unsafe extern "C" fn(*const Handle, *mut Chunk),
    revision: unsafe extern "C" fn(*const Handle) -> *const u64,
    forks: extern "C" fn() -> *const u32,
    is_wanted: unsafe extern "C" fn(*const Handle, *const Mark) -> i32,
    advance: unsafe extern "C" fn(*const Handle, *const Mark, i64),
    give_back: unsafe extern "C" fn(*const Handle, *const Mark, i64),
    take_columns: TakeColumns,
    columns_retain: unsafe extern "C" fn(*const RecordColumns),
    columns_release: unsafe extern "C" fn(*const RecordColumns),
    columns_info: unsafe extern "C" fn(*const RecordColumns, *mut ColumnsInfo),
    columns_topic: unsafe extern "C" fn(*const RecordColumns, i64, *mut usize) -> *const u8,
    columns_next: unsafe extern "C" fn(*const RecordColumns, i64, *mut NextInfo) -> i32,
}

/// Adds the capsule to `mqlog._native`.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let table = Table {
        abi_version: ABI_VERSION,
        attach,
        close,
        take,
        release,
        revision,
        forks,
        is_wanted,
        advance,
        give_back,
        take_columns,
        columns_retain,
        columns_release,
        columns_info,
        columns_topic,
        columns_next,
    };
    let capsule = PyCapsule::new_with_value(module.py(), table, NAME)?;
    module.add("_CONSUMER_API", capsule)
}

/// Runs what is asked of a consumer; a panic ends here.
///
/// # Safety
/// `handle` is what the capsule of a living consumer points to.
unsafe fn guarded(
    handle: *const Handle,
    work: impl FnOnce(&Consumer) -> Result<i32, ClientError>,
) -> i32 {
    // SAFETY: the caller keeps the capsule, which is only read here.
    let Some(handle) = (unsafe { handle.as_ref() }) else {
        return CLOSED;
    };
    let result = catch_unwind(AssertUnwindSafe(|| work(handle.get()?)));
    match result {
        Ok(Ok(status)) => status,
        Ok(Err(ClientError::Closed(_))) => CLOSED,
        Ok(Err(ClientError::Forked(_))) => FORKED,
        Ok(Err(_)) | Err(_) => FAILED,
    }
}

/// Another handle of the same consumer, which its caller closes: the capsule may go before. Null in
/// a child of a fork.
unsafe extern "C" fn attach(handle: *const Handle) -> *const Handle {
    // SAFETY: as the caller promises.
    let consumer = unsafe { handle.as_ref() }.and_then(|handle| handle.get().ok());
    consumer.map_or(ptr::null(), |consumer| {
        Box::into_raw(Box::new(Kept::new("consumer", consumer.clone())))
    })
}

unsafe extern "C" fn close(handle: *const Handle) {
    // SAFETY: it came from `attach` and is not used any more.
    let handle = unsafe { Box::from_raw(handle.cast_mut()) };
    // A panic must not get out; what it left behind is left there.
    let _ = catch_unwind(AssertUnwindSafe(|| drop(handle)));
}

/// The next chunk, which the caller gives back by `release`.
unsafe extern "C" fn take(
    handle: *const Handle,
    max_records: usize,
    max_bytes: usize,
    chunk: *mut *mut Chunk,
    info: *mut ChunkInfo,
) -> i32 {
    let work = |consumer: &Consumer| {
        let Some(taken) = consumer.take(max_records, max_bytes)?.map(Box::new) else {
            return Ok(NOTHING);
        };
        // SAFETY: both point to what is the caller's; the chunk lives until it is given back.
        unsafe {
            info.write(describe(&taken));
            chunk.write(Box::into_raw(taken));
        }
        Ok(SOMETHING)
    };
    // SAFETY: as the caller promises.
    unsafe { guarded(handle, work) }
}

fn describe(chunk: &Chunk) -> ChunkInfo {
    ChunkInfo {
        data: chunk.body().as_ptr(),
        views: chunk.views.as_ptr(),
        count: chunk.views.len(),
        topic: chunk.topic.as_ptr(),
        topic_size: chunk.topic.len(),
        next_offset: chunk.next_offset,
        partition: chunk.partition,
        timestamp_type: i32::from(chunk.append_time),
        mark: chunk.mark,
    }
}

/// Gives a chunk back. In a child of a fork it is left alone: a lost thread may have held what it
/// would be freed with.
unsafe extern "C" fn release(handle: *const Handle, chunk: *mut Chunk) {
    let work = |consumer: &Consumer| {
        // SAFETY: it came from `take` and is not used any more.
        consumer.recycle(*unsafe { Box::from_raw(chunk) });
        Ok(NOTHING)
    };
    // SAFETY: as the caller promises.
    unsafe { guarded(handle, work) };
}

/// Where changes are counted after which `is_wanted` is to be asked; valid as long as the handle.
unsafe extern "C" fn revision(handle: *const Handle) -> *const u64 {
    // SAFETY: as the caller promises.
    let consumer = unsafe { handle.as_ref() }.and_then(|handle| handle.get().ok());
    consumer.map_or(ptr::null(), |consumer| {
        consumer.revision().as_ptr().cast_const()
    })
}

/// Where forks are counted: another number than before is another process. Valid for ever.
extern "C" fn forks() -> *const u32 {
    fork::word().as_ptr().cast_const()
}

unsafe extern "C" fn is_wanted(handle: *const Handle, mark: *const Mark) -> i32 {
    // SAFETY: the caller's mark, as it was given; as the caller promises.
    unsafe { guarded(handle, |consumer| Ok(i32::from(consumer.is_wanted(*mark)))) }
}

unsafe extern "C" fn advance(handle: *const Handle, mark: *const Mark, offset: i64) {
    let work = |consumer: &Consumer| {
        // SAFETY: the caller's mark, as it was given.
        consumer.advance(unsafe { *mark }, offset);
        Ok(NOTHING)
    };
    // SAFETY: as the caller promises.
    unsafe { guarded(handle, work) };
}

unsafe extern "C" fn give_back(handle: *const Handle, mark: *const Mark, offset: i64) {
    let work = |consumer: &Consumer| {
        // SAFETY: the caller's mark, as it was given.
        consumer.give_back(unsafe { *mark }, offset);
        Ok(NOTHING)
    };
    // SAFETY: as the caller promises.
    unsafe { guarded(handle, work) };
}

/// The next records as columns, which the caller releases. Empty columns are `SOMETHING` too.
unsafe extern "C" fn take_columns(
    handle: *const Handle,
    max_records: usize,
    max_bytes: usize,
    headers: i32,
    columns: *mut *const RecordColumns,
) -> i32 {
    let work = |consumer: &Consumer| {
        let taken = consumer.take_columns(max_records, max_bytes, headers != 0)?;
        // SAFETY: the caller's place for a pointer.
        unsafe { columns.write(Arc::into_raw(taken)) };
        Ok(SOMETHING)
    };
    // SAFETY: as the caller promises.
    unsafe { guarded(handle, work) }
}

unsafe extern "C" fn columns_retain(columns: *const RecordColumns) {
    // SAFETY: the caller holds one of the counts, all of which `Arc` made.
    unsafe { Arc::increment_strong_count(columns) };
}

/// From any thread, with no interpreter.
unsafe extern "C" fn columns_release(columns: *const RecordColumns) {
    // SAFETY: the caller gives away one of the counts, all of which `Arc` made. Dropping columns
    // does not panic: it frees memory or pushes it to a list.
    drop(unsafe { Arc::from_raw(columns) });
}

unsafe extern "C" fn columns_info(columns: *const RecordColumns, info: *mut ColumnsInfo) {
    // SAFETY: the caller holds a count; the columns never change.
    let columns: &Columns = unsafe { &*columns };
    let headers = columns.headers.as_ref();
    let none = Binary::default();
    let described = ColumnsInfo {
        length: columns.len() as i64,
        topics: columns.topics.len() as i64,
        partitions_read: columns.next.len() as i64,
        topic: columns.topic.as_ptr(),
        partitions: columns.partitions.as_ptr(),
        offsets: columns.offsets.as_ptr(),
        timestamps: columns.timestamps.as_ptr(),
        keys: binary(&columns.keys),
        values: binary(&columns.values),
        header_offsets: headers.map_or(ptr::null(), |headers| headers.offsets.as_ptr()),
        header_names: binary(headers.map_or(&none, |headers| &headers.names)),
        header_values: binary(headers.map_or(&none, |headers| &headers.values)),
    };
    // SAFETY: the caller's struct.
    unsafe { info.write(described) };
}

fn binary(column: &Binary) -> BinaryInfo {
    BinaryInfo {
        offsets: column.offsets.as_ptr(),
        data: column.data.as_ptr(),
        data_size: column.data.len() as i64,
        validity: match column.nulls {
            0 => ptr::null(),
            _ => column.validity.as_ptr(),
        },
        nulls: column.nulls as i64,
        length: column.len() as i64,
    }
}

/// The name of one of the topics, UTF-8; null beyond the last.
unsafe extern "C" fn columns_topic(
    columns: *const RecordColumns,
    index: i64,
    size: *mut usize,
) -> *const u8 {
    // SAFETY: the caller holds a count.
    let columns: &Columns = unsafe { &*columns };
    let found = usize::try_from(index).ok();
    let Some(topic) = found.and_then(|index| columns.topics.get(index)) else {
        return ptr::null();
    };
    // SAFETY: the caller's place for a size.
    unsafe { size.write(topic.len()) };
    topic.as_ptr()
}

/// Where to go on in one of the partitions; `NOTHING` beyond the last.
unsafe extern "C" fn columns_next(
    columns: *const RecordColumns,
    index: i64,
    next: *mut NextInfo,
) -> i32 {
    // SAFETY: the caller holds a count.
    let columns: &Columns = unsafe { &*columns };
    let found = usize::try_from(index).ok();
    let Some(found) = found.and_then(|index| columns.next.get(index)) else {
        return NOTHING;
    };
    let told = NextInfo {
        topic: found.topic,
        partition: found.partition,
        offset: found.offset,
        epoch: found.epoch,
    };
    // SAFETY: the caller's struct.
    unsafe { next.write(told) };
    SOMETHING
}
