//! The headers of a record.

use std::fmt;

/// Names and values, in the order of the record; a name may be there more than once. All are in one allocation: readers of a topic decode
/// millions of records, each with about ten headers.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Headers {
    /// Each name and its value, one behind the other.
    bytes: Vec<u8>,
    /// Where each name and its value end.
    ends: Vec<(usize, usize)>,
}

impl Headers {
    /// Returns no headers, with room for this many.
    #[must_use]
    pub fn with_capacity(headers: usize) -> Self {
        /// Of a name with its value. More are taken where they do not fit.
        const BYTES: usize = 48;
        Self {
            bytes: Vec::with_capacity(headers * BYTES),
            ends: Vec::with_capacity(headers),
        }
    }

    pub fn push(&mut self, name: &str, value: &[u8]) {
        self.bytes.extend_from_slice(name.as_bytes());
        let name = self.bytes.len();
        self.bytes.extend_from_slice(value);
        self.ends.push((name, self.bytes.len()));
    }

    /// Returns the value of the last header of that name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        let mut parts = (0..self.ends.len()).rev().map(|index| self.parts(index));
        parts
            .find(|(known, _)| *known == name.as_bytes())
            .map(|(_, value)| value)
    }

    #[must_use]
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &[u8])> {
        (0..self.ends.len()).map(|index| {
            let (name, value) = self.parts(index);
            (std::str::from_utf8(name).expect("names are pushed as text"), value)
        })
    }

    /// Returns name and value of a header.
    fn parts(&self, index: usize) -> (&[u8], &[u8]) {
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before].1);
        let (name, end) = self.ends[index];
        (&self.bytes[start..name], &self.bytes[name..end])
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Returns the bytes of all names and values.
    #[must_use]
    pub fn size(&self) -> usize {
        self.bytes.len()
    }
}

impl<N: AsRef<str>, V: AsRef<[u8]>> Extend<(N, V)> for Headers {
    fn extend<I: IntoIterator<Item = (N, V)>>(&mut self, headers: I) {
        for (name, value) in headers {
            self.push(name.as_ref(), value.as_ref());
        }
    }
}

impl<N: AsRef<str>, V: AsRef<[u8]>> FromIterator<(N, V)> for Headers {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(headers: I) -> Self {
        let headers = headers.into_iter();
        let mut all = Self::with_capacity(headers.size_hint().0);
        all.extend(headers);
        all
    }
}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let headers = self
            .iter()
            .map(|(name, value)| (name, value.escape_ascii().to_string()));
        f.debug_map().entries(headers).finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn headers_are_those_that_were_pushed(pushed in prop::collection::vec(("[a-c]{0,2}", prop::collection::vec(any::<u8>(), 0..4)), 0..6)) {
            let headers: Headers = pushed.iter().map(|(name, value)| (name, value)).collect();
            prop_assert_eq!(headers.len(), pushed.len());
            prop_assert_eq!(headers.is_empty(), pushed.is_empty());
            let all: Vec<_> = headers.iter().map(|(name, value)| (name.to_owned(), value.to_vec())).collect();
            prop_assert_eq!(&all, &pushed);
            for name in ["", "a", "ab", "d"] {
                let last = pushed.iter().rev().find(|(known, _)| known == name);
                prop_assert_eq!(headers.get(name), last.map(|(_, value)| &value[..]));
            }
            let size: usize = pushed.iter().map(|(name, value)| name.len() + value.len()).sum();
            prop_assert_eq!(headers.size(), size);
        }
    }
}
