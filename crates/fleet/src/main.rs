use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use http::HeaderValue;
use jiff::Timestamp;
use sosohappy_common::run::{block_on, finish};
use sosohappy_common::settings::{self, Events, Fleet, Sources};
use sosohappy_common::{Account, Context};
use sosohappy_events::Topic;
use sosohappy_events::mixed::bus_settings;
use sosohappy_events::types::Role;
use sosohappy_fleet::app::Addresses;
use sosohappy_fleet::dead_letters::{self, Filter, LetterId, Resolution};
use sosohappy_fleet::people::{Console, Crowd};
use sosohappy_fleet::secrets::Secrets;
use sosohappy_fleet::{
    acls, backup, connection_log, demo, entry, export, grant_role, import, launch, mirror, people, rebuild_views,
    restore, system_notice, topics,
};

const SECURED: &str = "Settings of `events` can be set by environment variables, as for a service, for example for a secured broker:\n\
    SOSOHAPPY_FLEET__EVENTS__SECURITY__PROTOCOL=sasl_ssl, …__CA, …__MECHANISM, …__USERNAME, …__PASSWORD.";

/// The command line.
#[derive(Debug, Parser)]
#[command(
    name = "fleet",
    about = "The SoSoHappy fleet in one process",
    version,
    args_conflicts_with_subcommands = true
)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: Run,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run config, auth, feed, dm and notice on embedded engines (the default)
    #[command(
        after_help = "Ports are 8888 to 8892. Every setting of a service can be set by an environment variable:\n\
        SOSOHAPPY_<SERVICE>__SECTION__KEY, for example SOSOHAPPY_FEED__SERVER__PORT=9000."
    )]
    Run(Run),
    /// Run two scripted users against a running fleet, or with --people a crowd; fails if a step fails
    Demo(Demo),
    /// List dead letters (records that could not be applied), publish them again, or discard them
    #[command(after_help = SECURED)]
    DeadLetters(DeadLetters),
    /// Give an account a role, such as the first admin, in a running fleet
    GrantRole(GrantRole),
    /// Send a person a notice of the operators, with a push, in a running fleet; each is in the audit
    SystemNotice(SystemNotice),
    /// Show when and from where an account connected, also one that has resigned; each use is in the audit
    ConnectionLog(ConnectionLog),
    /// Import accounts, posts and messages of the legacy Spring services; repeatable, also while these services run
    Import(Import),
    /// Export accounts, posts and messages to the databases of the legacy Spring services, to undo a migration step
    Export(Export),
    /// Copy the data of a fleet on embedded engines as they are at one moment, also while it runs
    Backup(Backup),
    /// Make a data folder from a backup; accounts that have resigned since are resigned again
    Restore(Restore),
    /// Build the post view of feed (`feedView`, `feedViews`) anew from the posts; also while feed runs
    RebuildViews(RebuildViews),
    /// Create missing topics of the fleet on Kafka, or with --acls missing ACLs of its services; report differences from the declarations
    #[command(after_help = SECURED)]
    Topics(Topics),
    /// Answer from a Spring fleet or from ours, send the same to the other, and report what differs
    #[command(after_help = SECURED)]
    Mirror(Mirror),
}

#[derive(Debug, Args)]
struct Run {
    /// The folder of all data
    #[arg(long, env = "SOSOHAPPY_DATA", default_value = "data", value_name = "DIR")]
    data: PathBuf,
    /// One address for all services, as behind a load balancer, without the config service and management; or `off`
    #[arg(long, env = "SOSOHAPPY_ENTRY", default_value = entry::DEFAULT, value_name = "ADDRESS")]
    entry: entry::Address,
    /// An origin whose pages may call that address (CORS); may be repeated, separated by commas in the environment
    #[arg(long, env = "SOSOHAPPY_ENTRY_ORIGINS", value_delimiter = ',', value_name = "ORIGIN")]
    origin: Vec<HeaderValue>,
}

impl Run {
    fn run(self) -> anyhow::Result<()> {
        let entry = self.entry.0.map(|address| entry::Settings {
            address,
            origins: self.origin,
        });
        block_on(launch::run(&self.data, entry))
    }
}

