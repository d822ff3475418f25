//! Which partitions there are.

use arm_ffa::{
    FfaError, Interface,
    partition_info::{
        PartitionIdType, PartitionInfo, PartitionInfoIterator, PartitionProperties, SuccessArgsPartitionInfoGetRegs,
    },
};
use uuid::Uuid;

use super::{Client, Error, VERSION};

/// One partition, or one service of it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Partition {
    /// Its id.
    pub id: u16,
    /// How many execution contexts it has.
    pub contexts: u16,
    /// The UUID of the service; nil when a UUID was asked for.
    pub uuid: Uuid,
    /// What it can do.
    pub properties: PartitionProperties,
    /// Whether it takes `FFA_MSG_SEND_DIRECT_REQ`.
    pub receives_direct: bool,
    /// Whether it takes `FFA_MSG_SEND_DIRECT_REQ2`.
    pub receives_direct2: bool,
}

impl From<PartitionInfo> for Partition {
    fn from(info: PartitionInfo) -> Self {
        let contexts = match info.partition_id_type {
            PartitionIdType::PeEndpoint { execution_ctx_count } => execution_ctx_count,
            _ => 0,
        };
        Self {
            id: info.partition_id,
            contexts,
            uuid: info.uuid,
            properties: info.props,
            receives_direct: info.props.support_direct_req_rec,
            receives_direct2: info.props.support_direct_req2_rec == Some(true),
        }
    }
}

/// The partitions that the SPM reports, fetched a few at a time. Ends after the first error.
#[derive(Debug)]
pub struct Partitions {
    client: Client,
    uuid: Uuid,
    tag: u16,
    /// The index of the next descriptor, and of the last there is; `None` once there is nothing more to ask.
    next: Option<u16>,
    batch: [Option<Partition>; 5],
    taken: usize,
}

impl Partitions {
    pub(super) fn new(client: Client, uuid: Uuid) -> Self {
        Self {
            client,
            uuid,
            tag: 0,
            next: Some(0),
            batch: [None; 5],
            taken: 0,
        }
    }

    /// Asks for the descriptors from `start` on.
    fn fetch(&mut self, start: u16) -> Result<(), Error> {
        let malformed = Error::Unexpected([0; 4]);
        let interface = Interface::PartitionInfoGetRegs {
            uuid: self.uuid,
            start_index: start,
            info_tag: self.tag,
        };
        let args = self.client.request(&interface)?;
        let batch = SuccessArgsPartitionInfoGetRegs::try_from(args).map_err(|_| malformed)?;
        let count = usize::from(batch.current_index.checked_sub(start).ok_or(malformed)?) + 1;
        if count > self.batch.len() {
            return Err(malformed);
        }
        let infos = PartitionInfoIterator::new(VERSION, &batch.descriptor_data, count).map_err(|_| malformed)?;
        self.batch = [None; 5];
        self.taken = 0;
        for (slot, info) in self.batch.iter_mut().zip(infos) {
            *slot = Some(info.map_err(|_| malformed)?.into());
        }
        self.tag = batch.info_tag;
        self.next = (batch.current_index < batch.last_index).then(|| batch.current_index + 1);
        Ok(())
    }
}

impl Iterator for Partitions {
    type Item = Result<Partition, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.batch.get(self.taken).copied().flatten().is_none() {
            let start = self.next.take()?;
            match self.fetch(start) {
                Ok(()) => {}
                // No partition has this UUID: an empty list rather than an error.
                Err(Error::Ffa(FfaError::InvalidParameters)) if start == 0 => return None,
                Err(error) => return Some(Err(error)),
            }
        }
        let partition = self.batch.get(self.taken).copied().flatten()?;
        self.taken += 1;
        Some(Ok(partition))
    }
}
