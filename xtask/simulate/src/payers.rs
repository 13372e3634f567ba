//! Payers: honest ones, and those who take what they can.

use std::collections::BTreeMap;

use alloy_primitives::{Address, B256, U256};
use tollgate_contracts::addresses::{EXACT_PROXY, UPTO_PROXY};
use tollgate_x402::{
    Allowance, Amount, Authorization, ChainId, Eip3009, Exact, Identifier, Once, Permit2Exact,
    Timestamp,
};

use crate::{
    books::{nonce, units},
    chain::{
        Act,
        state::{Purse, What},
    },
    names::{self, SETTLER, TOKEN, operator, payer},
    rng::Rng,
    setting::{Kind, Setting},
};

/// A payer.
#[derive(Clone, Debug)]
pub(crate) struct Payer {
    pub(crate) index: usize,
    pub(crate) honest: bool,
    /// The permit in use.
    pub(crate) permit: Option<Allowance>,
    /// It submits its first permit itself, as anybody may.
    eager: bool,
    /// The permit that it has submitted.
    submitted: Option<Allowance>,
    /// Whether anything was charged to its allowance.
    pub(crate) charged: bool,
    /// What every permit is worth, by its nonce: the largest that was signed.
    signed: BTreeMap<u64, u64>,
    nonces: u64,
    /// What was signed before, with the request that it was for.
    pub(crate) past: Vec<(Authorization, u64, u64)>,
    /// Permits before it.
    replaced: Vec<Allowance>,
    /// Requests that it has named.
    named: Vec<(Identifier, u64)>,
}

/// What a payer asks for.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    pub(crate) payer: usize,
    pub(crate) authorization: Authorization,
    /// The request's number: the same number is the same request.
    pub(crate) request: u64,
    /// The worst case, or the price.
    pub(crate) worst: u64,
    pub(crate) least: u64,
    /// What it comes to.
    pub(crate) uses: u64,
    /// Its name, which is that of an earlier one where it is asked for again with a fresh authorization.
    pub(crate) identifier: Option<Identifier>,
    /// It was signed for another request before.
    pub(crate) replayed: Option<bool>,
}

pub(crate) fn draw(setting: &Setting, rng: &mut Rng) -> (Vec<Payer>, Vec<Purse>) {
    let count = usize::try_from(rng.range(setting.payers.0, setting.payers.1)).unwrap_or(3);
    let mut payers = Vec::new();
    let mut purses = Vec::new();
    for index in 0..count {
        let honest = !rng.permille(setting.hostile);
        payers.push(Payer {
            index,
            honest,
            permit: None,
            eager: rng.permille(setting.eager),
            submitted: None,
            charged: false,
            signed: BTreeMap::new(),
            nonces: 1_000 * (index as u64 + 1),
            past: Vec::new(),
            replaced: Vec::new(),
            named: Vec::new(),
        });
        let balance = if setting.poor || !honest {
            rng.range(150, 1_500)
        } else {
            rng.range(5_000, 100_000)
        };
        let permit2 = if rng.permille(700) {
            u64::MAX
        } else {
            rng.range(300, 3_000)
        };
        purses.push(Purse {
            balance,
            permit2,
            ..Purse::default()
        });
    }
    (payers, purses)
}

impl Payer {
    /// Everything that its permits are worth.
    pub(crate) fn signed_in_all(&self) -> u64 {
        self.signed.values().sum()
    }

