//! Posts, pictures and likes of the legacy Spring feed, taken over by `fleet import spring`.
//!
//! A post is taken over as often as the command runs: one that is as it was at the last pass costs a comparison, one that has changed is
//! written again unless it was changed here since, one that is gone takes its post along under the same condition.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};
use sosohappy_common::{Account, Context};
use sosohappy_media::{ImageId, Images, Picture};
use sosohappy_store::{StoreError, retrying};

use crate::domain::{Day, PostDate};
use crate::settings::Settings;
use crate::store;
use crate::store::Opened;
use crate::store::imports::{Fingerprint, FreshPost, ImportPost, ImportTransaction, ImportedPost, LegacyImages};

pub use crate::store::imports::{LeftOut, LegacyLike};

/// How long a picture may wait for its post before it is taken for the remains of a crash.
const UPLOAD_TIME: Duration = Duration::from_hours(1);

/// Pictures that are stored at the same time.
const UPLOADS: usize = 16;

/// Pictures that are encoded at the same time, as far as there is memory for it.
const ENCODED: usize = 8;

/// A row of the legacy table `feed` with its children; texts that did not decode are repaired by the reader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LegacyPost {
    pub id: i64,
    pub author: Account,
    pub date: i64,
    pub weather: String,
    pub happiness: i32,
    pub text: String,
    pub is_public: bool,
    pub categories: Vec<String>,
    /// The ids of its pictures there, in their order.
    pub images: Vec<i64>,
    pub likes: Vec<LegacyLike>,
    /// Another row of the same author and day has the place.
    pub is_superseded: bool,
}

impl LegacyPost {
    pub(crate) fn source(&self) -> Fingerprint {
        let likes: Vec<_> = self.likes.iter().map(|like| (like.id, &like.liker)).collect();
        let parts = (
            (&self.author, self.date, &self.weather, self.happiness),
            (&self.text, self.is_public, &self.categories),
            (&self.images, likes),
        );
        fingerprint(&parts)
    }
}

fn fingerprint(parts: &impl serde::Serialize) -> Fingerprint {
    let json = serde_json::to_vec(parts).expect("texts and numbers are JSON");
    let mut half = [0; 16];
    half.copy_from_slice(&Sha256::digest(json)[..16]);
    half
}

/// The parts of a post that an import writes.
pub(crate) fn written(post: &ImportPost) -> Fingerprint {
    fingerprint(&(
        (i64::from(post.date), &post.weather, post.happiness),
        (&post.text, post.is_public, &post.categories, &post.images),
    ))
}

/// Returns a post as the legacy tables may show it: they hide nothing.
pub(crate) fn as_shown(post: ImportPost, is_hidden: bool) -> ImportPost {
    if is_hidden {
        ImportPost {
            is_public: false,
            images: Vec::new(),
            ..post
        }
    } else {
        post
    }
}

/// The result of importing a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Outcome {
    /// As at the last pass.
    Unchanged,
    Created,
    Updated,
    /// The legacy row is gone, and its post with it.
    Deleted,
    /// The post was changed here after it was imported: it stays as it is.
    KeptOurs,
    /// The post was deleted here after it was imported.
    DeletedHere,
    /// The author has written a post of that day here.
    ExistsHere,
    /// A newer legacy post of the same day has the place.
    Superseded,
    /// The date is none.
    NoSuchDay,
    /// The date is after the author's tomorrow: the post would be the first of every list until then.
    InFuture,
    /// The author has resigned.
    Resigned,
}

/// The result of importing a row, and its parts that were left out: pictures and likes by their legacy ids.
#[derive(Debug)]
pub struct Applied {
    pub id: i64,
    pub outcome: Outcome,
    pub unfit_images: Vec<(i64, &'static str)>,
    pub left_out_likes: LeftOut,
    /// Likes of accounts that have resigned.
    pub resigned_likes: Vec<i64>,
}

impl Applied {
    fn of(id: i64, outcome: Outcome) -> Self {
        Self {
            id,
            outcome,
            unfit_images: Vec::new(),
            left_out_likes: LeftOut::default(),
            resigned_likes: Vec::new(),
        }
    }
}

/// Feed's database and image store, opened for the import.
#[derive(Debug)]
pub struct Importer {
    pub(crate) opened: Opened,
    pub(crate) images: Images,
    settings: Settings,
    context: Context,
}

/// Pictures of one batch by legacy id: stored, or why they cannot be.
type Pictures = HashMap<i64, Result<ImageId, &'static str>>;

impl Importer {
    /// Opens what the settings of feed name.
    pub async fn open(settings: Settings, context: &Context) -> anyhow::Result<Self> {
        let opened = store::open(&settings.database.url, settings.database.max_connections, context)
            .await
            .context("feed: database.url")?;
        Ok(Self {
            images: Images::open(&settings.images.url, context).context("feed: images.url")?,
            opened,
            settings,
            context: context.clone(),
        })
    }

