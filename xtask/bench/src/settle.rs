//! The gas of a settled request, with the real contracts, the real till and the real settlement worker on the embedded
//! chain. Gas and blocks do not depend on the machine.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use tokio::sync::Notify;
use tollgate_bsc::{Chain, ChainConfig};
use tollgate_contracts::{
    abi::IErc20,
    addresses::{EXACT_PROXY, PERMIT2, UPTO_PROXY},
    tokens::USD1,
};
use tollgate_devchain::{BlockTime, DEV_ACCOUNTS, DEV_SETTLER, DevChain, Development, Genesis};
use tollgate_eip712::{
    AllowanceTerms, Eip3009Terms, LocalWallet, OnceTerms, TokenDomain, Wallet, sign_allowance,
    sign_eip3009, sign_once,
};
use tollgate_engine::{
    Cashier, CashierConfig, ChainVerifier, Market, Markets, OwnRail, Policy, RailConfig, Worker,
    WorkerConfig,
};
use tollgate_ledger::{MemoryStore, Store};
use tollgate_payment::{
    Ask, BatchState, Credit, Permit2Terms, Pricing, RequestBinding, Retention, Row as LedgerRow,
    SignerKey, Terms,
    port::{Hold, Till},
};
use tollgate_x402::{
    Amount, Authorization, B256, ChainId, Clock, Exact, PaymentPayload, ResourceInfo, Timestamp,
    U256,
};

use crate::report::{Row, Wanted};

const BENCH: &str = "settle";
const OPERATOR: usize = 7;
const TREASURY: usize = 9;
/// A request's charge: a cent.
const CENT: u128 = 10_000_000_000_000_000;
/// Payers of a batch.
const PAYERS: usize = 50;
/// Requests of each, since its last settlement.
const REQUESTS: usize = 20;
/// Payers whose charges wait at once.
const CROWD: usize = 1_000;

/// Everything that is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gas {
    /// Of an aggregated allowance, permit included, a request.
    pub(crate) first: f64,
    /// Of an aggregated allowance that the chain has, a request.
    pub(crate) known: f64,
    /// Of one request's allowance alone.
    pub(crate) known_alone: f64,
    /// Of a once payment, 50 at once.
    pub(crate) once: f64,
    /// Of one alone.
    pub(crate) once_alone: f64,
    /// Of an exact payment by EIP-3009, 50 at once.
    pub(crate) exact: f64,
    /// Of one alone.
    pub(crate) exact_alone: f64,
    /// Blocks from the first look to the last charge of a thousand payers being final.
    pub(crate) blocks: u64,
}

pub(crate) async fn run() -> anyhow::Result<Vec<Row>> {
    let gas = measure().await?;
    let row = |what: &str, value: f64| Row::new(BENCH, what, value, "gas a request");
    Ok(vec![
        row("allowance, 50 known payers, 20 requests each", gas.known)
            .beside("one alone", gas.known_alone)
            .wanted(Wanted::AtMost(2_000.0)),
        row(
            "allowance, 50 new payers with permits, 20 requests each",
            gas.first,
        )
        .beside("one alone", gas.known_alone)
        .wanted(Wanted::AtMost(6_000.0)),
        row("once, 50 payers", gas.once)
            .beside("one alone", gas.once_alone)
            .wanted(Wanted::AtMost(65_000.0)),
        row("exact (EIP-3009), 50 payers", gas.exact).beside("one alone", gas.exact_alone),
        Row::new(
            BENCH,
            "1,000 charges of 1,000 payers, due at once, all final",
            gas.blocks as f64,
            "blocks",
        )
        .wanted(Wanted::AtMost(20.0)),
    ])
}

