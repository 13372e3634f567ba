//! Admission: the authorization is claimed and the worst case reserved, in one step.

use tollgate_x402::{Amount, Authorization, B256, PaymentId, Timestamp, U256};

use super::{Naming, budget::Told, sum};
use crate::{
    history::DailySums,
    key::{AuthorizationKey, ExposureKey, OwnerKey, PaymentKeys, RowKey},
    policy::Credit,
    refusal::{CreditBound, FundsBound, Refusal},
    row::{
        AuthorizationRow, ExposureRow, IdentifierRow, Limit, OwnerRow, PaymentRow, PaymentState,
        Row, SpenderRow,
    },
    store::{Account, Command, Decision, Entry, RowSet, Rows},
    view::{Settled, View},
};

/// What the chain says of a payer, at one block.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Funds {
    /// The block.
    pub block: u64,
    /// When it was read.
    pub at: Timestamp,
    /// The payer's balance, in atomic units.
    pub balance: Amount,
    /// What the spender may draw.
    pub spender: SpenderFunds,
}

impl Funds {
    /// The same, read at this moment at the latest: moments are the store's, and another clock may be fast.
    pub(super) fn by(&self, now: Timestamp) -> Self {
        Self {
            at: self.at.min(now),
            ..self.clone()
        }
    }
}

/// What the chain says of a spender.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SpenderFunds {
    /// No spender: EIP-3009.
    None,
    /// The allowance of a spender that is not ours alone (Permit2).
    Seen {
        /// The ERC-20 allowance, in atomic units.
        allowance: Amount,
    },
    /// An allowance that only we draw.
    Counter {
        /// The token's `nonces(owner)`.
        nonce: U256,
        /// The ERC-20 allowance, in atomic units.
        allowance: Amount,
        /// The contract's counter, where `payTo` is a `Settler`.
        counter: Option<Amount>,
    },
}

/// Claims an authorization and reserves a request's worst case. Refuses, or holds the money.
///
/// A payer's name for the request is looked at first: a request that it names already is admitted once, and a fresh
/// authorization that comes with its repetition is neither claimed nor bound.
#[derive(Clone, Debug)]
pub struct Reserve {
    /// The rows of the payment, with a fresh random id.
    pub keys: PaymentKeys,
    /// What was signed, verified against our own offer, its signature included.
    pub authorization: Authorization,
    /// The EIP-712 digest of the authorization.
    pub digest: B256,
    /// The digest of the request: a once or exact authorization is bound to it.
    pub request: B256,
    /// The worst case, in atomic units. For an exact payment its price.
    pub worst: Amount,
    /// The least with which it makes sense to begin, in atomic units; at most `worst`.
    pub least: Amount,
    /// The payer's name for the request, if it has one.
    pub identifier: Option<Naming>,
    /// What the gateway wants to remember.
    pub memo: String,
    /// The gateway's run.
    pub epoch: u64,
    /// The bounds on what is lent.
    pub credit: Credit,
    /// The chain's word, where it was asked.
    pub funds: Option<Funds>,
}

/// What was reserved.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reservation {
    /// How much: the worst case, or less where only less can be paid; at least the minimum.
    pub reserved: Amount,
    /// What the authorization leaves after it, in atomic units.
    pub left: Amount,
}

impl Command for Reserve {
    type Outcome = Reservation;

    fn rows(&self) -> RowSet {
        self.keys
            .rows()
            .chain([RowKey::Authorization(self.keys.authorization)])
            .chain(self.identifier.iter().flat_map(Naming::rows))
            .collect()
    }

