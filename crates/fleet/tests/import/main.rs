//! `fleet import spring` and `fleet export spring`, from MariaDB and MongoDB into both engine sets.

/// Makes a test for each engine set as a target; the legacy databases are on the real engines either way.
macro_rules! on_both_targets {
    ($($test:ident),+ $(,)?) => {$(
        mod $test {
            use sosohappy_testkit::{Bed, EngineSet};

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn embedded() {
                if EngineSet::real_is_there() {
                    super::$test(Bed::new(EngineSet::Embedded).await).await;
                }
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn real() {
                if EngineSet::real_is_there() {
                    super::$test(Bed::new(EngineSet::Real).await).await;
                }
            }
        }
    )+};
}

mod accounts;
mod apis;
mod dirty;
mod export;
mod legacy;
mod messages;
mod moving;
mod moving_accounts;
mod moving_messages;
mod moving_notices;
mod posts;
mod running;
mod statements;
