//! Password hashes: argon2id, computed outside the async workers and by few at a time.

use std::sync::Arc;

use argon2::{Algorithm, Argon2, Params, PasswordHash, PasswordHasher as _, PasswordVerifier as _, Version};
use prometheus::IntCounter;
use sosohappy_common::clock::Entropy;
use tokio::sync::Semaphore;

use crate::domain::email::Password;
use crate::error::Error;
use crate::settings::{PasswordCost, PasswordSettings};

/// RFC 9106, section 3.1.
const SALT_BYTES: usize = 16;

/// Computes hashes. Each takes `passwords.memory` and some 20 ms of a core, so that their number at one time is limited.
#[derive(Debug)]
pub struct Passwords {
    running: Arc<Semaphore>,
    admitted: Arc<Semaphore>,
    computed: IntCounter,
}

/// The outcome of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verified {
    pub matches: bool,
    /// Whether the stored hash was computed with another cost than that of the settings.
    pub is_outdated: bool,
}

impl Passwords {
    /// `computed` counts the hashes.
    pub fn new(settings: &PasswordSettings, computed: IntCounter) -> Self {
        Self {
            running: Arc::new(Semaphore::new(settings.at_once)),
            admitted: Arc::new(Semaphore::new(settings.at_once + settings.waiting)),
            computed,
        }
    }

    /// Returns the hash of a password in the PHC string format.
    ///
    /// # Errors
    /// [`Error::PasswordsBusy`] where too many others wait.
    pub async fn hash(&self, cost: PasswordCost, password: Password, entropy: &dyn Entropy) -> Result<String, Error> {
        let mut salt = [0; SALT_BYTES];
        entropy.fill(&mut salt);
        let computed = self.computed.clone();
        self.run(move || Hasher::new(cost, computed)?.hash(&password, &salt))
            .await
    }

    /// Compares a password with a stored hash. Without one it computes a hash all the same, and does not match.
    ///
    /// # Errors
    /// [`Error::PasswordsBusy`] where too many others wait.
    pub async fn verify(
        &self,
        cost: PasswordCost,
        password: Password,
        stored: Option<String>,
    ) -> Result<Verified, Error> {
        let computed = self.computed.clone();
        self.run(move || {
            let hasher = Hasher::new(cost, computed)?;
            let Some(stored) = stored else {
                hasher.hash(&password, &[0; SALT_BYTES])?;
                return Ok(Verified {
                    matches: false,
                    is_outdated: false,
                });
            };
            let stored = PasswordHash::new(&stored).map_err(Error::hashing)?;
            Ok(Verified {
                matches: hasher.matches(&password, &stored),
                is_outdated: Params::try_from(&stored).ok().as_ref() != Some(hasher.argon2.params()),
            })
        })
        .await
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let admitted = self.admitted.clone().try_acquire_owned();
        let admitted = admitted.map_err(|_| Error::PasswordsBusy)?;
        let running = self.running.clone().acquire_owned().await;
        let running = running.map_err(|_| Error::PasswordsBusy)?;
        let done = tokio::task::spawn_blocking(move || {
            let result = work();
            // The permits belong to the work: a client that disconnects does not make room for another computation.
            drop((admitted, running));
            result
        });
        done.await.map_err(Error::hashing)?
    }
}

/// Argon2id of one cost, which counts the hashes that it computes.
struct Hasher {
    argon2: Argon2<'static>,
    computed: IntCounter,
}

impl Hasher {
    fn new(cost: PasswordCost, computed: IntCounter) -> Result<Self, Error> {
        let params = Params::new(
            cost.memory,
            cost.iterations,
            cost.parallelism,
            Some(Params::DEFAULT_OUTPUT_LEN),
        );
        let params = params.map_err(Error::hashing)?;
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        Ok(Self { argon2, computed })
    }

    fn hash(&self, password: &Password, salt: &[u8]) -> Result<String, Error> {
        self.computed.inc();
        let hash = self.argon2.hash_password_with_salt(password.expose().as_bytes(), salt);
        Ok(hash.map_err(Error::hashing)?.to_string())
    }

