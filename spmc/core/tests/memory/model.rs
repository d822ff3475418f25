//! Sequences of calls against a model of who has what: exhaustively for a small machine, at random for a bigger one.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use arm_ffa::FuncId;
use tantalum_core::{abi::FfaError, addr::World as Side, id::EndpointId, memory::permission::Kind};
use tantalum_stage2::{Access, Entry, Ownership};

use crate::{
    message::{Form, Message, NX, RO, RW, relinquish},
    world::{NS, NWD, SP1, SP2, SP3, World, page, sp_base},
};

/// A page: where it was born, and its number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Page(u16, u64);

impl Page {
    fn address(self) -> u64 {
        page(if self.0 == NWD { NS } else { sp_base(self.0) }, self.1)
    }

    fn side(self) -> Side {
        if self.0 == NWD { Side::NonSecure } else { Side::Secure }
    }
}

/// A call, right or wrong.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Op {
    Send {
        kind: u8,
        from: u16,
        to: Vec<(u16, u8)>,
        pages: Vec<Page>,
        most: usize,
    },
    Retrieve {
        share: usize,
        by: u16,
        permissions: u8,
    },
    Relinquish {
        share: usize,
        by: u16,
        clear: bool,
    },
    Reclaim {
        share: usize,
        by: u16,
        clear: bool,
    },
    Forget {
        id: u16,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Share {
    kind: u8,
    owner: u16,
    /// Borrowers, what they were given, and what they have (0: nothing).
    to: Vec<(u16, u8, u8)>,
    pages: Vec<Page>,
    orphan: bool,
}

/// Who has what.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Model {
    /// Owners, and whether they may write.
    owners: BTreeMap<Page, (u16, bool)>,
    shares: Vec<Share>,
}

impl Model {
    fn new(pages: impl IntoIterator<Item = Page>) -> Self {
        Self {
            owners: pages.into_iter().map(|page| (page, (page.0, true))).collect(),
            shares: Vec::new(),
        }
    }

    fn send(&mut self, kind: u8, from: u16, to: &[(u16, u8)], pages: &[Page]) -> Result<(), FfaError> {
        if kind == 2 && to.len() > 1 {
            return Err(FfaError::InvalidParameters);
        }
        let mut seen = BTreeSet::new();
        for at in pages {
            if !seen.insert(*at) {
                return Err(FfaError::InvalidParameters);
            }
            let taken = self.shares.iter().any(|share| share.pages.contains(at));
            if self.owners[at].0 != from || taken || at.side() != pages[0].side() {
                return Err(FfaError::Denied);
            }
        }
        let writable = pages.iter().all(|at| self.owners[at].1);
        if !writable && to.iter().any(|to| to.1 == RW) {
            return Err(FfaError::Denied);
        }
        let to = to.iter().map(|&(id, permissions)| (id, permissions, 0)).collect();
        self.shares.push(Share {
            kind,
            owner: from,
            to,
            pages: pages.to_vec(),
            orphan: false,
        });
        Ok(())
    }

    fn retrieve(&mut self, at: usize, by: u16, permissions: u8) -> Result<(), FfaError> {
        let share = self.shares.get_mut(at).ok_or(FfaError::InvalidParameters)?;
        let alone = share.kind != 0 && share.to.len() == 1;
        let to = share
            .to
            .iter_mut()
            .find(|to| to.0 == by)
            .ok_or(FfaError::InvalidParameters)?;
        let data = permissions & 3;
        if data == RW && to.1 == RO {
            return Err(FfaError::Denied);
        }
        if permissions & NX == 0 && alone {
            return Err(FfaError::InvalidParameters);
        }
        if to.2 != 0 {
            return Err(FfaError::Denied);
        }
        to.2 = data;
        if share.kind == 2 {
            let share = self.shares.remove(at);
            for page in share.pages {
                self.owners.insert(page, (by, data == RW));
            }
        }
        Ok(())
    }

    fn relinquish(&mut self, at: usize, by: u16, clear: bool) -> Result<(), FfaError> {
        let share = self.shares.get_mut(at).ok_or(FfaError::InvalidParameters)?;
        let to = share
            .to
            .iter_mut()
            .find(|to| to.0 == by && to.2 != 0)
            .ok_or(FfaError::InvalidParameters)?;
        if clear && share.kind == 0 {
            return Err(FfaError::InvalidParameters);
        }
        if clear && to.2 != RW {
            return Err(FfaError::Denied);
        }
        to.2 = 0;
        if share.orphan && share.to.iter().all(|to| to.2 == 0) {
            self.shares.remove(at);
        }
        Ok(())
    }

