//! Times of a figure and of its baseline, measured in rounds, in which the two take turns.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::report::{Samples, ratio};

/// Samples that a round has at least, however long they take.
const FEWEST: usize = 20;

/// How long the figures of the table are measured.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct Effort {
    /// Rounds of a figure and its baseline
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..), value_name = "NUMBER")]
    pub rounds: u32,
    /// Samples of a round, of likes at most 316
    #[arg(long, default_value_t = 200, value_name = "NUMBER")]
    pub samples: usize,
    /// Seconds of all rounds of a figure; rounds of a slow one have fewer samples, at least 20
    #[arg(long, default_value_t = 60)]
    pub seconds: u64,
}

impl Effort {
    /// Returns whether a round that began then has all of its samples, or its share of the time is used up.
    pub fn is_complete(&self, began: Instant, samples: usize) -> bool {
        let is_late = began.elapsed() * self.rounds >= Duration::from_secs(self.seconds);
        samples >= self.samples.max(1) || (is_late && samples >= FEWEST)
    }
}

/// The rounds of a figure.
#[derive(Debug, Default)]
pub struct Rounds(Vec<Round>);

#[derive(Debug)]
struct Round {
    /// In the order in which they were measured.
    times: Vec<Duration>,
    baseline: Vec<Duration>,
}

/// A figure beside its baseline, at one quantile.
#[derive(Debug)]
pub struct Comparison {
    /// Of the samples of all rounds.
    pub time: Duration,
    pub baseline: Duration,
    /// How many times as long as the baseline the figure is, by round.
    pub ratio: Spread,
}

impl Rounds {
    /// Adds a round, with the times in the order in which they were measured.
    pub fn add(&mut self, times: Vec<Duration>, baseline: Vec<Duration>) {
        self.0.push(Round { times, baseline });
    }

    /// Compares the two at a quantile in thousandths.
    pub fn compare(&self, per_mille: usize) -> Comparison {
        let at = |times: &[Duration]| Samples::new(times.to_vec()).quantile(per_mille);
        let ratios = self
            .0
            .iter()
            .map(|round| ratio(at(&round.times), at(&round.baseline)))
            .collect();
        let all = |of: fn(&Round) -> &Vec<Duration>| {
            let times = self.0.iter().flat_map(of).copied();
            Samples::new(times.collect()).quantile(per_mille)
        };
        Comparison {
            time: all(|round| &round.times),
            baseline: all(|round| &round.baseline),
            ratio: Spread::of(ratios),
        }
    }

    /// Returns all times in microseconds, by round.
    pub fn to_json(&self) -> Value {
        let rounds = self
            .0
            .iter()
            .map(|round| json!({"micros": micros(&round.times), "baselineMicros": micros(&round.baseline)}));
        rounds.collect()
    }
}

/// Returns times in microseconds.
pub fn micros(times: &[Duration]) -> Vec<u64> {
    let micros = times.iter().map(Duration::as_micros);
    micros.map(|micros| u64::try_from(micros).unwrap_or(u64::MAX)).collect()
}

/// The median of a value that was measured in each round, and how far the rounds differ.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    pub median: f64,
    pub least: f64,
    pub most: f64,
    pub rounds: usize,
}

impl Spread {
    /// Returns the spread of the values of the rounds, of which there is at least one.
    pub fn of(values: Vec<f64>) -> Self {
        Self {
            least: values.iter().copied().fold(f64::INFINITY, f64::min),
            most: values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            rounds: values.len(),
            median: median(values),
        }
    }

    /// Returns a ratio of times as text.
    pub fn times(&self) -> String {
        format!("{:.1} × the baseline {}", self.median, self.range(1))
    }

    /// Returns the least and the greatest value as text, with so many digits behind the point.
    pub fn range(&self, digits: usize) -> String {
        let Self {
            least, most, rounds, ..
        } = self;
        format!("({least:.digits$} to {most:.digits$} in {rounds} rounds)")
    }
}

/// Returns the median; of an even number of values the greater one of the two in the middle, of none NaN.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(times: &[u64]) -> Vec<Duration> {
        times.iter().copied().map(Duration::from_millis).collect()
    }

    #[test]
    fn a_ratio_is_the_median_of_the_rounds() {
        let mut rounds = Rounds::default();
        rounds.add(millis(&[4, 2, 9]), millis(&[2, 1, 3]));
        rounds.add(millis(&[3, 3, 3]), millis(&[1, 1, 1]));
        rounds.add(millis(&[10, 20, 30]), millis(&[20, 5, 30]));
        let Comparison { time, baseline, ratio } = rounds.compare(500);
        // 2 3 3 3 4 9 10 20 30, and 1 1 1 1 2 3 5 20 30.
        assert_eq!((time, baseline), (Duration::from_millis(4), Duration::from_millis(2)));
        assert_eq!(
            ratio,
            Spread {
                median: 2.0,
                least: 1.0,
                most: 3.0,
                rounds: 3
            }
        );
        assert_eq!(ratio.range(1), "(1.0 to 3.0 in 3 rounds)");
        assert_eq!(rounds.to_json()[0]["micros"], json!([4000, 2000, 9000]));
    }

    #[test]
    fn a_slow_round_ends_early_but_not_at_once() {
        let effort = Effort {
            rounds: 2,
            samples: 100,
            seconds: 0,
        };
        let began = Instant::now();
        assert!(!effort.is_complete(began, FEWEST - 1));
        assert!(effort.is_complete(began, FEWEST));
        let patient = Effort {
            seconds: 3600,
            ..effort
        };
        assert!(!patient.is_complete(began, 99));
        assert!(patient.is_complete(began, 100));
    }

    #[test]
    fn a_median_is_one_of_the_values() {
        let medians = [vec![3.0, 1.0, 2.0], vec![2.0, 1.0], Vec::new()].map(median);
        assert_eq!(format!("{medians:?}"), "[2.0, 2.0, NaN]");
    }
}
