use mongodb::bson::oid::ObjectId;
use mongodb::bson::{Document, doc};
use mongodb::{Client, Collection};
use serde_json::Value;
use sosohappy_testkit::{Bed, Person, Running};

use super::legacy::{Legacy, Target, count};

/// The legacy collection of one test; it is dropped at its end.
struct Collected {
    url: String,
    messages: Collection<Document>,
}

impl Collected {
    async fn new(name: &str) -> Self {
        let server = std::env::var("SOSOHAPPY_TEST_MONGODB").expect("the engines are there");
        let (base, options) = server.split_once("/?").expect("a URL without a database");
        let url = format!("{base}/{name}?{options}");
        let client = Client::with_uri_str(&url).await.expect("it connects");
        Self {
            messages: client.database(name).collection("message"),
            url,
        }
    }

    async fn add(&self, mut message: Document) -> String {
        let id = ObjectId::new();
        message.insert("_id", id);
        message.insert("_class", "com.sosohappy.dm.Message");
        self.messages.insert_one(message).await.expect("inserted");
        id.to_hex()
    }
}

fn message(sender: &str, receiver: &str, date: i64, text: &str) -> Document {
    let mut room = [sender, receiver];
    room.sort_unstable();
    doc! { "messageRoomId": room.join(","), "sender": sender, "receiver": receiver, "date": date, "text": text }
}

async fn dm(bed: &Bed) -> Running {
    let settings = bed.settings("dm", sosohappy_dm::DEFAULTS, &[]).await;
    let built = sosohappy_dm::build(settings, bed.context(sosohappy_dm::SERVICE), bed.bus.clone()).await;
    bed.start(built).await
}

async fn history(dm: &Running, person: &Person, other: &str) -> Vec<String> {
    let request = sosohappy_common::tls::client().post(dm.at("/dm-service/findDirectMessage"));
    let form = [
        ("sender", person.nickname.as_str()),
        ("receiver", other),
        ("timeBoundary", "9999999999999999"),
        ("messageCnt", "50"),
    ];
    let response = person.sign(request).form(&form).send().await.expect("dm answers");
    let body: Value = serde_json::from_slice(&response.bytes().await.expect("a body")).expect("JSON");
    let texts = body.as_array().unwrap_or_else(|| panic!("no list: {body}")).iter();
    texts
        .map(|message| message["text"].as_str().expect("a text").to_owned())
        .collect()
}

async fn messages_of_another_collection_are_taken_over(bed: Bed) {
    let legacy = Legacy::new().await;
    let target = Target::of(&bed).await;
    for (name, nickname) in [("kim", "kim"), ("lee", "lee"), ("one", "twin"), ("two", "twin")] {
        legacy.user(&format!("{name}@example.com+kakao"), nickname).await;
    }
    target.import(&["--auth", &legacy.url("auth")]);
    // lee is called moon since; messages keep the names they were written under.
    sqlx::query("UPDATE `user` SET nickname = 'moon' WHERE nickname = 'lee'")
        .execute(&legacy.auth)
        .await
        .expect("renamed");

    let name = legacy.url("dm").rsplit_once('/').expect("a path").1.to_owned();
    let from = Collected::new(&name).await;
    from.add(message("kim", "lee", 2_023_090_513_000_000, "first")).await;
    from.add(message("moon", "kim", 2_023_090_514_000_000, "second")).await;
    let stranger = from.add(message("kim", "nobody", 2_023_090_514_000_000, "third")).await;
    let twin = from.add(message("twin", "kim", 2_023_090_514_000_000, "fourth")).await;
    let no_date = from
        .add(doc! { "sender": "kim", "receiver": "lee", "text": "fifth" })
        .await;
    let early = from.add(message("kim", "lee", 7, "sixth")).await;
    let no_text = from
        .add(doc! { "sender": "kim", "receiver": "lee", "date": 2_023_090_514_000_000_i64 })
        .await;
    let no_name = from
        .add(doc! { "receiver": "lee", "date": 2_023_090_514_000_000_i64, "text": "x" })
        .await;

    let auth_url = legacy.url("auth");
    let arguments = ["--auth", auth_url.as_str(), "--messages", from.url.as_str()];
    let dry = target.import(&[&arguments[..], &["--dry-run"]].concat());
    let first = target.import(&arguments);
    assert_eq!(
        (count(&dry, "message", "created"), count(&first, "message", "created")),
        (1, 2),
        "{dry}{first}"
    );
    let report = target.report();
    for (id, field, reason) in [
        (&stranger, "receiver", "unplaced: no account has this nickname"),
        (
            &twin,
            "sender",
            "unplaced: more than one account has or had this nickname",
        ),
        (&no_date, "date", "unplaced: no integer"),
        (&early, "date", "unplaced: no number of sixteen digits from 2000 on"),
        (&no_text, "text", "unplaced: no text"),
        (&no_name, "sender", "unplaced: no nickname"),
    ] {
        let line = (format!("message {id}"), field.to_owned(), reason.to_owned());
        assert!(report.contains(&line), "{line:?} is not in {report:#?}");
    }
    from.add(message("kim", "moon", 2_023_090_515_000_000, "seventh")).await;
    let second = target.import(&arguments);
    let counts = ["unchanged", "created"].map(|outcome| count(&second, "message", outcome));
    assert_eq!(counts, [2, 1], "{second}");

    let dm = dm(&bed).await;
    let kim = bed.person("kim@example.com+kakao", "kim").await;
    bed.person("lee@example.com+kakao", "moon").await;
    assert_eq!(history(&dm, &kim, "moon").await, ["first", "second", "seventh"]);
    from.messages.drop().await.expect("dropped");
}

on_both_targets!(messages_of_another_collection_are_taken_over);
