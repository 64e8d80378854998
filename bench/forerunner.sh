#!/bin/bash
# The image without this program, as one writes it with what Fedora has: for every library dnf is asked once which
# package provides it and once for that package, until nothing new is needed. A package is unpacked once. Of several that
# provide a library, the first counts that has it where the loader looks.
#
# forerunner.sh CONFIGURATION RELEASE ARCHITECTURE PACKAGE PROGRAM RPMS ARCHIVE
#
# CONFIGURATION is dnf's, with the repositories; RPMS a directory for package files, which is made; ARCHIVE the tar
# archive to write. PROGRAM is relative to the root. Works in the current directory, which is empty.
set -euo pipefail

configuration=$1 release=$2 architecture=$3 package=$4 program=$5 rpms=$6 archive=$7
mkdir -p "$rpms" root/usr/{bin,lib,lib64,sbin}
for name in bin lib lib64 sbin; do ln -s "usr/$name" "root/$name"; done

ask_dnf() {
  dnf --quiet --config "$configuration" --releasever "$release" --forcearch "$architecture" \
    --installroot "$PWD/installed" "$@"
}

providers() {
  ask_dnf repoquery --latest-limit 1 --qf '%{name}-%{version}-%{release}.%{arch}' "$@"
}

declare -A unpacked
fetch() {
  ask_dnf download --destdir "$rpms" "$1"
  if [ -v "unpacked[$1]" ]; then return; fi
  unpacked[$1]=yes
  rpm2cpio "$rpms/$1.rpm" | cpio --quiet --extract --make-directories --unconditional --directory root
}

# Prints where the loader finds a library, relative to the root.
find_library() {
  local directory
  for directory in usr/lib64 usr/lib; do
    if [ -e "root/$directory/$1" ]; then
      echo "$directory/$1"
      return
    fi
  done
  return 1
}

fetch "$(providers "$package.$architecture")"
printf '%s\n' lib lib64 "$program" >files
declare -A found
queue=("$program")
while [ "${#queue[@]}" -gt 0 ]; do
  dynamic=$(readelf --dynamic --wide "root/${queue[0]}")
  queue=("${queue[@]:1}")
  for library in $(sed -n 's/.*(NEEDED).*\[\(.*\)\]$/\1/p' <<<"$dynamic"); do
    if [ -v "found[$library]" ]; then continue; fi
    for provider in $(providers --whatprovides "$library()(64bit)"); do
      fetch "$provider"
      if path=$(find_library "$library"); then break; fi
    done
    if [ -z "${path-}" ]; then
      echo "nothing has $library where the loader looks" >&2
      exit 1
    fi
    found[$library]=$path
    file=$(realpath --relative-to=root "root/$path")
    printf '%s\n' "$path" "$file" >>files
    queue+=("$file")
    unset path
  done
done
sort --unique files | tar --create --no-recursion --directory=root --files-from=- --file="$archive"
