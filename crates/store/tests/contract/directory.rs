//! [`Directory`]: the newest event wins, in whatever order they come.

use std::sync::Arc;

use sosohappy_events::types::Relation::{Block, Follow, Unblock, Unfollow};
use sosohappy_store::{Directory, StoreError};
use tokio::task::JoinSet;

use crate::bed::{Bed, account, at};
use crate::on_all_engines;

on_all_engines! {
    the_last_nickname_wins,
    a_nickname_belongs_to_the_account_that_took_it_last,
    spellings_are_one_name_and_accounts_are_compared_byte_by_byte,
    of_two_spellings_the_one_asked_for_counts,
    names_without_a_key_get_one,
    names_come_in_the_order_asked,
    a_resignation_lasts_until_a_later_word,
    the_latest_change_of_a_pair_applies,
    blocks_among_many_pairs_are_found,
    two_accounts_that_follow_each_other_are_friends,
    a_follow_is_no_block,
    an_erasure_forgets_what_was_before,
    an_erasure_forgets_nothing_later,
    a_nickname_that_is_too_long_is_unfit,
    words_at_once_end_in_the_last,
    any_order_of_delivery_ends_in_the_greatest_moment,
    an_old_block_does_not_slip_past_an_erasure,
    the_first_nickname_after_a_moment_is_found,
}

async fn directory(bed: &Bed) -> Arc<dyn Directory> {
    bed.replica().await.directory()
}

async fn name_of(directory: &dyn Directory, name: &str) -> Option<String> {
    directory.nicknames_of(&[account(name)]).await.expect("names").remove(0)
}

async fn the_last_nickname_wins(bed: Arc<Bed>) {
    let directory = directory(&bed).await;
    let kim = account("kim");
    assert_eq!(name_of(&*directory, "kim").await, None);

    directory.set_nickname(&kim, Some("둘"), at(20)).await.unwrap();
    directory.set_nickname(&kim, Some("하나"), at(10)).await.unwrap();
    assert_eq!(name_of(&*directory, "kim").await.as_deref(), Some("둘"));
    assert_eq!(directory.account_of("둘").await.unwrap(), Some(kim.clone()));
    assert_eq!(directory.account_of("하나").await.unwrap(), None);

    directory.set_nickname(&kim, Some("셋"), at(20)).await.unwrap();
    assert_eq!(
        name_of(&*directory, "kim").await.as_deref(),
        Some("셋"),
        "of two at once the later call"
    );
    directory.set_nickname(&kim, Some("넷"), at(21)).await.unwrap();
    assert_eq!(directory.account_of("넷").await.unwrap(), Some(kim));
    assert_eq!(directory.account_of("셋").await.unwrap(), None);
}

async fn a_nickname_belongs_to_the_account_that_took_it_last(bed: Arc<Bed>) {
    let directory = directory(&bed).await;
    directory
        .set_nickname(&account("new"), Some("sun"), at(30))
        .await
        .unwrap();
    directory
        .set_nickname(&account("old"), Some("sun"), at(10))
        .await
        .unwrap();
    assert_eq!(directory.account_of("sun").await.unwrap(), Some(account("new")));
    directory
        .set_nickname(&account("new"), Some("moon"), at(40))
        .await
        .unwrap();
    assert_eq!(directory.account_of("sun").await.unwrap(), Some(account("old")));
}

async fn the_first_nickname_after_a_moment_is_found(bed: Arc<Bed>) {
    let directory = directory(&bed).await;
    let kim = account("kim");
    let since = async |moment| directory.named_since(&kim, at(moment)).await.unwrap();
    assert_eq!(since(0).await, None);
    directory.set_nickname(&kim, Some("sun"), at(10)).await.unwrap();
    assert_eq!((since(9).await, since(10).await), (Some(at(10)), None));
    directory.erase(&kim, at(20)).await.unwrap();
    assert_eq!(since(0).await, None);
    directory.set_nickname(&kim, Some("sun"), at(20)).await.unwrap();
    assert_eq!(since(0).await, None, "not after it");
    directory.set_nickname(&kim, Some("moon"), at(30)).await.unwrap();
    assert_eq!(since(20).await, Some(at(30)));
    assert_eq!(directory.account_of("moon").await.unwrap(), Some(kim.clone()));
}