    /// Sets nicknames in feed's directory, which otherwise learns them from events only.
    pub async fn set_names(&self, names: &[(Account, String)], at: Timestamp) -> Result<(), StoreError> {
        self.opened.store.set_names(names, at).await
    }

    /// Returns the pictures that have to be read for [`Self::apply`], by legacy id: new ones of posts that are new or have changed.
    pub async fn images_to_read(&self, posts: &[LegacyPost]) -> Result<Vec<i64>, StoreError> {
        let ids: Vec<i64> = posts.iter().map(|post| post.id).collect();
        let known = self.opened.store.imported(&ids).await?;
        let changed = posts
            .iter()
            .filter(|post| !post.is_superseded && !is_unchanged(post, &known));
        let images: Vec<i64> = changed.flat_map(|post| post.images.iter().copied()).collect();
        let there = self.opened.store.imported_images(&images).await?;
        Ok(images.into_iter().filter(|image| !there.contains_key(image)).collect())
    }

    /// Takes posts over, all in one transaction. `read_at` is a moment before they were read. A dry run returns what would be done.
    /// A post that loses its place to one of these is among the results too, as [`Outcome::Superseded`].
    pub async fn apply(
        &self,
        posts: &[LegacyPost],
        images: &HashMap<i64, Bytes>,
        read_at: Timestamp,
        dry_run: bool,
    ) -> anyhow::Result<Vec<Applied>> {
        let store = &self.opened.store;
        let read_at = Timestamp::from_millisecond(read_at.as_millisecond())?;
        let ids: Vec<i64> = posts.iter().map(|post| post.id).collect();
        let known = store.imported(&ids).await?;
        let changed: Vec<i64> = posts.iter().flat_map(|post| post.images.iter().copied()).collect();
        let there = store.imported_images(&changed).await?;
        let mut pictures = self.store_pictures(images, dry_run).await?;
        pictures.extend(there.iter().map(|(legacy, image)| (*legacy, Ok(*image))));
        let kept: HashSet<ImageId> = there.into_values().collect();
        let batch = Batch {
            known: &known,
            pictures: &pictures,
            kept: &kept,
            read_at,
            now: self.context.clock.now(),
            last_day: Day::first_today(self.context.clock.now()).tomorrow(),
        };
        let applied = retrying(async || {
            let mut tx = store.begin_import().await?;
            let people = posts.iter().flat_map(|post| {
                let likers = post.likes.iter().filter_map(|like| like.liker.clone());
                likers.chain([post.author.clone()])
            });
            let people: HashSet<Account> = people.collect();
            let people: Vec<Account> = people.into_iter().collect();
            if dry_run {
                let new = pictures
                    .values()
                    .flatten()
                    .copied()
                    .filter(|image| !kept.contains(image));
                tx.reserve(&new.collect::<Vec<_>>(), read_at).await?;
            }
            let resigned = tx.resigned_since(&people, read_at).await?;
            let mut applied = Vec::with_capacity(posts.len());
            let fresh = batch.fresh(tx.as_mut(), posts, &resigned, &mut applied).await?;
            tx.insert_all(&fresh, read_at).await?;
            let done: HashSet<i64> = fresh.iter().map(|fresh| fresh.legacy_id).collect();
            // Those that are superseded leave their places first.
            for is_superseded in [true, false] {
                let of_kind = |post: &&LegacyPost| post.is_superseded == is_superseded && !done.contains(&post.id);
                for post in posts.iter().filter(of_kind) {
                    batch.apply(tx.as_mut(), post, &resigned, &mut applied).await?;
                }
            }
            if !dry_run {
                tx.commit().await?;
            }
            Ok::<_, StoreError>(applied)
        })
        .await?;
        Ok(applied)
    }

    /// Returns the ids that were taken over, greater than `after` and up to `until`, in order.
    pub async fn imported_between(&self, after: i64, until: i64) -> Result<Vec<i64>, StoreError> {
        self.opened.store.imported_between(after, until).await
    }

    /// Returns how many imported posts there are, and the sum of their happiness, without those of these legacy rows.
    pub async fn totals_without(&self, legacy_ids: &[i64]) -> Result<(i64, i64), StoreError> {
        let all = self.opened.store.import_totals(None).await?;
        let without = self.opened.store.import_totals(Some(legacy_ids)).await?;
        Ok((all.0 - without.0, all.1 - without.1))
    }

