//! `events.security`: authentication of Kafka's clients and brokers.

use std::path::PathBuf;

use schemars::JsonSchema;
use secrecy::SecretString;
use serde::Deserialize;

use super::schema;
use super::secret_url::HttpUrl;

/// TLS and SASL of the clients of Kafka, each optional: without both, the protocol is `plaintext`.
///
/// Read from `SecurityFields`, which refuses contradictory keys.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(try_from = "SecurityFields")]
pub struct Security {
    pub tls: Option<Tls>,
    pub sasl: Option<Sasl>,
}

impl Security {
    /// Returns the protocol by the name in `security.protocol` of Kafka's clients.
    #[must_use]
    pub const fn protocol(&self) -> Protocol {
        match (&self.tls, &self.sasl) {
            (None, None) => Protocol::Plaintext,
            (Some(_), None) => Protocol::Ssl,
            (None, Some(_)) => Protocol::SaslPlaintext,
            (Some(_), Some(_)) => Protocol::SaslSsl,
        }
    }
}

/// The authorities that verify a broker's certificate, and the certificate of the client.
#[derive(Debug, Clone, Default)]
pub struct Tls {
    /// Certificate authorities, PEM; `None` for those of the system.
    pub ca: Option<PathBuf>,
    pub client: Option<ClientCertificate>,
}

/// A client's certificate and its key, for mutual TLS.
#[derive(Debug, Clone)]
pub struct ClientCertificate {
    /// The certificate and its chain, PEM.
    pub certificate: PathBuf,
    /// PKCS#8, PEM.
    pub key: PathBuf,
    pub key_password: Option<SecretString>,
}

/// The SASL mechanism with its credentials.
#[derive(Debug, Clone)]
pub enum Sasl {
    Plain(Login),
    ScramSha256(Login),
    ScramSha512(Login),
    OauthBearer(OauthClient),
}

impl Sasl {
    /// Returns the mechanism by its registered name, `sasl.mechanism`.
    #[must_use]
    pub const fn mechanism(&self) -> Mechanism {
        match self {
            Self::Plain(_) => Mechanism::Plain,
            Self::ScramSha256(_) => Mechanism::ScramSha256,
            Self::ScramSha512(_) => Mechanism::ScramSha512,
            Self::OauthBearer(_) => Mechanism::OauthBearer,
        }
    }
}

#[derive(Debug, Clone)]
pub struct Login {
    pub username: String,
    pub password: SecretString,
}

/// A client of an `OAuth` 2.0 token endpoint with the client-credentials grant (RFC 6749, section 4.4).
#[derive(Debug, Clone)]
pub struct OauthClient {
    pub token_url: HttpUrl,
    pub client_id: String,
    pub client_secret: SecretString,
    pub scope: Option<String>,
    /// Certificate authorities of the token endpoint beside the system's, PEM.
    pub ca: Option<PathBuf>,
}

/// Kafka's names of the four protocols.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    #[default]
    Plaintext,
    Ssl,
    SaslPlaintext,
    SaslSsl,
}

impl Protocol {
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Plaintext => "plaintext",
            Self::Ssl => "ssl",
            Self::SaslPlaintext => "sasl_plaintext",
            Self::SaslSsl => "sasl_ssl",
        }
    }
}

/// The mechanisms of Kafka's brokers except Kerberos.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum Mechanism {
    #[serde(rename = "PLAIN")]
    Plain,
    #[serde(rename = "SCRAM-SHA-256")]
    ScramSha256,
    #[serde(rename = "SCRAM-SHA-512")]
    ScramSha512,
    #[serde(rename = "OAUTHBEARER")]
    OauthBearer,
}

impl Mechanism {
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
            Self::OauthBearer => "OAUTHBEARER",
        }
    }
}

/// The keys of `events.security` before they are validated.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", default)]
#[schemars(deny_unknown_fields)]
pub struct SecurityFields {
    /// `plaintext`, `ssl`, `sasl_plaintext` or `sasl_ssl`.
    pub protocol: Protocol,
    /// Certificate authorities of the brokers, PEM. Unset: the system's.
    pub ca: Option<PathBuf>,
    /// The client's certificate, PEM, with `key`.
    pub certificate: Option<PathBuf>,
    /// The key of `certificate`, PKCS#8 in PEM.
    pub key: Option<PathBuf>,
    #[schemars(schema_with = "schema::optional_secret")]
    pub key_password: Option<SecretString>,
    /// `PLAIN`, `SCRAM-SHA-256`, `SCRAM-SHA-512` or `OAUTHBEARER`.
    pub mechanism: Option<Mechanism>,
    pub username: Option<String>,
    #[schemars(schema_with = "schema::optional_secret")]
    pub password: Option<SecretString>,
    /// The source of tokens of `OAUTHBEARER`.
    pub oauth: Option<OauthFields>,
}