async fn spellings_are_one_name_and_accounts_are_compared_byte_by_byte(bed: Arc<Bed>) {
    let directory = directory(&bed).await;
    let spaced = "kim@example.com+kakao ".parse().unwrap();
    directory
        .set_nickname(&account("kim"), Some("Kim"), at(1))
        .await
        .unwrap();
    directory.set_nickname(&spaced, Some("é"), at(2)).await.unwrap();
    assert_eq!(
        name_of(&*directory, "kim").await.as_deref(),
        Some("Kim"),
        "another account"
    );
    for other in ["Kïm", "e", "%", "K_m", ""] {
        assert_eq!(directory.account_of(other).await.unwrap(), None, "{other:?}");
    }
    for same in ["kim", "KIM", "Kim ", "K\u{456}m"] {
        assert_eq!(
            directory.account_of(same).await.unwrap(),
            Some(account("kim")),
            "{same:?}"
        );
    }
    for same in ["é", "e\u{301}", "É"] {
        assert_eq!(
            directory.account_of(same).await.unwrap(),
            Some(spaced.clone()),
            "{same:?}"
        );
    }
    for odd in ["'; --", "a\\b", "\"", "💙", "$ne", "a\u{0}b"] {
        directory.set_nickname(&account("odd"), Some(odd), at(3)).await.unwrap();
        assert_eq!(
            directory.account_of(odd).await.unwrap(),
            Some(account("odd")),
            "{odd:?}"
        );
    }
}

async fn names_come_in_the_order_asked(bed: Arc<Bed>) {
    let directory = directory(&bed).await;
    assert_eq!(directory.nicknames_of(&[]).await.unwrap(), Vec::<Option<String>>::new());
    directory
        .set_nickname(&account("7"), Some("seven"), at(1))
        .await
        .unwrap();
    directory
        .set_nickname(&account("1100"), Some("eleven hundred"), at(1))
        .await
        .unwrap();

    let mut asked: Vec<_> = (0..1200).map(|number| account(&number.to_string())).collect();
    asked.push(account("7"));
    let names = directory.nicknames_of(&asked).await.unwrap();
    assert_eq!(names.len(), asked.len());
    let known: Vec<_> = names
        .iter()
        .enumerate()
        .filter_map(|(n, name)| Some((n, name.as_deref()?)))
        .collect();
    assert_eq!(known, [(7, "seven"), (1100, "eleven hundred"), (1200, "seven")]);
}

async fn a_resignation_lasts_until_a_later_word(bed: Arc<Bed>) {
    let directory = directory(&bed).await;
    let kim = account("kim");
    directory.set_nickname(&kim, Some("sun"), at(10)).await.unwrap();
    directory.set_nickname(&kim, None, at(20)).await.unwrap();
    assert_eq!(name_of(&*directory, "kim").await, None);
    assert_eq!(directory.account_of("sun").await.unwrap(), None);

    for late in [15, 20] {
        directory.set_nickname(&kim, Some("late"), at(late)).await.unwrap();
        assert_eq!(name_of(&*directory, "kim").await, None, "{late}");
    }
    directory.set_nickname(&kim, Some("back"), at(21)).await.unwrap();
    assert_eq!(name_of(&*directory, "kim").await.as_deref(), Some("back"));

    directory.set_nickname(&kim, None, at(20)).await.unwrap();
    assert_eq!(
        name_of(&*directory, "kim").await.as_deref(),
        Some("back"),
        "an old resignation told again"
    );
    directory.set_nickname(&account("unseen"), None, at(5)).await.unwrap();
    directory
        .set_nickname(&account("unseen"), Some("late"), at(4))
        .await
        .unwrap();
    assert_eq!(name_of(&*directory, "unseen").await, None, "the resignation came first");
}

