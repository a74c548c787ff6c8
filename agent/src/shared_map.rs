//! An ordered map whose copies share what is equal in them.
//!
//! Entries lie in pages. A copy is a list of the same pages; a change makes a new page and leaves the others to all copies. So
//! ten thousand entries are copied for the price of some hundred pointers, and two copies are compared for the price of the
//! pages in which they differ.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

/// Entries of a page at most.
const PAGE: usize = 64;

/// In the order of the keys.
#[derive(Clone)]
pub struct SharedMap<K, V> {
    /// None is empty.
    pages: Vec<Arc<Vec<(K, V)>>>,
    len: usize,
}

/// A key whose value differs in two maps.
#[derive(Debug, PartialEq, Eq)]
pub struct Difference<'a, K, V> {
    pub key: &'a K,
    pub before: Option<&'a V>,
    pub after: Option<&'a V>,
}

impl<K, V> SharedMap<K, V> {
    #[must_use]
    pub fn new() -> Self {
        Self {
            pages: Vec::new(),
            len: 0,
        }
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        let entries = self.pages.iter().flat_map(|page| page.iter());
        entries.map(|(key, value)| (key, value))
    }

    pub fn keys(&self) -> impl Iterator<Item = &K> {
        self.iter().map(|(key, _)| key)
    }

    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.iter().map(|(_, value)| value)
    }
}

impl<K: Ord, V> SharedMap<K, V> {
    #[must_use]
    pub fn get(&self, key: &K) -> Option<&V> {
        let page = self.pages.get(self.page_of(key))?;
        let at = position(page, key).ok()?;
        page.get(at).map(|(_, value)| value)
    }

    /// The page in which a key is, if it is anywhere.
    fn page_of(&self, key: &K) -> usize {
        let begins_before = |page: &Arc<Vec<(K, V)>>| page.first().is_some_and(|(first, _)| first <= key);
        self.pages.partition_point(begins_before).saturating_sub(1)
    }
}

impl<K: Ord + Clone, V: Clone> SharedMap<K, V> {
    /// Gives what was there.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        let at = self.page_of(&key);
        let is_last = at + 1 >= self.pages.len();
        let Some(page) = self.pages.get_mut(at) else {
            self.pages.push(Arc::new(vec![(key, value)]));
            self.len = 1;
            return None;
        };
        let place = position(page, &key);
        let page = Arc::make_mut(page);
        match place {
            Ok(place) => page
                .get_mut(place)
                .map(|entry| std::mem::replace(&mut entry.1, value)),
            Err(place) => {
                self.len += 1;
                if page.len() < PAGE {
                    page.insert(place, (key, value));
                    return None;
                }
                // What comes in order fills pages.
                let half = if is_last && place == PAGE { PAGE } else { PAGE / 2 };
                let mut second = page.split_off(half);
                if place > half || second.is_empty() {
                    second.insert(place - half, (key, value));
                } else {
                    page.insert(place, (key, value));
                }
                self.pages.insert(at + 1, Arc::new(second));
                None
            }
        }
    }

    /// Gives what was there.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        let at = self.page_of(key);
        let page = self.pages.get_mut(at)?;
        let place = position(page, key).ok()?;
        self.len -= 1;
        let page = Arc::make_mut(page);
        let (_, value) = page.remove(place);
        if page.is_empty() {
            self.pages.remove(at);
        }
        Some(value)
    }
}

impl<K: Ord, V: PartialEq> SharedMap<K, V> {
    /// What differs, in order. Pages that both have are not looked at.
    #[must_use]
    pub fn differences<'a>(before: &'a Self, after: &'a Self) -> Vec<Difference<'a, K, V>> {
        let mut found = Vec::new();
        let (mut old, mut new) = (Walk::over(before), Walk::over(after));
        loop {
            while let (Some(a), Some(b)) = (old.whole_page(), new.whole_page())
                && Arc::ptr_eq(a, b)
            {
                old.turn();
                new.turn();
            }
            let order = match (old.entry(), new.entry()) {
                (None, None) => return found,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some((a, _)), Some((b, _))) => a.cmp(b),
            };
            let had = old.entry().filter(|_| order != Ordering::Greater);
            let has = new.entry().filter(|_| order != Ordering::Less);
            if had.is_some() {
                old.step();
            }
            if has.is_some() {
                new.step();
            }
            let (before, after) = (had.map(|(_, value)| value), has.map(|(_, value)| value));
            if let Some((key, _)) = has.or(had)
                && before != after
            {
                found.push(Difference { key, before, after });
            }
        }
    }
}

