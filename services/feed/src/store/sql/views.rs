//! The post view: counts of each post and the marks of each account, kept by the events of the topic `post`.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::slice::from_ref;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};
use sosohappy_common::Account;
use sosohappy_events::types::{PostChange, PostChanged};
use sosohappy_store::{PRIMARY, StoreError, retrying};
use sqlx::Row as _;

use super::{BATCH, Query, Row, SqlStore, account, date, engine, post_events, public};
use crate::domain::view::PostView;
use crate::domain::{Cursor, Day, PageFrom, Visibility};
use crate::store::{PostViews, ViewsOf};

const LIKE: &str = "like";
const BOOKMARK: &str = "bookmark";

/// Posts that one step of a build reads, with all their likes and bookmarks.
const STEP: i64 = 100;

const BUILDING: &str = "post-view-build";
const BUILDING_FOR: Duration = Duration::from_secs(30);

/// Accounts stand in the view as digests: tombstones, which outlive an erasure, hold no address.
fn digest(account: &Account) -> Vec<u8> {
    Sha256::digest(account.as_str()).to_vec()
}

#[async_trait]
impl PostViews for SqlStore {
    async fn apply_to_view(&self, events: &[PostChanged], now: Timestamp) -> Result<(), StoreError> {
        retrying(async || {
            let mut tx = self.database.begin().await?;
            let mut known = locked(&mut tx, events).await?;
            let first = first_states(events, &mut known);
            if !first.is_empty() {
                insert(&mut tx, &first, Origin::Event).await?;
            }
            for event in events {
                apply(&mut tx, &mut known, event, now).await?;
            }
            Ok(tx.commit().await?)
        })
        .await
    }

    async fn is_view_built(&self) -> Result<bool, StoreError> {
        let built: Option<i64> = sqlx::query_scalar("SELECT built_at FROM post_view_build WHERE built_at IS NOT NULL")
            .fetch_optional(self.database.reader())
            .await?;
        Ok(built.is_some())
    }

    async fn build_view(&self, now: Timestamp) -> Result<(), StoreError> {
        while !self.is_view_built().await? {
            // One replica builds it. Another goes on from the last step when the lease of a dead one has expired.
            if !self
                .database
                .lease(BUILDING, &self.context.instance, BUILDING_FOR)
                .await?
            {
                return Ok(());
            }
            let until: i64 = sqlx::query_scalar("SELECT built_until FROM post_view_build WHERE id = 1")
                .fetch_one(self.database.reader())
                .await?;
            let (next, _) = self.rebuild_view_after(until, now).await?;
            let mut tx = self.database.begin().await?;
            match next {
                Some(next) => sqlx::query("UPDATE post_view_build SET built_until = ? WHERE id = 1").bind(next),
                None => sqlx::query("UPDATE post_view_build SET built_at = ? WHERE id = 1").bind(now.as_millisecond()),
            }
            .execute(&mut *tx)
            .await?;
            tx.commit().await?;
        }
        Ok(())
    }

    async fn rebuild_view_after(&self, after: i64, now: Timestamp) -> Result<(Option<i64>, u64), StoreError> {
        retrying(async || {
            let mut tx = self.database.begin().await?;
            // Deleted posts have a row in the view only.
            let ids: Vec<i64> = sqlx::query_scalar(
                "SELECT id FROM (SELECT id FROM (SELECT id FROM post WHERE id > ? ORDER BY id LIMIT ?) posts \
                 UNION SELECT id FROM (SELECT post_id AS id FROM post_view WHERE post_id > ? ORDER BY post_id LIMIT ?) views) ids \
                 ORDER BY id LIMIT ?",
            )
            .bind(after)
            .bind(STEP)
            .bind(after)
            .bind(STEP)
            .bind(STEP)
            .fetch_all(&mut *tx)
            .await?;
            let Some(last) = ids.last().copied() else {
                tx.rollback().await?;
                return Ok((None, 0));
            };
            let posts = rebuild(&mut tx, &ids, now).await?;
            tx.commit().await?;
            Ok((Some(last), posts))
        })
        .await
    }

    async fn post_views(
        &self,
        viewer: &Account,
        of: ViewsOf<'_>,
        today: Day,
        from: PageFrom,
        rows: i64,
    ) -> Result<Vec<PostView>, StoreError> {
        let mut query = Query::new("");
        push_page(&mut query, viewer, of, today, from, rows);
        let rows = query.build().fetch_all(self.database.reader()).await?;
        rows.iter().map(view).collect()
    }