/// The keys of `events.security.oauth`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", default)]
#[schemars(deny_unknown_fields)]
pub struct OauthFields {
    /// The token endpoint, asked with the client-credentials grant.
    pub token_url: Option<HttpUrl>,
    pub client_id: Option<String>,
    #[schemars(schema_with = "schema::optional_secret")]
    pub client_secret: Option<SecretString>,
    pub scope: Option<String>,
    /// Certificate authorities of the token endpoint beside the system's, PEM.
    pub ca: Option<PathBuf>,
}

impl TryFrom<SecurityFields> for Security {
    type Error = String;

    fn try_from(fields: SecurityFields) -> Result<Self, String> {
        let protocol = fields.protocol;
        let (uses_tls, uses_sasl) = match protocol {
            Protocol::Plaintext => (false, false),
            Protocol::Ssl => (true, false),
            Protocol::SaslPlaintext => (false, true),
            Protocol::SaslSsl => (true, true),
        };
        // A key without effect is refused: usually the protocol was forgotten, and the connection would be neither encrypted nor
        // authenticated.
        let present = [
            ("ca", uses_tls, fields.ca.is_some()),
            ("certificate", uses_tls, fields.certificate.is_some()),
            ("key", uses_tls, fields.key.is_some()),
            ("key-password", uses_tls, fields.key_password.is_some()),
            ("mechanism", uses_sasl, fields.mechanism.is_some()),
            ("username", uses_sasl, fields.username.is_some()),
            ("password", uses_sasl, fields.password.is_some()),
            ("oauth", uses_sasl, fields.oauth.is_some()),
        ];
        if let Some((key, ..)) = present.into_iter().find(|(_, used, present)| *present && !used) {
            let name = protocol.name();
            return Err(format!("`{key}` has no effect with the protocol `{name}`"));
        }
        Ok(Self {
            sasl: uses_sasl.then(|| sasl(&fields)).transpose()?,
            tls: uses_tls.then(|| tls(fields)).transpose()?,
        })
    }
}

fn tls(fields: SecurityFields) -> Result<Tls, String> {
    let client = match (fields.certificate, fields.key) {
        (Some(certificate), Some(key)) => Some(ClientCertificate {
            certificate,
            key,
            key_password: fields.key_password,
        }),
        (None, None) if fields.key_password.is_some() => return Err("`key-password` needs `key`".to_owned()),
        (None, None) => None,
        (Some(_), None) => return Err("`certificate` needs `key`".to_owned()),
        (None, Some(_)) => return Err("`key` needs `certificate`".to_owned()),
    };
    Ok(Tls { ca: fields.ca, client })
}

