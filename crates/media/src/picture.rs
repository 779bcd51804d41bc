//! Pictures and their types.

use bytes::Bytes;
use image::ImageFormat;

/// A picture that was encoded anew, or comes from the store.
#[derive(Debug, Clone)]
pub struct Picture {
    pub bytes: Bytes,
    pub content_type: &'static str,
}

impl Picture {
    /// Returns a picture that was encoded anew before, by its bytes; none if they are no picture.
    #[must_use]
    pub fn stored(bytes: Bytes) -> Option<Self> {
        let (_, content_type) = sniff(&bytes)?;
        Some(Self { bytes, content_type })
    }
}

/// Returns the type that the first bytes name, and its media type.
pub(crate) fn sniff(bytes: &[u8]) -> Option<(ImageFormat, &'static str)> {
    let format = image::guess_format(bytes).ok()?;
    let content_type = match format {
        ImageFormat::Jpeg => "image/jpeg",
        ImageFormat::Png => "image/png",
        ImageFormat::Gif => "image/gif",
        ImageFormat::WebP => "image/webp",
        _ => return None,
    };
    Some((format, content_type))
}
