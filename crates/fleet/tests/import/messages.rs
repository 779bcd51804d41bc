use std::time::Duration;

use futures::TryStreamExt as _;
use mongodb::bson::oid::ObjectId;
use mongodb::bson::{Document, doc};
use mongodb::{Client, Collection};
use serde_json::{Value, json};
use sosohappy_bus::Start;
use sosohappy_testkit::spring::SpringDm;
use sosohappy_testkit::{Bed, Person, Running, Socket, eventually};

use super::legacy::{Legacy, Target, count};
use super::moving::publish_raw;

/// The legacy collection of one test; it is dropped at its end.
pub struct Collected {
    pub url: String,
    pub messages: Collection<Document>,
}

impl Collected {
    /// In a database that is named as those of `legacy`.
    pub async fn of(legacy: &Legacy) -> Self {
        let server = std::env::var("SOSOHAPPY_TEST_MONGODB").expect("the engines are there");
        let (base, options) = match server.split_once('?') {
            Some((base, options)) => (base, format!("?{options}")),
            None => (server.as_str(), String::new()),
        };
        let like = legacy.url("dm");
        let (_, name) = like.rsplit_once('/').expect("a path");
        let url = format!("{}/{name}{options}", base.trim_end_matches('/'));
        let client = Client::with_uri_str(&url).await.expect("it connects");
        Self {
            messages: client.database(name).collection("message"),
            url,
        }
    }

    pub async fn add(&self, mut message: Document) -> String {
        let id = ObjectId::new();
        message.insert("_id", id);
        message.insert("_class", "com.sosohappy.dm.Message");
        self.messages.insert_one(message).await.expect("inserted");
        id.to_hex()
    }
}

