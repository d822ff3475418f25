//! Random calls on notifications, against a model of one bit at a time.

use std::collections::{BTreeMap, BTreeSet};

use crate::support::*;

const CREATE: u64 = 0x8400_007d;
const BIND: u64 = 0x8400_007f;
const UNBIND: u64 = 0x8400_0080;
const SET: u64 = 0x8400_0081;
const GET: u64 = 0x8400_0082;
const INFO_GET_64: u64 = 0xc400_0083;
const NO_DATA: i32 = -9;

/// vCPUs of each receiver, and the bits that are used.
const VCPUS: u64 = 2;
const BITS: [u32; 4] = [0, 1, 31, 63];

/// One notification: the receiver, whether it is from VMs, the bit.
type Key = (u64, bool, u32);

/// What is bound, for whom, and how; what is pending, for which vCPU; and what of that was told.
#[derive(Default)]
struct Model {
    bound: BTreeMap<Key, (u64, bool)>,
    pending: BTreeSet<(Key, Option<u64>)>,
    told: BTreeSet<(Key, Option<u64>)>,
}

fn is_vm(id: u64) -> bool {
    id & 0x8000 == 0
}

impl Model {
    fn keys(receiver: u64, sender: u64, bits: u64) -> impl Iterator<Item = Key> {
        let of = move |bit: &u32| bits >> bit & 1 != 0;
        BITS.into_iter()
            .filter(of)
            .map(move |bit| (receiver, is_vm(sender), bit))
    }

    fn bind(&mut self, sender: u64, receiver: u64, per_vcpu: bool, bits: u64) -> [u64; 8] {
        if Self::keys(receiver, sender, bits).any(|key| self.bound.contains_key(&key)) {
            return error(DENIED);
        }
        let new = Self::keys(receiver, sender, bits).map(|key| (key, (sender, per_vcpu)));
        self.bound.extend(new);
        success(0)
    }

    fn unbind(&mut self, sender: u64, receiver: u64, bits: u64) -> [u64; 8] {
        let refuses = |key: Key| {
            let other = self.bound.get(&key).is_none_or(|(bound, _)| *bound != sender);
            other || self.pending.iter().any(|(pending, _)| *pending == key)
        };
        if Self::keys(receiver, sender, bits).any(refuses) {
            return error(DENIED);
        }
        for key in Self::keys(receiver, sender, bits) {
            self.bound.remove(&key);
        }
        success(0)
    }

    fn set(&mut self, sender: u64, receiver: u64, vcpu: Option<u64>, bits: u64) -> [u64; 8] {
        let bound = (sender, vcpu.is_some());
        if Self::keys(receiver, sender, bits).any(|key| self.bound.get(&key) != Some(&bound)) {
            return error(DENIED);
        }
        self.pending
            .extend(Self::keys(receiver, sender, bits).map(|key| (key, vcpu)));
        success(0)
    }

    fn get(&mut self, receiver: u64, vcpu: u64, flags: u64) -> [u64; 8] {
        let mut bits = [0_u64; 2];
        self.pending.retain(|&((to, from_vms, bit), for_vcpu)| {
            let asked = flags >> u32::from(from_vms) & 1 != 0;
            let taken = to == receiver && asked && for_vcpu.is_none_or(|for_vcpu| for_vcpu == vcpu);
            if taken {
                bits[usize::from(from_vms)] |= 1 << bit;
            }
            !taken
        });
        self.told.retain(|told| self.pending.contains(told));
        let [partitions, vms] = bits.map(|bits| (bits & 0xffff_ffff, bits >> 32));
        [SUCCESS, 0, partitions.0, partitions.1, vms.0, vms.1, 0, 0]
    }

