//! Texts that many programs have in common: executables, directories, names, cgroups.

use std::sync::Arc;

/// Number of texts that are remembered, by their hash modulo this number.
const TEXTS: usize = 1024;
/// Maximum length in bytes of a text that is remembered.
const MAX_LEN: usize = 256;

/// The texts used last. Sharing them is faster than allocating them again, and takes less memory.
#[derive(Debug, Default)]
pub(super) struct SharedTexts(Vec<Option<Arc<[u8]>>>);

impl SharedTexts {
    /// Returns a text.
    pub(super) fn share(&mut self, text: &[u8]) -> Arc<[u8]> {
        if text.len() > MAX_LEN {
            return text.into();
        }
        self.0.resize(TEXTS, None);
        match &mut self.0[hash(text) as usize % TEXTS] {
            Some(known) if **known == *text => Arc::clone(known),
            known => Arc::clone(known.insert(text.into())),
        }
    }
}

/// Returns a hash of a text. Texts with the same hash only replace each other.
fn hash(text: &[u8]) -> u64 {
    let mut hash = text.len() as u64;
    for chunk in text.chunks(8) {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        hash = (hash.rotate_left(5) ^ u64::from_le_bytes(word)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
    hash >> 32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_texts_are_shared() {
        let mut texts = SharedTexts::default();
        for len in 0..300 {
            let text = vec![b'x'; len];
            let (first, second) = (texts.share(&text), texts.share(&text));
            assert_eq!((&*first, Arc::ptr_eq(&first, &second)), (&*text, len <= MAX_LEN));
        }
        for number in 0..10_000_u32 {
            assert_eq!(*texts.share(&number.to_le_bytes()), number.to_le_bytes());
        }
    }

    #[test]
    fn many_texts_are_remembered_at_the_same_time() {
        let mut texts = SharedTexts::default();
        let all: Vec<_> = (0..TEXTS / 4).map(|n| format!("/usr/lib/program-{n:09}")).collect();
        all.iter().for_each(|text| _ = texts.share(text.as_bytes()));
        // A random function would let 226 of these 256 texts keep their places.
        let kept = texts.0.iter().flatten().count();
        assert!(kept > 150, "{kept}");
    }
}
