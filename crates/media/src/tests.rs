use std::io::Cursor;
use std::path::Path as FilePath;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use image::codecs::gif::{GifDecoder, GifEncoder};
use image::{AnimationDecoder as _, DynamicImage, Frame, ImageFormat, Rgba, RgbaImage};
use parking_lot::{Condvar, Mutex};
use sosohappy_common::Context;

use super::*;
use crate::picture::sniff;
use crate::sanitize::{FRAMES, Upload};
use crate::store::{DECODING, DECODING_ONE, prefix};

fn encoded(format: ImageFormat, width: u32, height: u32) -> Bytes {
    let mut bytes = Cursor::new(Vec::new());
    DynamicImage::new_rgb8(width, height)
        .write_to(&mut bytes, format)
        .expect("it can be encoded");
    bytes.into_inner().into()
}

fn picture(bytes: Bytes) -> Picture {
    let (_, content_type) = sniff(&bytes).expect("a picture");
    Picture { bytes, content_type }
}

fn images(folder: &FilePath) -> Images {
    let url = format!("file:{}", folder.display());
    Images::open(&url.as_str().into(), &Context::system("test-service", 0)).expect("a folder opens")
}

#[test]
fn types_are_sniffed() {
    for (format, content_type) in [
        (ImageFormat::Jpeg, "image/jpeg"),
        (ImageFormat::Png, "image/png"),
        (ImageFormat::Gif, "image/gif"),
        (ImageFormat::WebP, "image/webp"),
    ] {
        assert_eq!(picture(encoded(format, 30, 20)).content_type, content_type);
    }
}

#[test]
fn bombs_and_others_are_refused() {
    let png = encoded(ImageFormat::Png, 30, 20);
    let refused = |bytes: &[u8], most_bytes, most_pixels| {
        let bounds = bounds(most_bytes, most_pixels);
        Upload::inspect(Bytes::copy_from_slice(bytes), bounds).expect_err("it must not pass")
    };
    assert!(matches!(refused(&png, 1 << 20, 599), ImageError::TooManyPixels(599)));
    assert!(matches!(refused(&png, png.len() - 1, 600), ImageError::TooLarge(_)));
    // A header that promises 65,500 × 65,500 pixels in a few bytes.
    let mut bomb = png.to_vec();
    bomb[16..24].copy_from_slice(&[0, 0, 0xff, 0xdc, 0, 0, 0xff, 0xdc]);
    let crc = crc32(&bomb[12..29]);
    bomb[29..33].copy_from_slice(&crc.to_be_bytes());
    assert!(matches!(
        refused(&bomb, 1 << 20, 50_000_000),
        ImageError::TooManyPixels(_)
    ));
    for other in [
        &b""[..],
        b"GIF",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        &png[..12],
        b"\xff\xd8\xff\xe0",
        b"BM1234",
    ] {
        assert!(
            matches!(
                refused(other, 1 << 20, 600),
                ImageError::UnknownType | ImageError::Broken
            ),
            "{other:?}"
        );
    }
}

fn bounds(bytes: usize, pixels: u64) -> Bounds {
    Bounds { bytes, pixels }
}

/// Sanitizes without the pool.
fn sanitized(bytes: impl Into<Bytes>) -> Result<Picture, ImageError> {
    Upload::inspect(bytes.into(), bounds(1 << 20, 1_000_000))?.reencode()
}

const FORMATS: [ImageFormat; 4] = [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::Gif, ImageFormat::WebP];

#[test]
fn a_picture_keeps_its_type_and_its_size() {
    for format in FORMATS {
        let picture = sanitized(encoded(format, 30, 20)).expect("within the bounds");
        assert_eq!(image::guess_format(&picture.bytes).expect("a picture"), format);
        let shown = image::load_from_memory(&picture.bytes).expect("it can be decoded");
        assert_eq!((shown.width(), shown.height()), (30, 20));
        let again = sanitized(picture.bytes.clone()).expect("it is a picture");
        assert_eq!(again.content_type, picture.content_type);
    }
}

#[test]
fn a_picture_that_is_cut_anywhere_is_refused() {
    for format in FORMATS {
        let whole = encoded(format, 30, 20);
        for length in 0..whole.len() {
            let cut = sanitized(whole.slice(..length));
            assert!(
                matches!(cut, Err(ImageError::Broken | ImageError::UnknownType)),
                "{format:?} cut to {length} of {} bytes: {cut:?}",
                whole.len()
            );
        }
    }
}

