//! A mixed fleet: forms of records, receipts, ids and names while services of the legacy Spring fleet run (setting `fleet.spring`).
//!
//! Every rule toward a Spring service is here, and nothing else reads the setting. `docs/migration.md` says what users and operators
//! see of it.

use sosohappy_common::settings::{AccessTokenForm, Events, Fleet, Live, SpringNoticeLike};
use sosohappy_common::{Account, Service};

use crate::types::direct_message::RECEIVER_ONLINE;
use crate::{EventId, Header, Outgoing, Topic};

/// The topic of Spring Cloud Bus.
const SPRING_BUS: &str = "springCloudBus";

/// The services of the legacy Spring fleet that read a topic.
const fn spring_readers(topic: Topic) -> &'static [Service] {
    match topic {
        Topic::AccessToken | Topic::Expired | Topic::Resign | Topic::EmailAndNickname => {
            &[Service::Feed, Service::Dm, Service::Notice]
        }
        // Our dm reads it too: it puts push tokens on `directMessage`.
        Topic::DeviceToken => &[Service::Dm, Service::Notice],
        Topic::NoticeLike | Topic::DirectMessage => &[Service::Notice],
        Topic::ConfigBus => &Service::ALL,
        Topic::Relation
        | Topic::Follow
        | Topic::AccountState
        | Topic::Erased
        | Topic::Notice
        | Topic::Heartbeat
        | Topic::SocketMessage
        | Topic::ConfigCanary
        | Topic::Post
        | Topic::Moderation
        | Topic::SocketFrame
        | Topic::MessageChange
        | Topic::MessageRequest
        | Topic::RoomMessage
        | Topic::MessageReceipt
        | Topic::ModerationApplied => &[],
    }
}

/// Returns whether a Spring service reads the topic.
fn is_read_by_spring(fleet: &Fleet, topic: Topic) -> bool {
    spring_readers(topic).iter().any(|reader| fleet.spring.contains(reader))
}

/// The rules under the present settings. Clones follow the same setting.
#[derive(Debug, Clone)]
pub struct Mixed(Live<Fleet>);

/// The services whose receipts complete a resignation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipts {
    /// Services that acknowledge, by [`Service::name`].
    pub awaited: Vec<String>,
    /// Spring services, which never acknowledge.
    pub never: Vec<String>,
}

impl Mixed {
    #[must_use]
    pub fn new(fleet: Live<Fleet>) -> Self {
        Self(fleet)
    }

    /// Returns the rules of a fleet without Spring services.
    #[must_use]
    pub fn none() -> Self {
        Self(Live::new(Fleet::default()))
    }

    fn is_spring(&self, service: Service) -> bool {
        self.0.get().spring.contains(&service)
    }

    /// Returns whether a Spring service reads the topic.
    fn is_read_by_spring(&self, topic: Topic) -> bool {
        is_read_by_spring(&self.0.get(), topic)
    }

    /// Returns whether `accessToken` carries the tokens themselves: a Spring service cannot use digests.
    #[must_use]
    pub fn publishes_raw_tokens(&self) -> bool {
        self.is_read_by_spring(Topic::AccessToken) || self.0.get().access_token_form == Some(AccessTokenForm::Raw)
    }

    /// Returns how `noticeLike` names the author of the post in its value.
    #[must_use]
    pub fn like_author(&self, nickname: &str, account: &Account) -> String {
        let by_account =
            self.is_read_by_spring(Topic::NoticeLike) && self.0.get().spring_notice_like == SpringNoticeLike::Account;
        if by_account { account.as_str() } else { nickname }.to_owned()
    }

    /// Returns whether records with a null value may be published on the topic: each stops a Spring listener for 4.5 s, but on `expired`,
    /// whose value is always null.
    #[must_use]
    pub fn allows_null_values(&self, topic: Topic) -> bool {
        topic == Topic::Expired || !self.is_read_by_spring(topic)
    }

    /// Divides the services that hold data of an account into those that acknowledge an erasure and those that do not.
    #[must_use]
    pub fn receipts(&self, services: &[String]) -> Receipts {
        let (never, awaited) = services
            .iter()
            .cloned()
            .partition(|name| Service::named(name).is_some_and(|service| self.is_spring(service)));
        Receipts { awaited, never }
    }

