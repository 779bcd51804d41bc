//! Requests: the first messages between two people who are not friends wait until the receiver accepts them.

use jiff::Timestamp;
use sosohappy_common::Account;

use super::{ConversationId, Party};

/// Messages that wait in one request; more are refused.
pub const MOST_HELD: u32 = 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestState {
    /// The messages wait.
    Pending,
    /// The messages were delivered, and later ones are.
    Accepted,
    /// The messages stay with the asker, who can send no more.
    Refused,
    /// One that only a later release knows, and keeps in the row: the request waits for a replica of that release.
    Unknown,
}

impl RequestState {
    const KNOWN: [Self; 3] = [Self::Pending, Self::Accepted, Self::Refused];

    /// In the store, except [`Self::Unknown`].
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Accepted => "accepted",
            Self::Refused => "refused",
            Self::Unknown => "unknown",
        }
    }

    pub fn named(name: &str) -> Self {
        let mut known = Self::KNOWN.into_iter();
        known.find(|state| state.name() == name).unwrap_or(Self::Unknown)
    }
}

/// The request of a conversation; each has at most one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// A UUID of version 7.
    pub id: String,
    pub asker: Party,
    pub receiver: Party,
    /// The asker's introduction as it was last known.
    pub introduction: Option<String>,
    pub state: RequestState,
    pub asked_at: Timestamp,
    pub decided_at: Option<Timestamp>,
    /// Decided a short time ago: messages may wait that have to be released, or an event.
    pub is_completing: bool,
}

impl Request {
    pub fn conversation(&self) -> ConversationId {
        ConversationId::between(&self.asker.account, &self.receiver.account)
    }
}

/// What is decided about a request, and who decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The receiver accepts it, also one that the receiver refused before.
    Accept,
    /// It is accepted by a friendship, or because requests were switched off. Only while it is pending: the receiver's refusal stands.
    AcceptPending,
    /// The receiver refuses it.
    Refuse,
}

impl Verdict {
    /// Returns the state that the request is in afterwards.
    pub const fn state(self) -> RequestState {
        match self {
            Self::Accept | Self::AcceptPending => RequestState::Accepted,
            Self::Refuse => RequestState::Refused,
        }
    }

    /// Returns the states in which it can be decided so.
    pub const fn former_states(self) -> &'static [RequestState] {
        match self {
            Self::Accept => &[RequestState::Pending, RequestState::Refused],
            Self::AcceptPending | Self::Refuse => &[RequestState::Pending],
        }
    }
}

/// The decision about a request.
#[derive(Debug, Clone)]
pub struct Decision {
    pub conversation: ConversationId,
    pub verdict: Verdict,
    pub at: Timestamp,
}

/// What becomes of a message between two people while requests are enabled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    Delivered,
    /// It waits in the request of its conversation.
    Held,
}

/// What the state of a conversation says about a new message of `sender`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    Open,
    /// The request is to be accepted first: the receiver answers, or the two have become friends.
    Accept(Verdict),
    /// The message waits in the request that is there.
    Waits,
    /// The message opens a request.
    Asks,
    Refused,
    /// Only a later release knows.
    Unknown,
}

/// Decides about a message of `sender`. `has_messages`: the conversation was begun before.
///
/// | request | from its asker | from its receiver |
/// | --- | --- | --- |
/// | none | friends or `has_messages`: open; else asks | the same |
/// | pending | friends: accept; else waits | accept |
/// | refused | refused | accept |
/// | accepted | open | open |
/// | unknown | unknown | unknown |
pub fn standing(request: Option<&Request>, sender: &Account, are_friends: bool, has_messages: bool) -> Standing {
    let Some(request) = request else {
        return if are_friends || has_messages {
            Standing::Open
        } else {
            Standing::Asks
        };
    };
    let is_asker = request.asker.account == *sender;
    match request.state {
        RequestState::Accepted => Standing::Open,
        RequestState::Unknown => Standing::Unknown,
        _ if !is_asker => Standing::Accept(Verdict::Accept),
        RequestState::Pending if are_friends => Standing::Accept(Verdict::AcceptPending),
        RequestState::Pending => Standing::Waits,
        RequestState::Refused => Standing::Refused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_standing_follows_from_request_friendship_and_history() {
        let party = |name: &str| Party {
            account: format!("{name}@example.com+kakao").parse().unwrap(),
            nickname: name.to_owned(),
        };
        let (kim, lee) = (party("kim"), party("lee"));
        let request = |state| Request {
            id: "r".to_owned(),
            asker: kim.clone(),
            receiver: lee.clone(),
            introduction: None,
            state,
            asked_at: Timestamp::UNIX_EPOCH,
            decided_at: None,
            is_completing: false,
        };
        let (befriended, answered) = (
            Standing::Accept(Verdict::AcceptPending),
            Standing::Accept(Verdict::Accept),
        );
        for (state, sender, friends, begun, expected) in [
            (None, &kim, false, false, Standing::Asks),
            (None, &kim, true, false, Standing::Open),
            (None, &kim, false, true, Standing::Open),
            (Some(RequestState::Pending), &kim, false, true, Standing::Waits),
            (Some(RequestState::Pending), &kim, true, true, befriended),
            (Some(RequestState::Pending), &lee, false, true, answered),
            (Some(RequestState::Refused), &kim, false, true, Standing::Refused),
            (Some(RequestState::Refused), &kim, true, true, Standing::Refused),
            (Some(RequestState::Refused), &lee, false, true, answered),
            (Some(RequestState::Refused), &lee, true, true, answered),
            (Some(RequestState::Accepted), &kim, false, true, Standing::Open),
            (Some(RequestState::Accepted), &lee, false, true, Standing::Open),
            (Some(RequestState::Unknown), &kim, true, true, Standing::Unknown),
            (Some(RequestState::Unknown), &lee, true, true, Standing::Unknown),
        ] {
            let request = state.map(request);
            let found = standing(request.as_ref(), &sender.account, friends, begun);
            assert_eq!(found, expected, "{state:?} {} {friends} {begun}", sender.nickname);
        }
    }
}