pub(crate) async fn measure() -> anyhow::Result<Gas> {
    let mut seller = Seller::start(CROWD).await?;
    let all: Vec<usize> = (0..PAYERS).collect();
    let one: Vec<usize> = vec![PAYERS];

    let allowances = seller.allowances(PAYERS + 1).await?;
    for _ in 0..REQUESTS {
        seller.pay(&all, &allowances).await?;
    }
    let first = seller.settle().await?;
    for _ in 0..REQUESTS {
        seller.pay(&all, &allowances).await?;
    }
    let known = seller.settle().await?;
    // Once with its permit, then alone.
    seller.pay(&one, &allowances).await?;
    seller.settle().await?;
    seller.pay(&one, &allowances).await?;
    let known_alone = seller.settle().await?;

    let onces = seller.onces(PAYERS + 1).await?;
    seller.pay(&all, &onces).await?;
    let once = seller.settle().await?;
    seller.pay(&one, &onces).await?;
    let once_alone = seller.settle().await?;

    let exacts = seller.exacts(PAYERS + 1).await?;
    seller.buy(&all, &exacts).await?;
    let exact = seller.settle().await?;
    seller.buy(&one, &exacts).await?;
    let exact_alone = seller.settle().await?;

    // Known and new payers, as they come.
    let allowances = seller.later_allowances(CROWD).await?;
    let crowd: Vec<usize> = (0..CROWD).collect();
    seller.pay(&crowd, &allowances).await?;
    let crowd = seller.settle().await?;
    ensure!(
        crowd.requests == CROWD,
        "{} charges were settled",
        crowd.requests
    );
    Ok(Gas {
        first: first.each(),
        known: known.each(),
        known_alone: known_alone.each(),
        once: once.each(),
        once_alone: once_alone.each(),
        exact: exact.each(),
        exact_alone: exact_alone.each(),
        blocks: crowd.blocks,
    })
}

/// What was settled.
#[derive(Debug)]
struct Settled {
    requests: usize,
    gas: u64,
    blocks: u64,
}

impl Settled {
    fn each(&self) -> f64 {
        self.gas as f64 / self.requests as f64
    }
}

/// Time is the newest block's.
#[derive(Default)]
struct ChainClock(AtomicU64);

impl Clock for ChainClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }
}

struct Seller {
    chain: DevChain,
    reader: Chain,
    clock: Arc<ChainClock>,
    store: MemoryStore,
    till: Cashier<MemoryStore, ChainVerifier>,
    worker: Worker<MemoryStore, OwnRail<LocalWallet>, Arc<ChainClock>>,
    wallets: Vec<LocalWallet>,
    domain: TokenDomain,
    counted: BTreeSet<B256>,
}

impl Seller {
    async fn start(payers: usize) -> anyhow::Result<Self> {
        let wallets = (0..payers)
            .map(|number| {
                let mut key = [0x42; 32];
                key[24..].copy_from_slice(&u64::try_from(number)?.to_be_bytes());
                Ok(LocalWallet::from_bytes(&key)?)
            })
            .collect::<anyhow::Result<Vec<_>>>()?;
        let mut who = Development::default();
        who.accounts.extend(wallets.iter().map(Wallet::address));
        let mut genesis = Genesis::development(&who);
        let approve = IErc20::approveCall {
            spender: PERMIT2,
            value: U256::MAX,
        };
        let approve = alloy_sol_types::SolCall::abi_encode(&approve);
        for wallet in wallets.iter().take(PAYERS + 1) {
            genesis = genesis.call(wallet.address(), USD1, approve.clone());
        }
        let chain = DevChain::builder()
            .block_time(BlockTime::Manual)
            .genesis(genesis)
            .start()?;
        chain.serve(([127, 0, 0, 1], 0)).await?;
        let url = chain.rpc_url().context("the chain is not served")?;
        let reader = Chain::connect(ChainConfig::new(ChainId::DEV, [url])).await?;
        let clock = Arc::new(ChainClock::default());
        let store = MemoryStore::new(B256::ZERO, clock.clone());
        let domain = TokenDomain::new("World Liberty Financial USD", "1", ChainId::DEV, USD1);
        let mut credit = Credit::for_dollar(Amount::from(100 * CENT));
        credit.floor = Amount::from(100_000 * CENT);
        credit.ceiling = credit.floor;
        credit.exposure = Amount::from(10_000_000 * CENT);
        credit.in_flight = 64;
        let markets = markets(&domain, &credit);
        let market = markets.iter().next().context("no market")?;
        let work = Arc::new(Notify::new());
        let run = store.begin_run(1).await?;
        let till = Cashier::new(
            store.clone(),
            ChainVerifier::new(reader.clone(), markets.clone(), clock.clone(), 30),
            clock.clone(),
            CashierConfig {
                markets: markets.clone(),
                run: run.into(),
                margin: 60,
                retention: Retention::default(),
            },
            work.clone(),
        );
        let rail = OwnRail::new(
            reader.clone(),
            LocalWallet::from_bytes(&DEV_ACCOUNTS[OPERATOR].private_key.0)?,
            clock.clone(),
            RailConfig {
                settler: Some(DEV_SETTLER),
                treasury: market.treasury,
                gas_floor: 50_000_000,
                gas_cap: 5_000_000_000,
            },
        );
        let signer = SignerKey {
            chain: ChainId::DEV,
            operator: DEV_ACCOUNTS[OPERATOR].address,
        };
        let block = Duration::from_millis(450);
        let mut config = WorkerConfig::new(signer, Some(DEV_SETTLER), Policy::AtOnce, block);
        config.sole = true;
        let worker = Worker::new(store.clone(), rail, clock.clone(), config, work);
        let mut seller = Self {
            chain,
            reader,
            clock,
            store,
            till,
            worker,
            wallets,
            domain,
            counted: BTreeSet::new(),
        };
        (0..3).for_each(|_| seller.mine());
        Ok(seller)
    }

