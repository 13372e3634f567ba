//! A seller over a real chain: blocks are made by the test, and time is the chain's.
#![allow(dead_code, reason = "each test file uses a part")]

use std::{sync::Arc, time::Duration};

use tokio::sync::Notify;
use tollgate_bsc::{Chain, ChainConfig};
use tollgate_contracts::{
    addresses::{EXACT_PROXY, PERMIT2, UPTO_PROXY},
    tokens::USD1,
};
use tollgate_devchain::{BlockTime, DEV_ACCOUNTS, DEV_SETTLER, DevChain, Development, Genesis};
use tollgate_eip712::{
    AllowanceTerms, Eip3009Terms, LocalWallet, OnceTerms, Permit2ExactTerms, TokenDomain,
    sign_allowance, sign_eip3009, sign_once, sign_permit2_exact,
};
use tollgate_engine::{
    Cashier, CashierConfig, ChainVerifier, EngineHold, Market, Markets, OwnRail, Policy, Progress,
    RailConfig, Worker, WorkerConfig, status,
};
use tollgate_ledger::{MemoryStore, Store};
use tollgate_payment::{
    Ask, Credit, Offer, Permit2Terms, Pricing, RequestBinding, SignerKey, Terms,
    port::{AdmitError, Hold, Till},
};
use tollgate_x402::{
    Address, Amount, Authorization, B256, ChainId, Clock, Exact, PaymentId, PaymentPayload,
    PaymentState, PaymentStatus, ResourceInfo, Timestamp, U256,
};

pub const DOLLAR: u128 = 1_000_000_000_000_000_000;

pub fn dollars(cents: u64) -> Amount {
    Amount::from(u128::from(cents) * (DOLLAR / 100))
}

/// Time is the newest block's.
#[derive(Clone)]
pub struct ChainClock(pub DevChain);

impl Clock for ChainClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.timestamp())
    }
}

pub type TestTill = Cashier<MemoryStore, ChainVerifier>;
pub type TestHold = EngineHold<MemoryStore>;

pub struct World {
    pub chain: DevChain,
    pub reader: Chain,
    pub store: MemoryStore,
    pub till: TestTill,
    pub worker: Worker<MemoryStore, OwnRail<LocalWallet>, Arc<ChainClock>>,
    pub markets: Markets,
    pub domain: TokenDomain,
    pub pay_to: Address,
    pub treasury: Address,
    pub clock: Arc<ChainClock>,
}

#[derive(Clone)]
pub struct Setup {
    pub settler: bool,
    pub credit: Credit,
    pub allowances: Policy,
    pub balance: Option<Amount>,
}

impl Default for Setup {
    fn default() -> Self {
        // The payer's credit in most tests: 10 dollars at once, 64 requests in flight, 1,000 dollars in all.
        let mut credit = Credit::for_dollar(Amount::from(DOLLAR));
        credit.floor = dollars(1_000);
        credit.in_flight = 64;
        credit.exposure = dollars(100_000);
        Self {
            settler: true,
            credit,
            allowances: Policy::AtOnce,
            balance: None,
        }
    }
}

pub fn wallet(account: usize) -> LocalWallet {
    LocalWallet::from_bytes(&DEV_ACCOUNTS[account].private_key.0).unwrap()
}

pub const PAYER: usize = 0;
pub const OPERATOR: usize = 7;
pub const TREASURY: usize = 9;

