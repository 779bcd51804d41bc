//! The tables of the import.

use std::collections::{BTreeSet, HashMap, HashSet};

use async_trait::async_trait;
use jiff::Timestamp;
use sosohappy_common::Account;
use sosohappy_media::ImageId;
use sosohappy_store::{StoreError, retrying};
use sqlx::Row as _;

use super::{
    BATCH, Query, Row, SqlStore, account, categories, date, engine, images, last_id, likes, public, read_list, views,
    write_list,
};
use crate::domain::companions::Change;
use crate::domain::{Day, PostDate};
use crate::store::WriteError;
use crate::store::imports::{
    Fingerprint, FreshPost, ImportPost, ImportTransaction, ImportedPost, Imports, LeftOut, LegacyImages, LegacyLike,
};

const IMPORTED: &str = "SELECT legacy_id, post_id, source, written, imported_at FROM imported_post WHERE ";

const POST: &str = "SELECT id, account, date, weather, happiness, text, is_public, categories, images FROM post WHERE ";

/// Legacy rows of likes do not tell when they were given. `liked_at` of an imported like is the id of its row, which keeps their order: a
/// number below every real time.
const LIKED_AT_BOUND: i64 = 946_684_800_000;

/// Days of authors that one statement names.
const DAYS: usize = 100;

struct SqlImport {
    tx: engine::Tx,
    /// Posts that were written: their views are built from them before the commit.
    written: BTreeSet<i64>,
    now: Timestamp,
}

#[async_trait]
impl Imports for SqlStore {
    async fn begin_import(&self) -> Result<Box<dyn ImportTransaction>, StoreError> {
        Ok(Box::new(SqlImport {
            tx: self.database.begin().await?,
            written: BTreeSet::new(),
            now: self.context.clock.now(),
        }))
    }

    async fn imported(&self, legacy_ids: &[i64]) -> Result<HashMap<i64, ImportedPost>, StoreError> {
        let mut all = HashMap::with_capacity(legacy_ids.len());
        for batch in legacy_ids.chunks(BATCH) {
            let mut query = Query::new(IMPORTED);
            query.push("legacy_id IN ");
            push_ids(&mut query, batch);
            for row in query.build().fetch_all(self.database.reader()).await? {
                let imported = imported(&row)?;
                all.insert(imported.legacy_id, imported);
            }
        }
        Ok(all)
    }

    async fn imported_between(&self, after: i64, until: i64) -> Result<Vec<i64>, StoreError> {
        let ids = sqlx::query_scalar(
            "SELECT legacy_id FROM imported_post WHERE legacy_id > ? AND legacy_id <= ? ORDER BY legacy_id",
        )
        .bind(after)
        .bind(until)
        .fetch_all(self.database.reader())
        .await?;
        Ok(ids)
    }

    async fn deleted_imports(&self) -> Result<Vec<i64>, StoreError> {
        let ids = sqlx::query_scalar(
            "SELECT i.legacy_id FROM imported_post i LEFT JOIN post p ON p.id = i.post_id WHERE p.id IS NULL ORDER BY i.legacy_id",
        )
        .fetch_all(self.database.reader())
        .await?;
        Ok(ids)
    }

    async fn imported_images(&self, legacy_ids: &[i64]) -> Result<HashMap<i64, ImageId>, StoreError> {
        let mut all = HashMap::with_capacity(legacy_ids.len());
        for batch in legacy_ids.chunks(BATCH) {
            let mut query = Query::new("SELECT legacy_id, image FROM imported_image WHERE legacy_id IN ");
            push_ids(&mut query, batch);
            for row in query.build().fetch_all(self.database.reader()).await? {
                all.insert(row.try_get("legacy_id")?, ImageId(row.try_get("image")?));
            }
        }
        Ok(all)
    }

    async fn legacy_image(
        &self,
        viewer: &Account,
        legacy_id: i64,
        since: Timestamp,
        today: Day,
    ) -> Result<Option<(Account, ImageId)>, StoreError> {
        let mut query = Query::new(
            "SELECT p.account, i.image FROM imported_image i JOIN post p ON p.id = i.post_id WHERE i.legacy_id = ",
        );
        query
            .push_bind(legacy_id)
            .push(" AND i.imported_at > ")
            .push_bind(since.as_millisecond())
            .push(" AND (p.account = ")
            .push_bind(viewer.as_str())
            .push(" OR (p.day <= ")
            .push_bind(i32::from(today))
            .push(" AND ");
        public::push_seen_by(&mut query, viewer, "p");
        public::push_not_blocked(&mut query, viewer, "p.account");
        query.push("))");
        let row = query.build().fetch_optional(self.database.reader()).await?;
        row.map(|row| Ok((account(&row, "account")?, ImageId(row.try_get("image")?))))
            .transpose()
    }

