//! The answer to a caller who did not ask for a stream.

use bytes::Bytes;
use tollgate_chat::{Completion, Dialect, FinishMetadata, ReportedUsage};
use tollgate_price::BillableUsage;

/// The `chat.completion` of a collected answer.
pub(crate) fn body(
    completion: &Completion,
    usage: BillableUsage,
    created: u64,
    metadata: Option<&FinishMetadata>,
) -> Bytes {
    let mut reported = ReportedUsage::new(usage.input(), usage.output());
    reported.cached_input = usage.cached_input();
    reported.reasoning = usage.reasoning();
    Dialect::DGrid.plain_answer(completion, &reported, created, metadata)
}