    fn mine(&mut self) {
        self.chain.mine();
        self.clock.0.store(self.chain.timestamp(), Ordering::SeqCst);
    }

    async fn allowances(&self, payers: usize) -> anyhow::Result<Vec<Authorization>> {
        self.permits(payers, |_| 0).await
    }

    /// Permits of payers of whom the first ones have signed before.
    async fn later_allowances(&self, payers: usize) -> anyhow::Result<Vec<Authorization>> {
        self.permits(payers, |payer| u64::from(payer <= PAYERS))
            .await
    }

    async fn permits(
        &self,
        payers: usize,
        nonce: impl Fn(usize) -> u64,
    ) -> anyhow::Result<Vec<Authorization>> {
        let mut signed = Vec::new();
        for (payer, wallet) in self.wallets.iter().enumerate().take(payers) {
            let terms = AllowanceTerms {
                spender: DEV_SETTLER,
                value: Amount::from(99 * CENT),
                nonce: U256::from(nonce(payer)),
                deadline: self.clock.now().plus(3_600),
            };
            signed.push(Authorization::Allowance(
                sign_allowance(wallet, &self.domain, &terms).await?,
            ));
        }
        Ok(signed)
    }

    async fn onces(&self, payers: usize) -> anyhow::Result<Vec<Authorization>> {
        let mut signed = Vec::new();
        for wallet in self.wallets.iter().take(payers) {
            let terms = OnceTerms {
                amount: Amount::from(99 * CENT),
                spender: UPTO_PROXY,
                // In a new word of the nonces, as with payers who draw them at random.
                nonce: U256::from(7_777_777_u64),
                deadline: self.clock.now().plus(3_600),
                to: DEV_SETTLER,
                facilitator: DEV_SETTLER,
                valid_after: Timestamp(0),
            };
            signed.push(Authorization::Once(
                sign_once(wallet, &self.domain, &terms).await?,
            ));
        }
        Ok(signed)
    }

    async fn exacts(&self, payers: usize) -> anyhow::Result<Vec<Authorization>> {
        let mut signed = Vec::new();
        for wallet in self.wallets.iter().take(payers) {
            let terms = Eip3009Terms {
                to: DEV_SETTLER,
                value: Amount::from(CENT),
                valid_after: Timestamp(0),
                valid_before: self.clock.now().plus(3_600),
                nonce: B256::repeat_byte(9),
            };
            signed.push(Authorization::Exact(Exact::Eip3009(
                sign_eip3009(wallet, &self.domain, &terms).await?,
            )));
        }
        Ok(signed)
    }

