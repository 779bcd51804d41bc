//! Posts as their author writes and reads them.

use std::collections::HashMap;

use async_trait::async_trait;
use jiff::Timestamp;
use sosohappy_common::Account;
use sosohappy_events::Envelope;
use sosohappy_events::types::{PostChange, PostChanged};
use sosohappy_media::ImageId;
use sosohappy_store::{StoreError, retrying};
use sqlx::Row as _;

use super::{
    Query, Row, SqlStore, account, categories, date, drafts, engine, friends_mark, idempotency, images, last_id,
    public, read_list, reviews, versions, visibility, write_list,
};
use crate::domain::companions::Change;
use crate::domain::post::PostVersion;
use crate::domain::review::ReviewedPost;
use crate::domain::word_list::version_of;
use crate::domain::{Day, Days, NewPost, OwnPost, PageFrom, SeenPost, Visibility};
use crate::store::{Copied, Posts, Saved, Shown, Toggled, VisibilityChange, WriteError};

pub(super) const ONE_A_DAY: &str = "post_account_day";

#[async_trait]
impl Posts for SqlStore {
    async fn save(&self, post: &NewPost, now: Timestamp) -> Result<Saved, WriteError> {
        retrying(async || match self.insert(post, Drafts::Deleted, now).await {
            Err(WriteError::Store(StoreError::Conflict(rule))) if rule == ONE_A_DAY => self.replace(post, now).await,
            done => done,
        })
        .await
    }

    async fn repeat(&self, post: &NewPost, now: Timestamp) -> Result<bool, WriteError> {
        retrying(async || {
            let mut tx = self.database.begin().await?;
            if is_stored(&mut tx, post, now).await? {
                return Ok(true);
            }
            match previous(&mut tx, post).await? {
                Some(previous) if previous.is_outcome_of(post) => {
                    finish_repeat(tx, &previous, post).await.map(|_| true)
                }
                Some(_) | None => Ok(false),
            }
        })
        .await
    }

    async fn own(&self, author: &Account, days: Days) -> Result<Vec<OwnPost>, StoreError> {
        let mut query = Query::new("");
        push_own(&mut query, author, days);
        let rows = query.build().fetch_all(self.database.reader()).await?;
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let mut likers = self.likers(author, days).await?;
        rows.iter()
            .map(|row| own_post(row, likers.remove(&row.try_get("id")?).unwrap_or_default()))
            .collect()
    }

    async fn history(
        &self,
        author: &Account,
        day: Day,
        from: PageFrom,
        rows: i64,
    ) -> Result<Option<Vec<PostVersion>>, StoreError> {
        self.versions(author, day, from, rows).await
    }

    async fn visibility(&self, author: &Account, day: Day) -> Result<Option<(Visibility, Vec<ImageId>)>, StoreError> {
        let row = sqlx::query("SELECT is_public, friend_date, images FROM post WHERE account = ? AND day = ?")
            .bind(author.as_str())
            .bind(i32::from(day))
            .fetch_optional(self.database.reader())
            .await?;
        row.map(|row| Ok((visibility(&row)?, read_list(&row, "images")?)))
            .transpose()
    }

