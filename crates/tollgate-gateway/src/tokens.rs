//! Counting tokens with a real tokenizer.
//!
//! The table is OpenAI's `o200k_base`. Other models cut text a little differently, so this count is what is charged
//! only where a model server reports none; but it is the same on every machine, and a payer can repeat it.

use std::{
    hash::{BuildHasher, RandomState},
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use tiktoken::CoreBpe;
use tollgate_chat::ChatRequest;

/// The most text that is cut into tokens at once, in bytes. Beyond it the work on text without any gap would grow
/// faster than the text; the count is then off by a token or two each time.
const PIECE: usize = 4096;
/// From here on, in bytes, counting is worth a thread of its own.
const LONG: usize = 16 * 1024;

static TABLE: OnceLock<Tokenizer> = OnceLock::new();

/// The tokenizer. One for the process, loaded once (about 0.1 s and 25 MB) and never on a request that is not paid.
pub struct Tokenizer {
    table: &'static CoreBpe,
    known: Known,
}

impl core::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Tokenizer(o200k_base)")
    }
}

impl Tokenizer {
    /// The tokenizer, if it is loaded.
    pub fn loaded() -> Option<&'static Self> {
        TABLE.get()
    }

    /// The tokenizer, loaded by a thread of its own if it is not yet. Must be called within a tokio runtime.
    pub async fn load() -> &'static Self {
        if let Some(tokenizer) = TABLE.get() {
            return tokenizer;
        }
        // It fails only when the runtime shuts down, and then nobody waits.
        match tokio::task::spawn_blocking(Self::load_blocking).await {
            Ok(tokenizer) => tokenizer,
            Err(_) => core::future::pending().await,
        }
    }

    /// The tokenizer, loaded by this thread if it is not yet.
    pub fn load_blocking() -> &'static Self {
        #[expect(
            clippy::expect_used,
            reason = "the table is part of the program; a test loads it"
        )]
        TABLE.get_or_init(|| Self {
            table: tiktoken::get_encoding("o200k_base")
                .expect("the built-in table of o200k_base is whole"),
            known: Known::default(),
        })
    }

    /// The tokens of a text.
    pub fn count(&self, text: &str) -> u64 {
        let mut count = TokenCount::default();
        count.push(self, text);
        count.total(self)
    }

    /// The tokens of all texts of a request, without what a model's template adds.
    pub(crate) fn count_request(&self, request: &ChatRequest) -> u64 {
        request.texts().fold(0, |sum: u64, text| {
            sum.saturating_add(self.count_again(text))
        })
    }

    /// The tokens of a text that is likely to come again: with the payment, or in the conversation's next turn.
    fn count_again(&self, text: &str) -> u64 {
        match self.known.find(text) {
            Ok(count) => count,
            Err(place) => {
                let count = self.count(text);
                self.known.keep(place, count);
                count
            }
        }
    }

    /// The same, by a thread of its own if it takes long.
    pub(crate) async fn count_request_async(&'static self, request: &ChatRequest) -> u64 {
        if request.content_bytes() < LONG {
            return self.count_request(request);
        }
        let texts: Vec<String> = request.texts().map(str::to_owned).collect();
        let counted = tokio::task::spawn_blocking(move || {
            texts.iter().fold(0, |sum: u64, text| {
                sum.saturating_add(self.count_again(text))
            })
        });
        // It fails only when the runtime shuts down.
        counted.await.unwrap_or(0)
    }

    fn count_piece(&self, piece: &str) -> u64 {
        u64::try_from(self.table.count(piece)).unwrap_or(u64::MAX)
    }
}

/// The counts of texts that were counted lately, by a keyed hash that nobody outside can aim at. A text is found by 44
/// bits of it and its place by 12 more, and 20 bits are its count: one word, so that no lock is needed.
struct Known {
    key: RandomState,
    places: Box<[AtomicU64]>,
}

const PLACES: usize = 4096;
const COUNT: u64 = (1 << 20) - 1;

/// Where a count belongs, and the bits that tell its text.
#[derive(Clone, Copy)]
struct Place {
    hash: u64,
}

impl Default for Known {
    fn default() -> Self {
        Self {
            key: RandomState::new(),
            places: (0..PLACES).map(|_| AtomicU64::new(0)).collect(),
        }
    }
}

impl Known {
    fn slot(&self, place: Place) -> Option<&AtomicU64> {
        let low = usize::try_from(place.hash & COUNT).unwrap_or_default();
        self.places.get(low.checked_rem(PLACES).unwrap_or_default())
    }

    fn find(&self, text: &str) -> Result<u64, Place> {
        let place = Place {
            hash: self.key.hash_one(text),
        };
        let word = self
            .slot(place)
            .map_or(0, |slot| slot.load(Ordering::Relaxed));
        // Every text has a token, so that a word without a count is an empty place.
        if word & COUNT != 0 && (word ^ place.hash) & !COUNT == 0 {
            Ok(word & COUNT)
        } else {
            Err(place)
        }
    }

    fn keep(&self, place: Place, count: u64) {
        if let Some(slot) = self.slot(place).filter(|_| (1..=COUNT).contains(&count)) {
            slot.store((place.hash & !COUNT) | count, Ordering::Relaxed);
        }
    }
}