async fn the_latest_change_of_a_pair_applies(bed: Arc<Bed>) {
    let directory = directory(&bed).await;
    let (kim, lee, park) = (account("kim"), account("lee"), account("park"));
    assert!(!directory.blocked(&kim, &lee).await.unwrap());

    directory.set_relation(Block, &kim, &lee, at(20)).await.unwrap();
    directory.set_relation(Unblock, &kim, &lee, at(10)).await.unwrap();
    assert!(directory.blocked(&kim, &lee).await.unwrap());
    assert!(directory.blocked(&lee, &kim).await.unwrap(), "in both directions");
    assert!(!directory.blocked(&kim, &park).await.unwrap());

    directory.set_relation(Block, &lee, &kim, at(21)).await.unwrap();
    directory.set_relation(Block, &park, &kim, at(22)).await.unwrap();
    let mut others = directory.blocked_with(&kim).await.unwrap();
    others.sort();
    assert_eq!(others, [lee.clone(), park.clone()], "each once");

    directory.set_relation(Unblock, &kim, &lee, at(30)).await.unwrap();
    assert!(directory.blocked(&kim, &lee).await.unwrap(), "lee blocks kim");
    directory.set_relation(Unblock, &lee, &kim, at(30)).await.unwrap();
    assert!(!directory.blocked(&kim, &lee).await.unwrap());
    assert_eq!(directory.blocked_with(&kim).await.unwrap(), [park]);
    assert_eq!(directory.blocked_with(&lee).await.unwrap(), []);
}

async fn blocks_among_many_pairs_are_found(bed: Arc<Bed>) {
    let directory = directory(&bed).await;
    let (kim, lee, park) = (account("kim"), account("lee"), account("park"));
    directory.set_relation(Block, &kim, &lee, at(10)).await.unwrap();
    directory.set_relation(Follow, &kim, &park, at(10)).await.unwrap();
    directory.set_relation(Block, &lee, &park, at(10)).await.unwrap();
    directory.set_relation(Unblock, &lee, &park, at(20)).await.unwrap();
    assert!(directory.blocked_among(&[]).await.unwrap().is_empty());
    let pairs = [
        (&kim, &lee),
        (&kim, &park),
        (&lee, &park),
        (&lee, &kim),
        (&kim, &kim),
        (&kim, &lee),
    ];
    let expected = [true, false, false, true, false, true];
    assert_eq!(directory.blocked_among(&pairs).await.unwrap(), expected);

    // More than one statement asks for.
    let others: Vec<_> = (0..1201).map(|number| account(&format!("other-{number}"))).collect();
    for number in [0, 499, 500, 1200] {
        directory
            .set_relation(Block, &others[number], &kim, at(10))
            .await
            .unwrap();
    }
    let pairs: Vec<_> = others.iter().map(|other| (&kim, other)).collect();
    let blocked = directory.blocked_among(&pairs).await.unwrap();
    let found: Vec<usize> = (0..)
        .zip(blocked)
        .filter_map(|(number, blocked)| blocked.then_some(number))
        .collect();
    assert_eq!(found, [0, 499, 500, 1200]);
}

async fn two_accounts_that_follow_each_other_are_friends(bed: Arc<Bed>) {
    let directory = directory(&bed).await;
    let (kim, lee) = (account("kim"), account("lee"));
    directory.set_relation(Follow, &kim, &lee, at(10)).await.unwrap();
    assert!(!directory.friends(&kim, &lee).await.unwrap(), "one follows the other");
    // In any order: an older event that arrives later changes nothing.
    directory.set_relation(Follow, &lee, &kim, at(20)).await.unwrap();
    directory.set_relation(Unfollow, &lee, &kim, at(15)).await.unwrap();
    assert!(directory.friends(&kim, &lee).await.unwrap());
    assert!(directory.friends(&lee, &kim).await.unwrap());
    assert!(!directory.blocked(&kim, &lee).await.unwrap());
    directory.set_relation(Unfollow, &kim, &lee, at(30)).await.unwrap();
    assert!(!directory.friends(&kim, &lee).await.unwrap());
    directory.set_relation(Follow, &kim, &lee, at(40)).await.unwrap();
    directory.erase(&lee, at(50)).await.unwrap();
    assert!(!directory.friends(&kim, &lee).await.unwrap(), "a resignation ends it");
}

