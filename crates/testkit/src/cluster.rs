//! A fleet as processes that a test can kill: one process on the embedded engines, or eight on the real ones.

mod balanced;
mod process;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use futures::future::join_all;
use reqwest::{Method, StatusCode};
use serde_json::Value;
use sosohappy_common::clock::{Entropy, SystemEntropy};
use sosohappy_common::crash_point::CRASH_FILE;
use sosohappy_events::topic::Service;

use crate::engines::{EngineSet, Real};
use crate::ports::ReservedPorts;
use crate::{eventually, folder};
pub use balanced::BalancedCluster;
pub use process::{Process, resident_of};

/// The ports on loopback of one replica of each service.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ports {
    pub auth: u16,
    pub feed: u16,
    pub dm: u16,
    pub notice: u16,
}

/// A running fleet. Its processes are killed and its data is deleted when it is dropped.
#[derive(Debug)]
pub struct Cluster {
    processes: BTreeMap<String, Process>,
    /// The ports of the two replicas of feed, dm and notice; both are equal where there is one replica.
    pub replicas: [Ports; 2],
    /// The port of config on loopback.
    pub config: u16,
    /// Where the launcher's entry listens on loopback; 0 without a launcher.
    pub entry: u16,
    /// Token of operators.
    pub operator_token: String,
    folder: tempfile::TempDir,
    real: Option<Real>,
    /// The settings `events.…` of each service, where each is a process.
    settings: BTreeMap<Service, Vec<(&'static str, String)>>,
    /// Environment variables of every process, where each service is one.
    environment: BTreeMap<String, String>,
    // Held for its drop: the ports stay reserved while a process is down.
    _reserved: ReservedPorts,
}

/// The processes beside config and auth of a fleet on the real engines.
const REPLICAS: [&str; 6] = ["feed-1", "dm-1", "notice-1", "feed-2", "dm-2", "notice-2"];

/// Returns a new prefix for the databases and topics of one cluster.
fn prefix() -> String {
    let entropy: &dyn Entropy = &SystemEntropy;
    format!("test_{}_", entropy.hex(6))
}

/// Returns the environment variable with the file of the armed crash point.
fn crash_file(folder: &Path) -> (String, String) {
    let file = folder.join("crash-point");
    (CRASH_FILE.to_owned(), file.display().to_string())
}

impl Cluster {
    /// Starts [`Cluster::embedded`] or [`Cluster::real`].
    pub async fn of(set: EngineSet, binaries: &Path) -> Self {
        match set {
            EngineSet::Embedded => Self::embedded(binaries).await,
            EngineSet::Real => Self::real(binaries).await,
        }
    }

    /// Starts `fleet --data <empty folder>` from the folder `binaries`.
    pub async fn embedded(binaries: &Path) -> Self {
        Self::embedded_with(binaries, &[]).await
    }

    /// As [`Cluster::embedded`], with settings as environment variables.
    pub async fn embedded_with(binaries: &Path, settings: &[(&str, &str)]) -> Self {
        let folder = folder::new();
        let mut reserved = ReservedPorts::default();
        let ports: [u16; 5] = std::array::from_fn(|_| reserved.reserve());
        let entry = reserved.reserve();
        let environment = ["CONFIG", "AUTH", "FEED", "DM", "NOTICE"]
            .iter()
            .zip(ports)
            .map(|(name, port)| (format!("SOSOHAPPY_{name}__SERVER__PORT"), port.to_string()))
            .chain([("SOSOHAPPY_ENTRY".to_owned(), format!("127.0.0.1:{entry}"))])
            .chain([crash_file(folder.path())])
            .chain(crate::patience::limits_by_environment())
            .chain(
                settings
                    .iter()
                    .map(|(key, value)| ((*key).to_owned(), (*value).to_owned())),
            )
            .collect();
        let arguments = vec!["--data".to_owned(), folder.path().join("data").display().to_string()];
        let binary = binaries.join("fleet");
        let process = Process::start("fleet", &binary, arguments, environment, folder.path(), ports.to_vec()).await;
        let [config, auth, feed, dm, notice] = ports;
        let replica = Ports { auth, feed, dm, notice };
        let processes = BTreeMap::from([("fleet".to_owned(), process)]);
        let kept = std::fs::read_to_string(folder.path().join("data").join("operator-token"));
        Self {
            processes,
            replicas: [replica; 2],
            config,
            entry,
            operator_token: kept.expect("the launcher has made a token up").trim().to_owned(),
            folder,
            real: None,
            settings: BTreeMap::new(),
            environment: BTreeMap::new(),
            _reserved: reserved,
        }
    }

