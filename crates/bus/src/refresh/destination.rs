//! The destination of a message of Spring Cloud Bus (`ServiceMatcher`, `DefaultBusPathMatcher`).

use sosohappy_common::Context;

/// Whether a destination means this instance: by its bus id `<service>:<port>:<random>`, or by the name of its
/// configuration. None and blank mean everyone.
pub(super) fn means(destination: Option<&str>, context: &Context) -> bool {
    let destination = destination.map_or("**", str::trim);
    if destination.is_empty() {
        return true;
    }
    let configuration = context
        .service
        .strip_suffix("-service")
        .map(|name| format!("{name}-config"));
    let names = [Some(&*context.instance), configuration.as_deref()];
    names.into_iter().flatten().any(|name| matches(destination, name))
}

/// Ant's path patterns with `:` between the parts: `?` is one character, `*` any of one part, `**` any parts.
fn matches(pattern: &str, name: &str) -> bool {
    let pattern: Vec<_> = pattern.split(':').collect();
    let name: Vec<_> = name.split(':').collect();
    parts_match(&complete(pattern), &name)
}

/// Completes a pattern of one or two parts, which matches every instance id that begins with them.
fn complete(mut pattern: Vec<&str>) -> Vec<&str> {
    if pattern.len() <= 2 && pattern.last() != Some(&"**") {
        pattern.push("**");
    }
    pattern.dedup_by(|next, part| *next == "**" && *part == "**");
    pattern
}

fn parts_match(pattern: &[&str], name: &[&str]) -> bool {
    match pattern.split_first() {
        None => name.is_empty(),
        Some((&"**", rest)) => (0..=name.len()).any(|skipped| parts_match(rest, &name[skipped..])),
        Some((part, rest)) => {
            let of_name = name.split_first();
            of_name
                .is_some_and(|(first, more)| part_matches(part.as_bytes(), first.as_bytes()) && parts_match(rest, more))
        }
    }
}

/// In time of the product of both lengths, whatever the pattern.
fn part_matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut read) = (0, 0);
    let mut star = None;
    while read < text.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at, read));
                at += 1;
            }
            Some(&expected) if expected == b'?' || expected == text[read] => {
                at += 1;
                read += 1;
            }
            _ => {
                let Some((starred, taken)) = star else { return false };
                star = Some((starred, taken + 1));
                at = starred + 1;
                read = taken + 1;
            }
        }
    }
    pattern[at..].iter().all(|&rest| rest == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_destination_means_instances_as_spring_reads_it() {
        let context = Context::system("feed-service", 8891);
        let instance = context.instance.to_string();
        let means = |destination: &str| means(Some(destination), &context);
        for everyone in ["", "  ", "**", "*", "*:**", "**:**"] {
            assert!(means(everyone), "{everyone}");
        }
        for ours in [
            "feed-service",
            "feed-service:**",
            "feed-*:**",
            "feed-servic?",
            "feed-service:8891",
            "feed-service:8891:**",
            "feed-service:*:*",
            "**:8891:**",
            "feed-config",
            "feed-config:**",
            &instance,
        ] {
            assert!(means(ours), "{ours}");
        }
        for others in [
            "dm-service",
            "dm-service:**",
            "feed",
            "feed:**",
            "feed-service:8892",
            "feed-service:8891:0000",
            "feed-service:8891:*:**:x",
            "feed-service?",
            "auth-config:**",
        ] {
            assert!(!means(others), "{others}");
        }
        assert!(super::means(None, &context));
    }

    #[test]
    fn a_hostile_pattern_costs_little() {
        let pattern = "*a".repeat(200);
        assert!(!part_matches(pattern.as_bytes(), "a".repeat(199).as_bytes()));
        assert!(part_matches(pattern.as_bytes(), "a".repeat(200).as_bytes()));
    }
}
