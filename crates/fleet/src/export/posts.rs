//! The export of posts to the tables `feed`, `feed_category`, `feed_image` and `feed_like_nickname`.

use std::collections::{HashMap, HashSet};

use anyhow::Context as _;
use sha2::{Digest as _, Sha256};
use sosohappy_common::{Account, Context};
use sosohappy_feed::export::{ExportedPost, WrittenRow};
use sosohappy_feed::import::Importer;
use sosohappy_media::ImageId;
use sqlx::{MySql, MySqlPool, QueryBuilder, Transaction};

use super::{ROWS, push_ids, statements};
use crate::import::posts::{TABLE, read_some};
use crate::import::{Names, Report, source};

/// The number of posts of one page, which is written in one transaction.
const PAGE: u32 = 100;

type Tx = Transaction<'static, MySql>;
type Query = QueryBuilder<MySql>;
/// A picture by its id, with the SHA-256 of its bytes.
type Existing = (i64, Option<[u8; 32]>);

/// The export of posts.
pub struct Export<'a> {
    pub pool: &'a MySqlPool,
    pub feed: &'a Importer,
    pub names: &'a Names,
    pub context: &'a Context,
    pub dry_run: bool,
}

/// A post with the nickname of its author.
struct Placed<'a> {
    post: &'a ExportedPost,
    nickname: &'a str,
}

/// A post with its row.
struct Row<'a> {
    post: &'a ExportedPost,
    nickname: &'a str,
    legacy_id: i64,
    is_new: bool,
}

impl Row<'_> {
    /// Whether everything is written, and not only likes.
    ///
    /// | row exists | post changed here | written |
    /// | --- | --- | --- |
    /// | no | | everything |
    /// | yes | yes | everything |
    /// | yes | no | likes only |
    fn is_written(&self) -> bool {
        self.is_new || !self.post.is_unchanged
    }
}

