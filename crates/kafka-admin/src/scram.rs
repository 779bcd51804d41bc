//! The users of SCRAM (RFC 5802), which Kafka stores in its metadata.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::AlterUserScramCredentialsRequest;
use kafka_protocol::messages::alter_user_scram_credentials_request::{
    ScramCredentialDeletion, ScramCredentialUpsertion,
};
use kafka_protocol::protocol::StrBytes;
use sha2::{Sha256, Sha512};
use sosohappy_common::clock::Entropy;
use sosohappy_common::settings::Mechanism;

use crate::{Admin, AdminError, refusal};

/// The lowest number that Kafka accepts. Passwords of services are random: more iterations would not make them safer.
const ITERATIONS: u32 = 4096;

const SALT_BYTES: usize = 32;

fn mechanism_code(mechanism: Mechanism) -> Result<i8, AdminError> {
    match mechanism {
        Mechanism::ScramSha256 => Ok(1),
        Mechanism::ScramSha512 => Ok(2),
        Mechanism::Plain | Mechanism::OauthBearer => Err(AdminError::Settings(format!(
            "{} has no users that a broker stores",
            mechanism.name()
        ))),
    }
}

impl Admin {
    /// Creates a SCRAM user, or changes its password. Sends the salted password only.
    pub async fn set_password(
        &mut self,
        mechanism: Mechanism,
        name: &str,
        password: &str,
        entropy: &dyn Entropy,
    ) -> Result<(), AdminError> {
        let mut salt = vec![0; SALT_BYTES];
        entropy.fill(&mut salt);
        let salted = match mechanism {
            Mechanism::ScramSha256 => {
                pbkdf2::pbkdf2_hmac_array::<Sha256, 32>(password.as_bytes(), &salt, ITERATIONS).to_vec()
            }
            _ => pbkdf2::pbkdf2_hmac_array::<Sha512, 64>(password.as_bytes(), &salt, ITERATIONS).to_vec(),
        };
        let account = ScramCredentialUpsertion::default()
            .with_name(StrBytes::from_string(name.to_owned()))
            .with_mechanism(mechanism_code(mechanism)?)
            .with_iterations(ITERATIONS.cast_signed())
            .with_salt(salt.into())
            .with_salted_password(salted.into());
        self.alter(&AlterUserScramCredentialsRequest::default().with_upsertions(vec![account]))
            .await
    }

    /// Deletes a SCRAM user. Does not fail for a user that does not exist.
    pub async fn delete_account(&mut self, mechanism: Mechanism, name: &str) -> Result<(), AdminError> {
        let account = ScramCredentialDeletion::default()
            .with_name(StrBytes::from_string(name.to_owned()))
            .with_mechanism(mechanism_code(mechanism)?);
        self.alter(&AlterUserScramCredentialsRequest::default().with_deletions(vec![account]))
            .await
    }

    async fn alter(&mut self, request: &AlterUserScramCredentialsRequest) -> Result<(), AdminError> {
        let response = self.connection.call(request, 0).await?;
        for result in response.results {
            // RESOURCE_NOT_FOUND: the user to delete does not exist.
            if result.error_code != 0 && result.error_code != ResponseError::ResourceNotFound.code() {
                return Err(refusal(result.error_code, result.error_message.as_deref()));
            }
        }
        Ok(())
    }
}
