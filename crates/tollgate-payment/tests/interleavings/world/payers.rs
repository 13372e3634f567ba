//! Payers: what they sign and ask for, and what they and strangers do to the money meanwhile.

use super::*;

impl World {
    /// A request comes in, with an authorization of any kind; sometimes one that was used before.
    pub(super) fn arrive(&mut self, bytes: [u8; 4]) {
        let payer = PAYERS[usize::from(bytes[0]) % PAYERS.len()];
        let worst = u64::from(bytes[1]);
        let reuse = bytes[3].is_multiple_of(8);
        self.ids += 1;
        let nonce = U256::from(if reuse {
            u128::from(bytes[3] / 8)
        } else {
            1000 + self.ids
        });
        let (authorization, digest) = match bytes[2] % 8 {
            0..5 => self.allowance(payer, worst, bytes[3]),
            5 => (once(payer, nonce, worst + 10), B256::from(nonce)),
            6 => (permit2(payer, nonce, worst), B256::from(nonce)),
            _ => (eip3009(payer, nonce, worst), B256::from(nonce)),
        };
        let exact = matches!(authorization, Authorization::Exact(_));
        let spender = match &authorization {
            Authorization::Allowance(_) => Some(SELLER),
            Authorization::Once(_) | Authorization::Exact(Exact::Permit2(_)) => Some(PERMIT2),
            Authorization::Exact(Exact::Eip3009(_)) => None,
        };
        let keys = PaymentKeys {
            id: PaymentId::from_random(self.ids.to_be_bytes()),
            owner: OwnerKey {
                chain: CHAIN,
                token: TOKEN,
                owner: payer,
            },
            spender,
            authorization: AuthorizationKey::of(&authorization, digest, PERMIT2),
            exposure: ExposureKey {
                chain: CHAIN,
                token: TOKEN,
                slice: 0,
            },
        };
        let mut reserve = Reserve {
            keys,
            funds: None,
            digest,
            request: B256::repeat_byte(bytes[3] % 3),
            worst: Amount::from(worst),
            least: Amount::from(if exact { worst } else { worst / 3 }),
            identifier: None,
            memo: String::new(),
            epoch: self.epoch,
            credit: self.credit.clone(),
            authorization,
        };
        let mut answer = self.apply(&reserve);
        if answer == Err(Refusal::FundsNeeded) {
            reserve.funds = Some(self.funds(payer, &reserve.authorization));
            answer = self.apply(&reserve);
            assert_ne!(
                answer,
                Err(Refusal::FundsNeeded),
                "the chain was asked just now"
            );
            if answer.is_err() {
                self.notice(keys, &reserve.authorization);
            }
        }
        if let Ok(reservation) = answer {
            self.check_reservation(&reserve, reservation.reserved);
        }
    }

    /// What a refused request read of the chain, or a second look in a long stream.
    fn notice(&mut self, keys: PaymentKeys, authorization: &Authorization) {
        let funds = self.funds(keys.owner.owner, authorization);
        let (owner, spender) = (keys.owner, keys.spender_key());
        self.apply(&Notice {
            owner,
            spender,
            funds,
        })
        .unwrap();
    }

    /// A step of a stream. Who keeps what it signed for is never stopped; of who is, all that was delivered is charged.
    pub(super) fn checkpoint(&mut self, keys: PaymentKeys, used: u64, look: u8) {
        if look < 64 {
            let row = self.rows.authorization(&keys.authorization).unwrap();
            let signed = row.signed.clone();
            self.notice(keys, &signed);
        }
        let used = Amount::from(used);
        let standing = self.apply(&Checkpoint { keys, used }).unwrap();
        let payment = self.rows.payment(&keys.id).unwrap();
        let reserved = payment.reserved;
        let PaymentState::Serving { used: durable } = payment.state else {
            panic!("it is being served");
        };
        assert!(durable >= used.min(reserved), "delivered and not durable");
        if let Standing::Void(why) = standing {
            assert!(self.hostile, "an honest payer is stopped: {why}");
            let commit = Commit {
                keys,
                used: Some(durable),
                memo: None,
                answer: None,
            };
            let charge = self.apply(&commit).unwrap();
            assert!(charge.amount >= durable, "delivered and not charged");
        }
    }

