//! Contract tests of every store, on each engine. Real engines come from `SOSOHAPPY_TEST_MYSQL` and
//! `SOSOHAPPY_TEST_MONGODB`.

mod bed;
mod crash;
mod directory;
mod leases;
mod on_mongodb;
mod on_mysql;
mod on_sqlite;
mod outbox;
mod secure;
mod sweeper;

/// Makes of each function, which takes a [`bed::Bed`], a test on each engine.
macro_rules! on_all_engines {
    ($($test:ident),+ $(,)?) => { $(
        mod $test {
            use crate::bed::{Engine, run};

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn sqlite() {
                run(Engine::Sqlite, super::$test).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn mysql() {
                run(Engine::Mysql, super::$test).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn mongodb() {
                run(Engine::Mongodb, super::$test).await;
            }
        }
    )+ };
}
pub(crate) use on_all_engines;
