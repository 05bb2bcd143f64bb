//! A map from key to word, made for millions of entries that are mostly asked for in vain.
//!
//! Beside every slot stands a byte of its key, seven of them in a word, so that a look-up in vain reads a word and no slot:
//! the word's eighth byte says of which keys some had to go on to another group. The map is cut into shards, each behind a
//! short lock; a shard grows by a tenth to three tenths, in blocks of equal size, so that an entry weighs about 33 bytes,
//! however many there are. This is why it is not dashmap, whose shards double: there an entry weighs anything from 29 bytes
//! to 58, and whatever traffic meets one of its shards doubling waits for that.
//!
//! No guard leaves this file, and no two shards are locked at once.

use std::iter;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::index::mark::Packed;
use crate::index::shape::Key;

/// Enough that a shard of ten million entries is built anew in some hundred microseconds; few enough to cost little.
const SHARD_BITS: u32 = 9;
/// How many slots are in a group.
const GROUP: usize = 7;
/// How many groups are allocated at once.
const BLOCK: usize = 4;
/// Of so many slots one stays vacant, at least.
const VACANT: usize = 10;
/// The lowest bit of each tag in a group's word.
const TAGS: u64 = 0x0001_0101_0101_0101;
/// Where a group's word says which keys went on.
const WENT_ON: u32 = 56;

/// Words by key.
pub(super) struct Table {
    shards: Box<[Aligned]>,
}

/// A shard that shares its cache line with no other.
#[derive(Default)]
#[repr(align(64))]
struct Aligned(RwLock<Shard>);

/// Some of the entries: open addressing, by groups of slots.
#[derive(Default)]
struct Shard {
    /// A group's word each: the tag of each of its slots, 0 where it is vacant, and bits for the keys that found no place
    /// in it and went on. Such a bit stays until the shard is built anew.
    words: Box<[u64]>,
    blocks: Vec<Block>,
    /// Entries.
    held: u32,
    /// Entries that were removed where others had gone on: as bad for look-ups as if they were there.
    worn: u32,
}

/// Slots that are allocated together, and never move.
// In a box each, so that a shard grows without a copy of what it holds being made.
type Block = Box<[[Slot; GROUP]; BLOCK]>;

#[derive(Clone, Copy)]
struct Slot {
    key: Key,
    word: Packed,
}

impl Table {
    pub(super) fn new() -> Self {
        Self { shards: iter::repeat_with(Aligned::default).take(1 << SHARD_BITS).collect() }
    }

    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.read().held as usize).sum()
    }

    pub(super) fn get(&self, key: Key) -> Option<Packed> {
        let shard = self.shard(key)?.read();
        let (group, place) = shard.find(key)?;
        shard.slot(group, place).map(|slot| slot.word)
    }

    pub(super) fn insert(&self, key: Key, word: Packed) {
        if let Some(shard) = self.shard(key) {
            shard.write().insert(Slot { key, word });
        }
    }

    pub(super) fn remove(&self, key: Key) {
        self.remove_if(key, |_| true);
    }

    /// Removes the entries whose words are `done`; returns how many. Others may read and write meanwhile; readers wait for
    /// one removal at most, or for a shard that has become too large to be built anew.
    pub(super) fn sweep(&self, done: impl Fn(Packed) -> bool) -> usize {
        let keys_of = |shard: &Aligned| -> Vec<Key> {
            let mut keys = Vec::new();
            shard.read().each(|slot| keys.extend(done(slot.word).then_some(slot.key)));
            keys
        };
        let removed = self.shards.iter().flat_map(keys_of).filter(|key| self.remove_if(*key, &done));
        removed.count()
    }

    /// Removes the entry if its word is `done`, and says whether it was.
    fn remove_if(&self, key: Key, done: impl Fn(Packed) -> bool) -> bool {
        self.shard(key).is_some_and(|shard| shard.write().remove(key, done))
    }

    fn shard(&self, Key([high, _]): Key) -> Option<&Aligned> {
        self.shards.get((high >> (u64::BITS - SHARD_BITS)) as usize)
    }
}

impl Aligned {
    fn read(&self) -> RwLockReadGuard<'_, Shard> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Shard> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shard {
    /// Where the entry of this key is: the group, and the place in it.
    #[inline]
    fn find(&self, key: Key) -> Option<(usize, usize)> {
        let (tag, mine) = (tag(key), went_on(key));
        for group in self.way(key) {
            let word = self.words.get(group).copied()?;
            let holds = |place: &usize| self.slot(group, *place).is_some_and(|slot| slot.key == key);
            if let Some(place) = tags(word, tag).find(holds) {
                return Some((group, place));
            }
            if word & mine == 0 {
                return None;
            }
        }
        None
    }

    fn insert(&mut self, entry: Slot) {
        if let Some((group, place)) = self.find(entry.key) {
            return self.set(group, place, entry);
        }
        let full = self.slots() - self.slots() / VACANT;
        if (self.held + self.worn) as usize >= full {
            self.rebuild(self.held as usize + 1, entry.key);
        }
        self.put(entry);
    }

