//! What a person sees of the demo.

use tollgate_price::amount_to_dollars;
use tollgate_x402::Amount;

use super::facts::Facts;

pub(super) fn dollars(amount: Amount, decimals: u8) -> String {
    format!("{} USD1", amount_to_dollars(amount, decimals))
}

/// What a person sees.
pub(super) struct Show {
    pub(super) quiet: bool,
    pub(super) color: bool,
}

impl Show {
    pub(super) fn paint(&self, code: &str, text: &str) -> String {
        if self.color {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    pub(super) fn line(&self, text: &str) {
        if !self.quiet {
            say!("   {text}");
        }
    }

    pub(super) fn title(&self, text: &str) {
        if !self.quiet {
            say!("\n{}", self.paint("1", text));
        }
    }

    pub(super) fn sent(&self, lines: &[String]) {
        lines
            .iter()
            .for_each(|line| self.line(&format!("{} {line}", self.paint("36", "→"))));
    }

    pub(super) fn got(&self, lines: &[String]) {
        lines
            .iter()
            .for_each(|line| self.line(&format!("{} {line}", self.paint("33", "←"))));
    }

    pub(super) fn streamed(&self, text: &str) {
        if !self.quiet {
            say_part!("{}", self.paint("32", text));
        }
    }

    pub(super) fn end_of_stream(&self) {
        if !self.quiet {
            say!("");
        }
    }

    pub(super) fn summary(&self, facts: &Facts) {
        let amount = |name: &str, amount: Amount| {
            self.line(&format!(
                "{name:<12}{amount:>26} atomic units   {}",
                dollars(amount, 18)
            ));
        };
        self.line(&format!("transaction {}", facts.transaction));
        self.line(&format!(
            "gas used    {} in block {}",
            facts.gas_used, facts.block
        ));
        self.title("4. Does it add up?");
        amount("quoted", facts.quoted);
        amount("reserved", facts.reserved);
        amount("charged", facts.charged);
        amount("settled", facts.settled);
        say!("");
        let balances = |name: &str, before: Amount, after: Amount| {
            self.line(&format!("{name:<10}{before:>28} → {after}"));
        };
        balances("payer", facts.payer_before, facts.payer_after);
        balances("treasury", facts.treasury_before, facts.treasury_after);
        say!("");
        for check in &facts.checks {
            let mark = if check.ok {
                self.paint("32", "ok  ")
            } else {
                self.paint("31", "FAIL")
            };
            self.line(&format!("{mark} {}", check.what));
            if !check.ok {
                self.line(&format!("     saw {}", check.seen));
            }
        }
        let verdict = if facts.adds_up {
            "Everything adds up."
        } else {
            "It does not add up."
        };
        say!(
            "\n{} First byte after {} ms; final {} ms after the last.",
            self.paint("1", verdict),
            facts.first_byte_ms,
            facts.final_ms
        );
    }
}
