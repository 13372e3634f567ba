//! What a caller prefers (RFC 7240): of all preferences, how long it waits.

use http::{HeaderMap, HeaderName};

/// `Prefer`, on a request.
const PREFER: HeaderName = HeaderName::from_static("prefer");

/// The seconds of the preference `wait` (§4.3). Of several the first counts (§2), and one that cannot be read is none;
/// other preferences are nobody's business here.
pub(crate) fn wait(headers: &HeaderMap) -> Option<u64> {
    headers
        .get_all(PREFER)
        .iter()
        .find_map(|list| first(list.as_bytes()))?
}

/// What the first `wait` of a list says, if there is one.
fn first(list: &[u8]) -> Option<Option<u64>> {
    let mut rest = Some(list);
    while let Some(list) = rest {
        let (one, others) = until(list, b',');
        // The parameters of a preference are none of its name and value.
        let (one, _) = until(one, b';');
        let (name, value) = until(one, b'=');
        if name.trim_ascii().eq_ignore_ascii_case(b"wait") {
            return Some(value.and_then(seconds));
        }
        rest = others;
    }
    None
}

/// Seconds, written as a token or as a quoted string. More than can be counted are as many as can.
fn seconds(word: &[u8]) -> Option<u64> {
    let word = word.trim_ascii();
    let digits = word
        .strip_prefix(b"\"")
        .map_or(Some(word), |quoted| quoted.strip_suffix(b"\""))?;
    let digit = |seconds: u64, byte: &u8| {
        let digit = char::from(*byte).to_digit(10)?;
        Some(seconds.saturating_mul(10).saturating_add(digit.into()))
    };
    digits
        .iter()
        .try_fold(0, digit)
        .filter(|_| !digits.is_empty())
}

/// What is before the first of this mark outside of quoted strings, and what is behind it.
fn until(text: &[u8], mark: u8) -> (&[u8], Option<&[u8]>) {
    let (mut quoted, mut escaped) = (false, false);
    let at = text.iter().position(|byte| {
        let found = !quoted && *byte == mark;
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ => {}
        }
        found
    });
    match at.and_then(|at| text.split_at_checked(at)) {
        Some((before, behind)) => (before, behind.split_first().map(|(_, behind)| behind)),
        None => (text, None),
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn of(lines: &[&[u8]]) -> Option<u64> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(PREFER, HeaderValue::from_bytes(line).unwrap());
        }
        wait(&headers)
    }

    #[test]
    fn the_first_wait_is_read_among_other_preferences_as_rfc_7240_writes_them() {
        for (line, seconds) in [
            ("wait=10", Some(10)),
            ("WAIT = 10", Some(10)),
            ("wait=\"10\"", Some(10)),
            ("wait=0", Some(0)),
            ("wait=007", Some(7)),
            ("wait=10; strictly; a=\"b\"", Some(10)),
            // Examples of the standard.
            ("respond-async, wait=10", Some(10)),
            ("respond-async, wait=100", Some(100)),
            (
                "Lenient, handling=strict ,\twait=10 , depth-noroot",
                Some(10),
            ),
            (",, wait=3,", Some(3)),
            ("foo; wait=5", None),
            ("foo=\"a, wait=5\", wait=6", Some(6)),
            ("foo=\"a\\\", wait=5\", wait=6", Some(6)),
            ("foo=\"; x\"; bar=\"baz, wait=5\";, wait=6", Some(6)),
            // The first one counts, also where it is none.
            ("wait=1, wait=2", Some(1)),
            ("wait, wait=2", None),
            ("wait=, wait=2", None),
            ("wait=x, wait=2", None),
            ("wait=-1", None),
            ("wait=+1", None),
            ("wait=1.5", None),
            ("wait=1 2", None),
            ("wait=\"\"", None),
            ("wait=\"1", None),
            ("wait=1\"", None),
            ("foo=\"never closed, wait=5", None),
            ("waiting=5", None),
            ("await=5", None),
            ("5=wait", None),
            ("", None),
            // 2^64 and more.
            ("wait=18446744073709551616", Some(u64::MAX)),
            ("wait=99999999999999999999999999", Some(u64::MAX)),
        ] {
            assert_eq!(of(&[line.as_bytes()]), seconds, "{line:?}");
        }
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[b"respond-async", b"wait=4"]), Some(4));
        assert_eq!(of(&[b"wait=4", b"wait=5"]), Some(4));
        assert_eq!(of(&[b"foo=\"open", b"wait=5"]), Some(5));
        assert_eq!(of(&[b"foo=\"\xff\xfe\", wait=5"]), Some(5));
    }

    proptest! {
        #[test]
        fn no_header_is_too_strange_to_be_read(lines in prop::collection::vec(
            prop::collection::vec(
                prop_oneof![
                    prop::sample::select(b"wait=0123456789,;\"\\ \t".to_vec()),
                    (32_u8..=255).prop_filter("delete", |byte| *byte != 127),
                ],
                0..60,
            ),
            0..4,
        )) {
            let lines: Vec<&[u8]> = lines.iter().map(Vec::as_slice).collect();
            of(&lines);
        }

        #[test]
        fn whatever_stands_around_it_the_wait_is_found(
            before in "[a-v]{1,5}(=([a-z0-9]{1,5}|\"[ -!#-\\[\\]-~]{0,9}\"))?(; [a-z]=\"[,;=]{0,4}\")?",
            seconds: u64,
            parameters in "(; ?[a-z]{0,3}(=\"[,;= ]{0,4}\")?){0,2}",
        ) {
            let line = format!("{before} ,wait= {seconds}{parameters}, wait=1");
            prop_assert_eq!(of(&[line.as_bytes()]), Some(seconds), "{}", line);
            let lines = [before.as_bytes(), format!("wait={seconds}").as_bytes()].map(<[u8]>::to_vec);
            prop_assert_eq!(of(&[&lines[0], &lines[1]]), Some(seconds));
        }
    }
}
