//! Who runs on which version, from what instances say on the bus.
//!
//! Ours report what they run on; a Spring service only acknowledges a refresh, and is taken to run on what was the newest then.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use parking_lot::Mutex;
use prometheus::{IntGaugeVec, Opts};
use sosohappy_bus::consume::{Consumer, HandleError, spawn_listener};
use sosohappy_bus::{Bus, Start};
use sosohappy_common::Context;
use sosohappy_common::settings::Live;
use sosohappy_events::Envelope;
use sosohappy_events::types::{BusMessage, SettingsReport};

use crate::settings::Settings;
use crate::source::Source;
use crate::state::flag_uses::FlagUses;

/// How often metrics follow, and a new version is noticed.
const LOOK: Duration = Duration::from_secs(1);
/// A Spring instance says nothing between two refreshes.
const SILENT_SPRING: Duration = Duration::from_hours(24);

/// Clones share what is known.
#[derive(Debug, Clone)]
pub struct Convergence {
    known: Arc<Mutex<Known>>,
    context: Context,
    settings: Live<Settings>,
    source: Source,
    flag_uses: FlagUses,
}

#[derive(Debug)]
struct Known {
    newest: String,
    /// When this replica saw it first.
    since: Timestamp,
    /// By bus id.
    instances: BTreeMap<String, Heard>,
}

#[derive(Debug)]
struct Heard {
    at: Timestamp,
    report: SettingsReport,
    /// Whether it told by itself, and will again.
    reports: bool,
}

/// How far a version has come.
#[derive(Debug, PartialEq, Eq)]
pub struct Progress {
    pub newest: String,
    pub since: Timestamp,
    /// By service.
    pub services: BTreeMap<String, Vec<Instance>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// Its bus id.
    pub id: String,
    pub report: SettingsReport,
    pub heard_at: Timestamp,
    pub standing: Standing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    Newest,
    /// On an older version, and it has had the time.
    Late,
    /// On an older version, for a moment still.
    Following,
    /// It does not take the newest settings.
    Refusing,
}

impl Standing {
    const ALL: [Self; 4] = [Self::Newest, Self::Late, Self::Following, Self::Refusing];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Newest => "newest",
            Self::Late => "late",
            Self::Following => "following",
            Self::Refusing => "refusing",
        }
    }
}

#[async_trait]
impl Consumer<BusMessage> for Convergence {
    async fn handle(&self, Envelope { event, .. }: Envelope<BusMessage>) -> Result<(), HandleError> {
        if let Some(report) = event.to_report() {
            self.flag_uses
                .evaluated(report.flags.iter().map(String::as_str), self.context.clock.now());
        }
        // Config follows nobody, though it acknowledges what it tells.
        if service_of(&event.origin_service) != self.context.service {
            let (newest, now) = (newest(&self.source), self.context.clock.now());
            let mut known = self.known.lock();
            // Whoever acknowledges a version this early runs on it.
            known.publish(newest, now);
            known.hear(&event, now);
        }
        Ok(())
    }
}

impl Convergence {
    /// Listens from a report's period ago, so that it knows everyone as soon as it has caught up.
    pub fn spawn(
        context: &Context,
        bus: Arc<dyn Bus>,
        settings: Live<Settings>,
        source: Source,
        flag_uses: FlagUses,
    ) -> Self {
        let now = context.clock.now();
        let convergence = Self {
            known: Arc::new(Mutex::new(Known {
                newest: newest(&source),
                since: now,
                instances: BTreeMap::new(),
            })),
            context: context.clone(),
            settings,
            source,
            flag_uses,
        };
        let back = convergence.settings.get().convergence.forget_after;
        let start = Start::At(now.checked_sub(back).unwrap_or(Timestamp::MIN));
        spawn_listener::<BusMessage>(context, bus, start, convergence.clone());
        context.lifecycle.spawn("convergence", convergence.clone().follow());
        convergence
    }

    async fn follow(self) -> anyhow::Result<()> {
        let gauge = Opts::new(
            "config_instances",
            "Instances by service and by how they stand to the newest version of the configuration",
        );
        let gauge = IntGaugeVec::new(gauge, &["service", "standing"]).expect("a static name is valid");
        let gauge = self.context.metrics.register(gauge);
        let mut shown = BTreeSet::new();
        let draining = self.context.lifecycle.draining();
        loop {
            tokio::select! {
                () = draining.cancelled() => return Ok(()),
                () = tokio::time::sleep(LOOK) => {}
            }
            let (newest, now) = (newest(&self.source), self.context.clock.now());
            self.known.lock().publish(newest, now);
            show(&gauge, &mut shown, &self.progress());
        }
    }

