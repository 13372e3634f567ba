//! The settlement worker, and what the chain does with what it sends.

use super::*;

impl World {
    pub(super) fn claim(&mut self, bytes: [u8; 4]) {
        let due = |id: &&PaymentId| {
            matches!(
                self.rows.payment(id).unwrap().state,
                PaymentState::Due { .. }
            )
        };
        let payments: Vec<_> = self
            .committed
            .iter()
            .filter(due)
            .take(usize::from(bytes[0] % 8) + 1)
            .map(|id| self.rows.payment(id).unwrap().keys)
            .collect();
        self.ids += 1;
        let signers = self.signers();
        let claim = Claim {
            batch: BatchId(self.ids),
            signer: signers[usize::from(bytes[1]) % signers.len()],
            settler: self.settler.then_some(SELLER),
            payments,
            undecided: if self.settler { 3 } else { 1 },
        };
        self.apply(&claim).unwrap();
    }

    /// Signs the oldest batch of an account that is not signed, or replaces one that is.
    pub(super) fn seal(&mut self, bytes: [u8; 4]) {
        let signers = self.signers();
        let signer = signers[usize::from(bytes[0]) % signers.len()];
        let mut open: Vec<_> = self
            .batches()
            .filter(|batch| batch.signer == signer && !batch.concluded())
            .cloned()
            .collect();
        open.sort_by_key(|batch| batch.id);
        let unsigned = open.iter().find(|batch| batch.sent.is_empty());
        let replaced = open.get(usize::from(bytes[2]) % open.len().max(1));
        let Some(batch) = (if bytes[1] > 60 { unsigned } else { replaced }) else {
            return;
        };
        if batch.sent.is_empty() && unsigned.is_some_and(|oldest| oldest.id != batch.id) {
            return;
        }
        let worker = bytes[3] % 2;
        let term = self.terms.get(&(signer, worker)).copied().unwrap_or(0);
        let row = self.rows.signer(&signer).unwrap().clone();
        self.ids += 1;
        let seal = Seal {
            batch: batch.id,
            signer,
            term,
            instruction: Instruction {
                nonce: batch.nonce().unwrap_or(row.next_nonce),
                hash: B256::from(U256::from(self.ids)),
                raw: Bytes::new(),
                gas_price: batch.sent.last().map_or(100, |sent| sent.gas_price + 13),
                stored: self.now,
                sent: None,
                // What no node takes is replaced by what moves nothing.
                void: !batch.sent.is_empty() && bytes[1].is_multiple_of(8),
            },
        };
        let sealed = self.apply(&seal);
        if row.lease.map_or(0, |lease| lease.term) != term {
            assert_eq!(
                sealed,
                Err(Refusal::Deposed),
                "a worker signs in an old term"
            );
        } else if row.halt.is_some() && batch.sent.is_empty() {
            assert_eq!(sealed, Err(Refusal::Halted));
        } else {
            sealed.unwrap();
        }
    }

    /// One of two workers acquires an account, renews it, gives it up, or begins anew.
    pub(super) fn lead(&mut self, bytes: [u8; 4]) {
        let signers = self.signers();
        let signer = signers[usize::from(bytes[0]) % signers.len()];
        let worker = bytes[1] % 2;
        let before = self.rows.signer(&signer).unwrap().lease.clone();
        let lead = Lead {
            signer,
            holder: u128::from(worker) + 1,
            seconds: u64::from(bytes[2] % 16),
            sole: bytes[3] > 240,
            chain_nonce: None,
        };
        let found = self.apply(&lead).unwrap();
        if let Some(term) = found.term_of(lead.holder) {
            self.terms.insert((signer, worker), term);
        }
        let term = |lease: Option<tollgate_payment::Lease>| lease.map_or(0, |lease| lease.term);
        assert!(term(before) <= term(found.lease), "terms rise");
    }

    /// Somebody stops an account, or a person lets it go on.
    pub(super) fn halt(&mut self, bytes: [u8; 4]) {
        let signers = self.signers();
        let signer = signers[usize::from(bytes[0]) % signers.len()];
        if bytes[1].is_multiple_of(4) {
            let reason = "a stranger".to_owned();
            self.apply(&Stop { signer, reason }).unwrap();
        } else {
            self.resume(signer);
        }
    }

    pub(super) fn resume(&mut self, signer: SignerKey) {
        let final_count = self.chain.finalized.sent.get(&signer).copied();
        let next = self.apply(&Resume {
            signer,
            chain_nonce: final_count.unwrap_or_default(),
        });
        assert_eq!(next, Ok(self.rows.signer(&signer).unwrap().next_nonce));
    }

    pub(super) fn mine(&mut self, bytes: [u8; 4]) {
        let sealed: Vec<_> = self
            .batches()
            .filter(|batch| !batch.sent.is_empty())
            .cloned()
            .collect();
        // Also one that was mined before: its nonce is used up, and the chain does not take it.
        for batch in sealed
            .iter()
            .cycle()
            .skip(usize::from(bytes[0]))
            .take(sealed.len())
        {
            let reverts = self.settler && bytes[2] > 240;
            if self
                .chain
                .mine(batch, usize::from(bytes[1]) % batch.sent.len(), reverts)
            {
                break;
            }
        }
    }

