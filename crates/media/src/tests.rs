use std::io::Cursor;
use std::path::Path as FilePath;

use bytes::Bytes;
use image::{DynamicImage, ImageFormat};
use sosohappy_common::Context;

use super::*;
use crate::store::prefix;

fn encoded(format: ImageFormat, width: u32, height: u32) -> Bytes {
    let mut bytes = Cursor::new(Vec::new());
    DynamicImage::new_rgb8(width, height)
        .write_to(&mut bytes, format)
        .expect("it can be encoded");
    bytes.into_inner().into()
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
        let picture = Picture::inspect(encoded(format, 30, 20), 1 << 20, 600).expect("within the limits");
        assert_eq!(picture.content_type, content_type);
    }
}

#[test]
fn bombs_and_others_are_refused() {
    let png = encoded(ImageFormat::Png, 30, 20);
    let refused = |bytes: &[u8], most_bytes, most_pixels| {
        Picture::inspect(Bytes::copy_from_slice(bytes), most_bytes, most_pixels).expect_err("it must not pass")
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
            matches!(refused(other, 1 << 20, 600), ImageError::UnknownType),
            "{other:?}"
        );
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
    let picture = Picture::inspect(encoded(ImageFormat::Png, 3, 2), 1 << 20, 600).expect("a picture");
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
    let picture = |width| Picture::inspect(encoded(ImageFormat::Png, width, 2), 1 << 20, 600).expect("a picture");
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
