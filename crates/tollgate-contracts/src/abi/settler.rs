//! `Settler`: turns what payers signed into transfers to one fixed treasury.

alloy_sol_types::sol! {
    /// Turns what payers signed into transfers to one fixed treasury. The source, `contracts/Settler.sol`, says how.
    ///
    /// Kinds of items, in `Failed` and `Pulled`: see [`Kind`](crate::settler::Kind).
    #[sol(all_derives)]
    interface Settler {
        /// An ERC-2612 permit with this contract as spender; `v == 0` stands for none.
        struct Permit {
            uint256 value;
            uint256 deadline;
            uint8 v;
            bytes32 r;
            bytes32 s;
        }
        /// Moves `to - from` atomic units from the owner to the treasury, if the counter stands at `from`.
        struct AllowanceItem {
            address token;
            address owner;
            uint256 from;
            uint256 to;
            Permit permit;
        }
        /// Moves `amount` of the `permitted` that the owner signed for the upto proxy, with this contract as both
        /// `witness.to` and `witness.facilitator`.
        struct OnceItem {
            address token;
            address owner;
            uint256 permitted;
            uint256 amount;
            uint256 nonce;
            uint256 deadline;
            uint256 validAfter;
            bytes signature;
        }
        /// An EIP-3009 transfer to this contract.
        struct Eip3009Item {
            address token;
            address owner;
            uint256 amount;
            uint256 validAfter;
            uint256 validBefore;
            bytes32 nonce;
            uint8 v;
            bytes32 r;
            bytes32 s;
        }
        /// A Permit2 transfer that the owner signed for the exact proxy, with this contract as `witness.to`.
        struct Permit2ExactItem {
            address token;
            address owner;
            uint256 amount;
            uint256 nonce;
            uint256 deadline;
            uint256 validAfter;
            bytes signature;
        }

        /// The interval `from..to` of the owner's counter was moved to the treasury.
        event Charged(address indexed token, address indexed owner, uint256 from, uint256 to);
        /// Nothing moved: the counter stands at `actual`, not at `from`.
        event Skipped(address indexed token, address indexed owner, uint256 from, uint256 to, uint256 actual);
        /// A once, EIP-3009 or Permit2 payment landed in this contract.
        event Pulled(uint8 indexed kind, address indexed token, address indexed owner, uint256 nonce, uint256 amount);
        /// The item `index` of its list failed, and nothing of it happened.
        event Failed(uint8 kind, uint256 index, address indexed token, address indexed owner);
        /// `amount` went from this contract to the treasury.
        event Swept(address indexed token, uint256 amount);
        /// The admin let `operator` settle, or no longer.
        event OperatorSet(address indexed operator, bool allowed);
        /// The admin offered adminship to `to`.
        event AdminOffered(address indexed to);
        /// `to` took the adminship over.
        event AdminChanged(address indexed from, address indexed to);

        error NotAdmin(address caller);
        error NotOperator(address caller);
        error NotSelf(address caller);
        error ZeroAddress();
        error Reentered();
        error TooManyItems(uint256 count);
        error OutOfGasForItems(uint256 needed, uint256 left);
        error EmptyInterval(uint256 from, uint256 to);
        error NoCode(address token);
        error TransferRefused(address token);
        error MovedWrongAmount(uint256 expected, uint256 before, uint256 afterwards);

        constructor(bytes32 ledgerId, address treasury, address admin, address[] memory operators);

        function settle(AllowanceItem[] calldata allowances, OnceItem[] calldata onces, Eip3009Item[] calldata exacts, Permit2ExactItem[] calldata permit2Exacts) external;
        function sweep(address token) external;
        function setOperator(address operator, bool allowed) external;
        function offerAdmin(address to) external;
        function acceptAdmin() external;

        /// The inner calls, for this contract only; to simulate one, call it with `from` set to this contract.
        function runAllowance(AllowanceItem calldata item) external;
        function runOnce(OnceItem calldata item) external;
        function runEip3009(Eip3009Item calldata item) external;
        function runPermit2Exact(Permit2ExactItem calldata item) external;

        function ledgerId() external view returns (bytes32);
        function treasury() external view returns (address);
        function admin() external view returns (address);
        function offeredAdmin() external view returns (address);
        function isOperator(address who) external view returns (bool);
        function charged(address token, address owner) external view returns (uint256);
        function MAX_ITEMS() external view returns (uint256);
        function GAS_ALLOWANCE() external view returns (uint256);
        function GAS_PERMIT() external view returns (uint256);
        function GAS_ONCE() external view returns (uint256);
        function GAS_EIP3009() external view returns (uint256);
        function GAS_PERMIT2_EXACT() external view returns (uint256);
        function GAS_OVERHEAD() external view returns (uint256);
    }
}
