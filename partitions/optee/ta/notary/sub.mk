global-incdirs-y += .
global-incdirs-y += ../../include
srcs-y += notary.c
