//! What the contracts hold, and what calls do to it.

use alloy_primitives::{Address, B256, Bytes, LogData, U256};
use alloy_sol_types::{SolCall as _, SolEvent as _};
use tollgate_contracts::{
    abi::{ExactProxy, IEip3009, IErc20, IErc2612, Settler, UptoProxy},
    addresses::{EXACT_PROXY, UPTO_PROXY},
};

use crate::names::{self, OPERATORS, SETTLER, TOKEN, TREASURY, payer_of};

/// One payer's money and promises on the chain.
#[derive(Clone, Debug, Default)]
pub(crate) struct Purse {
    pub(crate) balance: u64,
    /// The allowance of the seller: the `Settler`, or its plain account.
    pub(crate) seller: u64,
    pub(crate) permit2: u64,
    pub(crate) permit_nonce: u64,
    /// `Settler.charged`.
    pub(crate) charged: u64,
    /// The account delegates (EIP-7702): Permit2 asks its code instead of its key, and the code says no.
    pub(crate) code: bool,
    pub(crate) frozen: bool,
    pub(crate) permit2_used: Vec<U256>,
    pub(crate) eip3009_used: Vec<B256>,
}

/// Everything.
#[derive(Clone, Debug, Default)]
pub(crate) struct State {
    pub(crate) purses: Vec<Purse>,
    pub(crate) nonces: [u64; OPERATORS],
    pub(crate) paused: bool,
    /// Operators whom the `Settler` does not know (any more).
    pub(crate) dismissed: [bool; OPERATORS],
}

/// Money that moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Move {
    pub(crate) payer: usize,
    pub(crate) amount: u64,
    pub(crate) what: What,
}

/// What a move was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// The interval of a counter.
    Interval(u64, u64),
    /// A plain account's `transferFrom`.
    Plain,
    /// A Permit2 nonce.
    Permit2(U256),
    /// An EIP-3009 nonce.
    Eip3009(B256),
    /// To somebody else.
    Away,
}

/// A log, without its place.
pub(crate) type Said = (Address, LogData);

/// What a call did.
#[derive(Default)]
pub(crate) struct Effects {
    pub(crate) logs: Vec<Said>,
    pub(crate) moves: Vec<Move>,
}

/// Reverts.
pub(crate) struct Reverted;

type Done = Result<(), Reverted>;

pub(crate) fn small(value: U256) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX)
}

fn ensure(good: bool) -> Done {
    if good { Ok(()) } else { Err(Reverted) }
}

impl State {
    fn purse(&mut self, owner: Address) -> Result<(usize, &mut Purse), Reverted> {
        let index = payer_of(owner).ok_or(Reverted)?;
        Ok((index, self.purses.get_mut(index).ok_or(Reverted)?))
    }

    /// A transaction of an operator. It reverts as a whole, or not.
    pub(crate) fn call(
        &mut self,
        from: usize,
        to: Address,
        input: &Bytes,
        now: u64,
    ) -> Result<Effects, Reverted> {
        let mut effects = Effects::default();
        if to == SETTLER {
            let call = Settler::settleCall::abi_decode(input).map_err(|_| Reverted)?;
            ensure(!self.dismissed[from])?;
            self.settle(&call, now, &mut effects);
            return Ok(effects);
        }
        let mut copy = self.clone();
        copy.plain(names::operator(from), to, input, now, &mut effects)?;
        *self = copy;
        Ok(effects)
    }

