//! A payer, honest or not: keys, signatures, transactions of its own.

use alloy_primitives::keccak256;
use serde_json::{Value, json};
use tollgate_bsc::Call;
use tollgate_contracts::{
    addresses::{EXACT_PROXY, PERMIT2, UPTO_PROXY},
    tokens::USD1,
};
use tollgate_devchain::DEV_ACCOUNTS;
use tollgate_eip712::{
    AllowanceTerms, Eip3009Terms, LocalWallet, OnceTerms, Permit2ExactTerms, sign_allowance,
    sign_eip3009, sign_once, sign_permit2_exact,
};
use tollgate_x402::{Address, Amount, Authorization, B256, ChainId, Clock, Exact, Timestamp, U256};

use super::world::{ADMIN, World};

/// Who pays, or pretends to.
#[derive(Clone)]
pub(crate) struct Payer(pub(crate) LocalWallet);

impl Payer {
    /// One of the accounts that have money from the beginning.
    pub(crate) fn rich(number: usize) -> Self {
        Self(LocalWallet::from_bytes(&DEV_ACCOUNTS[number].private_key.0).unwrap())
    }

    /// A new identity, as many as one likes.
    pub(crate) fn fresh(number: u64) -> Self {
        let key = keccak256(format!("identity {number}"));
        Self(LocalWallet::from_bytes(&key.0).unwrap())
    }

    pub(crate) fn address(&self) -> Address {
        self.0.address()
    }
}

impl World {
    pub(crate) fn now(&self) -> Timestamp {
        self.chain.clock.now()
    }

    fn hour(&self) -> Timestamp {
        self.now().plus(3_600)
    }

    pub(crate) async fn allowance(
        &self,
        payer: &Payer,
        value: Amount,
        nonce: u64,
    ) -> Authorization {
        self.allowance_until(payer, value, nonce, self.hour()).await
    }

    pub(crate) async fn allowance_until(
        &self,
        payer: &Payer,
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
            sign_allowance(&payer.0, &self.domain, &terms)
                .await
                .unwrap(),
        )
    }

    pub(crate) fn once_terms(&self, amount: Amount, nonce: u64) -> OnceTerms {
        OnceTerms {
            amount,
            spender: UPTO_PROXY,
            nonce: U256::from(nonce),
            deadline: self.hour(),
            to: self.pay_to,
            facilitator: self.pay_to,
            valid_after: Timestamp(0),
        }
    }

    pub(crate) async fn once(&self, payer: &Payer, amount: Amount, nonce: u64) -> Authorization {
        self.sign_once(payer, &self.once_terms(amount, nonce)).await
    }

    pub(crate) async fn sign_once(&self, payer: &Payer, terms: &OnceTerms) -> Authorization {
        Authorization::Once(sign_once(&payer.0, &self.domain, terms).await.unwrap())
    }

    pub(crate) async fn eip3009(&self, payer: &Payer, value: Amount, nonce: u64) -> Authorization {
        let terms = Eip3009Terms {
            to: self.pay_to,
            value,
            valid_after: Timestamp(0),
            valid_before: self.hour(),
            nonce: B256::from(U256::from(nonce)),
        };
        Authorization::Exact(Exact::Eip3009(
            sign_eip3009(&payer.0, &self.domain, &terms).await.unwrap(),
        ))
    }

    pub(crate) async fn permit2_exact(
        &self,
        payer: &Payer,
        amount: Amount,
        nonce: u64,
    ) -> Authorization {
        let terms = Permit2ExactTerms {
            amount,
            spender: EXACT_PROXY,
            nonce: U256::from(nonce),
            deadline: self.hour(),
            to: self.pay_to,
            valid_after: Timestamp(0),
        };
        let signed = sign_permit2_exact(&payer.0, &self.domain, &terms);
        Authorization::Exact(Exact::Permit2(signed.await.unwrap()))
    }

    /// Gives an identity so much of the token, and BNB for transactions of its own.
    pub(crate) async fn fund(&self, payer: &Payer, amount: Amount) {
        self.chain
            .set_bnb(payer.address(), 1_000_000_000_000_000_000)
            .await;
        self.send(
            &Payer::rich(ADMIN),
            USD1,
            "mint(address,uint256)",
            &[word(payer.address()), amount.get()],
        )
        .await;
    }

    pub(crate) async fn approve_permit2(&self, payer: &Payer, amount: U256) {
        self.send(
            payer,
            USD1,
            "approve(address,uint256)",
            &[word(PERMIT2), amount],
        )
        .await;
    }

    /// Moves everything but this away.
    pub(crate) async fn leave(&self, payer: &Payer, amount: Amount) {
        self.leave_to(payer, amount, Address::repeat_byte(0x77))
            .await;
    }

    /// Moves everything but this to another account.
    pub(crate) async fn leave_to(&self, payer: &Payer, amount: Amount, other: Address) {
        let rest = self.balance(payer.address()).await;
        let rest = rest.checked_sub(amount).unwrap();
        let sink = word(other);
        self.send(
            payer,
            USD1,
            "transfer(address,uint256)",
            &[sink, rest.get()],
        )
        .await;
    }

    /// Sends a call of a contract and mines it. It succeeds.
    pub(crate) async fn send(&self, from: &Payer, to: Address, signature: &str, words: &[U256]) {
        let mut input = keccak256(signature)[..4].to_vec();
        for word in words {
            input.extend_from_slice(&word.to_be_bytes::<32>());
        }
        let receipt = self.send_input(from, to, input).await;
        assert_eq!(receipt["status"], "0x1", "{signature} fails");
    }

    /// Sends a call and mines it; the receipt tells what became of it.
    pub(crate) async fn send_input(&self, from: &Payer, to: Address, input: Vec<u8>) -> Value {
        let call = Call {
            to,
            input: input.into(),
            gas_limit: 400_000,
        };
        let nonce = self.nonce(from.address()).await;
        let transaction = call.into_transaction(ChainId::DEV, nonce, 50_000_000);
        let signature = from.0.sign_hash_sync(&transaction.signing_hash()).unwrap();
        self.send_raw(transaction.into_raw(&signature).raw).await
    }

    pub(crate) async fn send_raw(&self, raw: tollgate_x402::Bytes) -> Value {
        let hash = self.chain.rpc("eth_sendRawTransaction", json!([raw])).await;
        self.chain.mine().await;
        self.chain
            .rpc("eth_getTransactionReceipt", json!([hash]))
            .await
    }

    pub(crate) async fn nonce(&self, account: Address) -> u64 {
        let nonce = self
            .chain
            .rpc("eth_getTransactionCount", json!([account, "latest"]))
            .await;
        u64::from_str_radix(nonce.as_str().unwrap().trim_start_matches("0x"), 16).unwrap()
    }
}

/// An address as an ABI word.
pub(crate) fn word(address: Address) -> U256 {
    U256::from_be_slice(address.as_slice())
}
