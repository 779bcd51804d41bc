//! What a client asks for: application, profiles, label.

/// The name that stands for every application.
pub const SHARED: &str = "application";

/// An application with its profiles at a label, as the path of a request names them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    pub application: String,
    /// In the order asked; the last one wins.
    pub profiles: Vec<String>,
    pub label: Option<String>,
}

/// The text form a flat request asks for by its extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Yaml,
    Properties,
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidQuery {
    #[error("a name is empty, longer than 255 bytes, or leaves its folder")]
    Name,
    #[error("a flat form is {{application}}-{{profiles}} with .yml, .yaml, .properties or .json")]
    FlatForm,
}

impl Query {
    /// `(_)` stands for `/` in application and label; profiles are joined by commas.
    pub fn new(application: &str, profiles: &str, label: Option<&str>) -> Result<Self, InvalidQuery> {
        let profiles: Vec<_> = profiles.split(',').map(str::trim).map(ToOwned::to_owned).collect();
        let query = Self {
            application: application.replace("(_)", "/"),
            profiles,
            label: label.map(|label| label.replace("(_)", "/")),
        };
        let names = query.profiles.iter().chain([&query.application]).chain(&query.label);
        if names.into_iter().all(|name| is_safe(name)) {
            Ok(query)
        } else {
            Err(InvalidQuery::Name)
        }
    }

    /// `feed-config-prod.yml`: everything before the last `-` is the application. A profile that itself contains `-` cannot
    /// be told apart in this form and is not supported, as in Spring.
    pub fn flat(file: &str, label: Option<&str>) -> Result<(Self, Form), InvalidQuery> {
        let (stem, extension) = file.rsplit_once('.').ok_or(InvalidQuery::FlatForm)?;
        let form = Form::of_extension(extension).ok_or(InvalidQuery::FlatForm)?;
        let (application, profiles) = stem.rsplit_once('-').ok_or(InvalidQuery::FlatForm)?;
        Ok((Self::new(application, profiles, label)?, form))
    }

    /// The labels asked for, in that order; none is one that is not named.
    pub fn labels(&self) -> Vec<Option<&str>> {
        let label = self.label.as_deref().unwrap_or_default();
        let labels: Vec<_> = label
            .split(',')
            .map(str::trim)
            .filter(|label| !label.is_empty())
            .map(Some)
            .collect();
        if labels.is_empty() { vec![None] } else { labels }
    }

    /// Names of files without extension, highest precedence first: a profile's over one without, a later profile's over an earlier
    /// one's, the application's over the shared one's.
    #[must_use]
    pub fn stems(&self) -> Vec<String> {
        let mut applications: Vec<_> = self.applications().rev().filter(|name| *name != SHARED).collect();
        applications.push(SHARED);
        self.profiles
            .iter()
            .rev()
            .flat_map(|profile| applications.iter().map(move |name| format!("{name}-{profile}")))
            .chain(applications.iter().map(ToString::to_string))
            .collect()
    }

    /// The applications asked for, shared settings last: `a,b` asks for both, the last one wins.
    pub fn applications(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.application
            .split(',')
            .map(str::trim)
            .filter(|name| !name.is_empty())
    }
}

impl Form {
    #[must_use]
    pub fn of_extension(extension: &str) -> Option<Self> {
        match extension {
            "yml" | "yaml" => Some(Self::Yaml),
            "properties" => Some(Self::Properties),
            "json" => Some(Self::Json),
            _ => None,
        }
    }

    /// Whether a path segment is a flat form rather than a profile.
    #[must_use]
    pub fn is_flat(segment: &str) -> bool {
        segment
            .rsplit_once('.')
            .is_some_and(|(_, extension)| Self::of_extension(extension).is_some())
    }
}

/// Whether a name from a request may become part of a path inside the source.
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
    fn the_last_dash_parts_application_and_profiles() {
        let (query, form) = Query::flat("feed-config-prod,eu.yml", Some("release(_)1")).unwrap();
        assert_eq!(query.application, "feed-config");
        assert_eq!(query.profiles, ["prod", "eu"]);
        assert_eq!(query.label.as_deref(), Some("release/1"));
        assert_eq!(form, Form::Yaml);
    }

    #[test]
    fn names_cannot_leave_the_source() {
        for name in ["..", "a/../b", "", "/etc", "a\\b", "a\0", "."] {
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
    fn a_flat_form_needs_a_profile_and_a_known_extension() {
        for file in ["feed.yml", "feed-prod", "feed-prod.exe"] {
            assert_eq!(Query::flat(file, None), Err(InvalidQuery::FlatForm), "{file}");
        }
    }
}
