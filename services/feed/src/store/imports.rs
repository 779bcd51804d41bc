//! The port of the import of legacy posts.

use std::collections::{HashMap, HashSet};

use async_trait::async_trait;
use jiff::Timestamp;
use sosohappy_common::Account;
use sosohappy_media::ImageId;
use sosohappy_store::StoreError;

use crate::domain::{Day, PostDate};

/// The first half of a SHA-256, which detects changes.
pub type Fingerprint = [u8; 16];

/// A legacy post that was taken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImportedPost {
    pub legacy_id: i64,
    pub post: i64,
    pub source: Fingerprint,
    pub written: Fingerprint,
    pub imported_at: Timestamp,
}

/// A post as the import writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportPost {
    pub author: Account,
    pub date: PostDate,
    pub weather: String,
    pub happiness: i32,
    pub text: String,
    pub is_public: bool,
    pub categories: Vec<String>,
    pub images: Vec<ImageId>,
}

/// The pictures of a post by their legacy ids.
#[derive(Debug, Clone)]
pub struct LegacyImages {
    pub post: i64,
    pub images: Vec<(i64, ImageId)>,
    pub imported_at: Timestamp,
}

/// A like by the id of its legacy row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LegacyLike {
    pub id: i64,
    /// `None` where the account is unknown.
    pub liker: Option<Account>,
}

/// Likes that were not written, by the ids of their legacy rows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// By accounts that like the post already.
    pub doubled: Vec<i64>,
    /// Likes of unknown accounts, at this pass and before.
    pub untold: Vec<i64>,
}

/// A legacy post whose author has no post of the day, with its pictures and likes.
#[derive(Debug, Clone)]
pub struct FreshPost {
    pub legacy_id: i64,
    pub post: ImportPost,
    /// Its pictures by their legacy ids.
    pub images: Vec<(i64, ImageId)>,
    /// Legacy likes, each account once.
    pub likes: Vec<(i64, Account)>,
    pub source: Fingerprint,
    pub written: Fingerprint,
}

/// Reads and writes of one transaction of the import.
#[async_trait]
pub trait ImportTransaction: Send {
    /// As [`super::ImageLedger::reserve`], for a transaction that is rolled back.
    async fn reserve(&mut self, images: &[ImageId], due: Timestamp) -> Result<(), StoreError>;

    /// Of these accounts those that have resigned at or after the moment.
    async fn resigned_since(&mut self, accounts: &[Account], at: Timestamp) -> Result<HashSet<Account>, StoreError>;

    /// The post of the author's day, with its id, locked.
    async fn post_of_day(&mut self, author: &Account, date: PostDate) -> Result<Option<(i64, ImportPost)>, StoreError>;

    /// Posts by id, locked.
    async fn posts(&mut self, ids: &[i64]) -> Result<HashMap<i64, ImportPost>, StoreError>;

    /// The legacy posts that were written into these, by the ids of these.
    async fn origins(&mut self, posts: &[i64]) -> Result<HashMap<i64, ImportedPost>, StoreError>;

    /// Of these days of authors those that have a post.
    async fn taken_days(&mut self, days: &[(&Account, PostDate)]) -> Result<HashSet<(Account, i32)>, StoreError>;

    /// Inserts posts of different days with all their rows, with as few statements as for one.
    async fn insert_all(&mut self, posts: &[FreshPost], made_at: Timestamp) -> Result<(), StoreError>;

    /// Inserts a post and returns its id. Its pictures leave their reservation.
    async fn insert(&mut self, post: &ImportPost, made_at: Timestamp) -> Result<i64, StoreError>;

    /// Writes a post in the place of `old`; `added` of its pictures leave their reservation, those that it no
    /// longer has become garbage.
    async fn update(
        &mut self,
        id: i64,
        old: &ImportPost,
        post: &ImportPost,
        added: &[ImageId],
        made_at: Timestamp,
    ) -> Result<(), StoreError>;

    /// Deletes a post; its pictures become garbage.
    async fn delete(&mut self, id: i64, old: &ImportPost, now: Timestamp) -> Result<(), StoreError>;

    /// Makes the legacy likes of a post these. Likes that were given here stay, and so does one that was written before, with the account
    /// that could be identified then.
    async fn set_likes(&mut self, post: i64, likes: &[LegacyLike], made_at: Timestamp) -> Result<LeftOut, StoreError>;

    /// The legacy likes of a post that are written.
    async fn legacy_likes(&mut self, post: i64) -> Result<HashSet<i64>, StoreError>;

    /// Posts with ids after this one, in order.
    async fn posts_after(&mut self, after: i64, limit: u32) -> Result<Vec<(i64, ImportPost)>, StoreError>;

    /// Returns those of the posts that moderators hide, or that are held for review.
    async fn hidden(&mut self, posts: &[i64]) -> Result<HashSet<i64>, StoreError>;

    /// The accounts that like each of the posts, in the order of their likes.
    async fn likers(&mut self, posts: &[i64]) -> Result<HashMap<i64, Vec<Account>>, StoreError>;

    /// The pictures of each of the posts by their legacy ids, those that it no longer has among them.
    async fn legacy_images(&mut self, posts: &[i64]) -> Result<HashMap<i64, HashMap<i64, ImageId>>, StoreError>;

    /// Remembers legacy posts, each in the place of another one that was written into the same post.
    async fn set_imported(&mut self, imported: &[ImportedPost]) -> Result<(), StoreError>;

    async fn forget_imported(&mut self, legacy_ids: &[i64]) -> Result<(), StoreError>;

    /// Makes these the pictures of their posts.
    async fn set_images(&mut self, posts: &[LegacyImages]) -> Result<(), StoreError>;

    async fn commit(self: Box<Self>) -> Result<(), StoreError>;
}

#[async_trait]
pub trait Imports: Send + Sync {
    async fn begin_import(&self) -> Result<Box<dyn ImportTransaction>, StoreError>;

    /// By legacy id.
    async fn imported(&self, legacy_ids: &[i64]) -> Result<HashMap<i64, ImportedPost>, StoreError>;

    /// Legacy ids that were taken over, greater than `after` and up to `until`, in order.
    async fn imported_between(&self, after: i64, until: i64) -> Result<Vec<i64>, StoreError>;

    /// Legacy ids whose posts are gone.
    async fn deleted_imports(&self) -> Result<Vec<i64>, StoreError>;

    /// By the legacy id of the picture.
    async fn imported_images(&self, legacy_ids: &[i64]) -> Result<HashMap<i64, ImageId>, StoreError>;

    /// The picture that had this id in the legacy feed, of a post that the viewer may see and that was imported after `since`, with the author.
    async fn legacy_image(
        &self,
        viewer: &Account,
        legacy_id: i64,
        since: Timestamp,
        today: Day,
    ) -> Result<Option<(Account, ImageId)>, StoreError>;

    /// How many imported posts there are, and the sum of their happiness; of these legacy rows, or of all.
    async fn import_totals(&self, legacy_ids: Option<&[i64]>) -> Result<(i64, i64), StoreError>;

    /// Sets nicknames in the directory where they are not known yet; a later one from an event counts for more.
    async fn set_names(&self, names: &[(Account, String)], at: Timestamp) -> Result<(), StoreError>;
}
