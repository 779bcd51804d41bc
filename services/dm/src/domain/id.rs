//! Names of messages, which grow with time.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use serde::Deserialize;
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

    /// Returns where the message stands in the server's order. A message of the legacy Spring services stands at the second that its
    /// `ObjectId` names.
    pub fn position(&self) -> Position {
        let uuid = match u128::from_str_radix(&self.0, 16) {
            Ok(object_id) if self.0.len() == 24 => {
                // The 64 bits after the second fill the 74 bits that version and variant leave of a UUID, from the left.
                let (millis, rest) = ((object_id >> 64) * 1000, object_id & u128::from(u64::MAX));
                let bits = millis << 80 | 0x7 << 76 | (rest >> 52) << 64 | 0b10 << 62 | (rest & ((1 << 52) - 1)) << 10;
                Uuid::from_u128(bits).to_string()
            }
            _ => self.0.clone(),
        };
        Position(uuid)
    }

    /// The happening that is this message; none for a message of the legacy Spring services.
    pub fn event(&self) -> Option<EventId> {
        self.0.parse().ok()
    }
}

/// Where a message stands in the server's order, in every conversation: a UUID of version 7 as text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct Position(String);

/// Of a message's id.
impl TryFrom<String> for Position {
    type Error = &'static str;

    fn try_from(id: String) -> Result<Self, Self::Error> {
        let position = MessageId(id).position().0.parse::<Self>();
        position.map_err(|_| "an id of a message is expected")
    }
}

impl FromStr for Position {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, uuid::Error> {
        Ok(Self(text.parse::<Uuid>()?.to_string()))
    }
}

impl Position {
    pub fn stored(text: String) -> Self {
        Self(text)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How far ahead of the own clock an id of another replica may be: clocks differ by less, and an invalid id moves no order.
const AHEAD: SignedDuration = SignedDuration::from_hours(24);

/// Makes ids of which each is greater than the one before: messages that one socket sends within a millisecond keep their
/// order in an outbox that is read by id. Clones share the last one.
///
/// They are a hybrid logical clock: an id is greater than every id that this replica has observed, so that an answer follows the message
/// it answers, whatever the clocks of the two replicas say.
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

    /// Notes an id of any replica.
    pub fn observe(&self, id: &MessageId) {
        let Ok(id) = id.0.parse::<Uuid>() else { return };
        let latest = self.context.clock.now() + AHEAD;
        let is_plausible = id.get_timestamp().is_some_and(|made| {
            let (seconds, _) = made.to_unix();
            i64::try_from(seconds).is_ok_and(|seconds| seconds <= latest.as_second())
        });
        if id.get_version_num() == 7 && is_plausible {
            let mut last = self.last.lock();
            *last = id.max(*last);
        }
    }

    /// Returns an id that is greater than this one too, whatever the clock of the replica that made it says.
    pub fn next_after(&self, id: &MessageId) -> MessageId {
        if let Ok(id) = id.0.parse::<Uuid>() {
            let mut last = self.last.lock();
            *last = id.max(*last);
        }
        self.next()
    }

    pub fn next(&self) -> MessageId {
        let millis = u64::try_from(self.context.clock.now().as_millisecond()).unwrap_or(0);
        let mut random = [0; 10];
        self.context.entropy.fill(&mut random);
        // The bits that `object_id` leaves out are 0, so that both ids have one order, and one bit more, which leaves room for counting on within
        // a millisecond.
        (random[2], random[3]) = (0, 0);
        random[4] &= 0x01;
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
    fn positions_of_legacy_messages_and_of_ours_are_in_order_of_time() {
        let position = |id: &str| MessageId::stored(id.to_owned()).position();
        let of = |second: u32, rest: &str| position(&format!("{second:08x}{rest}"));
        let ours = |millis: u64| {
            let id = uuid::Builder::from_unix_timestamp_millis(millis, &[0xff; 10]).into_uuid();
            position(&id.to_string())
        };
        let sorted = [
            of(1_700_000_000, "0000000000000000"),
            of(1_700_000_000, "00000000000003ff"),
            of(1_700_000_000, "0123456789abcdef"),
            of(1_700_000_000, "ffffffffffffffff"),
            ours(1_700_000_000_001),
            ours(1_700_000_000_999),
            of(1_700_000_001, "0000000000000000"),
            ours(1_700_000_002_000),
        ];
        assert!(sorted.is_sorted_by(|one, other| one < other), "{sorted:?}");
        for position in &sorted {
            let uuid: Uuid = position.as_str().parse().unwrap();
            assert_eq!(uuid.get_version_num(), 7);
        }
    }

    #[test]
    fn an_id_follows_every_id_that_was_observed() {
        let at = |second: i64| {
            let mut context = Context::system("dm-service", 0);
            context.clock = ManualClock::at(Timestamp::from_second(second).unwrap());
            MessageIds::new(&context)
        };
        let (ahead, behind) = (at(1_700_000_030), at(1_700_000_000));
        let question = ahead.next();
        assert!(behind.next() < question);
        behind.observe(&question);
        let answer = behind.next();
        assert!(answer > question, "{answer} answers {question}");
        behind.observe(&at(1_700_100_000).next());
        assert!(behind.next() < at(1_700_000_031).next(), "a day ahead moves nothing");
    }

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
