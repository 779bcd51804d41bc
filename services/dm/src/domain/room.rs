//! Rooms: conversations of up to a hundred people.

use jiff::Timestamp;
use sosohappy_common::Account;
use sosohappy_common::nickname::has_visible;
use sosohappy_common::text::is_one_line;
use unicode_segmentation::UnicodeSegmentation as _;

use super::text::BYTES_A_CHARACTER;
use super::{ClientKey, MessageDate, MessageId, MessageState, MessageText, Party};

/// Members of one room.
pub const MOST_MEMBERS: usize = 100;

/// Rooms of one account.
pub const MOST_ROOMS: u32 = 100;

/// The newest messages of a room among which those that are unread are counted: a longer absence takes no longer to count. Fewer in unit tests.
pub const MOST_UNREAD: u32 = if cfg!(test) { 5 } else { 1_000 };

/// User-perceived characters of a room's name.
const LONGEST_NAME: usize = 50;

/// The name of a room: 1 to 50 user-perceived characters and at most 2,000 bytes, with a visible character and without control characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomName(String);

impl RoomName {
    pub fn new(text: &str) -> Option<Self> {
        let text = text.trim();
        let fits = text.len() <= LONGEST_NAME * BYTES_A_CHARACTER && text.graphemes(true).nth(LONGEST_NAME).is_none();
        (fits && has_visible(text) && is_one_line(text)).then(|| Self(text.to_owned()))
    }

    pub fn stored(text: String) -> Self {
        Self(text)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A member of a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    pub account: Account,
    /// Not after the account was looked up by its name, or its token was issued: a resignation since then takes the member out.
    pub joined_at: Timestamp,
    /// The member sees the messages with greater numbers.
    pub joined_after: i64,
    /// The greatest number that the member has read.
    pub read: i64,
}

impl Member {
    /// Returns the number after which messages are unread.
    pub fn read_until(&self) -> i64 {
        self.read.max(self.joined_after)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Room {
    /// A UUID of version 7.
    pub id: String,
    pub name: RoomName,
    /// Who created it.
    pub creator: Account,
    pub created_at: Timestamp,
    /// In the order in which they joined.
    pub members: Vec<Member>,
    /// The number of its newest message; 0 if there is none.
    pub last_number: i64,
}

/// A person who is added to a room.
#[derive(Debug, Clone, Copy)]
pub struct Joining<'a> {
    /// The id of the room.
    pub room: &'a str,
    pub account: &'a Account,
    /// Who adds it.
    pub by: &'a Account,
    /// When the token was issued that it is added with.
    pub authorized_at: Timestamp,
    /// When the account was looked up by its name.
    pub at: Timestamp,
}

impl Room {
    /// Returns the members of a new room that its creator makes with a token of that moment: a resignation since then takes the creator out.
    pub fn first_members(&self, authorized_at: Timestamp) -> impl Iterator<Item = Member> {
        self.members.iter().cloned().map(move |mut member| {
            if member.account == self.creator {
                member.joined_at = member.joined_at.min(authorized_at);
            }
            member
        })
    }

    pub fn member(&self, account: &Account) -> Option<&Member> {
        self.members.iter().find(|member| member.account == *account)
    }

    /// Returns the owner: the creator, and after the creator has left the member who joined first.
    pub fn owner(&self) -> Option<&Account> {
        let creator = self.member(&self.creator).or_else(|| self.members.first());
        creator.map(|member| &member.account)
    }

    /// Returns the members who see the message of that number.
    pub fn viewers(&self, number: i64) -> impl Iterator<Item = &Account> {
        let viewers = self.members.iter().filter(move |member| member.joined_after < number);
        viewers.map(|member| &member.account)
    }

    /// Returns the members beside these who see the message of that number.
    pub fn late_viewers(&self, number: i64, members: &[Account]) -> Vec<Account> {
        let late = self.viewers(number).filter(|viewer| !members.contains(viewer));
        late.cloned().collect()
    }