    /// A metered request of each of these payers, served and committed.
    async fn pay(&self, payers: &[usize], signed: &[Authorization]) -> anyhow::Result<()> {
        let (worst, least) = (Amount::from(2 * CENT), Amount::from(CENT));
        self.serve(payers, signed, Pricing::Metered { worst, least })
            .await
    }

    /// A request at a fixed price of each of these payers.
    async fn buy(&self, payers: &[usize], signed: &[Authorization]) -> anyhow::Result<()> {
        self.serve(payers, signed, Pricing::Fixed(Amount::from(CENT)))
            .await
    }

    async fn serve(
        &self,
        payers: &[usize],
        signed: &[Authorization],
        pricing: Pricing,
    ) -> anyhow::Result<()> {
        let offer = self.till.offer(Ask {
            resource: ResourceInfo::new("http://127.0.0.1/x402/v1"),
            pricing,
        });
        let required = offer.required("payment_required");
        for payer in payers {
            let signed = signed.get(*payer).context("no such payer")?;
            let entry = required
                .accepts
                .iter()
                .find(|entry| {
                    PaymentPayload::answering(&required, entry, signed)
                        .authorization_for(entry)
                        .as_ref()
                        == Ok(signed)
                })
                .context("no entry for this payment")?;
            let payload = PaymentPayload::answering(&required, entry, signed);
            let binding = RequestBinding {
                digest: B256::ZERO,
                memo: String::new(),
            };
            let admitted = self.till.admit(&offer, payload, binding).await?;
            let hold = admitted.hold().context("a request was served before")?;
            hold.commit(Amount::from(CENT), None).await?;
        }
        Ok(())
    }

    /// Settles everything that is due, and waits until it is final.
    async fn settle(&mut self) -> anyhow::Result<Settled> {
        let begin = self.chain.head();
        for _ in 0..200 {
            let progress = self.worker.tick().await?;
            let due = self.store.queues().await?;
            if progress.undecided == 0 && progress.sent == 0 && due.is_empty() {
                let blocks = self.chain.head() - begin;
                return self.count(blocks).await;
            }
            self.mine();
        }
        bail!("nothing settles")
    }

    async fn count(&mut self, blocks: u64) -> anyhow::Result<Settled> {
        let mut settled = Settled {
            requests: 0,
            gas: 0,
            blocks,
        };
        for row in self.store.rows().iter() {
            let LedgerRow::Batch(batch) = row else {
                continue;
            };
            let BatchState::Concluded {
                transaction: Some(hash),
                ..
            } = batch.state
            else {
                bail!("a batch was sent in vain");
            };
            if self.counted.insert(hash) {
                let receipt = self.reader.receipt(hash).await?.context("no receipt")?;
                settled.gas += receipt.gas_used;
                settled.requests += batch.payments().count();
            }
        }
        Ok(settled)
    }
}

fn markets(domain: &TokenDomain, credit: &Credit) -> Markets {
    let terms = Terms {
        chain: ChainId::DEV,
        token: USD1,
        name: domain.name().map(str::to_owned),
        version: domain.version().map(str::to_owned),
        pay_to: DEV_SETTLER,
        amount: Amount::from(99 * CENT),
        max_timeout: 86_400,
        permit: true,
        eip3009: true,
        permit2: Some(Permit2Terms {
            permit2: PERMIT2,
            upto_proxy: Some(UPTO_PROXY),
            exact_proxy: Some(EXACT_PROXY),
            facilitator: DEV_SETTLER,
        }),
    };
    Markets::new(vec![Market {
        terms,
        domain: domain.clone(),
        credit: credit.clone(),
        settler: true,
        treasury: DEV_ACCOUNTS[TREASURY].address,
    }])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gas and blocks are counts: they are what they are on any machine.
    #[tokio::test]
    async fn a_settled_request_costs_no_more_gas_than_was_promised() {
        let gas = measure().await.unwrap();
        assert!(gas.known <= 2_000.0, "{gas:?}");
        assert!(gas.first <= 6_000.0, "{gas:?}");
        assert!(gas.once <= 65_000.0, "{gas:?}");
        assert!(gas.blocks <= 20, "{gas:?}");
    }
}
