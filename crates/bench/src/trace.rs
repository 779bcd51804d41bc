//! Where the milliseconds of an act go: its spans in all services, as `GET /actuator/traces/{id}` returns them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use jiff::Timestamp;
use serde_json::{Value, json};
use sosohappy_common::clock::{Clock as _, Entropy, SystemClock, SystemEntropy};
use sosohappy_testkit::Cluster;

use crate::report::{Samples, millis};

/// Until the spans of the last acts of a round have ended: a record is acknowledged after it is consumed.
const REST: Duration = Duration::from_millis(500);
/// Traces of a round that are read: around the median, and at least of the slowest.
const MIDDLE: usize = 2;
const SLOWEST: usize = 2;

/// The beginning of an act, in a trace of its own.
#[derive(Debug)]
pub struct Begun {
    trace: String,
    parent: String,
    at: Timestamp,
    instant: Instant,
}

impl Begun {
    pub fn now() -> Self {
        let entropy: &dyn Entropy = &SystemEntropy;
        let (trace, parent) = (entropy.hex(16), entropy.hex(8));
        Self {
            trace,
            parent,
            at: SystemClock.now(),
            instant: Instant::now(),
        }
    }

    /// Returns the W3C trace context of the act.
    pub fn traceparent(&self) -> String {
        format!("00-{}-{}-01", self.trace, self.parent)
    }

    /// Ends the act when its effect was seen. `steps`: what the client saw before, and when.
    pub fn end(self, seen: Instant, steps: Vec<(&'static str, Instant)>) -> Act {
        let began = self.instant;
        let steps = steps.into_iter().map(|(name, at)| (name, at - began));
        Act {
            trace: self.trace,
            at: self.at,
            took: seen - began,
            steps: steps.collect(),
        }
    }
}

/// An act that was measured.
#[derive(Debug, Clone)]
pub struct Act {
    trace: String,
    at: Timestamp,
    pub took: Duration,
    steps: Vec<(&'static str, Duration)>,
}

/// The replicas of a fleet that keep traces.
#[derive(Debug)]
pub struct Replicas {
    /// Names and ports.
    ports: Vec<(String, u16)>,
    http: reqwest::Client,
    token: String,
}

impl Replicas {
    pub fn of(fleet: &Cluster) -> Self {
        let [first, second] = fleet.replicas;
        let pairs = [
            ("feed", [first.feed, second.feed]),
            ("dm", [first.dm, second.dm]),
            ("notice", [first.notice, second.notice]),
        ];
        let ports = pairs.into_iter().flat_map(|(service, [one, other])| {
            // Both are the same where there is one replica.
            if one == other {
                vec![(service.to_owned(), one)]
            } else {
                vec![(format!("{service} 1"), one), (format!("{service} 2"), other)]
            }
        });
        Self {
            ports: ports.collect(),
            http: sosohappy_common::tls::client(),
            token: fleet.operator_token.clone(),
        }
    }

