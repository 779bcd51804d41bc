//! `fleet mirror`: stands before a Spring fleet and ours, answers from one of them, and compares both.
//!
//! For each request `proxy` finds the route and the side that answers it, passes it on (`upstream`, `sides`), and hands a copy to `shadow`,
//! which asks the other side, compares both answers by `rules` (`compare`) and reports what differs (`report`). `routes` counts, moves a
//! route to ours after enough equal answers, and steps back. `sockets` copies frames and compares those of both sides, `records` the
//! topics of both sides.

mod body;
pub(crate) mod compare;
mod pairs;
mod proxy;
mod records;
mod report;
mod routes;
pub(crate) mod rules;
mod shadow;
pub(crate) mod sides;
mod sockets;
mod upstream;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use axum::extract::{Query, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use sosohappy_bus::{Bus, BusError, Reader, Start};
use sosohappy_common::http::serve::Service;
use sosohappy_common::lifecycle::Stage;
use sosohappy_common::run::{Leave, Running, supervise};
use sosohappy_common::settings::{self, Events, Live, Log, Server, Sources, Tracing};
use sosohappy_common::telemetry::Telemetry;
use sosohappy_common::{Context, Problem};
use sosohappy_events::Topic;
use tokio::net::TcpListener;

use pairs::Pairs;
use proxy::Proxy;
use records::Records;
use report::{Redaction, Reporter};
use routes::{Policy, Routes, StateFile};
use rules::Rules;
use shadow::{Comparer, Shadow};
pub use sides::Side;
use sides::Sides;
use upstream::Upstream;

/// What becomes of compared answers: counts of a route in the report. Where all answers are compared, they add up to `answered` in the end.
pub const OUTCOMES: [&str; 8] = [
    "equal",
    "different",
    "transient",
    "oursUnanswered",
    "springUnanswered",
    "dropped",
    "tooLarge",
    "aborted",
];

/// How often the topics are asked for at the start, and the pause between.
const BUS_TRIES: u32 = 60;
const BUS_PAUSE: Duration = Duration::from_millis(500);

#[derive(Debug, Clone)]
pub struct Options {
    /// Where the services answer: `URL` for all of them, `SERVICE=URL` for one.
    pub spring: Vec<String>,
    pub ours: Vec<String>,
    pub listen: SocketAddr,
    pub admin: SocketAddr,
    /// Where the state and the report are kept.
    pub data: PathBuf,
    pub rules: Option<PathBuf>,
    pub answer: Side,
    /// Whether both fleets are copies that no person uses.
    pub copy: bool,
    /// Whether writes reach both sides.
    pub writes: bool,
    /// Equal answers in a row after which a route moves to ours.
    pub move_after: Option<u64>,
    /// The share of failed answers above which a moved route steps back.
    pub error_rate: f64,
    /// Longest body that is compared, in bytes.
    pub body_limit: usize,
    /// Comparisons at once.
    pub comparisons: usize,
    /// How long the other side may take for an answer, and a frame of one side is awaited on the other.
    pub timeout: Duration,
    /// How long a read that differs is asked again before it counts as different.
    pub confirm: Duration,
    /// Whether text is shown in reports as it is.
    pub show_values: bool,
    pub topics: Option<Topics>,
}

/// Where both sides publish.
#[derive(Debug, Clone)]
pub struct Topics {
    pub spring: Events,
    pub ours: Events,
    /// How long a record of one side is waited for on the other.
    pub window: Duration,
}

/// A mirror that is being served.
#[derive(Debug)]
pub struct Mirror {
    pub address: SocketAddr,
    pub admin: SocketAddr,
    pub running: Vec<Running>,
    state: Arc<Administration>,
    writer: std::thread::JoinHandle<()>,
}

#[derive(Debug)]
struct Administration {
    rules: Arc<Rules>,
    routes: Arc<Routes>,
    records: Option<Arc<Records>>,
    reporter: Reporter,
    copy: bool,
}

/// Serves until a signal comes; prints a summary then.
pub async fn run(options: Options) -> anyhow::Result<()> {
    let leave = Leave::listen()?;
    let shared = shared()?;
    let telemetry = Telemetry::install("fleet-mirror", &shared.log, &shared.tracing)?;
    let Mirror {
        address,
        admin,
        running,
        state,
        writer,
    } = start(options, &shared).await?;
    println!("mirror listens on http://{address}; report at http://{admin}/mirror/report");
    let outcome = supervise(running, leave).await;
    if let Some(records) = &state.records {
        records.finish();
    }
    let report = state.report();
    print!("{}", summary(&report));
    state.reporter.summary(report);
    drop(state);
    // Waits for the last lines.
    tokio::task::spawn_blocking(move || writer.join()).await.ok();
    telemetry.flush();
    outcome
}

/// The settings of the fleet's services that a mirror has too: of its ports, the log and traces.
#[derive(Debug, Clone, Deserialize)]
pub struct Shared {
    pub server: Server,
    pub log: Log,
    pub tracing: Tracing,
}

/// Returns the defaults, with the environment over them.
pub fn shared() -> anyhow::Result<Shared> {
    let sources = Sources {
        service: "fleet",
        defaults: "",
        file: None,
        // The ports are given on the command line.
        overrides: vec![("server.port".to_owned(), "0".to_owned())],
        environment: true,
    };
    Ok(settings::sections(&sources)?)
}

/// Binds both ports and serves.
pub async fn start(options: Options, shared: &Shared) -> anyhow::Result<Mirror> {
    ensure!(
        options.move_after.is_none() || options.answer == Side::Spring,
        "--move moves routes from Spring to ours: it needs --answer spring"
    );
    ensure!(
        options.copy || !options.writes,
        "--writes does every write in both fleets: mails, pushes and records are sent twice; it needs --copy"
    );
    // The reads of one service show what its writes have stored: apart, a post that was saved is not found.
    ensure!(
        options.copy || options.move_after.is_none(),
        "--move moves reads and writes of one service apart from each other: it needs --copy"
    );
    let listener = bind(options.listen).await?;
    let admin_listener = bind(options.admin).await?;
    let context = Context::system("fleet-mirror", listener.local_addr()?.port());
    let rules = Arc::new(Rules::read(options.rules.as_deref())?);
    std::fs::create_dir_all(&options.data).with_context(|| format!("--data {}", options.data.display()))?;
    let redaction = Redaction::new(options.show_values, &*context.entropy);
    let report = options.data.join("differences.jsonl");
    let (reporter, writer) = Reporter::open(&report, context.clock.clone(), redaction)?;
    let state_file = StateFile::new(&options.data);
    let policy = Policy {
        answer: options.answer,
        move_after: options.move_after,
        error_rate: options.error_rate,
    };
    let saved = state_file.read(options.answer)?;
    let routes = Arc::new(Routes::new(&rules.templates, policy, saved, reporter.clone())?);
    let records = match &options.topics {
        Some(topics) => Some(follow(topics, &rules, &context, &reporter).await?),
        None => None,
    };
    let sides = Sides::new(&options.spring, &options.ours)?;
    let comparer = Comparer {
        sides: sides.clone(),
        routes: routes.clone(),
        rules: rules.clone(),
        pairs: Pairs::new(),
        reporter: reporter.clone(),
        clock: context.clock.clone(),
        writes: options.writes,
        body_limit: options.body_limit,
        timeout: options.timeout,
        confirm: options.confirm,
        order: Arc::default(),
    };
    let lifecycle = &context.lifecycle;
    let shadow = Shadow::new(comparer, options.comparisons, lifecycle.clone());
    let (kept, clock) = (routes.clone(), context.clock.clone());
    let draining = lifecycle.draining_at(Stage::Publishing);
    lifecycle.spawn_at(Stage::Publishing, "state", async move {
        kept.keep(&state_file, &*clock, draining.cancelled()).await
    });

    let proxy = Proxy {
        upstream: Upstream {
            context: context.clone(),
            sides,
            routes: routes.clone(),
        },
        shadow,
        body_limit: options.body_limit,
    };
    let state = Arc::new(Administration {
        rules,
        routes,
        records,
        reporter,
        copy: options.copy,
    });
    let proxy = Service {
        context,
        settings: Live::new(shared.server.clone()),
        router: Router::new().fallback(proxy::answer).with_state(Arc::new(proxy)),
    };
    let administration = Service {
        context: Context::system("fleet-mirror-admin", admin_listener.local_addr()?.port()),
        settings: Live::new(shared.server.clone()),
        router: Router::new()
            .route("/mirror/report", get(show_report))
            .route("/mirror/move", post(move_routes))
            .with_state(state.clone()),
    };
    Ok(Mirror {
        address: listener.local_addr()?,
        admin: admin_listener.local_addr()?,
        running: vec![
            Running::serve(proxy, listener)?,
            Running::serve(administration, admin_listener)?,
        ],
        state,
        writer,
    })
}

async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address}"))
}

