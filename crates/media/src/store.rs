//! Pictures in a folder, S3 or Google Cloud Storage, under unguessable ids.

use std::ops::Range;
use std::path::Path as FilePath;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::stream::{self, BoxStream};
use futures::{StreamExt as _, TryStreamExt as _};
use object_store::aws::AmazonS3Builder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{GetOptions, GetRange, GetResult, ObjectStore, ObjectStoreExt as _, PutMode, RetryConfig};

use sosohappy_common::Context;
use sosohappy_common::clock::Entropy;
use sosohappy_common::settings::SecretUrl;

use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use crate::picture::sniff;
use crate::sanitize::{Bounds, Upload};
use crate::variant::Scaling;
use crate::{ImageError, Picture, Width};

/// A JSON integer of 63 bits, random: `image/{id}` needs no token, so an id must not be guessable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct ImageId(pub i64);

impl ImageId {
    /// Never negative: the app reads a 63-bit integer.
    fn random(entropy: &dyn Entropy) -> Self {
        Self(i64::try_from(entropy.u64() >> 1).expect("63 bits fit"))
    }

    /// Spread over 256 folders, for file systems that dislike one large one.
    fn path(self) -> Path {
        let hex = format!("{:016x}", self.0);
        Path::from_iter([&hex[14..], &hex])
    }
}

/// Where a variant stands: beside its original.
fn variant_path(id: ImageId, width: Width) -> Path {
    let hex = format!("{:016x}", id.0);
    Path::from_iter([&hex[14..], &format!("{hex}-w{}", width.pixels())])
}

/// A picture in the store, of which nothing is in memory yet.
#[derive(Debug)]
pub struct Stored {
    found: GetResult,
    store: Arc<dyn ObjectStore>,
}

impl Stored {
    /// Bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        usize::try_from(self.found.meta.size).unwrap_or(usize::MAX)
    }

    /// As it comes from the store: a picture need not be in memory as a whole.
    pub async fn stream(self) -> Result<Reading, ImageError> {
        let size = self.found.meta.size;
        let mut chunks = self.found.into_stream().map_err(ImageError::from).boxed();
        let mut first = BytesMut::new();
        // Only pictures are put here, so the type is in the bytes.
        while first.len() < SNIFFED
            && let Some(chunk) = chunks.try_next().await?
        {
            first.extend_from_slice(&chunk);
        }
        let content_type = sniff(&first).map_or("application/octet-stream", |(_, content_type)| content_type);
        let first = stream::iter([Ok(first.freeze())]);
        Ok(Reading {
            size,
            content_type,
            chunks: first.chain(chunks).boxed(),
        })
    }

    /// As [`Stored::stream`], only these bytes, which the picture has.
    pub async fn stream_part(self, part: Range<u64>) -> Result<Reading, ImageError> {
        let (path, store) = (self.found.meta.location.clone(), self.store.clone());
        // The type stands in the first bytes only.
        let whole = self.stream().await?;
        let options = GetOptions {
            range: Some(GetRange::Bounded(part.clone())),
            ..GetOptions::default()
        };
        let chunks = store.get_opts(&path, options).await?.into_stream();
        Ok(Reading {
            size: part.end - part.start,
            content_type: whole.content_type,
            chunks: chunks.map_err(ImageError::from).boxed(),
        })
    }

    pub async fn read(self) -> Result<Bytes, ImageError> {
        Ok(self.found.bytes().await?)
    }
}

/// The bytes that tell a picture's type.
const SNIFFED: usize = 64;

/// The bytes of a picture, some at a time.
pub type Chunks = BoxStream<'static, Result<Bytes, ImageError>>;

/// A picture that is being read.
pub struct Reading {
    /// In bytes.
    pub size: u64,
    pub content_type: &'static str,
    pub chunks: Chunks,
}

impl std::fmt::Debug for Reading {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reading")
            .field("size", &self.size)
            .field("content_type", &self.content_type)
            .finish_non_exhaustive()
    }
}

/// Pictures by id.
#[derive(Debug, Clone)]
pub struct Images {
    store: Arc<dyn ObjectStore>,
    entropy: Arc<dyn Entropy>,
    /// MiB that pictures may take while they are decoded.
    decoding: Arc<Semaphore>,
}

/// The difference of two encodings of a picture, at most: of 255, the mean of all colours of their miniatures.
const NOISE: u32 = 8;

/// In MiB. A picture that takes more is decoded by itself.
pub(crate) const DECODING: u32 = 96;
/// In MiB, taken by the smallest picture, too: it bounds how many threads decode at once.
pub(crate) const DECODING_ONE: u32 = 24;