    async fn import_totals(&self, legacy_ids: Option<&[i64]>) -> Result<(i64, i64), StoreError> {
        const TOTALS: &str = "SELECT COUNT(*), CAST(COALESCE(SUM(p.happiness), 0) AS SIGNED) \
             FROM imported_post i JOIN post p ON p.id = i.post_id";
        let Some(legacy_ids) = legacy_ids else {
            return Ok(sqlx::query_as(TOTALS).fetch_one(self.database.reader()).await?);
        };
        let mut totals = (0, 0);
        for batch in legacy_ids.chunks(BATCH) {
            let mut query = Query::new(TOTALS);
            query.push(" WHERE i.legacy_id IN ");
            push_ids(&mut query, batch);
            let (posts, happiness): (i64, i64) = query.build_query_as().fetch_one(self.database.reader()).await?;
            totals = (totals.0 + posts, totals.1 + happiness);
        }
        Ok(totals)
    }

    async fn set_names(&self, names: &[(Account, String)], at: Timestamp) -> Result<(), StoreError> {
        for batch in names.chunks(BATCH) {
            let accounts: Vec<Account> = batch.iter().map(|(account, _)| account.clone()).collect();
            let known = self.database.directory().nicknames_of(&accounts).await?;
            let news: Vec<_> = batch
                .iter()
                .zip(known)
                .filter(|((_, nickname), known)| known.as_ref() != Some(nickname))
                .map(|(name, _)| name)
                .collect();
            if news.is_empty() {
                continue;
            }
            retrying(async || {
                let mut tx = self.database.begin().await?;
                for (account, nickname) in &news {
                    engine::directory::set_nickname(&mut tx, account, Some(nickname), at).await?;
                }
                Ok::<_, StoreError>(tx.commit().await?)
            })
            .await?;
        }
        Ok(())
    }
}

#[async_trait]
impl ImportTransaction for SqlImport {
    async fn reserve(&mut self, images: &[ImageId], due: Timestamp) -> Result<(), StoreError> {
        images::insert(&mut self.tx, images, true, due).await
    }

    async fn resigned_since(&mut self, accounts: &[Account], at: Timestamp) -> Result<HashSet<Account>, StoreError> {
        engine::erased_accounts::erased_since(&mut self.tx, accounts, at).await
    }

    async fn post_of_day(&mut self, author: &Account, date: PostDate) -> Result<Option<(i64, ImportPost)>, StoreError> {
        let mut query = Query::new(POST);
        query
            .push("account = ")
            .push_bind(author.as_str())
            .push(" AND day = ")
            .push_bind(i32::from(date.day()))
            .push(engine::FOR_UPDATE);
        let row = query.build().fetch_optional(&mut *self.tx).await?;
        row.map(|row| Ok((row.try_get("id")?, post(&row)?))).transpose()
    }

    async fn posts(&mut self, ids: &[i64]) -> Result<HashMap<i64, ImportPost>, StoreError> {
        let mut posts = HashMap::with_capacity(ids.len());
        for batch in ids.chunks(BATCH) {
            let mut query = Query::new(POST);
            query.push("id IN ");
            push_ids(&mut query, batch);
            query.push(engine::FOR_UPDATE);
            for row in query.build().fetch_all(&mut *self.tx).await? {
                posts.insert(row.try_get("id")?, post(&row)?);
            }
        }
        Ok(posts)
    }

    async fn origins(&mut self, posts: &[i64]) -> Result<HashMap<i64, ImportedPost>, StoreError> {
        let mut origins = HashMap::with_capacity(posts.len());
        for batch in posts.chunks(BATCH) {
            let mut query = Query::new(IMPORTED);
            query.push("post_id IN ");
            push_ids(&mut query, batch);
            query.push(" ORDER BY legacy_id");
            for row in query.build().fetch_all(&mut *self.tx).await? {
                let imported = imported(&row)?;
                origins.insert(imported.post, imported);
            }
        }
        Ok(origins)
    }