    /// The worker looks for its transactions in blocks.
    pub(super) fn note(&mut self, bytes: [u8; 4]) {
        let open: Vec<_> = self
            .batches()
            .filter(|batch| !batch.concluded() && !batch.sent.is_empty())
            .map(|batch| batch.id)
            .collect();
        let Some(id) = open.get(usize::from(bytes[0]) % open.len().max(1)) else {
            return;
        };
        let mut mined = self.chain.unfinal.iter().chain(&self.chain.decided);
        let at = mined.find_map(|mined| {
            let (_, hash) = mined.ours.filter(|(batch, _)| batch == id)?;
            Some((hash, mined.items == [ItemFate::Paid]))
        });
        let included = Included {
            batch: *id,
            at: at.map(|(hash, _)| (hash, self.chain.block)),
        };
        self.apply(&included).unwrap();
        let batch = self.rows.batch(id).unwrap().clone();
        if let (Some((hash, true)), true) = (at, Permitted::concerns(&batch)) {
            let permitted = Permitted {
                batch,
                at: (hash, self.chain.block),
                attempts: ATTEMPTS,
            };
            self.apply(&permitted).unwrap();
        }
    }

    /// A simulation says of a batch that is not signed that some of it would fail.
    fn rehearse(&mut self, bytes: [u8; 4]) {
        let claimed: Vec<_> = self
            .batches()
            .filter(|batch| batch.state == BatchState::Claimed)
            .cloned()
            .collect();
        let Some(batch) = claimed.get(usize::from(bytes[0]) % claimed.len().max(1)) else {
            return;
        };
        let items = (0..batch.items.len()).map(|item| {
            if (usize::from(bytes[1]) >> (item % 8)) % 2 == 0 {
                ItemFate::Untried
            } else {
                ItemFate::Deferred(LossReason::Refused)
            }
        });
        let conclude = Conclude {
            fate: Fate {
                transaction: None,
                block: 0,
                items: items.collect(),
            },
            batch: batch.clone(),
            attempts: ATTEMPTS,
        };
        let Concluded { paid, lost, .. } = self.apply(&conclude).unwrap();
        assert!(
            paid.is_empty() && lost.is_empty(),
            "a simulation decides nothing"
        );
    }

    /// Concludes any batch that the finalized chain has decided.
    pub(super) fn conclude(&mut self, bytes: [u8; 4]) -> bool {
        if bytes[3] < 20 {
            self.rehearse(bytes);
        }
        let decided: Vec<_> = self
            .batches()
            .filter(|batch| !batch.concluded())
            .filter_map(|batch| {
                let nonce = batch.nonce()?;
                let mined = self
                    .chain
                    .decided
                    .iter()
                    .find(|mined| (mined.signer, mined.nonce) == (batch.signer, nonce))?;
                Some((batch.clone(), mined.clone()))
            })
            .collect();
        let Some((batch, mined)) = decided
            .get(usize::from(bytes[0]) % decided.len().max(1))
            .cloned()
        else {
            return false;
        };
        let fate = match mined.ours {
            Some((id, hash)) => {
                assert_eq!(id, batch.id, "an account's nonce is one batch's");
                Fate {
                    transaction: Some(hash),
                    block: self.chain.final_block,
                    items: mined.items,
                }
            }
            None => Fate {
                transaction: None,
                block: self.chain.final_block,
                items: batch
                    .items
                    .iter()
                    .map(|item| self.paid_by_another(item))
                    .collect(),
            },
        };
        let by_others: u64 = batch
            .items
            .iter()
            .zip(&fate.items)
            .filter(|(_, fate)| matches!(fate, ItemFate::PaidBy { .. }))
            .map(|(item, _)| units(item.amount()))
            .sum();
        let conclude = Conclude {
            batch: batch.clone(),
            fate,
            attempts: ATTEMPTS,
        };
        if batch.sent.len() > 1 {
            // What another worker asked the chain before the last one was signed.
            let mut stale = conclude.clone();
            stale.batch.sent.pop();
            assert_eq!(self.apply(&stale), Err(Refusal::Overtaken));
        }
        match self.apply(&conclude) {
            Ok(_) => {
                self.concluded_moves += mined.moved + by_others;
                let again = self.apply(&conclude);
                assert_eq!(again, Err(Refusal::Overtaken), "a batch is concluded once");
                true
            }
            // The batch before it on the same counter comes first.
            Err(Refusal::Overtaken) => false,
            Err(other) => panic!("{other:?}"),
        }
    }

    /// The fate of an item whose transaction can never be: perhaps a stranger submitted what it would have.
    fn paid_by_another(&self, item: &BatchItem) -> ItemFate {
        if let BatchItem::Exact {
            signed: Exact::Eip3009(signed),
            ..
        } = item
        {
            let key = (signed.owner, U256::from_be_bytes(signed.nonce.0));
            if let Some(Some(transaction)) = self.chain.finalized.burned.get(&key) {
                return ItemFate::PaidBy {
                    transaction: *transaction,
                    block: 0,
                };
            }
        }
        ItemFate::Again(LossReason::Refused)
    }
}
