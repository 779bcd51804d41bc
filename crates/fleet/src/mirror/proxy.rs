//! The reverse proxy: answers from one side, and hands a copy to the comparison.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{ConnectInfo, Request, State};
use axum::response::{IntoResponse as _, Response};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Uri};

use super::body::{Shared, Tee};
use super::routes::{Matched, Outcome, Serving};
use super::shadow::{Copy, Job, Shadow};
use super::sides::path_of;
use super::sockets;
use super::upstream::{Head, Upstream};
use crate::forward;

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

#[derive(Debug)]
pub struct Proxy {
    pub upstream: Upstream,
    pub shadow: Arc<Shadow>,
    /// Longest body that is compared, in bytes.
    pub body_limit: usize,
}

/// Answers one request.
pub async fn answer(State(proxy): State<Arc<Proxy>>, mut request: Request) -> Response {
    let routes = &proxy.upstream.routes;
    let matched = routes.find(request.method(), request.uri().path());
    let serving = matched
        .as_ref()
        .map_or_else(|| routes.unlisted(), |matched| matched.route.serving());
    let upgrade = forward::upgrade(request.headers());
    let client = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|peer| peer.0);
    let id = proxy.prepare(request.headers_mut(), client);
    if let Some(protocol) = upgrade {
        return sockets::pass(&proxy.upstream, &proxy.shadow, matched, serving, request, protocol, id).await;
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
    let head = Head {
        id,
        method: parts.method,
        path,
        headers: parts.headers,
    };
    let mut answer = match proxy.upstream.ask(serving.side, matched.as_ref(), head, body).await {
        Ok(answer) => answer,
        Err(problem) => return problem.into_response(),
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
            self.upstream
                .routes
                .compared(&matched.route, serving.epoch, Outcome::TooLarge);
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
            self.upstream
                .routes
                .compared(&matched.route, serving.epoch, Outcome::Dropped);
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
            let id = self.upstream.context.entropy.uuid().to_string();
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