    /// Puts an entry that is not there into the first vacant slot on its way, and tells the groups before of it. There is
    /// one: the way leads to every group, and some slot is vacant.
    fn put(&mut self, entry: Slot) {
        for group in self.way(entry.key) {
            let Some(word) = self.words.get_mut(group) else { break };
            if let Some(place) = tags(*word, 0).next() {
                *word |= u64::from(tag(entry.key)) << (8 * place);
                self.held += 1;
                return self.set(group, place, entry);
            }
            *word |= went_on(entry.key);
        }
        debug_assert!(false, "no slot was vacant");
    }

    fn remove(&mut self, key: Key, done: impl Fn(Packed) -> bool) -> bool {
        let is_done = |(group, place): &(usize, usize)| self.slot(*group, *place).is_some_and(|slot| done(slot.word));
        let Some((group, place)) = self.find(key).filter(is_done) else { return false };
        if let Some(word) = self.words.get_mut(group) {
            *word &= !(0xff << (8 * place));
            self.worn += u32::from(*word >> WENT_ON != 0);
        }
        self.held -= 1;
        let spacious = self.blocks.len() > 1 && (self.held as usize) < self.slots() / 3;
        if spacious || self.held == 0 {
            self.rebuild(self.held as usize, key);
        }
        true
    }

    /// Builds the shard anew, with room for so many entries and some tenths more: how much is by chance, so that shards,
    /// which fill at the same pace, are not built anew, nor at their largest, at the same time.
    fn rebuild(&mut self, entries: usize, Key([_, chance]): Key) {
        let mut held = Vec::with_capacity(self.held as usize);
        self.each(|slot| held.push(*slot));
        let spare = 26 + (chance >> 32) as usize % 52;
        let slots = entries * (256 + spare) / 256 * VACANT / (VACANT - 1);
        let blocks = slots.div_ceil(BLOCK * GROUP);
        self.blocks.truncate(blocks);
        self.blocks.reserve_exact(blocks - self.blocks.len());
        let vacant = || Box::new([[Slot { key: Key([0; 2]), word: Packed::ELSEWHERE }; GROUP]; BLOCK]);
        self.blocks.resize_with(blocks, vacant);
        self.blocks.shrink_to_fit();
        self.words = vec![0; blocks * BLOCK].into();
        (self.held, self.worn) = (0, 0);
        held.into_iter().for_each(|entry| self.put(entry));
    }

    /// Calls `visit` with every entry.
    fn each<'s>(&'s self, mut visit: impl FnMut(&'s Slot)) {
        let groups = self.blocks.iter().flat_map(|block| block.iter());
        self.words.iter().zip(groups).for_each(|(word, group)| {
            let tags = word.to_le_bytes().into_iter();
            tags.zip(group).filter(|(tag, _)| *tag != 0).for_each(|(_, slot)| visit(slot));
        });
    }

    /// The groups where this key may be: the one where it belongs, then with growing steps, and since those may miss some,
    /// all of them. Keys are as good as random, so any number of groups is filled as evenly as can be, and almost in the
    /// order of the keys.
    #[inline]
    fn way(&self, Key([high, _]): Key) -> impl Iterator<Item = usize> + use<> {
        let groups = self.words.len();
        let mut at = ((u128::from(high << SHARD_BITS) * groups as u128) >> u64::BITS) as usize;
        (0..2 * groups).map(move |step| {
            let here = at;
            at += step + 1;
            at = if at < groups { at } else { at - groups };
            if step < groups { here } else { step - groups }
        })
    }

    fn slots(&self) -> usize {
        self.words.len() * GROUP
    }

    #[inline]
    fn slot(&self, group: usize, place: usize) -> Option<&Slot> {
        self.blocks.get(group / BLOCK)?.get(group % BLOCK)?.get(place)
    }

    #[inline]
    fn set(&mut self, group: usize, place: usize, entry: Slot) {
        let block = self.blocks.get_mut(group / BLOCK).and_then(|block| block.get_mut(group % BLOCK));
        if let Some(slot) = block.and_then(|slots| slots.get_mut(place)) {
            *slot = entry;
        }
    }
}

/// The byte of a key that stands beside its slot.
fn tag(Key([_, low]): Key) -> u8 {
    let [tag, ..] = low.to_le_bytes();
    tag.max(1)
}

/// The bit that says of a key and an eighth of all others that some went on.
fn went_on(Key([_, low]): Key) -> u64 {
    1 << (WENT_ON + (low >> 8 & 7) as u32)
}

