//! A seller over a real chain: blocks are made by the test, and time is the chain's.

mod backend;

use std::{sync::Arc, time::Duration};

pub(crate) use backend::{Backend, ChainClock};

use tokio::sync::Notify;
use tollgate_bsc::{BlockTag, Chain, ChainConfig};
use tollgate_contracts::{
    addresses::{EXACT_PROXY, PERMIT2, UPTO_PROXY},
    tokens::USD1,
};
use tollgate_devchain::DEV_ACCOUNTS;
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
    port::{Admission, AdmitError, Hold, Till},
};
use tollgate_x402::{
    Address, Amount, Authorization, B256, ChainId, Clock, Exact, PaymentId, PaymentPayload,
    PaymentState, PaymentStatus, ResourceInfo, Timestamp, U256,
};

pub(crate) const DOLLAR: u128 = 1_000_000_000_000_000_000;

pub(crate) fn dollars(cents: u64) -> Amount {
    Amount::from(u128::from(cents) * (DOLLAR / 100))
}

pub(crate) type TestTill = Cashier<MemoryStore, ChainVerifier>;
pub(crate) type TestWorker = Worker<MemoryStore, OwnRail<LocalWallet>, Arc<ChainClock>>;
pub(crate) type TestHold = EngineHold<MemoryStore>;

pub(crate) struct World {
    pub(crate) chain: Backend,
    pub(crate) setup: Setup,
    pub(crate) epoch: u64,
    pub(crate) reader: Chain,
    pub(crate) store: MemoryStore,
    pub(crate) till: TestTill,
    pub(crate) worker: TestWorker,
    pub(crate) markets: Markets,
    pub(crate) domain: TokenDomain,
    pub(crate) pay_to: Address,
    pub(crate) treasury: Address,
    pub(crate) clock: Arc<ChainClock>,
    pub(crate) work: Arc<Notify>,
}

#[derive(Clone)]
pub(crate) struct Setup {
    pub(crate) settler: bool,
    pub(crate) credit: Credit,
    pub(crate) allowances: Policy,
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
        }
    }
}

pub(crate) fn wallet(account: usize) -> LocalWallet {
    LocalWallet::from_bytes(&DEV_ACCOUNTS[account].private_key.0).unwrap()
}

pub(crate) const PAYER: usize = 0;
pub(crate) const OPERATOR: usize = 7;
pub(crate) const SUCCESSOR: usize = 6;
pub(crate) const ADMIN: usize = 8;
pub(crate) const TREASURY: usize = 9;

/// Who is paid, and for what.
fn sold(chain: &Backend, setup: &Setup, domain: &TokenDomain) -> (Address, Markets) {
    let pay_to = if setup.settler {
        chain.settler()
    } else {
        DEV_ACCOUNTS[OPERATOR].address
    };
    let terms = Terms {
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
    };
    let market = Market {
        terms,
        domain: domain.clone(),
        credit: setup.credit.clone(),
        settler: setup.settler,
        treasury: DEV_ACCOUNTS[TREASURY].address,
    };
    (pay_to, Markets::new(vec![market]))
}

pub(crate) fn rail(
    reader: &Chain,
    clock: &Arc<ChainClock>,
    market: &Market,
    operator: usize,
) -> OwnRail<LocalWallet> {
    OwnRail::new(
        reader.clone(),
        wallet(operator),
        clock.clone(),
        RailConfig {
            settler: market.settler(),
            treasury: market.treasury,
            gas_floor: 50_000_000,
            gas_cap: 5_000_000_000,
        },
    )
}

pub(crate) fn worker_config(setup: &Setup, market: &Market, operator: usize) -> WorkerConfig {
    let signer = SignerKey {
        chain: ChainId::DEV,
        operator: DEV_ACCOUNTS[operator].address,
    };
    let mut config = WorkerConfig::new(
        signer,
        market.settler(),
        setup.allowances,
        Duration::from_millis(450),
    );
    config.credit.insert(USD1, setup.credit.clone());
    // A crash leaves nobody at work.
    config.sole = true;
    config
}

/// The parts that live as long as one run of the gateway, and its number.
async fn assemble(
    setup: &Setup,
    reader: &Chain,
    clock: &Arc<ChainClock>,
    store: &MemoryStore,
    markets: &Markets,
    operator: usize,
    work: &Arc<Notify>,
) -> (u64, TestTill, TestWorker) {
    let run = store.begin_run(1).await.unwrap();
    let market = markets.iter().next().unwrap();
    let work = Arc::clone(work);
    let verifier = ChainVerifier::new(reader.clone(), markets.clone(), clock.clone(), 30);
    let config = CashierConfig {
        markets: markets.clone(),
        run: run.into(),
        margin: 60,
        retention: tollgate_payment::Retention::default(),
    };
    let till = Cashier::new(store.clone(), verifier, clock.clone(), config, work.clone());
    let rail = rail(reader, clock, market, operator);
    let config = worker_config(setup, market, operator);
    let worker = Worker::new(store.clone(), rail, clock.clone(), config, work);
    (run.epoch, till, worker)
}

