//! An upload becomes the picture that is stored: decoded whole within bounds and encoded anew, so that nothing but its pixels is left.

use std::io::Cursor;

use bytes::Bytes;
use image::codecs::gif::{GifDecoder, GifEncoder, Repeat};
use image::codecs::jpeg::JpegEncoder;
use image::codecs::webp::WebPDecoder;
use image::imageops::FilterType;
use image::metadata::Orientation;
use image::{AnimationDecoder as _, DynamicImage, Frame, Frames, ImageDecoder, ImageFormat, ImageReader, ImageResult};

use crate::picture::sniff;
use crate::structure::{self, Structure};
use crate::{ImageError, Picture};

/// Bounds on an upload.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Bytes of the file.
    pub bytes: usize,
    /// Pixels of a picture; of an animation, of all its frames together.
    pub pixels: u64,
}

/// Frames of an animation.
pub(crate) const FRAMES: usize = 500;
/// Scans of a JPEG: encoders write about ten, and each costs a pass over all the pixels.
const SCANS: usize = 100;
/// A decoded picture takes at most so many bytes a pixel of the bound: one of 16 bits a channel may have half the pixels.
const BYTES_A_PIXEL: u64 = 4;
/// Of 100: visually close to the upload.
const JPEG_QUALITY: u8 = 88;
/// Pixels of a side of a miniature.
const MINIATURE: u32 = 16;
/// Of 1 (best colours) to 30 (fastest), for frames of more than 256 colours.
const GIF_SPEED: i32 = 20;

/// How an upload is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Image(ImageFormat),
    #[cfg(feature = "heic")]
    Heic,
}

/// An upload that is within the bounds by its header and its structure; nothing is decoded yet.
#[derive(Debug)]
pub(crate) struct Upload {
    bytes: Bytes,
    format: Format,
    structure: Structure,
    bounds: Bounds,
    /// Bytes of one decoded frame.
    pub decoded: u64,
}

impl Upload {
    pub fn inspect(bytes: Bytes, bounds: Bounds) -> Result<Self, ImageError> {
        if bytes.len() > bounds.bytes {
            return Err(ImageError::TooLarge(bounds.bytes));
        }
        #[cfg(feature = "heic")]
        if crate::heic::is_heic(&bytes) {
            let decoded = crate::heic::inspect(&bytes, bounds.pixels)?;
            return Ok(Self {
                bytes,
                format: Format::Heic,
                structure: structure::STILL,
                bounds,
                decoded,
            });
        }
        let (format, _) = sniff(&bytes).ok_or(ImageError::UnknownType)?;
        let structure = structure::read(format, &bytes).ok_or(ImageError::Broken)?;
        if structure.frames > FRAMES {
            return Err(ImageError::TooManyFrames(FRAMES));
        }
        if structure.scans > SCANS {
            return Err(ImageError::Broken);
        }
        let header = ImageReader::with_format(Cursor::new(&bytes), format).into_decoder();
        let header = header.map_err(|_| ImageError::Broken)?;
        let (width, height) = header.dimensions();
        let pixels = u64::from(width) * u64::from(height);
        let decoded = header.total_bytes();
        if pixels.saturating_mul(structure.frames as u64) > bounds.pixels
            || decoded > bounds.pixels.saturating_mul(BYTES_A_PIXEL)
        {
            return Err(ImageError::TooManyPixels(bounds.pixels));
        }
        drop(header);
        Ok(Self {
            bytes,
            format: Format::Image(format),
            structure,
            bounds,
            decoded,
        })
    }

    /// Decodes and encodes: seconds of CPU for the largest pictures, so never on a runtime's worker.
    pub fn reencode(self) -> Result<Picture, ImageError> {
        let animated = self.format == Format::Image(ImageFormat::Gif) || self.structure.frames > 1;
        let encoded = if animated { self.animation() } else { self.still() };
        // Every failure is one of the upload's: writing into memory does not fail.
        let encoded = encoded.map_err(|_| ImageError::Broken)?;
        let (_, content_type) = sniff(&encoded).ok_or(ImageError::Broken)?;
        Ok(Picture {
            bytes: encoded.into(),
            content_type,
        })
    }

