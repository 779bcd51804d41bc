use serde_json::{Value, json};
use sosohappy_testkit::{Bed, Person, Running, eventually};

use super::legacy::{Legacy, Target, count, has_place, killed, picture, printed};

async fn feed(bed: &Bed, more: &[(&str, &str)]) -> Running {
    let settings = bed.settings("feed", sosohappy_feed::DEFAULTS, more).await;
    let built = sosohappy_feed::build(settings, bed.context(sosohappy_feed::SERVICE), bed.bus.clone()).await;
    bed.start(built).await
}

async fn call(feed: &Running, person: &Person, path: &str, form: &[(&str, &str)]) -> (u16, Value) {
    let request = sosohappy_common::tls::client().post(feed.at(&format!("/feed-service/{path}")));
    let response = person.sign(request).form(form).send().await.expect("feed answers");
    let status = response.status().as_u16();
    let body = response.bytes().await.expect("a body");
    (status, serde_json::from_slice(&body).unwrap_or_default())
}

/// Everything a row of the four tables can be.
#[expect(clippy::too_many_lines, reason = "a table of rows and what becomes of each")]
async fn every_post_is_taken_over_or_reported(bed: Bed) {
    let legacy = Legacy::new().await;
    let target = Target::of(&bed).await;
    for (name, nickname) in [("kim", "kim"), ("lee", "lee"), ("one", "twin"), ("two", "twin")] {
        legacy.user(&format!("{name}@example.com+kakao"), nickname).await;
    }
    let fresh = "3f0c7c50-1a2b-4c3d-8e9f-001122334455";
    legacy.user("new@example.com+kakao", fresh).await;
    target.import(&["--auth", &legacy.url("auth")]);

    let whole = legacy.post("kim", 2_023_090_513_248_392, 4).await;
    for category in ["coffee", " sea ", "coffee", "", &"x".repeat(60)] {
        legacy
            .run(format!(
                "INSERT INTO feed_category (category, feed_id) VALUES ('{category}', {whole})"
            ))
            .await;
    }
    legacy
        .run(format!("INSERT INTO feed_category (feed_id) VALUES ({whole})"))
        .await;
    let photo = legacy.image(whole, &picture(1, 3_000_000)).await;
    let no_photo = legacy.image(whole, b"HEIC").await;
    let jpeg = legacy.image(whole, &super::legacy::photo()).await;
    let cut = legacy.image(whole, &picture(1, 0)[..60]).await;
    let none = legacy
        .run(format!("INSERT INTO feed_image (feed_id) VALUES ({whole})"))
        .await;
    let orphan = legacy.run("INSERT INTO feed_image (image) VALUES (x'00')").await;
    let liked = legacy.like(whole, "lee").await;
    let twice = legacy.like(whole, "lee").await;
    let stranger = legacy.like(whole, "somebody").await;
    let ambiguous = legacy.like(whole, "twin").await;
    let nameless = legacy
        .run(format!("INSERT INTO feed_like_nickname (feed_id) VALUES ({whole})"))
        .await;
    legacy.like(whole, fresh).await;

    let bare = legacy
        .run("INSERT INTO feed (nickname, date) VALUES ('lee', 2023090599999999)")
        .await;
    let no_name = legacy.run("INSERT INTO feed (date) VALUES (2023090513248392)").await;
    let unknown = legacy.post("somebody", 2_023_090_513_248_392, 1).await;
    let twins = legacy.post("twin", 2_023_090_513_248_392, 1).await;
    let no_date = legacy.run("INSERT INTO feed (nickname) VALUES ('lee')").await;
    let no_day = legacy.post("kim", 2_023_023_113_248_392, 1).await;
    let ancient = legacy.post("kim", 7, 1).await;
    let first = legacy.post("lee", 2_023_100_110_000_000, 1).await;
    let later = legacy.post("lee", 2_023_100_120_000_000, 2).await;
    let earlier = legacy.post("lee", 2_023_100_109_000_000, 3).await;
    let private = legacy.post("kim", 2_023_090_600_000_000, 5).await;
    legacy
        .run(format!("UPDATE feed SET is_public = b'0' WHERE feed_id = {private}"))
        .await;
    let hidden = legacy.image(private, &picture(2, 200)).await;
    let broken = legacy.post("kim", 2_023_090_700_000_000, 5).await;
    legacy.run("ALTER TABLE feed MODIFY text MEDIUMBLOB").await;
    legacy
        .run(format!("UPDATE feed SET text = x'41ff0042' WHERE feed_id = {broken}"))
        .await;

    let feed_url = legacy.url("feed");
    let arguments = ["--feed", feed_url.as_str()];
    let dry = target.import(&[&arguments[..], &["--dry-run"]].concat());
    assert_eq!(count(&dry, "feed", "created"), 5, "{dry}");
    assert_eq!(target.number("SELECT COUNT(*) FROM post").await, Some(0));
    assert_eq!(target.number("SELECT COUNT(*) FROM image_garbage").await, Some(0));
    let told = target.import(&arguments);
    assert!(told.contains("check: 3 pictures compared: the same"), "{told}");
    let report = target.report();
    let feed_row = |id| format!("feed {id}");
    let image_row = |id| format!("feed_image {id}");
    let like_row = |id| format!("feed_like_nickname {id}");
    for (row, column, reason) in [
        (feed_row(no_name), "nickname", "unplaced: no nickname"),
        (feed_row(unknown), "nickname", "unplaced: no account has this nickname"),
        (
            feed_row(twins),
            "nickname",
            "unplaced: more than one account has or had this nickname",
        ),
        (feed_row(no_date), "date", "unplaced: no date"),
        (
            feed_row(no_day),
            "",
            "unplaced: date: no day of the calendar from 2000 on",
        ),
        (
            feed_row(ancient),
            "",
            "unplaced: date: no day of the calendar from 2000 on",
        ),
        (
            feed_row(first),
            "",
            "superseded: the author has a later post of the same day",
        ),
        (
            feed_row(earlier),
            "",
            "superseded: the author has a later post of the same day",
        ),
        (feed_row(bare), "happiness", "altered: none: 0 is written"),
        (feed_row(bare), "weather", "altered: none: `unknown` is written"),
        (
            feed_row(broken),
            "text",
            "altered: bytes that are no text were replaced",
        ),
        (
            image_row(no_photo),
            "image",
            "unplaced: not a JPEG, PNG, GIF, WebP or HEIC picture",
        ),
        (
            image_row(none),
            "image",
            "unplaced: not a JPEG, PNG, GIF, WebP or HEIC picture",
        ),
        (image_row(cut), "image", "unplaced: broken or cut off"),
        (image_row(orphan), "feed_id", "unplaced: there is no such post"),
        (
            like_row(twice),
            "nickname",
            "unplaced: the account likes the post already",
        ),
        (like_row(stranger), "nickname", "unplaced: no account has this nickname"),
        (
            like_row(ambiguous),
            "nickname",
            "unplaced: more than one account has or had this nickname",
        ),
        (like_row(nameless), "nickname", "unplaced: no nickname"),
    ] {
        let line = (row, column.to_owned(), reason.to_owned());
        assert!(report.contains(&line), "{line:?} is not in {report:#?}");
    }
    for placed in [feed_row(whole), feed_row(later), image_row(photo), like_row(liked)] {
        assert!(
            !report.iter().any(|(row, _, _)| *row == placed),
            "{placed} in {report:#?}"
        );
    }
    let again = target.import(&arguments);
    let counts = ["unchanged", "created", "updated"].map(|outcome| count(&again, "feed", outcome));
    assert_eq!(counts, [5, 0, 0], "{again}");

    // An operator decides, and the post of the twin is placed.
    let decided = [&arguments[..], &["--bearer", "twin=one@example.com+kakao"]].concat();
    let decided = target.import(&decided);
    assert_eq!(count(&decided, "feed", "created"), 1, "{decided}");

    let broken = "SELECT COUNT(*) FROM post WHERE day = 20230907 AND text = 'A\u{fffd}\u{fffd}B'";
    assert_eq!(
        target.number(broken).await,
        Some(1),
        "neither bytes nor U+0000 are left"
    );

    bed.sql("feed", "UPDATE post_view SET likes = 9").await;
    let posts = target.number("SELECT COUNT(*) FROM post").await.expect("a number");
    let built = target.rebuild_views();
    assert!(built.contains(&format!("post view: {posts} posts")), "{built}");
    let wrong = "SELECT COUNT(*) FROM post_view WHERE likes = 9";
    assert_eq!(target.number(wrong).await, Some(0));

    let feed = feed(&bed, &[]).await;
    let kim = bed.person("kim@example.com+kakao", "kim").await;
    let lee = bed.person("lee@example.com+kakao", "lee").await;
    let (_, day) = call(
        &feed,
        &kim,
        "findDayFeed",
        &[("nickname", "kim"), ("date", "2023090500000000")],
    )
    .await;
    assert_eq!(day["text"], "a day");
    assert_eq!(day["categoryList"], json!(["coffee", "sea", "x".repeat(50)]));
    let likers = eventually("every liker has a name", async || {
        let (_, day) = call(
            &feed,
            &kim,
            "findDayFeed",
            &[("nickname", "kim"), ("date", "2023090500000000")],
        )
        .await;
        let likers = day["likeNicknameList"].as_array().cloned().unwrap_or_default();
        (likers.len() == 3).then_some(likers)
    })
    .await;
    assert_eq!(likers[0], "lee", "in the order they came");

    // The old ids of pictures work for people who may see the post, with a token.
    let show = async |person: Option<&Person>, id: i64| {
        let request = sosohappy_common::tls::client().get(feed.at(&format!("/feed-service/image/{id}")));
        let request = person.into_iter().fold(request, |request, person| person.sign(request));
        request.send().await.expect("feed answers").status().as_u16()
    };
    assert_eq!(show(None, photo).await, 404);
    assert_eq!(show(Some(&lee), photo).await, 200);
    assert_eq!(show(Some(&kim), hidden).await, 200);
    assert_eq!(show(Some(&lee), hidden).await, 404);
    let id = hidden.to_string();
    assert_eq!(call(&feed, &kim, "findFeedImage", &[("imageId", &id)]).await.0, 200);
    assert_eq!(call(&feed, &lee, "findFeedImage", &[("imageId", &id)]).await.0, 404);
    let new = day["imageIdList"][0].as_i64().expect("an id");
    assert!(new > 1_000_000, "unguessable");
    assert_eq!(show(None, new).await, 200);
    // Encoded anew, as uploads are: nothing but the pixels is left.
    let bytes = async |id: i64| {
        let request = sosohappy_common::tls::client().get(feed.at(&format!("/feed-service/image/{id}")));
        let answer = kim.sign(request).send().await.expect("feed answers");
        answer.bytes().await.expect("a picture")
    };
    assert_eq!(bytes(photo).await, sosohappy_fleet::demo::picture(1));
    let jpeg = bytes(jpeg).await;
    assert!(jpeg.starts_with(&[0xff, 0xd8]), "a JPEG stays one");
    assert!(!has_place(&jpeg), "the place where it was taken is not shown");
    feed.stop().await;
    let feed = self::feed(&bed, &[("imported.image-ids", "0s")]).await;
    assert_eq!(call(&feed, &kim, "findFeedImage", &[("imageId", &id)]).await.0, 404);
}