impl World {
    pub async fn new(setup: Setup) -> Self {
        let chain = DevChain::builder()
            .block_time(BlockTime::Manual)
            .genesis(Genesis::development(&Development::default()))
            .start()
            .unwrap();
        chain.mine_blocks(3);
        chain.serve(([127, 0, 0, 1], 0)).await.unwrap();
        let reader = Chain::connect(ChainConfig::new(ChainId::DEV, [chain.rpc_url().unwrap()]))
            .await
            .unwrap();
        let clock = Arc::new(ChainClock(chain.clone()));
        let store = MemoryStore::new(B256::ZERO, clock.clone());
        let operator = DEV_ACCOUNTS[OPERATOR].address;
        let treasury = DEV_ACCOUNTS[TREASURY].address;
        let pay_to = if setup.settler { DEV_SETTLER } else { operator };
        let domain = TokenDomain::new("World Liberty Financial USD", "1", ChainId::DEV, USD1);
        let markets = Markets::new(vec![Market {
            terms: Terms {
                chain: ChainId::DEV,
                token: USD1,
                name: domain.name().map(str::to_owned),
                version: domain.version().map(str::to_owned),
                pay_to,
                amount: dollars(99),
                max_timeout: 86_400,
                permit: true,
                eip3009: true,
                permit2: Some(Permit2Terms {
                    permit2: PERMIT2,
                    upto_proxy: Some(UPTO_PROXY),
                    exact_proxy: Some(EXACT_PROXY),
                    facilitator: pay_to,
                }),
            },
            domain: domain.clone(),
            credit: setup.credit.clone(),
            settler: setup.settler,
            treasury,
        }]);
        let work = Arc::new(Notify::new());
        let verifier = ChainVerifier::new(reader.clone(), markets.clone(), clock.clone(), 30);
        let config = CashierConfig {
            markets: markets.clone(),
            epoch: 1,
            slice: 0,
            margin: 60,
        };
        let till = Cashier::new(store.clone(), verifier, clock.clone(), config, work.clone());
        let settler = setup.settler.then_some(pay_to);
        let rail = OwnRail::new(
            reader.clone(),
            wallet(OPERATOR),
            clock.clone(),
            RailConfig {
                settler,
                treasury,
                gas_floor: 50_000_000,
                gas_cap: 5_000_000_000,
            },
        );
        let signer = SignerKey {
            chain: ChainId::DEV,
            operator,
        };
        let config = WorkerConfig::new(
            signer,
            settler,
            setup.allowances,
            Duration::from_millis(450),
        );
        let worker = Worker::new(store.clone(), rail, clock.clone(), config, work);
        Self {
            chain,
            reader,
            store,
            till,
            worker,
            markets,
            domain,
            pay_to,
            treasury,
            clock,
        }
    }

    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub fn offer(&self, pricing: Pricing) -> Offer {
        self.till.offer(Ask {
            resource: ResourceInfo::new("http://127.0.0.1/x402/v1"),
            pricing,
        })
    }

    /// A metered offer of this worst case, with a minimum of a cent or the worst case.
    pub fn metered(&self, worst: Amount) -> Offer {
        self.offer(Pricing::Metered {
            worst,
            least: worst.min(dollars(1)),
        })
    }

    pub async fn allowance(&self, payer: usize, value: Amount, nonce: u64) -> Authorization {
        let terms = AllowanceTerms {
            spender: self.pay_to,
            value,
            nonce: U256::from(nonce),
            deadline: self.now().plus(3_600),
        };
        Authorization::Allowance(
            sign_allowance(&wallet(payer), &self.domain, &terms)
                .await
                .unwrap(),
        )
    }

    pub async fn once(&self, payer: usize, amount: Amount, nonce: u64) -> Authorization {
        let terms = OnceTerms {
            amount,
            spender: UPTO_PROXY,
            nonce: U256::from(nonce),
            deadline: self.now().plus(3_600),
            to: self.pay_to,
            facilitator: self.pay_to,
            valid_after: Timestamp(0),
        };
        Authorization::Once(
            sign_once(&wallet(payer), &self.domain, &terms)
                .await
                .unwrap(),
        )
    }

    pub async fn transfer(&self, payer: usize, value: Amount, nonce: u8) -> Authorization {
        let terms = Eip3009Terms {
            to: self.pay_to,
            value,
            valid_after: Timestamp(0),
            valid_before: self.now().plus(3_600),
            nonce: B256::repeat_byte(nonce),
        };
        Authorization::Exact(Exact::Eip3009(
            sign_eip3009(&wallet(payer), &self.domain, &terms)
                .await
                .unwrap(),
        ))
    }

    pub async fn permit2_exact(&self, payer: usize, amount: Amount, nonce: u64) -> Authorization {
        let terms = Permit2ExactTerms {
            amount,
            spender: EXACT_PROXY,
            nonce: U256::from(nonce),
            deadline: self.now().plus(3_600),
            to: self.pay_to,
            valid_after: Timestamp(0),
        };
        let signed = sign_permit2_exact(&wallet(payer), &self.domain, &terms)
            .await
            .unwrap();
        Authorization::Exact(Exact::Permit2(signed))
    }

    /// Sends a payment as a client's header would carry it.
    pub async fn admit(
        &self,
        offer: &Offer,
        signed: &Authorization,
    ) -> Result<TestHold, AdmitError> {
        self.admit_for(offer, signed, B256::ZERO).await
    }

    pub async fn admit_for(
        &self,
        offer: &Offer,
        signed: &Authorization,
        request: B256,
    ) -> Result<TestHold, AdmitError> {
        let required = offer.required("payment_required");
        let entry = required
            .accepts
            .iter()
            .find(|entry| {
                PaymentPayload::answering(&required, entry, signed)
                    .authorization_for(entry)
                    .as_ref()
                    == Ok(signed)
            })
            .unwrap_or(&required.accepts[0]);
        let payload = PaymentPayload::answering(&required, entry, signed);
        self.till
            .admit(
                offer,
                payload,
                RequestBinding {
                    digest: request,
                    memo: String::new(),
                },
            )
            .await
    }

