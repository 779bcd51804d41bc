//! Some rows of many, for the comparisons at the end of an import.

use std::sync::Arc;

use sosohappy_common::clock::{Entropy, SystemEntropy};

/// Rows of a kind that are compared.
pub const COMPARED: usize = 50;

/// At most [`COMPARED`] of the rows that it is offered, each with the same chance (reservoir sampling, Vitter's algorithm R).
#[derive(Debug)]
pub struct Sample<T> {
    pub rows: Vec<T>,
    offered: u64,
    entropy: Arc<dyn Entropy>,
}

impl<T> Default for Sample<T> {
    fn default() -> Self {
        Self::with(Arc::new(SystemEntropy))
    }
}

impl<T> Sample<T> {
    fn with(entropy: Arc<dyn Entropy>) -> Self {
        Self {
            rows: Vec::new(),
            offered: 0,
            entropy,
        }
    }

    /// Keeps the n-th row with a chance of [`COMPARED`] in n, in the place of any other.
    pub fn offer(&mut self, row: T) {
        self.offered += 1;
        if self.rows.len() < COMPARED {
            self.rows.push(row);
            return;
        }
        // The remainder favours no place by more than one in 2^64 / n.
        let place = usize::try_from(self.entropy.u64() % self.offered).ok();
        if let Some(kept) = place.and_then(|place| self.rows.get_mut(place)) {
            *kept = row;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    /// Numbers that are the same in each run: `SplitMix64`.
    #[derive(Debug, Default)]
    struct Repeatable(AtomicU64);

    impl Entropy for Repeatable {
        fn fill(&self, bytes: &mut [u8]) {
            for part in bytes.chunks_mut(8) {
                let state = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
                let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
                part.copy_from_slice(&(mixed ^ (mixed >> 31)).to_le_bytes()[..part.len()]);
            }
        }
    }

    #[test]
    fn every_part_of_the_rows_has_the_same_share() {
        const RUNS: usize = 400;
        const ROWS: usize = 2_000;
        const PARTS: usize = 10;
        let entropy: Arc<dyn Entropy> = Arc::new(Repeatable::default());
        let mut shares = [0; PARTS];
        for _ in 0..RUNS {
            let mut sample = Sample::with(entropy.clone());
            (0..ROWS).for_each(|row| sample.offer(row));
            assert_eq!(sample.rows.len(), COMPARED);
            for row in sample.rows {
                shares[row * PARTS / ROWS] += 1;
            }
        }
        // 2,000 rows of each part are expected, with a standard deviation of about 42.
        let expected = RUNS * COMPARED / PARTS;
        for (part, share) in shares.into_iter().enumerate() {
            assert!(
                (expected - 200..expected + 200).contains(&share),
                "part {part}: {share} of {expected}: {shares:?}"
            );
        }
    }

    #[test]
    fn few_rows_are_all_kept() {
        let mut sample = Sample::default();
        (0..COMPARED).for_each(|row| sample.offer(row));
        assert_eq!(sample.rows, (0..COMPARED).collect::<Vec<_>>());
    }
}
