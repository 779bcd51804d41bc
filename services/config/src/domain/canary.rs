//! The state of a canary: a new version is served to one instance of each service, then to the others one at a time, and rolled back when an
//! instance refuses it, turns unhealthy or stops reporting.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The versions of a canary and the instances that are served the new one. Saved to disk before it takes effect, then published to the other
/// replicas.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Canary {
    pub id: String,
    /// The version before, served to instances of later steps.
    pub from: String,
    pub to: String,
    pub started_at: Timestamp,
    /// The operator.
    pub started_by: String,
    pub phase: Phase,
    /// Bus ids of instances in refresh order: one of each service in the first step, then one instance a step.
    pub steps: Vec<Vec<String>>,
    /// The step in progress; all earlier ones succeeded.
    pub step: usize,
    /// The reason for the rollback.
    pub reason: Option<String>,
}

/// Ordered by precedence: of two replicas' states the later phase wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    Running,
    Finished,
    RolledBack,
}

/// The time limits of a step.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// From the refresh to a report of the new version.
    pub wait: Duration,
    /// From that report on, how long the instance must stay healthy.
    pub watch: Duration,
}

/// The reports of one instance since its refresh.
#[derive(Debug, Clone, Default)]
pub struct Observation {
    /// When the last report arrived.
    pub reported_at: Option<Timestamp>,
    pub version: Option<String>,
    pub refused: Option<String>,
    /// `UP`, or the failed checks.
    pub health: Option<String>,
    /// The instance was unhealthy before it got the new version: its health does not count against the version.
    pub was_unhealthy: bool,
}

/// The result of an instance, or of a whole step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Pending,
    Healthy,
    /// The reason to roll back.
    Failed(String),
}

const UP: &str = "UP";

impl Canary {
    /// Returns the steps for `instances`, which are listed by service, healthy ones first.
    #[must_use]
    pub fn plan(instances: BTreeMap<String, Vec<String>>) -> Vec<Vec<String>> {
        let mut first = Vec::new();
        let mut others = Vec::new();
        for mut of_service in instances.into_values().filter(|of_service| !of_service.is_empty()) {
            first.push(of_service.remove(0));
            others.extend(of_service.into_iter().map(|instance| vec![instance]));
        }
        if !first.is_empty() {
            others.insert(0, first);
        }
        others
    }

    /// Returns whether an instance is served the new version. A client without an instance id gets it when the canary has finished.
    #[must_use]
    pub fn gets_new_version(&self, instance: Option<&str>) -> bool {
        match self.phase {
            Phase::Finished => true,
            Phase::RolledBack => false,
            Phase::Running => instance.is_some_and(|instance| self.updated().any(|updated| updated == instance)),
        }
    }

    /// Returns the instances of this step and the earlier ones.
    pub fn updated(&self) -> impl Iterator<Item = &str> {
        self.steps.iter().take(self.step + 1).flatten().map(String::as_str)
    }

    /// Returns the instances of later steps.
    pub fn waiting(&self) -> impl Iterator<Item = &str> {
        self.steps.iter().skip(self.step + 1).flatten().map(String::as_str)
    }

    /// Returns the one that takes precedence of two states: by start, then id, phase and step, the greatest. The order is total, so that all
    /// replicas agree in whatever order states arrive.
    #[must_use]
    pub fn merged(self, other: Self) -> Self {
        let rank = |canary: &Self| (canary.started_at, canary.id.clone(), canary.phase, canary.step);
        if rank(&other) > rank(&self) { other } else { self }
    }
}

