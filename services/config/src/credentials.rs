//! Who may read configuration, and who may change what is served: a token as Bearer, as the password of Basic, or in `X-Config-Token`, as
//! Spring clients send it.

use std::collections::BTreeMap;

use axum::extract::{FromRef, FromRequestParts};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::request::Parts;
use http::{HeaderMap, header};
use secrecy::{ExposeSecret as _, SecretString};
use subtle::ConstantTimeEq as _;

use crate::App;
use crate::domain::query::{Query, SHARED};
use crate::domain::schema::stem_of;
use crate::domain::snapshot::form_of;
use crate::error::Error;
use crate::settings::{ApplicationToken, Settings};

/// Where Spring's client puts the token of its `token` setting.
const TOKEN: &str = "x-config-token";

/// Characters of an operator's name that are kept.
const MOST_OF_A_NAME: usize = 100;

/// Who reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Who {
    Operator,
    /// Somebody with the fleet's service token.
    Service,
    /// Somebody with the token of one application.
    Application(String),
}

/// Whoever shows a token that is known, and the applications that have one of their own.
#[derive(Debug, Clone)]
pub struct Reader {
    who: Who,
    /// Applications that are read with their own token only.
    own_token: Vec<String>,
}

/// An operator, by the user name of Basic or `operator`.
#[derive(Debug, Clone)]
pub struct Operator {
    pub name: String,
}

/// What a request shows: the name of Basic, and the secret.
struct Shown {
    name: Option<String>,
    secret: String,
}

