use std::process::Stdio;

use reqwest::multipart::{Form, Part};
use sosohappy_testkit::{Bed, Person, Running, eventually};

use super::legacy::{Legacy, SECRET, Target, count, picture, printed, token};
use super::statements::CountedServer;

async fn feed(bed: &Bed) -> Running {
    let settings = bed.settings("feed", sosohappy_feed::DEFAULTS, &[]).await;
    let built = sosohappy_feed::build(settings, bed.context(sosohappy_feed::SERVICE), bed.bus.clone()).await;
    bed.start(built).await
}

async fn post(running: &Running, person: &Person, path: &str, form: Form) {
    let request = sosohappy_common::tls::client().post(running.at(path));
    let answer = person.sign(request).multipart(form).send().await.expect("it answers");
    assert_eq!(answer.status(), 200, "{path}");
}

fn form(fields: &[(&str, &str)]) -> Form {
    fields.iter().fold(Form::new(), |form, (name, value)| {
        form.text((*name).to_owned(), (*value).to_owned())
    })
}

fn new_post() -> Form {
    let save = form(&[
        ("nickname", "kim"),
        ("date", "2023090713248392"),
        ("weather", "rainy"),
        ("happiness", "2"),
        ("categoryList", "sea,coffee"),
        ("text", "written here"),
        ("isPublic", "true"),
    ]);
    save.part(
        "imageList",
        Part::bytes(sosohappy_fleet::demo::picture(2)).file_name("a.png"),
    )
}

async fn writes_of_this_fleet_are_exported(bed: Bed) {
    let legacy = Legacy::new().await;
    let target = Target::of(&bed).await;
    let email = "kim@example.com+apple";
    let exp = i64::from(u32::MAX);
    let kim = legacy.user(email, "kim").await;
    legacy
        .set(kim, "refresh_token", token("RefreshToken", email, exp))
        .await;
    legacy.set(kim, "apple_refresh_token", "r.apple").await;
    let lee = legacy.user("lee@example.com+kakao", "lee").await;
    legacy.set(lee, "profile_img", super::legacy::photo()).await;
    let untouched = legacy.post("kim", 2_023_090_513_248_392, 4).await;
    let photo = legacy.image(untouched, &picture(1, 300)).await;
    let odd = legacy.image(untouched, b"HEIC").await;
    let taken_back = legacy.like(untouched, "lee").await;
    let stranger = legacy.like(untouched, "somebody").await;
    let deleted = legacy.post("kim", 2_023_090_613_248_392, 4).await;
    let urls = ["auth", "feed"].map(|service| legacy.url(service));
    let arguments = ["--auth", urls[0].as_str(), "--feed", urls[1].as_str()];
    target.import(&arguments);

    // kim has another introduction, writes, and deletes; lee takes a like back and gives another.
    let settings = bed
        .settings("auth", sosohappy_auth::DEFAULTS, &[("tokens.legacy-key", SECRET)])
        .await;
    let auth = sosohappy_auth::build(settings, bed.context(sosohappy_auth::SERVICE), bed.bus.clone()).await;
    let auth = bed.start(auth).await;
    let access = token("AccessToken", email, exp);
    let set = sosohappy_common::tls::client().post(auth.at("/auth-service/setProfile"));
    let set = set.bearer_auth(access).header("email", email);
    let set = set.form(&[("email", email), ("nickname", "kim"), ("introduction", "ours")]);
    assert_eq!(set.send().await.expect("auth answers").status(), 200);
    auth.stop().await;
    let feed = feed(&bed).await;
    let (kims, lees) = (
        bed.person(email, "kim").await,
        bed.person("lee@example.com+kakao", "lee").await,
    );
    let like = [
        ("srcNickname", "lee"),
        ("nickname", "kim"),
        ("date", "2023090513248392"),
    ];
    post(&feed, &lees, "/feed-service/updateLike", form(&like)).await;
    let delete = [("nickname", "kim"), ("date", "2023090613248392")];
    post(&feed, &kims, "/feed-service/deleteFeed", form(&delete)).await;
    post(&feed, &kims, "/feed-service/saveFeed", new_post()).await;
    let like = [
        ("srcNickname", "lee"),
        ("nickname", "kim"),
        ("date", "2023090713248392"),
    ];
    post(&feed, &lees, "/feed-service/updateLike", form(&like)).await;
    feed.stop().await;

    let dry = target.export(&[&arguments[..], &["--dry-run"]].concat());
    let first = target.export(&arguments);
    assert_eq!(
        dry.replace("dry run: nothing was written\n", ""),
        first,
        "a dry run says what a run does"
    );
    let outcomes = |told: &str, table| ["created", "updated", "deleted"].map(|outcome| count(told, table, outcome));
    assert_eq!(outcomes(&first, "user"), [0, 1, 0], "{first}");
    assert_eq!(outcomes(&first, "feed"), [1, 1, 1], "{first}");
    assert_eq!(
        legacy
            .text("SELECT introduction FROM `user` WHERE nickname = 'kim'", true)
            .await,
        "ours"
    );
    assert_eq!(
        legacy
            .text("SELECT apple_refresh_token FROM `user` WHERE nickname = 'kim'", true)
            .await,
        "r.apple"
    );
    for (query, wanted) in [
        ("SELECT CONCAT(nickname, ' ', weather, ' ', text, ' ', happiness, ' ', is_public + 0) FROM feed WHERE date = 2023090713248392".to_owned(), "kim rainy written here 2 1".to_owned()),
        ("SELECT GROUP_CONCAT(category ORDER BY feed_category_id) FROM feed_category".to_owned(), "sea,coffee".to_owned()),
        (format!("SELECT CAST(COUNT(*) AS CHAR) FROM feed WHERE feed_id = {deleted}"), "0".to_owned()),
        (format!("SELECT GROUP_CONCAT(feed_like_nickname_id) FROM feed_like_nickname WHERE feed_id = {untouched}"), stranger.to_string()),
        (format!("SELECT GROUP_CONCAT(feed_image_id ORDER BY feed_image_id) FROM feed_image WHERE feed_id = {untouched}"), format!("{photo},{odd}")),
        (format!("SELECT GROUP_CONCAT(nickname) FROM feed_like_nickname WHERE feed_id > {deleted}"), "lee".to_owned()),
        (format!("SELECT SHA2(image, 256) FROM feed_image WHERE feed_id > {deleted}"), hex::encode(<sha2::Sha256 as sha2::Digest>::digest(sosohappy_fleet::demo::picture(2)))),
    ] {
        assert_eq!(legacy.text(&query, false).await, wanted, "{query}");
    }
    assert_ne!(taken_back, stranger);
    // Encoded anew here, an unchanged photo stays as it was uploaded there.
    let kept = "SELECT SHA2(profile_img, 256) FROM `user` WHERE nickname = 'lee'";
    let uploaded = <sha2::Sha256 as sha2::Digest>::digest(super::legacy::photo());
    assert_eq!(legacy.text(kept, true).await, hex::encode(uploaded));

    let again = target.export(&arguments);
    assert_eq!(outcomes(&again, "user"), [0, 0, 0], "{again}");
    assert_eq!(outcomes(&again, "feed"), [0, 0, 0], "{again}");
    let back = target.import(&arguments);
    assert_eq!(outcomes(&back, "user"), [0, 0, 0], "{back}");
    assert_eq!(outcomes(&back, "feed"), [0, 0, 0], "{back}");
}

