use std::time::{Duration, Instant};

use sosohappy_testkit::{Bed, on_both_engines};

use super::{DATE, Dm, message, two};

/// Frames a minute. Few, so that they are stored soon on a slow machine, and the first refusal comes.
const RATE: usize = 30;

on_both_engines!(a_flood_of_valid_frames_is_limited_and_slows_no_others);

async fn a_flood_of_valid_frames_is_limited_and_slows_no_others(bed: Bed) {
    let dm = Dm::start_with(&bed, &[("sockets.frames-per-minute", "30")]).await;
    let (kim, lee) = two(&bed).await;
    let (mina, nari) = (
        bed.person("mina@example.com+kakao", "mina").await,
        bed.person("nari@example.com+kakao", "nari").await,
    );
    let (mut from, mut to) = (dm.connect(&mina).await, dm.connect(&nari).await);

    let mut flooding = dm.connect(&kim).await;
    let flood = tokio::spawn(async move {
        let mut refused = 0;
        for number in 0..6_000 {
            let text = format!("flood {number}");
            if flooding
                .try_send(message("kim", "lee", DATE + number, &text).to_string())
                .await
                .is_err()
            {
                break;
            }
        }
        // The answers: errors that say so, then the closing.
        loop {
            match flooding.text_or_code().await {
                Ok(text) => {
                    assert!(text.contains(r#""code":"rate-limited""#), "{text}");
                    refused += 1;
                }
                Err(code) => return (refused, code),
            }
        }
    });
    let began = Instant::now();
    let mut slowest = Duration::ZERO;
    for number in 0..20 {
        let sent = Instant::now();
        let frame = message("mina", "nari", DATE + number, "hello");
        from.send(frame.to_string()).await;
        assert_eq!(to.json().await, frame);
        slowest = slowest.max(sent.elapsed());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // A machine that is busy with other tests may stall.
    assert!(slowest < Duration::from_secs(20), "{slowest:?}");

    let (refused, code) = flood.await.expect("no panic");
    assert_eq!(code, Some(4429), "after {refused} refusals");
    // A minute's worth at once, and what came back since.
    let most = RATE + usize::try_from(began.elapsed().as_secs() * 2 + 2).expect("a short test");
    assert!((RATE..=most).contains(&refused), "{refused}");
    let stored = dm.history(&lee, "kim").await;
    let stored = stored.as_array().expect("a list").len();
    assert!((1..=most).contains(&stored), "{stored}");
}
