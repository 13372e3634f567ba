//! Offers of a 402, as a body and as a header.

use tollgate_x402::{Limits, PaymentRequired};

/// Entries that are read survive being written again.
pub fn check(data: &[u8]) {
    for offer in [
        PaymentRequired::parse_body(data, &Limits::DEFAULT),
        PaymentRequired::parse_header(data, &Limits::DEFAULT),
        PaymentRequired::from_response(Some(data), data, &Limits::DEFAULT),
    ] {
        match offer {
            Ok(offer) => survives_writing(&offer),
            Err(error) => drop(error.to_string()),
        }
    }
}

/// An entry without a resource is given that of the whole offer, so what is compared is what was written.
fn survives_writing(offer: &PaymentRequired) {
    for (written, write) in [
        (
            offer.to_body_v1(),
            PaymentRequired::to_body_v1 as fn(&PaymentRequired) -> String,
        ),
        (offer.to_json_v2(), PaymentRequired::to_json_v2),
    ] {
        // an offer of which nothing could be read has no entry to write
        if let Ok(again) = PaymentRequired::parse_body(written.as_bytes(), &Limits::DEFAULT) {
            assert_eq!(again.accepts.len(), offer.accepts.len());
            assert_eq!(write(&again), written);
        }
    }
}
