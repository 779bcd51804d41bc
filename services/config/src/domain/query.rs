//! A request's application, profiles and label.

use std::collections::HashSet;

/// The name of the settings shared by all applications.
pub const SHARED: &str = "application";
/// Spring's profile of requests that name none.
const DEFAULT_PROFILE: &str = "default";

/// An application with its profiles at a label, from the path of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    pub application: String,
    /// In the order of the request; the last one wins.
    pub profiles: Vec<String>,
    pub label: Option<String>,
}

/// The text form of a flat request, by its extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Yaml,
    Properties,
    Json,
}

/// Look-ups of one request: labels × (applications + the shared one) × (profiles + none). Each is tried in every folder with every extension.
const MAX_LOOKUPS: usize = 4096;
/// Applications in one request.
const MAX_APPLICATIONS: usize = 16;
/// Profiles in one request.
const MAX_PROFILES: usize = 64;
/// Labels in one request.
const MAX_LABELS: usize = 16;

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidQuery {
    #[error("a name is empty, longer than 255 bytes, or leaves its folder")]
    Name,
    #[error(
        "at most {MAX_APPLICATIONS} applications, {MAX_PROFILES} profiles and {MAX_LABELS} labels are expected, and fewer of each \
         where there are many of the others"
    )]
    TooMany,
    #[error("a flat form is {{application}}-{{profiles}} with .yml, .yaml, .properties or .json")]
    FlatForm,
}

impl Query {
    /// Parses a request. `(_)` stands for `/` in application and label. Each of the three may be a list of names joined by commas: empty ones are
    /// skipped, as in Spring, and of duplicates the last one counts, because the last one wins.
    pub fn new(application: &str, profiles: &str, label: Option<&str>) -> Result<Self, InvalidQuery> {
        let query = Self {
            application: application.replace("(_)", "/"),
            profiles: names(profiles),
            label: label.map(|label| label.replace("(_)", "/")),
        };
        // The whole text first: an empty label or application is invalid, while a list of empty elements is not.
        let whole = [Some(&query.application), query.label.as_ref()];
        if !whole.into_iter().flatten().all(|name| is_safe(name)) {
            return Err(InvalidQuery::Name);
        }
        query.checked()
    }

    fn checked(mut self) -> Result<Self, InvalidQuery> {
        if self.profiles.is_empty() {
            self.profiles.push(DEFAULT_PROFILE.to_owned());
        }
        let (applications, labels) = (
            names(&self.application),
            names(self.label.as_deref().unwrap_or_default()),
        );
        let parts = self.profiles.iter().chain(&applications).chain(&labels);
        if applications.is_empty() || !parts.into_iter().all(|name| is_safe(name)) {
            return Err(InvalidQuery::Name);
        }
        let lookups = labels.len().max(1) * (1 + applications.len()) * (1 + self.profiles.len());
        if applications.len() > MAX_APPLICATIONS
            || self.profiles.len() > MAX_PROFILES
            || labels.len() > MAX_LABELS
            || lookups > MAX_LOOKUPS
        {
            return Err(InvalidQuery::TooMany);
        }
        Ok(self)
    }

    /// Parses a flat form such as `feed-config-prod.yml`: everything before the last `-` is the application. Profiles that contain `-` are not
    /// supported in this form, as in Spring.
    pub fn flat(file: &str, label: Option<&str>) -> Result<(Self, Form), InvalidQuery> {
        let (stem, extension) = file.rsplit_once('.').ok_or(InvalidQuery::FlatForm)?;
        let form = Form::of_extension(extension).ok_or(InvalidQuery::FlatForm)?;
        let (application, profiles) = stem.rsplit_once('-').ok_or(InvalidQuery::FlatForm)?;
        Ok((Self::new(application, profiles, label)?, form))
    }

    /// Returns the labels in the order of the request, each once; one `None` when the request names none.
    #[must_use]
    pub fn labels(&self) -> Vec<Option<String>> {
        let labels = names(self.label.as_deref().unwrap_or_default());
        if labels.is_empty() {
            vec![None]
        } else {
            labels.into_iter().map(Some).collect()
        }
    }

    /// Returns file names without extension, highest precedence first: with a profile before without, a later profile before an earlier one, an
    /// application before the shared one.
    #[must_use]
    pub fn stems(&self) -> Vec<String> {
        let mut applications = names(&self.application);
        applications.reverse();
        applications.retain(|name| name != SHARED);
        applications.push(SHARED.to_owned());
        self.profiles
            .iter()
            .rev()
            .flat_map(|profile| applications.iter().map(move |name| format!("{name}-{profile}")))
            .chain(applications.iter().cloned())
            .collect()
    }

