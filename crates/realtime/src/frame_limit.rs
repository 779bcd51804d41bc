//! Rate limit of the frames from the clients of one account, over all of its sockets of this replica.

use std::num::NonZeroU32;
use std::sync::Arc;

use sosohappy_common::Account;
use sosohappy_common::clock::Clock;
use sosohappy_common::rate::{KeyedLimiter, Rate};

/// Accounts whose counts are kept: more than a replica has sockets.
const MOST_ACCOUNTS: u64 = 50_000;
/// The rate of pings and pongs as a multiple of that of frames: they cost little, but a flood of them has no other limit.
const CONTROL_FRAMES: u32 = 10;

/// The decision about a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Accepted,
    /// Over the limit: not handled; the client gets an error.
    Refused,
    /// The client has got as many errors as the limit and keeps sending: the socket is closed.
    Flood,
}

/// The current limits, by account.
#[derive(Debug)]
pub(crate) struct FrameLimit {
    accepted: KeyedLimiter<Account>,
    refused: KeyedLimiter<Account>,
    control: KeyedLimiter<Account>,
}

impl FrameLimit {
    pub fn new(rate: Rate, before: Option<&Self>, clock: &Arc<dyn Clock>) -> Self {
        let control = match rate {
            Rate::Off => Rate::Off,
            Rate::PerMinute(frames) => {
                Rate::PerMinute(frames.saturating_mul(const { NonZeroU32::new(CONTROL_FRAMES).unwrap() }))
            }
        };
        let renewed =
            |before: Option<&KeyedLimiter<Account>>, rate| KeyedLimiter::renewed(before, rate, MOST_ACCOUNTS, clock);
        Self {
            accepted: renewed(before.map(|before| &before.accepted), rate),
            refused: renewed(before.map(|before| &before.refused), rate),
            control: renewed(before.map(|before| &before.control), control),
        }
    }

    /// Counts a text frame.
    pub fn text(&self, account: &Account) -> Verdict {
        if self.accepted.check(account).is_ok() {
            Verdict::Accepted
        } else if self.refused.check(account).is_ok() {
            Verdict::Refused
        } else {
            Verdict::Flood
        }
    }

    /// Counts a ping or a pong.
    pub fn control(&self, account: &Account) -> Verdict {
        if self.control.check(account).is_ok() {
            Verdict::Accepted
        } else {
            Verdict::Flood
        }
    }
}
