//! A bed with a notice service on it, and what its tests say often.

use std::time::Duration;

use sosohappy_events::types::{Device, DeviceTokenSet, PostChange, PostChanged, PostLiked};
use sosohappy_events::{Envelope, Event, Outgoing};
use sosohappy_notice::{DEFAULTS, SERVICE, Settings, build};
use sosohappy_testkit::{Bed, PATIENCE, Person, Running, Socket, eventually};

pub const DATE: i64 = 2_023_090_513_248_392;

/// Longer than an event takes; what has not come by then does not come.
pub const QUIET: Duration = Duration::from_millis(700);

/// For tests without sockets, whose pushes need not wait.
pub const AT_ONCE: (&str, &str) = ("push.delivery-timeout", "0s");

/// Starts a replica, which does not wait for more likes before it pushes one, unless the settings say otherwise.
pub async fn replica(bed: &Bed, more: &[(&str, &str)]) -> Running {
    const LIKE_DELAY: &str = "push.like-delay";
    let mut more = more.to_vec();
    if more.iter().all(|(key, _)| *key != LIKE_DELAY) {
        more.push((LIKE_DELAY, "0s"));
    }
    let settings = bed.settings::<Settings>("notice", DEFAULTS, &more).await;
    let context = bed.context(SERVICE);
    context.settings.attach(&settings);
    bed.start(build(settings, context, bed.bus.clone()).await).await
}

pub async fn connect(notice: &Running, person: &Person) -> Socket {
    let url = notice.socket_at(&format!("/notice-service/connect-notice?nickname={}", person.nickname));
    Socket::connect(&url, Some(person)).await.expect("the socket opens")
}

pub async fn kim(bed: &Bed) -> Person {
    bed.person("kim@example.com+kakao", "kim").await
}

pub async fn lee(bed: &Bed) -> Person {
    bed.person("lee@example.com+google", "lee").await
}

/// As feed publishes it.
pub fn like(liker: &Person, author: &Person, date: i64) -> PostLiked {
    PostLiked {
        liker: liker.nickname.clone(),
        liker_account: Some(liker.account.clone()),
        author: author.nickname.clone(),
        author_account: Some(author.account.clone()),
        date,
    }
}

/// As feed publishes it.
pub fn deleted_post(author: &Person, date: i64) -> PostChanged {
    PostChanged {
        change: PostChange::Deleted,
        author: author.account.clone(),
        date,
        post: 7,
        is_public: true,
        is_for_friends: false,
        is_hidden: false,
        likes: 1,
        bookmarks: 0,
        comments: 0,
        revision: 3,
        actor: None,
        comment: None,
    }
}

pub fn frame(liker: &str, date: i64) -> String {
    format!(r#"{{"topic":"like","data":{{"liker":"{liker}","date":{date}}}}}"#)
}

/// As a Spring service publishes: plain bytes, no headers.
pub async fn publish_plain<E: Event>(bed: &Bed, key: &str, value: &[u8]) {
    let record = Outgoing {
        topic: E::TOPIC.default_name().to_owned(),
        key: Some(key.to_owned()),
        value: Some(value.to_owned()),
        headers: Vec::new(),
    };
    bed.bus.publish(&[record]).await.expect("the bus takes records");
}

pub async fn device(bed: &Bed, person: &Person, token: &str) {
    let device = Device {
        session: person.session,
        token: token.to_owned(),
        since: bed.context.clock.now(),
    };
    bed.publish(DeviceTokenSet::all(person.account.clone(), vec![device]))
        .await;
}

/// What the metric counts now, over all its other labels.
pub async fn counted(notice: &Running, metric: &str, labels: &[(&str, &str)]) -> u64 {
    let text = sosohappy_common::tls::client()
        .get(notice.at("/actuator/prometheus"))
        .send()
        .await
        .expect("metrics are open")
        .text()
        .await
        .expect("text");
    text.lines()
        .filter(|line| line.starts_with(&format!("{metric}{{")))
        .filter(|line| {
            labels
                .iter()
                .all(|(name, value)| line.contains(&format!(r#"{name}="{value}""#)))
        })
        .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
        .sum()
}

pub async fn pushes(notice: &Running, kind: &str, outcome: &str) -> u64 {
    counted(notice, "notice_pushes_total", &[("kind", kind), ("outcome", outcome)]).await
}

/// Waits until the consumers have applied that many events of a topic.
pub async fn applied(notice: &Running, topic: &str, at_least: u64) {
    eventually(&format!("{at_least} of {topic} applied"), async || {
        let labels = [("topic", topic), ("kind", "consumer"), ("outcome", "applied")];
        (counted(notice, "events_consumed_total", &labels).await >= at_least).then_some(())
    })
    .await;
}

/// The first event on a topic that fits.
pub async fn find<E: Event>(bed: &Bed, fits: impl Fn(&E) -> bool) -> Envelope<E> {
    let mut reader = bed
        .bus
        .read(&[E::TOPIC], sosohappy_bus::Start::Earliest)
        .await
        .expect("the bus can be read");
    let found = async {
        loop {
            let record = reader.next().await.expect("the bus can be read");
            let envelope = Envelope::<E>::decode(&record).expect("our own events can be read");
            if fits(&envelope.event) {
                return envelope;
            }
        }
    };
    tokio::time::timeout(PATIENCE, found)
        .await
        .expect("the event was published")
}
