//! Posts as others see them.

use jiff::Timestamp;
use sosohappy_common::Account;
use sosohappy_store::StoreError;
use sqlx::Row as _;

use super::{Query, Row, account, date, engine, read_list};
use crate::domain::{Cursor, PageFrom, SeenPost, Sort};
use crate::store::{By, Shown};

/// Columns of a post `p` that a viewer sees; the viewer's account and a `)` follow.
pub(super) const SEEN: &str = "SELECT p.id, p.account, p.date, p.weather, p.happiness, p.text, p.categories, p.images, p.likes, p.comments, \
    EXISTS (SELECT 1 FROM post_like l WHERE l.post_id = p.id AND l.account = ";

pub(super) async fn page(
    reader: &engine::Pool,
    shown: &Shown<'_>,
    from: PageFrom,
    rows: i64,
) -> Result<Vec<SeenPost>, StoreError> {
    let mut query = Query::new("");
    push_page(&mut query, shown, from, rows);
    query.build().fetch_all(reader).await?.iter().map(seen).collect()
}

/// Returns the plan of [`page`], a line a step.
#[cfg(test)]
pub(super) async fn plan(reader: &engine::Pool, shown: &Shown<'_>, from: PageFrom, rows: i64) -> Vec<String> {
    let mut query = Query::new(super::super::EXPLAIN);
    push_page(&mut query, shown, from, rows);
    super::plan(reader, &mut query).await
}

