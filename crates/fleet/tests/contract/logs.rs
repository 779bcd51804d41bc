//! Log lines hold no secret, token, code or address, whatever a client sends.

use std::path::Path;

use sosohappy_testkit::Cluster;

/// Values of parameters that must not reach a log line: identifiers at providers, passwords, codes, tokens and texts.
pub const IDENTIFIER: &str = "canary-identifier";
pub const PASSWORD: &str = "canary horse battery";
pub const CODE: &str = "CANARY77";
pub const ID_TOKEN: &str = "eyJjYW5hcnk.canary.idtoken";
pub const NONCE: &str = "canary-nonce";
pub const AUTHORIZATION_CODE: &str = "Y2FuYXJ5LWNvZGU=";
pub const DEVICE_TOKEN: &str = "canary-device-token";
pub const TEXT: &str = "a small happiness";

/// The domain of every address in these tests.
const DOMAIN: &str = "@example.com";

/// Settings that log everything that the crates of this workspace log.
pub fn verbose() -> Vec<(String, String)> {
    let crates = [
        "access", "auth", "bus", "common", "dm", "feed", "media", "notice", "realtime", "store",
    ];
    let level = crates
        .iter()
        .fold("info".to_owned(), |level, name| level + ",sosohappy_" + name + "=trace");
    ["CONFIG", "AUTH", "FEED", "DM", "NOTICE"]
        .iter()
        .map(|service| (format!("SOSOHAPPY_{service}__LOG__LEVEL"), level.clone()))
        .collect()
}

/// Asserts that no log line of the fleet holds one of the values above, one of these secrets, or an address.
pub fn assert_clean(fleet: &Cluster, secrets: &[String]) {
    let log = logs(fleet.folder());
    let requests = log.lines().filter(|line| line.contains("/auth-service/signIn")).count();
    assert!(requests > 0, "requests are logged");
    let values = [
        IDENTIFIER,
        PASSWORD,
        CODE,
        ID_TOKEN,
        NONCE,
        AUTHORIZATION_CODE,
        DEVICE_TOKEN,
        TEXT,
        DOMAIN,
        &fleet.operator_token,
    ];
    let secrets = values.into_iter().chain(secrets.iter().map(String::as_str));
    for secret in secrets {
        // A token is recognised by its signature, too.
        let end = secret.len().saturating_sub(40);
        for needle in [secret, &secret[end..]] {
            let line = log.lines().find(|line| line.contains(needle));
            assert!(line.is_none(), "{needle} is logged: {line:?}");
        }
    }
}

fn logs(folder: &Path) -> String {
    let mut log = String::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "log") {
            let text = std::fs::read(path).unwrap();
            // The launcher has no mail server: `mail.url = "log:"`, which production refuses, is there to show the code.
            let text = String::from_utf8_lossy(&text);
            for line in text.lines().filter(|line| !line.contains("\"mail with a code\"")) {
                log += line;
                log.push('\n');
            }
        }
    }
    log
}
