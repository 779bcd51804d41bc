//! Metrics of auth.

use prometheus::{Gauge, IntCounter, IntCounterVec, IntGauge, Opts};
use sosohappy_common::metrics::Metrics as Registry;

use crate::domain::moderation::Reason;
use crate::domain::provider::Provider;
use crate::store::external_calls::Kind;

#[derive(Debug, Clone)]
pub struct Metrics {
    pub sign_ins: IntCounterVec,
    pub slowed_sign_ins: IntCounter,
    pub password_hashes: IntCounter,
    pub reissues: IntCounterVec,
    pub unfinished_resignations: IntGauge,
    pub oldest_resignation: Gauge,
    pub reports: IntCounterVec,
    pub open_reports: IntGauge,
    pub late_reports: IntGauge,
    pub unknown_reports: IntGauge,
    pub task_failures: IntCounterVec,
    pub external_calls: IntCounterVec,
    pub notifications: IntCounterVec,
}

impl Metrics {
    pub fn register(registry: &Registry) -> Self {
        let counter = |name, help, labels: &[&str]| {
            let counter = IntCounterVec::new(Opts::new(name, help), labels).expect("a static metric is valid");
            registry.register(counter)
        };
        let unfinished = IntGauge::new(
            "auth_resignations_unfinished",
            "Resignations that some service has not acknowledged",
        );
        let oldest = Gauge::new(
            "auth_resignation_oldest_seconds",
            "Age of the oldest unfinished resignation, 0 without one",
        );
        let slowed_sign_ins = IntCounter::new(
            "auth_sign_ins_slowed_total",
            "Sign-ins that were checked later (sign-in.slow-down): too many of all accounts had failed",
        );
        let password_hashes = IntCounter::new(
            "auth_password_hashes_total",
            "Computed password hashes: of new passwords, and of guesses, also where the address has no account",
        );
        let reissues = counter(
            "auth_reissues_total",
            "Re-issues by outcome: rotated, repeated (a lost reply), reused (a theft, the session was closed), refused, limited (429)",
            &["outcome"],
        );
        // All are there from the start, at nothing.
        for outcome in ["rotated", "repeated", "reused", "refused", "limited"] {
            reissues.with_label_values(&[outcome]);
        }
        let external_calls = counter(
            "auth_external_calls_total",
            "Calls of other systems that a change owes, by kind (mail, apple-revocation, kakao-unlink) and outcome: succeeded, failed (retried), refused (for good, not retried), expired (not retried)",
            &["kind", "outcome"],
        );
        for kind in Kind::ALL {
            for outcome in ["succeeded", "failed", "refused", "expired"] {
                external_calls.with_label_values(&[kind.as_str(), outcome]);
            }
        }
        let notifications = counter(
            "auth_provider_notifications_total",
            "Notifications of sign-in providers by outcome: resigned, signed-out, ignored (changes nothing here), unknown (no such account), duplicate, outdated (older than the account), refused (not the provider's), failed",
            &["provider", "outcome"],
        );
        let outcomes = [
            "resigned",
            "signed-out",
            "ignored",
            "unknown",
            "duplicate",
            "outdated",
            "refused",
            "failed",
        ];
        for provider in [Provider::Apple, Provider::Kakao] {
            for outcome in outcomes {
                notifications.with_label_values(&[provider.as_str(), outcome]);
            }
        }
        let gauge = |name, help| {
            let gauge = IntGauge::new(name, help).expect("a static metric is valid");
            registry.register(gauge)
        };
        let reports = counter(
            "auth_reports_total",
            "Reports of people and their content by reason; repeated reports of one person are one",
            &["reason"],
        );
        // Pre-creates every label value so that series start at 0.
        for reason in Reason::ALL {
            reports.with_label_values(&[reason.as_str()]);
        }
        Self {
            notifications,
            external_calls,
            reports,
            open_reports: gauge("auth_reports_open", "Reports that no moderator has resolved"),
            late_reports: gauge("auth_reports_late", "Open reports whose deadline has passed"),
            unknown_reports: gauge(
                "auth_reports_unknown",
                "Reports that no moderator has resolved, of content that only a later release can show; in neither of the other two",
            ),
            sign_ins: counter(
                "auth_sign_ins_total",
                "Sign-ins by provider and outcome: new (an account was made), known, refused, failed, limited (too many failures)",
                &["provider", "outcome"],
            ),
            slowed_sign_ins: registry.register(slowed_sign_ins.expect("a static metric is valid")),
            password_hashes: registry.register(password_hashes.expect("a static metric is valid")),
            reissues,
            unfinished_resignations: registry.register(unfinished.expect("a static metric is valid")),
            oldest_resignation: registry.register(oldest.expect("a static metric is valid")),
            task_failures: counter(
                "auth_task_failures_total",
                "Failed runs of a background task",
                &["task"],
            ),
        }
    }
}
