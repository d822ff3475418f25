//! The loop of a PE: the policy decides, the machine does, and reports what came of it.

use alloc::boxed::Box;

use tantalum_core::{
    manifest::spmc::Mpidr,
    spmc::{Action, Event, Pe, Spmc},
};

use crate::{boot, el3, pe::Core, sysreg};

/// A PE with what the policy keeps for it.
#[derive(Debug)]
pub struct Processor {
    /// The machine's part.
    pub core: Core,
    /// The policy's part.
    pub policy: Pe<'static>,
    /// The policy itself.
    pub spmc: &'static Spmc,
    /// On the boot PE, until it is done with booting: the counter at the SPMC's first instruction.
    pub booting_since: Option<u64>,
}

impl Processor {
    /// A PE that lives as long as the SPMC. Allocates.
    #[must_use]
    pub fn leak(core: Core, policy: Pe<'static>, spmc: &'static Spmc) -> &'static mut Self {
        Box::leak(Box::new(Self {
            core,
            policy,
            spmc,
            booting_since: None,
        }))
    }

    /// Takes over the PE that this runs on, which has just come up, and serves it.
    ///
    /// # Panics
    /// When the policy asks to run a context and has none: a bug.
    pub fn run(&mut self) -> ! {
        self.core.take_over(self.spmc.ipa_size());
        if let Some(controller) = self.core.controller {
            let cpu = Mpidr::from_register(sysreg::mpidr_el1::read());
            controller.initialise_own(cpu);
            for interrupt in self.spmc.private_interrupts(self.policy.index()) {
                controller.initialise(cpu, interrupt);
            }
        }
        // Three calls, each inlined with what handles its kind of event alone.
        let mut action = self.spmc.handle(&mut self.policy, &mut self.core, Event::Online);
        loop {
            action = match action {
                Action::Run => {
                    let context = self
                        .policy
                        .running_context()
                        .expect("the policy names the context to run");
                    let exit = self.core.run(context);
                    self.spmc.handle(&mut self.policy, &mut self.core, Event::Exit(exit))
                }
                Action::NormalWorld => {
                    if let Some(since) = self.booting_since.take() {
                        boot::report(since);
                    }
                    self.core.restore_normal_world();
                    el3::call_inline(&mut self.policy.normal_world);
                    self.spmc.handle(&mut self.policy, &mut self.core, Event::NormalWorld)
                }
            };
        }
    }
}
