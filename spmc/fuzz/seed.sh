#!/bin/sh
# Compiles the tree's manifests into the first corpus of the fuzz target `manifest`: a byte that says what it is, then the
# device tree.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
corpus=$here/corpus/manifest
mkdir -p "$corpus"
find "$here/../../manifests/bad" "$here/../../manifests/compat" -name '*.dts' | while read -r source; do
    case $source in
        *spmc*) kind='\000' ;;
        *) kind='\001' ;;
    esac
    seed=$corpus/$(printf '%s' "${source#"$here"/../../manifests/}" | tr '/' '-')
    printf "$kind" >"$seed"
    dtc -q -I dts -O dtb "$source" >>"$seed"
done
echo "$(find "$corpus" -type f | wc -l) seeds in $corpus"