#[derive(Debug, Args)]
struct GrantRole {
    /// The account: email+provider
    #[arg(value_name = "ACCOUNT", value_parser = account)]
    account: Account,
    /// user, moderator or admin; a lower role than before signs the account out
    #[arg(value_name = "ROLE", value_parser = role)]
    role: Role,
    /// The URL of auth
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8890")]
    auth: String,
    /// The folder of the fleet's data, whose operator token is used unless `SOSOHAPPY_OPERATOR_TOKEN` is set
    #[arg(long, env = "SOSOHAPPY_DATA", default_value = "data", value_name = "DIR")]
    data: PathBuf,
}

impl GrantRole {
    async fn run(self) -> anyhow::Result<()> {
        let token = Secrets::find(&self.data)?.operator_token;
        grant_role::run(&self.auth, &token, &self.account, self.role).await
    }
}

#[derive(Debug, Args)]
struct SystemNotice {
    /// The account: email+provider
    #[arg(value_name = "ACCOUNT", value_parser = account)]
    account: Account,
    /// Shown above the text
    #[arg(long, value_name = "TEXT")]
    title: String,
    /// What the notice says
    #[arg(long, value_name = "TEXT")]
    text: String,
    /// The URL of auth
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8890")]
    auth: String,
    /// The folder of the fleet's data, whose operator token is used unless `SOSOHAPPY_OPERATOR_TOKEN` is set
    #[arg(long, env = "SOSOHAPPY_DATA", default_value = "data", value_name = "DIR")]
    data: PathBuf,
}

impl SystemNotice {
    async fn run(self) -> anyhow::Result<()> {
        let token = Secrets::find(&self.data)?.operator_token;
        system_notice::run(&self.auth, &token, &self.account, &self.title, &self.text).await
    }
}

#[derive(Debug, Args)]
struct ConnectionLog {
    /// The account: email+provider
    #[arg(value_name = "ACCOUNT", value_parser = account)]
    account: Account,
    /// Why it is opened, for the audit
    #[arg(long, value_name = "TEXT")]
    note: String,
    /// The URL of auth
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8890")]
    auth: String,
    /// The folder of the fleet's data, whose operator token is used unless `SOSOHAPPY_OPERATOR_TOKEN` is set
    #[arg(long, env = "SOSOHAPPY_DATA", default_value = "data", value_name = "DIR")]
    data: PathBuf,
}

impl ConnectionLog {
    async fn run(self) -> anyhow::Result<()> {
        let token = Secrets::find(&self.data)?.operator_token;
        connection_log::run(&self.auth, &token, &self.account, &self.note).await
    }
}

fn account(text: &str) -> Result<Account, String> {
    text.parse().map_err(|error| format!("{error}"))
}

fn role(text: &str) -> Result<Role, String> {
    text.parse().map_err(|error| format!("{error}"))
}

#[derive(Debug, Args)]
struct Demo {
    /// The URL of all services, such as a load balancer's; default: each service on its own port of 127.0.0.1
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// The URL of auth; overrides --url
    #[arg(long, value_name = "URL")]
    auth: Option<String>,
    /// The URL of feed; overrides --url
    #[arg(long, value_name = "URL")]
    feed: Option<String>,
    /// The URL of dm; overrides --url
    #[arg(long, value_name = "URL")]
    dm: Option<String>,
    /// The URL of notice; overrides --url
    #[arg(long, value_name = "URL")]
    notice: Option<String>,
    /// Instead of the two: so many people, who post, like and write messages until Ctrl-C; fails if something acknowledged is missing or there twice
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(2..))]
    people: Option<u16>,
    /// What all people do together a second
    #[arg(long, default_value = "20", value_name = "ACTS", requires = "people")]
    rate: NonZeroU32,
    /// Seconds after which the people stop
    #[arg(long = "for", value_name = "SECONDS", requires = "people")]
    seconds: Option<u64>,
    /// The local entry whose page of operators shows the people; needs the operator token
    #[arg(
        long,
        value_name = "URL",
        default_value = "http://127.0.0.1:8880",
        requires = "people"
    )]
    console: String,
    /// The folder of the fleet's data, whose operator token is used unless `SOSOHAPPY_OPERATOR_TOKEN` is set
    #[arg(long, env = "SOSOHAPPY_DATA", default_value = "data", value_name = "DIR")]
    data: PathBuf,
}

