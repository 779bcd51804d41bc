//! Some rows are compared through the APIs of both fleets during an import.

use std::process::Output;

use mongodb::bson::{Document, doc};
use sosohappy_bus::Start;
use sosohappy_common::clock::{Clock as _, SystemClock};
use sosohappy_testkit::spring::{SpringAuth, SpringDm, SpringFeed};
use sosohappy_testkit::{Bed, EngineSet, Person, Running, eventually};

use super::legacy::{Legacy, SECRET, Target, count, picture, token};
use super::messages::{Collected, message};
use super::moving::publish_raw;

const KIM: &str = "kim@example.com+kakao";

/// Fills the legacy databases, and returns the id of the post with everything.
async fn fill(legacy: &Legacy, messages: &Collected, exp: i64) -> i64 {
    let kim = legacy.user(KIM, "kim").await;
    legacy.set(kim, "refresh_token", token("RefreshToken", KIM, exp)).await;
    let lee = legacy.user("lee@example.com+kakao", "lee").await;
    legacy.set(lee, "introduction", "안녕").await;
    // Not compared: the legacy auth may show either.
    legacy.user("one@example.com+kakao", "twin").await;
    legacy.user("two@example.com+kakao", "twin").await;
    let mut posts = Vec::new();
    for day in 1..=60 {
        let date = (20_230_100 + day / 30 * 100 + day % 30 + 1) * 100_000_000 + 12_000_000;
        posts.push(legacy.post("lee", date, 3).await);
    }
    let whole = posts[0];
    legacy
        .run(format!(
            "INSERT INTO feed_category (category, feed_id) VALUES ('sea', {whole}), ('coffee', {whole})"
        ))
        .await;
    legacy.image(whole, &picture(1, 300)).await;
    legacy.like(whole, "kim").await;
    // Not compared: the legacy feed shows what is not imported.
    legacy.like(posts[1], "stranger").await;
    legacy
        .run(format!("UPDATE feed SET text = NULL WHERE feed_id = {}", posts[2]))
        .await;
    for (sender, receiver, date) in [("kim", "lee", 1), ("lee", "kim", 2), ("kim", "twin", 3)] {
        let message = message(sender, receiver, 2_023_090_513_000_000 + date, "hello");
        messages.add(message).await;
    }
    whole
}

/// The services of both fleets on what was imported.
struct Fleets {
    spring: (SpringAuth, SpringFeed, SpringDm),
    ours: [Running; 3],
}

impl Fleets {
    async fn start(bed: &Bed, urls: [&str; 3]) -> Self {
        let spring = (
            SpringAuth::start_with_secret(&bed.bus, urls[0], SECRET).await,
            SpringFeed::start(&bed.bus, urls[1], Start::Earliest).await,
            SpringDm::start(&bed.bus, urls[2], Start::Earliest).await,
        );
        let more = [("tokens.legacy-key", SECRET), ("fleet.spring", "dm,notice")];
        let settings = bed.settings("auth", sosohappy_auth::DEFAULTS, &more).await;
        let auth = sosohappy_auth::build(settings, bed.context(sosohappy_auth::SERVICE), bed.bus.clone()).await;
        let settings = bed.settings("feed", sosohappy_feed::DEFAULTS, &more[1..]).await;
        let feed = sosohappy_feed::build(settings, bed.context(sosohappy_feed::SERVICE), bed.bus.clone()).await;
        let settings = bed.settings("dm", sosohappy_dm::DEFAULTS, &more[1..]).await;
        let dm = sosohappy_dm::build(settings, bed.context(sosohappy_dm::SERVICE), bed.bus.clone()).await;
        Self {
            spring,
            ours: [bed.start(auth).await, bed.start(feed).await, bed.start(dm).await],
        }
    }

    /// Waits until every service that learns tokens from the topic knows the viewer's.
    async fn know(&self, viewer: &Person) {
        for (url, path) in [
            (self.spring.1.url(), "/feed-service/findOtherFeed?nickname=kim"),
            (self.spring.2.url(), "/dm-service/findMultipleDirectMessage?sender=kim"),
            (&self.ours[1].url, "/feed-service/findOtherFeed?nickname=kim"),
            (&self.ours[2].url, "/dm-service/findMultipleDirectMessage?sender=kim"),
        ] {
            eventually("the token is known", async || {
                let client = sosohappy_common::tls::client();
                let ask = if path.starts_with("/dm-service") {
                    client.post(format!("{url}{path}"))
                } else {
                    client.get(format!("{url}{path}"))
                };
                let answer = viewer.sign(ask).send().await.ok()?;
                answer.status().is_success().then_some(())
            })
            .await;
        }
    }

