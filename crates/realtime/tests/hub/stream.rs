//! Version 2: numbered frames from the store, acknowledgements, resuming.

use std::time::Duration;

use futures::StreamExt as _;
use sosohappy_common::rate::Rate;
use sosohappy_realtime::Limits;
use tokio_tungstenite::tungstenite::Message;

use crate::support::{Client, Fleet, LARGE, account, limits, numbered, until};

async fn frames(client: &mut Client, numbers: impl IntoIterator<Item = i64>) {
    for seq in numbers {
        assert_eq!(client.text().await, numbered(seq));
    }
}

#[tokio::test]
async fn a_client_gets_what_is_stored_in_order_and_once() {
    let fleet = Fleet::start(limits()).await;
    fleet.notes.stored.lock().extend([4, 5]);
    let mut client = fleet.connect("name=kim&v=2").await;
    // Another account's signal shows nothing; ours shows all that is new, over several pages, the same signal again nothing.
    fleet.notes.stored.lock().extend(6..=13);
    fleet.hub.signal(&account("lee"));
    fleet.hub.signal(&account("kim"));
    frames(&mut client, 6..=13).await;
    fleet.hub.signal(&account("kim"));
    fleet.notes.stored.lock().push(14);
    fleet.hub.signal(&account("kim"));
    frames(&mut client, [14]).await;
    // Frames of version 1 are not for this socket.
    assert_eq!(fleet.hub.send(&account("kim"), "old"), 0);
    client.send("echo {}").await;
    assert_eq!(client.closed().await, 1007, "not a frame of version 2");
}

#[tokio::test]
async fn sockets_of_an_account_share_the_pages_of_a_signal() {
    const SOCKETS: usize = 10;
    let fleet = Fleet::start(Limits {
        per_account: SOCKETS,
        ..limits()
    })
    .await;
    *fleet.notes.page_takes.lock() = Duration::from_millis(50);
    let mut clients = Vec::new();
    for _ in 0..SOCKETS {
        clients.push(fleet.connect("name=kim&v=2").await);
    }
    for seq in 1..=3 {
        let before = *fleet.notes.pages.lock();
        fleet.notes.stored.lock().push(seq);
        fleet.hub.signal(&account("kim"));
        for client in &mut clients {
            frames(client, [seq]).await;
        }
        let pages = *fleet.notes.pages.lock() - before;
        assert_eq!(pages, 1, "of {SOCKETS} sockets");
    }
}

