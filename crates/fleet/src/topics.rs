//! `fleet topics`: the declared topics on a broker, or as resources of the Strimzi operator.

use std::fmt::Write as _;

use anyhow::bail;
use sosohappy_bus::{Comparison, Declared, State, compare, declared};
use sosohappy_common::Context;
use sosohappy_common::settings::Events;

/// Compares, makes what is missing unless `dry_run`, and tells one line a topic. With `strict` a difference is a failure.
pub async fn run(events: &Events, dry_run: bool, strict: bool) -> anyhow::Result<()> {
    let compared = compare(events, &Context::system("fleet", 0), dry_run).await?;
    print!("{}", tell(&compared));
    let differing = compared
        .iter()
        .filter(|one| matches!(one.state, State::Differs(_)))
        .count();
    if strict && differing > 0 {
        bail!("{differing} topics are not as declared");
    }
    Ok(())
}

fn tell(compared: &[Comparison]) -> String {
    let mut lines = Vec::new();
    for Comparison { topic, state } in compared {
        let (word, differences) = match state {
            State::Made => ("made", &[][..]),
            State::Missing => ("missing", &[][..]),
            State::Same => ("same", &[][..]),
            State::Differs(differences) => ("differs", &differences[..]),
        };
        lines.push(format!("{word:<8} {topic}\n"));
        lines.extend(differences.iter().map(|difference| format!("         {difference}\n")));
    }
    let count = |wanted: fn(&State) -> bool| compared.iter().filter(|one| wanted(&one.state)).count();
    lines.push(format!(
        "{} topics: {} made, {} missing, {} as declared, {} differ\n",
        compared.len(),
        count(|state| *state == State::Made),
        count(|state| *state == State::Missing),
        count(|state| *state == State::Same),
        count(|state| matches!(state, State::Differs(_))),
    ));
    lines.concat()
}

/// The topics as `KafkaTopic` resources of that cluster, for the Strimzi operator to make.
pub fn resources(events: &Events, cluster: &str) -> anyhow::Result<String> {
    let mut text = String::from(
        "# Made by `fleet topics --strimzi`; what it says is declared in crates/events/src/topic.rs. A test tells when they differ.\n",
    );
    for (number, topic) in declared(events)?.iter().enumerate() {
        if number > 0 {
            text += "---\n";
        }
        text += &resource(topic, cluster)?;
    }
    Ok(text)
}

fn resource(topic: &Declared, cluster: &str) -> anyhow::Result<String> {
    let mut text = String::new();
    writeln!(text, "apiVersion: kafka.strimzi.io/v1")?;
    writeln!(text, "kind: KafkaTopic")?;
    writeln!(text, "metadata:")?;
    writeln!(text, "  name: {}", resource_name(&topic.name))?;
    writeln!(text, "  labels: {{ strimzi.io/cluster: {cluster} }}")?;
    writeln!(text, "spec:")?;
    writeln!(text, "  topicName: {}", topic.name)?;
    writeln!(text, "  partitions: {}", topic.partitions)?;
    writeln!(text, "  config:")?;
    for (key, value) in &topic.settings {
        writeln!(text, "    {key}: {value}")?;
    }
    Ok(text)
}

/// Kubernetes wants lower case: `accessToken.dlt` becomes `access-token.dlt`.
fn resource_name(topic: &str) -> String {
    let mut name = String::new();
    for letter in topic.chars() {
        if letter.is_ascii_uppercase() {
            name.push('-');
        }
        name.push(if letter == '_' {
            '-'
        } else {
            letter.to_ascii_lowercase()
        });
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strimzis_topics_are_those_declared() {
        let text = resources(&Events::new("kafka:", ""), "fleet").unwrap();
        let kept = include_str!("../../../k8s/components/strimzi/topics.yaml");
        assert!(
            kept == text,
            "renew it: fleet topics --strimzi fleet > k8s/components/strimzi/topics.yaml"
        );
    }

    #[test]
    fn names_of_resources_are_lower_case() {
        assert_eq!(resource_name("accessToken.dlt"), "access-token.dlt");
        assert_eq!(resource_name("a_b"), "a-b");
    }

    #[test]
    fn a_difference_is_told() {
        let topic = declared(&Events::new("kafka:", "")).unwrap().remove(0);
        let difference = sosohappy_bus::Difference {
            what: "partitions".to_owned(),
            declared: "6".to_owned(),
            found: "3".to_owned(),
        };
        let text = tell(&[Comparison {
            topic,
            state: State::Differs(vec![difference]),
        }]);
        assert!(text.starts_with("differs  accessToken: 6 partitions"), "{text}");
        assert!(text.contains("\n         partitions is 3, declared is 6\n"), "{text}");
        assert!(
            text.ends_with("1 topics: 0 made, 0 missing, 0 as declared, 1 differ\n"),
            "{text}"
        );
    }
}
