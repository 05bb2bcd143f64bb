//! The marks of one shape: a table from key to word, and beside it the few keys whose marks do not fit a word.
//!
//! Both are locked only for a look-up or one write; no guard leaves this file, and never are both locked at once.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::domain::{Claims, KeptKey, Scale, Selector, Shape, Timestamp};
use crate::index::mark::{Mark, Packed, Verdict};
use crate::index::shape::{Asked, Hashes, Key, ShapeHasher};
use crate::index::table::Table;

/// The marks of the keys that have several, or one that does not fit a word.
type Lists = HashMap<Key, Box<[Mark]>>;

/// All marks of one shape.
pub(super) struct Marks {
    /// What this shape is called as long as the index lives; none when there were too many to number.
    number: Option<usize>,
    hasher: ShapeHasher,
    scale: Scale,
    words: Table,
    lists: RwLock<Lists>,
}

impl Marks {
    pub(super) fn new(number: Option<usize>, hasher: ShapeHasher) -> Self {
        Self { number, scale: hasher.shape().scale(), hasher, words: Table::new(), lists: RwLock::default() }
    }

    pub(super) const fn number(&self) -> Option<usize> {
        self.number
    }

    pub(super) const fn shape(&self) -> &Shape {
        self.hasher.shape()
    }

    pub(super) fn len(&self) -> usize {
        self.words.len()
    }

    /// What the marks of this shape say of a token with these claims; `kept` is where its key is, or may be, kept.
    pub(super) fn judge(
        &self,
        claims: &Claims,
        now: Timestamp,
        kept: Option<&KeptKey>,
        hashes: &mut Hashes,
    ) -> Verdict {
        if let Some(key) = kept.and_then(KeptKey::get) {
            return key.map_or(Verdict::Clear, |key| self.look_up(Key(key), claims, now));
        }
        let key = match self.hasher.asked(claims, hashes) {
            Asked::Nothing => None,
            Asked::One(key) => Some(key),
            Asked::Many => return self.judge_many(claims, now, hashes),
        };
        if let Some(kept) = kept {
            // Whoever was faster set the same.
            let _ = kept.set(key.map(|Key(words)| words));
        }
        key.map_or(Verdict::Clear, |key| self.look_up(key, claims, now))
    }

    fn judge_many(&self, claims: &Claims, now: Timestamp, hashes: &mut Hashes) -> Verdict {
        let mut greatest = Verdict::Clear;
        let broken = self.hasher.each_key(claims, hashes, |key| {
            greatest = greatest.max(self.look_up(key, claims, now));
            if greatest == Verdict::Covered { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        if broken.is_break() { Verdict::Covered } else { greatest }
    }

    /// Whether the marks of exactly this selector kill a token with these claims.
    pub(super) fn covers_by(&self, selector: &Selector, claims: &Claims, now: Timestamp) -> bool {
        self.look_up(self.hasher.selector_key(selector), claims, now) == Verdict::Covered
    }

    fn look_up(&self, key: Key, claims: &Claims, now: Timestamp) -> Verdict {
        let judge = |mark: Mark| mark.judge(claims.kind, claims.standing(self.scale), now);
        loop {
            let Some(word) = self.words.get(key) else { return Verdict::Clear };
            if let Some(mark) = word.unpack() {
                return judge(mark);
            }
            if let Some(list) = self.lists().get(&key) {
                return list.iter().copied().map(judge).max().unwrap_or(Verdict::Clear);
            }
            // The writer is between the list it took away and the word that replaces it: look again.
            std::hint::spin_loop();
        }
    }

    /// Makes `standing` all that is known of the selector. For one writer at a time.
    pub(super) fn replace(&self, selector: &Selector, standing: &[Mark]) {
        let key = self.hasher.selector_key(selector);
        match standing {
            [] => {
                self.words.remove(key);
                self.lists_mut().remove(&key);
            }
            [mark] if let Some(word) = Packed::pack(*mark) => {
                self.words.insert(key, word);
                self.lists_mut().remove(&key);
            }
            marks => {
                self.lists_mut().insert(key, marks.into());
                self.words.insert(key, Packed::ELSEWHERE);
            }
        }
    }

    /// Adds a mark to what is known of the selector. For one writer at a time.
    pub(super) fn add(&self, selector: &Selector, mark: Mark) {
        let key = self.hasher.selector_key(selector);
        let Some(word) = self.words.get(key) else { return self.replace(selector, &[mark]) };
        let mut marks = match word.unpack() {
            Some(held) => vec![held],
            None => self.lists().get(&key).map(|list| list.to_vec()).unwrap_or_default(),
        };
        if !marks.contains(&mark) {
            marks.push(mark);
            self.replace(selector, &marks);
        }
    }

    /// Drops words that have expired; returns how many went. Writers may go on meanwhile: a word is judged again when it is
    /// removed.
    pub(super) fn expire_words(&self, now: Timestamp) -> usize {
        self.words.sweep(|word| word.unpack().is_some_and(|mark| !mark.in_force(now)))
    }

    /// Drops the few keys whose marks do not fit a word and have all expired; returns how many. For one writer at a time.
    pub(super) fn expire_lists(&self, now: Timestamp) -> usize {
        let expired = |marks: &[Mark]| marks.iter().all(|mark| !mark.in_force(now));
        let gone: Vec<Key> = self.lists().iter().filter(|(_, list)| expired(list)).map(|(key, _)| *key).collect();
        for key in &gone {
            self.words.remove(*key);
            self.lists_mut().remove(key);
        }
        gone.len()
    }

    fn lists(&self) -> RwLockReadGuard<'_, Lists> {
        self.lists.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn lists_mut(&self) -> RwLockWriteGuard<'_, Lists> {
        self.lists.write().unwrap_or_else(PoisonError::into_inner)
    }
}
