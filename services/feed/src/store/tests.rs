//! Contract tests of the ports that need control over time, crashes and concurrency.

use std::sync::Arc;

use futures::future::{join, join_all};
use http::{HeaderMap, HeaderValue};
use jiff::Timestamp;
use sosohappy_common::Account;
use sosohappy_events::types::AccountErased;
use sosohappy_events::{Envelope, EventId};
use sosohappy_media::ImageId;
use sosohappy_testkit::statements::{Cost, cost_of};
use sosohappy_testkit::{Bed, EngineSet, PATIENCE, eventually, on_both_engines};

use super::{By, Copied, HiddenPost, List, Marked, Opened, Renewal, Saved, Shown, Store, Toggled, WriteError, open};
use crate::domain::companions::{Companions, recommend};
use crate::domain::phrases::Phrases;
use crate::domain::repeat::{IDEMPOTENCY_KEY, IdempotencyKey, KeyedRequest};
use crate::domain::{
    Category, Content, Cursor, Day, Days, MonthOf, NewPost, PageFrom, PostDate, Sort, Visibility, Weather, Writer,
};
use crate::{DEFAULTS, SERVICE, Settings};

on_both_engines!(
    reserved_pictures_are_a_posts_or_garbage,
    pictures_of_what_went_are_garbage_once,
    pictures_of_a_suspended_author_are_renewed_by_one_replica,
    pictures_are_renewed_of_the_post_that_was_hidden,
    the_latest_state_is_counted_once_and_erased_with_the_account,
    categories_are_folded_once,
    recommendations_of_a_day_are_those_shown_first,
    many_recommendations_are_deleted_in_steps,
    a_resignation_and_saves_that_cross_leave_nothing,
    a_later_token_writes_and_keeps,
    a_large_resignation_is_erased_in_steps,
    a_key_expires_and_is_erased_with_its_account,
    versions_of_the_account_before_are_erased,
    totals_come_out_whatever_is_folded_first,
    many_pairs_are_folded_by_as_many_statements_as_one,
    a_change_that_cannot_be_read_is_put_aside,
    pages_are_read_off_an_index,
    posts_of_friends_are_read_off_an_index,
    comments_and_bookmarks_are_read_off_an_index,
    own_and_held_lists_are_read_off_an_index,
);

async fn store(bed: &Bed) -> Arc<dyn Store> {
    opened(bed).await.store
}

pub(super) async fn opened(bed: &Bed) -> Opened {
    let settings = bed.settings::<Settings>("feed", DEFAULTS, &[]).await.get();
    open(&settings.database.url, 8, &bed.context(SERVICE))
        .await
        .expect("the database opens")
}

pub(super) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).unwrap()
}

pub(super) fn writer(name: &str, authorized: i64) -> Writer {
    let account: Account = format!("{name}@example.com+kakao").parse().unwrap();
    Writer {
        account,
        authorized_at: at(authorized),
    }
}

pub(super) fn post(author: &Writer, date: i64, categories: &[&str], images: &[ImageId]) -> NewPost {
    let content = Content {
        date: PostDate::try_from(date).unwrap(),
        weather: Weather::try_from("sunny".to_owned()).unwrap(),
        happiness: 3,
        text: String::new(),
        categories: categories
            .iter()
            .map(|name| Category::try_from((*name).to_owned()).unwrap())
            .collect(),
        visibility: Visibility::Public,
    };
    NewPost {
        author: author.clone(),
        content,
        images: images.to_vec(),
        uploads: None,
        history: 2,
        key: None,
        review: None,
    }
}

/// The post of an author who is not suspended.
pub(super) fn marked(author: &Account, day: Day) -> Marked<'_> {
    Marked {
        author,
        day,
        is_suspended: false,
    }
}

fn month() -> Days {
    let MonthOf(month) = MonthOf::try_from(2_023_090_000_000_000).unwrap();
    month.into()
}

const DATE: i64 = 2_023_090_513_248_392;

async fn a_key_expires_and_is_erased_with_its_account(bed: Bed) {
    let store = store(&bed).await;
    let kim = writer("kim", 0);
    let header = HeaderMap::from_iter([(IDEMPOTENCY_KEY, HeaderValue::from_static("one"))]);
    let keyed = |date: i64, expires: i64| {
        let mut new = post(&kim, date, &["sea"], &[]);
        let key = IdempotencyKey::of(&header).unwrap().unwrap();
        new.key = Some(KeyedRequest {
            key,
            request: new.content.digest(None),
            expires_at: at(expires),
        });
        new
    };
    let next_day = DATE + 100_000_000;
    assert_eq!(store.save(&keyed(DATE, 10), at(0)).await.unwrap(), Saved::Stored);
    assert_eq!(store.save(&keyed(DATE, 10), at(9)).await.unwrap(), Saved::Repeated);
    let reused = store.save(&keyed(next_day, 19), at(9)).await;
    assert!(matches!(reused, Err(WriteError::KeyReused)), "{reused:?}");
    assert_eq!(store.save(&keyed(next_day, 20), at(10)).await.unwrap(), Saved::Stored);

    store.forget_keys(at(19)).await.unwrap();
    let reused = store.save(&keyed(DATE, 29), at(19)).await;
    assert!(matches!(reused, Err(WriteError::KeyReused)), "{reused:?}");
    store.forget_keys(at(20)).await.unwrap();
    assert_eq!(bed.sql("feed", "DELETE FROM idempotency_key").await, 0);

    store.save(&keyed(DATE, 100), at(21)).await.unwrap();
    erase(&bed, store.as_ref(), &kim.account, at(30), event(&bed)).await;
    assert_eq!(bed.sql("feed", "DELETE FROM idempotency_key").await, 0);
}

