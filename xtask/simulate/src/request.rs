//! One request, from its payment to its last byte, as the paywall carries it.

use std::sync::Arc;

use tollgate_contracts::addresses::PERMIT2;
use tollgate_payment::{
    AuthorizationKey, IdentifierKey, Pricing, RequestBinding,
    port::{Admission, Hold, HoldError},
};
use tollgate_x402::{Amount, Authorization, B256, ErrorCode, PaymentId};

use crate::{
    books::units,
    payers::{self, Order},
    replica::Till,
    world::{Served, Who, World, note},
};

pub(crate) async fn serve(world: Arc<World>, who: Who, till: Till, order: Order) {
    admit(&world, who, till, order).await;
    world.with(|core| {
        core.open[who.replica] = core.open[who.replica].saturating_sub(1);
    });
}

async fn admit(world: &Arc<World>, who: Who, till: Till, order: Order) {
    let exact = matches!(order.authorization, Authorization::Exact(_));
    let pricing = if exact {
        Pricing::Fixed(Amount::from(order.worst))
    } else {
        Pricing::Metered {
            worst: Amount::from(order.worst),
            least: Amount::from(order.least),
        }
    };
    let mut digest = [0; 32];
    digest[..8].copy_from_slice(&order.request.to_be_bytes());
    let request = B256::from(digest);
    let binding = RequestBinding {
        digest: request,
        memo: String::new(),
    };
    let began = world.with(|core| core.books.group);
    let admitted = till
        .admit_signed(
            order.authorization.clone(),
            pricing,
            binding,
            order.identifier.as_ref(),
            2,
        )
        .await;
    match admitted {
        Ok(Admission::New(hold)) => {
            begin(world, who, &order, hold.id());
            Serving {
                world,
                who,
                order: &order,
                exact,
            }
            .run(hold)
            .await;
        }
        Ok(Admission::Replay(replay)) => world.with(|core| {
            note!(
                core,
                11,
                "{:>10} r{} replays {:?}",
                world.now(),
                who.replica,
                replay.status.id
            );
            let asked = core.books.payments.get(&replay.status.id);
            if asked.is_none_or(|row| row.request != request) {
                core.violate(16, || {
                    format!(
                        "another request is given the stored answer of {:?}",
                        replay.status.id
                    )
                });
            }
        }),
        Err(error) => world.with(|core| {
            note!(
                core,
                12,
                "{:>10} r{} refuses payer {}: {:?} {}",
                world.now(),
                who.replica,
                order.payer,
                error.code,
                error.message
            );
            let duplicate = matches!(
                error.code,
                ErrorCode::DuplicateSettlement
                    | ErrorCode::PaymentInFlight
                    | ErrorCode::PaymentIdentifierConflict
            );
            let key = AuthorizationKey::of(&order.authorization, B256::ZERO, PERMIT2);
            let names = &core.books.names;
            let named = order.identifier.as_ref().is_some_and(|name| {
                names.contains_key(&IdentifierKey {
                    chain: order.authorization.chain(),
                    owner: order.authorization.owner(),
                    digest: name.digest(),
                })
            });
            // What it was held against may have been undone since: the disk was full.
            let stands = core.books.undone <= began;
            if duplicate && stands && !named && !core.books.claims.contains_key(&key) {
                core.violate(16, || {
                    format!("a payment that is new is refused as another's: {error}")
                });
            }
            // An honest client signs anew where it is told to.
            if matches!(
                error.code,
                ErrorCode::AllowanceExhausted | ErrorCode::InvalidPermitNonce
            ) && let Authorization::Allowance(permit) = &order.authorization
            {
                let seller = payers::seller(&core.setting);
                let payer = &mut core.payers[order.payer];
                payer.charged = core.books.charged(order.payer, seller) > 0;
                if payer.permit.as_ref() == Some(permit) {
                    let purse = core.chain.state().purses[order.payer].clone();
                    let deadline = world.seconds() + 4_000;
                    let setting = core.setting.clone();
                    payer.sign_permit(&setting, &purse, deadline, &mut core.rng);
                }
            }
        }),
    }
}

fn begin(world: &World, who: Who, order: &Order, id: PaymentId) {
    world.with(|core| {
        core.admitted += 1;
        note!(
            core,
            13,
            "{:>10} r{} admits {id:?} of payer {} ({}), worst {}, replayed {:?}",
            world.now(),
            who.replica,
            order.payer,
            match order.authorization {
                Authorization::Allowance(_) => "allowance",
                Authorization::Once(_) => "once",
                Authorization::Exact(_) => "exact",
            },
            order.worst,
            order.replayed
        );
        let served = Served {
            by: Some(who),
            ..Served::default()
        };
        if core.served.insert(id, served).is_some() {
            core.violate(1, || format!("{id:?} is served twice"));
        }
    });
}

