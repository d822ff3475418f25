#!/usr/bin/env bash
# Removes the cache: unpacked tools, TF-A, OP-TEE, Linux, packages and sources. The next build needs a network.

source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

lock setup
for part in apt tools tfa optee linux python debs sources; do
    rm -rf "${CACHE:?}/$part"
done
rm -rf "$CACHE"/work.* "$CACHE"/rust-src-*
say "Removed what was kept in $CACHE"