async fn versions_of_the_account_before_are_erased(bed: Bed) {
    let store = store(&bed).await;
    let (before, after) = (writer("kim", 0), writer("kim", 20));
    for (writer, happiness) in [(&before, 1), (&after, 2), (&after, 3)] {
        let mut new = post(writer, DATE, &["sea"], &[]);
        new.content.happiness = happiness;
        store.save(&new, at(21)).await.unwrap();
    }
    let day = PostDate::try_from(DATE).unwrap().day();
    let versions = async || {
        let versions = store
            .history(&after.account, day, PageFrom::Offset(0), 8)
            .await
            .unwrap();
        let versions = versions.expect("the post is there");
        versions.iter().map(|version| version.happiness).collect::<Vec<_>>()
    };
    assert_eq!(versions().await, [2, 1]);
    erase(&bed, store.as_ref(), &before.account, at(10), event(&bed)).await;
    assert_eq!(versions().await, [2]);
}

/// Several would copy the same pictures, each for itself.
async fn pictures_of_a_suspended_author_are_renewed_by_one_replica(bed: Bed) {
    let (one, other) = (store(&bed).await, store(&bed).await);
    for (replica, is_leading) in [(&one, true), (&other, false), (&one, true)] {
        assert_eq!(replica.lease_renewals().await.unwrap(), is_leading);
    }

    let kim = writer("kim", 0);
    let pictures = [ImageId(1), ImageId(2), ImageId(3)];
    one.reserve(&pictures, at(10)).await.unwrap();
    one.save(&post(&kim, DATE, &["sea"], &pictures[..1]), at(0))
        .await
        .unwrap();
    let mut private = post(&kim, DATE + 100_000_000, &["sea"], &pictures[1..2]);
    private.content.visibility = Visibility::Private;
    let without = post(&kim, DATE + 200_000_000, &["sea"], &[]);
    let mut held = post(&kim, DATE + 300_000_000, &["sea"], &pictures[2..]);
    held.review = Some([0; 32]);
    for new in [&private, &without, &held] {
        one.save(new, at(0)).await.unwrap();
    }
    let known = other.known_pictures(&kim.account, None).await.unwrap();
    let days: Vec<Day> = known.iter().map(|post| post.date.day()).collect();
    let expected = [DATE, DATE + 300_000_000].map(|date| PostDate::try_from(date).unwrap().day());
    assert_eq!(days, expected);
    let further = other.known_pictures(&kim.account, Some(expected[1])).await.unwrap();
    assert!(further.is_empty(), "{further:?}");

    // Suspended again while the pictures are renewed.
    one.request_renewal(&kim.account, at(1)).await.unwrap();
    let first = other.renewals().await.unwrap();
    one.request_renewal(&kim.account, at(2)).await.unwrap();
    other.end_renewal(&first[0]).await.unwrap();
    let second = Renewal {
        account: kim.account.clone(),
        requested_at: at(2),
    };
    assert_eq!(other.renewals().await.unwrap(), std::slice::from_ref(&second));
    other.end_renewal(&second).await.unwrap();
    assert_eq!(one.renewals().await.unwrap(), []);
    one.request_renewal(&kim.account, at(3)).await.unwrap();
    erase(&bed, one.as_ref(), &kim.account, at(10), event(&bed)).await;
    assert_eq!(one.renewals().await.unwrap(), []);
}

async fn the_latest_state_is_counted_once_and_erased_with_the_account(bed: Bed) {
    let store = store(&bed).await;
    let kim = writer("kim", 0).account;
    let uncounted = async || {
        let changes = store.uncounted().await.unwrap();
        changes.into_iter().map(|change| change.changed_at).collect::<Vec<_>>()
    };
    store.set_suspended(&kim, true, at(2)).await.unwrap();
    store.set_suspended(&kim, false, at(1)).await.unwrap();
    let change = store.uncounted().await.unwrap().remove(0);
    assert_eq!((&change.account, change.changed_at), (&kim, at(2)));
    store.recount(&change, at(2)).await.unwrap();
    assert_eq!(uncounted().await, []);
    // Of two at the same moment the stricter, however often they are delivered.
    store.set_suspended(&kim, false, at(2)).await.unwrap();
    store.set_suspended(&kim, true, at(2)).await.unwrap();
    assert_eq!(uncounted().await, []);
    store.set_suspended(&kim, false, at(3)).await.unwrap();
    store.set_suspended(&kim, true, at(3)).await.unwrap();
    // Changed again while the one before was counted.
    store.recount(&change, at(4)).await.unwrap();
    assert_eq!(uncounted().await, [at(3)]);

    erase(&bed, store.as_ref(), &kim, at(10), event(&bed)).await;
    store.set_suspended(&kim, true, at(10)).await.unwrap();
    assert_eq!(bed.sql("feed", "DELETE FROM account_state").await, 0);
    store.set_suspended(&kim, true, at(11)).await.unwrap();
    assert_eq!(uncounted().await, [at(11)]);
}