async fn a_follow_is_no_block(bed: Arc<Bed>) {
    let directory = directory(&bed).await;
    let (kim, lee) = (account("kim"), account("lee"));
    directory.set_relation(Follow, &kim, &lee, at(10)).await.unwrap();
    assert!(!directory.blocked(&kim, &lee).await.unwrap());
    directory.set_relation(Block, &kim, &lee, at(11)).await.unwrap();
    directory.set_relation(Unfollow, &kim, &lee, at(12)).await.unwrap();
    assert!(directory.blocked(&kim, &lee).await.unwrap());
}

async fn an_erasure_forgets_what_was_before(bed: Arc<Bed>) {
    let directory = directory(&bed).await;
    let (kim, lee, park) = (account("kim"), account("lee"), account("park"));
    directory.set_nickname(&kim, Some("sun"), at(10)).await.unwrap();
    directory.set_relation(Block, &kim, &lee, at(10)).await.unwrap();
    directory.set_relation(Block, &park, &kim, at(11)).await.unwrap();
    directory.set_relation(Block, &park, &lee, at(11)).await.unwrap();
    for again in 0..2 {
        directory.erase(&kim, at(20)).await.unwrap();
        assert_eq!(name_of(&*directory, "kim").await, None, "{again}");
        assert_eq!(directory.blocked_with(&kim).await.unwrap(), [], "{again}");

        directory.set_nickname(&kim, Some("sun"), at(10)).await.unwrap();
        directory.set_relation(Block, &kim, &lee, at(20)).await.unwrap();
        directory.set_relation(Block, &park, &kim, at(11)).await.unwrap();
        assert_eq!(name_of(&*directory, "kim").await, None, "a late event");
        assert_eq!(directory.blocked_with(&kim).await.unwrap(), [], "a late event");
    }
    assert!(directory.blocked(&park, &lee).await.unwrap(), "others are not touched");
}

async fn an_erasure_forgets_nothing_later(bed: Arc<Bed>) {
    let directory = directory(&bed).await;
    let (kim, lee) = (account("kim"), account("lee"));
    directory.set_nickname(&kim, Some("back"), at(30)).await.unwrap();
    directory.set_relation(Block, &kim, &lee, at(31)).await.unwrap();
    directory.erase(&kim, at(20)).await.unwrap();
    assert_eq!(name_of(&*directory, "kim").await.as_deref(), Some("back"));
    assert!(directory.blocked(&kim, &lee).await.unwrap());
    directory.set_relation(Block, &lee, &kim, at(20)).await.unwrap();
    directory.set_relation(Unblock, &kim, &lee, at(32)).await.unwrap();
    assert!(
        !directory.blocked(&kim, &lee).await.unwrap(),
        "a block of the first life"
    );
}

async fn a_nickname_that_is_too_long_is_unfit(bed: Arc<Bed>) {
    let directory = directory(&bed).await;
    let longest = "가".repeat(333);
    directory
        .set_nickname(&account("kim"), Some(&longest), at(1))
        .await
        .unwrap();
    assert_eq!(directory.account_of(&longest).await.unwrap(), Some(account("kim")));
    let refused = directory
        .set_nickname(&account("kim"), Some(&"가".repeat(334)), at(2))
        .await;
    assert!(matches!(refused, Err(StoreError::Invalid(_))), "{refused:?}");
}

async fn words_at_once_end_in_the_last(bed: Arc<Bed>) {
    let (one, other) = (bed.replica().await.directory(), bed.replica().await.directory());
    let mut words = JoinSet::new();
    for moment in 0..40 {
        let directory = if moment % 2 == 0 { one.clone() } else { other.clone() };
        words.spawn(async move {
            let moment = (moment * 17) % 40;
            let name = format!("name {moment}");
            directory
                .set_nickname(&account("kim"), Some(&name), at(moment))
                .await
                .unwrap();
            let relation = if moment == 39 { Unblock } else { Block };
            directory
                .set_relation(relation, &account("kim"), &account("lee"), at(moment))
                .await
                .unwrap();
        });
    }
    words.join_all().await;
    assert_eq!(name_of(&*one, "kim").await.as_deref(), Some("name 39"));
    assert!(!one.blocked(&account("kim"), &account("lee")).await.unwrap());
}