    /// How everybody stands at this moment.
    pub fn progress(&self) -> Progress {
        let settings = self.settings.get();
        let now = self.context.clock.now();
        let mut known = self.known.lock();
        known.forget(settings.convergence.forget_after, now);
        known.progress(settings.convergence.late_after, now, &self.target())
    }

    /// The last report of an instance, and when it came.
    pub fn heard(&self, instance: &str) -> Option<(Timestamp, SettingsReport)> {
        let known = self.known.lock();
        let heard = known.instances.get(instance).filter(|heard| heard.reports);
        heard.map(|heard| (heard.at, heard.report.clone()))
    }

    /// Returns the instances that have reported by themselves since then, by service, healthy ones first, and whether every known one has.
    pub fn reported_since(&self, since: Timestamp) -> (BTreeMap<String, Vec<String>>, bool) {
        let (settings, now) = (self.settings.get(), self.context.clock.now());
        let mut known = self.known.lock();
        known.forget(settings.convergence.forget_after, now);
        let mut services: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let is_well = |heard: &Heard| {
            heard.report.refused.is_none() && heard.report.health.as_deref().is_none_or(|health| health == "UP")
        };
        let (answered, silent): (Vec<_>, Vec<_>) = known
            .instances
            .iter()
            .filter(|(_, heard)| heard.reports)
            .partition(|(_, heard)| heard.at >= since);
        for wanted in [true, false] {
            for (id, _) in answered.iter().filter(|(_, heard)| is_well(heard) == wanted) {
                services
                    .entry(service_of(id).to_owned())
                    .or_default()
                    .push((*id).clone());
            }
        }
        (services, silent.is_empty())
    }

    /// The version that an instance is to run on.
    fn target(&self) -> impl Fn(&str) -> Option<String> {
        let source = self.source.clone();
        move |instance| source.served(Some(instance)).map(|snapshot| snapshot.version.clone())
    }
}

impl Known {
    fn hear(&mut self, message: &BusMessage, now: Timestamp) {
        let heard = match (&*message.kind, message.to_report()) {
            // Those that ask no config service follow nobody.
            (BusMessage::REPORT, Some(report)) if report.version.is_none() && report.refused.is_none() => return,
            (BusMessage::REPORT, Some(report)) => Heard {
                at: now,
                report,
                reports: true,
            },
            (BusMessage::ACK, _) if is_of_refresh(message) => Heard {
                at: now,
                report: SettingsReport {
                    version: Some(self.newest.clone()),
                    ..SettingsReport::default()
                },
                reports: false,
            },
            _ => return,
        };
        match self.instances.get(&message.origin_service) {
            Some(known) if known.reports && !heard.reports => {}
            _ => {
                self.instances.insert(message.origin_service.clone(), heard);
            }
        }
    }

    fn publish(&mut self, newest: String, now: Timestamp) {
        if self.newest != newest {
            self.newest = newest;
            self.since = now;
        }
    }

    fn forget(&mut self, after: Duration, now: Timestamp) {
        self.instances.retain(|_, heard| {
            let kept = if heard.reports { after } else { SILENT_SPRING };
            now.duration_since(heard.at) <= jiff::SignedDuration::try_from(kept).unwrap_or(jiff::SignedDuration::MAX)
        });
    }

    fn progress(&self, late_after: Duration, now: Timestamp, target: &dyn Fn(&str) -> Option<String>) -> Progress {
        let had_time = now.duration_since(self.since).unsigned_abs() >= late_after;
        let mut services: BTreeMap<String, Vec<Instance>> = BTreeMap::new();
        for (id, heard) in &self.instances {
            let standing = if heard.report.refused.is_some() {
                Standing::Refusing
            } else if heard.report.version == target(id).or_else(|| Some(self.newest.clone())) {
                Standing::Newest
            } else if had_time {
                Standing::Late
            } else {
                Standing::Following
            };
            let service = service_of(id).to_owned();
            services.entry(service).or_default().push(Instance {
                id: id.clone(),
                report: heard.report.clone(),
                heard_at: heard.at,
                standing,
            });
        }
        Progress {
            newest: self.newest.clone(),
            since: self.since,
            services,
        }
    }
}

/// What is served. Empty while a repository was never reached: nobody can run on that.
fn newest(source: &Source) -> String {
    let served = source.served(None);
    served.map_or_else(String::new, |snapshot| snapshot.version.clone())
}

/// The first part of a bus id.
fn service_of(id: &str) -> &str {
    id.split(':').next().unwrap_or(id)
}