/// Which slots of a group have this tag, exactly those: what a vacant slot held once is still written there.
#[inline]
fn tags(word: u64, tag: u8) -> impl Iterator<Item = usize> {
    let differs = word ^ (TAGS * u64::from(tag));
    // The highest bit of each byte that is 0; no carry leaves its byte.
    let mut hits = !(((differs & (TAGS * 0x7f)) + TAGS * 0x7f) | differs) & (TAGS << 7);
    iter::from_fn(move || {
        let at = (hits != 0).then(|| hits.trailing_zeros() as usize / 8)?;
        hits &= hits - 1;
        Some(at)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::atomic::{AtomicBool, Ordering};

    use proptest::prelude::*;

    use super::*;
    use crate::domain::{Cutoff, Timestamp};
    use crate::index::mark::Mark;

    fn word(n: u64) -> Packed {
        Packed::pack(Mark::for_logins(Cutoff::Until(Timestamp::from_secs(n)))).unwrap()
    }

    /// As good as random, as keys are.
    fn key(n: u64) -> Key {
        let mix = |n: u64| {
            let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            n ^ (n >> 31)
        };
        Key([mix(2 * n + 1), mix(2 * n + 2)])
    }

    #[derive(Clone, Debug)]
    enum Step {
        Insert(Key, u64),
        Remove(Key),
        Sweep(u64),
    }

    /// Keys that crowd: of few shards, few places and few tags.
    fn any_key() -> impl Strategy<Value = Key> {
        let high = (0_u64..2, 0_u64..3).prop_map(|(shard, home)| shard << 63 | home << 40);
        (high, 0_u64..40, 0_u64..2).prop_map(|(high, low, tag)| Key([high, low << 32 | tag]))
    }

    fn any_step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => (any_key(), 0_u64..100).prop_map(|(key, n)| Step::Insert(key, n)),
            3 => any_key().prop_map(Step::Remove),
            1 => (0_u64..100).prop_map(Step::Sweep),
        ]
    }

    proptest! {
        #[test]
        fn it_answers_as_any_map_does(steps in prop::collection::vec(any_step(), 0..400)) {
            let (table, mut plain) = (Table::new(), HashMap::new());
            for step in steps {
                match step {
                    Step::Insert(key, n) => {
                        table.insert(key, word(n));
                        plain.insert(key, word(n));
                    }
                    Step::Remove(key) => {
                        table.remove(key);
                        plain.remove(&key);
                    }
                    Step::Sweep(least) => {
                        let done = |held: Packed| (0..least).any(|n| held == word(n));
                        let before = plain.len();
                        plain.retain(|_, held| !done(*held));
                        prop_assert_eq!(table.sweep(done), before - plain.len());
                    }
                }
                prop_assert_eq!(table.len(), plain.len());
            }
            for (key, held) in &plain {
                prop_assert_eq!(table.get(*key), Some(*held));
            }
            for n in 0..1_000 {
                prop_assert_eq!(table.get(key(n)), None);
            }
        }
    }

    #[test]
    fn a_key_finds_a_place_wherever_one_is_vacant() {
        for groups in 1..60 {
            let shard = Shard { words: vec![0; groups].into(), ..Shard::default() };
            for n in 0..20 {
                let way: std::collections::BTreeSet<_> = shard.way(key(n)).collect();
                assert!(way.into_iter().eq(0..groups), "{groups} groups");
            }
        }
    }

    #[test]
    fn it_keeps_its_weight_as_it_grows_and_gives_back_what_it_no_longer_needs() {
        let table = Table::new();
        let slots = |table: &Table| table.shards.iter().map(|shard| shard.read().slots()).sum::<usize>();
        for n in 0..200_000 {
            table.insert(key(n), word(n));
            if n % 50_000 == 49_999 {
                let slots_each = slots(&table) as f64 / (n + 1) as f64;
                assert!((1.11..1.40).contains(&slots_each), "{slots_each} slots an entry of {n}");
            }
        }
        assert!((0..200_000).all(|n| table.get(key(n)) == Some(word(n))));
        (0..190_000).for_each(|n| table.remove(key(n)));
        assert!((190_000..200_000).all(|n| table.get(key(n)) == Some(word(n))));
        assert!(slots(&table) < 45_000, "{} slots", slots(&table));
        (190_000..200_000).for_each(|n| table.remove(key(n)));
        assert_eq!((table.len(), slots(&table)), (0, 0));
    }

    #[test]
    fn entries_that_come_and_go_do_not_make_it_grow() {
        let table = Table::new();
        for n in 0..400_000 {
            table.insert(key(n), word(n));
            if let Some(old) = n.checked_sub(20_000) {
                table.remove(key(old));
            }
        }
        let slots: usize = table.shards.iter().map(|shard| shard.read().slots()).sum();
        assert!(slots < 60_000, "{slots} slots for 20,000 entries");
    }

    #[test]
    fn readers_find_what_stays_while_others_come_and_go() {
        let (table, over) = (Table::new(), AtomicBool::new(false));
        (0..1_000).for_each(|n| table.insert(key(n), word(2 * n)));
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !over.load(Ordering::Relaxed) {
                        assert!((0..1_000).all(|n| table.get(key(n)) == Some(word(2 * n))));
                        assert!((1 << 40..(1 << 40) + 1_000).all(|n| table.get(key(n)).is_none()));
                    }
                });
            }
            for _ in 0..3 {
                (1_000..60_000).for_each(|n| table.insert(key(n), word(1)));
                (1_000..30_000).for_each(|n| table.remove(key(n)));
                assert_eq!(table.sweep(|held| held == word(1)), 30_000);
            }
            over.store(true, Ordering::Relaxed);
        });
        assert_eq!(table.len(), 1_000);
    }
}
