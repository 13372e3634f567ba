//! The ways in which a payer voids a payment after it was served (RELIABILITY §0.2), each before the first token, in
//! the middle and after the last.
//!
//! Each costs at most what was reserved for that one request, here 0.10 dollars; it is booked as bad debt with its
//! reason, and the payer is served nothing more.

use std::sync::Arc;

use alloy_sol_types::SolCall;
use tokio::sync::Semaphore;
use tollgate_contracts::{
    abi::{ISignatureTransfer, UptoProxy},
    addresses::{PERMIT2, UPTO_PROXY},
    tokens::USD1,
};
use tollgate_eip712::OnceTerms;
use tollgate_ledger::{Status, Store};
use tollgate_payment::{Account, LossReason, PaymentState};
use tollgate_x402::{Amount, Authorization, Exact, U256, X402Version};

use crate::kit::{CHAT, Code, Header, Payer, Step, World, cents, chat, tokens, word};

/// What is signed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Allowance,
    Once,
    Eip3009,
    Permit2Exact,
}

impl Kind {
    /// Whether it buys a whole answer at one price.
    fn exact(self) -> bool {
        matches!(self, Self::Eip3009 | Self::Permit2Exact)
    }
}

/// What the payer does then.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Way {
    /// `invalidateUnorderedNonces`, of an allowance a permit of nothing with its nonce, of a transfer
    /// `cancelAuthorization`.
    Nonce,
    /// `approve(Permit2, 0)`.
    Revoke,
    /// `approve(payTo, 0)`, whether the permit went in or not.
    RevokePayTo,
    /// The balance goes elsewhere.
    Move,
    /// The account gets code that says no (EIP-7702).
    Flip,
    /// The account gets code that says yes when asked, and no in a transaction.
    Detector,
    /// The nonce is spent at another seller.
    Elsewhere,
}

/// Gates in an answer: before the first token, after half of them, after all.
const MOMENTS: [usize; 3] = [1, 2, 3];
/// Tokens of the whole answer.
const TOKENS: u32 = 100;

/// One payer's payment, voided when the answer stands at a gate.
async fn void(world: &mut World, kind: Kind, way: Way, gate: usize, reasons: &[LossReason]) {
    let what = format!("{kind:?} {way:?} at gate {gate}");
    let number = u64::try_from(gate).unwrap();
    let payer = Payer::fresh(number);
    world.fund(&payer, cents(500)).await;
    world.approve_permit2(&payer, U256::MAX).await;
    let signed = match kind {
        Kind::Allowance => world.allowance(&payer, cents(99), 0).await,
        Kind::Once => world.once(&payer, cents(99), number).await,
        Kind::Eip3009 => world.eip3009(&payer, cents(10), number).await,
        Kind::Permit2Exact => world.permit2_exact(&payer, cents(10), number).await,
    };
    if way == Way::RevokePayTo {
        drawn_before(world, &payer, &signed).await;
    }
    let before = world.totals().await;
    let (path, body) = if kind.exact() {
        ("/fixed", chat(TOKENS))
    } else {
        (CHAT, chat(TOKENS))
    };
    let gates = Arc::new(Semaphore::new(gate - 1));
    let half = usize::try_from(TOKENS / 2).unwrap();
    let at = || Step::Gate(Arc::clone(&gates));
    world
        .upstream
        .play([at(), Step::Say(half), at(), Step::Say(half), at()]);
    let payment = world.payment(path, &body, X402Version::V2, &signed).await;
    let reached = world.upstream.reached();
    let answer = if kind.exact() {
        // Buffered: it is sold whole, and voided after.
        let answer = world.request(path, &body, Some(&payment)).await;
        commit_void(world, &payer, &signed, way).await;
        answer
    } else {
        let serve = world.request(path, &body, Some(&payment));
        let attack = async {
            world.upstream.reach(reached + gate).await;
            commit_void(world, &payer, &signed, way).await;
            gates.add_permits(3);
        };
        tokio::join!(serve, attack).0
    };
    assert_eq!(answer.status, 200, "{what}: {}", answer.text());
    let id = answer.payment().unwrap().to_owned();
    world.settle().await;

    let row = world.store.payment(id.parse().unwrap()).await.unwrap();
    let row = row.unwrap();
    let totals = world.totals().await;
    let lost = totals.of(Status::Lost).charge.get() - before.of(Status::Lost).charge.get();
    let lost = Amount::new(lost);
    assert!(
        lost <= row.reserved && row.reserved <= tokens(u64::from(TOKENS)),
        "{what}"
    );
    let PaymentState::Lost { reason } = row.state else {
        panic!("{what}: {:?}", row.state);
    };
    assert!(reasons.contains(&reason), "{what}: {reason:?}");
    assert_eq!(row.charge, lost, "{what}: nothing is waived");
    let debt = |totals: &tollgate_ledger::TokenTotals| {
        let account = totals.account(Account::BadDebt);
        account.debit.get() - account.credit.get()
    };
    assert_eq!(debt(&totals) - debt(&before), lost.get(), "{what}");
    assert_eq!(
        world.owner(payer.address()).await.unwrap().lost,
        lost,
        "{what}"
    );
    blocked(world, &payer, &what).await;
}

