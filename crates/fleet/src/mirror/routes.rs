//! Which side answers each route: counts of compared answers, moves, and the file that keeps them over a restart.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use http::Method;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use sosohappy_common::clock::Clock;
use tokio::sync::watch;

use super::report::Reporter;
use super::rules::{Kind, Template};
use super::sides::Side;

/// Answers of a moved route whose errors are counted.
const ERROR_WINDOW: usize = 100;
/// The rate of errors is taken of at least this many answers, so that one error of a quiet route is not a rate of 100 %.
const LEAST_ANSWERS: usize = 20;
/// A route that steps back again and again needs twice as many equal answers each time, up to this many doublings.
const MOST_DOUBLINGS: u32 = 6;
/// How often counts are written; a move is written at once.
const SAVE_EVERY: Duration = Duration::from_secs(1);

/// When routes move by themselves.
#[derive(Debug, Clone, Copy)]
pub struct Policy {
    /// The side that answers until a route is moved.
    pub answer: Side,
    /// Equal answers in a row after which a route moves to ours; never when absent.
    pub move_after: Option<u64>,
    /// The share of failed answers above which a moved route steps back.
    pub error_rate: f64,
}

/// The result of one comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Equal,
    /// `confirmed`: both sides were asked again and differ still, or cannot be asked again.
    Different {
        confirmed: bool,
    },
    /// Both sides were asked again and were equal: a write came between.
    Transient,
    /// A side had no answer to compare: unreachable, too slow, overloaded or, Spring, failing.
    Unanswered(Side),
    /// The queue of comparisons is full.
    Dropped,
    /// A body is longer than what is compared.
    TooLarge,
    /// The client left before its answer was complete, or did not send all of its request.
    Aborted,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Counts {
    pub answered: u64,
    pub equal: u64,
    pub different: u64,
    pub transient: u64,
    pub spring_unanswered: u64,
    pub ours_unanswered: u64,
    pub dropped: u64,
    pub too_large: u64,
    pub aborted: u64,
    /// Frames of sockets that both sides sent to the client, and frames of one side alone.
    pub frames_equal: u64,
    pub frames_different: u64,
    /// Since the last difference or move.
    pub equal_in_a_row: u64,
    pub moved: u64,
    pub stepped_back: u64,
    /// Step backs since the last move by hand; each doubles the equal answers that the next move needs.
    pub doublings: u32,
    pub spring: Latency,
    pub ours: Latency,
}

/// Times from a request to the head of its answer.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Latency {
    pub answers: u64,
    pub total_micros: u64,
    pub longest_micros: u64,
}

impl Latency {
    fn add(&mut self, taken: Duration) {
        let micros = u64::try_from(taken.as_micros()).unwrap_or(u64::MAX);
        self.answers += 1;
        self.total_micros = self.total_micros.saturating_add(micros);
        self.longest_micros = self.longest_micros.max(micros);
    }
}

#[derive(Debug)]
pub struct Route {
    pub template: Template,
    /// Held while a difference is confirmed: one at a time, so that a route that differs always asks both sides little more often.
    pub confirming: tokio::sync::Mutex<()>,
    state: Mutex<State>,
}

/// The side that answers a route at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Serving {
    pub side: Side,
    /// Counts up with every move and every difference. A comparison whose request came in an earlier epoch compared answers from
    /// before it, so it does not count toward the next move.
    pub epoch: u64,
}

#[derive(Debug)]
struct State {
    side: Side,
    epoch: u64,
    counts: Counts,
    /// Of the last answers of ours since the route moved: whether each failed.
    errors: VecDeque<bool>,
}

impl Route {
    pub fn serving(&self) -> Serving {
        let state = self.state.lock();
        Serving {
            side: state.side,
            epoch: state.epoch,
        }
    }

    /// Counts the time that the side took which does not answer clients.
    pub fn shadowed(&self, side: Side, taken: Duration) {
        self.state.lock().latency(side).add(taken);
    }
}

