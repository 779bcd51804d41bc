//! A fleet of four services on one test bed; each is ours or a fake Spring service.

use std::time::Duration;

use reqwest::StatusCode;
use sosohappy_bus::Start;
use sosohappy_common::Service;
use sosohappy_fleet::app::{Addresses, Phone, Socket, Tokens};
use sosohappy_testkit::spring::{LikeForm, SpringAuth, SpringDm, SpringFeed, SpringNotice, SpringPush};
use sosohappy_testkit::{Bed, Running, eventually};

/// The interval at which auth publishes a resignation again while receipts are missing.
pub const RETRY_AFTER: Duration = Duration::from_millis(500);

/// A PNG of 1 × 1 pixels.
pub const PNG: &[u8] = &[
    0x89, b'P', b'N', b'G', 0x0d, 0x0a, 0x1a, 0x0a, 0, 0, 0, 13, b'I', b'H', b'D', b'R', 0, 0, 0, 1, 0, 0, 0, 1, 8, 6,
    0, 0, 0, 0x1f, 0x15, 0xc4, 0x89, 0, 0, 0, 13, b'I', b'D', b'A', b'T', 0x78, 0xda, 0x63, 0x64, 0xf8, 0xcf, 0x50,
    0x0f, 0, 0x03, 0x86, 0x01, 0x80, 0x5a, 0x34, 0x7d, 0x6b, 0, 0, 0, 0, b'I', b'E', b'N', b'D', 0xae, 0x42, 0x60,
    0x82,
];

/// A service of either fleet.
pub enum Either<S> {
    Spring(S),
    Ours(Running),
}

impl<S> Either<S> {
    fn ours(&self) -> Option<&Running> {
        match self {
            Self::Ours(running) => Some(running),
            Self::Spring(_) => None,
        }
    }

    fn spring(&self) -> Option<&S> {
        match self {
            Self::Spring(spring) => Some(spring),
            Self::Ours(_) => None,
        }
    }
}

/// The mixed fleet.
pub struct Fleet {
    auth: Either<SpringAuth>,
    feed: Either<SpringFeed>,
    dm: Either<SpringDm>,
    notice: Either<SpringNotice>,
    spring: Vec<Service>,
    http: reqwest::Client,
    // Dropped last: services stop before their databases are deleted.
    bed: Bed,
}

impl Fleet {
    /// Starts the fleet; the services in `spring` are fake Spring services.
    pub async fn start(bed: Bed, spring: &[Service]) -> Self {
        let is = |service| spring.contains(&service);
        let names: Vec<_> = spring.iter().map(|service| service.short_name()).collect();
        let names = names.join(",");
        let auth = if is(Service::Auth) {
            Either::Spring(SpringAuth::start(&bed.bus, &bed.mysql_url("auth")).await)
        } else {
            let more = [
                ("fleet.spring", names.as_str()),
                ("resignation.retry-after", "500ms"),
                ("nicknames.reservation", "2s"),
            ];
            let settings = bed.settings("auth", sosohappy_auth::DEFAULTS, &more).await;
            let context = bed.context(sosohappy_auth::SERVICE);
            Either::Ours(
                bed.start(sosohappy_auth::build(settings, context, bed.bus.clone()).await)
                    .await,
            )
        };
        let at_auth = match &auth {
            Either::Spring(auth) => auth.url().to_owned(),
            Either::Ours(auth) => auth.url.clone(),
        };
        let more = [("fleet.spring", names.as_str()), ("access.auth-url", at_auth.as_str())];
        let feed = if is(Service::Feed) {
            Either::Spring(SpringFeed::start(&bed.bus, &bed.mysql_url("feed"), Start::Earliest).await)
        } else {
            let settings = bed.settings("feed", sosohappy_feed::DEFAULTS, &more).await;
            let context = bed.context(sosohappy_feed::SERVICE);
            Either::Ours(
                bed.start(sosohappy_feed::build(settings, context, bed.bus.clone()).await)
                    .await,
            )
        };
        let dm = if is(Service::Dm) {
            Either::Spring(SpringDm::start(&bed.bus, &bed.mongodb_url("dm"), Start::Earliest).await)
        } else {
            let settings = bed.settings("dm", sosohappy_dm::DEFAULTS, &more).await;
            let context = bed.context(sosohappy_dm::SERVICE);
            Either::Ours(
                bed.start(sosohappy_dm::build(settings, context, bed.bus.clone()).await)
                    .await,
            )
        };
        let notice = if is(Service::Notice) {
            Either::Spring(SpringNotice::start(&bed.bus, LikeForm::Account, Start::Earliest).await)
        } else {
            let settings = bed.settings("notice", sosohappy_notice::DEFAULTS, &more).await;
            let context = bed.context(sosohappy_notice::SERVICE);
            Either::Ours(
                bed.start(sosohappy_notice::build(settings, context, bed.bus.clone()).await)
                    .await,
            )
        };
        Self {
            auth,
            feed,
            dm,
            notice,
            spring: spring.to_vec(),
            http: sosohappy_common::tls::client(),
            bed,
        }
    }

