//! A server of MariaDB with a binary log, which the engines of the other tests do without.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use sosohappy_testkit::{ReservedPorts, eventually};

use crate::steps;

/// Debian installs the server in a folder that is not in the `PATH` of users.
const SBIN: &str = "PATH=$PATH:/usr/sbin:/usr/local/sbin";

/// The settings are those of `k8s/base/mysql`, and a binary log of rows, which is the default of MySQL.
const SERVER: &str = r#"exec mariadbd --no-defaults --user="$(id -un)" --datadir="$folder/data" --bind-address=127.0.0.1 --port="$port" \
    --socket=mysql.sock --skip-name-resolve --max-connections=500 --character-set-server=utf8mb4 --innodb-log-file-size=16M \
    --innodb-flush-log-at-trx-commit=1 --log-bin="$folder/binlogs/binlog" --binlog-format=ROW --sync-binlog=1 --server-id=1 \
    --ssl-ca="$tls/ca.pem" --ssl-cert="$tls/server.crt" --ssl-key="$tls/server.key""#;

const INSTALL: &str = r#"mkdir -p "$folder/binlogs"
    mariadb-install-db --no-defaults --user="$(id -un)" --datadir="$folder/data" --auth-root-authentication-method=normal --skip-test-db"#;

/// Killed when dropped.
#[derive(Debug)]
pub struct MariaDb {
    parent: PathBuf,
    /// The number of the server: each has data and binary logs of its own.
    number: usize,
    port: u16,
    tls: String,
    child: Option<Child>,
    _reserved: ReservedPorts,
}

impl MariaDb {
    /// Starts an empty server. Its files are in folders of `parent`, its certificates those of the engines in `tls`.
    pub async fn start(parent: &Path, tls: &str) -> Self {
        let mut reserved = ReservedPorts::default();
        let mut server = Self {
            parent: parent.to_owned(),
            number: 0,
            port: reserved.reserve(),
            tls: tls.to_owned(),
            child: None,
            _reserved: reserved,
        };
        server.start_empty().await;
        server
    }

    /// Kills the server and deletes its data, but not the binary logs. Starts an empty one on the same port. Returns the folder of the
    /// binary logs of the one before.
    pub async fn replace(&mut self) -> PathBuf {
        let lost = self.folder();
        self.kill();
        std::fs::remove_dir_all(lost.join("data")).expect("the data can be deleted");
        self.number += 1;
        self.start_empty().await;
        lost.join("binlogs")
    }

    async fn start_empty(&mut self) {
        let folder = self.folder();
        let (path, port) = (folder.display().to_string(), self.port.to_string());
        let variables = [
            ("folder", path.as_str()),
            ("port", port.as_str()),
            ("tls", self.tls.as_str()),
        ];
        steps::run(&format!("{SBIN}\n{INSTALL}"), &variables).await;
        let log = std::fs::File::create(folder.join("log")).expect("a log can be written");
        let child = Command::new("bash")
            .args(["-c", &format!("{SBIN}\n{SERVER}")])
            .envs(variables)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file handle can be cloned"))
            .stderr(log)
            .spawn();
        self.child = Some(child.expect("bash can be run"));
        let question = format!(
            "mariadb {} --user=root --connect-timeout=2 --execute='SELECT 1'",
            self.client()
        );
        eventually("MariaDB answers", async || {
            let mut command = tokio::process::Command::new("bash");
            let answer = command.args(["-c", &question]).output().await.expect("bash can be run");
            answer.status.success().then_some(())
        })
        .await;
    }

    fn folder(&self) -> PathBuf {
        self.parent.join(format!("mysql-{}", self.number))
    }

    /// Returns the URL of a database for an account with all rights.
    pub fn url(&self, database: &str) -> String {
        format!("mysql://root@127.0.0.1:{}/{database}", self.port)
    }

    /// Returns the first options of a client.
    pub fn client(&self) -> String {
        format!("--no-defaults --protocol=tcp --host=127.0.0.1 --port={}", self.port)
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("our own child can be killed");
            child.wait().expect("our own child can be waited for");
        }
    }
}

impl Drop for MariaDb {
    fn drop(&mut self) {
        self.kill();
    }
}