    async fn taken_days(&mut self, days: &[(&Account, PostDate)]) -> Result<HashSet<(Account, i32)>, StoreError> {
        Ok(self.ids_of(days).await?.into_keys().collect())
    }

    async fn insert_all(&mut self, posts: &[FreshPost], made_at: Timestamp) -> Result<(), StoreError> {
        let made_at = made_at.as_millisecond();
        for batch in posts.chunks(DAYS) {
            let mut query = Query::new(
                "INSERT INTO post (account, day, date, weather, happiness, text, is_public, categories, images, made_at) ",
            );
            query.push_values(batch, |mut row, FreshPost { post, .. }| {
                row.push_bind(post.author.as_str())
                    .push_bind(i32::from(post.date.day()))
                    .push_bind(i64::from(post.date))
                    .push_bind(&post.weather)
                    .push_bind(post.happiness)
                    .push_bind(&post.text)
                    .push_bind(post.is_public)
                    .push_bind(write_list(&post.categories))
                    .push_bind(write_list(&post.images))
                    .push_bind(made_at);
            });
            query.build().execute(&mut *self.tx).await?;
            let days: Vec<_> = batch
                .iter()
                .map(|fresh| (&fresh.post.author, fresh.post.date))
                .collect();
            let ids = self.ids_of(&days).await?;
            let id_of = |post: &ImportPost| {
                let id = ids.get(&(post.author.clone(), i32::from(post.date.day())));
                id.copied()
                    .ok_or_else(|| StoreError::corrupt("a post that was inserted is missing"))
            };
            let (mut images, mut likes, mut imported) = (Vec::new(), Vec::new(), Vec::new());
            for fresh in batch {
                let id = id_of(&fresh.post)?;
                self.written.insert(id);
                images.extend(fresh.images.iter().map(|image| (id, image)));
                likes.extend(fresh.likes.iter().map(|like| (id, like)));
                imported.push((id, fresh));
            }
            for batch in images.chunks(BATCH) {
                let mut query = Query::new("INSERT INTO imported_image (legacy_id, image, post_id, imported_at) ");
                query.push_values(batch, |mut row, (post, (legacy_id, image))| {
                    row.push_bind(*legacy_id)
                        .push_bind(image.0)
                        .push_bind(*post)
                        .push_bind(made_at);
                });
                query.build().execute(&mut *self.tx).await?;
            }
            for batch in likes.chunks(BATCH) {
                let mut query = Query::new("INSERT INTO post_like (post_id, account, liked_at, made_at) ");
                query.push_values(batch, |mut row, (post, (id, account))| {
                    row.push_bind(*post)
                        .push_bind(account.as_str())
                        .push_bind((*id).min(LIKED_AT_BOUND - 1))
                        .push_bind(made_at);
                });
                query.build().execute(&mut *self.tx).await?;
                let posts: Vec<i64> = batch.iter().map(|(post, _)| *post).collect();
                likes::recount(&mut self.tx, &posts).await?;
            }
            let mut query = Query::new("INSERT INTO imported_post (legacy_id, post_id, source, written, imported_at) ");
            query.push_values(&imported, |mut row, (post, fresh)| {
                row.push_bind(fresh.legacy_id)
                    .push_bind(*post)
                    .push_bind(fresh.source.as_slice())
                    .push_bind(fresh.written.as_slice())
                    .push_bind(made_at);
            });
            query.build().execute(&mut *self.tx).await?;
        }
        let changes: Vec<Change> = posts
            .iter()
            .map(|fresh| Change::came(&fresh.post.categories, fresh.post.happiness))
            .collect();
        categories::record(&mut self.tx, &changes).await?;
        let images: Vec<ImageId> = posts
            .iter()
            .flat_map(|fresh| fresh.post.images.iter().copied())
            .collect();
        for images in images.chunks(BATCH) {
            self.take(images).await?;
        }
        Ok(())
    }

