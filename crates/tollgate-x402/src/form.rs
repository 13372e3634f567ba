//! An offer that was written once, with gaps for what differs from request to request.

use crate::{Amount, Json, PaymentRequired, U256, header};

/// The 402 of one resource, written ahead: the reason and the amounts of its entries are put in.
///
/// What it writes is byte for byte what [`PaymentRequired::to_body_v1`] and [`PaymentRequired::to_header_v2`] write.
#[derive(Clone, Debug)]
pub struct OfferForm {
    v1: Pieces,
    v2: Pieces,
}

/// The two forms of a 402.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WrittenOffer {
    /// The v1 body: JSON in ASCII.
    pub body_v1: String,
    /// The value of the v2 header `PAYMENT-REQUIRED`: base64 of JSON in ASCII.
    pub header_v2: String,
}

impl WrittenOffer {
    /// Writes an offer.
    pub fn of(offer: &PaymentRequired) -> Self {
        Self {
            body_v1: offer.to_body_v1(),
            header_v2: offer.to_header_v2(),
        }
    }
}

impl OfferForm {
    /// The form of the offers that `make` makes of so many amounts: it puts the nth into the nth entry, and nothing else
    /// depends on them. `None` where that cannot be told from what it writes; then each offer is to be written by itself.
    pub fn new(amounts: usize, make: impl Fn(&[Amount]) -> PaymentRequired) -> Option<Self> {
        // No token has amounts like these.
        let marks = |from: u64| -> Vec<Amount> {
            let mark = |n| Amount::new(U256::MAX.wrapping_sub(U256::from(n)));
            (from..).take(amounts).map(mark).collect()
        };
        let made = |amounts: &[Amount], error: &str| {
            let mut offer = make(amounts);
            offer.error = Some(error.to_owned());
            offer
        };
        let first = marks(0);
        let offer = made(&first, "");
        let form = Self {
            v1: Pieces::new(&offer.to_body_v1(), &first)?,
            v2: Pieces::new(&offer.to_json_v2(), &first)?,
        };
        let (other, error) = (marks(1_000_000), "a \"reason\"");
        let same = form.write(error, &other) == WrittenOffer::of(&made(&other, error));
        same.then_some(form)
    }

    /// An offer with this reason and these amounts.
    pub fn write(&self, error: &str, amounts: &[Amount]) -> WrittenOffer {
        let error = Json::from(error).to_string();
        let amounts: Vec<String> = amounts.iter().map(Amount::to_string).collect();
        WrittenOffer {
            body_v1: self.v1.write(&error, &amounts),
            header_v2: header::encode(self.v2.write(&error, &amounts).as_bytes()),
        }
    }
}

/// A text with gaps.
#[derive(Clone, Debug)]
struct Pieces {
    /// What comes before each gap.
    before: Vec<(String, Gap)>,
    rest: String,
    /// The length of all, in bytes.
    length: usize,
}

#[derive(Clone, Copy, Debug)]
enum Gap {
    /// The reason, with its quotes.
    Error,
    /// An amount, without.
    Amount(usize),
}

impl Pieces {
    /// The pieces of a text in which each of these amounts stands for itself.
    fn new(text: &str, marks: &[Amount]) -> Option<Self> {
        const ERROR: &str = "\"error\":";
        // It comes before everything that a seller names.
        let (head, rest) = text.split_once("\"error\":\"\"")?;
        let mut before = vec![(format!("{head}{ERROR}"), Gap::Error)];
        let marks: Vec<String> = marks.iter().map(Amount::to_string).collect();
        let mut rest = rest;
        loop {
            let next = marks.iter().enumerate();
            let next = next.filter_map(|(n, mark)| Some((rest.find(mark.as_str())?, n, mark)));
            let Some((_, n, mark)) = next.min_by_key(|(at, ..)| *at) else {
                break;
            };
            let (piece, after) = rest.split_once(mark.as_str())?;
            before.push((piece.to_owned(), Gap::Amount(n)));
            rest = after;
        }
        Some(Self {
            before,
            rest: rest.to_owned(),
            length: text.len(),
        })
    }

    fn write(&self, error: &str, amounts: &[String]) -> String {
        let mut text = String::with_capacity(self.length.saturating_add(error.len()));
        for (piece, gap) in &self.before {
            text.push_str(piece);
            text.push_str(match gap {
                Gap::Error => error,
                Gap::Amount(n) => amounts.get(*n).map_or("0", String::as_str),
            });
        }
        text.push_str(&self.rest);
        text
    }
}
