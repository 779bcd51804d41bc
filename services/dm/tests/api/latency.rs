use super::*;
use sosohappy_testkit::on_both_engines;
on_both_engines!(lat);
async fn lat(bed: Bed) {
    let dm = Dm::start(&bed).await;
    let (kim, lee) = two(&bed).await;
    let (mut from, mut to) = (dm.connect(&kim).await, dm.connect(&lee).await);
    let mut times = vec![];
    for n in 0..200 {
        let t = std::time::Instant::now();
        from.send(message("kim", "lee", DATE + n, "x").to_string()).await;
        to.json().await;
        times.push(t.elapsed());
    }
    times.sort();
    println!("LATENCY {:?} p50 {:?} p99 {:?}", bed.set, times[100], times[198]);
}
