//! Headers as one column: for each a name and a value, both behind their length in four bytes, big end first.

use bytes::BufMut as _;
use sosohappy_events::Headers;

pub(super) fn encode(headers: &Headers) -> Vec<u8> {
    let mut text = Vec::with_capacity(headers.size() + 2 * size_of::<u32>() * headers.len());
    for part in headers.iter().flat_map(|(name, value)| [name.as_bytes(), value]) {
        text.put_u32(u32::try_from(part.len()).expect("a record is far smaller than 4 GiB"));
        text.put_slice(part);
    }
    text
}

/// `None` when the column was not written by [`encode`].
pub(super) fn decode(column: &[u8]) -> Option<Headers> {
    /// Headers of most records, at least.
    const USUAL: usize = 12;
    let (mut headers, mut rest) = (Headers::with_capacity(USUAL), column);
    while !rest.is_empty() {
        let name = std::str::from_utf8(part(&mut rest)?).ok()?;
        headers.push(name, part(&mut rest)?);
    }
    Some(headers)
}

fn part<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, behind) = rest.split_first_chunk()?;
    let (part, behind) = behind.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
    *rest = behind;
    Some(part)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn headers_come_back(headers in prop::collection::vec((".{0,8}", prop::collection::vec(any::<u8>(), 0..8)), 0..5)) {
            let headers: Headers = headers.into_iter().collect();
            prop_assert_eq!(decode(&encode(&headers)), Some(headers));
        }

        #[test]
        fn foreign_bytes_do_not_panic(column in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Some(headers) = decode(&column) {
                prop_assert_eq!(encode(&headers), column);
            }
        }
    }
}