#[derive(Debug)]
pub struct Routes {
    table: matchit::Router<BTreeMap<String, Arc<Route>>>,
    all: BTreeMap<String, Arc<Route>>,
    policy: Policy,
    reporter: Reporter,
    /// Counts up with every move.
    moves: watch::Sender<u64>,
}

/// A route, and the parts of the path that match its template's parameters.
#[derive(Debug, Clone)]
pub struct Matched {
    pub route: Arc<Route>,
    pub parts: Vec<(String, String)>,
}

impl Routes {
    pub fn new(templates: &[Template], policy: Policy, saved: Saved, reporter: Reporter) -> anyhow::Result<Self> {
        let mut by_path: BTreeMap<&str, BTreeMap<String, Arc<Route>>> = BTreeMap::new();
        let mut all = BTreeMap::new();
        let mut saved = saved.routes;
        for template in templates {
            let known = saved.remove(&template.name);
            let route = Arc::new(Route {
                template: template.clone(),
                confirming: tokio::sync::Mutex::default(),
                state: Mutex::new(State {
                    side: known.as_ref().map_or(policy.answer, |known| known.side),
                    epoch: 0,
                    counts: known.map(|known| known.counts).unwrap_or_default(),
                    errors: VecDeque::new(),
                }),
            });
            let methods = by_path.entry(&template.path).or_default();
            methods.insert(template.method.to_string(), route.clone());
            all.insert(template.name.clone(), route);
        }
        let mut table = matchit::Router::new();
        for (path, methods) in by_path {
            table.insert(path, methods).with_context(|| format!("route {path}"))?;
        }
        Ok(Self {
            table,
            all,
            policy,
            reporter,
            moves: watch::Sender::new(0),
        })
    }

    pub fn find(&self, method: &Method, path: &str) -> Option<Matched> {
        let matched = self.table.at(path).ok()?;
        // A HEAD is answered as its GET is.
        let method = if method == Method::HEAD {
            Method::GET.as_str()
        } else {
            method.as_str()
        };
        let parts = matched
            .params
            .iter()
            .map(|(name, value)| (name.to_owned(), value.to_owned()));
        Some(Matched {
            route: matched.value.get(method)?.clone(),
            parts: parts.collect(),
        })
    }

    /// Returns the side that answers routes that are not listed; they never move.
    pub fn unlisted(&self) -> Serving {
        Serving {
            side: self.policy.answer,
            epoch: 0,
        }
    }

    /// Counts an answer to a client. `failed`: no answer came, or one of 500 and above.
    pub fn answered(&self, route: &Route, side: Side, taken: Duration, failure: Option<Failure>) {
        let mut state = route.state.lock();
        state.counts.answered += 1;
        state.latency(side).add(taken);
        // The route may have moved while this answer was under way.
        if side != Side::Ours || state.side != Side::Ours || self.policy.answer == Side::Ours {
            return;
        }
        if state.errors.len() == ERROR_WINDOW {
            state.errors.pop_front();
        }
        state.errors.push_back(failure.is_some());
        let failed = state.errors.iter().filter(|failed| **failed).count();
        #[expect(clippy::cast_precision_loss, reason = "at most a hundred")]
        let rate = failed as f64 / state.errors.len().max(LEAST_ANSWERS) as f64;
        if failure == Some(Failure::Unreachable) {
            self.step_back(route, &mut state, "ours cannot be reached");
        } else if rate > self.policy.error_rate {
            self.step_back(route, &mut state, "too many errors");
        }
    }

