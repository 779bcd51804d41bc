//! Names of messages, which grow with time.

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use parking_lot::Mutex;
use sosohappy_common::Context;
use sosohappy_events::EventId;
use uuid::Uuid;

/// A UUID of version 7 as text: the text sorts as the time does.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MessageId(String);

impl MessageId {
    pub fn stored(text: String) -> Self {
        Self(text)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// When a message of the legacy Spring services was written: its id begins with the second, in hex.
    pub fn legacy_time(&self) -> Option<Timestamp> {
        let seconds = i64::from_str_radix(self.0.get(..8)?, 16).ok()?;
        Timestamp::from_second(seconds).ok()
    }

    /// The id of the message's document in a collection that a Spring dm reads, 12 bytes: second, millisecond and counter of the UUID, so
    /// that it grows as the UUID does. None for a message of the legacy Spring services, which has one.
    pub fn object_id(&self) -> Option<[u8; 12]> {
        let id: Uuid = self.0.parse().ok()?;
        let (bits, millis) = (id.as_u128(), u64::try_from(id.as_u128() >> 80).ok()?);
        let second = u32::try_from(millis / 1000).ok()?;
        let counter = u64::try_from((bits >> 64) & 0xfff).ok()? << 42 | u64::try_from(bits & ((1 << 42) - 1)).ok()?;
        let rest = (millis % 1000) << 54 | counter;
        let mut bytes = [0; 12];
        bytes[..4].copy_from_slice(&second.to_be_bytes());
        bytes[4..].copy_from_slice(&rest.to_be_bytes());
        Some(bytes)
    }

    /// The happening that is this message; none for a message of the legacy Spring services.
    pub fn event(&self) -> Option<EventId> {
        self.0.parse().ok()
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Makes ids of which each is greater than the one before: messages that one socket sends within a millisecond keep their
/// order in an outbox that is read by id. Clones share the last one.
#[derive(Debug, Clone)]
pub struct MessageIds {
    context: Context,
    last: Arc<Mutex<Uuid>>,
}

impl MessageIds {
    pub fn new(context: &Context) -> Self {
        Self {
            context: context.clone(),
            last: Arc::default(),
        }
    }

    pub fn next(&self) -> MessageId {
        let millis = u64::try_from(self.context.clock.now().as_millisecond()).unwrap_or(0);
        let mut random = [0; 10];
        self.context.entropy.fill(&mut random);
        // Leaves room below the version and variant bits for counting on within a millisecond.
        random[2] &= 0x1f;
        let mut last = self.last.lock();
        let fresh = uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid();
        *last = if fresh > *last {
            fresh
        } else {
            Uuid::from_u128(last.as_u128() + 1)
        };
        MessageId(last.to_string())
    }
}

#[cfg(test)]
mod tests {
    use sosohappy_common::clock::ManualClock;

    use super::*;

    #[test]
    fn each_is_greater_than_the_one_before_even_when_the_clock_stands_or_goes_back() {
        let clock = ManualClock::at(Timestamp::from_second(1_700_000_000).unwrap());
        let mut context = Context::system("dm-service", 0);
        context.clock = clock;
        let mut ids = MessageIds::new(&context);
        let mut last = ids.next();
        let mut made = Vec::new();
        for round in 0..3000 {
            if round == 2000 {
                ids.context.clock = ManualClock::at(Timestamp::from_second(1_600_000_000).unwrap());
            }
            let id = ids.next();
            assert!(id > last, "{id} after {last}");
            assert!(id.object_id() > last.object_id(), "{id} after {last}");
            last = id.clone();
            made.push(id);
        }
        for id in made {
            let id: Uuid = id.as_str().parse().unwrap();
            assert_eq!(id.get_version_num(), 7);
            assert_eq!(id.get_timestamp().unwrap().to_unix().0, 1_700_000_000);
        }
    }
}