/// The allowance is paid from once before, so that its permit has gone in: a revoked one cannot be submitted again.
async fn drawn_before(world: &mut World, payer: &Payer, signed: &Authorization) {
    world.upstream.play([Step::Say(10)]);
    assert_eq!(world.buy(10, signed).await.status, 200);
    world.settle().await;
    let left = world.allowance_of(payer.address(), world.pay_to).await;
    assert!(!left.is_zero(), "the permit has gone in");
}

/// The payer is served nothing more, with no work of the upstream, however it pays.
async fn blocked(world: &World, payer: &Payer, what: &str) {
    let asked = world.upstream.asked();
    let allowance = world.allowance(payer, cents(99), 7).await;
    let once = world.once(payer, cents(99), 7_777).await;
    let transfer = world.eip3009(payer, cents(10), 7_777).await;
    let permit2 = world.permit2_exact(payer, cents(10), 7_778).await;
    let body = chat(TOKENS);
    for (path, signed) in [
        (CHAT, allowance),
        (CHAT, once),
        ("/fixed", transfer),
        ("/fixed", permit2),
    ] {
        let payment: Header = world.payment(path, &body, X402Version::V2, &signed).await;
        let answer = world.request(path, &body, Some(&payment)).await;
        assert!(!answer.status.is_success(), "{what}: {}", answer.text());
    }
    assert_eq!(world.upstream.asked(), asked, "{what}: blocked");
}

async fn commit_void(world: &World, payer: &Payer, signed: &Authorization, way: Way) {
    match (way, signed) {
        (Way::Nonce, Authorization::Once(once)) => invalidate(world, payer, once.nonce).await,
        (Way::Nonce, Authorization::Exact(Exact::Permit2(permit))) => {
            invalidate(world, payer, permit.nonce).await;
        }
        (Way::Nonce, Authorization::Allowance(_)) => {
            let nothing = world.allowance(payer, Amount::ZERO, 0).await;
            crate::permits::submit(world, payer, &nothing).await;
        }
        (Way::Nonce, Authorization::Exact(_)) => cancel(world, payer, signed).await,
        (Way::RevokePayTo, _) => {
            let words = [word(world.pay_to), U256::ZERO];
            world
                .send(payer, USD1, "approve(address,uint256)", &words)
                .await;
        }
        (Way::Revoke, _) => world.approve_permit2(payer, U256::ZERO).await,
        (Way::Move, _) => world.leave(payer, Amount::ZERO).await,
        (Way::Flip, _) => world.flip(payer, Code::No).await,
        (Way::Detector, _) => world.flip(payer, Code::Detector).await,
        (Way::Elsewhere, Authorization::Once(once)) => {
            elsewhere(world, payer, once.nonce).await;
        }
        (Way::Elsewhere, _) => panic!("only Permit2's nonces are shared by sellers"),
    }
}

/// `invalidateUnorderedNonces` (Permit2).
async fn invalidate(world: &World, payer: &Payer, nonce: U256) {
    let call = ISignatureTransfer::invalidateUnorderedNoncesCall {
        wordPos: nonce >> 8,
        mask: U256::from(1) << (nonce & U256::from(255)),
    };
    let receipt = world.send_input(payer, PERMIT2, call.abi_encode()).await;
    assert_eq!(receipt["status"], "0x1");
}

