//! Our services beside a Spring auth, which cannot be asked for tokens and names: until they have read them, no caller is refused.

use std::sync::Arc;
use std::time::Duration;

use reqwest::{RequestBuilder, StatusCode};
use sosohappy_bus::Bus;
use sosohappy_events::Topic;
use sosohappy_testkit::{Bed, EngineSet, HeldBus, PATIENCE, Person, Running, eventually, on_both_engines};

on_both_engines!(no_caller_is_refused_before_tokens_and_names_are_read);

const SERVICES: [&str; 3] = ["feed", "dm", "notice"];

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

/// Starts one of our services beside a Spring auth, on that bus. It need not be ready.
async fn start(bed: &Bed, service: &str, bus: Arc<dyn Bus>) -> Running {
    let more = [("fleet.spring", "auth")];
    let built = match service {
        "feed" => {
            let settings = bed.settings("feed", sosohappy_feed::DEFAULTS, &more).await;
            sosohappy_feed::build(settings, bed.context(sosohappy_feed::SERVICE), bus).await
        }
        "dm" => {
            let settings = bed.settings("dm", sosohappy_dm::DEFAULTS, &more).await;
            sosohappy_dm::build(settings, bed.context(sosohappy_dm::SERVICE), bus).await
        }
        _ => {
            let settings = bed.settings("notice", sosohappy_notice::DEFAULTS, &more).await;
            sosohappy_notice::build(settings, bed.context(sosohappy_notice::SERVICE), bus).await
        }
    };
    Running::serve(built.expect("the service is built")).await
}

/// Starts our three services, each with a bus on which the topic is not read yet.
async fn services(bed: &Bed, held: Topic) -> Vec<(Running, Arc<HeldBus>)> {
    let mut services = Vec::new();
    for service in SERVICES {
        let bus = HeldBus::new(bed.bus.clone(), held);
        services.push((start(bed, service, bus.clone()).await, bus));
    }
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

async fn no_caller_is_refused_before_tokens_and_names_are_read(bed: Bed) {
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

/// Topics from which requests are answered, each with its readiness gate: those that every replica keeps in memory, and those that the
/// replicas of a service keep in their store.
fn state_topics(service: &str) -> Vec<(Topic, &'static str)> {
    let in_memory = [Topic::AccessToken, Topic::Expired, Topic::Resign, Topic::AccountState];
    let in_store = [Topic::EmailAndNickname, Topic::Relation, Topic::DeviceToken];
    let in_store = in_store
        .into_iter()
        .filter(|topic| service != "feed" || *topic != Topic::DeviceToken);
    let in_memory = in_memory.into_iter().map(|topic| (topic, topic.reader_name()));
    let in_store = in_store.map(|topic| (topic, topic.consumer_name()));
    in_memory.chain(in_store).collect()
}

/// The gates are those of any engine.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readiness_waits_for_every_state_topic() {
    let bed = Bed::new(EngineSet::Embedded).await;
    for name in SERVICES {
        let mut bus: Arc<dyn Bus> = bed.bus.clone();
        let mut held = Vec::new();
        for (topic, gate) in state_topics(name) {
            let holding = HeldBus::new(bus, topic);
            bus = holding.clone();
            held.push((gate, holding));
        }
        let service = start(&bed, name, bus).await;
        let readiness = || service.context.lifecycle.readiness();
        while let Some((gate, holding)) = held.pop() {
            let waiting = readiness().waiting_for;
            for gate in held.iter().map(|(gate, _)| gate).chain([&gate]) {
                assert!(waiting.contains(gate), "{name} waits for {gate}: {waiting:?}");
            }
            assert!(!readiness().ready, "{name} has not read {gate}");
            holding.release();
            eventually("the topic is read", async || {
                (!readiness().waiting_for.contains(&gate)).then_some(())
            })
            .await;
        }
        let ready = tokio::time::timeout(PATIENCE, service.context.lifecycle.ready()).await;
        ready.unwrap_or_else(|_| panic!("{name} is not ready: {:?}", readiness()));
        service.stop().await;
    }
}