/// A segment of a JPEG or a chunk of a PNG or WebP with a secret in it, and data behind the end.
fn with_secrets(format: ImageFormat) -> Vec<u8> {
    const SECRET: &[u8] = b"Exif\0\0SECRET";
    let length = u8::try_from(SECRET.len()).expect("short");
    let whole = encoded(format, 30, 20);
    let mut bytes = Vec::new();
    match format {
        ImageFormat::Jpeg => {
            bytes.extend_from_slice(&whole[..2]);
            // EXIF, XMP and comments stand in APP1, APP13 and COM.
            for marker in [0xe1, 0xed, 0xfe] {
                bytes.extend_from_slice(&[0xff, marker, 0, length + 2]);
                bytes.extend_from_slice(SECRET);
            }
            bytes.extend_from_slice(&whole[2..]);
        }
        ImageFormat::Png => {
            bytes.extend_from_slice(&whole[..33]);
            for kind in [b"eXIf", b"tEXt", b"prVt"] {
                let chunk = [kind, SECRET].concat();
                bytes.extend_from_slice(&[0, 0, 0, length]);
                bytes.extend_from_slice(&chunk);
                bytes.extend_from_slice(&crc32(&chunk).to_be_bytes());
            }
            bytes.extend_from_slice(&whole[33..]);
        }
        ImageFormat::Gif => {
            let (frames, trailer) = whole.split_at(whole.len() - 1);
            bytes.extend_from_slice(frames);
            bytes.extend_from_slice(&[0x21, 0xfe, length]);
            bytes.extend_from_slice(SECRET);
            bytes.push(0);
            bytes.extend_from_slice(trailer);
        }
        _ => {
            bytes.extend_from_slice(&whole);
            bytes.extend_from_slice(b"EXIF");
            bytes.extend_from_slice(&[length, 0, 0, 0]);
            bytes.extend_from_slice(SECRET);
            bytes.resize(bytes.len().next_multiple_of(2), 0);
            let size = u32::try_from(bytes.len() - 8).expect("small");
            bytes[4..8].copy_from_slice(&size.to_le_bytes());
        }
    }
    bytes.extend_from_slice(b"<script>SECRET</script>");
    bytes
}

#[test]
fn no_metadata_and_nothing_behind_the_end_is_kept() {
    for format in FORMATS {
        let upload = with_secrets(format);
        let picture = sanitized(upload).expect("a picture");
        let kept = picture.bytes.windows(6).any(|part| part == b"SECRET");
        assert!(!kept, "{format:?}");
    }
}

#[tokio::test]
async fn encoded_anew_a_picture_is_the_same_and_another_one_is_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let images = images(&folder.path().join("pictures"));
    let bounds = bounds(1 << 20, 1_000_000);
    let drawn = |shade: u8, format| {
        let noise = |x: u32, y: u32| u8::try_from((x * 7 + y * 13) % 32).expect("below 256");
        let picture = RgbaImage::from_fn(60, 40, |x, y| {
            let alpha = if x < 10 { 0 } else { 255 };
            Rgba([shade + noise(x, y), noise(y, x), shade, alpha])
        });
        let mut bytes = Cursor::new(Vec::new());
        let picture = DynamicImage::from(picture);
        let picture = if format == ImageFormat::Jpeg {
            picture.into_rgb8().into()
        } else {
            picture
        };
        picture.write_to(&mut bytes, format).expect("it can be encoded");
        Bytes::from(bytes.into_inner())
    };
    for format in FORMATS {
        let upload = drawn(100, format);
        let kept = images.sanitize(upload.clone(), bounds).await.expect("a picture").bytes;
        assert!(
            images.is_same(upload.clone(), kept, bounds).await.expect("pictures"),
            "{format:?}"
        );
        let other = drawn(160, format);
        assert!(
            !images.is_same(upload, other, bounds).await.expect("pictures"),
            "{format:?}"
        );
    }
}

#[test]
fn pixels_are_turned_as_the_exif_orientation_says() {
    let whole = encoded(ImageFormat::Jpeg, 30, 20);
    // One entry: orientation 6, turn by 90 degrees.
    let exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
    let mut upload = whole[..2].to_vec();
    upload.extend_from_slice(&[0xff, 0xe1, 0, u8::try_from(exif.len() + 2).expect("short")]);
    upload.extend_from_slice(exif);
    upload.extend_from_slice(&whole[2..]);
    let picture = sanitized(upload).expect("a picture");
    let shown = image::load_from_memory(&picture.bytes).expect("it can be decoded");
    assert_eq!((shown.width(), shown.height()), (20, 30));
}

fn animation(frames: usize, width: u32, height: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = GifEncoder::new_with_speed(&mut bytes, 30);
    for number in 0..frames {
        let shade = u8::try_from(number % 256).expect("below 256");
        let frame = RgbaImage::from_pixel(width, height, Rgba([shade, 0, 0, 255]));
        encoder.encode_frame(Frame::new(frame)).expect("it can be encoded");
    }
    drop(encoder);
    bytes
}

