use std::time::Duration;

use sosohappy_events::types::{AccountStateChanged, SessionExpired, State};
use sosohappy_testkit::{Bed, EngineSet, PATIENCE, Running, Socket, on_both_engines};
use tokio_tungstenite::tungstenite;

use crate::fleet::{DATE, connect, frame, kim, lee, like, replica};

async fn a_socket_needs_its_owners_token_and_nickname(bed: Bed) {
    let notice = replica(&bed, &[]).await;
    let (kim, lee) = (kim(&bed).await, lee(&bed).await);

    for (query, code) in [
        ("", 1007),
        ("?nickname=", 1007),
        ("?nickname=lee", 1008),
        ("?nickname=nobody", 1008),
    ] {
        let url = notice.socket_at(&format!("/notice-service/connect-notice{query}"));
        let mut socket = Socket::connect(&url, Some(&kim))
            .await
            .expect("the handshake is completed");
        assert_eq!(socket.closed().await, code, "{query}");
    }

    // In any spelling.
    let url = notice.socket_at("/notice-service/connect-notice?nickname=K%D1%96M");
    let mut socket = Socket::connect(&url, Some(&kim)).await.expect("the socket opens");
    assert!(socket.silent_for(Duration::from_millis(100)).await);

    let url = notice.socket_at("/notice-service/connect-notice?nickname=kim");
    assert_eq!(refused(&url, None).await, 403);
    let forged = sosohappy_testkit::Person {
        token: "e30.e30.forged".into(),
        ..kim.clone()
    };
    assert_eq!(refused(&url, Some(&forged)).await, 403);
    let stolen = sosohappy_testkit::Person {
        token: lee.token,
        ..kim
    };
    assert_eq!(refused(&url, Some(&stolen)).await, 403);
}

async fn refused(url: &str, person: Option<&sosohappy_testkit::Person>) -> u16 {
    match Socket::connect(url, person).await {
        Err(tungstenite::Error::Http(answer)) => {
            let body = answer
                .body()
                .as_deref()
                .map(String::from_utf8_lossy)
                .unwrap_or_default();
            assert!(body.contains(r#""code":"access-denied""#), "{body}");
            answer.status().as_u16()
        }
        other => panic!("expected a refused handshake, got {other:?}"),
    }
}

/// Returns status line and head of the answer to a handshake with these lines.
async fn handshake(notice: &Running, person: &sosohappy_testkit::Person, lines: &str) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    let address = notice.url.trim_start_matches("http://");
    let mut stream = tokio::net::TcpStream::connect(address).await.expect("notice listens");
    let request = format!(
        "GET /notice-service/connect-notice?nickname=kim HTTP/1.1\r\nhost: notice\r\nauthorization: Bearer {}\r\nemail: {}\r\n\
         sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n{lines}\r\n\r\n",
        person.token,
        person.account.as_str(),
    );
    stream.write_all(request.as_bytes()).await.expect("notice reads");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.expect("notice answers"));
    }
    String::from_utf8(head).expect("heads are ASCII").to_lowercase()
}

/// RFC 6455 sections 4.2.1 and 4.4.
async fn a_handshake_is_read_however_its_fields_are_written(bed: Bed) {
    let notice = replica(&bed, &[]).await;
    let kim = kim(&bed).await;
    let two_lines = "connection: keep-alive\r\nconnection: Upgrade\r\nupgrade: websocket";
    let head = handshake(&notice, &kim, &format!("{two_lines}\r\nsec-websocket-version: 13")).await;
    assert!(head.starts_with("http/1.1 101 "), "{head}");
    let head = handshake(&notice, &kim, &format!("{two_lines}\r\nsec-websocket-version: 8")).await;
    assert!(head.starts_with("http/1.1 426 "), "{head}");
    assert!(head.contains("\r\nsec-websocket-version: 13\r\n"), "{head}");
}

/// The engines play no part: on one of them only.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn handshakes_of_an_account_are_limited() {
    let bed = Bed::new(EngineSet::Embedded).await;
    // A rate this low gives none back while the test runs.
    let notice = replica(&bed, &[("rate-limits.per-account.connect", "1")]).await;
    let (kim, lee) = (kim(&bed).await, lee(&bed).await);
    let _first = connect(&notice, &kim).await;
    let upgrade = "connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13";
    let head = handshake(&notice, &kim, upgrade).await;
    assert!(head.starts_with("http/1.1 429 "), "{head}");
    assert!(head.contains("\r\nretry-after: "), "{head}");
    let _of_another_account = connect(&notice, &lee).await;
}

