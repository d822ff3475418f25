//! What the driver found out: the partitions, and how many cores there are.

use tantalum_agent::{
    ATTACK, BENCH, CLOCK, ECHO, EXITS, FORWARD, LEGACY, LINE, PLAIN, QUEUED, RELAY, RELAY_SERVICE, SILENT, USER, VAULT,
};
use tantalum_partition::{
    ffa::{Partition, SMC, Uuid},
    println,
};

use crate::{
    report::{Outcome, Verdict},
    tests::version::Observations,
};

/// More partitions, or services of them, than any scenario has.
const MOST: usize = 16;

/// The surroundings of a test.
#[derive(Debug)]
pub struct World {
    list: [Option<Partition>; MOST],
    count: usize,
    /// The cores that are on, this one included.
    pub cores: usize,
    /// How the SPM answered while no version was agreed on.
    pub version: Observations,
}

impl World {
    /// Asks the SPM for its partitions.
    pub fn discover(cores: usize, version: Observations) -> Self {
        let mut world = Self {
            list: [None; MOST],
            count: 0,
            cores,
            version,
        };
        for partition in SMC.partitions(Uuid::nil()) {
            match partition {
                Ok(partition) if world.count < MOST => {
                    world.list[world.count] = Some(partition);
                    world.count += 1;
                }
                Ok(_) => {}
                Err(error) => println!("tantalum: the list of partitions ends early: {error}"),
            }
        }
        // The SPMC's manifest may name fewer cores than there are: a call from one of the others reaches nobody.
        let known = world
            .partitions()
            .iter()
            .flatten()
            .map(|partition| usize::from(partition.contexts))
            .max();
        if let Some(known) = known.filter(|known| (2..cores).contains(known)) {
            println!("tantalum: the secure world knows {known} of {cores} cores, the others are left alone");
            world.cores = known;
        }
        world
    }

    /// All partitions and services.
    pub fn partitions(&self) -> &[Option<Partition>] {
        &self.list[..self.count]
    }

    /// The partition that offers a service.
    pub fn find(&self, uuid: Uuid) -> Option<Partition> {
        self.partitions()
            .iter()
            .flatten()
            .find(|partition| partition.uuid == uuid)
            .copied()
    }

    /// The same, for a test that can't do without.
    pub fn need(&self, uuid: Uuid) -> Outcome<Partition> {
        self.find(uuid).ok_or_else(|| Verdict::Skipped(missing(uuid)))
    }

    /// The partitions and services that this program does not know.
    pub fn strangers(&self) -> impl Iterator<Item = &Partition> {
        self.partitions()
            .iter()
            .flatten()
            .filter(|partition| name(partition.uuid) == UNKNOWN)
    }

    /// The partitions that take messages.
    pub fn receivers(&self) -> Outcome<impl Iterator<Item = &Partition>> {
        let receivers = || {
            self.partitions()
                .iter()
                .flatten()
                .filter(|partition| partition.receives_direct2)
        };
        if receivers().next().is_none() {
            return Err(Verdict::Skipped("no partition takes messages"));
        }
        Ok(receivers())
    }

    /// Skips the test unless there are two cores.
    pub fn need_two_cores(&self) -> Outcome {
        if self.cores < 2 {
            Err(Verdict::Skipped("needs two cores"))
        } else {
            Ok(())
        }
    }

    /// Prints what was found.
    pub fn print(&self) {
        println!(
            "tantalum: {} core(s), {} partition(s) or service(s)",
            self.cores, self.count
        );
        for partition in self.partitions().iter().flatten() {
            println!(
                "tantalum:   {:#06x}  {}  {} context(s)  {}",
                partition.id,
                partition.uuid,
                partition.contexts,
                name(partition.uuid)
            );
        }
    }
}

/// What the driver calls a partition that it does not know.
const UNKNOWN: &str = "unknown";

/// What the driver calls a partition.
pub fn name(uuid: Uuid) -> &'static str {
    match uuid {
        ECHO => "echo",
        FORWARD => "forward",
        RELAY => "relay",
        RELAY_SERVICE => "relay, second service",
        SILENT => "silent",
        LEGACY => "legacy",
        USER => "user",
        VAULT => "vault",
        CLOCK => "clock",
        LINE => "line",
        QUEUED => "queued",
        PLAIN => "plain",
        EXITS => "exits",
        uuid if BENCH.contains(&uuid) => "bench",
        uuid if uuid.as_u128() >> 4 == ATTACK.as_u128() >> 4 => "attack",
        _ => UNKNOWN,
    }
}

fn missing(uuid: Uuid) -> &'static str {
    match uuid {
        ECHO => "no partition echo",
        FORWARD => "no partition forward",
        RELAY => "no partition relay",
        SILENT => "no partition silent",
        LEGACY => "no partition legacy",
        USER => "no partition at S-EL0",
        VAULT => "no partition vault",
        ATTACK => "no partition attack",
        _ => "no such partition",
    }
}