    fn decide(&self, rows: &Rows, now: Timestamp) -> Result<Decision<Reservation>, Refusal> {
        if let Some(funds) = self.funds.as_ref().filter(|funds| funds.at > now) {
            // Whoever read it has another clock: by the store's, nothing was read later than now.
            let dated = Self {
                funds: Some(funds.by(now)),
                ..self.clone()
            };
            return dated.decide(rows, now);
        }
        if rows.payment(&self.keys.id).is_some() {
            return Err(Refusal::Overtaken);
        }
        if let Some(naming) = &self.identifier {
            naming.check(self.request, rows, now)?;
        }
        self.check_claim(rows.authorization(&self.keys.authorization))?;

        let mut owner = rows
            .owner(&self.keys.owner)
            .cloned()
            .unwrap_or_else(|| OwnerRow::new(self.keys.owner));
        let mut spender = self.keys.spender_key().map(|key| {
            rows.spender(&key).cloned().unwrap_or_else(|| SpenderRow {
                key,
                held: Amount::ZERO,
                due: Amount::ZERO,
                limit: match self.authorization {
                    Authorization::Allowance(_) => Limit::Counter(Box::default()),
                    Authorization::Once(_) | Authorization::Exact(_) => Limit::Seen(None),
                },
            })
        });
        let mut exposure = rows
            .exposure(&self.keys.exposure)
            .cloned()
            .unwrap_or_else(|| ExposureRow::new(self.keys.exposure));

        if owner.blocked.is_some() {
            return Err(Refusal::Barred);
        }
        if !owner.lost.is_zero() {
            return Err(Refusal::Blocked { owed: owner.lost });
        }
        self.check_permit(spender.as_ref())?;
        self.check_credit(&owner, now)?;
        self.learn_balance(&mut owner, now)?;
        let generation = match &mut spender {
            None => 0,
            Some(spender) => self.learn_spender(spender, owner.settled.as_ref(), now)?,
        };

        let money = self.affordable(&owner, spender.as_ref())?;
        let (reserved, unproven) = self.lend(&owner, &exposure, money, now)?;

        owner.held = sum(owner.held, reserved)?;
        owner.in_flight = owner
            .in_flight
            .checked_add(1)
            .ok_or(Refusal::Books("too many payments in flight"))?;
        exposure.used = sum(exposure.used, unproven)?;
        let mut left = self.authorization.cap().saturating_sub(reserved);
        if let Some(spender) = &mut spender {
            spender.held = sum(spender.held, reserved)?;
            if let (Limit::Counter(counter), Authorization::Allowance(signed)) =
                (&spender.limit, &self.authorization)
            {
                left = counter.left_for(signed, spender.held, spender.due);
            }
        }

        // What is submitted is the counter's permit, which may be another than this request carries.
        let deadline = match spender.as_ref().map(|spender| &spender.limit) {
            Some(Limit::Counter(counter)) => counter.deadline(self.authorization.deadline()),
            _ => self.authorization.deadline(),
        };
        let claims = matches!(self.keys.authorization, AuthorizationKey::Claim { .. });
        let mut writes = vec![Row::Owner(owner), Row::Exposure(exposure)];
        writes.extend(spender.map(Row::Spender));
        if rows.authorization(&self.keys.authorization).is_none() {
            writes.push(Row::Authorization(AuthorizationRow {
                key: self.keys.authorization,
                signed: self.authorization.clone(),
                request: claims.then_some(self.request),
                payment: claims.then_some(self.keys.id),
                created: now,
                prices: None,
            }));
        }
        if let Some(naming) = &self.identifier {
            writes.push(Row::Identifier(IdentifierRow {
                key: naming.key,
                request: self.request,
                payment: self.keys.id,
                created: now,
                expires: naming.retention.until(deadline, now),
            }));
        }
        writes.push(Row::Payment(PaymentRow {
            keys: self.keys,
            state: PaymentState::Serving { used: Amount::ZERO },
            reserved,
            charge: Amount::ZERO,
            short: Amount::ZERO,
            company: 0,
            unproven,
            generation,
            interval: None,
            request: self.request,
            memo: self.memo.clone(),
            epoch: self.epoch,
            deadline,
            created: now,
            ended: None,
            updated: now,
        }));
        let entries = vec![Entry {
            payment: self.keys.id,
            owner: self.keys.owner,
            debit: Account::PayerHeld,
            credit: Account::Reserved,
            amount: reserved,
        }];
        Ok(Decision {
            writes,
            entries,
            outcome: Reservation { reserved, left },
        })
    }
}

impl Reserve {
    /// The payment that admitted this very request before, by the payer's name for it or by a once or exact
    /// authorization. It tells of what is known, and nothing is written.
    pub fn admitted(&self, rows: &Rows, now: Timestamp) -> Option<PaymentId> {
        let naming = self.identifier.as_ref();
        let named = naming.map_or(Ok(()), |naming| naming.check(self.request, rows, now));
        let claimed = || self.check_claim(rows.authorization(&self.keys.authorization));
        named.and_then(|()| claimed()).err()?.payment()
    }

    /// One once or exact authorization admits one request.
    fn check_claim(&self, known: Option<&AuthorizationRow>) -> Result<(), Refusal> {
        let (Some(row), AuthorizationKey::Claim { .. }) = (known, self.keys.authorization) else {
            return Ok(());
        };
        match row.payment {
            // Whether that payment still runs is for the caller to look up by its id.
            Some(payment) if row.request == Some(self.request) => Err(Refusal::Admitted(payment)),
            _ => Err(Refusal::Used),
        }
    }

