//! Profiles: nickname, photo and introduction.

use std::io::Cursor;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use image::{GrayImage, ImageFormat, Luma};
use reqwest::multipart::{Form, Part};
use reqwest::{StatusCode, header};
use serde_json::{Value, json};
use sosohappy_events::types::NicknameSet;
use sosohappy_testkit::{Bed, eventually, on_both_engines};

use crate::support::{Answer, Auth, Ground, KIM, LEE, Person, send};

on_both_engines!(
    a_profile_is_what_was_set_last,
    a_photo_is_kept_until_it_is_replaced,
    a_photo_is_read_in_smaller_widths_and_in_parts,
    every_form_of_request_is_read,
    a_nickname_has_one_bearer,
    holders_of_nicknames_are_not_disclosed,
    unknown_people_show_nothing,
    setting_the_profile_of_another_account_is_refused,
    what_does_not_fit_is_refused,
);

/// A picture of one pixel of this shade, as it is stored.
pub fn png(shade: u8) -> Vec<u8> {
    png_of(1, 1, shade)
}

fn png_of(width: u32, height: u32, shade: u8) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    GrayImage::from_pixel(width, height, Luma([shade]))
        .write_to(&mut bytes, ImageFormat::Png)
        .expect("it can be encoded");
    bytes.into_inner()
}

fn photo(person: &Person, nickname: &str, bytes: Vec<u8>) -> Form {
    let part = Part::bytes(bytes)
        .file_name("profile.png")
        .mime_str("image/png")
        .expect("a media type");
    Form::new()
        .text("email", person.account.clone())
        .text("nickname", nickname.to_owned())
        .text("introduction", "안녕하세요")
        .part("profileImg", part)
}

impl Auth {
    pub async fn set_photo(&self, person: &Person, nickname: &str, bytes: Vec<u8>) -> Answer {
        send(person.sign(self.post("setProfile").multipart(photo(person, nickname, bytes)))).await
    }

    pub async fn photo(&self, asker: &Person, nickname: &str) -> Value {
        send(asker.sign(self.post("findProfileImg").form(&[("nickname", nickname)])))
            .await
            .expect(200)
            .body
    }

    pub async fn introduction(&self, asker: &Person, nickname: &str) -> Value {
        send(asker.sign(self.post("findIntroduction").form(&[("nickname", nickname)])))
            .await
            .expect(200)
            .body
    }

    async fn is_present(&self, asker: &Person, nickname: &str) -> Answer {
        send(asker.sign(self.get("checkDuplicateNickname").query(&[("nickname", nickname)]))).await
    }
}

/// Pictures in the object store of this ground.
pub fn picture_files(ground: &Ground) -> Vec<PathBuf> {
    fn files(folder: &Path) -> Vec<PathBuf> {
        let Ok(entries) = std::fs::read_dir(folder) else {
            return Vec::new();
        };
        entries
            .map(|entry| entry.expect("readable").path())
            .flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] })
            .collect()
    }
    files(&ground.bed.folder().join("auth-images"))
}

pub fn stored_pictures(ground: &Ground) -> usize {
    picture_files(ground).len()
}

async fn a_profile_is_what_was_set_last(bed: Bed) {
    let ground = Ground::new(bed);
    let auth = ground.auth().await;
    let kim = auth.sign_in(KIM).await;
    auth.set_photo(&kim, "소소한 김", png(1)).await.expect(200);
    assert_eq!(
        auth.introduction(&kim, "소소한 김").await,
        json!({ "introduction": "안녕하세요" })
    );
    assert!(auth.set_nickname(&kim, "kim").await);
    assert_eq!(
        auth.introduction(&kim, "kim").await,
        json!({ "introduction": "안녕하세요" }),
        "left out, so kept"
    );
    let unportable = [
        ("email", &*kim.account),
        ("nickname", "kim"),
        ("introduction", "안녕\0"),
    ];
    send(kim.sign(auth.post("setProfile").form(&unportable)))
        .await
        .expect(400);
    assert_eq!(
        auth.introduction(&kim, "소소한 김").await,
        json!({ "introduction": "" })
    );
    assert_eq!(auth.sign_in(KIM).await.nickname, "kim");

    let mut names = ground.watch::<NicknameSet>().await;
    let mut last = names.next().await.meta.occurred_at;
    for nickname in ["소소한 김", "kim", "kim"] {
        let event = names.next().await;
        assert_eq!(
            (event.event.account.as_str(), event.event.nickname.as_deref()),
            (&*kim.account, Some(nickname))
        );
        assert!(event.meta.occurred_at > last);
        last = event.meta.occurred_at;
    }
}