/// Not of another post of that day, nor of one that has other pictures meanwhile.
async fn pictures_are_renewed_of_the_post_that_was_hidden(bed: Bed) {
    let store = store(&bed).await;
    let kim = writer("kim", 0);
    let day = PostDate::try_from(DATE).unwrap().day();
    store.reserve(&[1, 2, 3, 4, 5].map(ImageId), at(10)).await.unwrap();
    let save = async |image: i64| {
        let new = post(&kim, DATE, &["sea"], &[ImageId(image)]);
        store.save(&new, at(0)).await.unwrap();
        store.known_pictures(&kim.account, None).await.unwrap()[0]
    };
    let renew = async |hidden: HiddenPost, old: i64, new: i64| {
        let copied = Copied {
            old: ImageId(old),
            new: ImageId(new),
        };
        store.renew_images(hidden, &[copied], at(1)).await.unwrap()
    };
    let hidden = save(1).await;
    save(2).await;
    assert_eq!(renew(hidden, 1, 3).await, Toggled::Changed);
    assert_eq!(renew(hidden, 2, 3).await, Toggled::Done);
    assert!(store.delete(&kim.account, day, at(1)).await.unwrap());
    save(4).await;
    assert_eq!(renew(hidden, 4, 5).await, Toggled::NoPost);
    let (_, pictures) = store.visibility(&kim.account, day).await.unwrap().unwrap();
    assert_eq!(pictures, [ImageId(4)]);
}

async fn reserved_pictures_are_a_posts_or_garbage(bed: Bed) {
    let store = store(&bed).await;
    let kim = writer("kim", 0);
    let (kept, lost) = ([ImageId(1), ImageId(i64::MAX)], [ImageId(2)]);
    store.reserve(&kept, at(10)).await.unwrap();
    store.reserve(&lost, at(10)).await.unwrap();
    assert!(store.garbage(at(9), 10).await.unwrap().is_empty());
    store.save(&post(&kim, DATE, &["sea"], &kept), at(9)).await.unwrap();

    assert_eq!(store.garbage(at(10), 10).await.unwrap(), lost);
    let late = store
        .save(&post(&kim, DATE + 100_000_000, &["sea"], &lost), at(10))
        .await;
    assert!(matches!(late, Err(WriteError::ImagesGivenUp)), "{late:?}");
    let posts = store.own(&kim.account, month()).await.unwrap();
    assert_eq!(
        posts.iter().map(|post| post.images.clone()).collect::<Vec<_>>(),
        [kept.to_vec()]
    );

    store.postpone(&lost, at(20)).await.unwrap();
    assert!(store.garbage(at(19), 10).await.unwrap().is_empty());
    assert_eq!(store.garbage(at(20), 10).await.unwrap(), lost);
    store.forget(&lost).await.unwrap();
    assert!(store.garbage(at(100), 10).await.unwrap().is_empty());

    let given_up = [ImageId(3)];
    store.reserve(&given_up, at(200)).await.unwrap();
    store.give_up(&given_up, at(100)).await.unwrap();
    assert_eq!(store.garbage(at(100), 10).await.unwrap(), given_up);
}

async fn pictures_of_what_went_are_garbage_once(bed: Bed) {
    let store = store(&bed).await;
    let kim = writer("kim", 0);
    let day = PostDate::try_from(DATE).unwrap().day();
    for (round, image) in [(0, ImageId(7)), (1, ImageId(8))] {
        store.reserve(&[image], at(round + 10)).await.unwrap();
        store
            .save(&post(&kim, DATE, &["sea"], &[image]), at(round))
            .await
            .unwrap();
    }
    assert_eq!(store.garbage(at(1), 10).await.unwrap(), [ImageId(7)]);
    assert!(store.is_discarded(ImageId(7)).await.unwrap() && !store.is_discarded(ImageId(8)).await.unwrap());
    let deleted = join_all((0..4).map(|_| store.delete(&kim.account, day, at(2)))).await;
    assert_eq!(
        deleted.into_iter().filter(|deleted| *deleted.as_ref().unwrap()).count(),
        1
    );
    assert_eq!(store.garbage(at(2), 10).await.unwrap(), [ImageId(7), ImageId(8)]);
}

async fn categories_are_folded_once(bed: Bed) {
    let store = store(&bed).await;
    let best = ["coffee".to_owned(), "sea".to_owned()];
    let lists: [&[&str]; 4] = [
        &["coffee", "books"],
        &["sea", "friends", "coffee"],
        &["books", "sea"],
        &["home"],
    ];
    for number in 0..20 {
        let author = writer(&format!("p{number}"), 0);
        store
            .save(&post(&author, DATE, lists[number % lists.len()], &[]), at(0))
            .await
            .unwrap();
    }
    let before = recommend(&best, store.companions(&best).await.unwrap(), &Phrases::default());
    assert_eq!(before.len(), 5, "{before:?}");

    let folded = join_all((0..4).map(|_| store.fold(4, at(0)))).await;
    let folded: usize = folded.into_iter().map(|folded| folded.unwrap()).sum();
    let mut all = folded;
    loop {
        let Companions { changes, .. } = store.companions(&best).await.unwrap();
        assert_eq!(changes.len(), 15 - all, "every change is open or folded in");
        assert_eq!(
            recommend(&best, store.companions(&best).await.unwrap(), &Phrases::default()),
            before
        );
        match store.fold(4, at(0)).await.unwrap() {
            0 => break,
            more => all += more,
        }
    }
    assert_eq!(all, 15, "a single category goes with nothing");

    let day = PostDate::try_from(DATE).unwrap().day();
    for number in 0..20 {
        assert!(
            store
                .delete(&writer(&format!("p{number}"), 0).account, day, at(1))
                .await
                .unwrap()
        );
    }
    assert!(recommend(&best, store.companions(&best).await.unwrap(), &Phrases::default()).is_empty());
    while store.fold(100, at(0)).await.unwrap() > 0 {}
    let Companions { totals, changes } = store.companions(&best).await.unwrap();
    assert!(totals.is_empty() && changes.is_empty(), "{totals:?} {changes:?}");
}

