//! The dumps of a fleet on Kafka, MariaDB and the MongoDB-protocol server, restored by the steps of docs/backup.md.

use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use reqwest::StatusCode;
use sosohappy_common::clock::{Clock as _, SystemClock};
use sosohappy_events::Topic;
use sosohappy_fleet::app::{Addresses, Message, Phone, Socket};
use sosohappy_testkit::{Cluster, EngineSet, LocalEngines, eventually};

use crate::documents::{self, DatabaseCopy};
use crate::mariadb::MariaDb;
use crate::{END, binary, date_of, events, inbox, likes, message, newest_notice, save_post, sign_up, steps};

/// One replica of each service, beside config and auth.
const REPLICAS: [&str; 3] = ["feed-1", "dm-1", "notice-1"];

/// Before the dumps, and while MySQL is dumped: posts of kim, likes and messages of lee.
const BEFORE: Range<usize> = 0..3;
const MEANWHILE: Range<usize> = 3..7;
/// While dm and notice are stopped for their dump: without a message.
const WHILE_STOPPED: usize = 7;
/// After the dumps.
const AFTER: Range<usize> = 8..11;
/// The services are killed at once after it, and it has no message.
const LAST: usize = 11;
/// A like from before the dumps that lee takes back after them.
const TAKEN_BACK: usize = 1;
/// After the first restore, and after the second one.
const AFTER_RESTORE: [Range<usize>; 2] = [12..14, 14..16];

/// Each event of these topics has content of its own in this test. Without binary logs feed erases again what a resigned account left, and
/// publishes its changes of posts and withdrawals of notices again: only of the others each event has one id then.
const TOPICS: [Topic; 4] = [Topic::NoticeLike, Topic::DirectMessage, Topic::Notice, Topic::Post];

const PASSWORD: &str = "a password";

/// How often the history is read before a message is sent again.
const LOOKS: usize = 60;

/// Whether the binary logs of the lost server are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BinaryLogs {
    Kept,
    Lost,
}

struct Ground {
    // Fields are dropped in order: the services before their databases.
    cluster: Cluster,
    mariadb: MariaDb,
    addresses: Addresses,
    engines: LocalEngines,
    folder: tempfile::TempDir,
}

/// The dumps of dm and notice, and when they were taken.
struct Documents {
    dm: DatabaseCopy,
    notice: DatabaseCopy,
    taken: String,
}