impl Demo {
    async fn run(self) -> anyhow::Result<()> {
        let crowd = self.people.map(|people| Crowd {
            people: people.into(),
            rate: self.rate,
            length: self.seconds.map(Duration::from_secs),
        });
        let token = Secrets::operator_token(&self.data);
        let console = token.map(|token| Console::new(&self.console, token));
        let addresses = self.addresses()?;
        match crowd {
            None => demo::run(addresses).await,
            Some(crowd) => people::run(addresses, crowd, console).await.map(drop),
        }
    }

    fn addresses(self) -> anyhow::Result<Addresses> {
        let default = self
            .url
            .map_or_else(Addresses::from_environment, |url| Ok(Addresses::behind(&url)))?;
        Ok(Addresses {
            auth: self.auth.unwrap_or(default.auth),
            feed: self.feed.unwrap_or(default.feed),
            dm: self.dm.unwrap_or(default.dm),
            notice: self.notice.unwrap_or(default.notice),
        })
    }
}

#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
#[derive(Debug, Args)]
struct Topics {
    /// The brokers: kafka:HOST:PORT[,HOST:PORT…]
    #[arg(long, value_name = "URL", required_unless_present_any = ["strimzi", "acls"])]
    url: Option<String>,
    /// The services' setting `events.prefix`
    #[arg(long, value_name = "PREFIX")]
    prefix: Option<String>,
    /// An entry of the services' setting `events.topics`: the name of a topic; may be repeated
    #[arg(long, value_name = "TOPIC=NAME", value_parser = pair)]
    name: Vec<(String, String)>,
    /// Only report differences, change nothing
    #[arg(long)]
    dry_run: bool,
    /// Fail if a topic differs from its declaration, or a service has undeclared ACLs
    #[arg(long)]
    strict: bool,
    /// Print the resources for this Strimzi cluster, without a connection to a broker
    #[arg(long, value_name = "CLUSTER", conflicts_with_all = ["url", "dry_run", "strict", "prune"])]
    strimzi: Option<String>,
    /// Handle the ACLs of the services instead of the topics; without --url only print them
    #[arg(long)]
    acls: bool,
    /// The template of the services' principals
    #[arg(long, value_name = "PRINCIPAL", default_value = "User:{service}", value_parser = acls::Principals::new, requires = "acls")]
    principal: acls::Principals,
    /// Delete undeclared ACLs of the services
    #[arg(long, requires_all = ["acls", "url"])]
    prune: bool,
}

#[derive(Debug, Args)]
struct Import {
    #[command(subcommand)]
    command: ImportCommand,
}

#[derive(Debug, Subcommand)]
enum ImportCommand {
    /// Import from the databases of the legacy Spring services into those of this fleet's services
    #[command(after_help = IMPORTED)]
    Spring(ImportSpring),
}

const IMPORTED: &str = "The target databases and image stores are those of the services' own settings: in the data folder, unless environment\n\
    variables set others as for a service, for example SOSOHAPPY_AUTH__DATABASE__URL, SOSOHAPPY_FEED__IMAGES__URL,\n\
    SOSOHAPPY_DM__MESSAGES__URL.\n\
    SOSOHAPPY_AUTH__TOKENS__LEGACY_KEY is the HS512 secret of the legacy auth.\n\
    Each run imports the changes since the previous one. See docs/migration.md.";

