//! Pictures that no post has.

use async_trait::async_trait;
use jiff::Timestamp;
use sosohappy_media::ImageId;
use sosohappy_store::{StoreError, retrying};

use super::{BATCH, Query, SqlStore, engine};
use crate::store::{ImageLedger, WriteError};

#[async_trait]
impl ImageLedger for SqlStore {
    async fn reserve(&self, images: &[ImageId], due: Timestamp) -> Result<(), StoreError> {
        retrying(async || {
            let mut tx = self.database.begin().await?;
            insert(&mut tx, images, true, due).await?;
            Ok(tx.commit().await?)
        })
        .await
    }

    async fn give_up(&self, images: &[ImageId], now: Timestamp) -> Result<(), StoreError> {
        self.change(images, |query| {
            query
                .push("UPDATE image_garbage SET reserved = 0, due_at = ")
                .push_bind(now.as_millisecond());
        })
        .await
    }

    async fn is_discarded(&self, image: ImageId) -> Result<bool, StoreError> {
        let found: Option<i64> = sqlx::query_scalar("SELECT id FROM image_garbage WHERE id = ? AND reserved = 0")
            .bind(image.0)
            .fetch_optional(self.database.reader())
            .await?;
        Ok(found.is_some())
    }

    async fn garbage(&self, now: Timestamp, limit: u32) -> Result<Vec<ImageId>, StoreError> {
        let now = now.as_millisecond();
        let abandoned: Option<i64> =
            sqlx::query_scalar("SELECT id FROM image_garbage WHERE reserved = 1 AND due_at <= ? LIMIT 1")
                .bind(now)
                .fetch_optional(self.database.reader())
                .await?;
        if abandoned.is_some() {
            self.end_reservations(now).await?;
        }
        let ids: Vec<i64> = sqlx::query_scalar(
            "SELECT id FROM image_garbage WHERE reserved = 0 AND due_at <= ? ORDER BY due_at, id LIMIT ?",
        )
        .bind(now)
        .bind(i64::from(limit))
        .fetch_all(self.database.reader())
        .await?;
        Ok(ids.into_iter().map(ImageId).collect())
    }

    async fn forget(&self, images: &[ImageId]) -> Result<(), StoreError> {
        self.change(images, |query| {
            query.push("DELETE FROM image_garbage");
        })
        .await
    }

    async fn postpone(&self, images: &[ImageId], due: Timestamp) -> Result<(), StoreError> {
        self.change(images, |query| {
            query
                .push("UPDATE image_garbage SET due_at = ")
                .push_bind(due.as_millisecond());
        })
        .await
    }
}

impl SqlStore {
    /// From here on no post takes those that are due: a post takes reserved ones only.
    async fn end_reservations(&self, now: i64) -> Result<(), StoreError> {
        retrying(async || {
            let mut tx = self.database.begin().await?;
            let end = sqlx::query("UPDATE image_garbage SET reserved = 0 WHERE reserved = 1 AND due_at <= ?").bind(now);
            end.execute(&mut *tx).await?;
            Ok(tx.commit().await?)
        })
        .await
    }

    /// One statement on the rows of these pictures.
    async fn change(&self, images: &[ImageId], statement: impl Fn(&mut Query) + Send + Sync) -> Result<(), StoreError> {
        if images.is_empty() {
            return Ok(());
        }
        retrying(async || {
            let mut tx = self.database.begin().await?;
            let mut query = Query::new("");
            statement(&mut query);
            push_in(query.push(" WHERE id IN "), images);
            query.build().execute(&mut *tx).await?;
            Ok(tx.commit().await?)
        })
        .await
    }
}

/// A post takes its pictures: all of them are still reserved, or it cannot be.
pub(super) async fn take(tx: &mut engine::Tx, images: &[ImageId]) -> Result<(), WriteError> {
    if images.is_empty() {
        return Ok(());
    }
    let mut query = Query::new("DELETE FROM image_garbage WHERE reserved = 1 AND id IN ");
    push_in(&mut query, images);
    let taken = query
        .build()
        .execute(&mut **tx)
        .await
        .map_err(StoreError::from)?
        .rows_affected();
    if usize::try_from(taken).is_ok_and(|taken| taken == images.len()) {
        Ok(())
    } else {
        Err(WriteError::ImagesGivenUp)
    }
}

/// A post no longer has these pictures.
pub(super) async fn discard(tx: &mut engine::Tx, images: &[ImageId], now: Timestamp) -> Result<(), StoreError> {
    insert(tx, images, false, now).await
}

pub(super) async fn insert(
    tx: &mut engine::Tx,
    images: &[ImageId],
    reserved: bool,
    due: Timestamp,
) -> Result<(), StoreError> {
    for batch in images.chunks(BATCH) {
        let mut query = Query::new("INSERT INTO image_garbage (id, reserved, due_at) ");
        query.push_values(batch, |mut row, image| {
            row.push_bind(image.0)
                .push_bind(reserved)
                .push_bind(due.as_millisecond());
        });
        query.build().execute(&mut **tx).await?;
    }
    Ok(())
}

fn push_in(query: &mut Query, images: &[ImageId]) {
    query.push("(");
    let mut ids = query.separated(", ");
    for image in images {
        ids.push_bind(image.0);
    }
    query.push(")");
}