/// Begins to read the topics of both sides.
async fn follow(
    topics: &Topics,
    rules: &Rules,
    context: &Context,
    reporter: &Reporter,
) -> anyhow::Result<Arc<Records>> {
    let name = |events: &Events| (events.url.clone(), events.prefix.clone(), events.topics.clone());
    ensure!(
        name(&topics.spring) != name(&topics.ours),
        "--events: both sides publish on the same topics, so their records cannot be distinguished; give --ours-events or --ours-prefix"
    );
    let records = Arc::new(Records::new(
        &rules.topics,
        topics.window,
        reporter.clone(),
        context.clock.clone(),
    ));
    for (side, events) in [(Side::Spring, &topics.spring), (Side::Ours, &topics.ours)] {
        let bus = sosohappy_bus::open(events, context).await?;
        let reader = read(&*bus, &records.topics()).await?;
        let records = records.clone();
        let draining = context.lifecycle.draining_at(Stage::Consuming);
        context.lifecycle.spawn_at(Stage::Consuming, "records", async move {
            // The reader lives as long as its bus.
            let _bus = bus;
            tokio::select! {
                ended = records.follow(side, reader) => ended,
                () = draining.cancelled() => Ok(()),
            }
        });
    }
    let (swept, draining) = (records.clone(), context.lifecycle.draining_at(Stage::Consuming));
    context
        .lifecycle
        .spawn_at(Stage::Consuming, "records-window", async move {
            tokio::select! {
                () = swept.sweep() => {}
                () = draining.cancelled() => {}
            }
            Ok(())
        });
    Ok(records)
}

