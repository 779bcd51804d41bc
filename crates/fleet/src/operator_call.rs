//! Calls to auth with the credential of operators.

use anyhow::Context as _;
use serde_json::Value;

/// Posts a form to a call of auth, and returns the answer.
///
/// # Errors
/// When auth is unavailable or refuses.
pub(crate) async fn post(auth: &str, operator_token: &str, call: &str, form: &[(&str, &str)]) -> anyhow::Result<Value> {
    let response = sosohappy_common::tls::client()
        .post(format!("{}/auth-service/{call}", auth.trim_end_matches('/')))
        .bearer_auth(operator_token)
        .form(form)
        .send()
        .await
        .with_context(|| format!("auth at {auth}"))?;
    let status = response.status();
    let answer: Value = response.json().await.unwrap_or_default();
    if !status.is_success() {
        let title = answer["title"].as_str().unwrap_or("no problem in the answer");
        let detail = answer["detail"].as_str().map(|detail| format!(": {detail}"));
        anyhow::bail!("auth answered {status}: {title}{}", detail.unwrap_or_default());
    }
    Ok(answer)
}