impl Observation {
    /// Returns the verdict on one instance that was refreshed at `sent`; the first row that applies decides.
    ///
    /// | reports since `sent` | verdict |
    /// | --- | --- |
    /// | refuses the settings | failed |
    /// | new version, unhealthy, and healthy before | failed |
    /// | new version for at least `watch`, still reporting | healthy |
    /// | new version, then nothing for `watch` + `wait` | failed |
    /// | not the new version within `wait` | failed |
    /// | any other | pending |
    #[must_use]
    pub fn verdict(
        &self,
        to: &str,
        sent: Timestamp,
        healthy_since: Option<Timestamp>,
        timeouts: Timeouts,
        now: Timestamp,
    ) -> Verdict {
        let passed = |since: Timestamp| now.duration_since(since).unsigned_abs();
        if let Some(refused) = &self.refused {
            return Verdict::Failed(format!("refused: {refused}"));
        }
        let is_new = self.version.as_deref() == Some(to);
        if let Some(health) = self.health.as_deref().filter(|health| *health != UP)
            && is_new
            && !self.was_unhealthy
        {
            return Verdict::Failed(format!("unhealthy: {health}"));
        }
        match healthy_since {
            // The watch ends with a report, not with the clock: an instance that stopped reporting has not passed it.
            Some(since)
                if self
                    .reported_at
                    .is_some_and(|at| at.duration_since(since).unsigned_abs() >= timeouts.watch) =>
            {
                Verdict::Healthy
            }
            Some(since) if passed(since) > timeouts.watch + timeouts.wait => {
                Verdict::Failed("no report after the first one".to_owned())
            }
            None if passed(sent) > timeouts.wait => Verdict::Failed("no report of the new version".to_owned()),
            _ => Verdict::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TIMEOUTS: Timeouts = Timeouts {
        wait: Duration::from_secs(30),
        watch: Duration::from_secs(10),
    };

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn canary(phase: Phase, step: usize) -> Canary {
        let names = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        let instances = [
            ("dm".to_owned(), names(&["dm:1"])),
            ("feed".to_owned(), names(&["feed:1", "feed:2", "feed:3"])),
            ("none".to_owned(), Vec::new()),
        ];
        Canary {
            id: "1".to_owned(),
            from: "a".to_owned(),
            to: "b".to_owned(),
            started_at: at(0),
            started_by: "kim".to_owned(),
            phase,
            steps: Canary::plan(BTreeMap::from(instances)),
            step,
            reason: None,
        }
    }

    #[test]
    fn one_of_each_service_comes_first_and_the_others_one_by_one() {
        let running = canary(Phase::Running, 1);
        assert_eq!(running.steps, [vec!["dm:1", "feed:1"], vec!["feed:2"], vec!["feed:3"]]);
        let gets = |canary: &Canary| {
            ["dm:1", "feed:1", "feed:2", "feed:3"].map(|instance| canary.gets_new_version(Some(instance)))
        };
        assert_eq!(gets(&running), [true, true, true, false]);
        assert!(!running.gets_new_version(None) && !running.gets_new_version(Some("feed:new")));
        assert_eq!(running.waiting().collect::<Vec<_>>(), ["feed:3"]);
        assert_eq!(gets(&canary(Phase::RolledBack, 1)), [false; 4]);
        assert!(canary(Phase::Finished, 2).gets_new_version(None));
        assert!(Canary::plan(BTreeMap::new()).is_empty());
    }

    #[test]
    fn an_instance_is_healthy_when_it_reports_so_after_the_watch() {
        let verdict = |observation: &Observation, healthy_since: Option<i64>, now: i64| {
            observation.verdict("b", at(0), healthy_since.map(at), TIMEOUTS, at(now))
        };
        let none = Observation::default();
        assert_eq!(verdict(&none, None, 30), Verdict::Pending);
        assert!(matches!(verdict(&none, None, 31), Verdict::Failed(_)));
        let report = |reported: i64, version: &str, health: &str| Observation {
            reported_at: Some(at(reported)),
            version: Some(version.to_owned()),
            health: Some(health.to_owned()),
            ..Observation::default()
        };
        assert_eq!(
            verdict(&report(5, "a", "DOWN: db"), None, 5),
            Verdict::Pending,
            "of the version before"
        );
        assert_eq!(verdict(&report(5, "b", "UP"), Some(5), 5), Verdict::Pending);
        assert_eq!(verdict(&report(14, "b", "UP"), Some(5), 20), Verdict::Pending);
        assert_eq!(verdict(&report(15, "b", "UP"), Some(5), 15), Verdict::Healthy);
        assert_eq!(
            verdict(&report(6, "b", "DOWN: db"), Some(5), 6),
            Verdict::Failed("unhealthy: DOWN: db".to_owned())
        );
        let was_unhealthy = Observation {
            was_unhealthy: true,
            ..report(15, "b", "DOWN: db")
        };
        assert_eq!(verdict(&was_unhealthy, Some(5), 15), Verdict::Healthy);
        assert!(
            matches!(verdict(&report(6, "b", "UP"), Some(5), 46), Verdict::Failed(_)),
            "reports stopped"
        );
        let refusing = Observation {
            refused: Some("limits.posts: at least 1".to_owned()),
            ..report(5, "a", "UP")
        };
        assert_eq!(
            verdict(&refusing, None, 5),
            Verdict::Failed("refused: limits.posts: at least 1".to_owned())
        );
    }

    fn states() -> impl Strategy<Value = Canary> {
        let phase = proptest::sample::select(&[Phase::Running, Phase::Finished, Phase::RolledBack][..]);
        (0_i64..3, phase, 0_usize..3).prop_map(|(start, phase, step)| Canary {
            id: start.to_string(),
            started_at: at(start),
            ..canary(phase, step)
        })
    }

    proptest! {
        #[test]
        fn replicas_agree_whatever_the_order_of_states(states in proptest::collection::vec(states(), 1..6), seed in 0_usize..100) {
            let merge = |states: Vec<Canary>| states.into_iter().reduce(Canary::merged).unwrap();
            let mut other = states.clone();
            let length = other.len();
            other.rotate_left(seed % length);
            other.reverse();
            prop_assert_eq!(merge(states.clone()), merge(other));
            let once = merge(states);
            prop_assert_eq!(once.clone().merged(once.clone()), once);
        }
    }
}
