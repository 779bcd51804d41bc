//! Databases behind TLS and a password, by the URLs that production has: `ssl-mode=VERIFY_CA` and `tls=true`.

use std::time::Duration;

use sosohappy_common::Context;
use sosohappy_store::{StoreError, mongo, mysql};

use crate::bed::{real, things, with_database};

/// For a connection that opens.
const PATIENCE: Duration = Duration::from_mins(1);

/// A refused connection may be retried for half a minute: an accepted one is open before.
const REFUSED: Duration = Duration::from_secs(8);

/// A database of one test on a secured engine.
struct Secured {
    url: String,
    name: String,
    ca: String,
    folder: tempfile::TempDir,
}

impl Secured {
    fn new(variable: &str) -> Option<Self> {
        let url = real(variable)?;
        let ca = format!("{}/ca.pem", real("SOSOHAPPY_TEST_TLS")?);
        assert!(url.contains(&ca), "the URL names the authority");
        let name = format!("store_{}", Context::system("test", 0).entropy.hex(8));
        Some(Self {
            url: with_database(&url, &name),
            name,
            ca,
            folder: tempfile::tempdir().unwrap(),
        })
    }

    /// The URL with the certificate of an authority that has signed nothing here.
    fn with_another_authority(&self) -> String {
        let path = self.folder.path().join("other.pem");
        let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        std::fs::write(&path, other.cert.pem()).unwrap();
        self.with(&self.ca, path.to_str().unwrap())
    }

    fn with(&self, text: &str, other: &str) -> String {
        assert!(self.url.contains(text), "{text}");
        self.url.replace(text, other)
    }

    fn with_a_wrong_password(&self) -> String {
        let password = self.url.split("secure:").nth(1).and_then(|rest| rest.split('@').next());
        self.with(password.expect("a URL with a password"), "wrong")
    }
}

async fn open_mysql(url: &str) -> Result<mysql::Database, StoreError> {
    let context = Context::system("test-service", 0);
    mysql::Database::open(&url.into(), 1, &things(), &context).await
}

#[tokio::test]
async fn an_authority_that_did_not_sign_the_servers_certificate_is_refused() {
    let Some(secured) = Secured::new("SOSOHAPPY_TEST_MYSQL_SECURE") else {
        return;
    };
    let database = open_mysql(&secured.url).await.unwrap();
    let cipher: (String, String) = sqlx::query_as("SHOW STATUS LIKE 'Ssl_cipher'")
        .fetch_one(database.reader())
        .await
        .unwrap();
    assert!(!cipher.1.is_empty(), "the connection is not encrypted");
    for (url, reason) in [
        (secured.with_another_authority(), "certificate"),
        (secured.with(&secured.ca, "/nowhere/ca.pem"), "No such file"),
        // The account must come over TLS.
        (secured.with("VERIFY_CA", "DISABLED"), "Access denied"),
        (secured.with_a_wrong_password(), "Access denied"),
    ] {
        let error = open_mysql(&url).await.map(drop).unwrap_err();
        assert!(format!("{error:?}").contains(reason), "{reason}: {error:?}");
    }
    let drop_it = sqlx::AssertSqlSafe(format!("DROP DATABASE `{}`", secured.name));
    sqlx::raw_sql(drop_it).execute(database.reader()).await.unwrap();
}

async fn open_mongodb(url: &str, patience: Duration) -> Option<mongo::Database> {
    let context = Context::system("test-service", 0);
    let url = url.into();
    let opened = tokio::time::timeout(patience, mongo::Database::open(&url, &context)).await;
    opened.ok()?.ok()
}

#[tokio::test]
async fn mongodb_checks_the_authority_and_the_password() {
    let Some(secured) = Secured::new("SOSOHAPPY_TEST_MONGODB_SECURE") else {
        return;
    };
    let database = open_mongodb(&secured.url, PATIENCE).await.expect("it opens");
    database.database().drop().await.unwrap();
    let unencrypted = secured.with(&format!("&tls=true&tlsCAFile={}", secured.ca), "");
    let account = format!(
        "{}@",
        secured.url.split("://").nth(1).unwrap().split('@').next().unwrap()
    );
    let unnamed = secured.with(&account, "").replace("&authSource=admin", "");
    let wrong = [
        secured.with_another_authority(),
        secured.with(&secured.ca, "/nowhere/ca.pem"),
        secured.with_a_wrong_password(),
        unencrypted,
        unnamed,
    ];
    let opened = futures::future::join_all(wrong.iter().map(|url| open_mongodb(url, REFUSED))).await;
    let opened: Vec<_> = opened.iter().map(Option::is_some).collect();
    assert_eq!(opened, [false; 5]);
}
