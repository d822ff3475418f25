//! Random sequences of memory management calls, by the normal world and partitions on several PEs, of which some end and
//! are started afresh. After each step everybody's pages are what the shares say ([`System::check_memory`]); in the end,
//! when everything was relinquished and reclaimed, nothing is left.

use std::{collections::BTreeSet, println, vec::Vec};

use tantalum_core::{
    addr::{PageRange, PhysAddr, World},
    machine::fake::{Builder, Owner, System},
};

use crate::{
    Random, effort,
    message::{Form, Message, NX, RO, RW, X, relinquish},
};

const CASES: u64 = 20;
const STEPS: usize = 300;

const RAM: u64 = 0x4000_0000;
const RAM_PAGES: usize = 8;
const PARTITIONS: [u16; 4] = [0x8001, 0x8002, 0x8003, 0x8004];

const REQ: u64 = 0x8400_006f;
const RESP: u64 = 0x8400_0070;
const MSG_WAIT: u64 = 0x8400_006b;
const ABORT: u64 = 0x8400_0090;
const RX_RELEASE: u64 = 0x8400_0065;
const RXTX_MAP: u64 = 0xc400_0066;
const RXTX_UNMAP: u64 = 0x8400_0067;
const ERROR: u64 = 0x8400_0060;
const SUCCESS: u64 = 0x8400_0061;
const RETRIEVE_REQ: u64 = 0x8400_0074;
const RELINQUISH: u64 = 0x8400_0076;
const RECLAIM: u64 = 0x8400_0077;
const FRAG_RX: u64 = 0x8400_007a;
const FRAG_TX: u64 = 0x8400_007b;

/// What was sent, as its sender and its borrowers know it.
#[derive(Clone)]
struct Sent {
    handle: u64,
    message: Message,
    /// What of the descriptor is still to be sent.
    rest: Vec<u8>,
}

struct Model<'s> {
    system: System<'s>,
    random: Random,
    sent: Vec<Sent>,
    /// Functions of calls that went through.
    done: BTreeSet<u64>,
}

fn form(party: u16) -> Form {
    match party {
        0x8003 => Form::V1_1,
        0x8004 => Form::V1_0,
        _ => Form::V1_2,
    }
}

fn index(party: u16) -> usize {
    usize::from(party - PARTITIONS[0])
}

/// World and address of TX; RX is the page before, or behind the normal world's.
fn tx(party: u16) -> (World, u64) {
    if party == 0 {
        (World::NonSecure, RAM + 0x10_0000)
    } else {
        (World::Secure, Builder::buffers(index(party)).tx.base().as_u64())
    }
}

fn rx(party: u16) -> u64 {
    if party == 0 {
        tx(0).1 + 4096
    } else {
        Builder::buffers(index(party)).rx.base().as_u64()
    }
}