impl Images {
    /// `file:<folder>`, `s3://bucket/prefix` or `gs://bucket/prefix`; credentials of the latter two from their
    /// usual environment. The disk of a folder is watched by the health check `diskSpace`.
    pub fn open(url: &SecretUrl, context: &Context) -> Result<Self, ImageError> {
        sosohappy_common::tls::install_provider();
        let store: Arc<dyn ObjectStore> = match url.scheme() {
            "file" => {
                let folder = FilePath::new(url.rest().strip_prefix("//").unwrap_or(url.rest()));
                let store = open_folder(folder)?;
                context.health.watch_disk(folder);
                Arc::new(store)
            }
            "s3" => open_s3(AmazonS3Builder::from_env(), url)?,
            "gs" => {
                let bucket = GoogleCloudStorageBuilder::from_env()
                    .with_url(url.expose())
                    .with_retry(retries())
                    .build()?;
                Arc::new(PrefixStore::new(bucket, prefix(url.rest())))
            }
            other => {
                return Err(ImageError::Settings(format!(
                    "file:, s3: or gs: is expected, not `{other}:`"
                )));
            }
        };
        Ok(Self::over(store, context))
    }

    pub(crate) fn over(store: Arc<dyn ObjectStore>, context: &Context) -> Self {
        Self {
            store,
            entropy: context.entropy.clone(),
            decoding: Arc::new(Semaphore::new(DECODING as usize)),
        }
    }

    /// Returns the picture to store of an upload: complete, within the bounds, turned as its EXIF orientation says, encoded anew without
    /// metadata or trailing data. Animations (GIF, WebP) become GIF, WebP photos JPEG; others keep their type. Waits while other
    /// pictures fill the memory for decoding.
    pub async fn sanitize(&self, bytes: Bytes, bounds: Bounds) -> Result<Picture, ImageError> {
        let upload = Upload::inspect(bytes, bounds)?;
        self.decode(upload.decoded, move || upload.reencode()).await?
    }

    /// Returns whether two files show the same picture, however each is encoded: of animations, whether the first frame is the same. The
    /// first is within the bounds.
    ///
    /// # Errors
    /// If one of them is no picture.
    pub async fn is_same(&self, one: Bytes, other: Bytes, bounds: Bounds) -> Result<bool, ImageError> {
        let one = Upload::inspect(one, bounds)?;
        // Encoded anew, a picture may take more bytes than before.
        let other = Upload::inspect(
            other,
            Bounds {
                bytes: usize::MAX,
                ..bounds
            },
        )?;
        let decoded = one.decoded.max(other.decoded);
        let compare = move || {
            let (one, other) = (one.miniature(), other.miniature());
            let (one, other) = (
                one.map_err(|_| ImageError::Broken)?,
                other.map_err(|_| ImageError::Broken)?,
            );
            let difference: u32 = one.iter().zip(&other).map(|(one, other)| one.abs_diff(*other)).sum();
            Ok(difference <= NOISE * u32::try_from(one.len()).unwrap_or(u32::MAX))
        };
        self.decode(decoded, compare).await?
    }

    /// Runs work that decodes a picture of so many bytes on a thread of its own, when there is memory for it.
    pub(crate) async fn decode<T: Send + 'static>(
        &self,
        decoded: u64,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ImageError> {
        // Turning or scaling a picture, or making a frame of the one before, takes a second copy.
        let needed = u32::try_from(decoded.saturating_mul(2) >> 20).unwrap_or(u32::MAX);
        let needed = needed.clamp(DECODING_ONE, DECODING);
        let permit = self.decoding.clone().acquire_many_owned(needed).await;
        let permit = permit.map_err(|_| ImageError::Processing("shutting down"))?;
        let done = spawn_blocking(move || {
            let done = work();
            // Held until the memory is given back, also when the request is cancelled.
            drop(permit);
            done
        });
        done.await.map_err(|error| {
            if error.is_panic() {
                tracing::error!("image decoder panicked");
            }
            ImageError::Broken
        })
    }

    /// A new unguessable id for [`Images::put_as`].
    #[must_use]
    pub fn new_id(&self) -> ImageId {
        ImageId::random(&*self.entropy)
    }

    /// Stores a picture under this id, durably; never overwrites another. A crash after it leaves a picture without a post:
    /// callers that must not leak one record the id first.
    pub async fn put_as(&self, id: ImageId, picture: &Picture) -> Result<(), ImageError> {
        let stored = self
            .store
            .put_opts(&id.path(), picture.bytes.clone().into(), PutMode::Create.into())
            .await;
        match stored {
            Ok(_) => Ok(()),
            // A retry inside the store's client may have met its own first try.
            Err(error @ object_store::Error::AlreadyExists { .. }) => match self.get(id).await? {
                Some(there) if there.bytes == picture.bytes => Ok(()),
                Some(_) | None => Err(error.into()),
            },
            Err(error) => Err(error.into()),
        }
    }

    /// A picture that can be read; none when there is no such picture.
    pub async fn find(&self, id: ImageId) -> Result<Option<Stored>, ImageError> {
        if id.0 < 0 {
            return Ok(None);
        }
        self.find_at(&id.path()).await
    }