async fn what_is_no_handshake_is_a_bad_request(bed: Bed) {
    let notice = replica(&bed, &[]).await;
    let kim = kim(&bed).await;
    let url = notice.at("/notice-service/connect-notice?nickname=kim");
    let answer = kim
        .sign(sosohappy_common::tls::client().get(&url))
        .send()
        .await
        .expect("an answer");
    assert_eq!(answer.status(), 400);
    assert_eq!(
        answer.json::<serde_json::Value>().await.expect("a problem")["code"],
        "not-a-websocket"
    );
    assert_eq!(
        sosohappy_common::tls::client()
            .get(&url)
            .send()
            .await
            .expect("an answer")
            .status(),
        403
    );
}

async fn a_nickname_of_a_moment_ago_is_the_callers_own(bed: Bed) {
    let notice = replica(&bed, &[]).await;
    let (mut kim, lee) = (kim(&bed).await, lee(&bed).await);
    bed.rename(&kim.account, "kimchi").await;
    "kimchi".clone_into(&mut kim.nickname);
    let mut socket = connect(&notice, &kim).await;
    bed.publish(like(&lee, &kim, DATE)).await;
    assert_eq!(socket.text().await, frame("lee", DATE));
}

async fn a_closed_session_closes_its_sockets_only(bed: Bed) {
    let notice = replica(&bed, &[]).await;
    let (phone, pad, lee) = (kim(&bed).await, kim(&bed).await, lee(&bed).await);
    let (mut on_phone, mut on_pad) = (connect(&notice, &phone).await, connect(&notice, &pad).await);

    bed.publish(SessionExpired {
        account: phone.account.clone(),
        session: Some(phone.session),
    })
    .await;
    assert_eq!(on_phone.closed().await, 1008);
    bed.publish(like(&lee, &pad, DATE)).await;
    assert_eq!(on_pad.text().await, frame("lee", DATE));

    let url = notice.socket_at("/notice-service/connect-notice?nickname=kim");
    assert_eq!(refused(&url, Some(&phone)).await, 403);
}

async fn a_suspended_account_loses_its_sockets(bed: Bed) {
    let notice = replica(&bed, &[]).await;
    let kim = kim(&bed).await;
    let mut socket = connect(&notice, &kim).await;
    bed.publish(AccountStateChanged {
        account: kim.account.clone(),
        state: State::Suspended,
    })
    .await;
    assert_eq!(socket.closed().await, 1008);
}

async fn a_replica_that_leaves_says_so(bed: Bed) {
    let notice: Running = replica(&bed, &[("sockets.drain-spread", "100ms")]).await;
    let kim = kim(&bed).await;
    let mut socket = connect(&notice, &kim).await;
    let leaving = tokio::spawn(notice.stop());
    assert_eq!(socket.closed().await, 1012);
    tokio::time::timeout(PATIENCE, leaving)
        .await
        .expect("it leaves in time")
        .expect("it leaves well");
}

async fn what_a_client_says_is_not_answered(bed: Bed) {
    let notice = replica(&bed, &[]).await;
    let (kim, lee) = (kim(&bed).await, lee(&bed).await);
    let mut socket = connect(&notice, &kim).await;
    socket.send("hello?").await;
    bed.publish(like(&lee, &kim, DATE)).await;
    assert_eq!(socket.text().await, frame("lee", DATE));
    socket.send("x".repeat(20_000)).await;
    assert_eq!(socket.closed().await, 1009);
}

async fn the_document_names_the_socket(bed: Bed) {
    let notice = replica(&bed, &[]).await;
    let document: serde_json::Value = sosohappy_common::tls::client()
        .get(notice.at("/notice-service/openapi.json"))
        .send()
        .await
        .expect("the document is open")
        .json()
        .await
        .expect("the document is JSON");
    let connect = &document["paths"]["/notice-service/connect-notice"]["get"];
    assert_eq!(connect["parameters"][0]["name"], "nickname");
    assert!(connect["security"][0]["accessToken"].is_array(), "{connect}");
    assert!(connect["responses"]["403"].is_object(), "{connect}");
}

on_both_engines!(
    a_closed_session_closes_its_sockets_only,
    a_handshake_is_read_however_its_fields_are_written,
    a_nickname_of_a_moment_ago_is_the_callers_own,
    a_replica_that_leaves_says_so,
    a_socket_needs_its_owners_token_and_nickname,
    a_suspended_account_loses_its_sockets,
    the_document_names_the_socket,
    what_a_client_says_is_not_answered,
    what_is_no_handshake_is_a_bad_request,
);
