//! A map and a set kept as sorted vectors.
//!
//! As `BTreeMap` and `BTreeSet`, for a few hundred entries that mostly come in order, at a tenth of the code: each
//! `BTreeMap` of another type is 5 KB of wasm that every viewer would download. What a browser runs uses these.

use alloc::vec::Vec;
use core::ops::{Bound, Index, RangeBounds};

/// A map whose keys are in order.
#[derive(Debug, Clone)]
pub struct Map<K, V>(Vec<(K, V)>);

impl<K, V> Default for Map<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K, V> Map<K, V> {
    /// An empty one.
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// How many entries.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// All entries, in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&K, &V)> + Clone {
        self.0.iter().map(|(key, value)| (key, value))
    }

    /// All keys, in order.
    pub fn keys(&self) -> impl DoubleEndedIterator<Item = &K> {
        self.0.iter().map(|(key, _)| key)
    }

    /// All values, in their keys' order.
    pub fn values(&self) -> impl DoubleEndedIterator<Item = &V> {
        self.0.iter().map(|(_, value)| value)
    }

    /// The same, to be changed.
    pub fn values_mut(&mut self) -> impl DoubleEndedIterator<Item = &mut V> {
        self.0.iter_mut().map(|(_, value)| value)
    }

    /// The entry with the lowest key.
    pub fn first_key_value(&self) -> Option<(&K, &V)> {
        self.0.first().map(|(key, value)| (key, value))
    }

    /// The entry with the highest key.
    pub fn last_key_value(&self) -> Option<(&K, &V)> {
        self.0.last().map(|(key, value)| (key, value))
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Removes the first entries, all but `count`.
    pub fn keep_last(&mut self, count: usize) {
        self.0.drain(..self.0.len().saturating_sub(count));
    }

    /// Removes all entries.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Removes the entries that `keep` is false for.
    pub fn retain(&mut self, keep: impl Fn(&K, &V) -> bool) {
        self.0.retain(|(key, value)| keep(key, value));
    }
}

impl<K: Ord, V> Map<K, V> {
    /// The value of `key`.
    pub fn get(&self, key: &K) -> Option<&V> {
        self.find(key).ok().and_then(|at| self.0.get(at)).map(|(_, value)| value)
    }

    /// The value of `key`, to be changed.
    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.find(key).ok().and_then(|at| self.0.get_mut(at)).map(|(_, value)| value)
    }

    /// Whether there is a value of `key`.
    pub fn contains_key(&self, key: &K) -> bool {
        self.find(key).is_ok()
    }

    /// Puts `value` in the place of any that was there.
    pub fn insert(&mut self, key: K, value: V) {
        match self.find(&key) {
            Ok(at) => {
                if let Some(entry) = self.0.get_mut(at) {
                    entry.1 = value;
                }
            }
            Err(at) => self.0.insert(at, (key, value)),
        }
    }

    /// The value of `key`, made if there is none.
    pub fn or_insert_with(&mut self, key: K, make: impl FnOnce() -> V) -> &mut V {
        let at = match self.find(&key) {
            Ok(at) => at,
            Err(at) => {
                self.0.insert(at, (key, make()));
                at
            }
        };
        &mut self.0[at].1
    }

    /// Removes an entry; its value.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        self.find(key).ok().map(|at| self.0.remove(at).1)
    }

    /// The entries whose keys are in `range`.
    pub fn range(&self, range: impl RangeBounds<K>) -> impl DoubleEndedIterator<Item = (&K, &V)> + Clone {
        let start = match range.start_bound() {
            Bound::Unbounded => 0,
            Bound::Included(key) => self.0.partition_point(|(known, _)| known < key),
            Bound::Excluded(key) => self.0.partition_point(|(known, _)| known <= key),
        };
        let end = match range.end_bound() {
            Bound::Unbounded => self.0.len(),
            Bound::Included(key) => self.0.partition_point(|(known, _)| known <= key),
            Bound::Excluded(key) => self.0.partition_point(|(known, _)| known < key),
        };
        self.0.get(start..end).unwrap_or_default().iter().map(|(key, value)| (key, value))
    }

    fn find(&self, key: &K) -> Result<usize, usize> {
        // Most keys are new and higher than all others.
        if self.0.last().is_none_or(|(last, _)| last < key) {
            return Err(self.0.len());
        }
        self.0.binary_search_by(|(known, _)| known.cmp(key))
    }
}

impl<K: Ord, V> Index<&K> for Map<K, V> {
    type Output = V;

    fn index(&self, key: &K) -> &V {
        &self.0[self.find(key).unwrap_or(usize::MAX)].1
    }
}

/// A set in order.
#[derive(Debug, Clone)]
pub struct Set<K>(Map<K, ()>);

impl<K: Ord> Default for Set<K> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Ord> Set<K> {
    /// An empty one.
    #[must_use]
    pub const fn new() -> Self {
        Self(Map::new())
    }

    /// All members, in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &K> {
        self.0.keys()
    }

    /// Adds a member.
    pub fn insert(&mut self, key: K) {
        self.0.insert(key, ());
    }

    /// Removes a member.
    pub fn remove(&mut self, key: &K) {
        self.0.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn is_what_a_btreemap_is(
            steps in proptest::collection::vec((0u8..40, 0u8..40, any::<u16>()), 0..200),
            bounds in (0u8..40, 0u8..40),
        ) {
            let mut ours: Map<u8, u16> = Map::new();
            let mut model = BTreeMap::new();
            for (step, key, value) in steps {
                match step {
                    0..3 => prop_assert_eq!(ours.remove(&key), model.remove(&key)),
                    3 => prop_assert_eq!(
                        *ours.or_insert_with(key, || value), *model.entry(key).or_insert(value)),
                    4 => {
                        ours.retain(|known, _| known % 7 != key % 7);
                        model.retain(|known, _| known % 7 != key % 7);
                    }
                    5 => {
                        ours.clear();
                        model.clear();
                    }
                    6 => {
                        ours.keep_last(usize::from(key));
                        while model.len() > usize::from(key) {
                            model.pop_first();
                        }
                    }
                    7..24 => {
                        ours.insert(key, value);
                        model.insert(key, value);
                    }
                    _ => {
                        prop_assert_eq!(ours.get(&key), model.get(&key));
                        prop_assert_eq!(ours.get_mut(&key), model.get_mut(&key));
                        prop_assert_eq!(ours.contains_key(&key), model.contains_key(&key));
                    }
                }
                prop_assert_eq!(ours.len(), model.len());
                prop_assert_eq!(ours.is_empty(), model.is_empty());
                prop_assert!(ours.iter().eq(model.iter()));
                prop_assert!(ours.keys().rev().eq(model.keys().rev()));
                prop_assert!(ours.values().eq(model.values()));
                prop_assert_eq!(ours.first_key_value(), model.first_key_value());
                prop_assert_eq!(ours.last_key_value(), model.last_key_value());
            }
            let (low, high) = (bounds.0.min(bounds.1), bounds.0.max(bounds.1));
            prop_assert!(ours.range(low..).eq(model.range(low..)));
            prop_assert!(ours.range(low..=high).eq(model.range(low..=high)));
            prop_assert!(ours.range(low..high).rev().eq(model.range(low..high).rev()));
        }
    }
}
