use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use reqwest::{Method, StatusCode};
use sosohappy_events::Envelope;
use sosohappy_events::types::NicknameSet;
use sosohappy_testkit::{Bed, on_both_engines};

use super::{Feed, code, problem, read};

on_both_engines!(
    acting_without_a_token_or_for_another_account_is_refused,
    every_call_takes_a_nickname_in_any_spelling,
    upload_with_an_expired_token_is_answered_before_it_is_read,
    a_person_is_not_denied_while_the_names_of_others_are_read,
    the_document_names_every_call
);

/// Beside a Spring auth, which publishes names and cannot be asked for them.
async fn a_person_is_not_denied_while_the_names_of_others_are_read(bed: Bed) {
    const OTHERS: usize = 2_000;
    let others: Vec<_> = (0..OTHERS)
        .map(|number| {
            let event = NicknameSet {
                account: format!("other{number}@example.com+kakao").parse().unwrap(),
                nickname: Some(format!("other{number}")),
            };
            Envelope::new(event, &bed.context).to_outgoing()
        })
        .collect();
    bed.bus.publish(&others).await.unwrap();
    let kim = bed.person("kim@example.com+kakao", "kim").await;

    let feed = Feed::serve_with(&bed, &[("fleet.spring", "auth")]).await;
    let mut unavailable = 0;
    loop {
        let readiness = feed.client.get(feed.running.at("/actuator/health/readiness"));
        let readiness = readiness.send().await.unwrap().status();
        let own = feed
            .client
            .post(feed.at("findDayFeed"))
            .form(&[("nickname", "kim"), ("date", "2023090508000000")]);
        let own = kim.sign(own).send().await.unwrap();
        match own.status() {
            StatusCode::SERVICE_UNAVAILABLE => {
                assert_eq!(own.headers()["retry-after"], "1");
                assert_eq!(
                    readiness,
                    StatusCode::SERVICE_UNAVAILABLE,
                    "no request is sent here yet"
                );
                unavailable += 1;
            }
            status => {
                assert_eq!(status, StatusCode::OK);
                if readiness == StatusCode::OK {
                    break;
                }
            }
        }
    }
    assert!(unavailable > 0, "the names of {OTHERS} people were read at once");
}

