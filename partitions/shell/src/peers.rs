//! The partitions that there are, and what they are called: as the files of the scenario are, which the run script passes on.

use core::fmt;

use spin::mutex::TicketMutex;
use tantalum_partition::{
    ffa::{Partition, PartitionProperties, SMC, Uuid},
    normal_world::fw_cfg,
    println,
};

/// More partitions, or services of them, than any scenario has.
const MOST: usize = 32;
/// Characters of a name.
const NAME: usize = 24;
/// The file with lines of a UUID and a name.
const FILE: &str = "opt/tantalum/partitions";

/// A partition or a service of it, or only an id.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    /// Its id.
    pub id: u16,
    /// The UUID of the service; nil if it is only an id.
    pub uuid: Uuid,
    /// How many execution contexts it has.
    pub contexts: u16,
    properties: PartitionProperties,
    name: [u8; NAME],
}

impl Peer {
    fn unknown(id: u16) -> Self {
        Self {
            id,
            uuid: Uuid::nil(),
            contexts: 0,
            properties: PartitionProperties::default(),
            name: [0; NAME],
        }
    }

    fn new(partition: Partition, names: &str) -> Self {
        let mut peer = Self {
            uuid: partition.uuid,
            contexts: partition.contexts,
            properties: partition.properties,
            ..Self::unknown(partition.id)
        };
        let mut words = names.lines().filter_map(|line| line.split_once(' '));
        let name = words.find(|(uuid, _)| Uuid::try_parse(uuid).is_ok_and(|uuid| uuid == partition.uuid));
        if let Some((_, name)) = name {
            peer.name
                .iter_mut()
                .zip(name.bytes())
                .for_each(|(slot, byte)| *slot = byte);
        }
        peer
    }

    fn name(&self) -> &str {
        let length = self.name.iter().position(|byte| *byte == 0).unwrap_or(NAME);
        str::from_utf8(&self.name[..length]).unwrap_or_default()
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.name(), self.id) {
            ("", 0) => write!(f, "the normal world"),
            ("", 0x8000) => write!(f, "the SPMC (0x8000)"),
            ("", id) => write!(f, "{id:#x}"),
            (name, id) => write!(f, "{name} ({id:#x})"),
        }
    }
}

static PEERS: TicketMutex<[Option<Peer>; MOST]> = TicketMutex::new([None; MOST]);

/// Asks the SPM for its partitions.
pub fn discover() {
    let mut file = [0; 2048];
    let names = fw_cfg::read(FILE, &mut file).and_then(|names| str::from_utf8(names).ok());
    let mut peers = PEERS.lock();
    *peers = [None; MOST];
    for (index, partition) in SMC.partitions(Uuid::nil()).take(MOST).enumerate() {
        match partition {
            Ok(partition) => {
                let mut peer = Peer::new(partition, names.unwrap_or_default());
                // Only the first service of a partition has its name.
                let first = peers.iter().flatten().find(|first| first.id == peer.id);
                peer.name = first.map_or(peer.name, |first| first.name);
                peers[index] = Some(peer);
            }
            Err(error) => println!("the list of partitions ends early: {error}"),
        }
    }
}

fn find(condition: impl Fn(&Peer) -> bool) -> Option<Peer> {
    PEERS.lock().iter().flatten().find(|peer| condition(peer)).copied()
}

/// The partition with this name, or whose UUID begins like this (four characters at least).
pub fn by_name(word: &str) -> Option<Peer> {
    find(|peer| peer.name() == word).or_else(|| {
        find(|peer| {
            let mut buffer = Uuid::encode_buffer();
            word.len() >= 4 && peer.uuid.hyphenated().encode_lower(&mut buffer).starts_with(word)
        })
    })
}

/// Whoever has this id.
pub fn by_id(id: u16) -> Peer {
    find(|peer| peer.id == id).unwrap_or_else(|| Peer::unknown(id))
}

/// Prints what there is.
pub fn print() {
    for peer in PEERS.lock().iter().flatten() {
        let properties = peer.properties;
        println!(
            "  {:#06x}  {:16} {}  {} context(s)",
            peer.id,
            peer.name(),
            peer.uuid,
            peer.contexts
        );
        let flags = [
            (properties.support_direct_req_rec, "takes requests"),
            (properties.support_direct_req_send, "sends requests"),
            (properties.support_direct_req2_rec == Some(true), "takes requests 2"),
            (properties.support_direct_req2_send == Some(true), "sends requests 2"),
            (properties.support_indirect_msg, "indirect messages"),
            (properties.support_notif_rec, "notifications"),
        ];
        println!("          {}", Flags(&flags));
    }
}

/// The texts whose flags are set.
struct Flags<'a>(&'a [(bool, &'a str)]);

impl fmt::Display for Flags<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut comma = "";
        for (_, text) in self.0.iter().filter(|(set, _)| *set) {
            write!(f, "{comma}{text}")?;
            comma = ", ";
        }
        Ok(())
    }
}
