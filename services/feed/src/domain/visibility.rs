//! Audience of a post.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// From the widest audience to the narrowest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub enum Visibility {
    Public,
    /// Those whom the author follows and who follow the author.
    Friends,
    Private,
}

impl Visibility {
    /// Returns the visibility that a request asks for: `visibility` where a client knows it, else `isPublic`.
    #[must_use]
    pub fn asked(visibility: Option<Self>, is_public: bool) -> Self {
        visibility.unwrap_or(if is_public { Self::Public } else { Self::Private })
    }

    #[must_use]
    pub fn is_public(self) -> bool {
        self == Self::Public
    }

    /// Returns the visibility after the button of an app that knows public and private posts only.
    #[must_use]
    pub fn toggled(self) -> Self {
        match self {
            Self::Public => Self::Private,
            Self::Friends | Self::Private => Self::Public,
        }
    }

    /// Whether some who see a post now do not see it after this change.
    #[must_use]
    pub fn narrows_to(self, other: Self) -> bool {
        other > self
    }
}

#[cfg(test)]
mod tests {
    use super::Visibility::{Friends, Private, Public};
    use super::*;

    #[test]
    fn visibility_wins_over_is_public() {
        assert_eq!(Visibility::asked(None, true), Public);
        assert_eq!(Visibility::asked(None, false), Private);
        assert_eq!(Visibility::asked(Some(Friends), true), Friends);
    }

    #[test]
    fn a_narrower_audience_is_distinguished_from_a_wider_one() {
        assert!(Public.narrows_to(Friends) && Public.narrows_to(Private) && Friends.narrows_to(Private));
        assert!(!Friends.narrows_to(Public) && !Private.narrows_to(Friends) && !Private.narrows_to(Private));
    }
}
