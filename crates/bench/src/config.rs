//! Requests for a service's settings as services send them: with a credential, over keep-alive connections. Measured with a folder as
//! source, and with a repository that takes two seconds for each fetch.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::ensure;
use serde_json::json;
use sosohappy_testkit::{Cluster, eventually};

use crate::report::{Report, Row};
use crate::rounds::{Effort, Spread, median};
use crate::route::rate;
use crate::run::Run;

const PATH: &str = "/config-service/feed-config/default";
const TARGET: f64 = 1000.0;
/// The share of the rate with a folder.
const SLOW_TARGET: f64 = 0.8;

const FILES: [(&str, &str); 2] = [
    ("application.yml", "log:\n  level: warn\n"),
    ("feed-config.yml", "post:\n  text: 5000\n  images: 8\n"),
];

const QUIET: (&str, &str) = ("SOSOHAPPY_CONFIG__LOG__LEVEL", "warn");

pub async fn measure(run: &mut Run, report: &mut Report, effort: Effort) -> anyhow::Result<()> {
    let binaries = run.binaries();
    let folder = Cluster::embedded_with(&binaries, &[QUIET]).await;
    for (file, text) in FILES {
        folder.configure(file, text);
    }
    let remote = SlowRemote::new()?;
    let settings = [
        QUIET,
        ("SOSOHAPPY_CONFIG__SOURCE__URL", &*remote.url),
        ("SOSOHAPPY_CONFIG__SOURCE__SSH_COMMAND", &*remote.ssh),
        // The next fetch starts when the previous one ends.
        ("SOSOHAPPY_CONFIG__SOURCE__POLL", "1ms"),
    ];
    let slow = Cluster::embedded_with(&binaries, &settings).await;
    for fleet in [&folder, &slow] {
        wait_for_files(fleet).await;
    }
    let credential = |fleet: &Cluster| format!("authorization: Bearer {}\r\n", fleet.operator_token);
    let (mut rates, mut slow_rates) = (Vec::new(), Vec::new());
    for _ in 0..effort.rounds {
        rates.push(rate(folder.config, PATH, &credential(&folder)).await?);
        slow_rates.push(rate(slow.config, PATH, &credential(&slow)).await?);
    }
    run.keep(
        "config",
        json!({"aSecond": rates, "ofASlowRepositoryASecond": slow_rates}),
    );
    let shares = slow_rates.iter().zip(&rates).map(|(slow, rate)| slow / rate);
    let share = Spread::of(shares.collect());
    let (rate, slow_rate) = (median(rates), median(slow_rates));
    report.add(&Row {
        what: "config, a service's settings".to_owned(),
        measured: format!("{rate:.0} requests/s"),
        baseline: "—".to_owned(),
        target: "≥ 1,000 requests/s",
        met: rate >= TARGET,
        why: "each response is built from the snapshot in memory.",
    });
    report.add(&Row {
        what: "config, a repository whose fetch takes 2 s".to_owned(),
        measured: format!(
            "{slow_rate:.0} requests/s, {:.2} of the baseline {}",
            share.median,
            share.range(2)
        ),
        baseline: format!("{rate:.0} requests/s, a folder"),
        target: "≥ 0.8",
        met: share.median >= SLOW_TARGET,
        why: "responses are built from the last snapshot; a fetch takes a blocking thread and CPU time on both cores.",
    });
    Ok(())
}

/// Waits until config serves the settings from both files.
async fn wait_for_files(fleet: &Cluster) {
    eventually("config serves the files", async || {
        let url = format!("http://127.0.0.1:{}{PATH}", fleet.config);
        let request = sosohappy_common::tls::client()
            .get(url)
            .bearer_auth(&fleet.operator_token);
        let answer = request.send().await.ok()?.text().await.ok()?;
        (answer.contains("feed-config.yml") && answer.contains("application.yml")).then_some(())
    })
    .await;
}

/// A git repository over ssh. A script replaces ssh and waits two seconds before it runs the command.
struct SlowRemote {
    url: String,
    ssh: String,
    _folder: tempfile::TempDir,
}

impl SlowRemote {
    fn new() -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let (work, bare) = (folder.path().join("work"), folder.path().join("bare.git"));
        std::fs::create_dir(&work)?;
        for (file, text) in FILES {
            std::fs::write(work.join(file), text)?;
        }
        let author = ["-c", "user.name=bench", "-c", "user.email=bench@example.com"];
        git(&work, &["init", "--quiet", "--initial-branch=main"])?;
        git(&work, &["add", "."])?;
        git(
            &work,
            &[&author[..], &["commit", "--quiet", "--message=settings"]].concat(),
        )?;
        git(&work, &["clone", "--quiet", "--bare", ".", &bare.display().to_string()])?;

        let ssh: PathBuf = folder.path().join("ssh");
        // git calls the program with `-G` to detect OpenSSH. Otherwise the command to run follows the host.
        let script = "#!/bin/sh\ncase \" $* \" in *' -G '*) exit 0 ;; esac\nsleep 2\n\
                      until [ \"$1\" = bench@127.0.0.1 ]; do shift; done\nshift\nexec sh -c \"$*\"\n";
        std::fs::write(&ssh, script)?;
        std::fs::set_permissions(&ssh, std::fs::Permissions::from_mode(0o755))?;
        Ok(Self {
            url: format!("git:ssh://bench@127.0.0.1{}", bare.display()),
            ssh: ssh.display().to_string(),
            _folder: folder,
        })
    }
}

fn git(folder: &Path, arguments: &[&str]) -> anyhow::Result<()> {
    let status = Command::new("git").arg("-C").arg(folder).args(arguments).status()?;
    ensure!(status.success(), "git {arguments:?}: {status}");
    Ok(())
}
