//! Bugs in the steps of the ledger.

use std::any::Any;

use tollgate_payment::{
    AuthorizationKey, Command, DailySums, Decision, Limit, OwnerRow, PaymentState, Refusal, Row,
    Rows, SpenderRow,
    command::{Checkpoint, Claim, Commit, Conclude, Notice, Reserve, Seal},
};
use tollgate_x402::{Allowance, Amount, Authorization, Timestamp};

use super::Mutant;
use crate::world::World;

type Decided<C> = Result<Decision<<C as Command>::Outcome>, Refusal>;

/// The decision of a changed command, as that of the one that was asked.
fn instead<C: Command, D: Command>(command: &D, rows: &Rows, now: Timestamp) -> Decided<C> {
    let decision = command.decide(rows, now)?;
    let outcome: Box<dyn Any> = Box::new(decision.outcome);
    match outcome.downcast::<C::Outcome>() {
        Ok(outcome) => Ok(Decision {
            writes: decision.writes,
            entries: decision.entries,
            outcome: *outcome,
        }),
        Err(_) => Err(Refusal::Books("a seeded bug of another command")),
    }
}

fn without(rows: &Rows, gone: impl Fn(&Row) -> bool) -> Rows {
    rows.iter().filter(|row| !gone(row)).cloned().collect()
}

fn changed(rows: &Rows, change: impl Fn(&mut Row)) -> Rows {
    let mut all: Vec<Row> = rows.iter().cloned().collect();
    all.iter_mut().for_each(change);
    all.into_iter().collect()
}

const MUCH: u64 = 1 << 40;

impl Mutant {
    /// A step, as the bug has it.
    pub(crate) fn decide<C: Command>(
        self,
        command: &C,
        rows: &Rows,
        now: Timestamp,
        world: &World,
    ) -> Decided<C> {
        let any: &dyn Any = command;
        if self == Self::ForkReading && (any.is::<Reserve>() || any.is::<Notice>()) {
            return fork_reading(command, rows, now);
        }
        if let Some(reserve) = any.downcast_ref::<Reserve>() {
            return self.reserve(command, reserve, rows, now, world);
        }
        if let Some(commit) = any.downcast_ref::<Commit>() {
            let used = match self {
                Self::MaxOnCrash if commit.used.is_none() => Some(Amount::from(MUCH)),
                Self::WaivedAfterDelivery if commit.used < Some(Amount::from(10u64)) => {
                    commit.used.map(|_| Amount::ZERO)
                }
                _ => commit.used,
            };
            let commit = Commit {
                used,
                ..commit.clone()
            };
            return instead::<C, _>(&commit, rows, now);
        }
        if let (Self::NeverLost, Some(conclude)) = (self, any.downcast_ref::<Conclude>()) {
            let mut conclude = conclude.clone();
            conclude.attempts = u32::MAX;
            for item in &mut conclude.fate.items {
                if let tollgate_payment::command::ItemFate::Lost(reason) = *item {
                    *item = tollgate_payment::command::ItemFate::Again(reason);
                }
            }
            return instead::<C, _>(&conclude, rows, now);
        }
        if let (Self::EarlyPermit, Some(_)) = (self, any.downcast_ref::<Claim>()) {
            return early_permit(command, rows, now);
        }
        if let (Self::FreshNonceSealed, Some(seal)) = (self, any.downcast_ref::<Seal>()) {
            return fresh_nonce(command, seal, rows, now);
        }
        let mut decision = command.decide(rows, now)?;
        if any.is::<Checkpoint>() {
            match self {
                Self::NoCheckpoint => decision.writes.clear(),
                Self::CheckpointTooHigh => {
                    for row in &mut decision.writes {
                        if let Row::Payment(payment) = row
                            && let PaymentState::Serving { used } = &mut payment.state
                        {
                            *used = used.saturating_add(*used).saturating_add(*used);
                        }
                    }
                }
                _ => {}
            }
        }
        if any.is::<Conclude>() {
            self.conclude(&mut decision, rows, now);
        }
        if any.is::<Seal>() && self == Self::ForgetsReplaced {
            for row in &mut decision.writes {
                if let Row::Batch(batch) = row {
                    let before = batch.sent.len().saturating_sub(1);
                    batch.sent.drain(..before);
                }
            }
        }
        Ok(decision)
    }

