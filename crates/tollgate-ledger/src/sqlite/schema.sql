-- One table a kind of row. The key columns are the row's name, and the primary key is what makes "one"
-- true: one authorization admits one request because there can be one row of it.
-- `body` is the row; the other columns are drawn from it, for queries and for people.
-- Amounts are atomic units as decimal text of 78 digits, so that text order is numeric order.
-- Addresses, hashes and ids are lower-case hexadecimal text.

CREATE TABLE meta (
    key   TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE owners (
    chain INTEGER NOT NULL,
    token TEXT    NOT NULL,
    owner TEXT    NOT NULL,
    held  TEXT    NOT NULL CHECK (length(held) = 78),
    due   TEXT    NOT NULL CHECK (length(due) = 78),
    lost  TEXT    NOT NULL CHECK (length(lost) = 78),
    body  TEXT    NOT NULL,
    PRIMARY KEY (chain, token, owner)
) STRICT, WITHOUT ROWID;

CREATE TABLE spenders (
    chain   INTEGER NOT NULL,
    token   TEXT    NOT NULL,
    owner   TEXT    NOT NULL,
    spender TEXT    NOT NULL,
    held    TEXT    NOT NULL CHECK (length(held) = 78),
    due     TEXT    NOT NULL CHECK (length(due) = 78),
    body    TEXT    NOT NULL,
    PRIMARY KEY (chain, token, owner, spender)
) STRICT, WITHOUT ROWID;

-- Once and exact authorizations.
CREATE TABLE claims (
    chain     INTEGER NOT NULL,
    verifying TEXT    NOT NULL,
    owner     TEXT    NOT NULL,
    nonce     TEXT    NOT NULL,
    payment   TEXT,
    body      TEXT    NOT NULL,
    PRIMARY KEY (chain, verifying, owner, nonce)
) STRICT;

-- Allowances.
CREATE TABLE permits (
    chain  INTEGER NOT NULL,
    digest TEXT    NOT NULL,
    body   TEXT    NOT NULL,
    PRIMARY KEY (chain, digest)
) STRICT;

CREATE TABLE payments (
    seq           INTEGER PRIMARY KEY,
    id            TEXT    NOT NULL UNIQUE,
    status        TEXT    NOT NULL,
    reason        TEXT,
    -- The order of commits, kept when a settlement fails.
    committed     INTEGER,
    epoch         INTEGER NOT NULL,
    chain         INTEGER NOT NULL,
    token         TEXT    NOT NULL,
    owner         TEXT    NOT NULL,
    spender       TEXT,
    reserved      TEXT    NOT NULL CHECK (length(reserved) = 78),
    charge        TEXT    NOT NULL CHECK (length(charge) = 78 AND charge <= reserved),
    interval_from TEXT,
    interval_to   TEXT,
    -- The batch that holds it, or held it until the end.
    batch         TEXT,
    tx            TEXT,
    block         INTEGER,
    created       INTEGER NOT NULL,
    ended         INTEGER,
    deadline      INTEGER NOT NULL,
    body          TEXT    NOT NULL
) STRICT;
CREATE INDEX payments_due ON payments (committed) WHERE status = 'due';
CREATE INDEX payments_serving ON payments (epoch) WHERE status = 'serving';
CREATE INDEX payments_of_payer ON payments (owner);

CREATE TABLE batches (
    seq      INTEGER PRIMARY KEY,
    id       TEXT    NOT NULL UNIQUE,
    state    TEXT    NOT NULL,
    chain    INTEGER NOT NULL,
    operator TEXT    NOT NULL,
    nonce    INTEGER,
    tx       TEXT,
    block    INTEGER,
    created  INTEGER NOT NULL,
    body     TEXT    NOT NULL
) STRICT;
CREATE INDEX batches_undecided ON batches (seq) WHERE state <> 'concluded';
-- An account's nonce belongs to one batch.
CREATE UNIQUE INDEX batches_nonce ON batches (chain, operator, nonce) WHERE nonce IS NOT NULL;

CREATE TABLE signers (
    chain    INTEGER NOT NULL,
    operator TEXT    NOT NULL,
    body     TEXT    NOT NULL,
    PRIMARY KEY (chain, operator)
) STRICT, WITHOUT ROWID;

CREATE TABLE exposures (
    chain INTEGER NOT NULL,
    token TEXT    NOT NULL,
    slice INTEGER NOT NULL,
    used  TEXT    NOT NULL CHECK (length(used) = 78),
    body  TEXT    NOT NULL,
    PRIMARY KEY (chain, token, slice)
) STRICT, WITHOUT ROWID;

-- The double-entry book: lines are added, never changed.
CREATE TABLE entries (
    seq     INTEGER PRIMARY KEY,
    at      INTEGER NOT NULL,
    payment TEXT    NOT NULL,
    chain   INTEGER NOT NULL,
    token   TEXT    NOT NULL,
    owner   TEXT    NOT NULL,
    debit   TEXT    NOT NULL,
    credit  TEXT    NOT NULL CHECK (credit <> debit),
    amount  TEXT    NOT NULL CHECK (length(amount) = 78)
) STRICT;
CREATE TRIGGER entries_stay BEFORE UPDATE ON entries
BEGIN SELECT raise(ABORT, 'a line of the book is never changed'); END;
CREATE TRIGGER entries_remain BEFORE DELETE ON entries
BEGIN SELECT raise(ABORT, 'a line of the book is never removed'); END;

-- For people and tools. The payment's id is a secret of the payer.
CREATE VIEW x402_payment_logs AS
SELECT
    p.seq                              AS seq,
    p.id                               AS payment_id,
    datetime(p.created, 'unixepoch')   AS created,
    datetime(p.ended, 'unixepoch')     AS ended,
    p.status                           AS state,
    p.reason                           AS reason,
    p.owner                            AS payer,
    p.spender                          AS spender,
    p.token                            AS token,
    p.chain                            AS chain,
    p.reserved                         AS reserved,
    p.charge                           AS charge,
    p.interval_from                    AS interval_from,
    p.interval_to                      AS interval_to,
    p.batch                            AS batch,
    coalesce(p.tx, CASE p.status WHEN 'claimed' THEN b.tx END)       AS tx,
    coalesce(p.block, CASE p.status WHEN 'claimed' THEN b.block END) AS block,
    datetime(p.deadline, 'unixepoch')  AS deadline,
    json_extract(p.body, '$.memo')     AS memo
FROM payments p LEFT JOIN batches b ON b.id = p.batch;
