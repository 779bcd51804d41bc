//! A record that could not be handled, made ready for its dead-letter topic.

use bytes::Bytes;

use crate::names::{Channel, WireRecord};
use sosohappy_events::record::MAX_DEAD_LETTER_BYTES;
use sosohappy_events::topic::DEAD_LETTER_SUFFIX;
use sosohappy_events::{Header, Outgoing, Record};

/// Bytes of a reason; a panic's message may be anything.
const LONGEST_REASON: usize = 1000;

/// The dead letter of a record that a group could not handle, byte for byte.
pub(super) fn wire_record(record: &Record, group: &str, reason: &str) -> WireRecord {
    let mut headers = record.headers.clone();
    headers.push(Header::DLT_REASON, shortened(reason).as_bytes());
    headers.push(Header::DLT_GROUP, group.as_bytes());
    headers.push(Header::DLT_PARTITION, record.partition.to_string().as_bytes());
    headers.push(Header::DLT_OFFSET, record.offset.to_string().as_bytes());
    let mut letter = WireRecord {
        channel: Channel::dead(record.topic),
        key: record.key.clone(),
        value: record.value.clone(),
        headers,
    };
    if let Some((whole, kept)) = cut(letter.bytes(), letter.value.as_ref().map_or(0, Bytes::len)) {
        letter.value = letter.value.map(|value| value.slice(..kept));
        letter
            .headers
            .push(Header::DLT_VALUE_BYTES, whole.to_string().as_bytes());
    }
    letter
}

/// The dead letter of an outbox record that the bus refused.
pub(crate) fn dead_letter_of(record: &Outgoing, group: &str, reason: &str) -> Outgoing {
    let mut dead = record.clone();
    if !dead.topic.ends_with(DEAD_LETTER_SUFFIX) {
        dead.topic.push_str(DEAD_LETTER_SUFFIX);
    }
    dead.headers.extend([
        (Header::DLT_REASON.to_owned(), shortened(reason).to_owned()),
        (Header::DLT_GROUP.to_owned(), group.to_owned()),
    ]);
    let headers: usize = dead.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
    let value = dead.value.as_ref().map_or(0, Vec::len);
    if let Some((whole, kept)) = cut(headers + dead.key.as_ref().map_or(0, String::len) + value, value) {
        if let Some(value) = &mut dead.value {
            value.truncate(kept);
        }
        dead.headers
            .push((Header::DLT_VALUE_BYTES.to_owned(), whole.to_string()));
    }
    dead
}

/// The bytes of a value, and how many of them may stay; `None` when all may.
fn cut(bytes: usize, value: usize) -> Option<(usize, usize)> {
    // Room for the header that tells of the cut.
    const ROOM: usize = 64;
    (bytes > MAX_DEAD_LETTER_BYTES).then(|| (value, value.saturating_sub(bytes + ROOM - MAX_DEAD_LETTER_BYTES)))
}

fn shortened(reason: &str) -> &str {
    &reason[..reason.floor_char_boundary(LONGEST_REASON)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use sosohappy_events::testing::record_of;

    fn outgoing(value: Vec<u8>) -> Outgoing {
        Outgoing {
            topic: "resign".into(),
            key: Some("key".into()),
            value: Some(value),
            headers: vec![],
        }
    }

    #[test]
    fn a_record_is_kept_as_it_was_beside_the_reason() {
        let mut record = record_of(&outgoing(b"\xff\xfe".to_vec()));
        record.headers.push("odd", b"\xff");
        let letter = wire_record(&record, "feed-service", &"이유".repeat(1000));
        assert_eq!((&letter.key, &letter.value), (&record.key, &record.value));
        let header = |name: &str| letter.headers.get(name);
        assert_eq!(header("odd"), Some(&b"\xff"[..]));
        assert_eq!(header(Header::DLT_PARTITION), Some(&b"3"[..]));
        assert_eq!(header(Header::DLT_OFFSET), Some(&b"14"[..]));
        assert_eq!(header(Header::DLT_GROUP), Some(&b"feed-service"[..]));
        assert!(header(Header::DLT_REASON).unwrap().len() <= LONGEST_REASON);
        assert_eq!(header(Header::DLT_VALUE_BYTES), None);
    }

    #[test]
    fn oversized_dead_letters_are_cut_and_marked() {
        let huge = outgoing(vec![b'x'; MAX_DEAD_LETTER_BYTES + 5]);
        let letters = [
            wire_record(&record_of(&huge), "group", "too large"),
            WireRecord::of(&dead_letter_of(&huge, "outbox", "too large")).unwrap(),
        ];
        for letter in letters {
            assert!(
                letter.bytes() <= MAX_DEAD_LETTER_BYTES && letter.bytes() > MAX_DEAD_LETTER_BYTES - 100,
                "{}",
                letter.bytes()
            );
            let last = letter.headers.iter().last();
            assert_eq!(last, Some((Header::DLT_VALUE_BYTES, &b"2000005"[..])));
        }
    }

    #[test]
    fn a_dead_letter_does_not_die_again_elsewhere() {
        let dead = dead_letter_of(&outgoing(vec![]), "outbox", "first");
        assert_eq!(dead.topic, "resign.dlt");
        assert_eq!(dead_letter_of(&dead, "outbox", "second").topic, "resign.dlt");
    }
}