async fn recommendations_of_a_day_are_those_shown_first(bed: Bed) {
    let store = store(&bed).await;
    let kim = writer("kim", 0);
    let day = |day: i32| Day::try_from(day).unwrap();
    let (today, tomorrow) = (day(20_230_905), day(20_230_906));
    let best = ["sea".to_owned(), "food".to_owned()];
    let keep = async |number: i32| {
        let sentences = [number.to_string()];
        store.keep_recommended(&kim, today, &best, &sentences).await
    };
    let shown = async |day: Day, best: &[String]| store.recommended(&kim.account, day, best).await.unwrap();

    let kept = join_all((0..4).map(&keep)).await;
    let first = shown(today, &best).await.expect("it is kept");
    assert!(kept.iter().all(|each| each.as_ref().unwrap() == &first), "{kept:?}");
    assert_eq!(shown(tomorrow, &best).await, None);
    assert_eq!(shown(today, &best[..1]).await, None, "of other categories");

    store.forget_recommended(today).await.unwrap();
    assert_eq!(shown(today, &best).await, Some(first));
    store.forget_recommended(tomorrow).await.unwrap();
    assert_eq!(shown(today, &best).await, None);

    keep(5).await.unwrap();
    erase(&bed, store.as_ref(), &kim.account, at(10), event(&bed)).await;
    assert_eq!(shown(today, &best).await, None);
    let late = keep(6).await;
    assert!(matches!(late, Err(WriteError::Resigned)), "{late:?}");
}

async fn many_recommendations_are_deleted_in_steps(bed: Bed) {
    let store = store(&bed).await;
    let fill = "INSERT INTO recommendation (day, account, best, sentences, made_at) \
                WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 1000) \
                SELECT 20230901 + d, CONCAT('p', n, '@example.com+kakao'), \
                x'0000000000000000000000000000000000000000000000000000000000000000', '[]', 0 \
                FROM n, (SELECT 0 AS d UNION SELECT 1 UNION SELECT 2) days";
    assert_eq!(bed.sql("feed", fill).await, 3000);
    store
        .forget_recommended(Day::try_from(20_230_903).unwrap())
        .await
        .unwrap();
    assert_eq!(
        bed.sql("feed", "DELETE FROM recommendation WHERE day = 20230903").await,
        1000
    );
    assert_eq!(bed.sql("feed", "DELETE FROM recommendation").await, 0);
}

async fn a_resignation_and_saves_that_cross_leave_nothing(bed: Bed) {
    let store = store(&bed).await;
    let lee = writer("lee", 0);
    store.save(&post(&lee, DATE, &["sea"], &[]), at(0)).await.unwrap();
    let day = PostDate::try_from(DATE).unwrap().day();
    for round in 0..10_u8 {
        let kim = writer(&format!("kim{round}"), 0);
        let crossing = (0..8).map(|number| {
            let (store, kim, lee) = (store.clone(), kim.clone(), lee.clone());
            let bed = &bed;
            async move {
                match number {
                    3 => erase(bed, store.as_ref(), &kim.account, at(10), event(bed)).await,
                    5 => drop(
                        store
                            .toggle(&kim, marked(&lee.account, day), &|_, _| None, at(11))
                            .await,
                    ),
                    other => drop(
                        store
                            .save(&post(&kim, DATE + other * 100_000_000, &["sea", "ott"], &[]), at(11))
                            .await,
                    ),
                }
            }
        });
        join_all(crossing).await;
        assert!(
            store.own(&kim.account, month()).await.unwrap().is_empty(),
            "round {round}"
        );
        let likers: Vec<_> = store.own(&lee.account, month()).await.unwrap().remove(0).likers;
        assert!(likers.is_empty(), "round {round}");
        let late = store.save(&post(&kim, DATE, &["sea"], &[]), at(12)).await;
        assert!(matches!(late, Err(WriteError::Resigned)), "{late:?}");
        let late = store
            .toggle(&kim, marked(&lee.account, day), &|_, _| None, at(12))
            .await;
        assert!(matches!(late, Err(WriteError::Resigned)), "{late:?}");
    }
    while store.fold(100, at(0)).await.unwrap() > 0 {}
    assert!(store.companions(&["sea".to_owned()]).await.unwrap().totals.is_empty());
}

/// Its transaction has found no resignation. `SQLite` has one writer at a time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_erasure_waits_for_a_like_that_is_not_committed() {
    if !EngineSet::real_is_there() {
        return;
    }
    let bed = Bed::new(EngineSet::Real).await;
    let store = store(&bed).await;
    let (kim, lee) = (writer("kim", 0), writer("lee", 0));
    store.save(&post(&lee, DATE, &["sea"], &[]), at(0)).await.unwrap();
    let pool = sqlx::MySqlPool::connect(&bed.mysql_url("feed")).await.unwrap();
    let mut like = pool.begin().await.unwrap();
    sqlx::query("INSERT INTO post_like (post_id, account, liked_at, made_at) SELECT id, ?, 0, 0 FROM post")
        .bind(kim.account.as_str())
        .execute(&mut *like)
        .await
        .unwrap();
    let erasure = erase(&bed, store.as_ref(), &kim.account, at(10), event(&bed));
    let commit = async {
        let waiting = "SELECT COUNT(*) FROM information_schema.processlist \
            WHERE db = DATABASE() AND info LIKE '%post_like%FOR UPDATE' AND id <> CONNECTION_ID()";
        eventually("the erasure waits for the like", async || {
            let waiting: i64 = sqlx::query_scalar(waiting).fetch_one(&pool).await.unwrap();
            (waiting > 0).then_some(())
        })
        .await;
        like.commit().await.unwrap();
    };
    join(erasure, commit).await;
    let likers = store.own(&lee.account, month()).await.unwrap().remove(0).likers;
    assert!(likers.is_empty(), "{likers:?}");
}