    async fn find_at(&self, path: &Path) -> Result<Option<Stored>, ImageError> {
        match self.store.get(path).await {
            Ok(found) => Ok(Some(Stored {
                found,
                store: self.store.clone(),
            })),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// A picture in a smaller width, which is made and stored when it is first asked for; the picture itself if it is not wider, or an
    /// animation. None when there is no such picture: a variant is there only as long as its original.
    pub async fn find_variant(&self, id: ImageId, width: Width) -> Result<Option<Stored>, ImageError> {
        if !self.exists(id).await? {
            return Ok(None);
        }
        let path = variant_path(id, width);
        if let Some(stored) = self.find_at(&path).await? {
            return Ok(Some(stored));
        }
        let Some(original) = self.get(id).await? else {
            return Ok(None);
        };
        let Some(scaling) = Scaling::of(original.bytes, width) else {
            return self.find(id).await;
        };
        let Some(picture) = self.decode(scaling.decoded, move || scaling.scale()).await? else {
            tracing::warn!(image = id.0, "stored image cannot be decoded");
            return self.find(id).await;
        };
        match self
            .store
            .put_opts(&path, picture.bytes.into(), PutMode::Create.into())
            .await
        {
            Ok(_) | Err(object_store::Error::AlreadyExists { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        // The original may have been deleted meanwhile, and its variants before this one was put.
        if !self.exists(id).await? {
            self.delete_at(&path).await?;
            return Ok(None);
        }
        self.find_at(&path).await
    }

    /// None when there is no such picture.
    pub async fn get(&self, id: ImageId) -> Result<Option<Picture>, ImageError> {
        let Some(found) = self.find(id).await? else {
            return Ok(None);
        };
        let found = found.read().await?;
        // Only pictures are put here, so the type is in the bytes.
        let content_type = sniff(&found).map_or("application/octet-stream", |(_, content_type)| content_type);
        Ok(Some(Picture {
            bytes: found,
            content_type,
        }))
    }

    /// Stores a picture under another id, too; none when there is no such picture. As durable as [`Images::put_as`].
    pub async fn copy(&self, from: ImageId, to: ImageId) -> Result<Option<()>, ImageError> {
        match self.get(from).await? {
            Some(picture) => self.put_as(to, &picture).await.map(Some),
            None => Ok(None),
        }
    }

    /// Whether there is such a picture.
    pub async fn exists(&self, id: ImageId) -> Result<bool, ImageError> {
        Ok(self.size(id).await?.is_some())
    }

    /// Bytes of a picture; none when there is no such picture.
    pub async fn size(&self, id: ImageId) -> Result<Option<u64>, ImageError> {
        if id.0 < 0 {
            return Ok(None);
        }
        match self.store.head(&id.path()).await {
            Ok(found) => Ok(Some(found.size)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Deletes a picture and its variants; one that is not there is no error.
    pub async fn delete(&self, id: ImageId) -> Result<(), ImageError> {
        // The original first: without it no variant is made or read any more.
        self.delete_at(&id.path()).await?;
        for width in Width::ALL {
            self.delete_at(&variant_path(id, width)).await?;
        }
        Ok(())
    }

    async fn delete_at(&self, path: &Path) -> Result<(), ImageError> {
        match self.store.delete(path).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// `file:data/images`, `file:/var/images`, `file:///var/images`.
fn open_folder(folder: &FilePath) -> Result<LocalFileSystem, ImageError> {
    if folder.as_os_str().is_empty() {
        return Err(ImageError::Settings("file: needs a folder".to_owned()));
    }
    std::fs::create_dir_all(folder).map_err(|error| ImageError::Settings(format!("{}: {error}", folder.display())))?;
    Ok(LocalFileSystem::new_with_prefix(folder)?.with_fsync(true))
}

/// Within the patience of a client: the default tries for three minutes.
const RETRIES: usize = 3;
const RETRY_TIMEOUT: Duration = Duration::from_secs(10);

fn retries() -> RetryConfig {
    RetryConfig {
        max_retries: RETRIES,
        retry_timeout: RETRY_TIMEOUT,
        ..RetryConfig::default()
    }
}

/// Opens the bucket of an `s3:` URL; `builder` has what the environment says.
pub(crate) fn open_s3(builder: AmazonS3Builder, url: &SecretUrl) -> Result<Arc<dyn ObjectStore>, ImageError> {
    let bucket = builder.with_url(url.expose()).with_retry(retries()).build()?;
    Ok(Arc::new(PrefixStore::new(bucket, prefix(url.rest()))))
}

/// Returns the path after the bucket: `//bucket/pictures` → `pictures`.
pub(crate) fn prefix(rest: &str) -> Path {
    let path = rest
        .trim_start_matches('/')
        .split_once('/')
        .map_or("", |(_, path)| path);
    Path::from(path)
}
