//! Any bytes as frames: an answer or a close code, and no other client is affected.

use std::collections::HashSet;

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};
use sosohappy_testkit::{Bed, EngineSet, on_both_engines};

use super::stream::{frame, open, typed};
use super::{DATE, Dm, message, two};

on_both_engines!(any_frame_is_answered_or_closes_its_socket_alone);

const FRAMES: usize = 300;

/// On the real engines: what a frame is answered does not depend on them, and those that are taken are stored as all messages are.
const FRAMES_ON_REAL: usize = 100;

/// A frame of a client.
#[derive(Debug, Clone)]
struct Sent {
    frame: String,
    /// The text of the message, of a frame that is taken.
    text: Option<String>,
}

impl Sent {
    /// A frame that may be refused.
    fn any(frame: String) -> Self {
        Self { frame, text: None }
    }

    fn valid(frame: String, text: String) -> Self {
        Self {
            frame,
            text: Some(text),
        }
    }
}

/// A text of a message: visible, and without the character that is refused.
fn texts() -> impl Strategy<Value = String> {
    ".{0,40}".prop_map(|text| format!("v{}", text.replace('\0', "")))
}

/// A message of park's to lee in version 1, with its fields in any order.
fn first() -> impl Strategy<Value = Sent> {
    let date = prop_oneof![Just(json!(DATE)), Just(json!(DATE.to_string()))];
    let fields = (texts(), date).prop_flat_map(|(text, date)| {
        let fields = vec![
            ("sender", json!("park")),
            ("receiver", json!("lee")),
            ("date", date),
            ("text", json!(text)),
            ("messageRoomId", json!("lee,park")),
        ];
        (Just(text), Just(fields).prop_shuffle())
    });
    fields.prop_map(|(text, fields)| {
        let fields: Vec<_> = fields
            .iter()
            .map(|(name, value)| format!("{name:?}: {value}"))
            .collect();
        Sent::valid(format!("{{{}}}", fields.join(", ")), text)
    })
}

/// The same in version 2.
fn second() -> impl Strategy<Value = Sent> {
    let date = prop_oneof![Just(json!(DATE)), Just(json!(null))];
    (any::<u64>(), texts(), date).prop_map(|(id, text, date)| {
        let content = json!({ "receiver": "lee", "text": text, "date": date });
        let frame = json!({ "topic": "message", "id": format!("f{id}"), "data": content });
        Sent::valid(frame.to_string(), text)
    })
}