/// The tokens of a text that comes in pieces, counted as it comes.
///
/// The count of the whole does not depend on how it was cut: text is counted up to its last gap between words, where
/// the tokenizer cuts whatever follows, and the rest waits for more.
#[derive(Clone, Debug, Default)]
pub(crate) struct TokenCount {
    counted: u64,
    /// The text behind the last gap.
    rest: String,
}

impl TokenCount {
    /// Takes more text.
    pub(crate) fn push(&mut self, tokenizer: &Tokenizer, mut text: &str) {
        while !text.is_empty() {
            let room = PIECE.saturating_sub(self.rest.len()).max(4);
            let (now, later) = text
                .split_at_checked(text.floor_char_boundary(room))
                .unwrap_or((text, ""));
            self.rest.push_str(now);
            text = later;
            self.settle(tokenizer);
        }
    }

    /// The tokens so far.
    pub(crate) fn total(&self, tokenizer: &Tokenizer) -> u64 {
        let rest = match self.rest.len() {
            0 => 0,
            1 => 1,
            _ => tokenizer.count_piece(&self.rest),
        };
        self.counted.saturating_add(rest)
    }

    /// At least and at most so many tokens, without looking at the rest.
    pub(crate) fn range(&self) -> (u64, u64) {
        let bytes = u64::try_from(self.rest.len()).unwrap_or(u64::MAX);
        (
            self.counted.saturating_add(bytes.min(1)),
            self.counted.saturating_add(bytes),
        )
    }

    /// Counts up to the last gap.
    fn settle(&mut self, tokenizer: &Tokenizer) {
        let at = match last_gap(self.rest.as_bytes()) {
            Some(at) => at,
            None if self.rest.len() >= PIECE.saturating_sub(4) => self.rest.len(),
            None => return,
        };
        if let Some(whole) = self.rest.get(..at) {
            self.counted = self.counted.saturating_add(tokenizer.count_piece(whole));
            self.rest.drain(..at);
        }
    }
}

/// The last place where `o200k_base` always cuts: between a letter or digit and a blank that a letter follows. Such a
/// blank is part of no piece before it and begins the piece of the letters after it.
fn last_gap(text: &[u8]) -> Option<usize> {
    text.windows(3)
        .rposition(|window| match window {
            [before, b' ', after] => before.is_ascii_alphanumeric() && after.is_ascii_alphabetic(),
            _ => false,
        })
        .map(|at| at.saturating_add(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXTS: [&str; 9] = [
        "",
        "Hello, world! It's 12345 o'clock -- isn't it?",
        "  leading blanks, trailing blanks   ",
        "line one\n\n  line two\r\n\tline three   four",
        "Grüße aus Köln. 日本語のテキスト、そして English mixed in. Привет, мир 🙂🙂",
        "fn main() { let x = vec![1, 2, 3]; println!(\"{}\", x.len()); } // 100% CamelCase snake_case",
        "a",
        "WORDS in CAPS and a 9 b8 c77 d666 e5555",
        "https://example.com/a/b?c=d&e=f#g 3.14159 1,000,000 $5 €7",
    ];

    /// As OpenAI's own tokenizer counts them.
    const COUNTS: [u64; 9] = [0, 14, 7, 11, 24, 31, 1, 16, 27];

    #[test]
    fn texts_have_as_many_tokens_as_openai_counts() {
        let tokenizer = Tokenizer::load_blocking();
        assert_eq!(TEXTS.map(|text| tokenizer.count(text)), COUNTS);
    }

    #[test]
    fn a_text_in_pieces_has_as_many_tokens_as_the_whole() {
        let tokenizer = Tokenizer::load_blocking();
        for text in TEXTS {
            let whole = tokenizer.count_piece(text);
            assert_eq!(tokenizer.count(text), whole, "{text:?}");
            for size in [1, 2, 3, 7] {
                let mut count = TokenCount::default();
                let mut rest = text;
                while !rest.is_empty() {
                    let mut at = rest.ceil_char_boundary(size.min(rest.len()));
                    at = at.max(1);
                    count.push(tokenizer, &rest[..at]);
                    rest = &rest[at..];
                    let (least, most) = count.range();
                    let exact = count.total(tokenizer);
                    assert!(least <= exact && exact <= most);
                }
                assert_eq!(count.total(tokenizer), whole, "{text:?} by {size}");
            }
        }
    }

    #[test]
    fn a_text_that_comes_again_has_the_same_count() {
        let tokenizer = Tokenizer::load_blocking();
        for _ in 0..2 {
            for text in TEXTS {
                assert_eq!(tokenizer.count_again(text), tokenizer.count(text));
            }
            for number in 0..5000 {
                let text = format!("{number} is a number");
                let count = tokenizer.count_again(&text);
                assert!((4..=6).contains(&count), "{text}: {count}");
            }
        }
    }

    #[test]
    fn text_without_gaps_is_counted_in_time_that_grows_with_it() {
        let tokenizer = Tokenizer::load_blocking();
        for text in ["a", " ", "日", "\u{a0}", "!"] {
            let count = tokenizer.count(&text.repeat(20_000));
            assert!((100..=40_000).contains(&count), "{text:?}: {count}");
        }
    }
}
