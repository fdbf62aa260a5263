//! CRC-32C (Castagnoli), the checksum of a batch from its attributes on.

/// The CRC-32C of `bytes`, by hardware where there is any.
///
/// One path for every length: below 512 bytes a plain loop over the CRC instruction is 1-3 ns
/// faster, above it several times slower, so a second path would not pay for itself.
#[inline]
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(bytes)
}

/// The CRC-32C of bytes that come piece by piece.
#[derive(Debug, Clone)]
pub struct RunningCrc(crc_fast::Digest);

impl Default for RunningCrc {
    fn default() -> RunningCrc {
        RunningCrc(crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi))
    }
}

impl RunningCrc {
    /// Goes on with these bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The checksum of all so far.
    pub fn value(&self) -> u32 {
        self.0.finalize() as u32
    }
}

/// Castagnoli's polynomial; the lowest power is the highest bit.
const POLYNOMIAL: u32 = 0x82f6_3b78;
/// x to the powers 1, 2, 4, 8 and so on.
const SQUARES: [u32; 64] = {
    let mut squares = [1 << 30; 64];
    let mut at = 1;
    while at < squares.len() {
        squares[at] = multiply(squares[at - 1], squares[at - 1]);
        at += 1;
    }
    squares
};

/// The product of two polynomials, modulo Castagnoli's.
const fn multiply(mut a: u32, mut b: u32) -> u32 {
    let mut product = 0;
    while a != 0 {
        product ^= b & 0u32.wrapping_sub(a >> 31);
        a <<= 1;
        b = (b >> 1) ^ (POLYNOMIAL & 0u32.wrapping_sub(b & 1));
    }
    product
}

/// The CRC-32C of two pieces that follow each other, from that of each and the length of the
/// second: the first counts as if as many zeros came after it.
pub(crate) fn combine(first: u32, second: u32, second_len: usize) -> u32 {
    let bits = second_len as u64 * 8;
    let shifted = SQUARES
        .iter()
        .enumerate()
        .filter(|(at, _)| bits >> at & 1 == 1)
        .fold(first, |crc, (_, square)| multiply(*square, crc));
    shifted ^ second
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
    fn combines_long_pieces() {
        let zeros = vec![0; 3 << 20];
        for len in [1 << 16, (1 << 20) + 7, 3 << 20] {
            let whole = [b"123456789", &zeros[..len]].concat();
            let combined = combine(crc32c(b"123456789"), crc32c(&zeros[..len]), len);
            assert_eq!(combined, crc32c(&whole), "length {len}");
        }
    }

    #[test]
    fn matches_the_definition_at_every_length() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        let bytes: Vec<u8> = (0..1500u32).map(|i| (i * 31 + i / 7) as u8).collect();
        for len in (0..300).chain([511, 512, 513, 1023, 1024, 1025, 1500]) {
            assert_eq!(crc32c(&bytes[..len]), slow(&bytes[..len]), "length {len}");
            let (head, rest) = bytes[..len].split_at(len / 3);
            let mut running = RunningCrc::default();
            running.update(head);
            running.update(rest);
            assert_eq!(running.value(), slow(&bytes[..len]), "length {len}");
            let combined = combine(slow(head), slow(rest), rest.len());
            assert_eq!(combined, slow(&bytes[..len]), "length {len}");
        }
    }
}