    async fn insert(&mut self, post: &ImportPost, made_at: Timestamp) -> Result<i64, StoreError> {
        let inserted = sqlx::query(
            "INSERT INTO post (account, day, date, weather, happiness, text, is_public, categories, images, made_at) \
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(post.author.as_str())
        .bind(i32::from(post.date.day()))
        .bind(i64::from(post.date))
        .bind(&post.weather)
        .bind(post.happiness)
        .bind(&post.text)
        .bind(post.is_public)
        .bind(write_list(&post.categories))
        .bind(write_list(&post.images))
        .bind(made_at.as_millisecond())
        .execute(&mut *self.tx)
        .await?;
        categories::record(&mut self.tx, &[Change::came(&post.categories, post.happiness)]).await?;
        self.take(&post.images).await?;
        let id = last_id(&inserted);
        self.written.insert(id);
        Ok(id)
    }

    async fn update(
        &mut self,
        id: i64,
        old: &ImportPost,
        post: &ImportPost,
        added: &[ImageId],
        made_at: Timestamp,
    ) -> Result<(), StoreError> {
        self.written.insert(id);
        sqlx::query(
            "UPDATE post SET account = ?, day = ?, date = ?, weather = ?, happiness = ?, text = ?, is_public = ?, friends_mark = NULL, categories = ?, images = ?, made_at = ? \
             WHERE id = ?",
        )
        .bind(post.author.as_str())
        .bind(i32::from(post.date.day()))
        .bind(i64::from(post.date))
        .bind(&post.weather)
        .bind(post.happiness)
        .bind(&post.text)
        .bind(post.is_public)
        .bind(write_list(&post.categories))
        .bind(write_list(&post.images))
        .bind(made_at.as_millisecond())
        .bind(id)
        .execute(&mut *self.tx)
        .await?;
        if (&old.categories, old.happiness) != (&post.categories, post.happiness) {
            let changes = [
                Change::went(old.categories.clone(), old.happiness),
                Change::came(&post.categories, post.happiness),
            ];
            categories::record(&mut self.tx, &changes).await?;
        }
        self.take(added).await?;
        let gone: Vec<ImageId> = old
            .images
            .iter()
            .copied()
            .filter(|image| !post.images.contains(image))
            .collect();
        self.discard(&gone, made_at).await
    }

    async fn delete(&mut self, id: i64, old: &ImportPost, now: Timestamp) -> Result<(), StoreError> {
        self.written.insert(id);
        sqlx::query("DELETE FROM post WHERE id = ?")
            .bind(id)
            .execute(&mut *self.tx)
            .await?;
        categories::record(&mut self.tx, &[Change::went(old.categories.clone(), old.happiness)]).await?;
        sqlx::query("DELETE FROM imported_image WHERE post_id = ?")
            .bind(id)
            .execute(&mut *self.tx)
            .await?;
        self.discard(&old.images, now).await
    }

    async fn legacy_likes(&mut self, post: i64) -> Result<HashSet<i64>, StoreError> {
        let likes: Vec<i64> = sqlx::query_scalar("SELECT liked_at FROM post_like WHERE post_id = ? AND liked_at < ?")
            .bind(post)
            .bind(LIKED_AT_BOUND)
            .fetch_all(&mut *self.tx)
            .await?;
        Ok(likes.into_iter().collect())
    }

    async fn set_likes(&mut self, post: i64, legacy: &[LegacyLike], made_at: Timestamp) -> Result<LeftOut, StoreError> {
        let rows = sqlx::query("SELECT account, liked_at FROM post_like WHERE post_id = ?")
            .bind(post)
            .fetch_all(&mut *self.tx)
            .await?;
        let mut likers = HashMap::new();
        for row in &rows {
            likers.insert(account(row, "account")?, row.try_get::<i64, _>("liked_at")?);
        }
        // A like that was taken back there. One that stays keeps the account that bore the nickname when it was first seen.
        let wanted: HashSet<i64> = legacy.iter().map(|like| like.id).collect();
        let gone = likers
            .iter()
            .filter(|(_, at)| **at < LIKED_AT_BOUND && !wanted.contains(*at))
            .map(|(liker, _)| liker.clone());
        for liker in gone.collect::<Vec<_>>() {
            sqlx::query("DELETE FROM post_like WHERE post_id = ? AND account = ?")
                .bind(post)
                .bind(liker.as_str())
                .execute(&mut *self.tx)
                .await?;
            likers.remove(&liker);
        }
        let placed: HashSet<i64> = likers.values().copied().collect();
        let (mut new, mut left_out) = (Vec::new(), LeftOut::default());
        for like in legacy.iter().filter(|like| !placed.contains(&like.id)) {
            match &like.liker {
                None => left_out.untold.push(like.id),
                Some(liker) if likers.contains_key(liker) => left_out.doubled.push(like.id),
                Some(liker) => {
                    likers.insert(liker.clone(), like.id);
                    new.push((like.id, liker));
                }
            }
        }
        for batch in new.chunks(BATCH) {
            let mut query = Query::new("INSERT INTO post_like (post_id, account, liked_at, made_at) ");
            query.push_values(batch, |mut row, (id, liker)| {
                row.push_bind(post)
                    .push_bind(liker.as_str())
                    .push_bind((*id).min(LIKED_AT_BOUND - 1))
                    .push_bind(made_at.as_millisecond());
            });
            query.build().execute(&mut *self.tx).await?;
        }
        self.written.insert(post);
        likes::recount(&mut self.tx, &[post]).await?;
        Ok(left_out)
    }

    async fn posts_after(&mut self, after: i64, limit: u32) -> Result<Vec<(i64, ImportPost)>, StoreError> {
        let mut query = Query::new(POST);
        query
            .push("id > ")
            .push_bind(after)
            .push(" ORDER BY id LIMIT ")
            .push_bind(i64::from(limit));
        let rows = query.build().fetch_all(&mut *self.tx).await?;
        rows.iter().map(|row| Ok((row.try_get("id")?, post(row)?))).collect()
    }

    async fn hidden(&mut self, posts: &[i64]) -> Result<HashSet<i64>, StoreError> {
        let mut hidden = HashSet::new();
        for select in [
            "SELECT post_id FROM post_moderation WHERE hidden = 1 AND post_id IN ",
            "SELECT post_id FROM post_review WHERE held = 1 AND post_id IN ",
        ] {
            for batch in posts.chunks(BATCH) {
                let mut query = Query::new(select);
                push_ids(&mut query, batch);
                for row in query.build().fetch_all(&mut *self.tx).await? {
                    hidden.insert(row.try_get("post_id")?);
                }
            }
        }
        Ok(hidden)
    }

    async fn likers(&mut self, posts: &[i64]) -> Result<HashMap<i64, Vec<Account>>, StoreError> {
        let mut likers: HashMap<i64, Vec<Account>> = HashMap::new();
        for batch in posts.chunks(BATCH) {
            let mut query = Query::new("SELECT post_id, account FROM post_like WHERE post_id IN ");
            push_ids(&mut query, batch);
            query.push(" ORDER BY liked_at, account");
            for row in query.build().fetch_all(&mut *self.tx).await? {
                let of_post = likers.entry(row.try_get("post_id")?).or_default();
                of_post.push(account(&row, "account")?);
            }
        }
        Ok(likers)
    }

    async fn legacy_images(&mut self, posts: &[i64]) -> Result<HashMap<i64, HashMap<i64, ImageId>>, StoreError> {
        let mut images: HashMap<i64, HashMap<i64, ImageId>> = HashMap::new();
        for batch in posts.chunks(BATCH) {
            let mut query = Query::new("SELECT post_id, legacy_id, image FROM imported_image WHERE post_id IN ");
            push_ids(&mut query, batch);
            for row in query.build().fetch_all(&mut *self.tx).await? {
                let of_post = images.entry(row.try_get("post_id")?).or_default();
                of_post.insert(row.try_get("legacy_id")?, ImageId(row.try_get("image")?));
            }
        }
        Ok(images)
    }

    async fn set_imported(&mut self, imported: &[ImportedPost]) -> Result<(), StoreError> {
        for batch in imported.chunks(BATCH) {
            let legacy_ids: Vec<i64> = batch.iter().map(|imported| imported.legacy_id).collect();
            let posts: Vec<i64> = batch.iter().map(|imported| imported.post).collect();
            self.forget_imported(&legacy_ids).await?;
            delete(&mut self.tx, "imported_post", "post_id", &posts).await?;
            let mut query = Query::new("INSERT INTO imported_post (legacy_id, post_id, source, written, imported_at) ");
            query.push_values(batch, |mut row, imported| {
                row.push_bind(imported.legacy_id)
                    .push_bind(imported.post)
                    .push_bind(imported.source.as_slice())
                    .push_bind(imported.written.as_slice())
                    .push_bind(imported.imported_at.as_millisecond());
            });
            query.build().execute(&mut *self.tx).await?;
        }
        Ok(())
    }

    async fn forget_imported(&mut self, legacy_ids: &[i64]) -> Result<(), StoreError> {
        delete(&mut self.tx, "imported_post", "legacy_id", legacy_ids).await
    }

    async fn set_images(&mut self, posts: &[LegacyImages]) -> Result<(), StoreError> {
        let ids: Vec<i64> = posts.iter().map(|of_post| of_post.post).collect();
        delete(&mut self.tx, "imported_image", "post_id", &ids).await?;
        let images: Vec<(&LegacyImages, &(i64, ImageId))> = posts
            .iter()
            .flat_map(|of_post| of_post.images.iter().map(move |image| (of_post, image)))
            .collect();
        for batch in images.chunks(BATCH) {
            let mut query = Query::new("INSERT INTO imported_image (legacy_id, image, post_id, imported_at) ");
            query.push_values(batch, |mut row, (of_post, (legacy_id, image))| {
                row.push_bind(*legacy_id)
                    .push_bind(image.0)
                    .push_bind(of_post.post)
                    .push_bind(of_post.imported_at.as_millisecond());
            });
            query.build().execute(&mut *self.tx).await?;
        }
        Ok(())
    }

    async fn commit(mut self: Box<Self>) -> Result<(), StoreError> {
        let written: Vec<i64> = self.written.iter().copied().collect();
        for posts in written.chunks(BATCH) {
            views::rebuild(&mut self.tx, posts, self.now).await?;
        }
        Ok(self.tx.commit().await?)
    }
}

impl SqlImport {
    /// The posts of these days of authors.
    async fn ids_of(&mut self, days: &[(&Account, PostDate)]) -> Result<HashMap<(Account, i32), i64>, StoreError> {
        let mut ids = HashMap::with_capacity(days.len());
        for batch in days.chunks(DAYS) {
            let mut query = Query::new("SELECT id, account, day FROM post WHERE ");
            let mut either = query.separated(" OR ");
            for (author, date) in batch {
                either
                    .push("(account = ")
                    .push_bind_unseparated(author.as_str())
                    .push_unseparated(" AND day = ")
                    .push_bind_unseparated(i32::from(date.day()))
                    .push_unseparated(")");
            }
            for row in query.build().fetch_all(&mut *self.tx).await? {
                ids.insert((account(&row, "account")?, row.try_get("day")?), row.try_get("id")?);
            }
        }
        Ok(ids)
    }