impl World {
    pub(crate) async fn new(chain: Backend, setup: Setup) -> Self {
        let reader = Chain::connect(ChainConfig::new(ChainId::DEV, [chain.rpc_url()]))
            .await
            .unwrap();
        let clock = Arc::clone(&chain.clock);
        let store = MemoryStore::new(B256::ZERO, clock.clone());
        let domain = TokenDomain::new("World Liberty Financial USD", "1", ChainId::DEV, USD1);
        let treasury = DEV_ACCOUNTS[TREASURY].address;
        let (pay_to, markets) = sold(&chain, &setup, &domain);
        let work = Arc::new(Notify::new());
        let (epoch, till, worker) =
            assemble(&setup, &reader, &clock, &store, &markets, OPERATOR, &work).await;
        Self {
            chain,
            setup,
            epoch,
            reader,
            store,
            till,
            worker,
            markets,
            domain,
            pay_to,
            treasury,
            clock,
            work,
        }
    }

    /// A new start with the Settler, or with the operator's plain account, as `payTo`.
    pub(crate) async fn pay_to(&mut self, settler: bool) {
        self.setup.settler = settler;
        (self.pay_to, self.markets) = sold(&self.chain, &self.setup, &self.domain);
        self.crash().await;
    }

    /// Appoints an account as the Settler's operator, or dismisses it.
    pub(crate) async fn set_operator(&self, account: usize, allowed: bool) {
        let words = [
            U256::from_be_slice(DEV_ACCOUNTS[account].address.as_slice()),
            U256::from(allowed),
        ];
        let settler = self.chain.settler();
        self.contract_send(ADMIN, settler, "setOperator(address,bool)", &words)
            .await;
    }

    /// A kill -9 and a new start: what the store holds is left, and nothing else.
    pub(crate) async fn crash(&mut self) {
        self.restart_as(OPERATOR).await;
    }

