//! `fleet grant-role`: an operator makes an account an admin or moderator, or a member again.

use sosohappy_common::Account;
use sosohappy_events::types::Role;

use crate::operator_call;

/// Asks auth to give the account that role, with the credential of operators.
///
/// # Errors
/// When auth is unavailable or refuses: a wrong credential, an unknown account.
pub async fn run(auth: &str, operator_token: &str, account: &Account, role: Role) -> anyhow::Result<()> {
    let form = [("account", account.as_str()), ("role", role.as_str())];
    operator_call::post(auth, operator_token, "grantRole", &form).await?;
    println!("{}: {role}", account.as_str());
    Ok(())
}