    fn reclaim(&mut self, at: usize, by: u16, clear: bool) -> Result<(), FfaError> {
        let share = self.shares.get(at).filter(|share| share.owner == by && !share.orphan);
        let share = share.ok_or(FfaError::InvalidParameters)?;
        if share.to.iter().any(|to| to.2 != 0) || clear && share.pages.iter().any(|page| !self.owners[page].1) {
            return Err(FfaError::Denied);
        }
        self.shares.remove(at);
        Ok(())
    }

    /// The shares that are left, by their numbers before.
    fn forget(&mut self, id: u16) -> Vec<usize> {
        for share in &mut self.shares {
            share.to.iter_mut().filter(|to| to.0 == id).for_each(|to| to.2 = 0);
            share.orphan |= share.owner == id;
        }
        let has = |share: &Share| !share.orphan || share.to.iter().any(|to| to.2 != 0);
        let left = (0..self.shares.len()).filter(|at| has(&self.shares[*at])).collect();
        self.shares.retain(has);
        left
    }

    /// What `id` has of a page: how, and whether it may write.
    fn view(&self, id: u16, page: Page) -> Option<(Ownership, bool)> {
        let share = self.shares.iter().find(|share| share.pages.contains(&page));
        let (owner, writable) = self.owners[&page];
        if owner == id {
            return match share {
                None => Some((Ownership::Owned, writable)),
                Some(share) if share.kind == 0 => Some((Ownership::Shared, writable)),
                Some(_) => None,
            };
        }
        let to = share?.to.iter().find(|to| to.0 == id && to.2 != 0)?;
        Some((Ownership::Borrowed, to.2 == RW))
    }
}

/// The SPMC and the model, side by side.
struct Pair {
    world: World,
    model: Model,
    /// Handles of the model's shares.
    handles: Vec<u64>,
    parties: Vec<u16>,
}

impl Pair {
    fn new(partitions: u16, pages: &[Page]) -> Self {
        let parties = (0..partitions).map(|index| SP1 + index).collect();
        Self {
            world: World::new(partitions),
            model: Model::new(pages.to_vec()),
            handles: Vec::new(),
            parties,
        }
    }

    fn handle(&self, share: usize) -> u64 {
        self.handles.get(share).copied().unwrap_or(0x7fff_ffff_0000)
    }

    fn apply(&mut self, op: &Op) {
        self.apply_unchecked(op);
        self.check();
    }

    /// [`Pair::apply`] for what was checked before.
    fn apply_unchecked(&mut self, op: &Op) {
        let shares = self.model.shares.len();
        let (expected, result) = match op {
            Op::Send {
                kind,
                from,
                to,
                pages,
                most,
            } => {
                let expected = self.model.send(*kind, *from, to, pages);
                let result = self.send(*kind, *from, to, pages, *most);
                (expected, result)
            }
            Op::Retrieve { share, by, permissions } => {
                let owner = self.model.shares.get(*share).map_or(NWD, |share| share.owner);
                let expected = self.model.retrieve(*share, *by, *permissions);
                let form = self.world.form(*by);
                let mut request = Message::retrieve(form, owner, self.handle(*share), &[(*by, *permissions)]);
                request.flags = 1 << 10;
                let result = self.world.retrieve(*by, &request).map(drop);
                if self.model.shares.len() < shares && result.is_ok() {
                    self.handles.remove(*share);
                }
                (expected, result)
            }
            Op::Relinquish { share, by, clear } => {
                let handle = self.handle(*share);
                let expected = self.model.relinquish(*share, *by, *clear);
                self.world.put_tx(*by, &relinquish(handle, (*clear).into(), &[*by]));
                let result = self.world.call(*by, FuncId::MemRelinquish, [0; 4]).map(drop);
                if self.model.shares.len() < shares {
                    self.handles.remove(*share);
                }
                (expected, result)
            }
            Op::Reclaim { share, by, clear } => {
                let handle = self.handle(*share);
                let expected = self.model.reclaim(*share, *by, *clear);
                let result = self.world.reclaim(*by, handle, (*clear).into()).map(drop);
                if self.model.shares.len() < shares {
                    self.handles.remove(*share);
                }
                (expected, result)
            }
            Op::Forget { id } => {
                let left = self.model.forget(*id);
                self.handles = left.into_iter().map(|at| self.handles[at]).collect();
                self.world
                    .manager
                    .forget(&mut self.world.machine, &self.world.sps, EndpointId::new(*id));
                (Ok(()), Ok(()))
            }
        };
        assert_eq!(result, expected, "{op:?}");
    }