impl Export<'_> {
    /// Writes posts that differ, and deletes the rows of posts that were deleted here.
    pub async fn run(&mut self, report: &mut Report) -> anyhow::Result<()> {
        let nicknames: HashMap<&Account, &str> = self
            .names
            .here()
            .iter()
            .map(|(account, nickname)| (account, nickname.as_str()))
            .collect();
        let mut last = i64::MIN;
        loop {
            let page = self.feed.posts_after(last, PAGE).await?;
            let Some(newest) = page.last() else { break };
            last = newest.id;
            let mut placed = Vec::with_capacity(page.len());
            for post in &page {
                if let Some(nickname) = nicknames.get(&post.author) {
                    placed.push(Placed { post, nickname });
                } else {
                    let reason = "its author has no nickname in auth's database";
                    report.note(TABLE, post.id, "unplaced", None, reason)?;
                    report.count(TABLE, "unplaced");
                }
            }
            for outcome in self.write(&placed, &nicknames).await.context(TABLE)? {
                report.count(TABLE, outcome);
            }
        }
        self.delete(report).await
    }

    /// Writes posts in a transaction. Returns `created`, `updated` or `unchanged` for each.
    async fn write(
        &self,
        posts: &[Placed<'_>],
        nicknames: &HashMap<&Account, &str>,
    ) -> anyhow::Result<Vec<&'static str>> {
        if posts.is_empty() {
            return Ok(Vec::new());
        }
        let mut tx = self.pool.begin().await?;
        let rows = rows_of(&mut tx, posts).await?;
        let written: Vec<&Row<'_>> = rows.iter().filter(|row| row.is_written()).collect();
        update(&mut tx, &written).await?;
        set_categories(&mut tx, &written).await?;
        let mut images = self.set_images(&mut tx, &written).await?;
        let liked = self.set_likes(&mut tx, &rows, nicknames).await?;
        let outcome = |row: &Row<'_>| match row {
            row if row.is_new => "created",
            row if row.is_written() || liked.contains(&row.legacy_id) => "updated",
            _ => "unchanged",
        };
        let outcomes = rows.iter().map(outcome).collect();
        if self.dry_run {
            tx.rollback().await?;
            return Ok(outcomes);
        }
        let changed: Vec<&Row<'_>> = rows.iter().filter(|row| outcome(row) != "unchanged").collect();
        let ids: Vec<i64> = changed.iter().map(|row| row.legacy_id).collect();
        let mut legacy = read_some(&mut tx, &ids, self.names).await?;
        tx.commit().await?;
        // Records the rows as imported. If a nickname is not that of exactly one account, its row is not read, and the next run finds it by
        // nickname and date.
        let mut exported = Vec::with_capacity(changed.len());
        for row in changed {
            if let Some(legacy) = legacy.remove(&row.legacy_id) {
                let kept = || row.post.legacy_images.iter().map(|(legacy, image)| (*legacy, *image));
                exported.push(WrittenRow {
                    post: row.post.id,
                    legacy,
                    written: row.post.written,
                    images: images.remove(&row.legacy_id).unwrap_or_else(|| kept().collect()),
                });
            }
        }
        if !exported.is_empty() {
            self.feed.exported(&exported, self.context.clock.now()).await?;
        }
        Ok(outcomes)
    }

    /// Matches pictures by their legacy ids, else by their bytes, and inserts missing ones. Deletes imported pictures that the post no
    /// longer has, and keeps pictures that could not be imported. Returns the pictures of each row by legacy id.
    async fn set_images(&self, tx: &mut Tx, rows: &[&Row<'_>]) -> anyhow::Result<HashMap<i64, Vec<(i64, ImageId)>>> {
        let mut existing: HashMap<i64, Vec<Existing>> = HashMap::new();
        let select = "SELECT feed_image_id, feed_id, SHA2(image, 256) AS digest FROM feed_image WHERE feed_id";
        for row in &select_of(tx, select, rows, "feed_image_id").await? {
            let of_post = existing.entry(id(row, "feed_id")?).or_default();
            of_post.push((id(row, "feed_image_id")?, source::digest(row, "digest")?));
        }
        let (mut images, mut gone) = (HashMap::with_capacity(rows.len()), Vec::new());
        for Row { post, legacy_id, .. } in rows {
            let existing = existing.remove(legacy_id).unwrap_or_default();
            let mut placed = Vec::with_capacity(post.images.len());
            let mut used = HashSet::new();
            for image in &post.images {
                let by_id = existing
                    .iter()
                    .find(|(id, _)| post.legacy_images.get(id) == Some(image));
                if let Some((id, _)) = by_id {
                    used.insert(*id);
                    placed.push((*id, *image));
                    continue;
                }
                let Some(bytes) = self.feed.picture(*image).await? else {
                    continue;
                };
                let digest: [u8; 32] = Sha256::digest(&bytes).into();
                // `used` lets each row stand for one picture only, also if a post has the same picture twice.
                let same = existing
                    .iter()
                    .find(|(id, found)| *found == Some(digest) && !used.contains(id));
                let id = if let Some((id, _)) = same {
                    *id
                } else {
                    // A statement for each: one picture may be as large as a packet.
                    let insert = sqlx::query("INSERT INTO feed_image (image, feed_id) VALUES (?, ?)")
                        .bind(bytes.as_ref())
                        .bind(legacy_id);
                    i64::try_from(insert.execute(&mut **tx).await?.last_insert_id())?
                };
                used.insert(id);
                placed.push((id, *image));
            }
            // Only of this row: a picture may have another post by now.
            let imported = existing.iter().map(|(id, _)| *id);
            gone.extend(imported.filter(|id| post.legacy_images.contains_key(id) && !used.contains(id)));
            images.insert(*legacy_id, placed);
        }
        delete(tx, "feed_image", "feed_image_id", &gone).await?;
        Ok(images)
    }

    /// Inserts missing likes with present nicknames, and deletes likes that were removed here. Keeps a like whose account is ambiguous or
    /// unknown. Returns the rows whose likes changed.
    async fn set_likes(
        &self,
        tx: &mut Tx,
        rows: &[Row<'_>],
        nicknames: &HashMap<&Account, &str>,
    ) -> anyhow::Result<HashSet<i64>> {
        let mut rows_of_likes: HashMap<i64, Vec<(i64, String)>> = HashMap::new();
        let select = "SELECT feed_like_nickname_id, feed_id, nickname FROM feed_like_nickname WHERE feed_id";
        let all: Vec<&Row<'_>> = rows.iter().collect();
        for row in &select_of(tx, select, &all, "feed_like_nickname_id").await? {
            let nickname = source::text(row, "nickname")?.text.unwrap_or_default();
            let of_post = rows_of_likes.entry(id(row, "feed_id")?).or_default();
            of_post.push((id(row, "feed_like_nickname_id")?, nickname));
        }
        let (mut gone, mut new, mut changed) = (Vec::new(), Vec::new(), HashSet::new());
        for Row { post, legacy_id, .. } in rows {
            let likers: HashSet<&Account> = post.likers.iter().collect();
            let mut existing = HashSet::new();
            for (id, nickname) in rows_of_likes.get(legacy_id).map_or(&[][..], Vec::as_slice) {
                match self.names.ever(nickname) {
                    Ok(account) if likers.contains(account) => {
                        existing.insert(account);
                    }
                    Ok(_) => {
                        gone.push(*id);
                        changed.insert(*legacy_id);
                    }
                    Err(_) => {
                        // The like may be that of the account that has the nickname now: no second one is inserted for it.
                        existing.extend(self.names.present(nickname).ok());
                    }
                }
            }
            for liker in post.likers.iter().filter(|liker| !existing.contains(liker)) {
                if let Some(nickname) = nicknames.get(liker) {
                    new.push((*nickname, *legacy_id));
                    changed.insert(*legacy_id);
                }
            }
        }
        delete(tx, "feed_like_nickname", "feed_like_nickname_id", &gone).await?;
        for new in new.chunks(ROWS) {
            let mut query = Query::new("INSERT INTO feed_like_nickname (nickname, feed_id) ");
            query.push_values(new, |mut row, (nickname, post)| {
                row.push_bind(*nickname).push_bind(*post);
            });
            query.build().execute(&mut **tx).await?;
        }
        Ok(changed)
    }

    /// Deletes the rows of posts that were deleted here.
    async fn delete(&self, report: &mut Report) -> anyhow::Result<()> {
        for ids in self.feed.deleted().await?.chunks(ROWS) {
            let mut tx = self.pool.begin().await?;
            for table in ["feed_category", "feed_image", "feed_like_nickname", "feed"] {
                delete(&mut tx, table, "feed_id", ids).await?;
            }
            for id in ids {
                report.count(TABLE, "deleted");
                report.note(TABLE, id, "deleted", None, "the post was deleted here")?;
            }
            if self.dry_run {
                tx.rollback().await?;
            } else {
                tx.commit().await?;
                self.feed.forget(ids).await?;
            }
        }
        Ok(())
    }
}

fn id(row: &sqlx::mysql::MySqlRow, column: &str) -> anyhow::Result<i64> {
    source::integer(row, column)?.with_context(|| column.to_owned())
}

/// Returns the rows that posts were imported from, or inserts new ones. A new post may have a row with its nickname and date, which a killed
/// run has written.
async fn rows_of<'a>(tx: &mut Tx, posts: &[Placed<'a>]) -> anyhow::Result<Vec<Row<'a>>> {
    let imported: Vec<i64> = posts.iter().filter_map(|placed| placed.post.legacy_id).collect();
    let mut existing = HashSet::new();
    for ids in imported.chunks(ROWS) {
        let mut query = Query::new("SELECT feed_id FROM feed WHERE feed_id IN ");
        push_ids(&mut query, ids);
        for row in query.build().fetch_all(&mut **tx).await? {
            existing.insert(id(&row, "feed_id")?);
        }
    }
    let imported_from = |placed: &Placed<'_>| placed.post.legacy_id.filter(|id| existing.contains(id));
    let others: Vec<&Placed<'_>> = posts.iter().filter(|placed| imported_from(placed).is_none()).collect();
    let found = by_name_and_date(tx, &others).await?;
    let is_found = |placed: &Placed<'_>| found.contains_key(&(placed.nickname.to_owned(), placed.post.date));
    let new: Vec<&Placed<'_>> = others.into_iter().filter(|placed| !is_found(placed)).collect();
    for new in new.chunks(ROWS) {
        let mut query = Query::new("INSERT INTO feed (date, nickname) ");
        query.push_values(new, |mut row, placed| {
            row.push_bind(placed.post.date).push_bind(placed.nickname);
        });
        query.build().execute(&mut **tx).await?;
    }
    let inserted = by_name_and_date(tx, &new).await?;
    let row = |placed: &Placed<'a>| {
        let key = (placed.nickname.to_owned(), placed.post.date);
        let present = imported_from(placed).or_else(|| found.get(&key).copied());
        let legacy_id = present.or_else(|| inserted.get(&key).copied());
        Ok(Row {
            post: placed.post,
            nickname: placed.nickname,
            legacy_id: legacy_id.context("a row that was inserted is missing")?,
            is_new: present.is_none(),
        })
    };
    posts.iter().map(row).collect()
}

