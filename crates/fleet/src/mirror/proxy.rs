//! The reverse proxy: answers from one side, and hands a copy to the comparison.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use axum::body::Body;
use axum::extract::{ConnectInfo, Request, State};
use axum::response::Response;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode, Uri};
use reqwest::Url;
use sosohappy_common::Context;

use super::Side;
use super::body::{Shared, Tee};
use super::routes::{Failure, Matched, Outcome, Routes, Serving};
use super::shadow::{Copy, Job, Shadow};
use super::sockets;
use crate::forward;

/// From the end of a request's head to the head of its answer, the upload of its body included.
pub const ANSWER_TIMEOUT: Duration = Duration::from_mins(3);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Shorter than a service keeps an idle connection, so that it is never closed in the moment it is used again.
const IDLE_TIMEOUT: Duration = Duration::from_secs(4);

/// With one of these an answer depends on what this side has answered before.
const NOT_COMPARED: [HeaderName; 4] = [
    header::IF_MATCH,
    header::IF_NONE_MATCH,
    header::IF_MODIFIED_SINCE,
    header::RANGE,
];
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Both fleets, by their addresses.
#[derive(Debug, Clone)]
pub struct Sides {
    client: reqwest::Client,
    spring: Addresses,
    ours: Addresses,
}

/// Prefixes of paths and their targets; a later entry takes precedence.
#[derive(Debug, Clone)]
struct Addresses(Arc<[(String, String)]>);

impl Addresses {
    fn parse(texts: &[String]) -> anyhow::Result<Self> {
        let address = |text: &String| {
            let (service, url) = match text.split_once('=') {
                Some((service, url)) if !service.contains(':') => (Some(service), url),
                _ => (None, text.as_str()),
            };
            let base = Url::parse(url).with_context(|| format!("{url} is no address"))?;
            ensure!(
                matches!(base.scheme(), "http" | "https"),
                "{url} is no address of a service"
            );
            let prefix = service.map_or("/".to_owned(), |service| format!("/{service}-service/"));
            Ok((prefix, url.trim_end_matches('/').to_owned()))
        };
        Ok(Self(texts.iter().rev().map(address).collect::<anyhow::Result<_>>()?))
    }

    fn find(&self, path: &str) -> Option<&str> {
        let (_, base) = self.0.iter().find(|(prefix, _)| path.starts_with(prefix))?;
        Some(base)
    }
}

impl Sides {
    pub fn new(spring: &[String], ours: &[String]) -> anyhow::Result<Self> {
        let client = sosohappy_common::tls::client_builder()
            .http1_only()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_idle_timeout(IDLE_TIMEOUT)
            .build()?;
        Ok(Self {
            client,
            spring: Addresses::parse(spring).context("--spring")?,
            ours: Addresses::parse(ours).context("--ours")?,
        })
    }