    async fn take(&mut self, images: &[ImageId]) -> Result<(), StoreError> {
        match images::take(&mut self.tx, images).await {
            Ok(()) => Ok(()),
            Err(WriteError::Store(error)) => Err(error),
            Err(other) => Err(StoreError::Retry(anyhow::anyhow!("{other}"))),
        }
    }

    async fn discard(&mut self, images: &[ImageId], now: Timestamp) -> Result<(), StoreError> {
        images::discard(&mut self.tx, images, now).await
    }
}

/// Deletes the rows that have one of these numbers in this column.
async fn delete(tx: &mut engine::Tx, table: &str, column: &str, ids: &[i64]) -> Result<(), StoreError> {
    for batch in ids.chunks(BATCH) {
        let mut query = Query::new(format!("DELETE FROM {table} WHERE {column} IN "));
        push_ids(&mut query, batch);
        query.build().execute(&mut **tx).await?;
    }
    Ok(())
}

fn push_ids(query: &mut Query, ids: &[i64]) {
    query.push("(");
    let mut list = query.separated(", ");
    for id in ids {
        list.push_bind(*id);
    }
    query.push(")");
}

fn imported(row: &Row) -> Result<ImportedPost, StoreError> {
    let fingerprint = |column: &str| -> Result<Fingerprint, StoreError> {
        let bytes: Vec<u8> = row.try_get_unchecked(column)?;
        bytes
            .try_into()
            .map_err(|_| StoreError::corrupt("a fingerprint in the database is not one"))
    };
    let imported_at: i64 = row.try_get("imported_at")?;
    Ok(ImportedPost {
        legacy_id: row.try_get("legacy_id")?,
        post: row.try_get("post_id")?,
        source: fingerprint("source")?,
        written: fingerprint("written")?,
        imported_at: Timestamp::from_millisecond(imported_at)
            .map_err(|_| StoreError::corrupt("a time in the database is not one"))?,
    })
}

fn post(row: &Row) -> Result<ImportPost, StoreError> {
    Ok(ImportPost {
        author: account(row, "account")?,
        date: date(row)?,
        weather: row.try_get("weather")?,
        happiness: row.try_get("happiness")?,
        text: row.try_get("text")?,
        is_public: row.try_get("is_public")?,
        categories: read_list(row, "categories")?,
        images: read_list(row, "images")?,
    })
}
