-- Version 2: idempotency. Rows of both tables are forgotten some time after `expires`.

-- Payers' names for requests (the payment-identifier extension).
CREATE TABLE identifiers (
    chain   INTEGER NOT NULL,
    owner   TEXT    NOT NULL,
    digest  TEXT    NOT NULL,
    payment TEXT    NOT NULL,
    expires INTEGER NOT NULL,
    body    TEXT    NOT NULL,
    PRIMARY KEY (chain, owner, digest)
) STRICT, WITHOUT ROWID;
CREATE INDEX identifiers_expire ON identifiers (expires);

-- What requests were answered.
CREATE TABLE outcomes (
    payment TEXT    NOT NULL PRIMARY KEY,
    expires INTEGER NOT NULL,
    body    TEXT    NOT NULL
) STRICT;
CREATE INDEX outcomes_expire ON outcomes (expires);