/// `cancelAuthorization` (EIP-3009).
async fn cancel(world: &World, payer: &Payer, signed: &Authorization) {
    let Authorization::Exact(Exact::Eip3009(transfer)) = signed else {
        panic!("not a transfer");
    };
    let struct_hash = alloy_primitives::keccak256(
        [
            alloy_primitives::keccak256("CancelAuthorization(address authorizer,bytes32 nonce)")
                .as_slice(),
            payer.address().into_word().as_slice(),
            transfer.nonce.as_slice(),
        ]
        .concat(),
    );
    let separator = world.domain.separator();
    let digest = alloy_primitives::keccak256(
        [&[0x19, 0x01], separator.as_slice(), struct_hash.as_slice()].concat(),
    );
    let signature = payer.0.sign_hash_sync(&digest).unwrap();
    let words = [
        word(payer.address()),
        U256::from_be_bytes(transfer.nonce.0),
        U256::from(signature.v()),
        U256::from_be_bytes(signature.r().0),
        U256::from_be_bytes(signature.s().0),
    ];
    let name = "cancelAuthorization(address,bytes32,uint8,bytes32,bytes32)";
    world.send(payer, USD1, name, &words).await;
}

/// Another seller settles a payment of the same Permit2 nonce.
async fn elsewhere(world: &World, payer: &Payer, nonce: U256) {
    let seller = Payer::rich(5);
    let terms = OnceTerms {
        nonce,
        to: seller.address(),
        facilitator: seller.address(),
        ..world.once_terms(cents(1), 0)
    };
    let Authorization::Once(other) = world.sign_once(payer, &terms).await else {
        panic!("signed otherwise");
    };
    let call = UptoProxy::settleCall {
        permit: UptoProxy::PermitTransferFrom {
            permitted: UptoProxy::TokenPermissions {
                token: USD1,
                amount: other.amount.get(),
            },
            nonce,
            deadline: U256::from(other.deadline.0),
        },
        amount: cents(1).get(),
        owner: payer.address(),
        witness: UptoProxy::Witness {
            to: seller.address(),
            facilitator: seller.address(),
            validAfter: U256::ZERO,
        },
        signature: other.signature.to_bytes().to_vec().into(),
    };
    let receipt = world
        .send_input(&seller, UPTO_PROXY, call.abi_encode())
        .await;
    assert_eq!(receipt["status"], "0x1", "the other seller is paid");
}

async fn at_each_moment(kind: Kind, way: Way, reasons: &[LossReason]) {
    let mut world = World::new().await;
    let moments = if kind.exact() {
        &MOMENTS[2..]
    } else {
        &MOMENTS[..]
    };
    for gate in moments {
        void(&mut world, kind, way, *gate, reasons).await;
    }
    // Nothing of it was ever called paid, but for what was before.
    let honest = if way == Way::RevokePayTo {
        tokens(10 * u64::try_from(moments.len()).unwrap())
    } else {
        Amount::ZERO
    };
    assert_eq!(world.received().await, honest);
    world.books_equal_the_chain().await;
}

/// Way 1. Lost: what was reserved for one request, at most 0.10 dollars.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_nonce_invalidated_while_a_once_payment_is_served_costs_its_reservation_at_most() {
    at_each_moment(Kind::Once, Way::Nonce, &[LossReason::Nonce]).await;
}

/// Way 2. Lost: what was reserved for one request, at most 0.10 dollars.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_allowance_of_permit2_revoked_meanwhile_costs_the_reservation_at_most() {
    at_each_moment(Kind::Once, Way::Revoke, &[LossReason::Allowance]).await;
}

/// Way 3. Lost: what was reserved for one request, at most 0.10 dollars.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_balance_moved_while_a_once_payment_is_served_costs_its_reservation_at_most() {
    at_each_moment(Kind::Once, Way::Move, &[LossReason::Balance]).await;
}

/// Way 3, against an allowance. Lost: what was reserved for one request, at most 0.10 dollars.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_balance_moved_while_an_allowance_is_drawn_costs_the_reservation_at_most() {
    at_each_moment(Kind::Allowance, Way::Move, &[LossReason::Balance]).await;
}

/// Way 1, against an allowance: its nonce goes to a permit of nothing. Lost: what was reserved for one request.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_permit_replaced_by_one_of_nothing_costs_the_reservation_at_most() {
    let reasons = [LossReason::Allowance, LossReason::Nonce];
    at_each_moment(Kind::Allowance, Way::Nonce, &reasons).await;
}

/// Way 4. Lost: what was reserved for one request, at most 0.10 dollars.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_that_gets_code_while_it_is_served_costs_the_reservation_at_most() {
    at_each_moment(
        Kind::Once,
        Way::Flip,
        &[LossReason::Refused, LossReason::Nonce],
    )
    .await;
}

