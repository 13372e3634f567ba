//! The matrix: kind × mode × client × chain.

/// One cell.
pub(super) struct Cell {
    pub(super) kind: Kind,
    pub(super) mode: Mode,
    /// The directory of its npm project.
    pub(super) client: &'static str,
    pub(super) chain: Chain,
}

/// The kind of authorization that the client signs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// `upto` by an ERC-2612 permit, used again while it lasts.
    Allowance,
    /// `upto` by Permit2, for one request.
    Once,
    /// `exact`, by an EIP-3009 transfer and by Permit2.
    Exact,
}

/// How the answer comes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// As a UI message stream, through `DefaultChatTransport` of `ai`.
    Stream,
    /// As one JSON object.
    Plain,
}

/// What is settled on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Chain {
    /// Our own embedded chain.
    Devchain,
    /// One that is not ours, with the real Permit2.
    Anvil,
}

const fn cell(kind: Kind, mode: Mode, client: &'static str, chain: Chain) -> Cell {
    Cell {
        kind,
        mode,
        client,
        chain,
    }
}

/// All cells. Each runs on anvil too, so that our own equivalent of Permit2 is not its only judge.
pub(super) const CELLS: &[Cell] = &[
    cell(Kind::Allowance, Mode::Stream, "thirdweb", Chain::Devchain),
    cell(Kind::Allowance, Mode::Plain, "thirdweb", Chain::Devchain),
    cell(Kind::Once, Mode::Stream, "x402-fetch", Chain::Devchain),
    cell(Kind::Once, Mode::Plain, "x402-fetch", Chain::Devchain),
    cell(Kind::Allowance, Mode::Stream, "thirdweb", Chain::Anvil),
    cell(Kind::Allowance, Mode::Plain, "thirdweb", Chain::Anvil),
    cell(Kind::Once, Mode::Stream, "x402-fetch", Chain::Anvil),
    cell(Kind::Once, Mode::Plain, "x402-fetch", Chain::Anvil),
    cell(Kind::Once, Mode::Plain, EXPRESS, Chain::Devchain),
    cell(Kind::Once, Mode::Stream, EXPRESS, Chain::Devchain),
    cell(Kind::Exact, Mode::Plain, EXPRESS, Chain::Devchain),
    cell(Kind::Once, Mode::Plain, EXPRESS, Chain::Anvil),
    cell(Kind::Once, Mode::Stream, EXPRESS, Chain::Anvil),
    cell(Kind::Exact, Mode::Plain, EXPRESS, Chain::Anvil),
];

/// A foreign server over our facilitator, paid by `@x402/fetch`.
pub(super) const EXPRESS: &str = "x402-express";

impl Cell {
    /// As in `allowance-stream-thirdweb-devchain`.
    pub(super) fn name(&self) -> String {
        format!(
            "{}-{}-{}-{}",
            self.kind.name(),
            self.mode.name(),
            self.client,
            self.chain.name()
        )
    }
}

impl Kind {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Allowance => "allowance",
            Self::Once => "once",
            Self::Exact => "exact",
        }
    }
}

impl Mode {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Stream => "stream",
            Self::Plain => "plain",
        }
    }
}

impl Chain {
    const fn name(self) -> &'static str {
        match self {
            Self::Devchain => "devchain",
            Self::Anvil => "anvil",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_have_names_of_their_own() {
        let mut names: Vec<String> = CELLS.iter().map(Cell::name).collect();
        assert_eq!(names[0], "allowance-stream-thirdweb-devchain");
        names.sort();
        names.dedup();
        assert_eq!(names.len(), CELLS.len());
    }

    #[test]
    fn every_permit2_cell_runs_on_the_real_permit2_too() {
        for ours in CELLS
            .iter()
            .filter(|cell| cell.kind != Kind::Allowance && cell.chain == Chain::Devchain)
        {
            let real = cell(ours.kind, ours.mode, ours.client, Chain::Anvil).name();
            assert!(CELLS.iter().any(|cell| cell.name() == real), "{real}");
        }
    }

    #[test]
    fn every_client_has_its_project() {
        for cell in CELLS {
            assert!(
                super::super::projects()
                    .join(cell.client)
                    .join("client.mjs")
                    .exists(),
                "{}",
                cell.client
            );
        }
    }
}
