//! Posts as others see them.

use sosohappy_common::Account;
use sosohappy_store::StoreError;
use sqlx::Row as _;

use super::{Query, Row, account, date, engine, read_list};
use crate::domain::{Cursor, PageFrom, SeenPost};
use crate::store::{By, Shown};

/// Columns of a post `p` that a viewer sees; the viewer's account and a `)` follow.
const SEEN: &str = "SELECT p.id, p.account, p.date, p.weather, p.happiness, p.text, p.categories, p.images, \
    EXISTS (SELECT 1 FROM post_like l WHERE l.post_id = p.id AND l.account = ";

/// Newest first.
const ORDER: &str = " ORDER BY p.public_date DESC, p.id DESC";

/// The first page and those behind a cursor are read off the index in order. Behind an offset, the page is found in the index alone,
/// and posts are read for what is on it.
pub(super) async fn page(
    reader: &engine::Pool,
    shown: &Shown<'_>,
    from: PageFrom,
    rows: i64,
) -> Result<Vec<SeenPost>, StoreError> {
    let mut query = Query::new(SEEN);
    query.push_bind(shown.viewer.as_str()).push(") AS is_liked FROM ");
    match from {
        PageFrom::Offset(0) => push_posts(query.push("post p"), shown, Cursor::NEWEST, rows),
        PageFrom::After(cursor) => push_posts(query.push("post p"), shown, cursor, rows),
        PageFrom::Offset(offset) => {
            push_posts(query.push("(SELECT p.id FROM post p"), shown, Cursor::NEWEST, rows);
            query
                .push(" OFFSET ")
                .push_bind(offset)
                .push(") page JOIN post p ON p.id = page.id")
                .push(ORDER);
        }
    }
    query.build().fetch_all(reader).await?.iter().map(seen).collect()
}

/// Which posts, behind the cursor, in their order.
fn push_posts(query: &mut Query, shown: &Shown<'_>, cursor: Cursor, rows: i64) {
    let (_, latest) = shown.today.dates();
    let cursor = if cursor.date > latest {
        Cursor {
            date: latest,
            post: i64::MAX,
        }
    } else {
        cursor
    };
    query.push(" WHERE p.public_date <= ").push_bind(cursor.date);
    query
        .push(" AND (p.public_date < ")
        .push_bind(cursor.date)
        .push(" OR p.id < ")
        .push_bind(cursor.post)
        .push(") AND p.account ");
    match shown.by {
        By::One(author) => query.push("= ").push_bind(author.as_str()),
        By::Others => query.push("<> ").push_bind(shown.viewer.as_str()),
    };
    if let Some(day) = shown.day {
        let (first, last) = day.dates();
        query
            .push(" AND p.public_date BETWEEN ")
            .push_bind(first)
            .push(" AND ")
            .push_bind(last);
    }
    push_not_blocked(query, shown.viewer, "p.account");
    query.push(ORDER).push(" LIMIT ").push_bind(rows);
}

/// Neither the viewer blocks the account of that column nor the other way. Reads the fleet's directory of relations, which stands in
/// the same database.
pub(super) fn push_not_blocked(query: &mut Query, viewer: &Account, column: &'static str) {
    const FROM: &str =
        " AND NOT EXISTS (SELECT 1 FROM directory_relation b WHERE b.kind = 'block' AND b.active = 1 AND b.account = ";
    query
        .push(FROM)
        .push_bind(viewer.as_str())
        .push(" AND b.other = ")
        .push(column)
        .push(")");
    query
        .push(FROM)
        .push(column)
        .push(" AND b.other = ")
        .push_bind(viewer.as_str())
        .push(")");
}

fn seen(row: &Row) -> Result<SeenPost, StoreError> {
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
    })
}
