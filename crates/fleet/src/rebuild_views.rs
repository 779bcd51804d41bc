//! `fleet rebuild-views`: builds the post view of feed anew.

use std::path::Path;

use crate::import::{context, service};

/// Builds the view of every post, and prints how many there are.
///
/// # Errors
/// If feed's database is unavailable or cannot be read.
pub async fn run(data: &Path) -> anyhow::Result<()> {
    let settings = service::<sosohappy_feed::Settings>(data, "feed", sosohappy_feed::DEFAULTS).await?;
    let mut reported = 0;
    let posts = sosohappy_feed::views::rebuild(settings, &context(), |posts| {
        if posts >= reported + REPORT_EVERY {
            reported = posts;
            println!("{posts} posts …");
        }
    })
    .await?;
    println!("post view: {posts} posts");
    Ok(())
}

/// Posts between two lines of progress.
const REPORT_EVERY: u64 = 10_000;
