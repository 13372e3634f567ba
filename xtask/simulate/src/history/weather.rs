//! What befalls the world of a history: faults that begin and end, crashes, pauses.

use super::History;
use crate::{
    chain::Act,
    names::OPERATORS,
    setting::Keeping,
    world::{Event, Fault, note},
};

impl History {
    /// Lets something befall the world, perhaps.
    pub(super) fn weather(&mut self) {
        if self.world.with(|core| core.calm) {
            return;
        }
        let (fault, lasts, crash, freeze) = self.world.with(|core| {
            let setting = core.setting.clone();
            let replica = core.rng.place(setting.replicas);
            let node = core.rng.place(setting.nodes);
            let stormy = core.rng.permille(setting.storms);
            let fault = stormy.then(|| match core.rng.below(12) {
                // What makes settlements fail takes the place of others.
                kind if kind < setting.stops && kind.is_multiple_of(2) => Fault::Pause,
                kind if kind < setting.stops => Fault::Dismissed(core.rng.place(OPERATORS)),
                0 => Fault::NodeDown(node),
                1 | 2 => Fault::NodeStuck(node),
                3 => Fault::Poor,
                4 => Fault::FinalityStalls,
                5 => Fault::ChainStalls,
                6 => Fault::Spike,
                7 => Fault::Clock(replica),
                8 => Fault::Store(Some(replica)),
                9 => Fault::Store(None),
                10 => Fault::Pause,
                _ => Fault::Dismissed(core.rng.place(OPERATORS)),
            });
            let lasts = core.rng.range(300_000, 12_000_000);
            let crash = core.rng.permille(setting.crashes).then_some(replica);
            let shared = setting.keeping == Keeping::Shared;
            let freeze = (shared && core.rng.permille(setting.crashes / 3))
                .then(|| (replica, core.rng.range(500_000, 25_000_000)));
            (fault, lasts, crash, freeze)
        });
        if let Some(fault) = fault {
            self.strike(fault);
            self.world.schedule(lasts, Event::Mend(fault));
        }
        if let Some(replica) = crash {
            // At any step: whatever a task of it waits for then.
            let wait = self.world.with(|core| core.rng.below(900_000));
            self.world.schedule(wait, Event::Crash(replica));
        }
        if let Some((replica, lasts)) = freeze {
            let until = self.world.now() + lasts;
            self.world.schedule(0, Event::Freeze(replica, until));
        }
        let wait = self.world.with(|core| core.rng.range(400_000, 1_600_000));
        self.world.schedule(wait, Event::Weather);
    }

    /// A fault begins.
    fn strike(&mut self, fault: Fault) {
        let skew = self.world.with(|core| {
            note!(core, 5, "{:>10} fault: {fault:?}", self.world.now());
            core.faults.push(fault);
            match fault {
                Fault::NodeDown(node) => core.nodes[node].down = true,
                Fault::NodeStuck(node) => core.nodes[node].stuck = true,
                Fault::Poor => core.nodes.iter_mut().for_each(|node| node.poor = true),
                Fault::Spike => core.chain.floor = 60_000_000,
                Fault::Pause => core.chain.act(Act::Pause(true)),
                Fault::Dismissed(account) => core.chain.act(Act::Dismiss(account, true)),
                Fault::Store(replica) => {
                    for served in core.served.values_mut() {
                        let here = served
                            .by
                            .is_some_and(|by| replica.is_none_or(|replica| by.replica == replica));
                        served.broken |= here && !served.ended;
                    }
                }
                Fault::FinalityStalls | Fault::ChainStalls | Fault::Clock(_) => {}
            }
            let jumps = [-3_600, -30, -3, 3, 15, 60, 3_600];
            core.rng.pick(&jumps).copied().unwrap_or_default()
        });
        if let Fault::Clock(replica) = fault {
            self.world.skew(replica, skew);
        }
    }

    /// A fault ends.
    pub(super) fn mend(&mut self, fault: Fault) {
        self.world.with(|core| {
            let known = core.faults.len();
            core.faults.retain(|other| *other != fault);
            if core.faults.len() == known {
                return;
            }
            note!(core, 6, "{:>10} mended: {fault:?}", self.world.now());
            match fault {
                Fault::NodeDown(node) => core.nodes[node].down = false,
                Fault::NodeStuck(node) => core.nodes[node].stuck = false,
                Fault::Poor => core.nodes.iter_mut().for_each(|node| node.poor = false),
                Fault::Spike => core.chain.floor = 0,
                Fault::Pause => core.chain.act(Act::Pause(false)),
                Fault::Dismissed(account) => core.chain.act(Act::Dismiss(account, false)),
                Fault::FinalityStalls | Fault::ChainStalls | Fault::Clock(_) | Fault::Store(_) => {}
            }
        });
        if let Fault::Clock(replica) = fault {
            self.world.skew(replica, 0);
        }
    }
}
