# The C function table of mqlog._native; the same struct as in rust/python/src/capi.rs.
from libc.stdint cimport int32_t, uint8_t, uint32_t

cdef enum:
    ABI_VERSION = 1

cdef enum:
    DONE = 0
    DAMAGED = 1
    TOO_LARGE = 2

# Bytes that Rust owns; given back with release().
cdef struct OwnedBytes:
    uint8_t *data
    size_t len
    size_t capacity

cdef struct Table:
    uint32_t abi_version
    uint32_t (*crc32c)(const uint8_t *data, size_t len) noexcept nogil
    int32_t (*decompress)(
        uint8_t codec, const uint8_t *data, size_t len, size_t max_out, OwnedBytes *out
    ) noexcept nogil
    void (*release)(OwnedBytes *owned) noexcept nogil