    /// Counts a comparison and moves the route where its rules say so. `epoch` is that of the request.
    ///
    /// | side | outcome | equal in a row | next side |
    /// | --- | --- | --- | --- |
    /// | any | equal, of an earlier epoch | kept | kept |
    /// | Spring | equal | + 1 | ours, at N × 2^(steps back) in a row |
    /// | ours | equal | + 1 | kept |
    /// | Spring | different, or ours unanswered | 0, new epoch | kept |
    /// | ours | different and confirmed | 0, new epoch | Spring |
    /// | ours | different but unconfirmed, or ours unanswered | 0, new epoch | kept: [`Routes::answered`] counts failures of ours |
    /// | any | transient, Spring unanswered, dropped, too large, aborted | kept | kept |
    pub fn compared(&self, route: &Route, epoch: u64, outcome: Outcome) {
        let mut state = route.state.lock();
        let counts = &mut state.counts;
        match outcome {
            Outcome::Equal => counts.equal += 1,
            Outcome::Different { .. } => counts.different += 1,
            Outcome::Transient => counts.transient += 1,
            Outcome::Unanswered(Side::Spring) => counts.spring_unanswered += 1,
            Outcome::Unanswered(Side::Ours) => counts.ours_unanswered += 1,
            Outcome::Dropped => counts.dropped += 1,
            Outcome::TooLarge => counts.too_large += 1,
            Outcome::Aborted => counts.aborted += 1,
        }
        self.judge(route, &mut state, epoch, outcome);
    }

    /// Counts a frame of a socket as [`Routes::compared`] counts an answer.
    pub fn frame(&self, route: &Route, epoch: u64, equal: bool) {
        let mut state = route.state.lock();
        let outcome = if equal {
            state.counts.frames_equal += 1;
            Outcome::Equal
        } else {
            state.counts.frames_different += 1;
            Outcome::Different { confirmed: true }
        };
        self.judge(route, &mut state, epoch, outcome);
    }

    fn judge(&self, route: &Route, state: &mut State, epoch: u64, outcome: Outcome) {
        match outcome {
            Outcome::Equal if epoch == state.epoch => {
                state.counts.equal_in_a_row += 1;
                let in_a_row = state.counts.equal_in_a_row;
                let doublings = state.counts.doublings.min(MOST_DOUBLINGS);
                let wanted = self
                    .policy
                    .move_after
                    .map(|wanted| wanted.saturating_mul(1 << doublings));
                if state.side == Side::Spring && wanted.is_some_and(|wanted| in_a_row >= wanted) {
                    self.set(route, state, Side::Ours, &format!("{in_a_row} equal answers in a row"));
                }
            }
            Outcome::Different { confirmed: true }
                if state.side == Side::Ours && self.policy.answer == Side::Spring =>
            {
                self.step_back(route, state, "an answer differs");
            }
            Outcome::Different { .. } | Outcome::Unanswered(Side::Ours) => state.restart(),
            _ => {}
        }
    }

    fn step_back(&self, route: &Route, state: &mut State, reason: &str) {
        state.counts.stepped_back += 1;
        state.counts.doublings += 1;
        self.set(route, state, Side::Spring, reason);
    }

    fn set(&self, route: &Route, state: &mut State, side: Side, reason: &str) {
        state.side = side;
        state.errors.clear();
        state.restart();
        if side == Side::Ours {
            state.counts.moved += 1;
        }
        tracing::info!(route = route.template.name, %side, reason, "route moved");
        self.reporter.moved(&route.template.name, side, reason);
        self.moves.send_modify(|moves| *moves += 1);
    }

    /// Moves every route that `pattern` names (`POST /feed-service/saveFeed`, or a beginning with `*` behind it). Returns their names.
    pub fn move_by_hand(&self, pattern: &str, side: Side) -> Vec<String> {
        let is_meant = |name: &str| match pattern.strip_suffix('*') {
            Some(prefix) => {
                name.starts_with(prefix) || name.split_once(' ').is_some_and(|(_, path)| path.starts_with(prefix))
            }
            None => name == pattern,
        };
        let meant = self.all.values().filter(|route| is_meant(&route.template.name));
        meant
            .map(|route| {
                let mut state = route.state.lock();
                state.counts.doublings = 0;
                if state.side != side {
                    self.set(route, &mut state, side, "by hand");
                }
                route.template.name.clone()
            })
            .collect()
    }

    /// Returns the state to save and report.
    pub fn snapshot(&self) -> Saved {
        let of = |route: &Arc<Route>| {
            let state = route.state.lock();
            SavedRoute {
                side: state.side,
                kind: route.template.kind,
                counts: state.counts.clone(),
            }
        };
        Saved {
            answer: self.policy.answer,
            routes: self.all.iter().map(|(name, route)| (name.clone(), of(route))).collect(),
        }
    }

