//! The table of tokens: no clock, no I/O.
//!
//! A token is admitted when it is known, not expired, and not revoked. Revocations are kept apart and consulted on read, so the
//! order in which topics arrive changes nothing.

use std::hash::{BuildHasher as _, RandomState};

use hashbrown::{HashTable, hash_table::Entry};
use jiff::Timestamp;
use parking_lot::RwLock;
use sosohappy_common::Account;
use sosohappy_events::types::{Role, SessionId, TokenDigest};

use crate::Revocations;

/// Bounds the tokens that one growing shard moves at a time while its callers wait.
const SHARDS: usize = 16;

/// Half of the token's SHA-256, masked by 128 bits of the account under secret keys of this process. A caller who wants to be taken for
/// another account would have to present a token whose digest differs from that of a valid one by an unknown number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Key([u64; 2]);

impl Key {
    /// The second half chooses the shard, the first the bucket.
    fn shard(self) -> usize {
        usize::try_from(self.0[1] % SHARDS as u64).expect("less than the number of shards")
    }
}

/// 40 bytes, and one more in the table's control bytes. The derived order decides between two records that disagree about
/// the same token: the one that expires earlier is kept, in whatever order they arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Slot {
    key: Key,
    expires_ms: i64,
    /// Milliseconds since the epoch, times four, plus the rank of the role: see [`pack`].
    issued: i64,
    session: u64,
}

impl Slot {
    fn issued_ms(&self) -> i64 {
        self.issued >> ROLE_BITS
    }
}

/// Bits of [`Slot::issued`] that hold the role.
const ROLE_BITS: u32 = 2;

fn pack(issued_ms: i64, role: Role) -> i64 {
    let rank = match role {
        Role::User => 0,
        Role::Moderator => 1,
        Role::Admin => 2,
    };
    (issued_ms << ROLE_BITS) | rank
}

fn unpack_role(issued: i64) -> Role {
    match issued & ((1 << ROLE_BITS) - 1) {
        1 => Role::Moderator,
        2 => Role::Admin,
        _ => Role::User,
    }
}

/// A live token. Times in milliseconds since the epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token {
    pub session: SessionId,
    pub role: Role,
    pub issued_ms: i64,
    pub expires_ms: i64,
}

impl Token {
    pub fn issued_at(&self) -> Timestamp {
        Timestamp::from_millisecond(self.issued_ms).unwrap_or(Timestamp::MIN)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Admitted(Token),
    /// The token is known, and expired or revoked.
    Refused,
    Unknown,
}

#[derive(Debug, Default)]
pub struct Table {
    shards: [RwLock<HashTable<Slot>>; SHARDS],
    revocations: Revocations,
    /// `SipHash` under random keys of this process, one for each half of a [`Key`].
    masks: [RandomState; 2],
}

impl Table {
    pub fn new(revocations: Revocations) -> Self {
        Self {
            revocations,
            ..Self::default()
        }
    }

    fn key(&self, account: &Account, digest: &TokenDigest) -> Key {
        let half = |at: usize| u64::from_le_bytes(std::array::from_fn(|byte| digest.0[at + byte]));
        let [first, second] = &self.masks;
        Key([half(0) ^ first.hash_one(account), half(8) ^ second.hash_one(account)])
    }

    /// Decides whether this token of this account is valid at `now_ms`.
    pub fn admit(&self, account: &Account, digest: &TokenDigest, now_ms: i64) -> Verdict {
        let key = self.key(account, digest);
        let Some(slot) = self.shards[key.shard()]
            .read()
            .find(key.0[0], |slot| slot.key == key)
            .copied()
        else {
            return Verdict::Unknown;
        };
        // The slot was copied and its shard is unlocked: revocations have locks of their own, and no two locks are held at once.
        let (session, issued_ms) = (SessionId(slot.session), slot.issued_ms());
        if slot.expires_ms <= now_ms || self.revocations.revoked_ms(account, session, issued_ms).is_some() {
            return Verdict::Refused;
        }
        let role = unpack_role(slot.issued);
        Verdict::Admitted(Token {
            session,
            role,
            issued_ms,
            expires_ms: slot.expires_ms,
        })
    }

    /// Inserts a token; returns true when it was not known.
    pub fn issue(&self, account: &Account, digest: &TokenDigest, token: Token) -> bool {
        let key = self.key(account, digest);
        let issued = pack(token.issued_ms, token.role);
        let slot = Slot {
            key,
            expires_ms: token.expires_ms,
            issued,
            session: token.session.0,
        };
        let mut shard = self.shards[key.shard()].write();
        match shard.entry(key.0[0], |known| known.key == key, |slot| slot.key.0[0]) {
            Entry::Occupied(mut known) => {
                let known = known.get_mut();
                *known = slot.min(*known);
                false
            }
            Entry::Vacant(vacant) => {
                vacant.insert(slot);
                true
            }
        }
    }

    /// Forgets expired tokens, and everything issued before `horizon_ms`, a token's longest life ago.
    ///
    /// A revocation older than the horizon covers only tokens that are forgotten with it; should auth give tokens a longer life than
    /// this service is configured with, auth is asked about the rest.
    pub fn sweep(&self, now_ms: i64, horizon_ms: i64) {
        for shard in &self.shards {
            let mut shard = shard.write();
            shard.retain(|slot| slot.expires_ms > now_ms && slot.issued_ms() >= horizon_ms);
            if shard.len() < shard.capacity() / 4 {
                let room = shard.len() * 2;
                shard.shrink_to(room, |slot| slot.key.0[0]);
            }
        }
        self.revocations.sweep(horizon_ms);
    }

    /// Tokens held, expired ones included until they are swept.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.read().len()).sum()
    }

    /// Returns the bytes that the tokens take.
    #[cfg(test)]
    fn allocated(&self) -> usize {
        self.shards
            .iter()
            .map(|shard| shard.read().allocation_size())
            .sum::<usize>()
            + size_of::<Self>()
    }
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
