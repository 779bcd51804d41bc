//! Closes the sockets of revoked sessions and accounts.

use std::sync::Arc;

use sosohappy_access::{Caller, Revocations};
use sosohappy_common::Account;

use crate::{Close, Hub};

/// Closes sockets of an account whenever [`Revocations`] reports a change of it.
pub(crate) fn subscribe(hub: &Hub) {
    // Weak: the hub holds the revocations, and they hold this subscriber.
    let hub_ref = Arc::downgrade(&hub.0);
    hub.0.revocations.subscribe(move |account| {
        if let Some(shared) = hub_ref.upgrade() {
            close_revoked(&Hub(shared), account);
        }
    });
}

fn close_revoked(hub: &Hub, account: &Account) {
    let shared = &hub.0;
    // Most revocations are about accounts without a socket here.
    if !shared.book.read().accounts.contains_key(account) {
        return;
    }
    let mut book = shared.book.write();
    let sockets = book.accounts.get(account).cloned().unwrap_or_default();
    for socket in sockets {
        if let Some(reason) = reason(&shared.revocations, &socket.caller) {
            book.remove(&socket);
            socket.mailbox.close(reason);
        }
    }
}

/// Returns why this caller may not have a socket; `None` while the session is valid.
pub(crate) fn reason(revocations: &Revocations, caller: &Caller) -> Option<Close> {
    let at = revocations.revoked_at(&caller.account, caller.session, caller.issued_at)?;
    // Auth also publishes `expired` when the session's last token has run out: that client is to re-issue and come back.
    let ran_out = caller.expires_at <= at;
    Some(if ran_out { Close::TokenExpired } else { Close::Policy })
}
