//! `fleet system-notice`: an operator sends a notice to a person.

use sosohappy_common::Account;

use crate::operator_call;

/// Asks auth to send the account a notice `system`, with the credential of operators.
///
/// # Errors
/// When auth is unavailable or refuses: a wrong credential, an unknown account, a blank or too long text.
pub async fn run(auth: &str, operator_token: &str, account: &Account, title: &str, text: &str) -> anyhow::Result<()> {
    let form = [("account", account.as_str()), ("title", title), ("text", text)];
    operator_call::post(auth, operator_token, "sendSystemNotice", &form).await?;
    println!("{}: sent", account.as_str());
    Ok(())
}