/// It has found its writer not suspended, and no recount has found it. `SQLite` has one writer at a time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_like_of_an_account_that_is_suspended_meanwhile_is_not_counted() {
    if !EngineSet::real_is_there() {
        return;
    }
    let bed = Bed::new(EngineSet::Real).await;
    let store = store(&bed).await;
    let (kim, lee) = (writer("kim", 0), writer("lee", 0));
    store.save(&post(&lee, DATE, &["sea"], &[]), at(0)).await.unwrap();
    let pool = sqlx::MySqlPool::connect(&bed.mysql_url("feed")).await.unwrap();
    let id: i64 = sqlx::query_scalar("SELECT id FROM post")
        .fetch_one(&pool)
        .await
        .unwrap();
    let mut same = pool.begin().await.unwrap();
    // The check would lock the post.
    sqlx::query("SET SESSION foreign_key_checks = 0")
        .execute(&mut *same)
        .await
        .unwrap();
    sqlx::query("INSERT INTO post_like (post_id, account, liked_at, made_at) VALUES (?, ?, 0, 0)")
        .bind(id)
        .bind(kim.account.as_str())
        .execute(&mut *same)
        .await
        .unwrap();
    let day = PostDate::try_from(DATE).unwrap().day();
    let like = store.toggle(&kim, marked(&lee.account, day), &|_, _| None, at(1));
    let suspension = async {
        let waiting = "SELECT COUNT(*) FROM information_schema.processlist \
            WHERE db = DATABASE() AND info LIKE 'INSERT INTO post_like%' AND id <> CONNECTION_ID()";
        eventually("the like waits for the same row", async || {
            let waiting: i64 = sqlx::query_scalar(waiting).fetch_one(&pool).await.unwrap();
            (waiting > 0).then_some(())
        })
        .await;
        store.set_suspended(&kim.account, true, at(1)).await.unwrap();
        same.rollback().await.unwrap();
    };
    let (liked, ()) = join(like, suspension).await;
    assert_eq!(liked.unwrap(), Some(true));
    assert_eq!(bed.sql("feed", "DELETE FROM post WHERE likes = 0").await, 1);
}

async fn a_later_token_writes_and_keeps(bed: Bed) {
    let store = store(&bed).await;
    let (before, after) = (writer("kim", 0), writer("kim", 20));
    let lee = writer("lee", 0);
    store.save(&post(&before, DATE, &["sea"], &[]), at(0)).await.unwrap();
    store
        .save(&post(&before, DATE + 100_000_000, &["sea"], &[]), at(0))
        .await
        .unwrap();
    let day = PostDate::try_from(DATE).unwrap().day();
    store
        .toggle(&lee, marked(&before.account, day), &|_, _| None, at(5))
        .await
        .unwrap();
    // Back before the resignation was heard of here: the day's post is written anew.
    store.save(&post(&after, DATE, &["coffee"], &[]), at(21)).await.unwrap();

    let resignation = event(&bed);
    erase(&bed, store.as_ref(), &before.account, at(10), resignation).await;
    erase(&bed, store.as_ref(), &before.account, at(10), resignation).await;
    let posts = store.own(&after.account, month()).await.unwrap();
    assert_eq!(posts.len(), 1);
    assert_eq!((&posts[0].categories[0][..], posts[0].likers.len()), ("coffee", 0));
    store
        .save(&post(&after, DATE + 100_000_000, &["sea"], &[]), at(22))
        .await
        .unwrap();

    // An older resignation that comes late changes nothing of the later one's record.
    erase(&bed, store.as_ref(), &before.account, at(3), event(&bed)).await;
    assert!(matches!(
        store.save(&post(&writer("kim", 10), DATE, &["sea"], &[]), at(23)).await,
        Err(WriteError::Resigned)
    ));
    store.forget_erasures(at(11)).await.unwrap();
    store
        .save(&post(&writer("kim", 10), DATE, &["sea"], &[]), at(24))
        .await
        .unwrap();
}

async fn a_large_resignation_is_erased_in_steps(bed: Bed) {
    let store = store(&bed).await;
    let (kim, lee) = (writer("kim", 0), writer("lee", 0));
    let days: Vec<i64> = (0..460)
        .map(|day| {
            2_023_010_113_248_392
                + (day / 28 % 12) * 10_000_000_000
                + day % 28 * 100_000_000
                + day / 336 * 1_000_000_000_000
        })
        .collect();
    for date in &days {
        store
            .save(&post(&kim, *date, &["sea", "coffee"], &[]), at(0))
            .await
            .unwrap();
        store
            .save(&post(&lee, *date, &["sea", "coffee"], &[]), at(0))
            .await
            .unwrap();
        let day = PostDate::try_from(*date).unwrap().day();
        store
            .toggle(&kim, marked(&lee.account, day), &|_, _| None, at(1))
            .await
            .unwrap();
    }
    erase(&bed, store.as_ref(), &kim.account, at(10), event(&bed)).await;
    for date in &days {
        let day = PostDate::try_from(*date).unwrap().day();
        assert!(!store.delete(&kim.account, day, at(11)).await.unwrap(), "{date}");
        let month = MonthOf::try_from(*date).unwrap();
        let MonthOf(month) = month;
        let posts = store.own(&lee.account, month.into()).await.unwrap();
        assert!(!posts.is_empty() && posts.iter().all(|post| post.likers.is_empty()));
    }
}