    /// Arguments that name all of them.
    fn arguments(&self, token: &str) -> Vec<String> {
        let spring = [self.spring.0.url(), self.spring.1.url(), self.spring.2.url()];
        let services = ["auth", "feed", "dm"].into_iter().zip(spring).zip(&self.ours);
        let addresses = services.flat_map(|((service, spring), ours)| {
            let ours = format!("{service}={}", ours.url);
            [
                "--spring".to_owned(),
                format!("{service}={spring}"),
                "--ours".to_owned(),
                ours,
            ]
        });
        let viewer = ["--as", KIM, "--token", token].map(str::to_owned);
        addresses.chain(viewer).collect()
    }
}

fn texts(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_are_compared_through_both_apis() {
    if !EngineSet::real_is_there() {
        return;
    }
    let bed = Bed::new(EngineSet::Real).await;
    let (legacy, target) = (Legacy::new().await, Target::of(&bed).await);
    let messages = Collected::of(&legacy).await;
    let exp = SystemClock.now().as_second() + 3600;
    let whole = fill(&legacy, &messages, exp).await;
    let (auth, feed) = (legacy.url("auth"), legacy.url("feed"));
    let import = ["--auth", &auth, "--feed", &feed, "--messages", &messages.url];
    target.import(&import);

    let fleets = Fleets::start(&bed, [&auth, &feed, &messages.url]).await;
    // An access token of the legacy auth, which both fleets accept.
    let viewer = Person {
        token: token("AccessToken", KIM, exp),
        ..bed.person(KIM, "kim").await
    };
    bed.person("lee@example.com+kakao", "lee").await;
    publish_raw(&bed, &viewer).await;
    fleets.know(&viewer).await;
    let run = |token: &str| {
        let compared = fleets.arguments(token);
        let compared = compared.iter().map(String::as_str);
        let arguments: Vec<&str> = import.into_iter().chain(compared).collect();
        tokio::task::block_in_place(|| target.command(&arguments).output()).expect("the binary runs")
    };
    let equal = run(&viewer.token);
    let (summary, error) = texts(&equal);
    assert!(equal.status.success(), "{summary}{error}");
    let counts =
        ["findIntroduction", "findDetailFeed", "findDirectMessage"].map(|route| count(&summary, route, "equal"));
    assert_eq!(counts, [2, 50, 2], "{summary}");

    // No other check sees these: the legacy rows are unchanged.
    bed.sql("feed", "UPDATE post SET weather = 'rainy'").await;
    bed.sql("auth", "UPDATE account SET introduction = 'another'").await;
    let ours = mongodb::Client::with_uri_str(bed.mongodb_url("dm"))
        .await
        .expect("it connects");
    let ours = ours
        .default_database()
        .expect("a database")
        .collection::<Document>("message");
    let changed = ours.update_many(doc! {}, doc! { "$set": { "text": "bye" } }).await;
    assert_eq!(changed.expect("changed").modified_count, 2);
    let different = run(&viewer.token);
    let (summary, error) = texts(&different);
    assert!(!different.status.success(), "{summary}");
    assert!(error.contains("the fleets answer differently for 54 rows"), "{error}");
    let report = target.report();
    for (table, column, rows) in [
        ("findIntroduction", "body.introduction", 2),
        ("findDetailFeed", "body.weather", 50),
        ("findDirectMessage", "body[0].text", 2),
    ] {
        let found = report.iter().filter(|(row, field, outcome)| {
            row.starts_with(&format!("{table} "))
                && field == column
                && outcome == "different: the fleets answer differently"
        });
        assert_eq!(found.count(), rows, "{table}: {report:#?}");
        assert_eq!(count(&summary, table, "different"), rows as u64, "{summary}");
    }
    assert!(report.iter().any(|(row, ..)| *row == format!("findDetailFeed {whole}")));

    // Refusals of both fleets are equal, and say nothing about a row.
    let refused = run("refused");
    assert!(!refused.status.success());
    let (_, error) = texts(&refused);
    assert!(error.contains("the legacy fleet answered 403"), "{error}");
    messages.messages.drop().await.expect("dropped");
}
