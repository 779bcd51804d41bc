//! The bus on a broker with TLS, SASL and ACLs: authentication and authorisation.

mod support;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::{Form, Json, Router, routing};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use futures::future::join_all;
use sosohappy_bus::{Bus, BusError, Start, acls_of};
use sosohappy_common::Context;
use sosohappy_common::clock::{Clock as _, Entropy, SystemClock, SystemEntropy};
use sosohappy_common::settings::{ClientCertificate, Events, Login, Mechanism, OauthClient, Sasl, Security, Tls};
use sosohappy_events::topic::Service;
use sosohappy_events::{Outgoing, Topic};
use sosohappy_kafka_admin::{Admin, BrokerAcl};
use support::{Bench, on_kafka, read, record, soon, value};

const SECURE: &str = "SOSOHAPPY_TEST_KAFKA_SECURE";
const MUTUAL: &str = "SOSOHAPPY_TEST_KAFKA_MUTUAL";
const SASL: &str = "SOSOHAPPY_TEST_KAFKA_SASL";
const TLS: &str = "SOSOHAPPY_TEST_TLS";

/// A broker whose secured listeners know a principal of the test's own.
struct Secured {
    bench: Bench,
    admin: Admin,
    tls: PathBuf,
    entropy: Arc<dyn Entropy>,
}

/// Runs a test on a broker with secured listeners, unless there is none.
async fn on_secured<F: Future<Output = ()>>(test: impl FnOnce(Bench) -> F) {
    on_listeners(&[SECURE, MUTUAL, TLS], test).await;
}

/// As [`on_secured`], for the listeners of these variables.
async fn on_listeners<F: Future<Output = ()>>(variables: &[&str], test: impl FnOnce(Bench) -> F) {
    if let Some(missing) = variables.iter().find(|name| std::env::var_os(name).is_none()) {
        assert!(
            std::env::var_os("SOSOHAPPY_TEST_REQUIRE_ENGINES").is_none(),
            "{missing} is not set: scripts/engines down kafka, then scripts/engines up"
        );
        println!("skipped: {missing} is not set");
        return;
    }
    on_kafka(test).await;
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set"))
}

impl Secured {
    async fn new(bench: Bench) -> Self {
        let brokers = bench.url.trim_start_matches("kafka:");
        let admin = Admin::connect(brokers, &Security::default()).await.unwrap();
        bench.open().await.create_topics(&Topic::ALL).await.unwrap();
        Self {
            admin,
            tls: variable(TLS).into(),
            entropy: Arc::new(SystemEntropy),
            bench,
        }
    }

