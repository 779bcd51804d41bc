//! Headers as one column: for each a name and a value, both behind their length in four bytes, big end first.

use bytes::{Buf as _, BufMut as _, Bytes};

pub(super) fn encode(headers: &[(String, Bytes)]) -> Vec<u8> {
    let mut text = Vec::new();
    for part in headers.iter().flat_map(|(name, value)| [name.as_bytes(), value]) {
        text.put_u32(u32::try_from(part.len()).expect("a record is far smaller than 4 GiB"));
        text.put_slice(part);
    }
    text
}

/// `None` when the column was not written by [`encode`].
pub(super) fn decode(column: Vec<u8>) -> Option<Vec<(String, Bytes)>> {
    let mut rest = Bytes::from(column);
    let mut headers = Vec::new();
    while !rest.is_empty() {
        let name = String::from_utf8(part(&mut rest)?.into()).ok()?;
        headers.push((name, part(&mut rest)?));
    }
    Some(headers)
}

fn part(rest: &mut Bytes) -> Option<Bytes> {
    if rest.len() < 4 {
        return None;
    }
    let length = usize::try_from(rest.get_u32()).ok()?;
    (rest.len() >= length).then(|| rest.split_to(length))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn headers_come_back(headers in prop::collection::vec((".{0,8}", prop::collection::vec(any::<u8>(), 0..8)), 0..5)) {
            let headers: Vec<_> = headers.into_iter().map(|(name, value)| (name, Bytes::from(value))).collect();
            prop_assert_eq!(decode(encode(&headers)), Some(headers));
        }

        #[test]
        fn foreign_bytes_do_not_panic(column in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Some(headers) = decode(column.clone()) {
                prop_assert_eq!(encode(&headers), column);
            }
        }
    }
}