pub fn message(sender: &str, receiver: &str, date: i64, text: &str) -> Document {
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

    let from = Collected::of(&legacy).await;
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

/// Sends a message, and waits until it is stored: the sender finds it in the history.
async fn send(dm: &Running, sender: &Person, receiver: &str, date: i64, text: &str) {
    let url = dm.at("/dm-service/connect-dm").replace("http://", "ws://");
    let mut socket = Socket::connect(&format!("{url}?nickname={}", sender.nickname), Some(sender))
        .await
        .expect("the socket opens");
    let frame = json!({ "sender": sender.nickname, "receiver": receiver, "date": date, "text": text });
    socket.send(frame.to_string()).await;
    eventually("the message is stored", async || {
        let texts = history(dm, sender, receiver).await;
        texts.iter().any(|found| found == text).then_some(())
    })
    .await;
}

/// The step of dm is undone where the services use a collection each.
async fn messages_written_here_are_exported(bed: Bed) {
    let legacy = Legacy::new().await;
    let target = Target::of(&bed).await;
    for name in ["kim", "lee"] {
        legacy.user(&format!("{name}@example.com+kakao"), name).await;
    }
    let there = Collected::of(&legacy).await;
    there
        .add(message("kim", "lee", 2_023_090_513_000_000, "at Spring"))
        .await;
    let auth = legacy.url("auth");
    let arguments = ["--auth", auth.as_str(), "--messages", there.url.as_str()];
    target.import(&arguments);

    let (kim, lee) = (
        bed.person("kim@example.com+kakao", "kim").await,
        bed.person("lee@example.com+kakao", "lee").await,
    );
    let dm = dm(&bed).await;
    send(&dm, &lee, "kim", 2_023_090_514_000_000, "at ours").await;
    send(&dm, &kim, "lee", 2_023_090_515_000_000, "at ours too").await;
    dm.stop().await;

    let back = ["--messages", there.url.as_str()];
    let dry = target.export(&[&back[..], &["--dry-run"]].concat());
    assert_eq!(count(&dry, "message", "created"), 2, "{dry}");
    assert_eq!(there.messages.count_documents(doc! {}).await.expect("a count"), 1);
    let first = target.export(&back);
    assert_eq!(count(&first, "message", "created"), 2, "{first}");
    let again = target.export(&back);
    let counts = ["unchanged", "created"].map(|outcome| count(&again, "message", outcome));
    assert_eq!(counts, [2, 0], "{again}");

    // Spring serves again: everything is there once, and it goes on.
    let spring = SpringDm::start(&bed.bus, &there.url, Start::Earliest).await;
    publish_raw(&bed, &kim).await;
    let ask = [
        ("sender", "kim"),
        ("receiver", "lee"),
        ("timeBoundary", "9999999999999999"),
        ("messageCnt", "50"),
    ];
    let shown = eventually("Spring knows the token", async || {
        let request = sosohappy_common::tls::client().post(format!("{}/dm-service/findDirectMessage", spring.url()));
        let answer = kim.sign(request).form(&ask).send().await.ok()?;
        answer.error_for_status().ok()?.json::<Vec<Value>>().await.ok()
    })
    .await;
    let shown: Vec<_> = shown
        .iter()
        .map(|message| (&message["sender"], &message["text"]))
        .collect();
    let (kim_there, lee_there) = (json!("kim"), json!("lee"));
    let wanted = [json!("at Spring"), json!("at ours"), json!("at ours too")];
    assert_eq!(
        shown,
        [
            (&kim_there, &wanted[0]),
            (&lee_there, &wanted[1]),
            (&kim_there, &wanted[2])
        ]
    );
    drop(spring);

    // The next step forward takes none of them twice. Spring's messages stand at the second that their ids name: this one is in a later second
    // than ours.
    tokio::time::sleep(Duration::from_secs(1)).await;
    there
        .add(message("lee", "kim", 2_023_090_516_000_000, "at Spring again"))
        .await;
    let forward = target.import(&arguments);
    let counts = ["created", "unchanged", "ours"].map(|outcome| count(&forward, "message", outcome));
    assert_eq!(counts, [1, 1, 2], "{forward}");
    let dm = self::dm(&bed).await;
    assert_eq!(
        history(&dm, &kim, "lee").await,
        ["at Spring", "at ours", "at ours too", "at Spring again"]
    );
    there.messages.drop().await.expect("dropped");
}

/// Calls dm for a person, and returns the answer.
async fn call(dm: &Running, person: &Person, route: &str, form: &[(&str, &str)]) -> Value {
    let request = sosohappy_common::tls::client().post(dm.at(&format!("/dm-service/{route}")));
    let answer = person.sign(request).form(form).send().await.expect("dm answers");
    let answer = answer.error_for_status().expect("it is done");
    answer.json().await.expect("JSON")
}

/// Returns the id of the person's message that has this word.
async fn id_of(dm: &Running, person: &Person, word: &str) -> String {
    let request = sosohappy_common::tls::client().get(dm.at("/dm-service/searchMessages"));
    let answer = person.sign(request).query(&[("text", word)]).send().await;
    let found: Value = answer.expect("dm answers").json().await.expect("JSON");
    found["content"][0]["id"].as_str().expect("it is found").to_owned()
}

/// What was edited or retracted here is not read at Spring any more.
async fn messages_changed_here_are_changed_there(bed: Bed) {
    let legacy = Legacy::new().await;
    let target = Target::of(&bed).await;
    for name in ["kim", "lee"] {
        legacy.user(&format!("{name}@example.com+kakao"), name).await;
    }
    let there = Collected::of(&legacy).await;
    let spring = there
        .add(message("kim", "lee", 2_023_090_513_000_000, "secret at Spring"))
        .await;
    there
        .add(message("lee", "kim", 2_023_090_513_000_001, "kept at Spring"))
        .await;
    let auth = legacy.url("auth");
    let arguments = ["--auth", auth.as_str(), "--messages", there.url.as_str()];
    target.import(&arguments);

    let (kim, lee) = (
        bed.person("kim@example.com+kakao", "kim").await,
        bed.person("lee@example.com+kakao", "lee").await,
    );
    let dm = dm(&bed).await;
    for (date, text) in [
        (2_023_090_514_000_000, "retracted here"),
        (2_023_090_515_000_000, "edited here"),
        (2_023_090_516_000_000, "kept here"),
    ] {
        send(&dm, &lee, "kim", date, text).await;
    }
    dm.stop().await;
    let back = ["--messages", there.url.as_str()];
    let first = target.export(&back);
    let counts = ["created", "updated"].map(|outcome| count(&first, "message", outcome));
    assert_eq!(counts, [3, 0], "{first}");

    let dm = self::dm(&bed).await;
    let changed = json!(true);
    let retracted = id_of(&dm, &lee, "retracted").await;
    for (person, id) in [(&kim, spring.as_str()), (&lee, retracted.as_str())] {
        assert_eq!(
            call(&dm, person, "cancelMessage", &[("id", id)]).await["changed"],
            changed
        );
    }
    let edited = id_of(&dm, &lee, "edited").await;
    let form = [("id", edited.as_str()), ("text", "in other words")];
    assert_eq!(call(&dm, &lee, "editMessage", &form).await["changed"], changed);
    dm.stop().await;

    let texts = async || {
        let found: Vec<Document> = there
            .messages
            .find(doc! {})
            .sort(doc! { "date": 1 })
            .await
            .expect("found")
            .try_collect()
            .await
            .expect("read");
        let texts = found
            .iter()
            .map(|message| message.get_str("text").expect("a text").to_owned());
        texts.collect::<Vec<_>>()
    };
    let before = texts().await;
    let dry = target.export(&[&back[..], &["--dry-run"]].concat());
    assert_eq!(count(&dry, "message", "updated"), 3, "{dry}");
    assert_eq!(texts().await, before);
    let second = target.export(&back);
    let counts = ["created", "updated", "unchanged"].map(|outcome| count(&second, "message", outcome));
    assert_eq!(counts, [0, 3, 1], "{second}");
    assert_eq!(texts().await, ["", "kept at Spring", "", "in other words", "kept here"]);
    let again = target.export(&back);
    assert_eq!(count(&again, "message", "updated"), 0, "{again}");

    let forward = target.import(&arguments);
    let counts = ["created", "unchanged", "ours"].map(|outcome| count(&forward, "message", outcome));
    assert_eq!(counts, [0, 2, 3], "{forward}");
    there.messages.drop().await.expect("dropped");
}

on_both_targets!(
    messages_of_another_collection_are_taken_over,
    messages_written_here_are_exported,
    messages_changed_here_are_changed_there
);