struct Serving<'a> {
    world: &'a Arc<World>,
    who: Who,
    order: &'a Order,
    exact: bool,
}

impl Serving<'_> {
    fn served(&self, id: PaymentId, change: impl FnOnce(&mut Served)) {
        self.world.with(|core| {
            if let Some(served) = core.served.get_mut(&id) {
                change(served);
            }
        });
    }

    async fn wait(&self, least: u64, most: u64) {
        let wait = self.world.with(|core| core.rng.range(least, most));
        self.world.pause(self.who, wait).await;
    }

    /// What a payer with bad intentions does meanwhile.
    fn mischief(&self) {
        self.world.with(|core| {
            let payer = &core.payers[self.order.payer];
            if payer.honest || core.calm || !core.rng.permille(90) {
                return;
            }
            let payer = payer.clone();
            let purse = core.chain.state().purses[self.order.payer].clone();
            let act = payer.void(&self.order.authorization, &purse, &mut core.rng);
            note!(
                core,
                14,
                "{:>10} payer {} does {act:?}",
                self.world.now(),
                self.order.payer
            );
            core.chain.act(act);
        });
    }

    async fn run(&self, mut hold: impl Hold) {
        let id = hold.id();
        let (cap, step) = (units(hold.cap()), self.world.with(|core| core.setting.step));
        // The upstream is asked, and may fail, while the reservation is on its way to the disk.
        self.wait(1_000, 200_000).await;
        if hold.durable().await.is_err() {
            self.fail(id);
            let _ = hold.release().await;
            return self.served(id, |served| served.ended = true);
        }
        if self.world.with(|core| core.rng.permille(30)) {
            let _ = hold.release().await;
            return self.served(id, |served| served.ended = true);
        }
        let (mut metered, mut durable) = (0_u64, 0_u64);
        let uses = self.order.uses.min(cap);
        let mut left = false;
        while metered < uses {
            self.wait(2_000, 350_000).await;
            let piece = self.world.with(|core| core.rng.range(1, 12));
            metered = (metered + piece).min(uses);
            self.served(id, |served| served.metered = metered);
            if metered - durable > step {
                match hold.checkpoint(Amount::from(metered)).await {
                    Ok(()) => durable = metered,
                    Err(error) => {
                        self.fail(id);
                        if error == HoldError::Ended {
                            return self.served(id, |served| served.ended = true);
                        }
                        break;
                    }
                }
            }
            self.deliver(id, metered);
            self.mischief();
            if self.world.with(|core| core.rng.permille(20)) {
                left = true;
                break;
            }
        }
        if self.world.with(|core| core.rng.permille(10)) {
            // The task that owns it panics.
            self.fail(id);
            drop(hold);
            return self.served(id, |served| served.ended = true);
        }
        let charged = hold.commit(Amount::from(metered), None).await;
        match charged {
            Ok(charge) if !left => self.tell(id, units(charge.amount)),
            Ok(_) => {}
            Err(_) => self.fail(id),
        }
        self.served(id, |served| served.ended = true);
        self.mischief();
    }

    fn fail(&self, id: PaymentId) {
        self.served(id, |served| served.broken = true);
    }

    /// Bytes reach the caller.
    fn deliver(&self, id: PaymentId, metered: u64) {
        let (exact, world) = (self.exact, self.world);
        world.with(|core| {
            if !core.alive[self.who.replica] || core.lives[self.who.replica] != self.who.life {
                return;
            }
            let _ = exact;
            if let Some(served) = core.served.get_mut(&id) {
                served.delivered = metered;
            }
            note!(
                core,
                metered,
                "{:>10} r{} has delivered {metered} of {id:?}",
                world.now(),
                self.who.replica
            );
            if !core.books.payments.contains_key(&id) {
                core.violate(20, || {
                    format!("{id:?} is delivered, and the ledger does not know it")
                });
            }
        });
    }

    /// The caller is told that it is paid for.
    fn tell(&self, id: PaymentId, charge: u64) {
        let world = self.world;
        world.with(|core| {
            if let Some(served) = core.served.get_mut(&id) {
                served.told = Some(charge);
            }
            note!(
                core,
                charge,
                "{:>10} r{} tells {id:?} that {charge} are paid",
                world.now(),
                self.who.replica
            );
            let booked = core
                .books
                .payments
                .get(&id)
                .map(|row| units(row.charge) + units(row.short));
            if booked != Some(charge) {
                core.violate(20, || {
                    format!("{id:?} is told {charge}, and the ledger says {booked:?}")
                });
            }
        });
    }
}
