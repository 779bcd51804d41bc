//! The conditions under which an upload counts as a picture.

use std::io::Cursor;

use bytes::Bytes;
use image::{ImageFormat, ImageReader};

use crate::ImageError;

/// A picture that was looked at: its type is known and it is within the limits.
#[derive(Debug, Clone)]
pub struct Picture {
    pub bytes: Bytes,
    pub content_type: &'static str,
}

impl Picture {
    /// Looks at the header only; nothing is decoded.
    pub fn inspect(bytes: Bytes, max_bytes: usize, max_pixels: u64) -> Result<Self, ImageError> {
        if bytes.len() > max_bytes {
            return Err(ImageError::TooLarge(max_bytes));
        }
        let (format, content_type) = sniff(&bytes).ok_or(ImageError::UnknownType)?;
        let header = ImageReader::with_format(Cursor::new(&bytes), format).into_dimensions();
        let (width, height) = header.map_err(|_| ImageError::UnknownType)?;
        if u64::from(width) * u64::from(height) > max_pixels {
            return Err(ImageError::TooManyPixels(max_pixels));
        }
        Ok(Self { bytes, content_type })
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
