//! Smaller pictures, for lists and small screens: of a fixed set of widths, so that requests cannot fill the store with others.

use std::io::Cursor;

use bytes::Bytes;
use image::codecs::jpeg::JpegEncoder;
use image::imageops::FilterType;
use image::{DynamicImage, ImageFormat, ImageReader};

use crate::Picture;
use crate::picture::sniff;

/// A width of variants, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(try_from = "u32")]
pub struct Width(u32);

impl Width {
    pub const ALL: [Self; 4] = [Self(160), Self(320), Self(640), Self(1280)];

    #[must_use]
    pub fn pixels(self) -> u32 {
        self.0
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a picture has variants of the widths 160, 320, 640 and 1280")]
pub struct InvalidWidth;

impl TryFrom<u32> for Width {
    type Error = InvalidWidth;

    fn try_from(pixels: u32) -> Result<Self, InvalidWidth> {
        let width = Self(pixels);
        Self::ALL.contains(&width).then_some(width).ok_or(InvalidWidth)
    }
}

/// Of 100: below that of originals, as a variant is looked at in passing.
const JPEG_QUALITY: u8 = 82;

/// A stored picture that is wider than the variant asked for.
#[derive(Debug)]
pub(crate) struct Scaling {
    bytes: Bytes,
    format: ImageFormat,
    width: u32,
    height: u32,
    /// Bytes of the decoded original.
    pub decoded: u64,
}

impl Scaling {
    /// `None` for a picture that is served as it is: one that is not wider, and an animation, whose first frame would be all that is left.
    pub fn of(original: Bytes, width: Width) -> Option<Self> {
        let (format, _) = sniff(&original)?;
        if !matches!(format, ImageFormat::Jpeg | ImageFormat::Png) {
            return None;
        }
        let header = ImageReader::with_format(Cursor::new(&original), format).into_dimensions();
        let (old_width, old_height) = header.ok()?;
        if old_width <= width.0 {
            return None;
        }
        let height = u64::from(old_height) * u64::from(width.0) / u64::from(old_width);
        Some(Self {
            bytes: original,
            format,
            width: width.0,
            height: u32::try_from(height).ok()?.max(1),
            // At most four channels of 16 bits.
            decoded: u64::from(old_width) * u64::from(old_height) * 8,
        })
    }

    /// Decodes, scales and encodes in the type of the original. `None` if the original cannot be decoded.
    pub fn scale(self) -> Option<Picture> {
        let mut reader = ImageReader::with_format(Cursor::new(&self.bytes), self.format);
        // Stored pictures are within the bounds of uploads.
        reader.no_limits();
        let original = reader.decode().ok()?;
        let scaled = original.resize_exact(self.width, self.height, FilterType::Triangle);
        drop(original);
        let mut encoded = Cursor::new(Vec::new());
        let written = match (self.format, scaled) {
            (ImageFormat::Jpeg, grey @ DynamicImage::ImageLuma8(_)) => {
                grey.write_with_encoder(JpegEncoder::new_with_quality(&mut encoded, JPEG_QUALITY))
            }
            (ImageFormat::Jpeg, scaled) => DynamicImage::ImageRgb8(scaled.into_rgb8())
                .write_with_encoder(JpegEncoder::new_with_quality(&mut encoded, JPEG_QUALITY)),
            (format, scaled) => scaled.write_to(&mut encoded, format),
        };
        written.ok()?;
        let bytes = encoded.into_inner();
        let (_, content_type) = sniff(&bytes)?;
        Some(Picture {
            bytes: bytes.into(),
            content_type,
        })
    }
}
