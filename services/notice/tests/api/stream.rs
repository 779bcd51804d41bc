//! Version 2 of the socket: numbered frames from the inbox, acknowledgements, resuming (`docs/sockets.md`).

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use futures::{StreamExt as _, stream};
use serde_json::{Value, json};
use sosohappy_events::types::{NoticeRaised, Relation, RelationChanged};
use sosohappy_testkit::{Bed, PATIENCE, Person, Running, Socket, eventually, on_both_engines};

use crate::fleet::{DATE, QUIET, applied, connect, counted, device, frame, kim, lee, like, pushes, replica};
use crate::preferences::set;

pub(super) async fn open(notice: &Running, person: &Person, more: &str) -> Socket {
    let path = format!("/notice-service/connect-notice?nickname={}&v=2{more}", person.nickname);
    let socket = Socket::connect(&notice.socket_at(&path), Some(person)).await;
    socket.expect("the socket opens")
}

pub(super) async fn next(socket: &mut Socket) -> Value {
    serde_json::from_str(&socket.text().await).expect("JSON")
}

fn seq(frame: &Value) -> i64 {
    frame["seq"].as_i64().expect("a number")
}

async fn ack(socket: &mut Socket, frame: &Value) {
    socket
        .send(json!({ "topic": "ack", "seq": seq(frame) }).to_string())
        .await;
}

fn raised(person: &Person, topic: &str) -> NoticeRaised {
    NoticeRaised {
        receiver: person.account.clone(),
        topic: topic.to_owned(),
        data: json!({ "of": topic }),
        about: None,
    }
}

async fn every_kind_is_a_numbered_frame_on_every_replica(bed: Bed) {
    let (one, other) = (replica(&bed, &[]).await, replica(&bed, &[]).await);
    let (kim, lee) = (kim(&bed).await, lee(&bed).await);
    let mut old = connect(&one, &kim).await;
    let mut sockets = [open(&one, &kim, "").await, open(&other, &kim, "").await];

    bed.publish(like(&lee, &kim, DATE)).await;
    assert_eq!(old.text().await, frame("lee", DATE), "the published app's frame");
    let mut last = Vec::new();
    for socket in &mut sockets {
        let first = next(socket).await;
        assert_eq!(first["topic"], "like");
        assert_eq!(
            (&first["data"]["liker"], &first["data"]["date"]),
            (&json!("lee"), &json!(DATE))
        );
        assert!(
            first["data"]["at"].as_str().is_some_and(|at| at.ends_with('Z')),
            "{first}"
        );
        assert!(first["id"].is_string(), "{first}");
        last.push(first);
    }
    assert_eq!(last[0], last[1]);
    let mut number = seq(&last[0]);
    let mut shown = vec![last.swap_remove(0)];
    // One topic in the order of its events.
    for topic in [
        "comment",
        "bookmark",
        "friend",
        "request",
        "moderation",
        "role",
        "system",
    ] {
        bed.publish(raised(&kim, topic)).await;
        number += 1;
        for socket in &mut sockets {
            let frame = next(socket).await;
            assert_eq!((&frame["topic"], seq(&frame)), (&json!(topic), number));
            assert_eq!(frame["data"]["of"], topic);
            if seq(&shown[shown.len() - 1]) < number {
                shown.push(frame);
            }
        }
    }
    // Those that came with their signal are as the inbox has them.
    let mut resumed = open(&other, &kim, "&since=0").await;
    for frame in shown {
        assert_eq!(next(&mut resumed).await, frame);
    }
}

async fn a_frame_that_comes_with_its_signal_is_not_read(bed: Bed) {
    let notice = replica(&bed, &[]).await;
    let kim = kim(&bed).await;
    let mut socket = open(&notice, &kim, "").await;
    // The number of the first one does not follow.
    bed.publish(raised(&kim, "system")).await;
    next(&mut socket).await;
    let reads = || notice.metric("sosohappy_socket_reads_total", &[]);
    // On a busy machine one may be older than a second, and is read.
    eventually("a frame is written without a read of the inbox", async || {
        let before = reads();
        bed.publish(raised(&kim, "system")).await;
        assert_eq!(next(&mut socket).await["topic"], "system");
        (reads() <= before).then_some(())
    })
    .await;
    // A notice that the person does not want brings no frame.
    let before = reads();
    assert_eq!(set(&notice, &kim, &[("socketOffList", "comment")]).await.0, 200);
    bed.publish(raised(&kim, "comment")).await;
    eventually("the inbox is read", async || (reads() > before).then_some(())).await;
}

