//! The test tokens, shaped like the ones on BSC; the views of USD1 serve for the real one as well.

alloy_sol_types::sol! {
    /// Shaped like USD1: ERC-20, ERC-2612, EIP-3009 in the `(v, r, s)` form, pause and freeze.
    #[sol(all_derives)]
    interface TestUsd1 {
        event Transfer(address indexed from, address indexed to, uint256 value);
        event Approval(address indexed owner, address indexed spender, uint256 value);
        event AuthorizationUsed(address indexed authorizer, bytes32 indexed nonce);
        event AuthorizationCanceled(address indexed authorizer, bytes32 indexed nonce);
        event Paused(address account);
        event Unpaused(address account);
        event Frozen(address indexed account);
        event Unfrozen(address indexed account);

        error NotAdmin(address caller);
        error EnforcedPause();
        error AccountFrozen(address account);
        error ERC20InvalidReceiver(address receiver);
        error ERC20InsufficientBalance(address sender, uint256 balance, uint256 needed);
        error ERC20InsufficientAllowance(address spender, uint256 allowance, uint256 needed);
        error ERC2612ExpiredSignature(uint256 deadline);
        error ERC2612InvalidSigner(address signer, address owner);
        error AuthorizationNotYetValid(uint256 validAfter);
        error AuthorizationExpired(uint256 validBefore);
        error AuthorizationUsedOrCanceled(address authorizer, bytes32 nonce);
        error InvalidAuthorizationSignature(address signer, address authorizer);

        constructor(address admin);

        function name() external view returns (string memory);
        function symbol() external view returns (string memory);
        function decimals() external view returns (uint8);
        /// As the real one: a number, and not the version of the EIP-712 domain, which is "1".
        function version() external view returns (uint256);
        function DOMAIN_SEPARATOR() external view returns (bytes32);

        function totalSupply() external view returns (uint256);
        function balanceOf(address owner) external view returns (uint256);
        function allowance(address owner, address spender) external view returns (uint256);
        function transfer(address to, uint256 value) external returns (bool);
        function approve(address spender, uint256 value) external returns (bool);
        function transferFrom(address from, address to, uint256 value) external returns (bool);

        function nonces(address owner) external view returns (uint256);
        function permit(address owner, address spender, uint256 value, uint256 deadline, uint8 v, bytes32 r, bytes32 s) external;

        function authorizationState(address authorizer, bytes32 nonce) external view returns (bool);
        function transferWithAuthorization(address from, address to, uint256 value, uint256 validAfter, uint256 validBefore, bytes32 nonce, uint8 v, bytes32 r, bytes32 s) external;
        function cancelAuthorization(address authorizer, bytes32 nonce, uint8 v, bytes32 r, bytes32 s) external;

        function admin() external view returns (address);
        function paused() external view returns (bool);
        function frozen(address account) external view returns (bool);
        function pause() external;
        function unpause() external;
        function freeze(address account) external;
        function unfreeze(address account) external;
        function mint(address to, uint256 value) external;
    }

    /// Shaped like Binance-Peg USDT: a plain BEP-20, nothing by signature.
    #[sol(all_derives)]
    interface TestUsdt {
        event Transfer(address indexed from, address indexed to, uint256 value);
        event Approval(address indexed owner, address indexed spender, uint256 value);

        constructor(address owner);

        function name() external view returns (string memory);
        function symbol() external view returns (string memory);
        function decimals() external view returns (uint8);
        function getOwner() external view returns (address);
        function totalSupply() external view returns (uint256);
        function balanceOf(address owner) external view returns (uint256);
        function allowance(address owner, address spender) external view returns (uint256);
        function transfer(address to, uint256 value) external returns (bool);
        function approve(address spender, uint256 value) external returns (bool);
        function transferFrom(address from, address to, uint256 value) external returns (bool);
        function mint(uint256 value) external returns (bool);
    }
}