/// Nothing in the legacy databases hides a picture: anybody sees a profile's, and finds a post's by its number.
async fn hidden_pictures_are_not_exported(bed: Bed) {
    let legacy = Legacy::new().await;
    let target = Target::of(&bed).await;
    let kim = legacy.user("kim@example.com+apple", "kim").await;
    legacy.set(kim, "profile_img", super::legacy::photo()).await;
    legacy.set(kim, "introduction", "hello").await;
    legacy.user("lee@example.com+kakao", "lee").await;
    let post = legacy.post("kim", 2_023_090_513_248_392, 4).await;
    legacy.image(post, &picture(1, 300)).await;
    let urls = ["auth", "feed"].map(|service| legacy.url(service));
    let arguments = ["--auth", urls[0].as_str(), "--feed", urls[1].as_str()];
    target.import(&arguments);
    let shown = async || {
        let profile = "SELECT CONCAT(introduction, ' ', profile_img IS NOT NULL) FROM `user` WHERE nickname = 'kim'";
        let post = "SELECT CONCAT(is_public + 0, ' ', text, ' ', (SELECT COUNT(*) FROM feed_image)) FROM feed";
        (legacy.text(profile, true).await, legacy.text(post, false).await)
    };
    let open = ("hello 1".to_owned(), "1 a day 1".to_owned());
    let hidden = (" 0".to_owned(), "0 a day 0".to_owned());
    assert_eq!(shown().await, open);

    for (service, statement) in [
        (
            "auth",
            "INSERT INTO hidden_profile (account, hidden_at) SELECT account, 1 FROM account WHERE nickname = 'kim'",
        ),
        (
            "feed",
            "INSERT INTO post_moderation (post_id, hidden, changed_at, images_renewed) SELECT id, 1, 1, 1 FROM post",
        ),
    ] {
        assert_eq!(bed.sql(service, statement).await, 1, "{statement}");
    }
    target.export(&arguments);
    assert_eq!(shown().await, hidden);
    let again = target.export(&arguments);
    assert_eq!(
        ["user", "feed"].map(|table| count(&again, table, "updated")),
        [0, 0],
        "{again}"
    );

    // A row that changes meanwhile does not take away what is hidden here.
    legacy.set(kim, "introduction", "changed there").await;
    target.import(&arguments);

    // The next export after the decision was taken back writes them again.
    for (service, statement) in [
        ("auth", "DELETE FROM hidden_profile"),
        ("feed", "UPDATE post_moderation SET hidden = 0, changed_at = 2"),
    ] {
        assert_eq!(bed.sql(service, statement).await, 1, "{statement}");
    }
    target.export(&arguments);
    assert_eq!(shown().await, open);
    let back = target.import(&arguments);
    assert_eq!(
        ["user", "feed"].map(|table| count(&back, table, "updated")),
        [0, 0],
        "{back}"
    );

    // Who deletes a hidden post there, deletes it here.
    let hide = "UPDATE post_moderation SET hidden = 1, changed_at = 3";
    assert_eq!(bed.sql("feed", hide).await, 1);
    target.export(&arguments);
    for table in ["feed_image", "feed_category", "feed_like_nickname", "feed"] {
        legacy.run(format!("DELETE FROM {table}")).await;
    }
    legacy.post("lee", 2_023_090_513_248_392, 4).await;
    let gone = target.import(&arguments);
    assert_eq!(count(&gone, "feed", "deleted"), 1, "{gone}");
}

