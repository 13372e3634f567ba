//! Transactions without keys: built here, signed elsewhere.

use alloy_consensus::{SignableTransaction as _, TxEip1559, transaction::RlpEcdsaEncodableTx as _};
use alloy_primitives::{Signature, TxKind, U256};
use tollgate_x402::{Address, B256, Bytes, ChainId, Signature65};

/// A type-2 transaction (EIP-1559) that moves no BNB.
///
/// BSC's base fee is 0, so the price is the priority fee: `maxFeePerGas = maxPriorityFeePerGas = gas_price`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionRequest1559 {
    /// The chain.
    pub chain: ChainId,
    /// The account's nonce.
    pub nonce: u64,
    /// The contract.
    pub to: Address,
    /// The gas limit.
    pub gas_limit: u64,
    /// The price, in wei a unit of gas.
    pub gas_price: u128,
    /// The calldata.
    pub input: Bytes,
}

/// A signed transaction: what is stored and sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawTransaction {
    /// The signed bytes (EIP-2718).
    pub raw: Bytes,
    /// The hash.
    pub hash: B256,
}

impl TransactionRequest1559 {
    /// What is to be signed.
    #[must_use]
    pub fn signing_hash(&self) -> B256 {
        self.unsigned().signature_hash()
    }

    /// The signed bytes and their hash.
    #[must_use]
    pub fn into_raw(self, signature: &Signature65) -> RawTransaction {
        let signature = Signature::new(
            U256::from_be_bytes(signature.r().0),
            U256::from_be_bytes(signature.s().0),
            signature.odd_y(),
        );
        let mut raw = Vec::new();
        self.unsigned().eip2718_encode(&signature, &mut raw);
        RawTransaction {
            hash: alloy_primitives::keccak256(&raw),
            raw: raw.into(),
        }
    }

    fn unsigned(&self) -> TxEip1559 {
        TxEip1559 {
            chain_id: self.chain.0,
            nonce: self.nonce,
            gas_limit: self.gas_limit,
            max_fee_per_gas: self.gas_price,
            max_priority_fee_per_gas: self.gas_price,
            to: TxKind::Call(self.to),
            value: U256::ZERO,
            access_list: Default::default(),
            input: self.input.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_consensus::{TxEnvelope, transaction::SignerRecoverable as _};
    use alloy_eips::eip2718::Decodable2718 as _;
    use alloy_primitives::address;
    use alloy_signer::SignerSync as _;
    use alloy_signer_local::PrivateKeySigner;

    #[test]
    fn a_signed_transaction_is_what_was_asked_for_from_who_signed() {
        let signer = PrivateKeySigner::from_bytes(&B256::repeat_byte(1)).unwrap();
        let request = TransactionRequest1559 {
            chain: ChainId(56),
            nonce: 7,
            to: address!("5e771e0000000000000000000000000000008402"),
            gas_limit: 200_000,
            gas_price: 50_000_000,
            input: Bytes::from_static(&[1, 2, 3]),
        };
        let signature = signer.sign_hash_sync(&request.signing_hash()).unwrap();
        let signature = Signature65::from_bytes(&signature.as_bytes()).unwrap();
        let signed = request.clone().into_raw(&signature);
        let decoded = TxEnvelope::decode_2718_exact(&signed.raw).unwrap();
        assert_eq!(*decoded.tx_hash(), signed.hash);
        assert_eq!(decoded.recover_signer().unwrap(), signer.address());
        let decoded = decoded.as_eip1559().unwrap().tx();
        assert_eq!(decoded, &request.unsigned());
        // BSC's base fee is 0: the price is the tip.
        assert_eq!(decoded.max_fee_per_gas, decoded.max_priority_fee_per_gas);
    }
}
