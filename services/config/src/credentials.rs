//! Authorisation of readers and operators by a token: as Bearer, as the password of Basic, or in `X-Config-Token` as Spring clients send it.
//!
//! | token | reads |
//! | --- | --- |
//! | operator | every document |
//! | service | documents of applications without a token of their own, and shared ones |
//! | of an application | its own documents and shared ones |
//!
//! Permission is decided on the path of each document that a response could contain, after names, labels, folders and profiles are resolved.

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

/// The header for the `token` setting of Spring's client.
const TOKEN: &str = "x-config-token";

/// The header for the token of `OpenFeature` clients.
const API_KEY: &str = "x-api-key";

/// Characters of an operator's name in the audit record.
const MAX_NAME_LENGTH: usize = 100;

/// The kind of token in a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    Operator,
    /// The fleet's service token.
    Service,
    /// The token of one application.
    Application(String),
}

/// A caller with a valid token, and the applications that have a token of their own.
#[derive(Debug, Clone)]
pub struct Reader {
    credential: Credential,
    /// Applications that are read with their own token only.
    protected: Vec<String>,
}

/// An operator: the user name of Basic, or `operator`.
#[derive(Debug, Clone)]
pub struct Operator {
    pub name: String,
}

/// The credentials in a request: the user name of Basic, and the secret.
struct Presented {
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
        let presented = presented(&parts.headers).ok_or(Error::Unauthorized)?;
        let credential = identify(&presented.secret, &settings).ok_or(Error::Unauthorized)?;
        Ok(Self {
            credential,
            // A token for `application` does not make the shared settings private.
            protected: settings
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
        let presented = presented(headers).ok_or(Error::Unauthorized)?;
        match identify(&presented.secret, settings) {
            Some(Credential::Operator) => Ok(Self {
                name: presented.name.filter(|name| !name.is_empty()).map_or_else(
                    || "operator".to_owned(),
                    |name| name.chars().take(MAX_NAME_LENGTH).collect(),
                ),
            }),
            Some(Credential::Service | Credential::Application(_)) | None => Err(Error::Unauthorized),
        }
    }
}

impl Reader {
    /// Returns the application whose token was presented.
    #[must_use]
    pub fn own(&self) -> Option<&str> {
        match &self.credential {
            Credential::Application(own) => Some(own),
            Credential::Operator | Credential::Service => None,
        }
    }

    /// Checks that the caller may read every document that the response to a query could contain.
    ///
    /// Paths without a file count too: otherwise a refusal would show which files another application has.
    pub fn may_read(&self, query: &Query, views: &[View]) -> Result<(), Error> {
        if self.credential == Credential::Operator {
            return Ok(());
        }
        let stems = query.stems();
        let mut paths = views
            .iter()
            .flat_map(|view| settings_paths(view, &stems).map(|path| view.owned_path(&path)));
        if paths.all(|path| self.may_read_file(&path)) {
            Ok(())
        } else {
            Err(Error::OtherApplication)
        }
    }

    /// Returns whether the caller may read one document. Its owners are the protected applications, and the caller's own, whose names begin its
    /// file name or the name of one of its folders.
    ///
    /// | token | owners of the document | allowed |
    /// | --- | --- | --- |
    /// | operator | any | yes |
    /// | service | none | yes |
    /// | service | at least one | no |
    /// | of an application | only that application | yes |
    /// | of an application | another one | no |
    /// | of an application | none, and the file is no settings file, or a shared one | yes |
    /// | of an application | none, and the file is of an application without a token | no |
    #[must_use]
    pub fn may_read_file(&self, path: &str) -> bool {
        let own = match &self.credential {
            Credential::Operator => return true,
            Credential::Service => None,
            Credential::Application(own) => Some(own.as_str()),
        };
        let stem = stem_of(path);
        let (folders, _) = path.rsplit_once('/').unwrap_or_default();
        let parts = folders.split('/').chain([stem]);
        let mut owners = parts.filter_map(|name| self.owner(name, own)).peekable();
        match own {
            None => owners.next().is_none(),
            Some(_) if owners.peek().is_none() => form_of(path).is_none() || is_shared(stem),
            Some(own) => owners.all(|owner| owner == own),
        }
    }

    /// Returns the protected application, or `own`, that a file or folder of this name belongs to: the one with the longest matching name.
    fn owner<'a>(&'a self, name: &str, own: Option<&'a str>) -> Option<&'a str> {
        self.protected
            .iter()
            .map(String::as_str)
            .chain(own)
            .filter(|application| {
                // `feed-config-prod.yml`, `feed-config.tar.gz` and `feed-config_keys/` belong to feed-config, `feed-config2.yml` does not.
                name.strip_prefix(application)
                    .is_some_and(|rest| !rest.starts_with(char::is_alphanumeric))
            })
            .max_by_key(|application| application.len())
    }
}

/// Returns whether a file of this name is shared by all applications.
fn is_shared(stem: &str) -> bool {
    stem.strip_prefix(SHARED)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

/// Returns the kind of a secret. All tokens are compared, so that the time taken does not depend on which one matches.
fn identify(secret: &str, settings: &Settings) -> Option<Credential> {
    let application = application(secret, &settings.applications);
    let service = same(secret, &settings.credentials.service_token);
    let operator = same(secret, &settings.credentials.operator_token);
    match (operator, application, service) {
        (true, ..) => Some(Credential::Operator),
        (_, Some(name), _) => Some(Credential::Application(name)),
        (.., true) => Some(Credential::Service),
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

fn presented(headers: &HeaderMap) -> Option<Presented> {
    let Some(header) = headers.get(header::AUTHORIZATION) else {
        let secret = headers
            .get(TOKEN)
            .or_else(|| headers.get(API_KEY))?
            .to_str()
            .ok()?
            .trim()
            .to_owned();
        return Some(Presented { name: None, secret });
    };
    let (scheme, rest) = header.to_str().ok()?.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        let secret = rest.trim().to_owned();
        return Some(Presented { name: None, secret });
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let pair = String::from_utf8(STANDARD.decode(rest.trim()).ok()?).ok()?;
    let (name, secret) = pair.split_once(':')?;
    Some(Presented {
        name: Some(name.to_owned()),
        secret: secret.to_owned(),
    })
}

fn same(presented: &str, secret: &SecretString) -> bool {
    let secret = secret.expose_secret().as_bytes();
    !secret.is_empty() && bool::from(presented.as_bytes().ct_eq(secret))
}

#[cfg(test)]
#[path = "credentials_tests.rs"]
mod tests;