    async fn set_visibility(
        &self,
        author: &Account,
        day: Day,
        change: &VisibilityChange,
        now: Timestamp,
    ) -> Result<Toggled, WriteError> {
        let former: Vec<ImageId> = change.copies.iter().map(|copied| copied.old).collect();
        let new: Vec<ImageId> = change.copies.iter().map(|copied| copied.new).collect();
        retrying(async || {
            let mut tx = self.database.begin().await?;
            let Some(Locked {
                held: post,
                text,
                weather,
            }) = locked(&mut tx, author, day).await?
            else {
                tx.rollback().await.map_err(StoreError::from)?;
                return Ok(Toggled::NoPost);
            };
            // The copies must be of all pictures that some must not see any more.
            let exposed = if change.from.narrows_to(change.to) {
                &post.images[..]
            } else {
                &[]
            };
            if post.visibility != change.from || exposed != former {
                tx.rollback().await.map_err(StoreError::from)?;
                return Ok(Toggled::Changed);
            }
            if change.from == change.to {
                tx.rollback().await.map_err(StoreError::from)?;
                return Ok(Toggled::Done);
            }
            sqlx::query("UPDATE post SET is_public = ?, friends_mark = CASE WHEN ? = 1 THEN date END WHERE id = ?")
                .bind(change.to.is_public())
                .bind(change.to == Visibility::Friends)
                .bind(post.id)
                .execute(&mut *tx)
                .await
                .map_err(StoreError::from)?;
            if !change.copies.is_empty() {
                give_new_ids(&mut tx, post.id, &change.copies).await?;
                images::take(&mut tx, &new).await?;
                images::discard(&mut tx, &former, now).await?;
            }
            // The list may have got the word since the post was saved.
            if change.to < change.from && change.words.is_in_post(&text, &post.categories, &weather) {
                let version = version_of(&text, &post.categories, &weather);
                reviews::hold_post(&mut tx, post.id, Some(&version), now).await?;
            }
            self.tell(&mut tx, &[post.id], &PostChange::Changed.into(), now).await?;
            tx.commit().await.map_err(StoreError::from)?;
            Ok(Toggled::Done)
        })
        .await
    }

    async fn delete(&self, author: &Account, day: Day, now: Timestamp) -> Result<bool, StoreError> {
        retrying(async || {
            let mut tx = self.database.begin().await?;
            let Some(Locked { held: post, .. }) = locked(&mut tx, author, day).await? else {
                tx.rollback().await?;
                return Ok(false);
            };
            self.tell(&mut tx, &[post.id], &PostChange::Deleted.into(), now).await?;
            sqlx::query("DELETE FROM post WHERE id = ?")
                .bind(post.id)
                .execute(&mut *tx)
                .await?;
            categories::record(&mut tx, &[Change::went(post.categories, post.happiness)]).await?;
            images::discard(&mut tx, &post.images, now).await?;
            tx.commit().await?;
            Ok(true)
        })
        .await
    }

    async fn public(&self, shown: &Shown<'_>, from: PageFrom, rows: i64) -> Result<Vec<SeenPost>, StoreError> {
        public::page(self.database.reader(), shown, from, rows).await
    }

    async fn of_friends(
        &self,
        viewer: &Account,
        today: Day,
        from: PageFrom,
        rows: i64,
    ) -> Result<Vec<SeenPost>, StoreError> {
        self.posts_of_friends(viewer, today, from, rows).await
    }

    #[cfg(test)]
    async fn friends_plan(&self, friends: &[Account], from: PageFrom, rows: i64) -> Vec<String> {
        self.plan_of_friends(friends, from, rows).await
    }

    #[cfg(test)]
    async fn list_plan(&self, list: crate::store::List<'_>, from: PageFrom) -> Vec<String> {
        use crate::store::List;

        let mut query = Query::new(super::super::EXPLAIN);
        match list {
            List::Own(author, days) => push_own(&mut query, author, days),
            List::Likers(author, days) => push_likers(&mut query, author, days),
            List::Happiness(author, days) => push_happiness(&mut query, author, days),
            List::Reviewed(author, days) => push_reviewed(&mut query, author, days),
            List::Exported(author) => super::exports::push_page(&mut query, author, 20_200_301, 8),
            List::Versions(post) => versions::push_page(&mut query, post, from, 8),
            List::Drafts(account, day) => drafts::push_page(&mut query, account, day, from, 8),
            List::HeldPosts => reviews::push_held_posts(&mut query, from, 8),
            List::HeldComments => reviews::push_held_comments(&mut query, from, 8),
        }
        super::plan(self.database.reader(), &mut query).await
    }

    #[cfg(test)]
    async fn public_plan(&self, shown: &Shown<'_>, from: PageFrom, rows: i64) -> Vec<String> {
        public::plan(self.database.reader(), shown, from, rows).await
    }