    /// Returns the steps of an act; none if its spans are not kept any more.
    async fn steps(&self, act: &Act) -> anyhow::Result<Vec<Step>> {
        let mut steps = Vec::new();
        for (name, port) in &self.ports {
            let url = format!("http://127.0.0.1:{port}/actuator/traces/{}", act.trace);
            let answer = self.http.get(url).bearer_auth(&self.token).send().await?;
            let found: Value = answer.error_for_status()?.json().await?;
            let spans = found["spans"].as_array().context("no spans in the answer")?;
            for span in spans {
                steps.push(step(name, act.at, span)?);
            }
        }
        if !steps.is_empty() {
            let seen = act.steps.iter().copied().chain([("the frame", act.took)]);
            steps.extend(seen.map(|(name, after)| Step {
                name: format!("client: {name}"),
                begins: milliseconds(after),
                takes: 0.0,
            }));
        }
        let took = milliseconds(act.took);
        steps.retain(|step| step.begins <= took);
        Ok(steps)
    }
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// A span of an act, or what its client saw.
#[derive(Debug, Clone, PartialEq)]
struct Step {
    name: String,
    /// Milliseconds since the beginning of the act.
    begins: f64,
    /// Milliseconds.
    takes: f64,
}

/// Reads a span of a replica.
fn step(replica: &str, act_began: Timestamp, span: &Value) -> anyhow::Result<Step> {
    let began: Timestamp = span["beganAt"]
        .as_str()
        .context("a span without its beginning")?
        .parse()?;
    let took = span["took"].as_u64().context("a span without its length")?;
    let fields = span["fields"].as_array().into_iter().flatten();
    let told = fields.filter(|field| matches!(field[0].as_str(), Some("topic" | "kind")));
    let words = [&span["name"]].into_iter().chain(told.map(|field| &field[1]));
    let words: Vec<_> = words.filter_map(Value::as_str).collect();
    Ok(Step {
        name: format!("{replica}: {}", words.join(" ")),
        begins: began.duration_since(act_began).as_secs_f64() * 1e3,
        takes: milliseconds(Duration::from_micros(took)),
    })
}

/// The traces of some acts: those around the median of each round, and its slowest.
#[derive(Debug, Default)]
pub struct Traces {
    middle: Vec<Vec<Step>>,
    slowest: Vec<Vec<Step>>,
    /// Of the slowest acts.
    slowest_took: Vec<Duration>,
}

impl Traces {
    /// Reads the traces of a round.
    pub async fn add(&mut self, replicas: &Replicas, mut acts: Vec<Act>) -> anyhow::Result<()> {
        tokio::time::sleep(REST).await;
        acts.sort_by_key(|act| act.took);
        let [middle, slowest] = chosen(acts.len());
        for act in &acts[middle] {
            self.middle.push(replicas.steps(act).await?);
        }
        for act in &acts[slowest] {
            self.slowest.push(replicas.steps(act).await?);
            self.slowest_took.push(act.took);
        }
        Ok(())
    }

    /// Returns the table of steps with a sentence before it; empty without traces.
    pub fn table(&self) -> String {
        let table = table(&self.middle, &self.slowest);
        if table.is_empty() {
            return table;
        }
        let slowest = Samples::new(self.slowest_took.clone());
        format!(
            "Where the milliseconds go: when each step begins after the client's call, and how long it takes, in ms. Medians of {} acts around the \
             median, and of the slowest 1 % ({}, median {}), of all rounds. Steps overlap; a record is consumed before its `publish` is \
             acknowledged.\n\n{table}",
            self.middle.len(),
            self.slowest.len(),
            millis(slowest.median()),
        )
    }

