//! `fleet connection-log`: an operator reads when and from where an account connected.

use anyhow::Context as _;
use serde_json::Value;
use sosohappy_common::Account;

/// Asks auth for the connection log of an account, with the credential of operators, and prints an entry a line.
///
/// # Errors
/// When auth is unavailable or refuses: a wrong credential, no note.
pub async fn run(auth: &str, operator_token: &str, account: &Account, note: &str) -> anyhow::Result<()> {
    let response = sosohappy_common::tls::client()
        .post(format!("{}/auth-service/openConnectionLog", auth.trim_end_matches('/')))
        .bearer_auth(operator_token)
        .form(&[("account", account.as_str()), ("note", note)])
        .send()
        .await
        .with_context(|| format!("auth at {auth}"))?;
    let status = response.status();
    let answer: Value = response.json().await.unwrap_or_default();
    if !status.is_success() {
        let title = answer["title"].as_str().unwrap_or("no problem in the answer");
        anyhow::bail!("auth answered {status}: {title}");
    }
    let entries = answer["content"].as_array().context("auth answered no entries")?;
    for entry in entries {
        let text = |name: &str| entry[name].as_str().unwrap_or("unknown").to_owned();
        println!("{}\t{}\t{}", text("at"), text("kind"), text("address"));
    }
    match answer["unreadable"].as_u64() {
        None | Some(0) => Ok(()),
        Some(count) => {
            anyhow::bail!("{count} entries cannot be decrypted: their key is missing in tokens.provider-keys")
        }
    }
}
