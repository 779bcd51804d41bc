//! A ZIP with posts of one account: `export.json`, the pictures it names, and its signature. An account with many posts has several.
//!
//! | entry | what |
//! | --- | --- |
//! | `pictures/…` | as they are stored, not compressed again |
//! | `export.json` | [`Manifest`]: the posts, each with the file and the SHA-256 of each of its pictures |
//! | `signature` | URL-safe Base64 of an HMAC-SHA-256 over `export.json`, with a key of this fleet's database |
//!
//! The signature says that the fleet has written the posts and, by their digests, the pictures.

use std::io::{Cursor, Read as _, Write};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use hmac::{Hmac, KeyInit as _, Mac as _};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use sosohappy_common::Account;
use tokio::sync::mpsc;
use zip::result::ZipError;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

use crate::domain::{PostDate, Visibility};

const MANIFEST: &str = "export.json";
const SIGNATURE: &str = "signature";

const FORMAT: &str = "sosohappy-feed-export";
/// A later version may add fields; any other change needs a new one.
const VERSION: u32 = 1;

/// Keeps a signature apart from any other use of the key.
const SIGNED: &[u8] = b"sosohappy feed export\0";

/// Bytes of `export.json`: a hundred posts of ten thousand characters have at most 4 MiB.
const MANIFEST_BYTES: u64 = 16 << 20;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    pub format: String,
    pub version: u32,
    pub account: Account,
    pub exported_at: Timestamp,
    pub posts: Vec<ArchivedPost>,
}

impl Manifest {
    pub fn new(account: Account, exported_at: Timestamp, posts: Vec<ArchivedPost>) -> Self {
        Self {
            format: FORMAT.to_owned(),
            version: VERSION,
            account,
            exported_at,
            posts,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ArchivedPost {
    pub date: PostDate,
    pub weather: String,
    pub happiness: i32,
    pub text: String,
    pub visibility: Visibility,
    pub category_list: Vec<String>,
    pub picture_list: Vec<ArchivedPicture>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edited_at: Option<Timestamp>,
    pub like_count: i64,
    pub comment_count: i64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ArchivedPicture {
    pub file: String,
    /// In bytes.
    pub size: u64,
    pub sha256: String,
}

impl ArchivedPicture {
    pub fn new(file: String, bytes: &[u8]) -> Self {
        Self {
            file,
            size: bytes.len() as u64,
            sha256: digest(bytes),
        }
    }
}

fn digest(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(bytes))
}

/// Signs and checks exports.
#[derive(Clone)]
pub struct ExportKey([u8; 32]);

impl std::fmt::Debug for ExportKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ExportKey(..)")
    }
}

impl ExportKey {
    pub fn new(key: [u8; 32]) -> Self {
        Self(key)
    }

