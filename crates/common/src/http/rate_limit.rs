//! Rate limits of all calls to a service: by client address before authentication, by account after it.
//!
//! [`super::serve::Service`] puts the layer before every route. A route declares its [`Class`]
//! (`Class::Upload.of(routes!(save_feed))`); otherwise the class follows from its document. Management (`/actuator`) and
//! calls with the credential of a service or an operator are exempt.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{MatchedPath, Request};
use http::{Method, StatusCode};
use ipnet::IpNet;
use parking_lot::Mutex;
use prometheus::{IntCounter, IntCounterVec, Opts};
use secrecy::SecretString;
use utoipa::ToSchema as _;
use utoipa::openapi::extensions::Extensions;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::path::Operation;
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::{Content, OpenApi, Ref, RefOr, Response as Described, ResponseBuilder};
use utoipa_axum::router::UtoipaMethodRouter;

use super::Problem;
use super::client_address::{ClientAddress, client_address};
use super::credential::shows;
use super::operations::operations_by_method;
use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::rate::{AtOnce, KeyedLimiter, Limited, Rate};
use crate::settings::{Credentials, Live, RateLimits};
use crate::{Account, Context};

/// The field of an operation in a document that names its class.
const EXTENSION: &str = "x-rate-limit";
const MANAGEMENT: &str = "/actuator";

/// Keys (addresses or accounts) whose counts one limit keeps: about 200 bytes each.
const MOST_KEYS: u64 = 20_000;

/// The kind of work of a call. Calls of one class share a quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// Needs no token.
    Anonymous,
    SignIn,
    Read,
    Write,
    /// Takes pictures.
    Upload,
    /// Opens a socket.
    Connect,
}

impl Class {
    const ALL: [Self; 6] = [
        Self::Anonymous,
        Self::SignIn,
        Self::Read,
        Self::Write,
        Self::Upload,
        Self::Connect,
    ];

    /// As in settings, documents and the metric's label.
    const fn name(self) -> &'static str {
        match self {
            Self::Anonymous => "anonymous",
            Self::SignIn => "sign-in",
            Self::Read => "read",
            Self::Write => "write",
            Self::Upload => "upload",
            Self::Connect => "connect",
        }
    }

    const fn per_address(self, limits: &RateLimits) -> Rate {
        let rates = &limits.per_address;
        match self {
            Self::Anonymous => rates.anonymous,
            Self::SignIn => rates.sign_in,
            Self::Read => rates.read,
            Self::Write => rates.write,
            Self::Upload => rates.upload,
            Self::Connect => rates.connect,
        }
    }

    const fn per_account(self, limits: &RateLimits) -> Rate {
        let rates = &limits.per_account;
        match self {
            // These calls have no authenticated account.
            Self::Anonymous | Self::SignIn => Rate::Off,
            Self::Read => rates.read,
            Self::Write => rates.write,
            Self::Upload => rates.upload,
            Self::Connect => rates.connect,
        }
    }

    /// Declares the class of a route: `.routes(Class::Upload.of(routes!(save_feed)))`.
    #[must_use = "the routes are in what it returns"]
    pub fn of<S, E>(self, routes: UtoipaMethodRouter<S, E>) -> UtoipaMethodRouter<S, E> {
        let (schemas, mut paths, methods) = routes;
        for (_, operation) in paths.paths.values_mut().flat_map(operations_by_method) {
            self.note(operation);
        }
        (schemas, paths, methods)
    }

    fn note(self, operation: &mut Operation) {
        let extensions = operation.extensions.get_or_insert_with(Extensions::default);
        extensions.insert(EXTENSION.to_owned(), self.name().into());
    }

    /// Returns the class that an operation declares; otherwise one without a token is anonymous, and of the others safe
    /// methods (RFC 9110, section 9.2.1) are reads.
    fn of_operation(method: &Method, operation: &Operation) -> Self {
        let declared = operation
            .extensions
            .as_ref()
            .and_then(|all| all.get(EXTENSION)?.as_str());
        let declared = Self::ALL.into_iter().find(|class| Some(class.name()) == declared);
        let is_open = operation.security.iter().flatten().next().is_none();
        declared.unwrap_or(match (is_open, method.is_safe()) {
            (true, _) => Self::Anonymous,
            (false, true) => Self::Read,
            (false, false) => Self::Write,
        })
    }
}

