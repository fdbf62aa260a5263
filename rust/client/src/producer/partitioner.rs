//! Which partition a record goes to: the hash of its key, or one that is kept for a while.

/// The hash that Java's client, kafka-python and mqlog give a key, so that all of them send it to
/// the same partition.
pub fn murmur2(data: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mut hash = 0x9747_b28c ^ data.len() as u32;
    let (words, rest) = data.as_chunks::<4>();
    for word in words {
        let mut mixed = u32::from_le_bytes(*word).wrapping_mul(M);
        mixed = (mixed ^ mixed >> 24).wrapping_mul(M);
        hash = hash.wrapping_mul(M) ^ mixed;
    }
    if !rest.is_empty() {
        let mut last = [0; 4];
        for (to, from) in last.iter_mut().zip(rest) {
            *to = *from;
        }
        hash = (hash ^ u32::from_le_bytes(last)).wrapping_mul(M);
    }
    hash = (hash ^ hash >> 13).wrapping_mul(M);
    hash ^ hash >> 15
}

/// The partition of a key, of `count` there are.
#[inline]
pub fn for_key(key: &[u8], count: u32) -> u32 {
    (murmur2(key) & 0x7fff_ffff) % count.max(1)
}

/// Where records without a key go: one partition until its batch is closed, then another, so that
/// batches become large (KIP-480).
#[derive(Debug)]
pub(crate) struct Sticky {
    current: Option<i32>,
    last: i32,
    random: u64,
}

impl Sticky {
    pub(crate) fn new(seed: u64) -> Sticky {
        Sticky {
            current: None,
            last: -1,
            // A generator that starts at 0 stays there.
            random: seed | 1,
        }
    }

    /// The partition now; another of `available` (or, without a leader anywhere, of all `count`)
    /// after [`Sticky::leave`].
    pub(crate) fn partition(&mut self, available: &[i32], count: i32) -> i32 {
        if let Some(partition) = self.current.filter(|partition| *partition < count) {
            return partition;
        }
        let others = available
            .iter()
            .filter(|partition| **partition != self.last)
            .count();
        let chosen = match (others, available) {
            (0, []) => (self.next() % count.max(1) as u64) as i32,
            (0, [only, ..]) => *only,
            _ => {
                let nth = self.next() as usize % others;
                let mut others = available.iter().filter(|one| **one != self.last);
                others.nth(nth).copied().unwrap_or(0)
            }
        };
        self.current = Some(chosen);
        self.last = chosen;
        chosen
    }

    /// The batch that `partition` was kept for is closed.
    pub(crate) fn leave(&mut self, partition: i32) {
        if self.current == Some(partition) {
            self.current = None;
        }
    }

    /// xorshift64: good enough to spread load, and nothing else depends on it.
    fn next(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of Java's own test, so that keys go where they went before.
    #[test]
    fn the_hash_is_that_of_other_clients() {
        let known: [(&[u8], i32); 7] = [
            (b"21", -973_932_308),
            (b"foobar", -790_332_482),
            (b"a-little-bit-long-string", -985_981_536),
            (b"a-little-bit-longer-string", -1_486_304_829),
            (
                b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8",
                -58_897_971,
            ),
            (b"abc", 479_470_107),
            (b"", 275_646_681),
        ];
        for (key, hash) in known {
            assert_eq!(murmur2(key) as i32, hash, "{key:?}");
        }
    }

    #[test]
    fn one_partition_is_kept_until_it_is_left_and_then_another_is_taken() {
        let mut sticky = Sticky::new(7);
        let mut seen = std::collections::HashSet::new();
        for _ in 0..100 {
            let kept = sticky.partition(&[0, 2, 5], 6);
            assert_eq!(sticky.partition(&[0, 2, 5], 6), kept);
            seen.insert(kept);
            sticky.leave(kept + 1);
            assert_eq!(sticky.partition(&[0, 2, 5], 6), kept, "another one's batch");
            sticky.leave(kept);
            assert_ne!(sticky.partition(&[0, 2, 5], 6), kept);
        }
        assert_eq!(seen, [0, 2, 5].into());
    }

    #[test]
    fn without_a_choice_there_still_is_a_partition() {
        let mut sticky = Sticky::new(0);
        for _ in 0..3 {
            assert_eq!(sticky.partition(&[4], 5), 4);
            sticky.leave(4);
        }
        assert!((0..5).contains(&sticky.partition(&[], 5)));
    }
}
