//! HEIC, the photos of iPhones: read, never written.

use std::io;

use heic_rs::context::Context;
use heic_rs::{DecodeOptions, PixelLayout};
use image::{DynamicImage, RgbImage};

use crate::ImageError;

/// Brands of files whose picture is coded by HEVC, ISO/IEC 23008-12, annex B.
const BRANDS: [&[u8]; 2] = [b"heic", b"heix"];

/// Bytes that a pixel takes while a picture is decoded: samples of 16 bits in 4:2:0, and three of 8 bits.
const BYTES_A_PIXEL: u64 = 6;

/// Type of the network abstraction layer unit with a sequence parameter set, ITU-T H.265, table 7-1.
const SEQUENCE_PARAMETER_SET: u8 = 33;

/// Whether the first bytes name a HEIC file: a `ftyp` box with one of the brands.
pub fn is_heic(bytes: &[u8]) -> bool {
    let Some((length, rest)) = bytes.split_first_chunk() else {
        return false;
    };
    let length = usize::try_from(u32::from_be_bytes(*length))
        .unwrap_or(0)
        .min(bytes.len());
    rest.starts_with(b"ftyp")
        && bytes
            .get(8..length)
            .is_some_and(|brands| brands.chunks_exact(4).any(|brand| BRANDS.contains(&brand)))
}

/// Checks, by headers alone, that a file is whole and within the bound of pixels; returns the bytes that its decoding takes.
pub fn inspect(bytes: &[u8], most: u64) -> Result<u64, ImageError> {
    boxes(bytes).ok_or(ImageError::Broken)?;
    let broken = |_| ImageError::Broken;
    let file = Context::open(bytes).map_err(broken)?;
    let item = file.meta.primary;
    let properties = file.props(item).map_err(broken)?;
    let (width, height) = file.coded_size(item, &properties).map_err(broken)?;
    let shown = u64::from(width) * u64::from(height);
    let tiles = match file.grid(item).map_err(broken)? {
        Some((_, tiles)) => tiles,
        None => vec![item],
    };
    // The coded pictures name their sizes again, and the decoder takes memory for those.
    let mut coded: u64 = 0;
    for tile in tiles {
        let properties = file.props(tile).map_err(broken)?;
        let configuration = properties.hvcc.as_ref().ok_or(ImageError::Broken)?;
        let mut largest = 0;
        for set in configuration.parameter_sets() {
            if set
                .first()
                .is_some_and(|header| header >> 1 & 0x3f == SEQUENCE_PARAMETER_SET)
            {
                largest = largest.max(coded_pixels(set).ok_or(ImageError::Broken)?);
            }
        }
        coded = coded.saturating_add(largest);
        if coded.max(shown) > most.saturating_mul(2) {
            return Err(ImageError::TooManyPixels(most));
        }
    }
    // Tiles at the edges reach beyond the picture.
    if shown > most {
        return Err(ImageError::TooManyPixels(most));
    }
    Ok(coded.max(shown).saturating_mul(BYTES_A_PIXEL) / 2)
}

/// Decodes the primary picture, turned as the file says.
pub fn decode(bytes: &[u8], most: u64) -> image::ImageResult<DynamicImage> {
    let options = DecodeOptions::default()
        .with_layout(PixelLayout::Rgb8)
        .with_max_pixels(Some(most));
    let invalid = |reason: String| image::ImageError::IoError(io::Error::new(io::ErrorKind::InvalidData, reason));
    let decoded = heic_rs::decode(bytes, &options).map_err(|error| invalid(error.to_string()))?;
    let pixels = RgbImage::from_raw(decoded.width, decoded.height, decoded.data);
    pixels
        .map(DynamicImage::ImageRgb8)
        .ok_or_else(|| invalid("the pixels do not fit the size".to_owned()))
}

/// ISO/IEC 14496-12, section 4.2: the boxes of a file, each within it.
fn boxes(mut rest: &[u8]) -> Option<()> {
    while !rest.is_empty() {
        let header: &[u8; 8] = rest.first_chunk()?;
        let length = match u32::from_be_bytes(*header.first_chunk()?) {
            // Up to the end of the file.
            0 => return Some(()),
            1 => u64::from_be_bytes(*rest.get(8..)?.first_chunk()?),
            length => length.into(),
        };
        let length = usize::try_from(length).ok().filter(|length| *length >= 8)?;
        rest = rest.get(length..)?;
    }
    Some(())
}