#[tokio::test]
async fn a_frame_that_comes_with_its_signal_is_not_read() {
    let fleet = Fleet::start(limits()).await;
    let (kim, notes) = (account("kim"), fleet.notes.clone());
    let with_frame = |seq: i64| fleet.hub.signal_with(&kim, notes.numbered(seq));
    notes.stored.lock().push(1);
    let mut client = fleet.connect("name=kim&v=2&since=0").await;
    // From here on the socket has no signal of its own.
    frames(&mut client, [1]).await;
    let pages = || *notes.pages.lock();
    for seq in 2..=4 {
        with_frame(seq);
        frames(&mut client, [seq]).await;
    }
    assert_eq!(pages(), 0, "the store has none of them");
    client.send(r#"{"topic":"ack","seq":3}"#).await;
    until("they are shown", || *notes.shown.lock() == [1, 2, 3]).await;

    // Behind one that the socket lacks, and two at once: the store has them in order.
    notes.stored.lock().extend(2..=6);
    with_frame(6);
    frames(&mut client, [5, 6]).await;
    assert_eq!(pages(), 1);
    notes.stored.lock().extend(7..=8);
    with_frame(8);
    with_frame(7);
    frames(&mut client, [7, 8]).await;
    assert_eq!(pages(), 2);
    // The record of a frame that was written is delivered again.
    with_frame(8);
    client.send(r#"{"topic":"ack","seq":8}"#).await;
    until("all are shown", || notes.shown.lock().len() == 8).await;
    with_frame(9);
    frames(&mut client, [9]).await;
    assert_eq!(pages(), 2);
}

#[tokio::test]
async fn frames_are_shown_when_the_client_acknowledged_them() {
    let fleet = Fleet::start(limits()).await;
    fleet.notes.stored.lock().extend(1..=5);
    let mut client = fleet.connect("name=kim&v=2&since=0").await;
    frames(&mut client, 1..=5).await;
    client.send(r#"{"topic":"note","id":"a"}"#).await;
    until("the frame is handled", || fleet.notes.frames.lock().len() == 1).await;
    assert!(
        fleet.notes.shown.lock().is_empty(),
        "a sign of life is no acknowledgement"
    );
    client.send(r#"{"topic":"ack","seq":3}"#).await;
    until("the first three are shown", || *fleet.notes.shown.lock() == [1, 2, 3]).await;
    client.send(r#"{"topic":"ack","id":"b"}"#).await;
    assert_eq!(
        client.text().await,
        r#"{"topic":"error","id":"b","data":{"code":"invalid-frame","reason":"an `ack` frame has a `seq` of 0 or more"}}"#
    );
    for (frame, id) in [
        (r#"{"topic":"ack","id":"c","seq":"4"}"#, r#""id":"c","#),
        (r#"{"topic":"note","id":7}"#, ""),
    ] {
        client.send(frame).await;
        let reason = "`id` is a text, and `seq` a whole number";
        assert_eq!(
            client.text().await,
            format!(r#"{{"topic":"error",{id}"data":{{"code":"invalid-frame","reason":"{reason}"}}}}"#)
        );
    }
    drop(client);
    // Frames that were not acknowledged are sent again.
    let mut client = fleet.connect("name=kim&v=2&since=3").await;
    frames(&mut client, 4..=5).await;
    client.send(r#"{"topic":"ack","seq":-1}"#).await;
    assert_eq!(
        client.text().await,
        r#"{"topic":"error","data":{"code":"invalid-frame","reason":"an `ack` frame has a `seq` of 0 or more"}}"#
    );
    for data in ["[]", "[9]", "9", r#""9""#, "true"] {
        client
            .send(&format!(r#"{{"topic":"ack","id":"d","seq":9,"data":{data}}}"#))
            .await;
        assert_eq!(
            client.text().await,
            r#"{"topic":"error","id":"d","data":{"code":"invalid-frame","reason":"`data` is an object"}}"#,
            "{data}"
        );
    }
    assert_eq!(
        *fleet.notes.shown.lock(),
        [1, 2, 3],
        "an invalid frame acknowledges nothing"
    );
    client.send(r#"{"topic":"ack","seq":9,"data":{}}"#).await;
    until("all are shown", || *fleet.notes.shown.lock() == [1, 2, 3, 4, 5]).await;
    assert_eq!(
        fleet.notes.frames.lock().len(),
        1,
        "acknowledgements are not the service's"
    );
}

#[tokio::test]
async fn a_client_that_missed_too_much_gets_a_resync() {
    let fleet = Fleet::start(limits()).await;
    fleet.notes.stored.lock().extend(10..=12);
    let mut client = fleet.connect("name=kim&v=2&since=5").await;
    assert_eq!(
        client.text().await,
        r#"{"topic":"resync","seq":12,"data":{"reason":"expired"}}"#
    );
    fleet.notes.stored.lock().push(13);
    fleet.hub.signal(&account("kim"));
    frames(&mut client, [13]).await;
}

#[tokio::test]
async fn a_store_that_is_unavailable_is_asked_again() {
    let fleet = Fleet::start(limits()).await;
    *fleet.notes.failing.lock() = 2;
    fleet.notes.stored.lock().extend(1..=2);
    let mut client = fleet.connect("name=kim&v=2&since=0").await;
    frames(&mut client, 1..=2).await;
}

#[tokio::test]
async fn frames_without_a_signal_are_found() {
    let fleet = Fleet::start(limits()).await;
    let mut client = fleet.connect("name=kim&v=2&since=0").await;
    // After the first look, which comes with the opening.
    tokio::time::sleep(Duration::from_millis(200)).await;
    fleet.notes.stored.lock().push(1);
    frames(&mut client, [1]).await;
}

#[tokio::test]
async fn a_slow_reader_is_cut_and_resumes() {
    let fleet = Fleet::start(sosohappy_realtime::Limits {
        write_timeout: Duration::from_secs(3),
        ..limits()
    })
    .await;
    // More than the buffers of a connection hold.
    let last = LARGE + 2_000;
    fleet.notes.stored.lock().push(LARGE - 1);
    let mut slow = fleet.connect("name=kim&v=2").await;
    fleet.notes.stored.lock().extend(LARGE..=last);
    fleet.hub.signal(&account("kim"));
    until("the slow client is cut", || {
        fleet.counted("sosohappy_sockets_closed_total", "reason", "too-slow", 1)
    })
    .await;
    let mut seen = LARGE - 1;
    while let Some(Ok(message)) = slow.0.next().await {
        if let Message::Text(text) = message {
            seen += 1;
            assert_eq!(text.as_str(), numbered(seen));
        }
    }
    assert!(seen < last, "it was cut before the end");
    let mut resumed = fleet.connect(&format!("name=kim&v=2&since={seen}")).await;
    frames(&mut resumed, seen + 1..=last).await;
}

#[tokio::test]
async fn closings_say_when_to_reconnect() {
    let fleet = Fleet::start(limits()).await;
    let mut client = fleet.connect("name=kim&v=2").await;
    let lifecycle = fleet.context.lifecycle.clone();
    let shutdown = tokio::spawn(async move { lifecycle.shutdown(Duration::from_secs(20)).await });
    loop {
        if let Message::Close(closing) = client.next().await {
            let closing = closing.expect("with a reason");
            assert_eq!(u16::from(closing.code), 1012);
            let millis = closing
                .reason
                .as_str()
                .strip_prefix("reconnect-after=")
                .map(str::parse::<u64>);
            assert!(matches!(millis, Some(Ok(0..2_000))), "{closing:?}");
            break;
        }
    }
    drop(client);
    let _ended = shutdown.await.expect("the fleet shuts down");
}

#[tokio::test]
async fn errors_have_the_id_of_the_frame_that_they_answer() {
    let fleet = Fleet::start(Limits {
        frame_timeout: Duration::from_millis(50),
        frames_per_minute: Rate::per_minute(2),
        ..limits()
    })
    .await;
    *fleet.notes.stuck.lock() = true;
    let mut client = fleet.connect("name=kim&v=2").await;
    for (frame, id, code) in [
        (r#"{"topic":"note","id":"a"}"#, Some("a"), "unavailable"),
        (r#"{"topic":"note"}"#, None, "unavailable"),
        (r#"{"topic":"note","id":"c"}"#, Some("c"), "rate-limited"),
        (r#"{"topic":"note"}"#, None, "rate-limited"),
    ] {
        client.send(frame).await;
        let error: serde_json::Value = serde_json::from_str(&client.text().await).expect("JSON");
        assert_eq!((error["id"].as_str(), error["data"]["code"].as_str()), (id, Some(code)));
    }
}