    /// Returns whether a service is a Spring service.
    pub fn has(&self, service: Service) -> bool {
        self.spring.contains(&service)
    }

    /// Creates a phone that is not signed in.
    pub fn phone(&self, name: &str) -> Phone {
        let url = |ours: Option<&Running>, spring: Option<&str>| match (ours, spring) {
            (Some(ours), _) => ours.url.clone(),
            (None, Some(spring)) => spring.to_owned(),
            (None, None) => unreachable!("a service is one or the other"),
        };
        let addresses = Addresses {
            auth: url(self.auth.ours(), self.auth.spring().map(SpringAuth::url)),
            feed: url(self.feed.ours(), self.feed.spring().map(SpringFeed::url)),
            dm: url(self.dm.ours(), self.dm.spring().map(SpringDm::url)),
            notice: url(self.notice.ours(), self.notice.spring().map(SpringNotice::url)),
        };
        Phone::new(addresses, &format!("{name}@example.com"), "kakao").unwrap()
    }

    /// Signs in with a new account, sets its nickname, and waits until the Spring services have received it.
    pub async fn person(&self, name: &str) -> Phone {
        let mut phone = self.phone(name);
        phone.sign_in().await.unwrap();
        phone.set_profile(name, "", PNG).await.unwrap();
        if let Some(feed) = self.feed.spring() {
            eventually("feed knows the name", async || feed.knows(name).then_some(())).await;
        }
        if let Some(notice) = self.notice.spring() {
            let account = phone.account().unwrap();
            let known = async || notice.knows(account, name).then_some(());
            eventually("notice knows the name and the device", known).await;
        }
        if let Some(dm) = self.dm.spring() {
            let known = async || dm.knows(name).then_some(());
            eventually("dm knows the name and the device", known).await;
        }
        phone
    }

    /// Creates an account with a row and a refresh token in the Spring auth, whose nickname was never published.
    pub async fn unnamed(&self, name: &str) -> Phone {
        let auth = self.auth.spring().expect("a Spring auth");
        let account = format!("{name}@example.com+kakao");
        sqlx::query("INSERT INTO user (email, nickname, refresh_token) VALUES (?, ?, ?)")
            .bind(&account)
            .bind(name)
            .bind("refresh")
            .execute(&auth.pool)
            .await
            .unwrap();
        let mut phone = self.phone(name);
        name.clone_into(&mut phone.nickname);
        phone.tokens = Some(Tokens {
            account,
            access: String::new(),
            refresh: "Bearer refresh".to_owned(),
        });
        phone
    }