#[derive(Debug, Args)]
#[group(id = "from", required = true, multiple = true, args = ["auth", "feed", "messages"])]
struct ImportSpring {
    /// The database of the legacy auth: accounts, photos, sessions
    #[arg(long, value_name = "mysql://…", required_unless_present_any = ["feed", "messages"])]
    auth: Option<String>,
    /// The database of the legacy feed: posts, pictures, likes; requires --auth, or accounts that were imported before
    #[arg(long, value_name = "mysql://…")]
    feed: Option<String>,
    /// The database of the legacy dm: the collection `message`; requires --auth, or accounts that were imported before
    #[arg(long, value_name = "mongodb://…")]
    messages: Option<String>,
    /// The folder of the fleet's data
    #[arg(long, env = "SOSOHAPPY_DATA", default_value = "data", value_name = "DIR")]
    data: PathBuf,
    /// The file to write a line to for each row that was not imported unchanged
    #[arg(long, default_value = "import-report.jsonl", value_name = "FILE")]
    report: PathBuf,
    /// The account of a nickname that more than one account has or had; may be repeated
    #[arg(long, value_name = "NICKNAME=ACCOUNT", value_parser = bearer)]
    bearer: Vec<(String, Account)>,
    /// Compare some rows through the APIs of both fleets: the address of the legacy services, or of one of them; may be repeated
    #[arg(long, value_name = "[SERVICE=]URL", requires_all = ["ours", "account", "token"], conflicts_with = "dry_run")]
    spring: Vec<String>,
    /// The address of our services, or of one of them; may be repeated
    #[arg(long, value_name = "[SERVICE=]URL", requires = "spring")]
    ours: Vec<String>,
    /// The account that sends the requests
    #[arg(long = "as", id = "account", value_name = "ACCOUNT", requires = "spring")]
    account: Option<Account>,
    /// An access token of this account that both fleets accept
    #[arg(long, env = "SOSOHAPPY_ACCESS_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    token: Option<String>,
    /// Only report; writes nothing except missing tables
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Args)]
struct Export {
    #[command(subcommand)]
    command: ExportCommand,
}

#[derive(Debug, Subcommand)]
enum ExportCommand {
    /// Export from the databases of this fleet's services to those of the legacy Spring services
    #[command(after_help = EXPORTED)]
    Spring(ExportSpring),
}

const EXPORTED: &str = "The source databases are those of the services' own settings, as for `fleet import spring`.\n\
    Each run writes the differences only. See docs/migration.md.";

#[derive(Debug, Args)]
#[group(id = "into", required = true, multiple = true, args = ["auth", "feed", "messages"])]
struct ExportSpring {
    /// The database of the legacy auth
    #[arg(long, value_name = "mysql://…", required_unless_present_any = ["feed", "messages"])]
    auth: Option<String>,
    /// The database of the legacy feed
    #[arg(long, value_name = "mysql://…")]
    feed: Option<String>,
    /// The database of the legacy dm
    #[arg(long, value_name = "mongodb://…")]
    messages: Option<String>,
    /// The folder of the fleet's data
    #[arg(long, env = "SOSOHAPPY_DATA", default_value = "data", value_name = "DIR")]
    data: PathBuf,
    /// The file to write a line to for each row that was deleted or could not be written
    #[arg(long, default_value = "export-report.jsonl", value_name = "FILE")]
    report: PathBuf,
    /// Only report; writes nothing
    #[arg(long)]
    dry_run: bool,
}

impl Export {
    fn run(self) -> anyhow::Result<()> {
        let ExportCommand::Spring(spring) = self.command;
        block_on(export::run(export::Options {
            auth: spring.auth,
            feed: spring.feed,
            messages: spring.messages,
            data: spring.data,
            report: spring.report,
            dry_run: spring.dry_run,
        }))
    }
}

fn bearer(text: &str) -> Result<(String, Account), String> {
    let (nickname, account) = text.split_once('=').ok_or("needs NICKNAME=ACCOUNT")?;
    let account = account.parse().map_err(|error| format!("{error}"))?;
    Ok((nickname.to_owned(), account))
}

impl Import {
    fn run(self) -> anyhow::Result<()> {
        let ImportCommand::Spring(spring) = self.command;
        block_on(import::run(import::Options {
            auth: spring.auth,
            feed: spring.feed,
            messages: spring.messages,
            bearers: spring.bearer,
            apis: spring
                .account
                .zip(spring.token)
                .map(|(account, token)| import::ApiOptions {
                    spring: spring.spring,
                    ours: spring.ours,
                    account,
                    token: token.into(),
                }),
            data: spring.data,
            report: spring.report,
            dry_run: spring.dry_run,
        }))
    }
}