/// Texts that are now and then nearly frames, of both versions.
fn nearly() -> impl Strategy<Value = Sent> {
    let topic = prop_oneof![
        Just("message".to_owned()),
        Just("read".to_owned()),
        Just("typing".to_owned()),
        Just("ack".to_owned()),
        ".{0,10}",
    ];
    let value = prop_oneof![
        Just(json!(null)),
        Just(json!([])),
        any::<i64>().prop_map(|number| json!(number)),
        any::<f64>().prop_map(|number| json!(number)),
        any::<bool>().prop_map(|it| json!(it)),
        ".{0,40}".prop_map(|text| json!(text)),
        Just(json!("lee")),
        Just(json!("no such room")),
        Just(json!(DATE)),
    ];
    let field = prop::sample::select(vec![
        "receiver", "roomId", "text", "date", "replyTo", "seq", "sender", "more",
    ]);
    let data = prop::collection::vec((field, value.clone()), 0..6).prop_map(|fields| {
        let fields = fields.into_iter().map(|(name, value)| (name.to_owned(), value));
        Value::Object(fields.collect())
    });
    let sender = prop_oneof![4 => Just(json!("park")), 1 => Just(json!("kim")), 1 => value.clone()];
    let first = (sender, value.clone(), value.clone(), value.clone()).prop_map(|(sender, receiver, date, text)| {
        json!({ "sender": sender, "receiver": receiver, "date": date, "text": text }).to_string()
    });
    let second = (topic, value.clone(), value.clone(), data.clone())
        .prop_map(|(topic, id, seq, data)| json!({ "topic": topic, "id": id, "seq": seq, "data": data }).to_string());
    let cut = (prop_oneof![first.clone(), second.clone()], any::<prop::sample::Index>()).prop_map(|(text, at)| {
        let ends: Vec<_> = text.char_indices().map(|(at, _)| at).collect();
        text[..ends[at.index(ends.len())]].to_owned()
    });
    let text = prop_oneof![
        3 => first,
        4 => second,
        2 => data.prop_map(|data| data.to_string()),
        1 => cut,
        1 => ".{0,200}",
        1 => Just("[".repeat(5_000)),
        1 => Just(format!(r#"{{"topic":"message","id":"{}","data":{{}}}}"#, "i".repeat(10_000))),
    ];
    text.prop_map(Sent::any)
}

async fn any_frame_is_answered_or_closes_its_socket_alone(bed: Bed) {
    let dm = Dm::start_with(&bed, &[("sockets.frames-per-minute", "off")]).await;
    let (kim, lee) = two(&bed).await;
    let park = bed.person("park@example.com+google", "park").await;
    // A conversation of others goes on.
    let (mut one, mut other) = (open(&dm, &kim, "").await, open(&dm, &lee, "").await);
    let mut runner = TestRunner::default();
    let [first, second] = [
        prop_oneof![1 => first().boxed(), 3 => nearly().boxed()],
        prop_oneof![1 => second().boxed(), 3 => nearly().boxed()],
    ];
    let mut taken = HashSet::new();
    let count = match bed.set {
        EngineSet::Embedded => FRAMES,
        EngineSet::Real => FRAMES_ON_REAL,
    };
    for number in 0..count {
        let is_second = number % 2 == 0;
        let frames = if is_second { &second } else { &first };
        let sent = frames.new_tree(&mut runner).unwrap().current();
        let mut socket = if is_second {
            open(&dm, &park, "").await
        } else {
            dm.connect(&park).await
        };
        socket.send(sent.frame.clone()).await;
        // The next frame is answered, unless the socket was closed for the first. No other frame has its id, or such a long text.
        let probe = if is_second {
            typed(&format!("probe{number}"), "nobody", "x")
        } else {
            message("park", "lee", DATE, &"x".repeat(4001)).to_string()
        };
        let mut is_closed = socket.try_send(probe).await.is_err();
        while !is_closed {
            match socket.text_or_code().await {
                Ok(answer) => {
                    let answer: Value = serde_json::from_str(&answer).expect("answers are JSON");
                    if answer["id"] == format!("probe{number}") || answer["error"]["code"] == "text-too-long" {
                        break;
                    }
                    let is_refusal =
                        !answer["error"].is_null() || answer["topic"] == "rejected" || answer["topic"] == "error";
                    assert!(!is_refusal || sent.text.is_none(), "{answer} after {sent:?}");
                }
                Err(code) => {
                    assert!(matches!(code, Some(1007..=1009)), "{code:?} after {sent:?}");
                    is_closed = true;
                }
            }
        }
        assert!(!is_closed || sent.text.is_none(), "closed after {sent:?}");
        taken.extend(sent.text);
        if number % 20 == 0 {
            one.send(typed(&format!("n{number}"), "lee", &format!("number {number}")))
                .await;
            assert_eq!(frame(&mut one, "accepted").await["id"], format!("n{number}"));
            loop {
                let shown = frame(&mut other, "message").await;
                if shown["data"]["sender"] == "kim" {
                    assert_eq!(shown["data"]["text"], format!("number {number}"));
                    break;
                }
            }
        }
    }
    let params = [("sender", "lee"), ("receiver", "park"), ("messageCnt", "500")];
    let (_, history) = dm.post(&lee, "findDirectMessage", &params).await;
    let stored = history.as_array().expect("a list").iter();
    let stored: HashSet<_> = stored.filter_map(|message| message["text"].as_str()).collect();
    for text in &taken {
        assert!(stored.contains(text.as_str()), "{text:?}");
    }
    assert!(taken.len() > count / 10, "{} frames were valid", taken.len());
}
