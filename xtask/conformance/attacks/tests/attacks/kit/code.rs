//! Accounts that have code, and get it while they are being served (EIP-7702).

use alloy_consensus::{SignableTransaction, TxEip7702};
use alloy_eips::{eip2718::Encodable2718, eip7702::Authorization as Delegation};
use alloy_primitives::{Signature, hex};
use tollgate_x402::{Address, B256, Bytes, Signature65, U256};

use super::{payer::Payer, world::World};

/// The code of one of the project's contracts, hostile ones as well.
pub(crate) fn runtime(name: &str) -> Bytes {
    let path = format!(
        "{}/../../../crates/tollgate-contracts/artifacts/{name}.json",
        env!("CARGO_MANIFEST_DIR")
    );
    let artifact: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    hex::decode(artifact["runtime"].as_str().unwrap())
        .unwrap()
        .into()
}

fn alloy(signature: Signature65) -> Signature {
    Signature::from_raw(&signature.to_bytes()).unwrap()
}

/// What code a payer's account gets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Code {
    /// Says no to every signature.
    No,
    /// Says yes to every signature.
    Yes,
    /// Uses up all gas that it is given.
    BurnGas,
    /// Reverts with 200,000 bytes.
    RevertBomb,
    /// Says yes when it is only asked, and no in a transaction.
    Detector,
}

impl World {
    /// Delegates a payer's account to such code by an EIP-7702 transaction that somebody else sends.
    pub(crate) async fn flip(&self, payer: &Payer, code: Code) {
        let (name, mode) = match code {
            Code::Yes => ("HostileOwner", 0_u8),
            Code::No => ("HostileOwner", 1),
            Code::BurnGas => ("HostileOwner", 2),
            Code::RevertBomb => ("HostileOwner", 3),
            Code::Detector => ("SimulationDetector", 0),
        };
        let delegate = Address::repeat_byte(if code == Code::Detector { 0xd2 } else { 0xd1 });
        self.chain.set_code(delegate, runtime(name)).await;
        self.delegate(payer, delegate).await;
        // The delegate's storage is the account's own.
        self.chain
            .set_storage(payer.address(), U256::ZERO, B256::with_last_byte(mode))
            .await;
    }

    /// Takes the code off again.
    pub(crate) async fn flip_back(&self, payer: &Payer) {
        self.delegate(payer, Address::ZERO).await;
    }

    async fn delegate(&self, payer: &Payer, delegate: Address) {
        let sender = Payer::rich(5);
        let delegation = Delegation {
            chain_id: U256::from(31337),
            address: delegate,
            nonce: self.nonce(payer.address()).await,
        };
        let signed = payer.0.sign_hash_sync(&delegation.signature_hash());
        let transaction = TxEip7702 {
            chain_id: 31337,
            nonce: self.nonce(sender.address()).await,
            gas_limit: 200_000,
            max_fee_per_gas: 50_000_000,
            max_priority_fee_per_gas: 50_000_000,
            to: sender.address(),
            authorization_list: vec![delegation.into_signed(alloy(signed.unwrap()))],
            ..TxEip7702::default()
        };
        let signature = sender.0.sign_hash_sync(&transaction.signature_hash());
        let envelope = transaction.into_signed(alloy(signature.unwrap()));
        let mut raw = Vec::new();
        alloy_consensus::TxEnvelope::from(envelope).encode_2718(&mut raw);
        let receipt = self.send_raw(raw.into()).await;
        assert_eq!(receipt["status"], "0x1");
        let code = self
            .chain
            .rpc(
                "eth_getCode",
                serde_json::json!([payer.address(), "latest"]),
            )
            .await;
        let has_code = code.as_str().unwrap().starts_with("0xef0100");
        assert_eq!(has_code, !delegate.is_zero(), "the delegation is in force");
    }
}