    fn settle(&mut self, call: &Settler::settleCall, now: u64, effects: &mut Effects) {
        fn part(
            state: &mut State,
            effects: &mut Effects,
            failed: Settler::Failed,
            run: impl FnOnce(&mut State, &mut Effects) -> Done,
        ) {
            let before = state.clone();
            let mut own = Effects::default();
            if run(state, &mut own).is_ok() {
                effects.logs.append(&mut own.logs);
                effects.moves.append(&mut own.moves);
            } else {
                *state = before;
                effects.logs.push((SETTLER, failed.encode_log_data()));
            }
        }
        let failed = |kind: u8, index: usize, token, owner| Settler::Failed {
            kind,
            index: U256::from(index),
            token,
            owner,
        };
        for (index, item) in call.allowances.iter().enumerate() {
            let failed = failed(0, index, item.token, item.owner);
            part(self, effects, failed, |state, own| {
                state.run_allowance(item, now, own)
            });
        }
        for (index, item) in call.onces.iter().enumerate() {
            let failed = failed(1, index, item.token, item.owner);
            part(self, effects, failed, |state, own| {
                state.run_once(item, now, own)
            });
        }
        for (index, item) in call.exacts.iter().enumerate() {
            let failed = failed(2, index, item.token, item.owner);
            part(self, effects, failed, |state, own| {
                state.run_eip3009(item, now, own)
            });
        }
        for (index, item) in call.permit2Exacts.iter().enumerate() {
            let failed = failed(3, index, item.token, item.owner);
            part(self, effects, failed, |state, own| {
                state.run_permit2_exact(item, now, own)
            });
        }
    }

    /// One of the `Settler`'s calls of itself, to simulate an item.
    pub(crate) fn run_item(&mut self, input: &[u8], now: u64) -> Done {
        let mut own = Effects::default();
        if let Ok(call) = Settler::runAllowanceCall::abi_decode(input) {
            return self.run_allowance(&call.item, now, &mut own);
        }
        if let Ok(call) = Settler::runOnceCall::abi_decode(input) {
            return self.run_once(&call.item, now, &mut own);
        }
        if let Ok(call) = Settler::runEip3009Call::abi_decode(input) {
            return self.run_eip3009(&call.item, now, &mut own);
        }
        let call = Settler::runPermit2ExactCall::abi_decode(input).map_err(|_| Reverted)?;
        self.run_permit2_exact(&call.item, now, &mut own)
    }

    fn run_allowance(
        &mut self,
        item: &Settler::AllowanceItem,
        now: u64,
        effects: &mut Effects,
    ) -> Done {
        ensure(item.token == TOKEN && item.to > item.from)?;
        let (payer, purse) = self.purse(item.owner)?;
        let (from, to) = (small(item.from), small(item.to));
        if purse.charged != from {
            let skipped = Settler::Skipped {
                token: item.token,
                owner: item.owner,
                from: item.from,
                to: item.to,
                actual: U256::from(purse.charged),
            };
            effects.logs.push((SETTLER, skipped.encode_log_data()));
            return Ok(());
        }
        purse.charged = to;
        if item.permit.v != 0 {
            // Whatever comes of it: the transfer decides.
            let permit = &item.permit;
            let _ = self.permit(
                item.owner,
                SETTLER,
                small(permit.value),
                small(permit.deadline),
                permit.r,
                now,
            );
        }
        self.draw(payer, item.owner, TREASURY, to - from, effects)?;
        effects.moves.push(Move {
            payer,
            amount: to - from,
            what: What::Interval(from, to),
        });
        let charged = Settler::Charged {
            token: item.token,
            owner: item.owner,
            from: item.from,
            to: item.to,
        };
        effects.logs.push((SETTLER, charged.encode_log_data()));
        Ok(())
    }

    fn run_once(&mut self, item: &Settler::OnceItem, now: u64, effects: &mut Effects) -> Done {
        let tag = names::once_tag(
            item.owner,
            small(item.permitted),
            item.nonce,
            small(item.deadline),
            SETTLER,
            SETTLER,
        );
        ensure(item.token == TOKEN && item.amount <= item.permitted)?;
        ensure(item.signature.get(..32) == Some(tag.as_slice()))?;
        self.pull(
            item.owner,
            small(item.amount),
            item.nonce,
            (small(item.validAfter), small(item.deadline)),
            (SETTLER, now),
            effects,
        )?;
        let pulled = Settler::Pulled {
            kind: 1,
            token: item.token,
            owner: item.owner,
            nonce: item.nonce,
            amount: item.amount,
        };
        effects.logs.push((SETTLER, pulled.encode_log_data()));
        Ok(())
    }