async fn a_socket_resumes_after_what_it_has_seen(bed: Bed) {
    let notice = replica(&bed, &[]).await;
    let (kim, lee) = (kim(&bed).await, lee(&bed).await);
    let mut socket = open(&notice, &kim, "").await;
    let likes = [0, 1, 2].map(|day| like(&lee, &kim, DATE + day));
    bed.publish(likes[0].clone()).await;
    let first = next(&mut socket).await;
    drop(socket);
    for like in &likes[1..] {
        bed.publish(like.clone()).await;
    }
    applied(&notice, "noticeLike", 3).await;

    let mut socket = open(&notice, &kim, &format!("&since={}", seq(&first))).await;
    for missed in 1..=2 {
        let frame = next(&mut socket).await;
        assert_eq!(seq(&frame), seq(&first) + missed);
        assert_eq!(frame["data"]["date"], DATE + missed);
    }
    // New ones only, and everything that is kept.
    let mut new = open(&notice, &kim, "").await;
    let mut all = open(&notice, &kim, "&since=0").await;
    assert_eq!(seq(&next(&mut all).await), seq(&first));
    // The number of a client that has seen more than there is.
    let mut ahead = open(&notice, &kim, &format!("&since={}", seq(&first) + 9)).await;
    let newest = seq(&first) + 2;
    assert_eq!(
        next(&mut ahead).await,
        json!({ "topic": "resync", "seq": newest, "data": { "reason": "unknown" } })
    );
    bed.publish(raised(&kim, "system")).await;
    for socket in [&mut new, &mut ahead] {
        assert_eq!(seq(&next(socket).await), newest + 1);
    }
}

async fn a_topic_that_is_delivered_again_shows_nothing_again(bed: Bed) {
    let notice = replica(&bed, &[]).await;
    let (kim, lee) = (kim(&bed).await, lee(&bed).await);
    let mut socket = open(&notice, &kim, "").await;
    let first = bed.publish(like(&lee, &kim, DATE)).await;
    let seen = next(&mut socket).await;
    bed.publish_again(&first).await;
    let other = replica(&bed, &[]).await;
    let mut elsewhere = open(&other, &kim, &format!("&since={}", seq(&seen))).await;
    bed.publish_again(&first).await;
    for socket in [&mut socket, &mut elsewhere] {
        assert!(socket.silent_for(QUIET).await);
    }
}

