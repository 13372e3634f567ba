//! The typed data as Solidity declares it (EIP-712), by alloy-sol-types.
//!
//! This is the definition. The digests of authorizations take a shorter way to the same hash (no
//! allocation, no type string hashed again); tests hold the two against each other.

use alloy_sol_types::sol;

sol! {
    /// ERC-2612 `Permit`, in the token's domain: `spender` may draw up to `value` atomic units.
    #[derive(Debug, PartialEq, Eq)]
    struct Permit {
        /// Whose money it is, and who signs.
        address owner;
        /// Who may draw.
        address spender;
        /// The budget, in atomic units.
        uint256 value;
        /// The token's `nonces(owner)`.
        uint256 nonce;
        /// The last second in which `permit()` can be included.
        uint256 deadline;
    }

    /// EIP-3009 `TransferWithAuthorization`, in the token's domain: one transfer of exactly `value`.
    #[derive(Debug, PartialEq, Eq)]
    struct TransferWithAuthorization {
        /// Whose money it is, and who signs.
        address from;
        /// Where it goes.
        address to;
        /// The amount, in atomic units.
        uint256 value;
        /// The second after which it is good.
        uint256 validAfter;
        /// The second before which it is good.
        uint256 validBefore;
        /// 32 random bytes.
        bytes32 nonce;
    }

    /// `Offer` of x402's offer-receipt extension.
    #[derive(Debug, PartialEq, Eq)]
    struct Offer {
        /// 1.
        uint256 version;
        /// The resource that is offered.
        string resourceUrl;
        /// `exact`, `upto`.
        string scheme;
        /// The network as CAIP-2 names it.
        string network;
        /// The token.
        string asset;
        /// Who is paid.
        string payTo;
        /// Atomic units, as a decimal string.
        string amount;
        /// The last second in which the offer stands, 0 if that is not said.
        uint256 validUntil;
    }

    /// `Receipt` of x402's offer-receipt extension.
    #[derive(Debug, PartialEq, Eq)]
    struct Receipt {
        /// 1.
        uint256 version;
        /// The network as CAIP-2 names it.
        string network;
        /// The resource that was paid for.
        string resourceUrl;
        /// Who paid.
        string payer;
        /// When the receipt was made, in seconds since the Unix epoch.
        uint256 issuedAt;
        /// The transaction's hash, empty if that is not said.
        string transaction;
    }

    /// What a gateway signs about one payment: what was charged, for what, and where on the chain to
    /// look for it. The domain names the chain and, as verifying contract, `payTo`.
    #[derive(Debug, PartialEq, Eq)]
    struct UsageReceipt {
        /// 1.
        uint256 version;
        /// keccak256 of the payment id's 16 bytes: the id itself is a secret.
        bytes32 payment;
        /// The EIP-712 digest of the authorization that paid.
        bytes32 authorization;
        /// The digest of the request's body, zero if that is not said.
        bytes32 request;
        /// `allowance`, `once` or `exact`.
        string kind;
        /// Whose money it was.
        address payer;
        /// The token.
        address token;
        /// The charge, in atomic units.
        uint256 amount;
        /// The model that answered.
        string model;
        /// Billed input tokens.
        uint256 inputTokens;
        /// Billed output tokens.
        uint256 outputTokens;
        /// The settlement counter's value before this charge, 0 where there is no counter.
        uint256 counterFrom;
        /// The settlement counter's value after this charge, 0 where there is no counter.
        uint256 counterTo;
        /// When the receipt was made, in seconds since the Unix epoch.
        uint256 issuedAt;
    }
}

/// Permit2's `PermitWitnessTransferFrom` with the witness of the x402 exact proxy.
pub mod exact {
    use alloy_sol_types::sol;

    sol! {
        /// What may be moved: at most `amount` atomic units of `token`.
        #[derive(Debug, PartialEq, Eq)]
        struct TokenPermissions {
            /// The token.
            address token;
            /// Atomic units.
            uint256 amount;
        }

        /// What the exact proxy is bound to.
        #[derive(Debug, PartialEq, Eq)]
        struct Witness {
            /// Where the money goes.
            address to;
            /// The first second in which it can be settled.
            uint256 validAfter;
        }

        /// The message, in Permit2's domain.
        #[derive(Debug, PartialEq, Eq)]
        struct PermitWitnessTransferFrom {
            /// The token and the amount.
            TokenPermissions permitted;
            /// The exact proxy.
            address spender;
            /// Permit2's unordered nonce.
            uint256 nonce;
            /// The last second in which it can be included.
            uint256 deadline;
            /// What the proxy is bound to.
            Witness witness;
        }
    }
}

/// Permit2's `PermitWitnessTransferFrom` with the witness of the x402 upto proxy.
pub mod upto {
    use alloy_sol_types::sol;

    sol! {
        /// What may be moved: at most `amount` atomic units of `token`.
        #[derive(Debug, PartialEq, Eq)]
        struct TokenPermissions {
            /// The token.
            address token;
            /// Atomic units.
            uint256 amount;
        }

        /// What the upto proxy is bound to.
        #[derive(Debug, PartialEq, Eq)]
        struct Witness {
            /// Where the money goes.
            address to;
            /// Who alone may call the proxy.
            address facilitator;
            /// The first second in which it can be settled.
            uint256 validAfter;
        }

        /// The message, in Permit2's domain.
        #[derive(Debug, PartialEq, Eq)]
        struct PermitWitnessTransferFrom {
            /// The token and the most that can be settled.
            TokenPermissions permitted;
            /// The upto proxy.
            address spender;
            /// Permit2's unordered nonce.
            uint256 nonce;
            /// The last second in which it can be included.
            uint256 deadline;
            /// What the proxy is bound to.
            Witness witness;
        }
    }
}