    async fn reviewed(&self, author: &Account, days: Days) -> Result<Vec<ReviewedPost>, StoreError> {
        let mut query = Query::new("");
        push_reviewed(&mut query, author, days);
        let rows = query.build().fetch_all(self.database.reader()).await?;
        rows.iter()
            .map(|row| {
                Ok(ReviewedPost {
                    date: date(row)?,
                    happiness: row.try_get("happiness")?,
                    weather: row.try_get("weather")?,
                    categories: read_list(row, "categories")?,
                    likes: row.try_get("likes")?,
                    comments: row.try_get("comments")?,
                })
            })
            .collect()
    }

    async fn happiness(&self, author: &Account, days: Days) -> Result<Vec<(Day, i32)>, StoreError> {
        let mut query = Query::new("");
        push_happiness(&mut query, author, days);
        let rows: Vec<(i64, i32)> = query.build_query_as().fetch_all(self.database.reader()).await?;
        rows.into_iter()
            .map(|(date, happiness)| Ok((super::post_date(date)?.day(), happiness)))
            .collect()
    }
}

impl SqlStore {
    /// The common case first: most saves are the first of their day.
    pub(super) async fn insert(&self, post: &NewPost, drafts: Drafts, now: Timestamp) -> Result<Saved, WriteError> {
        let content = &post.content;
        let categories = content.category_names();
        let mut tx = self.database.begin().await?;
        if is_stored(&mut tx, post, now).await? {
            return Ok(Saved::Repeated);
        }
        let inserted = sqlx::query(
            "INSERT INTO post (account, day, date, weather, happiness, text, is_public, friends_mark, categories, images, uploads, made_at, revision) \
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 1)",
        )
        .bind(post.author.account.as_str())
        .bind(i32::from(content.date.day()))
        .bind(i64::from(content.date))
        .bind(content.weather.as_str())
        .bind(content.happiness)
        .bind(&content.text)
        .bind(content.visibility.is_public())
        .bind(friends_mark(content.visibility, content.date))
        .bind(write_list(&categories))
        .bind(write_list(&post.images))
        .bind(stored_uploads(post))
        .bind(post.author.authorized_at.as_millisecond())
        .execute(&mut *tx)
        .await;
        let id = match inserted {
            Ok(done) => last_id(&done),
            Err(error) => {
                tx.rollback().await.map_err(StoreError::from)?;
                return Err(StoreError::from(error).into());
            }
        };
        let event = PostChanged {
            change: PostChange::Saved,
            author: post.author.account.clone(),
            date: content.date.into(),
            post: id,
            is_public: content.visibility.is_public(),
            is_for_friends: content.visibility == Visibility::Friends,
            is_hidden: post.review.is_some(),
            likes: 0,
            bookmarks: 0,
            comments: 0,
            revision: 1,
            actor: None,
            comment: None,
        };
        let record = Envelope::new(event, &self.context).to_outgoing();
        engine::enqueue(&mut tx, &record, now).await?;
        if let Some(version) = &post.review {
            reviews::hold_post(&mut tx, id, Some(version), now).await?;
        }
        categories::record(&mut tx, &[Change::came(&categories, content.happiness)]).await?;
        let has_draft = has_draft(&mut tx, post).await?;
        finish(tx, post, if has_draft { drafts } else { Drafts::Kept }).await
    }

    async fn replace(&self, post: &NewPost, now: Timestamp) -> Result<Saved, WriteError> {
        let content = &post.content;
        let names = content.category_names();
        let mut tx = self.database.begin().await?;
        if is_stored(&mut tx, post, now).await? {
            return Ok(Saved::Repeated);
        }
        let Some(previous) = previous(&mut tx, post).await? else {
            tx.rollback().await.map_err(StoreError::from)?;
            return Err(StoreError::Retry(anyhow::anyhow!("the post went while it was to be replaced")).into());
        };
        if previous.is_outcome_of(post) {
            return finish_repeat(tx, &previous, post).await;
        }
        let old = previous.held;
        versions::keep(&mut tx, old.id, post.history, now).await?;
        overwrite(&mut tx, old.id, post, now).await?;
        if (&old.categories, old.happiness) != (&names, content.happiness) {
            let changes = [
                Change::went(old.categories, old.happiness),
                Change::came(&names, content.happiness),
            ];
            categories::record(&mut tx, &changes).await?;
        }
        images::discard(&mut tx, &old.images, now).await?;
        reviews::hold_post(&mut tx, old.id, post.review.as_ref(), now).await?;
        self.tell_advanced(&mut tx, old.id, &PostChange::Changed.into(), now)
            .await?;
        finish(tx, post, Drafts::Deleted).await
    }