async fn a_photo_is_kept_until_it_is_replaced(bed: Bed) {
    let ground = Ground::new(bed);
    let auth = ground.auth().await;
    let kim = auth.person(KIM, "kim").await;
    assert_eq!(
        auth.photo(&kim, "kim").await,
        json!({ "nickname": "kim", "profileImg": null })
    );
    for level in [1, 2] {
        let mut upload = png(level);
        upload.extend_from_slice(b"<script>what follows the picture is not kept</script>");
        auth.set_photo(&kim, "kim", upload).await.expect(200);
        let expected = json!({ "nickname": "kim", "profileImg": BASE64_STANDARD.encode(png(level)) });
        assert_eq!(auth.photo(&kim, "kim").await, expected);
    }
    auth.set_photo(&kim, "kim", Vec::new()).await.expect(200);
    assert_eq!(
        auth.photo(&kim, "kim").await["profileImg"],
        BASE64_STANDARD.encode(png(2)),
        "an empty part is no photo"
    );
    eventually("the replaced picture goes", async || {
        (stored_pictures(&ground) == 1).then_some(())
    })
    .await;
    assert_eq!(
        auth.photo(&kim, "kim").await["profileImg"],
        BASE64_STANDARD.encode(png(2))
    );
}

async fn a_photo_is_read_in_smaller_widths_and_in_parts(bed: Bed) {
    let ground = Ground::new(bed);
    let auth = ground.auth().await;
    let (kim, lee) = (auth.person(KIM, "kim").await, auth.person(LEE, "lee").await);
    let get = async |nickname: &str, width: Option<&str>, more: &[(header::HeaderName, &str)]| {
        let query: Vec<_> = [("nickname", Some(nickname)), ("w", width)]
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?)))
            .collect();
        let mut request = lee.sign(auth.get("profileImg").query(&query));
        for (name, value) in more {
            request = request.header(name, *value);
        }
        request.send().await.expect("auth answers")
    };
    assert_eq!(get("kim", None, &[]).await.status(), StatusCode::NOT_FOUND);
    assert_eq!(get("nobody", None, &[]).await.status(), StatusCode::NOT_FOUND);
    auth.set_photo(&kim, "kim", png_of(400, 200, 1)).await.expect(200);

    let small = get("kim", Some("160"), &[]).await;
    assert_eq!(small.status(), StatusCode::OK);
    assert_eq!(small.headers()[header::CACHE_CONTROL], "private, no-cache");
    assert_eq!(small.headers()[header::CONTENT_TYPE], "image/png");
    let etag = small.headers()[header::ETAG].to_str().expect("text").to_owned();
    let bytes = small.bytes().await.expect("a body");
    let decoded = image::load_from_memory(&bytes).expect("a picture");
    assert_eq!((decoded.width(), decoded.height()), (160, 80));
    assert_eq!(stored_pictures(&ground), 2, "the variant is stored");
    assert_eq!(get("kim", Some("160"), &[]).await.bytes().await.expect("a body"), bytes);
    assert_eq!(stored_pictures(&ground), 2, "and made once");
    let known = [(header::IF_NONE_MATCH, etag.as_str())];
    assert_eq!(get("kim", Some("160"), &known).await.status(), StatusCode::NOT_MODIFIED);
    assert_eq!(get("kim", None, &known).await.status(), StatusCode::OK);
    for bad in ["161", "x", "-1"] {
        assert_eq!(
            get("kim", Some(bad), &[]).await.status(),
            StatusCode::BAD_REQUEST,
            "{bad}"
        );
    }

    let whole = get("kim", Some(""), &[]).await.bytes().await.expect("a body");
    assert_eq!(whole, png_of(400, 200, 1));
    let part = get("kim", None, &[(header::RANGE, "bytes=3-9")]).await;
    assert_eq!(part.status(), StatusCode::PARTIAL_CONTENT);
    assert_eq!(
        part.headers()[header::CONTENT_RANGE],
        format!("bytes 3-9/{}", whole.len())
    );
    assert_eq!(part.bytes().await.expect("a body"), whole[3..10]);
    let beyond = get("kim", None, &[(header::RANGE, "bytes=1000000-")]).await;
    assert_eq!(beyond.status(), StatusCode::RANGE_NOT_SATISFIABLE);

    // Another photo is another version, and the variants of the old one are deleted with it.
    auth.set_photo(&kim, "kim", png_of(400, 200, 2)).await.expect(200);
    assert_eq!(get("kim", Some("160"), &known).await.status(), StatusCode::OK);
    eventually("the old photo and its variant are gone", async || {
        (stored_pictures(&ground) == 2).then_some(())
    })
    .await;

    // A copy in a cache is not confirmed across a block.
    let again = get("kim", Some("160"), &[]).await;
    let etag = again.headers()[header::ETAG].to_str().expect("text").to_owned();
    auth.set_block("block", &kim, "kim", "lee").await.expect(200);
    let known = [(header::IF_NONE_MATCH, etag.as_str())];
    assert_eq!(get("kim", Some("160"), &known).await.status(), StatusCode::NOT_FOUND);
}

