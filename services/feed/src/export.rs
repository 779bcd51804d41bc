//! Posts as the legacy Spring feed has them, for `fleet export spring`.

use std::collections::HashMap;

use jiff::Timestamp;
use sosohappy_common::Account;
use sosohappy_media::ImageId;
use sosohappy_store::{StoreError, retrying};

use crate::import::{Importer, LegacyPost, written};
use crate::store::imports::ImportedPost;

/// A post as the legacy tables have it.
#[derive(Debug)]
pub struct ExportedPost {
    pub id: i64,
    pub author: Account,
    pub date: i64,
    pub weather: String,
    pub happiness: i32,
    pub text: String,
    pub is_public: bool,
    pub categories: Vec<String>,
    pub images: Vec<ImageId>,
    /// The accounts that like it, in the order of their likes.
    pub likers: Vec<Account>,
    /// The row it was imported from, or exported to before.
    pub legacy_id: Option<i64>,
    /// Whether it is as the import has written it, likes aside.
    pub is_unchanged: bool,
    /// Every picture that the post has or had when it was imported, by its legacy id.
    pub legacy_images: HashMap<i64, ImageId>,
}

impl Importer {
    /// Returns posts with ids after this one, in order.
    pub async fn posts_after(&self, after: i64, limit: u32) -> Result<Vec<ExportedPost>, StoreError> {
        let mut tx = self.opened.store.begin_import().await?;
        let mut exported = Vec::new();
        for (id, post) in tx.posts_after(after, limit).await? {
            let origin = tx.origin(id).await?;
            exported.push(ExportedPost {
                id,
                likers: tx.likers(id).await?,
                legacy_images: tx.legacy_images(id).await?,
                legacy_id: origin.map(|origin| origin.legacy_id),
                is_unchanged: origin.is_some_and(|origin| origin.written == written(&post)),
                author: post.author,
                date: post.date.into(),
                weather: post.weather,
                happiness: post.happiness,
                text: post.text,
                is_public: post.is_public,
                categories: post.categories,
                images: post.images,
            });
        }
        Ok(exported)
    }

    /// Returns the legacy rows whose posts were deleted here.
    pub async fn deleted(&self) -> Result<Vec<i64>, StoreError> {
        self.opened.store.deleted_imports().await
    }

    /// Forgets legacy rows that were deleted there, too.
    pub async fn forget(&self, legacy_ids: &[i64]) -> Result<(), StoreError> {
        retrying(async || {
            let mut tx = self.opened.store.begin_import().await?;
            for id in legacy_ids {
                tx.forget_imported(*id).await?;
            }
            tx.commit().await
        })
        .await
    }

    /// Returns the bytes of a picture.
    pub async fn picture(&self, image: ImageId) -> anyhow::Result<Option<bytes::Bytes>> {
        Ok(self.images.get(image).await?.map(|picture| picture.bytes))
    }

    /// Remembers a legacy row as it was written, with its pictures: the next import finds it unchanged.
    pub async fn exported(
        &self,
        post: i64,
        legacy: &LegacyPost,
        images: &[(i64, ImageId)],
        at: Timestamp,
    ) -> Result<(), StoreError> {
        let at = Timestamp::from_millisecond(at.as_millisecond()).unwrap_or(at);
        retrying(async || {
            let mut tx = self.opened.store.begin_import().await?;
            let Some(ours) = tx.post(post).await? else {
                return Ok(());
            };
            let at = tx.origin(post).await?.map_or(at, |before| before.imported_at);
            tx.set_images(post, images, at).await?;
            tx.set_imported(&ImportedPost {
                legacy_id: legacy.id,
                post,
                source: legacy.source(),
                written: written(&ours),
                imported_at: at,
            })
            .await?;
            tx.commit().await
        })
        .await
    }
}