    /// Likers by post, in the order of their likes, without those who are in a block with the author.
    async fn likers(&self, author: &Account, days: Days) -> Result<HashMap<i64, Vec<Account>>, StoreError> {
        let mut query = Query::new("");
        push_likers(&mut query, author, days);
        let mut likers: HashMap<i64, Vec<Account>> = HashMap::new();
        for row in query.build().fetch_all(self.database.reader()).await? {
            likers
                .entry(row.try_get("post_id")?)
                .or_default()
                .push(account(&row, "account")?);
        }
        Ok(likers)
    }
}

fn push_own(query: &mut Query, author: &Account, days: Days) {
    query.push(
        "SELECT id, date, weather, happiness, text, is_public, friend_date, categories, images, edited_at, \
         (EXISTS (SELECT 1 FROM post_moderation h WHERE h.hidden = 1 AND h.post_id = post.id) \
         OR EXISTS (SELECT 1 FROM post_review r WHERE r.held = 1 AND r.post_id = post.id)) AS is_hidden FROM post",
    );
    push_days(query, author, days);
    query.push(" DESC");
}

fn push_reviewed(query: &mut Query, author: &Account, days: Days) {
    query.push("SELECT date, happiness, weather, categories, likes, comments FROM post");
    push_days(query, author, days);
}

fn push_happiness(query: &mut Query, author: &Account, days: Days) {
    query.push("SELECT date, happiness FROM post");
    push_days(query, author, days);
}

/// The posts of an author, in the order of their days.
fn push_days(query: &mut Query, author: &Account, days: Days) {
    query
        .push(" WHERE account = ")
        .push_bind(author.as_str())
        .push(" AND day BETWEEN ")
        .push_bind(i32::from(days.first));
    query
        .push(" AND ")
        .push_bind(i32::from(days.last))
        .push(" ORDER BY day");
}

fn push_likers(query: &mut Query, author: &Account, days: Days) {
    query
        .push("SELECT l.post_id, l.account FROM post p JOIN post_like l ON l.post_id = p.id WHERE p.account = ")
        .push_bind(author.as_str())
        .push(" AND p.day BETWEEN ")
        .push_bind(i32::from(days.first));
    query.push(" AND ").push_bind(i32::from(days.last));
    public::push_not_blocked(query, author, "l.account");
    query.push(" ORDER BY l.liked_at, l.account");
}

/// Gives a post the copies as its pictures, also under their legacy ids, which are answered only to accounts that may see the post.
pub(super) async fn give_new_ids(tx: &mut engine::Tx, post: i64, copies: &[Copied]) -> Result<(), StoreError> {
    let new: Vec<ImageId> = copies.iter().map(|copied| copied.new).collect();
    sqlx::query("UPDATE post SET images = ? WHERE id = ?")
        .bind(write_list(&new))
        .bind(post)
        .execute(&mut **tx)
        .await?;
    let mut query = Query::new("UPDATE imported_image SET image = CASE image");
    for copied in copies {
        query.push(" WHEN ").push_bind(copied.old.0);
        query.push(" THEN ").push_bind(copied.new.0);
    }
    query.push(" ELSE image END WHERE post_id = ").push_bind(post);
    query.build().execute(&mut **tx).await?;
    Ok(())
}

/// Whether this very request was stored under its key.
async fn is_stored(tx: &mut engine::Tx, post: &NewPost, now: Timestamp) -> Result<bool, WriteError> {
    match &post.key {
        Some(keyed) => idempotency::is_stored(tx, &post.author.account, keyed, now).await,
        None => Ok(false),
    }
}