async fn every_form_of_request_is_read(bed: Bed) {
    let ground = Ground::new(bed);
    let auth = ground.auth().await;
    let kim = auth.sign_in(KIM).await;
    let fields = |nickname| json!({ "email": kim.account, "nickname": nickname, "introduction": nickname });
    let requests = [
        ("query", auth.post("setProfile").query(&fields("query"))),
        ("form", auth.post("setProfile").form(&fields("form"))),
        ("json", auth.post("setProfile").json(&fields("json"))),
    ];
    for (nickname, request) in requests {
        let answer = send(kim.sign(request)).await.expect(200);
        assert_eq!(answer.body, json!({ "email": kim.account, "success": true }));
        assert_eq!(auth.introduction(&kim, nickname).await["introduction"], nickname);
    }
}

async fn a_nickname_has_one_bearer(bed: Bed) {
    let ground = Ground::new(bed);
    let (one, other) = (ground.auth().await, ground.auth().await);
    let (kim, lee) = (one.sign_in(KIM).await, one.sign_in(LEE).await);
    assert!(one.set_nickname(&kim, "taken").await);
    assert!(!other.set_nickname(&lee, "taken").await);
    let refused = other.set_photo(&lee, "taken", png(1)).await.expect(200);
    assert_eq!(refused.body, json!({ "email": lee.account, "success": false }));

    for round in 0..8 {
        let nickname = format!("wanted-{round}");
        let (kims, lees) = tokio::join!(
            one.set_nickname(&kim, &nickname),
            other.set_photo(&lee, &nickname, png(round))
        );
        let lees = lees.expect(200).body["success"].as_bool().unwrap();
        assert!(kims != lees, "one of the two has {nickname}: {kims} {lees}");
        let winner = if kims { &kim } else { &lee };
        assert_eq!(one.is_present(winner, &nickname).await.body["email"], winner.account);
    }
}

