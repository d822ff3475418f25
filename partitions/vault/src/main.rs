//! A partition that stamps data with a counter that never goes back and a key that never leaves it, on every core.
//!
//! Who may have stamps made is in its manifest: the UUIDs in `may-stamp` of the node `tantalum,vault`. What the messages look like is in
//! [`tantalum_vault_service`].
#![no_std]
#![no_main]

use spin::Once;
use tantalum_partition::{
    Boot, arch, entry,
    ffa::{self, SMC, Uuid},
    println,
};
use tantalum_vault_service::{KEY, Stampers, Vault};

/// Shared by the execution contexts: the first one makes it before it registers where the others start.
static VAULT: Once<Vault> = Once::new();

entry!(main);

fn main(boot: Boot) -> ! {
    if boot.is_first {
        let vault = Vault::new(&new_key(), stampers(&boot));
        VAULT.call_once(|| vault);
        // With one context there are none to register, which is no fault.
        let _ = boot.register_secondaries();
        println!("vault: ready");
    }
    let Some(vault) = VAULT.get() else {
        panic!("a further context has started before the first was ready")
    };
    ffa::serve(|request| request.respond(&vault.answer(request.sender, request.payload())))
}

/// A key that nobody knows. Without a source of random numbers there is none, and no vault.
fn new_key() -> [u8; KEY] {
    let mut key = [0; KEY];
    for bytes in key.chunks_exact_mut(8) {
        let Some(random) = arch::random() else {
            panic!("the processor gives no random numbers (FEAT_RNG) to make a key of")
        };
        bytes.copy_from_slice(&random.to_le_bytes());
    }
    key
}

/// The partitions that the manifest names. One that does not exist is passed over: the same manifest serves systems with and without it.
fn stampers(boot: &Boot) -> Stampers {
    let mut stampers = Stampers::default();
    let names = boot
        .information()
        .and_then(|information| information.texts("tantalum,vault", "may-stamp"));
    for name in names.into_iter().flatten() {
        let Ok(uuid) = Uuid::try_parse(name) else {
            panic!("may-stamp in the manifest has \"{name}\", which is no UUID")
        };
        match SMC.partitions(uuid).next() {
            Some(Ok(partition)) if stampers.add(partition.id) => {
                println!("vault: partition {:#06x} may stamp", partition.id);
            }
            Some(Ok(_)) => panic!("may-stamp in the manifest has too many UUIDs"),
            Some(Err(error)) => panic!("no list of partitions: {error}"),
            None => {}
        }
    }
    stampers
}
