//! Push webhooks of repository hosts: verification, changed files, and the applications of those files.
//!
//! Sources: the hosts' documentation of webhooks, and spring-cloud-config-monitor for headers and application names. Spring's older versions do
//! not verify signatures.

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::HeaderMap;
use jiff::Timestamp;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

/// Dashes in a file name at which names of applications are derived.
const MAX_DASHES: usize = 10;
/// Bytes of an application's name. A longer part of a file name, or one with control characters, is none.
const MAX_NAME: usize = 255;
/// Applications of one push; more become a refresh of all instances.
const MAX_NAMES: usize = 200;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provider {
    GitHub,
    GitLab,
    Gitea,
    Gogs,
    Gitee,
    Bitbucket,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unverified {
    #[error("webhooks.secret is not set")]
    NoSecret,
    #[error("signature or token missing")]
    Missing,
    #[error("signature or token invalid")]
    Wrong,
    #[error("timestamp invalid, too old or in the future")]
    Stale,
}

/// The relevant parts of a push.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Push {
    pub paths: BTreeSet<String>,
    /// The pushed branch and its commit; none when the body does not contain them.
    pub head: Option<(String, String)>,
}

/// The fields of a push's body that are used; others are skipped while parsing, whatever their size.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct PushBody {
    #[serde(rename = "ref")]
    reference: Option<String>,
    after: Option<String>,
    commits: Option<Vec<Commit>>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Commit {
    added: Option<Vec<String>>,
    removed: Option<Vec<String>>,
    modified: Option<Vec<String>>,
}

impl PushBody {
    /// Parses a body. JSON of another shape is a push without files.
    pub fn parse(json: &[u8]) -> Result<Self, serde_json::Error> {
        match serde_json::from_slice(json) {
            Err(error) if error.is_data() => serde_json::from_slice(json).map(|serde::de::IgnoredAny| Self::default()),
            parsed => parsed,
        }
    }
}