    /// The endpoints that something global is new for, and the vCPUs that something is new for.
    fn info_get(&mut self) -> BTreeSet<(u64, Option<u64>)> {
        let news = self.pending.difference(&self.told).map(|&((to, ..), vcpu)| (to, vcpu));
        let news: BTreeSet<_> = news.collect();
        for &(key, vcpu) in &self.pending {
            if news.contains(&(key.0, vcpu)) {
                self.told.insert((key, vcpu));
            }
        }
        news
    }
}

struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// Makes a call that is answered at once, by the normal world or a partition.
fn by(system: &mut System<'_>, caller: u64, registers: &[u64]) -> [u64; 8] {
    if is_vm(caller) {
        system.nwd(0, registers);
        return system.regs(0);
    }
    system.ask(0, caller);
    system.smc(0, registers);
    let answer = system.regs(0);
    system.respond(0, caller, 0);
    answer
}

fn told(system: &mut System<'_>) -> BTreeSet<(u64, Option<u64>)> {
    system.nwd(0, &[INFO_GET_64]);
    let [_, _, x2, ids @ ..] = system.regs(0);
    if system.regs(0) == error(NO_DATA) {
        return BTreeSet::new();
    }
    assert_eq!(x2 & 1, 0, "all fits");
    let mut ids = ids
        .iter()
        .flat_map(|x| (0..4).map(move |place| x >> (16 * place) & 0xffff));
    let mut found = BTreeSet::new();
    for index in 0..x2 >> 7 & 0x1f {
        let id = ids.next().expect("an id");
        let vcpus = x2 >> (12 + 2 * index) & 3;
        if vcpus == 0 {
            found.insert((id, None));
        }
        for _ in 0..vcpus {
            found.insert((id, ids.next()));
        }
    }
    found
}

#[test]
fn calls_do_what_the_model_does() {
    let endpoints = [A, B, 0, 3];
    for seed in 0..40 {
        let (spmc, machine) = Builder::new(2)
            .partition_with("a", PartitionBuilder::indirect)
            .partition_with("b", PartitionBuilder::indirect)
            .build();
        let mut system = System::booted(&spmc, machine);
        for vm in [0, 3] {
            by(&mut system, 0, &[CREATE, vm, VCPUS]);
        }
        let (mut model, mut random) = (Model::default(), Random(seed));
        for step in 0..300 {
            let sender = endpoints[usize::try_from(random.below(4)).expect("small")];
            let receiver = endpoints[usize::try_from(random.below(4)).expect("small")];
            if sender == receiver || is_vm(sender) && is_vm(receiver) {
                continue;
            }
            let chosen = 1 + random.below(15);
            let bits = BITS.iter().enumerate().filter(|(place, _)| chosen >> place & 1 != 0);
            let bits = bits.fold(0_u64, |bits, (_, bit)| bits | 1 << bit);
            let (vcpu, per_vcpu) = (random.below(VCPUS), random.below(2));
            let w = |function, flags| [function, route(sender, receiver), flags, bits & 0xffff_ffff, bits >> 32];
            let (got, expected) = match random.below(8) {
                0 | 1 => (
                    by(&mut system, receiver, &w(BIND, per_vcpu)),
                    model.bind(sender, receiver, per_vcpu != 0, bits),
                ),
                2 => (
                    by(&mut system, receiver, &w(UNBIND, 0)),
                    model.unbind(sender, receiver, bits),
                ),
                3 | 4 => {
                    let flags = per_vcpu | (per_vcpu * vcpu) << 16;
                    (
                        by(&mut system, sender, &w(SET, flags)),
                        model.set(sender, receiver, (per_vcpu != 0).then_some(vcpu), bits),
                    )
                }
                5 | 6 => {
                    let flags = 1 + random.below(3);
                    (
                        by(&mut system, receiver, &[GET, route(vcpu, receiver), flags]),
                        model.get(receiver, vcpu, flags),
                    )
                }
                _ => {
                    assert_eq!(told(&mut system), model.info_get(), "seed {seed}, step {step}");
                    continue;
                }
            };
            assert_eq!(got, expected, "seed {seed}, step {step}");
        }
    }
}
