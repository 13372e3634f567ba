// A small till in memory: it checks payments against its own offer, keeps what became of each, and notices a hold
// that is dropped, or a step of one that is torn.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
};

use tollgate_payment::{
    Ask, Offer, Permit2Terms, Pricing, RequestBinding, Retention, Terms,
    command::{Answer, Charge, Told, Voided},
    port::{Admission, AdmitError, Admitted, Hold, HoldError, Kept, Replay, Till},
};
use tollgate_x402::{
    Address, Amount, Authorization, AuthorizationKind, B256, ChainId, ErrorCode, Network, Once,
    PaymentAmounts, PaymentId, PaymentPayload, PaymentState, PaymentStatus, Signature65, Timestamp,
    U256, X402Version, canonical,
};

/// When all payments of the tests are made.
pub(crate) const NOW: Timestamp = Timestamp(1_800_000_000);
/// Who pays.
pub(crate) const PAYER: Address = Address::repeat_byte(0xa1);

#[derive(Clone)]
pub(crate) struct MemoryTill {
    terms: Arc<Terms>,
    books: Arc<Mutex<Books>>,
}

/// What the till knows, and how it shall behave.
#[derive(Default)]
pub(crate) struct Books {
    pub(crate) payments: Vec<Payment>,
    /// In the order in which it happened.
    pub(crate) log: Vec<Event>,
    pub(crate) refuse: Option<AdmitError>,
    pub(crate) durable_fails: bool,
    pub(crate) checkpoint_fails: bool,
    /// The payer has voided its payments: a checkpoint is taken, and says so.
    pub(crate) voided: bool,
    pub(crate) commit_fails: bool,
    /// How often each step of a hold yields to other tasks before it is done.
    pub(crate) yields: u8,
    /// Holds do not become durable while this is closed.
    gate: Option<tokio::sync::watch::Receiver<bool>>,
    /// How much of answers is kept; nothing by default.
    pub(crate) retention: Option<Retention>,
    /// How the payments that were charged stand on the chain, once they do; without it nobody waits for a block.
    chain: Option<tokio::sync::watch::Receiver<Option<PaymentState>>>,
    nonces: HashMap<U256, (B256, usize)>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Payment {
    pub(crate) id: PaymentId,
    pub(crate) digest: B256,
    pub(crate) memo: String,
    pub(crate) cap: Amount,
    pub(crate) durable: bool,
    pub(crate) saved: Amount,
    pub(crate) end: Option<End>,
    pub(crate) kept: Option<Told>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum End {
    Charged {
        amount: Amount,
        used: Amount,
    },
    Released,
    /// The store failed: recovery charges what was saved.
    Failed,
    /// The hold was dropped. This must not happen.
    Leaked,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Event {
    Durable,
    Saved(u64),
    Charged(u64),
    Released,
    /// A step of a hold was dropped before it was done. This must not happen.
    Torn,
    /// Of the tests' own.
    Note(&'static str),
}

impl MemoryTill {
    pub(crate) fn new() -> Self {
        let terms = Terms {
            chain: ChainId::DEV,
            token: Address::repeat_byte(0x70),
            name: Some("Test Dollar".into()),
            version: Some("1".into()),
            pay_to: Address::repeat_byte(0x5e),
            amount: Amount::from(990_000_u64),
            max_timeout: 3600,
            permit: false,
            eip3009: false,
            permit2: Some(Permit2Terms {
                permit2: canonical::PERMIT2,
                upto_proxy: Some(canonical::UPTO_PERMIT2_PROXY),
                exact_proxy: None,
                facilitator: Address::repeat_byte(0x5e),
            }),
        };
        Self {
            terms: Arc::new(terms),
            books: Arc::default(),
        }
    }

    pub(crate) fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap()
    }

    /// Holds become durable when the sender says so.
    pub(crate) fn gate(&self) -> tokio::sync::watch::Sender<bool> {
        let (open, gate) = tokio::sync::watch::channel(false);
        self.books().gate = Some(gate);
        open
    }

    /// Charges are settled as the sender says.
    pub(crate) fn chain(&self) -> tokio::sync::watch::Sender<Option<PaymentState>> {
        let (blocks, chain) = tokio::sync::watch::channel(None);
        self.books().chain = Some(chain);
        blocks
    }

    /// The only payment.
    pub(crate) fn payment(&self) -> Payment {
        let books = self.books();
        assert_eq!(books.payments.len(), 1, "payments");
        books.payments[0].clone()
    }

    pub(crate) fn end(&self) -> Option<End> {
        self.payment().end
    }

    pub(crate) fn charged(&self) -> u64 {
        match self.end() {
            Some(End::Charged { amount, .. }) => units(amount),
            other => panic!("not charged: {other:?}"),
        }
    }

    pub(crate) fn log(&self) -> Vec<Event> {
        self.books().log.clone()
    }

    pub(crate) fn note(&self, note: &'static str) {
        self.books().log.push(Event::Note(note));
    }

    /// The value of a payment header for any request of this till, of at most `amount`.
    pub(crate) fn pay(&self, version: X402Version, nonce: u64, amount: u64) -> String {
        let ask = Ask {
            resource: tollgate_x402::ResourceInfo::new("https://seller.example/"),
            pricing: Pricing::Metered {
                worst: Amount::from(1_u64),
                least: Amount::from(1_u64),
            },
        };
        let mut required = self.offer(ask).required("");
        required.version = version;
        let signed = Authorization::Once(Once {
            chain: self.terms.chain,
            token: self.terms.token,
            owner: PAYER,
            amount: Amount::from(amount),
            spender: canonical::UPTO_PERMIT2_PROXY,
            nonce: U256::from(nonce),
            deadline: NOW.plus(3600),
            to: self.terms.pay_to,
            facilitator: Address::repeat_byte(0x5e),
            valid_after: Timestamp(0),
            signature: Signature65::new(B256::repeat_byte(1), B256::repeat_byte(2), false).unwrap(),
        });
        PaymentPayload::answering(&required, &required.accepts[0], &signed).to_header_value()
    }

    async fn step(&self, index: usize) -> Step {
        let step = Step {
            till: self.clone(),
            done: false,
        };
        let yields = self.books().yields;
        for _ in 0..yields {
            tokio::task::yield_now().await;
        }
        assert_eq!(
            self.books().payments[index].end,
            None,
            "the payment has ended"
        );
        step
    }
}

pub(crate) fn units(amount: Amount) -> u64 {
    amount.get().try_into().unwrap()
}

/// A step of a hold that must be run to its end.
struct Step {
    till: MemoryTill,
    done: bool,
}

impl Step {
    fn done(mut self, event: Option<Event>) {
        self.done = true;
        self.till.books().log.extend(event);
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        if !self.done {
            self.till.books().log.push(Event::Torn);
        }
    }
}

impl Till for MemoryTill {
    type Hold = MemoryHold;

    fn offer(&self, ask: Ask) -> Offer {
        Offer::new(ask, [&*self.terms])
    }

    async fn recall(
        &self,
        offer: &Offer,
        payment: PaymentPayload,
        request: RequestBinding,
    ) -> Option<Box<Replay>> {
        let (entry, _) = offer.entries().next().unwrap();
        let signed = payment.authorization_for(entry).unwrap();
        let Authorization::Once(once) = &signed else {
            return None;
        };
        let books = self.books();
        let (digest, index) = books.nonces.get(&once.nonce)?;
        let known = &books.payments[*index];
        let Some(End::Charged { amount, .. }) = known.end else {
            return None;
        };
        let version = payment.version().number();
        (*digest == request.digest).then(|| Box::new(replay(known, once, amount, version)))
    }

    async fn admit(
        &self,
        offer: &Offer,
        payment: PaymentPayload,
        request: RequestBinding,
    ) -> Result<Admission<MemoryHold>, AdmitError> {
        let yields = self.books().yields;
        for _ in 0..yields {
            tokio::task::yield_now().await;
        }
        let refuse = |code: ErrorCode| AdmitError {
            code,
            message: format!("refused as {code}"),
            retry_after: None,
            payer: None,
        };
        let mut books = self.books();
        if let Some(error) = &books.refuse {
            return Err(error.clone());
        }
        let (entry, terms) = offer.entries().next().unwrap();
        let signed = payment
            .authorization_for(entry)
            .map_err(|error| refuse(error.code()))?;
        terms
            .accept(&signed, offer.pricing, NOW, 600)
            .map_err(refuse)?;
        let (Authorization::Once(once), Pricing::Metered { worst, .. }) = (&signed, offer.pricing)
        else {
            return Err(refuse(ErrorCode::InvalidScheme));
        };
        let index = books.payments.len();
        if let Some((digest, index)) = books.nonces.get(&once.nonce) {
            let known = &books.payments[*index];
            if let (true, Some(_), Some(End::Charged { amount, .. })) =
                (*digest == request.digest, books.retention, known.end)
            {
                let replay = replay(known, once, amount, payment.version().number());
                return Ok(Admission::Replay(Box::new(replay)));
            }
            let in_flight = *digest == request.digest && books.payments[*index].end.is_none();
            let code = if in_flight {
                ErrorCode::PaymentInFlight
            } else {
                ErrorCode::DuplicateSettlement
            };
            return Err(refuse(code));
        }
        books.nonces.insert(once.nonce, (request.digest, index));
        let mut bytes = [0; 16];
        bytes[8..].copy_from_slice(&u64::try_from(index).unwrap().to_be_bytes());
        let terms = Admitted {
            id: PaymentId::from_random(bytes),
            payer: once.owner,
            chain: once.chain,
            token: once.token,
            cap: worst.min(once.amount),
            left: once.amount,
            version: payment.version().number(),
        };
        books.payments.push(Payment {
            id: terms.id,
            digest: request.digest,
            memo: request.memo,
            cap: terms.cap,
            durable: false,
            saved: Amount::ZERO,
            end: None,
            kept: None,
        });
        Ok(Admission::New(MemoryHold {
            till: self.clone(),
            terms,
            index,
            answer: None,
        }))
    }
}

pub(crate) struct MemoryHold {
    till: MemoryTill,
    terms: Admitted,
    index: usize,
    answer: Option<Answer>,
}

/// What the till tells of a payment that has ended.
fn replay(known: &Payment, once: &Once, amount: Amount, version: u8) -> Replay {
    let status = status(known, once.chain, once.token, amount, PaymentState::Final);
    let answer = match known.kept.clone() {
        None => Kept::BrokenOff,
        Some(told) => Kept::Answer(told),
    };
    Replay {
        status,
        version,
        answer,
    }
}

/// How a charged payment stands, in the block of transaction 7 or in none.
fn status(
    known: &Payment,
    chain: ChainId,
    token: Address,
    amount: Amount,
    state: PaymentState,
) -> PaymentStatus {
    let amounts = PaymentAmounts {
        authorized: known.cap,
        reserved: known.cap,
        calculated: None,
    };
    let mut status = PaymentStatus::accepted(
        known.id,
        AuthorizationKind::Once,
        Network::from(chain),
        token,
        PAYER,
        Address::repeat_byte(0x5e),
        amounts,
        NOW,
    );
    status.charge = Some(amount);
    status.state = state;
    let settled = matches!(state, PaymentState::Included | PaymentState::Final);
    status.transaction = settled.then(|| B256::repeat_byte(7));
    status
}

impl Drop for MemoryHold {
    fn drop(&mut self) {
        if let Ok(mut books) = self.till.books.lock() {
            let end = &mut books.payments[self.index].end;
            *end = end.or(Some(End::Leaked));
        }
    }
}

impl Hold for MemoryHold {
    fn id(&self) -> PaymentId {
        self.terms.id
    }

    fn cap(&self) -> Amount {
        self.terms.cap
    }

    fn terms(&self) -> &Admitted {
        &self.terms
    }

    async fn durable(&mut self) -> Result<(), HoldError> {
        let step = self.till.step(self.index).await;
        let gate = self.till.books().gate.clone();
        if let Some(mut gate) = gate {
            gate.wait_for(|open| *open).await.unwrap();
        }
        if self.till.books().durable_fails {
            step.done(None);
            return Err(HoldError::Unavailable("the disk is full".into()));
        }
        self.till.books().payments[self.index].durable = true;
        step.done(Some(Event::Durable));
        Ok(())
    }

    async fn checkpoint(&mut self, used: Amount) -> Result<(), HoldError> {
        let step = self.till.step(self.index).await;
        assert!(
            self.till.payment_at(self.index).durable,
            "a checkpoint of a hold that is not durable"
        );
        if self.till.books().checkpoint_fails {
            step.done(None);
            return Err(HoldError::Unavailable("the disk is full".into()));
        }
        self.till.books().payments[self.index].saved = used;
        step.done(Some(Event::Saved(units(used))));
        if self.till.books().voided {
            return Err(HoldError::Void(Voided::Barred));
        }
        Ok(())
    }

    fn retention(&self) -> Option<Retention> {
        self.till.books().retention
    }

    fn keep(&mut self, answer: Answer) {
        self.answer = Some(answer);
    }

    fn inclusion(&self) -> Option<impl Future<Output = Option<PaymentStatus>> + Send + use<>> {
        let mut chain = self.till.books().chain.clone()?;
        let (till, index) = (self.till.clone(), self.index);
        let (network, token) = (self.terms.chain, self.terms.token);
        Some(async move {
            let state = (*chain.wait_for(Option::is_some).await.ok()?)?;
            let known = till.payment_at(index);
            let Some(End::Charged { amount, .. }) = known.end else {
                panic!("waited for what is not charged: {known:?}");
            };
            Some(status(&known, network, token, amount, state))
        })
    }

    async fn commit(self, used: Amount, memo: Option<String>) -> Result<Charge, HoldError> {
        let step = self.till.step(self.index).await;
        assert!(
            self.till.payment_at(self.index).durable,
            "a charge of a hold that is not durable"
        );
        if self.till.books().commit_fails {
            self.till.books().payments[self.index].end = Some(End::Failed);
            step.done(None);
            return Err(HoldError::Unavailable("the disk is full".into()));
        }
        let amount = used.min(self.terms.cap);
        let charge = Charge {
            amount,
            calculated: used,
            left: self.terms.left.saturating_sub(amount),
        };
        // A store may try a step again.
        let torn = Charge {
            left: Amount::MAX,
            ..charge
        };
        let kept = self.answer.as_ref().and_then(|answer| {
            answer.told(&torn);
            answer.told(&charge)
        });
        {
            let mut books = self.till.books();
            let payment = &mut books.payments[self.index];
            payment.kept = kept;
            payment.memo = memo.unwrap_or_else(|| payment.memo.clone());
            payment.end = Some(if amount.is_zero() {
                End::Released
            } else {
                End::Charged { amount, used }
            });
        }
        step.done(Some(Event::Charged(units(amount))));
        Ok(charge)
    }

    async fn commit_undelivered(
        self,
        used: Amount,
        memo: Option<String>,
    ) -> Result<Charge, HoldError> {
        let again = self.retention().is_some();
        self.commit(used, memo).await.map_err(|error| match error {
            HoldError::Unavailable(error) if again => HoldError::Undecided(error),
            error => error,
        })
    }

    async fn release(self) -> Result<(), HoldError> {
        let step = self.till.step(self.index).await;
        self.till.books().payments[self.index].end = Some(End::Released);
        step.done(Some(Event::Released));
        Ok(())
    }
}

impl MemoryTill {
    fn payment_at(&self, index: usize) -> Payment {
        self.books().payments[index].clone()
    }
}