    /// Returns whether `resign` may be published again: a Spring service erases the account that has the nickname when the copy
    /// arrives, which may be another one by then.
    #[must_use]
    pub fn may_repeat_resignations(&self) -> bool {
        !self.is_read_by_spring(Topic::Resign)
    }

    /// Returns whether a Spring notice reads `noticeLike` and `directMessage`, and pushes each record. It takes the key of `directMessage`
    /// for a push token.
    #[must_use]
    pub fn pushes_by_spring_notice(&self) -> bool {
        self.is_read_by_spring(Topic::DirectMessage)
    }

    /// Returns whether a Spring notice pushes the likes and messages that a replica of our notice reads which is started now. The value follows
    /// the setting:
    ///
    /// | `fleet.spring` has notice now | and has had it since | pushed by |
    /// | --- | --- | --- |
    /// | no | any | our replica: a Spring notice that is added begins at the record at which ours has ended, so ours pushes until it is stopped |
    /// | yes | yes | the Spring notice |
    /// | yes | not always | our replica, until it is stopped |
    #[must_use]
    pub fn is_beside_spring_notice(&self) -> Live<bool> {
        self.0.follow(|fleet, before| {
            before.is_none_or(|is_beside| *is_beside) && is_read_by_spring(fleet, Topic::DirectMessage)
        })
    }

    /// Returns what is published for a message: itself, or while a Spring notice reads `directMessage` one record for the replicas of
    /// our dm, on a topic of their own, and for a receiver without a socket one record a device, keyed by its push token.
    #[must_use]
    pub fn direct_messages(&self, message: &Outgoing, devices: &[String]) -> Vec<Outgoing> {
        if !self.pushes_by_spring_notice() {
            return vec![message.clone()];
        }
        let header = |name: &str| message.headers.iter().find(|(header, _)| header == name);
        let is_online = header(RECEIVER_ONLINE).is_some_and(|(_, online)| online == "true");
        let event: Option<EventId> = header(Header::EVENT_ID).and_then(|(_, id)| id.parse().ok());
        let mut records = vec![Outgoing {
            topic: Topic::SocketMessage.default_name().to_owned(),
            ..message.clone()
        }];
        if is_online {
            return records;
        }
        for device in devices {
            let mut record = Outgoing {
                key: Some(device.clone()),
                ..message.clone()
            };
            // An id of its own for each push: our notice deduplicates by event id once it replaces the Spring notice.
            for (name, value) in &mut record.headers {
                if let (Header::EVENT_ID, Some(event)) = (name.as_str(), event) {
                    *value = event.of_part(device).to_string();
                }
            }
            records.push(record);
        }
        records
    }

    /// Returns whether messages in MongoDB have an `ObjectId`: a Spring dm answers 500 to a conversation with any other `_id`.
    #[must_use]
    pub fn stores_object_ids(&self) -> bool {
        self.is_spring(Service::Dm)
    }

    /// Returns whether auth answers `introspect` and `lookup`, which a Spring auth does not know.
    #[must_use]
    pub fn auth_answers_services(&self) -> bool {
        !self.is_spring(Service::Auth)
    }
}

/// Returns the settings of the bus with the topic of Spring Cloud Bus in place of `configBus` while a service is Spring, unless
/// `events.topics` names another.
#[must_use]
pub fn bus_settings(events: &Events, fleet: &Fleet) -> Events {
    let mut events = events.clone();
    if !fleet.spring.is_empty() {
        events
            .topics
            .entry(Topic::ConfigBus.default_name().to_owned())
            .or_insert_with(|| SPRING_BUS.to_owned());
    }
    events
}