/// Two passes while the legacy feed serves, then changes on this side.
async fn a_second_pass_takes_what_has_changed(bed: Bed) {
    let legacy = Legacy::new().await;
    let target = Target::of(&bed).await;
    for name in ["kim", "lee", "park"] {
        legacy.user(&format!("{name}@example.com+kakao"), name).await;
    }
    let edited = legacy.post("kim", 2_023_090_500_000_000, 1).await;
    let old = legacy.image(edited, &picture(1, 200)).await;
    let like = legacy.like(edited, "lee").await;
    let deleted = legacy.post("kim", 2_023_090_600_000_000, 2).await;
    legacy.image(deleted, &picture(2, 200)).await;
    let moved = legacy.post("kim", 2_023_090_700_000_000, 3).await;
    legacy.image(moved, &picture(3, 200)).await;
    let (auth_url, feed_url) = (legacy.url("auth"), legacy.url("feed"));
    let arguments = ["--auth", auth_url.as_str(), "--feed", feed_url.as_str()];
    target.import(&arguments);

    // lee is renamed, park takes the name, and likes; kim edits, deletes, and sets another day.
    sqlx::raw_sql("UPDATE `user` SET nickname = 'moon' WHERE nickname = 'lee'; UPDATE `user` SET nickname = 'lee' WHERE nickname = 'park'")
        .execute(&legacy.auth)
        .await
        .expect("renamed");
    let ambiguous = legacy.like(edited, "lee").await;
    legacy.like(edited, "moon").await;
    legacy
        .run(format!(
            "UPDATE feed SET text = 'edited', happiness = 5 WHERE feed_id = {edited}"
        ))
        .await;
    legacy
        .run(format!("DELETE FROM feed_image WHERE feed_image_id = {old}"))
        .await;
    legacy.image(edited, &picture(4, 200)).await;
    legacy
        .run(format!("DELETE FROM feed_image WHERE feed_id = {deleted}"))
        .await;
    legacy.run(format!("DELETE FROM feed WHERE feed_id = {deleted}")).await;
    legacy
        .run(format!(
            "UPDATE feed SET date = 2023090800000000 WHERE feed_id = {moved}"
        ))
        .await;
    let added = legacy.post("lee", 2_023_090_500_000_000, 1).await;
    let second = target.import(&arguments);
    let counts = ["created", "updated", "deleted"].map(|outcome| count(&second, "feed", outcome));
    assert_eq!(counts, [1, 2, 1], "{second}");
    let report = target.report();
    let listed = |id: i64| {
        report
            .iter()
            .any(|(row, _, _)| *row == format!("feed_like_nickname {id}"))
    };
    assert!(listed(ambiguous), "whose name it was cannot be told: {report:#?}");
    assert!(!listed(like));
    let likes = target.number("SELECT COUNT(*) FROM post_like WHERE account = 'lee@example.com+kakao'");
    assert_eq!(likes.await, Some(1), "a like stays with whom it was of");
    assert_eq!(
        target
            .number("SELECT COUNT(*) FROM post WHERE account = 'park@example.com+kakao'")
            .await,
        Some(1),
        "a post's nickname follows renames: {added}"
    );
    assert_eq!(
        target
            .number("SELECT COUNT(*) FROM image_garbage WHERE reserved = 0")
            .await,
        Some(2)
    );

    // A like is taken back there; a post is changed and one deleted here.
    legacy
        .run(format!(
            "DELETE FROM feed_like_nickname WHERE feed_like_nickname_id = {like}"
        ))
        .await;
    bed.sql("feed", "UPDATE post SET text = 'ours' WHERE day = 20230908")
        .await;
    legacy
        .run(format!("UPDATE feed SET text = 'theirs' WHERE feed_id = {moved}"))
        .await;
    bed.sql("feed", "DELETE FROM post WHERE account = 'park@example.com+kakao'")
        .await;
    legacy
        .run(format!("UPDATE feed SET text = 'theirs' WHERE feed_id = {added}"))
        .await;
    let third = target.import(&arguments);
    let counts = ["updated", "kept-ours", "deleted-here"].map(|outcome| count(&third, "feed", outcome));
    assert_eq!(counts, [1, 1, 1], "{third}");
    assert_eq!(
        target.number("SELECT COUNT(*) FROM post_like").await,
        Some(1),
        "the second like of the account, under its later name, takes the place of the first"
    );
    assert_eq!(
        target.number("SELECT COUNT(*) FROM post WHERE text = 'ours'").await,
        Some(1)
    );

    post_of_an_unchanged_row_is_changed(&bed, &target, &arguments).await;
}

