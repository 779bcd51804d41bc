//! `fleet connection-log`: an operator reads when and from where an account connected.

use anyhow::Context as _;
use sosohappy_common::Account;

use crate::operator_call;

/// Asks auth for the connection log of an account, with the credential of operators, and prints an entry a line.
///
/// # Errors
/// When auth is unavailable or refuses: a wrong credential, no note.
pub async fn run(auth: &str, operator_token: &str, account: &Account, note: &str) -> anyhow::Result<()> {
    let form = [("account", account.as_str()), ("note", note)];
    let answer = operator_call::post(auth, operator_token, "openConnectionLog", &form).await?;
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
