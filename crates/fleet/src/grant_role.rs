//! `fleet grant-role`: an operator makes an account an admin or moderator, or a member again.

use anyhow::Context as _;
use serde_json::Value;
use sosohappy_common::Account;
use sosohappy_events::types::Role;

/// Asks auth to give the account that role, with the credential of operators.
///
/// # Errors
/// When auth is unavailable or refuses: a wrong credential, an unknown account.
pub async fn run(auth: &str, operator_token: &str, account: &Account, role: Role) -> anyhow::Result<()> {
    let response = sosohappy_common::tls::client()
        .post(format!("{}/auth-service/grantRole", auth.trim_end_matches('/')))
        .bearer_auth(operator_token)
        .form(&[("account", account.as_str()), ("role", role.as_str())])
        .send()
        .await
        .with_context(|| format!("auth at {auth}"))?;
    let status = response.status();
    if !status.is_success() {
        let problem: Value = response.json().await.unwrap_or_default();
        let title = problem["title"].as_str().unwrap_or("no problem in the answer");
        anyhow::bail!("auth answered {status}: {title}");
    }
    println!("{}: {role}", account.as_str());
    Ok(())
}