/// A post is changed here, and then deleted, whose row has not changed there: the check leaves it out.
async fn post_of_an_unchanged_row_is_changed(bed: &Bed, target: &Target, arguments: &[&str]) {
    for change in [
        "UPDATE post SET happiness = 1 WHERE day = 20230905",
        "DELETE FROM post WHERE day = 20230905",
    ] {
        assert_eq!(bed.sql("feed", change).await, 1);
        let printed = target.import(arguments);
        assert!(
            printed.contains("check: 1 posts were changed or deleted here"),
            "{printed}"
        );
    }
}

/// More of a post, or of a picture, than this fleet takes.
async fn what_exceeds_a_limit_is_reported(bed: Bed) {
    let legacy = Legacy::new().await;
    let target = Target::of(&bed).await;
    legacy.user("kim@example.com+kakao", "kim").await;
    let crowded = legacy.post("kim", 2_023_090_500_000_000, 3).await;
    // With quotes and a comma they take 53 bytes each: 566 are the most in 30,000.
    let categories: Vec<String> = (0..600).map(|number| format!("('{number:050}', {crowded})")).collect();
    let image = hex::encode(picture(1, 0));
    let images = vec![format!("(x'{image}', {crowded})"); 2001];
    for (insert, rows) in [
        ("feed_category (category, feed_id)", categories),
        ("feed_image (image, feed_id)", images),
    ] {
        legacy
            .run(format!("INSERT INTO {insert} VALUES {}", rows.join(", ")))
            .await;
    }
    let limited = legacy.post("kim", 2_023_090_600_000_000, 3).await;
    let large = legacy.image(limited, &picture(1, 6000)).await;
    let wide = legacy.image(limited, &super::legacy::photo()).await;

    let (auth_url, feed_url) = (legacy.url("auth"), legacy.url("feed"));
    let mut import = target.command(&["--auth", &auth_url, "--feed", &feed_url]);
    import.env("SOSOHAPPY_FEED__IMAGES__MAX_BYTES", "5000");
    import.env("SOSOHAPPY_FEED__IMAGES__MAX_PIXELS", "50");
    let summary = printed(&import.output().expect("the binary runs"));
    assert_eq!(count(&summary, "feed", "created"), 2, "{summary}");
    let images = ["placed", "unplaced"].map(|outcome| count(&summary, "feed_image", outcome));
    assert_eq!(images, [2000, 3], "{summary}");
    let report = target.report();
    let lines = |reason: &str| report.iter().filter(|(_, _, line)| line == reason).count();
    assert_eq!(lines("unplaced: the post has more than 2000 pictures"), 1);
    assert_eq!(lines("unplaced: the post has more categories than fit"), 34);
    for (image, reason) in [
        (large, "unplaced: larger than images.max-bytes"),
        (wide, "unplaced: more pixels than images.max-pixels"),
    ] {
        let line = (format!("feed_image {image}"), "image".to_owned(), reason.to_owned());
        assert!(report.contains(&line), "{line:?} is not in the report");
    }
}