/// Returns the setting with these Spring services, for tests.
#[must_use]
pub fn spring(services: &[Service]) -> Fleet {
    Fleet {
        spring: services.iter().copied().collect(),
        ..Fleet::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(services: &[Service]) -> Mixed {
        Mixed::new(Live::new(spring(services)))
    }

    #[test]
    fn tokens_are_raw_while_a_spring_service_reads_them() {
        assert!(!Mixed::none().publishes_raw_tokens());
        assert!(!with(&[Service::Auth, Service::Config]).publishes_raw_tokens());
        for reader in [Service::Feed, Service::Dm, Service::Notice] {
            assert!(with(&[reader]).publishes_raw_tokens(), "{reader:?}");
        }
        let renamed = |form| {
            Mixed::new(Live::new(Fleet {
                access_token_form: Some(form),
                ..Fleet::default()
            }))
        };
        assert!(renamed(AccessTokenForm::Raw).publishes_raw_tokens());
        assert!(!renamed(AccessTokenForm::Digest).publishes_raw_tokens());
    }

    #[test]
    fn likes_name_the_author_as_the_spring_notice_reads_it() {
        let lee: Account = "lee@example.com+apple".parse().unwrap();
        let author = |mixed: &Mixed| mixed.like_author("lee", &lee);
        assert_eq!(author(&Mixed::none()), "lee");
        assert_eq!(author(&with(&[Service::Feed])), "lee");
        assert_eq!(author(&with(&[Service::Notice])), "lee@example.com+apple");
        let with_socket = Fleet {
            spring_notice_like: SpringNoticeLike::Nickname,
            ..spring(&[Service::Notice])
        };
        assert_eq!(author(&Mixed::new(Live::new(with_socket))), "lee");
    }

    #[test]
    fn null_values_are_kept_from_topics_that_spring_reads() {
        let feed = with(&[Service::Feed]);
        assert!(!feed.allows_null_values(Topic::EmailAndNickname));
        assert!(feed.allows_null_values(Topic::DeviceToken), "feed does not read it");
        assert!(feed.allows_null_values(Topic::Relation) && feed.allows_null_values(Topic::Expired));
        assert!(!with(&[Service::Notice]).allows_null_values(Topic::DeviceToken));
        assert!(
            Topic::ALL
                .into_iter()
                .all(|topic| Mixed::none().allows_null_values(topic))
        );
    }

    #[test]
    fn a_spring_notice_gets_one_record_a_device_of_a_receiver_without_a_socket() {
        let message = |online: &str| Outgoing {
            topic: "directMessage".to_owned(),
            key: Some("lee@example.com+apple".to_owned()),
            value: Some(b"{}".to_vec()),
            headers: vec![
                (
                    Header::EVENT_ID.to_owned(),
                    "0193e5a0-0000-7000-8000-000000000000".to_owned(),
                ),
                (RECEIVER_ONLINE.to_owned(), online.to_owned()),
            ],
        };
        let devices = ["phone", "tablet"].map(str::to_owned);
        let offline = message("false");
        assert_eq!(
            Mixed::none().direct_messages(&offline, &devices),
            std::slice::from_ref(&offline)
        );

        let spring = with(&[Service::Notice]);
        let records = spring.direct_messages(&offline, &devices);
        let places: Vec<_> = records
            .iter()
            .map(|it| (it.topic.as_str(), it.key.as_deref().unwrap()))
            .collect();
        assert_eq!(
            places,
            [
                ("socketMessage", "lee@example.com+apple"),
                ("directMessage", "phone"),
                ("directMessage", "tablet")
            ]
        );
        let ids: std::collections::BTreeSet<_> = records.iter().map(|it| &it.headers[0].1).collect();
        assert_eq!(ids.len(), 3);
        assert_eq!(records[0].headers, offline.headers);
        assert_eq!(spring.direct_messages(&message("true"), &devices).len(), 1);
        assert_eq!(
            records,
            spring.direct_messages(&offline, &devices),
            "a record published again is the same"
        );
    }

    #[test]
    fn spring_services_give_no_receipts() {
        let services = ["feed-service", "dm-service"].map(str::to_owned);
        let receipts = with(&[Service::Feed, Service::Auth]).receipts(&services);
        assert_eq!(
            (receipts.awaited, receipts.never),
            (vec!["dm-service".to_owned()], vec!["feed-service".to_owned()])
        );
        assert_eq!(Mixed::none().receipts(&services).awaited, services);
    }

    #[test]
    fn the_bus_is_springs_while_a_service_is_spring() {
        let mut events = Events::new("journal:x", "");
        assert!(bus_settings(&events, &Fleet::default()).topics.is_empty());
        let fleet = spring(&[Service::Config]);
        assert_eq!(bus_settings(&events, &fleet).topics["configBus"], "springCloudBus");
        events.topics.insert("configBus".to_owned(), "bus".to_owned());
        assert_eq!(bus_settings(&events, &fleet).topics["configBus"], "bus");
    }
}