impl Provider {
    /// Returns the provider by the headers. Gitea and Gogs send those of GitHub too and therefore come first.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let providers = [
            ("x-gitea-event", Self::Gitea),
            ("x-gogs-event", Self::Gogs),
            ("x-gitee-event", Self::Gitee),
            ("x-gitlab-event", Self::GitLab),
            ("x-github-event", Self::GitHub),
            ("x-event-key", Self::Bitbucket),
        ];
        let found = providers.into_iter().find(|(header, _)| headers.contains_key(*header));
        found.map(|(_, provider)| provider)
    }

    /// Returns the name in logs and the audit record.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::GitHub => "github",
            Self::GitLab => "gitlab",
            Self::Gitea => "gitea",
            Self::Gogs => "gogs",
            Self::Gitee => "gitee",
            Self::Bitbucket => "bitbucket",
        }
    }

    /// Verifies a webhook and returns the key that identifies duplicates: a digest of the provider and the signed body. The host's delivery id is
    /// not signed, and a replayed body with another id is a duplicate too.
    ///
    /// | provider | header | verified against |
    /// | --- | --- | --- |
    /// | GitHub | `X-Hub-Signature-256`, `sha256=` hex | HMAC-SHA256 of the body |
    /// | Bitbucket | `X-Hub-Signature`, `sha256=` hex | HMAC-SHA256 of the body |
    /// | Gitea, Gogs | `X-Gitea-Signature`, `X-Gogs-Signature`, hex | HMAC-SHA256 of the body |
    /// | GitLab | `X-Gitlab-Token` | the secret |
    /// | Gitee with `X-Gitee-Timestamp` | `X-Gitee-Token`, base64 | HMAC-SHA256 of timestamp, line feed, secret; at most `tolerance` old |
    /// | Gitee without | `X-Gitee-Token` | the secret |
    pub fn verify(
        self,
        headers: &HeaderMap,
        body: &[u8],
        secret: Option<&SecretString>,
        now: Timestamp,
        tolerance: Duration,
    ) -> Result<String, Unverified> {
        let secret = secret.map(|secret| secret.expose_secret().as_bytes());
        let secret = secret.filter(|secret| !secret.is_empty()).ok_or(Unverified::NoSecret)?;
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let signed = |signature: Option<&str>| {
            let signature = hex::decode(signature.ok_or(Unverified::Missing)?).map_err(|_| Unverified::Wrong)?;
            same(&signature, &hmac(secret, &[body]))
        };
        match self {
            Self::GitHub => signed(header("x-hub-signature-256").map(without_algorithm))?,
            Self::Bitbucket => signed(header("x-hub-signature").map(without_algorithm))?,
            Self::Gitea => signed(header("x-gitea-signature"))?,
            Self::Gogs => signed(header("x-gogs-signature"))?,
            Self::GitLab => same(header("x-gitlab-token").ok_or(Unverified::Missing)?.as_bytes(), secret)?,
            Self::Gitee => {
                let token = header("x-gitee-token").ok_or(Unverified::Missing)?;
                match header("x-gitee-timestamp") {
                    None => same(token.as_bytes(), secret)?,
                    Some(stamp) => {
                        let token = STANDARD.decode(token).map_err(|_| Unverified::Wrong)?;
                        same(&token, &hmac(secret, &[stamp.as_bytes(), b"\n", secret]))?;
                        // After the signature: an unsigned timestamp proves nothing.
                        let sent = stamp
                            .parse()
                            .ok()
                            .and_then(|millis| Timestamp::from_millisecond(millis).ok());
                        let sent = sent.ok_or(Unverified::Stale)?;
                        if now.duration_since(sent).unsigned_abs() > tolerance {
                            return Err(Unverified::Stale);
                        }
                    }
                }
            }
        }
        let digest = Sha256::new().chain_update(self.name()).chain_update(body).finalize();
        Ok(hex::encode(&digest[..16]))
    }

    /// Refuses, before the body is read, requests that [`Provider::verify`] refuses whatever the body: no secret here, or no signature there.
    pub fn precheck(self, headers: &HeaderMap, secret: Option<&SecretString>) -> Result<(), Unverified> {
        if secret.is_none_or(|secret| secret.expose_secret().is_empty()) {
            return Err(Unverified::NoSecret);
        }
        let header = match self {
            Self::GitHub => "x-hub-signature-256",
            Self::Bitbucket => "x-hub-signature",
            Self::Gitea => "x-gitea-signature",
            Self::Gogs => "x-gogs-signature",
            Self::GitLab => "x-gitlab-token",
            Self::Gitee => "x-gitee-token",
        };
        if headers.contains_key(header) {
            Ok(())
        } else {
            Err(Unverified::Missing)
        }
    }

    /// Returns the push; none for other events such as pings and issues.
    #[must_use]
    pub fn push(self, headers: &HeaderMap, body: PushBody) -> Option<Push> {
        let header = |name: &str| {
            headers
                .get(name)
                .and_then(|value| value.to_str().ok())
                .unwrap_or_default()
        };
        let is_push = match self {
            Self::GitHub => header("x-github-event") == "push",
            Self::Gitea => header("x-gitea-event") == "push",
            Self::Gogs => header("x-gogs-event") == "push",
            Self::GitLab => matches!(header("x-gitlab-event"), "Push Hook" | "Tag Push Hook" | "System Hook"),
            Self::Gitee => matches!(header("x-gitee-event"), "Push Hook" | "push_hooks" | "Tag Push Hook"),
            Self::Bitbucket => matches!(
                header("x-event-key"),
                "repo:push" | "pullrequest:fulfilled" | "repo:refs_changed" | "pr:merged"
            ),
        };
        if !is_push {
            return None;
        }
        let mut push = Push::default();
        if self == Self::Bitbucket {
            // Bitbucket does not list files: all applications are refreshed.
            push.paths.insert("application.yml".to_owned());
            return Some(push);
        }
        for commit in body.commits.into_iter().flatten() {
            let lists = [commit.added, commit.removed, commit.modified];
            push.paths.extend(lists.into_iter().flatten().flatten());
        }
        let branch = body
            .reference
            .as_deref()
            .and_then(|name| name.strip_prefix("refs/heads/"));
        if let (Some(branch), Some(after)) = (branch, body.after) {
            push.head = Some((branch.to_owned(), after));
        }
        Some(push)
    }
}

