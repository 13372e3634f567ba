//! A seller that settles by a facilitator somewhere else, and believes it in nothing.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use alloy_sol_types::SolCall;
use tokio::sync::{Notify, watch};
use tollgate_contracts::{abi::IErc20, tokens::USD1};
use tollgate_devchain::{DEV_ACCOUNTS, DevChain};
use tollgate_engine::{
    Cashier, CashierConfig, ChainVerifier, Desk, Payees, Policy, RemoteConfig, RemoteRail, Worker,
    WorkerConfig, facilitator_address,
};
use tollgate_facilitator::{Call, Facilitator, FacilitatorError, Settled, Stage};
use tollgate_ledger::{CurrentRun, MemoryStore, Store};
use tollgate_payment::{
    Ask, Credit, LossReason, PaymentState, Pricing, RequestBinding, SignerKey,
    port::{Hold, Till},
};
use tollgate_x402::{
    Amount, Authorization, B256, ChainId, Clock, ErrorCode, Exact, PaymentId, PaymentPayload,
    ResourceInfo, Scheme, SettleResponse, SupportedResponse, VerifyResponse,
};

use crate::world::*;

/// How a facilitator answers a settlement.
#[derive(Clone, Debug)]
enum Manner {
    /// As it is.
    Honest,
    /// It settles, and says that it did not.
    SettlesAndDenies,
    /// It settles, and no answer comes.
    SettlesAndIsSilent,
    /// No answer, ever.
    Silent,
    /// HTML, a redirection, a body without end: the client makes this of them.
    Nonsense,
    /// Success, and no transaction.
    SuccessWithoutTransaction,
    /// Success, with this transaction.
    Success(B256),
    /// Pending for ever, with this transaction.
    Pending(B256),
    /// It refuses, with a code.
    Refuses,
    /// It refuses payments by use, and settles those of one price.
    RefusesUpto,
}

/// A facilitator that answers in its manner.
#[derive(Clone)]
struct Remote {
    desk: Desk<MemoryStore, ChainVerifier>,
    manner: Arc<Mutex<Manner>>,
}

impl Facilitator for Remote {
    async fn verify(&self, call: &Call) -> Result<VerifyResponse, FacilitatorError> {
        self.desk.verify(call).await
    }

    async fn settle(&self, call: &Call) -> Result<Settled, FacilitatorError> {
        let manner = self.manner.lock().unwrap().clone();
        let network = call.request.requirements.network.clone();
        let payer = call.request.payload.scheme_payload().payer();
        let amount = call.request.requirements.amount;
        let success = |transaction| {
            Ok(Settled {
                response: SettleResponse::settled(network.clone(), payer, amount, transaction),
                stage: Stage::Done,
                fresh: true,
            })
        };
        let failed = |code, transaction, stage| {
            Ok(Settled {
                response: SettleResponse::failed(network.clone(), code, transaction),
                stage,
                fresh: true,
            })
        };
        match manner {
            Manner::RefusesUpto if call.request.requirements.scheme == Scheme::Upto => {
                failed(ErrorCode::InvalidPayload, None, Stage::Refused)
            }
            Manner::Honest | Manner::RefusesUpto => self.desk.settle(call).await,
            Manner::SettlesAndDenies => {
                self.desk.settle(call).await?;
                failed(ErrorCode::InsufficientFunds, None, Stage::Refused)
            }
            Manner::SettlesAndIsSilent => {
                self.desk.settle(call).await?;
                std::future::pending().await
            }
            Manner::Silent => std::future::pending().await,
            Manner::Nonsense => Err(FacilitatorError::Unknown("<html>".to_owned())),
            Manner::SuccessWithoutTransaction => success(None),
            Manner::Success(transaction) => success(Some(transaction)),
            Manner::Pending(transaction) => failed(
                ErrorCode::SettlementPending,
                Some(transaction),
                Stage::Pending,
            ),
            Manner::Refuses => failed(ErrorCode::InvalidPayload, None, Stage::Refused),
        }
    }

    async fn supported(&self) -> Result<SupportedResponse, FacilitatorError> {
        self.desk.supported().await
    }

    async fn health(&self) -> Result<(), FacilitatorError> {
        Ok(())
    }

    fn gas(&self, _: &Call) -> u64 {
        0
    }
}

/// A seller with a ledger of its own.
struct Seller {
    facilitator: World<MemoryStore>,
    remote: Remote,
    store: MemoryStore,
    till: Cashier<MemoryStore, ChainVerifier>,
    _stop: watch::Sender<bool>,
}