#[derive(Debug, Args)]
#[command(
    after_help = "The database is that of feed's own settings: in the data folder, unless SOSOHAPPY_FEED__DATABASE__URL sets another."
)]
struct RebuildViews {
    /// The folder of the fleet's data
    #[arg(long, env = "SOSOHAPPY_DATA", default_value = "data", value_name = "DIR")]
    data: PathBuf,
}

#[derive(Debug, Args)]
struct Backup {
    /// The folder to write, which must not exist
    #[arg(value_name = "BACKUP")]
    to: PathBuf,
    /// The folder of the fleet's data
    #[arg(long, env = "SOSOHAPPY_DATA", default_value = "data", value_name = "DIR")]
    data: PathBuf,
}

#[derive(Debug, Args)]
struct Restore {
    /// The folder that `fleet backup` has written
    #[arg(value_name = "BACKUP")]
    backup: PathBuf,
    /// The folder to make, which must be missing or empty
    #[arg(long, env = "SOSOHAPPY_DATA", default_value = "data", value_name = "DIR")]
    data: PathBuf,
    /// A ledger of resignations that is newer than the backup, such as the file `resigned` of the damaged data folder; may be repeated
    #[arg(long, value_name = "FILE", required_unless_present = "no_ledger")]
    resigned: Vec<PathBuf>,
    /// There is no such ledger: accounts that have resigned after the backup are there again
    #[arg(long, conflicts_with = "resigned")]
    no_ledger: bool,
}

impl Restore {
    async fn run(self) -> anyhow::Result<()> {
        if self.no_ledger {
            eprintln!("no ledger of later resignations: accounts that have resigned after the backup are there again");
        }
        restore::run(&self.backup, &self.data, &self.resigned).await
    }
}

#[derive(Debug, Args)]
struct DeadLetters {
    /// The bus: kafka:HOST:PORT[,HOST:PORT…], or journal:FILE of a stopped fleet
    #[arg(long, value_name = "URL")]
    url: String,
    /// The services' setting `events.prefix`
    #[arg(long, value_name = "PREFIX")]
    prefix: Option<String>,
    /// An entry of the services' setting `events.topics`: the name of a topic; may be repeated
    #[arg(long, value_name = "TOPIC=NAME", value_parser = pair)]
    name: Vec<(String, String)>,
    #[command(subcommand)]
    command: DeadLettersCommand,
}

#[derive(Debug, Subcommand)]
enum DeadLettersCommand {
    /// Print one line per dead letter: its id, time, consumer group, event id and reason
    List(LetterFilter),
    /// Print a dead letter with key, headers and value, which may be personal data
    Show {
        #[arg(value_name = "TOPIC/PARTITION/OFFSET")]
        id: LetterId,
    },
    /// Publish dead letters to their topics again; every consumer group of the topic reads them and skips events that it has applied
    Replay(Selection),
    /// Mark dead letters as discarded; their records stay until the topic's retention expires
    Discard(Selection),
}

#[derive(Debug, Args)]
struct LetterFilter {
    /// Only dead letters of this topic; may be repeated
    #[arg(long, value_name = "TOPIC", value_parser = dead_letters::topic)]
    topic: Vec<Topic>,
    /// Only dead letters whose reason contains this text
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Only dead letters of consumer groups whose name contains this text
    #[arg(long, value_name = "TEXT")]
    group: Option<String>,
    /// Only dead letters that are not older: 30m, 2h, 7d
    #[arg(long, value_name = "DURATION")]
    since: Option<jiff::SignedDuration>,
}

#[derive(Debug, Args)]
#[group(id = "selection", required = true, multiple = true, args = ["id", "topic", "reason", "group", "since", "all"])]
struct Selection {
    /// The ids of dead letters, as `list` prints them
    #[arg(value_name = "TOPIC/PARTITION/OFFSET")]
    id: Vec<LetterId>,
    #[command(flatten)]
    filter: LetterFilter,
    /// All dead letters
    #[arg(long)]
    all: bool,
    /// Only report, change nothing
    #[arg(long)]
    dry_run: bool,
}