    /// Writes the state after each move and each second while something changes; once more when `stop` resolves.
    pub async fn keep(
        &self,
        file: &StateFile,
        clock: &dyn Clock,
        stop: impl Future<Output = ()>,
    ) -> anyhow::Result<()> {
        let mut moves = self.moves.subscribe();
        let mut written = None;
        let mut stop = std::pin::pin!(stop);
        loop {
            let ends = tokio::select! {
                () = &mut stop => true,
                changed = moves.changed() => { changed?; false }
                () = tokio::time::sleep(SAVE_EVERY) => false,
            };
            let snapshot = self.snapshot();
            if written.as_ref() != Some(&snapshot) {
                let began = clock.monotonic();
                file.write(snapshot.clone()).await?;
                tracing::debug!(taken = ?clock.monotonic().saturating_sub(began), "state written");
                written = Some(snapshot);
            }
            if ends {
                return Ok(());
            }
        }
    }
}

impl State {
    /// Begins to count equal answers anew.
    fn restart(&mut self) {
        self.counts.equal_in_a_row = 0;
        self.epoch += 1;
    }

    fn latency(&mut self, side: Side) -> &mut Latency {
        match side {
            Side::Spring => &mut self.counts.spring,
            Side::Ours => &mut self.counts.ours,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// No answer came.
    Unreachable,
    /// An answer of 500 and above.
    Status,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Saved {
    /// The side that answers until a route is moved.
    pub answer: Side,
    pub routes: BTreeMap<String, SavedRoute>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SavedRoute {
    pub side: Side,
    pub kind: Kind,
    #[serde(flatten)]
    pub counts: Counts,
}

/// Replaced as a whole, so that a crash leaves the old state or the new.
#[derive(Debug, Clone)]
pub struct StateFile(PathBuf);

impl StateFile {
    pub fn new(folder: &Path) -> Self {
        Self(folder.join("state.json"))
    }

    /// Returns what an earlier run has left, or an empty state.
    pub fn read(&self, answer: Side) -> anyhow::Result<Saved> {
        let text = match std::fs::read(&self.0) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let routes = BTreeMap::new();
                return Ok(Saved { answer, routes });
            }
            Err(error) => return Err(error).with_context(|| self.0.display().to_string()),
        };
        let saved: Saved =
            serde_json::from_slice(&text).with_context(|| format!("{} is no state of a mirror", self.0.display()))?;
        ensure!(
            saved.answer == answer,
            "{} was written with --answer {}: give the same, or another --data",
            self.0.display(),
            saved.answer
        );
        Ok(saved)
    }

    async fn write(&self, saved: Saved) -> anyhow::Result<()> {
        let path = self.0.clone();
        let write = move || {
            let new = path.with_extension("json.new");
            let mut file = std::fs::File::create(&new)?;
            std::io::Write::write_all(&mut file, &serde_json::to_vec_pretty(&saved)?)?;
            file.sync_all()?;
            std::fs::rename(&new, &path)?;
            anyhow::Ok(())
        };
        tokio::task::spawn_blocking(write)
            .await?
            .with_context(|| format!("{} cannot be written", self.0.display()))
    }
}

#[cfg(test)]
mod tests {
    use sosohappy_common::clock::{SystemClock, SystemEntropy};

    use super::super::report::Redaction;
    use super::super::rules::Rules;
    use super::*;

    const NAME: &str = "POST /feed-service/findDayFeed";
    const DIFFERENT: Outcome = Outcome::Different { confirmed: true };

    struct Bed {
        routes: Routes,
        route: Arc<Route>,
        _folder: tempfile::TempDir,
    }

    impl Bed {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("differences.jsonl");
            let redaction = Redaction::new(false, &SystemEntropy);
            let (reporter, _writer) = Reporter::open(&file, Arc::new(SystemClock), redaction).unwrap();
            let policy = Policy {
                answer: Side::Spring,
                move_after: Some(3),
                error_rate: 0.05,
            };
            let saved = StateFile::new(folder.path()).read(Side::Spring).unwrap();
            let routes = Routes::new(&Rules::read(None).unwrap().templates, policy, saved, reporter).unwrap();
            let route = routes.find(&Method::POST, "/feed-service/findDayFeed").unwrap().route;
            Self {
                routes,
                route,
                _folder: folder,
            }
        }

        fn compared(&self, epoch: u64, outcome: Outcome, times: usize) -> Side {
            for _ in 0..times {
                self.routes.compared(&self.route, epoch, outcome);
            }
            self.route.serving().side
        }

        fn now(&self, outcome: Outcome, times: usize) -> Side {
            self.compared(self.route.serving().epoch, outcome, times)
        }
    }

    #[test]
    fn comparisons_under_way_at_a_step_back_do_not_move_the_route_again() {
        let bed = Bed::new();
        assert_eq!(bed.now(Outcome::Equal, 3), Side::Ours);
        let served_by_ours = bed.route.serving().epoch;
        assert_eq!(bed.now(DIFFERENT, 1), Side::Spring);
        assert_eq!(bed.compared(served_by_ours, Outcome::Equal, 50), Side::Spring);
        assert_eq!(bed.now(Outcome::Equal, 5), Side::Spring, "twice as many are needed");
        assert_eq!(bed.now(Outcome::Equal, 1), Side::Ours);
        let counts = &bed.routes.snapshot().routes[NAME].counts;
        assert_eq!((counts.equal, counts.different), (59, 1), "every comparison is counted");
        assert_eq!((counts.moved, counts.stepped_back), (2, 1));
    }

    #[test]
    fn equal_answers_are_counted_since_the_last_difference() {
        let bed = Bed::new();
        for reset in [
            DIFFERENT,
            Outcome::Different { confirmed: false },
            Outcome::Unanswered(Side::Ours),
        ] {
            assert_eq!(bed.now(Outcome::Equal, 2), Side::Spring);
            let before = bed.route.serving().epoch;
            bed.now(reset, 1);
            assert_eq!(bed.compared(before, Outcome::Equal, 9), Side::Spring, "{reset:?}");
        }
        bed.now(Outcome::Equal, 2);
        for kept in [
            Outcome::Transient,
            Outcome::Unanswered(Side::Spring),
            Outcome::Dropped,
            Outcome::Aborted,
        ] {
            assert_eq!(bed.now(kept, 5), Side::Spring, "{kept:?}");
        }
        assert_eq!(bed.now(Outcome::Equal, 1), Side::Ours);
    }

    #[test]
    fn only_a_confirmed_difference_of_a_moved_route_steps_back() {
        let bed = Bed::new();
        bed.now(Outcome::Equal, 3);
        for kept in [
            Outcome::Different { confirmed: false },
            Outcome::Unanswered(Side::Ours),
            Outcome::TooLarge,
        ] {
            assert_eq!(bed.now(kept, 3), Side::Ours, "{kept:?}");
        }
        let epoch = bed.route.serving().epoch;
        bed.routes.frame(&bed.route, epoch, true);
        assert_eq!(bed.route.serving().side, Side::Ours);
        bed.routes.frame(&bed.route, epoch, false);
        assert_eq!(bed.route.serving().side, Side::Spring);
    }

    #[test]
    fn failures_of_ours_step_a_moved_route_back() {
        let bed = Bed::new();
        let answered = |side, failure| bed.routes.answered(&bed.route, side, Duration::ZERO, failure);
        bed.now(Outcome::Equal, 3);
        answered(Side::Ours, Some(Failure::Status));
        answered(Side::Spring, Some(Failure::Unreachable));
        assert_eq!(
            bed.route.serving().side,
            Side::Ours,
            "one of twenty, and one of Spring's"
        );
        answered(Side::Ours, Some(Failure::Status));
        assert_eq!(bed.route.serving().side, Side::Spring, "two of twenty");
        bed.now(Outcome::Equal, 6);
        answered(Side::Ours, Some(Failure::Unreachable));
        assert_eq!(bed.route.serving().side, Side::Spring);
    }
}
