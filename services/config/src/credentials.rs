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
use crate::domain::environment::{View, settings_paths};
use crate::domain::query::{Query, SHARED};
use crate::domain::schema::stem_of;
use crate::domain::snapshot::form_of;
use crate::error::Error;
use crate::settings::{ApplicationToken, Settings};

/// Where Spring's client puts the token of its `token` setting.
const TOKEN: &str = "x-config-token";

/// Where `OpenFeature`'s clients put theirs.
const API_KEY: &str = "x-api-key";

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
            // The shared settings are everybody's, whatever else is called so.
            own_token: settings
                .applications
                .keys()
                .filter(|name| *name != SHARED)
                .cloned()
                .collect(),
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
    /// The application whose token is shown.
    #[must_use]
    pub fn own(&self) -> Option<&str> {
        match &self.who {
            Who::Application(own) => Some(own),
            Who::Operator | Who::Service => None,
        }
    }

    /// Whether it may read every document that the answer to this query can be made of.
    ///
    /// Documents are told apart by their paths, after names, labels, folders and profiles have become those. Paths without a file count
    /// too, so that a refusal does not tell which files another application has.
    pub fn may_read(&self, query: &Query, views: &[View]) -> Result<(), Error> {
        if self.who == Who::Operator {
            return Ok(());
        }
        let stems = query.stems();
        let mut paths = views
            .iter()
            .flat_map(|view| settings_paths(view, &stems).map(|path| view.owned_path(&path)));
        if paths.all(|path| self.may_read_file(&path)) {
            Ok(())
        } else {
            Err(Error::NotYourApplication)
        }
    }

    /// Whether it may read one document: none of another application, by the name of the file or by a folder it is in.
    #[must_use]
    pub fn may_read_file(&self, path: &str) -> bool {
        let own = match &self.who {
            Who::Operator => return true,
            Who::Service => None,
            Who::Application(own) => Some(own.as_str()),
        };
        let stem = stem_of(path);
        let (folders, _) = path.rsplit_once('/').unwrap_or_default();
        let parts = folders.split('/').chain([stem]);
        let mut owners = parts.filter_map(|name| self.owner(name, own)).peekable();
        match own {
            None => owners.next().is_none(),
            // Of the settings it is its own files and the shared ones, not those of an application without a token.
            Some(_) if owners.peek().is_none() => form_of(path).is_none() || is_shared(stem),
            Some(own) => owners.all(|owner| owner == own),
        }
    }

    /// The application with a token of its own, or `own`, that a file or a folder of this name belongs to: the longest name that fits.
    fn owner<'a>(&'a self, name: &str, own: Option<&'a str>) -> Option<&'a str> {
        self.own_token
            .iter()
            .map(String::as_str)
            .chain(own)
            .filter(|application| {
                // `feed-config-prod.yml`, `feed-config.tar.gz` and `feed-config_keys/` are of feed-config, `feed-config2.yml` is not.
                name.strip_prefix(application)
                    .is_some_and(|rest| !rest.starts_with(char::is_alphanumeric))
            })
            .max_by_key(|application| application.len())
    }
}

/// Whether a file of this name is for every application.
fn is_shared(stem: &str) -> bool {
    stem.strip_prefix(SHARED)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
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
        let secret = headers
            .get(TOKEN)
            .or_else(|| headers.get(API_KEY))?
            .to_str()
            .ok()?
            .trim()
            .to_owned();
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
#[path = "credentials_tests.rs"]
mod tests;
