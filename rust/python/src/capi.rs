//! The C function table that the Cython modules import: checksum and decompression.
//!
//! It is the capsule `mqlog._native._C_API`. `cython/mqlog/_capi.pxd` declares the same struct; a
//! change of either raises `ABI_VERSION` in both.

use std::ffi::CStr;
use std::slice;

use mqlog_record::{Codec, RecordError};
use pyo3::prelude::*;
use pyo3::types::PyCapsule;

const NAME: &CStr = c"mqlog._native._C_API";
const ABI_VERSION: u32 = 1;

const DONE: i32 = 0;
const DAMAGED: i32 = 1;
const TOO_LARGE: i32 = 2;

/// Bytes that Rust owns and the caller gives back with `release`.
#[repr(C)]
pub struct OwnedBytes {
    data: *mut u8,
    len: usize,
    capacity: usize,
}

#[repr(C)]
struct Table {
    abi_version: u32,
    crc32c: unsafe extern "C" fn(*const u8, usize) -> u32,
    decompress: unsafe extern "C" fn(u8, *const u8, usize, usize, *mut OwnedBytes) -> i32,
    release: unsafe extern "C" fn(*mut OwnedBytes),
}

/// Adds the capsule to `mqlog._native`.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let table = Table {
        abi_version: ABI_VERSION,
        crc32c,
        decompress,
        release,
    };
    module.add(
        "_C_API",
        PyCapsule::new_with_value(module.py(), table, NAME)?,
    )
}

/// The bytes at `data`, which may be null if there are none.
///
/// # Safety
/// `len` bytes at `data` are readable, and nobody writes them, for as long as the slice lives.
unsafe fn bytes<'a>(data: *const u8, len: usize) -> &'a [u8] {
    if len == 0 {
        return &[];
    }
    // SAFETY: promised by the caller.
    unsafe { slice::from_raw_parts(data, len) }
}

unsafe extern "C" fn crc32c(data: *const u8, len: usize) -> u32 {
    // SAFETY: the caller holds the bytes object for the length of the call.
    mqlog_record::crc32c(unsafe { bytes(data, len) })
}

/// Decompresses into fresh memory, `max_out` bytes at most. Needs no GIL. `out` is written in any
/// case; it is empty unless the answer is `DONE`.
unsafe extern "C" fn decompress(
    codec: u8,
    data: *const u8,
    len: usize,
    max_out: usize,
    out: *mut OwnedBytes,
) -> i32 {
    // SAFETY: the caller holds the bytes object for the length of the call.
    let input = unsafe { bytes(data, len) };
    let mut body = Vec::new();
    let result = Codec::try_from(codec)
        .and_then(|codec| mqlog_record::decompress(codec, input, max_out, &mut body));
    if result.is_err() {
        body = Vec::new();
    }
    let mut body = std::mem::ManuallyDrop::new(body);
    let owned = OwnedBytes {
        data: body.as_mut_ptr(),
        len: body.len(),
        capacity: body.capacity(),
    };
    // SAFETY: `out` points to a struct of the caller, written whole.
    unsafe { out.write(owned) };
    match result {
        Ok(()) => DONE,
        Err(RecordError::Bomb { .. }) => TOO_LARGE,
        Err(_) => DAMAGED,
    }
}

unsafe extern "C" fn release(owned: *mut OwnedBytes) {
    // SAFETY: `decompress` wrote these three from a Vec; the empty value left here makes a second
    // call harmless.
    unsafe {
        let empty = OwnedBytes {
            data: std::ptr::dangling_mut(),
            len: 0,
            capacity: 0,
        };
        let OwnedBytes {
            data,
            len,
            capacity,
        } = owned.replace(empty);
        drop(Vec::from_raw_parts(data, len, capacity));
    }
}