/// The layer of one service.
#[derive(Debug)]
pub(super) struct RateLimiter {
    /// By route template and method.
    classes: HashMap<String, Vec<(Method, Class)>>,
    limiters: Live<Limiters>,
    refused: Refused,
    /// Calls with one of these credentials are exempt.
    exempt: [SecretString; 2],
    uploads: Uploads,
}

/// The limits of this moment.
#[derive(Debug)]
struct Limiters {
    trusted_proxies: Vec<IpNet>,
    by_address: [KeyedLimiter<ClientAddress>; Class::ALL.len()],
    by_account: [KeyedLimiter<Account>; Class::ALL.len()],
    uploads_at_once: AtOnce,
}

impl Limiters {
    fn new(limits: &RateLimits, before: Option<&Self>, clock: &Arc<dyn Clock>) -> Self {
        Self {
            trusted_proxies: limits.trusted_proxies.clone(),
            by_address: Class::ALL.map(|class| {
                let before = before.map(|before| &before.by_address[class as usize]);
                KeyedLimiter::renewed(before, class.per_address(limits), MOST_KEYS, clock)
            }),
            by_account: Class::ALL.map(|class| {
                let before = before.map(|before| &before.by_account[class as usize]);
                KeyedLimiter::renewed(before, class.per_account(limits), MOST_KEYS, clock)
            }),
            uploads_at_once: limits.per_account.uploads_at_once,
        }
    }
}

/// `http_rate_limited_requests_total`, by class.
#[derive(Debug, Clone)]
struct Refused {
    by_address: [IntCounter; Class::ALL.len()],
    by_account: [IntCounter; Class::ALL.len()],
}

impl Refused {
    fn new(metrics: &Metrics) -> Self {
        let opts = Opts::new(
            "http_rate_limited_requests_total",
            "Calls refused with 429 by route class and exceeded limit: address or account",
        );
        let refused = IntCounterVec::new(opts, &["class", "by"]).expect("a static metric is valid");
        let refused = metrics.register(refused);
        Self {
            by_address: Class::ALL.map(|class| refused.with_label_values(&[class.name(), "address"])),
            by_account: Class::ALL.map(|class| refused.with_label_values(&[class.name(), "account"])),
        }
    }
}

impl RateLimiter {
    /// Reads the classes of the document's operations, and documents the 429 of each.
    pub(super) fn new(
        context: &Context,
        limits: &Live<RateLimits>,
        credentials: &Credentials,
        document: &mut OpenApi,
    ) -> Self {
        let clock = context.clock.clone();
        Self {
            classes: describe(document),
            limiters: limits.follow(move |limits, before| Limiters::new(limits, before, &clock)),
            refused: Refused::new(&context.metrics),
            exempt: [credentials.service_token.clone(), credentials.operator_token.clone()],
            uploads: Uploads::default(),
        }
    }

    /// Returns the class of a call; none for calls that are exempt.
    fn class(&self, request: &Request) -> Option<Class> {
        let path = request.extensions().get::<MatchedPath>();
        if path.is_some_and(|path| is_management(path.as_str()))
            || self
                .exempt
                .iter()
                .any(|credential| shows(request.headers(), credential))
        {
            return None;
        }
        let by_method = path.and_then(|path| self.classes.get(path.as_str()));
        let classes = by_method.into_iter().flatten();
        // GET routes answer HEAD as well.
        let method = if request.method() == Method::HEAD {
            &Method::GET
        } else {
            request.method()
        };
        let class = classes
            .filter(|(known, _)| known == method)
            .map(|(_, class)| *class)
            .next();
        // Pages, documents and unknown paths.
        Some(class.unwrap_or(Class::Anonymous))
    }

    /// Counts a call, and passes the address and the limit of accounts on as extensions.
    ///
    /// # Errors
    /// 429 `rate-limited` over the limit of its address.
    pub(super) fn admit(&self, request: &mut Request) -> Result<(), Problem> {
        let Some(class) = self.class(request) else {
            return Ok(());
        };
        let limiters = self.limiters.get();
        let address = client_address(request, &limiters.trusted_proxies);
        if let Err(limited) = limiters.by_address[class as usize].check(&address) {
            self.refused.by_address[class as usize].inc();
            return Err(limited.into());
        }
        request.extensions_mut().insert(address);
        request.extensions_mut().insert(AccountLimit {
            limiter: limiters.by_account[class as usize].clone(),
            refused: self.refused.by_account[class as usize].clone(),
            uploads: limiters
                .uploads_at_once
                .0
                .filter(|_| class == Class::Upload)
                .map(|most| (self.uploads.clone(), most)),
        });
        Ok(())
    }
}