#[test]
fn an_animation_keeps_its_frames_within_the_bounds() {
    let picture = sanitized(animation(3, 8, 8)).expect("a picture");
    assert_eq!(picture.content_type, "image/gif");
    let decoder = GifDecoder::new(Cursor::new(&picture.bytes)).expect("a GIF");
    assert_eq!(decoder.into_frames().count(), 3);
    assert!(matches!(
        sanitized(animation(FRAMES + 1, 2, 2)),
        Err(ImageError::TooManyFrames(FRAMES))
    ));
    // 11 frames of 100,000 pixels.
    assert!(matches!(
        sanitized(animation(11, 400, 250)),
        Err(ImageError::TooManyPixels(1_000_000))
    ));
}

#[test]
fn a_jpeg_of_endless_scans_is_refused() {
    let whole = encoded(ImageFormat::Jpeg, 8, 8);
    let scan = whole
        .windows(2)
        .position(|pair| pair == [0xff, 0xda])
        .expect("a JPEG has a scan");
    let (before, end) = (&whole[..whole.len() - 2], &whole[whole.len() - 2..]);
    let mut upload = before.to_vec();
    for _ in 0..200 {
        upload.extend_from_slice(&before[scan..]);
    }
    upload.extend_from_slice(end);
    assert!(matches!(sanitized(upload), Err(ImageError::Broken)));
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_wait_for_memory_and_all_come_through() {
    let folder = tempfile::tempdir().expect("a folder");
    let images = images(&folder.path().join("pictures"));
    let upload = encoded(ImageFormat::Png, 1000, 1000);
    let sanitized = (0..12).map(|_| images.sanitize(upload.clone(), bounds(1 << 24, 50_000_000)));
    for picture in futures::future::join_all(sanitized).await {
        assert_eq!(picture.expect("a picture").content_type, "image/png");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pictures_are_decoded_as_many_at_once_as_memory_allows() {
    const MIB: u64 = 1 << 20;
    // A decoder that admits fewer pictures than it should fails the test instead of hanging it.
    const WITHIN: Duration = Duration::from_secs(30);
    let folder = tempfile::tempdir().expect("a folder");
    let images = images(folder.path());
    let small = DECODING / DECODING_ONE;
    for (decoded, at_once) in [(1, small), (u64::from(DECODING / 4) * MIB, 2), (1024 * MIB, 1)] {
        // How many pictures are being decoded, and the most so far.
        let counts = Arc::new((Mutex::new((0_u32, 0_u32)), Condvar::new()));
        let deadline = Instant::now() + WITHIN;
        let decoding = (0..2 * at_once).map(|_| {
            let counts = counts.clone();
            images.decode(decoded, move || {
                let (counts, changed) = &*counts;
                let mut counts = counts.lock();
                counts.0 += 1;
                counts.1 = counts.1.max(counts.0);
                changed.notify_all();
                // Until so many have been decoded at the same time.
                changed.wait_while_until(&mut counts, |(_, most)| *most < at_once, deadline);
                counts.0 -= 1;
            })
        });
        let decoding = tokio::time::timeout(2 * WITHIN, futures::future::join_all(decoding));
        for done in decoding.await.expect("all pictures are admitted") {
            done.expect("it is decoded");
        }
        assert_eq!(counts.0.lock().1, at_once, "of {decoded} bytes each");
    }
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 }
        })
    })
}

#[tokio::test]
async fn pictures_come_back_until_they_are_deleted() {
    let folder = tempfile::tempdir().expect("a folder");
    let images = images(&folder.path().join("pictures"));
    let picture = picture(encoded(ImageFormat::Png, 3, 2));
    let id = images.new_id();
    images.put_as(id, &picture).await.expect("stored");
    assert!(id.0 >= 0);
    assert_ne!(images.new_id(), id, "ids are never reused");
    let opened = images.find(id).await.expect("readable").expect("it is there");
    assert_eq!(opened.size(), picture.bytes.len());
    let found = images.get(id).await.expect("readable").expect("it is there");
    assert_eq!((found.bytes, found.content_type), (picture.bytes, "image/png"));
    images.delete(id).await.expect("deleted");
    images.delete(id).await.expect("what is not there is no error");
    assert!(images.get(id).await.expect("readable").is_none());
    assert!(images.get(ImageId(-1)).await.expect("no such id").is_none());
}

