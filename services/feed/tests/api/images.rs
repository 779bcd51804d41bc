use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use image::ImageFormat;
use reqwest::{StatusCode, header};
use serde_json::Value;
use sosohappy_testkit::{Bed, Person, eventually, on_both_engines};

use super::{Feed, PNG, code, encoded, problem, read, saved};

on_both_engines!(
    pictures_are_stored_and_shown,
    no_metadata_and_nothing_behind_a_picture_is_stored,
    pictures_of_replaced_and_deleted_posts_go,
    pictures_of_a_post_that_becomes_private_get_new_ids,
    a_post_with_a_bad_picture_leaves_nothing,
    two_saves_with_pictures_at_once_keep_one_set,
    a_picture_is_read_in_smaller_widths_and_in_parts,
    a_photo_of_an_iphone_becomes_a_jpeg,
);

const DATE: &str = "2023090513248392";

async fn pictures_are_stored_and_shown(bed: Bed) {
    let feed = Feed::start(&bed).await;
    let kim = bed.person("kim@example.com+kakao", "kim").await;
    assert_eq!(
        feed.save_with(&kim, DATE, &[*PNG, b"", *PNG]).await,
        saved(),
        "an empty part is no picture"
    );
    let ids = ids(&feed, &kim).await;
    assert_eq!(ids.len(), 2);
    assert!(ids.iter().all(|id| *id > 0));

    let shown = feed
        .client
        .get(feed.at(&format!("image/{}", ids[0])))
        .send()
        .await
        .unwrap();
    assert_eq!(shown.status(), StatusCode::OK);
    assert_eq!(shown.headers()[header::CONTENT_TYPE], "image/png");
    assert_eq!(shown.headers()[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
    let etag = shown.headers()[header::ETAG].clone();
    assert_eq!(shown.bytes().await.unwrap(), *PNG);
    let again = feed
        .client
        .get(feed.at(&format!("image/{}", ids[0])))
        .header(header::IF_NONE_MATCH, etag)
        .send()
        .await
        .unwrap();
    assert_eq!(
        (again.status(), again.bytes().await.unwrap().len()),
        (StatusCode::NOT_MODIFIED, 0)
    );

    let (_, text) = feed
        .post(&kim, "findFeedImage", &[("imageId", &ids[1].to_string())])
        .await;
    assert_eq!(text, format!(r#"{{"image":"{}"}}"#, STANDARD.encode(*PNG)));

    for (id, expected) in [
        ("1", problem(404, "no-such-image")),
        ("-1", problem(404, "no-such-image")),
        ("x", problem(400, "invalid-parameter")),
    ] {
        assert_eq!(
            code(&read(feed.client.get(feed.at(&format!("image/{id}")))).await),
            expected,
            "{id}"
        );
        assert_eq!(
            code(&feed.post(&kim, "findFeedImage", &[("imageId", id)]).await),
            expected,
            "{id}"
        );
    }
}

async fn no_metadata_and_nothing_behind_a_picture_is_stored(bed: Bed) {
    let feed = Feed::start(&bed).await;
    let kim = bed.person("kim@example.com+kakao", "kim").await;
    let jpeg = encoded(ImageFormat::Jpeg, 8, 8);
    let exif = b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0GPS 37.5665N 126.9780E";
    let mut upload = jpeg[..2].to_vec();
    upload.extend_from_slice(&[0xff, 0xe1, 0, u8::try_from(exif.len() + 2).unwrap()]);
    upload.extend_from_slice(exif);
    upload.extend_from_slice(&jpeg[2..]);
    upload.extend_from_slice(b"<script>alert(1)</script>");
    assert_eq!(feed.save_with(&kim, DATE, &[&upload]).await, saved());
    let id = ids(&feed, &kim).await[0];
    let shown = feed.client.get(feed.at(&format!("image/{id}"))).send().await.unwrap();
    assert_eq!(shown.headers()[header::CONTENT_TYPE], "image/jpeg");
    let shown = shown.bytes().await.unwrap();
    for secret in [&b"Exif"[..], b"GPS", b"<script>"] {
        assert!(!shown.windows(secret.len()).any(|part| part == secret));
    }
}

async fn pictures_of_replaced_and_deleted_posts_go(bed: Bed) {
    let feed = Feed::start(&bed).await;
    let kim = bed.person("kim@example.com+kakao", "kim").await;
    assert_eq!(feed.save_with(&kim, DATE, &[*PNG, *PNG]).await, saved());
    let old = ids(&feed, &kim).await;
    assert_eq!(feed.save_with(&kim, DATE, &[*PNG]).await, saved());
    let new = ids(&feed, &kim).await;
    assert!(!old.contains(&new[0]));

    eventually("the replaced pictures are gone", async || {
        (files(&bed) == 1).then_some(())
    })
    .await;
    assert_eq!(
        read(feed.client.get(feed.at(&format!("image/{}", old[0])))).await.0,
        StatusCode::NOT_FOUND
    );
    assert_eq!(
        feed.client
            .get(feed.at(&format!("image/{}", new[0])))
            .send()
            .await
            .unwrap()
            .status(),
        StatusCode::OK
    );

    feed.post(&kim, "deleteFeed", &[("nickname", "kim"), ("date", DATE)])
        .await;
    eventually("the deleted post's picture is gone", async || {
        (files(&bed) == 0).then_some(())
    })
    .await;
}

async fn pictures_of_a_post_that_becomes_private_get_new_ids(bed: Bed) {
    let feed = Feed::start(&bed).await;
    let kim = bed.person("kim@example.com+kakao", "kim").await;
    let lee = bed.person("lee@example.com+google", "lee").await;
    assert_eq!(feed.save_with(&kim, DATE, &[*PNG, *PNG]).await, saved());
    let public = ids(&feed, &kim).await;
    let toggle = [("nickname", "kim"), ("date", DATE)];
    assert_eq!(feed.post(&kim, "updatePublicStatus", &toggle).await.0, StatusCode::OK);
    let private = ids(&feed, &kim).await;
    assert_eq!(private.len(), 2);
    assert!(private.iter().all(|id| !public.contains(id)));
    eventually("the old ids name nothing", async || (files(&bed) == 2).then_some(())).await;
    for id in &public {
        assert_eq!(
            read(feed.client.get(feed.at(&format!("image/{id}")))).await.0,
            StatusCode::NOT_FOUND
        );
        let answer = feed.post(&lee, "findFeedImage", &[("imageId", &id.to_string())]).await;
        assert_eq!(code(&answer), problem(404, "no-such-image"));
    }
    // The app reads its own without a token.
    for id in &private {
        let shown = feed.client.get(feed.at(&format!("image/{id}"))).send().await.unwrap();
        assert_eq!(shown.bytes().await.unwrap(), *PNG);
    }
    assert_eq!(feed.post(&kim, "updatePublicStatus", &toggle).await.0, StatusCode::OK);
    assert_eq!(
        ids(&feed, &kim).await,
        private,
        "a post that becomes public keeps its ids"
    );
    assert_eq!(files(&bed), 2);
}

/// 64 × 48 pixels.
const PHOTO: &[u8] = include_bytes!("../../../../crates/media/src/photo.heic");

async fn a_photo_of_an_iphone_becomes_a_jpeg(bed: Bed) {
    let feed = Feed::start(&bed).await;
    let kim = bed.person("kim@example.com+kakao", "kim").await;
    let cut = feed.save_with(&kim, DATE, &[&PHOTO[..PHOTO.len() / 2]]).await;
    assert_eq!(code(&cut), problem(400, "invalid-parameter"));
    assert_eq!(feed.save_with(&kim, DATE, &[PHOTO]).await, saved());
    let id = ids(&feed, &kim).await[0];
    let shown = feed.client.get(feed.at(&format!("image/{id}"))).send().await.unwrap();
    assert_eq!(shown.headers()[header::CONTENT_TYPE], "image/jpeg");
    let picture = shown.bytes().await.unwrap();
    let picture = image::load_from_memory_with_format(&picture, ImageFormat::Jpeg).unwrap();
    assert_eq!((picture.width(), picture.height()), (64, 48));
}

async fn a_post_with_a_bad_picture_leaves_nothing(bed: Bed) {
    let feed = Feed::start(&bed).await;
    let kim = bed.person("kim@example.com+kakao", "kim").await;
    let text: &[u8] = b"<html>not a picture</html>";
    assert_eq!(
        code(&feed.save_with(&kim, DATE, &[*PNG, text]).await),
        problem(400, "invalid-parameter")
    );
    let whole = encoded(ImageFormat::Jpeg, 64, 64);
    for broken in [&PNG[..PNG.len() - 20], &whole[..whole.len() / 2], &whole[..30]] {
        let refused = feed.save_with(&kim, DATE, &[*PNG, broken]).await;
        assert_eq!(code(&refused), problem(400, "invalid-parameter"));
    }
    assert_eq!(
        code(&feed.save_with(&kim, DATE, &[*PNG; 11]).await),
        problem(400, "invalid-parameter")
    );
    assert_eq!(
        feed.post(&kim, "findDayFeed", &[("nickname", "kim"), ("date", DATE)])
            .await
            .1,
        ""
    );
    assert_eq!(files(&bed), 0);
}

async fn two_saves_with_pictures_at_once_keep_one_set(bed: Bed) {
    let feed = Feed::start(&bed).await;
    let kim = bed.person("kim@example.com+kakao", "kim").await;
    let pictures: &[&[u8]] = &[*PNG, *PNG];
    let (one, other) = tokio::join!(
        feed.save_with(&kim, "2023090508000000", pictures),
        feed.save_with(&kim, "2023090509000000", pictures)
    );
    assert_eq!((one, other), (saved(), saved()));

    eventually("the pictures of the other one are gone", async || {
        (files(&bed) == 2).then_some(())
    })
    .await;
    for id in ids(&feed, &kim).await {
        assert_eq!(
            feed.client
                .get(feed.at(&format!("image/{id}")))
                .send()
                .await
                .unwrap()
                .status(),
            StatusCode::OK
        );
    }
}

async fn a_picture_is_read_in_smaller_widths_and_in_parts(bed: Bed) {
    let feed = Feed::start(&bed).await;
    let kim = bed.person("kim@example.com+kakao", "kim").await;
    let wide = encoded(ImageFormat::Jpeg, 400, 200);
    assert_eq!(feed.save_with(&kim, DATE, &[&wide]).await, saved());
    let id = ids(&feed, &kim).await[0];
    let get = async |query: &str, more: &[(header::HeaderName, &str)]| {
        let mut request = feed.client.get(feed.at(&format!("image/{id}{query}")));
        for (name, value) in more {
            request = request.header(name, *value);
        }
        request.send().await.unwrap()
    };

    let small = get("?w=160", &[]).await;
    assert_eq!(
        small.headers()[header::CACHE_CONTROL],
        "private, max-age=31536000, immutable"
    );
    let etag = small.headers()[header::ETAG].clone();
    let decoded = image::load_from_memory(&small.bytes().await.unwrap()).unwrap();
    assert_eq!((decoded.width(), decoded.height()), (160, 80));
    let known = [(header::IF_NONE_MATCH, etag.to_str().unwrap())];
    assert_eq!(get("?w=160", &known).await.status(), StatusCode::NOT_MODIFIED);
    assert_eq!(
        get("", &known).await.status(),
        StatusCode::OK,
        "another width is another picture"
    );
    let whole = get("?w=", &[]).await;
    assert_eq!(whole.headers()[header::ACCEPT_RANGES], "bytes");
    let etag = whole.headers()[header::ETAG].to_str().unwrap().to_owned();
    let whole = whole.bytes().await.unwrap();
    assert_eq!(get("?w=640", &[]).await.bytes().await.unwrap(), whole);
    for bad in ["?w=161", "?w=x", "?w=-1"] {
        assert_eq!(get(bad, &[]).await.status(), StatusCode::BAD_REQUEST, "{bad}");
    }

    let part = get("", &[(header::RANGE, "bytes=3-9"), (header::IF_RANGE, &etag)]).await;
    assert_eq!(part.status(), StatusCode::PARTIAL_CONTENT);
    assert_eq!(
        part.headers()[header::CONTENT_RANGE],
        format!("bytes 3-9/{}", whole.len())
    );
    assert_eq!(part.headers()[header::CONTENT_TYPE], "image/jpeg");
    assert_eq!(part.bytes().await.unwrap(), whole[3..10]);
    let beyond = get("", &[(header::RANGE, "bytes=1000000-")]).await;
    assert_eq!(beyond.status(), StatusCode::RANGE_NOT_SATISFIABLE);
    assert_eq!(
        beyond.headers()[header::CONTENT_RANGE],
        format!("bytes */{}", whole.len())
    );
    let other = get("", &[(header::RANGE, "bytes=3-9"), (header::IF_RANGE, "\"1\"")]).await;
    assert_eq!((other.status(), other.bytes().await.unwrap()), (StatusCode::OK, whole));

    // A picture that others may not see any more is gone in all widths.
    assert_eq!(files(&bed), 2);
    let toggle = [("nickname", "kim"), ("date", DATE)];
    assert_eq!(feed.post(&kim, "updatePublicStatus", &toggle).await.0, StatusCode::OK);
    eventually("the old id names nothing in any width", async || {
        let (whole, small) = (get("", &[]).await.status(), get("?w=160", &[]).await.status());
        (whole == StatusCode::NOT_FOUND && small == StatusCode::NOT_FOUND && files(&bed) == 1).then_some(())
    })
    .await;
}

async fn ids(feed: &Feed, who: &Person) -> Vec<i64> {
    let (_, post) = feed
        .post(who, "findDayFeed", &[("nickname", &who.nickname), ("date", DATE)])
        .await;
    let post: Value = serde_json::from_str(&post).unwrap();
    serde_json::from_value(post["imageIdList"].clone()).unwrap()
}

/// Pictures in the image store.
pub(super) fn files(bed: &Bed) -> usize {
    fn count(folder: &Path) -> usize {
        let Ok(entries) = std::fs::read_dir(folder) else {
            return 0;
        };
        entries
            .map(|entry| entry.unwrap().path())
            .map(|path| if path.is_dir() { count(&path) } else { 1 })
            .sum()
    }
    count(&bed.folder().join("feed-images"))
}
