use reqwest::StatusCode;
use serde_json::{Value, json};
use sosohappy_testkit::{Bed, eventually, on_both_engines};

use super::{DATE, Dm, message, multipart, read, two};

on_both_engines!(
    history_is_paged_backwards_and_read_from_any_form,
    the_newest_message_of_each_conversation,
    conversations_are_paged_by_cursor,
    a_phone_that_is_a_year_ahead_hides_no_message,
    present_nicknames_are_shown,
);

fn dates(messages: &Value) -> Vec<i64> {
    messages
        .as_array()
        .unwrap()
        .iter()
        .map(|message| message["date"].as_i64().unwrap() - DATE)
        .collect()
}

async fn history_is_paged_backwards_and_read_from_any_form(bed: Bed) {
    let dm = Dm::start(&bed).await;
    let (kim, lee) = two(&bed).await;
    let mut from = dm.connect(&kim).await;
    for number in 0..25 {
        from.send(message("kim", "lee", DATE + number, "text").to_string())
            .await;
    }
    eventually("all are stored", async || {
        let (_, all) = dm
            .post(
                &kim,
                "findDirectMessage",
                &[("sender", "kim"), ("receiver", "lee"), ("messageCnt", "100")],
            )
            .await;
        (dates(&all).len() == 25).then_some(())
    })
    .await;
    assert_eq!(
        dates(&dm.history(&lee, "kim").await),
        (5..25).collect::<Vec<_>>(),
        "20 unless asked for more"
    );

    let boundary = (DATE + 5).to_string();
    let fields = [
        ("sender", "lee".to_owned()),
        ("receiver", "kim".to_owned()),
        ("timeBoundary", boundary.clone()),
        ("messageCnt", "3".to_owned()),
    ];
    let url = dm.at("findDirectMessage");
    let expected = json!([
        message("kim", "lee", DATE + 2, "text"),
        message("kim", "lee", DATE + 3, "text"),
        message("kim", "lee", DATE + 4, "text"),
    ]);
    for request in [
        dm.client.post(&url).form(&fields),
        dm.client.post(&url).query(&fields),
        dm.client.post(&url).multipart(multipart(&fields)),
        dm.client
            .post(&url)
            .json(&json!({ "sender": "lee", "receiver": "kim", "timeBoundary": DATE + 5, "messageCnt": 3 })),
    ] {
        assert_eq!(read(lee.sign(request)).await, (StatusCode::OK, expected.clone()));
    }

    // An empty parameter is absent.
    let fields = [
        ("sender", "lee".to_owned()),
        ("receiver", "kim".to_owned()),
        ("timeBoundary", String::new()),
        ("messageCnt", String::new()),
    ];
    for request in [
        dm.client.post(&url).form(&fields),
        dm.client.post(&url).query(&fields),
        dm.client.post(&url).multipart(multipart(&fields)),
        dm.client
            .post(&url)
            .json(&json!({ "sender": "lee", "receiver": "kim", "timeBoundary": null, "messageCnt": null })),
    ] {
        let (status, messages) = read(lee.sign(request)).await;
        assert_eq!(status, StatusCode::OK, "{messages}");
        assert_eq!(dates(&messages), (5..25).collect::<Vec<_>>());
    }

    for count in ["0", "501", "-1", "many"] {
        let params = [("sender", "lee"), ("receiver", "kim"), ("messageCnt", count)];
        let (status, problem) = dm.post(&lee, "findDirectMessage", &params).await;
        assert_eq!(
            (status, &problem["code"]),
            (StatusCode::BAD_REQUEST, &json!("invalid-parameter")),
            "{count}"
        );
    }
    let (status, nothing) = dm
        .post(&kim, "findDirectMessage", &[("sender", "kim"), ("receiver", "nobody")])
        .await;
    assert_eq!((status, nothing), (StatusCode::OK, json!([])));
}

async fn the_newest_message_of_each_conversation(bed: Bed) {
    let dm = Dm::start(&bed).await;
    let (kim, lee) = two(&bed).await;
    let park = bed.person("park@example.com+google", "park").await;
    let (mut from_kim, mut from_park) = (dm.connect(&kim).await, dm.connect(&park).await);
    from_kim.send(message("kim", "lee", DATE, "first").to_string()).await;
    from_kim
        .send(message("kim", "lee", DATE + 1, "second").to_string())
        .await;
    let second = json!([message("kim", "lee", DATE + 1, "second")]);
    eventually("the first conversation is stored", async || {
        (dm.newest(&kim).await == second).then_some(())
    })
    .await;
    assert!(dm.newest(&park).await.as_array().unwrap().is_empty());
    from_park
        .send(message("park", "kim", DATE + 2, "third").to_string())
        .await;
    let expected = json!([
        message("park", "kim", DATE + 2, "third"),
        message("kim", "lee", DATE + 1, "second")
    ]);
    eventually("all are stored", async || {
        (dm.newest(&kim).await == expected).then_some(())
    })
    .await;
    assert_eq!(
        dm.newest(&lee).await,
        json!([message("kim", "lee", DATE + 1, "second")])
    );
}

