//! Recognition of repeated saves: digests of uploads and requests, and the `Idempotency-Key` of a client.

use bytes::Bytes;
use http::{HeaderMap, HeaderName};
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};
use sosohappy_media::ImageId;

/// <https://datatracker.ietf.org/doc/content-ietf-httpapi-idempotency-key-header/>
pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

const LONGEST_KEY: usize = 128;

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("Idempotency-Key: one string of 1 to 128 printable ASCII characters is expected")]
pub struct InvalidKey;

/// The name that a client gives to one save: a retry under it is answered like the first try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyKey(String);

impl IdempotencyKey {
    /// Reads the header, a string of RFC 9651 (`"…"`); bare words, which many clients send, are read as well. `None` without the header.
    pub fn of(headers: &HeaderMap) -> Result<Option<Self>, InvalidKey> {
        let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
        let Some(value) = values.next() else {
            return Ok(None);
        };
        let text = value.to_str().map_err(|_| InvalidKey)?.trim();
        let text = text
            .strip_prefix('"')
            .map_or(Some(text), |inner| inner.strip_suffix('"'))
            .ok_or(InvalidKey)?;
        let is_plain = text.bytes().all(|byte| (b' '..=b'~').contains(&byte) && byte != b'"');
        if values.next().is_some() || !is_plain || text.is_empty() || text.len() > LONGEST_KEY {
            return Err(InvalidKey);
        }
        Ok(Some(Self(text.to_owned())))
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// SHA-256 of pictures as they were uploaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Uploads([u8; 32]);

impl Uploads {
    /// `None` without pictures. Takes time for large ones: not for an async task.
    #[must_use]
    pub fn of(pictures: &[Bytes]) -> Option<Self> {
        if pictures.is_empty() {
            return None;
        }
        let mut digest = Sha256::new();
        for picture in pictures {
            digest.update(picture.len().to_be_bytes());
            digest.update(picture);
        }
        Some(Self(digest.finalize().into()))
    }

    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Returns what is stored beside a post: that these uploads became the pictures with these ids. It says nothing about a post that has
    /// got other ids since.
    #[must_use]
    pub fn stored_as(self, images: &[ImageId]) -> [u8; 32] {
        let mut digest = Sha256::new_with_prefix(self.0);
        for image in images {
            digest.update(image.0.to_be_bytes());
        }
        digest.finalize().into()
    }
}

/// A key with [`Content::digest`](super::Content::digest) of the request that it names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyedRequest {
    pub key: IdempotencyKey,
    pub request: [u8; 32],
    /// From then on the key may name another request.
    pub expires_at: Timestamp,
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn read(values: &[&str]) -> Result<Option<String>, InvalidKey> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(IDEMPOTENCY_KEY, HeaderValue::from_str(value).unwrap());
        }
        IdempotencyKey::of(&headers).map(|key| key.map(|key| key.as_str().to_owned()))
    }

    #[test]
    fn a_key_is_a_quoted_or_bare_string() {
        assert_eq!(read(&[]), Ok(None));
        assert_eq!(read(&["\"8e03978e\""]), Ok(Some("8e03978e".to_owned())));
        assert_eq!(read(&["8e03978e"]), Ok(Some("8e03978e".to_owned())));
        for bad in ["", "\"\"", "\"open", "a\"b", "행복", &"a".repeat(129)] {
            assert_eq!(read(&[bad]), Err(InvalidKey), "{bad}");
        }
        assert_eq!(read(&["one", "two"]), Err(InvalidKey));
    }

    #[test]
    fn uploads_are_the_same_with_the_same_bytes_cut_the_same_way() {
        let uploads = |parts: &[&'static str]| Uploads::of(&parts.iter().copied().map(Bytes::from).collect::<Vec<_>>());
        assert_eq!(uploads(&[]), None);
        assert_eq!(uploads(&["ab", "c"]), uploads(&["ab", "c"]));
        assert_ne!(uploads(&["ab", "c"]), uploads(&["a", "bc"]));
        let ab = uploads(&["ab"]).unwrap();
        assert_ne!(ab.stored_as(&[ImageId(1)]), ab.stored_as(&[ImageId(2)]));
    }
}