    /// The next request.
    pub(crate) fn order(
        &mut self,
        setting: &Setting,
        purse: &Purse,
        now: u64,
        request: u64,
        rng: &mut Rng,
    ) -> Order {
        // What was signed before comes again: for the same request, or for another.
        if !self.past.is_empty() && rng.permille(120) {
            let place = rng.place(self.past.len());
            let (authorization, first, worst) = self.past[place].clone();
            let same = rng.permille(600);
            return Order {
                payer: self.index,
                request: if same { first } else { request },
                worst,
                least: worst / 3,
                uses: rng.below(worst + 1),
                replayed: Some(same),
                identifier: None,
                authorization,
            };
        }
        let kind = if rng.permille(800) {
            setting.kind
        } else {
            *rng.pick(&Kind::ALL).unwrap_or(&setting.kind)
        };
        let worst = if rng.permille(100) {
            rng.range(100, 350)
        } else {
            rng.range(10, 120)
        };
        let deadline = if self.honest || rng.permille(700) {
            now + rng.range(3_000, 5_000)
        } else {
            now + setting.margin + rng.range(1, 30)
        };
        let uses = if rng.permille(60) {
            0
        } else {
            rng.range(1, worst)
        };
        let authorization = match kind {
            Kind::Allowance => {
                let newest = self.allowance(setting, purse, deadline, rng);
                Authorization::Allowance(self.shown(request).unwrap_or(newest))
            }
            Kind::Once => self.once(setting, worst, deadline, rng),
            Kind::Exact => self.exact(setting, worst, deadline, rng),
        };
        let (identifier, request) = self.name(request, rng);
        if !matches!(authorization, Authorization::Allowance(_)) {
            self.past.push((authorization.clone(), request, worst));
        }
        let exact = matches!(authorization, Authorization::Exact(_));
        Order {
            payer: self.index,
            authorization,
            identifier,
            request,
            worst,
            least: if exact { worst } else { worst / 3 },
            uses,
            replayed: None,
        }
    }

    /// A third of what is asked for has a name. Some of it was asked for before; or its name was given to something else.
    fn name(&mut self, request: u64, rng: &mut Rng) -> (Option<Identifier>, u64) {
        if !rng.permille(300) {
            return (None, request);
        }
        if rng.permille(300)
            && let Some((name, first)) = rng.pick(&self.named)
        {
            let again = if rng.permille(700) { *first } else { request };
            return (Some(name.clone()), again);
        }
        let name: Option<Identifier> = format!("request-{request:016}").parse().ok();
        self.named.extend(name.clone().map(|name| (name, request)));
        (name, request)
    }

    fn allowance(
        &mut self,
        setting: &Setting,
        purse: &Purse,
        deadline: u64,
        rng: &mut Rng,
    ) -> Allowance {
        match &self.permit {
            Some(permit) if rng.permille(1_000 - setting.resigned) => permit.clone(),
            _ => self.sign_permit(setting, purse, deadline, rng),
        }
    }

    /// A permit before the newest, shown by whoever has its header still.
    fn shown(&self, request: u64) -> Option<Allowance> {
        let place = usize::try_from(request / 7).unwrap_or_default();
        let place = place.checked_rem(self.replaced.len())?;
        (request % 7 == 3).then(|| self.replaced[place].clone())
    }

    /// What it does on the chain by itself when it has asked.
    pub(crate) fn submits(&mut self) -> Option<Act> {
        let permit = self.permit.as_ref().filter(|_| self.eager)?;
        if self.submitted.is_some() || !permit.nonce.is_zero() {
            return None;
        }
        self.submitted = Some(permit.clone());
        Some(submission(permit))
    }

    /// Signs a permit with the token's nonce of now. One that replaces another of the same nonce is better.
    pub(crate) fn sign_permit(
        &mut self,
        setting: &Setting,
        purse: &Purse,
        deadline: u64,
        rng: &mut Rng,
    ) -> Allowance {
        // What it has submitted stands for its nonce: another would be worth nothing. And while nothing is charged to it
        // the seller has no reason to submit it again, if it gets lost: then a successor would be worth nothing either.
        if let Some(permit) = &self.submitted
            && (permit.nonce == U256::from(purse.permit_nonce) || !self.charged)
        {
            return permit.clone();
        }
        let mut value = rng.range(setting.worth.0, setting.worth.1);
        let mut deadline = deadline;
        if let Some(permit) = &self.permit
            && permit.nonce == U256::from(purse.permit_nonce)
        {
            value += units(permit.value);
            deadline = deadline.max(permit.deadline.0);
        }
        let (owner, spender) = (payer(self.index), seller(setting));
        let tag = names::permit_tag(owner, spender, value, purse.permit_nonce, deadline);
        let permit = Allowance {
            chain: ChainId::DEV,
            token: TOKEN,
            owner,
            spender,
            value: Amount::from(value),
            nonce: U256::from(purse.permit_nonce),
            deadline: Timestamp(deadline),
            signature: names::signature(tag),
        };
        let most = self.signed.entry(purse.permit_nonce).or_default();
        *most = value.max(*most);
        self.replaced.extend(self.permit.replace(permit.clone()));
        permit
    }

