//! Tracks which instance runs which version, from the reports and acknowledgements on `configBus`.
//!
//! Our services report their version. A Spring service only acknowledges a refresh event: it counts as running the version that was the newest at
//! that moment.

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

/// Interval between two updates of the metrics and of the newest version.
const UPDATE_INTERVAL: Duration = Duration::from_secs(1);
/// A Spring instance publishes nothing between two refreshes: its acknowledgement is kept this long.
const SPRING_RETENTION: Duration = Duration::from_hours(24);

/// Clones share the reports.
#[derive(Debug, Clone)]
pub struct Convergence {
    reports: Arc<Mutex<Reports>>,
    context: Context,
    settings: Live<Settings>,
    source: Source,
    flag_uses: FlagUses,
}

#[derive(Debug)]
struct Reports {
    newest: String,
    /// When this replica first served it.
    since: Timestamp,
    /// By bus id.
    instances: BTreeMap<String, LastReport>,
}

#[derive(Debug)]
struct LastReport {
    at: Timestamp,
    report: SettingsReport,
    /// A report of the instance itself, repeated every few seconds; otherwise an acknowledgement of a Spring service.
    is_own_report: bool,
}

/// The versions of all instances, compared with the newest one.
#[derive(Debug, PartialEq, Eq)]
pub struct Progress {
    pub newest: String,
    pub since: Timestamp,
    /// By service.
    pub services: BTreeMap<String, Vec<Instance>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// The bus id.
    pub id: String,
    pub report: SettingsReport,
    pub reported_at: Timestamp,
    pub status: InstanceStatus,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InstanceStatus {
    Newest,
    /// Runs an older version for longer than `convergence.late-after`.
    Late,
    /// Runs an older version, and `convergence.late-after` has not passed yet.
    Following,
    /// Refused the newest settings.
    Refusing,
}

impl InstanceStatus {
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
        // Replicas of config acknowledge their own events but read no configuration: they are not listed.
        if service_of(&event.origin_service) != self.context.service {
            let (newest, now) = (newest(&self.source), self.context.clock.now());
            let mut reports = self.reports.lock();
            // An acknowledgement may arrive before the next update interval: it belongs to the version served now.
            reports.publish(newest, now);
            reports.apply(&event, now);
        }
        Ok(())
    }
}