    /// Gives the rights of a service to a principal.
    async fn allow(&mut self, service: Service, principal: &str) {
        let acls = acls_of(service, principal, &Events::new(&self.bench.url, &self.bench.prefix)).unwrap();
        self.admin.create_acls(&acls).await.unwrap();
        // The broker applies them after it has answered.
        soon(async {
            while self.admin.acls_of(principal).await.unwrap().len() < acls.len() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
    }

    /// Creates a SCRAM account with the rights of a service.
    async fn account(&mut self, mechanism: Mechanism, service: Service) -> Login {
        let username = format!("{}{}", self.bench.prefix, service.short_name());
        let password = self.entropy.hex(16);
        self.admin
            .set_password(mechanism, &username, &password, &*self.entropy)
            .await
            .unwrap();
        self.allow(service, &format!("User:{username}")).await;
        let password = password.into();
        Login { username, password }
    }

    fn encrypted(&self) -> Tls {
        Tls {
            ca: Some(self.tls.join("ca.pem")),
            client: None,
        }
    }

    fn with(&self, sasl: Sasl) -> Security {
        Security {
            tls: Some(self.encrypted()),
            sasl: Some(sasl),
        }
    }

    /// Returns the security of the account `plain`, which the broker's own settings have.
    fn plain(&self) -> Security {
        let password = std::fs::read_to_string(self.tls.join("password")).unwrap();
        self.with(Sasl::Plain(Login {
            username: "plain".to_owned(),
            password: password.trim().into(),
        }))
    }

    async fn open(&self, listener: &str, service: Service, security: Security) -> Result<Arc<dyn Bus>, BusError> {
        let settings = Events {
            security,
            ..Events::new(&variable(listener), &self.bench.prefix)
        };
        sosohappy_bus::open(&settings, &Context::system(service.name(), 0)).await
    }

    /// Takes back what the broker keeps of this test beside its topics.
    async fn clean_up(mut self, principals: &[&str]) {
        let scram = [Mechanism::ScramSha256, Mechanism::ScramSha512];
        for principal in principals {
            let acls = self.admin.acls_of(principal).await.unwrap();
            let known = acls.into_iter().filter_map(|acl| match acl {
                BrokerAcl::Known(acl) if acl.name.starts_with(&self.bench.prefix) => Some(acl),
                _ => None,
            });
            self.admin.delete_acls(&known.collect::<Vec<_>>()).await.unwrap();
            for mechanism in scram {
                let name = principal.trim_start_matches("User:");
                self.admin.delete_account(mechanism, name).await.unwrap();
            }
        }
    }
}

/// The usual work of feed: publishes likes, reads tokens without a group, and consumes names in a group.
async fn a_day_of_feed(bench: &Bench, feed: &dyn Bus) {
    let fleet = bench.open().await;
    fleet
        .publish(&[
            record(Topic::AccessToken, "a@b", "token"),
            record(Topic::EmailAndNickname, "a@b", "name"),
        ])
        .await
        .unwrap();

    feed.publish(&[record(Topic::NoticeLike, "liker", "author,1")])
        .await
        .unwrap();
    let mut tokens = feed.read(&[Topic::AccessToken], Start::Earliest).await.unwrap();
    assert_eq!(value(&soon(tokens.next()).await.unwrap()), "token");
    let mut member = feed
        .join("feed-service.emailAndNickname", &[Topic::EmailAndNickname])
        .await
        .unwrap();
    let name = soon(member.next()).await.unwrap();
    assert_eq!(value(&name), "name");
    member.dead_letter(&name, "a test").await.unwrap();
    member.done(&name).await.unwrap();
    member.leave().await;

    let mut likes = fleet.read(&[Topic::NoticeLike], Start::Earliest).await.unwrap();
    assert_eq!(value(&read(&mut *likes, 1).await[0]), "author,1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scram_over_tls_publishes_and_consumes() {
    on_secured(async |bench: Bench| {
        let mut secured = Secured::new(bench).await;
        for mechanism in [Mechanism::ScramSha512, Mechanism::ScramSha256] {
            let login = secured.account(mechanism, Service::Feed).await;
            let sasl = if mechanism == Mechanism::ScramSha512 {
                Sasl::ScramSha512(login)
            } else {
                Sasl::ScramSha256(login)
            };
            let feed = secured.open(SECURE, Service::Feed, secured.with(sasl)).await.unwrap();
            a_day_of_feed(&secured.bench, &*feed).await;
        }
        let principal = format!("User:{}feed", secured.bench.prefix);
        secured.clean_up(&[&principal]).await;
    })
    .await;
}

/// Cases A4: a client that can write `accessToken` holds a session of any account.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_writes_and_reads_what_is_declared_for_it() {
    on_secured(async |bench: Bench| {
        let mut secured = Secured::new(bench).await;
        let login = secured.account(Mechanism::ScramSha512, Service::Feed).await;
        let security = secured.with(Sasl::ScramSha512(login));
        let feed = secured.open(SECURE, Service::Feed, security).await.unwrap();

        for topic in Topic::ALL {
            let outcome = soon(feed.publish(&[record(topic, "key", "forged")])).await;
            let may_write = topic.producers().contains(&Service::Feed);
            assert_eq!(outcome.is_ok(), may_write, "{topic:?}: {outcome:?}");
            if let Err(error) = outcome {
                // The broker does not reveal that a topic exists which the service may not even read.
                let reason = error.to_string();
                let refused = reason.contains("authorization failed");
                assert!(
                    refused && matches!(error, BusError::Unavailable(_)),
                    "{topic:?}: {reason}"
                );
            }
        }
        let fleet = secured.bench.open().await;
        let mut tokens = fleet.read(&[Topic::AccessToken], Start::Earliest).await.unwrap();
        assert!(tokens.caught_up(), "there is a record in accessToken");
        drop(tokens.next());

        // A topic that it only writes, and a group of another service.
        let mut receipts = feed.read(&[Topic::Erased], Start::Earliest).await.unwrap();
        let mut member = feed.join("dm-service.resign", &[Topic::Resign]).await.unwrap();
        fleet.publish(&[record(Topic::Resign, "a@b", "name")]).await.unwrap();
        let (leaked, stolen) = tokio::join!(
            tokio::time::timeout(Duration::from_secs(5), receipts.next()),
            tokio::time::timeout(Duration::from_secs(5), member.next()),
        );
        assert!(!matches!(leaked, Ok(Ok(_))), "a record for auth came: {leaked:?}");
        assert!(!matches!(stolen, Ok(Ok(_))), "a record of dm's group came: {stolen:?}");

        let principal = format!("User:{}feed", secured.bench.prefix);
        secured.clean_up(&[&principal]).await;
    })
    .await;
}

fn another_authority(folder: &Path) -> PathBuf {
    let path = folder.join("other.pem");
    let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(&path, other.cert.pem()).unwrap();
    path
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_authority_password_or_protocol_does_not_connect() {
    on_secured(async |bench: Bench| {
        let folder = tempfile::tempdir().unwrap();
        let mut secured = Secured::new(bench).await;
        let login = secured.account(Mechanism::ScramSha512, Service::Feed).await;
        let sasl = Sasl::ScramSha512(login.clone());
        let right = secured.with(sasl.clone());
        let other_authority = Security {
            tls: Some(Tls {
                ca: Some(another_authority(folder.path())),
                client: None,
            }),
            sasl: Some(sasl.clone()),
        };
        let wrong_password = secured.with(Sasl::ScramSha512(Login {
            password: "wrong".into(),
            ..login
        }));
        let unencrypted = Security {
            tls: None,
            sasl: Some(sasl),
        };
        let unnamed = Security {
            tls: Some(secured.encrypted()),
            sasl: None,
        };
        let wrong = [
            ("another authority", other_authority),
            ("a wrong password", wrong_password),
            ("no TLS", unencrypted),
            ("no credentials", unnamed),
            ("nothing", Security::default()),
        ];
        let opened = secured.open(SECURE, Service::Feed, right).await.unwrap();
        soon(opened.ping()).await.unwrap();
        // Each waits for a connection as long as a question may take.
        let pings = wrong.map(|(what, security)| {
            let secured = &secured;
            async move {
                let bus = secured.open(SECURE, Service::Feed, security).await.unwrap();
                (what, bus.ping().await)
            }
        });
        for (what, outcome) in join_all(pings).await {
            assert!(
                matches!(outcome, Err(BusError::Unavailable(_))),
                "{what} connects: {outcome:?}"
            );
        }
        let missing = Security {
            tls: Some(Tls {
                ca: Some("/nowhere/ca.pem".into()),
                client: None,
            }),
            sasl: None,
        };
        let reason = secured.open(SECURE, Service::Feed, missing).await.unwrap_err();
        let reason = reason.to_string();
        assert!(
            reason.starts_with("events: security.ca: /nowhere/ca.pem: No such file"),
            "{reason}"
        );
        let principal = format!("User:{}feed", secured.bench.prefix);
        secured.clean_up(&[&principal]).await;
    })
    .await;
}

/// The broker's certificate names 127.0.0.1 and localhost; Linux has all of 127.0.0.0/8 on its loopback interface.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_whose_certificate_has_another_name_is_refused() {
    on_secured(async |bench: Bench| {
        let mut secured = Secured::new(bench).await;
        let principal = "User:plain";
        secured.allow(Service::Feed, principal).await;
        let security = secured.plain();
        let broker = variable(SECURE).trim_start_matches("kafka:").to_owned();
        let listener = tokio::net::TcpListener::bind("127.0.0.2:0").await.unwrap();
        let other = listener.local_addr().unwrap().to_string();
        let target = broker.clone();
        let forwarding = tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let mut server = tokio::net::TcpStream::connect(&target).await.unwrap();
                tokio::spawn(async move { tokio::io::copy_bidirectional(&mut client, &mut server).await });
            }
        });
        for (address, is_named) in [(&broker, true), (&other, false)] {
            let settings = Events {
                security: security.clone(),
                ..Events::new(&format!("kafka:{address}"), &secured.bench.prefix)
            };
            let bus = sosohappy_bus::open(&settings, &Context::system("feed-service", 0))
                .await
                .unwrap();
            assert_eq!(bus.ping().await.is_ok(), is_named, "{address}");
            assert_eq!(Admin::connect(address, &security).await.is_ok(), is_named, "{address}");
        }
        forwarding.abort();
        secured.clean_up(&[principal]).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_certificate_is_a_principal() {
    on_secured(async |bench: Bench| {
        let mut secured = Secured::new(bench).await;
        let principal = "User:CN=mutual";
        secured.allow(Service::Feed, principal).await;
        let shown = Security {
            tls: Some(Tls {
                client: Some(ClientCertificate {
                    certificate: secured.tls.join("client.crt"),
                    key: secured.tls.join("client.key"),
                    key_password: None,
                }),
                ..secured.encrypted()
            }),
            sasl: None,
        };
        let feed = secured.open(MUTUAL, Service::Feed, shown).await.unwrap();
        a_day_of_feed(&secured.bench, &*feed).await;
        let outcome = soon(feed.publish(&[record(Topic::AccessToken, "key", "forged")])).await;
        assert!(outcome.is_err(), "it writes accessToken");

        let none = Security {
            tls: Some(secured.encrypted()),
            sasl: None,
        };
        let unknown = secured.open(MUTUAL, Service::Feed, none).await.unwrap();
        assert!(unknown.ping().await.is_err(), "no certificate is needed");
        secured.clean_up(&[principal]).await;
    })
    .await;
}

/// `sasl_plaintext`: where the network encrypts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scram_without_tls_publishes_and_consumes() {
    on_listeners(&[SASL, TLS], async |bench: Bench| {
        let mut secured = Secured::new(bench).await;
        let login = secured.account(Mechanism::ScramSha512, Service::Feed).await;
        let unencrypted = |login: Login| Security {
            tls: None,
            sasl: Some(Sasl::ScramSha512(login)),
        };
        let feed = secured
            .open(SASL, Service::Feed, unencrypted(login.clone()))
            .await
            .unwrap();
        a_day_of_feed(&secured.bench, &*feed).await;
        let outcome = soon(feed.publish(&[record(Topic::AccessToken, "key", "forged")])).await;
        assert!(outcome.is_err(), "it writes accessToken");

        let wrong = Login {
            password: "wrong".into(),
            ..login
        };
        let refused = secured.open(SASL, Service::Feed, unencrypted(wrong)).await.unwrap();
        assert!(refused.ping().await.is_err(), "a wrong password connects");
        let principal = format!("User:{}feed", secured.bench.prefix);
        secured.clean_up(&[&principal]).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plain_over_tls_publishes_and_consumes() {
    on_secured(async |bench: Bench| {
        let mut secured = Secured::new(bench).await;
        let principal = "User:plain";
        secured.allow(Service::Feed, principal).await;
        let security = secured.plain();
        let feed = secured.open(SECURE, Service::Feed, security.clone()).await.unwrap();
        a_day_of_feed(&secured.bench, &*feed).await;

        // The administration logs in as clients do, and is refused what this principal may not do.
        let brokers = variable(SECURE);
        let mut admin = Admin::connect(brokers.trim_start_matches("kafka:"), &security)
            .await
            .unwrap();
        let refused = admin.acls_of(principal).await.unwrap_err().to_string();
        assert!(refused.contains("ClusterAuthorizationFailed"), "{refused}");
        secured.clean_up(&[principal]).await;
    })
    .await;
}

/// A request that a token endpoint received.
#[derive(Debug, Clone)]
struct TokenEndpoint {
    principal: String,
    asked: Arc<std::sync::Mutex<Vec<(String, String)>>>,
}

async fn token(
    State(endpoint): State<TokenEndpoint>,
    headers: HeaderMap,
    Form(form): Form<Vec<(String, String)>>,
) -> Json<serde_json::Value> {
    let authorization = headers["authorization"].to_str().unwrap().to_owned();
    endpoint
        .asked
        .lock()
        .unwrap()
        .push((authorization, format!("{form:?}")));
    let now = SystemClock.now().as_second();
    let claims = serde_json::json!({ "sub": endpoint.principal, "iat": now, "exp": now + 20, "scope": "kafka" });
    let [header, claims] =
        [r#"{"alg":"none"}"#.to_owned(), claims.to_string()].map(|part| URL_SAFE_NO_PAD.encode(part));
    Json(serde_json::json!({ "access_token": format!("{header}.{claims}."), "expires_in": 20, "token_type": "Bearer" }))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn oauthbearer_gets_tokens_and_renews_them() {
    on_secured(async |bench: Bench| {
        let mut secured = Secured::new(bench).await;
        let name = format!("{}oauth", secured.bench.prefix);
        let principal = format!("User:{name}");
        secured.allow(Service::Feed, &principal).await;
        let endpoint = TokenEndpoint {
            principal: name,
            asked: Arc::default(),
        };
        let routes = Router::new()
            .route("/token", routing::post(token))
            .with_state(endpoint.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/token", listener.local_addr().unwrap());
        let serving = tokio::spawn(async move { axum::serve(listener, routes).await });

        let sasl = Sasl::OauthBearer(OauthClient {
            token_url: url.parse().unwrap(),
            client_id: "feed".to_owned(),
            client_secret: "hunter2".into(),
            scope: Some("kafka".to_owned()),
            ca: None,
        });
        let feed = secured.open(SECURE, Service::Feed, secured.with(sasl)).await.unwrap();
        a_day_of_feed(&secured.bench, &*feed).await;
        let first = endpoint.asked.lock().unwrap()[0].clone();
        assert_eq!(first.0, format!("Basic {}", STANDARD.encode("feed:hunter2")));
        assert_eq!(first.1, r#"[("grant_type", "client_credentials"), ("scope", "kafka")]"#);
        soon(async {
            while endpoint.asked.lock().unwrap().len() < 2 {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        })
        .await;
        let again: Outgoing = record(Topic::NoticeLike, "liker", "author,2");
        soon(feed.publish(&[again])).await.unwrap();

        serving.abort();
        secured.clean_up(&[&principal]).await;
    })
    .await;
}