/// Where one is in a map.
struct Walk<'a, K, V> {
    pages: &'a [Arc<Vec<(K, V)>>],
    place: usize,
}

impl<'a, K, V> Walk<'a, K, V> {
    fn over(map: &'a SharedMap<K, V>) -> Self {
        Self {
            pages: &map.pages,
            place: 0,
        }
    }

    /// The page that begins here.
    fn whole_page(&self) -> Option<&'a Arc<Vec<(K, V)>>> {
        self.pages.first().filter(|_| self.place == 0)
    }

    fn entry(&self) -> Option<(&'a K, &'a V)> {
        let (key, value) = self.pages.first()?.get(self.place)?;
        Some((key, value))
    }

    fn step(&mut self) {
        self.place += 1;
        if self.pages.first().is_some_and(|page| self.place >= page.len()) {
            self.turn();
        }
    }

    fn turn(&mut self) {
        self.pages = self.pages.get(1..).unwrap_or_default();
        self.place = 0;
    }
}

fn position<K: Ord, V>(page: &[(K, V)], key: &K) -> Result<usize, usize> {
    page.binary_search_by(|(known, _)| known.cmp(key))
}

impl<K, V> Default for SharedMap<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: fmt::Debug, V: fmt::Debug> fmt::Debug for SharedMap<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl<K: Ord, V: PartialEq> PartialEq for SharedMap<K, V> {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && Self::differences(self, other).is_empty()
    }
}

impl<K: Ord, V: Eq> Eq for SharedMap<K, V> {}

impl<K: Ord + Clone, V: Clone> FromIterator<(K, V)> for SharedMap<K, V> {
    fn from_iter<T: IntoIterator<Item = (K, V)>>(entries: T) -> Self {
        let mut map = Self::new();
        map.extend(entries);
        map
    }
}

impl<K: Ord + Clone, V: Clone> Extend<(K, V)> for SharedMap<K, V> {
    fn extend<T: IntoIterator<Item = (K, V)>>(&mut self, entries: T) {
        for (key, value) in entries {
            self.insert(key, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// `None`: removed.
    fn edits() -> impl Strategy<Value = Vec<(u16, Option<u8>)>> {
        prop::collection::vec((0..400_u16, prop::option::weighted(0.7, any::<u8>())), 0..600)
    }

    fn carried_out(edits: &[(u16, Option<u8>)], map: &mut SharedMap<u16, u8>, plain: &mut BTreeMap<u16, u8>) {
        for (key, value) in edits {
            let (one, other) = match value {
                Some(value) => (map.insert(*key, *value), plain.insert(*key, *value)),
                None => (map.remove(key), plain.remove(key)),
            };
            assert_eq!(one, other);
        }
    }

    proptest! {
        #[test]
        fn it_holds_what_a_plain_map_holds_and_copies_keep_theirs(before in edits(), after in edits()) {
            let (mut map, mut plain) = (SharedMap::new(), BTreeMap::new());
            carried_out(&before, &mut map, &mut plain);
            let (copy, plain_copy) = (map.clone(), plain.clone());
            carried_out(&after, &mut map, &mut plain);
            for (map, plain) in [(&copy, &plain_copy), (&map, &plain)] {
                prop_assert!(map.iter().eq(plain.iter()));
                prop_assert_eq!(map.len(), plain.len());
                prop_assert!((0..400).all(|key| map.get(&key) == plain.get(&key)));
                prop_assert!(map.pages.iter().all(|page| (1..=PAGE).contains(&page.len())));
            }
            let differences: Vec<_> = (0..400_u16)
                .map(|key| (key, plain_copy.get(&key), plain.get(&key)))
                .filter(|(_, before, after)| before != after)
                .collect();
            let found = SharedMap::differences(&copy, &map);
            let found: Vec<_> = found.iter().map(|d| (*d.key, d.before, d.after)).collect();
            prop_assert_eq!(found, differences);
            prop_assert_eq!(copy == map, plain_copy == plain);
        }
    }

    #[test]
    fn what_comes_in_order_fills_pages_and_one_change_makes_one_page() {
        let map: SharedMap<usize, usize> = (0..10 * PAGE).map(|key| (key, key)).collect();
        assert_eq!(map.pages.len(), 10);
        let mut copy = map.clone();
        copy.insert(3 * PAGE + 5, 0);
        let shared = map.pages.iter().zip(&copy.pages);
        assert_eq!(shared.filter(|(one, other)| Arc::ptr_eq(one, other)).count(), 9);
    }
}