impl Seller {
    async fn open(manner: Manner) -> Self {
        let chain = chain();
        let clock = Arc::new(ChainClock(Arc::clone(&chain)));
        let facilitator = World::open(&chain, MemoryStore::new(B256::ZERO, clock.clone())).await;
        let remote = Remote {
            desk: facilitator.desk.clone(),
            manner: Arc::new(Mutex::new(manner)),
        };
        let supported = remote.supported().await.unwrap();
        let account = facilitator_address(&supported, ChainId::DEV).unwrap();
        assert_eq!(account, DEV_ACCOUNTS[OPERATOR].address);

        let store = MemoryStore::new(B256::repeat_byte(1), clock.clone());
        let mut credit = Credit::for_dollar(Amount::from(DOLLAR));
        credit.floor = cents(1_000);
        credit.exposure = cents(10_000);
        let markets = markets(SELLER, account, credit);
        let reader = facilitator.reader.clone();
        let work = Arc::new(Notify::new());
        let till = Cashier::new(
            store.clone(),
            ChainVerifier::new(reader.clone(), markets.clone(), clock.clone(), 60),
            clock.clone(),
            CashierConfig {
                markets,
                run: CurrentRun::from(store.begin_run(1).await.unwrap()),
                margin: 30,
                retention: Default::default(),
            },
            Arc::clone(&work),
        );
        let config = RemoteConfig {
            domains: [(USD1, domain())].into(),
            resource: "https://seller.example/answer".to_owned(),
            max_timeout: 300,
            patience: Duration::from_millis(30),
        };
        let clock: Arc<dyn Clock> = clock;
        let rail = RemoteRail::new(remote.clone(), reader, Arc::clone(&clock), config);
        let signer = SignerKey {
            chain: ChainId::DEV,
            operator: account,
        };
        let mut config = WorkerConfig::new(signer, None, Policy::AtOnce, Duration::from_millis(20));
        config.payees = Payees::Account {
            pay_to: SELLER,
            facilitator: account,
        };
        config.replace_after = u64::MAX;
        config.sole = true;
        config.idle = Duration::from_millis(20);
        let worker = Worker::new(store.clone(), rail, clock, config, work);
        let (stop, stopped) = watch::channel(false);
        tokio::spawn(worker.run(stopped));
        Self {
            facilitator,
            remote,
            store,
            till,
            _stop: stop,
        }
    }

    fn chain(&self) -> &DevChain {
        &self.facilitator.chain
    }

    fn manner(&self, manner: Manner) {
        *self.remote.manner.lock().unwrap() = manner;
    }

    /// Serves a request of this price.
    async fn serve(&self, signed: &Authorization, price: Amount) -> PaymentId {
        let pricing = match signed {
            Authorization::Exact(_) => Pricing::Fixed(price),
            _ => Pricing::Metered {
                worst: price,
                least: price,
            },
        };
        let offer = self.till.offer(Ask {
            resource: ResourceInfo::new("https://seller.example/answer"),
            pricing,
        });
        let required = offer.required("payment_required");
        let payload = required
            .accepts
            .iter()
            .map(|entry| PaymentPayload::answering(&required, entry, signed))
            .zip(&required.accepts)
            .find(|(payload, entry)| payload.authorization_for(entry).is_ok())
            .unwrap()
            .0;
        let request = RequestBinding {
            digest: B256::ZERO,
            memo: String::new(),
        };
        let admission = self.till.admit(&offer, payload, request).await.unwrap();
        let mut hold = admission.hold().unwrap();
        hold.durable().await.unwrap();
        let id = hold.id();
        hold.commit(price, None).await.unwrap();
        id
    }

    async fn state(&self, id: PaymentId) -> PaymentState {
        self.store.payment(id).await.unwrap().unwrap().state
    }

    /// Makes blocks until the payment has ended.
    async fn ended(&self, id: PaymentId) -> PaymentState {
        let ended = async {
            loop {
                let state = self.state(id).await;
                if matches!(
                    state,
                    PaymentState::Final { .. } | PaymentState::Lost { .. }
                ) {
                    return state;
                }
                tokio::task::yield_now().await;
            }
        };
        self.facilitator.mining(ended).await
    }