    /// The picture, or the first frame of an animation, turned as its EXIF orientation says: the metadata is not kept.
    fn decoded_still(&self) -> ImageResult<DynamicImage> {
        let format = match self.format {
            Format::Image(format) => format,
            #[cfg(feature = "heic")]
            Format::Heic => return crate::heic::decode(&self.bytes, self.bounds.pixels),
        };
        let mut reader = ImageReader::with_format(Cursor::new(&self.bytes), format);
        reader.limits(self.limits());
        let mut decoder = reader.into_decoder()?;
        let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
        let mut picture = DynamicImage::from_decoder(decoder)?;
        picture.apply_orientation(orientation);
        Ok(picture)
    }

    /// Returns the colours of a small copy on white, the same for each encoding of a picture but for a little noise.
    pub fn miniature(&self) -> ImageResult<Vec<u32>> {
        let small = self
            .decoded_still()?
            .resize_exact(MINIATURE, MINIATURE, FilterType::Triangle);
        let colours = small.into_rgba8().into_vec();
        let on_white = colours.chunks_exact(4).flat_map(|pixel| {
            let alpha = u32::from(pixel[3]);
            [pixel[0], pixel[1], pixel[2]].map(|colour| (u32::from(colour) * alpha + 255 * (255 - alpha)) / 255)
        });
        Ok(on_white.collect())
    }

    /// JPEG stays JPEG and PNG stays PNG. WebP can only be written without loss, which would multiply the bytes of a photo: those become JPEG, and
    /// so do those of HEIC.
    fn still(self) -> ImageResult<Vec<u8>> {
        let picture = self.decoded_still()?;
        let mut encoded = Cursor::new(Vec::new());
        let kept = match self.format {
            Format::Image(ImageFormat::Jpeg) => None,
            Format::Image(format) => Some(format).filter(|_| !self.structure.is_photo),
            #[cfg(feature = "heic")]
            Format::Heic => None,
        };
        if let Some(format) = kept {
            picture.write_to(&mut encoded, format)?;
        } else {
            let picture = match picture {
                grey @ DynamicImage::ImageLuma8(_) => grey,
                other => DynamicImage::ImageRgb8(other.into_rgb8()),
            };
            picture.write_with_encoder(JpegEncoder::new_with_quality(&mut encoded, JPEG_QUALITY))?;
        }
        Ok(encoded.into_inner())
    }

    /// Frame by frame, into a GIF: the only animation that can be written. It repeats without end.
    fn animation(self) -> ImageResult<Vec<u8>> {
        let mut gif = Vec::new();
        let mut encoder = GifEncoder::new_with_speed(&mut gif, GIF_SPEED);
        if self.structure.frames > 1 {
            encoder.set_repeat(Repeat::Infinite)?;
        }
        let mut left = self.structure.frames;
        for frame in self.frames()? {
            // The structure has named their number: a decoder that finds more has been misled.
            left = left.checked_sub(1).ok_or_else(misled)?;
            let frame: Frame = frame?;
            encoder.encode_frame(frame)?;
        }
        drop(encoder);
        if left > 0 {
            return Err(misled());
        }
        Ok(gif)
    }

    fn frames(&self) -> ImageResult<Frames<'_>> {
        let bytes = Cursor::new(&self.bytes[..]);
        if self.format == Format::Image(ImageFormat::WebP) {
            let mut decoder = WebPDecoder::new(bytes)?;
            decoder.set_limits(self.limits())?;
            return Ok(decoder.into_frames());
        }
        let mut decoder = GifDecoder::new(bytes)?;
        decoder.set_limits(self.limits())?;
        Ok(decoder.into_frames())
    }

    /// A decoder may take memory for one copy of the picture beside the picture itself.
    fn limits(&self) -> image::Limits {
        let mut limits = image::Limits::default();
        limits.max_alloc = Some(self.bounds.pixels.saturating_mul(2 * BYTES_A_PIXEL));
        limits
    }
}

fn misled() -> image::ImageError {
    let kind = image::error::UnsupportedErrorKind::GenericFeature("frames that do not fit the structure".to_owned());
    image::ImageError::Unsupported(image::error::UnsupportedError::from_format_and_kind(
        image::error::ImageFormatHint::Unknown,
        kind,
    ))
}