impl Ground {
    async fn start(engines: LocalEngines) -> Self {
        let parent = std::env::var_os("SOSOHAPPY_TEST_FOLDER").map_or_else(std::env::temp_dir, PathBuf::from);
        let folder = tempfile::tempdir_in(parent).unwrap();
        for name in ["backups", "ledger"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
        }
        let mariadb = MariaDb::start(folder.path(), &engines.certificates).await;
        let ledger = folder.path().join("resigned").display().to_string();
        let (auth, feed) = (mariadb.url("auth"), mariadb.url("feed"));
        let settings = [
            ("SOSOHAPPY_AUTH__DATABASE__URL", auth.as_str()),
            ("SOSOHAPPY_FEED__DATABASE__URL", feed.as_str()),
            ("SOSOHAPPY_AUTH__RESIGNATION__LEDGER", ledger.as_str()),
        ];
        let binaries = binary().parent().expect("a binary is in a folder");
        let cluster = Cluster::real_of(binaries, &settings, &REPLICAS).await;
        let ports = cluster.replicas[0];
        Self {
            cluster,
            mariadb,
            addresses: Addresses::local(ports.auth, ports.feed, ports.dm, ports.notice),
            engines,
            folder,
        }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn url_of(&self, service: &str) -> String {
        match service {
            "dm" => self.cluster.messages_url(),
            "notice" => self.cluster.inbox_url(),
            _ => panic!("{service} has no document database"),
        }
    }

    /// Makes the account of the backup jobs as docs/backup.md says.
    async fn make_backup_account(&self) {
        let password = format!("'{PASSWORD}'");
        let statements = steps::documented("CREATE USER backup");
        let statements = steps::replaced(&statements, &[("'…'", password.as_str())]);
        let client = self.mariadb.client();
        let script = format!("mariadb {client} --user=root --execute=\"$statements\"");
        steps::run(&script, &[("statements", statements.as_str())]).await;
    }

    /// Runs the script of a backup job, which connects to MySQL with the first program, with the second one in its place.
    async fn run_job(&self, manifest: &str, program: [&str; 2], more: &[(&str, &str)]) {
        let [of_mysql, of_mariadb] = program;
        let original = format!("{of_mysql} --host=mysql");
        let replacement = format!("{of_mariadb} {}", self.mariadb.client());
        let verified = format!("--ssl --ssl-ca={}/ca.pem", self.engines.certificates);
        let mut changes = vec![
            (original.as_str(), replacement.as_str()),
            ("--ssl-mode=VERIFY_CA --ssl-ca=/tls/ca.crt", verified.as_str()),
        ];
        changes.extend(more);
        let script = steps::replaced(&steps::script_of(manifest), &changes);
        steps::run(&script, &[("MYSQL_PWD", PASSWORD)]).await;
    }

    async fn dump_mysql(&self) {
        let backups = self.path("backups");
        let more = [
            ("/backups", backups.as_str()),
            ("--source-data=2", "--master-data=2"),
            ("--set-gtid-purged=OFF ", ""),
        ];
        self.run_job(steps::BACKUP_MYSQL, ["mysqldump", "mariadb-dump"], &more)
            .await;
    }

    async fn export_resignations(&self) {
        let (ledger, now) = (self.path("ledger"), self.path("now"));
        let more = [("/ledger", ledger.as_str()), ("/tmp/now", now.as_str())];
        self.run_job(steps::BACKUP_RESIGNATIONS, ["mysql", "mariadb"], &more)
            .await;
    }

    /// Stops dm and notice, copies their databases, and starts them again. Other services go on with `meanwhile`.
    async fn dump_documents(&mut self, meanwhile: impl Future<Output = ()>) -> Documents {
        let taken = SystemClock.now().to_string();
        for name in ["dm-1", "notice-1"] {
            self.cluster.kill(name);
        }
        meanwhile.await;
        let documents = Documents {
            dm: DatabaseCopy::of(&self.url_of("dm")).await,
            notice: DatabaseCopy::of(&self.url_of("notice")).await,
            taken,
        };
        for name in ["dm-1", "notice-1"] {
            self.cluster.restart(name).await;
        }
        documents
    }

    fn kill_services(&mut self) {
        for name in self.cluster.names() {
            self.cluster.kill(&name);
        }
    }

    /// Loses the databases, and does what docs/backup.md says.
    async fn restore(&mut self, documents: &Documents, logs: BinaryLogs) {
        let lost = self.mariadb.replace().await;
        self.load_mysql(&lost.display().to_string(), logs).await;
        documents.dm.restore(&self.url_of("dm")).await;
        documents.notice.restore(&self.url_of("notice")).await;
        for command in steps::documented("stream_frame").lines() {
            if !command.trim().is_empty() {
                documents::run(command, |service| self.url_of(service)).await;
            }
        }
        self.set_offsets(&documents.taken, logs).await;
        // Auth has no other ledger than the exported one.
        std::fs::copy(self.path("ledger/resigned"), self.path("resigned")).unwrap();
        for name in ["config", "auth", "feed-1", "dm-1", "notice-1"] {
            self.cluster.restart(name).await;
        }
    }

    async fn load_mysql(&self, binary_logs: &str, logs: BinaryLogs) {
        let (backups, client) = (self.path("backups"), format!("mariadb {}", self.mariadb.client()));
        let mysql = ("mysql --host=127.0.0.1", client.as_str());
        let load = steps::documented("mysqlbinlog --start-position");
        if logs == BinaryLogs::Kept {
            let changes = [
                mysql,
                ("mysqlbinlog", "mariadb-binlog --no-defaults"),
                ("/backups", backups.as_str()),
                ("/binlogs", binary_logs),
            ];
            steps::run(&steps::replaced(&load, &changes), &[]).await;
            return;
        }
        let dump = load.lines().take(2).collect::<Vec<_>>().join("\n");
        let changes = [mysql, ("/backups", backups.as_str())];
        steps::run(&steps::replaced(&dump, &changes), &[]).await;
        let expiry = " --init-command=\"SET information_schema_stats_expiry = 0\"";
        let numbers = steps::documented("AUTO_INCREMENT");
        steps::run(&steps::replaced(&numbers, &[mysql, (expiry, "")]), &[]).await;
    }

    /// Repeats it while members of the groups that were killed have not left them.
    async fn set_offsets(&self, taken: &str, logs: BinaryLogs) {
        let (brokers, prefix) = self.cluster.kafka();
        let class = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand";
        let tool = format!(
            "java -cp '{}' {class} --bootstrap-server {brokers}",
            self.engines.kafka_tools
        );
        let group = format!("--group \"{prefix}");
        let mut changes = vec![
            ("scripts/kafka kafka-consumer-groups.sh", tool.as_str()),
            ("--group \"", group.as_str()),
        ];
        if logs == BinaryLogs::Lost {
            changes.push(("in dm notice", "in auth feed dm notice"));
        }
        let script = steps::replaced(&steps::documented("--reset-offsets"), &changes);
        eventually("the consumer groups are inactive", async || {
            let printed = steps::run(&script, &[("taken", taken)]).await;
            println!("{printed}");
            (!printed.contains("Error:")).then_some(())
        })
        .await;
    }

    /// Whether no service has anything of an account that has resigned.
    async fn is_erased(&self, gone: &Phone, kim: &Phone) -> bool {
        let name = gone.nickname.as_str();
        let is_signed_out = gone
            .clone()
            .re_issue()
            .await
            .is_ok_and(|status| status != StatusCode::OK)
            && gone
                .access_status()
                .await
                .is_ok_and(|status| status == StatusCode::FORBIDDEN);
        let (Ok(others), Ok(Some(own))) = (kim.others().await, kim.own_day(date_of(0)).await) else {
            return false;
        };
        let Ok(conversations) = kim.conversations().await else {
            return false;
        };
        let notices = inbox(kim, &self.addresses).await;
        is_signed_out
            && others.iter().all(|post| post.nickname != name)
            && own.like_nickname_list.iter().all(|liker| liker != name)
            && conversations.iter().all(|message| message.sender != name)
            && notices.iter().all(|notice| !notice.to_string().contains(name))
    }

    async fn wait_until_erased(&self, gone: &Phone, kim: &Phone) {
        eventually(&format!("{} is erased", gone.nickname), async || {
            self.is_erased(gone, kim).await.then_some(())
        })
        .await;
    }

    /// No content was published under two ids.
    async fn assert_published_once(&self, topics: &[Topic]) {
        let (brokers, prefix) = self.cluster.kafka();
        let repeated = events::published_under_several_ids(brokers, prefix, topics).await;
        assert!(repeated.is_empty(), "published again as other events: {repeated:?}");
    }
}

/// Sends a message until it is stored, as one may be refused for now. The same message is stored once.
async fn send(socket: &mut Socket, sender: &Phone, message: &Message) {
    eventually("the message is stored", async || {
        socket.send(message).await.unwrap();
        for _ in 0..LOOKS {
            let history = sender.history_with(&message.receiver, END).await.ok()?;
            if history.last() == Some(message) {
                return Some(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        None
    })
    .await;
}

async fn connect(phone: &Phone) -> Socket {
    eventually("the socket opens", async || phone.connect_dm().await.ok()).await
}

async fn post_and_like(kim: &Phone, lee: &Phone, step: usize) {
    save_post(kim, date_of(step), &[]).await;
    assert!(lee.toggle_like("kim", date_of(step)).await.unwrap());
}

/// Writes a post of kim, a like of it and a message of lee in each step.
async fn write(kim: &Phone, lee: &Phone, steps: Range<usize>) {
    let mut socket = connect(lee).await;
    for step in steps {
        post_and_like(kim, lee, step).await;
        send(&mut socket, lee, &message(step)).await;
    }
}

/// Leaves a post, a like and a message to kim.
async fn leave_traces(person: &Phone) {
    save_post(person, date_of(0), &[]).await;
    assert!(person.toggle_like("kim", date_of(0)).await.unwrap());
    let message = Message {
        sender: person.nickname.clone(),
        ..message(0)
    };
    send(&mut connect(person).await, person, &message).await;
}

/// Waits until the inbox of kim has one notice of each like that lee has not taken back.
async fn wait_for_likes(kim: &Phone, addresses: &Addresses, steps: impl Iterator<Item = usize>) {
    let expected: Vec<_> = steps.map(|step| (date_of(step), 1)).collect();
    let mut last = Vec::new();
    eventually("each like has one notice", async || {
        let found = likes(kim, addresses).await;
        if found != last {
            println!("{} of {} likes: {found:?}", found.len(), expected.len());
            last.clone_from(&found);
        }
        (found == expected).then_some(())
    })
    .await;
}

/// Asserts that kim has a post of each step, liked by lee unless the like was taken back.
async fn assert_posts(kim: &Phone, steps: Range<usize>) {
    let mut posts = kim.own_month(date_of(0)).await.unwrap();
    posts.sort_by_key(|post| post.date);
    let found: Vec<_> = posts
        .iter()
        .map(|post| (post.date, post.like_nickname_list.clone()))
        .collect();
    let expected = steps.map(|step| {
        let likers = if step == TAKEN_BACK {
            vec![]
        } else {
            vec!["lee".to_owned()]
        };
        (date_of(step), likers)
    });
    assert_eq!(found, expected.collect::<Vec<_>>());
}

/// Asserts that the messages of lee to kim are those of these steps, each once.
async fn assert_messages(lee: &Phone, steps: impl Iterator<Item = usize>) {
    let history = lee.history_with("kim", END).await.unwrap();
    assert_eq!(history, steps.map(message).collect::<Vec<_>>());
}

/// Asserts that a socket which resumes behind a frame from before the restore is asked to read anew.
async fn assert_resync(kim: &Phone, notice: i64) {
    for mut socket in [
        kim.resume_dm(3).await.unwrap(),
        kim.resume_notice(notice).await.unwrap(),
    ] {
        let frame: serde_json::Value = serde_json::from_str(&socket.text().await.unwrap()).unwrap();
        assert_eq!(frame["topic"], "resync", "{frame}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fleet_on_the_real_engines_is_restored_from_its_dumps() {
    let Some(engines) = EngineSet::local() else { return };
    // The futures are too large for the stack.
    Box::pin(lose_and_restore(engines)).await;
}

async fn lose_and_restore(engines: LocalEngines) {
    let mut ground = Ground::start(engines).await;
    let addresses = ground.addresses.clone();
    let [first, second] = AFTER_RESTORE;
    ground.make_backup_account().await;
    let kim = sign_up(&addresses, "kim").await;
    let lee = sign_up(&addresses, "lee").await;
    let early = sign_up(&addresses, "choi").await;
    let late = sign_up(&addresses, "park").await;
    write(&kim, &lee, BEFORE).await;
    for person in [&early, &late] {
        leave_traces(person).await;
    }
    early.resign().await.unwrap();
    ground.wait_until_erased(&early, &kim).await;

    tokio::join!(ground.dump_mysql(), write(&kim, &lee, MEANWHILE));
    let documents = ground.dump_documents(post_and_like(&kim, &lee, WHILE_STOPPED)).await;

    write(&kim, &lee, AFTER).await;
    assert!(!lee.toggle_like("kim", date_of(TAKEN_BACK)).await.unwrap());
    let newcomer = sign_up(&addresses, "jung").await;
    save_post(&newcomer, date_of(0), &[]).await;
    late.resign().await.unwrap();
    ground.wait_until_erased(&late, &kim).await;
    wait_for_likes(&kim, &addresses, (0..LAST).filter(|step| *step != TAKEN_BACK)).await;
    let notice = newest_notice(&kim, &addresses).await;
    ground.export_resignations().await;
    post_and_like(&kim, &lee, LAST).await;
    ground.kill_services();

    ground.restore(&documents, BinaryLogs::Kept).await;
    for gone in [&early, &late] {
        ground.wait_until_erased(gone, &kim).await;
    }
    wait_for_likes(&kim, &addresses, (0..first.start).filter(|step| *step != TAKEN_BACK)).await;
    assert_posts(&kim, 0..first.start).await;
    assert!(kim.post_of("jung", date_of(0)).await.is_ok());
    let stored = BEFORE.chain(MEANWHILE);
    // What dm stored after its dump is lost.
    assert_messages(&lee, stored.clone()).await;
    assert_resync(&kim, notice).await;
    write(&kim, &lee, first.clone()).await;
    assert_messages(&lee, stored.clone().chain(first.clone())).await;
    wait_for_likes(&kim, &addresses, (0..first.end).filter(|step| *step != TAKEN_BACK)).await;
    ground.assert_published_once(&TOPICS).await;
    ground.kill_services();

    ground.restore(&documents, BinaryLogs::Lost).await;
    for gone in [&early, &late] {
        ground.wait_until_erased(gone, &kim).await;
    }
    for step in BEFORE {
        let post = kim.own_day(date_of(step)).await.unwrap().expect("a post of the dump");
        assert_eq!(post.like_nickname_list, ["lee"]);
    }
    assert!(kim.post_of("jung", date_of(0)).await.is_err());
    assert_messages(&lee, stored.clone()).await;
    write(&kim, &lee, second.clone()).await;
    assert_messages(&lee, stored.chain(second.clone())).await;
    wait_for_likes(&kim, &addresses, (0..second.end).filter(|step| *step != TAKEN_BACK)).await;
    ground.assert_published_once(&TOPICS[..2]).await;
}