/// Returns the rows of these authors and dates; of several the one with the greatest id.
async fn by_name_and_date(tx: &mut Tx, posts: &[&Placed<'_>]) -> anyhow::Result<HashMap<(String, i64), i64>> {
    let mut found = HashMap::new();
    for posts in posts.chunks(ROWS) {
        let mut query = Query::new("SELECT feed_id, nickname, date FROM feed WHERE (date, nickname) IN ");
        query.push_tuples(posts, |mut pair, placed| {
            pair.push_bind(placed.post.date).push_bind(placed.nickname);
        });
        query.push(" ORDER BY feed_id");
        for row in query.build().fetch_all(&mut **tx).await? {
            // The database may take different nicknames for equal.
            if let (Some(nickname), Some(date)) = (source::text(&row, "nickname")?.text, source::integer(&row, "date")?)
            {
                found.insert((nickname, date), id(&row, "feed_id")?);
            }
        }
    }
    Ok(found)
}

async fn update(tx: &mut Tx, rows: &[&Row<'_>]) -> anyhow::Result<()> {
    for batch in statements(rows, |row| row.post.text.len()) {
        let mut query = Query::new("INSERT INTO feed (feed_id, date, happiness, is_public, nickname, weather, text) ");
        query.push_values(batch, |mut values, row| {
            values
                .push_bind(row.legacy_id)
                .push_bind(row.post.date)
                .push_bind(row.post.happiness)
                .push_bind(u8::from(row.post.is_public))
                .push_bind(row.nickname)
                .push_bind(&row.post.weather)
                .push_bind(&row.post.text);
        });
        query.push(
            " ON DUPLICATE KEY UPDATE date = VALUES(date), happiness = VALUES(happiness), is_public = VALUES(is_public), \
             nickname = VALUES(nickname), weather = VALUES(weather), text = VALUES(text)",
        );
        query.build().execute(&mut **tx).await?;
    }
    Ok(())
}

async fn set_categories(tx: &mut Tx, rows: &[&Row<'_>]) -> anyhow::Result<()> {
    let ids: Vec<i64> = rows.iter().map(|row| row.legacy_id).collect();
    delete(tx, "feed_category", "feed_id", &ids).await?;
    let categories: Vec<(&String, i64)> = rows
        .iter()
        .flat_map(|row| row.post.categories.iter().map(|category| (category, row.legacy_id)))
        .collect();
    for categories in categories.chunks(ROWS) {
        let mut query = Query::new("INSERT INTO feed_category (category, feed_id) ");
        query.push_values(categories, |mut row, (category, post)| {
            row.push_bind(*category).push_bind(*post);
        });
        query.build().execute(&mut **tx).await?;
    }
    Ok(())
}

/// Runs a statement that ends before the list of the rows' ids.
async fn select_of(
    tx: &mut Tx,
    select: &'static str,
    rows: &[&Row<'_>],
    order: &'static str,
) -> anyhow::Result<Vec<sqlx::mysql::MySqlRow>> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<i64> = rows.iter().map(|row| row.legacy_id).collect();
    let mut query = Query::new(select);
    query.push(" IN ");
    push_ids(&mut query, &ids);
    query.push(" ORDER BY ").push(order);
    Ok(query.build().fetch_all(&mut **tx).await?)
}

/// Deletes the rows that have one of these numbers in this column.
async fn delete(tx: &mut Tx, table: &'static str, column: &'static str, ids: &[i64]) -> anyhow::Result<()> {
    for ids in ids.chunks(ROWS) {
        let mut query = Query::new(format!("DELETE FROM `{table}` WHERE {column} IN "));
        push_ids(&mut query, ids);
        query.build().execute(&mut **tx).await?;
    }
    Ok(())
}