    /// Returns whether the picture that was taken over shows what these bytes of the legacy picture show.
    pub async fn shows(&self, legacy_id: i64, legacy: Bytes) -> anyhow::Result<bool> {
        let images = self.opened.store.imported_images(&[legacy_id]).await?;
        let Some(image) = images.get(&legacy_id) else {
            return Ok(false);
        };
        let Some(picture) = self.images.get(*image).await? else {
            return Ok(false);
        };
        let bounds = self.settings.images.bounds();
        Ok(self.images.is_same(legacy, picture.bytes, bounds).await?)
    }

    /// Deletes the posts of rows that are gone, unless they were changed here.
    pub async fn delete(&self, legacy_ids: &[i64], dry_run: bool) -> Result<Vec<Applied>, StoreError> {
        let known = self.opened.store.imported(legacy_ids).await?;
        retrying(async || {
            let mut tx = self.opened.store.begin_import().await?;
            let (mut applied, mut deleted) = (Vec::new(), Vec::new());
            let posts: Vec<i64> = known.values().map(|known| known.post).collect();
            let hidden = tx.hidden(&posts).await?;
            let posts = tx.posts(&posts).await?;
            for id in legacy_ids {
                let Some(known) = known.get(id) else { continue };
                let outcome = match posts.get(&known.post) {
                    None => Outcome::DeletedHere,
                    Some(post)
                        if written(post) != known.written
                            // The export has written it as it is shown.
                            && written(&as_shown(post.clone(), hidden.contains(&known.post))) != known.written =>
                    {
                        Outcome::KeptOurs
                    }
                    Some(post) => {
                        tx.delete(known.post, post, self.context.clock.now()).await?;
                        deleted.push(*id);
                        Outcome::Deleted
                    }
                };
                applied.push(Applied::of(*id, outcome));
            }
            tx.forget_imported(&deleted).await?;
            if !dry_run {
                tx.commit().await?;
            }
            Ok(applied)
        })
        .await
    }

    /// Encodes pictures anew, as uploads are, reserves ids in the ledger, and stores the pictures under them: pictures that no post takes are
    /// deleted after an hour.
    async fn store_pictures(&self, images: &HashMap<i64, Bytes>, dry_run: bool) -> anyhow::Result<Pictures> {
        let bounds = self.settings.images.bounds();
        let mut pictures = Pictures::with_capacity(images.len());
        let mut fit = Vec::new();
        let read: Vec<(i64, Bytes)> = images.iter().map(|(id, bytes)| (*id, bytes.clone())).collect();
        let mut encoded = stream::iter(read)
            .map(async |(legacy_id, bytes): (i64, Bytes)| (legacy_id, self.images.sanitize(bytes, bounds).await))
            .buffer_unordered(ENCODED);
        while let Some((legacy_id, encoded)) = encoded.next().await {
            let stored = match encoded {
                Ok(picture) => {
                    let image = self.images.new_id();
                    fit.push((image, picture));
                    Ok(image)
                }
                Err(error) => Err(error.refusal().ok_or(error)?),
            };
            pictures.insert(legacy_id, stored);
        }
        if !dry_run {
            let ids: Vec<ImageId> = fit.iter().map(|(image, _)| *image).collect();
            let due = self.context.clock.now().checked_add(UPLOAD_TIME)?;
            self.opened.store.reserve(&ids, due).await?;
            stream::iter(fit)
                .map(async |(image, picture): (ImageId, Picture)| self.images.put_as(image, &picture).await)
                .buffer_unordered(UPLOADS)
                .try_collect::<()>()
                .await?;
        }
        Ok(pictures)
    }
}

fn is_unchanged(post: &LegacyPost, known: &HashMap<i64, ImportedPost>) -> bool {
    known.get(&post.id).is_some_and(|known| known.source == post.source())
}

/// The data that the posts of one transaction share.
struct Batch<'a> {
    known: &'a HashMap<i64, ImportedPost>,
    pictures: &'a Pictures,
    /// Pictures that were taken over before.
    kept: &'a HashSet<ImageId>,
    read_at: Timestamp,
    now: Timestamp,
    /// No post is dated after this day.
    last_day: Day,
}