/// Returns whether there is a draft of the post's day. Refuses a writer who has resigned since the token was issued; called after the post's own
/// row, for which an erasure waits.
async fn has_draft(tx: &mut engine::Tx, post: &NewPost) -> Result<bool, WriteError> {
    let writer = &post.author;
    let mut query = Query::new("SELECT EXISTS (SELECT 1 FROM post_draft d WHERE d.account = ");
    query.push_bind(writer.account.as_str()).push(" AND d.day = ");
    query
        .push_bind(i32::from(post.content.date.day()))
        .push(") AS has_draft, ");
    engine::erased_accounts::push_not_erased(&mut query, &writer.account, writer.authorized_at);
    query.push(" AS is_here");
    let (has_draft, is_here): (i64, i64) = query
        .build_query_as()
        .fetch_one(&mut **tx)
        .await
        .map_err(StoreError::from)?;
    if is_here == 0 {
        return Err(WriteError::Resigned);
    }
    Ok(has_draft != 0)
}

/// Effect of a save on the draft of its day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Drafts {
    Deleted,
    /// The draft is not of the post that is saved.
    Kept,
}

/// Writes a post with its next revision over one that is locked. Refuses a writer who has resigned since the token was issued: an erasure waits
/// for the lock.
async fn overwrite(tx: &mut engine::Tx, id: i64, post: &NewPost, now: Timestamp) -> Result<(), WriteError> {
    let content = &post.content;
    let mut query = Query::new("UPDATE post SET revision = revision + 1, date = ");
    query.push_bind(i64::from(content.date));
    query.push(", weather = ").push_bind(content.weather.as_str());
    query.push(", happiness = ").push_bind(content.happiness);
    query.push(", text = ").push_bind(content.text.as_str());
    query.push(", is_public = ").push_bind(content.visibility.is_public());
    query
        .push(", friends_mark = ")
        .push_bind(friends_mark(content.visibility, content.date));
    query
        .push(", categories = ")
        .push_bind(write_list(&content.category_names()));
    query.push(", images = ").push_bind(write_list(&post.images));
    query.push(", uploads = ").push_bind(stored_uploads(post));
    query
        .push(", made_at = ")
        .push_bind(post.author.authorized_at.as_millisecond());
    query.push(", edited_at = ").push_bind(now.as_millisecond());
    query.push(" WHERE id = ").push_bind(id).push(" AND ");
    engine::erased_accounts::push_not_erased(&mut query, &post.author.account, post.author.authorized_at);
    let written = query.build().execute(&mut **tx).await.map_err(StoreError::from)?;
    if written.rows_affected() == 0 {
        return Err(WriteError::Resigned);
    }
    Ok(())
}

/// The last steps of every save that is stored.
async fn finish(mut tx: engine::Tx, post: &NewPost, drafts: Drafts) -> Result<Saved, WriteError> {
    images::take(&mut tx, &post.images).await?;
    if drafts == Drafts::Deleted {
        drafts::delete(&mut tx, &post.author.account, post.content.date.day()).await?;
    }
    if let Some(keyed) = &post.key {
        idempotency::store(&mut tx, &post.author, keyed).await?;
    }
    tx.commit().await.map_err(StoreError::from)?;
    Ok(Saved::Stored)
}

/// The last steps of a repeated save. The post is from now on one that was written with the newer token: a resignation before that token
/// erases it no more.
async fn finish_repeat(mut tx: engine::Tx, previous: &Previous, post: &NewPost) -> Result<Saved, WriteError> {
    let made_at = post.author.authorized_at.as_millisecond();
    if made_at > previous.made_at {
        sqlx::query("UPDATE post SET made_at = ? WHERE id = ?")
            .bind(made_at)
            .bind(previous.held.id)
            .execute(&mut *tx)
            .await
            .map_err(StoreError::from)?;
    }
    drafts::delete(&mut tx, &post.author.account, post.content.date.day()).await?;
    if let Some(keyed) = &post.key {
        idempotency::store(&mut tx, &post.author, keyed).await?;
    }
    super::still_here(&mut tx, &post.author).await?;
    tx.commit().await.map_err(StoreError::from)?;
    Ok(Saved::Repeated)
}

