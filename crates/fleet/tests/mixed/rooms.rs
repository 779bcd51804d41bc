//! Our dm and notice together: a message of a room is a frame for members with a socket, and a push for the others.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sosohappy_events::types::{Device, DeviceTokenSet};
use sosohappy_testkit::push_providers::PushProviders;
use sosohappy_testkit::{Bed, Person, Running, Socket, eventually, on_both_engines};

on_both_engines!(a_member_with_a_socket_gets_a_frame_and_one_without_a_push);

/// When a push is due for what no socket has shown.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(3);

async fn dm(bed: &Bed) -> Running {
    let settings = bed.settings("dm", sosohappy_dm::DEFAULTS, &[]).await;
    let context = bed.context(sosohappy_dm::SERVICE);
    bed.start(sosohappy_dm::build(settings, context, bed.bus.clone()).await)
        .await
}

async fn notice(bed: &Bed, providers: &PushProviders) -> Running {
    let own = providers.settings();
    let mut more: Vec<_> = own.iter().map(|(key, value)| (*key, value.as_str())).collect();
    let timeout = format!("{}s", DELIVERY_TIMEOUT.as_secs());
    more.push(("push.delivery-timeout", timeout.as_str()));
    let settings = bed.settings("notice", sosohappy_notice::DEFAULTS, &more).await;
    let context = bed.context(sosohappy_notice::SERVICE);
    bed.start(sosohappy_notice::build(settings, context, bed.bus.clone()).await)
        .await
}

async fn device(bed: &Bed, person: &Person) {
    let device = Device {
        session: person.session,
        token: format!("fcm-{}:token", person.nickname),
        since: bed.context.clock.now(),
    };
    bed.publish(DeviceTokenSet::all(person.account.clone(), vec![device]))
        .await;
}

async fn consumed(notice: &Running, topic: &str) -> u64 {
    let metrics = sosohappy_common::tls::client().get(notice.at("/actuator/prometheus"));
    let metrics = metrics
        .send()
        .await
        .expect("metrics are open")
        .text()
        .await
        .expect("text");
    let of_topic = metrics.lines().filter(|line| {
        let labels = [
            format!("topic=\"{topic}\""),
            "kind=\"consumer\"".to_owned(),
            "outcome=\"applied\"".to_owned(),
        ];
        line.starts_with("events_consumed_total{") && labels.iter().all(|label| line.contains(label.as_str()))
    });
    of_topic
        .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
        .sum()
}

async fn open(dm: &Running, who: &Person) -> Socket {
    let path = format!("/dm-service/connect-dm?nickname={}&v=2", who.nickname);
    let socket = Socket::connect(&dm.socket_at(&path), Some(who)).await;
    socket.expect("the socket opens")
}

async fn frame(socket: &mut Socket, topic: &str) -> Value {
    loop {
        let frame = socket.json().await;
        if frame["topic"] == topic {
            return frame;
        }
    }
}

/// Returns the text of each push of a room's message to the person's device.
fn pushed(providers: &PushProviders, person: &Person) -> Vec<String> {
    let device = format!("fcm-{}:token", person.nickname);
    let of_device = providers.sent().into_iter().filter(|push| push.device == device);
    let bodies = of_device.map(|push| push.payload["message"]["notification"]["body"].clone());
    bodies.filter_map(|body| Some(body.as_str()?.to_owned())).collect()
}

async fn a_member_with_a_socket_gets_a_frame_and_one_without_a_push(bed: Bed) {
    let providers = PushProviders::start().await;
    let (dm, notice) = (dm(&bed).await, notice(&bed, &providers).await);
    let kim = bed.person("kim@example.com+kakao", "kim").await;
    let lee = bed.person("lee@example.com+apple", "lee").await;
    let park = bed.person("park@example.com+google", "park").await;
    for person in [&kim, &lee, &park] {
        device(&bed, person).await;
    }
    eventually("the devices are known", async || {
        (consumed(&notice, "deviceToken").await >= 3).then_some(())
    })
    .await;
    let request = sosohappy_common::tls::client().post(dm.at("/dm-service/createRoom"));
    let request = request.form(&[("name", "우리반"), ("members", "lee,park")]);
    let answer = kim.sign(request).send().await.expect("dm answers");
    assert_eq!(answer.status(), 200);
    let room = answer.json::<Value>().await.expect("JSON")["roomId"].clone();

    let (mut from, mut to) = (open(&dm, &kim).await, open(&dm, &lee).await);
    let say = |id: &str, text: &str| {
        json!({ "topic": "message", "id": id, "data": { "roomId": room, "text": text } }).to_string()
    };
    let said = Instant::now();
    from.send(say("1", "first")).await;
    let shown = frame(&mut to, "message").await;
    assert_eq!(shown["data"]["text"], "first");
    to.send(json!({ "topic": "ack", "seq": shown["seq"] }).to_string())
        .await;
    eventually("the receipt is known", async || {
        (consumed(&notice, "messageReceipt").await >= 1).then_some(())
    })
    .await;
    let settled_in_time = said.elapsed() < DELIVERY_TIMEOUT;
    eventually("the member who is away gets a push", async || {
        (pushed(&providers, &park) == ["kim: first"]).then_some(())
    })
    .await;
    assert!(said.elapsed() >= DELIVERY_TIMEOUT, "a socket has that long to show it");

    // The second is not acknowledged: the push of lee counts those that were not shown.
    from.send(say("2", "second")).await;
    assert_eq!(frame(&mut to, "message").await["data"]["text"], "second");
    eventually("both get a push", async || {
        let both = [&lee, &park].map(|person| pushed(&providers, person));
        both.iter()
            .all(|pushes| pushes.last().is_some_and(|body| body == "kim: second"))
            .then_some(both)
    })
    .await;
    // A machine that is too busy to read the receipt in time pushes a message that was shown.
    assert!(pushed(&providers, &lee) == ["kim: second"] || !settled_in_time);
    assert!(pushed(&providers, &kim).is_empty(), "its sender");
}