    /// Sends a request. Headers go out as they are; the client adds `host`.
    pub async fn send(
        &self,
        side: Side,
        method: Method,
        path: &str,
        headers: HeaderMap,
        body: reqwest::Body,
    ) -> Result<http::Response<reqwest::Body>, SendError> {
        let addresses = match side {
            Side::Spring => &self.spring,
            Side::Ours => &self.ours,
        };
        let base = addresses
            .find(path)
            .ok_or_else(|| SendError("no address is given for this path".to_owned()))?;
        let url = Url::parse(&format!("{base}{path}")).map_err(|error| SendError(error.to_string()))?;
        let mut request = reqwest::Request::new(method, url);
        *request.headers_mut() = headers;
        *request.body_mut() = Some(body);
        let answer = self.client.execute(request).await;
        // Without the URL: its query may hold personal data.
        answer
            .map(Into::into)
            .map_err(|error| SendError(chain(&error.without_url())))
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct SendError(String);

#[derive(Debug)]
pub struct Proxy {
    pub context: Context,
    pub sides: Sides,
    pub routes: Arc<Routes>,
    pub shadow: Arc<Shadow>,
    /// Longest body that is compared, in bytes.
    pub body_limit: usize,
}

/// Answers one request.
pub async fn answer(State(proxy): State<Arc<Proxy>>, mut request: Request) -> Response {
    let matched = proxy.routes.find(request.method(), request.uri().path());
    let serving = matched
        .as_ref()
        .map_or_else(|| proxy.routes.unlisted(), |matched| matched.route.serving());
    let side = serving.side;
    let upgrade = forward::upgrade(request.headers());
    let client = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|peer| peer.0);
    let id = proxy.prepare(request.headers_mut(), client);
    if let Some(protocol) = upgrade {
        return sockets::pass(&proxy, matched, serving, request, protocol, id).await;
    }
    let (mut parts, body) = request.into_parts();
    let path = path_of(&parts.uri);
    let job = matched
        .as_ref()
        .and_then(|matched| proxy.job(matched, serving, &parts.method, &parts.uri, &parts.headers, &id));
    // The copy of the request is sent while this one is, so that both sides work at the same time.
    let (body, answered) = match job {
        None => (reqwest_body(body), None),
        Some(job) => {
            // Compressed answers could not be compared.
            parts.headers.remove(header::ACCEPT_ENCODING);
            let (tee, copied) = Tee::new(body, proxy.body_limit);
            (reqwest_body(Body::new(tee)), Some(proxy.shadow.start(job, copied)))
        }
    };
    let began = proxy.context.clock.monotonic();
    let sending = proxy.sides.send(side, parts.method, &path, parts.headers, body);
    let answer = tokio::time::timeout(ANSWER_TIMEOUT, sending).await;
    let taken = proxy.context.clock.monotonic().saturating_sub(began);
    let failure = match &answer {
        Ok(Ok(answer)) => answer.status().is_server_error().then_some(Failure::Status),
        Ok(Err(_)) | Err(_) => Some(Failure::Unreachable),
    };
    if let Some(matched) = &matched {
        proxy.routes.answered(&matched.route, side, taken, failure);
    }
    let mut answer = match answer {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => {
            tracing::warn!(%side, %error, request_id = id, "upstream unavailable");
            return forward::unavailable(StatusCode::BAD_GATEWAY);
        }
        Err(_) => {
            tracing::warn!(%side, request_id = id, "upstream timed out");
            return forward::unavailable(StatusCode::GATEWAY_TIMEOUT);
        }
    };
    forward::remove_hop_by_hop(answer.headers_mut());
    match answered {
        None => answer.map(Body::new),
        Some(answered) => {
            let (parts, body) = answer.into_parts();
            let (tee, copied) = Tee::new(body, proxy.body_limit);
            answered.answer(parts.status, parts.headers.clone(), copied);
            Response::from_parts(parts, Body::new(tee))
        }
    }
}

impl Proxy {
    /// Returns what is sent to the other side, if this request is compared.
    fn job(
        &self,
        matched: &Matched,
        serving: Serving,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
        id: &str,
    ) -> Option<Job> {
        let template = &matched.route.template;
        let is_conditional = NOT_COMPARED.iter().any(|name| headers.contains_key(name));
        if !self.shadow.compares(template.kind) || is_conditional {
            return None;
        }
        let length = headers
            .get(header::CONTENT_LENGTH)
            .and_then(|length| length.to_str().ok()?.parse().ok());
        if length.is_some_and(|length: usize| length > self.body_limit) {
            self.routes.compared(&matched.route, serving.epoch, Outcome::TooLarge);
            return None;
        }
        let copy = Copy {
            id: id.to_owned(),
            method: method.clone(),
            uri: uri.clone(),
            headers: headers.clone(),
        };
        let job = self.shadow.job(matched.clone(), serving, copy);
        if job.is_none() {
            self.routes.compared(&matched.route, serving.epoch, Outcome::Dropped);
        }
        job
    }

    /// Makes the headers those of a forwarded request. Returns its id, which both sides log.
    fn prepare(&self, headers: &mut HeaderMap, client: Option<SocketAddr>) -> String {
        forward::remove_hop_by_hop(headers);
        if let Some(client) = client.and_then(|client| HeaderValue::from_str(&client.ip().to_string()).ok()) {
            headers.append(FORWARDED_FOR, client);
        }
        if let Some(host) = headers.remove(header::HOST) {
            headers.entry(FORWARDED_HOST).or_insert(host);
        }
        headers
            .entry(FORWARDED_PROTO)
            .or_insert(HeaderValue::from_static("http"));
        let known = headers
            .get(REQUEST_ID)
            .and_then(|id| id.to_str().ok())
            .map(str::to_owned);
        known.unwrap_or_else(|| {
            let id = self.context.entropy.uuid().to_string();
            if let Ok(value) = HeaderValue::from_str(&id) {
                headers.insert(REQUEST_ID, value);
            }
            id
        })
    }
}

fn reqwest_body(body: Body) -> reqwest::Body {
    use hyper::body::Body as _;
    if body.is_end_stream() {
        reqwest::Body::default()
    } else {
        reqwest::Body::wrap(Shared::new(body))
    }
}

pub fn path_of(uri: &Uri) -> String {
    uri.path_and_query()
        .map_or_else(|| uri.path().to_owned(), |path| path.as_str().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_have_addresses_of_their_own() {
        let given = ["http://all:1/", "feed=http://feed:2"].map(str::to_owned);
        let addresses = Addresses::parse(&given).unwrap();
        assert_eq!(addresses.find("/feed-service/saveFeed"), Some("http://feed:2"));
        assert_eq!(addresses.find("/dm-service/x"), Some("http://all:1"));
        assert_eq!(Addresses::parse(&given[1..]).unwrap().find("/dm-service/x"), None);
        assert!(Addresses::parse(&["ftp://x".to_owned()]).is_err());
        assert_eq!(
            Addresses::parse(&["http://x/?a=b".to_owned()]).unwrap().find("/"),
            Some("http://x/?a=b")
        );
    }
}
