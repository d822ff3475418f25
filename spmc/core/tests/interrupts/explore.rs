//! Visits the states of a machine, breadth first, each once, and looks at the graph of what gets one from one to another.
//!
//! *Work* is what a system does in which nothing new happens, partitions do their work, and the normal world runs those that
//! have some. Whatever has happened, and in whatever order work is done, it comes to an end: the graph of work has no cycle.
//! And where no work is left the system is at rest ([`World::check_rest`]): each interrupt was delivered, no PE is stuck. So
//! that this is known of all states, those that are left over when time is up are followed as far as there is work.
//!
//! The same holds for partitions that do nothing but end their turn, whatever interrupts they have: all PEs come back to the
//! normal world. And, where limits are set to how long the normal world's interrupts may be held back, for those that do nothing at
//! all, while time passes and the normal world has interrupts.

use std::{
    collections::HashMap,
    fmt::Write as _,
    hash::{BuildHasher, RandomState},
    io::Write as _,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    time::{Duration, Instant},
};

use tantalum_core::machine::fake::Part;

use crate::world::{Happens, Setup, Step, Taken, World};

/// States that are expanded without `TANTALUM_MODEL_SECONDS`.
const FEW: usize = 500;
/// No more are, so that memory suffices: about 100 bytes each.
const MANY: usize = 20_000_000;
/// No state.
const NONE: u32 = u32::MAX;

/// States, each as the numbers of its parts and of what is known of the outside.
#[derive(Default)]
struct States {
    numbers: HashMap<Part, u32>,
    parts: Vec<Part>,
    /// Numbers in a state, and the states one after the other.
    width: usize,
    states: Vec<u32>,
    /// Places of states by the hashes of those, [`NONE`] where there is none.
    table: Vec<u32>,
    hasher: RandomState,
}

impl States {
    fn len(&self) -> usize {
        self.states.len().checked_div(self.width).unwrap_or(0)
    }

    fn get(&self, place: u32) -> &[u32] {
        let from = index(place) * self.width;
        &self.states[from..from + self.width]
    }

    /// The place of a state, and whether it is new.
    fn insert(&mut self, (parts, outside): (Vec<Part>, u32)) -> (u32, bool) {
        let mut state = Vec::with_capacity(parts.len() + 1);
        for part in parts {
            let next = u32::try_from(self.parts.len()).expect("few");
            let number = *self.numbers.entry(part).or_insert_with_key(|part| {
                self.parts.push(part.clone());
                next
            });
            state.push(number);
        }
        state.push(outside);
        self.width = state.len();
        if self.len() * 2 >= self.table.len() {
            self.grow();
        }
        let slot = self.slot(&state);
        if self.table[slot] != NONE {
            return (self.table[slot], false);
        }
        let place = u32::try_from(self.len()).expect("few");
        self.table[slot] = place;
        self.states.extend(state);
        (place, true)
    }

    /// Where a state is in the table, or would be.
    fn slot(&self, state: &[u32]) -> usize {
        let mask = self.table.len() - 1;
        let hash = self.hasher.hash_one(state).to_le_bytes();
        let mut slot = usize::from_le_bytes(hash) & mask;
        while self.table[slot] != NONE && self.get(self.table[slot]) != state {
            slot = (slot + 1) & mask;
        }
        slot
    }

    fn grow(&mut self) {
        self.table = vec![NONE; (self.table.len() * 2).max(1024)];
        for place in 0..u32::try_from(self.len()).expect("few") {
            let slot = self.slot(self.get(place));
            self.table[slot] = place;
        }
    }
}

fn index(place: u32) -> usize {
    usize::try_from(place).expect("as many bits")
}

/// What is known after a search.
struct Search<'s> {
    world: World<'s>,
    states: States,
    /// How each state was first reached.
    from: Vec<(u32, Step)>,
    /// Steps that are nothing new: from, to, and for whom.
    old: Vec<(u32, u32, Taken)>,
    /// Those for whom what comes next is known, of each state.
    known: Vec<Taken>,
    transitions: usize,
}