/// The date of a post in the index that a list is read off: of one author, those that friends see are in it too.
fn date_column(by: By<'_>) -> &'static str {
    match by {
        By::One(_) => "p.friend_date",
        By::Others => "p.public_date",
    }
}

fn push_order(query: &mut Query, by: By<'_>) {
    query.push(" ORDER BY ").push(date_column(by)).push(" DESC, p.id DESC");
}

/// The index that a list of everybody's posts in this order is read off, by its column of ranks.
fn ranked_by(sort: Sort) -> Option<Rank> {
    match sort {
        Sort::Newest => None,
        Sort::Likes => Some(Rank {
            indexed: "p.public_likes",
            plain: "p.likes",
        }),
        Sort::Comments => Some(Rank {
            indexed: "p.public_comments",
            plain: "p.comments",
        }),
        Sort::Happiness => Some(Rank {
            indexed: "p.public_happiness",
            plain: "p.happiness",
        }),
    }
}

/// A column to sort by. Few posts have been selected already where one author or one day is asked for: they are sorted by the column
/// that has no index, as a planner that walked the index of ranks would read everybody's posts.
struct Rank {
    indexed: &'static str,
    plain: &'static str,
}

/// The page in its order. The first page and those behind a cursor cost the same: each is read off an index from where it begins. Behind
/// an offset, the page is found in the index alone, and posts are read for what is on it.
fn push_page(query: &mut Query, shown: &Shown<'_>, from: PageFrom, rows: i64) {
    query.push(SEEN);
    query.push_bind(shown.viewer.as_str()).push(") AS is_liked FROM ");
    let selective = matches!(shown.by, By::One(_)) || shown.day.is_some();
    match (ranked_by(shown.sort), from) {
        (None, PageFrom::Offset(0)) => push_newest(query.push("post p"), shown, Cursor::NEWEST, rows),
        (None, PageFrom::After(cursor)) => push_newest(query.push("post p"), shown, cursor, rows),
        (None, PageFrom::Offset(offset)) => {
            push_newest(query.push("(SELECT p.id FROM post p"), shown, Cursor::NEWEST, rows);
            query
                .push(" OFFSET ")
                .push_bind(offset)
                .push(") page JOIN post p ON p.id = page.id");
            push_order(query, shown.by);
        }
        (Some(rank), from) if selective => push_sorted(query, &rank, shown, from, rows),
        (Some(rank), from) => push_ranked(query, &rank, shown, from, rows),
    }
}

/// Which posts, behind the cursor, newest first.
fn push_newest(query: &mut Query, shown: &Shown<'_>, cursor: Cursor, rows: i64) {
    let (_, latest) = shown.today.dates();
    let cursor = if cursor.date > latest {
        Cursor {
            date: latest,
            ..Cursor::NEWEST
        }
    } else {
        cursor
    };
    let date = date_column(shown.by);
    query.push(" WHERE ").push(date).push(" <= ").push_bind(cursor.date);
    query.push(" AND (").push(date).push(" < ").push_bind(cursor.date);
    query.push(" OR p.id < ").push_bind(cursor.id).push(")");
    push_filters(query, shown);
    push_order(query, shown.by);
    query.push(" LIMIT ").push_bind(rows);
}

/// The author, the day, the blocks and the decisions of moderators.
fn push_filters(query: &mut Query, shown: &Shown<'_>) {
    match shown.by {
        By::One(author) => {
            query.push(" AND p.account = ").push_bind(author.as_str()).push(" AND ");
            push_seen_by(query, shown.viewer, "p");
        }
        By::Others => {
            query.push(" AND p.account <> ").push_bind(shown.viewer.as_str());
            push_not_hidden(query, "p");
        }
    }
    if let Some(day) = shown.day {
        let (first, last) = day.dates();
        query
            .push(" AND ")
            .push(date_column(shown.by))
            .push(" BETWEEN ")
            .push_bind(first)
            .push(" AND ")
            .push_bind(last);
    }
    push_not_blocked(query, shown.viewer, "p.account");
}

/// The posts of one author or of one day, sorted by the database.
fn push_sorted(query: &mut Query, rank: &Rank, shown: &Shown<'_>, from: PageFrom, rows: i64) {
    let (_, latest) = shown.today.dates();
    let date = date_column(shown.by);
    query.push("post p WHERE ").push(date).push(" <= ").push_bind(latest);
    push_filters(query, shown);
    let offset = match from {
        PageFrom::Offset(offset) => offset,
        PageFrom::After(cursor) => {
            query.push(" AND (").push(rank.plain).push(" < ").push_bind(cursor.rank);
            query.push(" OR (").push(rank.plain).push(" = ").push_bind(cursor.rank);
            push_older(query, date, cursor);
            query.push("))");
            0
        }
    };
    query.push(" ORDER BY ").push(rank.plain).push(" DESC, ").push(date);
    query.push(" DESC, p.id DESC LIMIT ").push_bind(rows);
    query.push(" OFFSET ").push_bind(offset);
}

/// Everybody's posts off the index of a rank. Many posts share a rank, so that one condition on the whole key would read all of them
/// to find the cursor: the rest of the cursor's own rank and the lower ranks are two ranges, and each begins at its place.
fn push_ranked(query: &mut Query, rank: &Rank, shown: &Shown<'_>, from: PageFrom, rows: i64) {
    query.push("(");
    match from {
        PageFrom::Offset(offset) => {
            push_range(query, rank, shown, rows, |query| {
                query.push(" IS NOT NULL");
            });
            query.push(" OFFSET ").push_bind(offset);
        }
        PageFrom::After(cursor) => {
            query.push("SELECT id FROM (");
            push_range(query, rank, shown, rows, |query| {
                query.push(" = ").push_bind(cursor.rank);
                push_older(query, "p.public_date", cursor);
            });
            query.push(") equal UNION ALL SELECT id FROM (");
            push_range(query, rank, shown, rows, |query| {
                query.push(" < ").push_bind(cursor.rank);
            });
            query.push(") lower");
        }
    }
    query.push(") page JOIN post p ON p.id = page.id ORDER BY ");
    query
        .push(rank.indexed)
        .push(" DESC, p.public_date DESC, p.id DESC LIMIT ");
    query.push_bind(rows);
}

/// Ids in one range of the index.
fn push_range(query: &mut Query, rank: &Rank, shown: &Shown<'_>, rows: i64, range: impl FnOnce(&mut Query)) {
    let (_, latest) = shown.today.dates();
    query.push("SELECT p.id FROM post p WHERE ").push(rank.indexed);
    range(query);
    query.push(" AND p.public_date <= ").push_bind(latest);
    push_filters(query, shown);
    query.push(" ORDER BY ").push(rank.indexed);
    query
        .push(" DESC, p.public_date DESC, p.id DESC LIMIT ")
        .push_bind(rows);
}

/// The posts of one rank after the cursor.
fn push_older(query: &mut Query, date: &'static str, cursor: Cursor) {
    query.push(" AND ").push(date).push(" <= ").push_bind(cursor.date);
    query.push(" AND (").push(date).push(" < ").push_bind(cursor.date);
    query.push(" OR p.id < ").push_bind(cursor.id).push(")");
}

/// The post of that name in the query is not hidden by a moderator, and it is public, or for friends of its author: the viewer and the author
/// follow each other.
pub(super) fn push_seen_by(query: &mut Query, viewer: &Account, post: &'static str) {
    query.push("(");
    push_shown_to(query, viewer, post, None);
    push_not_hidden(query, post);
    query.push(")");
}

/// The post of that name in the query is neither hidden nor held for review. The tables hold few rows, and their primary keys find them.
pub(super) fn push_not_hidden(query: &mut Query, post: &'static str) {
    query
        .push(" AND NOT EXISTS (SELECT 1 FROM post_moderation h WHERE h.hidden = 1 AND h.post_id = ")
        .push(post)
        .push(".id) AND NOT EXISTS (SELECT 1 FROM post_review r WHERE r.held = 1 AND r.post_id = ")
        .push(post)
        .push(".id)");
}

/// As [`push_seen_by`], whether or not a moderator has hidden it. With a moment, those who followed each other then are friends, too.
pub(super) fn push_shown_to(query: &mut Query, viewer: &Account, post: &'static str, at: Option<Timestamp>) {
    query.push("(").push(post).push(".public_date IS NOT NULL OR (");
    query.push(post).push(".friend_date IS NOT NULL");
    push_follows(query, at);
    query.push_bind(viewer.as_str());
    query.push(" AND f.other = ").push(post).push(".account)");
    push_follows(query, at);
    query.push(post).push(".account AND f.other = ");
    query.push_bind(viewer.as_str()).push(")))");
}

/// An account follows another, or has stopped since that moment: the account, ` AND f.other = `, the other one and a `)` follow.
fn push_follows(query: &mut Query, at: Option<Timestamp>) {
    if let Some(at) = at {
        query
            .push(" AND EXISTS (SELECT 1 FROM directory_relation f WHERE f.kind = 'follow'")
            .push(" AND (f.active = 1 OR f.changed_at > ")
            .push_bind(at.as_millisecond())
            .push(") AND f.account = ");
    } else {
        query.push(FOLLOWS);
    }
}

const FOLLOWS: &str =
    " AND EXISTS (SELECT 1 FROM directory_relation f WHERE f.kind = 'follow' AND f.active = 1 AND f.account = ";

/// The two follow each other.
pub(super) fn push_friends(query: &mut Query, one: &Account, other: &Account) {
    for (follower, followed) in [(one, other), (other, one)] {
        query.push(FOLLOWS).push_bind(follower.as_str());
        query.push(" AND f.other = ").push_bind(followed.as_str()).push(")");
    }
}

/// Neither of the two blocks the other.
pub(super) fn push_no_block_between(query: &mut Query, one: &Account, other: &Account) {
    for (blocker, blocked) in [(one, other), (other, one)] {
        query.push(BLOCKS).push_bind(blocker.as_str());
        query.push(" AND b.other = ").push_bind(blocked.as_str()).push(")");
    }
}

const BLOCKS: &str =
    " AND NOT EXISTS (SELECT 1 FROM directory_relation b WHERE b.kind = 'block' AND b.active = 1 AND b.account = ";

/// Neither the viewer blocks the account of that column nor the other way. Reads the fleet's directory of relations, which stands in
/// the same database.
pub(super) fn push_not_blocked(query: &mut Query, viewer: &Account, column: &'static str) {
    query
        .push(BLOCKS)
        .push_bind(viewer.as_str())
        .push(" AND b.other = ")
        .push(column)
        .push(")");
    query
        .push(BLOCKS)
        .push(column)
        .push(" AND b.other = ")
        .push_bind(viewer.as_str())
        .push(")");
}

pub(super) fn seen(row: &Row) -> Result<SeenPost, StoreError> {
    let is_liked: i64 = row.try_get("is_liked")?;
    Ok(SeenPost {
        id: row.try_get("id")?,
        author: account(row, "account")?,
        date: date(row)?,
        weather: row.try_get("weather")?,
        happiness: row.try_get("happiness")?,
        text: row.try_get("text")?,
        categories: read_list(row, "categories")?,
        images: read_list(row, "images")?,
        is_liked: is_liked != 0,
        likes: row.try_get("likes")?,
        comments: row.try_get("comments")?,
    })
}
