//! Exports and imports of one's own posts.

use std::io::{Cursor, Read as _, Write as _};

use image::ImageFormat;
use reqwest::RequestBuilder;
use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};
use sosohappy_testkit::statements::cost;
use sosohappy_testkit::{Bed, Person, on_both_engines};
use zip::write::SimpleFileOptions;
use zip::{ZipArchive, ZipWriter};

use super::cost::subscribe;
use super::{Answer, Feed, PNG, code, encoded, problem, read, saved};

on_both_engines!(
    an_export_brings_posts_and_pictures_back,
    an_export_that_was_changed_is_refused,
    many_posts_come_in_several_archives,
);

const DATE: &str = "2023090513248392";

impl Feed {
    /// Returns the archive and the cursor of the next one.
    async fn export(&self, who: &Person, cursor: &str) -> (Vec<u8>, Option<String>) {
        let query = [("nickname", who.nickname.as_str()), ("cursor", cursor)];
        let request = who.sign(self.client.get(self.at("export")).query(&query));
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "application/zip");
        let next = response.headers().get("next-cursor");
        let next = next.map(|next| next.to_str().unwrap().to_owned());
        (response.bytes().await.unwrap().to_vec(), next)
    }

    async fn import(&self, who: &Person, zip: Vec<u8>) -> Answer {
        read(self.importing(who, zip)).await
    }

    fn importing(&self, who: &Person, zip: Vec<u8>) -> RequestBuilder {
        let file = Part::bytes(zip)
            .file_name("export.zip")
            .mime_str("application/zip")
            .unwrap();
        let form = Form::new().text("nickname", who.nickname.clone()).part("file", file);
        who.sign(self.client.post(self.at("import")).multipart(form))
    }

    async fn own_months(&self, who: &Person, date: &str) -> Value {
        let month = [("nickname", who.nickname.as_str()), ("date", date)];
        serde_json::from_str(&self.post(who, "findMonthFeed", &month).await.1).unwrap()
    }
}

fn entries(zip: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut zip = ZipArchive::new(Cursor::new(zip)).unwrap();
    (0..zip.len())
        .map(|number| {
            let mut entry = zip.by_index(number).unwrap();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            (entry.name().unwrap().into_owned(), bytes)
        })
        .collect()
}