/// The pixels of a coded picture by its sequence parameter set, ITU-T H.265, section 7.3.2.2.
fn coded_pixels(unit: &[u8]) -> Option<u64> {
    let mut bits = Bits::of_unit(unit.get(2..)?);
    bits.skip(4)?;
    let sub_layers = bits.read(3)?;
    bits.skip(1)?;
    // The profile, tier and level: of the whole, then of each sub-layer that has one.
    bits.skip(96)?;
    let mut present = Vec::new();
    for _ in 0..sub_layers {
        present.push((bits.read(1)?, bits.read(1)?));
    }
    if sub_layers > 0 {
        bits.skip(2 * (8 - sub_layers))?;
    }
    for (profile, level) in present {
        bits.skip(88 * profile + 8 * level)?;
    }
    bits.exponential()?;
    let chroma_format = bits.exponential()?;
    if chroma_format == 3 {
        bits.skip(1)?;
    }
    let (width, height) = (bits.exponential()?, bits.exponential()?);
    width.checked_mul(height)
}

/// Bits of a unit without the bytes that keep start codes out of it.
struct Bits {
    bytes: Vec<u8>,
    at: usize,
}

impl Bits {
    fn of_unit(unit: &[u8]) -> Self {
        let (mut bytes, mut zeros) = (Vec::with_capacity(unit.len()), 0);
        for byte in unit {
            if zeros >= 2 && *byte == 3 {
                zeros = 0;
                continue;
            }
            zeros = if *byte == 0 { zeros + 1 } else { 0 };
            bytes.push(*byte);
        }
        Self { bytes, at: 0 }
    }

    fn read(&mut self, count: u64) -> Option<u64> {
        let mut value = 0;
        for _ in 0..count {
            let byte = self.bytes.get(self.at / 8)?;
            value = value << 1 | u64::from(byte >> (7 - self.at % 8) & 1);
            self.at += 1;
        }
        Some(value)
    }

    fn skip(&mut self, count: u64) -> Option<()> {
        self.at = self.at.checked_add(usize::try_from(count).ok()?)?;
        Some(())
    }

    /// An Exp-Golomb code of at most 32 bits, section 9.2.
    fn exponential(&mut self) -> Option<u64> {
        let mut zeros = 0;
        while self.read(1)? == 0 {
            zeros += 1;
            if zeros > 32 {
                return None;
            }
        }
        Some((1 << zeros) - 1 + self.read(zeros)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PHOTO: &[u8] = include_bytes!("photo.heic");

    #[test]
    fn a_photo_is_inspected_and_decoded() {
        assert!(is_heic(PHOTO));
        let decoded = inspect(PHOTO, 64 * 64).unwrap();
        assert!((64 * 48 * 3..=64 * 64 * 3).contains(&decoded), "{decoded}");
        let picture = decode(PHOTO, 64 * 64).unwrap().into_rgb8();
        assert_eq!(picture.dimensions(), (64, 48));
        let near = |at: (u32, u32), expected: [u8; 3]| {
            let pixel = picture.get_pixel(at.0, at.1).0;
            let differs = pixel.iter().zip(expected).any(|(one, other)| one.abs_diff(other) > 24);
            assert!(!differs, "{at:?}: {pixel:?}");
        };
        near((0, 0), [0, 0, 120]);
        near((60, 40), [240, 200, 120]);
        near((60, 4), [240, 20, 120]);
    }

    #[test]
    fn a_photo_over_the_bound_or_cut_off_is_refused() {
        assert!(matches!(inspect(PHOTO, 64 * 64 - 1), Err(ImageError::TooManyPixels(_))));
        for end in 0..PHOTO.len() {
            let cut = &PHOTO[..end];
            let is_refused = inspect(cut, 64 * 64).is_err() || decode(cut, 64 * 64).is_err();
            assert!(is_refused, "cut at {end}");
        }
        for at in 0..PHOTO.len() {
            for bit in 0..8 {
                let mut changed = PHOTO.to_vec();
                changed[at] ^= 1 << bit;
                // Whatever it is, it is refused or decoded, within the bound.
                if inspect(&changed, 64 * 64).is_ok() {
                    let _ = decode(&changed, 64 * 64);
                }
            }
        }
    }

    #[test]
    fn a_coded_picture_that_is_larger_than_the_file_says_is_refused() {
        let at = PHOTO.windows(3).position(|bytes| bytes == [0x42, 0x01, 0x01]);
        let at = at.expect("the sequence parameter set");
        let pixels = coded_pixels(&PHOTO[at..]).unwrap();
        assert_eq!(pixels, 64 * 64);
        // The code of the width, 64, with longer and longer values.
        let mut larger = 0;
        for byte in at + 18..at + 22 {
            for bit in 0..8 {
                let mut changed = PHOTO.to_vec();
                changed[byte] ^= 1 << bit;
                if coded_pixels(&changed[at..]).is_some_and(|pixels| pixels > 2 * 64 * 64) {
                    larger += 1;
                    assert!(inspect(&changed, 64 * 64).is_err());
                }
            }
        }
        assert!(larger > 0);
    }

    #[test]
    fn other_files_are_no_photos() {
        for other in [
            &b""[..],
            b"ftyp",
            b"\0\0\0\x18ftypavif\0\0\0\0avifmif1",
            b"\0\0\0\x14ftypisom\0\0\0\0mp42",
        ] {
            assert!(!is_heic(other));
        }
    }
}