    fn conclude<T>(self, decision: &mut Decision<T>, rows: &Rows, now: Timestamp) {
        match self {
            Self::CreditByDust => {
                for row in &mut decision.writes {
                    if let Row::Owner(owner) = row
                        && !owner.history.paid(now).is_zero()
                    {
                        owner.history.add(Amount::from(400u64), now);
                    }
                }
            }
            Self::BookedTwice => {
                let again = decision.entries.clone();
                decision.entries.extend(again);
            }
            Self::ForkBalance => {
                for row in &mut decision.writes {
                    let view = match row {
                        Row::Owner(owner) => &mut owner.view,
                        Row::Spender(SpenderRow {
                            limit: Limit::Seen(view),
                            ..
                        }) => view,
                        _ => continue,
                    };
                    if let Some(view) = view {
                        view.doubt = Amount::ZERO;
                    }
                }
            }
            Self::PermitLost => {
                for row in &mut decision.writes {
                    if let Row::Spender(spender) = row
                        && let Limit::Counter(counter) = &mut spender.limit
                    {
                        for it in &mut counter.superseded {
                            it.permit.applied = true;
                        }
                    }
                }
            }
            Self::IntervalHole => {
                for row in &mut decision.writes {
                    if let Row::Spender(spender) = row
                        && let Limit::Counter(counter) = &mut spender.limit
                        && let Some(Limit::Counter(before)) =
                            rows.spender(&spender.key).map(|row| &row.limit)
                    {
                        counter.claimed = before.claimed;
                    }
                }
            }
            _ => {}
        }
    }

    fn reserve<C: Command>(
        self,
        command: &C,
        reserve: &Reserve,
        rows: &Rows,
        now: Timestamp,
        world: &World,
    ) -> Decided<C> {
        let known = rows.authorization(&reserve.keys.authorization);
        let claim = matches!(reserve.keys.authorization, AuthorizationKey::Claim { .. });
        let mut other = reserve.clone();
        match self {
            Self::DedupeInMemory if claim => {
                let run = known.and_then(|row| row.payment).and_then(|id| {
                    world.with(|core| core.books.payments.get(&id).map(|row| row.epoch))
                });
                if run.is_some_and(|run| run != reserve.epoch) {
                    let fewer = without(rows, |row| matches!(row, Row::Authorization(_)));
                    return command.decide(&fewer, now);
                }
            }
            Self::AnswerToAnother if claim => {
                if let Some(payment) = known.and_then(|row| row.payment) {
                    return Err(Refusal::Admitted(payment));
                }
            }
            Self::DigestBoundToAllowance
                if known.is_some_and(|row| row.request != Some(reserve.request)) =>
            {
                return Err(Refusal::Used);
            }
            Self::NoExposureCap => {
                if let Some(funds) = &mut other.funds {
                    funds.balance = Amount::from(MUCH);
                }
            }
            Self::BalancePerSpender => {
                let open = |held: Amount, due: Amount| held.saturating_add(due);
                let all = rows.owner(&reserve.keys.owner);
                let all = all.map_or(Amount::ZERO, |row| open(row.held, row.due));
                let own = reserve.keys.spender_key();
                let own = own.and_then(|key| rows.spender(&key));
                let own = own.map_or(Amount::ZERO, |row| open(row.held, row.due));
                if let Some(funds) = &mut other.funds {
                    let elsewhere = all.saturating_sub(own);
                    funds.balance = funds.balance.saturating_add(elsewhere);
                }
            }
            Self::UnlimitedCredit => {
                other.credit.floor = Amount::from(MUCH);
                other.credit.in_flight = 100;
            }
            Self::ExposureForgotten => other.credit.exposure = Amount::from(MUCH),
            Self::LostNotCounted => {
                let lost = rows.exposure(&reserve.keys.exposure);
                let lost = lost.map(|row| row.lost.clone()).unwrap_or_default();
                let forgiven = changed(rows, |row| {
                    if let Row::Exposure(exposure) = row {
                        exposure.lost = DailySums::new();
                    }
                });
                let mut decision = command.decide(&forgiven, now)?;
                for row in &mut decision.writes {
                    if let Row::Exposure(exposure) = row {
                        exposure.lost = lost.clone();
                    }
                }
                return Ok(decision);
            }
            Self::PermitReplaced => return permit_replaced(command, rows, now),
            Self::SightingForgotten => return sighting_forgotten(command, rows, now),
            Self::PermitSucceeded => {
                return as_the_newest::<C>(reserve, rows, now, |shown, newest| {
                    shown.nonce < newest.nonce
                });
            }
            Self::LesserPermit => {
                return as_the_newest::<C>(reserve, rows, now, |shown, newest| {
                    shown.nonce == newest.nonce && shown.value < newest.value
                });
            }
            Self::DebtForgotten => {
                let owed = rows.owner(&reserve.keys.owner).map(|row| row.lost);
                let forgiven = changed(rows, |row| {
                    if let Row::Owner(owner) = row {
                        owner.lost = Amount::ZERO;
                    }
                });
                let mut decision = command.decide(&forgiven, now)?;
                for row in &mut decision.writes {
                    if let Row::Owner(owner) = row {
                        owner.lost = owed.unwrap_or_default();
                    }
                }
                return Ok(decision);
            }
            _ => {}
        }
        instead::<C, _>(&other, rows, now)
    }
}