/// A removal may be folded before its addition: a total is negative for a while, and is kept then.
async fn totals_come_out_whatever_is_folded_first(bed: Bed) {
    let store = store(&bed).await;
    let day = PostDate::try_from(DATE).unwrap().day();
    let best = ["sea".to_owned()];
    for number in 0..30 {
        let author = writer(&format!("p{number}"), 0);
        store
            .save(&post(&author, DATE, &["sea", "coffee"], &[]), at(0))
            .await
            .unwrap();
        if number % 2 == 0 {
            assert!(store.delete(&author.account, day, at(1)).await.unwrap());
        }
    }
    join_all((0..8).map(|_| async { while store.fold(3, at(0)).await.unwrap() > 0 {} })).await;
    let Companions { totals, changes } = store.companions(&best).await.unwrap();
    assert!(changes.is_empty());
    assert_eq!(totals, [(("sea".to_owned(), "coffee".to_owned()), 15 * 3)]);
}

/// `cases.md` F6.
async fn many_pairs_are_folded_by_as_many_statements_as_one(bed: Bed) {
    let store = store(&bed).await;
    let day = PostDate::try_from(DATE).unwrap().day();
    let many: Vec<String> = (0..12).map(|number| format!("c{number}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let authors = [writer("kim", 0), writer("lee", 0), writer("park", 0)];
    // The first fold takes the lease.
    store.save(&post(&authors[0], DATE, &many, &[]), at(0)).await.unwrap();
    store.delete(&authors[0].account, day, at(0)).await.unwrap();
    assert_eq!(store.fold(100, at(0)).await.unwrap(), 2);
    for categories in [&many[..2], &many[..]] {
        for author in &authors {
            store.save(&post(author, DATE, categories, &[]), at(0)).await.unwrap();
        }
        let (came, folded) = cost_of("came", &bed, store.fold(100, at(0))).await;
        assert_eq!(folded.unwrap(), authors.len());
        for author in &authors {
            assert!(store.delete(&author.account, day, at(1)).await.unwrap());
        }
        let (went, folded) = cost_of("went", &bed, store.fold(100, at(1))).await;
        assert_eq!(folded.unwrap(), authors.len());
        // The lease, the totals, those of which nothing is left, the changes.
        let expected = Cost { reads: 2, writes: 4 };
        assert_eq!((came, went), (expected, expected), "{categories:?}");
    }
    assert_eq!(bed.sql("feed", "DELETE FROM category_pair").await, 0);
}

async fn a_change_that_cannot_be_read_is_put_aside(bed: Bed) {
    let store = store(&bed).await;
    let best = ["sea".to_owned()];
    for (number, categories) in [(0, "sea"), (1, "broken"), (2, "sea")] {
        let author = writer(&format!("p{number}"), 0);
        store
            .save(&post(&author, DATE, &[categories, "coffee"], &[]), at(0))
            .await
            .unwrap();
    }
    let url = bed
        .settings::<Settings>("feed", DEFAULTS, &[])
        .await
        .get()
        .database
        .url
        .expose()
        .to_owned();
    let corrupt = "UPDATE category_change SET categories = '[\"broken' WHERE categories LIKE '%broken%'";
    let kept = "SELECT COUNT(*) FROM category_change_quarantine WHERE reason <> '' AND quarantined_at > 0";
    let open = "SELECT COUNT(*) FROM category_change";
    let counts: (i64, i64);
    if url.starts_with("sqlite:") {
        let pool = sqlx::SqlitePool::connect(&url).await.unwrap();
        sqlx::query(corrupt).execute(&pool).await.unwrap();
        assert_eq!(store.companions(&best).await.unwrap().changes.len(), 2);
        while store.fold(2, at(5)).await.unwrap() > 0 {}
        counts = (
            sqlx::query_scalar(kept).fetch_one(&pool).await.unwrap(),
            sqlx::query_scalar(open).fetch_one(&pool).await.unwrap(),
        );
    } else {
        let pool = sqlx::MySqlPool::connect(&url).await.unwrap();
        sqlx::query(corrupt).execute(&pool).await.unwrap();
        assert_eq!(store.companions(&best).await.unwrap().changes.len(), 2);
        while store.fold(2, at(5)).await.unwrap() > 0 {}
        counts = (
            sqlx::query_scalar(kept).fetch_one(&pool).await.unwrap(),
            sqlx::query_scalar(open).fetch_one(&pool).await.unwrap(),
        );
    }
    assert_eq!(counts, (1, 0), "one in quarantine, none left open");
    let Companions { totals, changes } = store.companions(&best).await.unwrap();
    assert!(changes.is_empty());
    assert_eq!(totals, [(("sea".to_owned(), "coffee".to_owned()), 6)]);
}

pub(super) fn event(bed: &Bed) -> EventId {
    EventId(bed.context.entropy.uuid())
}

pub(super) async fn erase(bed: &Bed, store: &dyn Store, account: &Account, until: Timestamp, event: EventId) {
    let receipt = AccountErased {
        account: account.clone(),
        service: SERVICE.to_owned(),
        resignation: event,
    };
    let record = Envelope::new(receipt, &bed.context).to_outgoing();
    let erased = tokio::time::timeout(PATIENCE, store.erase(account, until, &record, until)).await;
    erased.expect("an erasure ends").expect("an erasure succeeds");
}

/// A thousand posts of fifty people, nine of ten public.
pub(super) async fn fill_with_posts(bed: &Bed) {
    let day = "(20200101 + n % 28 + 100 * ((n - n % 28) / 28 % 12) + 10000 * ((n - n % 336) / 336))";
    let fill = format!(
        "INSERT INTO post (account, day, date, weather, happiness, text, is_public, categories, images, made_at, likes, comments) \
         WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 1000) \
         SELECT CONCAT('p', n % 50, '@example.com+kakao'), {day}, {day} * 100000000, 'sunny', n % 5, 'as long as most', \
         n % 10 > 0, '[\"sea\"]', '[]', 0, n % 3, n % 4 FROM n"
    );
    bed.sql("feed", fill.leak()).await;
    bed.sql(
        "feed",
        if bed.kafka().is_none() {
            "ANALYZE"
        } else {
            "ANALYZE TABLE post"
        },
    )
    .await;
}

/// A deep page costs what the first one costs: no step of its plan sorts posts or reads all of them.
async fn pages_are_read_off_an_index(bed: Bed) {
    let store = store(&bed).await;
    fill_with_posts(&bed).await;
    let viewer = writer("viewer", 0).account;
    let one = writer("p7", 0).account;
    let deep = Cursor {
        rank: 1,
        date: 2_020_050_100_000_000,
        id: 300,
    };
    let pages = [PageFrom::Offset(0), PageFrom::After(deep)];
    let day = Some(Day::try_from(20_200_223).unwrap());
    for (by, day, sort, index) in [
        (By::Others, None, Sort::Newest, "post_public"),
        (By::Others, None, Sort::Likes, "post_public_likes"),
        (By::Others, None, Sort::Comments, "post_public_comments"),
        (By::Others, None, Sort::Happiness, "post_public_happiness"),
        (By::One(&one), None, Sort::Newest, "post_account_friend"),
        // By either index of the author: few posts, which are sorted.
        (By::One(&one), None, Sort::Likes, "post_account_"),
        // Those of a day are few, too.
        (By::Others, day, Sort::Newest, "post_public"),
        (By::Others, day, Sort::Likes, "post_public"),
    ] {
        for from in pages {
            let shown = Shown {
                viewer: &viewer,
                today: Day::try_from(20_260_101).unwrap(),
                by,
                day,
                sort,
            };
            assert!(
                day.is_some() || !store.public(&shown, from, 8).await.unwrap().is_empty(),
                "{sort:?} {from:?}"
            );
            let plan = store.public_plan(&shown, from, 8).await;
            let told = format!("{sort:?} {by:?} {day:?} {from:?}: {plan:#?}");
            let reads: Vec<_> = plan.iter().filter(|step| is_read_of_posts(step)).collect();
            assert!(!reads.is_empty(), "{told}");
            for step in &reads {
                let by_index = is_read_by(step, index);
                let by_id = step.contains("PRIMARY") || step.contains("INTEGER PRIMARY KEY");
                assert!(by_index || by_id, "{told}");
                let sorts = step.contains("filesort") || step.contains("temporary");
                assert!(!sorts || matches!(by, By::One(_)) || day.is_some(), "{told}");
                assert!(!step.contains("index_merge") && !step.contains(" ALL "), "{told}");
            }
            assert!(reads.iter().any(|step| is_read_by(step, index)), "{told}");
        }
    }
}

/// As [`pages_are_read_off_an_index`], for each friend.
async fn posts_of_friends_are_read_off_an_index(bed: Bed) {
    let store = store(&bed).await;
    fill_with_posts(&bed).await;
    let friends: Vec<Account> = (1..=3).map(|number| writer(&format!("p{number}"), 0).account).collect();
    let deep = Cursor {
        rank: 0,
        date: 2_020_050_100_000_000,
        id: 300,
    };
    for from in [PageFrom::Offset(0), PageFrom::After(deep)] {
        let plan = store.friends_plan(&friends, from, 8).await;
        let reads: Vec<_> = plan.iter().filter(|step| is_read_of_posts(step)).collect();
        assert_eq!(reads.len(), friends.len(), "{plan:#?}");
        for step in reads {
            assert!(is_read_by(step, "post_account_friend"), "{plan:#?}");
            assert!(!step.contains("filesort") && !step.contains(" ALL "), "{plan:#?}");
        }
        assert!(!plan.iter().any(|step| step.contains("TEMP B-TREE")), "{plan:#?}");
    }
}

/// As [`pages_are_read_off_an_index`]: no step reads all comments of a post, or all bookmarks of a person, to find a page.
async fn comments_and_bookmarks_are_read_off_an_index(bed: Bed) {
    let store = store(&bed).await;
    fill_with_posts(&bed).await;
    let numbers = "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 1000) SELECT";
    let comments = format!(
        "INSERT INTO post_comment (post_id, account, text, written_at, made_at) {numbers} 1 + n % 5, 'p1@example.com+kakao', 'text', n, 0 FROM n"
    );
    let bookmarks = format!(
        "INSERT INTO post_bookmark (post_id, account, saved_at, made_at) {numbers} n, CONCAT('p', n % 3, '@example.com+kakao'), n, 0 FROM n"
    );
    bed.sql("feed", comments.leak()).await;
    bed.sql("feed", bookmarks.leak()).await;
    let analyze = ["ANALYZE", "ANALYZE TABLE post_comment, post_bookmark"][usize::from(bed.kafka().is_some())];
    bed.sql("feed", analyze).await;
    let (viewer, today) = (writer("p1", 0).account, Day::try_from(20_260_101).unwrap());
    let deep = Cursor {
        rank: 0,
        date: 500,
        id: 500,
    };
    for from in [PageFrom::Offset(0), PageFrom::After(deep)] {
        for (table, index, plan) in [
            ("c", "post_comment_post_id", store.comments_plan(&viewer, 3, from).await),
            (
                "m",
                "post_bookmark_account",
                store.bookmarks_plan(&viewer, today, from).await,
            ),
        ] {
            let begins = [format!("{table} "), format!("SEARCH {table} "), format!("SCAN {table}")];
            let reads: Vec<_> = plan
                .iter()
                .filter(|step| begins.iter().any(|begin| step.starts_with(begin)))
                .collect();
            assert_eq!(reads.len(), 1, "{plan:#?}");
            assert!(is_read_by(reads[0], index), "{plan:#?}");
            assert!(
                !plan
                    .iter()
                    .any(|step| step.contains("filesort") || step.contains("TEMP B-TREE")),
                "{plan:#?}"
            );
        }
    }
}

/// The lists of one author, and those of moderators: no step reads all rows of a table, and only the likers of few posts are sorted.
async fn own_and_held_lists_are_read_off_an_index(bed: Bed) {
    let store = store(&bed).await;
    fill_with_posts(&bed).await;
    let numbers = "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 1000) SELECT";
    for fill in [
        format!(
            "INSERT INTO post_like (post_id, account, liked_at, made_at) {numbers} n, 'p1@example.com+kakao', n, 0 FROM n"
        ),
        format!(
            "INSERT INTO post_comment (post_id, account, text, written_at, made_at) {numbers} n, 'p1@example.com+kakao', 'text', n, 0 FROM n"
        ),
        format!(
            "INSERT INTO post_version (post_id, account, date, weather, happiness, text, is_public, categories, made_at, replaced_at) \
             {numbers} 1 + n % 50, 'p1@example.com+kakao', 2020010100000000, 'sunny', 1, 'text', 1, '[]', 0, n FROM n"
        ),
        format!(
            "INSERT INTO post_draft (account, day, draft, saved_at, made_at) \
             {numbers} CONCAT('p', n % 50, '@example.com+kakao'), 20200101 + n, '{{}}', n, 0 FROM n"
        ),
        format!(
            "INSERT INTO post_review (post_id, held, version, waiting_since) {numbers} n, 1, x'00', CASE WHEN n % 2 = 0 THEN n END FROM n"
        ),
        "INSERT INTO comment_review (comment_id, held, waiting_since) \
         SELECT id, 1, CASE WHEN id % 2 = 0 THEN id END FROM post_comment"
            .to_owned(),
    ] {
        bed.sql("feed", fill.leak()).await;
    }
    let analyze = [
        "ANALYZE",
        "ANALYZE TABLE post_like, post_comment, post_version, post_draft, post_review, comment_review",
    ];
    bed.sql("feed", analyze[usize::from(bed.kafka().is_some())]).await;
    let author = writer("p7", 0).account;
    let month = Days {
        first: Day::try_from(20_200_301).unwrap(),
        last: Day::try_from(20_200_331).unwrap(),
    };
    // A day with a draft of the author: without one MariaDB plans no read.
    let drafted = Day::try_from(20_200_308).unwrap();
    let deep = Cursor {
        rank: 0,
        date: 500,
        id: 500,
    };
    for from in [PageFrom::Offset(0), PageFrom::After(deep)] {
        for (list, table, index) in [
            (List::Own(&author, month), "post", "post_account_day"),
            (List::Likers(&author, month), "p", "post_account_day"),
            (List::Happiness(&author, month), "post", "post_account_day"),
            (List::Reviewed(&author, month), "post", "post_account_day"),
            (List::Exported(&author), "post", "post_account_day"),
            (List::Versions(3), "post_version", "post_version_post_id"),
            (List::Drafts(&author, None), "post_draft", "PRIMARY"),
            (List::Drafts(&author, Some(drafted)), "post_draft", "PRIMARY"),
            (List::HeldPosts, "r", "post_review_waiting_since"),
            (List::HeldComments, "r", "comment_review_waiting_since"),
        ] {
            // One day is one row: MariaDB plans no read for what comes after it.
            if matches!((&list, from), (List::Drafts(_, Some(_)), PageFrom::After(_))) {
                continue;
            }
            let plan = store.list_plan(list, from).await;
            let told = format!("{list:?} {from:?}: {plan:#?}");
            let begins = [format!("{table} "), format!("SEARCH {table} ")];
            let reads: Vec<_> = plan
                .iter()
                .filter(|step| begins.iter().any(|begin| step.starts_with(begin)))
                .collect();
            assert_eq!(reads.len(), 1, "{told}");
            assert!(is_read_by(reads[0], index), "{told}");
            assert!(!reads[0].contains(" ALL "), "{told}");
            let sorts = ["filesort", "TEMP B-TREE", "temporary"];
            let is_sorted = plan.iter().any(|step| sorts.iter().any(|sort| step.contains(sort)));
            assert!(!is_sorted || matches!(list, List::Likers(..)), "{told}");
        }
    }
}

/// Whether a step of a plan reads the table `post`, which the queries call `p`.
fn is_read_of_posts(step: &str) -> bool {
    step.starts_with("p ") || step.starts_with("SEARCH p ") || step.starts_with("SCAN p ") || step == "SCAN p"
}

/// Whether a step reads this index, or one of those whose names begin so where it ends in `_`.
pub(super) fn is_read_by(step: &str, index: &str) -> bool {
    step.split_whitespace()
        .any(|word| word == index || (index.ends_with('_') && word.starts_with(index)))
}
