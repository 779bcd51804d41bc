//! Search in one's own messages.

use reqwest::StatusCode;
use serde_json::Value;
use sosohappy_testkit::{Bed, Person, on_both_engines};

use super::stream::{frame, open, typed};
use super::{Dm, two};

on_both_engines!(own_messages_are_found_by_words,);

async fn found(dm: &Dm, who: &Person, query: &[(&str, &str)]) -> (Vec<String>, Value) {
    let answer = who
        .sign(dm.client.get(dm.at("searchMessages")).query(query))
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    let body: Value = answer.json().await.unwrap();
    let content = body["content"].as_array().unwrap();
    let texts = content
        .iter()
        .map(|message| message["text"].as_str().unwrap().to_owned());
    (texts.collect(), body["nextCursor"].clone())
}

async fn own_messages_are_found_by_words(bed: Bed) {
    let dm = Dm::start(&bed).await;
    let (kim, lee) = two(&bed).await;
    let park = bed.person("park@example.com+google", "park").await;
    let (mut one, mut other) = (open(&dm, &kim, "").await, open(&dm, &lee, "").await);
    for (from, to, text) in [
        ("kim", "lee", "생일 축하해요"),
        ("lee", "kim", "Happy 생일이라니"),
        ("kim", "kim", "memo: 생일 선물"),
        ("lee", "park", "생일 for park"),
    ] {
        let socket = if from == "kim" { &mut one } else { &mut other };
        socket.send(typed(text, to, text)).await;
        frame(socket, "accepted").await;
    }
    let (texts, next) = found(&dm, &kim, &[("text", "생일")]).await;
    assert_eq!(texts, ["memo: 생일 선물", "Happy 생일이라니", "생일 축하해요"]);
    assert_eq!(next, Value::Null);
    assert_eq!(
        found(&dm, &kim, &[("text", "happy 생일")]).await.0,
        ["Happy 생일이라니"]
    );
    assert_eq!(found(&dm, &park, &[("text", "생일")]).await.0, ["생일 for park"]);
    let (first, next) = found(&dm, &kim, &[("text", "생일"), ("size", "2")]).await;
    let (rest, end) = found(
        &dm,
        &kim,
        &[("text", "생일"), ("size", "2"), ("cursor", next.as_str().unwrap())],
    )
    .await;
    assert_eq!(
        (first.len(), rest.as_slice(), end),
        (2, &["생일 축하해요".to_owned()][..], Value::Null)
    );
    for query in ["", "?text=", "?text=a&size=0", "?text=a&cursor=x"] {
        let (status, body) = dm.get(&kim, &format!("searchMessages{query}")).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{query}: {body}");
    }
}
