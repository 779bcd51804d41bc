//! The alert of a fault switch, and the series that its rule selects. `monitoring/prometheus/tests` show that the rules fire, from series like
//! these.

use std::collections::BTreeMap;
use std::path::Path;

use regex::Regex;
use sosohappy_common::faults::Fault;
use sosohappy_testkit::Cluster;

use crate::samples;

/// Labels that Prometheus adds to the series of the services when it scrapes them; of these, rules select by the job.
const TARGET: [&str; 3] = ["instance", "job", "service"];
const JOB: &str = "sosohappy";

/// An alert of `monitoring/prometheus/rules/alerts.yml`.
pub struct Alert {
    name: String,
    /// The expression of its rule, and those of the recording rules that it reads.
    expressions: String,
    /// The tests of all rules.
    tests: String,
}

/// The labels of a series.
type Labels = BTreeMap<String, String>;

/// A condition on one label, as in a query.
struct Matcher {
    label: String,
    value: Regex,
    /// `=` and `=~`, not `!=` and `!~`.
    is_positive: bool,
}

impl Alert {
    /// Returns the alert that `docs/config.md` names for a fault.
    pub fn of(fault: Fault) -> Self {
        let documented = read("docs/config.md");
        let begin = format!("| `{}` |", fault.flag());
        let row = documented.lines().find(|line| line.starts_with(&begin));
        let row = row.unwrap_or_else(|| panic!("docs/config.md has no row for {}", fault.flag()));
        let cell = row.split('|').nth(3).expect("the third cell is the alert");
        let link = cell.trim().strip_prefix('[').and_then(|link| link.split_once(']'));
        let (name, _) = link.expect("the alert is a link");

        let alerts = read("monitoring/prometheus/rules/alerts.yml");
        let rule = alerts.split_once(&format!("- alert: {name}\n"));
        let (_, rule) = rule.unwrap_or_else(|| panic!("there is no alert {name}"));
        let mut expressions = expression(rule).to_owned();
        for rule in read("monitoring/prometheus/rules/recording.yml")
            .split("- record: ")
            .skip(1)
        {
            let (recorded, rule) = rule.split_once('\n').expect("a rule has an expression");
            if expressions.contains(recorded) {
                expressions.push_str(expression(rule));
            }
        }
        let tests = ["alerts", "burn-rates", "edges", "slow-burn"];
        let tests = tests.map(|name| read(&format!("monitoring/prometheus/tests/{name}.yml")));
        Self {
            name: name.to_owned(),
            expressions,
            tests: tests.concat(),
        }
    }

    /// Returns the sum of a service's samples of a metric that the rule selects, of those that have these labels (`topic="resign"`).
    ///
    /// # Panics
    /// If the rule does not read the metric, or is not tested with series like these.
    pub async fn metric(&self, fleet: &Cluster, service: &str, metric: &str, labels: &[&str]) -> f64 {
        let selectors = self.selectors(metric);
        assert!(!selectors.is_empty(), "{} does not read {metric}", self.name);
        let is_selected = |labels: &Labels| {
            selectors
                .iter()
                .any(|selector| selector.iter().all(|matcher| matcher.matches(labels)))
        };
        let found = samples(fleet, service, metric, labels).await;
        let found = found.iter().map(|(series, value)| (labels_of(series), value));
        let selected: Vec<_> = found.filter(|(labels, _)| is_selected(labels)).collect();
        if let Some((labels, _)) = selected.first() {
            assert!(
                self.is_tested(metric, labels),
                "no test of {} has a series {metric} of {labels:?}",
                self.name
            );
        }
        selected.iter().map(|(_, value)| **value).sum()
    }

    /// Returns whether the tests of the rules have a series of this metric without labels that a service's series lacks.
    fn is_tested(&self, metric: &str, labels: &Labels) -> bool {
        let begin = format!("series: '{metric}{{");
        let mut tested = self.tests.lines().filter(|line| line.contains(&begin));
        let is_known = |label: &String| labels.contains_key(label) || TARGET.contains(&label.as_str());
        tested.any(|line| labels_of(line).keys().all(is_known))
    }

    /// Returns the selectors of a metric in the expressions.
    fn selectors(&self, metric: &str) -> Vec<Vec<Matcher>> {
        let is_part_of_name = |character: char| character.is_ascii_alphanumeric() || "_:".contains(character);
        let matchers = Regex::new(r#"([a-z_]+)(=~|!~|!=|=)"([^"]*)""#).expect("an expression");
        let places = self.expressions.match_indices(metric);
        let places = places.map(|(at, _)| (&self.expressions[..at], &self.expressions[at + metric.len()..]));
        let whole =
            places.filter(|(before, after)| !before.ends_with(is_part_of_name) && !after.starts_with(is_part_of_name));
        whole
            .map(|(_, after)| {
                let braces = after.strip_prefix('{').and_then(|inside| inside.split_once('}'));
                let inside = braces.map_or("", |(inside, _)| inside);
                matchers
                    .captures_iter(inside)
                    .map(|found| Matcher::new(&found[1], &found[2], &found[3]))
                    .collect()
            })
            .collect()
    }
}

impl Matcher {
    fn new(label: &str, operator: &str, value: &str) -> Self {
        let value = if operator.ends_with('~') {
            value.to_owned()
        } else {
            regex::escape(value)
        };
        Self {
            label: label.to_owned(),
            value: Regex::new(&format!("^(?:{value})$")).expect("an expression"),
            is_positive: operator.starts_with('='),
        }
    }

    /// Returns whether the labels meet the condition; an absent label is an empty one.
    fn matches(&self, labels: &Labels) -> bool {
        let value = labels.get(&self.label).map_or("", String::as_str);
        self.value.is_match(value) == self.is_positive
    }
}

/// Returns the labels of a series, and the job.
fn labels_of(series: &str) -> Labels {
    let label = Regex::new(r#"([a-z_]+)="([^"]*)""#).expect("an expression");
    let labels = label.captures_iter(series);
    let labels = labels.map(|found| (found[1].to_owned(), found[2].to_owned()));
    labels.chain([("job".to_owned(), JOB.to_owned())]).collect()
}

/// Cuts a rule behind its expression.
fn expression(rule: &str) -> &str {
    let ends = ["\n        labels:", "\n      - ", "\n\n"];
    let end = ends.iter().filter_map(|end| rule.find(end)).min();
    &rule[..end.unwrap_or(rule.len())]
}

/// Reads a file of the repository.
fn read(path: &str) -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path);
    std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{path}: {error}"))
}
