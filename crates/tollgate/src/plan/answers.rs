//! How much of answers is kept for callers that lose them, and how long they are held back for callers that wait.

use std::time::Duration;

use tollgate_payment::Retention;

use crate::config::{ConfigError, LimitsSection, Source};

/// The longest answer that can be kept, in bytes: a row of the ledger holds it.
const MOST_BYTES: usize = 16 * 1024 * 1024;
/// A caller that lost its answer needs some time to notice, in seconds.
const LEAST_SECONDS: u64 = 60;
/// 30 days, in seconds: answers are the payers', and the ledger's largest rows.
const MOST_SECONDS: u64 = 30 * 86_400;
/// Who waits for longer than this for a block asks for the payment's state instead.
const MOST_WAIT: u64 = 300;

pub(crate) fn wait(limits: &LimitsSection, source: &Source) -> Result<Duration, ConfigError> {
    let seconds = *limits.wait_seconds.get_ref();
    if seconds > MOST_WAIT {
        let message = format!("0 to {MOST_WAIT}");
        return Err(source.at("limits.wait_seconds", &limits.wait_seconds, message));
    }
    Ok(Duration::from_secs(seconds))
}

pub(crate) fn retention(limits: &LimitsSection, source: &Source) -> Result<Retention, ConfigError> {
    let bytes = *limits.answer_bytes.get_ref();
    if bytes > MOST_BYTES {
        let message = format!("at most {MOST_BYTES}, which are 16 MiB");
        return Err(source.at("limits.answer_bytes", &limits.answer_bytes, message));
    }
    let (least, most) = (
        *limits.answer_seconds.get_ref(),
        *limits.answer_most_seconds.get_ref(),
    );
    if !(LEAST_SECONDS..=MOST_SECONDS).contains(&most) {
        let message = format!("{LEAST_SECONDS} to {MOST_SECONDS}, which are 30 days");
        let value = &limits.answer_most_seconds;
        return Err(source.at("limits.answer_most_seconds", value, message));
    }
    if !(LEAST_SECONDS..=most).contains(&least) {
        let message = format!("{LEAST_SECONDS} to answer_most_seconds, which is {most}");
        return Err(source.at("limits.answer_seconds", &limits.answer_seconds, message));
    }
    Ok(Retention { bytes, least, most })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::plan::Plan;

    fn read(limits: &str) -> Result<Retention, String> {
        plan(limits).map(|plan| plan.retention)
    }

    fn plan(limits: &str) -> Result<Plan, String> {
        let text = format!(
            "public_url = \"https://a.example\"\n[chain]\nid = 56\nrpc = [\"http://127.0.0.1:1\"]\n\
             [seller]\noperator_key = \"$KEY\"\n[[token]]\nsymbol = \"USD1\"\n[[model]]\nname = \"m\"\n\
             upstream = \"echo\"\ninput_usd_per_million = \"1\"\noutput_usd_per_million = \"2\"\n[limits]\n{limits}\n"
        );
        let source = Source::new("tollgate.toml", text);
        let key = format!("0x{}", "11".repeat(32));
        let environment = BTreeMap::from([("KEY".to_owned(), key)]);
        let config = source.parse().map_err(|error| error.to_string())?;
        Plan::of(config, &source, &environment).map_err(|error| error.to_string())
    }

    #[test]
    fn nobody_waits_for_longer_than_is_configured_and_by_default_for_half_a_minute() {
        for (limits, seconds) in [
            ("", 30),
            ("wait_seconds = 0", 0),
            ("wait_seconds = 300", 300),
        ] {
            assert_eq!(plan(limits).unwrap().wait, Duration::from_secs(seconds));
        }
    }

    #[test]
    fn the_retention_of_answers_is_what_is_configured_and_by_default_what_is_documented() {
        assert_eq!(read(""), Ok(Retention::default()));
        let short = Retention {
            bytes: 0,
            least: 60,
            most: 60,
        };
        let text = "answer_bytes = 0\nanswer_seconds = 60\nanswer_most_seconds = 60";
        assert_eq!(read(text), Ok(short));
    }

    #[test]
    fn a_retention_of_answers_or_a_wait_out_of_its_bounds_is_refused_at_its_line() {
        for (limits, key) in [
            ("answer_bytes = 16777217", "limits.answer_bytes"),
            ("answer_seconds = 59", "limits.answer_seconds"),
            ("answer_seconds = 604801", "limits.answer_seconds"),
            ("answer_most_seconds = 59", "limits.answer_most_seconds"),
            (
                "answer_most_seconds = 2592001",
                "limits.answer_most_seconds",
            ),
            ("wait_seconds = 301", "limits.wait_seconds"),
        ] {
            let error = read(limits).unwrap_err();
            assert!(
                error.contains(&format!("tollgate.toml:15: {key}: ")),
                "{error}"
            );
        }
    }
}
