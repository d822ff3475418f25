# Not in OP-TEE's tree: its build takes this folder when the environment has
# core-platform-subdirs=<this folder>.
# Only as a partition of an SPMC has OP-TEE others beside it.
global-incdirs-y += ../include
srcs-$(CFG_CORE_SEL2_SPMC) += vault.c
srcs-$(CFG_CORE_SEL2_SPMC) += ffa_call_a64.S
