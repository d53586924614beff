-- The chain as a relational index for explorers and wallets. Run as the owner.
CREATE TABLE wallets (
    address     text PRIMARY KEY CHECK (address ~ '^XAI[0-9a-f]{40}$'),
    created_at  timestamptz NOT NULL,
    balance     numeric(20, 8) NOT NULL DEFAULT 0 CHECK (balance >= 0),
    label       text
);

CREATE TABLE blocks (
    height             bigint PRIMARY KEY CHECK (height >= 0),
    hash               text NOT NULL UNIQUE CHECK (length(hash) = 64),
    previous_hash      text NOT NULL CHECK (length(previous_hash) = 64),
    mined_at           timestamptz NOT NULL,
    miner              text NOT NULL REFERENCES wallets,
    difficulty         bigint NOT NULL CHECK (difficulty > 0),
    transaction_count  integer NOT NULL CHECK (transaction_count >= 0),
    size_bytes         integer NOT NULL CHECK (size_bytes > 0)
);
CREATE INDEX blocks_mined_at ON blocks (mined_at);

CREATE TABLE transactions (
    id            text PRIMARY KEY CHECK (length(id) = 64),
    block_height  bigint NOT NULL REFERENCES blocks,
    position      integer NOT NULL,
    kind          text NOT NULL CHECK (kind IN ('coinbase', 'transfer')),
    sender        text REFERENCES wallets,
    receiver      text NOT NULL REFERENCES wallets,
    amount        numeric(20, 8) NOT NULL CHECK (amount > 0),
    fee           numeric(20, 8) NOT NULL DEFAULT 0 CHECK (fee >= 0),
    created_at    timestamptz NOT NULL,
    UNIQUE (block_height, position),
    CHECK ((kind = 'coinbase') = (sender IS NULL))
);
CREATE INDEX transactions_sender ON transactions (sender, created_at) WHERE sender IS NOT NULL;
CREATE INDEX transactions_receiver ON transactions (receiver, created_at);

CREATE TABLE utxos (
    transaction_id  text NOT NULL REFERENCES transactions,
    output_index    integer NOT NULL,
    address         text NOT NULL REFERENCES wallets,
    amount          numeric(20, 8) NOT NULL CHECK (amount > 0),
    spent_by        text REFERENCES transactions,
    PRIMARY KEY (transaction_id, output_index)
);
CREATE INDEX utxos_unspent ON utxos (address) WHERE spent_by IS NULL;

GRANT SELECT, INSERT, UPDATE, DELETE ON wallets, blocks, transactions, utxos TO xai_app;
