//! Content that moderators hide and restore, and the copies of what was reported.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use sosohappy_common::Account;
use sosohappy_events::types::{ModerationOutcome, PostChange};
use sosohappy_media::ImageId;
use sosohappy_store::{PRIMARY, StoreError, retrying};
use sqlx::Row as _;

use super::{
    Query, SqlStore, account, comments, date, engine, images, instant, likes, post_events, posts, public, read_list,
    text, visibility,
};
use crate::domain::{Day, Visibility};
use crate::store::{Content, Copied, Decision, HiddenPost, Moderation, Renewal, ReportedContent, Toggled};

/// Rows that a step of a renewal reads.
const STEP: i64 = 100;

const RENEWING: &str = "image-renewal";
const RENEWING_FOR: Duration = Duration::from_secs(10);

#[async_trait]
impl Moderation for SqlStore {
    async fn moderate(
        &self,
        author: &Account,
        content: Content,
        decision: Decision<'_>,
        now: Timestamp,
    ) -> Result<(ModerationOutcome, Option<HiddenPost>), StoreError> {
        retrying(async || match content {
            Content::Post(day) => self.moderate_post(author, day, decision, now).await,
            Content::Comment(id) => Ok((self.moderate_comment(author, id, decision, now).await?, None)),
        })
        .await
    }

    async fn renew_images(&self, post: HiddenPost, copies: &[Copied], now: Timestamp) -> Result<Toggled, StoreError> {
        let former: Vec<ImageId> = copies.iter().map(|copied| copied.old).collect();
        let new: Vec<ImageId> = copies.iter().map(|copied| copied.new).collect();
        retrying(async || {
            let mut tx = self.database.begin().await?;
            likes::lock(&mut tx, &[post.id]).await?;
            let row = sqlx::query("SELECT images FROM post WHERE id = ?")
                .bind(post.id)
                .fetch_optional(&mut *tx)
                .await?;
            let Some(row) = row else {
                tx.rollback().await?;
                return Ok(Toggled::NoPost);
            };
            let present: Vec<ImageId> = read_list(&row, "images")?;
            if present != former {
                tx.rollback().await?;
                return Ok(Toggled::Changed);
            }
            if !copies.is_empty() {
                posts::give_new_ids(&mut tx, post.id, copies).await?;
                images::discard(&mut tx, &former, now).await?;
                images::take(&mut tx, &new)
                    .await
                    .map_err(|error| StoreError::Retry(error.into()))?;
            }
            sqlx::query("UPDATE post_moderation SET images_renewed = 1 WHERE post_id = ?")
                .bind(post.id)
                .execute(&mut *tx)
                .await?;
            tx.commit().await?;
            Ok(Toggled::Done)
        })
        .await
    }

    async fn request_renewal(&self, author: &Account, at: Timestamp) -> Result<(), StoreError> {
        retrying(async || {
            let mut tx = self.database.begin().await?;
            sqlx::query("DELETE FROM image_renewal WHERE account = ?")
                .bind(author.as_str())
                .execute(&mut *tx)
                .await?;
            sqlx::query("INSERT INTO image_renewal (account, requested_at) VALUES (?, ?)")
                .bind(author.as_str())
                .bind(at.as_millisecond())
                .execute(&mut *tx)
                .await
                // Another replica was quicker.
                .map_err(|error| StoreError::from(error).retry_if_taken(&[PRIMARY]))?;
            Ok(tx.commit().await?)
        })
        .await
    }

    async fn lease_renewals(&self) -> Result<bool, StoreError> {
        self.database
            .lease(RENEWING, &self.context.instance, RENEWING_FOR)
            .await
    }

    async fn renewals(&self) -> Result<Vec<Renewal>, StoreError> {
        let rows = sqlx::query("SELECT account, requested_at FROM image_renewal ORDER BY requested_at LIMIT ?")
            .bind(STEP)
            .fetch_all(self.database.reader())
            .await?;
        let renewals = rows.iter().map(|row| {
            Ok(Renewal {
                account: account(row, "account")?,
                requested_at: instant(row, "requested_at")?,
            })
        });
        renewals.collect()
    }

    async fn known_pictures(&self, author: &Account, after: Option<Day>) -> Result<Vec<HiddenPost>, StoreError> {
        let mut query = Query::new("SELECT p.id, p.date FROM post p WHERE p.account = ");
        query
            .push_bind(author.as_str())
            .push(" AND p.day > ")
            .push_bind(after.map_or(0, i32::from))
            .push(" AND p.friend_date IS NOT NULL AND p.images <> '[]' ORDER BY p.day LIMIT ")
            .push_bind(STEP);
        let rows = query.build().fetch_all(self.database.reader()).await?;
        let posts = rows.iter().map(|row| {
            Ok(HiddenPost {
                id: row.try_get("id")?,
                date: date(row)?,
            })
        });
        posts.collect()
    }

