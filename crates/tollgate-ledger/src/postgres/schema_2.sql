-- Version 2: idempotency. Rows of both tables are forgotten some time after `expires`.

-- Payers' names for requests (the payment-identifier extension).
CREATE TABLE identifiers (
    chain   bigint NOT NULL,
    owner   text COLLATE "C" NOT NULL,
    digest  text COLLATE "C" NOT NULL,
    payment text COLLATE "C" NOT NULL,
    expires bigint NOT NULL,
    body    text NOT NULL,
    PRIMARY KEY (chain, owner, digest)
);
CREATE INDEX identifiers_expire ON identifiers (expires);

-- What requests were answered.
CREATE TABLE outcomes (
    payment text COLLATE "C" NOT NULL PRIMARY KEY,
    expires bigint NOT NULL,
    body    text NOT NULL
);
CREATE INDEX outcomes_expire ON outcomes (expires);