impl LetterFilter {
    fn filter(self, ids: Vec<LetterId>, now: Timestamp) -> Filter {
        Filter {
            ids,
            topics: self.topic,
            reason: self.reason,
            group: self.group,
            since: self
                .since
                .map(|since| now.saturating_sub(since).unwrap_or(Timestamp::MIN)),
        }
    }
}

impl DeadLetters {
    async fn run(self) -> anyhow::Result<()> {
        let context = Context::system("fleet", 0);
        let events = events(Some(&self.url), self.prefix.as_deref(), &self.name)?;
        let now = context.clock.now();
        let resolve = |selection: Selection, resolution| dead_letters::Command::Resolve {
            filter: selection.filter.filter(selection.id, now),
            resolution,
            dry_run: selection.dry_run,
        };
        let command = match self.command {
            DeadLettersCommand::List(filter) => dead_letters::Command::List(filter.filter(Vec::new(), now)),
            DeadLettersCommand::Show { id } => dead_letters::Command::Show(id),
            DeadLettersCommand::Replay(selection) => resolve(selection, Resolution::Replayed),
            DeadLettersCommand::Discard(selection) => resolve(selection, Resolution::Discarded),
        };
        let bus = sosohappy_bus::open(&events, &context).await?;
        dead_letters::run(bus, command).await
    }
}

#[derive(Debug, Args)]
struct Mirror {
    /// Where the Spring services answer: an address for all of them, or one for a service; may be repeated
    #[arg(long, value_name = "[SERVICE=]URL", required = true)]
    spring: Vec<String>,
    /// Where ours answer
    #[arg(long, value_name = "[SERVICE=]URL", required = true)]
    ours: Vec<String>,
    /// Where clients are answered
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8800")]
    listen: SocketAddr,
    /// Where GET /mirror/report and POST /mirror/move?route=…&to=spring|ours are answered
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8801")]
    admin: SocketAddr,
    /// The folder of state.json, which routes have moved, and differences.jsonl, the report
    #[arg(long, value_name = "DIR", default_value = "mirror")]
    data: PathBuf,
    /// Permitted differences, over the built-in rules
    #[arg(long, value_name = "FILE")]
    rules: Option<PathBuf>,
    /// The side that answers
    #[arg(long, value_enum, default_value = "spring")]
    answer: mirror::Side,
    /// Both fleets are copies, with data, topics, mail and push of their own, and no person uses them: --writes and --move need it
    #[arg(long)]
    copy: bool,
    /// Send writes to the other side too (with --copy)
    #[arg(long)]
    writes: bool,
    /// Move a route to ours after this many equal answers in a row; back on a difference or on errors (with --copy)
    #[arg(long = "move", value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    move_after: Option<u64>,
    /// The share of failed answers, of the last 100, above which a moved route goes back
    #[arg(long, value_name = "SHARE", default_value_t = 0.05, value_parser = share)]
    error_rate: f64,
    /// Longest body that is compared, in bytes
    #[arg(long, value_name = "BYTES", default_value_t = 256 * 1024)]
    body_limit: usize,
    /// Comparisons at once; requests beyond are answered and not compared
    #[arg(long, value_name = "N", default_value_t = 128)]
    comparisons: usize,
    /// How long the other side may take for an answer, and a frame of one side is awaited on the other
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = duration)]
    timeout: Duration,
    /// How long a read that differs is asked again before it counts as different
    #[arg(long, value_name = "DURATION", default_value = "500ms", value_parser = duration)]
    confirm: Duration,
    /// Write texts and names into the report as they are; tokens never are
    #[arg(long)]
    show_values: bool,
    /// Compare records too: the brokers of Spring's side, and of ours without --ours-events
    #[arg(long, value_name = "URL")]
    events: Option<String>,
    /// The prefix of the topics on Spring's side
    #[arg(long, value_name = "PREFIX", requires = "events")]
    prefix: Option<String>,
    /// The brokers of our side
    #[arg(long, value_name = "URL", requires = "events")]
    ours_events: Option<String>,
    /// The prefix of the topics on our side
    #[arg(long, value_name = "PREFIX", requires = "events")]
    ours_prefix: Option<String>,
    /// How long a record of one side is waited for on the other
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration)]
    window: Duration,
}