    /// Returns the applications, which also name folders that are searched first for plain files.
    #[must_use]
    pub fn applications(&self) -> Vec<String> {
        names(&self.application)
    }
}

/// Splits a list at its commas; of duplicates the last one is kept.
fn names(list: &str) -> Vec<String> {
    let mut seen = HashSet::new();
    let names = list.split(',').map(str::trim).filter(|name| !name.is_empty());
    let mut names: Vec<_> = names
        .rev()
        .filter(|name| seen.insert(*name))
        .map(str::to_owned)
        .collect();
    names.reverse();
    names
}

impl Form {
    /// Returns the form for a file extension; none for other files.
    #[must_use]
    pub fn of_extension(extension: &str) -> Option<Self> {
        match extension {
            "yml" | "yaml" => Some(Self::Yaml),
            "properties" => Some(Self::Properties),
            "json" => Some(Self::Json),
            _ => None,
        }
    }

    /// Returns whether a path segment is a flat form rather than a profile.
    #[must_use]
    pub fn is_flat(segment: &str) -> bool {
        segment
            .rsplit_once('.')
            .is_some_and(|(_, extension)| Self::of_extension(extension).is_some())
    }
}

/// Returns whether a name of a request may become part of a path inside the source.
#[must_use]
pub fn is_safe(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 255
        && !name.contains(['\\', '\0'])
        && !name.starts_with('/')
        && name.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_dash_separates_application_and_profiles() {
        let (query, form) = Query::flat("feed-config-prod,eu.yml", Some("release(_)1")).unwrap();
        assert_eq!(query.application, "feed-config");
        assert_eq!(query.profiles, ["prod", "eu"]);
        assert_eq!(query.label.as_deref(), Some("release/1"));
        assert_eq!(form, Form::Yaml);
    }

    #[test]
    fn names_cannot_leave_the_source() {
        for name in ["..", "a/../b", "/etc", "a\\b", "a\0", ".", "prod,.."] {
            assert_eq!(Query::new("feed-config", name, None), Err(InvalidQuery::Name), "{name}");
        }
        for name in ["..", "a/../b", "", "/etc", "a(_)(_)b", "a\\b", "a\0", ".", "(_)etc"] {
            assert_eq!(Query::new(name, "default", None), Err(InvalidQuery::Name), "{name}");
            assert_eq!(
                Query::new("feed-config", "default", Some(name)),
                Err(InvalidQuery::Name),
                "{name}"
            );
        }
    }

    #[test]
    fn duplicates_and_empty_names_of_a_list_are_skipped() {
        let query = Query::new("b,,a,b,", "dev,,prod,dev,", Some(",v1,v2,,v1")).unwrap();
        assert_eq!(query.profiles, ["prod", "dev"]);
        assert_eq!(query.applications(), ["a", "b"]);
        assert_eq!(query.labels(), [Some("v2".to_owned()), Some("v1".to_owned())]);
        for profiles in ["", ",", " , "] {
            assert_eq!(
                Query::new("a", profiles, None).unwrap().profiles,
                ["default"],
                "{profiles:?}"
            );
        }
        for application in [",", " "] {
            assert_eq!(
                Query::new(application, "dev", None),
                Err(InvalidQuery::Name),
                "{application:?}"
            );
        }
        let (query, _) = Query::flat("demo-dev,.yml", None).unwrap();
        assert_eq!(query.profiles, ["dev"]);
    }

    #[test]
    fn lookups_of_one_request_are_bounded() {
        let many = |name: &str, count: usize| (0..count).map(|n| format!("{name}{n}")).collect::<Vec<_>>().join(",");
        for (applications, profiles, labels) in [(17, 1, 1), (1, 65, 1), (1, 1, 17), (16, 64, 4)] {
            let query = Query::new(&many("a", applications), &many("p", profiles), Some(&many("l", labels)));
            assert_eq!(query, Err(InvalidQuery::TooMany), "{applications} {profiles} {labels}");
        }
        assert!(Query::new(&many("a", 4), &many("p", 64), Some(&many("l", 4))).is_ok());
        let same = vec!["p"; 10_000].join(",");
        assert_eq!(Query::new("a", &same, None).unwrap().profiles, ["p"]);
    }

    #[test]
    fn a_flat_form_needs_a_profile_and_a_known_extension() {
        for file in ["feed.yml", "feed-prod", "feed-prod.exe"] {
            assert_eq!(Query::flat(file, None), Err(InvalidQuery::FlatForm), "{file}");
        }
    }
}