    /// A permit to which another succeeded pays for nothing more: what is left is its successor's, of which whoever holds the
    /// old one's header need not have signed anything.
    fn check_permit(&self, spender: Option<&SpenderRow>) -> Result<(), Refusal> {
        let Authorization::Allowance(signed) = &self.authorization else {
            return Ok(());
        };
        let newest = match spender.map(|spender| &spender.limit) {
            Some(Limit::Counter(counter)) => counter.permit.as_ref(),
            _ => None,
        };
        match newest.map(|permit| permit.signed.nonce) {
            Some(nonce) if nonce > signed.nonce => Err(Refusal::PermitNonce {
                signed: signed.nonce,
                expected: nonce,
            }),
            _ => Ok(()),
        }
    }

    /// What a payer at its bound can be told without asking the chain.
    fn check_credit(&self, owner: &OwnerRow, now: Timestamp) -> Result<(), Refusal> {
        let limited = |bound| {
            Err(Refusal::Limited {
                bound,
                retry_after: RETRY_AFTER,
            })
        };
        if owner.in_flight >= self.credit.in_flight_of(owner, now) {
            return limited(CreditBound::InFlight);
        }
        let credit = self
            .credit
            .of(owner, now)
            .saturating_sub(sum(owner.held, owner.due)?);
        if credit < self.least {
            return limited(self.own_bound(owner, now));
        }
        Ok(())
    }

    /// What the payer is told of its own credit: whether it helps to wait.
    fn own_bound(&self, owner: &OwnerRow, now: Timestamp) -> CreditBound {
        if self.credit.of(owner, now) < self.least {
            CreditBound::Request
        } else {
            CreditBound::Payer
        }
    }

    /// Takes the chain's word on the balance, or makes sure that the last one is fresh.
    fn learn_balance(&self, owner: &mut OwnerRow, now: Timestamp) -> Result<(), Refusal> {
        if self.funds.as_ref().is_some_and(|funds| owner.learn(funds)) {
            return Ok(());
        }
        match owner.view {
            Some(view) if self.fresh(view.at, now) => Ok(()),
            _ => Err(Refusal::FundsNeeded),
        }
    }

    fn fresh(&self, at: Timestamp, now: Timestamp) -> bool {
        // Not one of a clock that was ahead: it may be of any age.
        at <= now.plus(self.credit.view_age) && now.since(at) <= self.credit.view_age
    }

    /// Takes the chain's word on the spender; returns the counter's generation.
    fn learn_spender(
        &self,
        spender: &mut SpenderRow,
        settled: Option<&Settled>,
        now: Timestamp,
    ) -> Result<u32, Refusal> {
        let due = spender.due;
        match (&mut spender.limit, &self.authorization) {
            (Limit::Seen(view), Authorization::Once(_) | Authorization::Exact(_)) => {
                let learned = match &self.funds {
                    Some(
                        funds @ Funds {
                            spender: SpenderFunds::Seen { allowance },
                            ..
                        },
                    ) => View::learn(view, *allowance, funds, settled),
                    _ => false,
                };
                match *view {
                    _ if learned => {}
                    Some(view) if self.fresh(view.at, now) => {}
                    _ => return Err(Refusal::FundsNeeded),
                }
                Ok(0)
            }
            (Limit::Counter(counter), Authorization::Allowance(signed)) => {
                // A node that is behind tells of a nonce that is gone.
                let told = self.funds.as_ref();
                match told.filter(|funds| counter.counts(funds.block, settled)) {
                    Some(Funds {
                        at,
                        block,
                        spender:
                            SpenderFunds::Counter {
                                nonce,
                                allowance,
                                counter: drawn,
                            },
                        ..
                    }) => {
                        let told = Told {
                            block: *block,
                            nonce: *nonce,
                            allowance: *allowance,
                            drawn: *drawn,
                        };
                        counter.learn(signed, self.digest, told, due)?;
                        if *nonce == signed.nonce {
                            counter.renew(signed, self.digest, *block, now);
                        }
                        counter.seen = Some(*at);
                    }
                    _ => {
                        let known = counter.permit.as_ref().is_some_and(|permit| {
                            permit.digest == self.digest
                                || (permit.signed.nonce == signed.nonce
                                    && permit.signed.value == signed.value
                                    && permit.signed.deadline >= signed.deadline)
                        });
                        if !known || !counter.seen.is_some_and(|at| self.fresh(at, now)) {
                            return Err(Refusal::FundsNeeded);
                        }
                    }
                }
                Ok(counter.generation)
            }
            _ => Err(Refusal::Books(
                "a spender's kind is not the authorization's",
            )),
        }
    }