impl Batch<'_> {
    /// The date of a legacy post, or why it has no place here.
    fn date(&self, legacy: &LegacyPost) -> Result<PostDate, Outcome> {
        let date = PostDate::try_from(legacy.date).map_err(|_| Outcome::NoSuchDay)?;
        if date.day() > self.last_day {
            return Err(Outcome::InFuture);
        }
        Ok(date)
    }

    /// The common case, most rows of a first pass: posts that were not taken over before, the first of their day here and among these.
    async fn fresh(
        &self,
        tx: &mut dyn ImportTransaction,
        posts: &[LegacyPost],
        resigned: &HashSet<Account>,
        applied: &mut Vec<Applied>,
    ) -> Result<Vec<FreshPost>, StoreError> {
        let mut candidates = Vec::new();
        let mut days: HashMap<(&Account, i32), usize> = HashMap::new();
        for post in posts.iter().filter(|post| !post.is_superseded) {
            let Ok(date) = self.date(post) else { continue };
            *days.entry((&post.author, date.day().into())).or_default() += 1;
            if !self.known.contains_key(&post.id) && !resigned.contains(&post.author) {
                candidates.push((post, date));
            }
        }
        candidates.retain(|(post, date)| days.get(&(&post.author, date.day().into())) == Some(&1));
        let asked: Vec<_> = candidates.iter().map(|(post, date)| (&post.author, *date)).collect();
        let taken = tx.taken_days(&asked).await?;
        candidates.retain(|(post, date)| !taken.contains(&(post.author.clone(), date.day().into())));
        let mut fresh = Vec::with_capacity(candidates.len());
        for (legacy, date) in candidates {
            let mut row = Applied::of(legacy.id, Outcome::Created);
            let (post, images) = self.picture(legacy, date, &mut row);
            let (mut likes, mut seen) = (Vec::new(), HashSet::new());
            for like in &legacy.likes {
                match &like.liker {
                    None => row.left_out_likes.untold.push(like.id),
                    Some(account) if resigned.contains(account) => row.resigned_likes.push(like.id),
                    Some(account) if seen.insert(account) => likes.push((like.id, account.clone())),
                    Some(_) => row.left_out_likes.doubled.push(like.id),
                }
            }
            fresh.push(FreshPost {
                legacy_id: legacy.id,
                source: legacy.source(),
                written: written(&post),
                post,
                images,
                likes,
            });
            applied.push(row);
        }
        Ok(fresh)
    }

    async fn apply(
        &self,
        tx: &mut dyn ImportTransaction,
        legacy: &LegacyPost,
        resigned: &HashSet<Account>,
        applied: &mut Vec<Applied>,
    ) -> Result<(), StoreError> {
        if let Some(known) = self
            .known
            .get(&legacy.id)
            .filter(|known| !legacy.is_superseded && known.source == legacy.source())
        {
            let mut row = Applied::of(legacy.id, Outcome::Unchanged);
            let left_out = legacy.images.iter().filter(|image| !self.pictures.contains_key(image));
            row.unfit_images = left_out
                .map(|image| (*image, "left out when the post was taken over"))
                .collect();
            if legacy.likes.iter().any(|like| like.liker.is_none()) {
                let written = tx.legacy_likes(known.post).await?;
                let untold = legacy.likes.iter().filter(|like| like.liker.is_none());
                let untold = untold.map(|like| like.id).filter(|id| !written.contains(id));
                row.left_out_likes.untold = untold.collect();
            }
            applied.push(row);
            return Ok(());
        }
        let date = match self.date(legacy) {
            Ok(date) => date,
            Err(outcome) => {
                applied.push(Applied::of(legacy.id, outcome));
                return Ok(());
            }
        };
        if resigned.contains(&legacy.author) {
            applied.push(Applied::of(legacy.id, Outcome::Resigned));
            return Ok(());
        }
        if legacy.is_superseded {
            let outcome = self.leave(tx, legacy.id).await?;
            applied.push(Applied::of(legacy.id, outcome));
            return Ok(());
        }
        let mut row = Applied::of(legacy.id, Outcome::Created);
        let (post, images) = self.picture(legacy, date, &mut row);
        let before = self.known.get(&legacy.id).copied();
        let mut present = None;
        if let Some(before) = before {
            let kept = match tx.posts(&[before.post]).await?.remove(&before.post) {
                None => Some(Outcome::DeletedHere),
                Some(old) if written(&old) != before.written => Some(Outcome::KeptOurs),
                Some(old) => {
                    present = Some((before.post, old));
                    None
                }
            };
            if let Some(outcome) = kept {
                applied.push(Applied::of(legacy.id, outcome));
                return Ok(());
            }
            row.outcome = Outcome::Updated;
        }
        let stays = |old: &ImportPost| old.author == post.author && old.date.day() == post.date.day();
        if !present.as_ref().is_some_and(|(_, old)| stays(old)) {
            match self.place(tx, legacy, &post).await? {
                Place::Free => {}
                Place::Won(loser) => applied.push(Applied::of(loser, Outcome::Superseded)),
                Place::Taken(outcome) => {
                    if let Some((id, old)) = present {
                        tx.delete(id, &old, self.now).await?;
                        tx.forget_imported(&[legacy.id]).await?;
                    }
                    applied.push(Applied::of(legacy.id, outcome));
                    return Ok(());
                }
            }
        }
        let id = match present {
            Some((id, old)) => {
                let is_new = |image: &ImageId| !self.kept.contains(image);
                let added: Vec<ImageId> = post.images.iter().copied().filter(is_new).collect();
                tx.update(id, &old, &post, &added, self.read_at).await?;
                id
            }
            None => tx.insert(&post, self.read_at).await?,
        };
        let (gone, likes): (Vec<LegacyLike>, Vec<LegacyLike>) = legacy
            .likes
            .iter()
            .cloned()
            .partition(|like| like.liker.as_ref().is_some_and(|liker| resigned.contains(liker)));
        row.resigned_likes = gone.iter().map(|like| like.id).collect();
        row.left_out_likes = tx.set_likes(id, &likes, self.read_at).await?;
        let imported = ImportedPost {
            legacy_id: legacy.id,
            post: id,
            source: legacy.source(),
            written: written(&post),
            imported_at: before.map_or(self.read_at, |before| before.imported_at),
        };
        remember(tx, imported, images).await?;
        applied.push(row);
        Ok(())
    }

    /// The post with those of its pictures that are stored, and these by their legacy ids.
    fn picture(&self, legacy: &LegacyPost, date: PostDate, row: &mut Applied) -> (ImportPost, Vec<(i64, ImageId)>) {
        let mut images = Vec::with_capacity(legacy.images.len());
        for legacy_id in &legacy.images {
            match self.pictures.get(legacy_id) {
                Some(Ok(image)) => images.push((*legacy_id, *image)),
                Some(Err(reason)) => row.unfit_images.push((*legacy_id, reason)),
                None => row
                    .unfit_images
                    .push((*legacy_id, "it was gone or changed when it was read")),
            }
        }
        let post = ImportPost {
            author: legacy.author.clone(),
            date,
            weather: legacy.weather.clone(),
            happiness: legacy.happiness,
            text: legacy.text.clone(),
            is_public: legacy.is_public,
            categories: legacy.categories.clone(),
            images: images.iter().map(|(_, image)| *image).collect(),
        };
        (post, images)
    }

    /// Deletes the post of a row that another one supersedes, unless it was changed here.
    async fn leave(&self, tx: &mut dyn ImportTransaction, legacy_id: i64) -> Result<Outcome, StoreError> {
        let Some(before) = self.known.get(&legacy_id) else {
            return Ok(Outcome::Superseded);
        };
        let Some(old) = tx.posts(&[before.post]).await?.remove(&before.post) else {
            return Ok(Outcome::Superseded);
        };
        if written(&old) != before.written {
            return Ok(Outcome::KeptOurs);
        }
        tx.delete(before.post, &old, self.now).await?;
        tx.forget_imported(&[legacy_id]).await?;
        Ok(Outcome::Superseded)
    }

    /// Decides which post gets the author's day: of two legacy posts the one with the later date, of equal dates the one with the greater id.
    async fn place(
        &self,
        tx: &mut dyn ImportTransaction,
        legacy: &LegacyPost,
        post: &ImportPost,
    ) -> Result<Place, StoreError> {
        let Some((id, other)) = tx.post_of_day(&post.author, post.date).await? else {
            return Ok(Place::Free);
        };
        let Some(origin) = tx.origins(&[id]).await?.remove(&id) else {
            return Ok(Place::Taken(Outcome::ExistsHere));
        };
        if (post.date, legacy.id) < (other.date, origin.legacy_id) {
            return Ok(Place::Taken(Outcome::Superseded));
        }
        if written(&other) != origin.written {
            return Ok(Place::Taken(Outcome::ExistsHere));
        }
        tx.delete(id, &other, self.now).await?;
        tx.forget_imported(&[origin.legacy_id]).await?;
        Ok(Place::Won(origin.legacy_id))
    }
}

async fn remember(
    tx: &mut dyn ImportTransaction,
    imported: ImportedPost,
    images: Vec<(i64, ImageId)>,
) -> Result<(), StoreError> {
    let images = LegacyImages {
        post: imported.post,
        images,
        imported_at: imported.imported_at,
    };
    tx.set_images(&[images]).await?;
    tx.set_imported(&[imported]).await
}

/// Whether a post can have the day of its author.
enum Place {
    Free,
    Taken(Outcome),
    /// From the legacy post of this id.
    Won(i64),
}