/// Way 5. Lost: what was reserved for one request, at most 0.10 dollars.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_that_gets_code_which_detects_simulation_costs_the_reservation_at_most() {
    let reasons = [LossReason::Refused, LossReason::Nonce];
    at_each_moment(Kind::Once, Way::Detector, &reasons).await;
}

/// Way 6; RELIABILITY 25. Lost: what was reserved for one request, at most 0.10 dollars.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_nonce_spent_at_another_seller_costs_the_reservation_at_most() {
    at_each_moment(Kind::Once, Way::Elsewhere, &[LossReason::Nonce]).await;
}

/// Way 1, against EIP-3009. Lost: one fixed price, 0.10 dollars.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transfer_cancelled_after_its_answer_costs_its_price_at_most() {
    at_each_moment(Kind::Eip3009, Way::Nonce, &[LossReason::Nonce]).await;
}

/// Way 2, against an allowance that was drawn before: its permit cannot go in again. Lost: what was reserved for one
/// request, at most 0.10 dollars.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_allowance_of_the_seller_revoked_meanwhile_costs_the_reservation_at_most() {
    at_each_moment(
        Kind::Allowance,
        Way::RevokePayTo,
        &[LossReason::Allowance, LossReason::Nonce],
    )
    .await;
}

/// Way 1, against an exact Permit2 payment, after its answer. Lost: one fixed price, 0.10 dollars.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_permit2_exact_payment_whose_nonce_is_invalidated_costs_its_price_at_most() {
    at_each_moment(Kind::Permit2Exact, Way::Nonce, &[LossReason::Nonce]).await;
}

/// Way 2, against an exact Permit2 payment. Lost: one fixed price, 0.10 dollars.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_permit2_exact_payment_whose_approval_is_revoked_costs_its_price_at_most() {
    at_each_moment(Kind::Permit2Exact, Way::Revoke, &[LossReason::Allowance]).await;
}

/// Way 3, against an exact Permit2 payment. Lost: one fixed price, 0.10 dollars.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_permit2_exact_payment_whose_balance_moves_costs_its_price_at_most() {
    at_each_moment(Kind::Permit2Exact, Way::Move, &[LossReason::Balance]).await;
}

/// Way 4, against an exact Permit2 payment. Lost: one fixed price, 0.10 dollars.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_permit2_exact_payment_of_an_account_that_gets_code_costs_its_price_at_most() {
    let reasons = [LossReason::Refused, LossReason::Nonce];
    at_each_moment(Kind::Permit2Exact, Way::Flip, &reasons).await;
}

/// Way 3, against EIP-3009. Lost: one fixed price, 0.10 dollars.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_balance_moved_after_an_exact_answer_costs_its_price_at_most() {
    at_each_moment(Kind::Eip3009, Way::Move, &[LossReason::Balance]).await;
}

/// Way 8; RELIABILITY 16. Five payments of 0.40 dollars on a balance of 1.00 all verify by themselves; two are served,
/// and both are paid. Lost: 0.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_payments_on_a_balance_of_two_and_a_half_serve_two() {
    let mut world = World::new().await;
    let gate = Arc::new(Semaphore::new(0));
    world
        .upstream
        .play([Step::Gate(Arc::clone(&gate)), Step::Say(400)]);
    let payer = Payer::fresh(1);
    world.fund(&payer, cents(100)).await;
    world.approve_permit2(&payer, U256::MAX).await;
    // A clamped answer is as good for the payer: it has to ask for what it cannot do without.
    let mut all = Vec::new();
    for nonce in 0..5 {
        let signed = world.once(&payer, cents(99), nonce).await;
        let body = chat(400);
        let payment = world.payment(CHAT, &body, X402Version::V2, &signed).await;
        all.push((body, payment));
    }
    let asked = all
        .iter()
        .map(|(body, payment)| world.request(CHAT, body, Some(payment)));
    let open = async {
        world.upstream.reach(2).await;
        gate.add_permits(8);
    };
    let (answers, ()) = tokio::join!(futures_util::future::join_all(asked), open);
    let served = answers.iter().filter(|one| one.status == 200).count();
    assert!(
        (2..=3).contains(&served),
        "{served}: the third is clamped to what is left"
    );
    world.settle().await;
    let totals = world.totals().await;
    assert_eq!(totals.of(Status::Lost).payments, 0);
    assert!(totals.of(Status::Final).charge <= cents(100));
    world.books_equal_the_chain().await;
}