impl Model<'_> {
    fn party(&self, pe: usize) -> u16 {
        match self.system.owner(pe) {
            Owner::Partition(id, _) => id,
            _ => 0,
        }
    }

    fn call(&mut self, pe: usize, registers: &[u64]) -> [u64; 8] {
        if self.party(pe) == 0 {
            self.system.nwd(pe, registers);
        } else {
            self.system.smc(pe, registers);
        }
        let reply = self.system.regs(pe);
        if reply[0] != ERROR {
            self.done.insert(registers[0]);
        }
        reply
    }

    fn put(&mut self, pe: usize, bytes: &[u8]) -> u64 {
        let (world, at) = tx(self.party(pe));
        let memory = &mut self.system.machine.memory;
        memory.write(world, PhysAddr::new(at), bytes).expect("memory");
        bytes.len() as u64
    }

    /// A page of somebody's, mostly one's own.
    fn page(&mut self, party: u16) -> u64 {
        let whose = if self.random.one_in(12) {
            self.random.pick(&[0, 0x8001, 0x8002, 0x8003, 0x8004])
        } else {
            party
        };
        if whose == 0 {
            RAM + 4096 * self.random.below(RAM_PAGES) as u64
        } else {
            let base = Builder::memory(index(whose)).base().as_u64();
            base + 4096 * (2 + self.random.below(6) as u64)
        }
    }

    fn send(&mut self, pe: usize) {
        let party = self.party(pe);
        let function = 0x8400_0071 + self.random.next() % 3;
        let (donate, share) = (function == 0x8400_0071, function == 0x8400_0073);
        let count = if donate { 1 } else { 1 + self.random.below(2) };
        let borrowers: Vec<_> = (0..count)
            .map(|_| (self.random.pick(&PARTITIONS), self.random.pick(&[RO, RW, RW])))
            .collect();
        let ranges: Vec<_> = (0..=self.random.below(3))
            .map(|_| (self.page(party), 1 + u32::from(self.random.one_in(4))))
            .collect();
        let mut message = Message::send(form(party), party, &borrowers, &ranges);
        if share || count > 1 {
            message = message.normal();
        }
        if !share && self.random.one_in(5) {
            message.flags = 1;
        }
        let bytes = message.bytes();
        let cut = if self.random.one_in(3) {
            16 * self.random.below(ranges.len())
        } else {
            0
        };
        let first = bytes.len() - cut;
        self.put(pe, &bytes[..first]);
        let [x0, x1, x2, x3, ..] = self.call(pe, &[function, bytes.len() as u64, first as u64]);
        let handle = match x0 {
            SUCCESS => x2 | x3 << 32,
            FRAG_RX => x1 | x2 << 32,
            _ => return,
        };
        message.handle = handle;
        let rest = bytes[first..].to_vec();
        self.sent.push(Sent { handle, message, rest });
    }

    fn pick(&mut self) -> Option<Sent> {
        let count = self.sent.len();
        (count != 0).then(|| self.sent[self.random.below(count)].clone())
    }

    fn go_on(&mut self, pe: usize) {
        let Some(Sent { handle, rest, .. }) = self.pick() else {
            return;
        };
        let piece = &rest[..rest.len().min(16)];
        let length = self.put(pe, piece);
        let reply = self.call(pe, &[FRAG_TX, handle & 0xffff_ffff, handle >> 32, length]);
        if [SUCCESS, FRAG_RX].contains(&reply[0])
            && let Some(sent) = self.sent.iter_mut().find(|sent| sent.handle == handle)
        {
            sent.rest = rest[piece.len()..].to_vec();
        }
    }

    fn retrieve(&mut self, pe: usize) {
        let party = self.party(pe);
        let Some(Sent { handle, message, .. }) = self.pick() else {
            return;
        };
        if party == 0 {
            let request = Message::retrieve(form(0), 0, handle, &[]);
            let length = self.put(pe, &request.bytes());
            self.call(pe, &[RETRIEVE_REQ, length, length]);
            return;
        }
        let alone = message.emads.len() == 1 && message.attributes == 0;
        let permissions = if alone {
            self.random.pick(&[RO | NX, RW | NX, RW | NX, RW | X])
        } else {
            self.random.pick(&[RO, RW, RW | NX])
        };
        let borrowers: Vec<_> = message.emads.iter().map(|emad| (emad.id, permissions)).collect();
        let mut request = Message::retrieve(form(party), message.sender, handle, &borrowers);
        if self.random.one_in(6) {
            request.flags = 1 << 2;
        }
        for emad in &mut request.emads {
            emad.flags = u8::from(emad.id != party);
        }
        let length = self.put(pe, &request.bytes());
        self.call(pe, &[RETRIEVE_REQ, length, length]);
    }

    fn give_back(&mut self, pe: usize, handle: u64) {
        let party = self.party(pe);
        let flags = u32::from(self.random.one_in(6));
        self.put(pe, &relinquish(handle, flags, &[party]));
        self.call(pe, &[RELINQUISH]);
    }

    fn reclaim(&mut self, pe: usize, handle: u64) {
        let flags = u64::from(self.random.one_in(6));
        self.call(pe, &[RECLAIM, handle & 0xffff_ffff, handle >> 32, flags]);
    }

    fn step(&mut self) {
        let pe = self.random.below(2);
        let party = self.party(pe);
        match self.random.below(16) {
            0..3 if party == 0 => {
                let to = u64::from(self.random.pick(&PARTITIONS));
                self.call(pe, &[REQ, to]);
            }
            0..3 => self.leave(pe),
            3 if party != 0 && self.random.one_in(6) => {
                self.call(pe, &[ABORT]);
                // Whoever is started afresh is ready at once.
                while self.system.policy(pe).is_starting() {
                    self.call(pe, &[MSG_WAIT]);
                }
            }
            3..7 => self.send(pe),
            7..10 => self.retrieve(pe),
            10 => self.go_on(pe),
            11 if self.random.one_in(4) => {
                let call = if self.random.one_in(2) {
                    [RXTX_UNMAP, 0, 0, 0]
                } else {
                    [RXTX_MAP, tx(party).1, rx(party), 1]
                };
                self.call(pe, &call);
            }
            11 | 12 => {
                self.call(pe, &[RX_RELEASE]);
            }
            choice => {
                if let Some(Sent { handle, .. }) = self.pick() {
                    if choice == 13 {
                        self.give_back(pe, handle);
                    } else {
                        self.reclaim(pe, handle);
                    }
                }
            }
        }
    }

    /// The partition on a PE answers whoever has asked it.
    fn leave(&mut self, pe: usize) {
        let party = u64::from(self.party(pe));
        if self.system.policy(pe).is_starting() {
            self.call(pe, &[MSG_WAIT]);
        } else {
            self.call(pe, &[RESP, party << 16]);
        }
    }

    /// Everybody relinquishes and reclaims whatever there is. Nothing is left of it.
    fn end(mut self) -> BTreeSet<u64> {
        for pe in 0..2 {
            while self.party(pe) != 0 {
                self.leave(pe);
            }
        }
        let handles: Vec<u64> = self.sent.iter().map(|sent| sent.handle).collect();
        for id in PARTITIONS {
            self.call(0, &[REQ, u64::from(id)]);
            if self.party(0) != id {
                continue;
            }
            self.call(0, &[RXTX_MAP, tx(id).1, rx(id), 1]);
            for handle in &handles {
                self.put(0, &relinquish(*handle, 0, &[id]));
                self.call(0, &[RELINQUISH]);
                // Who was held back by that starts afresh.
                while self.system.policy(0).is_starting() {
                    self.call(0, &[MSG_WAIT]);
                }
            }
            self.leave(0);
        }
        for id in [0].into_iter().chain(PARTITIONS) {
            if id != 0 {
                self.call(0, &[REQ, u64::from(id)]);
            }
            if self.party(0) != id {
                continue;
            }
            for handle in &handles {
                self.call(0, &[RECLAIM, handle & 0xffff_ffff, handle >> 32]);
            }
            if id != 0 {
                self.leave(0);
            }
        }
        let spmc = self.system.spmc;
        assert_eq!(spmc.shares().shares(), 0, "shares are left");
        assert!(!spmc.holds_back(), "nobody has its memory");
        let tables: usize = spmc
            .partitions()
            .iter()
            .map(|partition| {
                let tables = partition.tables.lock();
                tables.secure.table_count() + tables.non_secure.table_count()
            })
            .sum();
        let known = tables + spmc.shares().table_pages();
        assert_eq!(self.system.machine.tables.live(), known, "pages leaked");
        self.system.check_memory();
        self.done
    }
}

