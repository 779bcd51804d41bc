//! An account that wants to bear another nickname.

use std::collections::BTreeSet;

use jiff::Timestamp;
use sosohappy_common::{Account, Look, Nickname};

/// What a store needs to decide whether an account may bear a nickname. `checkDuplicateNickname` and `setProfile` ask the same question.
#[derive(Debug)]
pub struct NicknameClaim<'a> {
    pub account: &'a Account,
    /// The keyed hash of the account, by which reservations name it.
    pub bearer: [u8; 32],
    /// The nickname that the account bears until now.
    pub former: &'a Nickname,
    pub new: &'a Nickname,
    /// Reservations that have ended by then do not count.
    pub at: Timestamp,
}

impl NicknameClaim<'_> {
    /// Whether the new nickname is more than another spelling of the former one.
    pub fn is_another_name(&self) -> bool {
        self.former.key() != self.new.key()
    }

    /// Returns the looks that no other name may have. What looks like the former name already does not count: names that collide since before
    /// there were looks stay, and may be written in another spelling.
    pub fn looks(&self) -> BTreeSet<Look> {
        let known = self.former.looks().confusable;
        self.new.looks().confusable.difference(&known).copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_of_the_former_name_do_not_count() {
        let account = "kim@example.com+kakao".parse().unwrap();
        let claims = |former: &str, new: &str, other: &str| {
            let (former, new) = (Nickname::stored(former.into()), Nickname::stored(new.into()));
            let claim = NicknameClaim {
                account: &account,
                bearer: [0; 32],
                former: &former,
                new: &new,
                at: Timestamp::UNIX_EPOCH,
            };
            let other = Nickname::stored(other.into()).looks().own;
            (claim.is_another_name(), !claim.looks().is_disjoint(&other))
        };
        for (former, new, other, is_another_name, is_kept) in [
            ("kim", "kim", "kim", false, false),
            ("moon", "kim", "\u{43a}im", true, true),
            ("kim", "KIM", "\u{43a}im", false, false),
            ("moon", "lee", "\u{43a}im", true, false),
            ("admin", "admIn", "admln", false, true),
        ] {
            let claimed = claims(former, new, other);
            assert_eq!(claimed, (is_another_name, is_kept), "{former} {new} {other}");
        }
    }
}