/// Reads the topics from their ends. A broker that is starting, or still spreads new topics, is asked again for a while.
async fn read(bus: &dyn Bus, topics: &[Topic]) -> Result<Box<dyn Reader>, BusError> {
    let mut tries = 1;
    loop {
        match bus.read(topics, Start::Latest).await {
            Err(BusError::Unavailable(error)) if tries < BUS_TRIES => {
                tracing::warn!(error, "bus unavailable; retrying");
                tries += 1;
                tokio::time::sleep(BUS_PAUSE).await;
            }
            other => return other,
        }
    }
}

impl Administration {
    fn report(&self) -> Value {
        let saved = self.routes.snapshot();
        let records = self.records.as_ref().map(|records| records.counts());
        json!({
            "answer": saved.answer,
            "routes": saved.routes,
            "records": records,
            "allowed": self.rules.used(),
            "reportLinesDropped": self.reporter.dropped(),
        })
    }
}

async fn show_report(State(state): State<Arc<Administration>>) -> Json<Value> {
    Json(state.report())
}

#[derive(Debug, Deserialize)]
struct Move {
    /// As the report names it, or a beginning of it or of its path with `*` behind it.
    route: String,
    to: Side,
}

async fn move_routes(State(state): State<Arc<Administration>>, Query(Move { route, to }): Query<Move>) -> Response {
    if !state.copy && !is_whole_service(&route) {
        return Problem::new(
            StatusCode::CONFLICT,
            "not-a-copy",
            "Without --copy all routes of a service move together",
        )
        .into_response();
    }
    let moved = state.routes.move_by_hand(&route, to);
    if moved.is_empty() {
        return Problem::new(StatusCode::NOT_FOUND, "no-such-route", "No route has this name").into_response();
    }
    Json(json!({"routes": moved, "to": to})).into_response()
}

/// Whether a pattern names all routes of a service, or of all services.
fn is_whole_service(pattern: &str) -> bool {
    let service = pattern
        .strip_prefix('/')
        .and_then(|rest| rest.strip_suffix("-service/*"));
    pattern == "*" || service.is_some_and(|service| !service.contains('/'))
}

/// Renders a report for people: a line for each used route, those that need attention first.
fn summary(report: &Value) -> String {
    let mut lines = vec![format!(
        "{:<48} {:<6} {:>9} {:>9} {:>9} {:>9}",
        "route", "side", "answered", "equal", "different", "other"
    )];
    let routes = report["routes"].as_object().into_iter().flatten();
    let count = |route: &Value, names: &[&str]| names.iter().filter_map(|name| route[*name].as_u64()).sum::<u64>();
    let mut used: Vec<_> = routes.filter(|(_, route)| count(route, &["answered"]) > 0).collect();
    used.sort_by_key(|(_, route)| std::cmp::Reverse(count(route, &["different"])));
    let others = [
        "transient",
        "springUnanswered",
        "oursUnanswered",
        "dropped",
        "tooLarge",
        "aborted",
    ];
    for (name, route) in used {
        lines.push(format!(
            "{name:<48} {:<6} {:>9} {:>9} {:>9} {:>9}",
            route["side"].as_str().unwrap_or_default(),
            count(route, &["answered"]),
            count(route, &["equal"]),
            count(route, &["different"]),
            count(route, &others),
        ));
    }
    for (topic, counts) in report["records"].as_object().into_iter().flatten() {
        lines.push(format!(
            "topic {topic}: {} equal, {} only on Spring's side, {} only on ours",
            count(counts, &["equal"]),
            count(counts, &["onlySpring"]),
            count(counts, &["onlyOurs"]),
        ));
    }
    lines.push(String::new());
    lines.join("\n")
}