    /// 3: everything open fits the balance as it was last seen, and what was signed.
    fn check_reservation(&self, reserve: &Reserve, reserved: Amount) {
        assert!(reserve.least <= reserved && reserved <= reserve.worst);
        let owner = self.rows.owner(&reserve.keys.owner).unwrap();
        let open = units(owner.held) + units(owner.due);
        // What is worth nothing may be reserved by anyone.
        if !reserved.is_zero() {
            assert!(open <= units(owner.view.unwrap().amount), "an overdraft");
            assert!(
                open <= units(self.credit.of(owner, self.now)),
                "above the payer's credit"
            );
        }
        assert!(owner.in_flight <= self.credit.in_flight_of(owner, self.now));
        if let Some(key) = reserve.keys.spender_key()
            && let Limit::Counter(counter) = &self.rows.spender(&key).unwrap().limit
        {
            let row = self.rows.spender(&key).unwrap();
            let drawn = units(counter.settled) + units(row.due) + units(row.held);
            assert!(
                reserved.is_zero() || drawn <= units(counter.ceiling),
                "above the signed budget"
            );
        }
    }

    /// The payer's permit: re-used while it lasts, signed anew where it does not.
    fn allowance(&mut self, payer: Address, worst: u64, byte: u8) -> (Authorization, B256) {
        let nonce = self
            .chain
            .latest
            .nonce
            .get(&payer)
            .copied()
            .unwrap_or_default();
        let key = SpenderKey {
            owner: OwnerKey {
                chain: CHAIN,
                token: TOKEN,
                owner: payer,
            },
            spender: SELLER,
        };
        let left = self.rows.spender(&key).map_or(0, |row| match &row.limit {
            Limit::Counter(counter) => units(counter.left(row.held, row.due)),
            Limit::Seen(_) => unreachable!("the seller's own allowance"),
        });
        let stale = self
            .permits
            .get(&payer)
            .is_none_or(|(permit, _)| permit.nonce < U256::from(nonce));
        let hasty = self.hostile && byte > 240;
        if self.permits.is_empty()
            || hasty
            || left < worst && stale
            || !self.permits.contains_key(&payer)
        {
            let value = 300 + u64::from(byte);
            self.ids += 1;
            let permit = Allowance {
                chain: CHAIN,
                token: TOKEN,
                owner: payer,
                spender: SELLER,
                value: Amount::from(value),
                nonce: U256::from(nonce),
                deadline: Timestamp(u64::MAX),
                signature: signature(),
            };
            let most = self
                .signed
                .entry(payer)
                .or_default()
                .entry(nonce)
                .or_default();
            *most = value.max(*most);
            self.permits
                .insert(payer, (permit, B256::from(U256::from(self.ids))));
        }
        let (permit, digest) = self.permits[&payer].clone();
        (Authorization::Allowance(permit), digest)
    }

    fn funds(&self, payer: Address, authorization: &Authorization) -> Funds {
        let state = &self.chain.latest;
        let of = |map: &BTreeMap<Address, u64>| map.get(&payer).copied().unwrap_or_default();
        Funds {
            block: self.chain.block,
            at: self.now,
            balance: Amount::from(of(&state.balance)),
            spender: match authorization {
                Authorization::Allowance(_) => SpenderFunds::Counter {
                    nonce: U256::from(of(&state.nonce)),
                    allowance: Amount::from(of(&state.allowance)),
                    counter: self.settler.then(|| Amount::from(of(&state.charged))),
                },
                Authorization::Once(_) | Authorization::Exact(Exact::Permit2(_)) => {
                    SpenderFunds::Seen {
                        allowance: Amount::MAX,
                    }
                }
                Authorization::Exact(Exact::Eip3009(_)) => SpenderFunds::None,
            },
        }
    }

    /// What payers and strangers do. The honest only let others submit what they signed.
    pub(super) fn mischief(&mut self, bytes: [u8; 4]) {
        let payer = PAYERS[usize::from(bytes[0]) % PAYERS.len()];
        self.chain.block += 1;
        match bytes[1] % 6 {
            // A stranger sees the permit in a transaction of ours, and submits it first.
            0 => self.front_run(bytes),
            // A stranger submits a transfer that was signed to the seller.
            1 => self.submit(bytes),
            _ if !self.hostile => {}
            // The payer spends its money elsewhere.
            2 => drop(self.chain.latest.balance.insert(payer, u64::from(bytes[2]))),
            // It revokes the allowance.
            3 => drop(
                self.chain
                    .latest
                    .allowance
                    .insert(payer, u64::from(bytes[2] % 2) * 40),
            ),
            // It burns a nonce that it signed.
            4 => {
                let nonce = U256::from(u128::from(bytes[2] / 8));
                self.chain
                    .latest
                    .burned
                    .entry((payer, nonce))
                    .or_insert(None);
            }
            // Somebody has an operator's key.
            _ => {
                let signers = self.signers();
                self.chain
                    .foreign(signers[usize::from(bytes[2]) % signers.len()]);
            }
        }
    }

