//! Our services beside a Spring auth, which cannot be asked for tokens and names: until they have read them, nobody is refused.

use std::time::Duration;

use reqwest::{RequestBuilder, StatusCode};
use sosohappy_events::Topic;
use sosohappy_testkit::{Bed, HeldBus, PATIENCE, Person, Running, on_both_engines};

on_both_engines!(nobody_is_refused_before_tokens_and_names_are_read);

/// Requests of `person` as themselves.
fn requests(service: &Running, person: &Person) -> Vec<RequestBuilder> {
    let http = sosohappy_common::tls::client();
    let handshake = |path: &str| {
        http.get(service.at(path))
            .query(&[("nickname", &person.nickname)])
            .header("connection", "Upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
    };
    let own = |path: &str, name: &str| {
        let form = [
            (name, person.nickname.as_str()),
            ("receiver", "kim"),
            ("date", "2023090508000000"),
        ];
        http.post(service.at(path)).form(&form)
    };
    match service.context.service {
        sosohappy_feed::SERVICE => vec![own("/feed-service/findDayFeed", "nickname")],
        sosohappy_dm::SERVICE => vec![
            own("/dm-service/findDirectMessage", "sender"),
            handshake("/dm-service/connect-dm"),
        ],
        _ => vec![handshake("/notice-service/connect-notice")],
    }
}

/// Starts our three services, each with a bus on which the topic is not read yet.
async fn services(bed: &Bed, held: Topic) -> Vec<(Running, std::sync::Arc<HeldBus>)> {
    let more = [("fleet.spring", "auth")];
    let bus = || HeldBus::new(bed.bus.clone(), held);
    let mut services = Vec::new();
    let feed = bus();
    let settings = bed.settings("feed", sosohappy_feed::DEFAULTS, &more).await;
    let built = sosohappy_feed::build(settings, bed.context(sosohappy_feed::SERVICE), feed.clone()).await;
    services.push((Running::serve(built.expect("feed is built")).await, feed));
    let dm = bus();
    let settings = bed.settings("dm", sosohappy_dm::DEFAULTS, &more).await;
    let built = sosohappy_dm::build(settings, bed.context(sosohappy_dm::SERVICE), dm.clone()).await;
    services.push((Running::serve(built.expect("dm is built")).await, dm));
    let notice = bus();
    let settings = bed.settings("notice", sosohappy_notice::DEFAULTS, &more).await;
    let built = sosohappy_notice::build(settings, bed.context(sosohappy_notice::SERVICE), notice.clone()).await;
    services.push((Running::serve(built.expect("notice is built")).await, notice));
    services
}

/// Sends a request and returns whether it was admitted. Anything else has to be a 503 that says when to come again.
async fn is_admitted(person: &Person, request: &RequestBuilder) -> bool {
    let request = request.try_clone().expect("a request without a stream");
    let answer = person.sign(request).send().await.expect("the service answers");
    let (status, url) = (answer.status(), answer.url());
    if status == StatusCode::SERVICE_UNAVAILABLE {
        assert_eq!(answer.headers()["retry-after"], "1", "{url}");
        return false;
    }
    assert!(
        [StatusCode::OK, StatusCode::SWITCHING_PROTOCOLS].contains(&status),
        "{url}: {status}"
    );
    true
}

async fn nobody_is_refused_before_tokens_and_names_are_read(bed: Bed) {
    let kim = bed.person("kim@example.com+kakao", "kim").await;
    // Names first: they stay in the databases.
    for held in [Topic::EmailAndNickname, Topic::AccessToken] {
        for (service, bus) in services(&bed, held).await {
            let name = service.context.service;
            for request in requests(&service, &kim) {
                assert!(!is_admitted(&kim, &request).await, "{name} has not read {held:?}");
            }
            // Requests that begin before everything is read and end afterwards: an unknown token may have been read in between.
            let unknown = Person {
                token: format!("{}0", kim.token),
                ..kim.clone()
            };
            let begun = requests(&service, &unknown).into_iter().map(async |request| {
                if held == Topic::AccessToken {
                    assert!(!is_admitted(&unknown, &request).await, "{name}");
                }
            });
            let released = async {
                tokio::time::sleep(Duration::from_millis(100)).await;
                bus.release();
            };
            futures::future::join(futures::future::join_all(begun), released).await;
            let ready = tokio::time::timeout(PATIENCE, service.context.lifecycle.ready()).await;
            ready.expect("the service is ready");
            for request in requests(&service, &kim) {
                assert!(is_admitted(&kim, &request).await, "{name} has read {held:?}");
            }
            service.stop().await;
        }
    }
}