async fn holders_of_nicknames_are_not_disclosed(bed: Bed) {
    let ground = Ground::new(bed);
    let auth = ground.auth().await;
    let (kim, lee) = (auth.person(KIM, "kim").await, auth.person(LEE, "lee").await);
    let own = auth.is_present(&kim, "kim").await.expect(200);
    assert_eq!(own.body, json!({ "email": kim.account, "isPresent": true }));
    let others = auth.is_present(&lee, "kim").await.expect(200);
    assert_eq!(others.body, json!({ "email": null, "isPresent": true }));
    for nickname in ["free", "kin"] {
        let free = auth.is_present(&lee, nickname).await.expect(200);
        assert_eq!(free.body, json!({ "email": null, "isPresent": false }), "{nickname:?}");
    }
    for nickname in ["", "kim ", " kim", "kim\u{200b}"] {
        auth.is_present(&lee, nickname).await.expect(400);
    }
}

async fn unknown_people_show_nothing(bed: Bed) {
    let ground = Ground::new(bed);
    let auth = ground.auth().await;
    let kim = auth.sign_in(KIM).await;
    assert_eq!(
        auth.photo(&kim, "nobody").await,
        json!({ "nickname": null, "profileImg": null })
    );
    assert_eq!(auth.introduction(&kim, "nobody").await, json!({ "introduction": "" }));
    assert_eq!(
        auth.introduction(&kim, &"행".repeat(10_000)).await,
        json!({ "introduction": "" })
    );
    for call in ["findProfileImg", "findIntroduction", "setProfile", "resign", "signOut"] {
        let answer = send(auth.post(call).form(&[("nickname", "nobody")])).await.expect(403);
        assert_eq!(answer.code(), "access-denied");
    }
}

async fn setting_the_profile_of_another_account_is_refused(bed: Bed) {
    let ground = Ground::new(bed);
    let auth = ground.auth().await;
    let (kim, lee) = (auth.person(KIM, "kim").await, auth.person(LEE, "lee").await);
    let answer = send(lee.sign(auth.post("setProfile").multipart(photo(&kim, "hers", png(1)))))
        .await
        .expect(403);
    assert_eq!(answer.code(), "not-yourself");
    assert_eq!(
        auth.photo(&kim, "kim").await,
        json!({ "nickname": "kim", "profileImg": null })
    );
    assert_eq!(stored_pictures(&ground), 0);
}

async fn what_does_not_fit_is_refused(bed: Bed) {
    let ground = Ground::new(bed);
    let auth = ground.auth_with(&[("images.max-bytes", "1000")]).await;
    let kim = auth.person(KIM, "kim").await;
    let long = "행".repeat(11);
    for nickname in ["", " ", "a\u{7}b", "lee@example.com+google", &long] {
        let fields = [("email", kim.account.as_str()), ("nickname", nickname)];
        let answer = send(kim.sign(auth.post("setProfile").form(&fields))).await.expect(400);
        assert_eq!(answer.code(), "invalid-parameter", "{nickname:?}");
    }
    let fields = [
        ("email", kim.account.clone()),
        ("nickname", "kim".into()),
        ("introduction", "소".repeat(1001)),
    ];
    send(kim.sign(auth.post("setProfile").form(&fields))).await.expect(400);
    auth.set_photo(&kim, "kim", b"<svg/>".to_vec()).await.expect(400);
    let mut large = png(1);
    large.resize(2000, 0);
    auth.set_photo(&kim, "kim", large).await.expect(400);
    let two = photo(&kim, "kim", png(1)).part("profileImg", Part::bytes(png(2)).file_name("other.png"));
    let text = Form::new()
        .text("email", kim.account.clone())
        .text("nickname", "kim")
        .text("profileImg", "no file");
    for form in [two, text] {
        send(kim.sign(auth.post("setProfile").multipart(form)))
            .await
            .expect(400);
    }
    assert_eq!(stored_pictures(&ground), 0);
    assert!(auth.set_nickname(&kim, &"🩷".repeat(10)).await);
}
