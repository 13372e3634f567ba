//! What a nonce that is used says of a charge: that somebody has paid it, that it can never be paid, or nothing yet.

use std::collections::BTreeSet;

use tollgate_bsc::{ChainError, PayerQuery};
use tollgate_eip712::Wallet;
use tollgate_payment::{LossReason, command::ItemFate};
use tollgate_x402::Authorization;

use super::OwnRail;
use crate::proof::{Proof, Searched, Seen};

/// How far back a transfer that somebody else executed is searched for: an hour of BSC's blocks.
const SEARCHED_BLOCKS: u64 = 8_000;

impl<W: Wallet> OwnRail<W> {
    /// What becomes of a payment that anybody could execute, and whose nonce somebody has used.
    pub(super) async fn used(&self, signed: &Authorization, query: &PayerQuery) -> ItemFate {
        // Until the use is final nobody can tell whether it paid. That is no attempt which failed: where it was the last
        // one, the charge would be lost, and then paid.
        let Some(finalized) = self.used_up(query).await else {
            return ItemFate::Untried;
        };
        let proof = Proof::new(&self.chain, signed, signed.cap());
        let blocks = finalized.saturating_sub(SEARCHED_BLOCKS)..=finalized;
        let candidates = match proof.candidates(blocks).await {
            Ok(candidates) => candidates,
            Err(error) => {
                tracing::warn!(%error, "who used a payment's nonce cannot be searched for");
                // Where no node searches it will not be known later either. Every other failure may pass.
                return if matches!(error, ChainError::Node { .. }) {
                    ItemFate::Again(LossReason::Nonce)
                } else {
                    ItemFate::Untried
                };
            }
        };
        let mut others = BTreeSet::new();
        match proof.among(&candidates, usize::MAX, &mut others).await {
            Ok(Searched::Found(Seen::Final { transaction, block })) => {
                ItemFate::PaidBy { transaction, block }
            }
            Ok(Searched::Nothing) => ItemFate::Again(LossReason::Nonce),
            // What nodes do not show now, or not alike, they may show later: the payer may well have paid.
            Ok(Searched::Found(Seen::Included { .. }) | Searched::InPart) => ItemFate::Untried,
            Err(error) => {
                tracing::warn!(%error, "who used a payment's nonce is not known yet");
                ItemFate::Untried
            }
        }
    }

    /// The finalized block, if what was signed is used up there. Before that a reorganization may take out what used it,
    /// and the charge can be paid again; and so it may be where nobody can tell.
    pub(super) async fn used_up(&self, query: &PayerQuery) -> Option<u64> {
        let looked = async {
            let finalized = self.chain.heads().await?.finalized.number;
            let state = self.chain.payer_in(query, finalized).await?;
            Ok::<_, ChainError>(state.nonce_used().then_some(finalized))
        };
        looked.await.unwrap_or_else(|error| {
            tracing::warn!(%error, "whether a nonce is used for good is not known");
            None
        })
    }
}