    fn send(&mut self, kind: u8, from: u16, to: &[(u16, u8)], pages: &[Page], most: usize) -> Result<(), FfaError> {
        let ranges: Vec<_> = pages.iter().map(|page| (page.address(), 1)).collect();
        let function = [FuncId::MemShare32, FuncId::MemLend32, FuncId::MemDonate32][usize::from(kind)];
        let mut message = Message::send(self.world.form(from), from, to, &ranges);
        if kind == 0 || to.len() > 1 {
            message = message.normal();
        }
        let (bytes, head) = (message.bytes(), message.head());
        let handle = self.world.send_by(from, function, &bytes, head.max(most))?;
        self.handles.push(handle);
        Ok(())
    }

    /// The pages are as the model says, and the SPMC's own invariants hold.
    fn check(&self) {
        let kept = self
            .model
            .owners
            .iter()
            .filter(|(page, owner)| page.0 == NWD && owner.0 != NWD)
            .count();
        let again = self
            .model
            .shares
            .iter()
            .filter(|share| share.owner == NWD)
            .flat_map(|share| &share.pages);
        assert!(again.clone().all(|page| self.model.owners[page].0 == NWD));
        self.world.check(kept as u64);
        for page in self.model.owners.keys() {
            for id in &self.parties {
                let found = match self.world.entry(*id, page.side(), page.address()) {
                    Entry::Mapped(_, attributes) => {
                        Some((attributes.ownership(), attributes.access() == Access::ReadWrite))
                    }
                    _ => None,
                };
                assert_eq!(found, self.model.view(*id, *page), "{page:?} at {id:#x}");
            }
        }
    }

    /// Ends all shares; nothing may be left.
    fn finish(mut self) {
        while let Some(share) = self.model.shares.first().cloned() {
            for to in share.to.iter().filter(|to| to.2 != 0) {
                self.apply(&Op::Relinquish {
                    share: 0,
                    by: to.0,
                    clear: false,
                });
            }
            if !share.orphan {
                self.apply(&Op::Reclaim {
                    share: 0,
                    by: share.owner,
                    clear: false,
                });
            }
        }
        self.world.assert_idle();
    }
}

fn kinds() -> [u8; 3] {
    assert_eq!(Kind::ALL, [Kind::Share, Kind::Lend, Kind::Donate]);
    [0, 1, 2]
}

/// All calls that a small machine with one page can make.
fn every_op(the: Page) -> Vec<Op> {
    let mut ops = Vec::new();
    for kind in kinds() {
        for (from, to) in [(NWD, SP1), (NWD, SP2), (SP1, SP2), (SP2, SP1)] {
            for permissions in [RO, RW] {
                ops.push(Op::Send {
                    kind,
                    from,
                    to: vec![(to, permissions)],
                    pages: vec![the],
                    most: 4096,
                });
            }
        }
        ops.push(Op::Send {
            kind,
            from: NWD,
            to: vec![(SP1, RO), (SP2, RW)],
            pages: vec![the],
            most: 0,
        });
    }
    for by in [SP1, SP2] {
        for permissions in [RO | NX, RW | NX, RW] {
            ops.push(Op::Retrieve {
                share: 0,
                by,
                permissions,
            });
        }
        for clear in [false, true] {
            ops.push(Op::Relinquish { share: 0, by, clear });
        }
        ops.push(Op::Forget { id: by });
    }
    for by in [NWD, SP1, SP2] {
        for clear in [false, true] {
            ops.push(Op::Reclaim { share: 0, by, clear });
        }
    }
    ops
}

