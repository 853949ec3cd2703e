#!/bin/bash
# Collects what a GPU machine without a network lacks (Linux x86-64, Python 3.12, with torch, transformers, accelerate,
# timm, scipy, scikit-image, safetensors, rich, typer, tensorboard, pytest there) as .whl/site.tar.xz in the checkout's
# root: diffusers, open_clip_torch, nibabel, decord, av, ftfy, wcwidth, importlib_metadata. The wheels alone are 61 MB;
# without their tests and PyAV's debug symbols, and packed as one, they and the checkout fit 64 MiB. (decord's library
# does not survive strip.) tests/gpu/run.sh unpacks them there.
set -euo pipefail
cd "$(dirname "$0")/../.."
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
platforms=(); for p in manylinux_2_28 manylinux_2_27 manylinux_2_17 manylinux2014 manylinux2010 manylinux1; do platforms+=(--platform "${p}_x86_64"); done
for name in diffusers open_clip_torch nibabel decord av ftfy wcwidth importlib_metadata; do
  python3 -m pip download -q --no-deps --only-binary=:all: --python-version 3.12 --implementation cp "${platforms[@]}" -d "$work/wheels" "$name"
done
mkdir -p "$work/site" .whl
for wheel in "$work"/wheels/*.whl; do python3 -m zipfile -e "$wheel" "$work/site"; done
find "$work/site" -name tests -type d -prune -exec rm -rf {} +
rm -rf "$work/site/open_clip_train"
find "$work/site/av" -name '*.so' -exec strip --strip-unneeded {} +
tar -C "$work/site" -cf - . | xz --x86 --lzma2=preset=9 >.whl/site.tar.xz
packed=$(stat -c %s .whl/site.tar.xz)
tree=$(git ls-files -z --cached --others --exclude-standard | xargs -0 stat -c %s 2>/dev/null | awk '{s += $1} END {print s}')
echo "packages $packed bytes and checkout $tree bytes: $(((packed + tree) / 1048576)) of 64 MiB"
[ $((packed + tree)) -lt $((64 * 1048576)) ] || { echo "too large for one trip" >&2; exit 1; }