    /// Returns all steps for the raw data.
    pub fn to_json(&self) -> Value {
        let of = |traces: &[Vec<Step>]| -> Value {
            let traces = traces.iter().map(|steps| -> Value {
                let steps = steps.iter();
                steps
                    .map(|step| json!({"step": step.name, "beginsMs": step.begins, "takesMs": step.takes}))
                    .collect()
            });
            traces.collect()
        };
        json!({"aroundTheMedian": of(&self.middle), "slowest": of(&self.slowest)})
    }
}

/// Returns which of so many acts, sorted by their times, are around the median and which are the slowest.
fn chosen(acts: usize) -> [std::ops::Range<usize>; 2] {
    let begin = (acts / 2).saturating_sub(MIDDLE / 2);
    let slowest = (acts / 100).max(SLOWEST).min(acts);
    [begin..acts.min(begin + MIDDLE), acts - slowest..acts]
}

/// Returns a table of the steps of two groups of traces, in the order in which they begin in the second; empty without steps.
fn table(middle: &[Vec<Step>], slowest: &[Vec<Step>]) -> String {
    let (middle, slowest) = (by_name(middle), by_name(slowest));
    let mut names: Vec<&String> = slowest.keys().chain(middle.keys()).collect();
    names.sort_unstable();
    names.dedup();
    let begin = |name: &String| {
        slowest
            .get(name)
            .or_else(|| middle.get(name))
            .map_or(0.0, |(begins, _)| *begins)
    };
    names.sort_by(|one, other| begin(one).total_cmp(&begin(other)));
    if names.is_empty() {
        return String::new();
    }
    let cell = |step: Option<&(f64, f64)>| match step {
        Some((begins, takes)) => format!("+{begins:.2}, {takes:.2}"),
        None => "—".to_owned(),
    };
    let mut text = String::from("| step | around the median | the slowest |\n| --- | --- | --- |\n");
    for name in names {
        let (middle, slowest) = (cell(middle.get(name)), cell(slowest.get(name)));
        writeln!(text, "| {name} | {middle} | {slowest} |").expect("text can be written to a string");
    }
    text
}

/// Returns the median beginning and length of each step that most traces have; of steps of one name, of the first one in each trace.
fn by_name(traces: &[Vec<Step>]) -> BTreeMap<String, (f64, f64)> {
    let mut found: BTreeMap<String, Vec<&Step>> = BTreeMap::new();
    for trace in traces {
        let mut first: BTreeMap<&str, &Step> = BTreeMap::new();
        for step in trace {
            let known = first.entry(&step.name).or_insert(step);
            if step.begins < known.begins {
                *known = step;
            }
        }
        for (name, step) in first {
            found.entry(name.to_owned()).or_default().push(step);
        }
    }
    let whole = traces.iter().filter(|trace| !trace.is_empty()).count();
    found.retain(|_, steps| steps.len() * 2 > whole);
    let medians = found.into_iter().map(|(name, steps)| {
        let median = |of: fn(&Step) -> f64| crate::rounds::median(steps.iter().map(|step| of(step)).collect());
        (name, (median(|step| step.begins), median(|step| step.takes)))
    });
    medians.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(steps: &[(&str, f64, f64)]) -> Vec<Step> {
        let step = |(name, begins, takes): &(&str, f64, f64)| Step {
            name: (*name).to_owned(),
            begins: *begins,
            takes: *takes,
        };
        steps.iter().map(step).collect()
    }

    #[test]
    fn a_span_is_a_step_after_the_client_began() {
        let span = json!({
            "name": "consume",
            "beganAt": "2026-11-30T09:00:00.0125Z",
            "took": 1500,
            "fields": [["topic", "noticeLike"], ["event", "x"], ["kind", "store"]],
        });
        let began: Timestamp = "2026-11-30T09:00:00.010Z".parse().expect("a time");
        let step = step("notice 2", began, &span).expect("a step");
        assert_eq!(step.name, "notice 2: consume noticeLike store");
        assert_eq!(format!("{:.3} {:.3}", step.begins, step.takes), "2.500 1.500");
    }

    #[test]
    fn steps_are_in_the_order_in_which_they_begin() {
        let middle = [steps(&[("feed: request", 0.1, 1.0), ("client: the frame", 2.0, 0.0)])];
        let slowest = [
            // A record is consumed twice: the first time counts.
            steps(&[
                ("notice: consume", 9.0, 1.0),
                ("notice: consume", 3.0, 1.0),
                ("feed: request", 0.2, 2.0),
            ]),
            steps(&[
                ("notice: consume", 5.0, 2.0),
                ("feed: request", 0.4, 4.0),
                ("feed: rare", 1.0, 1.0),
            ]),
            steps(&[("notice: consume", 4.0, 3.0), ("feed: request", 0.3, 3.0)]),
            // Its spans are not kept any more.
            Vec::new(),
        ];
        assert_eq!(
            table(&middle, &slowest),
            "| step | around the median | the slowest |\n| --- | --- | --- |\n\
             | feed: request | +0.10, 1.00 | +0.30, 3.00 |\n\
             | client: the frame | +2.00, 0.00 | — |\n\
             | notice: consume | — | +4.00, 2.00 |\n"
        );
        assert_eq!(table(&[], &[Vec::new()]), "");
    }

    #[test]
    fn the_slowest_percentile_and_the_median_are_chosen() {
        assert_eq!(chosen(1000), [499..501, 990..1000]);
        assert_eq!(chosen(200), [99..101, 198..200]);
        assert_eq!(chosen(1), [0..1, 0..1]);
        assert_eq!(chosen(0).map(|range| range.len()), [0, 0]);
    }

    #[test]
    fn an_act_has_a_trace_of_its_own() {
        let start = Begun::now();
        let parent = start.traceparent();
        assert_eq!(parent.len(), 55);
        assert!(parent.starts_with("00-") && parent.ends_with("-01"), "{parent}");
        let (began, later) = (start.instant, Duration::from_millis(7));
        let act = start.end(began + later, vec![("the answer", began + later / 7)]);
        assert!(parent.contains(&act.trace));
        assert_eq!(
            (act.took, act.steps),
            (later, vec![("the answer", Duration::from_millis(1))])
        );
    }
}