    async fn sweep_view(&self, before: Timestamp) -> Result<(), StoreError> {
        for statement in [
            "DELETE FROM post_view_mark WHERE ended_at < ?",
            "DELETE FROM post_view WHERE deleted_at < ?",
        ] {
            retrying(async || {
                let mut tx = self.database.begin().await?;
                let delete = sqlx::query(statement).bind(before.as_millisecond());
                delete.execute(&mut *tx).await?;
                Ok::<_, StoreError>(tx.commit().await?)
            })
            .await?;
        }
        Ok(())
    }

    #[cfg(test)]
    async fn views_plan(&self, viewer: &Account, of: ViewsOf<'_>, today: Day, from: PageFrom) -> Vec<String> {
        let mut query = Query::new(super::super::EXPLAIN);
        push_page(&mut query, viewer, of, today, from, 8);
        super::plan(self.database.reader(), &mut query).await
    }
}

/// One person's views behind the cursor, newest first, as far as the viewer sees the posts.
fn push_page(query: &mut Query, viewer: &Account, of: ViewsOf<'_>, today: Day, from: PageFrom, rows: i64) {
    query.push(
        "SELECT v.post_id, v.date, v.is_public, v.is_for_friends, v.is_hidden, v.likes, v.bookmarks, v.comments, ",
    );
    push_mark(query, viewer, LIKE);
    query.push(" AS is_liked, ");
    push_mark(query, viewer, BOOKMARK);
    query.push(" AS is_bookmarked FROM post_view v WHERE v.author = ");
    query.push_bind(digest(of.author)).push(" AND v.deleted_at IS NULL");
    if viewer != of.author {
        let (_, latest) = today.dates();
        query.push(" AND v.date <= ").push_bind(latest);
        query.push(" AND v.is_hidden = 0 AND (v.is_public = 1 OR (v.is_for_friends = 1");
        public::push_friends(query, viewer, of.author);
        query.push("))");
        public::push_no_block_between(query, viewer, of.author);
    }
    let (first, last) = of.days.dates();
    let cursor = match from {
        PageFrom::After(cursor) => cursor,
        PageFrom::Offset(_) => Cursor::NEWEST,
    };
    query.push(" AND v.date >= ").push_bind(first);
    query.push(" AND v.date <= ").push_bind(last.min(cursor.date));
    query.push(" AND (v.date < ").push_bind(cursor.date);
    query.push(" OR v.post_id < ").push_bind(cursor.id);
    query
        .push(") ORDER BY v.date DESC, v.post_id DESC LIMIT ")
        .push_bind(rows);
}

fn push_mark(query: &mut Query, viewer: &Account, kind: &'static str) {
    query
        .push("EXISTS (SELECT 1 FROM post_view_mark m WHERE m.ended_at IS NULL AND m.post_id = v.post_id AND m.account = ")
        .push_bind(digest(viewer))
        .push(" AND m.kind = ")
        .push_bind(kind)
        .push(")");
}

fn view(row: &Row) -> Result<PostView, StoreError> {
    let flag = |column: &str| -> Result<bool, StoreError> { Ok(row.try_get(column)?) };
    let exists = |column: &str| -> Result<bool, StoreError> { Ok(row.try_get::<i64, _>(column)? != 0) };
    Ok(PostView {
        id: row.try_get("post_id")?,
        date: date(row)?,
        visibility: match (flag("is_public")?, flag("is_for_friends")?) {
            (true, _) => Visibility::Public,
            (false, true) => Visibility::Friends,
            (false, false) => Visibility::Private,
        },
        is_hidden: flag("is_hidden")?,
        likes: row.try_get("likes")?,
        bookmarks: row.try_get("bookmarks")?,
        comments: row.try_get("comments")?,
        is_liked: exists("is_liked")?,
        is_bookmarked: exists("is_bookmarked")?,
    })
}

/// The row of a post.
#[derive(Default)]
struct Known {
    revision: i64,
    base_revision: i64,
    is_deleted: bool,
}

impl Known {
    /// Events of the release before have no revision: they count as they arrive.
    fn is_older_than(&self, event: &PostChanged) -> bool {
        event.revision == 0 || event.revision > self.revision
    }
}

/// Locks the rows of the posts of events, in the order of their ids.
async fn locked(tx: &mut engine::Tx, events: &[PostChanged]) -> Result<HashMap<i64, Known>, StoreError> {
    let posts: BTreeSet<i64> = events.iter().map(|event| event.post).collect();
    let posts: Vec<i64> = posts.into_iter().collect();
    let mut query = Query::new("SELECT post_id, revision, base_revision, deleted_at FROM post_view WHERE post_id IN ");
    post_events::push_ids(&mut query, &posts);
    query.push(" ORDER BY post_id").push(engine::FOR_UPDATE);
    let rows = query.build().fetch_all(&mut **tx).await?;
    rows.iter()
        .map(|row| {
            let known = Known {
                revision: row.try_get("revision")?,
                base_revision: row.try_get("base_revision")?,
                is_deleted: row.try_get::<Option<i64>, _>("deleted_at")?.is_some(),
            };
            Ok((row.try_get("post_id")?, known))
        })
        .collect()
}