fn is_management(path: &str) -> bool {
    path.strip_prefix(MANAGEMENT)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The limit on calls of one account, an extension of every request that is not exempt.
#[derive(Debug, Clone)]
pub struct AccountLimit {
    limiter: KeyedLimiter<Account>,
    refused: IntCounter,
    /// Where the call is an upload and uploads at one time are limited.
    uploads: Option<(Uploads, NonZeroU32)>,
}

impl AccountLimit {
    /// Counts a call of this account; the result lives as long as the call.
    ///
    /// # Errors
    /// 429 `rate-limited` over the limit of calls a minute, or of uploads in progress at one time.
    pub fn check(&self, account: &Account) -> Result<InProgress, Problem> {
        self.limiter.check(account).map_err(|limited| self.refuse(limited))?;
        let Some((uploads, most)) = &self.uploads else {
            return Ok(InProgress(None));
        };
        let upload = uploads.begin(account, *most).ok_or_else(|| self.refuse(UPLOADS_BUSY))?;
        Ok(InProgress(Some(upload)))
    }

    /// Counts a call that another limit of the service refuses, and returns its answer.
    #[must_use]
    pub fn refuse(&self, limited: Limited) -> Problem {
        self.refused.inc();
        limited.into()
    }
}

/// An upload ends with its request, at a time that is not known: a client that waits a second finds out.
const UPLOADS_BUSY: Limited = Limited {
    retry_after: Duration::from_secs(1),
};

/// Uploads in progress by account. Accounts without one have no entry. Clones share the counts.
#[derive(Debug, Clone, Default)]
struct Uploads(Arc<Mutex<HashMap<Account, u32>>>);

impl Uploads {
    fn begin(&self, account: &Account, most: NonZeroU32) -> Option<Upload> {
        let mut counts = self.0.lock();
        let count = counts.entry(account.clone()).or_default();
        if *count >= most.get() {
            return None;
        }
        *count += 1;
        Some(Upload {
            uploads: self.clone(),
            account: account.clone(),
        })
    }
}

/// A call that counts until it is dropped.
#[derive(Debug)]
#[must_use = "the call counts as ended when this is dropped"]
pub struct InProgress(#[expect(dead_code, reason = "kept for its drop")] Option<Upload>);

#[derive(Debug)]
struct Upload {
    uploads: Uploads,
    account: Account,
}

impl Drop for Upload {
    fn drop(&mut self) {
        let mut counts = self.uploads.0.lock();
        if let Some(count) = counts.get_mut(&self.account) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.account);
            }
        }
    }
}

impl From<Limited> for Problem {
    fn from(limited: Limited) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, "rate-limited", "Too many requests")
            .retry_after(limited.retry_after_seconds())
    }
}

/// Documents class and 429 of every operation that is limited, and returns the classes by route template.
fn describe(document: &mut OpenApi) -> HashMap<String, Vec<(Method, Class)>> {
    let mut classes: HashMap<String, Vec<_>> = HashMap::new();
    let limited = document.paths.paths.iter_mut().filter(|(path, _)| !is_management(path));
    for (path, item) in limited {
        for (method, operation) in operations_by_method(item) {
            let class = Class::of_operation(&method, operation);
            class.note(operation);
            let responses = &mut operation.responses.responses;
            responses
                .entry("429".to_owned())
                .or_insert_with(|| RefOr::T(too_many_requests()));
            classes.entry(path.clone()).or_default().push((method, class));
        }
    }
    classes
}

fn too_many_requests() -> Described {
    let seconds = HeaderBuilder::new()
        .schema(Some(ObjectBuilder::new().schema_type(Type::Integer)))
        .description(Some("Seconds until the next call is allowed"))
        .build();
    ResponseBuilder::new()
        .description("Over the rate limit of the address or the account (`rate-limited`)")
        .header("Retry-After", seconds)
        .content(
            "application/problem+json",
            Content::new(Some(Ref::from_schema_name(Problem::name()))),
        )
        .build()
}

#[cfg(test)]
#[path = "rate_limit_tests.rs"]
mod tests;