fn sasl(fields: &SecurityFields) -> Result<Sasl, String> {
    let mechanism = fields
        .mechanism
        .ok_or_else(|| format!("the protocol `{}` needs `mechanism`", fields.protocol.name()))?;
    let needs = |key: &str| format!("the mechanism `{}` needs `{key}`", mechanism.name());
    let refuses = |key: &str| format!("`{key}` has no effect with the mechanism `{}`", mechanism.name());
    if mechanism == Mechanism::OauthBearer {
        if fields.username.is_some() {
            return Err(refuses("username"));
        }
        if fields.password.is_some() {
            return Err(refuses("password"));
        }
        let oauth = fields.oauth.clone().unwrap_or_default();
        return Ok(Sasl::OauthBearer(OauthClient {
            token_url: oauth.token_url.ok_or_else(|| needs("oauth.token-url"))?,
            client_id: oauth.client_id.ok_or_else(|| needs("oauth.client-id"))?,
            client_secret: oauth.client_secret.ok_or_else(|| needs("oauth.client-secret"))?,
            scope: oauth.scope,
            ca: oauth.ca,
        }));
    }
    if fields.oauth.is_some() {
        return Err(refuses("oauth"));
    }
    let login = Login {
        username: fields.username.clone().ok_or_else(|| needs("username"))?,
        password: fields.password.clone().ok_or_else(|| needs("password"))?,
    };
    Ok(match mechanism {
        Mechanism::Plain => Sasl::Plain(login),
        Mechanism::ScramSha256 => Sasl::ScramSha256(login),
        Mechanism::ScramSha512 | Mechanism::OauthBearer => Sasl::ScramSha512(login),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Security, String> {
        let value: serde_json::Value = serde_json::from_str(text).expect("JSON");
        serde_json::from_value(value).map_err(|error| error.to_string())
    }

    #[test]
    fn every_protocol_and_mechanism_is_read() {
        assert_eq!(read("{}").unwrap().protocol(), Protocol::Plaintext);
        let tls = read(r#"{"protocol": "ssl", "ca": "/ca", "certificate": "/crt", "key": "/key"}"#).unwrap();
        assert_eq!(tls.protocol(), Protocol::Ssl);
        assert!(tls.tls.unwrap().client.is_some());
        for (name, mechanism) in [
            ("PLAIN", Mechanism::Plain),
            ("SCRAM-SHA-256", Mechanism::ScramSha256),
            ("SCRAM-SHA-512", Mechanism::ScramSha512),
        ] {
            let text = format!(
                r#"{{"protocol": "sasl_ssl", "mechanism": "{name}", "username": "feed", "password": "hunter2"}}"#
            );
            let read = read(&text).unwrap();
            assert_eq!(read.protocol(), Protocol::SaslSsl);
            assert!(!format!("{read:?}").contains("hunter2"), "a password shows");
            assert_eq!(read.sasl.unwrap().mechanism(), mechanism);
        }
        let oauth = r#"{"protocol": "sasl_plaintext", "mechanism": "OAUTHBEARER",
            "oauth": {"token-url": "http://id/token", "client-id": "feed", "client-secret": "hunter2"}}"#;
        let read = read(oauth).unwrap();
        assert_eq!(read.protocol(), Protocol::SaslPlaintext);
        assert!(!format!("{read:?}").contains("hunter2"), "a secret shows");
        assert_eq!(read.sasl.unwrap().mechanism(), Mechanism::OauthBearer);
    }

    #[test]
    fn combinations_without_a_meaning_are_refused() {
        for (text, reason) in [
            (r#"{"ca": "/ca"}"#, "`ca` has no effect with the protocol `plaintext`"),
            (
                r#"{"protocol": "ssl", "username": "feed"}"#,
                "`username` has no effect with the protocol `ssl`",
            ),
            (
                r#"{"protocol": "sasl_plaintext", "ca": "/ca"}"#,
                "`ca` has no effect with the protocol `sasl_plaintext`",
            ),
            (
                r#"{"protocol": "ssl", "certificate": "/crt"}"#,
                "`certificate` needs `key`",
            ),
            (r#"{"protocol": "ssl", "key": "/key"}"#, "`key` needs `certificate`"),
            (
                r#"{"protocol": "ssl", "key-password": "x"}"#,
                "`key-password` needs `key`",
            ),
            (
                r#"{"protocol": "sasl_ssl"}"#,
                "the protocol `sasl_ssl` needs `mechanism`",
            ),
            (
                r#"{"protocol": "sasl_ssl", "mechanism": "SCRAM-SHA-512", "password": "x"}"#,
                "the mechanism `SCRAM-SHA-512` needs `username`",
            ),
            (
                r#"{"protocol": "sasl_ssl", "mechanism": "PLAIN", "username": "feed"}"#,
                "the mechanism `PLAIN` needs `password`",
            ),
            (
                r#"{"protocol": "sasl_ssl", "mechanism": "OAUTHBEARER"}"#,
                "the mechanism `OAUTHBEARER` needs `oauth.token-url`",
            ),
            (
                r#"{"protocol": "sasl_ssl", "mechanism": "OAUTHBEARER", "password": "x"}"#,
                "`password` has no effect with the mechanism `OAUTHBEARER`",
            ),
            (
                r#"{"protocol": "sasl_ssl", "mechanism": "PLAIN", "username": "a", "password": "b", "oauth": {}}"#,
                "`oauth` has no effect with the mechanism `PLAIN`",
            ),
        ] {
            assert_eq!(read(text).unwrap_err(), reason, "{text}");
        }
        assert!(read(r#"{"protocol": "tls"}"#).is_err(), "an unknown protocol");
    }
}