fn run(seed: u64) -> BTreeSet<u64> {
    let (spmc, mut machine) = Builder::new(2)
        .partition_with("a", |a| a.indirect())
        .partition_with("b", |b| b.indirect().restart())
        .partition_with("c", |c| c.indirect().version(1, 1))
        .partition_with("o", |o| o.indirect().version(1, 0))
        .build();
    let add = |machine: &mut tantalum_core::machine::fake::FakeMachine, base, pages| {
        let range = PageRange::new(PhysAddr::new(base), pages).expect("a range");
        machine.memory.add(World::NonSecure, range);
    };
    add(&mut machine, RAM, 16);
    add(&mut machine, tx(0).1, 2);
    let mut system = System::booted(&spmc, machine);
    system.nwd(0, &[RXTX_MAP, tx(0).1, rx(0), 1]);
    let mut model = Model {
        system,
        random: Random(seed),
        sent: Vec::new(),
        done: BTreeSet::new(),
    };
    for _ in 0..STEPS {
        model.step();
    }
    model.end()
}

#[test]
fn memory_is_always_somebodys_and_nothing_leaks() {
    let mut done = BTreeSet::new();
    for seed in 0..CASES * effort() {
        match std::panic::catch_unwind(|| run(seed)) {
            Ok(more) => done.extend(more),
            Err(panic) => {
                println!("seed {seed}");
                std::panic::resume_unwind(panic);
            }
        }
    }
    let all = (0x8400_0071..=0x8400_0074).chain([RELINQUISH, RECLAIM, FRAG_TX, RXTX_MAP, RXTX_UNMAP]);
    for function in all {
        assert!(done.contains(&function), "{function:#x} never went through");
    }
}
