//! `fleet backup`: copies the data folder of a fleet on the embedded engines, also while the fleet runs, as it is at one moment.
//!
//! No transaction can be written while the moment is taken: the copy is what a kill of the process at that moment would leave, and a fleet that is
//! started on it recovers as from one. Files beside the databases are copied before, and then again where they have changed.

pub(crate) mod databases;
pub(crate) mod files;
pub(crate) mod manifest;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};

use self::files::Files;
use self::manifest::Manifest;
use crate::import::{context, service};

/// The databases of a data folder.
pub(crate) const DATABASES: [&str; 5] = ["auth.db", "dm.db", "events.db", "feed.db", "notice.db"];

/// Writes a backup of the data folder into a new folder, which is there when it is complete and was checked, and prints its size.
///
/// # Errors
/// If the fleet keeps data elsewhere, the folder exists or is inside the data folder, or something cannot be read or written.
pub async fn run(data: &Path, to: &Path) -> anyhow::Result<()> {
    let named = || format!("--data {}", data.display());
    let data = data.canonicalize().with_context(named)?;
    ensure!(data.join("auth.db").is_file(), "{}: no fleet has run there", named());
    Box::pin(check_settings(&data)).await?;
    let to = std::path::absolute(to)?;
    ensure!(!to.exists(), "{}: already there", to.display());

    let partial = to.with_added_extension("partial");
    files::create_anew(&partial).with_context(|| partial.display().to_string())?;
    let copied = Box::pin(copy(&data, &partial)).await;
    let (manifest, paused) = files::or_remove(&partial, copied)?;
    files::put_in_place(&partial, &to)?;
    println!(
        "backup of {}: {} files, {} bytes in {}; writers waited {} ms",
        manifest.taken_at,
        manifest.files.len(),
        manifest.bytes(),
        to.display(),
        paused.as_millis()
    );
    Ok(())
}

/// Returns the manifest, which it has written too, and for how long nothing could be written.
async fn copy(data: &Path, into: &Path) -> anyhow::Result<(Manifest, Duration)> {
    ensure!(
        !into.canonicalize()?.starts_with(data),
        "{}: inside the data folder",
        into.display()
    );
    let clock = context().clock;
    let before = files::list(data)?;
    files::copy(data, into, &before, &Files::new())?;
    let copied = databases::copy(data, into, || {
        files::copy(data, into, &files::list(data)?, &before)?;
        Ok(clock.now())
    });
    let (taken_at, paused) = copied.await?;
    for database in DATABASES {
        databases::check(&into.join(database)).await?;
    }
    let manifest = Manifest::of(into, taken_at)?;
    manifest.write(into)?;
    Ok((manifest, paused))
}

/// Fails if a service keeps its data elsewhere: the backup would lack them.
async fn check_settings(data: &Path) -> anyhow::Result<()> {
    let config = service::<sosohappy_config::Settings>(data, "config", sosohappy_config::DEFAULTS).await?;
    let auth = service::<sosohappy_auth::Settings>(data, "auth", sosohappy_auth::DEFAULTS).await?;
    let feed = service::<sosohappy_feed::Settings>(data, "feed", sosohappy_feed::DEFAULTS).await?;
    let dm = service::<sosohappy_dm::Settings>(data, "dm", sosohappy_dm::DEFAULTS).await?;
    let notice = service::<sosohappy_notice::Settings>(data, "notice", sosohappy_notice::DEFAULTS).await?;
    let places = [
        ("config: events.url", &config.events.url, "journal", "events.db"),
        ("auth: events.url", &auth.events.url, "journal", "events.db"),
        ("feed: events.url", &feed.events.url, "journal", "events.db"),
        ("dm: events.url", &dm.events.url, "journal", "events.db"),
        ("notice: events.url", &notice.events.url, "journal", "events.db"),
        ("auth: database.url", &auth.database.url, "sqlite", "auth.db"),
        ("auth: images.url", &auth.images.url, "file", "images/auth"),
        ("feed: database.url", &feed.database.url, "sqlite", "feed.db"),
        ("feed: images.url", &feed.images.url, "file", "images/feed"),
        ("dm: messages.url", &dm.messages.url, "sqlite", "dm.db"),
        ("notice: inbox.url", &notice.inbox.url, "sqlite", "notice.db"),
    ];
    for (setting, url, scheme, name) in places {
        let inside = format!("{scheme}:{}", data.join(name).display());
        ensure!(
            url.expose() == inside,
            "{setting} leads out of the data folder; only fleets that keep all data there are backed up: see docs/backup.md"
        );
    }
    Ok(())
}
