//! A chain of one token: just enough of it to settle on, to be cheated on, and to be reorganized.

use std::collections::BTreeMap;

use tollgate_payment::{BatchId, BatchItem, BatchRow, LossReason, SignerKey, command::ItemFate};
use tollgate_x402::{Address, Amount, B256, Exact, U256};

/// What a block leaves behind.
#[derive(Clone, Default, Debug)]
pub(crate) struct State {
    pub(crate) balance: BTreeMap<Address, u64>,
    /// What the seller may draw.
    pub(crate) allowance: BTreeMap<Address, u64>,
    /// The token's permit nonces.
    pub(crate) nonce: BTreeMap<Address, u64>,
    /// The settler's counters.
    pub(crate) charged: BTreeMap<Address, u64>,
    /// Burned nonces of once and exact authorizations, and who was paid by it.
    pub(crate) burned: BTreeMap<(Address, U256), Option<B256>>,
    /// Transaction counts of the operators.
    pub(crate) sent: BTreeMap<SignerKey, u64>,
    /// Everything that the seller received.
    pub(crate) treasury: u64,
}

/// A transaction in a block.
#[derive(Clone, Debug)]
pub(crate) struct Mined {
    pub(crate) signer: SignerKey,
    pub(crate) nonce: u64,
    /// `None`: it is not ours.
    pub(crate) ours: Option<(BatchId, B256)>,
    /// What became of the items.
    pub(crate) items: Vec<ItemFate>,
    /// What it moved, in all.
    pub(crate) moved: u64,
}

#[derive(Default)]
pub(crate) struct Chain {
    pub(crate) block: u64,
    pub(crate) latest: State,
    pub(crate) finalized: State,
    pub(crate) unfinal: Vec<Mined>,
    pub(crate) decided: Vec<Mined>,
    pub(crate) final_block: u64,
}

pub(crate) fn units(amount: Amount) -> u64 {
    u64::try_from(amount.get()).unwrap()
}

fn get(map: &BTreeMap<Address, u64>, key: Address) -> u64 {
    map.get(&key).copied().unwrap_or_default()
}

/// The payer has only so much.
fn short(available: u64, reason: LossReason) -> ItemFate {
    ItemFate::Short {
        available: Amount::from(available),
        reason,
    }
}

impl State {
    pub(crate) fn permit(&mut self, owner: Address, nonce: u64, value: u64) -> bool {
        if get(&self.nonce, owner) != nonce {
            return false;
        }
        self.nonce.insert(owner, nonce + 1);
        self.allowance.insert(owner, value);
        true
    }

    fn pay(&mut self, owner: Address, amount: u64) -> Result<(), ItemFate> {
        let balance = get(&self.balance, owner);
        let left = balance
            .checked_sub(amount)
            .ok_or(short(balance, LossReason::Balance))?;
        self.balance.insert(owner, left);
        self.treasury += amount;
        Ok(())
    }

    fn draw(&mut self, owner: Address, amount: u64) -> Result<(), ItemFate> {
        let allowance = get(&self.allowance, owner);
        let available = allowance.min(get(&self.balance, owner));
        let left = allowance
            .checked_sub(amount)
            .ok_or(short(available, LossReason::Allowance))?;
        self.pay(owner, amount)
            .map_err(|_| short(available, LossReason::Balance))?;
        self.allowance.insert(owner, left);
        Ok(())
    }

    fn burn(&mut self, owner: Address, nonce: U256, amount: u64, by: B256) -> ItemFate {
        match self.burned.get(&(owner, nonce)) {
            Some(Some(transaction)) => {
                return ItemFate::PaidBy {
                    transaction: *transaction,
                    block: 0,
                };
            }
            Some(None) => return ItemFate::Lost(LossReason::Nonce),
            None => {}
        }
        match self.pay(owner, amount) {
            Ok(()) => {
                self.burned.insert((owner, nonce), Some(by));
                ItemFate::Paid
            }
            Err(fate) => fate,
        }
    }

    fn item(&mut self, item: &BatchItem, settler: bool, hash: B256) -> ItemFate {
        let owner = item.owner().owner;
        let amount = units(item.amount());
        match item {
            BatchItem::Allowance {
                from, to, permit, ..
            } => {
                if let Some(permit) = permit {
                    let nonce = u64::try_from(permit.nonce).unwrap();
                    self.permit(owner, nonce, units(permit.value));
                }
                // An item that fails is undone whole; a permit that was in it is submitted again.
                let before = self.clone();
                if settler {
                    if get(&self.charged, owner) != units(*from) {
                        return ItemFate::Again(LossReason::Allowance);
                    }
                    self.charged.insert(owner, units(*to));
                }
                match self.draw(owner, amount) {
                    Ok(()) => ItemFate::Paid,
                    Err(fate) => {
                        *self = before;
                        fate
                    }
                }
            }
            BatchItem::Permit { permit, .. } => {
                let nonce = u64::try_from(permit.nonce).unwrap();
                if self.permit(owner, nonce, units(permit.value)) || get(&self.nonce, owner) > nonce
                {
                    ItemFate::Paid
                } else {
                    ItemFate::Again(LossReason::Allowance)
                }
            }
            BatchItem::Once { signed, .. } => self.burn(owner, signed.nonce, amount, hash),
            BatchItem::Exact {
                signed: Exact::Permit2(signed),
                ..
            } => self.burn(owner, signed.nonce, amount, hash),
            BatchItem::Exact {
                signed: Exact::Eip3009(signed),
                ..
            } => self.burn(owner, U256::from_be_bytes(signed.nonce.0), amount, hash),
        }
    }
}

impl Chain {
    /// Puts a stored transaction of a batch into a block, if it is its account's turn. It may revert as a whole.
    pub(crate) fn mine(&mut self, batch: &BatchRow, variant: usize, reverts: bool) -> bool {
        let Some(instruction) = batch.sent.get(variant) else {
            return false;
        };
        let turn = self.latest.sent.entry(batch.signer).or_default();
        if *turn != instruction.nonce {
            return false;
        }
        *turn += 1;
        self.block += 1;
        let before = self.latest.treasury;
        let items = batch
            .items
            .iter()
            .map(|item| {
                if reverts || instruction.void {
                    return ItemFate::Parted(LossReason::Refused);
                }
                self.latest
                    .item(item, batch.settler.is_some(), instruction.hash)
            })
            .collect();
        self.unfinal.push(Mined {
            signer: batch.signer,
            nonce: instruction.nonce,
            ours: Some((batch.id, instruction.hash)),
            items,
            moved: self.latest.treasury - before,
        });
        true
    }

    /// Somebody else has the operator's key, and uses up a nonce.
    pub(crate) fn foreign(&mut self, signer: SignerKey) {
        let turn = self.latest.sent.entry(signer).or_default();
        self.unfinal.push(Mined {
            signer,
            nonce: *turn,
            ours: None,
            items: Vec::new(),
            moved: 0,
        });
        *turn += 1;
        self.block += 1;
    }

    /// Everything in blocks becomes final.
    pub(crate) fn finalize(&mut self) {
        self.block += 1;
        self.final_block = self.block;
        self.finalized = self.latest.clone();
        self.decided.append(&mut self.unfinal);
    }

    /// Everything that is not final is gone.
    pub(crate) fn reorganize(&mut self) {
        self.block += 1;
        self.latest = self.finalized.clone();
        self.unfinal.clear();
    }
}