/// A replacement is stored as a first transaction is: with the account's next nonce.
fn fresh_nonce<C: Command>(command: &C, seal: &Seal, rows: &Rows, now: Timestamp) -> Decided<C> {
    let first = changed(rows, |row| {
        if let Row::Batch(batch) = row {
            batch.sent.clear();
        }
    });
    let mut decision = command.decide(&first, now)?;
    for row in &mut decision.writes {
        if let (Row::Batch(batch), Some(before)) = (row, rows.batch(&seal.batch)) {
            batch.sent.splice(0..0, before.sent.iter().cloned());
        }
    }
    Ok(decision)
}

/// Some permits are as good as the newest of their counter.
fn as_the_newest<C: Command>(
    reserve: &Reserve,
    rows: &Rows,
    now: Timestamp,
    some: fn(&Allowance, &Allowance) -> bool,
) -> Decided<C> {
    let mut other = reserve.clone();
    let spender = reserve.keys.spender_key();
    if let Some(spender) = spender.and_then(|key| rows.spender(&key))
        && let Limit::Counter(counter) = &spender.limit
        && let (Authorization::Allowance(shown), Some(newest)) =
            (&mut other.authorization, &counter.permit)
        && some(shown, &newest.signed)
    {
        *shown = newest.signed.clone();
    }
    let mut decision = instead::<C, _>(&other, rows, now)?;
    for row in &mut decision.writes {
        if let Row::Authorization(row) = row {
            row.signed = reserve.authorization.clone();
        }
    }
    Ok(decision)
}

/// Nothing that was settled lately is in doubt.
fn fork_reading<C: Command>(command: &C, rows: &Rows, now: Timestamp) -> Decided<C> {
    let sure = changed(rows, |row| {
        if let Row::Owner(OwnerRow {
            settled: Some(settled),
            ..
        }) = row
        {
            settled.recent.clear();
        }
    });
    let mut decision = command.decide(&sure, now)?;
    for row in &mut decision.writes {
        if let Row::Owner(owner) = row
            && let Some(before) = rows.owner(&owner.key)
        {
            owner.settled.clone_from(&before.settled);
        }
    }
    Ok(decision)
}

/// Whatever batch has shown a permit is forgotten, and where the chain had it.
fn permit_replaced<C: Command>(command: &C, rows: &Rows, now: Timestamp) -> Decided<C> {
    let unseen = changed(rows, |row| {
        if let Row::Spender(spender) = row
            && let Limit::Counter(counter) = &mut spender.limit
        {
            counter.shown = 0;
            if let Some(permit) = &mut counter.permit {
                permit.had = 0;
            }
        }
    });
    let mut decision = command.decide(&unseen, now)?;
    for row in &mut decision.writes {
        if let Row::Spender(spender) = row
            && let Some(before) = rows.spender(&spender.key)
            && let (Limit::Counter(counter), Limit::Counter(before)) =
                (&mut spender.limit, &before.limit)
        {
            counter.shown = before.shown;
        }
    }
    Ok(decision)
}

/// Where the chain had a permit is forgotten.
fn sighting_forgotten<C: Command>(command: &C, rows: &Rows, now: Timestamp) -> Decided<C> {
    let unseen = changed(rows, |row| {
        if let Row::Spender(spender) = row
            && let Limit::Counter(counter) = &mut spender.limit
            && let Some(permit) = &mut counter.permit
        {
            permit.had = 0;
        }
    });
    command.decide(&unseen, now)
}

/// Every charge of older permits counts as drawn.
fn early_permit<C: Command>(command: &C, rows: &Rows, now: Timestamp) -> Decided<C> {
    let lower = changed(rows, |row| {
        if let Row::Spender(spender) = row
            && let Limit::Counter(counter) = &mut spender.limit
            && let Some(permit) = &counter.permit
        {
            counter.ceiling = counter.settled.saturating_add(permit.signed.value);
        }
    });
    let mut decision = command.decide(&lower, now)?;
    for row in &mut decision.writes {
        if let Row::Spender(spender) = row
            && let Limit::Counter(counter) = &mut spender.limit
            && let Some(Limit::Counter(before)) = rows.spender(&spender.key).map(|row| &row.limit)
        {
            counter.ceiling = before.ceiling;
        }
    }
    Ok(decision)
}
