//! The two fleets, and requests to them.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use http::header::HeaderMap;
use http::{Method, Uri};
use reqwest::Url;
use serde::{Deserialize, Serialize};
use sosohappy_common::Problem;

use crate::forward;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Shorter than a service keeps an idle connection, so that it is never closed in the moment it is used again.
const IDLE_TIMEOUT: Duration = Duration::from_secs(4);

/// One of the two fleets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    Spring,
    Ours,
}

impl Side {
    /// The side that does not answer.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Spring => Self::Ours,
            Self::Ours => Self::Spring,
        }
    }
}

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
            .ok_or_else(|| SendError::Upstream("no address is given for this path".to_owned()))?;
        let url = Url::parse(&format!("{base}{path}")).map_err(|error| SendError::Upstream(error.to_string()))?;
        let mut request = reqwest::Request::new(method, url);
        *request.headers_mut() = headers;
        *request.body_mut() = Some(body);
        let answer = self.client.execute(request).await;
        answer
            .map(Into::into)
            .map_err(|error| match forward::unreadable_body(&error) {
                Some(problem) => SendError::Body(problem),
                // Without the URL: its query may hold personal data.
                None => SendError::Upstream(chain(&error.without_url())),
            })
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// Why a request has no answer.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The request's own body cannot be read: its sender is answered with the problem.
    #[error("the request's body cannot be read")]
    Body(Problem),
    /// The side cannot be reached, or does not answer in HTTP.
    #[error("{0}")]
    Upstream(String),
}

/// Returns the path with its query.
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
