//! A client that behaves like the phone app: the same calls, the same encodings, the same order.

mod account;
mod dm;
mod feed;
mod socket;

use anyhow::{Context as _, bail};
use reqwest::{Response, StatusCode};
use serde::de::DeserializeOwned;

pub use dm::Message;
pub use feed::{NewPost, OtherPost, OwnPost};
pub use socket::{Heard, Socket};

/// Where the services answer, without their prefixes.
#[derive(Debug, Clone)]
pub struct Addresses {
    pub auth: String,
    pub feed: String,
    pub dm: String,
    pub notice: String,
}

impl Addresses {
    /// Each service on this machine, on its usual port or the one that the launcher's environment gives it.
    pub fn usual() -> anyhow::Result<Self> {
        let port = |service: &str, usual: u16| {
            let variable = format!("SOSOHAPPY_{service}__SERVER__PORT");
            match std::env::var(&variable) {
                Ok(port) => port.parse().with_context(|| format!("{variable} is no port: {port}")),
                Err(_) => Ok(usual),
            }
        };
        Ok(Self::local(
            port("AUTH", 8890)?,
            port("FEED", 8891)?,
            port("DM", 8889)?,
            port("NOTICE", 8892)?,
        ))
    }

    /// Each service on a port of this machine.
    #[must_use]
    pub fn local(auth: u16, feed: u16, dm: u16, notice: u16) -> Self {
        let at = |port: u16| format!("http://127.0.0.1:{port}");
        Self {
            auth: at(auth),
            feed: at(feed),
            dm: at(dm),
            notice: at(notice),
        }
    }

    /// All behind one load balancer.
    #[must_use]
    pub fn behind(url: &str) -> Self {
        let url = url.trim_end_matches('/').to_owned();
        Self {
            auth: url.clone(),
            feed: url.clone(),
            dm: url.clone(),
            notice: url,
        }
    }
}

/// One phone with one person signed in.
#[derive(Debug, Clone)]
pub struct Phone {
    addresses: Addresses,
    http: reqwest::Client,
    email: String,
    provider: String,
    provider_id: String,
    pub tokens: Option<Tokens>,
    pub nickname: String,
}

/// What sign-in and re-issue hand out.
#[derive(Debug, Clone)]
pub struct Tokens {
    /// `email+provider`, as the `email` header carries it.
    pub account: String,
    /// With `Bearer ` before it.
    pub access: String,
    pub refresh: String,
}

impl Phone {
    pub fn new(addresses: Addresses, email: &str, provider: &str) -> anyhow::Result<Self> {
        let http = sosohappy_common::tls::client_builder()
            .timeout(std::time::Duration::from_secs(20))
            .build()?;
        Ok(Self {
            addresses,
            http,
            email: email.to_owned(),
            provider: provider.to_owned(),
            provider_id: format!("{provider}-{email}"),
            tokens: None,
            nickname: String::new(),
        })
    }

    fn tokens(&self) -> anyhow::Result<&Tokens> {
        self.tokens.as_ref().context("not signed in")
    }

    pub fn account(&self) -> anyhow::Result<&str> {
        Ok(&self.tokens()?.account)
    }

    fn signed(&self, request: reqwest::RequestBuilder) -> anyhow::Result<reqwest::RequestBuilder> {
        let tokens = self.tokens()?;
        Ok(request
            .header("Authorization", &tokens.access)
            .header("email", &tokens.account))
    }
}

/// The body of a 200, or an error that shows what came instead.
async fn expect_json<T: DeserializeOwned>(response: Response) -> anyhow::Result<T> {
    let text = expect_text(response).await?;
    serde_json::from_str(&text).with_context(|| format!("unexpected answer: {text}"))
}

async fn expect_text(response: Response) -> anyhow::Result<String> {
    let (status, url) = (response.status(), response.url().path().to_owned());
    let text = response.text().await?;
    if status != StatusCode::OK {
        bail!("{url} answered {status}: {text}");
    }
    Ok(text)
}