    /// Starts each service as a process, with two replicas of feed, dm and notice, on Kafka, MariaDB and the MongoDB-protocol server.
    pub async fn real(binaries: &Path) -> Self {
        Self::real_with(binaries, &[]).await
    }

    /// As [`Cluster::real`], with settings as environment variables.
    pub async fn real_with(binaries: &Path, settings: &[(&str, &str)]) -> Self {
        Self::real_of(binaries, settings, &REPLICAS).await
    }

    /// As [`Cluster::real_with`], with config, auth and these of the other processes only (`feed-1`), for a test that needs no others.
    pub async fn real_of(binaries: &Path, settings: &[(&str, &str)], replicas: &[&str]) -> Self {
        let real = Real::from_environment(prefix());
        let events = Service::ALL.map(|service| (service, vec![("EVENTS__URL", real.kafka.clone())]));
        Self::on(binaries, real, BTreeMap::from(events), settings, replicas).await
    }

    /// As [`Cluster::real`], on the secured listeners: TLS everywhere, passwords for the databases, and a Kafka user for each service with
    /// the ACLs that `fleet topics --acls` creates.
    pub async fn secured(binaries: &Path) -> Self {
        let real = Real::secured(prefix());
        let events = real.secured_kafka().await;
        // Services have no right to create topics: `fleet topics` creates the topics first, then the ACLs.
        let principal = format!("User:{}{{service}}", real.prefix);
        let url = &["--url", &real.kafka, "--prefix", &real.prefix][..];
        for more in [&[][..], &["--acls", "--principal", &principal][..]] {
            let ran = std::process::Command::new(binaries.join("fleet"))
                .arg("topics")
                .args(url)
                .args(more)
                .output()
                .expect("fleet can be run");
            assert!(ran.status.success(), "fleet topics {more:?}: {ran:?}");
        }
        Self::on(binaries, real, events, &[], &REPLICAS).await
    }