/// Every call in every state that calls can lead to: breadth first over the states of the model, each reached by replay.
#[test]
fn every_call_in_every_state_of_a_small_machine() {
    for the in [Page(NWD, 3), Page(SP1, 2)] {
        let ops = every_op(the);
        let start = Model::new([the]);
        let mut seen = BTreeSet::from([start.clone()]);
        let mut queue = VecDeque::from([(start, Vec::<Op>::new())]);
        let mut calls = 0;
        while let Some((state, path)) = queue.pop_front() {
            let mut pair: Option<Pair> = None;
            for op in &ops {
                let mut here = pair.take().unwrap_or_else(|| {
                    let mut pair = Pair::new(2, &[the]);
                    path.iter().for_each(|op| pair.apply_unchecked(op));
                    pair
                });
                assert_eq!(here.model, state);
                here.apply(op);
                calls += 1;
                if here.model == state {
                    pair = Some(here);
                    continue;
                }
                if seen.insert(here.model.clone()) {
                    let path = path.iter().chain([op]).cloned().collect();
                    queue.push_back((here.model.clone(), path));
                }
                here.finish();
            }
        }
        assert!(seen.len() > 20 && calls > 1000, "{} states, {calls} calls", seen.len());
    }
}

/// A small generator of numbers, the same in every run.
pub struct Numbers(pub u64);

impl Numbers {
    pub fn next(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % below
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.next(of.len() as u64) as usize]
    }
}

fn random_op(numbers: &mut Numbers, model: &Model, pages: &[Page]) -> Op {
    let sps = [SP1, SP2, SP3];
    let share = numbers.next(model.shares.len() as u64 + 1) as usize;
    let mut by = numbers.pick(&sps);
    if let Some(share) = model.shares.get(share)
        && numbers.next(4) != 0
    {
        by = share.to[numbers.next(share.to.len() as u64) as usize].0;
    }
    match numbers.next(12) {
        0..4 => {
            let from = numbers.pick(&[NWD, NWD, SP1, SP2, SP3]);
            // Mostly pages that the sender may send.
            let own: Vec<_> = pages
                .iter()
                .copied()
                .filter(|page| model.owners[page].0 == from)
                .collect();
            let from_these = if own.is_empty() || numbers.next(8) == 0 {
                pages
            } else {
                &own
            };
            let pages = (0..=numbers.next(4)).map(|_| numbers.pick(from_these)).collect();
            let mut to: Vec<_> = sps.into_iter().filter(|id| *id != from).collect();
            while to.len() > 1 && numbers.next(3) != 0 {
                to.remove(numbers.next(to.len() as u64) as usize);
            }
            let to = to.into_iter().map(|id| (id, numbers.pick(&[RO, RW, RW]))).collect();
            Op::Send {
                kind: numbers.pick(&[0, 0, 1, 1, 2]),
                from,
                to,
                pages,
                most: numbers.pick(&[0, 112, 4096]),
            }
        }
        4..7 => Op::Retrieve {
            share,
            by,
            permissions: numbers.pick(&[RO | NX, RW | NX, RW | NX, RW, NX | RO]),
        },
        7..9 => Op::Relinquish {
            share,
            by,
            clear: numbers.next(3) == 0,
        },
        9..11 => {
            let owner = model.shares.get(share).map_or(NWD, |share| share.owner);
            Op::Reclaim {
                share,
                by: numbers.pick(&[owner, owner, owner, NWD, SP1]),
                clear: numbers.next(3) == 0,
            }
        }
        _ if numbers.next(4) == 0 => Op::Forget { id: numbers.pick(&sps) },
        _ => Op::Retrieve {
            share,
            by: SP2,
            permissions: RO | NX,
        },
    }
}

#[test]
fn random_calls_of_three_partitions_and_the_normal_world() {
    let pages: Vec<_> = [NWD, SP1, SP2, SP3]
        .into_iter()
        .flat_map(|id| (0..5).map(move |n| Page(id, n)))
        .collect();
    for seed in 1..=24_u64 {
        let mut numbers = Numbers(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut pair = Pair::new(3, &pages);
        for id in [NWD, SP1, SP2, SP3] {
            let form = numbers.pick(&Form::ALL);
            // Request flags that 1.0 does not have are needed to name one of several borrowers.
            pair.world.speaks(id, form);
        }
        for _ in 0..120 {
            let op = random_op(&mut numbers, &pair.model, &pages);
            pair.apply(&op);
        }
        pair.finish();
    }
}
