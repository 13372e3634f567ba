//! What is bought: the payers and their requests, made from a seed, the same in every life.

use alloy_primitives::keccak256;
use anyhow::Context;
use tollgate_bsc::{BlockTag, CallRequest, Chain};
use tollgate_contracts::{
    addresses::{EXACT_PROXY, UPTO_PROXY},
    tokens::USD1,
};
use tollgate_eip712::{
    AllowanceTerms, Eip3009Terms, LocalWallet, OnceTerms, Permit2ExactTerms, TokenDomain,
    sign_allowance, sign_eip3009, sign_once, sign_permit2_exact,
};
use tollgate_x402::{Address, Amount, Authorization, ChainId, Exact, Timestamp, U256};

use crate::dice::Dice;

/// What one token costs: a tenth of a cent.
pub(crate) const TOKEN: u64 = 1_000_000_000_000_000;
/// Tokens that may be delivered and not be durable: what a crash may cost of one stream.
pub(crate) const STEP: u64 = 3;
/// Payers of a history.
pub(crate) const PAYERS: usize = 4;
/// What each payer has: 100 dollars.
pub(crate) const PURSE: u128 = 100_000_000_000_000_000_000;

/// How a request is paid.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Allowance,
    Once,
    Eip3009,
    Permit2,
}

/// One request of a caller.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) number: u32,
    pub(crate) payer: usize,
    pub(crate) kind: Kind,
    /// How many tokens the service makes.
    pub(crate) tokens: u32,
    /// The caller hangs up after so many.
    pub(crate) hangs_up: Option<u32>,
}

impl Request {
    /// Whether one price is asked for it, before it is made.
    pub(crate) fn fixed(&self) -> bool {
        matches!(self.kind, Kind::Eip3009 | Kind::Permit2)
    }

    /// What the whole answer costs, in atomic units.
    pub(crate) fn price(&self) -> Amount {
        tokens(self.tokens)
    }
}

/// What so many tokens cost, in atomic units.
pub(crate) fn tokens(count: u32) -> Amount {
    Amount::from(u64::from(count) * TOKEN)
}

/// Everything that is asked for in a history.
pub(crate) fn requests(seed: u64) -> Vec<Request> {
    let mut dice = Dice::new(seed);
    let kinds = [
        [Kind::Allowance; 9].as_slice(),
        &[Kind::Once; 3],
        &[Kind::Eip3009; 1],
        &[Kind::Permit2; 1],
    ]
    .concat();
    let mut requests: Vec<Request> = (0..PAYERS)
        .flat_map(|payer| kinds.iter().map(move |kind| (payer, *kind)))
        .map(|(payer, kind)| {
            let tokens = 2 + dice.up_to(10);
            let leaves = dice.below(8) == 0 && !matches!(kind, Kind::Eip3009 | Kind::Permit2);
            Request {
                number: 0,
                payer,
                kind,
                tokens,
                hangs_up: leaves.then(|| dice.up_to(tokens)),
            }
        })
        .collect();
    for place in (1..requests.len()).rev() {
        let other = usize::try_from(dice.below(place as u64 + 1)).unwrap_or(0);
        requests.swap(place, other);
    }
    for (number, request) in requests.iter_mut().enumerate() {
        request.number = u32::try_from(number).unwrap_or(u32::MAX);
    }
    requests
}

/// A payer's key, of the seed.
pub(crate) fn wallet(seed: u64, payer: usize) -> anyhow::Result<LocalWallet> {
    let key = keccak256(format!("payer {payer} of the crash loops' seed {seed}"));
    LocalWallet::from_bytes(&key.0).context("a payer's key")
}

/// The payers' addresses.
pub(crate) fn addresses(seed: u64) -> anyhow::Result<Vec<Address>> {
    (0..PAYERS)
        .map(|payer| Ok(wallet(seed, payer)?.address()))
        .collect()
}

/// Signs for payers. What a claim is signed for is the same in every life.
pub(crate) struct Signer {
    pub(crate) seed: u64,
    pub(crate) domain: TokenDomain,
    pub(crate) pay_to: Address,
    pub(crate) deadline: Timestamp,
    pub(crate) chain: Chain,
}

impl Signer {
    /// The domain of the token in which everything is paid.
    pub(crate) fn domain() -> TokenDomain {
        TokenDomain::new("World Liberty Financial USD", "1", ChainId::DEV, USD1)
    }

    pub(crate) async fn sign(&self, request: &Request) -> anyhow::Result<Authorization> {
        let wallet = wallet(self.seed, request.payer)?;
        let number = u64::from(request.number);
        Ok(match request.kind {
            Kind::Allowance => {
                let nonce = self.permit_nonce(wallet.address()).await?;
                let terms = AllowanceTerms {
                    spender: self.pay_to,
                    // Each permit is worth something else: it sets, and does not add.
                    value: Amount::from(PURSE / 2 + nonce.to::<u128>() * u128::from(TOKEN)),
                    nonce,
                    deadline: self.deadline,
                };
                Authorization::Allowance(sign_allowance(&wallet, &self.domain, &terms).await?)
            }
            Kind::Once => {
                let terms = OnceTerms {
                    amount: tokens(request.tokens + 1),
                    spender: UPTO_PROXY,
                    nonce: U256::from(1000 + number),
                    deadline: self.deadline,
                    to: self.pay_to,
                    facilitator: self.pay_to,
                    valid_after: Timestamp(0),
                };
                Authorization::Once(sign_once(&wallet, &self.domain, &terms).await?)
            }
            Kind::Eip3009 => {
                let terms = Eip3009Terms {
                    to: self.pay_to,
                    value: request.price(),
                    valid_after: Timestamp(0),
                    valid_before: self.deadline,
                    nonce: keccak256(format!("{} {number}", self.seed)),
                };
                let signed = sign_eip3009(&wallet, &self.domain, &terms).await?;
                Authorization::Exact(Exact::Eip3009(signed))
            }
            Kind::Permit2 => {
                let terms = Permit2ExactTerms {
                    amount: request.price(),
                    spender: EXACT_PROXY,
                    nonce: U256::from(1000 + number),
                    deadline: self.deadline,
                    to: self.pay_to,
                    valid_after: Timestamp(0),
                };
                let signed = sign_permit2_exact(&wallet, &self.domain, &terms).await?;
                Authorization::Exact(Exact::Permit2(signed))
            }
        })
    }

    /// The nonce of the payer's next permit, as a client reads it: it rises when the first one is on the chain, so that
    /// later requests come with another permit.
    async fn permit_nonce(&self, owner: Address) -> anyhow::Result<U256> {
        let mut input = keccak256("nonces(address)")[..4].to_vec();
        input.extend_from_slice(owner.into_word().as_slice());
        let request = CallRequest {
            to: Some(USD1),
            input: input.into(),
            ..CallRequest::default()
        };
        let answer = self.chain.call(&request, BlockTag::Latest).await?;
        Ok(U256::from_be_slice(&answer))
    }
}
