//! CRC-32C (Castagnoli), the checksum of a batch from its attributes on.

/// The CRC-32C of `bytes`, by hardware where there is any.
///
/// One path for every length: below 512 bytes a plain loop over the CRC instruction is 1-3 ns
/// faster, above it several times slower, so a second path would not pay for itself.
#[inline]
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(bytes)
}

/// The CRC-32C of two pieces that follow each other.
pub(crate) fn crc32c_pieces(pieces: [&[u8]; 2]) -> u32 {
    let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
    for piece in pieces {
        digest.update(piece);
    }
    digest.finalize() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bit by bit, from the polynomial's definition.
    fn slow(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(!0u32, |crc, &byte| {
            (0..8).fold(crc ^ u32::from(byte), |c, _| {
                (c >> 1) ^ (0x82f6_3b78 * (c & 1))
            })
        })
    }

    #[test]
    fn matches_the_definition_at_every_length() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        let bytes: Vec<u8> = (0..1500u32).map(|i| (i * 31 + i / 7) as u8).collect();
        for len in (0..300).chain([511, 512, 513, 1023, 1024, 1025, 1500]) {
            assert_eq!(crc32c(&bytes[..len]), slow(&bytes[..len]), "length {len}");
            let (head, rest) = bytes[..len].split_at(len / 3);
            assert_eq!(
                crc32c_pieces([head, rest]),
                slow(&bytes[..len]),
                "length {len}"
            );
        }
    }
}