    /// Makes blocks until the facilitator has been asked, and some more.
    async fn asked(&self, id: PaymentId) {
        let asked = async {
            loop {
                if let PaymentState::Claimed { batch, .. } = self.state(id).await
                    && let Some(batch) = self.store.batch(batch).await.unwrap()
                    && batch.sent.last().is_some_and(|last| last.sent.is_some())
                {
                    return;
                }
                tokio::task::yield_now().await;
            }
        };
        self.facilitator.mining(asked).await;
        for _ in 0..10 {
            let blocks =
                tokio::time::timeout(Duration::from_millis(20), std::future::pending::<()>());
            drop(self.facilitator.mining(blocks).await);
        }
    }
}

#[tokio::test]
async fn every_kind_is_settled_by_an_honest_one_and_final_by_the_chain() {
    let seller = Seller::open(Manner::Honest).await;
    let mut earned = Amount::ZERO;
    for (signed, price) in [
        (once(seller.chain(), cents(50), 1).await, cents(3)),
        (permit2_exact(seller.chain(), cents(5), 2).await, cents(5)),
        (transfer(seller.chain(), cents(7), 3).await, cents(7)),
    ] {
        let id = seller.serve(&signed, price).await;
        let PaymentState::Final { transaction, .. } = seller.ended(id).await else {
            panic!("it is settled");
        };
        let reader = &seller.facilitator.reader;
        assert!(reader.receipt(transaction).await.unwrap().unwrap().success);
        earned = earned.checked_add(price).unwrap();
        assert_eq!(seller.facilitator.earned(), earned);
    }
    assert_eq!(seller.facilitator.sent(), 3);
}

#[tokio::test]
async fn one_that_settles_and_says_otherwise_is_found_out_by_the_chain() {
    for manner in [Manner::SettlesAndDenies, Manner::SettlesAndIsSilent] {
        let seller = Seller::open(manner.clone()).await;
        for signed in [
            once(seller.chain(), cents(4), 1).await,
            permit2_exact(seller.chain(), cents(4), 2).await,
            transfer(seller.chain(), cents(4), 3).await,
        ] {
            let id = seller.serve(&signed, cents(4)).await;
            let state = seller.ended(id).await;
            assert!(
                matches!(state, PaymentState::Final { .. }),
                "{manner:?}: {state:?}"
            );
        }
        assert_eq!(seller.facilitator.earned(), cents(12));
    }
}

/// It says this, and settles nothing: the payments stay as they are while they could be settled, and are lost when they
/// cannot be any more, by the chain's own time.
async fn changes_nothing(lie: impl Fn(B256) -> Manner) {
    let seller = Seller::open(Manner::Honest).await;
    // An honest settlement of the same payer, payee and amount, to be shown for another.
    let first = once(seller.chain(), cents(50), 100).await;
    let id = seller.serve(&first, cents(3)).await;
    let PaymentState::Final { transaction, .. } = seller.ended(id).await else {
        panic!("it is settled");
    };
    seller.manner(lie(transaction));
    let mut served = Vec::new();
    for signed in [
        once(seller.chain(), cents(50), 200).await,
        permit2_exact(seller.chain(), cents(3), 300).await,
        transfer(seller.chain(), cents(3), 10).await,
    ] {
        served.push(seller.serve(&signed, cents(3)).await);
    }
    for id in &served {
        seller.asked(*id).await;
        let state = seller.state(*id).await;
        assert!(matches!(state, PaymentState::Claimed { .. }), "{state:?}");
    }
    seller.chain().increase_time(3_500);
    for id in served {
        let lost = PaymentState::Lost {
            reason: LossReason::Deadline,
        };
        assert_eq!(seller.ended(id).await, lost);
    }
    assert_eq!(seller.facilitator.earned(), cents(3));
    assert_eq!(seller.facilitator.sent(), 1);
}

#[tokio::test]
async fn one_that_never_answers_changes_nothing() {
    changes_nothing(|_| Manner::Silent).await;
}

#[tokio::test]
async fn nonsense_changes_nothing() {
    changes_nothing(|_| Manner::Nonsense).await;
}

#[tokio::test]
async fn a_success_without_a_transaction_changes_nothing() {
    changes_nothing(|_| Manner::SuccessWithoutTransaction).await;
}

#[tokio::test]
async fn a_success_by_a_transaction_that_is_not_there_changes_nothing() {
    changes_nothing(|_| Manner::Success(B256::repeat_byte(7))).await;
}

#[tokio::test]
async fn a_success_by_another_payments_transaction_changes_nothing() {
    changes_nothing(Manner::Success).await;
}