impl Search<'_> {
    fn put_back(&mut self, place: u32) {
        let (outside, parts) = self.states.get(place).split_last().expect("not empty");
        let all = &self.states.parts;
        self.world
            .put_back(parts.iter().map(|part| &all[index(*part)]), *outside);
    }

    /// Takes the steps from a state, all of them or those only that are nothing new for some. Returns where the latter lead.
    fn expand(&mut self, place: u32, whose: Taken, all: bool) -> Vec<(u32, Taken)> {
        let mut next = Vec::new();
        self.put_back(place);
        self.known[index(place)] |= whose;
        let mut is_fresh = true;
        for (step, taken) in self.world.steps() {
            let taken = taken & whose;
            if !all && taken.is_empty() {
                continue;
            }
            if !is_fresh {
                self.put_back(place);
            }
            let world = &mut self.world;
            let result = catch_unwind(AssertUnwindSafe(|| {
                world.take(step);
                world.check()
            }));
            self.transitions += 1;
            match result {
                Ok(Ok(())) => {}
                Ok(Err(what)) => panic!("{what}\n{}{step:?}", self.path(place)),
                Err(panic) => {
                    println!("{}{step:?}", self.path(place));
                    resume_unwind(panic);
                }
            }
            let (to, is_new) = self.states.insert(self.world.state());
            if is_new {
                self.from.push((place, step));
                self.known.push(Taken::empty());
            }
            if !taken.is_empty() && to != place {
                self.old.push((place, to, taken));
                next.push((to, taken));
            }
            is_fresh = to == place;
        }
        next
    }

    /// Follows what is nothing new from states on that were not expanded.
    fn follow(&mut self, mut next: Vec<(u32, Taken)>) {
        while let Some((place, whose)) = next.pop() {
            let whose = whose - self.known[index(place)];
            if !whose.is_empty() {
                next.extend(self.expand(place, whose, false));
            }
        }
    }

    /// The steps to a state.
    fn path(&self, mut place: u32) -> String {
        let mut steps = Vec::new();
        while place != 0 {
            let (from, step) = self.from[index(place)];
            steps.push(step);
            place = from;
        }
        steps.iter().rev().fold(String::new(), |mut text, step| {
            let _ = writeln!(text, "{step:?}");
            text
        })
    }

    /// What is done in a system in which nothing new happens comes to an end, and then `check` holds.
    fn check_end(&mut self, taken: Taken, check: fn(&World<'_>) -> Result<(), String>) {
        let count = self.states.len();
        let steps = || self.old.iter().filter(|(.., by)| by.contains(taken));
        // What leads to each state, by the place of the first; and how many steps there are from each.
        let mut first = vec![0; count + 1];
        let mut left = vec![0_u32; count];
        for (from, to, _) in steps() {
            first[index(*to) + 1] += 1;
            left[index(*from)] += 1;
        }
        for place in 0..count {
            first[place + 1] += first[place];
        }
        let mut next = first.clone();
        let mut leads = vec![NONE; first[count]];
        for (from, to, _) in steps() {
            leads[next[index(*to)]] = *from;
            next[index(*to)] += 1;
        }
        let known = |place: &u32| self.known[index(*place)].contains(taken);
        let places: Vec<u32> = (0..u32::try_from(count).expect("few")).filter(known).collect();
        let mut ends: Vec<u32> = places
            .iter()
            .copied()
            .filter(|place| left[index(*place)] == 0)
            .collect();
        for place in &ends {
            self.put_back(*place);
            if let Err(what) = check(&self.world) {
                let state = self.world.system.fingerprint();
                panic!("{what}\n{}{state}", self.path(*place));
            }
        }
        let mut done = 0;
        while let Some(place) = ends.pop() {
            done += 1;
            for from in &leads[first[index(place)]..first[index(place) + 1]] {
                let left = &mut left[index(*from)];
                *left -= 1;
                if *left == 0 {
                    ends.push(*from);
                }
            }
        }
        if done != places.len() {
            let place = places.into_iter().find(|place| left[index(*place)] != 0).expect("one");
            let cycle = self.cycle(place, taken, &left);
            panic!("{taken:?}: it does not come to an end\n{}{cycle}", self.path(place));
        }
    }

    /// Steps from a state that lead nowhere, for people.
    fn cycle(&mut self, mut place: u32, taken: Taken, left: &[u32]) -> String {
        let mut text = String::from("and then\n");
        for _ in 0..30 {
            self.put_back(place);
            for (step, _) in self.world.steps().into_iter().filter(|(_, by)| by.contains(taken)) {
                self.put_back(place);
                self.world.take(step);
                let (to, _) = self.states.insert(self.world.state());
                if to != place && left.get(index(to)).is_none_or(|left| *left != 0) {
                    let _ = writeln!(text, "{step:?}");
                    place = to;
                    break;
                }
            }
        }
        text
    }
}

/// Visits all states, or as many as there is time for.
pub fn explore(setup: &Setup) {
    let begin = Instant::now();
    let seconds = std::env::var("TANTALUM_MODEL_SECONDS").ok();
    let limit = seconds.map(|seconds| Duration::from_secs(seconds.parse().expect("a number of seconds")));
    let is_over = |expanded: usize| match limit {
        Some(limit) => begin.elapsed() > limit || expanded >= MANY,
        None => expanded >= FEW,
    };
    let (spmc, machine) = setup.build();
    let mut world = World::new(setup, &spmc, machine);
    world.check().expect("at the start");
    let mut states = States::default();
    states.insert(world.state());
    let mut whose = Taken::AS_WORK | Taken::BY_THE_LAZY;
    whose.set(Taken::BY_THE_HUNG, setup.happens.contains(Happens::LIMITS));
    let mut search = Search {
        world,
        states,
        from: vec![(0, Step::Tick)],
        old: Vec::new(),
        known: vec![Taken::empty()],
        transitions: 0,
    };
    let (mut expanded, mut depth, mut end_of_depth) = (0, 0, 1);
    while expanded < search.states.len() && !is_over(expanded) {
        search.expand(u32::try_from(expanded).expect("few"), whose, true);
        expanded += 1;
        if expanded == end_of_depth && expanded < search.states.len() {
            depth += 1;
            end_of_depth = search.states.len();
        }
    }
    let visited = search.states.len();
    let left = u32::try_from(expanded).expect("few")..u32::try_from(visited).expect("few");
    search.follow(left.map(|place| (place, whose)).collect());
    search.check_end(Taken::AS_WORK, |world| world.check_rest());
    search.check_end(Taken::BY_THE_LAZY, |world| world.check_back());
    if whose.contains(Taken::BY_THE_HUNG) {
        search.check_end(Taken::BY_THE_HUNG, |world| world.check_back());
    }
    let elapsed = begin.elapsed().as_secs_f64();
    let what = if expanded == visited {
        "all states"
    } else {
        "not all states"
    };
    // Not by println!, which shows only when a test fails.
    let _ = writeln!(
        std::io::stdout(),
        "model {}: {what}: {visited} ({expanded} of them with all that can happen next), {} steps, up to {depth} from the \
         start, {:.1} s, {:.0} states a second",
        setup.name,
        search.transitions,
        elapsed,
        f64::from(u32::try_from(visited).expect("few")) / elapsed,
    );
}
