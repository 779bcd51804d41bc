//! The structure of an upload, read before anything is decoded: whether the file is complete, and how many frames or scans it has.
//!
//! The decoders fill in the missing part of a cut file, and decode every scan a progressive JPEG names; so both are counted here.

use image::ImageFormat;

/// The properties that the structure of a file declares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Structure {
    /// 1 for a still picture.
    pub frames: usize,
    /// Passes over all the pixels that a decoder makes for one frame.
    pub scans: usize,
    /// `WebP` only: whether the picture is coded with loss and has no transparency.
    pub is_photo: bool,
}

/// Returns the structure of a complete file; none when it is cut off or broken. Bytes after the end of the picture are not read.
pub(crate) fn read(format: ImageFormat, bytes: &[u8]) -> Option<Structure> {
    match format {
        ImageFormat::Jpeg => jpeg(bytes),
        ImageFormat::Png => png(bytes),
        ImageFormat::Gif => gif(bytes),
        ImageFormat::WebP => webp(bytes),
        _ => None,
    }
}

pub(crate) const STILL: Structure = Structure {
    frames: 1,
    scans: 1,
    is_photo: false,
};

/// ITU T.81, annex B: markers and their segments up to the end of the image (EOI). A thumbnail's EOI stands inside a segment.
fn jpeg(bytes: &[u8]) -> Option<Structure> {
    const END_OF_IMAGE: u8 = 0xd9;
    const START_OF_SCAN: u8 = 0xda;
    let mut rest = bytes.strip_prefix(b"\xff\xd8")?;
    let mut scans = 0;
    loop {
        // Any number of fill bytes may stand before a marker.
        rest = rest.strip_prefix(b"\xff")?;
        let (marker, after) = rest.split_first()?;
        match *marker {
            0xff => continue,
            END_OF_IMAGE => return (scans > 0).then_some(Structure { scans, ..STILL }),
            // Markers without a segment.
            0x01 | 0xd0..=0xd7 => {
                rest = after;
                continue;
            }
            _ => {}
        }
        let length = usize::from(u16::from_be_bytes(*after.first_chunk()?));
        rest = after.get(length.max(2)..)?;
        if *marker == START_OF_SCAN {
            scans += 1;
            // Coded data ends before a marker that is neither a stuffed zero nor a restart.
            let end = rest
                .windows(2)
                .position(|pair| pair[0] == 0xff && !matches!(pair[1], 0 | 0xd0..=0xd7))?;
            rest = &rest[end..];
        }
    }
}

/// PNG (W3C), section 5: chunks up to IEND. Only the default image of an animated PNG is decoded.
fn png(bytes: &[u8]) -> Option<Structure> {
    let mut rest = bytes.strip_prefix(b"\x89PNG\r\n\x1a\n")?;
    loop {
        let length = usize::try_from(u32::from_be_bytes(*rest.first_chunk()?)).ok()?;
        let kind = rest.get(4..8)?;
        rest = rest.get(length.checked_add(12)?..)?;
        if kind == b"IEND" {
            return Some(STILL);
        }
    }
}

/// `GIF89a`, section 12 on: blocks up to the trailer.
fn gif(bytes: &[u8]) -> Option<Structure> {
    let header = bytes.get(..13)?;
    let mut rest = bytes.get(13 + colour_table(header[10])..)?;
    let mut frames = 0;
    loop {
        let (introducer, after) = rest.split_first()?;
        rest = match *introducer {
            0x3b => return (frames > 0).then_some(Structure { frames, ..STILL }),
            // An extension: its label, then sub-blocks.
            0x21 => sub_blocks(after.get(1..)?)?,
            // A frame: its place and flags, its colours, the size of its codes, then sub-blocks.
            0x2c => {
                frames += 1;
                let flags = *after.get(8)?;
                sub_blocks(after.get(10 + colour_table(flags)..)?)?
            }
            _ => return None,
        };
    }
}

/// Bytes of the colour table that these flags announce.
fn colour_table(flags: u8) -> usize {
    if flags & 0x80 == 0 { 0 } else { 3 << ((flags & 7) + 1) }
}

/// Returns what follows a run of sub-blocks and its terminator.
fn sub_blocks(mut rest: &[u8]) -> Option<&[u8]> {
    loop {
        let (length, after) = rest.split_first()?;
        rest = after.get(usize::from(*length)..)?;
        if *length == 0 {
            return Some(rest);
        }
    }
}

/// RFC 9649: a RIFF file whose chunks all fit in it.
fn webp(bytes: &[u8]) -> Option<Structure> {
    let size = usize::try_from(u32::from_le_bytes(*bytes.get(4..)?.first_chunk()?)).ok()?;
    let mut rest = bytes.get(12..size.checked_add(8)?)?;
    let (mut frames, mut lossy, mut transparent) = (0, false, false);
    while rest.len() >= 8 {
        let kind = &rest[..4];
        let length = usize::try_from(u32::from_le_bytes(*rest[4..].first_chunk()?)).ok()?;
        rest.get(..length.checked_add(8)?)?;
        match kind {
            b"ANMF" => frames += 1,
            b"VP8 " => lossy = true,
            b"ALPH" => transparent = true,
            _ => {}
        }
        // Chunks begin at even offsets.
        rest = rest.get(length + 8 + length % 2..).unwrap_or_default();
    }
    Some(Structure {
        frames: frames.max(1),
        is_photo: lossy && !transparent && frames == 0,
        ..STILL
    })
}
