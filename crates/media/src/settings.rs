//! The settings section `images` of the services that store pictures.

use schemars::JsonSchema;
use serde::Deserialize;
use sosohappy_common::settings::{SecretUrl, valid};

use crate::Bounds;

/// The object store of a service, and the limits of one picture.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(deny_unknown_fields)]
pub struct ImageSettings {
    pub url: SecretUrl,
    #[serde(deserialize_with = "valid::at_least_one")]
    #[schemars(range(min = 1))]
    pub max_bytes: usize,
    #[serde(deserialize_with = "valid::at_least_one")]
    #[schemars(range(min = 1))]
    pub max_pixels: u64,
}

impl ImageSettings {
    /// Returns the limits of one picture.
    #[must_use]
    pub fn bounds(&self) -> Bounds {
        Bounds {
            bytes: self.max_bytes,
            pixels: self.max_pixels,
        }
    }
}