/// The post of a day that is to be written anew.
struct Previous {
    held: Held,
    date: i64,
    weather: String,
    text: String,
    uploads: Option<Vec<u8>>,
    made_at: i64,
}

impl Previous {
    /// Whether a save of exactly this has left the post as it is now.
    fn is_outcome_of(&self, post: &NewPost) -> bool {
        let content = &post.content;
        let pictures = match post.uploads {
            None => self.held.images.is_empty(),
            Some(uploads) => self.uploads.as_deref() == Some(&uploads.stored_as(&self.held.images)[..]),
        };
        pictures
            && self.date == i64::from(content.date)
            && self.weather == content.weather.as_str()
            && self.held.happiness == content.happiness
            && self.text == content.text
            && self.held.visibility == content.visibility
            && self.held.categories == content.category_names()
    }
}

/// Locks and reads the post that has the author and the day of this one.
async fn previous(tx: &mut engine::Tx, post: &NewPost) -> Result<Option<Previous>, StoreError> {
    let mut query = Query::new(
        "SELECT id, is_public, friend_date, happiness, categories, images, date, weather, text, uploads, made_at FROM post WHERE account = ",
    );
    query
        .push_bind(post.author.account.as_str())
        .push(" AND day = ")
        .push_bind(i32::from(post.content.date.day()))
        .push(engine::FOR_UPDATE);
    let row = query.build().fetch_optional(&mut **tx).await?;
    row.map(|row| {
        Ok(Previous {
            held: held(&row)?,
            date: row.try_get("date")?,
            weather: row.try_get("weather")?,
            text: row.try_get("text")?,
            uploads: row.try_get("uploads")?,
            made_at: row.try_get("made_at")?,
        })
    })
    .transpose()
}

fn stored_uploads(post: &NewPost) -> Option<Vec<u8>> {
    post.uploads.map(|uploads| uploads.stored_as(&post.images).to_vec())
}

/// Counters and images to clean up when a post is deleted.
pub(super) struct Held {
    pub(super) id: i64,
    pub(super) visibility: Visibility,
    pub(super) happiness: i32,
    pub(super) categories: Vec<String>,
    pub(super) images: Vec<ImageId>,
}

pub(super) fn held(row: &Row) -> Result<Held, StoreError> {
    Ok(Held {
        id: row.try_get("id")?,
        visibility: visibility(row)?,
        happiness: row.try_get("happiness")?,
        categories: read_list(row, "categories")?,
        images: read_list(row, "images")?,
    })
}

async fn locked(tx: &mut engine::Tx, author: &Account, day: Day) -> Result<Option<Locked>, StoreError> {
    let mut query = Query::new(
        "SELECT id, is_public, friend_date, happiness, categories, images, text, weather FROM post WHERE account = ",
    );
    query
        .push_bind(author.as_str())
        .push(" AND day = ")
        .push_bind(i32::from(day))
        .push(engine::FOR_UPDATE);
    let row = query.build().fetch_optional(&mut **tx).await?;
    row.map(|row| {
        Ok(Locked {
            held: held(&row)?,
            text: row.try_get("text")?,
            weather: row.try_get("weather")?,
        })
    })
    .transpose()
}

/// A post whose row is locked.
struct Locked {
    held: Held,
    text: String,
    weather: String,
}

fn own_post(row: &Row, likers: Vec<Account>) -> Result<OwnPost, StoreError> {
    let edited_at: Option<i64> = row.try_get("edited_at")?;
    let is_hidden: i64 = row.try_get("is_hidden")?;
    Ok(OwnPost {
        is_hidden: is_hidden != 0,
        date: date(row)?,
        weather: row.try_get("weather")?,
        happiness: row.try_get("happiness")?,
        text: row.try_get("text")?,
        visibility: visibility(row)?,
        categories: read_list(row, "categories")?,
        images: read_list(row, "images")?,
        likers,
        edited_at: edited_at
            .map(Timestamp::from_millisecond)
            .transpose()
            .map_err(|_| StoreError::corrupt("a time in the database is not one"))?,
    })
}
