//! Searching events. Public BSC endpoints do not offer it: nothing here that decides about money depends on it.

use core::ops::RangeInclusive;

use serde::{Serialize, Serializer, ser::SerializeMap};
use tollgate_x402::{Address, B256};

use crate::{
    BlockTag, Chain, ChainError, Log, chain::blocks_of, endpoint::Endpoint, wire::WireLog,
};

/// Which logs (`eth_getLogs`).
///
/// The official public endpoints of BSC have `eth_getLogs` switched off; others bound its range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFilter {
    /// The contracts; empty for all.
    pub addresses: Vec<Address>,
    /// The topics by place; `None` for any. The first is the event's signature hash.
    pub topics: Vec<Option<B256>>,
    /// The first and the last block.
    pub blocks: RangeInclusive<u64>,
}

impl LogFilter {
    /// The same in ranges of at most so many blocks.
    pub(crate) fn split(&self, most: u64) -> Vec<Self> {
        let step = most.max(1);
        let (mut start, end) = (*self.blocks.start(), *self.blocks.end());
        let mut parts = Vec::new();
        while start <= end {
            let last = start.saturating_add(step.saturating_sub(1)).min(end);
            parts.push(Self {
                blocks: start..=last,
                ..self.clone()
            });
            match last.checked_add(1) {
                Some(next) => start = next,
                None => break,
            }
        }
        parts
    }
}

impl Chain {
    /// Events in a range of blocks, by the first endpoint that searches and has all of them; a range above
    /// [`ChainConfig::max_log_range`](crate::ChainConfig::max_log_range) takes several requests.
    ///
    /// Not to be relied on for money: the official public endpoints of BSC refuse it.
    ///
    /// # Errors
    /// [`ChainError::Node`] only where no node offers it: while one that may is behind or cannot be reached, that is what
    /// is said ([`ChainError::Behind`], and those of the transport).
    pub async fn logs(&self, filter: &LogFilter) -> Result<Vec<Log>, ChainError> {
        let mut logs = Vec::new();
        for part in filter.split(self.max_log_range()) {
            logs.extend(self.logs_of_any(&part).await?);
        }
        Ok(logs)
    }

    async fn logs_of_any(&self, part: &LogFilter) -> Result<Vec<Log>, ChainError> {
        let mut failed: Option<ChainError> = None;
        for endpoint in self.in_order() {
            let found = match endpoint.meet(self.id()).await {
                Ok(()) => logs_of(endpoint, part).await,
                Err(error) => Err(error),
            };
            match found {
                Ok(found) => return Ok(found),
                // One that refuses does not speak for another that may answer later.
                Err(error) => {
                    failed = Some(match failed {
                        Some(first) if !first.is_definite() || error.is_definite() => first,
                        _ => error,
                    });
                }
            }
        }
        Err(failed.unwrap_or(ChainError::Config("there is no endpoint".into())))
    }
}

/// What an endpoint finds, where it has the last block: one that is behind would tell of fewer events, and not say so.
async fn logs_of(endpoint: &Endpoint, part: &LogFilter) -> Result<Vec<Log>, ChainError> {
    let block = *part.blocks.end();
    let newest = blocks_of(endpoint, vec![(BlockTag::Latest, false)]).await?;
    if !matches!(newest.as_slice(), [Some(newest)] if newest.number >= block) {
        return Err(ChainError::Behind {
            endpoint: endpoint.name().to_owned(),
            block,
        });
    }
    let found: Vec<WireLog> = endpoint.call("eth_getLogs", (part,)).await?;
    Ok(found
        .into_iter()
        .filter_map(|log| log.located(None, None))
        .collect())
}

impl Serialize for LogFilter {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(4))?;
        map.serialize_entry("address", &self.addresses)?;
        map.serialize_entry("topics", &self.topics)?;
        map.serialize_entry("fromBlock", &format_args!("{:#x}", self.blocks.start()))?;
        map.serialize_entry("toBlock", &format_args!("{:#x}", self.blocks.end()))?;
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_range_is_split_without_gap_or_overlap() {
        let filter = LogFilter {
            addresses: vec![],
            topics: vec![],
            blocks: 5..=30,
        };
        let ranges: Vec<_> = filter
            .split(10)
            .into_iter()
            .map(|part| part.blocks)
            .collect();
        assert_eq!(ranges, [5..=14, 15..=24, 25..=30]);
        let last = LogFilter {
            blocks: u64::MAX - 1..=u64::MAX,
            ..filter
        };
        assert_eq!(last.split(1).len(), 2);
    }
}