    /// Admits, serves and commits one request; returns its id.
    pub async fn pay(&self, offer: &Offer, signed: &Authorization, used: Amount) -> PaymentId {
        let mut hold = self.admit(offer, signed).await.unwrap();
        hold.durable().await.unwrap();
        let id = hold.id();
        hold.commit(used, None).await.unwrap();
        id
    }

    pub async fn tick(&mut self) -> Progress {
        self.worker.tick().await.unwrap()
    }

    /// Lets blocks pass and the worker work, until nothing is due or undecided.
    pub async fn settle(&mut self) {
        for _ in 0..40 {
            let progress = self.tick().await;
            if progress.undecided == 0
                && progress.sent == 0
                && self.store.queues().await.unwrap().is_empty()
            {
                return;
            }
            self.chain.increase_time(3);
            self.chain.mine();
        }
        panic!("nothing settles");
    }

    pub async fn status(&self, id: PaymentId) -> PaymentStatus {
        status(&self.store, &self.markets, id)
            .await
            .unwrap()
            .unwrap()
            .0
    }

    pub async fn state(&self, id: PaymentId) -> PaymentState {
        self.status(id).await.state
    }

    /// The token's balance of an account, from the chain.
    pub async fn balance(&self, account: Address) -> Amount {
        self.token_call("balanceOf(address)", &[account]).await
    }

    async fn token_call(&self, signature: &str, arguments: &[Address]) -> Amount {
        let mut input = alloy_primitives::keccak256(signature)[..4].to_vec();
        arguments
            .iter()
            .for_each(|address| input.extend_from_slice(address.into_word().as_slice()));
        let request = tollgate_bsc::CallRequest {
            to: Some(USD1),
            input: input.into(),
            ..Default::default()
        };
        let answer = self
            .reader
            .call(&request, tollgate_bsc::BlockTag::Latest)
            .await
            .unwrap();
        Amount::new(U256::from_be_slice(&answer))
    }

    /// Sends a call of the token from an account and mines it.
    pub async fn token_send(&self, account: usize, signature: &str, words: &[U256]) {
        let mut input = alloy_primitives::keccak256(signature)[..4].to_vec();
        words
            .iter()
            .for_each(|word| input.extend_from_slice(&word.to_be_bytes::<32>()));
        let call = tollgate_bsc::Call {
            to: USD1,
            input: input.into(),
            gas_limit: 200_000,
        };
        let nonce = self.chain.nonce(DEV_ACCOUNTS[account].address);
        let transaction = call.into_transaction(ChainId::DEV, nonce, 50_000_000);
        let signature = wallet(account)
            .sign_hash_sync(&transaction.signing_hash())
            .unwrap();
        let raw = transaction.into_raw(&signature);
        assert_eq!(
            self.reader.submit(&raw.raw).await,
            tollgate_bsc::Submission::Accepted
        );
        self.chain.mine();
        assert!(
            self.reader
                .receipt(raw.hash)
                .await
                .unwrap()
                .unwrap()
                .success
        );
    }

    pub async fn approve_permit2(&self, payer: usize, amount: U256) {
        self.token_send(
            payer,
            "approve(address,uint256)",
            &[U256::from_be_slice(PERMIT2.as_slice()), amount],
        )
        .await;
    }

    /// Leaves a payer with exactly this much.
    pub async fn leave(&self, payer: usize, amount: Amount) {
        let address = DEV_ACCOUNTS[payer].address;
        let rest = self.balance(address).await.checked_sub(amount).unwrap();
        let sink = U256::from_be_slice(DEV_ACCOUNTS[6].address.as_slice());
        self.token_send(payer, "transfer(address,uint256)", &[sink, rest.get()])
            .await;
        assert_eq!(self.balance(address).await, amount);
    }

    /// What the treasury has after everything that landed in the Settler was swept.
    pub async fn received(&self) -> Amount {
        let treasury = self.balance(self.treasury).await;
        let genesis = Amount::from(1_000_000 * DOLLAR);
        let waiting = if self.pay_to == self.treasury {
            Amount::ZERO
        } else {
            self.landed().await
        };
        treasury
            .checked_sub(genesis)
            .unwrap()
            .checked_add(waiting)
            .unwrap()
    }

    /// What landed at `payTo` and was not passed on: once and exact payments.
    async fn landed(&self) -> Amount {
        let there = self.balance(self.pay_to).await;
        let operator = DEV_ACCOUNTS[OPERATOR].address;
        if self.pay_to == operator {
            there.checked_sub(Amount::from(1_000_000 * DOLLAR)).unwrap()
        } else {
            there
        }
    }
}
