//! Shared by FCM and APNs: HTTP/2 clients with time limits, bounded answers, `Retry-After`.

use std::time::Duration;

use jiff::Timestamp;
use reqwest::header::RETRY_AFTER;
use reqwest::{Client, Response, StatusCode, Url};

use super::PushError;

/// One request to a provider, its answer included.
pub const TIMEOUT: Duration = Duration::from_secs(10);
const CONNECT: Duration = Duration::from_secs(5);
/// Bytes of an answer that are read. Answers of the providers have a few hundred.
const MOST_ANSWER: usize = 16 * 1024;
/// A provider that asks for more is asked again after this.
const LONGEST_RETRY_AFTER: Duration = Duration::from_hours(6);

/// Returns a client for the provider at this URL, whose requests fail after `timeout`, their answers included. Over TLS it negotiates HTTP/2;
/// without TLS (a provider on the same machine) it begins with it.
pub fn client(url: &Url, timeout: Duration) -> anyhow::Result<Client> {
    let builder = sosohappy_common::tls::client_builder()
        .timeout(timeout)
        .connect_timeout(CONNECT)
        .redirect(reqwest::redirect::Policy::none())
        .http2_keep_alive_interval(Duration::from_secs(30))
        .http2_keep_alive_timeout(Duration::from_secs(10));
    let builder = if url.scheme() == "http" {
        builder.http2_prior_knowledge()
    } else {
        builder
    };
    Ok(builder.build()?)
}

/// The answer of a provider.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub retry_after: Option<Duration>,
    /// The first bytes of the body.
    pub body: Vec<u8>,
}

impl Answer {
    /// Reads the answer. One whose body is too long or breaks off counts by its status.
    pub async fn read(mut response: Response, now: Timestamp) -> Self {
        let retry_after = response
            .headers()
            .get(RETRY_AFTER)
            .and_then(|value| value.to_str().ok());
        let retry_after = retry_after.and_then(|value| retry_after_of(value, now));
        let status = response.status();
        let mut body = Vec::new();
        while body.len() < MOST_ANSWER
            && let Ok(Some(chunk)) = response.chunk().await
        {
            body.extend_from_slice(&chunk[..chunk.len().min(MOST_ANSWER - body.len())]);
        }
        Self {
            status,
            retry_after,
            body,
        }
    }

    pub fn json<T: serde::de::DeserializeOwned + Default>(&self) -> T {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    pub fn unavailable(&self) -> PushError {
        PushError::Unavailable {
            retry_after: self.retry_after,
            source: anyhow::anyhow!("status {}", self.status),
        }
    }
}

/// Seconds, or a date (RFC 9110 section 10.2.3).
fn retry_after_of(value: &str, now: Timestamp) -> Option<Duration> {
    let wait = if let Ok(seconds) = value.trim().parse() {
        Duration::from_secs(seconds)
    } else {
        let until = jiff::fmt::rfc2822::parse(value.trim()).ok()?.timestamp();
        Duration::try_from(until.duration_since(now)).unwrap_or_default()
    };
    Some(wait.min(LONGEST_RETRY_AFTER))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now: Timestamp = "1994-11-06T08:49:00Z".parse().unwrap();
        let wait = |value| retry_after_of(value, now).map(|wait| wait.as_secs());
        assert_eq!(wait("120"), Some(120));
        assert_eq!(wait("Sun, 06 Nov 1994 08:49:37 GMT"), Some(37));
        assert_eq!(wait("Sun, 06 Nov 1994 08:00:00 GMT"), Some(0));
        assert_eq!(wait("99999999999"), Some(6 * 3600));
        assert_eq!((wait("soon"), wait("-1"), wait("")), (None, None, None));
    }
}
