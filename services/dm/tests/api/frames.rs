//! Any bytes as frames: an answer or a close code, and nobody else is disturbed.

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};
use sosohappy_testkit::{Bed, on_both_engines};

use super::stream::{frame, open, typed};
use super::{DATE, Dm, message, two};

on_both_engines!(any_frame_is_answered_or_closes_its_socket_alone);

const FRAMES: usize = 300;

/// Texts that are now and then nearly frames.
fn texts() -> impl Strategy<Value = String> {
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
    let second = (topic, value.clone(), value.clone(), data.clone())
        .prop_map(|(topic, id, seq, data)| json!({ "topic": topic, "id": id, "seq": seq, "data": data }).to_string());
    let cut = (second.clone(), any::<prop::sample::Index>()).prop_map(|(text, at)| {
        let ends: Vec<_> = text.char_indices().map(|(at, _)| at).collect();
        text[..ends[at.index(ends.len())]].to_owned()
    });
    prop_oneof![
        4 => second,
        2 => data.prop_map(|data| data.to_string()),
        1 => cut,
        1 => ".{0,200}",
        1 => Just("[".repeat(5_000)),
        1 => Just(format!(r#"{{"topic":"message","id":"{}","data":{{}}}}"#, "i".repeat(10_000))),
    ]
}

async fn any_frame_is_answered_or_closes_its_socket_alone(bed: Bed) {
    let dm = Dm::start_with(&bed, &[("sockets.frames-per-minute", "off")]).await;
    let (kim, lee) = two(&bed).await;
    let park = bed.person("park@example.com+google", "park").await;
    // A conversation of others goes on.
    let (mut one, mut other) = (open(&dm, &kim, "").await, open(&dm, &lee, "").await);
    let mut runner = TestRunner::default();
    for number in 0..FRAMES {
        let text = texts().new_tree(&mut runner).unwrap().current();
        let is_second = number % 2 == 0;
        let mut socket = if is_second {
            open(&dm, &park, "").await
        } else {
            dm.connect(&park).await
        };
        socket.send(text.clone()).await;
        // The next frame is answered, unless the socket was closed for the first.
        let probe = if is_second {
            typed(&format!("probe{number}"), "nobody", "x")
        } else {
            message("park", "nobody", DATE, "x").to_string()
        };
        if socket.try_send(probe).await.is_ok() {
            loop {
                match socket.text_or_code().await {
                    Ok(answer) => {
                        let answer: Value = serde_json::from_str(&answer).expect("answers are JSON");
                        let is_probe =
                            answer["id"] == format!("probe{number}") || answer["error"]["code"] == "receiver-unknown";
                        if is_probe {
                            break;
                        }
                    }
                    Err(code) => {
                        assert!(matches!(code, Some(1007..=1009)), "{code:?} after {text:?}");
                        break;
                    }
                }
            }
        }
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
}
