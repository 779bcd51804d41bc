//! A new version on its way: to one instance of each service, to the others one at a time, and back when one of them cannot live with it.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Which version whom gets. It is kept on disk and told to the other replicas before anything follows from it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Canary {
    pub id: String,
    /// The version before, which everyone gets whose turn it is not.
    pub from: String,
    pub to: String,
    pub started_at: Timestamp,
    /// The operator.
    pub started_by: String,
    pub phase: Phase,
    /// Bus ids of instances in the order they are refreshed: first one of each service together, then the others one by one.
    pub steps: Vec<Vec<String>>,
    /// The step that is waited for; all before it went well.
    pub step: usize,
    /// Why it went back.
    pub reason: Option<String>,
}

/// In the order in which one wins over the other where replicas differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    Running,
    Finished,
    RolledBack,
}

/// How the instances of a step may take their time.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// From the refresh to a report of the new version.
    pub wait: Duration,
    /// From that report on the instance must stay well.
    pub watch: Duration,
}

/// What is known of one instance since its refresh.
#[derive(Debug, Clone, Default)]
pub struct Observed {
    /// Of the last report since then.
    pub heard_at: Option<Timestamp>,
    pub version: Option<String>,
    pub refused: Option<String>,
    /// `UP`, or what is wrong.
    pub health: Option<String>,
    /// It was unwell before it got the new version, so that this is not to blame.
    pub was_unwell: bool,
}

/// What a step has come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Waiting,
    Well,
    /// Why the old version is better.
    Unwell(String),
}

const UP: &str = "UP";

impl Canary {
    /// `instances` by service; those that are well come first.
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

    /// Whether an instance gets the new version. One without a name is a client that does not say who it is: it waits for the end.
    #[must_use]
    pub fn gets_new(&self, instance: Option<&str>) -> bool {
        match self.phase {
            Phase::Finished => true,
            Phase::RolledBack => false,
            Phase::Running => instance.is_some_and(|instance| self.updated().any(|updated| updated == instance)),
        }
    }

    /// Instances whose turn it is or was.
    pub fn updated(&self) -> impl Iterator<Item = &str> {
        self.steps.iter().take(self.step + 1).flatten().map(String::as_str)
    }

    /// Instances whose turn comes.
    pub fn waiting(&self) -> impl Iterator<Item = &str> {
        self.steps.iter().skip(self.step + 1).flatten().map(String::as_str)
    }

    /// The one that holds of two that replicas know: of a later start, of the same one the later phase, of the same phase the later step. All
    /// replicas come to the same, in whatever order they hear of them.
    #[must_use]
    pub fn merged(self, other: Self) -> Self {
        let rank = |canary: &Self| (canary.started_at, canary.id.clone(), canary.phase, canary.step);
        if rank(&other) > rank(&self) { other } else { self }
    }
}

impl Observed {
    /// How one instance does that was refreshed at `sent`.
    #[must_use]
    pub fn verdict(
        &self,
        to: &str,
        sent: Timestamp,
        well_since: Option<Timestamp>,
        patience: Patience,
        now: Timestamp,
    ) -> Verdict {
        let passed = |since: Timestamp| now.duration_since(since).unsigned_abs();
        if let Some(refused) = &self.refused {
            return Verdict::Unwell(format!("refused: {refused}"));
        }
        let is_new = self.version.as_deref() == Some(to);
        if let Some(health) = self.health.as_deref().filter(|health| *health != UP)
            && is_new
            && !self.was_unwell
        {
            return Verdict::Unwell(format!("unhealthy: {health}"));
        }
        match well_since {
            // Only a report from after the watch tells that it is still there.
            Some(since)
                if self
                    .heard_at
                    .is_some_and(|at| at.duration_since(since).unsigned_abs() >= patience.watch) =>
            {
                Verdict::Well
            }
            Some(since) if passed(since) > patience.watch + patience.wait => {
                Verdict::Unwell("no report any more".to_owned())
            }
            None if passed(sent) > patience.wait => Verdict::Unwell("no report of the new version".to_owned()),
            _ => Verdict::Waiting,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PATIENCE: Patience = Patience {
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
        let gets =
            |canary: &Canary| ["dm:1", "feed:1", "feed:2", "feed:3"].map(|instance| canary.gets_new(Some(instance)));
        assert_eq!(gets(&running), [true, true, true, false]);
        assert!(!running.gets_new(None) && !running.gets_new(Some("feed:new")));
        assert_eq!(running.waiting().collect::<Vec<_>>(), ["feed:3"]);
        assert_eq!(gets(&canary(Phase::RolledBack, 1)), [false; 4]);
        assert!(canary(Phase::Finished, 2).gets_new(None));
        assert!(Canary::plan(BTreeMap::new()).is_empty());
    }

    #[test]
    fn an_instance_is_well_when_it_says_so_after_the_watch() {
        let verdict = |observed: &Observed, well_since: Option<i64>, now: i64| {
            observed.verdict("b", at(0), well_since.map(at), PATIENCE, at(now))
        };
        let silent = Observed::default();
        assert_eq!(verdict(&silent, None, 30), Verdict::Waiting);
        assert!(matches!(verdict(&silent, None, 31), Verdict::Unwell(_)));
        let report = |heard: i64, version: &str, health: &str| Observed {
            heard_at: Some(at(heard)),
            version: Some(version.to_owned()),
            health: Some(health.to_owned()),
            ..Observed::default()
        };
        assert_eq!(
            verdict(&report(5, "a", "DOWN: db"), None, 5),
            Verdict::Waiting,
            "not of the new version"
        );
        assert_eq!(verdict(&report(5, "b", "UP"), Some(5), 5), Verdict::Waiting);
        assert_eq!(verdict(&report(14, "b", "UP"), Some(5), 20), Verdict::Waiting);
        assert_eq!(verdict(&report(15, "b", "UP"), Some(5), 15), Verdict::Well);
        assert_eq!(
            verdict(&report(6, "b", "DOWN: db"), Some(5), 6),
            Verdict::Unwell("unhealthy: DOWN: db".to_owned())
        );
        let was_unwell = Observed {
            was_unwell: true,
            ..report(15, "b", "DOWN: db")
        };
        assert_eq!(verdict(&was_unwell, Some(5), 15), Verdict::Well);
        assert!(
            matches!(verdict(&report(6, "b", "UP"), Some(5), 46), Verdict::Unwell(_)),
            "it fell silent"
        );
        let refusing = Observed {
            refused: Some("limits.posts: at least 1".to_owned()),
            ..report(5, "a", "UP")
        };
        assert_eq!(
            verdict(&refusing, None, 5),
            Verdict::Unwell("refused: limits.posts: at least 1".to_owned())
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
        fn replicas_agree_in_whatever_order_they_hear(states in proptest::collection::vec(states(), 1..6), seed in 0_usize..100) {
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
