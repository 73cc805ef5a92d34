//! Ids to whatever has them: found at once, and walked in their order.

/// Ids of a page.
const PAGE: usize = 1024;

/// A map from ids. Memory is taken by the page where there are any, as they are given out one after the other.
#[derive(Debug)]
pub(crate) struct IdMap<T> {
    pages: Vec<Option<Page<T>>>,
}

#[derive(Debug)]
struct Page<T> {
    slots: Box<[Option<T>]>,
    taken: usize,
}

impl<T> Default for IdMap<T> {
    fn default() -> Self {
        Self { pages: Vec::new() }
    }
}

impl<T> IdMap<T> {
    #[inline]
    pub(crate) fn get(&self, id: u32) -> Option<&T> {
        let page = self.pages.get(id as usize / PAGE)?.as_ref()?;
        page.slots[id as usize % PAGE].as_ref()
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, id: u32) -> Option<&mut T> {
        let page = self.pages.get_mut(id as usize / PAGE)?.as_mut()?;
        page.slots[id as usize % PAGE].as_mut()
    }

    #[inline]
    pub(crate) fn contains(&self, id: u32) -> bool {
        self.get(id).is_some()
    }

    /// The id is taken, by none but this.
    pub(crate) fn insert(&mut self, id: u32, value: T) {
        let at = id as usize / PAGE;
        if at >= self.pages.len() {
            self.pages.resize_with(at + 1, || None);
        }
        let page = self.pages[at].get_or_insert_with(|| Page {
            slots: std::iter::repeat_with(|| None).take(PAGE).collect(),
            taken: 0,
        });
        page.taken += usize::from(page.slots[id as usize % PAGE].replace(value).is_none());
    }

    pub(crate) fn remove(&mut self, id: u32) -> Option<T> {
        let place = self.pages.get_mut(id as usize / PAGE)?;
        let page = place.as_mut()?;
        let value = page.slots[id as usize % PAGE].take()?;
        page.taken -= 1;
        if page.taken == 0 {
            *place = None;
        }
        Some(value)
    }

    /// All of them, in the order of their ids.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        let pages = self.pages.iter().enumerate().filter_map(|(at, page)| Some((at, page.as_ref()?)));
        pages.flat_map(|(at, page)| {
            let slots = page.slots.iter().enumerate();
            slots.filter_map(move |(slot, value)| Some(((at * PAGE + slot) as u32, value.as_ref()?)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_is_found_and_walked_in_order_and_what_is_out_is_not() {
        let mut pids = IdMap::default();
        for id in [5000, 1, 1023, 1024, 4_194_303] {
            pids.insert(id, id * 2 % 1000);
        }
        assert_eq!(pids.iter().map(|(id, _)| id).collect::<Vec<_>>(), [1, 1023, 1024, 5000, 4_194_303]);
        assert_eq!((pids.get(1023), pids.get(1022), pids.get(u32::MAX)), (Some(&46), None, None));
        assert_eq!((pids.remove(1024), pids.remove(1024), pids.remove(7)), (Some(48), None, None));
        assert!(!pids.contains(1024) && pids.contains(1023));
        pids.insert(1, 9);
        *pids.get_mut(1).expect("it is there") += 1;
        assert_eq!(pids.remove(1), Some(10));
        assert_eq!(pids.iter().count(), 3);
    }

    #[test]
    fn a_page_without_ids_takes_no_memory() {
        let mut pids = IdMap::default();
        for id in 0..10_000 {
            pids.insert(id, ());
        }
        (0..9_000).for_each(|id| assert_eq!(pids.remove(id), Some(())));
        assert_eq!(pids.pages.iter().flatten().count(), 2);
    }
}
