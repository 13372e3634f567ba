//! Rows, for a trace.

use tollgate_payment::Row;

/// A row in few words.
pub(super) fn tell(row: &Row) -> String {
    match row {
        Row::Payment(row) => format!(
            "payment {:?} {:?} reserved {} charge {}{}",
            row.keys.id,
            row.state,
            row.reserved,
            row.charge,
            row.interval
                .map(|(from, to)| format!(" interval {from}..{to}"))
                .unwrap_or_default()
        ),
        Row::Owner(row) => format!(
            "payer {} held {} due {} lost {} view {:?}",
            row.key.owner.0[0],
            row.held,
            row.due,
            row.lost,
            row.view.map(|view| (view.amount, view.block))
        ),
        Row::Spender(row) => format!("spender held {} due {} {:?}", row.held, row.due, row.limit),
        Row::Batch(row) => format!(
            "batch {:?} {:?} items {} nonce {:?} sent {}",
            row.id,
            row.state,
            row.items.len(),
            row.nonce(),
            row.sent.len()
        ),
        Row::Signer(row) => format!("signer next {} {:?}", row.next_nonce, row.lease),
        Row::Authorization(_) => "authorization".to_owned(),
        Row::Exposure(row) => format!("exposure {}", row.used),
        Row::Identifier(_) => "identifier".to_owned(),
        Row::Outcome(_) => "outcome".to_owned(),
    }
}