    async fn end_renewal(&self, renewal: &Renewal) -> Result<(), StoreError> {
        retrying(async || {
            let mut tx = self.database.begin().await?;
            sqlx::query("DELETE FROM image_renewal WHERE account = ? AND requested_at = ?")
                .bind(renewal.account.as_str())
                .bind(renewal.requested_at.as_millisecond())
                .execute(&mut *tx)
                .await?;
            Ok(tx.commit().await?)
        })
        .await
    }

    async fn keep_reported(
        &self,
        report: i64,
        author: &Account,
        content: Content,
        reporter: Option<&Account>,
        at: Timestamp,
    ) -> Result<bool, StoreError> {
        retrying(async || {
            let mut tx = self.database.begin().await?;
            let mut query = Query::new("");
            match content {
                Content::Post(day) => {
                    query
                        .push("SELECT p.id AS post_id, p.text FROM post p WHERE p.account = ")
                        .push_bind(author.as_str())
                        .push(" AND p.day = ")
                        .push_bind(i32::from(day));
                }
                Content::Comment(id) => {
                    query
                        .push("SELECT c.post_id, c.text FROM post_comment c")
                        .push(" JOIN post p ON p.id = c.post_id WHERE c.account = ")
                        .push_bind(author.as_str())
                        .push(" AND c.id = ")
                        .push_bind(id);
                }
            }
            if let Some(reporter) = reporter {
                push_reportable(&mut query, reporter, at);
            } else {
                query.push(" AND p.public_date IS NOT NULL");
            }
            let Some(row) = query.build().fetch_optional(&mut *tx).await? else {
                return Ok(false);
            };
            // The pictures are those of the post itself: a comment has none.
            let post: Option<i64> = match content {
                Content::Post(_) => Some(row.try_get("post_id")?),
                Content::Comment(_) => None,
            };
            let inserted = sqlx::query(
                "INSERT INTO reported_content (report, author, post_id, text, reported_at) VALUES (?, ?, ?, ?, ?)",
            )
            .bind(report)
            .bind(author.as_str())
            .bind(post)
            .bind(text(&row, "text")?)
            .bind(at.as_millisecond())
            .execute(&mut *tx)
            .await
            .map_err(StoreError::from);
            match inserted {
                Ok(_) => {
                    tx.commit().await?;
                    Ok(true)
                }
                // Delivered again, or closed before: what is there stays.
                Err(StoreError::Conflict(rule)) if rule == PRIMARY => Ok(true),
                Err(error) => Err(error),
            }
        })
        .await
    }

    async fn close_reported(&self, report: i64, at: Timestamp) -> Result<(), StoreError> {
        retrying(async || {
            let mut tx = self.database.begin().await?;
            let closed =
                sqlx::query("UPDATE reported_content SET author = NULL, post_id = NULL, text = NULL WHERE report = ?")
                    .bind(report)
                    .execute(&mut *tx)
                    .await?;
            // A row without a text keeps a late `reported` from storing one.
            if closed.rows_affected() == 0 {
                let inserted = sqlx::query("INSERT INTO reported_content (report, reported_at) VALUES (?, ?)")
                    .bind(report)
                    .bind(at.as_millisecond())
                    .execute(&mut *tx)
                    .await
                    .map_err(StoreError::from);
                match inserted {
                    Ok(_) => {}
                    // Another replica was quicker.
                    Err(StoreError::Conflict(rule)) if rule == PRIMARY => return Ok(()),
                    Err(error) => return Err(error),
                }
            }
            Ok(tx.commit().await?)
        })
        .await
    }

    async fn reported(&self, report: i64) -> Result<Option<ReportedContent>, StoreError> {
        let row = sqlx::query(
            "SELECT reported_content.text, post.images FROM reported_content
            LEFT JOIN post ON post.id = reported_content.post_id
            WHERE reported_content.report = ? AND reported_content.text IS NOT NULL",
        )
        .bind(report)
        .fetch_optional(self.database.reader())
        .await?;
        row.map(|row| {
            let images: Option<String> = row.try_get_unchecked("images")?;
            Ok(ReportedContent {
                text: text(&row, "text")?,
                images: images.map_or_else(|| Ok(Vec::new()), |_| read_list(&row, "images"))?,
            })
        })
        .transpose()
    }

    async fn forget_reported(&self, before: Timestamp) -> Result<(), StoreError> {
        retrying(async || {
            let mut tx = self.database.begin().await?;
            sqlx::query("DELETE FROM reported_content WHERE reported_at < ?")
                .bind(before.as_millisecond())
                .execute(&mut *tx)
                .await?;
            Ok(tx.commit().await?)
        })
        .await
    }
}

