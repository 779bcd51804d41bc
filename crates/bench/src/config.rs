//! A service's settings, asked for as services do: with a credential, over connections that stay.

use std::path::Path;

use sosohappy_testkit::{Cluster, eventually};

use crate::report::{Report, Row};
use crate::route::{ROUNDS, median, rate};

const PATH: &str = "/config-service/feed-config/default";
const TARGET: f64 = 1000.0;

pub async fn measure(report: &mut Report, binaries: &Path) -> anyhow::Result<()> {
    let fleet = Cluster::embedded_with(binaries, &[("SOSOHAPPY_CONFIG__LOG__LEVEL", "warn")]).await;
    fleet.configure("application.yml", "log:\n  level: warn\n");
    fleet.configure("feed-config.yml", "post:\n  text: 5000\n  images: 8\n");
    eventually("config serves the files", async || {
        let url = format!("http://127.0.0.1:{}{PATH}", fleet.config);
        let asked = sosohappy_common::tls::client()
            .get(url)
            .bearer_auth(&fleet.operator_token);
        let answer = asked.send().await.ok()?.text().await.ok()?;
        (answer.contains("feed-config.yml") && answer.contains("application.yml")).then_some(())
    })
    .await;
    let shown = format!("authorization: Bearer {}\r\n", fleet.operator_token);
    let mut rates = Vec::new();
    for _ in 0..ROUNDS {
        rates.push(rate(fleet.config, PATH, &shown).await?);
    }
    let rate = median(rates);
    report.add(Row {
        what: "config, a service's settings".to_owned(),
        measured: format!("{rate:.0} requests/s"),
        baseline: "—".to_owned(),
        target: "≥ 1,000 requests/s",
        met: rate >= TARGET,
        why: "the answer is made from the snapshot in memory for each request.",
    });
    Ok(())
}
