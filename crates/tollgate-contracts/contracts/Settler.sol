// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IErc20, IErc2612, IEip3009, IUptoProxy, IExactProxy, IPermit2} from "./interfaces.sol";

/// Turns what payers signed into transfers to one fixed treasury.
///
/// What must always hold:
/// - tokens leave a payer only to the treasury, at once or by way of this contract's own balance;
/// - a once, EIP-3009 or Permit2 payment can be settled once (its nonce), an interval of an allowance's counter once;
/// - an item that fails, however it does, changes nothing and keeps no other item from being settled;
/// - an operator's key can do nothing but this, the admin's key nothing but name operators and its own successor.
///
/// Unaudited.
contract Settler {
    // --- what it takes ---

    struct Permit {
        uint256 value;
        uint256 deadline;
        uint8 v; // 0: no permit
        bytes32 r;
        bytes32 s;
    }

    struct AllowanceItem {
        address token;
        address owner;
        uint256 from;
        uint256 to;
        Permit permit;
    }

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

    struct Permit2ExactItem {
        address token;
        address owner;
        uint256 amount;
        uint256 nonce;
        uint256 deadline;
        uint256 validAfter;
        bytes signature;
    }

    // --- what it says ---

    event Charged(address indexed token, address indexed owner, uint256 from, uint256 to);
    event Skipped(address indexed token, address indexed owner, uint256 from, uint256 to, uint256 actual);
    // The kind is part of what identifies a payment: an EIP-3009 and a Permit2 nonce may be the same number.
    event Pulled(uint8 indexed kind, address indexed token, address indexed owner, uint256 nonce, uint256 amount);
    event Failed(uint8 kind, uint256 index, address indexed token, address indexed owner);
    event Swept(address indexed token, uint256 amount);
    event OperatorSet(address indexed operator, bool allowed);
    event AdminOffered(address indexed to);
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

    // --- constants ---

    IExactProxy private constant EXACT_PROXY = IExactProxy(0x402085c248EeA27D92E8b30b2C58ed07f9E20001);
    IUptoProxy private constant UPTO_PROXY = IUptoProxy(0x4020A4f3b7b90ccA423B9fabCc0CE57C6C240002);

    uint8 private constant ALLOWANCE = 0;
    uint8 private constant ONCE = 1;
    uint8 private constant EIP3009 = 2;
    uint8 private constant PERMIT2_EXACT = 3;

    uint256 public constant MAX_ITEMS = 50;

    // What an item may burn, by kind: about twice what a USD1-like token behind a proxy takes. Fifty of the dearest
    // stay below BSC's limit of 2^24 gas for one transaction (EIP-7825).
    uint256 public constant GAS_ALLOWANCE = 140_000;
    uint256 public constant GAS_PERMIT = 110_000; // more, where the item has a permit
    uint256 public constant GAS_ONCE = 280_000; // room for an owner with code (ERC-1271)
    uint256 public constant GAS_EIP3009 = 200_000;
    uint256 public constant GAS_PERMIT2_EXACT = 280_000;
    // What stays outside of the item's own gas: encoding it, calling, and saying that it failed.
    uint256 public constant GAS_OVERHEAD = 12_000;

    // --- state ---

    /// The ledger whose intervals `charged` counts: one Settler belongs to one ledger.
    bytes32 public immutable ledgerId;
    address public immutable treasury;
    address public admin;
    address public offeredAdmin;
    mapping(address who => bool) public isOperator;
    /// How much of the owner's allowance was moved to the treasury, ever, in atomic units.
    mapping(address token => mapping(address owner => uint256)) public charged;
    bool private transient entered;

    constructor(bytes32 ledgerId_, address treasury_, address admin_, address[] memory operators) {
        if (treasury_ == address(0) || admin_ == address(0)) revert ZeroAddress();
        ledgerId = ledgerId_;
        treasury = treasury_;
        admin = admin_;
        emit AdminChanged(address(0), admin_);
        for (uint256 i = 0; i < operators.length; i++) _setOperator(operators[i], true);
    }

    modifier onlyAdmin() {
        if (msg.sender != admin) revert NotAdmin(msg.sender);
        _;
    }

    modifier onlySelf() {
        if (msg.sender != address(this)) revert NotSelf(msg.sender);
        _;
    }

    modifier notEntered() {
        if (entered) revert Reentered();
        entered = true;
        _;
        entered = false;
    }

    // --- the admin ---

    function setOperator(address operator, bool allowed) external onlyAdmin {
        _setOperator(operator, allowed);
    }

    /// The successor must accept: adminship handed to a wrong address would leave a stolen operator key in place.
    function offerAdmin(address to) external onlyAdmin {
        offeredAdmin = to;
        emit AdminOffered(to);
    }

    function acceptAdmin() external {
        if (msg.sender != offeredAdmin) revert NotAdmin(msg.sender);
        emit AdminChanged(admin, msg.sender);
        admin = msg.sender;
        offeredAdmin = address(0);
    }

    function _setOperator(address operator, bool allowed) private {
        if (operator == address(0)) revert ZeroAddress();
        isOperator[operator] = allowed;
        emit OperatorSet(operator, allowed);
    }

    // --- settling ---

    /// Settles the items in order, each for itself. Reverts as a whole only if the caller is no operator, there are
    /// too many items, or too little gas to give each item its full share.
    function settle(
        AllowanceItem[] calldata allowances,
        OnceItem[] calldata onces,
        Eip3009Item[] calldata exacts,
        Permit2ExactItem[] calldata permit2Exacts
    ) external notEntered {
        if (!isOperator[msg.sender]) revert NotOperator(msg.sender);
        uint256 count = allowances.length + onces.length + exacts.length + permit2Exacts.length;
        if (count > MAX_ITEMS) revert TooManyItems(count);

        uint256 rest = onces.length * _share(GAS_ONCE) + exacts.length * _share(GAS_EIP3009)
            + permit2Exacts.length * _share(GAS_PERMIT2_EXACT);
        for (uint256 i = 0; i < allowances.length; i++) rest += _share(_allowanceGas(allowances[i]));

        // Item after item, the memory that its call took is used again: its price must not grow with the batch.
        uint256 memoryStart = _memoryPointer();
        for (uint256 i = 0; i < allowances.length; i++) {
            AllowanceItem calldata item = allowances[i];
            uint256 gasCap = _allowanceGas(item);
            rest = _requireGas(rest, gasCap);
            bytes memory call = abi.encodeCall(this.runAllowance, (item));
            if (!_runItem(call, gasCap)) emit Failed(ALLOWANCE, i, item.token, item.owner);
            _resetMemory(memoryStart);
        }
        for (uint256 i = 0; i < onces.length; i++) {
            OnceItem calldata item = onces[i];
            rest = _requireGas(rest, GAS_ONCE);
            bytes memory call = abi.encodeCall(this.runOnce, (item));
            if (!_runItem(call, GAS_ONCE)) emit Failed(ONCE, i, item.token, item.owner);
            _resetMemory(memoryStart);
        }
        for (uint256 i = 0; i < exacts.length; i++) {
            Eip3009Item calldata item = exacts[i];
            rest = _requireGas(rest, GAS_EIP3009);
            bytes memory call = abi.encodeCall(this.runEip3009, (item));
            if (!_runItem(call, GAS_EIP3009)) emit Failed(EIP3009, i, item.token, item.owner);
            _resetMemory(memoryStart);
        }
        for (uint256 i = 0; i < permit2Exacts.length; i++) {
            Permit2ExactItem calldata item = permit2Exacts[i];
            rest = _requireGas(rest, GAS_PERMIT2_EXACT);
            bytes memory call = abi.encodeCall(this.runPermit2Exact, (item));
            if (!_runItem(call, GAS_PERMIT2_EXACT)) emit Failed(PERMIT2_EXACT, i, item.token, item.owner);
            _resetMemory(memoryStart);
        }
    }

    /// Moves this contract's whole balance of the token to the treasury. Anybody may ask for it.
    function sweep(address token) external notEntered {
        uint256 amount = _balanceOf(token, address(this));
        if (amount == 0) return;
        _transferCall(token, abi.encodeCall(IErc20.transfer, (treasury, amount)));
        emit Swept(token, amount);
    }

    // --- one item, called by this contract alone ---

    function runAllowance(AllowanceItem calldata item) external onlySelf {
        if (item.to <= item.from) revert EmptyInterval(item.from, item.to);
        uint256 actual = charged[item.token][item.owner];
        if (actual != item.from) {
            emit Skipped(item.token, item.owner, item.from, item.to, actual);
            return;
        }
        charged[item.token][item.owner] = item.to;

        if (item.permit.v != 0) _tryPermit(item);
        uint256 amount = item.to - item.from;
        uint256 before = _balanceOf(item.token, treasury);
        _transferCall(item.token, abi.encodeCall(IErc20.transferFrom, (item.owner, treasury, amount)));
        _requireMoved(item.token, treasury, before, amount);
        emit Charged(item.token, item.owner, item.from, item.to);
    }

    function runOnce(OnceItem calldata item) external onlySelf {
        uint256 before = _balanceOf(item.token, address(this));
        UPTO_PROXY.settle(
            IPermit2.PermitTransferFrom(
                IPermit2.TokenPermissions(item.token, item.permitted), item.nonce, item.deadline
            ),
            item.amount,
            item.owner,
            IUptoProxy.Witness(address(this), address(this), item.validAfter),
            item.signature
        );
        _requireMoved(item.token, address(this), before, item.amount);
        emit Pulled(ONCE, item.token, item.owner, item.nonce, item.amount);
    }

    function runEip3009(Eip3009Item calldata item) external onlySelf {
        uint256 before = _balanceOf(item.token, address(this));
        IEip3009(item.token).transferWithAuthorization(
            item.owner,
            address(this),
            item.amount,
            item.validAfter,
            item.validBefore,
            item.nonce,
            item.v,
            item.r,
            item.s
        );
        _requireMoved(item.token, address(this), before, item.amount);
        emit Pulled(EIP3009, item.token, item.owner, uint256(item.nonce), item.amount);
    }

    function runPermit2Exact(Permit2ExactItem calldata item) external onlySelf {
        uint256 before = _balanceOf(item.token, address(this));
        EXACT_PROXY.settle(
            IPermit2.PermitTransferFrom(IPermit2.TokenPermissions(item.token, item.amount), item.nonce, item.deadline),
            item.owner,
            IExactProxy.Witness(address(this), item.validAfter),
            item.signature
        );
        _requireMoved(item.token, address(this), before, item.amount);
        emit Pulled(PERMIT2_EXACT, item.token, item.owner, item.nonce, item.amount);
    }

    // --- gas ---

    function _allowanceGas(AllowanceItem calldata item) private pure returns (uint256) {
        return item.permit.v == 0 ? GAS_ALLOWANCE : GAS_ALLOWANCE + GAS_PERMIT;
    }

    /// What must be left for an item to get `gasCap`: a call passes on 63/64 of what there is (EIP-150).
    function _share(uint256 gasCap) private pure returns (uint256) {
        return gasCap + gasCap / 63 + 1 + GAS_OVERHEAD;
    }

    /// Otherwise whoever sends too little gas, or burns much, would decide which items fail. Returns what the items
    /// after this one need.
    function _requireGas(uint256 rest, uint256 gasCap) private view returns (uint256) {
        uint256 left = gasleft();
        if (left < rest) revert OutOfGasForItems(rest, left);
        return rest - _share(gasCap);
    }

    /// Calls this contract with `gasCap` and takes nothing back: what a failing item returns could fill the memory.
    function _runItem(bytes memory data, uint256 gasCap) private returns (bool ok) {
        assembly ("memory-safe") {
            ok := call(gasCap, address(), 0, add(data, 0x20), mload(data), 0, 0)
        }
    }

    function _memoryPointer() private pure returns (uint256 pointer) {
        assembly ("memory-safe") {
            pointer := mload(0x40)
        }
    }

    function _resetMemory(uint256 pointer) private pure {
        assembly ("memory-safe") {
            mstore(0x40, pointer)
        }
    }

    // --- tokens ---

    /// A permit may have been submitted by somebody who saw it (ERC-2612, security considerations). What counts is
    /// whether the transfer goes through; so the outcome is not looked at, and its gas is its own.
    function _tryPermit(AllowanceItem calldata item) private {
        bytes memory data = abi.encodeCall(
            IErc2612.permit,
            (
                item.owner,
                address(this),
                item.permit.value,
                item.permit.deadline,
                item.permit.v,
                item.permit.r,
                item.permit.s
            )
        );
        address token = item.token;
        assembly ("memory-safe") {
            pop(call(GAS_PERMIT, token, 0, add(data, 0x20), mload(data), 0, 0))
        }
    }

    /// For tokens that answer true, or nothing at all; one that answers false or anything else has refused.
    function _transferCall(address token, bytes memory data) private {
        bool ok;
        bool yes;
        assembly ("memory-safe") {
            mstore(0, 0)
            ok := call(gas(), token, 0, add(data, 0x20), mload(data), 0, 0x20)
            yes := or(iszero(returndatasize()), and(gt(returndatasize(), 0x1f), eq(mload(0), 1)))
        }
        if (!ok) _passOn();
        if (!yes) revert TransferRefused(token);
    }

    function _balanceOf(address token, address owner) private view returns (uint256) {
        // An address without code would answer everything, with nothing.
        if (token.code.length == 0) revert NoCode(token);
        return IErc20(token).balanceOf(owner);
    }

    /// Fees on transfer, silent failures and tokens that invent amounts all end here.
    function _requireMoved(address token, address to, uint256 before, uint256 amount) private view {
        uint256 afterwards = _balanceOf(token, to);
        unchecked {
            if (afterwards < before || afterwards - before != amount) {
                revert MovedWrongAmount(amount, before, afterwards);
            }
        }
    }

    /// Reverts with the reason of the call before, for those who simulate an item.
    function _passOn() private pure {
        assembly ("memory-safe") {
            let free := mload(0x40)
            returndatacopy(free, 0, returndatasize())
            revert(free, returndatasize())
        }
    }
}
