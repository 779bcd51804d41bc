//! Reports of a running crowd to the local entry, whose page of operators shows them.

use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};

use super::ledger::Summary;

/// A report that takes longer is dropped: another one follows.
const TIMEOUT: Duration = Duration::from_secs(3);

/// What a crowd has done and seen so far, as the local entry takes and shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CrowdReport {
    pub people: usize,
    /// Acts of all people a second, as asked for.
    pub rate: u32,
    /// Seconds since the people began.
    pub seconds: u64,
    /// Whether they have stopped, and everything that was acknowledged has been looked for.
    pub is_over: bool,
    pub summary: Summary,
}

/// The local entry to which reports are sent.
#[derive(Debug, Clone)]
pub struct Console {
    client: reqwest::Client,
    url: String,
    token: SecretString,
}

impl Console {
    /// Creates the sender of reports to the entry at this URL.
    #[must_use]
    pub fn new(entry: &str, operator_token: String) -> Self {
        Self {
            client: sosohappy_common::tls::client(),
            url: format!("{}/operator/crowd", entry.trim_end_matches('/')),
            token: operator_token.into(),
        }
    }

    /// Sends a report. People need no console: one that does not answer is no error.
    pub(super) async fn send(&self, report: &CrowdReport) {
        let request = self.client.post(&self.url).bearer_auth(self.token.expose_secret());
        let answer = request.timeout(TIMEOUT).json(report).send().await;
        if let Err(error) = answer.and_then(reqwest::Response::error_for_status) {
            tracing::debug!(%error, "crowd report failed");
        }
    }
}