/// The rows of a page share statements: those of new and changed accounts, and those of new posts.
async fn an_export_takes_as_many_statements_for_twenty_rows_as_for_two(bed: Bed) {
    const PEOPLE: usize = 40;
    let legacy = Legacy::new().await;
    let target = Target::of(&bed).await;
    for number in 0..PEOPLE {
        let nickname = format!("person{number}");
        legacy.user(&format!("{nickname}@example.com+kakao"), &nickname).await;
        legacy.post(&nickname, 2_023_090_513_248_392, 4).await;
    }
    let urls = ["auth", "feed"].map(|service| legacy.url(service));
    target.import(&["--auth", &urls[0], "--feed", &urls[1]]);

    let server = CountedServer::start().await;
    let urls = urls.map(|url| server.url(&url));
    let arguments = ["--auth", urls[0].as_str(), "--feed", urls[1].as_str()];
    let mut statements = Vec::new();
    for rows in [2, 20] {
        legacy
            .run_at_auth(&format!("DELETE FROM `user` ORDER BY user_id LIMIT {rows}"))
            .await;
        legacy
            .run_at_auth(&format!(
                "UPDATE `user` SET introduction = 'theirs' ORDER BY user_id DESC LIMIT {rows}"
            ))
            .await;
        legacy
            .run(format!("DELETE FROM feed ORDER BY feed_id LIMIT {rows}"))
            .await;
        let told = tokio::task::block_in_place(|| target.export(&arguments));
        let counts = [
            count(&told, "user", "created"),
            count(&told, "user", "updated"),
            count(&told, "feed", "created"),
        ];
        assert_eq!(counts, [rows; 3], "{told}");
        statements.push(server.take());
    }
    println!("{statements:?} statements on {:?}", bed.set);
    assert!(statements[0] > 0 && statements[0] == statements[1], "{statements:?}");
    let addresses = "SELECT CAST(COUNT(DISTINCT email) AS CHAR) FROM `user`";
    assert_eq!(legacy.text(addresses, true).await, PEOPLE.to_string());
    assert_eq!(
        legacy.text("SELECT CAST(COUNT(*) AS CHAR) FROM `user`", true).await,
        PEOPLE.to_string()
    );
}

/// Spring deletes a row between the read and the write of the export.
async fn a_row_that_is_deleted_while_it_is_exported_is_not_made_anew(bed: Bed) {
    let legacy = Legacy::new().await;
    let target = Target::of(&bed).await;
    let kim = legacy.user("kim@example.com+kakao", "kim").await;
    legacy.user("lee@example.com+kakao", "lee").await;
    let url = legacy.url("auth");
    let arguments = ["--auth", url.as_str()];
    target.import(&arguments);
    legacy.run_at_auth("UPDATE `user` SET introduction = 'theirs'").await;
    let mut deleting = legacy.auth.begin().await.expect("a transaction");
    let delete = sqlx::query("DELETE FROM `user` WHERE user_id = ?").bind(kim);
    delete.execute(&mut *deleting).await.expect("deleted");
    let mut command = target.export_command(&arguments);
    let exporting = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let exporting = exporting.expect("the binary runs");
    // It cannot end before the deletion has.
    let waiting = "SELECT CAST(COUNT(*) AS CHAR) FROM information_schema.processlist \
        WHERE db = DATABASE() AND info LIKE '%FOR UPDATE' AND id <> CONNECTION_ID()";
    eventually("the export waits for the row", async || {
        (legacy.text(waiting, true).await == "1").then_some(())
    })
    .await;
    deleting.commit().await.expect("committed");
    let output = tokio::task::block_in_place(|| exporting.wait_with_output());
    let told = printed(&output.expect("it ends"));
    assert_eq!(count(&told, "user", "gone"), 1, "{told}");
    assert_eq!(count(&told, "user", "updated"), 1, "{told}");
    let left = legacy.text("SELECT GROUP_CONCAT(nickname) FROM `user`", true).await;
    assert_eq!(left, "lee");
    assert!(
        target.report().iter().any(|(row, _, _)| *row == format!("user {kim}")),
        "{:?}",
        target.report()
    );
}

on_both_targets!(
    a_row_that_is_deleted_while_it_is_exported_is_not_made_anew,
    an_export_takes_as_many_statements_for_twenty_rows_as_for_two,
    hidden_pictures_are_not_exported,
    writes_of_this_fleet_are_exported,
);