/// Returns the first event of each post that has no row, but for deletions. Their rows count as known.
fn first_states(events: &[PostChanged], known: &mut HashMap<i64, Known>) -> Vec<PostChanged> {
    let mut first = Vec::new();
    for event in events.iter().filter(|event| event.change != PostChange::Deleted) {
        if let Entry::Vacant(unknown) = known.entry(event.post) {
            unknown.insert(Known {
                revision: event.revision,
                ..Known::default()
            });
            first.push(event.clone());
        }
    }
    first
}

/// Applies an event to the row of its post, which is locked, or has the state of the post's first event.
async fn apply(
    tx: &mut engine::Tx,
    known: &mut HashMap<i64, Known>,
    event: &PostChanged,
    now: Timestamp,
) -> Result<(), StoreError> {
    let row = known.get(&event.post);
    // Ids of posts are not used again: a deleted post stays deleted.
    if row.is_some_and(|row| row.is_deleted) {
        return Ok(());
    }
    let is_deletion = event.change == PostChange::Deleted;
    if is_deletion {
        make_tombstones(tx, &[event.post], now).await?;
        if row.is_none() {
            insert(tx, from_ref(event), Origin::Deletion(now)).await?;
        }
    } else {
        if row.is_some_and(|row| row.is_older_than(event)) {
            update(tx, event).await?;
        }
        let is_in_base = row.is_some_and(|row| (1..=row.base_revision).contains(&event.revision));
        if let Some(mark) = Mark::of(event)
            && !is_in_base
        {
            mark.write(tx, event, now).await?;
        }
    }
    let row = known.entry(event.post).or_default();
    row.revision = row.revision.max(event.revision);
    row.is_deleted = is_deletion;
    Ok(())
}

/// Origin of a row.
#[derive(Debug, Clone, Copy)]
enum Origin {
    Event,
    /// The deletion of a post that the view did not have.
    Deletion(Timestamp),
    /// The post itself: marks of events up to its revision are in the view.
    Post,
}

async fn insert(tx: &mut engine::Tx, states: &[PostChanged], origin: Origin) -> Result<(), StoreError> {
    let mut query = Query::new(
        "INSERT INTO post_view (post_id, author, date, is_public, is_for_friends, is_hidden, likes, bookmarks, comments, revision, base_revision, deleted_at) ",
    );
    query.push_values(states, |mut row, state| {
        row.push_bind(state.post)
            .push_bind(digest(&state.author))
            .push_bind(state.date)
            .push_bind(state.is_public)
            .push_bind(state.is_for_friends)
            .push_bind(state.is_hidden)
            .push_bind(state.likes)
            .push_bind(state.bookmarks)
            .push_bind(state.comments)
            .push_bind(state.revision)
            .push_bind(if matches!(origin, Origin::Post) {
                state.revision
            } else {
                0
            })
            .push_bind(match origin {
                Origin::Deletion(at) => Some(at.as_millisecond()),
                Origin::Event | Origin::Post => None,
            });
    });
    let inserted = query.build().execute(&mut **tx).await;
    // Another replica was quicker: the next try finds its row.
    inserted.map_err(|error| StoreError::from(error).retry_if_taken(&[PRIMARY]))?;
    Ok(())
}

async fn update(tx: &mut engine::Tx, event: &PostChanged) -> Result<(), StoreError> {
    let mut query = Query::new("UPDATE post_view SET author = ");
    query.push_bind(digest(&event.author));
    query.push(", date = ").push_bind(event.date);
    query.push(", is_public = ").push_bind(event.is_public);
    query.push(", is_for_friends = ").push_bind(event.is_for_friends);
    query.push(", likes = ").push_bind(event.likes);
    query.push(", comments = ").push_bind(event.comments);
    // An event of the release before does not say these.
    if event.revision > 0 {
        query.push(", is_hidden = ").push_bind(event.is_hidden);
        query.push(", bookmarks = ").push_bind(event.bookmarks);
        query.push(", revision = ").push_bind(event.revision);
    } else if matches!(event.change, PostChange::Hidden | PostChange::Restored) {
        query
            .push(", is_hidden = ")
            .push_bind(event.change == PostChange::Hidden);
    }
    query.push(" WHERE post_id = ").push_bind(event.post);
    query.build().execute(&mut **tx).await?;
    Ok(())
}