#[tokio::test]
async fn pending_for_ever_by_another_payments_transaction_changes_nothing() {
    changes_nothing(Manner::Pending).await;
}

#[tokio::test]
async fn a_refusal_changes_nothing() {
    changes_nothing(|_| Manner::Refuses).await;
}

#[tokio::test]
async fn payments_that_are_never_settled_keep_no_other_from_being_settled() {
    let seller = Seller::open(Manner::RefusesUpto).await;
    let mut dead = Vec::new();
    for nonce in 0..20 {
        let signed = once(seller.chain(), cents(50), 500 + nonce).await;
        dead.push(seller.serve(&signed, cents(1)).await);
    }
    let good = transfer(seller.chain(), cents(3), 11).await;
    let good = seller.serve(&good, cents(3)).await;
    let ended = seller.ended(good).await;
    assert!(matches!(ended, PaymentState::Final { .. }), "{ended:?}");
    for id in dead {
        let state = seller.state(id).await;
        assert!(matches!(state, PaymentState::Claimed { .. }), "{state:?}");
    }
    assert_eq!(seller.facilitator.earned(), cents(3));
}

#[tokio::test]
async fn one_payers_many_that_are_never_settled_are_in_no_other_payers_way() {
    let seller = Seller::open(Manner::RefusesUpto).await;
    for nonce in 0..300 {
        let signed = once(seller.chain(), cents(50), 1_000 + nonce).await;
        seller.serve(&signed, cents(1)).await;
    }
    let began = seller.chain().timestamp();
    let good = transfer_of(1, seller.chain(), cents(3), 11).await;
    let good = seller.serve(&good, cents(3)).await;
    let ended = seller.ended(good).await;
    assert!(matches!(ended, PaymentState::Final { .. }), "{ended:?}");
    // Before the others take no room any more.
    assert!(seller.chain().timestamp() - began < 30);
    assert_eq!(seller.store.undecided().await.unwrap().len(), 32);
}

#[tokio::test]
async fn many_payers_that_are_never_settled_hold_others_up_for_half_a_minute() {
    let seller = Seller::open(Manner::RefusesUpto).await;
    for payer in 0..9 {
        for nonce in 0..34 {
            let signed = once_of(payer, seller.chain(), cents(50), 1_000 + nonce).await;
            seller.serve(&signed, cents(1)).await;
        }
    }
    let open = async {
        while seller.store.undecided().await.unwrap().len() < 9 * 32 {
            tokio::task::yield_now().await;
        }
    };
    seller.facilitator.mining(open).await;
    let good = transfer_of(9, seller.chain(), cents(3), 11).await;
    let good = seller.serve(&good, cents(3)).await;
    let ended = seller.ended(good).await;
    assert!(matches!(ended, PaymentState::Final { .. }), "{ended:?}");
    assert_eq!(seller.facilitator.earned(), cents(3));
}

#[tokio::test]
async fn a_settlement_among_many_transfers_of_its_payer_is_found() {
    let seller = Seller::open(Manner::Silent).await;
    let signed = permit2_exact(seller.chain(), cents(3), 300).await;
    let id = seller.serve(&signed, cents(3)).await;
    let Authorization::Exact(Exact::Permit2(permit)) = &signed else {
        unreachable!()
    };
    let send = async |account: usize, nonce, price, call: tollgate_bsc::Call| {
        let transaction = call.into_transaction(ChainId::DEV, nonce, price);
        let signature = wallet(account)
            .sign_hash_sync(&transaction.signing_hash())
            .unwrap();
        let raw = transaction.into_raw(&signature).raw;
        let sent = seller.facilitator.reader.submit(&raw).await;
        assert_eq!(sent, tollgate_bsc::Submission::Accepted);
    };
    // All in one block, the settlement first.
    let settle = tollgate_bsc::exact_settle(permit);
    send(3, 0, 1_000_000_000, settle).await;
    let transfer = IErc20::transferCall {
        to: SELLER,
        value: cents(3).get(),
    };
    for nonce in 0..150 {
        let call = tollgate_bsc::Call {
            to: USD1,
            input: transfer.abi_encode().into(),
            gas_limit: 100_000,
        };
        send(PAYER, nonce, 50_000_000, call).await;
    }
    let ended = seller.ended(id).await;
    assert!(matches!(ended, PaymentState::Final { .. }), "{ended:?}");
    assert_eq!(seller.facilitator.earned(), cents(3 * 151));
}