const POSTS: i64 = 2000;

/// Killed in the middle, run again, and once more.
async fn an_import_that_is_killed_continues(bed: Bed) {
    let legacy = Legacy::new().await;
    let target = Target::of(&bed).await;
    for person in 0..20 {
        legacy
            .user(&format!("person{person}@example.com+kakao"), &format!("person{person}"))
            .await;
    }
    let mut posts = Vec::new();
    let mut children = (Vec::new(), Vec::new(), Vec::new());
    for number in 0..POSTS {
        let (person, day) = (number % 20, number / 20);
        let date = (20_230_101 + day / 25 * 100 + day % 25) * 100_000_000 + 12_000_000;
        let post = number + 1;
        posts.push(format!(
            "({post}, {date}, {}, b'{}', 'person{person}', 'sunny', 'day {number}')",
            number % 6,
            number % 2
        ));
        children.0.push(format!("('coffee', {post}), ('sea', {post})"));
        let image = hex::encode(picture(u8::try_from(number % 256).expect("small"), 400));
        children.1.push(format!("(x'{image}', {post})"));
        children.2.push(format!("('person{}', {post})", (number + 1) % 20));
    }
    for (insert, rows) in [
        (
            "feed (feed_id, date, happiness, is_public, nickname, weather, text)",
            posts,
        ),
        ("feed_category (category, feed_id)", children.0),
        ("feed_image (image, feed_id)", children.1),
        ("feed_like_nickname (nickname, feed_id)", children.2),
    ] {
        for rows in rows.chunks(500) {
            legacy
                .run(format!("INSERT INTO {insert} VALUES {}", rows.join(", ")))
                .await;
        }
    }
    let (auth_url, feed_url) = (legacy.url("auth"), legacy.url("feed"));
    let arguments = ["--auth", auth_url.as_str(), "--feed", feed_url.as_str()];
    let run = target.command(&arguments).spawn().expect("the binary runs");
    let posts = async || target.number("SELECT COUNT(*) FROM post").await;
    let there = killed(run, posts, POSTS).await;

    let rest = target.import(&arguments);
    assert_eq!(count(&rest, "feed", "unchanged"), there.unsigned_abs(), "{rest}");
    assert_eq!(
        count(&rest, "feed", "created"),
        (POSTS - there).unsigned_abs(),
        "{rest}"
    );
    assert!(rest.contains("check: 50 pictures compared: the same"), "{rest}");
    let again = target.import(&arguments);
    assert_eq!(count(&again, "feed", "unchanged"), POSTS.unsigned_abs(), "{again}");
    for (query, wanted) in [
        ("SELECT COUNT(*) FROM post", POSTS),
        ("SELECT COUNT(*) FROM imported_post", POSTS),
        ("SELECT COUNT(*) FROM imported_image", POSTS),
        ("SELECT COUNT(DISTINCT image) FROM imported_image", POSTS),
        ("SELECT COUNT(*) FROM post_like", POSTS),
        ("SELECT COUNT(*) FROM category_change", POSTS),
        (
            "SELECT COUNT(*) FROM image_garbage g JOIN imported_image i ON i.image = g.id",
            0,
        ),
    ] {
        assert_eq!(target.number(query).await, Some(wanted), "{query}");
    }
}

on_both_targets!(
    every_post_is_taken_over_or_reported,
    a_second_pass_takes_what_has_changed,
    what_exceeds_a_limit_is_reported,
    an_import_that_is_killed_continues,
);