/// A call, the parameter that names who acts, and others it needs.
type Call = (&'static str, &'static str, &'static [(&'static str, &'static str)]);

/// Every closed call that names who acts.
const CALLS: &[Call] = &[
    (
        "POST saveFeed",
        "nickname",
        &[
            ("weather", "sunny"),
            ("happiness", "1"),
            ("categoryList", "sea"),
            ("text", ""),
            ("isPublic", "true"),
        ],
    ),
    ("POST findDayFeed", "nickname", &[]),
    ("POST findMonthFeed", "nickname", &[]),
    ("POST updatePublicStatus", "nickname", &[]),
    ("POST deleteFeed", "nickname", &[]),
    ("GET findOtherFeed", "nickname", &[]),
    ("GET findUserFeed", "srcNickname", &[("dstNickname", "lee")]),
    ("POST findDetailFeed", "srcNickname", &[("dstNickname", "lee")]),
    ("POST updateLike", "srcNickname", &[("nickname", "lee")]),
    (
        "POST saveComment",
        "srcNickname",
        &[("nickname", "lee"), ("text", "a comment")],
    ),
    ("GET findComment", "srcNickname", &[("nickname", "lee")]),
    ("POST updateFeedComment", "nickname", &[]),
    ("POST updateBookmark", "srcNickname", &[("nickname", "lee")]),
    ("GET findBookmark", "nickname", &[]),
    ("POST analysisHappiness", "nickname", &[]),
    ("POST findMonthHappiness", "nickname", &[]),
    ("POST findYearHappiness", "nickname", &[]),
];

async fn acting_without_a_token_or_for_another_account_is_refused(bed: Bed) {
    let feed = Feed::start(&bed).await;
    let kim = bed.person("kim@example.com+kakao", "kim").await;
    let lee = bed.person("lee@example.com+google", "lee").await;
    feed.save(&lee, "2023090508000000", "3", "sea").await;

    for (call, actor, more) in CALLS {
        let (method, name) = call.split_once(' ').unwrap();
        let method: Method = method.parse().unwrap();
        let request = |nickname: &str| {
            let params = [(*actor, nickname), ("date", "2023090508000000")];
            feed.client
                .request(method.clone(), feed.at(name))
                .query(&params)
                .query(more)
        };
        assert_eq!(
            code(&read(request("lee")).await),
            problem(403, "access-denied"),
            "{call} by nobody"
        );
        let forged = request("lee")
            .bearer_auth(&kim.token)
            .header("email", lee.account.as_str());
        assert_eq!(
            code(&read(forged).await),
            problem(403, "access-denied"),
            "{call} with somebody else's token"
        );
        assert_eq!(
            code(&read(kim.sign(request("lee"))).await),
            problem(403, "not-yourself"),
            "{call} for somebody else"
        );
        assert_eq!(
            code(&read(kim.sign(request("nobody"))).await),
            problem(403, "not-yourself"),
            "{call} for nobody"
        );
    }
    let image = feed.client.post(feed.at("findFeedImage")).query(&[("imageId", "1")]);
    assert_eq!(code(&read(image).await), problem(403, "access-denied"));

    assert!(feed.likers(&lee, "2023090508000000").await.is_empty());
    assert_eq!(
        feed.sees(&kim).await,
        [2_023_090_508_000_000],
        "nothing has happened to the post"
    );
}

async fn the_document_names_every_call(bed: Bed) {
    let feed = Feed::start(&bed).await;
    let (_, document) = read(feed.client.get(feed.at("openapi.json"))).await;
    let document: serde_json::Value = serde_json::from_str(&document).unwrap();
    let open = ["POST findFeedImage", "GET image/{imageId}"];
    for call in CALLS.iter().map(|(call, ..)| *call).chain(open) {
        let (method, name) = call.split_once(' ').unwrap();
        let operation = &document["paths"][format!("/feed-service/{name}")][method.to_lowercase()];
        assert!(operation.is_object(), "{call} is not documented");
        assert_eq!(
            operation["responses"]["403"].is_object(),
            call != "GET image/{imageId}",
            "{call}"
        );
    }
    let day = &document["paths"]["/feed-service/findDayFeed"]["post"]["responses"]["200"]["description"];
    assert!(day.as_str().is_some_and(|text| text.contains("an empty body")), "{day}");
    let pictures = &document["components"]["schemas"]["SaveFeedForm"]["allOf"][1]["properties"]["imageList"];
    assert_eq!(
        pictures["items"],
        serde_json::json!({ "type": "string", "format": "binary" })
    );
}

/// `URLSession` writes the whole upload before it reads: it must get the status on which it re-issues, on a connection that it can
/// use again.
async fn upload_with_an_expired_token_is_answered_before_it_is_read(bed: Bed) {
    const MIB: usize = 1024 * 1024;
    let feed = Feed::start(&bed).await;
    let address = feed.running.url.trim_start_matches("http://").to_owned();
    let client = tokio::task::spawn_blocking(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        for (body, status) in [(5 * MIB, "403"), (5 * MIB, "403"), (20 * MIB + 1, "413")] {
            let head = format!(
                "POST /feed-service/saveFeed HTTP/1.1\r\nhost: x\r\nauthorization: Bearer expired\r\nemail: kim@example.com+kakao\r\n\
                 content-type: multipart/form-data; boundary=x\r\ncontent-length: {body}\r\n\r\n"
            );
            stream.write_all(head.as_bytes()).unwrap();
            stream.write_all(&vec![b'x'; body]).expect("the whole body is taken");
            let mut answer = vec![0; 4096];
            let read = stream.read(&mut answer).expect("an answer");
            let answer = String::from_utf8_lossy(&answer[..read]).into_owned();
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        }
    });
    client.await.unwrap();
}

async fn every_call_takes_a_nickname_in_any_spelling(bed: Bed) {
    const DATE: &str = "2023090508000000";
    let feed = Feed::start(&bed).await;
    let family = "👨\u{200d}👩\u{200d}👧\u{200d}👦".repeat(2);
    for (account, stored, asked) in [
        (
            "kim@example.com+kakao",
            "각자",
            "\u{1100}\u{1161}\u{11a8}\u{110c}\u{1161}",
        ),
        ("lee@example.com+kakao", "\u{1100}\u{1175}\u{11b7}", "김"),
        ("park@example.com+kakao", "\u{212b}dmin", "Å\u{501}min"),
        ("choi@example.com+kakao", &family, &family),
    ] {
        let who = bed.person(account, stored).await;
        feed.save(&who, DATE, "3", "sea").await;
        for (call, actor, more) in CALLS {
            let (method, name) = call.split_once(' ').unwrap();
            if name == "deleteFeed" || name == "updatePublicStatus" {
                continue;
            }
            let method: Method = method.parse().unwrap();
            let more = more
                .iter()
                .map(|(key, value)| (*key, if *value == "lee" { asked } else { *value }));
            let more: Vec<_> = more.collect();
            let request = feed
                .client
                .request(method, feed.at(name))
                .query(&[(*actor, asked), ("date", DATE)]);
            let answer = read(who.sign(request.query(&more))).await;
            assert!(answer.0.is_success(), "{call} as {asked:?}: {answer:?}");
        }
    }
    let kim = bed.person("kim@example.com+kakao", "각자").await;
    let long = [("nickname", "12345678901"), ("date", DATE)];
    assert_eq!(
        code(&feed.post(&kim, "findDayFeed", &long).await),
        problem(400, "invalid-parameter")
    );
}