    /// What can be paid for this request, at least its minimum.
    fn affordable(
        &self,
        owner: &OwnerRow,
        spender: Option<&SpenderRow>,
    ) -> Result<Amount, Refusal> {
        let (available, bound) = self.money(owner, spender, View::sure);
        if available >= self.worst {
            return Ok(available);
        }
        let (told, _) = self.money(owner, spender, |view| view.amount);
        if told > available && self.funds.is_none() {
            // A look at the chain may show more.
            return Err(Refusal::FundsNeeded);
        }
        if available >= self.least {
            return Ok(available);
        }
        Err(if told >= self.least {
            // There may well be enough: nothing has to be sent to the payer's account, or signed.
            Refusal::Limited {
                bound: CreditBound::Settling,
                retry_after: RETRY_AFTER,
            }
        } else {
            Refusal::Insufficient {
                bound,
                available,
                needed: self.least,
            }
        })
    }

    /// What the payer can pay, with its funds by this reading of what was seen of them; and what bounds it.
    fn money(
        &self,
        owner: &OwnerRow,
        spender: Option<&SpenderRow>,
        read: impl Fn(&View) -> Amount,
    ) -> (Amount, FundsBound) {
        let read = |view: &Option<View>| view.as_ref().map_or(Amount::ZERO, &read);
        let balance = read(&owner.view)
            .saturating_sub(owner.held)
            .saturating_sub(owner.due);
        let mut money = (balance, FundsBound::Balance);
        if let Some(spender) = spender {
            let left = match (&spender.limit, &self.authorization) {
                (Limit::Counter(counter), Authorization::Allowance(signed)) => {
                    counter.left_for(signed, spender.held, spender.due)
                }
                (Limit::Counter(_), _) => Amount::ZERO,
                (Limit::Seen(view), _) => read(view)
                    .saturating_sub(spender.held)
                    .saturating_sub(spender.due),
            };
            if left < money.0 {
                money = (left, FundsBound::Allowance);
            }
        }
        if !matches!(self.authorization, Authorization::Allowance(_))
            && self.authorization.cap() < money.0
        {
            money = (self.authorization.cap(), FundsBound::Authorization);
        }
        money
    }

    /// What is lent of it, and the part above the payer's own paid history.
    fn lend(
        &self,
        owner: &OwnerRow,
        exposure: &ExposureRow,
        money: Amount,
        now: Timestamp,
    ) -> Result<(Amount, Amount), Refusal> {
        let limited = |bound| {
            Err(Refusal::Limited {
                bound,
                retry_after: RETRY_AFTER,
            })
        };
        if owner.in_flight >= self.credit.in_flight_of(owner, now) {
            return limited(CreditBound::InFlight);
        }
        let open = sum(owner.held, owner.due)?;
        let credit = self.credit.of(owner, now).saturating_sub(open);
        let proven = owner.history.paid(now).saturating_sub(open);
        let global = self
            .credit
            .exposure
            .saturating_sub(exposure.at_risk(now))
            .saturating_add(proven);
        let reserved = self.worst.min(money).min(credit).min(global);
        if reserved < self.least || reserved.is_zero() && !self.worst.is_zero() {
            return limited(if credit <= global {
                self.own_bound(owner, now)
            } else {
                CreditBound::Global
            });
        }
        Ok((reserved, reserved.saturating_sub(proven)))
    }
}

/// Seconds after which a payer at a bound may try again: settlements become final in about as many.
const RETRY_AFTER: u64 = 2;

impl OwnerRow {
    /// A payer of whom nothing is known.
    pub fn new(key: OwnerKey) -> Self {
        Self {
            key,
            held: Amount::ZERO,
            due: Amount::ZERO,
            in_flight: 0,
            view: None,
            history: Default::default(),
            lost: Amount::ZERO,
            settled: None,
            blocked: None,
        }
    }
}

impl ExposureRow {
    /// A slice in which nothing is open.
    pub const fn new(key: ExposureKey) -> Self {
        Self {
            key,
            used: Amount::ZERO,
            lost: DailySums::new(),
        }
    }

    /// What counts against the global bound, in atomic units: what is open above payers' own paid history, and what was
    /// lost of it in the last 30 days.
    pub fn at_risk(&self, now: Timestamp) -> Amount {
        self.used.saturating_add(self.lost.sum(now))
    }
}
