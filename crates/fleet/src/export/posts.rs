//! The export of posts to the tables `feed`, `feed_category`, `feed_image` and `feed_like_nickname`.

use std::collections::{HashMap, HashSet};

use anyhow::Context as _;
use sha2::{Digest as _, Sha256};
use sosohappy_common::{Account, Context};
use sosohappy_feed::export::ExportedPost;
use sosohappy_feed::import::Importer;
use sosohappy_media::ImageId;
use sqlx::{MySql, MySqlPool, Transaction};

use crate::import::posts::{TABLE, read_one};
use crate::import::{Names, Report, source};

/// The number of posts of one page.
const PAGE: u32 = 100;

type Tx = Transaction<'static, MySql>;

/// The export of posts.
pub struct Export<'a> {
    pub pool: &'a MySqlPool,
    pub feed: &'a Importer,
    pub names: &'a Names,
    pub context: &'a Context,
    pub dry_run: bool,
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
            for post in &page {
                let outcome = if let Some(nickname) = nicknames.get(&post.author) {
                    self.write(post, nickname, &nicknames).await.context(TABLE)?
                } else {
                    let reason = "its author has no nickname in auth's database";
                    report.note(TABLE, post.id, "unplaced", None, reason)?;
                    "unplaced"
                };
                report.count(TABLE, outcome);
            }
        }
        self.delete(report).await
    }

    /// Writes one post in a transaction. Returns `created`, `updated` or `unchanged`.
    ///
    /// | row exists | post changed here | written |
    /// | --- | --- | --- |
    /// | no | | everything |
    /// | yes | yes | everything |
    /// | yes | no | likes only |
    async fn write(
        &self,
        post: &ExportedPost,
        nickname: &str,
        nicknames: &HashMap<&Account, &str>,
    ) -> anyhow::Result<&'static str> {
        let mut tx = self.pool.begin().await?;
        let present = find(&mut tx, post, nickname).await?;
        let mut outcome = if present.is_some() { "unchanged" } else { "created" };
        let legacy_id = match present {
            Some(id) => id,
            None => insert(&mut tx, post, nickname).await?,
        };
        let mut images: Vec<(i64, ImageId)> = Vec::new();
        if present.is_none() || !post.is_unchanged {
            update(&mut tx, legacy_id, post, nickname).await?;
            set_categories(&mut tx, legacy_id, post).await?;
            images = self.set_images(&mut tx, legacy_id, post).await?;
            if present.is_some() {
                outcome = "updated";
            }
        } else {
            images.extend(post.legacy_images.iter().map(|(legacy, image)| (*legacy, *image)));
        }
        let likes_changed = self.set_likes(&mut tx, legacy_id, post, nicknames).await?;
        if likes_changed && outcome == "unchanged" {
            outcome = "updated";
        }
        if self.dry_run {
            tx.rollback().await?;
            return Ok(outcome);
        }
        let written = read_one(&mut tx, legacy_id, self.names).await?;
        tx.commit().await?;
        // Records the row as imported. If the nickname is not that of exactly one account, `written` is `None` and the next run finds the row
        // by nickname and date.
        if outcome != "unchanged"
            && let Some(legacy) = written
        {
            self.feed
                .exported(post.id, &legacy, &images, self.context.clock.now())
                .await?;
        }
        Ok(outcome)
    }

    /// Matches pictures by their legacy ids, else by their bytes, and inserts missing ones. Deletes imported pictures that the post no
    /// longer has, and keeps pictures that could not be imported. Returns the post's pictures by legacy id.
    async fn set_images(
        &self,
        tx: &mut Tx,
        legacy_id: i64,
        post: &ExportedPost,
    ) -> anyhow::Result<Vec<(i64, ImageId)>> {
        let rows = sqlx::query(
            "SELECT feed_image_id, SHA2(image, 256) AS digest FROM feed_image WHERE feed_id = ? ORDER BY feed_image_id",
        )
        .bind(legacy_id)
        .fetch_all(&mut **tx)
        .await?;
        let mut existing = Vec::with_capacity(rows.len());
        for row in &rows {
            let id = source::integer(row, "feed_image_id")?.context("feed_image_id")?;
            existing.push((id, source::digest(row, "digest")?));
        }
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
                let insert = sqlx::query("INSERT INTO feed_image (image, feed_id) VALUES (?, ?)")
                    .bind(bytes.as_ref())
                    .bind(legacy_id);
                i64::try_from(insert.execute(&mut **tx).await?.last_insert_id())?
            };
            used.insert(id);
            placed.push((id, *image));
        }
        for id in post.legacy_images.keys().filter(|id| !used.contains(id)) {
            let delete = sqlx::query("DELETE FROM feed_image WHERE feed_image_id = ? AND feed_id = ?")
                .bind(id)
                .bind(legacy_id);
            delete.execute(&mut **tx).await?;
        }
        Ok(placed)
    }

    /// Inserts missing likes with present nicknames, and deletes likes that were removed here. Keeps a like whose account is ambiguous or
    /// unknown.
    async fn set_likes(
        &self,
        tx: &mut Tx,
        legacy_id: i64,
        post: &ExportedPost,
        nicknames: &HashMap<&Account, &str>,
    ) -> anyhow::Result<bool> {
        let rows = sqlx::query("SELECT feed_like_nickname_id, nickname FROM feed_like_nickname WHERE feed_id = ?")
            .bind(legacy_id)
            .fetch_all(&mut **tx)
            .await?;
        let likers: HashSet<&Account> = post.likers.iter().collect();
        let (mut existing, mut changed) = (HashSet::new(), false);
        for row in &rows {
            let id = source::integer(row, "feed_like_nickname_id")?.context("feed_like_nickname_id")?;
            let nickname = source::text(row, "nickname")?.text.unwrap_or_default();
            match self.names.ever(&nickname) {
                Ok(account) if likers.contains(account) => {
                    existing.insert(account);
                }
                Ok(_) => {
                    let delete = sqlx::query("DELETE FROM feed_like_nickname WHERE feed_like_nickname_id = ?").bind(id);
                    delete.execute(&mut **tx).await?;
                    changed = true;
                }
                Err(_) => {
                    // The like may be that of the account that has the nickname now: no second one is inserted for it.
                    existing.extend(self.names.present(&nickname).ok());
                }
            }
        }
        for liker in post.likers.iter().filter(|liker| !existing.contains(liker)) {
            let Some(nickname) = nicknames.get(liker) else { continue };
            let insert = sqlx::query("INSERT INTO feed_like_nickname (nickname, feed_id) VALUES (?, ?)")
                .bind(nickname)
                .bind(legacy_id);
            insert.execute(&mut **tx).await?;
            changed = true;
        }
        Ok(changed)
    }

    /// Deletes the rows of posts that were deleted here.
    async fn delete(&self, report: &mut Report) -> anyhow::Result<()> {
        for id in self.feed.deleted().await? {
            let mut tx = self.pool.begin().await?;
            for table in ["feed_category", "feed_image", "feed_like_nickname", "feed"] {
                let delete = format!("DELETE FROM `{table}` WHERE feed_id = ?");
                sqlx::query(sqlx::AssertSqlSafe(delete))
                    .bind(id)
                    .execute(&mut *tx)
                    .await?;
            }
            report.count(TABLE, "deleted");
            report.note(TABLE, id, "deleted", None, "the post was deleted here")?;
            if self.dry_run {
                tx.rollback().await?;
            } else {
                tx.commit().await?;
                self.feed.forget(&[id]).await?;
            }
        }
        Ok(())
    }
}

