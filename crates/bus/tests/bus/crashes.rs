//! State after a process is killed: `kill -9`, with real processes.

use std::io::{BufRead as _, BufReader, Lines};
use std::process::{Child, ChildStdout, Command, Stdio};

use sosohappy_bus::Start;
use sosohappy_events::Topic;

use crate::spread;
use crate::support::{Bench, numbers, read, soon, take, value, values};

crate::on_both!(
    gets_what_a_process_held_that_was_killed,
    keeps_what_was_acknowledged_when_the_publisher_is_killed,
);

/// Runs one of the `child_…` tests below in a process of its own; answers its lines.
fn child(bench: &Bench, name: &str) -> (Child, Lines<BufReader<ChildStdout>>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--ignored", "--nocapture"])
        .env("CHILD_URL", &bench.url)
        .env("CHILD_PREFIX", &bench.prefix)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    (child, lines)
}

fn kill(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

fn bench_of_child() -> Bench {
    Bench::new(
        std::env::var("CHILD_URL").unwrap(),
        std::env::var("CHILD_PREFIX").unwrap(),
    )
}

#[tokio::test]
#[ignore = "only as a child process"]
async fn child_that_holds_a_record() {
    let bus = bench_of_child().open().await;
    let mut member = bus.join("group", &[Topic::Notice]).await.unwrap();
    let held = soon(member.next()).await.unwrap();
    println!("holding {}", value(&held));
    std::future::pending::<()>().await;
}

async fn gets_what_a_process_held_that_was_killed(bench: Bench) {
    bench.open().await.publish(&spread(0..80)).await.unwrap();
    let (child, mut lines) = child(&bench, "crashes::child_that_holds_a_record");
    let holding = tokio::task::spawn_blocking(move || lines.any(|line| line.unwrap().contains("holding")));
    assert!(soon(holding).await.unwrap(), "the child got a record");
    let bus = if bench.is_kafka() {
        let bus = bench.open().await;
        kill(child);
        bus
    } else {
        let refused = bench.try_open().await.unwrap_err();
        assert!(
            refused
                .to_string()
                .contains(&format!("in use by process {}", child.id())),
            "{refused}"
        );
        kill(child);
        bench.open().await
    };
    let mut heir = bus.join("group", &[Topic::Notice]).await.unwrap();
    assert_eq!(
        values(&take(&mut *heir, 80).await),
        numbers(0..80),
        "the record it held as well"
    );
}

#[tokio::test]
#[ignore = "only as a child process"]
async fn child_that_publishes() {
    let bus = bench_of_child().open().await;
    for number in 0_u32.. {
        bus.publish(&spread(number..number + 1)).await.unwrap();
        println!("acknowledged {number}");
    }
}

async fn keeps_what_was_acknowledged_when_the_publisher_is_killed(bench: Bench) {
    let (child, mut lines) = child(&bench, "crashes::child_that_publishes");
    let acknowledged = tokio::task::spawn_blocking(move || {
        let numbers = (&mut lines).filter_map(|line| line.unwrap().split_once("acknowledged ")?.1.parse::<u32>().ok());
        let half = numbers.take(300).last().unwrap();
        kill(child);
        // Output between the last read and the end of the process counts as well; its last line may be torn.
        let rest = lines
            .map_while(Result::ok)
            .filter_map(|line| line.split_once("acknowledged ")?.1.parse().ok());
        rest.filter(|number| *number < 1_000_000)
            .max()
            .unwrap_or(half)
            .max(half)
    });
    let acknowledged = soon(acknowledged).await.unwrap();
    let bus = bench.open().await;
    let mut reader = bus.read(&[Topic::Notice], Start::Earliest).await.unwrap();
    let count = usize::try_from(acknowledged).unwrap() + 1;
    let records = read(&mut *reader, count).await;
    let mut seen: Vec<u32> = records.iter().map(|record| value(record).parse().unwrap()).collect();
    // One more may have been published, and not yet acknowledged.
    if !reader.caught_up() {
        seen.push(value(&soon(reader.next()).await.unwrap()).parse().unwrap());
    }
    seen.sort_unstable();
    assert!(
        (0..=acknowledged).all(|number| seen.binary_search(&number).is_ok()),
        "{acknowledged}: {seen:?}"
    );
    assert!(seen.windows(2).all(|pair| pair[0] < pair[1]), "each once: {seen:?}");
}