fn zipped(entries: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in entries {
        zip.start_file(name.as_str(), SimpleFileOptions::default()).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// Without the ids of pictures, which are new ones after an import.
fn without_ids(mut posts: Value) -> Value {
    for post in posts.as_array_mut().unwrap() {
        let pictures = post["imageIdList"].as_array().unwrap().len();
        post["imageIdList"] = pictures.into();
    }
    posts
}

async fn an_export_brings_posts_and_pictures_back(bed: Bed) {
    let feed = Feed::start(&bed).await;
    let kim = bed.person("kim@example.com+kakao", "kim").await;
    let lee = bed.person("lee@example.com+google", "lee").await;
    let photo = encoded(ImageFormat::Jpeg, 40, 30);
    assert_eq!(feed.save_with(&kim, DATE, &[*PNG, &photo]).await, saved());
    feed.save(&kim, "2023090613248392", "3", "sea").await;
    feed.post(
        &kim,
        "updatePublicStatus",
        &[("nickname", "kim"), ("date", "2023090613248392")],
    )
    .await;
    let before = feed.own_months(&kim, DATE).await;
    let (zip, next) = feed.export(&kim, "start").await;
    assert_eq!(next, None);
    let names: Vec<String> = entries(&zip).into_iter().map(|(name, _)| name).collect();
    assert_eq!(
        names,
        [
            "pictures/20230905-1.png",
            "pictures/20230905-2.jpeg",
            "export.json",
            "signature"
        ]
    );
    let (_, manifest) = &entries(&zip)[2];
    let manifest: Value = serde_json::from_slice(manifest).unwrap();
    assert_eq!(manifest["account"], "kim@example.com+kakao");
    assert_eq!(manifest["posts"][1]["visibility"], "private");

    // What is there stays.
    let kept = |count: u32| json!({ "imported": 0, "kept": count }).to_string();
    assert_eq!(feed.import(&kim, zip.clone()).await.1, kept(2));
    assert_eq!(feed.own_months(&kim, DATE).await, before);
    assert_eq!(
        code(&feed.import(&lee, zip.clone()).await),
        problem(403, "not-yourself")
    );

    feed.post(&kim, "deleteFeed", &[("nickname", "kim"), ("date", DATE)])
        .await;
    let draft = [("nickname", "kim"), ("date", DATE), ("text", "새 글")];
    assert_eq!(feed.post(&kim, "saveDraft", &draft).await.0, 200);
    let (status, body) = feed.import(&kim, zip.clone()).await;
    assert_eq!(
        (status.as_u16(), body),
        (200, json!({ "imported": 1, "kept": 1 }).to_string())
    );
    let after = feed.own_months(&kim, DATE).await;
    assert_eq!(without_ids(after.clone()), without_ids(before.clone()));
    assert_ne!(after, before, "pictures have new ids");
    let drafts = feed.get(&kim, "findDraft", &[("nickname", "kim")]).await.1;
    assert!(drafts.contains("새 글"), "{drafts}");
    for (number, (_, bytes)) in entries(&zip)[..2].iter().enumerate() {
        let image = after[1]["imageIdList"][number].to_string();
        let shown = feed
            .client
            .get(feed.at(&format!("image/{image}")))
            .send()
            .await
            .unwrap();
        assert_eq!(&shown.bytes().await.unwrap()[..], bytes, "not encoded once more");
    }
    assert_eq!(feed.import(&kim, zip).await.1, kept(2));
    assert_eq!(feed.own_months(&kim, DATE).await, after);
}

async fn an_export_that_was_changed_is_refused(bed: Bed) {
    let feed = Feed::start(&bed).await;
    let kim = bed.person("kim@example.com+kakao", "kim").await;
    assert_eq!(feed.save_with(&kim, DATE, &[*PNG]).await, saved());
    let (zip, _) = feed.export(&kim, "start").await;
    feed.post(&kim, "deleteFeed", &[("nickname", "kim"), ("date", DATE)])
        .await;

    let good = entries(&zip);
    let mut changed: Vec<Vec<(String, Vec<u8>)>> = Vec::new();
    let mut text = good.clone();
    let manifest = String::from_utf8(text[1].1.clone()).unwrap();
    text[1].1 = manifest.replace("오늘의 행복", "어제의 행복").into_bytes();
    changed.push(text);
    let mut picture = good.clone();
    picture[0].1 = encoded(ImageFormat::Png, 2, 2);
    changed.push(picture);
    changed.push(good[1..].to_vec());
    changed.push(good[..2].to_vec());
    changed.push(vec![("export.json".to_owned(), vec![b' '; 20 << 20]), good[2].clone()]);
    for entries in &changed {
        let answer = feed.import(&kim, zipped(entries)).await;
        assert_eq!(code(&answer), problem(400, "invalid-parameter"), "{answer:?}");
    }
    for bytes in [b"no ZIP".to_vec(), zip[..zip.len() / 2].to_vec(), Vec::new()] {
        assert_eq!(code(&feed.import(&kim, bytes).await), problem(400, "invalid-parameter"));
    }
    let none = [("nickname", "kim")];
    assert_eq!(
        code(&feed.post(&kim, "import", &none).await),
        problem(400, "invalid-parameter")
    );
    assert_eq!(
        feed.own_months(&kim, DATE).await,
        json!([]),
        "nothing of them was stored"
    );
    // Packed anew, it is the same export.
    assert_eq!(feed.import(&kim, zipped(&good)).await.0, 200);
}

async fn many_posts_come_in_several_archives(bed: Bed) {
    subscribe();
    let feed = Feed::start(&bed).await;
    let kim = bed.person("kim@example.com+kakao", "kim").await;
    let (empty, next) = feed.export(&kim, "").await;
    assert_eq!((entries(&empty).len(), next), (2, None));
    let dates = (1..=5).flat_map(|month| (1..=21).map(move |day| format!("2023{month:02}{day:02}13248392")));
    let dates: Vec<String> = dates.collect();
    for date in &dates {
        feed.save(&kim, date, "3", "sea").await;
    }
    let (mut exported, mut cursor, mut archives) = (Vec::new(), Some("start".to_owned()), Vec::new());
    while let Some(next) = cursor {
        let (zip, following) = feed.export(&kim, &next).await;
        let (_, manifest) = entries(&zip).remove(0);
        let manifest: Value = serde_json::from_slice(&manifest).unwrap();
        exported.extend(
            manifest["posts"]
                .as_array()
                .unwrap()
                .iter()
                .map(|post| post["date"].to_string()),
        );
        cursor = following;
        archives.push((zip, manifest["posts"].as_array().unwrap().len()));
    }
    assert_eq!((exported, archives.len()), (dates, 2));
    let mut statements = Vec::new();
    for (zip, posts) in archives {
        let kept = json!({ "imported": 0, "kept": posts }).to_string();
        // The least of three: the caller's name may be read once more.
        let mut least = usize::MAX;
        for _ in 0..3 {
            let (counted, response) = cost("import", &bed, feed.importing(&kim, zip.clone())).await;
            assert_eq!(response.text().await.unwrap(), kept);
            least = least.min(counted.reads + counted.writes);
        }
        statements.push(least);
    }
    assert!(
        statements[0] > 0 && statements[0] == statements[1],
        "of 100 posts on days that have one, and of 5: {statements:?}"
    );
    let forged = [("nickname", "kim"), ("cursor", "nonsense")];
    assert_eq!(
        code(&feed.get(&kim, "export", &forged).await),
        problem(400, "invalid-parameter")
    );
}