    /// Requests the account's own post from our feed, and returns the status.
    pub async fn own_day_status(&self, who: &Phone, date: i64) -> StatusCode {
        let feed = self.feed.ours().expect("our feed");
        let tokens = who.tokens.as_ref().unwrap();
        let request = self
            .http
            .post(feed.at("/feed-service/findDayFeed"))
            .header("Authorization", &tokens.access)
            .header("email", &tokens.account)
            .form(&[("nickname", who.nickname.as_str()), ("date", &date.to_string())]);
        request.send().await.unwrap().status()
    }

    /// Returns the pushes that the Spring notice has sent to FCM.
    pub fn pushes(&self) -> Vec<SpringPush> {
        self.notice.spring().map(SpringNotice::pushes).unwrap_or_default()
    }

    /// Returns the number of records with a null value that have blocked listeners of Spring services.
    pub fn stalls(&self) -> usize {
        let stalls = [
            self.feed.spring().map(SpringFeed::stalls),
            self.dm.spring().map(SpringDm::stalls),
            self.notice.spring().map(SpringNotice::stalls),
        ];
        stalls.into_iter().flatten().sum()
    }

    /// Waits until our dm has heard a sign of life behind the frame that a socket was shown; without one it is pushed after a while.
    pub async fn wait_until_shown(&self, socket: &mut Socket) {
        let Either::Ours(dm) = &self.dm else { return };
        let shown = async || {
            // Its library answers pings only while it reads.
            assert!(socket.silent_for(Duration::from_millis(50)).await.unwrap());
            let metrics = self.http.get(dm.at("/actuator/prometheus")).send().await.ok()?;
            let metrics = metrics.text().await.ok()?;
            let line = metrics
                .lines()
                .find(|line| line.starts_with("dm_messages_shown_total{"))?;
            (!line.ends_with(" 0")).then_some(())
        };
        eventually("the message counts as shown", shown).await;
    }

    /// Waits until dm has seen that the socket of that person is gone, one of two.
    pub async fn wait_until_offline(&self, nickname: &str) {
        let gauge = async |url: &str| {
            let metrics = self.http.get(format!("{url}/actuator/prometheus")).send().await.ok()?;
            let metrics = metrics.text().await.ok()?;
            let line = metrics
                .lines()
                .find(|line| line.starts_with("sosohappy_sockets_open{"))?;
            (line.rsplit(' ').next() == Some("1")).then_some(())
        };
        match &self.dm {
            Either::Ours(dm) => eventually("the socket is gone", async || gauge(&dm.url).await).await,
            Either::Spring(dm) => {
                let gone = async || (!dm.is_online(nickname)).then_some(());
                eventually("the socket is gone", gone).await;
            }
        }
    }

    /// Waits until a message was pushed.
    pub async fn wait_for_message_push(&self) {
        match &self.notice {
            Either::Spring(notice) => {
                let pushed = async || notice.pushes().into_iter().find(|push| push.body == "어디야");
                eventually("the message is pushed", pushed).await;
            }
            Either::Ours(notice) => {
                let sent = async || {
                    let metrics = self.http.get(notice.at("/actuator/prometheus")).send().await.ok()?;
                    let metrics = metrics.text().await.ok()?;
                    let mut lines = metrics.lines().filter(|line| {
                        line.starts_with("notice_pushes_total")
                            && line.contains(r#"kind="message""#)
                            && line.contains(r#"outcome="sent""#)
                    });
                    lines.next().filter(|line| !line.ends_with(" 0"))?;
                    Some(())
                };
                eventually("the message is pushed", sent).await;
            }
        }
    }

    /// Waits until our auth has no unfinished resignation, and returns their number: always 0.
    pub async fn unfinished_resignations(&self) -> i64 {
        let Either::Ours(auth) = &self.auth else { return 0 };
        let done = async || {
            let health = self.http.get(auth.at("/actuator/health"));
            let health = health.bearer_auth(&self.bed.operator_token).send().await.ok()?;
            let health: serde_json::Value = health.json().await.ok()?;
            let unfinished = health["components"]["resignations"]["details"]["unfinished"].as_i64()?;
            (unfinished == 0).then_some(unfinished)
        };
        eventually("every resignation is complete", done).await
    }
}