    /// The same, settling with another account's key from now on.
    pub(crate) async fn restart_as(&mut self, operator: usize) {
        self.store = self.store.fork();
        (self.epoch, self.till, self.worker) = assemble(
            &self.setup,
            &self.reader,
            &self.clock,
            &self.store,
            &self.markets,
            operator,
            &self.work,
        )
        .await;
        self.worker.recover(self.epoch).await.unwrap();
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(crate) fn offer(&self, pricing: Pricing) -> Offer {
        self.till.offer(Ask {
            resource: ResourceInfo::new("http://127.0.0.1/x402/v1"),
            pricing,
        })
    }

    /// A metered offer of this worst case, with a minimum of a cent or the worst case.
    pub(crate) fn metered(&self, worst: Amount) -> Offer {
        self.offer(Pricing::Metered {
            worst,
            least: worst.min(dollars(1)),
        })
    }

    pub(crate) async fn allowance(&self, payer: usize, value: Amount, nonce: u64) -> Authorization {
        let deadline = self.now().plus(3_600);
        self.allowance_until(payer, value, nonce, deadline).await
    }

    pub(crate) async fn allowance_until(
        &self,
        payer: usize,
        value: Amount,
        nonce: u64,
        deadline: Timestamp,
    ) -> Authorization {
        let terms = AllowanceTerms {
            spender: self.pay_to,
            value,
            nonce: U256::from(nonce),
            deadline,
        };
        Authorization::Allowance(
            sign_allowance(&wallet(payer), &self.domain, &terms)
                .await
                .unwrap(),
        )
    }

    pub(crate) async fn once(&self, payer: usize, amount: Amount, nonce: u64) -> Authorization {
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

    pub(crate) async fn transfer(&self, payer: usize, value: Amount, nonce: u8) -> Authorization {
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

    pub(crate) async fn permit2_exact(
        &self,
        payer: usize,
        amount: Amount,
        nonce: u64,
    ) -> Authorization {
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
    pub(crate) async fn admit(
        &self,
        offer: &Offer,
        signed: &Authorization,
    ) -> Result<TestHold, AdmitError> {
        self.admit_for(offer, signed, B256::ZERO).await
    }

    pub(crate) async fn admit_for(
        &self,
        offer: &Offer,
        signed: &Authorization,
        request: B256,
    ) -> Result<TestHold, AdmitError> {
        let admission = self.admission(offer, signed, request).await?;
        Ok(admission.hold().expect("a request that is new"))
    }

    pub(crate) async fn admission(
        &self,
        offer: &Offer,
        signed: &Authorization,
        request: B256,
    ) -> Result<Admission<TestHold>, AdmitError> {
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
        self.admit_payload(offer, payload, request).await
    }

    pub(crate) async fn admit_payload(
        &self,
        offer: &Offer,
        payload: PaymentPayload,
        request: B256,
    ) -> Result<Admission<TestHold>, AdmitError> {
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
    pub(crate) async fn pay(
        &self,
        offer: &Offer,
        signed: &Authorization,
        used: Amount,
    ) -> PaymentId {
        let mut hold = self.admit(offer, signed).await.unwrap();
        hold.durable().await.unwrap();
        let id = hold.id();
        hold.commit(used, None).await.unwrap();
        id
    }

    pub(crate) async fn tick(&mut self) -> Progress {
        self.worker.tick().await.unwrap()
    }

    /// Lets blocks pass and the worker work, until nothing is due or undecided.
    pub(crate) async fn settle(&mut self) {
        for _ in 0..40 {
            let progress = self.tick().await;
            if progress.undecided == 0
                && progress.sent == 0
                && self.store.queues().await.unwrap().is_empty()
            {
                return;
            }
            self.pass(3).await;
        }
        panic!("nothing settles");
    }

    /// A block, so many seconds later.
    pub(crate) async fn pass(&self, seconds: u64) {
        self.chain.increase_time(seconds).await;
        self.chain.mine().await;
    }

    /// JSON-RPC calls so far.
    pub(crate) fn calls(&self) -> u64 {
        self.reader.rpc_counts().total()
    }

    pub(crate) async fn status(&self, id: PaymentId) -> PaymentStatus {
        status(&self.store, &self.markets, id)
            .await
            .unwrap()
            .unwrap()
            .status
    }

    pub(crate) async fn state(&self, id: PaymentId) -> PaymentState {
        self.status(id).await.state
    }

    /// The token's balance of an account, from the chain.
    pub(crate) async fn balance(&self, account: Address) -> Amount {
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
        let answer = self.reader.call(&request, BlockTag::Latest).await.unwrap();
        Amount::new(U256::from_be_slice(&answer))
    }

    /// Sends a call of the token from an account and mines it.
    pub(crate) async fn token_send(&self, account: usize, signature: &str, words: &[U256]) {
        self.contract_send(account, USD1, signature, words).await;
    }

    pub(crate) async fn contract_send(
        &self,
        account: usize,
        contract: Address,
        signature: &str,
        words: &[U256],
    ) {
        let mut input = alloy_primitives::keccak256(signature)[..4].to_vec();
        words
            .iter()
            .for_each(|word| input.extend_from_slice(&word.to_be_bytes::<32>()));
        let call = tollgate_bsc::Call {
            to: contract,
            input: input.into(),
            gas_limit: 200_000,
        };
        let hash = self.send(account, call).await;
        self.chain.mine().await;
        let receipt = self.reader.receipt(hash).await.unwrap().unwrap();
        assert!(receipt.success);
    }

    /// How many transactions the operator has in blocks.
    pub(crate) async fn sent(&self) -> u64 {
        let operator = DEV_ACCOUNTS[OPERATOR].address;
        let count = self.reader.transaction_count(operator, BlockTag::Latest);
        count.await.unwrap()
    }

    /// Makes sure that the books are in order.
    pub(crate) async fn balanced(&self) {
        let totals = self.store.totals().await.unwrap();
        assert_eq!(totals.discrepancies(), Vec::<String>::new());
    }

    /// Sends a call from an account; a block has it when the test makes one.
    pub(crate) async fn send(&self, account: usize, call: tollgate_bsc::Call) -> B256 {
        let address = DEV_ACCOUNTS[account].address;
        let nonce = self
            .reader
            .transaction_count(address, BlockTag::Latest)
            .await
            .unwrap();
        let transaction = call.into_transaction(ChainId::DEV, nonce, 50_000_000);
        let signature = wallet(account)
            .sign_hash_sync(&transaction.signing_hash())
            .unwrap();
        let raw = transaction.into_raw(&signature);
        assert_eq!(
            self.reader.submit(&raw.raw).await,
            tollgate_bsc::Submission::Accepted
        );
        raw.hash
    }

    pub(crate) async fn approve_permit2(&self, payer: usize, amount: U256) {
        self.token_send(
            payer,
            "approve(address,uint256)",
            &[U256::from_be_slice(PERMIT2.as_slice()), amount],
        )
        .await;
    }

    /// Leaves a payer with exactly this much.
    pub(crate) async fn leave(&self, payer: usize, amount: Amount) {
        let address = DEV_ACCOUNTS[payer].address;
        let rest = self.balance(address).await.checked_sub(amount).unwrap();
        let sink = U256::from_be_slice(DEV_ACCOUNTS[6].address.as_slice());
        self.token_send(payer, "transfer(address,uint256)", &[sink, rest.get()])
            .await;
        assert_eq!(self.balance(address).await, amount);
    }

    /// What the treasury has after everything that landed in the Settler was swept.
    pub(crate) async fn received(&self) -> Amount {
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