    /// Returns whether the member may have unread messages: those of greater numbers may be gone.
    pub fn may_be_unread(&self, member: &Member) -> bool {
        self.last_number > member.read_until()
    }

    /// Returns the number after which the account's unread messages are counted, of the newest [`MOST_UNREAD`]; `None` if it has none.
    pub fn counted_after(&self, account: &Account) -> Option<i64> {
        let member = self.member(account).filter(|member| self.may_be_unread(member))?;
        Some(member.read_until().max(self.last_number - i64::from(MOST_UNREAD)))
    }
}

/// A message of a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomMessage {
    pub id: MessageId,
    pub room: String,
    pub sender: Party,
    pub date: MessageDate,
    pub text: MessageText,
    /// In the room, from 1 without a gap; 0 of a message that is not stored yet.
    pub number: i64,
    pub stored_at: Timestamp,
    pub reply_to: Option<MessageId>,
    pub state: MessageState,
}

impl RoomMessage {
    /// Returns its sender, and those who have reacted to it.
    pub fn people(&self) -> impl Iterator<Item = &Account> {
        std::iter::once(&self.sender.account).chain(self.state.reactions.keys())
    }

    /// Takes away the reactions of people in a block with the viewer.
    pub fn hide_reactions_of(&mut self, blocked: &[Account]) {
        self.state.reactions.retain(|by, _| !blocked.contains(by));
    }

    /// Returns the message as its room sees it; `at`: since when moderators hide it.
    #[must_use]
    pub fn hidden_since(mut self, at: Option<Timestamp>) -> Self {
        self.state.hide(&mut self.text, at);
        self
    }
}

/// A message that is to be stored in a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRoomMessage {
    pub message: RoomMessage,
    pub client_key: ClientKey,
    /// When the token was issued that it was sent with.
    pub authorized_at: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_visible_and_of_at_most_fifty_characters() {
        let family = "👨‍👩‍👧‍👦";
        for good in [" 우리반 ", family, &family.repeat(50), &"가".repeat(50)] {
            assert!(RoomName::new(good).is_some(), "{good}");
        }
        assert_eq!(RoomName::new(" 우리반 ").unwrap().as_str(), "우리반");
        for bad in [
            "",
            "  ",
            "\u{200b}",
            "a\0b",
            "a\nb",
            "a\u{1}b",
            &"가".repeat(51),
            &family.repeat(51),
            &format!("a{}", "\u{301}".repeat(1000)),
        ] {
            assert!(RoomName::new(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn the_member_who_joined_first_owns_a_room_without_its_creator() {
        let account = |name: &str| -> Account { format!("{name}@example.com+kakao").parse().unwrap() };
        let member = |name: &str, joined_after: i64, read: i64| Member {
            account: account(name),
            joined_at: Timestamp::UNIX_EPOCH,
            joined_after,
            read,
        };
        let mut room = Room {
            id: "r".to_owned(),
            name: RoomName::stored("r".to_owned()),
            creator: account("kim"),
            created_at: Timestamp::UNIX_EPOCH,
            members: vec![member("lee", 0, 2), member("kim", 0, 5), member("park", 5, 0)],
            last_number: 5,
        };
        assert_eq!(room.owner(), Some(&account("kim")));
        let unread: Vec<_> = room.members.iter().map(|member| room.may_be_unread(member)).collect();
        assert_eq!(unread, [true, false, false]);
        let counted = |room: &Room| ["lee", "kim", "choi"].map(|name| room.counted_after(&account(name)));
        assert_eq!(counted(&room), [Some(2), None, None]);
        room.last_number = 20;
        assert_eq!(counted(&room), [Some(15), Some(15), None], "of the newest five");
        room.members.remove(1);
        assert_eq!(room.owner(), Some(&account("lee")));
        room.members.clear();
        assert_eq!(room.owner(), None);
    }
}