impl Convergence {
    /// Starts reading `configBus` from `convergence.forget-after` ago, so that all instances are known once it has caught up.
    pub fn spawn(
        context: &Context,
        bus: Arc<dyn Bus>,
        settings: Live<Settings>,
        source: Source,
        flag_uses: FlagUses,
    ) -> Self {
        let now = context.clock.now();
        let convergence = Self {
            reports: Arc::new(Mutex::new(Reports {
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
        context
            .lifecycle
            .spawn("convergence", convergence.clone().update_metrics());
        convergence
    }

    async fn update_metrics(self) -> anyhow::Result<()> {
        let gauge = Opts::new(
            "config_instances",
            "Instances by service and status, relative to the newest version of the configuration",
        );
        let gauge = IntGaugeVec::new(gauge, &["service", "standing"]).expect("a static name is valid");
        let gauge = self.context.metrics.register(gauge);
        let mut listed = BTreeSet::new();
        let draining = self.context.lifecycle.draining();
        loop {
            tokio::select! {
                () = draining.cancelled() => return Ok(()),
                () = tokio::time::sleep(UPDATE_INTERVAL) => {}
            }
            let (newest, now) = (newest(&self.source), self.context.clock.now());
            self.reports.lock().publish(newest, now);
            set_gauges(&gauge, &mut listed, &self.progress());
        }
    }

    /// Returns the status of every known instance.
    pub fn progress(&self) -> Progress {
        let settings = self.settings.get();
        let (newest, now) = (newest(&self.source), self.context.clock.now());
        // Lock order: the reports, then the source's own locks inside `target`. The source never asks for reports.
        let mut reports = self.reports.lock();
        // The end of a canary changes the served version between two updates.
        reports.publish(newest, now);
        reports.forget(settings.convergence.forget_after, now);
        reports.progress(settings.convergence.late_after, now, &self.target())
    }

    /// Returns the last report of an instance and when it arrived. Acknowledgements of Spring services do not count.
    pub fn last_report(&self, instance: &str) -> Option<(Timestamp, SettingsReport)> {
        let reports = self.reports.lock();
        let last = reports.instances.get(instance).filter(|last| last.is_own_report);
        last.map(|last| (last.at, last.report.clone()))
    }

    /// Returns the instances that have reported since a moment, by service, healthy ones first, and whether every known one has.
    pub fn reported_since(&self, since: Timestamp) -> (BTreeMap<String, Vec<String>>, bool) {
        let (settings, now) = (self.settings.get(), self.context.clock.now());
        let mut reports = self.reports.lock();
        reports.forget(settings.convergence.forget_after, now);
        let mut services: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let is_healthy = |last: &LastReport| {
            last.report.refused.is_none() && last.report.health.as_deref().is_none_or(|health| health == "UP")
        };
        let (reported, missing): (Vec<_>, Vec<_>) = reports
            .instances
            .iter()
            .filter(|(_, last)| last.is_own_report)
            .partition(|(_, last)| last.at >= since);
        for wanted in [true, false] {
            for (id, _) in reported.iter().filter(|(_, last)| is_healthy(last) == wanted) {
                services
                    .entry(service_of(id).to_owned())
                    .or_default()
                    .push((*id).clone());
            }
        }
        (services, missing.is_empty())
    }

    /// Returns the version served to an instance, which a canary may hold back.
    fn target(&self) -> impl Fn(&str) -> Option<String> {
        let source = self.source.clone();
        move |instance| source.served(Some(instance)).map(|snapshot| snapshot.version.clone())
    }
}

impl Reports {
    fn apply(&mut self, message: &BusMessage, now: Timestamp) {
        let last = match (&*message.kind, message.to_report()) {
            // An instance started without a config service has no version to compare.
            (BusMessage::REPORT, Some(report)) if report.version.is_none() && report.refused.is_none() => return,
            (BusMessage::REPORT, Some(report)) => LastReport {
                at: now,
                report,
                is_own_report: true,
            },
            (BusMessage::ACK, _) if is_of_refresh(message) => LastReport {
                at: now,
                report: SettingsReport {
                    version: Some(self.newest.clone()),
                    ..SettingsReport::default()
                },
                is_own_report: false,
            },
            _ => return,
        };
        match self.instances.get(&message.origin_service) {
            // An acknowledgement says less than a report and never replaces one.
            Some(known) if known.is_own_report && !last.is_own_report => {}
            _ => {
                self.instances.insert(message.origin_service.clone(), last);
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
        self.instances.retain(|_, last| {
            let kept = if last.is_own_report { after } else { SPRING_RETENTION };
            now.duration_since(last.at) <= jiff::SignedDuration::try_from(kept).unwrap_or(jiff::SignedDuration::MAX)
        });
    }

    fn progress(&self, late_after: Duration, now: Timestamp, target: &dyn Fn(&str) -> Option<String>) -> Progress {
        let is_late = now.duration_since(self.since).unsigned_abs() >= late_after;
        let mut services: BTreeMap<String, Vec<Instance>> = BTreeMap::new();
        for (id, last) in &self.instances {
            let status = if last.report.refused.is_some() {
                InstanceStatus::Refusing
            } else if last.report.version == target(id).or_else(|| Some(self.newest.clone())) {
                InstanceStatus::Newest
            } else if is_late {
                InstanceStatus::Late
            } else {
                InstanceStatus::Following
            };
            let service = service_of(id).to_owned();
            services.entry(service).or_default().push(Instance {
                id: id.clone(),
                report: last.report.clone(),
                reported_at: last.at,
                status,
            });
        }
        Progress {
            newest: self.newest.clone(),
            since: self.since,
            services,
        }
    }
}

/// Returns the served version; empty until the repository has been read for the first time, which no instance matches.
fn newest(source: &Source) -> String {
    let served = source.served(None);
    served.map_or_else(String::new, |snapshot| snapshot.version.clone())
}

/// Returns the first part of a bus id.
fn service_of(id: &str) -> &str {
    id.split(':').next().unwrap_or(id)
}

/// Sets the gauges, and removes only those of services that have disappeared: a scrape in between sees every present service.
fn set_gauges(gauge: &IntGaugeVec, listed: &mut BTreeSet<String>, progress: &Progress) {
    for (service, instances) in &progress.services {
        for status in InstanceStatus::ALL {
            let count = instances.iter().filter(|instance| instance.status == status).count();
            gauge
                .with_label_values(&[service, status.name()])
                .set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }
    let present: BTreeSet<_> = progress.services.keys().cloned().collect();
    for (service, status) in listed
        .difference(&present)
        .flat_map(|absent| InstanceStatus::ALL.map(|status| (absent, status)))
    {
        // An error means that the series does not exist.
        let _ = gauge.remove_label_values(&[service, status.name()]);
    }
    *listed = present;
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

    fn statuses(reports: &Reports, second: i64) -> Vec<&'static str> {
        let progress = reports.progress(LATE, at(second), &|_| None);
        let instances = progress.services.into_values().flatten();
        instances.map(|instance| instance.status.name()).collect()
    }

    #[test]
    fn instances_converge_or_are_late() {
        let (one, two) = (Context::system("dm-service", 1), Context::system("feed-service", 2));
        let mut reports = Reports {
            newest: "a".to_owned(),
            since: at(0),
            instances: BTreeMap::new(),
        };
        reports.apply(&report(&one, "a", None), at(1));
        reports.apply(&report(&two, "a", None), at(1));
        assert_eq!(statuses(&reports, 60), ["newest", "newest"]);

        reports.publish("b".to_owned(), at(100));
        reports.apply(&report(&two, "b", None), at(101));
        assert_eq!(statuses(&reports, 101), ["following", "newest"]);
        assert_eq!(statuses(&reports, 110), ["late", "newest"]);
        reports.apply(&report(&one, "a", Some("limits.posts: at least 1")), at(111));
        assert_eq!(statuses(&reports, 111), ["refusing", "newest"]);

        reports.forget(FORGET, at(225));
        assert_eq!(statuses(&reports, 225), ["refusing"], "the other one is forgotten");
        reports.publish("b".to_owned(), at(226));
        assert_eq!(reports.since, at(100), "the same version keeps its time");
    }

    #[test]
    fn gauges_exist_for_present_services_only() {
        use prometheus::core::Collector as _;

        let gauge = IntGaugeVec::new(Opts::new("config_instances", "of a test"), &["service", "standing"]).unwrap();
        let (dm, feed) = (Context::system("dm-service", 1), Context::system("feed-service", 2));
        let mut reports = Reports {
            newest: "a".to_owned(),
            since: at(0),
            instances: BTreeMap::new(),
        };
        reports.apply(&report(&dm, "a", None), at(0));
        reports.apply(&report(&feed, "a", None), at(100));
        let mut listed = BTreeSet::new();
        set_gauges(&gauge, &mut listed, &reports.progress(LATE, at(100), &|_| None));
        let value = |service: &str, standing: &str| gauge.with_label_values(&[service, standing]).get();
        assert_eq!((value("dm-service", "newest"), value("feed-service", "newest")), (1, 1));
        reports.forget(FORGET, at(150));
        reports.publish("b".to_owned(), at(120));
        set_gauges(&gauge, &mut listed, &reports.progress(LATE, at(150), &|_| None));
        assert_eq!((value("feed-service", "newest"), value("feed-service", "late")), (0, 1));
        assert_eq!(
            gauge.collect()[0].get_metric().len(),
            InstanceStatus::ALL.len(),
            "the series of dm are removed"
        );
    }

    #[test]
    fn an_acknowledgement_of_a_spring_service_counts_as_the_newest_version() {
        let (config, spring) = (Context::system("config-service", 1), Context::system("dm-service", 2));
        let mut reports = Reports {
            newest: "a".to_owned(),
            since: at(0),
            instances: BTreeMap::new(),
        };
        let refresh = BusMessage::refresh(&config, "**");
        reports.apply(&refresh, at(1));
        reports.apply(&BusMessage::report(&config, &SettingsReport::default()), at(1));
        assert!(reports.instances.is_empty(), "neither message names a version");
        reports.apply(&BusMessage::ack(&spring, &refresh), at(1));
        assert_eq!(statuses(&reports, 1), ["newest"]);
        reports.publish("b".to_owned(), at(2));
        reports.forget(FORGET, at(3600));
        assert_eq!(statuses(&reports, 3600), ["late"]);
        reports.apply(&report(&spring, "b", None), at(3601));
        reports.apply(&BusMessage::ack(&spring, &refresh), at(3602));
        assert!(
            reports.instances.values().all(|last| last.is_own_report),
            "a report is not replaced"
        );
    }
}