    async fn on(
        binaries: &Path,
        real: Real,
        events: BTreeMap<Service, Vec<(&'static str, String)>>,
        settings: &[(&str, &str)],
        names: &[&str],
    ) -> Self {
        let folder = folder::new();
        let entropy: &dyn Entropy = &SystemEntropy;
        let mut reserved = ReservedPorts::default();
        let (config, auth) = (reserved.reserve(), reserved.reserve());
        let replicas = std::array::from_fn(|_| Ports {
            auth,
            feed: reserved.reserve(),
            dm: reserved.reserve(),
            notice: reserved.reserve(),
        });
        let operator_token = entropy.hex(16);
        let environment = settings
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let environment = environment.chain([crash_file(folder.path())]).collect();
        let mut cluster = Self {
            processes: BTreeMap::new(),
            replicas,
            config,
            entry: 0,
            operator_token: operator_token.clone(),
            folder,
            real: Some(real),
            settings: events,
            environment,
            _reserved: reserved,
        };

        let secrets = BTreeMap::from([
            ("SOSOHAPPY_SERVICE_TOKEN".to_owned(), entropy.hex(16)),
            ("SOSOHAPPY_OPERATOR_TOKEN".to_owned(), operator_token),
        ]);
        let at_config = ("CONFIG__URL", format!("http://127.0.0.1:{config}/config-service"));
        let source = ("SOURCE__URL", format!("file:{}", cluster.path("data/config")));
        let state = ("STATE__FOLDER", cluster.path("config-state"));
        // Shortens a canary of seven instances from minutes to seconds.
        let watch = ("CANARY__WATCH", "500ms".to_owned());
        let own = vec![source, state, watch];
        let started = cluster
            .start("config".to_owned(), binaries, config, &secrets, own)
            .await;
        cluster.processes.extend([started]);
        let images = ("IMAGES__URL", format!("file:{}", cluster.path("auth-images")));
        let own = vec![
            at_config.clone(),
            images,
            ("DATABASE__URL", cluster.engines().mysql_url("auth")),
            ("SIGN_IN__PROOF", "none".to_owned()),
        ];
        let started = cluster.start("auth".to_owned(), binaries, auth, &secrets, own).await;
        cluster.processes.extend([started]);

        let at_auth = ("ACCESS__AUTH_URL", format!("http://127.0.0.1:{auth}"));
        for (number, ports) in replicas.iter().enumerate() {
            let both = [at_config.clone(), at_auth.clone()];
            let images = ("IMAGES__URL", format!("file:{}", cluster.path("feed-images")));
            let of_feed = [
                &both[..],
                &[images, ("DATABASE__URL", cluster.engines().mysql_url("feed"))],
            ]
            .concat();
            let of_dm = [&both[..], &[("MESSAGES__URL", cluster.engines().mongodb_url("dm"))]].concat();
            let of_notice = [&both[..], &[("INBOX__URL", cluster.engines().mongodb_url("notice"))]].concat();
            let services = [
                ("feed", ports.feed, of_feed),
                ("dm", ports.dm, of_dm),
                ("notice", ports.notice, of_notice),
            ];
            // The first replicas make the databases.
            let starting = services.into_iter().filter_map(|(service, port, own)| {
                let name = format!("{service}-{}", number + 1);
                let is_wanted = names.contains(&name.as_str());
                is_wanted.then(|| cluster.start(name, binaries, port, &secrets, own))
            });
            let started = join_all(starting).await;
            cluster.processes.extend(started);
        }
        cluster
    }

    /// Starts a service as a process of that name (`feed-1`), and waits until it is ready.
    async fn start(
        &self,
        name: String,
        binaries: &Path,
        port: u16,
        secrets: &BTreeMap<String, String>,
        settings: Vec<(&str, String)>,
    ) -> (String, Process) {
        let (service, _) = name.split_once('-').unwrap_or((name.as_str(), ""));
        let upper = service.to_uppercase();
        let events = [
            ("SERVER__PORT", port.to_string()),
            ("EVENTS__PREFIX", self.engines().prefix.clone()),
        ];
        let of_service = Service::ALL
            .into_iter()
            .find(|known| known.short_name() == service)
            .and_then(|known| self.settings.get(&known).cloned())
            .expect("the service has a bus");
        let mut environment = secrets.clone();
        environment.extend(crate::patience::limits_by_environment());
        let settings = events.into_iter().chain(of_service).chain(settings);
        environment.extend(settings.map(|(key, value)| (format!("SOSOHAPPY_{upper}__{key}"), value)));
        environment.extend(self.environment.clone());
        let binary = binaries.join(format!("sosohappy-{service}"));
        let process = Process::start(&name, &binary, Vec::new(), environment, self.folder.path(), vec![port]).await;
        (name, process)
    }

    fn engines(&self) -> &Real {
        self.real
            .as_ref()
            .expect("a cluster of processes runs on the real engines")
    }

    /// Writes a file into the folder that is config's source.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn configure(&self, file: &str, text: &str) {
        let folder = self.folder.path().join("data").join("config");
        std::fs::create_dir_all(&folder).expect("a folder can be made");
        self.write_whole(&folder.join(file), text);
    }

