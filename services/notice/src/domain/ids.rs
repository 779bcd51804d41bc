//! Ids that are made of what a notice is about: the same on every replica, and each time.

use sosohappy_common::Account;
use sosohappy_events::EventId;

/// Returns the id of the notice of a like: always the same for one liker and one post, so that on, off and on again are one notice, with at
/// most one push.
pub fn like_id(author: &Account, liker: &Account, date: i64) -> EventId {
    const LIKES: EventId = EventId(uuid::Uuid::from_u128(0x6c69_6b65));
    LIKES.of_part(&format!("{}\u{1f}{}\u{1f}{date}", author.as_str(), liker.as_str()))
}

/// An author has at most one post a day, whose date may change within the day.
const DATES_OF_A_DAY: i64 = 100_000_000;

/// Returns the id by which all notices about a post are withdrawn: always the same for one author and one day.
pub fn post_id(author: &Account, date: i64) -> EventId {
    const POSTS: EventId = EventId(uuid::Uuid::from_u128(0x706f_7374));
    POSTS.of_part(&format!("{}\u{1f}{}", author.as_str(), date.div_euclid(DATES_OF_A_DAY)))
}

/// Returns the id of the notice of a follow: follow, unfollow and follow again are one notice.
pub fn follow_id(receiver: &Account, follower: &Account) -> EventId {
    const FOLLOWS: EventId = EventId(uuid::Uuid::from_u128(0x666f_6c6c_6f77));
    FOLLOWS.of_part(&format!("{}\u{1f}{}", receiver.as_str(), follower.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_likes_of_one_person_on_one_post_have_one_id() {
        let [kim, lee]: [Account; 2] = ["kim", "lee"].map(|name| format!("{name}@example.com+kakao").parse().unwrap());
        let id = like_id(&kim, &lee, 2_023_090_513_248_392);
        assert_eq!(like_id(&kim, &lee, 2_023_090_513_248_392), id);
        assert_ne!(like_id(&lee, &kim, 2_023_090_513_248_392), id);
        assert_ne!(like_id(&kim, &lee, 2_023_090_513_248_393), id);
    }
}
