//! Times as numbers.

use std::time::{Duration, Instant};

use anyhow::Context;
use hdrhistogram::Histogram;

/// Microseconds, rounded down.
pub(crate) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// A histogram's value at this part of its counts.
pub(crate) fn quantile(times: &Histogram<u64>, part: f64) -> f64 {
    times.value_at_quantile(part) as f64
}

/// The middle time of one run of `work`, in nanoseconds. Others on the machine stretch some runs, not the middle one.
pub(crate) fn middle(
    runs: usize,
    mut work: impl FnMut() -> anyhow::Result<()>,
) -> anyhow::Result<f64> {
    let mut times = Histogram::<u64>::new(3)?;
    // The first runs load caches and pages.
    for run in 0..runs + runs / 10 {
        let begin = Instant::now();
        work()?;
        let time = u64::try_from(begin.elapsed().as_nanos()).context("a run of centuries")?;
        if run >= runs / 10 {
            times.saturating_record(time);
        }
    }
    Ok(quantile(&times, 0.5))
}
