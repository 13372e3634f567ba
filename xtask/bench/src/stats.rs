//! Times as numbers.

use std::time::{Duration, Instant};

use anyhow::Context;
use hdrhistogram::Histogram;

/// For counts and times: what is above 10^11 of whatever unit is counted as that.
pub(crate) fn histogram() -> anyhow::Result<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1, 100_000_000_000, 3)?)
}

/// Microseconds, rounded down.
pub(crate) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// A histogram's value at this part of its counts.
pub(crate) fn quantile(times: &Histogram<u64>, part: f64) -> f64 {
    times.value_at_quantile(part) as f64
}

/// The time of one run of work, in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    /// A tenth of the runs took no longer: what it costs while nobody else is on the core.
    pub(crate) p10: f64,
    pub(crate) p50: f64,
}

/// Runs `work` so many times.
pub(crate) fn cost(
    runs: usize,
    mut work: impl FnMut() -> anyhow::Result<()>,
) -> anyhow::Result<Cost> {
    let mut times = histogram()?;
    // The first runs load caches and pages.
    for run in 0..runs + runs / 10 {
        let begin = Instant::now();
        work()?;
        let time = u64::try_from(begin.elapsed().as_nanos()).context("a run of centuries")?;
        if run >= runs / 10 {
            times.saturating_record(time);
        }
    }
    Ok(Cost {
        p10: quantile(&times, 0.1),
        p50: quantile(&times, 0.5),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_times_are_counted_as_they_are() {
        let mut times = histogram().unwrap();
        times.saturating_record(micros(Duration::from_secs(60)));
        assert!((quantile(&times, 0.5) / 6e7 - 1.0).abs() < 0.002);
    }
}