/// Returns the row that a post was imported from. For a new post, returns a row with the same nickname and date, which a killed run may
/// have written.
async fn find(tx: &mut Tx, post: &ExportedPost, nickname: &str) -> anyhow::Result<Option<i64>> {
    if let Some(id) = post.legacy_id {
        let existing = sqlx::query_scalar("SELECT feed_id FROM feed WHERE feed_id = ?")
            .bind(id)
            .fetch_optional(&mut **tx)
            .await?;
        if existing.is_some() {
            return Ok(existing);
        }
    }
    let found =
        sqlx::query_scalar("SELECT feed_id FROM feed WHERE date = ? AND nickname = ? ORDER BY feed_id DESC LIMIT 1")
            .bind(post.date)
            .bind(nickname)
            .fetch_optional(&mut **tx)
            .await?;
    Ok(found)
}

async fn insert(tx: &mut Tx, post: &ExportedPost, nickname: &str) -> anyhow::Result<i64> {
    let insert = sqlx::query("INSERT INTO feed (date, nickname) VALUES (?, ?)")
        .bind(post.date)
        .bind(nickname);
    Ok(i64::try_from(insert.execute(&mut **tx).await?.last_insert_id())?)
}

async fn update(tx: &mut Tx, id: i64, post: &ExportedPost, nickname: &str) -> anyhow::Result<()> {
    let update = sqlx::query(
        "UPDATE feed SET date = ?, happiness = ?, is_public = ?, nickname = ?, weather = ?, text = ? WHERE feed_id = ?",
    )
    .bind(post.date)
    .bind(post.happiness)
    .bind(u8::from(post.is_public))
    .bind(nickname)
    .bind(&post.weather)
    .bind(&post.text)
    .bind(id);
    update.execute(&mut **tx).await?;
    Ok(())
}

async fn set_categories(tx: &mut Tx, id: i64, post: &ExportedPost) -> anyhow::Result<()> {
    let delete = sqlx::query("DELETE FROM feed_category WHERE feed_id = ?").bind(id);
    delete.execute(&mut **tx).await?;
    for category in &post.categories {
        let insert = sqlx::query("INSERT INTO feed_category (category, feed_id) VALUES (?, ?)")
            .bind(category)
            .bind(id);
        insert.execute(&mut **tx).await?;
    }
    Ok(())
}