/// Turns rows into tombstones, and deletes the marks of their posts.
async fn make_tombstones(tx: &mut engine::Tx, posts: &[i64], now: Timestamp) -> Result<(), StoreError> {
    let mut query = Query::new("UPDATE post_view SET deleted_at = ");
    query
        .push_bind(now.as_millisecond())
        .push(" WHERE deleted_at IS NULL AND post_id IN ");
    post_events::push_ids(&mut query, posts);
    query.build().execute(&mut **tx).await?;
    let mut query = Query::new("DELETE FROM post_view_mark WHERE post_id IN ");
    post_events::push_ids(&mut query, posts);
    query.build().execute(&mut **tx).await?;
    Ok(())
}

/// A like or bookmark that an event tells of.
struct Mark<'a> {
    account: &'a Account,
    kind: &'static str,
    is_set: bool,
}

impl<'a> Mark<'a> {
    fn of(event: &'a PostChanged) -> Option<Self> {
        let (kind, is_set) = match event.change {
            PostChange::Liked => (LIKE, true),
            PostChange::Unliked => (LIKE, false),
            PostChange::Bookmarked => (BOOKMARK, true),
            PostChange::Unbookmarked => (BOOKMARK, false),
            PostChange::Saved
            | PostChange::Changed
            | PostChange::Deleted
            | PostChange::Commented
            | PostChange::CommentChanged
            | PostChange::CommentDeleted
            | PostChange::Hidden
            | PostChange::Restored
            | PostChange::Unknown => return None,
        };
        let account = event.actor.as_ref()?;
        Some(Self { account, kind, is_set })
    }

    /// The row of the view is locked.
    async fn write(&self, tx: &mut engine::Tx, event: &PostChanged, now: Timestamp) -> Result<(), StoreError> {
        let account = digest(self.account);
        let ended_at = (!self.is_set).then(|| now.as_millisecond());
        let known: Option<i64> =
            sqlx::query_scalar("SELECT revision FROM post_view_mark WHERE post_id = ? AND account = ? AND kind = ?")
                .bind(event.post)
                .bind(&account)
                .bind(self.kind)
                .fetch_optional(&mut **tx)
                .await?;
        match known {
            None => sqlx::query(
                "INSERT INTO post_view_mark (revision, ended_at, post_id, account, kind) VALUES (?, ?, ?, ?, ?)",
            )
            .bind(event.revision),
            Some(known) if event.revision == 0 || event.revision > known => sqlx::query(
                "UPDATE post_view_mark SET revision = ?, ended_at = ? WHERE post_id = ? AND account = ? AND kind = ?",
            )
            .bind(event.revision.max(known)),
            Some(_) => return Ok(()),
        }
        .bind(ended_at)
        .bind(event.post)
        .bind(&account)
        .bind(self.kind)
        .execute(&mut **tx)
        .await?;
        Ok(())
    }
}

/// Builds the rows of these posts from the posts themselves, whatever the view has; returns how many are there. Events that are still on their
/// way are older than the rows.
pub(super) async fn rebuild(tx: &mut engine::Tx, ids: &[i64], now: Timestamp) -> Result<u64, StoreError> {
    // Locks the posts: nothing of them changes before this is committed.
    let states = post_events::advance(tx, ids).await?;
    // Tombstones of the others stay, or are made.
    make_tombstones(tx, ids, now).await?;
    if states.is_empty() {
        return Ok(0);
    }
    let present: Vec<i64> = states.iter().map(|state| state.post).collect();
    let mut query = Query::new("DELETE FROM post_view WHERE post_id IN ");
    post_events::push_ids(&mut query, &present);
    query.build().execute(&mut **tx).await?;
    insert(tx, &states, Origin::Post).await?;
    for (table, kind) in [("post_like", LIKE), ("post_bookmark", BOOKMARK)] {
        let mut query = Query::new("SELECT post_id, account FROM ");
        query.push(table).push(" WHERE post_id IN ");
        post_events::push_ids(&mut query, &present);
        let marks = query.build().fetch_all(&mut **tx).await?;
        let marks: Vec<(i64, Vec<u8>)> = marks
            .iter()
            .map(|row| Ok((row.try_get("post_id")?, digest(&account(row, "account")?))))
            .collect::<Result<_, StoreError>>()?;
        let revision_of = |post: i64| {
            let found = states.binary_search_by_key(&post, |state| state.post);
            found.map_or(0, |at| states[at].revision)
        };
        for batch in marks.chunks(BATCH) {
            let mut query = Query::new("INSERT INTO post_view_mark (post_id, account, kind, revision) ");
            query.push_values(batch, |mut row, (post, account)| {
                row.push_bind(*post)
                    .push_bind(account.clone())
                    .push_bind(kind)
                    .push_bind(revision_of(*post));
            });
            query.build().execute(&mut **tx).await?;
        }
    }
    Ok(states.len() as u64)
}