    /// Writes a file that processes may read at any moment: it is there as a whole or not at all.
    fn write_whole(&self, file: &Path, text: &str) {
        let beside = self.folder.path().join("written");
        std::fs::write(&beside, text).expect("a file can be written");
        std::fs::rename(beside, file).expect("a file can be moved");
    }

    /// Arms a [`crash_point`](sosohappy_common::crash_point()): the next process that reaches it ends there by SIGKILL, and the point is
    /// disarmed. One point at a time.
    ///
    /// # Panics
    /// If the file that arms it cannot be written.
    pub fn crash_at(&self, point: &str) {
        let (_, file) = crash_file(self.folder.path());
        self.write_whole(Path::new(&file), point);
    }

    /// Waits until a process has crashed at the armed point, and returns its name. The caller restarts it.
    ///
    /// # Panics
    /// If none does within [`PATIENCE`](crate::PATIENCE), or a process ends in another way.
    pub async fn crashed(&mut self) -> String {
        eventually("a process crashes at the armed point", async || {
            let mut processes = self.processes.iter_mut();
            processes.find_map(|(name, process)| process.has_crashed().then(|| name.clone()))
        })
        .await
    }

    /// Calls the operator's API of the launcher's entry, and returns the status and the body.
    ///
    /// # Panics
    /// If the entry does not answer.
    pub async fn operate(&self, method: Method, path: &str, body: Option<Value>) -> (StatusCode, String) {
        let url = format!("http://127.0.0.1:{}/operator/{path}", self.entry);
        let mut request = sosohappy_common::tls::client().request(method, url);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.bearer_auth(&self.operator_token).send().await;
        let answer = answer.expect("the entry answers");
        (answer.status(), answer.text().await.expect("a body"))
    }

    /// Returns the URL of the database of notice: `sqlite:<file>` or `mongodb://…`.
    #[must_use]
    pub fn inbox_url(&self) -> String {
        match &self.real {
            Some(real) => real.mongodb_url("notice"),
            None => format!("sqlite:{}", self.path("data/notice.db")),
        }
    }

    /// Returns the URL of the database of dm on the real engines.
    ///
    /// # Panics
    /// On the embedded engines.
    #[must_use]
    pub fn messages_url(&self) -> String {
        self.engines().mongodb_url("dm")
    }

    /// Returns the address of Kafka, and the prefix of the names of topics and consumer groups.
    ///
    /// # Panics
    /// On the embedded engines.
    #[must_use]
    pub fn kafka(&self) -> (&str, &str) {
        let real = self.engines();
        (real.brokers(), &real.prefix)
    }

    /// Returns the folder of all files of the cluster, logs included.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// Returns the names of all processes, sorted.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.processes.keys().cloned().collect()
    }

    /// Kills a process with SIGKILL.
    ///
    /// # Panics
    /// If there is no process with that name.
    pub fn kill(&mut self, name: &str) {
        self.process(name).kill();
    }

    /// Starts a process again on the same ports and data. Returns the time until it is ready.
    ///
    /// # Panics
    /// If there is no process with that name, or it does not become ready.
    pub async fn restart(&mut self, name: &str) -> Duration {
        self.process(name).restart().await
    }

    /// Starts all processes again, which were killed: config, then the others at once. Waits until they are ready.
    pub async fn restart_all(&mut self) {
        let processes = self.processes.iter_mut();
        let (config, others): (Vec<_>, Vec<_>) = processes.partition(|(name, _)| *name == "config");
        for processes in [config, others] {
            join_all(processes.into_iter().map(|(_, process)| process.restart())).await;
        }
    }

    fn process(&mut self, name: &str) -> &mut Process {
        self.processes
            .get_mut(name)
            .unwrap_or_else(|| panic!("there is no process {name}"))
    }

    /// Returns the resident memory of all processes, in bytes.
    #[must_use]
    pub fn resident(&self) -> u64 {
        self.processes.values().map(Process::resident).sum()
    }

    /// Returns the logs of all processes.
    #[must_use]
    pub fn logs(&self) -> String {
        self.processes.values().map(Process::log_text).collect()
    }
}