/// Returns the applications that paths may belong to, as Spring guesses them: the file name without extension, then without each part after a
/// dash. `application` becomes `*`, all instances, and so do more than [`MAX_NAMES`] names.
#[must_use]
pub fn names<'a>(paths: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let mut names = Vec::new();
    let mut seen = HashSet::new();
    for path in paths {
        let file = path.rsplit(['/', '\\']).next().unwrap_or(path);
        let mut stem = file.rsplit_once('.').map_or(file, |(stem, _)| stem);
        for _ in 0..=MAX_DASHES {
            let name = if stem == "application" { "*" } else { stem };
            let is_name = !name.is_empty() && name.len() <= MAX_NAME && !name.contains(char::is_control);
            if is_name && seen.insert(name) {
                if names.len() == MAX_NAMES {
                    return vec!["*".to_owned()];
                }
                names.push(name.to_owned());
            }
            match stem.rsplit_once('-') {
                Some((shorter, _)) => stem = shorter,
                None => break,
            }
        }
    }
    names
}

fn without_algorithm(header: &str) -> &str {
    header.strip_prefix("sha256=").unwrap_or("")
}

fn hmac(secret: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("HMAC takes keys of any length");
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().to_vec()
}

fn same(presented: &[u8], expected: &[u8]) -> Result<(), Unverified> {
    if bool::from(presented.ct_eq(expected)) {
        Ok(())
    } else {
        Err(Unverified::Wrong)
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};
    use serde_json::{Value, json};

    use super::*;

    fn headers(all: &[(&'static str, &str)]) -> HeaderMap {
        let header = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
        };
        all.iter().map(header).collect()
    }

    fn verify(all: &[(&'static str, &str)], body: &[u8], secret: &str) -> Result<String, Unverified> {
        let headers = headers(all);
        let provider = Provider::of(&headers).unwrap();
        let now = Timestamp::from_millisecond(1_700_000_000_000).unwrap();
        provider.verify(&headers, body, Some(&secret.into()), now, Duration::from_mins(5))
    }

    /// GitHub documents this secret, body and signature: "Validating webhook deliveries".
    #[test]
    fn githubs_own_example_is_verified() {
        let secret = "It's a Secret to Everybody";
        let right = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
        let event = ("x-github-event", "push");
        let signed = |signature: &str, body: &[u8], secret: &str| {
            verify(&[event, ("x-hub-signature-256", signature)], body, secret)
        };
        assert!(signed(right, b"Hello, World!", secret).is_ok());
        assert_eq!(signed(right, b"Hello, World?", secret), Err(Unverified::Wrong));
        assert_eq!(signed(right, b"Hello, World!", "another"), Err(Unverified::Wrong));
        assert_eq!(signed(&right[7..], b"Hello, World!", secret), Err(Unverified::Wrong));
        assert_eq!(signed("sha256=", b"Hello, World!", secret), Err(Unverified::Wrong));
        assert_eq!(verify(&[event], b"Hello, World!", secret), Err(Unverified::Missing));
        let headers = headers(&[event, ("x-hub-signature-256", right)]);
        let unset = Provider::GitHub.verify(&headers, b"", None, Timestamp::UNIX_EPOCH, Duration::ZERO);
        assert_eq!(unset, Err(Unverified::NoSecret));
    }

    #[test]
    fn every_provider_is_verified_by_its_own_scheme() {
        let plain = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
        let prefixed = format!("sha256={plain}");
        let secret = "It's a Secret to Everybody";
        // printf '1700000000000\nIt'"'"'s a Secret to Everybody' | openssl dgst -sha256 -hmac "It's a Secret to Everybody" -binary | base64
        let gitee = "aKwnffuNqpDHBUKqF/ZxrldhYF3iyAtM1GWX8vDY/zQ=";
        for all in [
            [
                ("x-gitea-event", "push"),
                ("x-gitea-signature", plain),
                ("x-github-event", "push"),
            ],
            [
                ("x-gogs-event", "push"),
                ("x-gogs-signature", plain),
                ("x-github-event", "push"),
            ],
            [
                ("x-event-key", "repo:push"),
                ("x-hub-signature", &prefixed),
                ("x-hook-uuid", "1"),
            ],
            [
                ("x-gitlab-event", "Push Hook"),
                ("x-gitlab-token", secret),
                ("x-gitlab-instance", "1"),
            ],
            [
                ("x-gitee-event", "Push Hook"),
                ("x-gitee-token", gitee),
                ("x-gitee-timestamp", "1700000000000"),
            ],
            [
                ("x-gitee-event", "Push Hook"),
                ("x-gitee-token", secret),
                ("x-gitee-ping", "false"),
            ],
        ] {
            assert!(verify(&all, b"Hello, World!", secret).is_ok(), "{all:?}");
            assert_eq!(
                verify(&all, b"Hello, World!", "another secret"),
                Err(Unverified::Wrong),
                "{all:?}"
            );
        }
        let old = [
            ("x-gitee-event", "Push Hook"),
            ("x-gitee-token", gitee),
            ("x-gitee-timestamp", "1600000000000"),
        ];
        assert_eq!(
            verify(&old, b"", secret),
            Err(Unverified::Wrong),
            "the timestamp is signed"
        );
    }

    fn parsed(body: &Value) -> PushBody {
        PushBody::parse(body.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn requests_without_a_signature_are_refused_before_the_body_is_read() {
        let secret = "a secret".into();
        let signed = headers(&[("x-github-event", "push"), ("x-hub-signature-256", "sha256=00")]);
        assert_eq!(Provider::GitHub.precheck(&signed, Some(&secret)), Ok(()));
        assert_eq!(Provider::GitHub.precheck(&signed, None), Err(Unverified::NoSecret));
        assert_eq!(
            Provider::GitLab.precheck(&signed, Some(&secret)),
            Err(Unverified::Missing)
        );
    }

    #[test]
    fn pushes_name_files_and_head() {
        let body = json!({
            "ref": "refs/heads/main", "after": "abc",
            "commits": [
                {"added": ["a/feed-config.yml"], "removed": [], "modified": ["application.yml"]},
                {"modified": ["a/feed-config.yml"], "removed": ["dm-config-prod.yml"]}
            ]
        });
        let github = headers(&[("x-github-event", "push")]);
        let push = Provider::GitHub.push(&github, parsed(&body)).unwrap();
        assert_eq!(push.head, Some(("main".to_owned(), "abc".to_owned())));
        assert_eq!(
            push.paths.iter().map(String::as_str).collect::<Vec<_>>(),
            ["a/feed-config.yml", "application.yml", "dm-config-prod.yml"]
        );
        assert_eq!(
            Provider::GitHub.push(&headers(&[("x-github-event", "ping")]), parsed(&body)),
            None
        );
        let bitbucket = headers(&[("x-event-key", "repo:refs_changed")]);
        let push = Provider::Bitbucket
            .push(&bitbucket, parsed(&json!({"changes": []})))
            .unwrap();
        assert_eq!(names(push.paths.iter().map(String::as_str)), ["*"]);
        for other in [
            json!([1]),
            json!({"commits": [1]}),
            json!({"after": null, "commits": null}),
        ] {
            assert_eq!(
                Provider::GitHub.push(&github, parsed(&other)),
                Some(Push::default()),
                "{other}"
            );
        }
        assert!(PushBody::parse(b"{").is_err());
    }

    #[test]
    fn names_are_derived_as_in_spring() {
        assert_eq!(
            names(["x/feed-config-prod.yml"]),
            ["feed-config-prod", "feed-config", "feed"]
        );
        assert_eq!(
            names(["application.yml", "application-prod.yml"]),
            ["*", "application-prod"]
        );
        assert_eq!(names(["", "-.yml", "a"]), ["-", "a"]);
        let long = format!("{}-a.yml", "a".repeat(MAX_NAME));
        assert_eq!(names([long.as_str(), "b\n.yml"]), [&long[..MAX_NAME]]);
        assert!(names([["a"; 1000].join("-").as_str()]).len() <= MAX_DASHES + 1);
        let many: Vec<_> = (0..1000).map(|number| format!("a{number}.yml")).collect();
        assert_eq!(
            names(many.iter().map(String::as_str)),
            ["*"],
            "all instances are refreshed"
        );
    }
}
