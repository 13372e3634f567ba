-- The same tables as in SQLite. One table a kind of row. The key columns are the row's name, and the primary key is
-- what makes "one" true: one authorization admits one request because there can be one row of it.
-- `body` is the row; the other columns are drawn from it, for queries and for people.
-- Amounts are atomic units. Addresses, hashes and ids are lower-case hexadecimal text.

CREATE TABLE meta (
    key   text COLLATE "C" NOT NULL PRIMARY KEY,
    value text NOT NULL
);

CREATE TABLE owners (
    chain bigint NOT NULL,
    token text COLLATE "C" NOT NULL,
    owner text COLLATE "C" NOT NULL,
    held  numeric(78, 0) NOT NULL CHECK (held >= 0),
    due   numeric(78, 0) NOT NULL CHECK (due >= 0),
    lost  numeric(78, 0) NOT NULL CHECK (lost >= 0),
    body  text NOT NULL,
    PRIMARY KEY (chain, token, owner)
) WITH (fillfactor = 70);

CREATE TABLE spenders (
    chain   bigint NOT NULL,
    token   text COLLATE "C" NOT NULL,
    owner   text COLLATE "C" NOT NULL,
    spender text COLLATE "C" NOT NULL,
    held    numeric(78, 0) NOT NULL CHECK (held >= 0),
    due     numeric(78, 0) NOT NULL CHECK (due >= 0),
    body    text NOT NULL,
    PRIMARY KEY (chain, token, owner, spender)
) WITH (fillfactor = 70);

-- Once and exact authorizations.
CREATE TABLE claims (
    chain     bigint NOT NULL,
    verifying text COLLATE "C" NOT NULL,
    owner     text COLLATE "C" NOT NULL,
    nonce     text COLLATE "C" NOT NULL,
    payment   text COLLATE "C",
    body      text NOT NULL,
    PRIMARY KEY (chain, verifying, owner, nonce)
);

-- Allowances.
CREATE TABLE permits (
    chain  bigint NOT NULL,
    digest text COLLATE "C" NOT NULL,
    body   text NOT NULL,
    PRIMARY KEY (chain, digest)
);

CREATE TABLE payments (
    seq           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id            text COLLATE "C" NOT NULL UNIQUE,
    status        text COLLATE "C" NOT NULL,
    reason        text,
    -- The order of commits of one payer, kept when a settlement fails.
    committed     bigint,
    epoch         bigint NOT NULL,
    chain         bigint NOT NULL,
    token         text COLLATE "C" NOT NULL,
    owner         text COLLATE "C" NOT NULL,
    spender       text COLLATE "C",
    reserved      numeric(78, 0) NOT NULL,
    charge        numeric(78, 0) NOT NULL CHECK (charge BETWEEN 0 AND reserved),
    interval_from numeric(78, 0),
    interval_to   numeric(78, 0),
    -- The batch that holds it, or held it until the end.
    batch         text COLLATE "C",
    tx            text COLLATE "C",
    block         bigint,
    created       bigint NOT NULL,
    ended         bigint,
    deadline      bigint NOT NULL,
    memo          text NOT NULL,
    body          text NOT NULL
);
CREATE INDEX payments_due ON payments (committed) WHERE status = 'due';
CREATE INDEX payments_serving ON payments (epoch) WHERE status = 'serving';
CREATE INDEX payments_of_payer ON payments (owner);

CREATE TABLE batches (
    seq      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id       text COLLATE "C" NOT NULL UNIQUE,
    state    text COLLATE "C" NOT NULL,
    chain    bigint NOT NULL,
    operator text COLLATE "C" NOT NULL,
    nonce    bigint,
    tx       text COLLATE "C",
    block    bigint,
    created  bigint NOT NULL,
    body     text NOT NULL
);
CREATE INDEX batches_undecided ON batches (seq) WHERE state <> 'concluded';
-- An account's nonce belongs to one batch.
CREATE UNIQUE INDEX batches_nonce ON batches (chain, operator, nonce) WHERE nonce IS NOT NULL;

CREATE TABLE signers (
    chain    bigint NOT NULL,
    operator text COLLATE "C" NOT NULL,
    body     text NOT NULL,
    PRIMARY KEY (chain, operator)
) WITH (fillfactor = 50);

CREATE TABLE exposures (
    chain bigint NOT NULL,
    token text COLLATE "C" NOT NULL,
    slice bigint NOT NULL,
    used  numeric(78, 0) NOT NULL CHECK (used >= 0),
    body  text NOT NULL,
    PRIMARY KEY (chain, token, slice)
) WITH (fillfactor = 50);

-- The double-entry book: lines are added, never changed.
CREATE TABLE entries (
    seq     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at      bigint NOT NULL,
    payment text COLLATE "C" NOT NULL,
    chain   bigint NOT NULL,
    token   text COLLATE "C" NOT NULL,
    owner   text COLLATE "C" NOT NULL,
    debit   text COLLATE "C" NOT NULL,
    credit  text COLLATE "C" NOT NULL CHECK (credit <> debit),
    amount  numeric(78, 0) NOT NULL CHECK (amount > 0)
);
CREATE FUNCTION entries_stay() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION 'a line of the book is never changed or removed'; END $$;
CREATE TRIGGER entries_stay BEFORE UPDATE OR DELETE OR TRUNCATE ON entries
    FOR EACH STATEMENT EXECUTE FUNCTION entries_stay();

-- Numbers the groups in which commits are made.
CREATE SEQUENCE commits;

-- Gateways: a run lives until it ends, or until it is found that its lease has expired. Moments are the server's.
CREATE TABLE runs (
    epoch    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    slot     bigint NOT NULL,
    gateways bigint NOT NULL,
    begun    bigint NOT NULL,
    until    bigint NOT NULL,
    ended    bigint
) WITH (fillfactor = 50);
CREATE UNIQUE INDEX runs_slot ON runs (slot) WHERE ended IS NULL;

-- Connections that write, and the number of their last group: what became of a commit whose answer was lost is read here.
CREATE TABLE lanes (
    lane   text COLLATE "C" NOT NULL PRIMARY KEY,
    groups bigint NOT NULL,
    at     timestamptz NOT NULL
) WITH (fillfactor = 10);

-- For people and tools. The payment's id is a secret of the payer.
CREATE VIEW x402_payment_logs AS
SELECT
    p.seq                              AS seq,
    p.id                               AS payment_id,
    to_timestamp(p.created)            AS created,
    to_timestamp(p.ended)              AS ended,
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
    to_timestamp(p.deadline)           AS deadline,
    p.memo                             AS memo
FROM payments p LEFT JOIN batches b ON b.id = p.batch;