/// A relay with a skewed clock publishes an older record later, a broker delivers again: all orders, each twice.
async fn any_order_of_delivery_ends_in_the_greatest_moment(bed: Arc<Bed>) {
    let directory = directory(&bed).await;
    let orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
    for (number, order) in orders.into_iter().enumerate() {
        let (renamed, blocker) = (
            account(&format!("renamed{number}")),
            account(&format!("blocker{number}")),
        );
        for step in order.into_iter().chain(order) {
            let (nickname, relation, moment) = match step {
                0 => (format!("first{number}"), Block, at(10)),
                1 => (format!("second{number}"), Unblock, at(20)),
                _ => (format!("third{number}"), Block, at(30)),
            };
            directory.set_nickname(&renamed, Some(&nickname), moment).await.unwrap();
            directory
                .set_relation(relation, &blocker, &renamed, moment)
                .await
                .unwrap();
        }
        let nickname = name_of(&*directory, &format!("renamed{number}")).await;
        assert_eq!(nickname, Some(format!("third{number}")), "{order:?}");
        assert!(directory.blocked(&renamed, &blocker).await.unwrap(), "{order:?}");
    }
}

async fn an_old_block_does_not_slip_past_an_erasure(bed: Arc<Bed>) {
    let (one, other) = (bed.replica().await.directory(), bed.replica().await.directory());
    for round in 0..25 {
        let (kim, lee) = (account(&format!("kim{round}")), account("lee"));
        let block = tokio::spawn({
            let (one, kim, lee) = (one.clone(), kim.clone(), lee.clone());
            async move { one.set_relation(Block, &kim, &lee, at(10)).await }
        });
        let erase = tokio::spawn({
            let (other, kim) = (other.clone(), kim.clone());
            async move { other.erase(&kim, at(20)).await }
        });
        block.await.unwrap().unwrap();
        erase.await.unwrap().unwrap();
        assert_eq!(one.blocked_with(&kim).await.unwrap(), [], "round {round}");
    }
}

/// Spring services let two people bear one name in two spellings.
async fn of_two_spellings_the_one_asked_for_counts(bed: Arc<Bed>) {
    let directory = directory(&bed).await;
    let (composed, decomposed) = ("김", "\u{1100}\u{1175}\u{11b7}");
    directory
        .set_nickname(&account("one"), Some(composed), at(1))
        .await
        .unwrap();
    directory
        .set_nickname(&account("two"), Some(decomposed), at(2))
        .await
        .unwrap();
    assert_eq!(directory.account_of(composed).await.unwrap(), Some(account("one")));
    assert_eq!(directory.account_of(decomposed).await.unwrap(), Some(account("two")));
    directory
        .set_nickname(&account("two"), Some("두리"), at(3))
        .await
        .unwrap();
    assert_eq!(directory.account_of(decomposed).await.unwrap(), Some(account("one")));
    directory.erase(&account("one"), at(4)).await.unwrap();
    assert_eq!(directory.account_of(composed).await.unwrap(), None);
}

async fn names_without_a_key_get_one(bed: Arc<Bed>) {
    let before = bed.replica().await;
    before
        .directory()
        .set_nickname(&account("kim"), Some("Kim"), at(1))
        .await
        .unwrap();
    before.forget_nickname_keys().await;
    assert_eq!(before.directory().account_of("kim").await.unwrap(), None);
    assert_eq!(
        before.directory().account_of("Kim").await.unwrap(),
        Some(account("kim"))
    );
    let after = directory(&bed).await;
    assert_eq!(after.account_of("kim").await.unwrap(), Some(account("kim")));
}
