//! The JavaScript of the book, run as a reader copies it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::{Context, ensure};

use super::cell::{Cell, Chain, Mode};
use super::gateway::{Gateway, PATIENCE};
use super::process::Program;
use super::projects;
use crate::shell::{Cmd, root};

/// The pages with a whole program, and the client that it pays by.
const PAGES: &[(&str, &str)] = &[("README.md", "thirdweb"), ("docs/client.md", "x402-fetch")];

/// Where the pages say that `serve --dev` and its chain are.
const GATEWAY: &str = "http://127.0.0.1:8402";
const RPC: &str = "http://127.0.0.1:8545";

/// Runs the program of this cell's client, if a page has one: it must be served.
pub(super) fn run(cell: &Cell, gateway: &Gateway, directory: &Path) -> anyhow::Result<()> {
    for (page, client) in PAGES {
        if cell.client != *client || cell.mode != Mode::Plain || cell.chain != Chain::Devchain {
            continue;
        }
        let text = program(page)?
            .replace(GATEWAY, &gateway.url)
            .replace(RPC, &gateway.rpc);
        fs::write(directory.join("pay.mjs"), text)?;
        symlink(
            projects().join(client).join("node_modules"),
            directory.join("node_modules"),
        )?;
        let (mut program, _) = Program::start(
            &Cmd::new("node pay.mjs").dir(directory),
            &directory.join("pay.log"),
            |line| line.starts_with("200 "),
            PATIENCE,
        )
        .with_context(|| format!("the program of {page} is not served"))?;
        let status = program.wait(PATIENCE)?;
        ensure!(
            status.success(),
            "the program of {page} failed after it was served ({status})"
        );
        println!("      ok  the program of {page} is served as it stands");
    }
    Ok(())
}

/// The first block of JavaScript in a page that is a whole program.
fn program(page: &str) -> anyhow::Result<String> {
    let text = fs::read_to_string(root().join(page))?;
    let program = text
        .split("```js\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next())
        .find(|block| block.starts_with("import "))
        .with_context(|| format!("{page} has no program in JavaScript"))?;
    for address in [GATEWAY, RPC] {
        ensure!(
            program.contains(address),
            "the program of {page} does not name {address}, where `serve --dev` is"
        );
    }
    Ok(program.to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::cell::CELLS;
    use super::*;

    #[test]
    fn every_program_of_the_book_is_run_by_a_cell() {
        for (page, client) in PAGES {
            assert!(program(page).unwrap().contains("wrapFetchWithPayment"));
            let cells = CELLS.iter().filter(|cell| {
                cell.client == *client && cell.mode == Mode::Plain && cell.chain == Chain::Devchain
            });
            assert_eq!(cells.count(), 1, "{page}");
        }
    }
}
