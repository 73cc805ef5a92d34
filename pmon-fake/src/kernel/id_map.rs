//! A map from process and thread ids to values.

/// The number of ids in a page.
const PAGE_IDS: usize = 1024;

/// A map from ids, with lookup in constant time and iteration in the order of the ids.
///
/// Ids are allocated in ascending order, so memory is allocated in pages, and only for pages that
/// hold any id.
#[derive(Debug)]
pub(crate) struct IdMap<T> {
    pages: Vec<Option<IdPage<T>>>,
}

#[derive(Debug)]
struct IdPage<T> {
    slots: Box<[Option<T>]>,
    used: usize,
}

impl<T> Default for IdMap<T> {
    fn default() -> Self {
        Self { pages: Vec::new() }
    }
}

impl<T> IdMap<T> {
    #[inline]
    pub(crate) fn get(&self, id: u32) -> Option<&T> {
        let page = self.pages.get(id as usize / PAGE_IDS)?.as_ref()?;
        page.slots[id as usize % PAGE_IDS].as_ref()
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, id: u32) -> Option<&mut T> {
        let page = self.pages.get_mut(id as usize / PAGE_IDS)?.as_mut()?;
        page.slots[id as usize % PAGE_IDS].as_mut()
    }

    /// Inserts a value, or replaces the value of the id.
    pub(crate) fn insert(&mut self, id: u32, value: T) {
        let at = id as usize / PAGE_IDS;
        if at >= self.pages.len() {
            self.pages.resize_with(at + 1, || None);
        }
        let page = self.pages[at].get_or_insert_with(|| IdPage {
            slots: std::iter::repeat_with(|| None).take(PAGE_IDS).collect(),
            used: 0,
        });
        page.used += usize::from(page.slots[id as usize % PAGE_IDS].replace(value).is_none());
    }

    pub(crate) fn remove(&mut self, id: u32) -> Option<T> {
        let entry = self.pages.get_mut(id as usize / PAGE_IDS)?;
        let page = entry.as_mut()?;
        let value = page.slots[id as usize % PAGE_IDS].take()?;
        page.used -= 1;
        if page.used == 0 {
            *entry = None;
        }
        Some(value)
    }

    /// Returns all entries in the order of their ids.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        let pages = self.pages.iter().enumerate().filter_map(|(at, page)| Some((at, page.as_ref()?)));
        pages.flat_map(|(at, page)| {
            let slots = page.slots.iter().enumerate();
            slots.filter_map(move |(slot, value)| Some(((at * PAGE_IDS + slot) as u32, value.as_ref()?)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_found_by_id_and_iterated_in_the_order_of_ids() {
        let mut map = IdMap::default();
        for id in [5000, 1, 1023, 1024, 4_194_303] {
            map.insert(id, id * 2 % 1000);
        }
        assert_eq!(map.iter().map(|(id, _)| id).collect::<Vec<_>>(), [1, 1023, 1024, 5000, 4_194_303]);
        assert_eq!((map.get(1023), map.get(1022), map.get(u32::MAX)), (Some(&46), None, None));
        assert_eq!((map.remove(1024), map.remove(1024), map.remove(7)), (Some(48), None, None));
        assert!(map.get(1024).is_none() && map.get(1023).is_some());
        map.insert(1, 9);
        *map.get_mut(1).expect("id 1 is in the map") += 1;
        assert_eq!(map.remove(1), Some(10));
        assert_eq!(map.iter().count(), 3);
    }

    #[test]
    fn a_page_without_entries_is_freed() {
        let mut map = IdMap::default();
        for id in 0..10_000 {
            map.insert(id, ());
        }
        (0..9_000).for_each(|id| assert_eq!(map.remove(id), Some(())));
        assert_eq!(map.pages.iter().flatten().count(), 2);
    }
}
