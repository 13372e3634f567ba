//! The signature-transfer part of Permit2, and ERC-1271, which it asks where an owner has code.

alloy_sol_types::sol! {
    /// Permit2's `SignatureTransfer` with a witness, which x402's proxies use. Nonces are a bitmap without order:
    /// word `nonce >> 8`, bit `nonce & 255`.
    #[sol(all_derives)]
    interface ISignatureTransfer {
        /// What the owner allows to be moved, at most.
        struct TokenPermissions {
            address token;
            uint256 amount;
        }
        /// What the owner signs beside the spender and the witness. The deadline is in seconds, inclusive.
        struct PermitTransferFrom {
            TokenPermissions permitted;
            uint256 nonce;
            uint256 deadline;
        }
        /// What the spender asks for.
        struct SignatureTransferDetails {
            address to;
            uint256 requestedAmount;
        }

        /// The owner voided the nonces of `mask` in the word `word`.
        event UnorderedNonceInvalidation(address indexed owner, uint256 word, uint256 mask);

        /// More was requested than `maxAmount`, which was signed.
        error InvalidAmount(uint256 maxAmount);
        /// The nonce was used or voided.
        error InvalidNonce();
        /// The deadline has passed.
        error SignatureExpired(uint256 signatureDeadline);
        /// Nobody's signature.
        error InvalidSignature();
        /// Neither 64 bytes (EIP-2098) nor 65.
        error InvalidSignatureLength();
        /// Somebody else's signature.
        error InvalidSigner();
        /// The owner has code and it did not say yes (ERC-1271).
        error InvalidContractSignature();

        function permitWitnessTransferFrom(PermitTransferFrom memory permit, SignatureTransferDetails calldata transferDetails, address owner, bytes32 witness, string calldata witnessTypeString, bytes calldata signature) external;
        function nonceBitmap(address owner, uint256 word) external view returns (uint256);
        function invalidateUnorderedNonces(uint256 wordPos, uint256 mask) external;
        function DOMAIN_SEPARATOR() external view returns (bytes32);
    }

    /// ERC-1271: a contract says whether a signature counts as its own.
    #[sol(all_derives)]
    interface IErc1271 {
        /// `0x1626ba7e` is yes.
        function isValidSignature(bytes32 hash, bytes memory signature) external view returns (bytes4 magicValue);
    }
}