    fn run_eip3009(
        &mut self,
        item: &Settler::Eip3009Item,
        now: u64,
        effects: &mut Effects,
    ) -> Done {
        ensure(item.token == TOKEN)?;
        self.authorized(
            item.owner,
            SETTLER,
            small(item.amount),
            (small(item.validAfter), small(item.validBefore)),
            item.nonce,
            item.r,
            now,
            effects,
        )?;
        let pulled = Settler::Pulled {
            kind: 2,
            token: item.token,
            owner: item.owner,
            nonce: U256::from_be_bytes(item.nonce.0),
            amount: item.amount,
        };
        effects.logs.push((SETTLER, pulled.encode_log_data()));
        Ok(())
    }

    fn run_permit2_exact(
        &mut self,
        item: &Settler::Permit2ExactItem,
        now: u64,
        effects: &mut Effects,
    ) -> Done {
        let tag = names::exact_tag(
            item.owner,
            small(item.amount),
            item.nonce,
            small(item.deadline),
            SETTLER,
        );
        ensure(item.token == TOKEN && item.signature.get(..32) == Some(tag.as_slice()))?;
        self.pull(
            item.owner,
            small(item.amount),
            item.nonce,
            (small(item.validAfter), small(item.deadline)),
            (SETTLER, now),
            effects,
        )?;
        let pulled = Settler::Pulled {
            kind: 3,
            token: item.token,
            owner: item.owner,
            nonce: item.nonce,
            amount: item.amount,
        };
        effects.logs.push((SETTLER, pulled.encode_log_data()));
        Ok(())
    }

    fn plain(
        &mut self,
        from: Address,
        to: Address,
        input: &Bytes,
        now: u64,
        effects: &mut Effects,
    ) -> Done {
        if to == UPTO_PROXY {
            let call = UptoProxy::settleCall::abi_decode(input).map_err(|_| Reverted)?;
            let (permit, witness) = (&call.permit, &call.witness);
            let tag = names::once_tag(
                call.owner,
                small(permit.permitted.amount),
                permit.nonce,
                small(permit.deadline),
                witness.to,
                witness.facilitator,
            );
            ensure(witness.facilitator == from && call.amount <= permit.permitted.amount)?;
            ensure(permit.permitted.token == TOKEN)?;
            ensure(call.signature.get(..32) == Some(tag.as_slice()))?;
            let times = (small(witness.validAfter), small(permit.deadline));
            return self.pull(
                call.owner,
                small(call.amount),
                permit.nonce,
                times,
                (witness.to, now),
                effects,
            );
        }
        if to == EXACT_PROXY {
            let call = ExactProxy::settleCall::abi_decode(input).map_err(|_| Reverted)?;
            let (permit, witness) = (&call.permit, &call.witness);
            let amount = small(permit.permitted.amount);
            let tag = names::exact_tag(
                call.owner,
                amount,
                permit.nonce,
                small(permit.deadline),
                witness.to,
            );
            ensure(permit.permitted.token == TOKEN)?;
            ensure(call.signature.get(..32) == Some(tag.as_slice()))?;
            let times = (small(witness.validAfter), small(permit.deadline));
            return self.pull(
                call.owner,
                amount,
                permit.nonce,
                times,
                (witness.to, now),
                effects,
            );
        }
        // A transaction that only uses up a nonce.
        if to == from && input.is_empty() {
            return Ok(());
        }
        ensure(to == TOKEN)?;
        if let Ok(call) = IErc2612::permitCall::abi_decode(input) {
            return self.permit(
                call.owner,
                call.spender,
                small(call.value),
                small(call.deadline),
                call.r,
                now,
            );
        }
        if let Ok(call) = IEip3009::transferWithAuthorizationCall::abi_decode(input) {
            return self.authorized(
                call.from,
                call.to,
                small(call.value),
                (small(call.validAfter), small(call.validBefore)),
                call.nonce,
                call.r,
                now,
                effects,
            );
        }
        let call = IErc20::transferFromCall::abi_decode(input).map_err(|_| Reverted)?;
        ensure(from == names::operator(0))?;
        let (payer, _) = self.purse(call.from)?;
        let amount = small(call.value);
        self.draw(payer, call.from, call.to, amount, effects)?;
        effects.moves.push(Move {
            payer,
            amount,
            what: What::Plain,
        });
        Ok(())
    }

