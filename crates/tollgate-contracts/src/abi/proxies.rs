//! x402's two Permit2 proxies, at the same addresses on every chain ([`crate::addresses`]).

alloy_sol_types::sol! {
    /// x402's proxy of the scheme `exact`: moves all that was signed to `witness.to`. Anybody may call it.
    #[sol(all_derives)]
    interface ExactProxy {
        struct TokenPermissions {
            address token;
            uint256 amount;
        }
        struct PermitTransferFrom {
            TokenPermissions permitted;
            uint256 nonce;
            uint256 deadline;
        }
        /// An ERC-2612 permit for Permit2, so that the payer needs no gas for an `approve`.
        struct EIP2612Permit {
            uint256 value;
            uint256 deadline;
            bytes32 r;
            bytes32 s;
            uint8 v;
        }
        /// What the payer signs beyond Permit2's own fields.
        struct Witness {
            address to;
            uint256 validAfter;
        }

        event Settled();
        event SettledWithPermit();
        event EIP2612PermitFailedWithReason(address indexed token, address indexed owner, string reason);
        event EIP2612PermitFailedWithPanic(address indexed token, address indexed owner, uint256 errorCode);
        event EIP2612PermitFailedWithData(address indexed token, address indexed owner, bytes data);

        error InvalidPermit2Address();
        error InvalidDestination();
        error PaymentTooEarly();
        error InvalidOwner();
        error InvalidAmount();
        error Permit2612AmountMismatch();
        error ReentrancyGuardReentrantCall();

        function settle(PermitTransferFrom calldata permit, address owner, Witness calldata witness, bytes calldata signature) external;
        function settleWithPermit(EIP2612Permit calldata permit2612, PermitTransferFrom calldata permit, address owner, Witness calldata witness, bytes calldata signature) external;
        function PERMIT2() external view returns (address);
        function WITNESS_TYPEHASH() external view returns (bytes32);
        function WITNESS_TYPE_STRING() external view returns (string memory);
    }

    /// x402's proxy of the scheme `upto`: moves what `witness.facilitator`, who must be the caller, says, up to
    /// what was signed, to `witness.to`, once.
    #[sol(all_derives)]
    interface UptoProxy {
        struct TokenPermissions {
            address token;
            uint256 amount;
        }
        struct PermitTransferFrom {
            TokenPermissions permitted;
            uint256 nonce;
            uint256 deadline;
        }
        /// An ERC-2612 permit for Permit2, so that the payer needs no gas for an `approve`.
        struct EIP2612Permit {
            uint256 value;
            uint256 deadline;
            bytes32 r;
            bytes32 s;
            uint8 v;
        }
        /// What the payer signs beyond Permit2's own fields.
        struct Witness {
            address to;
            address facilitator;
            uint256 validAfter;
        }

        event Settled();
        event SettledWithPermit();
        event EIP2612PermitFailedWithReason(address indexed token, address indexed owner, string reason);
        event EIP2612PermitFailedWithPanic(address indexed token, address indexed owner, uint256 errorCode);
        event EIP2612PermitFailedWithData(address indexed token, address indexed owner, bytes data);

        error InvalidPermit2Address();
        error InvalidDestination();
        error PaymentTooEarly();
        error InvalidOwner();
        error InvalidAmount();
        error Permit2612AmountMismatch();
        error ReentrancyGuardReentrantCall();
        error AmountExceedsPermitted();
        error UnauthorizedFacilitator();

        function settle(PermitTransferFrom calldata permit, uint256 amount, address owner, Witness calldata witness, bytes calldata signature) external;
        function settleWithPermit(EIP2612Permit calldata permit2612, PermitTransferFrom calldata permit, uint256 amount, address owner, Witness calldata witness, bytes calldata signature) external;
        function PERMIT2() external view returns (address);
        function WITNESS_TYPEHASH() external view returns (bytes32);
        function WITNESS_TYPE_STRING() external view returns (string memory);
    }
}
