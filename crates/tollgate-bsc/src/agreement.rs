//! Agreement of several endpoints, as pure functions over their answers.

use crate::{BlockRef, ChainError, Heads};

/// One of the answers that at least `quorum` of them are the same as, if there is such a group: the first of it.
pub(crate) fn elect<T>(
    answers: &[T],
    quorum: usize,
    same: impl Fn(&T, &T) -> bool,
) -> Option<Vec<&T>> {
    answers.iter().find_map(|candidate| {
        let group: Vec<&T> = answers
            .iter()
            .filter(|other| same(candidate, other))
            .collect();
        (group.len() >= quorum).then_some(group)
    })
}

/// What is agreed on a thing that some endpoints may not have yet: none, unless enough have it and the same. Two
/// that have different ones do not agree.
pub(crate) fn elect_seen<T: PartialEq + Clone>(
    answers: &[Option<T>],
    quorum: usize,
    what: &'static str,
) -> Result<Option<T>, ChainError> {
    if let Some(group) = elect(answers, quorum, |a, b| a == b) {
        return Ok(group.first().and_then(|answer| (*answer).clone()));
    }
    let mut seen = answers.iter().flatten();
    let first = seen.next();
    if first.is_some_and(|first| seen.any(|other| other != first)) {
        return Err(ChainError::Disagreement { what });
    }
    Ok(None)
}

/// The heads that at least `quorum` endpoints have reached. `numbers` are those that canonical blocks were asked of.
pub(crate) fn elect_heads(
    answers: &[Heads],
    quorum: usize,
    numbers: &[u64],
) -> Result<Heads, ChainError> {
    let disagreement = |what| ChainError::Disagreement { what };
    let head = |pick: fn(&Heads) -> BlockRef| -> Result<BlockRef, ChainError> {
        let mut blocks: Vec<BlockRef> = answers.iter().map(pick).collect();
        blocks.sort_by_key(|block| core::cmp::Reverse(block.number));
        blocks
            .get(quorum.saturating_sub(1))
            .copied()
            .ok_or(disagreement("the heads"))
    };
    let (latest, safe, finalized) = (
        head(|heads| heads.latest)?,
        head(|heads| heads.safe)?,
        head(|heads| heads.finalized)?,
    );
    // A finalized block is final everywhere: another hash at its number is a lie, or another chain.
    let conflicts = answers.iter().any(|heads| {
        heads.finalized.number == finalized.number && heads.finalized.hash != finalized.hash
    });
    if conflicts {
        return Err(disagreement("the finalized block"));
    }
    let mut heads = Heads::new(latest, safe, finalized);
    for number in numbers {
        let seen: Vec<Option<BlockRef>> = answers
            .iter()
            .map(|heads| {
                heads
                    .canonical
                    .iter()
                    .find(|block| block.number == *number)
                    .copied()
            })
            .collect();
        heads
            .canonical
            .extend(elect_seen(&seen, quorum, "a block's hash")?);
    }
    Ok(heads)
}

/// The one value that enough endpoints have: for reads that are the same everywhere.
pub(crate) fn elect_value<T: PartialEq + Clone>(
    answers: &[T],
    quorum: usize,
    what: &'static str,
) -> Result<T, ChainError> {
    elect(answers, quorum, |a, b| a == b)
        .and_then(|group| group.first().map(|value| (*value).clone()))
        .ok_or(ChainError::Disagreement { what })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tollgate_x402::{B256, Timestamp};

    fn block(number: u64, hash: u8) -> BlockRef {
        BlockRef {
            number,
            hash: B256::repeat_byte(hash),
            timestamp: Timestamp(number),
        }
    }

    fn heads(latest: u64, finalized: BlockRef) -> Heads {
        Heads::new(block(latest, 1), block(latest - 1, 2), finalized)
    }

    #[test]
    fn one_liar_of_three_is_outvoted() {
        assert_eq!(elect_value(&[5, 9, 5], 2, "x"), Ok(5));
        assert_eq!(
            elect_value(&[5, 9, 4], 2, "x"),
            Err(ChainError::Disagreement { what: "x" })
        );
    }

    #[test]
    fn what_only_some_have_seen_is_not_seen_yet() {
        assert_eq!(elect_seen(&[Some(1), None], 2, "x"), Ok(None));
        assert_eq!(elect_seen(&[Some(1), Some(1), None], 2, "x"), Ok(Some(1)));
        assert_eq!(
            elect_seen(&[Some(1), Some(2), None], 2, "x"),
            Err(ChainError::Disagreement { what: "x" })
        );
        assert_eq!(
            elect_seen(&[Some(1), Some(2), Some(2)], 2, "x"),
            Ok(Some(2))
        );
    }

    #[test]
    fn the_heads_are_those_that_enough_endpoints_have_reached() {
        let answers = [
            heads(10, block(8, 8)),
            heads(12, block(10, 10)),
            heads(11, block(9, 9)),
        ];
        let agreed = elect_heads(&answers, 2, &[]).unwrap();
        assert_eq!(agreed.latest.number, 11);
        assert_eq!(agreed.finalized, block(9, 9));
        assert!(elect_heads(&answers, 4, &[]).is_err());
    }

    #[test]
    fn two_finalized_blocks_of_one_number_are_no_agreement() {
        let answers = [heads(10, block(8, 8)), heads(10, block(8, 7))];
        assert!(elect_heads(&answers, 1, &[]).is_err());
    }

    #[test]
    fn a_canonical_block_counts_if_enough_have_it() {
        let mut one = heads(10, block(8, 8));
        one.canonical.push(block(3, 3));
        let two = heads(10, block(8, 8));
        let agreed = elect_heads(&[one.clone(), two], 2, &[3]).unwrap();
        assert_eq!(agreed.hash_at(3), None);
        let agreed = elect_heads(&[one.clone(), one], 2, &[3]).unwrap();
        assert_eq!(agreed.hash_at(3), Some(B256::repeat_byte(3)));
    }
}
