//! Posts as the legacy Spring feed has them, for `fleet export spring`.

use std::collections::HashMap;

use jiff::Timestamp;
use sosohappy_common::Account;
use sosohappy_media::ImageId;
use sosohappy_store::{StoreError, retrying};

use crate::import::{Importer, LegacyPost, as_shown, written};
use crate::store::imports::{ImportedPost, LegacyImages};

/// A post as the legacy tables have it. One that is hidden here is private there and has no pictures, which anybody would see who guesses their ids.
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
    /// Whether it is as the import has written it, or the export has read it, likes aside.
    pub is_unchanged: bool,
    /// Tells whether it has changed since: hidden, restored or written anew.
    pub written: [u8; 16],
    /// Every picture that the post has or had when it was imported, by its legacy id.
    pub legacy_images: HashMap<i64, ImageId>,
}

impl Importer {
    /// Returns posts with ids after this one, in order.
    pub async fn posts_after(&self, after: i64, limit: u32) -> Result<Vec<ExportedPost>, StoreError> {
        let mut tx = self.opened.store.begin_import().await?;
        let posts = tx.posts_after(after, limit).await?;
        let ids: Vec<i64> = posts.iter().map(|(id, _)| *id).collect();
        let origins = tx.origins(&ids).await?;
        let hidden = tx.hidden(&ids).await?;
        let mut likers = tx.likers(&ids).await?;
        let mut legacy_images = tx.legacy_images(&ids).await?;
        let exported = posts.into_iter().map(|(id, post)| {
            let origin = origins.get(&id);
            let post = as_shown(post, hidden.contains(&id));
            ExportedPost {
                id,
                likers: likers.remove(&id).unwrap_or_default(),
                legacy_images: legacy_images.remove(&id).unwrap_or_default(),
                legacy_id: origin.map(|origin| origin.legacy_id),
                is_unchanged: origin.is_some_and(|origin| origin.written == written(&post)),
                written: written(&post),
                author: post.author,
                date: post.date.into(),
                weather: post.weather,
                happiness: post.happiness,
                text: post.text,
                is_public: post.is_public,
                categories: post.categories,
                images: post.images,
            }
        });
        Ok(exported.collect())
    }

    /// Returns the legacy rows whose posts were deleted here.
    pub async fn deleted(&self) -> Result<Vec<i64>, StoreError> {
        self.opened.store.deleted_imports().await
    }

    /// Forgets legacy rows that were deleted there, too.
    pub async fn forget(&self, legacy_ids: &[i64]) -> Result<(), StoreError> {
        retrying(async || {
            let mut tx = self.opened.store.begin_import().await?;
            tx.forget_imported(legacy_ids).await?;
            tx.commit().await
        })
        .await
    }

    /// Returns the bytes of a picture.
    pub async fn picture(&self, image: ImageId) -> anyhow::Result<Option<bytes::Bytes>> {
        Ok(self.images.get(image).await?.map(|picture| picture.bytes))
    }

    /// Remembers legacy rows as they were written, with their pictures: the next import finds them unchanged.
    pub async fn exported(&self, rows: &[WrittenRow], at: Timestamp) -> Result<(), StoreError> {
        let at = Timestamp::from_millisecond(at.as_millisecond()).unwrap_or(at);
        let ids: Vec<i64> = rows.iter().map(|row| row.post).collect();
        retrying(async || {
            let mut tx = self.opened.store.begin_import().await?;
            let ours = tx.posts(&ids).await?;
            let origins = tx.origins(&ids).await?;
            let (mut images, mut imported) = (Vec::new(), Vec::new());
            for row in rows {
                // Deleted here meanwhile: the next export deletes the row.
                if !ours.contains_key(&row.post) {
                    continue;
                }
                let imported_at = origins.get(&row.post).map_or(at, |before| before.imported_at);
                images.push(LegacyImages {
                    post: row.post,
                    images: row.images.clone(),
                    imported_at,
                });
                imported.push(ImportedPost {
                    legacy_id: row.legacy.id,
                    post: row.post,
                    source: row.legacy.source(),
                    written: row.written,
                    imported_at,
                });
            }
            tx.set_images(&images).await?;
            tx.set_imported(&imported).await?;
            tx.commit().await
        })
        .await
    }
}

/// A legacy row that the export has written.
#[derive(Debug)]
pub struct WrittenRow {
    pub post: i64,
    /// As it is in the legacy database now.
    pub legacy: LegacyPost,
    /// That of the post which the row was written from ([`ExportedPost::written`]).
    pub written: [u8; 16],
    pub images: Vec<(i64, ImageId)>,
}
