//! `fleet topics --acls`: who may read and write which topic, as a list, on a broker, or as resources of the Strimzi operator.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use anyhow::bail;
use sosohappy_bus::{Acl, Operation, Pattern, ResourceKind, acls_of};
use sosohappy_common::settings::Events;
use sosohappy_events::topic::Service;
use sosohappy_kafka_admin::{Admin, Found};

/// What stands for the name of a service in a principal.
const SERVICE: &str = "{service}";

/// The principals of the services, and what becomes of rights that a broker has and the fleet does not declare.
#[derive(Debug, Clone)]
pub struct Principals {
    /// `User:{service}`; with client certificates for example `User:CN={service}`.
    pub template: String,
}

impl Principals {
    /// Takes a template that gives each service another principal.
    pub fn new(template: &str) -> Result<Self, String> {
        if !template.starts_with("User:") || !template.contains(SERVICE) {
            return Err(format!("a principal is User: and something with {SERVICE}"));
        }
        Ok(Self {
            template: template.to_owned(),
        })
    }

    fn of(&self, service: Service) -> String {
        self.template.replace(SERVICE, service.short_name())
    }
}

/// What a run does with a broker.
#[derive(Debug, Clone, Copy)]
pub struct Mode {
    /// Changes nothing.
    pub dry_run: bool,
    /// Deletes rights of the services that are not declared.
    pub prune: bool,
    /// Fails when rights are left that are not declared.
    pub strict: bool,
}

/// Returns every declared right, a line each.
pub fn list(events: &Events, principals: &Principals) -> anyhow::Result<String> {
    let mut text = String::new();
    for acl in declared(events, principals)? {
        writeln!(text, "{acl}")?;
    }
    Ok(text)
}

fn declared(events: &Events, principals: &Principals) -> anyhow::Result<Vec<Acl>> {
    let mut acls = Vec::new();
    for service in Service::ALL {
        acls.extend(acls_of(service, &principals.of(service), events)?);
    }
    Ok(acls)
}

/// Compares the rights of every service with those of the broker, creates what is missing, and prints one line each.
pub async fn run(events: &Events, principals: &Principals, mode: Mode) -> anyhow::Result<()> {
    if events.url.scheme() != "kafka" {
        bail!("only Kafka has ACLs: --url kafka:HOST:PORT");
    }
    let brokers = events.url.rest().trim_start_matches('/');
    let mut admin = Admin::connect(brokers, &events.security).await?;
    let wanted: BTreeSet<_> = declared(events, principals)?.into_iter().collect();
    let (mut found, mut others) = (BTreeSet::new(), Vec::new());
    for service in Service::ALL {
        for acl in admin.acls_of(&principals.of(service)).await? {
            match acl {
                Found::Known(acl) => {
                    found.insert(acl);
                }
                Found::Other(text) => others.push(text),
            }
        }
    }
    let missing: Vec<_> = wanted.difference(&found).cloned().collect();
    let undeclared: Vec<_> = found.difference(&wanted).cloned().collect();
    let prunes = mode.prune && !mode.dry_run;
    if !mode.dry_run && !missing.is_empty() {
        admin.create_acls(&missing).await?;
    }
    if prunes && !undeclared.is_empty() {
        admin.delete_acls(&undeclared).await?;
    }
    let missing_word = if mode.dry_run { "missing" } else { "created" };
    let undeclared_word = if prunes { "deleted" } else { "undeclared" };
    for (word, acls) in [
        ("same", wanted.intersection(&found).collect::<Vec<_>>()),
        (missing_word, missing.iter().collect()),
        (undeclared_word, undeclared.iter().collect()),
    ] {
        for acl in acls {
            println!("{word:<10} {acl}");
        }
    }
    for other in &others {
        println!("{:<10} {other}", "undeclared");
    }
    let left = others.len() + if prunes { 0 } else { undeclared.len() };
    println!(
        "{} ACLs: {} {missing_word}, {} same, {} deleted, {left} undeclared",
        wanted.len(),
        missing.len(),
        wanted.intersection(&found).count(),
        if prunes { undeclared.len() } else { 0 },
    );
    if mode.strict && left > 0 {
        bail!("{left} ACLs of the services are not declared");
    }
    Ok(())
}

/// Returns the services as `KafkaUser` resources of that cluster, for the Strimzi operator, which makes their passwords and ACLs.
pub fn resources(events: &Events, cluster: &str) -> anyhow::Result<String> {
    let mut text = String::from(
        "# Made by `fleet topics --acls --strimzi`; what it says is declared in crates/events/src/topic.rs. A test tells when they differ.\n",
    );
    for (number, service) in Service::ALL.into_iter().enumerate() {
        if number > 0 {
            text += "---\n";
        }
        let name = service.short_name();
        writeln!(text, "apiVersion: kafka.strimzi.io/v1")?;
        writeln!(text, "kind: KafkaUser")?;
        writeln!(text, "metadata:")?;
        writeln!(text, "  name: {name}")?;
        writeln!(text, "  labels: {{ strimzi.io/cluster: {cluster} }}")?;
        writeln!(text, "spec:")?;
        writeln!(text, "  authentication: {{ type: scram-sha-512 }}")?;
        writeln!(text, "  authorization:")?;
        writeln!(text, "    type: simple")?;
        writeln!(text, "    acls:")?;
        for acl in acls_of(service, name, events)? {
            writeln!(text, "      - {}", rule(&acl))?;
        }
    }
    Ok(text)
}

/// `{ resource: { type: topic, name: resign, patternType: literal }, operations: [Read] }`
fn rule(acl: &Acl) -> String {
    let kind = match acl.kind {
        ResourceKind::Topic => "topic",
        ResourceKind::Group => "group",
    };
    let pattern = match acl.pattern {
        Pattern::Literal => "literal",
        Pattern::Prefixed => "prefix",
    };
    let operation = match acl.operation {
        Operation::Read => "Read",
        Operation::Write => "Write",
    };
    format!(
        "{{ resource: {{ type: {kind}, name: {}, patternType: {pattern} }}, operations: [{operation}] }}",
        acl.name
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strimzis_users_are_those_declared() {
        let text = resources(&Events::new("kafka:", ""), "fleet").unwrap();
        let kept = include_str!("../../../k8s/components/strimzi/users.yaml");
        assert!(
            kept == text,
            "renew it: fleet topics --acls --strimzi fleet > k8s/components/strimzi/users.yaml"
        );
    }

    #[test]
    fn a_principal_names_its_service() {
        assert_eq!(
            Principals::new("User:CN={service}").unwrap().of(Service::Dm),
            "User:CN=dm"
        );
        for template in ["User:fleet", "{service}", ""] {
            assert!(Principals::new(template).is_err(), "{template}");
        }
    }

    #[test]
    fn the_list_has_a_line_a_right() {
        let principals = Principals::new("User:{service}").unwrap();
        let text = list(&Events::new("kafka:", ""), &principals).unwrap();
        let writers: Vec<_> = text
            .lines()
            .filter(|line| line.ends_with("may WRITE topic accessToken"))
            .collect();
        assert_eq!(writers, ["User:auth may WRITE topic accessToken"]);
    }
}