    /// `transferFrom` by the seller.
    fn draw(
        &mut self,
        payer: usize,
        owner: Address,
        to: Address,
        amount: u64,
        effects: &mut Effects,
    ) -> Done {
        let purse = self.purses.get_mut(payer).ok_or(Reverted)?;
        purse.seller = purse.seller.checked_sub(amount).ok_or(Reverted)?;
        self.transfer(payer, owner, to, amount, effects)
    }

    fn transfer(
        &mut self,
        payer: usize,
        owner: Address,
        to: Address,
        amount: u64,
        effects: &mut Effects,
    ) -> Done {
        ensure(!self.paused)?;
        let purse = self.purses.get_mut(payer).ok_or(Reverted)?;
        ensure(!purse.frozen)?;
        purse.balance = purse.balance.checked_sub(amount).ok_or(Reverted)?;
        let moved = IErc20::Transfer {
            from: owner,
            to,
            value: U256::from(amount),
        };
        effects.logs.push((TOKEN, moved.encode_log_data()));
        Ok(())
    }

    /// ERC-2612: it sets the allowance.
    pub(crate) fn permit(
        &mut self,
        owner: Address,
        spender: Address,
        value: u64,
        deadline: u64,
        signature: B256,
        now: u64,
    ) -> Done {
        ensure(now <= deadline)?;
        let (_, purse) = self.purse(owner)?;
        let tag = names::permit_tag(owner, spender, value, purse.permit_nonce, deadline);
        ensure(signature == tag)?;
        purse.permit_nonce += 1;
        purse.seller = value;
        Ok(())
    }

    /// Permit2, for a proxy.
    fn pull(
        &mut self,
        owner: Address,
        amount: u64,
        nonce: U256,
        (valid_after, deadline): (u64, u64),
        (to, now): (Address, u64),
        effects: &mut Effects,
    ) -> Done {
        ensure(now <= deadline && now >= valid_after && amount > 0)?;
        let (payer, purse) = self.purse(owner)?;
        ensure(!purse.code && !purse.permit2_used.contains(&nonce))?;
        purse.permit2_used.push(nonce);
        if purse.permit2 != u64::MAX {
            purse.permit2 = purse.permit2.checked_sub(amount).ok_or(Reverted)?;
        }
        self.transfer(payer, owner, to, amount, effects)?;
        effects.moves.push(Move {
            payer,
            amount,
            what: What::Permit2(nonce),
        });
        Ok(())
    }

    /// EIP-3009: anybody may bring it.
    #[expect(
        clippy::too_many_arguments,
        reason = "the fields of one signed transfer"
    )]
    pub(crate) fn authorized(
        &mut self,
        owner: Address,
        to: Address,
        amount: u64,
        (valid_after, valid_before): (u64, u64),
        nonce: B256,
        signature: B256,
        now: u64,
        effects: &mut Effects,
    ) -> Done {
        ensure(now > valid_after && now < valid_before)?;
        let tag = names::eip3009_tag(owner, to, amount, valid_before, nonce);
        ensure(signature == tag)?;
        let (payer, purse) = self.purse(owner)?;
        ensure(!purse.eip3009_used.contains(&nonce))?;
        purse.eip3009_used.push(nonce);
        let used = IEip3009::AuthorizationUsed {
            authorizer: owner,
            nonce,
        };
        effects.logs.push((TOKEN, used.encode_log_data()));
        self.transfer(payer, owner, to, amount, effects)?;
        effects.moves.push(Move {
            payer,
            amount,
            what: What::Eip3009(nonce),
        });
        Ok(())
    }
}