impl Mirror {
    fn options(self) -> anyhow::Result<mirror::Options> {
        let topics = match &self.events {
            None => None,
            Some(url) => Some(mirror::Topics {
                spring: events(Some(url), self.prefix.as_deref(), &[])?,
                ours: events(
                    Some(self.ours_events.as_ref().unwrap_or(url)),
                    self.ours_prefix.as_deref(),
                    &[],
                )?,
                window: self.window,
            }),
        };
        Ok(mirror::Options {
            spring: self.spring,
            ours: self.ours,
            listen: self.listen,
            admin: self.admin,
            data: self.data,
            rules: self.rules,
            answer: self.answer,
            copy: self.copy,
            writes: self.writes,
            move_after: self.move_after,
            error_rate: self.error_rate,
            body_limit: self.body_limit,
            comparisons: self.comparisons,
            timeout: self.timeout,
            confirm: self.confirm,
            show_values: self.show_values,
            topics,
        })
    }
}

fn share(text: &str) -> Result<f64, String> {
    let share = text.parse().ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| "needs a number from 0 to 1".to_owned())
}

fn duration(text: &str) -> Result<Duration, String> {
    let duration: jiff::SignedDuration = text.parse().map_err(|error: jiff::Error| error.to_string())?;
    duration.try_into().map_err(|_| "is negative".to_owned())
}

/// Returns the settings `events` of the environment; arguments of the command line override them.
fn events(url: Option<&str>, prefix: Option<&str>, names: &[(String, String)]) -> anyhow::Result<Events> {
    #[derive(serde::Deserialize)]
    struct Sections {
        events: Events,
        fleet: Fleet,
    }
    let sources = Sources {
        service: "fleet",
        defaults: "",
        file: None,
        overrides: Vec::new(),
        environment: true,
    };
    let Sections { events, fleet } = settings::sections(&sources)?;
    let mut events = bus_settings(&events, &fleet);
    if let Some(url) = url {
        events.url = url.into();
    }
    if let Some(prefix) = prefix {
        prefix.clone_into(&mut events.prefix);
    }
    events.topics.extend(names.iter().cloned());
    Ok(events)
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (topic, name) = text.split_once('=').ok_or("needs TOPIC=NAME")?;
    Ok((topic.to_owned(), name.to_owned()))
}

