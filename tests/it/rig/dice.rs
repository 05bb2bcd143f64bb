//! Chance that can be repeated: the seed is printed, and `PORTCULLIS_SEED` sets it.

use portcullis::clock::SystemClock;

/// A small generator (splitmix64); good enough to shuffle and to mutate.
#[derive(Clone, Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    /// Seeded by the clock, or by `PORTCULLIS_SEED`; a failing test shows the seed in its output.
    pub(crate) fn new() -> Self {
        let given = std::env::var("PORTCULLIS_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = given.unwrap_or_else(|| SystemClock::shared().now().as_secs() ^ u64::from(std::process::id()) << 20);
        println!("PORTCULLIS_SEED={seed}");
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap()
    }

    /// One of these.
    pub(crate) fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }

    /// Another generator, which depends on this one's seed alone and on `number`.
    pub(crate) fn fork(&self, number: usize) -> Self {
        Self(self.0 ^ (number as u64 + 1).wrapping_mul(0xa076_1d64_78bd_642f))
    }

    /// Puts them in some order.
    pub(crate) fn shuffle<T>(&mut self, of: &mut [T]) {
        for at in (1..of.len()).rev() {
            of.swap(at, self.below(at + 1));
        }
    }
}