async fn only_an_acknowledgement_keeps_a_notice_from_a_push(bed: Bed) {
    let more = [("push.delivery-timeout", "10s"), ("sockets.ping-every", "200ms")];
    let notice = replica(&bed, &more).await;
    let (kim, lee) = (kim(&bed).await, lee(&bed).await);
    device(&bed, &kim, "token-of-kim").await;
    device(&bed, &lee, "token-of-lee").await;
    applied(&notice, "deviceToken", 2).await;
    let mut of_kim = open(&notice, &kim, "").await;
    let mut of_lee = open(&notice, &lee, "").await;
    bed.publish(like(&lee, &kim, DATE)).await;
    bed.publish(like(&kim, &lee, DATE)).await;
    let shown = next(&mut of_kim).await;
    ack(&mut of_kim, &shown).await;
    // Lee's client reads, answers pings and sends frames, and acknowledges nothing.
    next(&mut of_lee).await;
    of_lee.send(r#"{"topic":"hello","id":"1"}"#).await;
    assert_eq!(next(&mut of_lee).await["data"]["code"], "unknown-topic");
    eventually("the like of lee's post is pushed", async || {
        let silent = of_lee.silent_for(QUIET).await;
        (silent && pushes(&notice, "like", "sent").await == 1).then_some(())
    })
    .await;
    assert!(of_kim.silent_for(QUIET).await);
    for (hop, count) in [("consumed", 2), ("written", 2), ("acknowledged", 1), ("pushed", 1)] {
        let reached = counted(&notice, "notice_delivery_seconds_count", &[("hop", hop)]).await;
        assert_eq!(reached, count, "{hop}");
    }
    assert_eq!(
        pushes(&notice, "like", "sent").await,
        1,
        "what was acknowledged is not pushed"
    );
}

/// The other replica consumed the first two records without a socket. What its sockets read of them when they are opened is no delivery.
async fn what_a_client_missed_is_not_measured_and_the_rest_once(bed: Bed) {
    let (one, other) = (replica(&bed, &[]).await, replica(&bed, &[]).await);
    let (kim, lee) = (kim(&bed).await, lee(&bed).await);
    let mut here = open(&one, &kim, "").await;
    bed.publish(like(&lee, &kim, DATE)).await;
    let first = next(&mut here).await;
    bed.publish(like(&lee, &kim, DATE + 1)).await;
    let second = next(&mut here).await;
    eventually("the other replica has read both", async || {
        let labels = [("topic", "noticeLike"), ("kind", "reader"), ("outcome", "applied")];
        (counted(&other, "events_consumed_total", &labels).await == 2).then_some(())
    })
    .await;
    let since = format!("&since={}", seq(&first));
    let mut sockets = [open(&other, &kim, &since).await, open(&other, &kim, &since).await];
    for socket in &mut sockets {
        let missed = next(socket).await;
        assert_eq!(seq(&missed), seq(&second));
        ack(socket, &missed).await;
    }
    bed.publish(like(&lee, &kim, DATE + 2)).await;
    for socket in &mut sockets {
        let shown = next(socket).await;
        ack(socket, &shown).await;
    }
    let reached = async |hop: &str| counted(&other, "notice_delivery_seconds_count", &[("hop", hop)]).await;
    eventually("it is acknowledged", async || {
        (reached("acknowledged").await >= 1).then_some(())
    })
    .await;
    for hop in ["consumed", "written", "acknowledged"] {
        assert_eq!(reached(hop).await, 1, "{hop}");
    }
}

async fn notices_across_a_block_are_left_out(bed: Bed) {
    let notice = replica(&bed, &[]).await;
    let (kim, lee) = (kim(&bed).await, lee(&bed).await);
    bed.publish(like(&lee, &kim, DATE)).await;
    applied(&notice, "noticeLike", 1).await;
    bed.publish(RelationChanged {
        relation: Relation::Block,
        account: kim.account.clone(),
        other: lee.account.clone(),
    })
    .await;
    applied(&notice, "relation", 1).await;
    let mut socket = open(&notice, &kim, "&since=0").await;
    assert!(socket.silent_for(QUIET).await);
}

async fn odd_versions_and_frames_are_refused(bed: Bed) {
    let notice = replica(&bed, &[]).await;
    let kim = kim(&bed).await;
    for more in ["&v=3", "&v=x", "&v=2&since=-1", "&v=2&since=9223372036854775808"] {
        let url = notice.socket_at(&format!("/notice-service/connect-notice?nickname=kim{more}"));
        match Socket::connect(&url, Some(&kim)).await {
            Err(tokio_tungstenite::tungstenite::Error::Http(answer)) => assert_eq!(answer.status(), 400, "{more}"),
            other => panic!("{more}: expected a refused handshake, got {other:?}"),
        }
    }
    let url = notice.socket_at("/notice-service/connect-notice?nickname=kim&v=1&since=");
    Socket::connect(&url, Some(&kim)).await.expect("empty is absent");
    let mut socket = open(&notice, &kim, "").await;
    socket.send("ping").await;
    assert_eq!(socket.closed().await, 1007);
}

/// Clients that come back at once.
const STORM: usize = 500;

/// Two statements for lookups of one kind begin at least this long after each other.
const PACE: Duration = Duration::from_millis(50);

/// Opens a version 2 socket of each person after the number that it has seen, all at once.
async fn open_all(notice: &Running, people: &[Person], seen: &[i64]) -> Vec<Socket> {
    let opening = people
        .iter()
        .zip(seen)
        .map(|(person, seen)| async move { open(notice, person, &format!("&since={seen}")).await });
    futures::future::join_all(opening).await
}

/// Stops a replica. Its clients are asked to come back within two seconds, each after a time of its own.
async fn leave(replica: Running, mut sockets: Vec<Socket>) {
    let leaving = tokio::spawn(replica.stop());
    let closings = futures::future::join_all(sockets.iter_mut().map(Socket::closing)).await;
    drop(sockets);
    let mut pauses = BTreeSet::new();
    for (code, reason) in &closings {
        assert_eq!(*code, 1012);
        let pause = reason.strip_prefix("reconnect-after=").expect("a hint");
        let pause: u64 = pause.parse().expect("milliseconds");
        assert!(pause < 2_000, "{reason}");
        pauses.insert(pause);
    }
    assert!(pauses.len() > closings.len() / 4, "{pauses:?}");
    tokio::time::timeout(PATIENCE, leaving)
        .await
        .expect("it leaves in time")
        .expect("it leaves well");
}

async fn clients_that_come_back_at_once_share_statements(bed: Bed) {
    let (notice, other) = (
        replica(&bed, &[]).await,
        replica(&bed, &[("sockets.drain-spread", "100ms")]).await,
    );
    let people: Vec<Person> = stream::iter(0..STORM)
        .map(|number| {
            let bed = &bed;
            async move {
                let account = format!("p{number}@example.com+kakao");
                bed.person(&account, &format!("p{number}")).await
            }
        })
        .buffered(20)
        .collect()
        .await;
    // Some have an inbox, and have seen all of it.
    let mut seen = vec![0; STORM];
    for (person, seen) in people.iter().zip(&mut seen).take(20) {
        bed.publish(raised(person, "system")).await;
        let mut socket = open(&notice, person, "&since=0").await;
        *seen = seq(&next(&mut socket).await);
    }
    let sockets = open_all(&other, &people, &seen).await;
    leave(other, sockets).await;
    let looks = async |outcome: &str| counted(&notice, "notice_looks_total", &[("outcome", outcome)]).await;
    let lookups = async |by: &str| counted(&notice, "notice_resume_lookups_total", &[("by", by)]).await;
    let begun = Instant::now();
    let before = [lookups("statement").await, lookups("joined").await, looks("read").await];
    let looked = looks("nothing-new").await;

    let mut sockets = open_all(&notice, &people, &seen).await;
    eventually("every socket has looked", async || {
        (looks("nothing-new").await >= looked + STORM as u64).then_some(())
    })
    .await;
    let [statements, joined, read] = [
        lookups("statement").await - before[0],
        lookups("joined").await - before[1],
        looks("read").await - before[2],
    ];
    let elapsed = begun.elapsed();
    println!("{statements} statements for {STORM} sockets in {elapsed:?}, {joined} lookups joined");
    assert_eq!(read, 0, "no inbox is read");
    // Of nicknames and of numbers of inboxes, however many clients come; one of each may have begun before.
    let paced = 2 * (elapsed.as_millis() / PACE.as_millis() + 2);
    assert!(
        u128::from(statements) <= paced,
        "{statements} statements in {elapsed:?}"
    );
    assert!(
        statements < joined && statements < STORM as u64,
        "{statements} statements for {STORM} sockets, {joined} lookups joined"
    );

    // The sockets are as good as others.
    for at in [0, 7, STORM - 1] {
        bed.publish(raised(&people[at], "system")).await;
        assert!(seq(&next(&mut sockets[at]).await) > seen[at]);
    }
}

/// Notices are stored by either replica while their receiver connects again and again.
async fn a_notice_that_is_stored_while_its_receiver_reconnects_is_written(bed: Bed) {
    let replicas = [replica(&bed, &[]).await, replica(&bed, &[]).await];
    let kim = kim(&bed).await;
    let mut seen = 0;
    for round in 0..30 {
        let notice = &replicas[round % 2];
        let since = format!("&since={seen}");
        let (mut socket, _) = if round % 3 == 0 {
            // Both at once; otherwise the one before the other.
            tokio::join!(open(notice, &kim, &since), bed.publish(raised(&kim, "system")))
        } else if round % 3 == 1 {
            let before = bed.publish(raised(&kim, "system")).await;
            (open(notice, &kim, &since).await, before)
        } else {
            (
                open(notice, &kim, &since).await,
                bed.publish(raised(&kim, "system")).await,
            )
        };
        let frame = next(&mut socket).await;
        assert_eq!(frame["topic"], "system", "round {round}");
        assert!(seq(&frame) > seen, "round {round}");
        seen = seq(&frame);
    }
}

on_both_engines!(
    clients_that_come_back_at_once_share_statements,
    a_notice_that_is_stored_while_its_receiver_reconnects_is_written,
    a_frame_that_comes_with_its_signal_is_not_read,
    a_socket_resumes_after_what_it_has_seen,
    a_topic_that_is_delivered_again_shows_nothing_again,
    every_kind_is_a_numbered_frame_on_every_replica,
    notices_across_a_block_are_left_out,
    what_a_client_missed_is_not_measured_and_the_rest_once,
    odd_versions_and_frames_are_refused,
    only_an_acknowledgement_keeps_a_notice_from_a_push,
);