    fn matches(&self, password: &Password, stored: &PasswordHash) -> bool {
        self.computed.inc();
        let verified = self.argon2.verify_password(password.expose().as_bytes(), stored);
        // Any other error of the comparison would be one of the stored hash, which was read before.
        verified.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use sosohappy_common::clock::SystemEntropy;

    use super::*;

    const COST: PasswordCost = PasswordCost {
        memory: 64,
        iterations: 1,
        parallelism: 1,
    };

    fn passwords(at_once: usize, waiting: usize) -> Passwords {
        let settings = PasswordSettings {
            cost: COST,
            at_once,
            waiting,
        };
        Passwords::new(&settings, IntCounter::new("computed", "Hashes").unwrap())
    }

    fn password(text: &str) -> Password {
        Password::shown(text).unwrap()
    }

    #[tokio::test]
    async fn a_password_matches_its_own_hash_only() {
        let passwords = passwords(1, 1);
        let stored = passwords
            .hash(COST, password("good one"), &SystemEntropy)
            .await
            .unwrap();
        assert!(stored.starts_with("$argon2id$v=19$m=64,t=1,p=1$"), "{stored}");
        let again = passwords
            .hash(COST, password("good one"), &SystemEntropy)
            .await
            .unwrap();
        assert_ne!(stored, again, "each hash has its own salt");
        let verify = async |text, stored| passwords.verify(COST, password(text), stored).await.unwrap();
        assert!(verify("good one", Some(stored.clone())).await.matches);
        assert!(!verify("good onE", Some(stored)).await.matches);
        assert!(!verify("good one", None).await.matches);
    }

    /// Otherwise the time of the answer would tell whether an address has an account. Both are computed by one [`Hasher`], at one cost.
    #[tokio::test]
    async fn a_comparison_without_a_stored_hash_computes_one_too() {
        let passwords = passwords(1, 1);
        let stored = passwords.hash(COST, password("good one"), &SystemEntropy).await;
        let stored = stored.unwrap();
        assert_eq!(passwords.computed.get(), 1);
        for (computed, stored) in [(2, Some(stored)), (3, None)] {
            passwords.verify(COST, password("another one"), stored).await.unwrap();
            assert_eq!(passwords.computed.get(), computed);
        }
    }

    #[tokio::test]
    async fn a_hash_of_another_cost_matches_and_is_outdated() {
        let passwords = passwords(1, 1);
        let stored = passwords
            .hash(COST, password("good one"), &SystemEntropy)
            .await
            .unwrap();
        let dearer = PasswordCost { iterations: 2, ..COST };
        for (cost, is_outdated) in [(COST, false), (dearer, true)] {
            let verified = passwords
                .verify(cost, password("good one"), Some(stored.clone()))
                .await
                .unwrap();
            let expected = Verified {
                matches: true,
                is_outdated,
            };
            assert_eq!(verified, expected);
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_number_of_computations_is_limited_also_when_clients_leave() {
        let passwords = passwords(1, 1);
        let (release, gate) = std::sync::mpsc::channel::<()>();
        let first = passwords.run(move || gate.recv().map_err(Error::hashing));
        // The client leaves while its computation runs.
        assert!(
            tokio::time::timeout(std::time::Duration::from_millis(50), first)
                .await
                .is_err()
        );
        let second = tokio::spawn({
            let passwords = Passwords {
                running: passwords.running.clone(),
                admitted: passwords.admitted.clone(),
                computed: passwords.computed.clone(),
            };
            async move { passwords.run(|| Ok(())).await }
        });
        while passwords.admitted.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        let third = passwords.run(|| Ok(())).await;
        assert!(matches!(third, Err(Error::PasswordsBusy)), "{third:?}");
        release.send(()).unwrap();
        second.await.unwrap().unwrap();
        passwords.run(|| Ok(())).await.unwrap();
    }
}
