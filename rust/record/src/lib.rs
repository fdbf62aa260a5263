//! RecordBatch v2 bytes: header view, varints, CRC32C, the four codecs, build, validate, iterate.