/// Case E7.
async fn conversations_are_paged_by_cursor(bed: Bed) {
    let dm = Dm::start(&bed).await;
    let (kim, _) = two(&bed).await;
    let mut from = dm.connect(&kim).await;
    let mut expected = Vec::new();
    for number in 0..5 {
        let name = format!("p{number}");
        bed.person(&format!("{name}@example.com+kakao"), &name).await;
        let text = message("kim", &name, DATE + number, "hello");
        from.send(text.to_string()).await;
        expected.insert(0, text);
    }
    eventually("all are stored", async || {
        (dm.newest(&kim).await == json!(expected)).then_some(())
    })
    .await;
    let (mut read, mut cursor) = (Vec::new(), "start".to_owned());
    loop {
        let params = [("sender", "kim"), ("cursor", &cursor), ("size", "2")];
        let (status, page) = dm.post(&kim, "findMultipleDirectMessage", &params).await;
        assert_eq!(status, StatusCode::OK, "{page}");
        read.extend(page["content"].as_array().unwrap().iter().cloned());
        match &page["nextCursor"] {
            Value::String(next) => next.clone_into(&mut cursor),
            next => {
                assert_eq!(*next, Value::Null);
                break;
            }
        }
    }
    assert_eq!(read, expected);
    for (cursor, size) in [("elsewhere", "2"), ("start", "0"), ("start", "1001")] {
        let params = [("sender", "kim"), ("cursor", cursor), ("size", size)];
        let (status, problem) = dm.post(&kim, "findMultipleDirectMessage", &params).await;
        assert_eq!(
            (status, &problem["code"]),
            (StatusCode::BAD_REQUEST, &json!("invalid-parameter")),
            "{cursor} {size}"
        );
    }
}

async fn a_phone_that_is_a_year_ahead_hides_no_message(bed: Bed) {
    let dm = Dm::start(&bed).await;
    let (kim, lee) = two(&bed).await;
    let (mut of_kim, mut of_lee) = (dm.connect(&kim).await, dm.connect(&lee).await);
    let ahead = DATE + 10_000_000_000_000;
    of_kim.send(message("kim", "lee", ahead, "question").to_string()).await;
    assert_eq!(of_lee.json().await["text"], "question");
    of_lee.send(message("lee", "kim", DATE, "answer").to_string()).await;
    assert_eq!(of_kim.json().await["text"], "answer");

    let texts = |messages: &Value| -> Vec<String> {
        let texts = messages.as_array().unwrap().iter();
        texts
            .map(|message| message["text"].as_str().unwrap().to_owned())
            .collect()
    };
    let both = ["question".to_owned(), "answer".to_owned()];
    assert_eq!(texts(&dm.history(&lee, "kim").await), both);
    assert_eq!(texts(&dm.newest(&kim).await), both[1..]);
    // A client that asks for everything from before now means the newest messages.
    let now = "2999010100000000";
    let params = [("sender", "lee"), ("receiver", "kim"), ("timeBoundary", now)];
    let (_, newest) = dm.post(&lee, "findDirectMessage", &params).await;
    assert_eq!(texts(&newest), both);
    let boundary = DATE.to_string();
    let params = [("sender", "lee"), ("receiver", "kim"), ("timeBoundary", &*boundary)];
    let (_, before) = dm.post(&lee, "findDirectMessage", &params).await;
    assert_eq!(texts(&before), both[..1]);
}

async fn present_nicknames_are_shown(bed: Bed) {
    let dm = Dm::start(&bed).await;
    let (kim, mut lee) = two(&bed).await;
    let mut from = dm.connect(&kim).await;
    from.send(message("kim", "lee", DATE, "hello").to_string()).await;
    eventually("it is stored", async || {
        (dm.newest(&kim).await.as_array()?.len() == 1).then_some(())
    })
    .await;
    bed.rename(&lee.account, "달이").await;
    "달이".clone_into(&mut lee.nickname);
    let renamed = json!([message("kim", "달이", DATE, "hello")]);
    eventually("the new name is shown", async || {
        (dm.newest(&kim).await == renamed).then_some(())
    })
    .await;
    assert_eq!(dm.history(&kim, "달이").await, renamed);
    assert_eq!(dm.history(&lee, "kim").await, renamed);
    // Under the new name at once, too.
    let mut to = dm.connect(&lee).await;
    from.send(message("kim", "달이", DATE + 1, "again").to_string()).await;
    // A socket may be shown what was stored up to a quarter of a second before it was opened.
    let mut shown = to.json().await;
    if shown["text"] == "hello" {
        shown = to.json().await;
    }
    assert_eq!(shown, message("kim", "달이", DATE + 1, "again"));
}
