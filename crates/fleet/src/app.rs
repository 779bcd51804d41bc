//! A client of the fleet that sends the same requests as the phone app, in the same encodings and order.

mod account;
mod dm;
mod feed;
mod socket;

use anyhow::{Context as _, bail};
use reqwest::{Response, StatusCode};
use serde::de::DeserializeOwned;

pub use dm::Message;
pub use feed::{NewPost, OtherPost, OwnPost};
pub use socket::{Socket, SocketEvent};

/// The base URLs of the services, without their path prefixes.
#[derive(Debug, Clone)]
pub struct Addresses {
    pub auth: String,
    pub feed: String,
    pub dm: String,
    pub notice: String,
}

impl Addresses {
    /// Returns the services on this machine, on the ports of the launcher's environment, else on their default ports.
    pub fn from_environment() -> anyhow::Result<Self> {
        let port = |service: &str, default: u16| {
            let variable = format!("SOSOHAPPY_{service}__SERVER__PORT");
            match std::env::var(&variable) {
                Ok(port) => port
                    .parse()
                    .with_context(|| format!("{variable} is not a port: {port}")),
                Err(_) => Ok(default),
            }
        };
        Ok(Self::local(
            port("AUTH", 8890)?,
            port("FEED", 8891)?,
            port("DM", 8889)?,
            port("NOTICE", 8892)?,
        ))
    }

    /// Returns the services on these ports of this machine.
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

    /// Returns the URL of a load balancer for all services.
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

/// One phone, with one account at a time.
#[derive(Debug, Clone)]
pub struct Phone {
    addresses: Addresses,
    http: reqwest::Client,
    email: String,
    provider: String,
    provider_id: String,
    /// `None` until sign-in.
    pub tokens: Option<Tokens>,
    /// Empty until a profile is set.
    pub nickname: String,
}

/// The tokens that sign-in and re-issue return.
#[derive(Debug, Clone)]
pub struct Tokens {
    /// `email+provider`, the value of the `email` header.
    pub account: String,
    /// The access token with the prefix `Bearer `.
    pub access: String,
    pub refresh: String,
}

impl Phone {
    /// Creates a phone that is not signed in.
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

    /// Returns the account, `email+provider`; fails before sign-in.
    pub fn account(&self) -> anyhow::Result<&str> {
        Ok(&self.tokens()?.account)
    }

    /// Adds the credentials to a request.
    fn signed(&self, request: reqwest::RequestBuilder) -> anyhow::Result<reqwest::RequestBuilder> {
        let tokens = self.tokens()?;
        Ok(request
            .header("Authorization", &tokens.access)
            .header("email", &tokens.account))
    }
}

/// Decodes the body of a 200 response; any other response is an error with its status and body.
async fn expect_json<T: DeserializeOwned>(response: Response) -> anyhow::Result<T> {
    let text = expect_text(response).await?;
    serde_json::from_str(&text).with_context(|| format!("unexpected response: {text}"))
}

async fn expect_text(response: Response) -> anyhow::Result<String> {
    let (status, url) = (response.status(), response.url().path().to_owned());
    let text = response.text().await?;
    if status != StatusCode::OK {
        bail!("{url} returned {status}: {text}");
    }
    Ok(text)
}