/// Files of the store.
fn files(folder: &FilePath) -> usize {
    let files = |folder: std::path::PathBuf| std::fs::read_dir(folder).expect("a folder").count();
    std::fs::read_dir(folder)
        .expect("the store's folder")
        .map(|entry| files(entry.expect("an entry").path()))
        .sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn variants_are_made_once_and_deleted_with_their_original() {
    let folder = tempfile::tempdir().expect("a folder");
    let images = images(folder.path());
    let id = images.new_id();
    let width = |pixels: u32| Width::try_from(pixels).expect("one of the widths");
    assert!(Width::try_from(161).is_err());
    assert!(
        images
            .find_variant(id, width(160))
            .await
            .expect("the store answers")
            .is_none()
    );
    for (format, file) in [(ImageFormat::Jpeg, "image/jpeg"), (ImageFormat::Png, "image/png")] {
        let original = picture(encoded(format, 400, 300));
        images.put_as(id, &original).await.expect("it is stored");
        // Asked for at once: both see one whole picture.
        let asked = (0..4).map(|_| images.find_variant(id, width(160)));
        for found in futures::future::join_all(asked).await {
            let bytes = found
                .expect("the store answers")
                .expect("there is one")
                .read()
                .await
                .expect("bytes");
            let small = picture(bytes.clone());
            assert_eq!(small.content_type, file);
            let decoded = image::load_from_memory(&bytes).expect("it decodes");
            assert_eq!((decoded.width(), decoded.height()), (160, 120));
        }
        assert_eq!(files(folder.path()), 2);
        let wide = images
            .find_variant(id, width(640))
            .await
            .expect("the store answers")
            .expect("there is one");
        assert_eq!(wide.read().await.expect("bytes"), original.bytes, "none is made larger");
        assert_eq!(files(folder.path()), 2);

        images.delete(id).await.expect("it is deleted");
        assert!(
            images
                .find_variant(id, width(160))
                .await
                .expect("the store answers")
                .is_none()
        );
        assert_eq!(files(folder.path()), 0);
    }
}

#[tokio::test]
async fn a_part_of_a_picture_is_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let images = images(folder.path());
    let id = images.new_id();
    let picture = picture(encoded(ImageFormat::Png, 30, 20));
    images.put_as(id, &picture).await.expect("it is stored");
    let found = images.find(id).await.expect("the store answers").expect("it is there");
    let part = found.stream_part(5..20).await.expect("it is read");
    assert_eq!((part.size, part.content_type), (15, "image/png"));
    let chunks: Vec<Bytes> = futures::TryStreamExt::try_collect(part.chunks).await.expect("bytes");
    assert_eq!(chunks.concat(), picture.bytes[5..20]);
}

#[test]
fn only_known_stores_open() {
    let open = |url: &str| Images::open(&url.into(), &Context::system("test-service", 0));
    assert!(matches!(open("ftp://host/pictures"), Err(ImageError::Settings(_))));
    assert!(matches!(open("file:"), Err(ImageError::Settings(_))));
    assert_eq!(prefix("//bucket/a/b").as_ref(), "a/b");
    assert_eq!(prefix("//bucket").as_ref(), "");
}

#[tokio::test]
async fn an_id_is_given_first_and_holds_one_picture() {
    let folder = tempfile::tempdir().expect("a folder");
    let images = images(&folder.path().join("pictures"));
    let picture = |width| picture(encoded(ImageFormat::Png, width, 2));
    let id = images.new_id();
    assert!(images.get(id).await.expect("readable").is_none());
    images.put_as(id, &picture(1)).await.expect("stored");
    images
        .put_as(id, &picture(1))
        .await
        .expect("the same again is a repetition");
    images
        .put_as(id, &picture(2))
        .await
        .expect_err("another is not let over it");
    assert_eq!(
        images.get(id).await.expect("readable").expect("there").bytes,
        picture(1).bytes
    );
}

#[cfg(feature = "heic")]
#[test]
fn a_heic_photo_becomes_a_jpeg_without_metadata() {
    const PHOTO: &[u8] = include_bytes!("photo.heic");
    const SECRET: &[u8] = b"secret place";
    let has_secret = |bytes: &[u8]| bytes.windows(SECRET.len()).any(|part| part == SECRET);
    assert!(has_secret(PHOTO), "in its EXIF");
    let picture = sanitized(PHOTO).expect("within the bounds");
    assert_eq!(picture.content_type, "image/jpeg");
    assert!(!has_secret(&picture.bytes));
    let shown = image::load_from_memory(&picture.bytes).expect("it can be decoded");
    assert_eq!((shown.width(), shown.height()), (64, 48));
    for length in 0..PHOTO.len() {
        assert!(sanitized(&PHOTO[..length]).is_err(), "cut to {length} bytes");
    }
}
