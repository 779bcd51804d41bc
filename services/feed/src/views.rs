//! The post view built anew, for `fleet rebuild-views`.

use anyhow::Context as _;
use sosohappy_common::Context;

use crate::settings::Settings;
use crate::store;

/// Builds the view of every post anew, from the posts themselves; returns how many there are. Feed may run: each step locks the posts that it
/// reads, and events that are on their way are older than what it writes. `progress` is called after each step.
///
/// # Errors
/// If the database is unavailable or cannot be read. What was built stays; the next call begins anew.
pub async fn rebuild(settings: Settings, context: &Context, mut progress: impl FnMut(u64)) -> anyhow::Result<u64> {
    let opened = store::open(&settings.database.url, settings.database.max_connections, context)
        .await
        .context("feed: database.url")?;
    let (mut after, mut posts) = (0, 0);
    loop {
        let now = context.clock.now();
        let (last, built) = opened.store.rebuild_view_after(after, now).await?;
        posts += built;
        match last {
            Some(last) => after = last,
            None => break,
        }
        progress(posts);
    }
    // Nothing is left to build for a release that starts for the first time.
    opened.store.build_view(context.clock.now()).await?;
    Ok(posts)
}
