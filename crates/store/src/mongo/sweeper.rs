//! Deletes expired documents.

use sosohappy_common::Context;

use super::{Database, directory, lease, presence};
use crate::StoreError;
use crate::sweeper::{self, LEASE, LEASE_TTL, Limits};

pub(super) fn spawn(database: &Database, context: &Context) {
    let database = database.clone();
    sweeper::spawn(context, move || {
        let database = database.clone();
        async move {
            let ours = database.lease(LEASE, database.instance(), LEASE_TTL).await?;
            if ours { database.sweep().await } else { Ok(()) }
        }
    });
}

pub(super) async fn sweep(database: &Database) -> Result<(), StoreError> {
    let limits = Limits::at(database.server_time().await?);
    // A failure of one collection must not stop the sweep of the others.
    let swept = [
        presence::sweep(database, limits.presence).await,
        directory::sweep(database, limits.tombstones).await,
        lease::sweep(database, limits.leases).await,
    ];
    swept.into_iter().collect()
}