/// Only what is gone is taken away: whoever reads the metrics meanwhile misses nobody.
fn show(gauge: &IntGaugeVec, shown: &mut BTreeSet<String>, progress: &Progress) {
    for (service, instances) in &progress.services {
        for standing in Standing::ALL {
            let count = instances
                .iter()
                .filter(|instance| instance.standing == standing)
                .count();
            gauge
                .with_label_values(&[service, standing.name()])
                .set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }
    let present: BTreeSet<_> = progress.services.keys().cloned().collect();
    for (service, standing) in shown
        .difference(&present)
        .flat_map(|gone| Standing::ALL.map(|standing| (gone, standing)))
    {
        // What is not there need not be taken away.
        let _ = gauge.remove_label_values(&[service, standing.name()]);
    }
    *shown = present;
}

fn is_of_refresh(ack: &BusMessage) -> bool {
    let event = ack.rest.get("event").and_then(serde_json::Value::as_str);
    event.is_some_and(|class| class.rsplit('.').next() == Some(BusMessage::REFRESH))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LATE: Duration = Duration::from_secs(10);
    const FORGET: Duration = Duration::from_mins(2);

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn report(context: &Context, version: &str, refused: Option<&str>) -> BusMessage {
        let report = SettingsReport {
            version: Some(version.to_owned()),
            refused: refused.map(str::to_owned),
            ..SettingsReport::default()
        };
        BusMessage::report(context, &report)
    }

    fn standings(known: &Known, second: i64) -> Vec<&'static str> {
        let progress = known.progress(LATE, at(second), &|_| None);
        let instances = progress.services.into_values().flatten();
        instances.map(|instance| instance.standing.name()).collect()
    }

    #[test]
    fn a_version_comes_to_everybody_or_somebody_is_late() {
        let (one, two) = (Context::system("dm-service", 1), Context::system("feed-service", 2));
        let mut known = Known {
            newest: "a".to_owned(),
            since: at(0),
            instances: BTreeMap::new(),
        };
        known.hear(&report(&one, "a", None), at(1));
        known.hear(&report(&two, "a", None), at(1));
        assert_eq!(standings(&known, 60), ["newest", "newest"]);

        known.publish("b".to_owned(), at(100));
        known.hear(&report(&two, "b", None), at(101));
        assert_eq!(standings(&known, 101), ["following", "newest"]);
        assert_eq!(standings(&known, 110), ["late", "newest"]);
        known.hear(&report(&one, "a", Some("limits.posts: at least 1")), at(111));
        assert_eq!(standings(&known, 111), ["refusing", "newest"]);

        known.forget(FORGET, at(225));
        assert_eq!(standings(&known, 225), ["refusing"], "the other is gone");
        known.publish("b".to_owned(), at(226));
        assert_eq!(known.since, at(100), "the same version is not news");
    }

    #[test]
    fn gauges_are_of_those_who_are_there() {
        use prometheus::core::Collector as _;

        let gauge = IntGaugeVec::new(Opts::new("config_instances", "of a test"), &["service", "standing"]).unwrap();
        let (dm, feed) = (Context::system("dm-service", 1), Context::system("feed-service", 2));
        let mut known = Known {
            newest: "a".to_owned(),
            since: at(0),
            instances: BTreeMap::new(),
        };
        known.hear(&report(&dm, "a", None), at(0));
        known.hear(&report(&feed, "a", None), at(100));
        let mut shown = BTreeSet::new();
        show(&gauge, &mut shown, &known.progress(LATE, at(100), &|_| None));
        let value = |service: &str, standing: &str| gauge.with_label_values(&[service, standing]).get();
        assert_eq!((value("dm-service", "newest"), value("feed-service", "newest")), (1, 1));
        known.forget(FORGET, at(150));
        known.publish("b".to_owned(), at(120));
        show(&gauge, &mut shown, &known.progress(LATE, at(150), &|_| None));
        assert_eq!((value("feed-service", "newest"), value("feed-service", "late")), (0, 1));
        assert_eq!(gauge.collect()[0].get_metric().len(), Standing::ALL.len(), "dm is gone");
    }

    #[test]
    fn a_spring_service_runs_on_what_it_acknowledged() {
        let (config, spring) = (Context::system("config-service", 1), Context::system("dm-service", 2));
        let mut known = Known {
            newest: "a".to_owned(),
            since: at(0),
            instances: BTreeMap::new(),
        };
        let refresh = BusMessage::refresh(&config, "**");
        known.hear(&refresh, at(1));
        known.hear(&BusMessage::report(&config, &SettingsReport::default()), at(1));
        assert!(known.instances.is_empty(), "nobody said what it runs on");
        known.hear(&BusMessage::ack(&spring, &refresh), at(1));
        assert_eq!(standings(&known, 1), ["newest"]);
        known.publish("b".to_owned(), at(2));
        known.forget(FORGET, at(3600));
        assert_eq!(standings(&known, 3600), ["late"]);
        known.hear(&report(&spring, "b", None), at(3601));
        known.hear(&BusMessage::ack(&spring, &refresh), at(3602));
        assert!(
            known.instances.values().all(|heard| heard.reports),
            "a report says more"
        );
    }
}