    fn mac(&self, manifest: &[u8]) -> Hmac<Sha256> {
        Hmac::new_from_slice(&self.0)
            .expect("HMAC takes a key of any length")
            .chain_update(SIGNED)
            .chain_update(manifest)
    }
}

/// Why an archive was not written.
#[derive(Debug, thiserror::Error)]
pub enum WriteFailed {
    #[error("the client has closed the connection")]
    ReaderGone,
    #[error("the export ended before its manifest")]
    NoEnd,
    #[error("the ZIP could not be written")]
    Zip(#[from] ZipError),
}

/// A picture to write, then the end.
#[derive(Debug)]
pub enum Part {
    Picture { file: String, bytes: Bytes },
    End(Manifest),
}

/// Writes an archive as its parts arrive, on a blocking thread. Returns an error without a manifest at the end, or when the client closes the
/// connection, so that a truncated archive is never taken for a complete one.
pub fn write(key: &ExportKey, mut parts: mpsc::Receiver<Part>, out: &mpsc::Sender<Bytes>) -> Result<(), WriteFailed> {
    let mut zip = ZipWriter::new_stream(Chunks {
        buffer: Vec::with_capacity(CHUNK),
        out: out.clone(),
    });
    let stored = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    let deflated = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
    while let Some(part) = parts.blocking_recv() {
        match part {
            Part::Picture { file, bytes } => {
                zip.start_file(file, stored)?;
                zip.write_all(&bytes).map_err(ZipError::from)?;
            }
            Part::End(manifest) => {
                let manifest = serde_json::to_vec_pretty(&manifest).expect("texts and numbers are JSON");
                let signature = URL_SAFE_NO_PAD.encode(key.mac(&manifest).finalize().into_bytes());
                for (name, options, bytes) in [
                    (MANIFEST, deflated, &manifest[..]),
                    (SIGNATURE, stored, signature.as_bytes()),
                ] {
                    zip.start_file(name, options)?;
                    zip.write_all(bytes).map_err(ZipError::from)?;
                }
                zip.finish()?.into_inner().flush().map_err(ZipError::from)?;
                return if out.is_closed() {
                    Err(WriteFailed::ReaderGone)
                } else {
                    Ok(())
                };
            }
        }
        if out.is_closed() {
            return Err(WriteFailed::ReaderGone);
        }
    }
    Err(WriteFailed::NoEnd)
}

const CHUNK: usize = 64 << 10;

/// Bytes as chunks of a response's body. Those that no reader takes are dropped: [`write()`] asks whether there is one.
struct Chunks {
    buffer: Vec<u8>,
    out: mpsc::Sender<Bytes>,
}

impl Write for Chunks {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let taken = bytes.len().min(CHUNK - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..taken]);
        if self.buffer.len() == CHUNK {
            self.flush()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        if !self.buffer.is_empty() {
            let chunk = std::mem::replace(&mut self.buffer, Vec::with_capacity(CHUNK));
            let _ = self.out.blocking_send(chunk.into());
        }
        Ok(())
    }
}

/// Why an archive is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidArchive {
    #[error("file: a ZIP that `export` has written is expected")]
    NotAnExport,
    #[error("file: the signature does not fit")]
    Signature,
    #[error("file: a picture is missing or another one")]
    Picture,
    #[error("file: the export has the version of a later release")]
    LaterVersion,
}

/// An archive whose signature fits, with all its pictures.
#[derive(Debug)]
pub struct Archive {
    pub manifest: Manifest,
    zip: ZipArchive<Cursor<Bytes>>,
}

/// What every version of a manifest has.
#[derive(Deserialize)]
struct Version {
    version: u32,
}

impl Archive {
    /// Checks the signature, before anything else is read, and the digest of every picture. Reads no more bytes than the signed sizes, whatever
    /// the ZIP says of its entries.
    pub fn open(bytes: Bytes, key: &ExportKey) -> Result<Self, InvalidArchive> {
        let mut zip = ZipArchive::new(Cursor::new(bytes)).map_err(|_| InvalidArchive::NotAnExport)?;
        let signature = read(&mut zip, SIGNATURE, 64).ok_or(InvalidArchive::NotAnExport)?;
        let manifest = read(&mut zip, MANIFEST, MANIFEST_BYTES).ok_or(InvalidArchive::NotAnExport)?;
        let signature = URL_SAFE_NO_PAD
            .decode(signature)
            .map_err(|_| InvalidArchive::Signature)?;
        let mac = key.mac(&manifest);
        mac.verify_slice(&signature).map_err(|_| InvalidArchive::Signature)?;
        // The version first: a later one may have another form.
        let Version { version } = serde_json::from_slice(&manifest).map_err(|_| InvalidArchive::NotAnExport)?;
        if version > VERSION {
            return Err(InvalidArchive::LaterVersion);
        }
        let manifest: Manifest = serde_json::from_slice(&manifest).map_err(|_| InvalidArchive::NotAnExport)?;
        let mut archive = Self { manifest, zip };
        let pictures = archive.manifest.posts.iter().flat_map(|post| post.picture_list.clone());
        for picture in pictures.collect::<Vec<_>>() {
            archive.picture(&picture)?;
        }
        Ok(archive)
    }

    /// Returns a picture, whose size and digest the signature covers.
    pub fn picture(&mut self, picture: &ArchivedPicture) -> Result<Bytes, InvalidArchive> {
        let bytes = read(&mut self.zip, &picture.file, picture.size).ok_or(InvalidArchive::Picture)?;
        if digest(&bytes) == picture.sha256 {
            Ok(bytes.into())
        } else {
            Err(InvalidArchive::Picture)
        }
    }
}