    fn front_run(&mut self, bytes: [u8; 4]) {
        let seen: Vec<_> = self
            .batches()
            .filter(|batch| !batch.sent.is_empty())
            .flat_map(|batch| &batch.items)
            .filter_map(|item| match item {
                BatchItem::Allowance { permit, .. } => permit.clone(),
                BatchItem::Permit { permit, .. } => Some(permit.clone()),
                BatchItem::Once { .. } | BatchItem::Exact { .. } => None,
            })
            .collect();
        if let Some(permit) = seen.get(usize::from(bytes[2]) % seen.len().max(1)) {
            let before = self.payments().any(|payment| {
                let generation = |key| match &self.rows.spender(&key).unwrap().limit {
                    Limit::Counter(counter) => counter.generation,
                    Limit::Seen(_) => 0,
                };
                matches!(
                    payment.state,
                    PaymentState::Due { .. } | PaymentState::Claimed { .. }
                ) && payment.keys.owner.owner == permit.owner
                    && payment
                        .keys
                        .spender_key()
                        .is_some_and(|key| payment.generation < generation(key))
            });
            if before && !self.early {
                return;
            }
            let nonce = u64::try_from(permit.nonce).unwrap();
            self.chain
                .latest
                .permit(permit.owner, nonce, units(permit.value));
        }
    }

    fn submit(&mut self, bytes: [u8; 4]) {
        let claimed: Vec<_> = self
            .batches()
            .filter(|batch| batch.state == BatchState::Sealed)
            .flat_map(|batch| &batch.items)
            .filter_map(|item| match item {
                BatchItem::Exact {
                    signed: Exact::Eip3009(signed),
                    ..
                } => Some(signed.clone()),
                _ => None,
            })
            .collect();
        let Some(signed) = claimed.get(usize::from(bytes[2]) % claimed.len().max(1)) else {
            return;
        };
        let key = (signed.owner, U256::from_be_bytes(signed.nonce.0));
        let state = &mut self.chain.latest;
        let balance = state
            .balance
            .get(&signed.owner)
            .copied()
            .unwrap_or_default();
        if let (Some(left), false) = (
            balance.checked_sub(units(signed.value)),
            state.burned.contains_key(&key),
        ) {
            state.balance.insert(signed.owner, left);
            state.treasury += units(signed.value);
            state.burned.insert(key, Some(B256::repeat_byte(0x77)));
            self.submitted.insert(key, units(signed.value));
        }
    }
}

fn signature() -> Signature65 {
    Signature65::new(B256::repeat_byte(1), B256::repeat_byte(2), false).unwrap()
}

fn once(payer: Address, nonce: U256, amount: u64) -> Authorization {
    Authorization::Once(Once {
        chain: CHAIN,
        token: TOKEN,
        owner: payer,
        amount: Amount::from(amount),
        spender: PERMIT2,
        nonce,
        deadline: Timestamp(u64::MAX),
        to: SELLER,
        facilitator: SELLER,
        valid_after: Timestamp(0),
        signature: signature(),
    })
}

fn permit2(payer: Address, nonce: U256, amount: u64) -> Authorization {
    Authorization::Exact(Exact::Permit2(Permit2Exact {
        chain: CHAIN,
        token: TOKEN,
        owner: payer,
        amount: Amount::from(amount),
        spender: PERMIT2,
        // Permit2's nonces are not the token's: kept apart in one map.
        nonce,
        deadline: Timestamp(u64::MAX),
        to: SELLER,
        valid_after: Timestamp(0),
        signature: signature(),
    }))
}

fn eip3009(payer: Address, nonce: U256, amount: u64) -> Authorization {
    Authorization::Exact(Exact::Eip3009(Eip3009 {
        chain: CHAIN,
        token: TOKEN,
        owner: payer,
        to: SELLER,
        value: Amount::from(amount),
        valid_after: Timestamp(0),
        valid_before: Timestamp(u64::MAX),
        // Far from Permit2's, so that one map can hold both.
        nonce: B256::from(nonce + (U256::from(1) << 200)),
        signature: signature(),
    }))
}
