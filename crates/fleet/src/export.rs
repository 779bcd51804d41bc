//! `fleet export spring`: writes accounts, posts and messages to the databases of the legacy Spring services, so that a migration step
//! can be undone.
//!
//! Each run writes the differences only. A written row is recorded as if it had been imported: the next import finds it unchanged.

use std::path::PathBuf;

use sosohappy_common::Context;
use sqlx::{MySql, QueryBuilder};

use crate::import::{self, Names, Report, source};

mod accounts;
mod messages;
mod posts;

/// Bytes of the values of one statement: a packet of the server is at least 16 MiB by default, and may be set lower.
const STATEMENT_BYTES: usize = 1 << 20;

/// Rows of one statement with a list of ids, or that inserts rows with few bytes.
const ROWS: usize = 1000;

/// The arguments of `fleet export spring`.
#[derive(Debug, Clone)]
pub struct Options {
    /// MySQL of the legacy auth.
    pub auth: Option<String>,
    /// MySQL of the legacy feed.
    pub feed: Option<String>,
    /// MongoDB of the legacy dm.
    pub messages: Option<String>,
    pub data: PathBuf,
    pub report: PathBuf,
    pub dry_run: bool,
}

/// Runs the export and prints its summary.
pub async fn run(options: Options) -> anyhow::Result<()> {
    let context = Context::system("fleet", 0);
    let report = Report::create(&options.report)?;
    let auth = import::open_auth(&options.data).await?;
    let report = import::exclusive::run(&auth, Box::pin(export_all(&options, report, &auth, &context))).await?;
    print!("{}", report.finish()?);
    println!("report: {}", options.report.display());
    if options.dry_run {
        println!("dry run: nothing was written");
    }
    Ok(())
}

/// Exports accounts, posts and messages to the databases that are given.
async fn export_all(
    options: &Options,
    mut report: Report,
    auth: &sosohappy_auth::import::Importer,
    context: &Context,
) -> anyhow::Result<Report> {
    if let Some(url) = &options.auth {
        let pool = source::open("--auth", url).await?;
        accounts::export(&mut report, &pool, auth, context, options.dry_run).await?;
        pool.close().await;
    }
    let names = Names::new(auth.known_names().await?, &[]);
    if let Some(url) = &options.feed {
        let pool = source::open("--feed", url).await?;
        let feed = import::open_feed(&options.data).await?;
        let mut export = posts::Export {
            pool: &pool,
            feed: &feed,
            names: &names,
            context,
            dry_run: options.dry_run,
        };
        export.run(&mut report).await?;
        pool.close().await;
    }
    if let Some(url) = &options.messages {
        let collection = import::messages::open(url).await?;
        let dm = import::open_dm(&options.data).await?;
        messages::export(&mut report, &collection, &dm, options.dry_run).await?;
    }
    Ok(report)
}

/// Divides rows among statements of at most [`STATEMENT_BYTES`] each; a larger row has one of its own.
fn statements<T>(mut rows: &[T], bytes: impl Fn(&T) -> usize) -> impl Iterator<Item = &[T]> {
    std::iter::from_fn(move || {
        if rows.is_empty() {
            return None;
        }
        let mut sum = 0;
        let fitting = rows.iter().take_while(|&row| {
            sum += bytes(row);
            sum <= STATEMENT_BYTES
        });
        let (statement, rest) = rows.split_at(fitting.count().max(1));
        rows = rest;
        Some(statement)
    })
}

/// Appends a list of ids in parentheses.
fn push_ids(query: &mut QueryBuilder<MySql>, ids: &[i64]) {
    query.push("(");
    let mut list = query.separated(", ");
    for id in ids {
        list.push_bind(*id);
    }
    query.push(")");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_have_a_bound_in_bytes() {
        let sizes = |rows: &[usize]| -> Vec<usize> { statements(rows, |bytes| *bytes).map(<[_]>::len).collect() };
        assert_eq!(sizes(&[]), [0; 0]);
        assert_eq!(sizes(&[1; 100]), [100]);
        assert_eq!(sizes(&[STATEMENT_BYTES, 1, STATEMENT_BYTES - 1, 1]), [1, 2, 1]);
        assert_eq!(sizes(&[1, 2 * STATEMENT_BYTES, 1]), [1, 1, 1]);
    }
}