/// Reads an entry of at most so many bytes, whatever its header says of its size.
fn read(zip: &mut ZipArchive<Cursor<Bytes>>, name: &str, most: u64) -> Option<Vec<u8>> {
    let entry = zip.by_name(name).ok()?;
    let mut bytes = Vec::new();
    entry.take(most + 1).read_to_end(&mut bytes).ok()?;
    (bytes.len() as u64 <= most).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PICTURE: &[u8] = b"a picture";

    fn manifest() -> Manifest {
        let post = ArchivedPost {
            date: PostDate::try_from(2_023_090_513_248_392).unwrap(),
            weather: "sunny".to_owned(),
            happiness: 5,
            text: "오늘의 행복".to_owned(),
            visibility: Visibility::Friends,
            category_list: vec!["sea".to_owned()],
            picture_list: vec![ArchivedPicture::new("pictures/20230905-1.png".to_owned(), PICTURE)],
            edited_at: None,
            like_count: 1,
            comment_count: 0,
        };
        let account = "kim@example.com+kakao".parse().unwrap();
        Manifest::new(account, Timestamp::from_second(1_700_000_000).unwrap(), vec![post])
    }

    fn written(parts: Vec<Part>) -> (Vec<u8>, bool) {
        let (parts_in, parts_out) = mpsc::channel(8);
        let (out, mut chunks) = mpsc::channel(1024);
        for part in parts {
            parts_in.blocking_send(part).unwrap();
        }
        drop(parts_in);
        let is_whole = write(&ExportKey::new([7; 32]), parts_out, &out).is_ok();
        drop(out);
        let mut bytes = Vec::new();
        while let Some(chunk) = chunks.blocking_recv() {
            bytes.extend_from_slice(&chunk);
        }
        (bytes, is_whole)
    }

    fn archive() -> Vec<u8> {
        let picture = Part::Picture {
            file: "pictures/20230905-1.png".to_owned(),
            bytes: Bytes::from_static(PICTURE),
        };
        let (bytes, is_whole) = written(vec![picture, Part::End(manifest())]);
        assert!(is_whole);
        bytes
    }

    fn open(bytes: Vec<u8>) -> Result<Archive, InvalidArchive> {
        Archive::open(bytes.into(), &ExportKey::new([7; 32]))
    }

    #[test]
    fn an_archive_is_read_as_it_was_written() {
        let mut archive = open(archive()).unwrap();
        assert_eq!(archive.manifest, manifest());
        let picture = archive.manifest.posts[0].picture_list[0].clone();
        assert_eq!(archive.picture(&picture).unwrap(), PICTURE);
    }

    #[test]
    fn another_key_and_any_changed_byte_are_refused() {
        let good = archive();
        let other = Archive::open(good.clone().into(), &ExportKey::new([8; 32]));
        assert_eq!(other.unwrap_err(), InvalidArchive::Signature);
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            // Bytes that say nothing, such as times of entries, may differ; what is read may not.
            if let Ok(mut archive) = open(bad) {
                assert_eq!(archive.manifest, manifest(), "byte {at}");
                let picture = archive.manifest.posts[0].picture_list[0].clone();
                assert_eq!(archive.picture(&picture).unwrap(), PICTURE, "byte {at}");
            }
        }
        for end in 0..good.len() {
            assert!(open(good[..end].to_vec()).is_err(), "cut at {end}");
        }
    }

    #[test]
    fn an_archive_without_its_end_is_none() {
        let picture = Part::Picture {
            file: "pictures/1.png".to_owned(),
            bytes: Bytes::from_static(PICTURE),
        };
        let (bytes, is_whole) = written(vec![picture]);
        assert!(!is_whole && open(bytes).is_err());
    }

    #[test]
    fn a_picture_of_another_size_or_digest_is_refused() {
        for (file, bytes) in [
            ("pictures/20230905-1.png", Bytes::from_static(b"a pictura")),
            ("pictures/20230905-1.png", Bytes::from_static(b"a picture!")),
            ("pictures/20230905-2.png", Bytes::from_static(PICTURE)),
        ] {
            let file = file.to_owned();
            let (bytes, _) = written(vec![Part::Picture { file, bytes }, Part::End(manifest())]);
            assert_eq!(open(bytes).unwrap_err(), InvalidArchive::Picture);
        }
    }

    #[test]
    fn a_later_version_is_named_in_the_error() {
        let mut later = manifest();
        later.posts.clear();
        later.version = 2;
        let (bytes, _) = written(vec![Part::End(later)]);
        assert_eq!(open(bytes).unwrap_err(), InvalidArchive::LaterVersion);
    }
}