impl SqlStore {
    async fn moderate_post(
        &self,
        author: &Account,
        day: Day,
        decision: Decision<'_>,
        now: Timestamp,
    ) -> Result<(ModerationOutcome, Option<HiddenPost>), StoreError> {
        let mut tx = self.database.begin().await?;
        let mut query =
            Query::new("SELECT p.id, p.date, p.images, p.is_public, p.friend_date FROM post p WHERE p.account = ");
        query
            .push_bind(author.as_str())
            .push(" AND p.day = ")
            .push_bind(i32::from(day));
        if let Some(reporter) = decision.reporter {
            push_reportable(&mut query, reporter, decision.at);
        }
        query.push(engine::FOR_UPDATE);
        let Some(row) = query.build().fetch_optional(&mut *tx).await? else {
            return Ok((ModerationOutcome::NotFound, None));
        };
        let id: i64 = row.try_get("id")?;
        let known = sqlx::query("SELECT hidden, changed_at, images_renewed FROM post_moderation WHERE post_id = ?")
            .bind(id)
            .fetch_optional(&mut *tx)
            .await?;
        let (hidden, changed_at, renewed) = match known {
            Some(known) => (
                known.try_get("hidden")?,
                known.try_get("changed_at")?,
                known.try_get("images_renewed")?,
            ),
            None => (false, i64::MIN, false),
        };
        // A duplicate or late decision changes nothing, but a hidden post may still wait for the new ids of its pictures.
        let is_news = decision.at.as_millisecond() > changed_at;
        let hidden = if is_news { decision.hidden } else { hidden };
        if is_news {
            sqlx::query("DELETE FROM post_moderation WHERE post_id = ?")
                .bind(id)
                .execute(&mut *tx)
                .await?;
            sqlx::query(
                "INSERT INTO post_moderation (post_id, hidden, changed_at, images_renewed) VALUES (?, ?, ?, ?)",
            )
            .bind(id)
            .bind(decision.hidden)
            .bind(decision.at.as_millisecond())
            .bind(false)
            .execute(&mut *tx)
            .await?;
            let change = if decision.hidden {
                PostChange::Hidden
            } else {
                PostChange::Restored
            };
            self.tell(&mut tx, &[id], &change.into(), now).await?;
            tx.commit().await?;
        }
        let outcome = ModerationOutcome::in_force(hidden, decision.hidden);
        let was_renewed = !is_news && renewed;
        // No other person knows the pictures of a private post.
        let is_private = visibility(&row)? == Visibility::Private;
        if !hidden || was_renewed || is_private {
            return Ok((outcome, None));
        }
        Ok((outcome, Some(HiddenPost { id, date: date(&row)? })))
    }

    async fn moderate_comment(
        &self,
        author: &Account,
        id: i64,
        decision: Decision<'_>,
        now: Timestamp,
    ) -> Result<ModerationOutcome, StoreError> {
        let mut tx = self.database.begin().await?;
        let mut query =
            Query::new("SELECT c.post_id, p.account FROM post_comment c JOIN post p ON p.id = c.post_id WHERE c.id = ");
        query.push_bind(id).push(" AND c.account = ").push_bind(author.as_str());
        if let Some(reporter) = decision.reporter {
            push_reportable(&mut query, reporter, decision.at);
        }
        let Some(row) = query.build().fetch_optional(&mut *tx).await? else {
            return Ok(ModerationOutcome::NotFound);
        };
        let (post, receiver): (i64, Account) = (row.try_get("post_id")?, account(&row, "account")?);
        // Decisions about comments of one post are applied one after the other.
        likes::lock(&mut tx, &[post]).await?;
        let known: Option<(bool, i64)> =
            sqlx::query_as("SELECT hidden, changed_at FROM comment_moderation WHERE comment_id = ?")
                .bind(id)
                .fetch_optional(&mut *tx)
                .await?;
        let at = decision.at.as_millisecond();
        if let Some((hidden, changed_at)) = known
            && at <= changed_at
        {
            return Ok(ModerationOutcome::in_force(hidden, decision.hidden));
        }
        sqlx::query("DELETE FROM comment_moderation WHERE comment_id = ?")
            .bind(id)
            .execute(&mut *tx)
            .await?;
        sqlx::query("INSERT INTO comment_moderation (comment_id, hidden, changed_at) VALUES (?, ?, ?)")
            .bind(id)
            .bind(decision.hidden)
            .bind(at)
            .execute(&mut *tx)
            .await?;
        comments::recount(&mut tx, &[post]).await?;
        let told = post_events::Told {
            change: PostChange::CommentChanged,
            actor: None,
            comment: Some(id),
        };
        self.tell(&mut tx, &[post], &told, now).await?;
        if decision.hidden {
            self.withdraw_notice(&mut tx, author, receiver, id, now).await?;
        }
        tx.commit().await?;
        Ok(ModerationOutcome::Applied)
    }
}

/// The reporter would see the post `p` of the query if no moderator had hidden it and neither had blocked the other: people report and block at
/// once, in either order. Who was a friend when reporting counts as one: a block ends the friendship.
fn push_reportable(query: &mut Query, reporter: &Account, at: Timestamp) {
    query
        .push(" AND (p.account = ")
        .push_bind(reporter.as_str())
        .push(" OR (p.day <= ")
        .push_bind(i32::from(Day::first_today(at)))
        .push(" AND ");
    public::push_shown_to(query, reporter, "p", Some(at));
    query.push("))");
}