    fn fresh(&mut self) -> u64 {
        self.nonces += 1;
        self.nonces
    }

    fn once(
        &mut self,
        setting: &Setting,
        worst: u64,
        deadline: u64,
        rng: &mut Rng,
    ) -> Authorization {
        let (owner, to) = (payer(self.index), seller(setting));
        let amount = worst + rng.below(50);
        let number = nonce(self.fresh());
        let tag = names::once_tag(owner, amount, number, deadline, to, to);
        Authorization::Once(Once {
            chain: ChainId::DEV,
            token: TOKEN,
            owner,
            amount: Amount::from(amount),
            spender: UPTO_PROXY,
            nonce: number,
            deadline: Timestamp(deadline),
            to,
            facilitator: to,
            valid_after: Timestamp(0),
            signature: names::signature(tag),
        })
    }

    fn exact(
        &mut self,
        setting: &Setting,
        price: u64,
        deadline: u64,
        rng: &mut Rng,
    ) -> Authorization {
        let (owner, to) = (payer(self.index), seller(setting));
        let number = nonce(self.fresh());
        if rng.permille(500) {
            let number = B256::from(number);
            let tag = names::eip3009_tag(owner, to, price, deadline, number);
            return Authorization::Exact(Exact::Eip3009(Eip3009 {
                chain: ChainId::DEV,
                token: TOKEN,
                owner,
                to,
                value: Amount::from(price),
                valid_after: Timestamp(0),
                valid_before: Timestamp(deadline),
                nonce: number,
                signature: names::signature(tag),
            }));
        }
        let tag = names::exact_tag(owner, price, number, deadline, to);
        Authorization::Exact(Exact::Permit2(Permit2Exact {
            chain: ChainId::DEV,
            token: TOKEN,
            owner,
            amount: Amount::from(price),
            spender: EXACT_PROXY,
            nonce: number,
            deadline: Timestamp(deadline),
            to,
            valid_after: Timestamp(0),
            signature: names::signature(tag),
        }))
    }

    /// What a hostile payer does while it is served, or after: the ways to void a payment.
    pub(crate) fn void(&self, signed: &Authorization, purse: &Purse, rng: &mut Rng) -> Act {
        let index = self.index;
        match rng.below(8) {
            0 => match signed {
                Authorization::Once(signed) => Act::Void(index, What::Permit2(signed.nonce)),
                Authorization::Exact(Exact::Permit2(signed)) => {
                    Act::Void(index, What::Permit2(signed.nonce))
                }
                Authorization::Exact(Exact::Eip3009(signed)) => {
                    Act::Void(index, What::Eip3009(signed.nonce))
                }
                Authorization::Allowance(_) => Act::ApproveSeller(index, 0),
            },
            1 => Act::ApprovePermit2(index, 0),
            2 => Act::ApproveSeller(index, rng.below(100)),
            3 => Act::Send(index, rng.range(purse.balance / 2, purse.balance)),
            4 => Act::Code(index, rng.permille(600)),
            5 => match signed {
                Authorization::Once(signed) => {
                    Act::Elsewhere(index, signed.nonce, units(signed.amount))
                }
                Authorization::Exact(Exact::Permit2(signed)) => {
                    Act::Elsewhere(index, signed.nonce, units(signed.amount))
                }
                _ => Act::Send(index, purse.balance),
            },
            6 => match &self.permit {
                Some(permit) => submission(permit),
                None => Act::Freeze(index, rng.permille(500)),
            },
            _ => Act::Receive(index, rng.range(50, 500)),
        }
    }
}

fn submission(permit: &Allowance) -> Act {
    Act::Permit(
        permit.owner,
        permit.spender,
        units(permit.value),
        permit.deadline.0,
        permit.signature.r(),
    )
}

/// Who is paid.
pub(crate) fn seller(setting: &Setting) -> Address {
    if setting.settler {
        SETTLER
    } else {
        operator(0)
    }
}