impl Topics {
    fn run(self) -> anyhow::Result<()> {
        let events = events(self.url.as_deref(), self.prefix.as_deref(), &self.name)?;
        match (self.acls, &self.strimzi) {
            (false, None) => block_on(topics::run(&events, self.dry_run, self.strict)),
            (false, Some(cluster)) => {
                print!("{}", topics::resources(&events, cluster)?);
                Ok(())
            }
            (true, Some(cluster)) => {
                print!("{}", acls::resources(&events, cluster)?);
                Ok(())
            }
            (true, None) if self.url.is_none() => {
                print!("{}", acls::list(&events, &self.principal)?);
                Ok(())
            }
            (true, None) => {
                let mode = acls::Mode {
                    dry_run: self.dry_run,
                    prune: self.prune,
                    strict: self.strict,
                };
                block_on(acls::run(&events, &self.principal, mode))
            }
        }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match arguments.command {
        None => arguments.run.run(),
        Some(Command::Run(run)) => run.run(),
        Some(Command::Demo(demo)) => block_on(demo.run()),
        Some(Command::Export(export)) => export.run(),
        Some(Command::GrantRole(grant)) => block_on(grant.run()),
        Some(Command::SystemNotice(notice)) => block_on(notice.run()),
        Some(Command::ConnectionLog(log)) => block_on(log.run()),
        Some(Command::Import(import)) => import.run(),
        Some(Command::Backup(backup)) => block_on(backup::run(&backup.data, &backup.to)),
        Some(Command::Restore(restore)) => block_on(restore.run()),
        Some(Command::RebuildViews(rebuild)) => block_on(rebuild_views::run(&rebuild.data)),
        Some(Command::Topics(topics)) => topics.run(),
        Some(Command::DeadLetters(command)) => block_on(command.run()),
        Some(Command::Mirror(mirror)) => mirror.options().and_then(|options| block_on(mirror::run(options))),
    };
    finish("fleet", outcome)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::{CommandFactory as _, Parser as _};
    use regex::Regex;

    use super::Arguments;

    const GUIDE: &str = include_str!("../../../docs/migration.md");

    /// Returns the words of a line of the guide without its comment and without what it leaves out; an option keeps its `…`.
    fn words(line: &str) -> Vec<&str> {
        let line = line.split(" #").next().unwrap_or_default();
        let mut words: Vec<&str> = Vec::new();
        for word in line.split_whitespace() {
            if word != "…" || words.last().is_some_and(|last| last.starts_with("--")) {
                words.push(word);
            }
        }
        words
    }

    #[test]
    fn commands_of_the_migration_guide_are_accepted() {
        let blocks = GUIDE.split("```").skip(1).step_by(2);
        let lines = blocks.flat_map(str::lines).filter(|line| line.starts_with("fleet "));
        let commands: Vec<_> = lines.map(words).collect();
        for beginning in [["import", "spring"], ["export", "spring"], ["mirror", "--spring"]] {
            assert!(
                commands.iter().any(|command| command[1..3] == beginning),
                "{beginning:?} is not in {commands:?}"
            );
        }
        for mut command in commands {
            // The guide has the token in the environment.
            if command.contains(&"--as") {
                command.extend(["--token", "token"]);
            }
            if let Err(error) = Arguments::try_parse_from(&command) {
                panic!("{command:?}: {error}");
            }
        }
    }

    #[test]
    fn commands_of_the_backup_guide_are_accepted() {
        let guide = include_str!("../../../docs/backup.md");
        let commands: Vec<_> = guide
            .lines()
            .filter(|line| line.starts_with("fleet "))
            .map(words)
            .collect();
        assert_eq!(commands.len(), 3);
        for command in commands {
            if let Err(error) = Arguments::try_parse_from(&command) {
                panic!("{command:?}: {error}");
            }
        }
        let is_accepted =
            |more: &[&str]| Arguments::try_parse_from([&["fleet", "restore", "backup"][..], more].concat()).is_ok();
        assert!(!is_accepted(&[]), "a ledger cannot be forgotten");
        assert!(is_accepted(&["--resigned", "one", "--resigned", "other"]) && is_accepted(&["--no-ledger"]));
        assert!(!is_accepted(&["--resigned", "one", "--no-ledger"]));
    }

    #[test]
    fn options_of_the_migration_guide_exist() {
        let root = Arguments::command();
        // Of scripts/migrate.
        let mut known = BTreeSet::from(["binaries".to_owned()]);
        for path in [&["import", "spring"][..], &["export", "spring"], &["mirror"]] {
            let command = path.iter().fold(&root, |command, name| {
                command.find_subcommand(name).expect("a command of the guide")
            });
            known.extend(
                command
                    .get_arguments()
                    .filter_map(|argument| Some(argument.get_long()?.to_owned())),
            );
        }
        let option = Regex::new("`--([a-z-]+)").unwrap();
        let named: BTreeSet<String> = option.captures_iter(GUIDE).map(|found| found[1].to_owned()).collect();
        assert!(named.contains("bearer") && named.contains("error-rate"), "{named:?}");
        assert_eq!(named.difference(&known).collect::<Vec<_>>(), [""; 0]);
    }

    #[test]
    fn an_import_or_export_of_nothing_is_refused() {
        for direction in ["import", "export"] {
            let is_accepted = |more: &[&str]| {
                let words = ["fleet", direction, "spring"].into_iter().chain(more.iter().copied());
                Arguments::try_parse_from(words).is_ok()
            };
            assert!(!is_accepted(&[]) && !is_accepted(&["--dry-run"]), "{direction}");
            for source in ["--auth", "--feed", "--messages"] {
                assert!(is_accepted(&[source, "mysql://host/database"]), "{direction} {source}");
            }
        }
    }
}