impl<S: Send + Sync> FromRequestParts<S> for Reader
where
    App: FromRef<S>,
{
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Self::Rejection> {
        let settings = App::from_ref(state).settings.get();
        let shown = shown(&parts.headers).ok_or(Error::Unauthorized)?;
        let who = who(&shown.secret, &settings).ok_or(Error::Unauthorized)?;
        Ok(Self {
            who,
            own_token: settings.applications.keys().cloned().collect(),
        })
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Operator
where
    App: FromRef<S>,
{
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Self::Rejection> {
        Self::of(&parts.headers, &App::from_ref(state).settings.get())
    }
}

impl Operator {
    pub fn of(headers: &HeaderMap, settings: &Settings) -> Result<Self, Error> {
        let shown = shown(headers).ok_or(Error::Unauthorized)?;
        match who(&shown.secret, settings) {
            Some(Who::Operator) => Ok(Self {
                name: shown.name.filter(|name| !name.is_empty()).map_or_else(
                    || "operator".to_owned(),
                    |name| name.chars().take(MOST_OF_A_NAME).collect(),
                ),
            }),
            Some(Who::Service | Who::Application(_)) | None => Err(Error::Unauthorized),
        }
    }
}

impl Reader {
    /// Its own application and the shared one, and none of the files that belong to another.
    pub fn may_read(&self, query: &Query) -> Result<(), Error> {
        let allowed = match &self.who {
            Who::Operator => true,
            Who::Service => query.stems().iter().all(|stem| self.owner(stem, None).is_none()),
            Who::Application(own) => {
                let named = query.applications().all(|name| name == own || name == SHARED);
                let theirs = |stem: &String| self.owner(stem, Some(own)).is_none_or(|owner| owner == own);
                named && query.stems().iter().all(theirs)
            }
        };
        if allowed {
            Ok(())
        } else {
            Err(Error::NotYourApplication)
        }
    }

    /// A plain file: none of another application, by its name or by a folder it is in.
    pub fn may_read_file(&self, path: &str) -> Result<(), Error> {
        let own = match &self.who {
            Who::Operator => return Ok(()),
            Who::Service => None,
            Who::Application(own) => Some(own.as_str()),
        };
        let (folders, _) = path.rsplit_once('/').unwrap_or_default();
        let mut owners = folders
            .split('/')
            .chain([stem_of(path)])
            .filter_map(|name| self.owner(name, own));
        let foreign = owners.any(|owner| Some(owner) != own);
        // What an application's own token opens of the settings is its own and the shared ones, not those of nobody.
        let stem = stem_of(path);
        let unowned = own.is_some()
            && form_of(path).is_some()
            && self.owner(stem, own).is_none()
            && stem != SHARED
            && !stem.starts_with("application-");
        if foreign || unowned {
            Err(Error::NotYourApplication)
        } else {
            Ok(())
        }
    }

    /// The application with a token of its own, or `own`, that a file of this name belongs to: the longest name that fits.
    fn owner<'a>(&'a self, stem: &str, own: Option<&'a str>) -> Option<&'a str> {
        let stem = stem.rsplit('/').next().unwrap_or(stem);
        self.own_token
            .iter()
            .map(String::as_str)
            .chain(own)
            .filter(|name| {
                stem.strip_prefix(name)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
            })
            .max_by_key(|name| name.len())
    }
}

/// Every secret is compared, so that time tells nothing.
fn who(secret: &str, settings: &Settings) -> Option<Who> {
    let application = application(secret, &settings.applications);
    let service = same(secret, &settings.credentials.service_token);
    let operator = same(secret, &settings.credentials.operator_token);
    match (operator, application, service) {
        (true, ..) => Some(Who::Operator),
        (_, Some(name), _) => Some(Who::Application(name)),
        (.., true) => Some(Who::Service),
        _ => None,
    }
}

fn application(secret: &str, tokens: &BTreeMap<String, ApplicationToken>) -> Option<String> {
    let mut found = None;
    for (name, token) in tokens {
        if same(secret, &token.0) {
            found = Some(name.clone());
        }
    }
    found
}

fn shown(headers: &HeaderMap) -> Option<Shown> {
    let Some(header) = headers.get(header::AUTHORIZATION) else {
        let secret = headers.get(TOKEN)?.to_str().ok()?.trim().to_owned();
        return Some(Shown { name: None, secret });
    };
    let (scheme, rest) = header.to_str().ok()?.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        let secret = rest.trim().to_owned();
        return Some(Shown { name: None, secret });
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let pair = String::from_utf8(STANDARD.decode(rest.trim()).ok()?).ok()?;
    let (name, secret) = pair.split_once(':')?;
    Some(Shown {
        name: Some(name.to_owned()),
        secret: secret.to_owned(),
    })
}

fn same(shown: &str, secret: &SecretString) -> bool {
    let secret = secret.expose_secret().as_bytes();
    !secret.is_empty() && bool::from(shown.as_bytes().ct_eq(secret))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader(who: Who) -> Reader {
        Reader {
            who,
            own_token: vec!["feed-config".to_owned(), "dm-config".to_owned()],
        }
    }

    fn reads(who: &Who, application: &str, profiles: &str) -> bool {
        let query = Query::new(application, profiles, None).unwrap();
        reader(who.clone()).may_read(&query).is_ok()
    }

    #[test]
    fn an_application_reads_itself_and_what_is_shared() {
        let feed = Who::Application("feed-config".to_owned());
        assert!(reads(&feed, "feed-config", "prod,eu"));
        assert!(reads(&feed, "application", "prod"));
        assert!(reads(&feed, "feed-config,application", "prod"));
        for other in ["dm-config", "auth-config", "feed-config,dm-config", "a/dm-config"] {
            assert!(!reads(&feed, other, "prod"), "{other}");
        }
    }

    #[test]
    fn a_profile_is_no_way_around() {
        let short = Who::Application("dm".to_owned());
        assert!(reads(&short, "dm", "prod"));
        assert!(!reads(&short, "dm", "config"), "dm-config.yml is another's");
        assert!(!reads(&short, "dm", "config-prod"));
        assert!(!reads(&Who::Service, "dm", "config"));
    }

    #[test]
    fn the_service_token_reads_what_has_none_of_its_own() {
        assert!(reads(&Who::Service, "auth-config", "prod"));
        assert!(reads(&Who::Service, "application", "prod"));
        assert!(!reads(&Who::Service, "feed-config", "prod"));
        assert!(reads(&Who::Operator, "feed-config", "prod"));
    }

    #[test]
    fn plain_files_follow_the_same_rule() {
        let feed = reader(Who::Application("feed-config".to_owned()));
        for path in [
            "feed-config.yml",
            "a/feed-config-prod.properties",
            "application.yml",
            "logback.xml",
            "nginx.conf",
        ] {
            assert!(feed.may_read_file(path).is_ok(), "{path}");
        }
        for path in [
            "dm-config.yml",
            "a/dm-config-prod.yml",
            "auth-config.yml",
            "dm-config/key.pem",
            "dm-config.pem",
        ] {
            assert!(feed.may_read_file(path).is_err(), "{path}");
        }
        let service = reader(Who::Service);
        assert!(service.may_read_file("auth-config.yml").is_ok());
        assert!(service.may_read_file("dm-config.yml").is_err());
    }
}
